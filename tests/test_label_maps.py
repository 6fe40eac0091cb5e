"""Maps between label spaces go by meaning, merge only by a named rule, and say what is lost."""

from __future__ import annotations

import numpy as np
import pytest

from mer.errors import UserError
from mer.label_maps import RULES, LabelMap, compound_from_basic, intersection, meaning, order, sign_of_valence
from mer.labels import SPACES, LabelSpace


def space(name: str) -> LabelSpace:
    return SPACES[name]


def test_spellings_are_one_meaning_and_orders_do_not_matter() -> None:
    there = LabelMap.between(space("dfew7.v1"), space("basic7.v1"))
    assert [there.label(name) for name in space("dfew7.v1").names] == [
        "happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear",
    ]  # fmt: skip
    assert LabelMap.between(space("meld7.v1"), space("dfew7.v1")).label("joy") == "happy"


@pytest.mark.parametrize(
    ("theirs", "ours", "first"),
    [
        # From the tables of the repositories: where our class k stands in their order.
        ("mafw11_mae.v1", "mafw11.v1", [3, 5, 4, 0, 6, 1, 2, 7, 8, 9, 10]),
        ("mafw11_s2d.v1", "mafw11.v1", [6, 9, 8, 0, 10, 4, 5, 2, 1, 7, 3]),
        ("ferv39k7_s2d.v1", "ferv39k7.v1", [3, 5, 4, 0, 6, 1, 2]),
        ("dfew7.v1", "ferv39k7.v1", list(range(7))),
    ],
)
def test_logits_of_a_published_checkpoint_are_put_into_our_order(theirs: str, ours: str, first: list[int]) -> None:
    assert order(space(theirs), space(ours)) == first


def test_emotieff_scores_for_aff_wild_as_their_table_has_it() -> None:
    to = LabelMap.of(space("emotieff8.v1"), "aff_wild8.v1+contempt_is_other").to
    assert [to.index(k) for k in range(8)] == [5, 0, 2, 3, 4, 6, 7, 1]


def test_nothing_is_merged_without_its_rule() -> None:
    source, target = space("ravdess8.v1"), space("basic7.v1")
    assert LabelMap.between(source, target).label("calm") == ""
    assert LabelMap.between(source, target, ("calm_is_neutral",)).label("calm") == "neutral"
    with pytest.raises(UserError, match="no rule 'calm'"):
        LabelMap.of(source, "basic7.v1+calm")


def test_signs_of_emotions_are_a_rule() -> None:
    signs = LabelMap.of(space("mafw11.v1"), "valence3.v1+valence_sign")
    assert {n: signs.label(n) for n in ("happiness", "helplessness", "neutral", "surprise")} == {
        "happiness": "positive", "helplessness": "negative", "neutral": "neutral", "surprise": "",
    }  # fmt: skip


def test_probabilities_add_up_over_what_is_merged_and_are_scaled_over_what_is_shared() -> None:
    there = LabelMap.of(space("ravdess8.v1"), "crema_d6.v1+calm_is_neutral")
    posterior = np.array([[0.1, 0.2, 0.3, 0.05, 0.05, 0.05, 0.05, 0.2]])  # a fifth is surprise, which CREMA-D lacks
    np.testing.assert_allclose(there.probabilities(posterior), [[0.0625, 0.0625, 0.0625, 0.375, 0.375, 0.0625]])
    surprised = np.eye(8)[[7]]
    np.testing.assert_allclose(there.probabilities(surprised), np.full((1, 6), 1 / 6))
    assert there.targets(np.array([1, 7, -1])).tolist() == [4, -1, -1]


def test_spaces_without_common_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"bah2\.v1 .* less than two classes in common"):
        LabelMap.between(space("bah2.v1"), space("basic7.v1"))
    with pytest.raises(UserError, match="cannot be mapped"):
        LabelMap.between(space("va.v1"), space("basic7.v1"))
    assert LabelMap.between(space("va.v1"), space("emer_va.v1")).to == (0, 1)
    with pytest.raises(UserError, match="no label space 'basic9'"):
        LabelMap.of(space("dfew7.v1"), "basic9")


def test_what_two_corpora_share_keeps_the_words_of_the_first() -> None:
    assert intersection(space("ravdess8.v1"), space("crema_d6.v1")).names == (
        "neutral", "happy", "sad", "angry", "fearful", "disgust",
    )  # fmt: skip
    assert intersection(space("dfew7.v1"), space("ferv39k7.v1")) == space("dfew7.v1")
    assert LabelMap.of(space("ravdess8.v1"), "&crema_d6.v1").target.names[1] == "happy"


def test_compound_expressions_are_the_mean_of_their_two() -> None:
    basic = space("basic6.v1")  # anger disgust fear happiness sadness surprise
    values = np.array([[0.0, 0.0, 0.5, 0.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    made = compound_from_basic(values, basic)
    assert space("compound7.v1").names[int(made[0].argmax())] == "fearfully surprised"
    raw = np.array([0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.0])
    np.testing.assert_allclose(made[0], raw / raw.sum())
    np.testing.assert_allclose(made[1], [0, 0, 0, 0, 0.5, 0, 0.5])
    assert compound_from_basic(values, basic, space("compound8.v1"))[0, 7] == 0
    with pytest.raises(UserError, match="has no fear"):
        compound_from_basic(np.ones((1, 4)) / 4, space("emodb4.v1"))


def test_valence_has_three_signs() -> None:
    assert [sign_of_valence(v) for v in (-0.5, 0.0, 0.09, float("nan"))] == ["negative", "neutral", "positive", ""]
    assert [sign_of_valence(v, dead=0.1) for v in (-0.05, 0.2)] == ["neutral", "positive"]
    assert set(space("valence3.v1").names) == set(space("emer3.v1").names)


def test_every_rule_names_meanings_that_occur() -> None:
    meanings = {meaning(name) for s in SPACES.values() for name in s.names}
    for rule in RULES.values():
        assert rule.why
        assert set(rule.merges) | {meaning(t) for t in rule.merges.values()} <= meanings


def test_codes_of_a_list_need_their_base() -> None:
    dfew = space("dfew7.v1")
    assert (dfew.decode("1", 1, "x"), dfew.decode("6", 0, "x")) == ("happy", "fear")
    for cell, base in (("0", 1), ("7", 0), ("8", 1), ("-1", 0), ("1.0", 1), ("", 1), ("happy", 0), ("²", 0)):
        with pytest.raises(UserError, match=r"set_1\.csv, line 3: label"):
            dfew.decode(cell, base, "set_1.csv, line 3")
