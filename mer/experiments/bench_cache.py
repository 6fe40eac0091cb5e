"""How much cheaper a sample of 16 frames is from the frame cache than from the video, and what finding a face costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mer.datasets.frame_cache import FrameCache
from mer.experiments.bench_media import FILES, Row, write_textured
from mer.media import detectors, reading, video
from mer.media.frame import Frame
from mer.media.packets import forget
from mer.spec import Face, InputSpec

SIDE = 224
DENSE = InputSpec("video", size=(SIDE, SIDE), crop="none", segments=1, duration=16, stride=4)
WINDOW = 2.6  # seconds that hold 16 frames, 4 apart, at 25 per second
REPEATS = 40


def cache_rows(folder: Path) -> list[Row]:
    """CPU milliseconds of a random 16 x 4 clip: decoded, from JPEG, from raw frames.

    Args:
        folder: where the test video and the caches are, or are written.

    Returns:
        a row each; the ratio says how many times cheaper than decoding.
    """
    return [row for label in FILES for row in _cache_rows(folder, label)]


def _cache_rows(folder: Path, label: str) -> list[Row]:
    height, width, count, _ = FILES[label]
    path = folder / f"textured_{label}.mp4"
    if not path.exists():
        write_textured(path, height, width, count)
    random = np.random.default_rng(0)
    starts = random.uniform(0, count / 25 - WINDOW, REPEATS)

    def decode(start: float) -> int:
        stream = reading.read(folder, {"v": path.name}, {"v": DENSE}, start, start + WINDOW)["v"]
        assert not isinstance(stream, Exception)
        return len(stream)

    def decode_anew(start: float) -> int:
        forget()  # as in a corpus of more files than indices are remembered
        return decode(start)

    seconds = {"decoded": _each(decode_anew, starts), "decoded, packet index at hand": _each(decode, starts)}
    dense = reading.read(folder, {"v": path.name}, {"v": DENSE.dense()})["v"]
    assert not isinstance(dense, Exception)
    import torch

    for form in ("jpeg", "raw"):
        cache = FrameCache(folder / "frames", DENSE, form)
        if cache.get(path, 0.0, None) is None:
            cache.put(path, 0.0, None, torch.from_numpy(dense.values), torch.from_numpy(dense.spans))

        def cached(start: float, cache: FrameCache = cache) -> int:
            kept = cache.get(path, 0.0, None)
            assert kept is not None
            sample = kept.sample(DENSE, start, start + WINDOW)
            assert sample is not None
            return len(sample.values)  # the frames were copied out of the map

        seconds[f"frame cache, {form}"] = _each(cached, starts)
    base = seconds["decoded"]
    name = f"16 frames, 4 apart, at {SIDE} x {SIDE}, of a video of {width} x {height}"
    return [Row(name, who, 1e3 * s, "CPU ms", None if who == "decoded" else base / s) for who, s in seconds.items()]


def face_rows(folder: Path) -> list[Row]:
    """CPU milliseconds per picture of each face detector that is installed, on a picture of 1280 x 720 without a face."""
    path = folder / "textured_720p.mp4"
    if not path.exists():
        height, width, count, _ = FILES["720p"]
        write_textured(path, height, width, count)
    pictures = []
    for frame in video.frames(path):
        pictures.append(frame.rgb())
        if len(pictures) == 10:
            break
    rows = []
    for name in ("haar", "mediapipe"):
        if name == "mediapipe" and find_spec("mediapipe") is None:
            continue
        detector = detectors.detector(Face(detector=name), path, folder)
        detector.find(Frame(pictures[0], 0, 0.0, 0.04))
        began = time.process_time()
        for picture in pictures:
            detector.find(Frame(picture, 0, 0.0, 0.04))
        spent = 1e3 * (time.process_time() - began) / len(pictures)
        rows.append(Row("faces in a picture of 1280 x 720", detector.identity, spent, "CPU ms", None))
    return rows


def _each(work: Callable[[float], int], starts: np.ndarray) -> float:
    """Median CPU seconds of a call; of each the least of three, as other work on the machine only ever adds."""
    spent = np.full((len(starts), 3), np.inf)
    for turn in range(3):
        for place, start in enumerate(starts):
            began = time.process_time()
            work(float(start))
            spent[place, turn] = time.process_time() - began
    return float(np.median(spent.min(axis=1)))
