"""What the eyes do: fixations, pursuit, saccades and their after-swing, blinks; one label per gaze sample.

`label` tells them all apart and is what the rest of the toolkit uses; `ivt`, `idt` and `engbert_kliegl` are the classic
detectors, which know two kinds each. All take degrees of visual angle (`mer.media.screen`), NaN where the eye was lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np

from mer.errors import UserError
from mer.media.gaze_signal import (
    BLINK_PAD,
    blinks,
    even,
    fill,
    local_line,
    pieces,
    rate_of,
    running_median,
    runs,
    velocity,
)


class Label(IntEnum):
    """Kinds of eye movement; NONE where the eye was lost or nothing lasted long enough."""

    NONE = 0
    FIXATION = 1
    SACCADE = 2
    PSO = 3  # post-saccadic oscillation: pupil and lens swing on when the eye has arrived
    PURSUIT = 4
    BLINK = 5


@dataclass(frozen=True)
class Detection:
    """Settings of `label`, the same for pictures, videos and moving targets.

    Attributes:
        window: seconds of gaze that a velocity is taken from.
        peak: deg/s above the background that a saccade reaches (30 is the threshold of Tobii's I-VT filter).
        edge: deg/s above the background where it begins and ends.
        deviations: both thresholds rise with noise: `peak` to at least so many median deviations of the velocity above
            its median (6 as in Engbert and Kliegl, 2003), `edge` to half as many.
        background: seconds; the running median of the velocity is the eye's slow motion, which a saccade rides on.
        shortest_saccade: seconds.
        dip: a saccade ends in the first valley after its peak that is lower than this share of it; what follows at speed
            is the after-swing.
        settle: seconds after a saccade within which a further, smaller burst belongs to its after-swing: a next saccade
            is not prepared that fast.
        shortest_fixation: seconds.
        drift_window: seconds over which slow motion is measured.
        drift: deg/s; slower, the eye rests.
        travel: degrees that a pursuit covers at least, corner to corner; resting eyes wander, but not so far.
        shortest_pursuit: seconds; also the longest rest within one.
        blink_pad: seconds by which a blink is wider than the loss of gaze, on both sides.
        blink_shortest, blink_longest: seconds of loss that make a blink.
    """

    window: float = 0.02
    peak: float = 30.0
    edge: float = 20.0
    deviations: float = 6.0
    background: float = 0.25
    shortest_saccade: float = 0.01
    dip: float = 0.5
    settle: float = 0.03
    shortest_fixation: float = 0.04
    drift_window: float = 0.2
    drift: float = 1.0
    travel: float = 0.8
    shortest_pursuit: float = 0.1
    blink_pad: float = BLINK_PAD
    blink_shortest: float = 0.01
    blink_longest: float = 0.5

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UserError(f"detection.{name} is {value!r}", "Use a number of 0 or more")
        if self.edge > self.peak:
            raise UserError(f"detection.edge {self.edge:g} above peak {self.peak:g}", "Let edge be at most peak")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Detection:
        """From YAML or a checkpoint."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise UserError(f"detection has no setting {unknown[0]!r}", f"It has {', '.join(sorted(known))}")
        return cls(**plain)


def label(times: np.ndarray, gaze: np.ndarray, settings: Detection | None = None) -> np.ndarray:
    """What the eyes did at each sample.

    Blinks are short losses, widened. Saccades are bursts of velocity above the eye's slow motion and above the noise, from
    where the velocity leaves `edge` to the first valley behind the peak; the rest of a burst, and smaller bursts right
    after, are post-saccadic oscillation, after Nystrom and Holmqvist (Behavior Research Methods 2010), who take thresholds
    from the noise likewise. What lies between is pursuit where the eye keeps drifting and gets somewhere (two of the four
    questions of Larsson et al., Biomedical Signal Processing and Control 2015), else fixation. The procedure as a whole is
    ours; `mer bench events` holds it against two human raters.

    Args:
        times: (N,) seconds, not falling; gaps and uneven steps are fine.
        gaze: (N, 2) degrees, NaN where lost.
        settings: None for the defaults.

    Returns:
        (N,) int8 of `Label`.
    """
    settings = settings or Detection()
    out = np.zeros(len(times), np.int8)
    if not len(times):
        return out
    rate = rate_of(times)
    for piece in pieces(times):
        level, place = even(times[piece], gaze[piece], rate)
        out[piece] = _labelled(level, rate, settings)[place]
    return out


def _labelled(gaze: np.ndarray, rate: float, settings: Detection) -> np.ndarray:
    lost = ~np.isfinite(gaze).all(1)
    blink, away = blinks(lost, rate, settings.blink_pad, settings.blink_shortest, settings.blink_longest)
    gaze = np.where((lost | blink | away)[:, None], np.nan, gaze)
    # What is left of the losses are glitches of a sample or two.
    gaze = fill(gaze, np.arange(len(gaze)) / rate, settings.blink_shortest + 2 / rate)
    speed = _speed(gaze, rate, settings)
    out = _bursts(speed, rate, settings)
    gone = ~np.isfinite(gaze).all(1)
    out[gone] = Label.NONE
    rests = runs((out == Label.NONE) & ~gone)
    rests = rests[(rests[:, 1] - rests[:, 0]) / rate >= settings.shortest_fixation - 1e-9]
    for (first, behind), follows in zip(rests, _pursuits(gaze, rests, rate, settings), strict=True):
        out[first:behind] = np.where(follows, Label.PURSUIT, Label.FIXATION)
    out[blink] = Label.BLINK
    return out


def _speed(gaze: np.ndarray, rate: float, settings: Detection) -> np.ndarray:
    """(N,) deg/s relative to the slow motion; NaN where unknown."""
    motion = velocity(gaze, rate, settings.window)
    if settings.background:
        motion = motion - running_median(motion, settings.background, rate)
    return np.hypot(*motion.T)


def _bursts(speed: np.ndarray, rate: float, settings: Detection) -> np.ndarray:
    """(N,) int8: saccades and their after-swing."""
    out = np.zeros(len(speed), np.int8)
    known = speed[np.isfinite(speed)]
    usual = float(np.median(known)) if len(known) else 0.0
    noise = 1.4826 * float(np.median(np.abs(known - usual))) if len(known) else 0.0
    peak = max(settings.peak, usual + settings.deviations * noise)
    edge = max(settings.edge, usual + settings.deviations / 2 * noise)
    settle = round(settings.settle * rate)
    ended, height = -len(speed) - settle, 0.0
    speed = np.nan_to_num(speed)
    for first, behind in runs(speed > edge):
        top = first + int(np.argmax(speed[first:behind]))
        if first - ended <= settle and speed[top] < height:
            out[ended:behind] = Label.PSO
            ended = behind
        elif speed[top] >= peak and (behind - first) / rate >= settings.shortest_saccade - 1e-9:
            rising = np.flatnonzero(np.diff(speed[top:behind]) > 0)
            valley = top + int(rising[0]) if len(rising) else behind
            arrived = valley + 1 if valley < behind and speed[valley] < settings.dip * speed[top] else behind
            out[first:arrived] = Label.SACCADE
            out[arrived:behind] = Label.PSO
            ended, height = behind, float(speed[top])
    return out


def _pursuits(gaze: np.ndarray, rests: np.ndarray, rate: float, settings: Detection) -> Iterator[np.ndarray]:
    """Per stretch between saccades, where the eye follows something: bool of the stretch's length."""
    if not len(rests):
        return
    # All stretches in one go, further apart than a window reaches.
    apart = np.full((round(settings.drift_window * rate) + 2, 2), np.nan)
    row = np.concatenate([part for first, behind in rests for part in (gaze[first:behind], apart)])
    lines = local_line(row, rate, settings.drift_window)
    shortest = settings.shortest_pursuit * rate
    begin = 0
    for size in rests[:, 1] - rests[:, 0]:
        slow, drift = (part[begin : begin + size] for part in lines)
        begin += size + len(apart)
        follows = np.nan_to_num(np.hypot(*drift.T)) > settings.drift
        for first, behind in runs(~follows):
            follows[first:behind] = behind - first < min(shortest, size)
        for first, behind in runs(follows):
            covered = np.hypot(*np.ptp(slow[first:behind], axis=0))
            follows[first:behind] = behind - first >= shortest and covered >= settings.travel
        yield follows


# -- Classic detectors -------------------------------------------------------------------------------------------------


def ivt(
    times: np.ndarray,
    gaze: np.ndarray,
    threshold: float = 30.0,
    shortest: float = 0.06,
    merge_time: float = 0.075,
    merge_angle: float = 0.5,
    window: float = 0.02,
) -> np.ndarray:
    """Identification by velocity threshold (Salvucci and Goldberg, ETRA 2000; steps of Tobii's filter, Olsen 2012).

    Args:
        times, gaze: as in `label`.
        threshold: deg/s; faster samples are saccades.
        shortest: seconds of a fixation; a shorter one is nothing.
        merge_time, merge_angle: seconds and degrees; fixations no further apart are one.
        window: seconds of the velocity.

    Returns:
        (N,) int8 of FIXATION, SACCADE and NONE.
    """

    def labelled(level: np.ndarray, rate: float) -> np.ndarray:
        level = fill(level, np.arange(len(level)) / rate)
        speed = np.hypot(*velocity(level, rate, window).T)
        out = np.where(speed > threshold, Label.SACCADE, Label.FIXATION).astype(np.int8)
        out[~np.isfinite(speed)] = Label.NONE
        before: tuple[int, int, np.ndarray] | None = None
        for first, behind in runs(out == Label.FIXATION):
            centre = level[first:behind].mean(0)
            if (
                before is not None
                and (first - before[1]) / rate < merge_time
                and np.hypot(*(centre - before[2])) < merge_angle
            ):
                out[before[1] : first] = Label.FIXATION
                first = before[0]
            before = (int(first), int(behind), np.nanmean(level[first:behind], 0))
        for first, behind in runs(out == Label.FIXATION):
            if (behind - first) / rate < shortest - 1e-9:
                out[first:behind] = Label.NONE
        return out

    return _evenly(times, gaze, labelled)


def idt(times: np.ndarray, gaze: np.ndarray, dispersion: float = 1.0, shortest: float = 0.1) -> np.ndarray:
    """Identification by dispersion threshold (Salvucci and Goldberg, ETRA 2000).

    A fixation is a stretch of at least `shortest` seconds whose width plus height is at most `dispersion` degrees.

    Returns:
        (N,) int8: FIXATION, SACCADE between fixations, NONE where lost.
    """

    def labelled(level: np.ndarray, rate: float) -> np.ndarray:
        there = np.isfinite(level).all(1)
        out = np.where(there, Label.SACCADE, Label.NONE).astype(np.int8)
        least = max(2, round(shortest * rate))
        for begin, end in runs(there):
            first = begin
            while first + least <= end:
                if np.ptp(level[first : first + least], axis=0).sum() > dispersion:
                    first += 1
                    continue
                rest = level[first:end]
                spread = (np.maximum.accumulate(rest) - np.minimum.accumulate(rest)).sum(1)
                behind = first + int(np.searchsorted(spread, dispersion, side="right"))  # it never shrinks
                out[first:behind] = Label.FIXATION
                first = behind
        return out

    return _evenly(times, gaze, labelled)


def engbert_kliegl(times: np.ndarray, gaze: np.ndarray, deviations: float = 6.0, shortest: float = 0.006) -> np.ndarray:
    """Saccades and microsaccades by a noise ellipse in velocity space (Engbert and Kliegl, Vision Research 2003).

    Velocities are the five-point differences of the paper; the threshold is `deviations` median-based deviations per axis.

    Returns:
        (N,) int8: SACCADE, FIXATION elsewhere, NONE where lost.
    """

    def labelled(level: np.ndarray, rate: float) -> np.ndarray:
        out = np.where(np.isfinite(level).all(1), Label.FIXATION, Label.NONE).astype(np.int8)
        if len(level) < 5:
            return out
        motion = np.full(level.shape, np.nan)
        motion[2:-2] = (level[4:] + level[3:-1] - level[1:-3] - level[:-4]) * rate / 6
        if not np.isfinite(motion).any():
            return out
        middle = np.nanmedian(motion, 0)
        deviation = np.sqrt(np.nanmedian((motion - middle) ** 2, 0))
        away = np.nan_to_num(motion / np.maximum(deviations * deviation, 1e-9))
        for first, behind in runs((away**2).sum(1) > 1):
            if (behind - first) / rate >= shortest - 1e-9:
                out[first:behind] = Label.SACCADE
        return out

    return _evenly(times, gaze, labelled)


def _evenly(times: np.ndarray, gaze: np.ndarray, labelled: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
    """Labels made on an even clock, for each sample."""
    out = np.zeros(len(times), np.int8)
    if len(times):
        rate = rate_of(times)
        for piece in pieces(times):
            level, place = even(times[piece], gaze[piece], rate)
            out[piece] = labelled(level, rate)[place]
    return out


# -- Events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Events:
    """Runs of one label, in order of time.

    Attributes:
        kind: (M,) int8 of `Label`, never NONE.
        first, behind: (M,) index of an event's first sample and the one behind its last.
        start, end: (M,) seconds.
        centre: (M, 2) degrees, mean of the gaze that was seen; NaN where none was, as in blinks.
        extent: (M, 2) degrees, width and height of what gaze covered; NaN likewise.
        way: (M, 2) degrees from the first to the last sample seen; NaN likewise. Of a saccade, from the sample before to
            the one behind: at low rates it has few samples of its own.
    """

    kind: np.ndarray
    first: np.ndarray
    behind: np.ndarray
    start: np.ndarray
    end: np.ndarray
    centre: np.ndarray
    extent: np.ndarray
    way: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def duration(self) -> np.ndarray:
        """(M,) seconds."""
        return self.end - self.start

    @property
    def amplitude(self) -> np.ndarray:
        """(M,) degrees from begin to end; of a saccade, its size."""
        return np.hypot(*self.way.T)

    def of(self, *kinds: Label) -> Events:
        """Those of some kinds."""
        chosen = np.isin(self.kind, kinds)
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


def events(spans: np.ndarray, gaze: np.ndarray, labels: np.ndarray) -> Events:
    """The events that labels make up. A gap in the spans ends one.

    Args:
        spans: (N, 2) seconds that each sample stands for.
        gaze: (N, 2) degrees, NaN where lost.
        labels: (N,) of `Label`.
    """
    count = len(labels)
    if not count:
        none, pair = np.zeros(0), np.zeros((0, 2))
        return Events(none.astype(np.int8), none.astype(int), none.astype(int), none, none, pair, pair, pair)
    torn = spans[1:, 0] - spans[:-1, 1] > 1.5 * np.median(spans[:, 1] - spans[:, 0])
    first = np.flatnonzero(np.concatenate([[True], (np.diff(labels) != 0) | torn]))
    behind = np.append(first[1:], count)
    there, place = np.isfinite(gaze).all(1), np.arange(count)
    seen = there[:, None]
    number = np.add.reduceat(there.astype(int), first)[:, None]
    centre = np.add.reduceat(np.where(seen, gaze, 0.0), first) / np.maximum(number, 1)
    extent = np.maximum.reduceat(np.where(seen, gaze, -np.inf), first) - np.minimum.reduceat(
        np.where(seen, gaze, np.inf), first
    )
    begin = np.minimum.reduceat(np.where(there, place, count - 1), first)
    end = np.maximum.reduceat(np.where(there, place, 0), first)
    saccade = labels[first] == Label.SACCADE
    begin = np.where(saccade & (first > 0) & there[first - 1], first - 1, begin)
    end = np.where(saccade & (behind < count) & there[behind % count], behind, end)
    some = number > 0
    centre, extent, way = (
        np.where(some, part, np.nan) for part in (centre, np.where(some, extent, 0), gaze[end] - gaze[begin])
    )
    start, stop = spans[first, 0].astype(np.float64), spans[behind - 1, 1].astype(np.float64)
    every = Events(labels[first].astype(np.int8), first, behind, start, stop, centre, extent, way)
    return every.of(*(kind for kind in Label if kind != Label.NONE))
