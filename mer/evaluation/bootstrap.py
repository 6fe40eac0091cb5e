"""Intervals and paired tests by resampling whole subjects (or clips), corrected for small samples.

Clips of one person resemble each other, so the subject is what is drawn. A resample is a vector of counts over the
units; all resamples together are one matrix product with the statistics of the units. The interval is the expanded
percentile interval of Hesterberg (2015), "What Teachers Should Know About the Bootstrap", The American Statistician 69,
371-386: a plain percentile interval is too narrow by a factor sqrt((n - 1) / n) and knows no t distribution.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from mer.errors import UserError
from mer.evaluation.metrics import Metric, metrics_of, statistics_of
from mer.evaluation.scores import Scores

MIN_UNITS = 10
LEVEL, DRAWS, SEED = 0.95, 2000, 20240229
_BLOCK = 4_000_000  # cells of the weight matrix that are in memory at once


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of its metric.

    Attributes:
        low, high: the ends.
        level: e.g. 0.95.
        unit: what was resampled.
        units: how many of them.
        subjects: distinct subjects among the rows, 0 = none known. With `unit` clip and some subjects the clips are not
            independent and the interval is too narrow.
        draws: resamples in which the metric was defined.
    """

    low: float
    high: float
    level: float
    unit: Literal["subject", "clip"]
    units: int
    subjects: int
    draws: int


@dataclass(frozen=True)
class MetricValue:
    """A number (NaN: not defined) with its interval (None: fewer than ten units, or no variation between them)."""

    value: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        value = None if np.isnan(self.value) else self.value
        return {"value": value, "interval": asdict(self.interval) if self.interval else None}


@dataclass(frozen=True, eq=False)
class Units:
    """What is resampled: `index` (N,) int says to which of `count` units a row belongs."""

    unit: Literal["subject", "clip"]
    index: NDArray[np.int64]
    count: int
    subjects: int

    @property
    def enough(self) -> bool:
        return self.count >= MIN_UNITS


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same clips.

    Attributes:
        metric: its name.
        a, b: each system with its interval.
        difference: a minus b, with the interval from resampling both alike.
        p_value: two-sided, for "no difference"; None with fewer than ten units.
        unit, units, subjects: what was resampled, as in `Interval`.
        level: of the intervals.
    """

    metric: str
    a: MetricValue
    b: MetricValue
    difference: MetricValue
    p_value: float | None
    unit: Literal["subject", "clip"]
    units: int
    subjects: int
    level: float


def resampling_units(scores: Scores) -> Units:
    """Subjects where every row has one and there are at least ten; otherwise clips (all rows of a `clip_id`)."""
    known = {s for s in scores.subject if s}
    by_subject = all(scores.subject) and len(known) >= MIN_UNITS
    names = scores.subject if by_subject else scores.clip_id
    unique, index = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return Units("subject" if by_subject else "clip", index, len(unique), len(known))


def resample(totals: ArrayLike, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Sums over units drawn with replacement.

    Args:
        totals: (units, ...) statistics that add up.
        draws: how many resamples, each of as many units as there are.
        seed: of the random numbers; the same seed gives the same resamples of the same units.

    Returns:
        (draws, ...).
    """
    totals = np.asarray(totals, dtype=np.float64)
    units, rng = len(totals), np.random.default_rng(seed)
    flat, sums = totals.reshape(units, -1), []
    step = max(1, _BLOCK // units)
    for size in (min(step, draws - done) for done in range(0, draws, step)):
        drawn = rng.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        sums.append(weights.astype(np.float64) @ flat)
    return np.concatenate(sums).reshape(draws, *totals.shape[1:])


def expanded_tail(units: int, level: float = LEVEL) -> float:
    """Share of resamples beyond each end: Phi(-sqrt(n / (n - 1)) t), t from Student with n - 1 (Hesterberg 2015)."""
    return float(ndtr(np.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 - level) / 2)))


def expanded_interval(values: ArrayLike, units: Units, level: float = LEVEL) -> Interval | None:
    """The interval from the metric of each resample.

    Args:
        values: (draws,); NaN where the metric was not defined, which is left out.
        units: what was resampled.
        level: between 0 and 1.

    Returns:
        None with fewer than ten units, where the metric is defined in less than half of the resamples, and where all
        resamples agree (e.g. no mistake at all): resampling cannot say how sure that is.
    """
    drawn = np.asarray(values, dtype=np.float64)
    known = drawn[~np.isnan(drawn)]
    if not units.enough or 2 * len(known) < len(drawn) or np.ptp(known) < 1e-12:
        return None
    tail = expanded_tail(units.count, level)
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(float(low), float(high), level, units.unit, units.count, units.subjects, len(known))


def bootstrap_metrics(
    scores: Scores, level: float = LEVEL, draws: int = DRAWS, seed: int = SEED
) -> dict[str, MetricValue]:
    """Every metric of the task (see `metrics_of`) on the labelled rows, with its interval."""
    scores = scores.select(scores.labelled)
    units = resampling_units(scores)
    totals = statistics_of(scores.space, scores.target, scores.predicted, units.index, units.count)
    drawn = resample(totals, draws, seed) if units.enough else None
    return {
        name: _value(metric, totals.sum(axis=0), drawn, units, level)
        for name, metric in metrics_of(scores.space).items()
    }


def paired_bootstrap(
    a: Scores, b: Scores, metric: str, level: float = LEVEL, draws: int = DRAWS, seed: int = SEED
) -> Comparison:
    """Compare two systems that scored the same clips; both see the same resamples.

    The p-value inverts the expanded percentile interval, so that it is below 1 - level where the interval of the
    difference leaves out 0 (our choice). The smaller tail is counted as (1 + count) / (1 + draws), hence never 0;
    with few units it cannot be very small (2,000 draws: 0.012 for ten subjects, 0.005 for twenty). Several seeds of a
    system are pooled.

    Args:
        a: labelled scores.
        b: labelled scores of the same clips, in any order.
        metric: a name from `metrics_of`.
        level: of the intervals.
        draws: as in `resample`.
        seed: as in `resample`.

    Raises:
        UserError: other label space, clips, labels or subjects; an unknown metric; no labels; clips that occur more
            often than others in one file.
    """
    a, b = _matched(a, b)
    known = metrics_of(a.space)
    if metric not in known:
        raise UserError(f"unknown metric {metric!r} for a {a.space.kind} task", f"Choose from {', '.join(known)}")
    function, units = known[metric], resampling_units(a)
    if not len(a):
        raise no_labels(a)
    both = np.stack(
        [
            statistics_of(s.space, s.target, s.predicted, resampling_units(s).index, units.count)
            for s in (a, b)  # the units have the same names in both, hence the same numbers
        ],
        axis=1,
    )
    totals = both.sum(axis=0)
    drawn = resample(both, draws, seed) if units.enough else None
    values = [_value(function, totals[i], None if drawn is None else drawn[:, i], units, level) for i in (0, 1)]
    gap, p_value = values[0].value - values[1].value, None
    interval = None
    if drawn is not None:
        each = function(drawn)
        gaps = each[:, 0] - each[:, 1]
        interval, p_value = expanded_interval(gaps, units, level), _two_sided(gaps, units.count)
    return Comparison(
        metric,
        values[0],
        values[1],
        MetricValue(gap, interval),
        p_value,
        units.unit,
        units.count,
        units.subjects,
        level,
    )


def _value(
    metric: Metric, totals: NDArray[Any], drawn: NDArray[np.float64] | None, units: Units, level: float
) -> MetricValue:
    interval = expanded_interval(metric(drawn), units, level) if drawn is not None else None
    return MetricValue(float(metric(totals)), interval)


def _two_sided(gaps: NDArray[np.float64], units: int) -> float | None:
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps):
        return None
    slack = 1e-12  # two equal systems may differ by rounding
    count = min((gaps <= slack).sum(), (gaps >= -slack).sum())
    tail = min((1 + count) / (1 + len(gaps)), 0.5)
    return float(2 * stdtr(units - 1, ndtri(tail) * np.sqrt((units - 1) / units)))


def no_labels(scores: Scores) -> UserError:
    """The error for a file of predictions on clips that nobody has labelled."""
    return UserError(
        f"{scores.source or 'scores'}: none of the {len(scores)} rows has a label",
        f"Fill in the column {'label' if scores.space.kind == 'classes' else 'y_' + scores.space.names[0]}, "
        "or predict on a split that has labels",
    )


_Key = tuple[str, str]


def _keys(scores: Scores) -> list[_Key]:
    return [(c, "" if np.isnan(s) else f"{s:.3f}") for c, s in zip(scores.clip_id, scores.start, strict=True)]


def _matched(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """The labelled rows of both, with the same subjects; refuses what cannot be compared."""
    names = (a.source or "A", b.source or "B")
    if a.space != b.space:
        raise UserError(
            f"{names[0]} has the label space {a.space.name} ({', '.join(a.space.names)}), "
            f"{names[1]} has {b.space.name} ({', '.join(b.space.names)})",
            "Compare scores of one label space",
        )
    keys = (_keys(a), _keys(b))
    for one, other in ((0, 1), (1, 0)):
        there = set(keys[other])
        missing = sorted({key for key in keys[one] if key not in there})
        if missing:
            first = ", ".join(clip + (f" at {start} s" if start else "") for clip, start in missing[:3])
            raise UserError(
                f"{len(missing)} clip(s) of {names[one]} are not in {names[other]}: {first}",
                "Score the same clips with both systems",
            )
    for name, some in zip(names, keys, strict=True):
        often = Counter(some)
        if len(set(often.values())) > 1:
            clip = max(often, key=lambda key: often[key])[0]
            raise UserError(
                f"{name}: clip {clip!r} has more rows than other clips", "Give every clip the same seeds and models"
            )
    subjects = _agreeing(a, b, keys, names)
    a = replace(a, subject=[subjects[key] for key in keys[0]])
    b = replace(b, subject=[subjects[key] for key in keys[1]])
    if not a.labelled.any():
        raise no_labels(a)
    return a.select(a.labelled), b.select(b.labelled)


def _agreeing(a: Scores, b: Scores, keys: tuple[list[_Key], list[_Key]], names: tuple[str, str]) -> dict[_Key, str]:
    """Subject of each clip; refuses labels or subjects that differ."""
    targets: dict[_Key, bytes] = {}
    subjects: dict[_Key, str] = {}
    for scores, some in zip((a, b), keys, strict=True):
        truth = np.nan_to_num(scores.target.astype(np.float64), nan=-9.0e99).round(6) + 0.0  # no -0.0
        for row, key in enumerate(some):
            if targets.setdefault(key, truth[row].tobytes()) != truth[row].tobytes():
                raise UserError(
                    f"clip {key[0]!r} has another label in {names[0]} than in {names[1]}",
                    "Score both systems against the same labels",
                )
            subject = scores.subject[row]
            if subject and subjects.get(key, "") not in ("", subject):
                raise UserError(
                    f"clip {key[0]!r} has the subject {subjects[key]!r} in {names[0]} and {subject!r} in {names[1]}",
                    "Score both systems with the same manifest",
                )
            subjects[key] = subject or subjects.get(key, "")
    return subjects
