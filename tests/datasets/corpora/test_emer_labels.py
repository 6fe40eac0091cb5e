"""EMER's label tables: whatever their columns are called, no side, order or base is guessed, and nothing comes from a name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from mer.datasets.corpora import emer_labels
from mer.datasets.corpora.emer_labels import Labels, Reading
from mer.errors import UserError
from mer.media.table import write_workbook

ORDER = ("happiness", "sadness", "fear", "surprise", "disgust", "anger", "neutral")
ONE_SIDE = ["ID", "Emotion", "Valence", "Arousal", "Intensity"]


def read(folder: Path, table: list[list[Any]], **said: Any) -> Labels:
    write_workbook(folder / "labels.xlsx", table)
    return emer_labels.read(folder / "labels.xlsx", Reading(**said))


def codes(*values: int) -> list[list[Any]]:
    return [["ID", "FER 7-class"], *([f"{k}_film_sad", value] for k, value in enumerate(values, start=1))]


@pytest.mark.parametrize(
    "headings",
    [
        ["ID", "ER 7-class", "ER 3-class", "ER Valence", "ER Arousal", "FER Intensity"],
        ["Sample name", "ER_7class", "ER_3class", "ER_V", "ER_A", "Intensity"],
        ["video", "Emotion (ER)", "polarity (ER)", "valence_er", "arousal-ER", "expression intensity"],
        ["File name", "er label", "Er 3 class", "Genuine emotion valence", "genuine emotion arousal", "FER intensity"],
    ],
)
def test_columns_are_found_by_what_they_may_be_called(tmp_path: Path, headings: list[str]) -> None:
    labels = read(tmp_path, [headings, ["3_film_happy", "Anger", "Negative", -1, 0.75, 1.5]])
    assert labels.cells == {
        "3_film_happy": {
            "er7": "anger", "er3": "negative", "er_va": "-1;0.75", "fer7": "", "fer3": "", "fer_va": "",
            "fer_intensity": "1.5",
        }
    }  # fmt: skip


def test_of_two_columns_that_may_be_meant_none_is_taken(tmp_path: Path) -> None:
    table: list[list[Any]] = [["ID", "ER Emotion", "ER Category"], ["1_film_sad", "Sad", "Fear"]]
    with pytest.raises(UserError, match=r"'ER Emotion' and 'ER Category' may both be er7.*--label-column er7="):
        read(tmp_path, table)
    assert read(tmp_path, table, columns={"er7": "ER Category"}).cells["1_film_sad"]["er7"] == "fear"
    with pytest.raises(UserError, match="'Emotion' and 'Category' may both be fer7"):
        read(tmp_path, [["ID", "Emotion", "Category"], ["1_film_sad", "Sad", "Fear"]], side="fer")


def test_codes_may_be_written_with_a_point(tmp_path: Path) -> None:
    table = [["ID", "FER 7-class"], ["1_film_sad", "0.0"], ["2_film_sad", "5.0"]]
    cells = read(tmp_path, table, emotions=ORDER).cells
    assert [cells[f"{k}_film_sad"]["fer7"] for k in (1, 2)] == ["happiness", "anger"]


def test_headings_in_two_rows(tmp_path: Path) -> None:
    table: list[list[Any]] = [
        ["ID", "ER", None, "FER", None, None], [None, "7-class", "Valence", "7-class", "Valence", "Intensity"],
        ["1_film_sad", "Sad", -0.5, "Neutral", 0.09, 0],
    ]  # fmt: skip
    cells = read(tmp_path, table).cells["1_film_sad"]
    assert (cells["er7"], cells["er3"], cells["fer7"], cells["fer3"]) == ("sadness", "negative", "neutral", "positive")
    assert cells["fer_intensity"] == "0" and cells["er_va"] == ""  # valence alone is half of it


def test_two_rows_per_sample_with_merged_names_and_dashes(tmp_path: Path) -> None:
    headings = ["Sample", "Label Type", "7-class", "3-class", "Valence", "Arousal", "Intensity"]
    table = [headings, ["7_sport_fear", "ER label", "Fear", "Negative", -0.5, 0.5, "—"],
             [None, "FER label", "Neutral", "Negative", -0.5, -0.11, 0]]  # fmt: skip
    cells = read(tmp_path, table).cells["7_sport_fear"]
    assert (cells["er7"], cells["er_va"], cells["fer7"], cells["fer_va"]) == (
        "fear",
        "-0.5;0.5",
        "neutral",
        "-0.5;-0.11",
    )
    assert cells["fer_intensity"] == "0"
    with pytest.raises(UserError, match=r"row 3: 'other' is neither ER nor FER"):
        read(tmp_path, [*table[:2], [None, "other", *table[2][2:]]])


def test_three_classes_are_the_sign_of_valence_and_never_made_of_the_seven(tmp_path: Path) -> None:
    headings = ["ID", "FER 7-class", "FER Valence", "FER Arousal"]
    rows = [
        ["1_a_b", "Neutral", -0.5, 0],
        ["2_a_b", "Neutral", 0.09, 0],
        ["3_a_b", "Anger", 0, 0],
        ["4_a_b", "Happiness", "—", 0],
    ]
    labels = read(tmp_path, [headings, *rows])
    assert [cells["fer3"] for cells in labels.cells.values()] == ["negative", "positive", "neutral", ""]
    assert labels.notes == ["3 three-class label(s) are the sign of valence, as the table has none"]


def test_three_classes_of_the_table_are_kept_where_they_are_not_the_sign(tmp_path: Path) -> None:
    labels = read(tmp_path, [["ID", "ER 3-class", "ER Valence"], ["1_a_b", "Positive", -0.5], ["2_a_b", "neg", -0.5]])
    assert [cells["er3"] for cells in labels.cells.values()] == ["positive", "negative"]
    assert labels.notes == ["1 three-class label(s) are not the sign of valence; the table's own were taken"]


def test_a_table_of_one_side_needs_to_be_told_which(tmp_path: Path) -> None:
    table = [ONE_SIDE, ["3_film_happy", "happy", 0.5, "0,25", 2.5]]
    with pytest.raises(UserError, match=r"Emotion, Valence, Arousal do not say .* Pass --labels er or --labels fer"):
        read(tmp_path, table)
    er = read(tmp_path, table, side="er").cells["3_film_happy"]
    assert (er["er7"], er["er_va"], er["fer7"], er["fer_intensity"]) == ("happiness", "0.5;0.25", "", "2.5")
    fer = read(tmp_path, table, side="fer").cells["3_film_happy"]
    assert (fer["er7"], fer["fer7"], fer["fer3"], fer["fer_intensity"]) == ("", "happiness", "positive", "2.5")


def test_the_order_of_codes_is_demanded(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"row 2, FER: the code 0, .* Pass --emotion-order .*README is happiness,sadness,fear"
    ):
        read(tmp_path, codes(0, 6))
    assert [c["fer7"] for c in read(tmp_path, codes(0, 6), emotions=ORDER).cells.values()] == ["happiness", "neutral"]
    turned = read(tmp_path, codes(0, 6), emotions=ORDER[::-1]).cells.values()
    assert [c["fer7"] for c in turned] == ["neutral", "happiness"]


def test_the_base_of_codes_is_proved_or_demanded(tmp_path: Path) -> None:
    assert [c["fer7"] for c in read(tmp_path, codes(1, 7), emotions=ORDER).cells.values()] == ["happiness", "neutral"]
    with pytest.raises(UserError, match=r"neither code 0 nor code 7 occurs.*--emotion-base 0 or 1"):
        read(tmp_path, codes(1, 2), emotions=ORDER)
    assert [c["fer7"] for c in read(tmp_path, codes(1, 2), emotions=ORDER, base=0).cells.values()] == [
        "sadness",
        "fear",
    ]
    with pytest.raises(UserError, match="codes 0 and 7 both occur"):
        read(tmp_path, codes(0, 7), emotions=ORDER)
    with pytest.raises(UserError, match="do not begin with 1"):
        read(tmp_path, codes(0, 6), emotions=ORDER, base=1)
    with pytest.raises(UserError, match=r"row 3, FER: label '9'"):
        read(tmp_path, codes(0, 9), emotions=ORDER)


def test_codes_of_polarity(tmp_path: Path) -> None:
    table = [["ID", "ER 3-class"], ["1_a_b", -1], ["2_a_b", 0], ["3_a_b", 1]]
    assert [c["er3"] for c in read(tmp_path, table).cells.values()] == ["negative", "neutral", "positive"]  # a sign
    table = [["ID", "ER 3-class"], ["1_a_b", 0], ["2_a_b", 2]]
    with pytest.raises(UserError, match=r"Pass --polarity-order .* positive,negative,neutral"):
        read(tmp_path, table)
    said = read(tmp_path, table, poles=("neutral", "positive", "negative")).cells.values()
    assert [c["er3"] for c in said] == ["neutral", "negative"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["2_a_b", "joyful", 0, 0, 0], r"row 3, ER: 'joyful' is not one of happiness, sadness"),
        (["2_a_b", "fear", 1.5, 0, 0], r"row 3, ER: valence '1.5' is no number from -1 to 1"),
        (["2_a_b", "fear", 0, "high", 0], r"row 3, ER: arousal 'high'"),
        (["2_a_b", "fear", 0, 0, 4], r"row 3, FER: intensity '4' is no number from 0 to 3"),
        (["1_a_b", "fear", 0, 0, 0], r"row 3: '1_a_b' was labelled in row 2"),
        ([None, "fear", 0, 0, 0], "row 3: no sample name"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, [ONE_SIDE, ["1_a_b", "anger", -1, 1, 1], row], side="er")


def test_unknown_headings_are_listed_and_may_be_named(tmp_path: Path) -> None:
    table = [["who", "felt", "seen"], ["1_a_b", "anger", "neutral"]]
    with pytest.raises(
        UserError, match=r"no column of sample names among who, felt, seen; looked for id, .*7: 7 class"
    ) as error:
        read(tmp_path, table)
    assert "--label-column id=HEADING" in error.value.remedy
    columns = {"id": "who", "er7": "felt", "fer7": "seen"}
    cells = read(tmp_path, table, columns=columns).cells["1_a_b"]
    assert (cells["er7"], cells["fer7"]) == ("anger", "neutral")
    with pytest.raises(UserError, match=r"no column 'sensed' \(er7\).*who, felt, seen"):
        read(tmp_path, table, columns={"id": "who", "er7": "sensed"})


def test_options_are_checked() -> None:
    parser = argparse.ArgumentParser()
    emer_labels.options(parser.add_argument_group("emer"))
    given = parser.parse_args(
        ["--emotion-order", "Happy,sad,fear,surprise,disgust,angry,neutral", "--label-column", "er7=What?"]
    )
    assert Reading.of(given).emotions == ORDER and Reading.of(given).columns == {"er7": "What?"}
    with pytest.raises(UserError, match="Name each of happiness"):
        Reading.of(parser.parse_args(["--emotion-order", "happy,sad"]))
    with pytest.raises(UserError, match=r"er9=x.*columns are er3, er7"):
        Reading.of(parser.parse_args(["--label-column", "er9=x"]))
