"""Posteriors of published networks: every fold is a corpus of its own, because the answers to its training rows are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny import mer, one_line

from mer.datasets.manifest import Manifest
from mer.media import features


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    assert mer("prepare", "ravdess_posteriors", "--synthetic", 4, "--out", tmp_path / "twin") == 0
    return tmp_path / "twin"


def test_every_fold_has_its_own_rows_and_answers(twin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert mer("prepare", "ravdess_posteriors", "--root", twin, "--out", out) == 0
    assert not (out / "manifest.csv").exists()
    first, second = (Manifest.read(out / f"fold{k}" / "manifest.csv") for k in (0, 1))
    for manifest in (first, second):
        sides = {s: {c.subject for c in manifest.clips if c.split == s} for s in ("train", "test")}
        assert sides["train"] and sides["test"] and not sides["train"] & sides["test"]
    clip = next(c for c in second.clips if c.split == "train")
    reference = second.reference(clip, "audio")
    assert reference is not None
    row = features.load(second.corpus.root, reference, 8)
    with np.load(twin / "posteriors" / "fold1.npz") as arrays:
        np.testing.assert_array_equal(row[0], arrays["train_audio_wav2vec_logits"][0])
        assert int(arrays["train_label"][0]) == int((clip.labels["emotion"] or [-1])[0])


def test_rows_that_contradict_their_names_are_refused(
    twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = twin / "posteriors" / "fold0.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | {"test_label": content["test_label"][::-1]}))
    assert mer("prepare", "ravdess_posteriors", "--root", twin, "--out", tmp_path / "out") == 2
    assert "fold0.npz, test row 0" in one_line(capsys.readouterr().err)
    np.savez(path, **(content | {"train_face_mlp_probs": content["train_face_mlp_probs"][1:]}))
    assert mer("prepare", "ravdess_posteriors", "--root", twin, "--out", tmp_path / "out") == 2
    assert "lists of train differ in length" in one_line(capsys.readouterr().err)
    assert mer("prepare", "ravdess_posteriors", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert "no fold0.npz" in one_line(capsys.readouterr().err)


@pytest.mark.real
def test_the_real_folds(tmp_path: Path) -> None:
    folder = os.environ.get("MER_REAL_DATA")
    if not folder:
        pytest.skip("MER_REAL_DATA does not name a folder of real recordings")
    out = tmp_path / "out"
    assert mer("prepare", "ravdess_posteriors", "--root", Path(folder) / "ravdess", "--out", out) == 0
    sizes = {}
    for fold in (0, 1, 2, 4):
        clips = Manifest.read(out / f"fold{fold}" / "manifest.csv").clips
        sizes[fold] = (sum(c.split == "train" for c in clips), sum(c.split == "test" for c in clips))
    assert sizes == {0: (1140, 300), 1: (1140, 300), 2: (1140, 300), 4: (1200, 240)}
