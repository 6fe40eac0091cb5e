"""`mer fit`, `validate` and `test` from the YAML a user would write, on files, through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file
from tiny import mer, one_line

from mer import checkpoint
from mer.evaluation import Scores
from mer.fusion import Concat
from mer.runs import file_hash

EMA = "pytorch_lightning.callbacks.EMAWeightAveraging"


@pytest.fixture(scope="module")
def run(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, trained, validated and tested. Tests only read the folder."""
    folder = tmp_path_factory.mktemp("run") / "fit"
    assert mer("fit", "--config", tiny_config, "--out", folder) == 0
    for command in ("validate", "test"):  # from the run folder alone, as the last line of fit says
        assert mer(command, "--config", folder / "config.yaml", "--out", folder) == 0
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


class TestARun:
    def test_leaves_a_model_its_config_and_its_metrics(self, run: Path, tiny_corpus: Path) -> None:
        model, description = checkpoint.load(run / "model.safetensors")
        assert list(model.specs) == ["video", "audio"]
        facts = description["facts"]
        assert facts["corpus"] == "synthetic"
        assert facts["licence"] == "CC0-1.0"
        assert (facts["fold"], facts["seed"], facts["epochs"]) == (None, 0, 1)
        assert {"train/loss", "val/loss", "val/war"} <= set(facts["metrics"])
        recorded = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        assert recorded["data"]["manifest"] == str(tiny_corpus / "manifest.csv")
        assert recorded["model"]["encoders"]["audio"]["init_args"]["hop"] == 200, "defaults are spelt out"
        assert "tasks" not in recorded["model"], "labels stand in corpus.yaml and nowhere else"
        assert json.loads((run / "environment.json").read_text())["data"]["clips"] == {"train": 16, "val": 4, "test": 4}

    def test_writes_a_score_file_that_says_where_it_comes_from(self, run: Path) -> None:
        scores = Scores.read(run / "scores_emotion.csv")
        assert sorted(scores.clip_id) == [f"s05_c0{k}" for k in range(4)]
        assert set(scores.subject) == {"s05"}
        assert set(scores.split) == {"test"}
        assert set(scores.seed) == {"0"}
        assert set(scores.model) == {file_hash(run / "model.safetensors")}
        assert scores.protocol == "synthetic corpus, subject-disjoint"
        assert (scores.target >= 0).all()

    def test_prints_and_keeps_scores_with_baselines(self, run: Path) -> None:
        for split in ("val", "test"):
            result = json.loads((run / f"{split}.json").read_text(encoding="utf-8"))["emotion"]
            assert result["clips"] == 4
            assert result["metrics"]["war"]["interval"] is None, "four clips are too few for one"
            assert result["baselines"]["majority"]["metrics"]["war"] == 0.25

    def test_opened_the_test_split_once(self, run: Path) -> None:
        assert [json.loads(line)["command"] for line in lines(run / "test_openings.jsonl")] == ["test"]

    def test_is_finished_and_not_trained_again(
        self, run: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (run / "model.safetensors").read_bytes()
        assert mer("fit", "--config", tiny_config, "--out", run) == 2
        line = one_line(capsys.readouterr().err)
        assert str(run) in line
        assert "finished" in line
        assert (run / "model.safetensors").read_bytes() == before

    def test_is_the_same_under_the_same_seed(self, run: Path, tiny_config: Path, tmp_path: Path) -> None:
        assert mer("fit", "--config", tiny_config, "--out", tmp_path / "again") == 0
        first, second = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "again"))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert mer("fit", "--config", tiny_config, "--out", tmp_path / "other", "--seed_everything", 7) == 0
        other = load_file(tmp_path / "other" / "model.safetensors")
        assert not torch.equal(first["fusion.mix.1.weight"], other["fusion.mix.1.weight"])


def test_openings_add_up(run: Path, tiny_config: Path, tmp_path: Path) -> None:
    options = ("--config", tiny_config, "--checkpoint", run / "model.safetensors", "--out", tmp_path)
    for _ in range(2):
        assert mer("test", *options) == 0
    assert mer("validate", *options) == 0
    assert len(lines(tmp_path / "test_openings.jsonl")) == 2
    scores = Scores.read(tmp_path / "scores_emotion.csv")
    assert set(scores.model) == {file_hash(run / "model.safetensors")}, (
        "the checkpoint that was named, not the folder's"
    )
    assert (scores.probabilities == Scores.read(run / "scores_emotion.csv").probabilities).all()


def test_without_a_name_a_run_gets_a_folder_of_its_own(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MER_RUN", raising=False)
    assert mer("fit", "--config", tiny_config) == 0
    monkeypatch.delenv("MER_RUN")  # set for the other processes of the job
    assert [p.name for p in (tmp_path / "runs").glob("*/model.safetensors")] == ["model.safetensors"]


class TestInterruption:
    def test_the_same_command_goes_on_where_it_stopped(
        self, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config, straight, broken = tmp_path / "c.yaml", tmp_path / "straight", tmp_path / "broken"
        encoders = {
            m: {**e, "init_args": {**e["init_args"], "dropout": 0, "augment": 0}} for m, e in tiny.ENCODERS.items()
        }
        fusion = {"class_path": "mer.fusion.AttentionPool", "init_args": {"dim": 8, "dropout": 0}}
        heads = {"emotion": {"class_path": "mer.heads.LinearHead"}}
        model = {
            "model.encoders": encoders,
            "model.fusion": fusion,
            "model.heads": heads,
        }  # nothing random but the order
        tiny.config(config, tiny_corpus, **{"trainer.max_epochs": 4, "data.batch_size": 4}, **model)
        stop = "--trainer.callbacks+=stopping.Stop"
        (tmp_path / "stopping.py").write_text(
            "import pytorch_lightning as pl\n"
            "class Stop(pl.Callback):\n"
            "    def on_train_epoch_start(self, trainer, pl_module):\n"
            "        if trainer.current_epoch == 2:\n"
            "            raise KeyboardInterrupt\n"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            assert mer("fit", "--config", config, "--out", broken, stop) == 130
        assert "the same command goes on" in capsys.readouterr().err
        assert not (broken / "model.safetensors").exists()
        assert mer("fit", "--config", config, "--out", broken) == 0
        assert f"going on from {broken}" in capsys.readouterr().out
        assert mer("fit", "--config", config, "--out", straight) == 0
        first, second = (load_file(folder / "model.safetensors") for folder in (straight, broken))
        for name in first:
            torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5, msg=name)
        assert sum(len(lines(p)) > 1 for p in broken.glob("metrics*.csv")) == 2, "the metrics of both parts are there"

    def test_a_longer_run_goes_on_from_the_last_epoch(self, tiny_config: Path, tmp_path: Path) -> None:
        options = ("fit", "--config", tiny_config, "--out", tmp_path)
        assert mer(*options) == 0
        (tmp_path / "model.safetensors").unlink()
        assert mer(*options, "--trainer.max_epochs", 3) == 0
        last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == 3
        assert checkpoint.describe(tmp_path / "model.safetensors")["facts"]["epochs"] == 3

    def test_an_interrupted_run_of_another_model_is_not_gone_on_with(
        self, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("fit", "--config", tiny_config, "--out", tmp_path)
        assert mer(*options) == 0
        (tmp_path / "model.safetensors").unlink()
        assert mer(*options, "--trainer.max_epochs=2", "--model.fusion=mer.fusion.Concat") == 2
        assert "another model.fusion" in one_line(capsys.readouterr().err)


class TestOverrides:
    def config(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
        """The config that the command would run."""
        assert mer("fit", *arguments, "--print_config") == 0
        found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
        return found

    def test_every_kind_of_key_can_be_set_on_the_command_line(
        self, tiny_config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = {
            "--seed_everything": 5,
            "--model.lr": 0.5,
            "--model.lr_factors.fusion": 0.25,
            "--model.freeze": '{"encoders.audio": 2}',
            "--model.encoders.audio.init_args.dim": 16,
            "--model.fusion.init_args.dropout": 0.5,
            "--model.losses": "{emotion: {class_path: mer.losses.CrossEntropy, init_args: {label_smoothing: 0.1}}}",
            "--data.batch_size": 3,
            "--data.crop": 0.5,
            "--data.fold": 2,
            "--trainer.max_epochs": 9,
            "--trainer.gradient_clip_val": 0.5,
            "--trainer.precision": "bf16-mixed",
            "--trainer.callbacks": EMA,
        }
        found = self.config(capsys, "--config", tiny_config, *(str(x) for pair in given.items() for x in pair))
        model, data, trainer = found["model"], found["data"], found["trainer"]
        assert (found["seed_everything"], model["lr"], model["lr_factors"]) == (5, 0.5, {"fusion": 0.25})
        assert model["freeze"] == {"encoders.audio": 2}
        assert model["encoders"]["audio"]["init_args"]["dim"] == 16
        assert model["encoders"]["audio"]["init_args"]["bands"] == 16, "the rest of the encoder stays"
        assert set(model["encoders"]) == {"audio", "video"}
        assert model["fusion"]["init_args"]["dropout"] == 0.5
        assert model["losses"]["emotion"]["init_args"]["label_smoothing"] == 0.1
        assert (data["batch_size"], data["crop"], str(data["fold"])) == (3, 0.5, "2")
        assert (trainer["max_epochs"], trainer["gradient_clip_val"], trainer["precision"]) == (9, 0.5, "bf16-mixed")
        assert EMA in str(trainer["callbacks"])

    def test_a_later_config_overrides_an_earlier_one(
        self, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "more.yaml").write_text("model: {lr: 0.125}\n")
        found = self.config(capsys, "--config", tiny_config, "--config", tmp_path / "more.yaml")
        assert found["model"]["lr"] == 0.125
        assert set(found["model"]["encoders"]) == {"audio", "video"}

    def test_another_fusion_is_one_argument(self, tiny_config: Path, tmp_path: Path) -> None:
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, "--model.fusion=mer.fusion.Concat") == 0
        fusion = checkpoint.load(tmp_path / "model.safetensors")[0].fusion
        assert isinstance(fusion, Concat)
        assert fusion.dim == 8, "arguments that both have are kept"

    def test_every_task_of_the_corpus_is_trained_and_scored(self, tiny_config: Path, tmp_path: Path) -> None:
        options = ("--data.tasks_used=null", "--model.unimodal_weight=0.5", "--model.modality_dropout=0.2")
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, *options) == 0
        assert mer("test", "--config", tmp_path / "config.yaml", "--out", tmp_path) == 0
        rows = {t: len(Scores.read(tmp_path / f"scores_{t}.csv")) for t in ("emotion", "agreement", "emotion_frame")}
        assert rows == {"emotion": 4, "agreement": 4, "emotion_frame": 20}
        assert set(json.loads((tmp_path / "test.json").read_text())) == set(rows)

    def test_an_inner_split_by_subject_is_made_where_the_fold_has_none(self, tiny_config: Path, tmp_path: Path) -> None:
        options = ("--data.fold=1", "--data.val_fraction=0.25", "--data.crop=0.5", "--data.num_workers=1")
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, *options) == 0
        clips = json.loads((tmp_path / "environment.json").read_text())["data"]["clips"]
        assert clips == {"train": 12, "val": 4, "test": 8}
        assert "val/war" in checkpoint.describe(tmp_path / "model.safetensors")["facts"]["metrics"]


class TestWeightAveraging:
    @pytest.mark.parametrize("split", [(), ("--data.fold=0",)], ids=["with validation", "without"])
    def test_the_average_is_what_is_exported(self, split: tuple[str, ...], tiny_config: Path, tmp_path: Path) -> None:
        average = (
            "--trainer.callbacks",
            EMA,
            "--trainer.callbacks.decay=0.9",
            "--data.batch_size=4",
            "--model.lr=0.05",
        )
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, *average, *split) == 0
        last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        name = "fusion.mix.1.weight"
        exported = load_file(tmp_path / "model.safetensors")[name]
        torch.testing.assert_close(exported, last["state_dict"][f"model.{name}"])
        assert not torch.allclose(exported, last["current_model_state"][f"model.{name}"], atol=1e-4)


class TestLoggers:
    def test_csv_alone_by_default(self, run: Path) -> None:
        assert "val/war" in lines(run / "metrics.csv")[0]
        assert not (run / "tensorboard").exists()
        assert not (run / "wandb").exists()

    def test_tensorboard_by_one_flag(self, tiny_config: Path, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, "--tensorboard", "true") == 0
        assert list((tmp_path / "tensorboard").glob("events.out.tfevents*"))
        assert (tmp_path / "metrics.csv").exists()

    def test_weights_and_biases_by_one_flag_without_a_network(
        self, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wandb = pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, "--wandb", "true") == 0
        wandb.finish()
        assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))

    def test_a_logger_that_is_not_installed_is_named_with_its_extra(
        self, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(*args: object, **kwargs: object) -> None:
            raise ModuleNotFoundError("wandb")

        monkeypatch.setattr("pytorch_lightning.loggers.WandbLogger", missing)
        assert mer("fit", "--config", tiny_config, "--out", tmp_path, "--wandb", "true") == 2
        assert ".[wandb]" in one_line(capsys.readouterr().err)


class TestMistakes:
    """One line each, which names the key or file; exit status 2; nothing is written."""

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--model.lrr", "3"], ["--model.lrr"]),
            (["--model.lr", "fast"], ["model.lr", "fast"]),
            (["--model.fusion", "mer.fusion.Nope"], ["model.fusion", "Nope"]),
            (["--model.fusion.init_args.dim", "10"], ["dim 10", "4 attention heads"]),
            (["--model.losses", "{emotion: mer.losses.MSE}"], ["MSE", "'emotion'"]),
            (["--model.task_weights.joy", "2"], ["'joy'", "emotion"]),
            (["--model.freeze.voice", "1"], ["'voice'", "encoders.audio"]),
            (["--model.warmup", "3"], ["model.warmup"]),
            (["--model.modality_dropout", "1"], ["modality_dropout"]),
            (["--model.encoders", "{}"], ["no encoder", "model.encoders"]),
            (["--data.fold", "7"], ["'7'", "manifest.csv", "0, 1, 2"]),
            (["--data.crop", "-1"], ["data.crop"]),
            (["--data.val_fraction", "1.5"], ["data.val_fraction"]),
            (["--data.batch_size", "0"], ["data.batch_size"]),
            (["--data.tasks_used", "[joy]"], ["joy", "emotion, agreement, emotion_frame"]),
            (["--data.manifest", "nowhere/manifest.csv"], ["nowhere/manifest.csv", "mer prepare"]),
            (["--trainer.devices", "0"], ["trainer"]),
            (["--trainer.strategy", "telepathy"], ["trainer", "telepathy"]),
            (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
            (["--checkpoint"], ["--checkpoint"]),
        ],
        ids=lambda value: value[0].lstrip("-") if value[0].startswith("--") else "",
    )
    def test_on_the_command_line(
        self,
        arguments: list[str],
        named: list[str],
        tiny_config: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert mer("fit", "--config", tiny_config, "--out", tmp_path / "run", *arguments) == 2
        line = one_line(capsys.readouterr().err)
        assert all(name in line for name in named), line
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("yaml_text", "named"),
        [
            ("model: {lrr: 3}", ["lrr"]),
            ("modle: {lr: 3}", ["modle"]),
            ("model: {fusion: {class_path: mer.fusion.Concat, init_args: {depth: 3}}}", ["depth"]),
            ("model: {encoders: {audio: {class_path: mer.encoders.MelNet, init_args: {bandz: 3}}}}", ["bandz"]),
            ("data: {batch_size: many}", ["data.batch_size", "many"]),
            ("model: [\n x: }", ["pars"]),
        ],
    )
    def test_in_the_config(
        self, yaml_text: str, named: list[str], tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "wrong.yaml").write_text(yaml_text)
        files = ("--config", tiny_config, "--config", tmp_path / "wrong.yaml")
        assert mer("fit", *files, "--out", tmp_path / "run") == 2
        line = one_line(capsys.readouterr().err)
        assert all(name in line for name in named), line

    def test_an_encoder_without_a_column(
        self, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        encoders = {"face": tiny.ENCODERS["video"], "audio": tiny.ENCODERS["audio"]}
        config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **{"model.encoders": encoders})
        assert mer("fit", "--config", config, "--out", tmp_path / "run", "--data.skip_errors=true") == 2
        line = one_line(capsys.readouterr().err)
        assert "'face'" in line
        assert "video, audio" in line

    def test_a_checkpoint_that_is_not_there_or_does_not_fit(
        self, run: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert mer("test", "--config", tiny_config, "--out", tmp_path) == 2
        assert str(tmp_path / "model.safetensors") in one_line(capsys.readouterr().err)
        fitting = ("--checkpoint", run / "model.safetensors", "--data.tasks_used=[agreement]")
        assert mer("test", "--config", tiny_config, "--out", tmp_path, *fitting) == 2
        assert "'agreement'" in one_line(capsys.readouterr().err)
        assert not (tmp_path / "test_openings.jsonl").exists(), "nothing was opened"


class TestUnreadableClips:
    @pytest.fixture
    def damaged(self, tiny_corpus: Path, tmp_path: Path) -> Path:
        """A manifest with one training clip cut short and one test clip gone."""
        text = (tiny_corpus / "manifest.csv").read_text(encoding="utf-8")
        (tmp_path / "cut.mp4").write_bytes((tiny_corpus / "clips/s00/s00_c00.mp4").read_bytes()[:300])
        text = text.replace("clips/s00/s00_c00.mp4", str(tmp_path / "cut.mp4"))
        text = text.replace("clips/s05/s05_c01.mp4", str(tmp_path / "gone.mp4"))
        (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
        corpus = (tiny_corpus / "corpus.yaml").read_text(encoding="utf-8")
        (tmp_path / "corpus.yaml").write_text(corpus.replace("root: .", f"root: {tiny_corpus}"), encoding="utf-8")
        return tmp_path / "manifest.csv"

    @pytest.mark.parametrize("memory", ["true", "false"])
    def test_stop_with_clip_file_and_remedy(
        self, memory: str, damaged: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("--data.manifest", damaged, "--out", tmp_path / "run", "--data.keep_in_memory", memory)
        assert mer("fit", "--config", tiny_config, *options) == 2
        line = one_line(capsys.readouterr().err)
        assert all(part in line for part in ("'s00_c00'", "cut.mp4", "--data.skip_errors true")), line

    @pytest.mark.parametrize("memory", ["true", "false"])
    def test_are_left_out_and_listed_where_that_is_asked(
        self, memory: str, damaged: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("--data.manifest", damaged, "--data.skip_errors=true", "--data.keep_in_memory", memory)
        assert mer("fit", "--config", tiny_config, *options, "--out", tmp_path / "run") == 0
        assert "1 clip(s) were left out:\n  s00_c00: " in capsys.readouterr().out
        assert mer("test", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "run") == 0
        assert "1 clip(s) were left out:\n  s05_c01: " in capsys.readouterr().out
        assert sorted(Scores.read(tmp_path / "run" / "scores_emotion.csv").clip_id) == ["s05_c00", "s05_c02", "s05_c03"]
