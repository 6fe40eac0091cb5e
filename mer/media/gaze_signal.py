"""Gaze and pupil signals cleaned: an even clock, blinks, short gaps, local lines for smoothing and velocity.

NumPy in, NumPy out. Lost samples are NaN and stay NaN unless a function says that it fills them; nothing here fails on an
empty signal, on one that is lost throughout, or at its ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

# s; before and after a loss the lid already covers a part of the pupil, and gaze is not where it seems.
BLINK_PAD = 0.05
# s of loss; a shorter one is a glitch, a longer one a lost eye or a turned head.
BLINK_SHORTEST, BLINK_LONGEST = 0.01, 0.5
BLINK_JOIN = 0.02  # s between losses that are one
GAP = 0.075  # s; longest gap that is filled, as in Tobii's I-VT filter (Olsen, 2012)
FASTEST = 2000.0  # Hz; no eye tracker in use samples faster
PUPIL_RANGE = (1.5, 9.0)  # mm
PUPIL_CUTOFF = 4.0  # Hz; a pupil does not follow faster


def runs(where: np.ndarray) -> np.ndarray:
    """(M, 2) first index and index behind the last of each run of True in (N,) bool."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]])))
    return edge.reshape(-1, 2)


def rate_of(times: np.ndarray) -> float:
    """Samples per second of (N,) rising times with gaps: the mean of steps up to 1.5 medians; 1 where there is no step.

    `FASTEST` at most: shorter steps are of clocks that were read when samples came in, several at once.
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return 1.0
    return min(FASTEST, float(1.0 / steps[steps <= 1.5 * np.median(steps)].mean()))


def pieces(times: np.ndarray, longest: float = 1.0) -> Iterator[slice]:
    """Stretches of (N,) times without a gap of more than `longest` seconds."""
    cuts = np.flatnonzero(np.diff(times) > longest) + 1
    for first, behind in zip([0, *cuts], [*cuts, len(times)], strict=True):
        if behind > first:
            yield slice(int(first), int(behind))


def even(times: np.ndarray, values: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Values on an even clock that begins with the first sample.

    Linear between samples that are there; NaN where the nearest sample is NaN, or more than 1.5 periods away.

    Args:
        times: (N,) seconds, not falling, N at least 1.
        values: (N, C).
        rate: of the clock, Hz.

    Returns:
        (M, C) values, and (N,) the place on the clock of each sample.
    """
    place = np.rint((times - times[0]) * rate).astype(int)
    if len(times) == place[-1] + 1 and np.abs((times - times[0]) * rate - place).max() < 0.3:
        return np.array(values, np.float64), place
    clock = np.arange(place[-1] + 1) / rate + times[0]
    after = np.searchsorted(times, clock).clip(1, len(times) - 1)
    nearest = np.where(clock - times[after - 1] <= times[after] - clock, after - 1, after)
    far = np.abs(times[nearest] - clock) * rate > 1.5
    out = np.full((len(clock), values.shape[1]), np.nan)
    for channel, column in enumerate(np.asarray(values, np.float64).T):
        there = np.isfinite(column)
        if there.any():
            out[:, channel] = np.interp(clock, times[there], column[there])
            out[far | ~there[nearest], channel] = np.nan
    return out, place


def local_line(values: np.ndarray, rate: float, window: float) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares line around each sample, from the samples that are there: smoothed value and rate of change.

    In the middle of a signal these are the Savitzky-Golay filters of first order; near ends and gaps the window is
    one-sided, and nothing needs to be made up.

    Args:
        values: (N,) evenly sampled, NaN where lost; or (N, C), a sample being lost where any of its columns is.
        rate: Hz.
        window: seconds; three samples at least.

    Returns:
        of the same shape in the unit of values and per second; NaN where a sample is lost, the latter also where it is
        alone.
    """
    half = max(1, round((window * rate - 1) / 2))
    columns = values if values.ndim == 2 else values[:, None]
    there = np.isfinite(columns).all(1)
    x = np.where(there[:, None], columns, 0.0)
    middle = x.sum(0) / max(int(there.sum()), 1)  # small numbers keep their digits
    x = np.where(there[:, None], x - middle, 0.0)
    offset = np.arange(-half, half + 1, dtype=np.float64)
    n, t, tt = (_around(there.astype(np.float64), offset**power)[:, None] for power in (0, 1, 2))
    sx, stx = (np.stack([_around(column, offset**power) for column in x.T], 1) if x.size else x for power in (0, 1))
    some = np.maximum(n, 1)
    spread = tt - t**2 / some
    slope = np.where(spread > 0, (stx - t * sx / some) / np.where(spread > 0, spread, 1), 0.0)
    value = np.where(there[:, None], sx / some - slope * t / some + middle, np.nan)
    slope = np.where(there[:, None] & (spread > 0), slope * rate, np.nan)
    return value.reshape(values.shape), slope.reshape(values.shape)


def smooth(values: np.ndarray, rate: float, window: float = 0.02) -> np.ndarray:
    """(N,) or (N, C), each column smoothed by local lines; what is lost stays lost."""
    if values.ndim == 1 or not values.size:
        return local_line(values, rate, window)[0]
    return np.stack([local_line(column, rate, window)[0] for column in values.T], 1)


def velocity(gaze: np.ndarray, rate: float, window: float = 0.02) -> np.ndarray:
    """(N, 2) degrees to (N, 2) degrees per second; 20 ms smooth the noise of 500 Hz and keep a saccade's peak."""
    return local_line(gaze, rate, window)[1]


def fill(values: np.ndarray, times: np.ndarray, longest: float = GAP) -> np.ndarray:
    """(N,) or (N, C) with gaps of up to `longest` seconds filled linearly; beginning and end stay as they are.

    The length of a gap is that between the samples around it.
    """
    if values.ndim == 2:
        return np.stack([fill(column, times, longest) for column in values.T], 1) if values.size else values.copy()
    out = np.array(values, np.float64)
    there = np.isfinite(out)
    for first, behind in runs(~there):
        if first > 0 and behind < len(out) and times[behind] - times[first - 1] <= longest + 1e-9:
            inside = slice(first, behind)
            out[inside] = np.interp(times[inside], times[[first - 1, behind]], [values[first - 1], values[behind]])
    return out


def blinks(
    lost: np.ndarray,
    rate: float,
    pad: float = BLINK_PAD,
    shortest: float = BLINK_SHORTEST,
    longest: float = BLINK_LONGEST,
) -> tuple[np.ndarray, np.ndarray]:
    """Which lost samples are blinks, with what the lid spoils before and after, and which are a lost eye.

    Losses up to 20 ms apart count as one.

    Args:
        lost: (N,) bool, evenly sampled.
        rate: Hz.
        pad: seconds by which a loss is widened on both sides.
        shortest, longest: seconds of loss that make a blink, before it is widened.

    Returns:
        blink (N,) bool, and away (N,) bool: losses longer than a blink, widened as well. Shorter ones are in neither.
    """
    blink, away = np.zeros(len(lost), bool), np.zeros(len(lost), bool)
    joined = lost.copy()
    for first, behind in runs(~lost):
        if first > 0 and behind < len(lost) and (behind - first) / rate <= BLINK_JOIN:
            joined[first:behind] = True
    more = round(pad * rate)
    for first, behind in runs(joined):
        if (behind - first) / rate < shortest - 1e-9:
            continue
        kind = blink if (behind - first) / rate <= longest + 1e-9 else away
        kind[max(0, first - more) : behind + more] = True
    return blink & ~away, away


def blinks_of_openness(
    times: np.ndarray, openness: np.ndarray, shut: float = 0.5, longest: float = BLINK_LONGEST
) -> np.ndarray:
    """(M, 2) seconds: begin and end of blinks, from how far an eye is open.

    A blink is a dip below `shut` times what is usual around it (the median of four seconds, which no blink moves), no
    longer than `longest`. NaN counts as shut: trackers lose an eye that is closing.

    Args:
        times: (N,) seconds.
        openness: (N,) in any unit, larger where the eye is more open; the mean of the eyes, say.
        shut: share of the usual openness.
        longest: seconds.
    """
    if not len(times):
        return np.zeros((0, 2))
    rate = rate_of(times)
    found = []
    for piece in pieces(times):
        level, _ = even(times[piece], openness[piece, None], rate)
        usual = running_median(level, 4.0, rate)[:, 0]
        closed = ~(level[:, 0] >= shut * usual) & np.isfinite(usual)
        for first, behind in runs(closed):
            if (behind - first) / rate <= longest:
                found.append(times[piece.start] + np.array([first, behind]) / rate)
    return np.array(found).reshape(-1, 2)


def running_median(values: np.ndarray, window: float, rate: float) -> np.ndarray:
    """(N, C) medians over `window` seconds around each sample, of those that are there; NaN where there is none.

    Medians are taken at a fifth of the window's length and lines drawn between them: what is slow enough for such a
    window is slow enough for that, and an hour at 1000 Hz stays a matter of seconds.
    """
    count = len(values)
    step = max(1, int(window * rate / 5))
    size = max(1, round(window * rate)) // 2 * 2 + 1
    if not count:
        return np.array(values, np.float64)
    padded = np.pad(np.asarray(values, np.float64), ((size // 2, size // 2), (0, 0)), constant_values=np.nan)
    places = np.unique(np.append(np.arange(0, count, step), count - 1))
    views = np.lib.stride_tricks.sliding_window_view(padded, size, axis=0)[places]  # (M, C, size)
    ordered = np.sort(views, axis=2)  # NaN last
    n = np.isfinite(ordered).sum(2, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(n - 1, 0) // 2, 2)[..., 0]
    high = np.take_along_axis(ordered, n // 2 * (n > 0), 2)[..., 0]
    middle = np.where(n[..., 0] % 2 == 1, low, (low + np.where(n[..., 0] > 0, high, 0)) / 2)
    out = np.full(values.shape, np.nan)
    for channel in range(values.shape[1]):
        there = np.isfinite(middle[:, channel])
        if there.any():
            out[:, channel] = np.interp(np.arange(count), places[there], middle[there, channel])
    return out


def clean_pupil(
    times: np.ndarray,
    diameter: np.ndarray,
    deviations: float = 16.0,
    pad: float = BLINK_PAD,
    longest: float = 0.5,
    cutoff: float | None = PUPIL_CUTOFF,
) -> np.ndarray:
    """A pupil's diameter without blinks, artefacts and noise.

    What lies outside 1.5 to 9 mm goes; what changes faster than the median speed and `deviations` median deviations of it
    (Kret and Sjak-Shie, Behavior Research Methods 2019, take 16); what stands within `pad` of a loss; islands shorter than
    50 ms between losses. Then gaps of up to `longest` seconds are filled linearly and the signal is smoothed by a Gaussian
    that halves the power at `cutoff` (it has no ripples at ends and gaps, where an IIR filter has).

    Args:
        times: (N,) seconds, not falling.
        diameter: (N,) mm, NaN where lost.
        cutoff: Hz; None leaves the noise.

    Returns:
        (N,) mm, NaN where nothing is known.
    """
    out = np.full(len(times), np.nan)
    if not len(times):
        return out
    rate = rate_of(times)
    low, high = PUPIL_RANGE
    inside = np.where((diameter >= low) & (diameter <= high), diameter, np.nan)
    steps = np.concatenate([[np.nan], np.diff(inside) / np.maximum(np.diff(times), 0.5 / rate), [np.nan]])
    speed = np.fmax(np.abs(steps[:-1]), np.abs(steps[1:]))  # the greater of the way here and the way on
    if np.isfinite(speed).any():
        usual = np.nanmedian(speed)
        inside[speed > usual + deviations * max(float(np.nanmedian(np.abs(speed - usual))), 1e-6)] = np.nan
    for piece in pieces(times):
        level, place = even(times[piece], inside[piece, None], rate)
        clock = np.arange(len(level)) / rate
        lost = ~np.isfinite(level[:, 0])
        for first, behind in runs(lost):
            if (behind - first) / rate >= BLINK_SHORTEST:
                level[max(0, first - round(pad * rate)) : behind + round(pad * rate)] = np.nan
        there = np.isfinite(level[:, 0])
        for first, behind in runs(there):
            if (behind - first) / rate < 0.05 and (first > 0 or behind < len(there)):
                level[first:behind] = np.nan
        level = fill(level, clock, longest)
        if cutoff is not None:
            level = low_pass(level, rate, cutoff)
        out[piece] = level[place, 0]
    return out


def low_pass(values: np.ndarray, rate: float, cutoff: float) -> np.ndarray:
    """(N, C) smoothed by a Gaussian that halves the power at `cutoff` Hz, over the samples that are there."""
    deviation = rate * math.sqrt(math.log(2)) / (2 * math.pi * cutoff)
    reach = max(1, math.ceil(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    out = np.full(values.shape, np.nan)
    for channel, column in enumerate(values.T):
        there = np.isfinite(column)
        weight = _around(there.astype(np.float64), kernel)
        total = _around(np.where(there, column, 0.0), kernel)
        out[there, channel] = total[there] / weight[there]
    return out


def standardised(values: np.ndarray) -> np.ndarray:
    """(N,) or (N, C) less their mean, over their standard deviation, per column; NaN stays; a constant becomes 0."""
    there = np.isfinite(values)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, values, 0).sum(0) / count
    centred = np.where(there, values - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(0) / count)
    return np.where(there, centred / np.where(deviation > 1e-9, deviation, 1.0), np.nan)


def _around(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) sums over `weights` (odd length) laid around each sample; beyond the ends is nothing."""
    reach = len(weights) // 2
    return np.convolve(values, weights[::-1], "full")[reach : reach + len(values)] if len(values) else values.copy()
