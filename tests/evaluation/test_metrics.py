from __future__ import annotations

import numpy as np
import pytest

from mer.evaluation import metrics
from mer.evaluation.metrics import (
    METRICS,
    ClassTable,
    ccc,
    confusion,
    label_counts,
    mae,
    metrics_of,
    moments,
    multilabel_f1,
    multilabel_macro_f1,
    pearson,
    rmse,
)
from mer.labels import LabelSpace

#          decided: a  b  c
MATRIX = np.array([[4, 1, 0], [1, 2, 1], [0, 0, 1]])  # recalls 4/5, 2/4, 1/1; precisions 4/5, 2/3, 1/2


def test_confusion_has_the_truth_in_rows_and_leaves_out_the_unlabelled() -> None:
    assert confusion([0, 0, 1, -1], [0, 1, 1, 1], 2).tolist() == [[1, 1], [0, 1]]
    with pytest.raises(ValueError, match="below 2"):
        confusion([2], [0], 2)


def test_metrics_of_a_small_matrix_by_hand() -> None:
    assert METRICS["war"](MATRIX) == pytest.approx(7 / 10)
    assert METRICS["uar"](MATRIX) == pytest.approx((4 / 5 + 1 / 2 + 1) / 3)
    f1 = [8 / 10, 4 / 7, 2 / 3]
    assert METRICS["macro_f1"](MATRIX) == pytest.approx(sum(f1) / 3)
    assert METRICS["weighted_f1"](MATRIX) == pytest.approx((5 * f1[0] + 4 * f1[1] + 1 * f1[2]) / 10)


def test_uar_is_over_true_classes_and_macro_f1_over_true_or_decided_ones() -> None:
    matrix = np.array([[2, 0, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])  # class 2 decided only, class 3 neither
    assert METRICS["uar"](matrix) == pytest.approx((1 / 2 + 1) / 2)
    assert METRICS["macro_f1"](matrix) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert METRICS["weighted_f1"](matrix) == pytest.approx((4 * 2 / 3 + 4 * 1) / 8)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_leading_dimensions_are_kept_and_nothing_gives_nan(name: str) -> None:
    stack = np.stack([MATRIX, np.zeros((3, 3)), 2 * MATRIX])[:, None]
    values = METRICS[name](stack)
    assert values.shape == (3, 1)
    assert values[0, 0] == pytest.approx(METRICS[name](MATRIX)) == pytest.approx(values[2, 0])
    assert np.isnan(values[1, 0])


def test_class_table_by_hand() -> None:
    table = ClassTable.from_confusion(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert table.recall[:2].tolist() == [0.75, 1.0]
    assert table.precision[:2].tolist() == [1.0, pytest.approx(2 / 3)]
    assert table.support.tolist() == [4, 2, 0]
    assert table.to_dict()["c"] == {"recall": None, "precision": None, "f1": None, "support": 0}
    assert table.to_dict()["a"]["f1"] == pytest.approx(6 / 7)


def sums(target: list[float], predicted: list[float]) -> np.ndarray:
    return moments(np.array(target)[:, None], np.array(predicted)[:, None]).sum(axis=0)


def test_ccc_by_hand() -> None:
    assert ccc(sums([1, 2, 3], [1, 2, 3]))[0] == pytest.approx(1)
    assert ccc(sums([1, 2, 3], [3, 2, 1]))[0] == pytest.approx(-1)
    # variances 2/3, covariance 2/3, means 1 apart: (4/3) / (4/3 + 1)
    assert ccc(sums([1, 2, 3], [2, 3, 4]))[0] == pytest.approx(4 / 7)
    # t: mean 2.5, variance 1.25; p = 2 t: mean 5, variance 5; covariance 2.5
    assert ccc(sums([1, 2, 3, 4], [2, 4, 6, 8]))[0] == pytest.approx(5 / (1.25 + 5 + 6.25))
    assert ccc(sums([1, 2, 3], [5, 5, 5]))[0] == 0
    assert np.isnan(ccc(sums([2, 2], [2, 2]))[0])


def test_continuous_metrics_agree_with_their_definitions_far_from_zero() -> None:
    rng = np.random.default_rng(1)
    t = 1e6 + rng.normal(size=(50, 2))
    p = t + rng.normal(size=(50, 2)) * 0.5 + 0.2
    s = moments(t, p).sum(axis=0)
    for d in range(2):
        assert pearson(s)[d] == pytest.approx(np.corrcoef(t[:, d], p[:, d])[0, 1], abs=1e-8)
        cov = np.cov(t[:, d], p[:, d], bias=True)
        gap = t[:, d].mean() - p[:, d].mean()
        assert ccc(s)[d] == pytest.approx(2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + gap**2), abs=1e-8)
    assert mae(s) == pytest.approx(np.abs(p - t).mean(axis=0))
    assert rmse(s) == pytest.approx(np.sqrt(((p - t) ** 2).mean(axis=0)))


def test_a_missing_target_counts_nowhere_and_a_constant_has_no_correlation() -> None:
    assert mae(sums([1, np.nan, 3], [2, 100, 3]))[0] == pytest.approx(0.5)
    assert np.isnan(pearson(sums([1, 2, 3], [0.1, 0.1, 0.1]))[0])


def test_multilabel_f1_by_hand() -> None:
    target = np.array([[1, 0, 0], [1, 1, 0], [0, np.nan, 0]])
    predicted = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    counts = label_counts(target, predicted).sum(axis=0)
    assert counts.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert multilabel_f1(counts)[:2].tolist() == [pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert multilabel_macro_f1(counts) == pytest.approx(2 / 3)  # the third label is neither true nor decided


def test_each_kind_of_task_has_its_metrics_under_the_names_of_the_field() -> None:
    assert list(metrics_of(LabelSpace("a.v1", ("x", "y")))) == ["war", "uar", "macro_f1", "weighted_f1"]
    assert list(metrics_of(LabelSpace("a.v1", ("x",), "multilabel"))) == ["macro_f1"]
    assert list(metrics_of(LabelSpace("a.v1", ("x",), "continuous"))) == list(metrics.CONTINUOUS)
    two = metrics_of(LabelSpace("a.v1", ("v", "a"), "continuous"))
    s = moments(np.array([[1.0, 1], [2, 2], [3, 3]]), np.array([[1.0, 3], [2, 2], [3, 1]])).sum(axis=0)
    assert (two["ccc"](s), two["ccc_v"](s), two["ccc_a"](s)) == pytest.approx((0, 1, -1))
