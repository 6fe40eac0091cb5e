"""A model of one corpus is scored on another in a label space that both can be brought to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import mer, one_line

from mer.datasets.corpora.reading import Prepared
from mer.datasets.manifest import Corpus
from mer.evaluation import Scores
from mer.labels import SPACES, Task


def corpus(folder: Path, name: str, space: str, labels: list[str], splits: list[str]) -> Path:
    """Clips whose feature row is the emotion's place in the alphabet, whatever it is called."""
    folder.mkdir()
    meaning = {"angry": "anger", "sad": "sadness", "happy": "happiness", "surprised": "surprise", "calm": "neutral"}
    order = ["anger", "happiness", "neutral", "sadness", "surprise"]
    rows = [order.index(meaning.get(label, label)) for label in labels]
    np.savez(folder / "x.npz", x=np.eye(5, dtype=np.float32)[rows] * 3)
    clips = [
        {"clip_id": f"{name}{i}", "subject": f"{name}{i}", "split": split, "x": f"x.npz#x[{i}]", "emotion": label}
        for i, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    task = {"emotion": Task("emotion", SPACES[space])}
    Prepared(Corpus(name, folder, task, "true"), clips).write(folder)
    return folder / "manifest.csv"


@pytest.fixture
def acted(tmp_path: Path) -> Path:
    labels = ["angry", "happy", "calm", "neutral", "sad", "surprised"] * 4
    return corpus(tmp_path / "acted", "acted", "ravdess8.v1", labels, ["train"] * 18 + ["test"] * 6)


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    return corpus(
        tmp_path / "spoken", "spoken", "crema_d6.v1", ["anger", "happiness", "neutral", "sadness"] * 3, ["test"] * 12
    )


def test_train_here_and_score_there(
    acted: Path, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "model": {
            "encoders": {
                "x": {"class_path": "mer.encoders.FeatureEncoder", "init_args": {"width": 5, "dim": 8, "hidden": 8}}
            },
            "fusion": {"class_path": "mer.fusion.Concat", "init_args": {"dim": 8}},
            "lr": 0.01,
        },
        "data": {"manifest": str(acted), "batch_size": 6, "label_spaces": {"emotion": "basic7.v1+calm_is_neutral"}},
        "trainer": {"max_epochs": 40, "enable_progress_bar": False, "accelerator": "cpu"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    assert mer("fit", "--config", tmp_path / "c.yaml", "--out", run) == 0
    there = ["--data.manifest", spoken, "--out", tmp_path / "there", "--checkpoint", run / "model.safetensors"]
    assert mer("test", "--config", run / "config.yaml", *there, "--data.label_spaces", '{"emotion": "basic7.v1"}') == 0
    scores = Scores.read(tmp_path / "there" / "scores_emotion.csv")
    assert scores.space == SPACES["basic7.v1"]
    assert float((scores.predicted == scores.target).mean()) == 1.0

    # Every row of a corpus, whatever its splits.
    everything = ["--data.manifest", acted, "--data.fold", "all", "--out", tmp_path / "all", *there[4:]]
    assert mer("test", "--config", run / "config.yaml", *everything) == 2
    assert "was trained on 18 of the test subjects" in one_line(capsys.readouterr().err)
    everything[1] = spoken
    assert mer("test", "--config", run / "config.yaml", *everything) == 0
    assert len(Scores.read(tmp_path / "all" / "scores_emotion.csv")) == 12
    capsys.readouterr()
    assert mer("fit", "--config", tmp_path / "c.yaml", "--data.manifest", spoken, "--out", tmp_path / "none") == 2
    assert "no row has split 'train'" in one_line(capsys.readouterr().err)

    # The other corpus in its own words is another task, and is refused.
    capsys.readouterr()
    assert mer("test", "--config", run / "config.yaml", *there, "--data.label_spaces", "null") == 2
    assert "task 'emotion' is not the one of" in one_line(capsys.readouterr().err)


def test_a_score_file_goes_to_another_space(acted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = SPACES["ravdess8.v1"]
    target = np.array([0, 1, 2, 3, 4, 7])
    scores = Scores(
        "emotion", space, "p", [f"c{i}" for i in range(6)], np.zeros(6), np.ones(6), np.eye(8)[target], target
    )
    scores.write(tmp_path / "s.csv")
    assert mer("evaluate", tmp_path / "s.csv", "--space", "crema_d6.v1") == 0
    shown = capsys.readouterr().out
    assert "2 of 6 labelled rows have a class that crema_d6.v1 lacks" in shown  # calm and surprised
    assert "4 clips" in shown
    assert mer("evaluate", tmp_path / "s.csv", "--space", "crema_d6.v1+calm_is_neutral") == 0
    assert "1 of 6" in capsys.readouterr().out
    assert mer("evaluate", tmp_path / "s.csv", "--space", "bah2.v1") == 2
    assert "less than two classes in common" in one_line(capsys.readouterr().err)
