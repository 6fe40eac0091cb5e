"""Real clips, damaged at random places: each gives what can be read of it or one line, and the process lives on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media.guard import Child
from mer.media.probe import length, probe
from mer.media.stream import Stream
from mer.spec import InputSpec

SPECS = {
    "video": InputSpec("video", rate=4, size=(48, 48)),
    "frames": InputSpec("video", size=(48, 48), segments=4),
    "audio": InputSpec("audio", rate=16000),
}
CLIPS = ("video_samples/*/*.*", "ravdess/av/*.mp4")
MEDIA = {".mp4", ".avi", ".mov", ".mpg"}
LARGEST = 700_000  # bytes; larger clips only take longer


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One of the ways in which files go bad."""
    data = np.frombuffer(content, np.uint8).copy()
    size, way = len(data), random.integers(7)
    # Headers and indices lie at the ends; half of the damage goes there.
    place = (
        int(random.integers(size))
        if random.random() < 0.5
        else int(random.choice([0, size])) + int(random.integers(-4096, 4096))
    )
    place = min(max(place, 0), size - 1)
    span = slice(place, min(size, place + int(2 ** random.uniform(0, 16))))
    if way == 0:  # cut off, as by an interrupted download
        return data[: max(place, 1)].tobytes()
    if way == 1:  # a sector of zeros
        data[span] = 0
    elif way == 2:  # a sector of something else
        data[span] = random.integers(0, 256, span.stop - span.start, dtype=np.uint8)
    elif way == 3:  # single bits
        at = random.integers(0, size, int(2 ** random.uniform(0, 10)))
        data[at] ^= (1 << random.integers(0, 8, len(at))).astype(np.uint8)
    elif way == 4:  # a piece lost from the middle
        return np.delete(data, np.arange(span.start, span.stop)).tobytes() or b"\0"
    elif way == 5:  # a piece twice
        return np.concatenate([data[: span.stop], data[span.start :]]).tobytes()
    else:  # a few numbers of the header
        at = random.integers(0, min(size, 2048), 8)
        data[at] = random.integers(0, 256, 8, dtype=np.uint8)
    return data.tobytes()


def run(real_data: Path, folder: Path, variants: int, seed: int) -> dict[str, int]:
    """Read so many damaged clips; counts of streams and of refused modalities."""
    clips = sorted(p for pattern in CLIPS for p in real_data.glob(pattern) if p.suffix in MEDIA)
    clips = [p for p in clips if p.stat().st_size <= LARGEST]
    random, child = np.random.default_rng(seed), Child()
    counts = {"read": 0, "refused": 0}
    try:
        for variant in range(variants):
            clip = clips[int(random.integers(len(clips)))]
            path = folder / f"damaged{clip.suffix}"
            path.write_bytes(damaged(clip.read_bytes(), random))
            found = child.read(folder, dict.fromkeys(SPECS, path.name), SPECS, 0.0, None, None, patience=30.0)
            for modality, result in found.items():
                named = f"variant {variant} of seed {seed} ({clip.name}), {modality}"
                if isinstance(result, UserError):
                    counts["refused"] += 1
                    line = str(result)
                    assert path.name in line, named
                    assert "\n" not in line, named
                    for sign in ("died", "hung", "reading failed", "Traceback"):
                        assert sign not in line, f"{named}: {line}"
                else:
                    counts["read"] += 1
                    sound(result, named)
            for look in (probe, length):  # what the predictor asks a file first
                with contextlib.suppress(UserError):
                    look(path)
    finally:
        child.close()
    return counts


def sound(stream: Stream, named: str) -> None:
    """Whatever was read of a damaged file is in order."""
    assert len(stream.values) == len(stream.spans), named
    assert np.isfinite(stream.spans).all(), named
    assert (stream.spans[:, 1] > stream.spans[:, 0]).all(), named
    assert (np.diff(stream.spans[:, 0]) >= -1e-6).all(), named
    if stream.values.dtype.kind == "f":
        assert np.isfinite(stream.values).all(), named


@pytest.mark.real
def test_thirty_damaged_clips(real_data: Path, tmp_path: Path) -> None:
    counts = run(real_data, tmp_path, 30, seed=0)
    assert counts["read"] > 20, f"damage this light leaves most clips readable: {counts}"


@pytest.mark.real
@pytest.mark.slow
def test_five_hundred_damaged_clips(real_data: Path, tmp_path: Path) -> None:
    counts = run(real_data, tmp_path, 500, seed=1)
    assert counts["read"] > 300, counts
    assert counts["refused"] > 20, f"some damage is fatal: {counts}"
