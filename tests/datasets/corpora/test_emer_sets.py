"""EMER's split file is read in every plausible form, and a line that says nothing is refused by its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer.datasets.corpora.emer_sets import read_sets, shared
from mer.errors import UserError

SAMPLES = {"1_film_sad", "2_sport_anger", "10_film_happy", "01101"}
WANTED = {"1_film_sad": "1", "2_sport_anger": "2", "10_film_happy": "2"}


def known(name: str) -> str | None:
    """As the reader does it: what follows a blank does not count."""
    word = (name.split() or [""])[0]
    return word if word in SAMPLES else None


def read(folder: Path, text: str) -> dict[str, str]:
    (folder / "emer_set.txt").write_text(text, encoding="utf-8")
    return read_sets(folder / "emer_set.txt", known)


@pytest.mark.parametrize(
    "text",
    [
        "1_film_sad set1\n2_sport_anger set2\n10_film_happy set2\n",
        "\ufeff1_film_sad\tset1\r\n\r\n2_sport_anger\tset2\r\n10_film_happy Happy\tset2\r\n",
        "1_film_sad 1\n2_sport_anger 2\n10_film_happy Happy 2\n",
        "1_film_sad,1\n2_sport_anger,2\n10_film_happy,2\n",
        "set1,1_film_sad\nset2;2_sport_anger\nfold 2;10_film_happy\n",
        "set1: 1_film_sad\nset2: 2_sport_anger, 10_film_happy Happy\n",
        "Set 1： 1_film_sad\nset_02： 2_sport_anger 10_film_happy\n",
        "[set1]\n1_film_sad\nset2:\n2_sport_anger\n10_film_happy Happy\n",
        "# folders\nset1/1_film_sad\nface/set2/2_sport_anger\nD:\\face\\set2\\10_film_happy.xlsx\n",
    ],
)
def test_forms(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == WANTED


def test_parts_and_plain_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, "1_film_sad train\n2_sport_anger Val\n10_film_happy testing\n01101 test\n") == {
        "1_film_sad": "train", "2_sport_anger": "val", "10_film_happy": "test", "01101": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1_film_sad set1\n2_sport_anger\n", r"emer_set.txt, line 2: '2_sport_anger' does not say a set.*ID set1"),
        ("1_film_sad set1\nabc 3\n", "line 2: 'abc 3' does not say a set"),
        ("1_film_sad set1\n\n1_film_sad set2\n", r"line 3: '1_film_sad' is in set 2 and, by line 1, in set 1"),
        ("99_film_sad set1\n", "none of its names is a sample"),
        ("{'set1': ['1_film_sad']}\n", "line 1: .* does not say a set"),
    ],
)
def test_what_says_nothing_is_refused_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_people_in_several_folds_are_found() -> None:
    folds = {"a": "1", "b": "2", "c": "10", "d": "", "e": "1"}
    assert shared(folds, {"a": "3", "b": "3", "c": "3", "d": "4", "e": "4"}) == {"3": ["1", "2", "10"]}
    assert shared(folds, {"a": "", "b": "", "c": "5", "d": "5", "e": "4"}) == {}
