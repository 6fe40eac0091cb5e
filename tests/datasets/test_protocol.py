"""Nobody is trained on and scored, unless the result says so."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mer.datasets.manifest import Clip, Corpus, Manifest
from mer.datasets.protocol import Split, guard, split_clips
from mer.errors import UserError
from mer.labels import LabelSpace, Task

TASKS = {"emotion": Task("emotion", LabelSpace("mood.v1", ("sad", "glad")))}


def corpus(disjoint: str, *rows: tuple[str, str, str]) -> Manifest:
    """A manifest from (subject, split, fold)."""
    clips = tuple(Clip(f"c{i}", s, split=p, fold=f, row=i + 2) for i, (s, p, f) in enumerate(rows))
    return Manifest(Path("m.csv"), Corpus("tiny", Path("."), TASKS, disjoint), (), clips)  # type: ignore[arg-type]


def people(count: int, clips: int = 3, fold: bool = False) -> list[tuple[str, str, str]]:
    return [(f"p{i}", "" if fold else "train", str(i % 2) if fold else "") for i in range(count) for _ in range(clips)]


def subjects(clips: tuple[Clip, ...]) -> set[str]:
    return {c.subject for c in clips}


def test_the_split_column_is_obeyed() -> None:
    split = split_clips(
        corpus("true", ("a", "train", ""), ("b", "val", ""), ("c", "test", ""), ("d", "", "")), None, 0.5, 0
    )
    assert [[c.subject for c in part] for part in (split.train, split.val, split.test)] == [["a"], ["b"], ["c"]]
    assert split.stamp == ""


def test_a_fold_is_the_test_and_everything_else_trains() -> None:
    split = split_clips(corpus("true", *people(4, fold=True)), "1", 0.0, 0)
    assert (subjects(split.train), split.val, subjects(split.test)) == ({"p0", "p2"}, (), {"p1", "p3"})


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_the_inner_split_sets_whole_subjects_aside(fraction: float) -> None:
    split = split_clips(corpus("true", *people(10), ("t", "test", "")), None, fraction, 3)
    assert not subjects(split.train) & subjects(split.val)
    assert len(subjects(split.val)) == round(10 * fraction)
    assert len(split.train) + len(split.val) == 30
    assert subjects(split.test) == {"t"}


def test_the_inner_split_depends_on_the_seed_alone() -> None:
    manifest = corpus("true", *people(12))
    held = [subjects(split_clips(manifest, None, 0.3, seed).val) for seed in (0, 0, 1, 2)]
    assert held[0] == held[1]
    assert len({frozenset(h) for h in held}) > 1


def test_without_subjects_single_clips_are_set_aside() -> None:
    split = split_clips(corpus("unknown", *[("", "train", "")] * 10), None, 0.2, 0)
    assert (len(split.train), len(split.val)) == (8, 2)


def test_too_few_subjects_for_an_inner_split_are_refused() -> None:
    with pytest.raises(UserError, match="1 training subject"):
        split_clips(corpus("true", *people(1)), None, 0.2, 0)


def test_shared_subjects_are_an_error_where_the_corpus_declares_them_disjoint() -> None:
    manifest = corpus("true", ("a", "train", ""), ("b", "train", ""), ("c", "test", ""), ("b", "test", ""))
    with pytest.raises(UserError, match=r"m\.csv, line 5: subject 'b' is in training and in test \(1 such") as caught:
        split_clips(manifest, None, 0.0, 0)
    assert "subject_disjoint: false" in caught.value.remedy


def test_a_validation_subject_in_the_test_is_shared_too() -> None:
    with pytest.raises(UserError, match="subject 'b'"):
        split_clips(corpus("true", ("a", "train", ""), ("b", "val", ""), ("b", "test", "")), None, 0.0, 0)


@pytest.mark.parametrize("disjoint", ["false", "unknown"])
def test_shared_subjects_are_warned_of_and_stamped_elsewhere(disjoint: str) -> None:
    manifest = corpus(disjoint, ("a", "train", ""), ("a", "test", ""), ("b", "test", ""))
    with pytest.warns(UserWarning, match="tiny: 1 subject.* optimistic for new people"):
        split = split_clips(manifest, None, 0.0, 0)
    assert split.stamp == "1 subject(s) occur in training and test"


@pytest.mark.parametrize("disjoint", ["false", "unknown"])
def test_unknown_subjects_are_warned_of_and_stamped(disjoint: str) -> None:
    manifest = corpus(disjoint, ("a", "train", ""), ("", "train", ""), ("b", "test", ""))
    with pytest.warns(UserWarning, match="cannot be excluded"):
        assert "cannot be excluded" in split_clips(manifest, None, 0.0, 0).stamp


def test_known_and_different_people_need_no_stamp() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for disjoint in ("true", "false", "unknown"):
            manifest = corpus(disjoint, ("a", "train", ""), ("b", "test", ""))
            assert split_clips(manifest, None, 0.0, 0).stamp == ""
        assert guard(manifest, manifest.clips, ()) == "", "without a test nothing can overlap"


@pytest.mark.parametrize(
    ("rows", "fold", "message"),
    [
        (people(4, fold=True), "7", r"no fold '7'. The folds are 0, 1"),
        (people(2), "0", "The folds are none"),
        (people(4, fold=True), None, r"no row has a split.*--data.fold \(0, 1\)"),
        ([("a", "", "")], None, "no row has a split.*Fill in 'split'"),
        ([("a", "", "0"), ("b", "", "0")], "0", "fold '0' holds every clip"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(
    rows: list[tuple[str, str, str]], fold: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split_clips(corpus("true", *rows), fold, 0.0, 0)


def test_a_corpus_may_be_there_to_be_scored_alone() -> None:
    tested = corpus("true", ("a", "test", ""), ("b", "test", ""))
    assert [c.clip_id for c in split_clips(tested, None, 0.2, 0).test] == [c.clip_id for c in tested.clips]
    everything = split_clips(corpus("true", ("a", "train", "0"), ("b", "test", "1")), "all", 0.2, 0)
    assert (len(everything.train), len(everything.val), len(everything.test)) == (0, 0, 2)


def test_no_clip_is_on_two_sides() -> None:
    for fold in ("0", "1"):
        split: Split = split_clips(corpus("true", *people(8, fold=True)), fold, 0.25, 0)
        ids = [c.clip_id for c in (*split.train, *split.val, *split.test)]
        assert len(ids) == len(set(ids)) == 24


def test_a_clip_without_a_subject_is_an_error_where_the_corpus_declares_them_disjoint() -> None:
    with pytest.raises(UserError, match=r"m\.csv, line 3: no subject") as error:
        split_clips(corpus("true", ("a", "train", ""), ("", "test", "")), None, 0.0, 0)
    assert "subject_disjoint" in str(error.value)
