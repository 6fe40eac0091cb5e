"""Eye trackers' recordings: tables of any delimiter, Tobii Pro Lab and SDK exports, packed arrays.

The clock is read from the heading (`t_s`, `Recording timestamp [ms]`, date and time) or declared behind the file:
`file.tsv#us`, `file.csv#120Hz`; it is never guessed from how large the numbers are. Relative clocks keep their zero; wall
clocks and device clocks start with the first sample. A sample that is blank, NaN, marked invalid, gaze at exactly (0, 0),
a pupil that is not above 0 or an openness below 0 is missing.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from mer.errors import UserError
from mer.media import table
from mer.media.features import split_reference
from mer.media.stream import Stream, steady
from mer.spec import InputSpec

LARGEST = 1 << 29  # bytes of text in a compressed file; three hours at 1000 Hz have as many, and a bomb has more
MOST = 2e7  # samples of one clip, five hours at 1000 Hz: more comes from a wild time stamp
REACH = 1.5  # sample periods; a value is made of samples that lie no further away
_UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
_CLOCK = "Declare the clock behind the file: #s, #ms, #us, or #120Hz for evenly spaced samples"

# Headings of clocks, the preferred first: seconds per unit (None: says the bracket behind it, or the declaration), and
# whether the clock has a zero of its own that means nothing to the recording.
_CLOCKS: dict[str, tuple[float | None, bool]] = {
    **dict.fromkeys(("t_s", "time_s", "timestamp_s", "time_sec", "seconds"), (1.0, False)),
    **dict.fromkeys(("t_ms", "time_ms", "timestamp_ms"), (1e-3, False)),
    **dict.fromkeys(("t_us", "time_us", "timestamp_us"), (1e-6, False)),
    **dict.fromkeys(("recording_timestamp", "recordingtimestamp", "timestamp", "time", "t"), (None, False)),
    **dict.fromkeys(("system_time_stamp", "device_time_stamp"), (1e-6, True)),  # Tobii SDK
    **dict.fromkeys(("eyetracker_timestamp", "eyetrackertimestamp"), (None, True)),
}


def _sided(name: str, *spellings: str) -> dict[str, str]:
    """Spellings of a column of each eye; `{side}` and `{s}` stand for left and l."""
    sides = ("left", "right")
    return {s.format(side=side, s=side[0]): name.format(side=side) for side in sides for s in spellings}


# Headings (lower case, words joined by _, without the unit) to the names that specs use.
_ALIASES: dict[str, str] = {
    **dict.fromkeys(("gaze_point_x", "gazepointx", "gaze_pos_x", "x_px", "x"), "gaze_x"),
    **dict.fromkeys(("gaze_point_y", "gazepointy", "gaze_pos_y", "y_px", "y"), "gaze_y"),
    **dict.fromkeys(("pupil_diameter", "pupil_size"), "pupil"),
    **{
        spelling: name
        for axis in "xy"
        for spelling, name in _sided(
            f"gaze_{{side}}_{axis}",
            f"gaze_point_{{side}}_{axis}",
            f"gazepoint{{side}}{axis}",
            f"{{side}}_gaze_point_on_display_area_{axis}",
            f"gaze_{{s}}_{axis}",
            f"{{side}}_{axis}",
        ).items()
    },
    **_sided(
        "pupil_{side}", "pupil_diameter_{side}", "pupil{side}", "{side}_pupil_diameter", "pupil_diameter_{s}",
        "pupil_diam_{s}", "pupil_mm_{s}", "pupil_{s}",
    ),
    **_sided("openness_{side}", "openness_{s}", "eye_openness_{side}", "{side}_eye_openness"),
    **_sided("tobii_{side}", "validity_{side}", "validity{side}"),
    **_sided("valid_{side}", "valid_{s}", "{side}_gaze_point_validity"),
    "blink_s": "blink",
}  # fmt: skip
# Words that stand for numbers; Tobii Pro Lab writes them. The numbers are ours, and a blank cell is missing.
_WORDS = {"eye_movement_type": {"unclassified": 0, "fixation": 1, "saccade": 2, "eyesnotfound": 3}}


def identity(spec: InputSpec) -> str:
    """What reads and resamples, for cache keys."""
    return f"gaze files 2; reach {REACH:g}; columns {' '.join(spec.columns)}"


def load(root: Path, reference: str, spec: InputSpec, start: float = 0.0, end: float | None = None) -> Stream:
    """Columns of one stretch of a recording.

    Columns are named as headings of the file, or `gaze_x`, `gaze_y`, `gaze_left_x` ..., `pupil_left`, `pupil_right`,
    `openness_left`, `openness_right`, `blink`; `gaze_x`, `gaze_y`, `pupil` and `openness` are the mean of the eyes that
    were seen where the file has no column of their own. `valid_left`, `valid_right` are 1 where the tracker vouches for the
    eye, else 0; `eye_movement_type` of Tobii is 0 unclassified, 1 fixation, 2 saccade, 3 eyes not found. `valid` is 1 where
    every other column is there, else 0. Left and right are the person's. Units are the file's.

    With a `rate` each element takes its value at the middle of its span, linear between the samples on both sides, or the
    nearer one; only samples within 1.5 sample periods count, and no gap is bridged. Without, each sample is an element.

    Args:
        root: folder that relative names are resolved against.
        reference: a table (.csv, .tsv, .txt, also .gz; .xlsx, which takes some 100 times as long), or `file.npz#key[row]`,
            the rows cut by `<key>_offset` or `offset`; behind it the clock, where it must be declared.
        spec: `columns`, and `rate` in Hz.
        start, end: seconds of the recording's clock, half-open.

    Returns:
        (N, columns) float32. With `valid` among the columns every element is there, and what is missing is 0; without
        it elements that lack a column are left out.

    Raises:
        UserError: the file is missing or broken, its clock is unknown, or it has no such column or stretch.
    """
    plain, clock = _declaration(reference)
    name, key, row = split_reference(plain)
    path = root / name
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check the path, or 'root' in corpus.yaml")
    recording = _recording(path, key, row, clock, path.stat().st_mtime_ns)
    names = [column for column in spec.columns if column != "valid"]
    if not names:
        raise UserError(f"{root / reference}: an eye input without columns", f"It has {', '.join(recording.names())}")
    values = np.stack([recording.column(column) for column in names], 1)
    last = float(recording.times[-1]) if end is None else end
    if spec.rate is not None and (last - start) * spec.rate > MOST:
        raise UserError(
            f"{root / reference}: by its times it lasts until {last:g} s, {MOST:.0e} samples and more at {spec.rate:g} Hz",
            "Correct the last time stamps, or give the clip an end",
        )
    values, spans = _sampled(recording, values, spec.rate, start, end)
    if not len(spans):
        raise UserError(
            f"{root / reference}: samples from {recording.times[0]:g} to {recording.times[-1]:g} s, none from {start:g} s on",
            "Check 'start', or the clock",
        )
    valid = np.isfinite(values).all(1)
    values = np.nan_to_num(values)
    if "valid" in spec.columns:
        values = np.insert(values, spec.columns.index("valid"), valid, axis=1)
        return Stream(values.astype(np.float32), spans)
    return Stream(values[valid].astype(np.float32), spans[valid])


class ClockError(UserError):
    """It is not known when the samples of a recording were taken.

    Attributes:
        column: the column of time whose unit is not said; empty where there is no such column.
    """

    def __init__(self, problem: str, remedy: str, column: str = ""):
        super().__init__(problem, remedy)
        self.column = column


@dataclass
class Recording:
    """Samples of an eye tracker.

    Attributes:
        path: for messages.
        times: (N,) float64 seconds, not falling.
        cells: per column (N,) numbers, or text as it stands in the file.
        lines: (N,) number of each sample's line in the file, for messages.
    """

    path: Path
    times: np.ndarray
    cells: dict[str, np.ndarray | list[str]]
    lines: np.ndarray
    _clean: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def period(self) -> float:
        """Seconds between samples: the median."""
        steps = np.diff(self.times)
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 1.0

    def names(self) -> list[str]:
        """Columns that there are to choose from."""
        made = [n for n, parts in _MEANS.items() if n not in self.cells and set(parts) & set(self.cells)]
        return [n for n in (*self.cells, *made) if not n.startswith(("tobii_", "valid"))] + ["valid"]

    def column(self, name: str) -> np.ndarray:
        """(N,) float64, NaN where a sample is missing."""
        if name not in self._clean:
            self._clean[name] = self._cleaned(name)
        return self._clean[name]

    def _cleaned(self, name: str) -> np.ndarray:
        if name in ("valid_left", "valid_right"):
            mark = self._mark(name.removeprefix("valid_"))
            if mark is not None:
                return mark.astype(np.float64)
        if name not in self.cells:
            parts = [part for part in _MEANS.get(name, ()) if part in self.cells]
            if not parts:
                raise UserError(f"{self.path}: no column {name!r}", f"It has {', '.join(self.names())}")
            both = np.stack([self.column(part) for part in parts])
            there = np.isfinite(both)
            total = np.where(there, both, 0).sum(0)
            return np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan)
        values = self._numbers(name).copy()
        if name.startswith("pupil"):
            values[~(values > 0)] = np.nan
        elif name.startswith("openness"):
            values[~(values >= 0)] = np.nan
        elif name.startswith("gaze") and name[-2:] in ("_x", "_y"):
            # Trackers that lose the eye write the corner of the screen.
            other = name[:-1] + ("y" if name.endswith("x") else "x")
            if other in self.cells:
                values[(values == 0) & (self._numbers(other) == 0)] = np.nan
        values[~np.isfinite(values)] = np.nan
        if not name.startswith("openness"):  # a shut eye is invalid as gaze, and its openness all the same known
            values[~self._usable(name)] = np.nan
        return values

    def _usable(self, name: str) -> np.ndarray:
        """(N,) bool: by the marks of the eye that a column belongs to, or of either eye."""
        fine = self._numbers("valid") > 0 if "valid" in self.cells else np.ones(len(self.times), bool)
        marks = [self._mark(side) for side in ("left", "right") if f"_{side}" in name] or (
            [self._mark("left"), self._mark("right")] if name in ("gaze_x", "gaze_y", "pupil") else []
        )
        known = [mark for mark in marks if mark is not None]
        return fine & np.any(known, axis=0) if known else fine

    def _mark(self, side: str) -> np.ndarray | None:
        """(N,) bool where one eye was seen; None where the file does not say."""
        if f"valid_{side}" in self.cells:
            return self._numbers(f"valid_{side}") > 0
        cells = self.cells.get(f"tobii_{side}")
        if cells is None:
            return None
        words = {str(c).strip().lower() for c in cells} if isinstance(cells, list) else set()
        if words & {"valid", "invalid"}:
            return np.array([str(c).strip().lower() == "valid" for c in cells])
        codes = self._numbers(f"tobii_{side}")
        there = set(codes[np.isfinite(codes)].tolist())
        if there == {0.0, 1.0}:
            raise UserError(
                f"{self.path}: 'validity {side}' is 0 and 1, which Tobii Studio and others mean in opposite ways",
                f"Name it 'valid_{side}' if 1 means valid, or write Valid and Invalid",
            )
        return codes <= 1 if there != {1.0} else np.isfinite(codes)  # 0 and 1 sure, 2 to 4 not: Tobii Studio

    def stored(self, name: str) -> np.ndarray:
        """(N,) float64 as the file has it, nothing taken for missing but blank cells; words of Tobii as our numbers.

        Raises:
            UserError: a cell is neither number nor such a word.
        """
        return self._numbers(name)

    def _numbers(self, name: str) -> np.ndarray:
        cells = self.cells[name]
        if not isinstance(cells, list):
            return cells
        values, words = np.empty(len(cells)), _WORDS.get(name, {})
        for i, cell in enumerate(cells):
            try:
                word = words.get(cell.strip().lower())
                values[i] = _number(cell) if word is None else word
            except ValueError:
                raise UserError(
                    f"{self.path}: line {self.lines[i]}: {cell!r} in column {name!r} is not a number",
                    "Choose another column, or write numbers",
                ) from None
        self.cells[name] = values
        return values


_MEANS = {
    "gaze_x": ("gaze_left_x", "gaze_right_x"),
    "gaze_y": ("gaze_left_y", "gaze_right_y"),
    "pupil": ("pupil_left", "pupil_right"),
    "openness": ("openness_left", "openness_right"),
}


def _number(cell: str) -> float:
    cell = cell.strip()
    if cell.lower() in ("", "nan", "na", "none", "null", "-", "."):
        return np.nan
    return float(cell.replace(",", "."))


# -- Resampling --------------------------------------------------------------------------------------------------------


def _sampled(
    recording: Recording, values: np.ndarray, rate: float | None, start: float, end: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, columns) with NaN where nothing is near enough, and (N, 2) float32 spans."""
    times, period = recording.times, recording.period
    stop = float(times[-1]) + period if end is None else min(end, float(times[-1]) + period)
    if rate is None:
        inside = (times >= start - 1e-9) & (times < stop)
        until = np.append(times[1:], np.inf)
        until = np.maximum(np.where(until - times > REACH * period, times + period, until), times + 1e-4)
        return values[inside], np.stack([times, until], 1)[inside].astype(np.float32)
    if stop <= start:
        return values[:0], np.zeros((0, 2), np.float32)
    count = max(1, round((stop - start) * rate))
    middles = start + (np.arange(count) + 0.5) / rate
    columns = [resample(times, column, middles, REACH * period) for column in values.T]
    return np.stack(columns, 1), steady(count, rate, start)


def resample(times: np.ndarray, values: np.ndarray, at: np.ndarray, reach: float) -> np.ndarray:
    """Values at other times: linear between the samples on both sides, else the nearer one, NaN where none is near.

    Args:
        times: (N,) not falling.
        values: (N,), NaN where missing.
        at: (M,) times wanted.
        reach: how far away a sample may lie, in the unit of time.
    """
    there = np.isfinite(values)
    if not there.any():
        return np.full(len(at), np.nan)
    known, what = times[there], values[there]
    after = np.searchsorted(known, at, side="right")
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(known) - 1)
    back, ahead = at - known[before], known[after] - at
    has_before = (back >= 0) & (back <= reach + 1e-9)
    has_after = (ahead >= 0) & (ahead <= reach + 1e-9)
    share = back / np.maximum(back + ahead, 1e-12)
    out = np.where(has_before & has_after, what[before] * (1 - share) + what[after] * share, np.nan)
    out = np.where(has_before & ~has_after, what[before], out)
    return np.where(has_after & ~has_before, what[after], out)


# -- Reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """What the reference declares: seconds per unit, or samples per second."""

    unit: float | None = None
    rate: float | None = None


def _declaration(reference: str) -> tuple[str, Clock]:
    """The reference without a clock at its end, and that clock."""
    head, mark, last = reference.rpartition("#")
    if mark and last in _UNITS:
        return head, Clock(unit=_UNITS[last])
    rate = re.fullmatch(r"(\d+(?:\.\d+)?)\s*hz", last, re.IGNORECASE)
    if mark and rate and float(rate[1]) > 0:
        return head, Clock(rate=float(rate[1]))
    return reference, Clock()


@lru_cache(maxsize=8)  # the clips of one recording are read one after the other
def _recording(path: Path, key: str | None, row: int | None, clock: Clock, changed: int) -> Recording:
    if path.suffix.lower() == ".npz":
        recording = _packed(path, key, row, clock)
    elif path.suffix.lower() in (".xls", ".mat", ".edf", ".asc"):
        raise UserError(f"{path}: not a table of text", "Export it as .csv or .tsv")
    elif key is not None:
        raise UserError(f"{path}#{key}: {key!r} is no clock", _CLOCK)
    elif path.suffix.lower() in (".xlsx", ".xlsm"):
        recording = of_rows(path, table.rows(path), clock)
    else:
        recording = _table(path, clock)
    return _checked(path, recording)


def of_rows(path: Path, rows: Iterable[Sequence[str]], clock: Clock | None = None) -> Recording:
    """A recording from the rows of a sheet, the headings first; cells that lack at the end of a row are blank.

    Raises:
        ClockError: neither the headings nor `clock` say when the samples were taken.
        UserError: no headings, cells beyond them, or a clock that goes back.
    """
    numbered = enumerate(rows, start=1)
    headings = list(next(numbered, (0, []))[1])
    padded = ((line, [*row, *[""] * (len(headings) - len(row))]) for line, row in numbered)
    cut = ((line, row if any(row[len(headings) :]) else row[: len(headings)]) for line, row in padded)
    return _checked(path, _headed(path, headings, cut, clock or Clock()))


def _checked(path: Path, recording: Recording) -> Recording:
    back = np.flatnonzero(np.diff(recording.times) < 0)
    if len(back) or not np.isfinite(recording.times).all():
        at = int(back[0]) + 1 if len(back) else int(np.argmin(np.isfinite(recording.times)))
        raise UserError(f"{path}: line {recording.lines[at]}: the clock goes back or stops", "Sort or repair the rows")
    return recording


def _heading(text: str) -> tuple[str, str]:
    """`Gaze point X [MCS norm]` to `gaze_point_x_norm` and its unit; spaces and case do not matter."""
    text = text.strip().replace("µ", "u").replace("μ", "u")
    match = re.search(r"[\[(]([^\[\]()]*)[\])]$", text)
    unit = match[1].strip().lower() if match else ""
    bare = text[: match.start()] if match else text
    name = re.sub(r"[^0-9a-z]+", "_", bare.lower()).strip("_")
    name = _ALIASES.get(name, name)
    # Tobii exports one point in several units; pixels of the screen are the ones without a suffix. A direction has no unit.
    if not name.startswith(("pupil", "gaze_direction")) and name not in _CLOCKS:
        name += "_norm" if "norm" in unit else "_mm" if "mm" in unit else ""
    return name, unit


def _named(headings: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Per name the first column of that name, and its unit."""
    names: dict[str, tuple[int, str]] = {}
    for i, heading in enumerate(headings):
        name, unit = _heading(heading)
        if name:
            names.setdefault(name, (i, unit))
    return names


def _text(path: Path) -> str:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as file:
                raw = file.read(LARGEST + 1)
            if len(raw) > LARGEST:
                raise UserError(f"{path}: more than {LARGEST >> 20} MB of text", "Export the recording in parts")
        else:
            raw = path.read_bytes()
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable text ({error})", "Export it as .csv or .tsv in UTF-8") from None


def _table(path: Path, clock: Clock) -> Recording:
    text = _text(path)
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    headings = next(rows, [])
    return _headed(path, headings, ((rows.line_num, row) for row in rows if row), clock)


def _headed(path: Path, headings: Sequence[str], rows: Iterator[tuple[int, list[str]]], clock: Clock) -> Recording:
    """Rows with their line numbers under headings; of the mouse and the events that Tobii mixes in, none."""
    names = _named(headings)
    if len(names) < 2 or all(re.fullmatch(r"[-+\d.,eE]*", heading.strip()) for heading in headings):
        raise UserError(f"{path}: no table with headings", "The first line names the columns, divided by , ; or tab")
    kept, lines = [], []
    for line, row in rows:
        if len(row) != len(headings):
            raise UserError(f"{path}: line {line}: {len(row)} cells under {len(headings)} headings", "Repair this line")
        kept.append(row)
        lines.append(line)
    if "sensor" in names:
        said = [row[names["sensor"][0]].strip().lower() for row in kept]
        wanted = "eye tracker" if any(said) else ""  # an event has no sensor, where the samples have one
        places = [i for i, sensor in enumerate(said) if sensor == wanted]
        kept, lines = [kept[i] for i in places], [lines[i] for i in places]
    cells: dict[str, np.ndarray | list[str]] = {name: [row[i] for row in kept] for name, (i, _) in names.items()}
    recording = Recording(path, np.zeros(len(kept)), cells, np.array(lines, int))
    recording.times = _times(recording, {name: unit for name, (_, unit) in names.items()}, clock)
    return recording


def _times(recording: Recording, units: dict[str, str], clock: Clock) -> np.ndarray:
    """(N,) seconds."""
    path, count = recording.path, len(recording.lines)
    if not count:
        raise UserError(f"{path}: no samples", "Export it again")
    if clock.rate is not None:
        return np.arange(count) / clock.rate
    name = next((n for n in _CLOCKS if n in recording.cells), None)
    if name is None:
        raise ClockError(f"{path}: no column of time among {', '.join(recording.names())}", _CLOCK)
    cells = recording.cells[name]
    if isinstance(cells, list) and count and re.match(r"\d{4}-\d\d-\d\d|\d{1,2}:\d\d:\d\d", cells[0].strip()):
        return _wall(recording, name, cells)
    scale, own_zero = _CLOCKS[name]
    scale = clock.unit or _UNITS.get(units.get(name, "")) or scale
    if scale is None:
        raise ClockError(f"{path}: the unit of the clock {name!r} is not said", _CLOCK, name)
    times = recording._numbers(name) * scale
    return times - times[0] if own_zero and count else times


def _wall(recording: Recording, name: str, cells: list[str]) -> np.ndarray:
    """Seconds since the first sample, from dates and times of day."""
    times = np.empty(len(cells))
    origin: datetime | None = None
    for i, cell in enumerate(cells):
        text = cell.strip()
        try:
            moment = datetime.fromisoformat(text if "-" in text else f"2000-01-01T{text:0>8}")
        except ValueError:
            raise UserError(
                f"{recording.path}: line {recording.lines[i]}: {cell!r} in {name!r} is no date and time",
                "Write it as 2022-12-16 12:36:00.0128",
            ) from None
        origin = origin or moment
        times[i] = (moment - origin).total_seconds()
    return times


def _packed(path: Path, key: str | None, row: int | None, clock: Clock) -> Recording:
    """`file.npz#key[row]`: (N, columns), columns named by the key `columns`, rows cut by `<key>_offset` or `offset`."""
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = list(loaded.keys())
            if key is None or key not in arrays:
                raise UserError(f"{path}: no array {key!r}", f"It holds {', '.join(arrays)}; write file#key[row]")
            array, beside = loaded[key], {n: loaded[n] for n in arrays if n in _beside(key)}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not a readable .npz ({error})", "Write it again without pickled objects") from None
    if array.ndim < 2 or array.dtype.kind not in "fiu":
        raise UserError(f"{path}#{key}: {array.dtype} of shape {array.shape}", "Store numbers, one row per sample")
    offset = beside.get(f"{key}_offset", beside.get("offset"))
    if row is not None:
        count = len(array) if offset is None else len(offset) - 1
        if row >= count:
            raise UserError(f"{path}#{key}: row {row} of {count}, counted from 0", "Prepare the corpus again")
        array = array[row] if offset is None else array[int(offset[row]) : int(offset[row + 1])]
    elif offset is not None:
        raise UserError(f"{path}#{key}: {len(offset) - 1} recordings end to end", f"Choose one: file#{key}[row]")
    if array.ndim != 2:
        raise UserError(f"{path}#{key}: shape {array.shape} is not (samples, columns)", "Store one row per sample")
    headings = beside.get(f"{key}_columns", beside.get("columns"))
    if headings is None and array.shape[1] == 2 and key in ("xy_px", "xy", "gaze", "gaze_px"):
        headings = np.array(["gaze_x", "gaze_y"])
    if headings is None or len(headings) != array.shape[1]:
        raise UserError(f"{path}#{key}: its {array.shape[1]} columns have no names", "Store them as the key 'columns'")
    names = _named(str(h) for h in headings)
    cells: dict[str, np.ndarray | list[str]] = {n: array[:, i].astype(np.float64) for n, (i, _) in names.items()}
    recording = Recording(path, np.zeros(len(array)), cells, np.arange(len(array)))
    if clock.rate is None and not set(_CLOCKS) & set(cells):
        clock = Clock(rate=_rate(beside, row))
    if clock.rate is None and not set(_CLOCKS) & set(cells):
        raise UserError(f"{path}#{key}: neither a column of time nor a rate", _CLOCK)
    recording.times = _times(recording, {n: unit for n, (_, unit) in names.items()}, clock)
    return recording


def _beside(key: str) -> set[str]:
    """Arrays that say something about another one."""
    return {f"{key}_offset", "offset", f"{key}_columns", "columns", "meta", "meta_columns", "rate", "hz"}


def _rate(beside: dict[str, np.ndarray], row: int | None) -> float | None:
    """Samples per second, from `rate` or `hz`, or the column of that name in `meta`; per recording, or one for all."""
    found = beside.get("rate", beside.get("hz"))
    if found is None and "meta" in beside and "meta_columns" in beside:
        named = [str(n).lower() for n in beside["meta_columns"]]
        column = next((i for i, n in enumerate(named) if n in ("hz", "rate")), None)
        found = None if column is None else beside["meta"][:, column]
    if found is None:
        return None
    every = np.atleast_1d(found)
    return float(every[row if row is not None and row < len(every) else 0])
