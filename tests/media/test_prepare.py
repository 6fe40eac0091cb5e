"""`prepare` turns one modality of one clip into what its encoder declared, with true spans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import RATE, grey, tone, write

from mer.errors import UserError
from mer.media.prepare import prepare
from mer.spec import InputSpec
from mer.tokens import Sampled


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare")
    write(folder / "clip.mp4", grey(50), np.concatenate([np.zeros(8000), tone(1.0), np.zeros(8000)]))
    np.save(folder / "rows.npy", np.arange(40, dtype=np.float32).reshape(20, 2))
    return folder


def check(sampled: Sampled) -> np.ndarray:
    """What holds for every prepared modality; its spans (N, 2)."""
    assert len(sampled) == 1
    assert sampled.mask.all()
    spans = sampled.spans[0].numpy()
    assert (np.diff(spans[:, 0]) >= 0).all()
    assert (spans[:, 1] > spans[:, 0] - 1e-7).all()
    return spans


def test_a_waveform_has_one_span_per_sample(root: Path) -> None:
    sampled = prepare(root, "clip.mp4", InputSpec("audio", rate=RATE), 0.25, 1.25)
    spans = check(sampled)
    assert sampled.values.shape == (1, RATE)
    assert sampled.values.dtype == torch.float32
    np.testing.assert_allclose(spans[[0, -1]], [[0.25, 0.25 + 1 / RATE], [1.25 - 1 / RATE, 1.25]], atol=1e-6)


def test_trimming_leaves_out_silence_and_keeps_media_time(root: Path) -> None:
    sampled = prepare(root, "clip.mp4", InputSpec("audio", rate=RATE, trim=30.0))
    spans = check(sampled)
    assert spans[0, 0] == pytest.approx(0.5, abs=0.05)
    assert spans[-1, 1] == pytest.approx(1.5, abs=0.06)
    assert sampled.values.shape[1] == len(spans) < 1.2 * RATE


def test_frames_are_bytes_at_the_declared_rate(root: Path) -> None:
    sampled = prepare(root, "clip.mp4", InputSpec("video", rate=8, size=(24, 20)), 0.5)
    spans = check(sampled)
    assert sampled.values.shape == (1, 12, 3, 24, 20)
    assert sampled.values.dtype == torch.uint8
    np.testing.assert_allclose(spans[:, 0], 0.5 + np.arange(12) / 8, atol=1e-6)


def test_sound_and_picture_of_a_clip_share_one_clock(root: Path) -> None:
    sound = check(prepare(root, "clip.mp4", InputSpec("audio", rate=RATE), 0.4, 1.6))
    picture = check(prepare(root, "clip.mp4", InputSpec("video", rate=10, size=(16, 16)), 0.4, 1.6))
    assert sound[0, 0] == pytest.approx(picture[0, 0])
    assert sound[-1, 1] == pytest.approx(picture[-1, 1], abs=1e-4)


def test_feature_rows_at_a_rate_are_cut_to_the_clip(root: Path) -> None:
    sampled = prepare(root, "rows.npy", InputSpec("features", rate=10, width=2), 0.5, 1.0)
    spans = check(sampled)
    assert sampled.values[0, :, 0].tolist() == [10, 12, 14, 16, 18]
    np.testing.assert_allclose(spans[[0, -1]], [[0.5, 0.6], [0.9, 1.0]], atol=1e-6)


def test_feature_rows_without_a_rate_divide_the_clip_evenly(root: Path) -> None:
    sampled = prepare(root, "rows.npy", InputSpec("features", width=2), 3.0, 5.0)
    spans = check(sampled)
    np.testing.assert_allclose(spans[[0, -1]], [[3.0, 3.1], [4.9, 5.0]], atol=1e-5)


def test_one_row_stands_for_the_whole_clip(root: Path) -> None:
    sampled = prepare(root, "rows.npy#x[3]", InputSpec("features", width=2), 1.0, 4.0)
    np.testing.assert_allclose(check(sampled), [[1.0, 4.0]])
    assert sampled.values[0].tolist() == [[6, 7]]


def test_a_clip_behind_the_last_row_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"rows\.npy: 20 rows at 10 Hz hold nothing from 9 s"):
        prepare(root, "rows.npy", InputSpec("features", rate=10, width=2), 9.0, 10.0)


def test_an_unknown_kind_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="unknown kind of input 'smell'"):
        prepare(root, "clip.mp4", InputSpec("smell"))  # type: ignore[arg-type]


POSE = InputSpec("pose", rate=25, backend="file", layout="coco17")
EYE = InputSpec("eye", rate=50, backend="file", columns=("gaze_x",))


@pytest.mark.parametrize(
    ("name", "content", "spec"),
    [
        ("list.json", b"[" * 100_000, POSE),
        ("people.json", b'{"instance_info": [{"frame_id": 1, "instances": 5}]}', POSE),
        ("images.json", b'{"annotations": [], "images": [{}]}', POSE),
        ("latin.csv", "Z\u00fcrich".encode("latin-1"), POSE),
        ("field.csv", b'"' + b"x" * 200_000 + b'"', POSE),
        ("body.skeleton", bytes(range(128, 256)), POSE),
        ("field.tsv", b't_s\tgaze_x\n0\t"' + b"x" * 200_000 + b'"', EYE),
        ("header.npy", b"\x93NUMPY\x01\x00\xff\x0f" + b"(" * 4095, InputSpec("features")),
    ],
)
def test_a_broken_side_file_is_one_line(tmp_path: Path, name: str, content: bytes, spec: InputSpec) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="reading failed") as caught:
        prepare(tmp_path, name, spec)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_that_promises_more_than_there_is_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((10, 2), np.float32))
    raw = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(raw.replace(b"(10, 2), }        ", b"(99999999999999, 2), }", 1)[: len(raw)])
    with pytest.raises(UserError, match=r"rows\.npy"):
        prepare(tmp_path, "rows.npy", InputSpec("features"))
