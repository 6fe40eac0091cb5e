"""What the label files of iMiGUE say: which gesture from which frame to which, who won, and whom a video shows.

Four kinds of files are told apart by name and header; see `mer.datasets.corpora.imigue`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from mer.datasets.corpora.imigue_ids import MIGA_TEST
from mer.errors import UserError
from mer.labels import SPACES
from mer.media import table

SPACE = SPACES["imigue32.v1"]
ILLUSTRATIVE = 99  # raw class of what is no micro-gesture; index 31
FULL = ("video_id", "class", "start_frame", "end_frame", "win_or_lose", "subject_id")
Value = TypeVar("Value", int, str)
_OUTCOMES = {"win": "positive", "positive": "positive", "lose": "negative", "loss": "negative", "negative": "negative"}
_SAMPLE = re.compile(r"(?:.*[/\\])?(?P<video>\d+)_(?P<number>\d+)(?:\.[a-z0-9]+)?$", re.IGNORECASE)
_VIDEO = re.compile(r"(\d+)(?:\.[a-z0-9]+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Gesture:
    """One labelled clip.

    Attributes:
        video: number of the interview.
        number: of the clip within it, from 0 in order of the file; `0004_0` is the first of video 4.
        label: index of the class, None where it is withheld.
        first, last: frames, from 0, both inside; None where a list names clips only.
        where: file and row, for messages.
        file: name of the clip's own media file, in a list of clips.
    """

    video: int
    number: int
    label: int | None
    first: int | None
    last: int | None
    where: str
    file: str = ""

    @property
    def name(self) -> str:
        return f"{self.video:04d}_{self.number}"


@dataclass
class Labels:
    """All label files of a folder.

    Attributes:
        kind: `full` (one CSV with subjects), `miga` (a CSV per video), `list` (names of clips and labels).
        gestures: in order of file and row.
        outcomes: per video `positive` (won) or `negative`.
        subjects: per video whom it shows; empty where no file says it.
        notes, facts: see `Prepared`.
    """

    kind: Literal["full", "miga", "list"]
    gestures: list[Gesture] = field(default_factory=list)
    outcomes: dict[int, str] = field(default_factory=dict)
    subjects: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


def raw_class(text: str, where: str) -> int:
    """Index 0 to 31 of a class as the files have it, 1 to 31 or 99.

    Raises:
        UserError: anything else; 33 classes, or classes counted from 0, are another data set's.
    """
    value = whole(text, where, "class")
    if value != ILLUSTRATIVE and not 1 <= value <= 31:
        raise UserError(f"{where}: class {text!r} is not 1 to 31 or 99", "Restore the label file")
    return 31 if value == ILLUSTRATIVE else value - 1


def whole(text: str, where: str, what: str) -> int:
    """A number without a fraction, from 0.

    Raises:
        UserError: it is none.
    """
    if not re.fullmatch(r"\d{1,9}(\.0*)?", text.strip(), re.ASCII):  # pandas writes 31.0 where a column has gaps
        raise UserError(f"{where}: {what} {text!r} is not a whole number from 0", "Restore the label file")
    return int(float(text))


def outcome(text: str, where: str, won: str | None) -> str:
    """`positive` for a match won, `negative` for one lost.

    Raises:
        UserError: another word, or 0 or 1 without `--won` saying which of them is a match won.
    """
    word = text.strip().lower()
    if word in ("0", "1"):
        if won is None:
            raise UserError(
                f"{where}: {text!r} may be a match won or lost", "Say which number is a win: --won 0 or --won 1"
            )
        return "positive" if word == won else "negative"
    if word not in _OUTCOMES:
        raise UserError(f"{where}: {text!r} is not Win or Lose", "Restore the label file")
    return _OUTCOMES[word]


# -- The full data set -------------------------------------------------------------------------------------------------


def full(path: Path, counted_from: int | None) -> Labels:
    """`labels_20200831.csv`: one row per gesture of all videos.

    Args:
        path: the file; columns in any order.
        counted_from: number of the first frame of a video; None takes 0, which a row that begins at 0 proves.

    Raises:
        UserError: columns are missing, or a row contradicts another or itself.
    """
    labels = Labels("full")
    numbers: dict[int, int] = {}
    base = counted_from or 0
    least: int | None = None
    for row, cells in table.records(path):
        where = f"{path}, row {row}"
        if missing := [name for name in FULL if name not in cells]:
            raise UserError(f"{path}: column(s) {', '.join(missing)} are missing", "Restore the label file")
        video, subject = (whole(cells[name], where, name) for name in ("video_id", "subject_id"))
        first, last = (whole(cells[name], where, name) - base for name in ("start_frame", "end_frame"))
        _check_frames(first, last, where)
        _agree(labels.outcomes, video, outcome(cells["win_or_lose"], where, None), f"{where}: outcome")
        _agree(labels.subjects, video, subject, f"{where}: subject")
        number = numbers[video] = numbers.get(video, -1) + 1
        least = first if least is None else min(least, first)
        labels.gestures.append(Gesture(video, number, raw_class(cells["class"], where), first, last, where))
    labels.facts["first_frame"] = base
    if counted_from is None and least:
        labels.notes.append(
            f"no row of {path.name} begins at frame 0, so nothing proves that frames are counted from 0, as they are in the"
            " files of the challenge; if they are counted from 1, prepare with --first-frame 1"
        )
    return labels


def _agree(known: dict[int, Value], video: int, value: Value, where: str) -> None:
    if known.setdefault(video, value) != value:
        raise UserError(
            f"{where} of video {video} is {value}, and {known[video]} in an earlier row", "Restore the label file"
        )


def _check_frames(first: int, last: int, where: str) -> None:
    if not 0 <= first <= last:
        raise UserError(f"{where}: frames {first} to {last}", "Restore the label file; frames are counted from 0")


# -- The archives of the challenge --------------------------------------------------------------------------------------


def challenge(files: Mapping[int, Path], outcomes: Sequence[Path], won: str | None) -> Labels:
    """A file `0001_label.csv` per video (class, first and last frame, no header), and those of the emotion track.

    The classes of the test videos are withheld: where all of them have the same one, they have none here.

    Args:
        files: per video.
        outcomes: files with `video_id,label`.
        won: see `outcome`.

    Raises:
        UserError: a row is not three whole numbers, or classes are unknown.
    """
    labels = Labels("miga")
    rows = [(video, n, cells, f"{path}, row {n + 1}") for video, path in files.items() for n, cells in _numbered(path)]
    for _, _, cells, where in rows:
        if len(cells) != 3:
            raise UserError(f"{where}: {len(cells)} cells, not class, first and last frame", "Restore the label file")
    shown = {cells[0] for video, _, cells, _ in rows if video in MIGA_TEST}
    hidden = len(shown) == 1 and sum(video in MIGA_TEST for video, *_ in rows) > 1
    for video, number, cells, where in rows:
        first, last = (whole(cells[k], where, what) for k, what in ((1, "first frame"), (2, "last frame")))
        _check_frames(first, last, where)
        label = None if hidden and video in MIGA_TEST else raw_class(cells[0], where)
        labels.gestures.append(Gesture(video, number, label, first, last, where))
    if hidden:
        labels.notes.append("the classes of the test videos are withheld (all rows say the same), and stay empty")
    for path in outcomes:
        for cells, where in _pairs(path):
            match = _VIDEO.match(cells[0])
            if match is None:
                raise UserError(f"{where}: {cells[0]!r} is no number of a video", "Restore the label file")
            if cells[1]:
                _agree(labels.outcomes, int(match[1]), outcome(cells[1], where, won), f"{where}: outcome")
    return labels


def _pairs(path: Path) -> Iterator[tuple[list[str], str]]:
    """Both cells of each row below the headings, and where it stands."""
    for row, record in table.records(path):
        yield list(record.values()), f"{path}, row {row}"


def _numbered(path: Path) -> Iterator[tuple[int, list[str]]]:
    return enumerate([cell.strip() for cell in row] for row in table.rows(path))


def is_outcomes(path: Path) -> bool:
    """Whether a file is one of the emotion track."""
    return _header(path) == ["video_id", "label"]


def is_list(path: Path) -> bool:
    """Whether a file lists clips with labels: `sample,label` above, or lines like `0004_0.mp4 31`."""
    if path.suffix.lower() == ".csv":
        return _header(path) == ["sample", "label"]
    return path.name.lower().endswith("clips_list.txt")


def _header(path: Path) -> list[str]:
    cells = [cell.strip().lower() for cell in next(table.rows(path), [])]
    while cells and not cells[-1]:
        cells.pop()
    return cells


# -- Lists of clips ----------------------------------------------------------------------------------------------------


def label_list(paths: Sequence[Path], said: Literal["index", "raw"] | None) -> Labels:
    """Lists of clips with labels and without frames: `sample,label` in a CSV, `0004_0.mp4 31` in lines of text.

    Whether labels are indices (0 to 31) or raw classes (1 to 31, 99) is told by a 0 or a 99 among them.

    Raises:
        UserError: a line is of neither form, a clip stands twice, or the labels fit both orders and `said` is None.
    """
    labels = Labels("list")
    entries = [(*_entry(line, where), where) for path in paths for line, where in _lines(path)]
    tested = [text for match, text, _ in entries if int(match["video"]) in MIGA_TEST]
    hidden = len(tested) > 1 and len(set(tested)) == 1
    given = {t for m, t, _ in entries if not (hidden and int(m["video"]) in MIGA_TEST)}
    found: set[Literal["index", "raw"]] = {base for mark, base in (("0", "index"), ("99", "raw")) if mark in given}  # type: ignore[misc]
    if said is not None:
        found.add(said)
    if len(found) > 1 or (given and not found):
        problem = (
            "0 and 99 both occur"
            if {"0", "99"} <= given
            else "neither 0 nor 99 occurs"
            if not found
            else "labels differ"
        )
        raise UserError(
            f"{', '.join(map(str, paths))}: are labels counted from 0, or raw classes 1 to 31 and 99? ({problem})",
            "Say --labels index or --labels raw",
        )
    raw = found == {"raw"}
    seen: dict[str, str] = {}
    for match, text, where in entries:
        video, number = int(match["video"]), int(match["number"])
        label = None if hidden and video in MIGA_TEST else raw_class(text, where) if raw else _index(text, where)
        gesture = Gesture(video, number, label, None, None, where, re.split(r"[/\\]", match.string)[-1])
        if gesture.name in seen:
            raise UserError(f"{where}: {gesture.name} stands in {seen[gesture.name]}, too", "Keep one of them")
        seen[gesture.name] = where
        labels.gestures.append(gesture)
    if hidden:
        labels.notes.append("the classes of the test videos are withheld (all rows say the same), and stay empty")
    return labels


def _lines(path: Path) -> Iterator[tuple[Sequence[str], str]]:
    if path.suffix.lower() == ".csv":
        yield from _pairs(path)
        return
    for row, line in enumerate(table.read_text(path).splitlines(), start=1):
        if line.strip():
            yield line.rsplit(maxsplit=1), f"{path}, row {row}"


def _entry(cells: Sequence[str], where: str) -> tuple[re.Match[str], str]:
    match = _SAMPLE.match(cells[0]) if len(cells) == 2 else None
    if match is None:
        raise UserError(f"{where}: {' '.join(cells)!r} is not a clip like 0004_0 and its label", "Restore the list")
    return match, cells[1].strip()


def _index(text: str, where: str) -> int:
    value = whole(text, where, "label")
    if value >= len(SPACE):
        raise UserError(f"{where}: label {value} is not 0 to {len(SPACE) - 1}", "Restore the list")
    return value
