"""`mer crossval` trains each fold on the people outside it, sums up with intervals and baselines, and resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import mer, one_line

from mer.datasets.datamodule import EmotionData
from mer.evaluation import Scores

PEOPLE = {"0": {"s00", "s03"}, "1": {"s01", "s04"}, "2": {"s02", "s05"}}


def crossval(config: Path, corpus: Path, out: Path, *more: str) -> int:
    return mer("crossval", "--config", config, "--data.manifest", corpus / "manifest.csv", "--out", out, *more)


@pytest.fixture(scope="module")
def run(tiny_config: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folds of the tiny corpus. Tests only read the folder."""
    out = tmp_path_factory.mktemp("crossval") / "run"
    assert crossval(tiny_config, tiny_corpus, out) == 0
    return out


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


class TestSummary:
    def test_every_fold_and_the_pool_have_values_with_intervals(self, run: Path) -> None:
        found = summary(run)
        assert (found["schema"], found["schema_version"], found["task"]) == ("mer-crossval", 1, "emotion")
        assert list(found["folds"]) == ["0", "1", "2"]
        for entry in (*found["folds"].values(), found["pooled"]):
            for metric in ("war", "uar", "macro_f1"):
                assert {"value", "low", "high", "unit", "units"} <= set(entry[metric])
                assert 0 <= entry[metric]["value"] <= 1
            assert entry["majority"]["war"] == 0.25
        assert [entry["clips"] for entry in found["folds"].values()] == [8, 8, 8]

    def test_an_interval_is_there_from_ten_units_on_and_says_over_what(self, run: Path) -> None:
        found = summary(run)
        assert found["folds"]["0"]["war"]["low"] is None, "eight clips"
        pooled = found["pooled"]
        assert (pooled["clips"], pooled["subjects"]) == (24, 6)
        assert pooled["war"]["low"] <= pooled["war"]["value"] <= pooled["war"]["high"]
        assert (pooled["war"]["unit"], pooled["war"]["units"]) == ("clip", 24)
        assert any("too narrow" in warning for warning in pooled["warnings"])

    def test_the_mean_is_that_of_the_folds(self, run: Path) -> None:
        found = summary(run)
        values = [entry["war"]["value"] for entry in found["folds"].values()]
        assert found["mean"]["war"] == pytest.approx(sum(values) / 3)

    def test_it_says_what_was_run_on_what(self, run: Path, tiny_corpus: Path) -> None:
        found = summary(run)
        assert str(tiny_corpus / "manifest.csv") in found["arguments"]
        assert (found["corpus"], found["licence"]) == ("synthetic", "CC0-1.0")
        assert found["environment"]["versions"]["torch"]

    def test_the_table_names_folds_and_baseline(self, run: Path) -> None:
        table = (run / "summary.txt").read_text(encoding="utf-8")
        assert all(word in table for word in ("war", "uar", "macro_f1", "majority", "pooled", "mean"))


class TestFolds:
    def test_every_clip_is_scored_once_by_the_model_that_has_not_seen_it(self, run: Path, tiny_corpus: Path) -> None:
        scores = Scores.read(run / "scores_emotion.csv")
        assert len(scores.clip_id) == len(set(scores.clip_id)) == 24
        for fold, people in PEOPLE.items():
            rows = [i for i, f in enumerate(scores.fold) if f == fold]
            assert {scores.subject[i] for i in rows} == people
            assert len({scores.model[i] for i in rows}) == 1
        assert len(set(scores.model)) == 3

    @pytest.mark.parametrize("fold", PEOPLE)
    def test_the_people_of_a_fold_are_in_no_training_row(self, fold: str, run: Path, tiny_corpus: Path) -> None:
        split = EmotionData(str(tiny_corpus / "manifest.csv"), fold=fold).split
        assert {clip.subject for clip in split.test} == PEOPLE[fold]
        assert {clip.subject for clip in split.train}.isdisjoint(PEOPLE[fold])
        assert len(split.train) + len(split.test) == 24, "all other rows are training rows"
        recorded = json.loads((run / f"fold{fold}" / "environment.json").read_text(encoding="utf-8"))
        assert recorded["data"]["clips"] == {"train": 16, "val": 0, "test": 8}
        assert recorded["data"]["fold"] == fold

    def test_the_opening_of_each_test_fold_is_counted(self, run: Path) -> None:
        for fold in PEOPLE:
            text = (run / f"fold{fold}" / "test_openings.jsonl").read_text(encoding="utf-8")
            assert [json.loads(line)["command"] for line in text.splitlines()] == ["crossval"]

    def test_some_folds_alone_with_overrides(self, tiny_config: Path, tiny_corpus: Path, tmp_path: Path) -> None:
        more = ("--folds", "2", "0", "--model.fusion=mer.fusion.Concat", "--data.tasks_used=[emotion,agreement]")
        assert crossval(tiny_config, tiny_corpus, tmp_path, *more) == 0
        assert sorted(p.name for p in tmp_path.glob("fold*")) == ["fold0", "fold2"]
        tasks = summary(tmp_path)["tasks"]
        assert set(tasks) == {"emotion", "agreement"}
        assert set(tasks["agreement"]["folds"]) == {"0", "2"}
        assert tasks["agreement"]["pooled"]["clips"] == 16
        assert "Concat" in (tmp_path / "fold0" / "config.yaml").read_text(encoding="utf-8")


class TestResuming:
    def test_finished_folds_are_read_and_the_rest_is_done(
        self, run: Path, tiny_config: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "run"
        shutil.copytree(run, out)
        (out / "summary.json").unlink()
        (out / "fold1" / "scores_emotion.csv").unlink()  # interrupted between training and scoring
        shutil.rmtree(out / "fold2")  # interrupted before
        done = (out / "fold0" / "model.safetensors").stat().st_mtime_ns
        trained = (out / "fold1" / "model.safetensors").stat().st_mtime_ns
        assert crossval(tiny_config, tiny_corpus, out) == 0
        printed = capsys.readouterr().out
        assert "fold 0: already scored" in printed
        assert "fold 2: 16 training clips, 8 test clips" in printed
        assert (out / "fold0" / "model.safetensors").stat().st_mtime_ns == done
        assert (out / "fold1" / "model.safetensors").stat().st_mtime_ns == trained
        first, second = summary(run), summary(out)
        for key in ("folds", "mean", "pooled"):
            assert first[key] == second[key], key

    def test_the_same_command_again_trains_nothing(
        self, run: Path, tiny_config: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {p: p.stat().st_mtime_ns for p in run.glob("fold*/*")}
        assert crossval(tiny_config, tiny_corpus, run) == 0
        assert capsys.readouterr().out.count("already scored") == 3
        assert {p: p.stat().st_mtime_ns for p in run.glob("fold*/*")} == before

    @pytest.mark.parametrize(
        ("change", "key"),
        [("--model.lr=0.5", "model.lr"), ("--trainer.max_epochs=7", "trainer.max_epochs"),
         ("--model.fusion=mer.fusion.Concat", "model.fusion"), ("--data.crop=0.5", "data.crop")],
    )  # fmt: skip
    def test_a_finished_fold_of_another_recipe_does_not_count(
        self, change: str, key: str, run: Path, tiny_config: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = summary(run)
        assert crossval(tiny_config, tiny_corpus, run, change) == 2
        line = one_line(capsys.readouterr().err)
        assert str(run / "fold0") in line
        assert key in line
        assert summary(run) == before

    def test_what_does_not_touch_the_numbers_may_change(self, run: Path, tiny_config: Path, tiny_corpus: Path) -> None:
        before = summary(run)["folds"]
        assert crossval(tiny_config, tiny_corpus, run, "--data.num_workers=1", "--data.keep_in_memory=false") == 0
        assert summary(run)["folds"] == before


class TestMistakes:
    def test_an_unknown_fold_is_named_with_the_known_ones(
        self, tiny_config: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert crossval(tiny_config, tiny_corpus, tmp_path / "run", "--folds", "0", "9") == 2
        line = one_line(capsys.readouterr().err)
        assert "'9'" in line or "fold 9" in line
        assert "0, 1, 2" in line
        assert not (tmp_path / "run").exists()

    def test_a_manifest_without_folds(
        self, tiny_config: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copy(tiny_corpus / "corpus.yaml", tmp_path)
        rows = (tiny_corpus / "manifest.csv").read_text(encoding="utf-8").replace(",fold,", ",part,")
        (tmp_path / "manifest.csv").write_text(rows, encoding="utf-8")
        assert crossval(tiny_config, tmp_path, tmp_path / "run") == 2
        assert "fold column" in one_line(capsys.readouterr().err)

    def test_a_wrong_key_is_named(
        self, tiny_config: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert crossval(tiny_config, tiny_corpus, tmp_path / "run", "--model.lrr", "3") == 2
        assert "--model.lrr" in one_line(capsys.readouterr().err)

    def test_a_person_in_two_folds_of_a_corpus_that_forbids_it(
        self, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copy(tiny_corpus / "corpus.yaml", tmp_path)
        rows = (tiny_corpus / "manifest.csv").read_text(encoding="utf-8").replace("s00_c00,s00,", "s00_c00,s01,")
        (tmp_path / "manifest.csv").write_text(rows, encoding="utf-8")
        config = tiny.config(tmp_path / "c.yaml", tmp_path)
        assert crossval(config, tmp_path, tmp_path / "run") == 2
        line = one_line(capsys.readouterr().err)
        assert "'s01'" in line
        assert "subject_disjoint" in line
