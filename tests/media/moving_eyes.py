"""Made-up eyes: saccades on the main sequence, pursuit, blinks."""

from __future__ import annotations

import numpy as np


def saccade_time(amplitude: float) -> float:
    """Seconds that a saccade takes: 2.2 ms per degree and 21 ms (Carpenter, Movements of the Eyes, 1988)."""
    return 0.0022 * abs(amplitude) + 0.021


def jump(times: np.ndarray, middle: float, amplitude: float) -> np.ndarray:
    """(N,) degrees: 0, then a saccade of minimum jerk (Flash and Hogan, 1985) around `middle`, then `amplitude`."""
    u = ((times - middle) / saccade_time(amplitude) + 0.5).clip(0, 1)
    return amplitude * (10 * u**3 - 15 * u**4 + 6 * u**5)


def clock(seconds: float, rate: float) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def noise(shape: tuple[int, ...], seed: int = 0, size: float = 0.01) -> np.ndarray:
    """Degrees; a good tracker has 0.01 from sample to sample."""
    return size * np.random.default_rng(seed).standard_normal(shape)


def spans(times: np.ndarray, rate: float) -> np.ndarray:
    return np.stack([times, times + 1 / rate], 1)
