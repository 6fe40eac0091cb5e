"""A label space has one stated order; whatever is not in it is refused with the place where it stood."""

from __future__ import annotations

import json

import pytest

from mer.errors import UserError
from mer.labels import SPACES, LabelSpace, Task

CLASSES = LabelSpace("mood.v1", ("sad", "glad", "mad"))
MANY = LabelSpace("marks.v1", ("smile", "frown", "tear"), "multilabel")
NUMBERS = LabelSpace("va.v1", ("valence", "arousal"), "continuous")


def test_a_class_is_its_index_in_the_stated_order() -> None:
    assert [CLASSES.parse(name, "here") for name in ("sad", "glad", " mad ")] == [[0.0], [1.0], [2.0]]


def test_several_labels_are_a_vector_of_zeros_and_ones() -> None:
    assert MANY.parse("tear; smile", "here") == [1.0, 0.0, 1.0]
    assert MANY.parse("-", "here") == [0.0, 0.0, 0.0]


def test_dimensions_are_numbers_in_order() -> None:
    assert NUMBERS.parse("0.5; -1e-1", "here") == [0.5, -0.1]


@pytest.mark.parametrize("space", [CLASSES, MANY, NUMBERS])
def test_an_empty_cell_is_unlabelled(space: LabelSpace) -> None:
    assert space.parse("  ", "here") is None


@pytest.mark.parametrize(
    ("space", "cell"),
    [
        (CLASSES, "Sad"),
        (CLASSES, "0"),
        (CLASSES, "sad;glad"),
        (MANY, "smile;laugh"),
        (MANY, "smile;"),
        (NUMBERS, "0.5"),
        (NUMBERS, "1;2;3"),
        (NUMBERS, "1;high"),
        (NUMBERS, "1;nan"),
        (NUMBERS, "inf;1"),
    ],
)
def test_what_is_not_in_the_space_is_refused_by_place_and_value(space: LabelSpace, cell: str) -> None:
    with pytest.raises(UserError, match=r"m\.csv, line 7") as caught:
        space.parse(cell, "m.csv, line 7")
    assert all(name in caught.value.problem for name in space.names)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("a", "a"), "classes"),
        (("a", " "), "classes"),
        (("a",), "classes"),
        ((), "multilabel"),
        (("a", "b"), "ordinal"),
    ],
)
def test_a_space_without_sense_is_refused(names: tuple[str, ...], kind: str) -> None:
    with pytest.raises(UserError):
        LabelSpace("broken.v1", names, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("space", [CLASSES, MANY, NUMBERS, *SPACES.values()])
def test_a_space_survives_json(space: LabelSpace) -> None:
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict())), "here") == space


def test_a_known_space_may_be_called_by_name_alone() -> None:
    assert LabelSpace.from_dict({"name": "ravdess8.v1"}, "here") is SPACES["ravdess8.v1"]


@pytest.mark.parametrize("data", [{}, {"name": "new.v1"}, {"names": ["a", "b"]}, {"name": "new.v1", "names": "ab"}])
def test_a_space_without_name_or_names_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(UserError, match="here"):
        LabelSpace.from_dict(data, "here")


def test_ravdess_follows_its_file_name_codes() -> None:
    assert SPACES["ravdess8.v1"].names[4] == "angry"  # code 05
    assert len(SPACES["ravdess8.v1"]) == 8


def test_a_task_survives_a_file_and_names_its_column() -> None:
    task = Task("emotion", CLASSES, "frame", "mood")
    assert Task.from_dict("emotion", task.to_dict(), "here") == task
    assert Task("emotion", CLASSES).column == "emotion"


@pytest.mark.parametrize("data", [None, {}, {"space": "mood.v1"}, {"space": {"name": "ravdess8.v1"}, "level": "word"}])
def test_a_task_without_space_or_with_an_unknown_level_is_refused(data: object) -> None:
    with pytest.raises(UserError, match="emotion"):
        Task.from_dict("emotion", data, "here")
