"""Real recordings decode: every container and codec among them, at the times they declare."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_files import load

from mer.media import audio, video
from mer.media.probe import probe

pytestmark = pytest.mark.real
SUFFIXES = {".mp4", ".avi", ".mov", ".mpg", ".mkv", ".webm"}


@pytest.fixture(scope="module")
def recordings(real_data: Path) -> list[Path]:
    found = [p for folder in ("video_samples", "ravdess/av") for p in sorted((real_data / folder).rglob("*"))]
    files = [p for p in found if p.suffix in SUFFIXES]
    if not files:
        pytest.skip("MER_REAL_DATA holds neither video_samples nor ravdess/av")
    return files


def decoded_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(container.streams.video[0]))


def test_as_many_presentation_times_as_decoded_frames(recordings: list[Path]) -> None:
    counts = {p.name: (len(video.presentation_times(p)), decoded_frames(p)) for p in recordings}
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}


def test_presentation_times_rise_from_the_beginning(recordings: list[Path]) -> None:
    for path in recordings:
        times = video.presentation_times(path)
        assert (np.diff(times) > 0).all(), path.name
        assert 0 <= times[0] < 0.5, path.name


def test_every_picture_loads_at_eight_frames_per_second(recordings: list[Path]) -> None:
    for path in recordings:
        frames, spans = load(path, 8, (64, 64))
        times = video.presentation_times(path)
        step = float(np.median(np.diff(times)))
        assert frames.shape == (len(spans), 3, 64, 64), path.name
        assert len(frames) == pytest.approx((times[-1] + step) * 8, abs=1), path.name
        assert frames.std() > 5, f"{path.name} is a blank picture"


def test_every_sound_loads_and_lasts_as_long_as_the_file(recordings: list[Path]) -> None:
    heard = [p for p in recordings if probe(p).has_audio]
    assert heard
    for path in heard:
        wave = audio.load(path, 16000)
        assert len(wave) / 16000 == pytest.approx(probe(path).duration, abs=0.3), path.name
        assert np.isfinite(wave).all(), path.name
        assert np.abs(wave).max() <= 1, path.name
