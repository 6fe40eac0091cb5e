"""`{fold}` names what each fold has of its own: encoders trained on its training people, whose tokens are computed once."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from safetensors.torch import load_file
from tiny import mer, one_line

from mer import checkpoint, per_fold
from mer.datasets.store import Shelf, Stored
from mer.experiments.training import parse
from mer.shipped import shipped

FOLDS = ("0", "1", "2")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("per_fold") / "corpus"
    shutil.copytree(tiny_corpus, folder)
    return folder


@pytest.fixture(scope="module")
def voices(corpus: Path) -> Path:
    """`mer crossval` of the voice alone: an encoder per fold."""
    config = tiny.config(corpus.parent / "voice.yaml", corpus, **{"model.encoders": {"audio": tiny.ENCODERS["audio"]}})
    assert mer("crossval", "--config", config, "--out", corpus.parent / "voice") == 0
    return corpus.parent / "voice"


def joined(path: Path, corpus: Path, weights: str, **changes: Any) -> Path:
    """A config that joins a frozen voice, whose weights are named, with faces that train."""
    fixed = {"model.freeze": {"encoders.audio": -1}, "model.encoder_weights": {"audio": weights}}
    return tiny.config(path, corpus, **fixed, **changes)


@pytest.fixture(scope="module")
def config(voices: Path, corpus: Path) -> Path:
    """It reads tokens from the store beside it."""
    store = {"data.store": str(voices.parent / "tokens")}
    return joined(voices.parent / "joined.yaml", corpus, str(voices / "fold{fold}" / "model.safetensors"), **store)


@pytest.fixture(scope="module")
def store(config: Path, corpus: Path) -> Path:
    """`mer extract`, for all folds. Tests only read it."""
    made = ("--store", corpus.parent / "tokens", "--dtype", "float32")
    assert mer("extract", "--config", config, "--manifest", corpus / "manifest.csv", *made) == 0
    return corpus.parent / "tokens"


def voice_of(path: Path) -> dict[str, Any]:
    return {k: v for k, v in load_file(path).items() if k.startswith("encoders.audio.")}


class TestMark:
    def test_it_is_found_and_filled_wherever_a_text_stands(self) -> None:
        config = {"a": {"b": "x{fold}/y{fold}", "c": 3, "d": None}, "e": [{"f": "{fold}"}, "plain"], "g": "{folds}"}
        assert per_fold.marked(config) == {"a.b": "x{fold}/y{fold}", "e.0.f": "{fold}"}
        per_fold.fill(config, "s1")
        assert config == {"a": {"b": "xs1/ys1", "c": 3, "d": None}, "e": [{"f": "s1"}, "plain"], "g": "{folds}"}
        assert not per_fold.marked(config)

    def test_a_fit_puts_its_fold_there_and_records_it(self, config: Path, store: Path, tmp_path: Path) -> None:
        run = parse(["--config", str(config), "--data.fold", "1", "--out", str(tmp_path / "{fold}")], "fit")
        assert "{fold}" not in run.config
        assert yaml.safe_load(run.config)["model"]["encoder_weights"]["audio"].endswith("fold1/model.safetensors")
        assert run.folder.path == tmp_path / "1"

    def test_without_a_fold_it_asks_for_one(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert mer("fit", "--config", config, "--out", tmp_path / "run") == 2
        line = one_line(capsys.readouterr().err)
        assert "model.encoder_weights.audio" in line and "no fold is named" in line and "--data.fold" in line

    def test_a_fold_whose_encoder_is_not_there_is_one_line(
        self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = joined(tmp_path / "c.yaml", corpus, str(tmp_path / "fold{fold}" / "model.safetensors"))
        assert mer("crossval", "--config", given, "--out", tmp_path / "run") == 2
        assert str(tmp_path / "fold0" / "model.safetensors") in one_line(capsys.readouterr().err)

    @pytest.mark.parametrize("command", ["crossval", "compare-fusions", "extract"])
    def test_a_folder_for_all_folds_has_none(
        self, command: str, config: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        where = "--store" if command == "extract" else "--out"
        more = ("--manifest", corpus / "manifest.csv") if command == "extract" else ()
        assert mer(command, "--config", config, *more, where, tmp_path / "run{fold}") == 2
        assert "one folder holds all folds. Leave {fold} out of it" in one_line(capsys.readouterr().err)
        assert not list(tmp_path.iterdir())


class TestExtraction:
    def test_every_fold_has_a_shelf_of_its_own(self, store: Path) -> None:
        shelves = sorted(p.parent.name for p in store.glob("*/key.json"))
        assert len(shelves) == len(FOLDS) and all(name.startswith("audio") for name in shelves)

    def test_what_is_done_is_left_alone(
        self, config: Path, store: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        again = ("extract", "--config", config, "--manifest", corpus / "manifest.csv", "--store", store)
        assert mer(*again, "--dtype", "float32", "--folds", "2", "0") == 0
        out = capsys.readouterr().out
        assert out.index("fold 2") < out.index("fold 0") and "fold 1" not in out
        assert out.count("0 item(s) written, 24 done earlier") == 2

    @pytest.mark.parametrize(
        ("marked", "folds", "message"),
        [(True, ["9"], "there is no fold 9"), (False, ["0"], "--folds without {fold}")],
    )
    def test_mistakes_are_one_line(
        self, marked: bool, folds: list[str], message: str, voices: Path, corpus: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        weights = voices / ("fold{fold}" if marked else "fold0") / "model.safetensors"
        given = joined(tmp_path / "c.yaml", corpus, str(weights))
        rest = ("--manifest", corpus / "manifest.csv", "--store", tmp_path / "S", "--folds", *folds)
        assert mer("extract", "--config", given, *rest) == 2
        assert message in one_line(capsys.readouterr().err)

    def test_a_check_of_the_store_wants_one_fold(
        self, config: Path, store: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rest = ("--store", store, "--manifest", corpus / "manifest.csv")
        assert mer("store", "check", "--config", config, *rest) == 2
        assert "wants a fold" in one_line(capsys.readouterr().err)


class TestFolds:
    def test_crossval_gives_each_fold_its_own_encoder(
        self, config: Path, store: Path, voices: Path, tmp_path: Path
    ) -> None:
        assert mer("crossval", "--config", config, "--out", tmp_path / "run") == 0
        for fold in FOLDS:
            mine, given = (voice_of(p / f"fold{fold}" / "model.safetensors") for p in (tmp_path / "run", voices))
            assert given and all(mine[name].equal(tensor) for name, tensor in given.items())

    def test_so_does_a_comparison_and_it_resumes(self, config: Path, store: Path, voices: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        command = ["compare-fusions", "--config", config, "--out", out, "--seeds", 2, "--folds", "all"]
        command += ["--fusions", "concat", "attention_pool"]
        assert mer(*command) == 0
        models = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
        assert len(models) == 2 * 2 * len(FOLDS)
        for path in models:
            given = voice_of(voices / path.parent.name / "model.safetensors")
            assert all(voice_of(path)[name].equal(tensor) for name, tensor in given.items())
        table = (out / "fusions_emotion.csv").read_text()
        lost = out / "concat" / "seed1" / "fold2"
        (lost / "scores_emotion.csv").unlink()
        assert mer(*command) == 0
        assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == models
        costs = slice(0, 9)  # times differ
        after = (out / "fusions_emotion.csv").read_text()
        assert [x.split(",")[costs] for x in after.splitlines()] == [x.split(",")[costs] for x in table.splitlines()]

    def test_tokens_kept_in_memory_are_read_once(
        self, config: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []
        own = Shelf.read

        def counted(self: Shelf, item: str) -> Stored:
            read.append(item)
            return own(self, item)

        monkeypatch.setattr(Shelf, "read", counted)
        fold = ("--data.fold", "0", "--trainer.max_epochs", 3)
        assert mer("fit", "--config", config, "--out", tmp_path / "kept", *fold) == 0
        assert len(read) == len(set(read)) == 16
        read.clear()
        assert mer("fit", "--config", config, "--out", tmp_path / "read", *fold, "--data.keep_in_memory=false") == 0
        assert len(read) == 3 * 16
        kept, again = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "read"))
        assert all(kept[name].equal(again[name]) for name in kept)


class TestLeak:
    """An encoder that was fitted on rows or people that are tested must not go unnoticed."""

    def test_an_encoder_of_another_fold_is_refused(
        self, voices: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = joined(tmp_path / "c.yaml", corpus, str(voices / "fold0" / "model.safetensors"))
        assert mer("crossval", "--config", given, "--out", tmp_path / "run") == 2
        line = one_line(capsys.readouterr().err)
        assert "the encoder 'audio' was trained on 2 of the test subjects" in line and "{fold}" in line
        assert sorted(p.name for p in (tmp_path / "run").glob("*/model.safetensors")) != []  # fold 0 is as it should be
        assert not (tmp_path / "run" / "fold1" / "model.safetensors").exists()
        assert mer("fit", "--config", given, "--out", tmp_path / "fit", "--data.fold", "1") == 2
        compared = ("compare-fusions", "--config", given, "--out", tmp_path / "zoo", "--fusions", "concat")
        assert mer(*compared, "--folds", "1") == 2
        assert not list((tmp_path / "zoo").rglob("model.safetensors"))

    @pytest.mark.filterwarnings("ignore:.*cannot be excluded")
    def test_rows_tell_where_people_are_not_known(
        self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        nameless = tmp_path / "corpus"
        shutil.copytree(corpus, nameless)
        about = yaml.safe_load((nameless / "corpus.yaml").read_text())
        (nameless / "corpus.yaml").write_text(yaml.safe_dump(about | {"subject_disjoint": "unknown"}))
        text = (nameless / "manifest.csv").read_text().replace("subject,", "who,", 1)
        (nameless / "manifest.csv").write_text(text)
        alone = tiny.config(tmp_path / "a.yaml", nameless, **{"model.encoders": {"audio": tiny.ENCODERS["audio"]}})
        assert mer("crossval", "--config", alone, "--out", tmp_path / "voice", "--folds", "0") == 0
        given = joined(tmp_path / "c.yaml", nameless, str(tmp_path / "voice" / "fold0" / "model.safetensors"))
        assert mer("fit", "--config", given, "--out", tmp_path / "same", "--data.fold", "0") == 0
        capsys.readouterr()
        assert mer("fit", "--config", given, "--out", tmp_path / "other", "--data.fold", "1") == 2
        assert "trained for fold '0', on the rows that fold '1' tests" in one_line(capsys.readouterr().err)

    @pytest.mark.filterwarnings("ignore:.*occur in training and test")
    def test_where_people_may_be_shared_a_result_says_so_once(self, corpus: Path, tmp_path: Path) -> None:
        shared = tmp_path / "corpus"
        shutil.copytree(corpus, shared)
        about = yaml.safe_load((shared / "corpus.yaml").read_text())
        (shared / "corpus.yaml").write_text(yaml.safe_dump(about | {"subject_disjoint": "false"}))
        rows = list(csv.DictReader((shared / "manifest.csv").read_text().splitlines()))
        with (shared / "manifest.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(row | {"fold": str(n % 3)} for n, row in enumerate(rows))
        alone = tiny.config(tmp_path / "a.yaml", shared, **{"model.encoders": {"audio": tiny.ENCODERS["audio"]}})
        assert mer("crossval", "--config", alone, "--out", tmp_path / "voice", "--folds", "0") == 0
        given = joined(tmp_path / "c.yaml", shared, str(tmp_path / "voice" / "fold{fold}" / "model.safetensors"))
        assert mer("crossval", "--config", given, "--out", tmp_path / "run", "--folds", "0") == 0
        recorded = tmp_path / "run" / "fold0"
        assert mer("test", "--config", recorded / "config.yaml", "--out", recorded) == 0
        head = (recorded / "scores_emotion.csv").read_text().partition("clip_id")[0]
        assert head.count("the model was trained on 6 of the test subjects") == 1

    def test_an_encoder_of_another_corpus_may_have_seen_anybody(
        self, tmp_path: Path, corpus: Path, voices: Path
    ) -> None:
        other = tmp_path / "model.safetensors"
        model, described = checkpoint.load(voices / "fold0" / "model.safetensors")
        checkpoint.save(other, model, described["facts"] | {"corpus": "another"})
        given = joined(tmp_path / "c.yaml", corpus, str(other))
        assert mer("fit", "--config", given, "--out", tmp_path / "run", "--data.fold", "1") == 0

    def test_whom_an_encoder_has_seen_its_model_has_seen(self, voices: Path, corpus: Path, tmp_path: Path) -> None:
        fewer = tmp_path / "corpus"
        shutil.copytree(corpus, fewer)
        rows = (fewer / "manifest.csv").read_text().splitlines()
        (fewer / "manifest.csv").write_text("\n".join(r for r in rows if not r.startswith("s01")) + "\n")
        given = joined(tmp_path / "c.yaml", fewer, str(voices / "fold0" / "model.safetensors"))
        assert mer("fit", "--config", given, "--out", tmp_path / "run", "--data.fold", "0") == 0
        facts = checkpoint.facts(tmp_path / "run" / "model.safetensors")
        assert facts is not None and facts["train_subjects"] == ["s01", "s02", "s04", "s05"]


def test_the_commands_in_the_comment_of_a_config_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the twin of the corpus, for two folds and an epoch; the second and third find what the one before left."""
    monkeypatch.chdir(tmp_path)
    assert mer("prepare", "ravdess", "--synthetic", 6, "--out", "tree") == 0
    assert mer("prepare", "ravdess", "--root", "tree", "--out", "data/ravdess") == 0
    text = (shipped("configs") / "compare" / "ravdess_audio_au.yaml").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line.startswith("#   mer ")]
    assert [words[2] for words in lines] == ["crossval", "extract", "compare-fusions"]
    short = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    for _, _, command, *rest in lines:
        there = [word.replace("configs/", f"{shipped('configs')}/") for word in rest if word not in ("--folds", "all")]
        more = [] if command == "extract" else short
        more += ["--fusions", "concat", "--seeds", "1"] if command == "compare-fusions" else []
        assert mer(command, *there, "--folds", "0", "1", *more) == 0
    assert (tmp_path / "runs" / "compare_ravdess" / "fusions_emotion.md").is_file()
