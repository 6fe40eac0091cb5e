from __future__ import annotations

import time

import numpy as np
import pytest
from made_scores import clustered, make_scores, make_values
from scipy import stats

from mer.errors import UserError
from mer.evaluation.bootstrap import (
    Units,
    bootstrap_metrics,
    expanded_interval,
    expanded_tail,
    paired_bootstrap,
    resample,
    resampling_units,
)
from mer.labels import LabelSpace


def test_a_resample_draws_as_many_units_as_there_are_and_is_repeatable() -> None:
    totals = np.eye(12)
    drawn = resample(totals, draws=500, seed=3)
    assert drawn.shape == (500, 12)
    assert (drawn.sum(axis=1) == 12).all()
    assert drawn.mean() == pytest.approx(1)
    assert drawn.var() == pytest.approx(11 / 12, rel=0.1)  # multinomial
    assert np.array_equal(drawn, resample(totals, draws=500, seed=3))
    assert not np.array_equal(drawn, resample(totals, draws=500, seed=4))


def test_blocks_of_draws_give_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer.evaluation.bootstrap._BLOCK", 70)
    assert resample(np.ones((10, 2, 3)), draws=25).tolist() == np.full((25, 2, 3), 10.0).tolist()


def test_two_thousand_draws_over_subjects_are_fast() -> None:
    totals = np.random.default_rng(0).random((500, 8, 8))
    begin = time.perf_counter()
    resample(totals)
    assert time.perf_counter() - begin < 2  # about 0.05 s; wide, because test machines are busy


def test_the_tail_is_hesterbergs() -> None:
    assert expanded_tail(10) == pytest.approx(stats.norm.cdf(-np.sqrt(10 / 9) * stats.t.ppf(0.975, 9)))
    assert expanded_tail(10) < expanded_tail(30) < 0.025
    assert expanded_tail(10**6) == pytest.approx(0.025, abs=1e-5)


def test_the_interval_is_wider_than_the_plain_percentile_interval() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    interval = expanded_interval(values, Units("subject", np.arange(12), 12, 12))
    plain = np.quantile(values, [0.025, 0.975])
    assert interval is not None
    assert interval.low < plain[0]
    assert interval.high > plain[1]
    assert (interval.unit, interval.units, interval.subjects, interval.draws) == ("subject", 12, 12, 2000)


def test_units_are_subjects_where_every_row_has_one_and_there_are_ten() -> None:
    ten = resampling_units(make_scores([0] * 20, [0] * 20, subject=[f"s{i % 10}" for i in range(20)]))
    assert (ten.unit, ten.count, ten.subjects) == ("subject", 10, 10)
    nine = resampling_units(make_scores([0] * 20, [0] * 20, subject=[f"s{i % 9}" for i in range(20)]))
    assert (nine.unit, nine.count, nine.subjects) == ("clip", 20, 9)
    gap = resampling_units(make_scores([0] * 20, [0] * 20, subject=[f"s{i}" for i in range(19)] + [""]))
    assert (gap.unit, gap.count, gap.subjects) == ("clip", 20, 19)


def test_all_rows_of_a_clip_are_one_unit() -> None:
    seeds = make_scores([0] * 24, [0] * 24, clip_id=[f"c{i // 2}" for i in range(24)], seed=[0, 1] * 12)
    assert resampling_units(seeds).count == 12


def test_no_interval_below_ten_units_and_none_without_variation() -> None:
    rng = np.random.default_rng(0)
    few = bootstrap_metrics(make_scores([0, 1, 2] * 3, rng.integers(3, size=9)))
    assert all(v.interval is None for v in few.values())
    enough = bootstrap_metrics(make_scores([0, 1] * 5, [0, 1, 0, 0, 0, 1, 1, 1, 0, 1]))
    assert enough["war"].value == pytest.approx(0.8)
    assert enough["war"].interval is not None
    assert enough["war"].interval.low < 0.8 < enough["war"].interval.high
    assert bootstrap_metrics(make_scores([0, 1] * 6, [0, 1] * 6))["war"].interval is None  # no mistake to resample


def test_unlabelled_rows_are_no_units() -> None:
    value = bootstrap_metrics(make_scores([0, 1] * 6 + [-1] * 8, [0, 1] * 5 + [1, 0] + [2] * 8))["war"]
    assert value.value == pytest.approx(10 / 12)
    assert value.interval is not None
    assert value.interval.units == 12


def test_the_cluster_interval_is_wider_than_the_clip_interval_for_clustered_data() -> None:
    scores = clustered(np.random.default_rng(5))
    clips = clustered(np.random.default_rng(5))
    clips.subject = [""] * len(clips)
    for name in ("war", "uar", "macro_f1"):
        by_subject, by_clip = (bootstrap_metrics(s)[name].interval for s in (scores, clips))
        assert by_subject is not None
        assert by_clip is not None
        assert (by_subject.unit, by_clip.unit) == ("subject", "clip")
        assert by_subject.high - by_subject.low > 1.5 * (by_clip.high - by_clip.low)


def test_the_subject_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(7), 0
    for _ in range(200):
        interval = bootstrap_metrics(clustered(rng, subjects=12, clips=10), draws=500)["war"].interval
        assert interval is not None
        covered += interval.low <= 0.65 <= interval.high  # the mean skill
    assert covered / 200 > 0.90  # 95 % nominal; three standard errors are 4.6 points


def test_an_interval_for_continuous_and_multilabel_tasks() -> None:
    rng = np.random.default_rng(2)
    t = rng.normal(size=(40, 2))
    space = LabelSpace("va.v1", ("valence", "arousal"), "continuous")
    values = bootstrap_metrics(make_values(space, t, t + rng.normal(size=t.shape)))
    for name in ("ccc", "ccc_valence", "pearson_arousal", "mae", "rmse"):
        interval = values[name].interval
        assert interval is not None
        assert interval.low < values[name].value < interval.high
    space = LabelSpace("ml.v1", ("x", "y"), "multilabel")
    value = bootstrap_metrics(make_values(space, t > 0, rng.random(t.shape)))["macro_f1"]
    assert value.interval is not None
    assert value.interval.low < value.value < value.interval.high


def test_a_system_does_not_differ_from_itself() -> None:
    scores = clustered(np.random.default_rng(0))
    result = paired_bootstrap(scores, scores, "uar")
    assert result.difference.value == 0
    assert result.p_value == 1


def test_a_clear_difference_is_found_over_subjects_whatever_the_order_of_rows() -> None:
    a, b = (clustered(np.random.default_rng(1), shift=s) for s in (0.25, 0.0))
    result = paired_bootstrap(a, b, "war")
    assert result.difference.value == pytest.approx(result.a.value - result.b.value)
    assert result.unit == "subject"
    assert result.units == 20
    interval = result.difference.interval
    assert interval is not None
    assert 0 < interval.low < result.difference.value < interval.high
    assert result.p_value is not None
    assert 0 < result.p_value < 0.05
    order = np.random.default_rng(0).permutation(len(b))
    shuffled = make_scores(
        b.target[order],
        b.predicted[order],
        space=b.space,
        clip_id=[b.clip_id[i] for i in order],
        subject=[b.subject[i] for i in order],
    )
    assert paired_bootstrap(a, shuffled, "war") == result
    assert paired_bootstrap(b, a, "war").p_value == pytest.approx(result.p_value, rel=0.1)


def test_pairing_makes_the_interval_narrower_than_that_of_either_system() -> None:
    rng = np.random.default_rng(3)
    a = clustered(rng)
    flipped = np.where(rng.random(len(a)) < 0.03, 1 - a.predicted, a.predicted)
    b = make_scores(a.target, flipped, space=a.space, subject=a.subject)
    result = paired_bootstrap(a, b, "war")
    assert result.difference.interval is not None
    assert result.a.interval is not None
    width, single = (i.high - i.low for i in (result.difference.interval, result.a.interval))
    assert width < single / 2


def test_the_p_value_is_never_zero_and_agrees_with_the_interval() -> None:
    certain = paired_bootstrap(make_scores([0, 1] * 20, [0, 1] * 20), make_scores([0, 1] * 20, [1, 0] * 20), "war")
    assert certain.p_value is not None
    assert 0 < certain.p_value < 0.01
    for seed in range(30):
        a, b = clustered(np.random.default_rng(seed), shift=0.05), clustered(np.random.default_rng(seed + 100))
        result = paired_bootstrap(a, b, "war", draws=1000)
        assert result.p_value is not None
        assert result.difference.interval is not None
        if abs(result.p_value - 0.05) > 0.01:
            outside = result.difference.interval.low > 0 or result.difference.interval.high < 0
            assert outside == (result.p_value < 0.05)


def test_false_alarms_are_about_as_rare_as_stated() -> None:
    rng, alarms = np.random.default_rng(11), 0
    for _ in range(200):
        a = clustered(rng, subjects=12, clips=10)
        right = a.predicted == a.target
        swapped = np.where(rng.permuted(right.reshape(12, 10), axis=1).ravel(), a.target, 1 - a.target)  # same skill
        b = make_scores(a.target, swapped, space=a.space, subject=a.subject)
        p = paired_bootstrap(a, b, "uar", draws=300).p_value
        alarms += p is not None and p < 0.05
    assert alarms / 200 < 0.10


def test_a_comparison_of_few_clips_has_no_p_value() -> None:
    result = paired_bootstrap(make_scores([0, 1] * 4, [0, 1] * 4), make_scores([0, 1] * 4, [1, 0] * 4), "war")
    assert result.difference.value == 1
    assert result.p_value is None
    assert result.difference.interval is None


def test_a_comparison_over_clips_says_how_many_subjects_are_behind_them() -> None:
    people = ["anna", "ben"] * 10
    a = make_scores([0, 1] * 10, [0, 1] * 10, subject=people)
    result = paired_bootstrap(a, make_scores([0, 1] * 10, [0] * 20), "uar")  # subjects known in one file only
    assert (result.unit, result.units, result.subjects) == ("clip", 20, 2)


def test_what_cannot_be_compared_is_refused_by_name() -> None:
    a = make_scores([0, 1, 2, 0], [0, 1, 2, 0], source="a.csv", subject=["x"] * 4)
    other = make_scores([0, 1, 2, 0], [0, 1, 2, 0], source="b.csv", clip_id=["c000", "c001", "zz", "c003"])
    with pytest.raises(UserError, match=r"1 clip\(s\) of a.csv are not in b.csv: c002"):
        paired_bootstrap(a, other, "uar")
    more = make_scores([0] * 5, [0] * 5, source="b.csv")
    with pytest.raises(UserError, match=r"1 clip\(s\) of b.csv are not in a.csv: c004"):
        paired_bootstrap(a, more, "uar")
    with pytest.raises(UserError, match=r"'c001' has another label in a.csv than in b.csv"):
        paired_bootstrap(a, make_scores([0, 2, 2, 0], [0] * 4, source="b.csv"), "uar")
    with pytest.raises(UserError, match=r"'c000' has the subject 'x' in a.csv and 'y' in b.csv"):
        paired_bootstrap(a, make_scores([0, 1, 2, 0], [0] * 4, source="b.csv", subject=["y"] * 4), "uar")
    space = LabelSpace("other.v1", ("a", "b", "c"))
    with pytest.raises(UserError, match=r"b.csv has other.v1"):
        paired_bootstrap(a, make_scores([0, 1, 2, 0], [0] * 4, source="b.csv", space=space), "uar")
    with pytest.raises(UserError, match=r"unknown metric 'ccc' for a classes task. Choose from war, uar"):
        paired_bootstrap(a, a, "ccc")
    twice = make_scores(
        [0, 0, 1, 2, 0], [0] * 5, clip_id=["c000", "c000", "c001", "c002", "c003"], seed=[0, 1, 0, 0, 0]
    )
    with pytest.raises(UserError, match="'c000' has more rows than other clips"):
        paired_bootstrap(a, twice, "uar")
    with pytest.raises(UserError, match="none of the 2 rows has a label"):
        paired_bootstrap(make_scores([-1, -1], [0, 0]), make_scores([-1, -1], [0, 0]), "uar")
