"""Frames are decoded once; what is read back is what decoding gives."""

from __future__ import annotations

import pickle
import resource
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import write

from mer.datasets.frame_cache import CachedFrames, FrameCache
from mer.errors import UserError
from mer.media.prepare import prepare
from mer.spec import InputSpec

SPEC = InputSpec("video", size=(48, 64), crop="none", segments=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a soft gradient that moves."""
    y, x = np.mgrid[:96, :128]
    pictures = [np.stack([(x + 3 * k) % 256, (y * 2 + k) % 256, np.full_like(x, 4 * k)], -1) for k in range(50)]
    return write(tmp_path_factory.mktemp("cache") / "clip.mp4", np.stack(pictures).astype(np.uint8))


def kept(cache: FrameCache, clip: Path, start: float = 0.0, end: float | None = None) -> CachedFrames:
    dense = prepare(clip.parent, clip.name, cache.spec, start, end)
    cache.put(clip, start, end, dense.values[0], dense.spans[0])
    found = cache.get(clip, start, end)
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_frames_come_back(clip: Path, tmp_path: Path, form: str) -> None:
    cache = FrameCache(tmp_path, SPEC, form)
    assert cache.get(clip, 0.0, None) is None
    found = kept(cache, clip)
    dense = prepare(clip.parent, clip.name, SPEC.dense())
    np.testing.assert_array_equal(found.spans, dense.spans[0].numpy())
    read, true = found.take(np.arange(50)).astype(int), dense.values[0].numpy().astype(int)
    assert np.abs(read - true).mean() < (1e-9 if form == "raw" else 2.0)
    assert np.abs(found.take([3, 3, 40]).astype(int) - true[[3, 3, 40]]).mean() < 2.0


def test_a_sample_is_what_preparing_gives(clip: Path, tmp_path: Path) -> None:
    found = kept(FrameCache(tmp_path, SPEC), clip)
    direct, sampled = prepare(clip.parent, clip.name, SPEC), found.sample(SPEC, 0.0, None)
    assert torch.equal(sampled.values, direct.values)
    torch.testing.assert_close(sampled.spans, direct.spans, atol=1e-5, rtol=0)
    drawn = [found.sample(SPEC, 0.0, None, seed).values for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_stretch_of_the_frames(clip: Path, tmp_path: Path) -> None:
    rate = InputSpec("video", size=(48, 64), crop="none", rate=10)
    found = kept(FrameCache(tmp_path, rate), clip)
    cut = found.sample(rate, 0.5, 1.0)
    assert cut.values.shape == (1, 5, 3, 48, 64)
    assert torch.equal(cut.values, prepare(clip.parent, clip.name, rate).values[:, 5:10])
    assert found.sample(rate, 7.0, 8.0) is None


def test_another_cache_object_and_another_process_find_them(clip: Path, tmp_path: Path) -> None:
    first, second = FrameCache(tmp_path, SPEC), FrameCache(tmp_path, SPEC)
    assert second.get(clip, 0.0, None) is None
    kept(first, clip)
    assert second.get(clip, 0.0, None) is not None
    assert pickle.loads(pickle.dumps(first)).get(clip, 0.0, None) is not None
    with get_context("fork").Pool(1) as pool:
        pool.apply(kept, (first, clip, 0.5, 1.0))
    assert first.get(clip, 0.5, 1.0) is not None
    assert len(list(first.path.glob("*.bin"))) == 2, "each process has a file of its own"


def test_a_changed_video_is_not_what_was_kept(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    cache = FrameCache(tmp_path / "cache", SPEC)
    kept(cache, copy)
    copy.write_bytes(clip.read_bytes() + b"\0")
    assert cache.get(copy, 0.0, None) is None


def test_another_size_is_another_cache_and_normalisation_is_not(tmp_path: Path) -> None:
    same = InputSpec("video", size=(48, 64), crop="none", segments=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert FrameCache(tmp_path, SPEC).path == FrameCache(tmp_path, same).path
    for other in (
        InputSpec("video", size=(48, 48), segments=4),
        InputSpec("video", size=(48, 64), crop="none", rate=5),
    ):
        assert FrameCache(tmp_path, SPEC).path != FrameCache(tmp_path, other).path
    assert FrameCache(tmp_path, SPEC).path != FrameCache(tmp_path, SPEC, "jpeg").path


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, SPEC)
    kept(cache, clip)
    (frames,) = cache.path.glob("*.bin")
    (index,) = cache.path.glob("*.jsonl")
    line = index.read_bytes()
    for left in (line[:-20], line + b'{"name": "x"'):  # half a line, half a second line
        index.write_bytes(left)
        assert (FrameCache(tmp_path, SPEC).get(clip, 0.0, None) is None) == (len(left) < len(line))
    index.write_bytes(line)
    frames.write_bytes(frames.read_bytes()[:-1])
    assert FrameCache(tmp_path, SPEC).get(clip, 0.0, None) is None, "the index promises more than there is"


def test_a_video_that_is_gone_is_not_kept(clip: Path, tmp_path: Path) -> None:
    cache, gone = FrameCache(tmp_path, SPEC), tmp_path / "gone.mp4"
    assert cache.get(gone, 0.0, None) is None
    dense = prepare(clip.parent, clip.name, cache.spec)
    cache.put(gone, 0.0, None, dense.values[0], dense.spans[0])
    assert not list(cache.path.glob("*.bin"))


def test_a_clip_in_which_nothing_was_found_is_kept_as_such(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, SPEC)
    cache.put(clip, 0.0, None, torch.zeros((0, 3, 48, 64), dtype=torch.uint8), torch.zeros(0, 2))
    for reader in (cache, FrameCache(tmp_path, SPEC)):
        found = reader.get(clip, 0.0, None)
        assert found is not None and len(found) == 0
        assert found.sample(SPEC, 0.0, None) is None


def test_a_full_disk_is_said_once_and_stops_nothing(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = FrameCache(tmp_path, SPEC)
    dense = prepare(clip.parent, clip.name, cache.spec)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        for start in (0.0, 0.5):
            cache.put(clip, start, None, dense.values[0], dense.spans[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.count("Make room") == 1
    assert FrameCache(tmp_path, SPEC).get(clip, 0.0, None) is None


def test_sound_is_not_kept_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mer extract"):
        FrameCache(tmp_path, InputSpec("audio", rate=16000))
