"""UTD-MHAD becomes a manifest from the official download and from the packaged form, with the paper's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from tiny import mer, one_line, prepared

from mer.datasets.corpora import utd_mhad
from mer.datasets.manifest import Manifest
from mer.datasets.protocol import split_clips
from mer.encoders import SkeletonGCN
from mer.errors import UserError
from mer.media.prepare import prepare

# action, subject, trial: frames
CLIPS = {(1, 1, 1): 6, (27, 2, 4): 4, (3, 3, 2): 5, (9, 8, 1): 3}


def skeletons(frames: int, seed: int) -> np.ndarray:
    """(T, 20, 3) metres, away from the origin."""
    return np.random.default_rng(seed).uniform(1, 2, (frames, 20, 3)).astype(np.float32)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    folder = tmp_path / "UTD" / "Skeleton"
    folder.mkdir(parents=True)
    for seed, ((action, subject, trial), frames) in enumerate(CLIPS.items()):
        points = skeletons(frames, seed).transpose(1, 2, 0)
        savemat(folder / f"a{action}_s{subject}_t{trial}_skeleton.mat", {"d_skel": points})
    savemat(folder / "a1_s1_t1_inertial.mat", {"d_iner": np.zeros((6, 6))})
    return folder.parent


def pack(root: Path, **changes: object) -> Path:
    root.mkdir(exist_ok=True)
    clips = [skeletons(frames, seed) for seed, frames in enumerate(CLIPS.values())]
    content: dict[str, Any] = {
        "skeleton": np.concatenate(clips),
        "skeleton_offset": np.cumsum([0, *CLIPS.values()]),
        "inertial": np.zeros((12, 6)),
        "inertial_offset": np.arange(0, 15, 3),
        "name": np.array([f"a{a}_s{s}_t{t}" for a, s, t in CLIPS]),
        "label": np.array([a - 1 for a, _, _ in CLIPS]),
        "subject": np.array([s for _, s, _ in CLIPS]),
        "trial": np.array([t for _, _, t in CLIPS]),
        "action_names": np.array(utd_mhad.SPACE.names),
    }
    kept: dict[str, Any] = {key: value for key, value in (content | changes).items() if value is not None}
    np.savez(root / utd_mhad.PACKAGE, **kept)
    return root


@pytest.fixture(params=["official", "packaged"])
def root(request: pytest.FixtureRequest, tmp_path: Path, official: Path) -> Path:
    return official if request.param == "official" else pack(tmp_path / "packed")


def test_each_sequence_is_a_clip_with_its_action_person_and_length(root: Path, tmp_path: Path) -> None:
    count, left_out = prepared(utd_mhad, root, tmp_path / "out")
    assert (count, left_out) == (4, {})
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert [c.clip_id for c in manifest.clips] == ["a1_s1_t1", "a3_s3_t2", "a9_s8_t1", "a27_s2_t4"]
    first, last = manifest.clips[0], manifest.clips[-1]
    assert (first.subject, first.split, first.cells["trial"]) == ("1", "train", "1")
    assert (first.start, first.end) == (0, pytest.approx(6 / 30))
    assert first.labels["action"] == [0.0] and last.labels["action"] == [26.0]
    assert manifest.corpus.tasks["action"].space.names[26] == "squat"


def test_odd_people_train_and_even_ones_are_the_test(root: Path, tmp_path: Path) -> None:
    prepared(utd_mhad, root, tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    split = split_clips(manifest, None, 0.5, 0)
    assert {c.subject for c in split.test} == {"2", "8"}
    assert {c.subject for c in (*split.train, *split.val)} == {"1", "3"}
    assert len(split.val) == 1 and split.stamp == ""


def test_the_encoder_gets_each_clip_whole(root: Path, tmp_path: Path) -> None:
    prepared(utd_mhad, root, tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    spec = SkeletonGCN("kinect20", blocks=((4, 1),), rate=30.0).spec
    for clip in manifest.clips:
        action, subject, trial = (int(part[1:]) for part in clip.clip_id.split("_"))
        seed = list(CLIPS).index((action, subject, trial))
        reference = manifest.reference(clip, "skeleton")
        assert reference is not None
        sampled = prepare(manifest.corpus.root, reference, spec, clip.start, clip.end)
        np.testing.assert_allclose(sampled.values[0, :, :, :3].numpy(), skeletons(CLIPS[action, subject, trial], seed))
        assert float(sampled.spans[0, -1, 1]) == pytest.approx(clip.end, abs=1e-5)


def test_a_broken_file_stops_or_is_listed(official: Path, tmp_path: Path) -> None:
    (official / "Skeleton" / "a2_s1_t1_skeleton.mat").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"a2_s1_t1_skeleton.mat: not a readable .mat .* or pass --skip-errors"):
        prepared(utd_mhad, official, tmp_path / "out")
    count, left_out = prepared(utd_mhad, official, tmp_path / "out", skip_errors=True)
    assert count == 4 and list(left_out) == ["a2_s1_t1"]


def test_a_name_that_means_nothing_is_refused(official: Path, tmp_path: Path) -> None:
    skeleton = official / "Skeleton" / "a1_s1_t1_skeleton.mat"
    skeleton.rename(skeleton.with_name("a28_s1_t1_skeleton.mat"))
    with pytest.raises(UserError, match="'a28_s1_t1' is not action 1-27"):
        prepared(utd_mhad, official, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "not readable, or without name, label"),
        ({"label": np.array([0, 26, 2, 7])}, r"row 3: action, subject or trial contradicts the name a9_s8_t1"),
        ({"subject": np.array([1, 2, 3])}, "lists differ in length"),
        ({"action_names": np.array(utd_mhad.SPACE.names[::-1])}, "actions are not those of UTD-MHAD"),
        ({"skeleton_offset": np.array([0, 6, 6, 15, 18])}, "row 1: a27_s2_t4 has no frame"),
    ],
)
def test_a_package_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(utd_mhad, pack(tmp_path / "packed", **changes), tmp_path / "out")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no UTD-MHAD skeletons"):
        prepared(utd_mhad, tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no such folder"):
        prepared(utd_mhad, tmp_path / "nowhere", tmp_path / "out")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "utd_mhad", "--root", pack(tmp_path / "packed"), "--out", tmp_path / "out") == 0
    assert "4 clips" in capsys.readouterr().out
    assert mer("prepare", "utd_mhad", "--root", tmp_path, "--out", tmp_path / "out") != 0
    assert "no UTD-MHAD skeletons" in one_line(capsys.readouterr().err)
