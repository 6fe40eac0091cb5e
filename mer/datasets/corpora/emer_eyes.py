"""EMER's eye-movement workbooks, read once and kept as arrays: a workbook takes most of a second, an array a millisecond."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mer.encoders.eye_lstm import TOBII
from mer.errors import UserError
from mer.files import draft_of
from mer.media import gaze_files, table
from mer.media.gaze_files import Clock, ClockError, Recording

SLOWEST, FASTEST = 10.0, 5000.0  # Hz: eye trackers; with a factor of 1000 between the units, only one of them fits
MOST_KEPT = 64  # columns beside the 39
VERSION = 1


@dataclass(frozen=True)
class Eyes:
    """A workbook as it was kept.

    Attributes:
        seconds: from the first sample to the end of the last.
        clock: `file`: the heading says the unit; `ms`, `us` ...: the rate of an eye tracker proves it; `spread`: there is no
            clock, and the samples were spread over the clip.
        absent: of the 39 columns of `mer.encoders.eye_lstm.TOBII` those that the workbook lacks.
        gaze: whether it holds a gaze point.
    """

    seconds: float
    clock: str
    absent: tuple[str, ...]
    gaze: bool


def convert(source: Path, target: Path, length: float, validity: str) -> Eyes:
    """Keep a workbook (or .csv, .tsv) as `target#data`, unless that was done before.

    Columns: `t_s`, seconds from the first sample; then the 39 of a Tobii Pro Lab export in their order or, where some lack,
    those that there are and any other column of numbers. Units are the workbook's. Words are coded: `valid_left` and
    `valid_right` 1 for Valid, 0 for Invalid; `eye_movement_type` as in `mer.media.gaze_files`.

    Args:
        source: the workbook.
        target: .npz.
        length: seconds of the clip, over which samples without a clock are spread.
        validity: what codes of validity mean: `one` (1 is valid, 0 not), `zero` (0 is valid, 1 not), `studio` (0 and 1 are
            valid, 2 to 4 not); empty where nothing was said.

    Raises:
        UserError: the workbook is damaged, or codes validity by 0 and 1 and `validity` is empty.
    """
    try:
        about = source.stat()
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}", "Restore the file") from None
    made = f"{VERSION} {about.st_size} {about.st_mtime_ns} {validity} {length:.3f}"
    kept = _kept(target, made)
    if kept is not None:
        return kept
    recording, clock = _timed(source, length)
    names, columns = _columns(recording, validity)
    times = recording.times - recording.times[0]
    absent = tuple(name for name in TOBII if name not in names)
    gaze = all({f"gaze_{axis}", f"gaze_left_{axis}", f"gaze_right_{axis}"} & set(names) for axis in "xy")
    eyes = Eyes(float(times[-1] + recording.period), clock, absent, gaze)
    data = np.stack([times, *columns], 1).astype(np.float32)
    record = json.dumps({"made": made, **asdict(eyes)})
    with draft_of(target) as draft, draft.open("wb") as file:
        np.savez(file, data=data, columns=np.array(["t_s", *names]), record=np.array(record))
    return eyes


def _kept(target: Path, made: str) -> Eyes | None:
    if not target.is_file():
        return None
    try:
        with np.load(target, allow_pickle=False) as arrays:
            record = json.loads(str(arrays["record"]))
        if record.pop("made") != made:
            return None
        return replace(Eyes(**record), absent=tuple(record["absent"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        return None  # half of an older run: it is made again


def _timed(source: Path, length: float) -> tuple[Recording, str]:
    """The recording, and where its clock is from."""
    rows = list(table.rows(source))
    try:
        return gaze_files.of_rows(source, rows), "file"
    except ClockError as error:
        missing = error
    if not missing.column:
        recording = gaze_files.of_rows(source, rows, Clock(rate=1.0))
        return gaze_files.of_rows(source, rows, Clock(rate=len(recording.times) / length)), "spread"
    recording = gaze_files.of_rows(source, rows, Clock(unit=1.0))
    for name, unit in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if len(recording.times) > 1 and SLOWEST <= 1 / (recording.period * unit) <= FASTEST:
            return gaze_files.of_rows(source, rows, Clock(unit=unit)), name
    raise missing


def _columns(recording: Recording, validity: str) -> tuple[list[str], list[np.ndarray]]:
    """Names, and their values (N,)."""
    found: dict[str, np.ndarray] = {}
    for name in TOBII:
        side = name.removeprefix("valid_")
        if name == f"valid_{side}" and f"tobii_{side}" in recording.cells:
            found[name] = _valid(recording, side, validity)
        elif name in recording.cells:
            found[name] = recording.stored(name)
    if len(found) == len(TOBII):
        return list(found), list(found.values())
    # Some other export: whatever is a number, so that a config may name it.
    for name in list(recording.cells):
        if len(found) < MOST_KEPT and name not in found and not name.startswith(("tobii_", "valid")):
            try:
                values = recording.stored(name)
            except UserError:
                continue  # text
            if np.isfinite(values).any() and not re.search(r"timestamp|time_stamp|^t_|^time", name):
                found[name] = values
    if not found:
        raise UserError(
            f"{recording.path}: no column of numbers among {', '.join(recording.cells)}", "Export the eye data again"
        )
    return list(found), list(found.values())


def _valid(recording: Recording, side: str, validity: str) -> np.ndarray:
    """(N,) 1 where the tracker vouches for an eye, else 0; NaN where the file does not say."""
    name, cells = f"tobii_{side}", recording.cells[f"tobii_{side}"]
    words = {str(c).strip().lower() for c in cells} if isinstance(cells, list) else set()
    if words & {"valid", "invalid"}:
        return recording.column(f"valid_{side}")
    codes = recording.stored(name)
    there = set(codes[np.isfinite(codes)].tolist())
    if there & {2.0, 3.0, 4.0} and there <= {0.0, 1.0, 2.0, 3.0, 4.0} and validity in ("", "studio"):
        validity = "studio"  # no other coding has them
    elif there and not there <= {0.0, 1.0}:
        raise UserError(
            f"{recording.path}: codes {_listed(there)} as validity of the {side} eye"
            + (f", where --validity {validity} has only 0 and 1" if validity in ("one", "zero") else ""),
            "Write Valid and Invalid",
        )
    if not validity and there:
        raise UserError(
            f"{recording.path}: validity of the {side} eye is written as {_listed(there)}, and some programs take 1 for valid,"
            " others 0",
            "Pass --validity one (1 is valid), zero (0 is valid) or studio (0 and 1 are valid, 2 to 4 not)",
        )
    fine = {"one": codes == 1, "zero": codes == 0, "studio": codes <= 1}.get(validity, codes == codes)
    return np.where(np.isfinite(codes), fine, np.nan)


def _listed(codes: Sequence[float] | set[float]) -> str:
    return ", ".join(f"{code:g}" for code in sorted(codes))
