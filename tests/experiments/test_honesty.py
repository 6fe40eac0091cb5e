"""Nobody is scored by a model that was trained on them, and work that was done another way is not passed off as this."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
from safetensors.torch import load_file
from tiny import mer, one_line

from mer.experiments.training import parse

EMA = "pytorch_lightning.callbacks.EMAWeightAveraging"


@pytest.fixture
def fold_zero(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A model trained on every fold but the first, and its config."""
    config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **{"data.fold": "0"})
    assert mer("fit", "--config", config, "--out", tmp_path / "run") == 0
    return tmp_path


def test_a_model_is_not_scored_on_people_it_was_trained_on(fold_zero: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fold_zero / "run"
    assert mer("test", "--config", run / "config.yaml", "--out", run) == 0
    capsys.readouterr()
    assert mer("test", "--config", run / "config.yaml", "--out", run, "--data.fold", "1") == 2
    assert "was trained on 2 of the test subjects" in one_line(capsys.readouterr().err)


def test_an_interrupted_run_is_not_gone_on_with_on_other_rows(
    fold_zero: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fold_zero / "run" / "model.safetensors").unlink()
    config, run = fold_zero / "c.yaml", fold_zero / "run"
    assert mer("fit", "--config", config, "--out", run, "--data.fold", "1") == 2
    assert "another data.fold" in one_line(capsys.readouterr().err)
    assert "fold: '0'" in (run / "config.yaml").read_text(), "what was recorded stays"


def test_folds_of_a_changed_manifest_are_not_pooled(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    config = tiny.config(tmp_path / "c.yaml", corpus)
    command = ("crossval", "--config", config, "--data.manifest", corpus / "manifest.csv", "--folds", "0")
    assert mer(*command, "--out", tmp_path / "cv") == 0
    text = (corpus / "manifest.csv").read_text()
    (corpus / "manifest.csv").write_text(text.replace(",joyful,", ",sad,"))
    capsys.readouterr()
    assert mer(*command, "--out", tmp_path / "cv") == 2
    assert "another manifest" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("key", ["--trainer.gradient_clip_val=0.1", "--trainer.precision=bf16-mixed"])
def test_folds_of_another_recipe_are_not_pooled(
    key: str, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path / "c.yaml", tiny_corpus)
    command = ("crossval", "--config", config, "--data.manifest", tiny_corpus / "manifest.csv", "--folds", "0")
    assert mer(*command, "--out", tmp_path / "cv") == 0
    capsys.readouterr()
    assert mer(*command, "--out", tmp_path / "cv", key) == 2
    assert key[2:].partition("=")[0] in one_line(capsys.readouterr().err)


def test_a_model_lost_after_the_last_step_is_written_again_as_it_was(tiny_corpus: Path, tmp_path: Path) -> None:
    averaging = [{"class_path": EMA, "init_args": {"decay": 0.5}}]
    config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **{"data.fold": "0", "trainer.callbacks": averaging})
    command = ("fit", "--config", config, "--out", tmp_path / "run", "--trainer.max_epochs", 2)
    assert mer(*command) == 0
    first = load_file(tmp_path / "run" / "model.safetensors")
    (tmp_path / "run" / "model.safetensors").unlink()
    assert mer(*command) == 0
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(first[key].equal(again[key]) for key in first)


def test_class_weights_and_weight_averaging_go_together(tiny_corpus: Path, tmp_path: Path) -> None:
    balanced = {"emotion": {"class_path": "mer.losses.CrossEntropy", "init_args": {"balanced": True, "adjust": 0.5}}}
    changes = {"model.losses": balanced, "trainer.callbacks": [{"class_path": EMA}]}
    config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **changes)
    assert mer("fit", "--config", config, "--out", tmp_path / "run") == 0


def test_training_takes_no_checkpoint(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("fit", "--config", tiny_config, "--out", tmp_path, "--checkpoint", "x.safetensors") == 2
    assert "checkpoint" in one_line(capsys.readouterr().err)


def test_one_seed_decides_weights_order_and_inner_split(tiny_config: Path, tmp_path: Path) -> None:
    run = parse(["--config", str(tiny_config), "--out", str(tmp_path), "--seed_everything", "7"], "fit")
    assert (run.seed, run.data.seed) == (7, 7)


def test_a_value_that_a_class_refuses_is_one_line(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "--model.encoders.audio.init_args.dropout=2.0"
    assert mer("fit", "--config", tiny_config, "--out", tmp_path, wrong) == 2
    assert "dropout" in one_line(capsys.readouterr().err)
