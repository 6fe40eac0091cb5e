"""Metrics from sums that add up over clips (confusion matrices, counts, moments); resampling is a matrix product.

Every metric takes an array with any leading dimensions, e.g. (draws, C, C), and returns those dimensions. Fractions,
not percent. NaN where a metric is not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer.labels import LabelSpace

FloatArray = NDArray[np.float64]
Metric = Callable[[NDArray[Any]], FloatArray]

LOWER_IS_BETTER = frozenset({"mae", "rmse"})


def confusion(target: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Confusion matrix, rows are the truth and columns the decision.

    Args:
        target: (N,) class indices; a row with -1 (unlabelled) is left out.
        predicted: (N,) class indices.
        classes: C.

    Returns:
        (C, C) counts.
    """
    return confusion_by_unit(target, predicted, classes, np.zeros(np.shape(target), dtype=np.int64), 1)[0]


def confusion_by_unit(
    target: ArrayLike, predicted: ArrayLike, classes: int, unit: ArrayLike, units: int
) -> NDArray[np.int64]:
    """One confusion matrix per unit (subject, clip): (units, C, C). `unit` (N,) holds 0 ... units - 1."""
    t, p, u = (np.asarray(x, dtype=np.int64) for x in (target, predicted, unit))
    if p.size and (p.min() < 0 or p.max() >= classes or t.max() >= classes):
        raise ValueError(f"class indices must be below {classes}")
    known = t >= 0
    cell = (u[known] * classes + t[known]) * classes + p[known]
    return np.bincount(cell, minlength=units * classes * classes).reshape(units, classes, classes)


def war(matrix: ArrayLike) -> FloatArray:
    """Weighted average recall, i.e. accuracy: the share of clips decided right. (..., C, C) -> (...)."""
    hit, support, _ = _margins(matrix)
    return _ratio(hit.sum(-1), support.sum(-1))


def uar(matrix: ArrayLike) -> FloatArray:
    """Unweighted average recall: the mean of the recalls of the classes that occur among the targets."""
    hit, support, _ = _margins(matrix)
    return _mean_where(_ratio(hit, support), support > 0)


def macro_f1(matrix: ArrayLike) -> FloatArray:
    """Mean F1 over the classes that occur among the targets or the decisions.

    A class that is decided but never true counts with F1 = 0; one that is neither is left out. (Some programs take the
    mean over all classes of the space, or over the true ones only; the number differs where a class is missing.)
    """
    hit, support, decided = _margins(matrix)
    return _mean_where(_ratio(2 * hit, support + decided), support + decided > 0)


def weighted_f1(matrix: ArrayLike) -> FloatArray:
    """Mean F1 weighted by the number of clips of each class; hides rare classes, so read it beside `uar`."""
    hit, support, decided = _margins(matrix)
    f1 = np.nan_to_num(_ratio(2 * hit, support + decided))
    return _ratio((support * f1).sum(-1), support.sum(-1))


METRICS: dict[str, Metric] = {"war": war, "uar": uar, "macro_f1": macro_f1, "weighted_f1": weighted_f1}


def label_counts(target: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """Right, false and missed decisions for each label of a multilabel task.

    Args:
        target: (N, L) of 0, 1 and NaN (unlabelled: counts nowhere).
        predicted: (N, L) bool.

    Returns:
        (N, L, 3): true positive, false positive, false negative; to be summed over rows.
    """
    t, p = np.asarray(target, dtype=np.float64), np.asarray(predicted, dtype=bool)
    return np.stack([(t == 1) & p, (t == 0) & p, (t == 1) & ~p], axis=-1).astype(np.float64)


def multilabel_f1(counts: ArrayLike) -> FloatArray:
    """F1 of each label: (..., L, 3) -> (..., L); NaN for a label that is neither true nor decided anywhere."""
    c = np.asarray(counts, dtype=np.float64)
    return _ratio(2 * c[..., 0], 2 * c[..., 0] + c[..., 1] + c[..., 2])


def multilabel_macro_f1(counts: ArrayLike) -> FloatArray:
    """Mean F1 over the labels that are true or decided somewhere: (..., L, 3) -> (...)."""
    f1 = multilabel_f1(counts)
    return _mean_where(f1, ~np.isnan(f1))


def moments(target: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """Sums from which the metrics of a continuous task follow.

    Args:
        target: (N, D); NaN (unlabelled) counts nowhere.
        predicted: (N, D).

    Returns:
        (N, D, 7) of n, t, p, t^2, p^2, t p, |p - t|, to be summed over rows. The mean target of each dimension is taken
        from t and p first, which changes no metric and keeps the sums of squares exact.
    """
    t, p = np.asarray(target, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    known = ~np.isnan(t)
    shift = np.where(known, t, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    t, p = np.where(known, t - shift, 0), np.where(known, p - shift, 0)
    return np.stack([known.astype(np.float64), t, p, t * t, p * p, t * p, np.abs(p - t)], axis=-1)


def ccc(sums: ArrayLike) -> FloatArray:
    """Concordance correlation coefficient: (..., D, 7) -> (..., D).

    Lin (1989), Biometrics 45, 255-268, with 1/n variances. 1 only for p = t; 0 for a constant prediction; NaN where
    both are the same constant.
    """
    mean_t, mean_p, var_t, var_p, cov = _central(sums)
    spread = var_t + var_p + (mean_t - mean_p) ** 2
    return _ratio(2 * cov, spread)


def pearson(sums: ArrayLike) -> FloatArray:
    """Pearson correlation: (..., D, 7) -> (..., D); NaN where truth or prediction is constant."""
    _, _, var_t, var_p, cov = _central(sums)
    return np.clip(_ratio(cov, np.sqrt(var_t * var_p)), -1, 1)


def mae(sums: ArrayLike) -> FloatArray:
    """Mean absolute error, in units of the labels: (..., D, 7) -> (..., D)."""
    s = np.asarray(sums, dtype=np.float64)
    return _ratio(s[..., 6], s[..., 0])


def rmse(sums: ArrayLike) -> FloatArray:
    """Root mean squared error, in units of the labels: (..., D, 7) -> (..., D)."""
    s = np.asarray(sums, dtype=np.float64)
    return np.sqrt(np.maximum(_ratio(s[..., 3] - 2 * s[..., 5] + s[..., 4], s[..., 0]), 0))


CONTINUOUS: dict[str, Metric] = {"ccc": ccc, "pearson": pearson, "mae": mae, "rmse": rmse}


def metrics_of(space: LabelSpace) -> dict[str, Metric]:
    """The metrics of a kind of task, each from summed statistics to a number.

    `classes`: METRICS on (..., C, C). `multilabel`: `macro_f1` on (..., L, 3). `continuous`: `ccc`, `pearson`, `mae`,
    `rmse` (means over the dimensions, NaN where one is not defined) and the same for each dimension, `ccc_<name>` etc.,
    on (..., D, 7).
    """
    if space.kind == "classes":
        return dict(METRICS)
    if space.kind == "multilabel":
        return {"macro_f1": multilabel_macro_f1}
    found: dict[str, Metric] = {name: _over_dimensions(metric) for name, metric in CONTINUOUS.items()}
    if len(space) > 1:
        for name, metric in CONTINUOUS.items():
            found |= {f"{name}_{label}": _of_dimension(metric, d) for d, label in enumerate(space.names)}
    return found


def statistics_of(space: LabelSpace, target: NDArray[Any], predicted: NDArray[Any], unit: ArrayLike, units: int) -> Any:
    """What the metrics of a task take, summed per unit: (units, C, C), (units, L, 3) or (units, D, 7).

    Args:
        space: the labels, which decide the kind.
        target: as in `Scores`.
        predicted: as in `Scores`.
        unit: (N,) int, 0 ... units - 1.
        units: how many there are.
    """
    if space.kind == "classes":
        return confusion_by_unit(target, predicted, len(space), unit, units)
    rows = label_counts(target, predicted) if space.kind == "multilabel" else moments(target, predicted)
    totals = np.zeros((units, *rows.shape[1:]))
    np.add.at(totals, np.asarray(unit, dtype=np.int64), rows)
    return totals


@dataclass(frozen=True, eq=False)
class ClassTable:
    """How each class or label fares.

    Attributes:
        names: C names.
        recall, precision, f1: (C,); NaN where not defined (never true; never decided; neither).
        support: (C,) how often it is true.
    """

    names: tuple[str, ...]
    recall: FloatArray
    precision: FloatArray
    f1: FloatArray
    support: NDArray[np.int64]

    @classmethod
    def from_counts(cls, counts: ArrayLike, names: Sequence[str]) -> ClassTable:
        """From (C, 3) true positives, false positives and false negatives."""
        hit, false, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
        support = (hit + missed).astype(np.int64)
        return cls(tuple(names), _ratio(hit, hit + missed), _ratio(hit, hit + false), multilabel_f1(counts), support)

    @classmethod
    def from_confusion(cls, matrix: ArrayLike, names: Sequence[str]) -> ClassTable:
        """From (C, C), rows are the truth."""
        hit, support, decided = _margins(matrix)
        return cls.from_counts(np.stack([hit, decided - hit, support - hit], axis=-1), names)

    def to_dict(self) -> Mapping[str, dict[str, float | int | None]]:
        """`{name: {recall, precision, f1, support}}`; None where not defined."""
        columns = {"recall": self.recall, "precision": self.precision, "f1": self.f1}
        return {
            name: {
                **{key: None if np.isnan(column[i]) else float(column[i]) for key, column in columns.items()},
                "support": int(self.support[i]),
            }
            for i, name in enumerate(self.names)
        }


def _margins(matrix: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Diagonal, row sums (support) and column sums (decisions), each (..., C)."""
    m = np.asarray(matrix, dtype=np.float64)
    return np.diagonal(m, axis1=-2, axis2=-1), m.sum(-1), m.sum(-2)


def _central(sums: ArrayLike) -> tuple[FloatArray, ...]:
    s = np.asarray(sums, dtype=np.float64)
    n = s[..., 0]
    mean_t, mean_p, square_t, square_p, product = (_ratio(s[..., i], n) for i in range(1, 6))
    var_t, var_p = square_t - mean_t**2, square_p - mean_p**2
    # What is left of a constant after rounding is not variance.
    var_t = np.where(var_t > 1e-12 * square_t, var_t, 0)
    var_p = np.where(var_p > 1e-12 * square_p, var_p, 0)
    cov = np.where((var_t > 0) & (var_p > 0), product - mean_t * mean_p, 0)
    return mean_t, mean_p, var_t, var_p, cov


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(
        part, whole, out=np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan), where=whole > 0
    )


def _mean_where(values: FloatArray, where: NDArray[np.bool_]) -> FloatArray:
    return _ratio(np.where(where, values, 0).sum(-1), where.sum(-1))


def _over_dimensions(metric: Metric) -> Metric:
    return lambda sums: np.mean(metric(sums), axis=-1)


def _of_dimension(metric: Metric, dimension: int) -> Metric:
    return lambda sums: metric(sums)[..., dimension]
