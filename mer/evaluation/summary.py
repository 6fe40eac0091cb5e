"""One set of scores as numbers that can be read: metrics with intervals, trivial baselines, warnings, a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer.errors import UserError
from mer.evaluation.bootstrap import (
    DRAWS,
    LEVEL,
    SEED,
    MetricValue,
    Units,
    bootstrap_metrics,
    no_labels,
    resampling_units,
)
from mer.evaluation.metrics import ClassTable, metrics_of, statistics_of
from mer.evaluation.scores import Scores
from mer.labels import LabelSpace

TITLES = {"war": "WAR", "uar": "UAR", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}
TITLES |= {"ccc": "CCC", "pearson": "Pearson", "mae": "MAE", "rmse": "RMSE"}


_TERMINAL = 160  # characters that a confusion matrix may be wide
_CONFUSIONS = 12


@dataclass(frozen=True)
class Baseline:
    """What knowing nothing of the clip is worth.

    Attributes:
        rule: the constant answer in words, and where it was taken from.
        metrics: as in `Evaluation.metrics`; NaN where not defined.
    """

    rule: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        task, space, protocol: as in `Scores`.
        n: labelled rows, the ones that count.
        unlabelled: rows left out.
        clips: distinct clips among the n rows.
        subjects: distinct subjects among the n rows, 0 = none known.
        unit: what intervals are resampled over (if there are any), `subject` or `clip`.
        level: of the intervals.
        metrics: name to value, fractions.
        baselines: `majority` (classes), `every_label` (multilabel) or `mean` (continuous).
        confusion: (C, C) counts, rows are the truth; None for other kinds.
        classes: table of classes or labels; None for continuous tasks.
        collapsed: every row gets the same answer although the truth varies.
        warnings: sentences a reader of the numbers must know.
    """

    task: str
    space: LabelSpace
    protocol: str
    n: int
    unlabelled: int
    clips: int
    subjects: int
    unit: str
    level: float
    metrics: Mapping[str, MetricValue]
    baselines: Mapping[str, Baseline]
    confusion: NDArray[np.int64] | None
    classes: ClassTable | None
    collapsed: bool
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None where a number is not defined."""
        plain = ("task", "protocol", "n", "unlabelled", "clips", "subjects", "unit", "level", "collapsed")
        return {
            **{name: getattr(self, name) for name in plain},
            "space": self.space.to_dict(),
            "metrics": {name: value.to_dict() for name, value in self.metrics.items()},
            "baselines": {
                name: {"rule": b.rule, "metrics": {k: None if np.isnan(v) else v for k, v in b.metrics.items()}}
                for name, b in self.baselines.items()
            },
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "classes": None if self.classes is None else self.classes.to_dict(),
            "warnings": list(self.warnings),
        }

    def table(self, *, details: bool = True) -> str:
        """Text for a terminal. Classes and labels in percent, continuous metrics as they are.

        Args:
            details: also the classes and the confusion matrix.
        """
        lines = [self._headline()]
        width = max(len(title(name)) for name in self.metrics)
        left = {name: f"{title(name):<{width}}  {self.show(name)}" for name in self.metrics}
        pad = max(map(len, left.values()))
        for name, text in left.items():
            beside = [f"{k.replace('_', ' ')} {number(b.metrics[name], self.space)}" for k, b in self.baselines.items()]
            lines.append(f"  {text:<{pad}}   ({', '.join(beside)})")
        lines += [f"  baseline {name.replace('_', ' ')}: {b.rule}" for name, b in self.baselines.items()]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        if details and self.classes is not None:
            lines += ["", *_class_lines(self.classes)]
        if details and self.confusion is not None:
            lines += ["", *_confusion_lines(self.confusion, self.space.names)]
        return "\n".join(lines)

    def show(self, metric: str) -> str:
        """One number as it should be quoted, e.g. `78.5 [74.1, 82.3] over 19 subjects`."""
        return show(self.metrics[metric], self.space)

    def _headline(self) -> str:
        rows = f"{self.n} rows of {_many(self.clips, 'clip')}" if self.n != self.clips else _many(self.clips, "clip")
        people = _many(self.subjects, "subject") if self.subjects else "subjects not known"
        left_out = f", {self.unlabelled} unlabelled left out" if self.unlabelled else ""
        scale = "" if self.space.kind == "continuous" else ", percent"
        protocol = self.protocol or "not stated"
        return (
            f"{self.task} ({self.space.name}), protocol: {protocol}. {rows}, {people}{left_out}. "
            f"[{100 * self.level:g} % intervals{scale}]"
        )


def evaluate(
    scores: Scores,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = SEED,
    train_counts: Mapping[str, int] | None = None,
) -> Evaluation:
    """Score the labelled rows.

    Args:
        scores: any kind of task. Rows of several seeds or models are pooled.
        level: of the intervals, between 0 and 1.
        draws: of the bootstrap, see `bootstrap.resample`.
        seed: of the bootstrap.
        train_counts: class name to number of training clips, for the majority baseline of a class task; without it the
            majority of the evaluated rows is taken (a little too good) and the baseline says so.

    Raises:
        UserError: no row has a label, or `train_counts` names a class that is not in the space.
    """
    rows = scores.select(scores.labelled)
    if not len(rows):
        raise no_labels(scores)
    space, units = scores.space, resampling_units(rows)
    totals = statistics_of(space, rows.target, rows.predicted, np.zeros(len(rows), dtype=np.int64), 1)[0]
    table = None
    if space.kind == "classes":
        table = ClassTable.from_confusion(totals, space.names)
    elif space.kind == "multilabel":
        table = ClassTable.from_counts(totals, space.names)
    collapsed = _constant(rows.predicted) and not _constant(rows.target)
    return Evaluation(
        task=scores.task,
        space=space,
        protocol=scores.protocol,
        n=len(rows),
        unlabelled=len(scores) - len(rows),
        clips=len(set(rows.clip_id)),
        subjects=units.subjects,
        unit=units.unit,
        level=level,
        metrics=bootstrap_metrics(rows, level, draws, seed),
        baselines=_baselines(rows, train_counts),
        confusion=totals if space.kind == "classes" else None,
        classes=table,
        collapsed=collapsed,
        warnings=tuple(_warnings(rows, units, collapsed)),
    )


def show(value: MetricValue, space: LabelSpace) -> str:
    """A number with its interval and what that was taken over; says so where there is none."""
    text, interval = number(value.value, space), value.interval
    if interval is None:
        return f"{text} (no interval)"
    ends = f"[{number(interval.low, space)}, {number(interval.high, space)}]"
    return f"{text} {ends} over {_many(interval.units, interval.unit)}"


def number(value: float, space: LabelSpace, *, sign: bool = False) -> str:
    """Percent with one decimal for classes and labels, three decimals for a continuous task; `n/a` for NaN."""
    if np.isnan(value):
        return "n/a"
    decimals = 3 if space.kind == "continuous" else 1
    rounded = round(value if space.kind == "continuous" else 100 * value, decimals) + 0.0  # no -0.0
    return f"{rounded:{'+' if sign else ''}.{decimals}f}"


def title(metric: str) -> str:
    """The name of a metric as people write it: `uar` -> `UAR`, `ccc_valence` -> `CCC valence`."""
    if metric in TITLES:
        return TITLES[metric]
    base, _, dimension = metric.partition("_")
    return f"{TITLES.get(base, base)} {dimension}".rstrip()


def dependence_warning(units: Units) -> str | None:
    """What to say where clips were resampled although people lie behind them."""
    if units.unit == "subject" or not units.subjects or not units.enough:
        return None
    return (
        f"the intervals resample {_many(units.count, 'clip')} of {_many(units.subjects, 'known subject')}; "
        "clips of one person are not independent, so the intervals are too narrow"
    )


def _warnings(rows: Scores, units: Units, collapsed: bool) -> list[str]:
    found = []
    if collapsed and rows.space.kind == "classes":
        found.append(f"collapsed: every row is decided {rows.space.names[rows.predicted[0]]!r}")
    elif collapsed:
        found.append("collapsed: every row gets the same answer")
    if not units.enough:
        found.append(f"{_many(units.count, units.unit)}: too few for an interval (ten are needed)")
    dependent = dependence_warning(units)
    return [*found, dependent] if dependent else found


def _constant(values: NDArray[Any]) -> bool:
    known = values.astype(np.float64)
    return len(known) > 1 and bool(np.all((known == known[0]) | np.isnan(known)))


def _baselines(rows: Scores, train_counts: Mapping[str, int] | None) -> dict[str, Baseline]:
    space, target = rows.space, rows.target
    if space.kind == "classes":
        counts = np.bincount(target, minlength=len(space))
        source = "of the evaluated rows"
        if train_counts is not None:
            counts = np.zeros(len(space), dtype=np.int64)
            for name, count in train_counts.items():
                counts[space.index(name, "train_counts")] = count
            source = "of the training rows"
        most = int(counts.argmax())
        answer: NDArray[Any] = np.full(len(rows), most)
        name, rule = "majority", f"always {space.names[most]!r}, the commonest class {source}"
    elif train_counts is not None:
        raise UserError(f"train_counts do not apply to a {space.kind} task", "Leave them out")
    elif space.kind == "multilabel":
        answer = np.ones(target.shape, dtype=bool)
        name, rule = "every_label", "every label is decided for every row"
    else:
        known = ~np.isnan(target)
        means = np.where(known, target, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        answer = np.broadcast_to(means, target.shape)
        name, rule = "mean", "always the mean of the evaluated rows"
    totals = statistics_of(space, target, answer, np.zeros(len(rows), dtype=np.int64), 1)[0]
    return {name: Baseline(rule, {key: float(metric(totals)) for key, metric in metrics_of(space).items()})}


def _class_lines(table: ClassTable) -> list[str]:
    width = max(len("class"), *map(len, table.names))
    lines = [f"  {'class':<{width}}  recall  precision     F1  support"]
    for i, name in enumerate(table.names):
        cells = [
            "   n/a" if np.isnan(c[i]) else f"{100 * c[i]:6.1f}" for c in (table.recall, table.precision, table.f1)
        ]
        lines.append(f"  {name:<{width}}  {cells[0]}     {cells[1]} {cells[2]}  {table.support[i]:7d}")
    return lines


def _confusion_lines(matrix: NDArray[np.int64], names: tuple[str, ...]) -> list[str]:
    if sum(len(name) + 2 for name in names) > _TERMINAL:
        return _commonest_confusions(matrix, names)
    corner = "true \\ decided"
    width = max(len(corner), *map(len, names))
    columns = [max(len(name), len(str(matrix[:, i].max()))) for i, name in enumerate(names)]
    head = "  ".join(f"{name:>{c}}" for name, c in zip(names, columns, strict=True))
    rows = [
        f"  {name:<{width}}  " + "  ".join(f"{n:>{c}d}" for n, c in zip(row, columns, strict=True))
        for name, row in zip(names, matrix.tolist(), strict=True)
    ]
    return [f"  {corner:<{width}}  {head}", *rows]


def _commonest_confusions(matrix: NDArray[np.int64], names: tuple[str, ...]) -> list[str]:
    """What is taken for what most often, where a matrix would not fit on a screen; it stands in the JSON."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [np.unravel_index(k, wrong.shape) for k in order if wrong.flat[k] > 0]
    if not pairs:
        return ["  no row is taken for another class"]
    shown = [f"  {wrong[i, j]:7d}  {names[i]}  taken for  {names[j]}" for i, j in pairs]
    return [f"  the commonest confusions, of {int(wrong.sum())} wrong rows:", *shown]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
