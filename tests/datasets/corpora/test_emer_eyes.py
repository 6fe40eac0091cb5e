"""EMER's eye workbooks: however they were exported, the same numbers in the same order at the same times."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer.datasets.corpora.emer_eyes import Eyes, convert
from mer.datasets.twins import emer as twin
from mer.encoders.eye_lstm import TOBII
from mer.errors import UserError
from mer.media import gaze_files
from mer.media.table import write_workbook
from mer.spec import InputSpec

SPEC = InputSpec("eye", columns=(*TOBII, "valid"), backend="file")


def kept(
    folder: Path, table: list[list[Any]], length: float = 1.2, validity: str = ""
) -> tuple[Eyes, np.ndarray, list[str]]:
    """What becomes of a workbook: facts, data (N, 1 + columns) and the names of the columns."""
    write_workbook(folder / "1_film_sad.xlsx", table)
    eyes = convert(folder / "1_film_sad.xlsx", folder / "kept.npz", length, validity)
    with np.load(folder / "kept.npz", allow_pickle=False) as arrays:
        return eyes, arrays["data"], [str(name) for name in arrays["columns"]]


def numbers(**changed: list[float]) -> list[list[Any]]:
    """A workbook of numbers alone, as the released code casts it."""
    headings = [f"{heading} [{unit}]" if unit else heading for heading, unit in twin.BLOCK]
    values = twin._numbers(twin.Clip(0, 0, 0))
    for heading, column in changed.items():
        values[:, headings.index(heading.replace("_", " "))] = np.resize(column, len(values))
    return [headings, *values.tolist()]


def test_every_way_to_export_gives_the_same_array(tmp_path: Path) -> None:
    clip = twin.Clip(0, 0, 0)
    values = twin._numbers(clip)
    for form, clock in enumerate(("file", "ms", "file", "file")):
        table = twin._recording(clip, form)
        assert len(table) > 1 + len(values)  # the mouse and its events stand between the samples
        eyes, data, names = kept(tmp_path, table)
        assert names == ["t_s", *TOBII] and eyes.absent == () and eyes.gaze
        assert eyes.clock == clock  # older headings have no unit: only milliseconds give a tracker's rate
        np.testing.assert_allclose(data[:, 1:], values, rtol=1e-4, atol=1e-4)
        # Recordings begin before the clip: its first sample is 0 s. Whole milliseconds are what the export has.
        np.testing.assert_allclose(data[:, 0], np.arange(len(values)) / 120, atol=1.1e-3)


def test_the_encoder_reads_what_was_kept(tmp_path: Path) -> None:
    kept(tmp_path, twin._recording(twin.Clip(0, 0, 0), 0))
    stream = gaze_files.load(tmp_path, "kept.npz#data", SPEC)
    assert stream.values.shape == (144, 40)
    where = [*TOBII].index("eye_movement_type")
    assert set(stream.values[:, where]) <= {0, 1, 2, 3} and 3 in stream.values[60:66, where]
    valid = stream.values[:, TOBII.index("valid_left")]
    assert (valid[60:66] == 0).all() and (valid[:60] == 1).all()


def test_columns_are_put_into_the_order_of_the_export(tmp_path: Path) -> None:
    table = twin._recording(twin.Clip(0, 0, 0), 0)
    turned = [row[::-1] for row in table]
    np.testing.assert_array_equal(kept(tmp_path, table)[1], kept(tmp_path, turned)[1])


def test_microseconds_without_a_unit_are_told_by_the_rate_and_a_strange_rate_is_not(tmp_path: Path) -> None:
    table = twin._recording(twin.Clip(0, 0, 0), 3)
    table[0][0] = "Recording timestamp"
    eyes, data, _ = kept(tmp_path, table)
    assert eyes.clock == "us" and data[-1, 0] == pytest.approx(143 / 120, abs=1e-3)
    for row in table[1:]:
        row[0] *= 60  # 2 Hz as microseconds, 0.002 Hz as milliseconds
    with pytest.raises(UserError, match=r"the unit of the clock 'recording_timestamp' is not said"):
        kept(tmp_path, table)


def test_samples_without_a_clock_are_spread_over_the_clip(tmp_path: Path) -> None:
    eyes, data, names = kept(tmp_path, numbers(), 12.0, "one")
    assert names == ["t_s", *TOBII] and eyes.clock == "spread"
    np.testing.assert_allclose(np.diff(data[:, 0]), 12.0 / 144, atol=1e-5)
    assert eyes.seconds == pytest.approx(12.0, rel=1e-4)


def test_what_lacks_of_the_block_is_said_and_the_rest_kept(tmp_path: Path) -> None:
    table = [
        [*row[:12], *row[16:]] for row in twin._recording(twin.Clip(0, 0, 0), 0)
    ]  # no gaze direction right, no more
    table[0].append("Pupil diameter filtered [mm]")
    for row in table[1:]:
        row.append(3.5)
    eyes, _, names = kept(tmp_path, table)
    assert eyes.absent and all(name not in names for name in eyes.absent) and "pupil_diameter_filtered" in names
    assert [n for n in names if n in TOBII] == [n for n in TOBII if n in names]
    assert not {"sensor", "event", "presented_stimulus_name", "recording_timestamp"} & set(names)
    alone = [["Recording timestamp [ms]", "Pupil diameter left [mm]", "Event"], [0, 3.1, None], [8, 3.2, "x"]]
    eyes, _, names = kept(tmp_path, alone)
    assert names == ["t_s", "pupil_left"] and not eyes.gaze


@pytest.mark.parametrize(
    ("codes", "validity", "marks"),
    [
        ([1, 0], "one", [1, 0]), ([1, 0], "zero", [0, 1]), ([0, 1], "studio", [1, 1]), ([0, 4], "", [1, 0]),
        ([0, 2, 1], "studio", [1, 0, 1]), ([0, 0], "one", [0, 0]),
    ],
)  # fmt: skip
def test_codes_of_validity_mean_what_was_said(
    tmp_path: Path, codes: list[float], validity: str, marks: list[float]
) -> None:
    table = numbers(Validity_left=codes, Validity_right=codes)
    _, data, names = kept(tmp_path, table, 1.2, validity)
    assert data[: len(marks), names.index("valid_left")].tolist() == marks


@pytest.mark.parametrize(
    ("codes", "validity", "message"),
    [
        ([0, 1], "", r"validity of the left eye is written as 0, 1.*Pass --validity one"),
        ([0, 0], "", r"validity of the left eye is written as 0, and"),
        ([0, 4], "one", r"codes 0, 4 .* --validity one has only 0 and 1"),
        ([0, 7], "", "codes 0, 7"),
        ([0, 4, 7], "", "codes 0, 4, 7"),
    ],
)
def test_codes_of_validity_are_never_guessed(tmp_path: Path, codes: list[float], validity: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        kept(tmp_path, numbers(Validity_left=codes, Validity_right=codes), 1.2, validity)


def test_a_workbook_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept(tmp_path, numbers(), 1.2, "one")[0]
    source, target = tmp_path / "1_film_sad.xlsx", tmp_path / "kept.npz"
    with monkeypatch.context() as patch:
        patch.setattr("mer.media.table.rows", lambda path: pytest.fail("read again"))
        assert convert(source, target, 1.2, "one") == first
    os.utime(source, ns=(1, 1))
    before = target.stat().st_mtime_ns
    assert convert(source, target, 1.2, "one") == first and target.stat().st_mtime_ns > before
    assert convert(source, target, 1.2, "zero") == first  # another option, another array
    target.write_bytes(b"half")
    assert convert(source, target, 1.2, "one") == first


def test_a_broken_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK junk")
    with pytest.raises(UserError, match=r"x.xlsx: not a readable .xlsx"):
        convert(tmp_path / "x.xlsx", tmp_path / "x.npz", 1.0, "")
    assert not (tmp_path / "x.npz").exists()
    with pytest.raises(UserError, match=r"line 4: 'lost' in column 'gaze_x' is not a number"):
        kept(tmp_path, [["t_s", "Gaze point X", "Gaze point Y"], [0, 1, 1], [0.1, 1, 1], [0.2, "lost", 1]])
