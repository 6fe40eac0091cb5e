"""Recordings of eye trackers: the clock is known or asked for, what was lost stays lost, eyes keep their sides."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer.encoders.eye_lstm import TOBII
from mer.errors import UserError
from mer.media.gaze_files import Clock, ClockError, identity, load, of_rows, resample
from mer.media.stream import Stream
from mer.media.table import write_workbook
from mer.spec import InputSpec


def spec(*columns: str, rate: float | None = None) -> InputSpec:
    return InputSpec(kind="eye", backend="file", columns=columns, rate=rate)


def table(path: Path, heading: str, rows: list[str]) -> None:
    path.write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8")


def read(
    folder: Path, heading: str, rows: list[str], *columns: str, clock: str = "", rate: float | None = None
) -> Stream:
    """Write a table and load it."""
    table(folder / "g.csv", heading, rows)
    return load(folder, f"g.csv{clock}", spec(*columns, rate=rate))


# -- Clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "unit", "clock"),
    [
        ("t_s", 1.0, ""), ("time_ms", 1e3, ""), ("timestamp_us", 1e6, ""), ("Recording timestamp [ms]", 1e3, ""),
        ("Recording timestamp [μs]", 1e6, ""), ("Recording timestamp (us)", 1e6, ""), ("time", 1e3, "#ms"),
        ("Timestamp", 1.0, "#s"), ("Recording timestamp", 1e6, "#us"),
    ],
)  # fmt: skip
def test_the_clock_is_said(tmp_path: Path, heading: str, unit: float, clock: str) -> None:
    rows = [f"{round((2 + k / 50) * unit, 6)},{k},1" for k in range(5)]
    stream = read(tmp_path, f"{heading},x,y", rows, "gaze_x", clock=clock)
    np.testing.assert_allclose(stream.spans[:, 0], 2 + np.arange(5) / 50, atol=1e-5)  # a relative clock keeps its zero
    assert stream.values[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("heading", ["time", "Timestamp", "Recording timestamp", "eyetracker timestamp"])
def test_an_unsaid_unit_is_asked_for(tmp_path: Path, heading: str) -> None:
    with pytest.raises(UserError, match=r"unit of the clock .* is not said.*#s, #ms, #us"):
        read(tmp_path, f"{heading},x,y", ["0,1,1", "20,2,2"], "gaze_x")


def test_no_clock_at_all_is_asked_for_and_may_be_a_rate(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column of time"):
        read(tmp_path, "x,y", ["1,1", "2,2"], "gaze_x")
    stream = read(tmp_path, "x,y", ["1,1", "2,2"], "gaze_x", clock="#50Hz")
    np.testing.assert_allclose(stream.spans, [[0, 0.02], [0.02, 0.04]], atol=1e-6)


def test_wall_clocks_and_device_clocks_start_with_the_first_sample(tmp_path: Path) -> None:
    rows = ["2022-12-16 12:59:59.9900;1;1", "2022-12-16 13:00:00.0100;2;2"]
    np.testing.assert_allclose(read(tmp_path, "Timestamp;x;y", rows, "gaze_x").spans[:, 0], [0, 0.02], atol=1e-6)
    rows = ["1700000000000000,1,1", "1700000000020000,2,2"]
    np.testing.assert_allclose(
        read(tmp_path, "system_time_stamp,x,y", rows, "gaze_x").spans[:, 0], [0, 0.02], atol=1e-6
    )


def test_a_clock_that_goes_back_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 4: the clock goes back"):
        read(tmp_path, "t_s,x,y", ["0,1,1", "0.2,2,2", "0.1,3,3"], "gaze_x")


# -- Headings and cells ------------------------------------------------------------------------------------------------


def test_tobii_pro_lab_with_decimal_commas_events_and_two_units(tmp_path: Path) -> None:
    heading = "\t".join(
        ["Recording timestamp [ms]", "Sensor", "Gaze point X [DACS px]", "Gaze point Y [DACS px]",
         "Gaze point X [MCS norm]", "Pupil diameter left [mm]", "Pupil diameter right [mm]", "Validity left",
         "Validity right", "Eye movement type"]
    )  # fmt: skip
    rows = [
        "0\tEye Tracker\t960\t540\t0,5\t3,25\t3,75\tValid\tValid\tFixation",
        "4\tMouse\t\t\t\t\t\t\t\t",
        "8\tEye Tracker\t970\t545\t0,6\t3,25\t9,9\tValid\tInvalid\tFixation",
        "16\tEye Tracker\t\t\t\t\t\tInvalid\tInvalid\tEyesNotFound",
    ]
    table(tmp_path / "p.tsv", heading, rows)
    stream = load(tmp_path, "p.tsv", spec("gaze_x", "gaze_x_norm", "pupil", "pupil_right", "valid"))
    np.testing.assert_allclose(
        stream.values, [[960, 0.5, 3.5, 3.75, 1], [970, 0.6, 3.25, 0, 0], [0, 0, 0, 0, 0]], rtol=1e-6
    )
    np.testing.assert_allclose(stream.spans[:, 0], [0, 0.008, 0.016], atol=1e-6)
    marks = load(tmp_path, "p.tsv", spec("valid_left", "valid_right", "eye_movement_type", "valid"))
    assert marks.values.tolist() == [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 3, 1]]
    with pytest.raises(UserError, match=r"line 2: 'Eye Tracker' in column 'sensor' is not a number"):
        load(tmp_path, "p.tsv", spec("sensor"))


def test_all_numbers_of_a_tobii_pro_lab_export_are_columns(tmp_path: Path) -> None:
    axes, sides = ("X", "Y", "Z"), ("left", "right")
    headings = [f"Gaze point {a} [DACS px]" for a in "XY"]
    headings += [f"Gaze point {s} {a} [DACS px]" for s in sides for a in "XY"]
    headings += [f"Gaze direction {s} {a} [HUCS norm]" for s in sides for a in axes]
    headings += [f"Pupil diameter {s} [mm]" for s in sides] + [f"Validity {s}" for s in sides]
    headings += [f"Eye position {s} {a} [DACS mm]" for s in sides for a in axes]
    headings += [f"Gaze point {s} {a} [DACS mm]" for s in sides for a in "XY"]
    headings += [f"Gaze point {a} [MCS norm]" for a in "XY"]
    headings += [f"Gaze point {s} {a} [MCS norm]" for s in sides for a in "XY"]
    headings += ["Eye movement type", "Gaze event duration [ms]", "Eye movement type index"]
    headings += [f"Fixation point {a} [{unit}]" for unit in ("DACS px", "MCS norm") for a in "XY"]
    assert len(headings) == len(TOBII) == 39
    cells = [str(k + 1) for k in range(39)]
    for place, word in ((14, "Valid"), (15, "Invalid"), (32, "Saccade")):
        cells[place] = word
    new = "\t".join(["Recording timestamp [ms]", "Sensor", *headings])
    old = new.replace(" [DACS px]", "").replace(" [HUCS norm]", "").replace("DACS mm", "DACSmm")
    old = old.replace("MCS norm", "MCSnorm").replace(" [", " (").replace("]", ")")
    for name, heading in (("new.tsv", new), ("old.tsv", old)):
        table(tmp_path / name, heading, ["\t".join(["0", "Eye Tracker", *cells])])
        stream = load(tmp_path, name, spec(*TOBII, "valid"))
        wanted = np.arange(1.0, 40)
        wanted[[14, 15, 32]] = 1, 0, 2
        lost = np.array(["_right" in column and column != "valid_right" for column in TOBII])
        np.testing.assert_array_equal(stream.values[0, :39], np.where(lost, 0, wanted))  # the right eye is not valid


def test_tobii_sdk_gaze_is_the_mean_of_the_eyes_that_were_seen(tmp_path: Path) -> None:
    heading = (
        "system_time_stamp,left_gaze_point_on_display_area_x,left_gaze_point_on_display_area_y,"
        "right_gaze_point_on_display_area_x,right_gaze_point_on_display_area_y,"
        "left_gaze_point_validity,right_gaze_point_validity"
    )
    rows = ["0,0.4,0.1,0.6,0.3,1,1", "8000,0.4,0.1,0.9,0.9,1,0", "16000,nan,nan,nan,nan,0,0"]
    stream = read(tmp_path, heading, rows, "gaze_x", "gaze_y", "valid")
    np.testing.assert_allclose(stream.values, [[0.5, 0.2, 1], [0.4, 0.1, 1], [0, 0, 0]], rtol=1e-6)


def test_tobii_studio_codes(tmp_path: Path) -> None:
    rows = ["0,1,3.1,0", "10,2,3.2,1", "20,3,3.3,4"]
    stream = read(tmp_path, "time_ms,GazePointX (ADCSpx),PupilLeft,ValidityLeft", rows, "pupil_left")
    assert stream.values[:, 0].tolist() == pytest.approx([3.1, 3.2])
    with pytest.raises(UserError, match="opposite ways"):
        read(tmp_path, "time_ms,x,PupilLeft,ValidityLeft", ["0,1,3.1,0", "10,2,3.2,1"], "pupil_left")


def test_what_counts_as_missing(tmp_path: Path) -> None:
    rows = ["0,0,0,-1,0.5", "0.01,5,0,3,-1", "0.02,0,7,0,0", "0.03,,NaN,3.5,1"]
    stream = read(
        tmp_path, "t_s,x,y,pupil_l,openness_l", rows, "gaze_x", "gaze_y", "pupil_left", "openness_left", "valid"
    )
    assert stream.values.tolist() == [
        [0, 0, 0, 0.5, 0],  # the corner of the screen, a shut eye's pupil
        [5, 0, 3, 0, 0],  # openness below 0
        [0, 7, 0, 0, 0],  # gaze on the edge is gaze; openness 0 is a shut eye; no pupil
        [0, 0, 3.5, 1, 0],
    ]


def test_without_valid_incomplete_samples_are_left_out(tmp_path: Path) -> None:
    rows = ["0,1,1", "0.01,,", "0.02,3,3"]
    stream = read(tmp_path, "t_s,x,y", rows, "gaze_x")
    assert stream.values[:, 0].tolist() == [1, 3]
    np.testing.assert_allclose(stream.spans[:, 0], [0, 0.02], atol=1e-6)


def test_columns_under_their_own_headings(tmp_path: Path) -> None:
    rows = ["0,1,0.5", "0.01,2,0.6"]
    stream = read(tmp_path, "t_s,Fixation point X,Head Tilt", rows, "head_tilt", "fixation_point_x")
    np.testing.assert_allclose(stream.values, [[0.5, 1], [0.6, 2]], rtol=1e-6)
    with pytest.raises(UserError, match=r"no column 'pupil'. It has .*head_tilt"):
        read(tmp_path, "t_s,Fixation point X,Head Tilt", rows, "pupil")
    with pytest.raises(UserError, match="without columns"):
        read(tmp_path, "t_s,x,y", ["0,1,1"], "valid")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no table with headings"),
        ("0,960,540\n0.01,961,541\n", "no table with headings"),
        ("t_s,x,y\n", "no samples"),
        ("timestamp,x,y\n", "no samples"),
        ("t_s,x,y\n0,1\n", "line 2: 2 cells under 3 headings"),
        ("t_s,x,y\n0,one,1\n", "line 2: 'one' in column 'gaze_x'"),
        ("t_s,x,y\n0.1,1,1\n2022,2,\n0,1,1\n", "line 4: the clock"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        load(tmp_path, "g.csv", spec("gaze_x"))


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    (tmp_path / "a.xls").write_bytes(b"\xd0\xcf")
    (tmp_path / "a.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "b.csv").write_bytes(b"t_s,x\n\xff\xfe\xfa")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    for name, says in [
        ("nowhere.csv", "no such file"), ("a.xls", "Export it as"), ("a.xlsx", "not a readable .xlsx"),
        ("a.csv.gz", "not readable text"),
        ("b.csv", "not readable text"), ("a.npz#k", r"not a readable \.npz"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=says):
            load(tmp_path, name, spec("gaze_x"))
    table(tmp_path / "g.csv", "t_s,x", ["0,1"])
    with pytest.raises(UserError, match=r"'minutes' is no clock.*#120Hz"):
        load(tmp_path, "g.csv#minutes", spec("gaze_x"))


def test_a_workbook_reads_as_its_text_does(tmp_path: Path) -> None:
    heading = [
        "Recording timestamp [ms]",
        "Sensor",
        "Gaze point X [DACS px]",
        "Pupil diameter left [mm]",
        "Validity left",
    ]
    cells: list[list[Any]] = [[0, "Eye Tracker", 10.5, "3,25", "Valid"], [20, "Eye Tracker", 11, "3,5", "Valid"],
                              [20, "Mouse", 5, None, None], [40, "Eye Tracker", 12.25, None, "Invalid"]]  # fmt: skip
    write_workbook(tmp_path / "g.xlsx", [heading, *cells])
    text = ["\t".join("" if c is None else str(c) for c in row) for row in cells]
    table(tmp_path / "g.tsv", "\t".join(heading), text)
    columns = spec("gaze_x", "pupil_left", "valid_left", "valid")
    book, plain = (load(tmp_path, name, columns) for name in ("g.xlsx", "g.tsv"))
    np.testing.assert_array_equal(book.values, plain.values)
    np.testing.assert_array_equal(book.spans, plain.spans)
    np.testing.assert_allclose(book.values, [[10.5, 3.25, 1, 1], [11, 3.5, 1, 1], [0, 0, 0, 0]])
    write_workbook(tmp_path / "g.xlsx", [[h.replace(" [ms]", "") for h in heading], *cells])
    np.testing.assert_array_equal(load(tmp_path, "g.xlsx#ms", columns).spans, plain.spans)
    write_workbook(tmp_path / "wide.xlsx", [["t_s", "x"], [0, 1], [1, 2, 3]])
    with pytest.raises(UserError, match=r"wide.xlsx: line 3: 3 cells under 2 headings"):
        load(tmp_path, "wide.xlsx", spec("gaze_x"))


def test_events_have_no_sensor_and_are_no_samples(tmp_path: Path) -> None:
    heading = "Recording timestamp [ms],Sensor,Event,Gaze point X"
    rows = ["0,Eye Tracker,,1", "5,,VideoStimulusStart,", "10,Eye Tracker,,2", "12,Mouse,,77"]
    assert read(tmp_path, heading, rows, "gaze_x", "valid").values.tolist() == [[1, 1], [2, 1]]
    unsaid = ["0,,,1", "10,,,2"]  # an export that leaves the column empty
    assert read(tmp_path, heading, unsaid, "gaze_x", "valid").values.tolist() == [[1, 1], [2, 1]]


def test_rows_at_hand_are_a_recording_and_a_clock_that_is_not_known_says_so(tmp_path: Path) -> None:
    rows = [["Timestamp", "x"], ["0", "5"], ["10"]]
    recording = of_rows(tmp_path / "g", rows, Clock(unit=1e-3))
    assert recording.times.tolist() == [0, 0.01] and recording.stored("gaze_x")[0] == 5
    with pytest.raises(ClockError) as unit:
        of_rows(tmp_path / "g", rows)
    with pytest.raises(ClockError) as column:
        of_rows(tmp_path / "g", [["y", "x"], ["0", "5"]])
    assert (unit.value.column, column.value.column) == ("timestamp", "")


def test_utf_16_and_gzip(tmp_path: Path) -> None:
    text = "t_s\tx\ty\n0\t1\t1\n0.01\t2\t2\n"
    (tmp_path / "a.tsv").write_bytes(text.encode("utf-16"))
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.tsv", "b.tsv.gz"):
        assert load(tmp_path, name, spec("gaze_x")).values[:, 0].tolist() == [1, 2]


# -- Resampling --------------------------------------------------------------------------------------------------------


def test_linear_between_neighbours_and_no_bridge_over_a_gap() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.6, 0.7])
    values = np.array([0.0, 1.0, 2.0, 6.0, np.nan])
    at = np.array([-0.2, -0.1, 0.05, 0.2, 0.3, 0.36, 0.4, 0.5, 0.7, 0.8])
    out = resample(times, values, at, reach=0.15)
    assert out[1:4].tolist() == pytest.approx([0.0, 0.5, 2.0])
    assert out[[4, 7, 8]].tolist() == pytest.approx([2.0, 6.0, 6.0])  # the nearer one, from one side only
    assert np.isnan(out[[0, 5, 6, 9]]).all()


def test_a_fixed_rate_has_its_own_spans_and_marks_gaps(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(100), np.arange(150, 200)]) / 100
    rows = [f"{t},{t},1" for t in times]
    stream = read(tmp_path, "t_s,x,y", rows, "gaze_x", "valid", rate=20)
    assert len(stream) == 40
    np.testing.assert_allclose(stream.spans[:, 0], np.arange(40) / 20, atol=1e-5)
    valid = stream.values[:, 1] == 1
    middles = stream.spans.mean(1)
    assert (valid == ((middles < 1.005) | (middles > 1.485))).all()
    np.testing.assert_allclose(stream.values[valid, 0], middles[valid], atol=1e-5)
    assert (stream.values[~valid] == 0).all()


def test_a_stretch_is_cut_out(tmp_path: Path) -> None:
    table(tmp_path / "g.csv", "t_s,x,y", [f"{k / 100},{k},1" for k in range(300)])
    stream = load(tmp_path, "g.csv", spec("gaze_x", rate=10), start=1.0, end=1.5)
    np.testing.assert_allclose(stream.spans[[0, -1]], [[1.0, 1.1], [1.4, 1.5]], atol=1e-6)
    assert stream.values[:, 0].tolist() == pytest.approx([105, 115, 125, 135, 145])
    native = load(tmp_path, "g.csv", spec("gaze_x"), start=1.0, end=1.5)
    assert native.values[[0, -1], 0].tolist() == [100, 149]
    for rate in (10, None):
        with pytest.raises(UserError, match=r"from 0 to 2.99 s, none from 5 s on"):
            load(tmp_path, "g.csv", spec("gaze_x", rate=rate), start=5.0)


# -- Arrays ------------------------------------------------------------------------------------------------------------


def test_packed_recordings(tmp_path: Path) -> None:
    data = np.stack([np.tile(np.arange(5) / 50, 2), np.arange(10.0) + 1, np.full(10, -1.0)], 1)
    np.savez(tmp_path / "r.npz", data=data, offset=[0, 5, 10], columns=["t_s", "pupil_mm_L", "openness_R"])
    stream = load(tmp_path, "r.npz#data[1]", spec("pupil_left", "openness_right", "valid"))
    assert stream.values.tolist() == [[6 + k, 0, 0] for k in range(5)]
    with pytest.raises(UserError, match="row 2 of 2"):
        load(tmp_path, "r.npz#data[2]", spec("pupil_left"))
    with pytest.raises(UserError, match=r"2 recordings end to end.*data\[row\]"):
        load(tmp_path, "r.npz#data", spec("pupil_left"))
    with pytest.raises(UserError, match="no array 'gaze'"):
        load(tmp_path, "r.npz#gaze[0]", spec("pupil_left"))


def test_packed_without_names_or_clock(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.ones((4, 3)), xy=np.ones((4, 2)))
    with pytest.raises(UserError, match="3 columns have no names"):
        load(tmp_path, "a.npz#data", spec("gaze_x"))
    with pytest.raises(UserError, match="neither a column of time nor a rate"):
        load(tmp_path, "a.npz#xy", spec("gaze_x"))
    assert load(tmp_path, "a.npz#xy#100Hz", spec("gaze_x")).spans[-1, 1] == pytest.approx(0.04)


def test_identity_names_the_columns() -> None:
    assert identity(spec("gaze_x")) != identity(spec("pupil"))


# -- Real recordings ---------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("name", "row"), [("P1_Control", 0), ("P1_4_Combined", 4)])
@pytest.mark.parametrize("kind", ["", "_blinks"])
def test_eye_ier2023_table_and_array_agree(real_data: Path, name: str, row: int, kind: str) -> None:
    root = real_data / "eye_ier2023"
    columns = ("openness_left", "openness_right", "pupil_left", "pupil_right", "valid")
    for rate in (None, 60.0):
        raw = load(root, f"raw_samples/{name}{kind}.csv.gz", spec(*columns, rate=rate))
        packed = load(root, f"recordings.npz#data[{row}]", spec(*columns, rate=rate))
        # The array's clock is float32, so that now and then a sample falls out of reach by a hair.
        assert len(raw) == len(packed) > 3000
        same = (np.abs(raw.values - packed.values) < 2e-3).all(1)
        assert same.mean() > 0.999
    assert 0.5 < raw.values[:, 4].mean() < 1
    assert (raw.values[raw.values[:, 2] > 0, 2] > 1).all()  # no closed eye's -1 in the pupil


@pytest.mark.real
def test_andersson_recordings(real_data: Path) -> None:
    root = real_data / "eye_andersson2017"
    held = np.load(root / "labelled_gaze.npz")
    offset, gaze = held["offset"], held["xy_px"]
    for row in (0, 3, len(offset) - 2):
        stream = load(root, f"labelled_gaze.npz#xy_px[{row}]", spec("gaze_x", "gaze_y", "valid"))
        own = gaze[offset[row] : offset[row + 1]]
        np.testing.assert_array_equal(stream.values[:, :2], own)
        assert (stream.values[:, 2] == (own != 0).any(1)).all()
        assert stream.spans[-1, 1] == pytest.approx(len(own) / 500, abs=1e-3)
        slow = load(root, f"labelled_gaze.npz#xy_px[{row}]", spec("gaze_x", "gaze_y", rate=50))
        assert len(slow) <= -(-len(own) // 10)
        assert (slow.values[:, 0] >= own[own.any(1), 0].min()).all()


@pytest.mark.real
def test_a_recording_under_pro_lab_headings_reads_the_same(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "eye_andersson2017"
    with np.load(root / "labelled_gaze.npz") as held:
        row = int(np.flatnonzero(held["name"] == "UL39_img_konijntjes_labelled")[0])
        gaze = held["xy_px"][held["offset"][row] : held["offset"][row + 1]]
    heading = "Recording timestamp [ms]\tSensor\tGaze point X [DACS px]\tGaze point Y [DACS px]\tValidity left"
    lines = []
    for k, (x, y) in enumerate(gaze):
        seen = bool(x or y)
        point = f"{x:.4f}\t{y:.4f}".replace(".", ",") if seen else "\t"
        lines.append(f"{2 * k}\tEye Tracker\t{point}\t{'Valid' if seen else 'Invalid'}")
        if k % 100 == 0:
            lines.append(f"{2 * k}\tMouse\t12\t12\t")
    table(tmp_path / "export.tsv", heading, lines)
    for rate in (None, 120.0):
        columns = spec("gaze_x", "gaze_y", "valid", rate=rate)
        ours, theirs = load(tmp_path, "export.tsv", columns), load(root, f"labelled_gaze.npz#xy_px[{row}]", columns)
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-4)
        np.testing.assert_allclose(ours.spans, theirs.spans, atol=1e-6)
        assert 0.8 < ours.values[:, 2].mean() < 0.95


def test_a_small_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer.media.gaze_files.LARGEST", 1 << 20)
    (tmp_path / "g.tsv.gz").write_bytes(gzip.compress(b"t_s\tgaze_x\n" + b"0" * (2 << 20)))
    with pytest.raises(UserError, match="more than 1 MB"):
        load(tmp_path, "g.tsv.gz", spec("gaze_x"))


@pytest.mark.parametrize("wild", ["1e9", "1e308"])
def test_a_wild_time_stamp_is_named_and_not_allocated(wild: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(f"t_s,gaze_x\n0.00,1\n0.02,2\n0.04,3\n{wild},4\n", encoding="utf-8")
    with pytest.raises(UserError, match="last time stamps"):
        load(tmp_path, "g.csv", spec("gaze_x", rate=50))
    assert len(load(tmp_path, "g.csv", spec("gaze_x", rate=50), 0.0, 0.04)) == 2
