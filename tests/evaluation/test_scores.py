from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from made_scores import SPACE, make_scores, make_values

from mer.errors import UserError
from mer.evaluation.scores import Scores
from mer.labels import LabelSpace

HEADER = "# mer-scores 1 " + json.dumps({"task": "emotion", "space": SPACE.to_dict(), "protocol": "loso"})
COLUMNS = "clip_id,start,end,label,p_happy,p_sad,p_angry,subject,group,fold,seed,split,model"


def written(tmp_path: Path, *rows: str, header: str = HEADER, columns: str = COLUMNS) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text("\n".join([header, columns, *rows]) + "\n", encoding="utf-8")
    return path


def same(one: Scores, other: Scores) -> bool:
    arrays = ("start", "end", "target")
    texts = ("task", "space", "protocol", "clip_id", "subject", "group", "fold", "seed", "split", "model")
    return (
        all(np.array_equal(getattr(one, a), getattr(other, a), equal_nan=True) for a in arrays)
        and all(getattr(one, t) == getattr(other, t) for t in texts)
        and np.array_equal(one.probabilities.astype(np.float32), other.probabilities.astype(np.float32))
    )


def test_a_class_file_round_trips_including_float32_probabilities_and_awkward_names(tmp_path: Path) -> None:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 4).astype(np.float32)
    scores = make_scores([0, 1, 2, -1], [0, 0, 0, 0], probabilities=p)
    scores.clip_id = ["a,b", 'quo"te', "ünïcode", "#x"]
    scores.start = np.array([0.1, np.nan, 2.0, 1 / 3])
    scores.subject, scores.seed = ["1", "2", "3", ""], ["0", "0", "1", "1"]
    scores.write(tmp_path / "new" / "scores.csv")
    again = Scores.read(tmp_path / "new" / "scores.csv")
    assert same(scores, again)
    assert np.array_equal(again.probabilities.astype(np.float32), p)
    assert again.source.endswith("scores.csv")


def test_multilabel_and_continuous_files_round_trip_with_missing_labels(tmp_path: Path) -> None:
    for kind, values in (
        ("multilabel", [[1, 0], [np.nan, 1], [np.nan, np.nan]]),
        ("continuous", [[-0.5, 7], [0.1, np.nan], [2, 3]]),
    ):
        space = LabelSpace("two.v1", ("valence", "arousal"), kind)  # type: ignore[arg-type]
        p = np.array([[0.1, 0.9], [0.5, 0.25], [0.0, 1.0]])
        scores = make_values(space, np.array(values), p)
        scores.write(tmp_path / "s.csv")
        assert same(scores, Scores.read(tmp_path / "s.csv"))
        assert "y_valence,y_arousal,p_valence,p_arousal" in (tmp_path / "s.csv").read_text()


def test_the_label_is_written_as_a_name_and_empty_when_unknown(tmp_path: Path) -> None:
    make_scores([2, -1], [0, 0]).write(tmp_path / "s.csv")
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[1] == COLUMNS
    assert lines[2].startswith("c000,,,angry,0.8,0.1,0.1")
    assert lines[3].startswith("c001,,,,")


def test_the_label_column_may_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "c,0,1,1,0,0,,,,,,", columns=COLUMNS.replace("label,", ""))
    assert not Scores.read(path).labelled.any()


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_scores([0], [0]).write(tmp_path / "file" / "s.csv")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.csv"
    make_scores([0], [0]).write(path)
    before = path.read_text()

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(UserError, match="No space left"):
        make_scores([1], [1]).write(path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["s.csv"]


GOOD = "c1,0,1,sad,0.2,0.5,0.3,s1,,,0,test,m"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c2,0,1,glad,0.2,0.5,0.3,,,,,,", "line 4, column label: label 'glad' is not in the label space three.v1"),
        ("c2,0,1,sad,x,0.5,0.3,,,,,,", "line 4: p_happy = 'x' is not a finite number"),
        ("c2,0,1,sad,nan,0.5,0.3,,,,,,", "line 4: p_happy = 'nan' is not a finite number"),
        ("c2,0,1,sad,0.2,inf,0.3,,,,,,", "line 4: p_sad = 'inf' is not a finite number"),
        ("c2,0,1,sad,0.2,,0.3,,,,,,", "line 4: p_sad = '' is not a finite number"),
        ("c2,0,1,sad,0.2,0.5,0.302,,,,,,", "line 4: the probabilities p_happy ... p_angry sum to 1.002, not 1"),
        ("c2,0,1,sad,-0.2,0.9,0.3,,,,,,", "line 4: p_happy = -0.2 is not between 0 and 1"),
        ("c2,soon,1,sad,0.2,0.5,0.3,,,,,,", "line 4: start = 'soon' is not a finite number"),
        (",0,1,sad,0.2,0.5,0.3,,,,,,", "line 4: clip_id is empty"),
        ("c1,0.0,9,sad,0.2,0.5,0.3,,,,0,,m", "line 4: clip_id 'c1', start '0.0', seed '0', model 'm' occurs twice"),
        ("c2,0,1,sad,0.2,0.5", "line 4: 6 cells under 13 columns"),
    ],
)
def test_a_bad_cell_is_named_with_file_line_and_column(tmp_path: Path, row: str, message: str) -> None:
    path = written(tmp_path, GOOD, row)
    with pytest.raises(UserError) as caught:
        Scores.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_the_sum_of_probabilities_may_be_off_by_rounding(tmp_path: Path) -> None:
    assert len(Scores.read(written(tmp_path, "c,0,1,sad,0.333,0.333,0.3335,,,,,,", ""))) == 1


@pytest.mark.parametrize("column", COLUMNS.replace("label,", "").split(","))
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    columns = ",".join(c for c in COLUMNS.split(",") if c != column)
    with pytest.raises(UserError, match=f"line 2: the column '{column}' is missing"):
        Scores.read(written(tmp_path, columns=columns))


def test_a_column_of_another_label_space_or_a_repeated_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'p_calm' is not of the label space three.v1"):
        Scores.read(written(tmp_path, columns=COLUMNS + ",p_calm"))
    with pytest.raises(UserError, match="'p_sad' occurs twice"):
        Scores.read(written(tmp_path, columns=COLUMNS + ",p_sad"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("clip_id,label", "line 1: not a score file"),
        ("", "line 1: not a score file"),
        (HEADER.replace("scores 1", "scores 2"), "line 1: schema version '2', this mer reads 1"),
        ("# mer-scores 1 {", "line 1: the header is damaged"),
        ("# mer-scores 1 {}", "line 1: the header is damaged"),
    ],
)
def test_a_foreign_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Scores.read(written(tmp_path, header=header))


def test_files_that_are_not_there_or_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.csv: no such file"):
        Scores.read(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot be read"):
        Scores.read(tmp_path)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        Scores.read(tmp_path / "b.csv")


def test_multilabel_labels_are_0_or_1_and_continuous_ones_finite(tmp_path: Path) -> None:
    columns = "clip_id,start,end,y_a,p_a,subject,group,fold,seed,split,model"
    for kind, cell, message in (("multilabel", "0.5", "y_a = 0.5 is not 0 or 1"), ("continuous", "inf", "y_a = 'inf'")):
        space = LabelSpace("one.v1", ("a",), kind)  # type: ignore[arg-type]
        header = "# mer-scores 1 " + json.dumps({"space": space.to_dict()})
        with pytest.raises(UserError, match=f"line 3: {message}"):
            Scores.read(written(tmp_path, f"c,,,{cell},0.5,,,,,,", header=header, columns=columns))


def test_values_are_checked_when_made_too_and_the_clip_is_named() -> None:
    with pytest.raises(UserError, match="clip 'c001': p_sad = nan is not a finite number"):
        make_scores([0, 0], [0, 0], probabilities=np.array([[1, 0, 0], [1, np.nan, 0]]))
    with pytest.raises(UserError, match="label index 3 is not in the label space"):
        make_scores([3], [0])
    with pytest.raises(UserError, match="start is not finite"):
        make_scores([0], [0], start=np.array([np.inf]))
    with pytest.raises(ValueError, match=r"probabilities must be \(1, 3\)"):
        make_scores([0], [0], probabilities=np.ones((1, 2)))
    with pytest.raises(ValueError, match="fold must have 2 entries"):
        make_scores([0, 0], [0, 0], fold=["1"])


def test_select_keeps_the_rows_of_the_mask() -> None:
    part = make_scores([0, 1, 2], [0, 1, 2], subject=["a", "b", "c"], seed=[1, 2, 3]).select(
        np.array([True, False, True])
    )
    assert (part.clip_id, part.subject, part.seed, part.target.tolist()) == (
        ["c000", "c002"],
        ["a", "c"],
        ["1", "3"],
        [0, 2],
    )
    with pytest.raises(ValueError, match="bool mask"):
        part.select([0, 1])


def test_concat_joins_folds_and_refuses_other_tasks_spaces_and_repeated_rows() -> None:
    one, two = make_scores([0], [0]), make_scores([1], [1], clip_id=["d"])
    assert Scores.concat([one, two]).target.tolist() == [0, 1]
    with pytest.raises(UserError, match="occurs twice"):
        Scores.concat([one, one])
    with pytest.raises(UserError, match="part 2 has the task 'valence', part 1 has 'emotion'"):
        Scores.concat([one, make_scores([0], [0], task="valence")])
    with pytest.raises(UserError, match=r"part 2 has the space 'other.v1', part 1 has 'three.v1'"):
        Scores.concat([one, make_scores([0], [0], space=LabelSpace("other.v1", ("a", "b")))])
    with pytest.raises(UserError, match="has the protocol 'official'"):
        Scores.concat([one, make_scores([0], [0], protocol="official")])
