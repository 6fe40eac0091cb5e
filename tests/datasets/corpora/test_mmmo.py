"""ICT-MMMO becomes a manifest from its packaged features: steps count as seconds, padding is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import mmmo
from mer.datasets.manifest import Clip, Manifest
from mer.encoders import FeatureEncoder
from mer.errors import UserError
from mer.media.prepare import prepare


def pack(root: Path, name: str = "mmmo_train.npz", **changes: Any) -> Path:
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    audio, video = random.normal(1, 0.1, (3, 20, 74)), random.normal(1, 0.1, (3, 20, 36))
    audio[0, :4], video[0, :4] = 0, 0  # before the first word
    audio[1, 18:], video[1, 15:] = 0, 0  # behind the last word; no face before that
    content: dict[str, Any] = {"audio": audio, "video": video, "y": np.array([3.0, 3.5, 5.0])} | changes
    np.savez(root / name, **{key: value for key, value in content.items() if value is not None})
    return root


def clips(root: Path, out: Path) -> list[Clip]:
    prepared(mmmo, root, out)
    return list(Manifest.read(out / "manifest.csv").clips)


def test_steps_are_seconds_and_padding_on_either_side_is_left_out(tmp_path: Path) -> None:
    found = clips(pack(tmp_path / "mmmo"), tmp_path / "out")
    assert [(c.start, c.end) for c in found] == [(4, 20), (0, 18), (0, 20)]
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    reference = manifest.reference(found[0], "audio")
    assert reference == "mmmo_train.npz#audio[0]"
    sampled = prepare(manifest.corpus.root, reference, FeatureEncoder(74, rate=1.0).spec, found[0].start, found[0].end)
    assert sampled.values.shape[1] == 16 and bool((sampled.values != 0).all())
    assert sampled.spans[0, 0].tolist() == [4, 5]


def test_more_than_three_and_a_quarter_is_positive(tmp_path: Path) -> None:
    found = clips(pack(tmp_path / "mmmo"), tmp_path / "out")
    assert [c.cells["sentiment"] for c in found] == ["negative", "positive", "positive"]
    assert [c.labels["score"] for c in found] == [[3.0], [3.5], [5.0]]
    between = clips(pack(tmp_path / "between", y=np.array([3.2, 3.25, 3.3])), tmp_path / "out2")
    assert [c.cells["sentiment"] for c in between] == ["negative", "negative", "positive"]


def test_a_step_with_a_face_and_no_voice_is_kept(tmp_path: Path) -> None:
    audio = np.ones((3, 20, 74))
    audio[:, :5] = 0
    assert [c.start for c in clips(pack(tmp_path / "mmmo", audio=audio), tmp_path / "out")] == [4, 0, 0]


def test_each_file_is_a_split_and_a_missing_test_is_said(tmp_path: Path) -> None:
    pack(pack(tmp_path / "mmmo"), "mmmo_valid.npz")
    assert {c.split for c in clips(tmp_path / "mmmo", tmp_path / "out")} == {"train", "val"}
    assert "no mmmo_test.npz" in (tmp_path / "out" / "prepared.json").read_text()
    pack(tmp_path / "mmmo", "mmmo_test.npz")
    assert len(clips(tmp_path / "mmmo", tmp_path / "out")) == 9


def test_the_validation_part_can_stand_for_a_missing_test_part(tmp_path: Path) -> None:
    root = pack(tmp_path / "mmmo")
    with pytest.raises(UserError, match="wants a validation part"):
        prepared(mmmo, root, tmp_path / "out", False, "--score-validation")
    pack(root, "mmmo_valid.npz")
    prepared(mmmo, root, tmp_path / "out", False, "--score-validation")
    found = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert {c.split for c in found.clips} == {"train", "test"} and "val scored" in found.corpus.protocol
    pack(root, "mmmo_test.npz")
    with pytest.raises(UserError, match="Leave it out where there is a test part"):
        prepared(mmmo, root, tmp_path / "out", False, "--score-validation")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "without audio, video, y"),
        ({"y": np.array([3.0, 6.0, 1.0])}, r"row 1: y is 6, not a sentiment from 1 to 5"),
        ({"y": np.array([3.0, np.nan, 1.0])}, r"row 1: y is nan"),
        ({"y": np.array([3.0, 1.0])}, "do not belong together"),
        ({"video": np.ones((3, 19, 36))}, "do not belong together"),
        ({"audio": np.zeros((3, 20, 74)), "video": np.zeros((3, 20, 36))}, "row 0: all steps are zero"),
        ({"y": np.array([None, 1, 2], dtype=object)}, "not readable"),
        ({"y": np.array(["a", "b", "c"])}, "holds no numbers"),
        ({"y": np.ones((3, 1))}, r"y has 2 dimension\(s\), not 1"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(mmmo, pack(tmp_path / "mmmo", **changes), tmp_path / "out")


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "mmmo", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert "mmmo_train.npz" in one_line(capsys.readouterr().err)


def test_the_twin_goes_through(tmp_path: Path) -> None:
    assert mer("prepare", "mmmo", "--synthetic", 2, "--out", tmp_path / "twin") == 0
    found = clips(tmp_path / "twin", tmp_path / "out")
    assert len(found) == 20 and {c.split for c in found} == {"train", "val", "test"}
    assert any(c.start > 0 for c in found) and any(c.end is not None and c.end < 20 for c in found)


@pytest.mark.real
def test_the_real_features(real_data: Path, tmp_path: Path) -> None:
    found = clips(real_data / "mfn_sequences", tmp_path / "out")
    assert [sum(c.split == split for c in found) for split in ("train", "val")] == [220, 40]
    assert (
        sum(c.cells["sentiment"] == "positive" for c in found if c.split == "val") == 25
    )  # 62.5 %, as the baseline says
