"""Speech activity: bursts of sound are found where they are, pauses and hum are not speech."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from media_files import RATE

from mer.errors import UserError
from mer.media.speech import activity, silence


def murmur(*stretches: tuple[float, float], seconds: float = 4.0, rate: int = RATE, noise: float = 0.002) -> np.ndarray:
    """(N,) noise with syllables, a harmonic buzz at 4 Hz, in the stretches."""
    time = np.arange(round(seconds * rate)) / rate
    wave = noise * np.random.default_rng(0).standard_normal(len(time))
    buzz = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 12))
    for begin, end in stretches:
        inside = (time >= begin) & (time < end)
        syllables = 0.55 + 0.45 * np.cos(2 * np.pi * 4 * (time - begin))
        wave += 0.2 * np.where(inside, buzz * syllables, 0.0)
    return wave.astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("gain", [0.02, 0.3, 2.0])
def test_stretches_are_found_at_any_level_and_rate(rate: int, gain: float) -> None:
    said = [(0.7, 1.5), (2.2, 3.4)]
    found = activity(gain * murmur(*said, rate=rate), rate)
    np.testing.assert_allclose(found, said, atol=0.06)
    assert silence(found, 4.0) == pytest.approx(0.5, abs=0.04)


def test_speech_from_the_first_to_the_last_sample_is_found_whole() -> None:
    found = activity(murmur((0.0, 1.0), (1.6, 4.0)), RATE)
    np.testing.assert_allclose(found, [(0.0, 1.0), (1.6, 4.0)], atol=0.06)
    assert found.min() >= 0
    assert found.max() <= 4.0


def test_a_short_pause_is_within_speech_and_a_click_is_none() -> None:
    wave = murmur((0.5, 1.2), (1.3, 2.0))
    wave[48000:48160] += 0.9
    np.testing.assert_allclose(activity(wave, RATE), [(0.5, 2.0)], atol=0.06)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.zeros(3 * RATE, np.float32),
        np.full(3 * RATE, 0.4, np.float32),
        1e-4 * np.random.default_rng(0).standard_normal(3 * RATE),
        0.1 * np.random.default_rng(0).standard_normal(3 * RATE),
        0.5 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE) / RATE),
    ],
    ids=["nothing", "one sample", "zeros", "an offset", "faint noise", "noise", "hum"],
)
def test_nobody_speaks(wave: np.ndarray) -> None:
    found = activity(wave, RATE)
    assert found.shape == (0, 2)
    assert silence(found, len(wave) / RATE) == 1.0


def test_zeros_in_place_of_what_was_not_recorded_do_not_make_speech_of_noise() -> None:
    noise = 0.02 * np.random.default_rng(0).standard_normal(2 * RATE)
    assert len(activity(np.concatenate([np.zeros(2 * RATE), noise]), RATE)) == 0
    found = activity(np.concatenate([np.zeros(2 * RATE), murmur((1.0, 2.0))]), RATE)
    np.testing.assert_allclose(found, [(3.0, 4.0)], atol=0.06)


def test_speech_between_perfect_silences_is_found() -> None:
    np.testing.assert_allclose(
        activity(murmur((1.0, 2.0), (2.5, 3.5), noise=0.0), RATE), [(1, 2), (2.5, 3.5)], atol=0.06
    )


def test_an_offset_of_the_microphone_changes_nothing() -> None:
    wave = murmur((1.0, 2.0))
    np.testing.assert_array_equal(activity(wave + np.float32(0.3), RATE).round(2), activity(wave, RATE).round(2))


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(UserError, match="unknown speech detector 'magic'"):
        activity(np.zeros(10), RATE, "magic")  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("silero_vad") is not None, reason="silero-vad is installed")
def test_without_silero_the_extra_is_named() -> None:
    with pytest.raises(UserError, match=r"'silero-vad'.*\[vad\]"):
        activity(np.zeros(RATE), RATE, "silero")


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_silero_hears_no_speech_in_noise_and_leaves_the_threads_alone(rate: int) -> None:
    pytest.importorskip("silero_vad")
    import torch

    threads = torch.get_num_threads()
    noise = 0.05 * np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32)
    assert activity(noise, rate, "silero").shape == (0, 2)
    assert torch.get_num_threads() == threads


def test_the_module_brings_no_torch() -> None:
    check = "import sys, mer.media.speech; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
