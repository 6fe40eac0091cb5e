"""Where somebody speaks: stretches of speech in a waveform, by energy alone or with Silero's network. No torch at import."""

from __future__ import annotations

import importlib
import threading
from functools import cache
from typing import Any, Literal

import numpy as np

from mer.errors import UserError, need_extra

FRAME, HOP = 0.025, 0.010  # seconds; frame k is centred on k * HOP
SILENT = -65.0  # dB of full scale; nothing below is speech, however quiet the rest is
NOTHING = -100.0  # dB; zeros, which fill what was not recorded, say nothing of the noise in the rest
CONTRAST = 8.0  # dB between the quiet and the loud frames; speech, which has pauses, always has more than a hum
SPEECH, PAUSE = 0.10, 0.20  # seconds; shorter stretches are clicks, shorter pauses are stops within a word

_lock = threading.Lock()  # Silero's network keeps its state between calls


def activity(wave: np.ndarray, rate: float, backend: Literal["energy", "silero"] = "energy") -> np.ndarray:
    """Stretches in which somebody speaks.

    Args:
        wave: (N,) mono samples in [-1, 1].
        rate: samples per second.
        backend: `energy` calls speech what stands out from the quietest tenth of the clip, so any loud sound; no
            reference, the design is ours. `silero` is the network of Silero VAD 6 (extra `vad`), which tells speech from
            other sounds.

    Returns:
        float64 (n, 2) seconds from the first sample, apart from each other and rising; n is 0 where nobody speaks.

    Raises:
        UserError: the backend is unknown or not installed.
    """
    if backend == "energy":
        return _energy(wave, rate)
    if backend == "silero":
        return _silero(wave, rate)
    raise UserError(f"unknown speech detector {backend!r}", "Use 'energy' or 'silero'")


def silence(stretches: np.ndarray, seconds: float) -> float:
    """Share of a clip, in [0, 1], in which nobody speaks.

    Args:
        stretches: (n, 2) from `activity`.
        seconds: length of the clip; one of length 0 is silent.
    """
    return 1.0 - float(np.diff(stretches, axis=1).sum()) / seconds if seconds > 0 else 1.0


def _energy(wave: np.ndarray, rate: float) -> np.ndarray:
    if not len(wave):
        return np.zeros((0, 2))
    level = _level(wave, rate)
    there = level[level > NOTHING]
    if not there.size:
        return np.zeros((0, 2))
    quiet, loud = np.percentile(there, [10, 95])
    quiet = max(quiet, SILENT)
    if loud - quiet < CONTRAST:
        return np.zeros((0, 2))
    # Hysteresis: a stretch is what stays above `low` and somewhere exceeds `high`.
    high, low = quiet + np.clip(np.array([0.45, 0.3]) * (loud - quiet), [6.0, 4.0], [18.0, 12.0])
    runs = [(a, b) for a, b in _runs(level > low) if level[a:b].max() > high]
    joined: list[tuple[int, int]] = []
    for a, b in runs:
        if joined and (a - joined[-1][1]) * HOP < PAUSE:
            a = joined.pop()[0]
        joined.append((a, b))
    kept = [(a, b) for a, b in joined if (b - a) * HOP >= SPEECH]
    edges = (np.asarray(kept, np.float64).reshape(-1, 2) - 0.5) * HOP
    return edges.clip(0.0, len(wave) / rate)


def _level(wave: np.ndarray, rate: float) -> np.ndarray:
    """(K,) dB of full scale per frame of a wave that is not empty. Offset and rumble, a frame's mean, are left out."""
    size = max(2, round(FRAME * rate))
    padded = np.pad(np.asarray(wave, np.float64), round(FRAME * rate / 2), mode="edge")
    begins = np.round(np.arange(int(len(wave) / (HOP * rate)) + 1) * HOP * rate).astype(int)
    begins = begins[begins + size <= len(padded)]
    sums, squares = (np.concatenate([[0.0], np.cumsum(x)]) for x in (padded, padded**2))
    mean = (sums[begins + size] - sums[begins]) / size
    power = (squares[begins + size] - squares[begins]) / size - mean**2
    return 10 * np.log10(power.clip(1e-12))


def _runs(on: np.ndarray) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _silero(wave: np.ndarray, rate: float) -> np.ndarray:
    model, stamps = _network()
    import torch

    hz = round(rate)
    if hz not in (8000, 16000):
        from scipy.signal import resample_poly

        common = int(np.gcd(hz, 16000))
        wave, hz = resample_poly(np.asarray(wave, np.float64), 16000 // common, hz // common), 16000
    with _lock:
        found = stamps(torch.from_numpy(np.asarray(wave, np.float32).copy()), model, sampling_rate=hz)
    return np.asarray([(f["start"] / hz, f["end"] / hz) for f in found], np.float64).reshape(-1, 2)


@cache
def _network() -> tuple[Any, Any]:
    """Silero's network, whose weights are in its wheel, and the function that makes stretches of its output."""
    import torch

    threads = torch.get_num_threads()
    try:
        silero = importlib.import_module("silero_vad")
    except ImportError:
        raise need_extra("silero-vad", "vad") from None
    finally:
        torch.set_num_threads(threads)  # importing it sets one thread for the whole process
    return silero.load_silero_vad(), silero.get_speech_timestamps
