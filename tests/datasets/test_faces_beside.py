"""Faces in files beside the manifest: training, extraction and prediction find them, and keys say what was declared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import mer, one_line

from mer import checkpoint
from mer.datasets.corpora.reading import Prepared
from mer.datasets.extract import Plan, extract
from mer.datasets.manifest import Corpus, Manifest
from mer.datasets.source import Source
from mer.datasets.store import Shelf, Store
from mer.datasets.twins import studio
from mer.encoders import FrameCNN
from mer.fusion import AttentionPool
from mer.labels import SPACES, Task
from mer.model import EmotionModel

TASK = Task("emotion", SPACES["imigue_emotion2.v1"])
FACE = {"detector": "precomputed", "file": "@/faces/{stem}.csv"}


def encoder() -> FrameCNN:
    return FrameCNN(8, rate=5, size=16, channels=(4, 4), crop="face", face=FACE)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """One video below the root, and its faces in the folder of the manifest."""
    studio.film(tmp_path / "root/0004.mp4", studio.pictures(studio.Scene(0, 2), 25, (64, 64)), None)
    faces(tmp_path / "data", 40)
    rows = [{"clip_id": "a", "start": "0", "end": "1", "split": "train", "emotion": "positive", "face": "0004.mp4"}]
    Prepared(Corpus("x", tmp_path / "root", {"emotion": TASK}), rows).write(tmp_path / "data")
    return Manifest.read(tmp_path / "data/manifest.csv")


def faces(folder: Path, side: int) -> None:
    lines = [f"{k},10,10,{10 + side},{10 + side}" for k in range(25)]
    studio.write_lines(folder / "faces/0004.csv", ["frame,x0,y0,x1,y1", *lines])


def test_training_reads_them(manifest: Manifest) -> None:
    found = Source(manifest, {"face": encoder().spec}).get(manifest.clips[0], {"face": "0004.mp4"})["face"]
    assert not isinstance(found, np.ndarray) and bool(found.mask.all()) and found.mask.shape[1] == 5  # type: ignore[union-attr]


def test_extraction_reads_them_and_sees_that_they_changed(manifest: Manifest, tmp_path: Path) -> None:
    def run() -> tuple[int, list[str], np.ndarray]:
        torch.manual_seed(0)
        store = Store.create(tmp_path / "store")
        status = extract({"face": encoder()}, manifest, store, Plan(), torch.device("cpu"))
        shelf = Shelf.open(store.folders()[0])
        (item,) = shelf.ids()
        return status, [source.name for source in shelf.note(item).sources], shelf.read(item).values.numpy()

    status, names, before = run()
    assert status == 0 and names == ["0004.mp4", "@/faces/0004.csv"]
    np.testing.assert_array_equal(run()[2], before)
    faces(tmp_path / "data", 30)
    assert (run()[2] != before).any()


def test_prediction_is_told_where_they_are(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = EmotionModel({"face": encoder()}, lambda dims: AttentionPool(dims, 8), {"emotion": TASK}).eval()
    checkpoint.save(tmp_path / "model.safetensors", model, {"corpus": "x"})
    clip = tmp_path / "root/0004.mp4"
    told = ["--checkpoint", tmp_path / "model.safetensors", "--out", tmp_path / "out"]
    assert mer("predict", clip, *told) != 0
    assert "face: say where its faces are with --input face.faces=FILE" in one_line(capsys.readouterr().err)
    assert mer("predict", clip, *told, "--input", f"face.faces={tmp_path / 'none.csv'}") != 0
    assert "none.csv: no such file of faces" in one_line(capsys.readouterr().err)
    assert mer("predict", clip, *told, "--input", f"face.faces={tmp_path / 'data/faces/0004.csv'}") == 0
    answer = json.loads((tmp_path / "out/0004.json").read_text())
    assert answer["modalities_used"] == ["face"] and answer["modalities_absent"] == {}
