from __future__ import annotations

import json

import numpy as np
import pytest
from made_scores import clustered, make_scores, make_values

from mer.errors import UserError
from mer.evaluation.summary import evaluate
from mer.labels import SPACES, LabelSpace


def test_the_numbers_the_majority_baseline_and_the_tables() -> None:
    target = [0] * 6 + [1] * 4 + [2] * 2
    result = evaluate(make_scores([*target, -1], [0] * 5 + [1] + [1] * 4 + [0, 2] + [1]))
    assert (result.n, result.unlabelled, result.clips, result.subjects) == (12, 1, 12, 0)
    assert result.metrics["war"].value == pytest.approx(10 / 12)
    assert result.metrics["uar"].value == pytest.approx((5 / 6 + 1 + 1 / 2) / 3)
    majority = result.baselines["majority"]
    assert majority.rule == "always 'happy', the commonest class of the evaluated rows"
    assert majority.metrics["war"] == pytest.approx(0.5)
    assert majority.metrics["uar"] == pytest.approx(1 / 3)
    assert majority.metrics["macro_f1"] == pytest.approx((2 * 6 / 18) / 3)
    assert majority.metrics["weighted_f1"] == pytest.approx((2 * 6 / 18) / 2)
    assert result.confusion is not None
    assert result.confusion.tolist() == [[5, 1, 0], [0, 4, 0], [1, 0, 1]]
    assert result.classes is not None
    assert result.classes.support.tolist() == [6, 4, 2]
    assert not result.collapsed


def test_the_majority_comes_from_the_training_rows_where_they_are_given() -> None:
    scores = make_scores([0] * 6 + [1] * 6, [0] * 12)
    majority = evaluate(scores, train_counts={"sad": 9, "happy": 2}).baselines["majority"]
    assert majority.rule == "always 'sad', the commonest class of the training rows"
    assert majority.metrics["war"] == pytest.approx(0.5)
    with pytest.raises(UserError, match="train_counts: label 'glad' is not in the label space"):
        evaluate(scores, train_counts={"glad": 1})


def test_a_collapsed_model_is_called_one() -> None:
    result = evaluate(make_scores([0, 1, 2] * 4, [1] * 12))
    assert result.collapsed
    assert "collapsed: every row is decided 'sad'" in result.table()
    assert not evaluate(make_scores([1] * 12, [1] * 12)).collapsed  # nothing else was there to find


def test_the_table_quotes_percent_with_the_interval_and_its_units() -> None:
    result = evaluate(clustered(np.random.default_rng(0)))
    interval = result.metrics["war"].interval
    assert interval is not None
    low, high = 100 * interval.low, 100 * interval.high
    quoted = f"WAR          {100 * result.metrics['war'].value:.1f} [{low:.1f}, {high:.1f}] over 20 subjects"
    assert quoted in result.table()
    assert "majority 50." in result.table()
    assert "WARNING" not in result.table()
    assert "true \\ decided" in result.table()
    assert "true \\ decided" not in result.table(details=False)


def test_of_many_classes_the_commonest_confusions_are_shown() -> None:
    gestures = SPACES["imigue32.v1"]
    text = evaluate(make_scores([0, 0, 0, 30, 31], [30, 30, 0, 30, 0], space=gestures)).table()
    assert "true \\ decided" not in text
    assert max(map(len, text.splitlines())) < 200
    wrong = text[text.index("the commonest confusions, of 3 wrong rows") :].splitlines()
    assert wrong[1].split() == ["2", "Turtle", "neck", "taken", "for", "Shaking", "shoulders"]
    assert len(wrong) == 3
    right = evaluate(make_scores([0, 30], [0, 30], space=gestures)).table()
    assert "no row is taken for another class" in right


def test_the_table_warns_of_clips_of_few_subjects() -> None:
    rng = np.random.default_rng(0)
    text = evaluate(make_scores([0, 1] * 15, rng.integers(2, size=30), subject=["a", "b", "c"] * 10)).table()
    assert "over 30 clips" in text
    assert "clips of one person are not independent, so the intervals are too narrow" in text
    assert "30 clips of 3 known subjects" in text


def test_the_table_says_why_there_is_no_interval() -> None:
    text = evaluate(make_scores([0, 1, 2], [0, 1, 1])).table()
    assert "WAR          66.7 (no interval)" in text
    assert "3 clips: too few for an interval" in text


def test_the_dictionary_is_plain_json_without_nan() -> None:
    result = evaluate(make_scores([0, 1] * 10, [0, 1, 1, 1] * 5)).to_dict()
    again = json.loads(json.dumps(result, allow_nan=False))
    assert again == result
    assert again["metrics"]["war"]["interval"]["unit"] == "clip"
    assert again["classes"]["angry"] == {"recall": None, "precision": None, "f1": None, "support": 0}


def test_scores_without_labels_are_refused_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"x.csv: none of the 2 rows has a label. Fill in the column label"):
        evaluate(make_scores([-1, -1], [0, 1], source="x.csv"))
    with pytest.raises(UserError, match="none of the 0 rows"):
        evaluate(make_scores([], []))


def test_a_continuous_task_has_ccc_for_each_dimension_and_the_mean_as_baseline() -> None:
    rng = np.random.default_rng(0)
    t = rng.normal(size=(60, 2))
    t[0, 1] = np.nan
    p = np.nan_to_num(t) * 0.8 + 0.3 * rng.normal(size=t.shape)
    space = LabelSpace("va.v1", ("valence", "arousal"), "continuous")
    result = evaluate(make_values(space, t, p))
    assert result.metrics["ccc"].value == pytest.approx(
        (result.metrics["ccc_valence"].value + result.metrics["ccc_arousal"].value) / 2
    )
    mean = result.baselines["mean"].metrics
    assert mean["ccc"] == 0
    assert mean["rmse_valence"] == pytest.approx(t[:, 0].std())
    assert np.isnan(mean["pearson"])
    assert result.confusion is None
    assert result.classes is None
    assert "CCC valence" in result.table()
    assert "(mean 0.000)" in result.table()
    json.dumps(result.to_dict(), allow_nan=False)
    flat = make_values(space, t, np.full(t.shape, 0.1))
    assert evaluate(flat).collapsed
    with pytest.raises(UserError, match="train_counts do not apply"):
        evaluate(flat, train_counts={"valence": 1})


def test_a_multilabel_task_has_a_table_of_labels_and_every_label_as_baseline() -> None:
    space = LabelSpace("ml.v1", ("x", "y"), "multilabel")
    target = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 5)
    p = np.where(target == 1, 0.6, 0.4)
    result = evaluate(make_values(space, target, p))
    assert result.metrics["macro_f1"].value == 1
    assert result.baselines["every_label"].metrics["macro_f1"] == pytest.approx(2 / 3)
    assert result.classes is not None
    assert result.classes.support.tolist() == [10, 10]
    assert result.confusion is None
