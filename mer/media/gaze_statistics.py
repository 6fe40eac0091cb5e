"""Statistics of gaze and pupils per window: the 33 numbers that work on the SEED corpora uses, written anew.

The set is that of SEED-VII (Jiang, Liu, Zheng, Lu, IEEE Transactions on Affective Computing 2024). Where its public code
contradicts itself the choice is ours: a saccade's latency is the time since the saccade before (theirs runs from a saccade's
begin to its own end), no feature is read that nothing produces, the mean is taken off a pupil before its spectrum (a band
from 0.05 Hz would else hold little but the mean); lengths are in degrees, times in seconds, rates per second.
"""

from __future__ import annotations

import numpy as np

from mer.media.gaze_events import Detection, Events, Label, events, label
from mer.media.gaze_signal import clean_pupil

BANDS = ((0.05, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1.0))  # Hz
PUPIL_FEATURES = (
    *(f"pupil_{side}_entropy_{low:g}_{high:g}" for side in ("left", "right") for low, high in BANDS),
    "pupil_left_mean", "pupil_left_std", "pupil_right_mean", "pupil_right_std",
)  # fmt: skip
WINDOW_FEATURES = (
    "fixation_duration_mean", "fixation_duration_std", "dispersion_x_mean", "dispersion_y_mean", "dispersion_x_std",
    "dispersion_y_std", "saccade_duration_mean", "saccade_duration_std", "saccade_amplitude_mean",
    "saccade_amplitude_std", "blink_duration_mean", "blink_duration_std",
)  # fmt: skip
CLIP_FEATURES = (
    "clip_blink_rate", "clip_fixation_rate", "clip_fixation_longest", "clip_dispersion_max", "clip_dispersion_total",
    "clip_saccade_rate", "clip_saccade_duration_mean", "clip_saccade_amplitude_mean", "clip_saccade_latency_mean",
)  # fmt: skip
FEATURES = (*PUPIL_FEATURES, *WINDOW_FEATURES, *CLIP_FEATURES)
_PUPIL_RATE = 20.0  # Hz; a pupil that was smoothed at 4 Hz holds nothing faster
_POWER_FLOOR = 1e-6  # mm² / Hz


def statistics(
    spans: np.ndarray,
    gaze: np.ndarray,
    pupils: np.ndarray,
    windows: np.ndarray,
    settings: Detection | None = None,
) -> np.ndarray:
    """The numbers named in `FEATURES`, per window.

    A fixation here is any stretch in which the eye holds on to something, pursuit included; its dispersion is the width and
    height of what gaze covered. An event counts for the window that its middle lies in. What has no value (the size of
    saccades where there was none) is 0.

    Args:
        spans: (N, 2) seconds that the samples stand for.
        gaze: (N, 2) degrees, NaN where lost.
        pupils: (N, 2) mm, left and right, NaN where lost.
        windows: (W, 2) seconds.
        settings: of the detection of events.

    Returns:
        (W, 33) float64.
    """
    times = spans.mean(1)
    found = events(spans, gaze, label(times, gaze, settings))
    rows = np.zeros((len(windows), len(FEATURES)))
    clean = [clean_pupil(times, pupil) for pupil in pupils.T]
    whole = _of_clip(found, float(spans[-1, 1] - spans[0, 0]) if len(spans) else 0.0)
    for row, (begin, end) in zip(rows, windows, strict=True):
        row[:] = [*_of_pupils(times, clean, begin, end), *_of_window(found, begin, end), *whole]
    return np.nan_to_num(rows)


def kalman_smooth(rows: np.ndarray, drift: float = 1e-3, noise: float = 1.0) -> np.ndarray:
    """(W, F) features smoothed over neighbouring windows, each as a random walk seen through noise.

    The linear dynamical system of the SEED work: Kalman filter forward, Rauch-Tung-Striebel smoother backward.

    Args:
        drift: variance of a step from window to window.
        noise: variance of what is seen of it.
    """
    mean, ahead = np.array(rows, np.float64), np.zeros(len(rows))
    variance = np.zeros(len(rows))
    for k in range(len(rows)):
        ahead[k] = noise if k == 0 else variance[k - 1] + drift  # before the first window: as unsure as one look at it
        before = rows[0] if k == 0 else mean[k - 1]
        gain = ahead[k] / (ahead[k] + noise)
        mean[k] = before + gain * (rows[k] - before)
        variance[k] = (1 - gain) * ahead[k]
    for k in range(len(rows) - 2, -1, -1):
        mean[k] += variance[k] / ahead[k + 1] * (mean[k + 1] - mean[k])
    return mean


def _of_pupils(times: np.ndarray, pupils: list[np.ndarray], begin: float, end: float) -> list[float]:
    clock = np.arange(begin, end, 1 / _PUPIL_RATE)
    entropies, moments = [], []
    for pupil in pupils:
        inside = (times >= begin) & (times < end) & np.isfinite(pupil)
        seen = pupil[inside]
        moments += [float(seen.mean()), float(seen.std())] if len(seen) else [0.0, 0.0]
        entropies += _entropies(np.interp(clock, times[inside], seen)) if len(seen) else [0.0] * len(BANDS)
    return [*entropies, *moments]


def _entropies(pupil: np.ndarray) -> list[float]:
    """Differential entropy per band: the binary logarithm of its mean power density, up to a constant that of a Gaussian.

    The spectrum is drawn finely by zero padding; a window of a few seconds cannot resolve the lowest bands all the same.
    """
    taper = np.hanning(len(pupil) + 2)[1:-1]
    power = np.abs(np.fft.rfft((pupil - pupil.mean()) * taper, n=max(len(pupil), round(40 * _PUPIL_RATE)))) ** 2
    power /= _PUPIL_RATE * (taper**2).sum()
    frequency = np.linspace(0, _PUPIL_RATE / 2, len(power))
    return [float(np.log2(power[(frequency >= low) & (frequency < high)].mean() + _POWER_FLOOR)) for low, high in BANDS]


def _of_window(found: Events, begin: float, end: float) -> list[float]:
    middle = (found.start + found.end) / 2
    here = (middle >= begin) & (middle < end)
    held = here & _holding(found)
    saccade, blink = here & (found.kind == Label.SACCADE), here & (found.kind == Label.BLINK)
    x, y = _moments(found.extent[held, 0]), _moments(found.extent[held, 1])
    return [
        *_moments(found.duration[held]), x[0], y[0], x[1], y[1], *_moments(found.duration[saccade]),
        *_moments(found.amplitude[saccade]), *_moments(found.duration[blink]),
    ]  # fmt: skip


def _of_clip(found: Events, duration: float) -> list[float]:
    held, saccades = found.of(Label.FIXATION, Label.PURSUIT), found.of(Label.SACCADE)
    dispersion = held.extent.sum(1)
    per_second = 1 / duration if duration > 0 else 0.0
    return [
        int((found.kind == Label.BLINK).sum()) * per_second, len(held) * per_second, float(held.duration.max(initial=0)),
        float(dispersion.max(initial=0)), float(dispersion.sum()), len(saccades) * per_second,
        _moments(saccades.duration)[0], _moments(saccades.amplitude)[0],
        _moments(saccades.start[1:] - saccades.end[:-1])[0],
    ]  # fmt: skip


def _holding(found: Events) -> np.ndarray:
    return (found.kind == Label.FIXATION) | (found.kind == Label.PURSUIT)


def _moments(values: np.ndarray) -> tuple[float, float]:
    return (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
