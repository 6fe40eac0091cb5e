"""A folder of numbered pictures read as a video without sound: `FOLDER#25`, 25 pictures per second.

    faces/00001#25      the smallest number in the folder is shown at 0 s
    faces/00001#25@1    number 1 is shown at 0 s, whether or not it is there
    faces/00001#times=../00001.csv    a table beside it says when each number is shown: pictures of a video of variable rate

The table has the columns `number` and `time`, in seconds, rising; its path is relative to the folder (in a manifest, `@/` is
the folder of the manifest). A picture is shown until the time of the next number.

The number is the last run of digits in a name (`frame-9.jpg` comes before `frame-10.jpg`). A number that is missing is a
moment without a picture: in steps of a fixed rate nothing is taken there. Names that begin with a dot are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from mer.errors import UserError
from mer.files import write_text
from mer.media.frame import Frame
from mer.media.pulse import pulse
from mer.media.table import records

SUFFIXES = (".jpg", ".jpeg", ".png")
TIMES = "#times="  # parts a folder from its table of times
_RATE = re.compile(r"^(?P<folder>.*[^#/])#(?P<rate>\d{1,6}(?:\.\d{1,9})?)(?:@(?P<first>\d{1,18}))?$", re.DOTALL)
_TIMES = re.compile(rf"^(?P<folder>.*[^#/]){TIMES}(?P<table>.+)$", re.DOTALL)
NEAR = 1e-6  # seconds; a moment so little before a picture is that of the picture
_NUMBER = re.compile(r"(\d+)\D*$")
_CODECS = {b"\xff\xd8": "mjpeg", b"\x89P": "png"}  # by content: some tools write PNG into files named .jpg
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # of JPEG: begin of the picture's data, and its end


@dataclass(frozen=True)
class PictureFolder:
    """Pictures as frames.

    Attributes:
        path: the reference, for messages.
        folder: where they lie.
        names: file names in order of their numbers.
        index: (F,) int64, rising: how many moments lie before each.
        times, until: (F,) float64 seconds, rising: when each is shown. In between may be time without a picture.
        rate: moments per second, on average.
        table: file of times; None where the rate says them.
    """

    path: Path
    folder: Path
    names: tuple[str, ...]
    index: np.ndarray
    times: np.ndarray
    until: np.ndarray
    rate: float
    table: Path | None = None

    @property
    def length(self) -> float:
        """Seconds from 0 to the end of the last picture."""
        return float(self.until[-1])

    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[Frame]:
        """As `mer.media.video.frames`: every picture that is shown at some moment of [start, end).

        Raises:
            UserError: a picture cannot be read.
        """
        limit = float("inf") if end is None else end
        for place in np.flatnonzero((self.until > start) & (self.times < limit)).tolist():
            yield self._frame(place)

    def frames_at(self, moments: Sequence[float]) -> Iterator[Frame]:
        """As `mer.media.video.frames_at`, but where no picture is shown, nothing is given: not even before the first.

        Raises:
            UserError: a picture cannot be read.
        """
        wanted = np.asarray(moments, np.float64) + NEAR
        place = np.searchsorted(self.times, wanted, side="right") - 1
        shown = (place >= 0) & (wanted < self.until[place])
        for one in np.unique(place[shown]).tolist():
            yield self._frame(one)

    def state(self) -> tuple[int, int]:
        """Sum of the files' sizes in bytes, and the latest of their times of change in nanoseconds."""
        about = [os.stat(file) for file in self._files()]
        return sum(a.st_size for a in about), max(a.st_mtime_ns for a in about)

    def content(self) -> bytes:
        """Names and sizes of the pictures, which stand for what is in them: some hundred times cheaper than to read them."""
        sizes = b"".join(
            f"{file.name}\0{os.stat(file).st_size}\0".encode(errors="surrogateescape") for file in self._files()
        )
        return sizes if self.table is None else sizes + self.table.read_bytes()

    def _files(self) -> list[Path]:
        return [self.folder / name for name in self.names] + ([] if self.table is None else [self.table])

    def _frame(self, place: int) -> Frame:
        gone = float(self.until[place - 1]) if place else 0.0
        picture = _picture(self.folder / self.names[place])
        return Frame(picture, int(self.index[place]), float(self.times[place]), float(self.until[place]), gone)


def plain(path: Path) -> Path:
    """A media file as it is, and of `FOLDER#25@1` or `FOLDER#times=FILE` the folder."""
    match = _match(path)
    return Path(match["folder"]) if match else path


def picture_folder(path: Path) -> PictureFolder | None:
    """The pictures that a path like `FOLDER#25` or `FOLDER#times=FILE` stands for; None of any other path.

    Raises:
        UserError: the folder is missing or has no pictures, their names have no number or the same, a number lies before
            that of 0 s, the rate is 0, or the table of times is missing, is none, or lacks a number.
    """
    match = _match(path)
    if match is None or os.path.isfile(path):  # a file may be called anything
        return None
    folder, rate = Path(match["folder"]), float(match["rate"]) if match.re is _RATE else None
    if rate == 0:
        raise UserError(f"{path}: 0 pictures per second", "Write FOLDER#25 for 25 pictures per second")
    try:
        names, numbers = _listed(folder, folder.stat().st_mtime_ns)
    except OSError as error:
        missing = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{folder}: {missing} (of pictures)", "Check the path, or 'root' in corpus.yaml") from None
    if rate is None:
        return _timed(path, folder, names, numbers, match["table"])
    first = int(numbers[0]) if match["first"] is None else int(match["first"])
    if numbers[0] < first:
        raise UserError(
            f"{folder / names[0]}: its number lies before {first}, which is that of 0 s",
            f"Write FOLDER#{match['rate']}@{numbers[0]}, or remove the picture",
        )
    index = numbers - first
    return PictureFolder(path, folder, names, index, index / rate, (index + 1) / rate, rate)


def write_times(file: Path, numbers: Iterable[int], times: Iterable[float]) -> None:
    """Write a table of times.

    Args:
        file: CSV.
        numbers: of pictures, whether or not they are there.
        times: seconds, rising.
    """
    rows = (f"{number},{time:.6f}\n" for number, time in zip(numbers, times, strict=True))
    write_text(file, "number,time\n" + "".join(rows))


def _match(path: Path) -> re.Match[str] | None:
    text = str(path)
    return _TIMES.match(text) or _RATE.match(text)


def _timed(path: Path, folder: Path, names: tuple[str, ...], numbers: np.ndarray, table: str) -> PictureFolder:
    """Pictures with the times that a table gives them."""
    # By name, not by way of links: the manifest's relative path was made so.
    file = Path(os.path.normpath(folder / table))
    try:
        known, times = _table(file, file.stat().st_mtime_ns)
    except OSError as error:
        missing = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{file}: {missing} (times of the pictures of {folder})", "Prepare the corpus again") from None
    index = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    if (known[index] != numbers).any():
        lost = int(np.flatnonzero(known[index] != numbers)[0])
        raise UserError(
            f"{file}: no time of number {numbers[lost]}, which {folder / names[lost]} has",
            "Add it, or remove the picture",
        )
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    ends = np.append(times[1:], times[-1] + step)
    rate = len(times) / float(ends[-1] - times[0])
    return PictureFolder(path, folder, names, index, times[index], ends[index], rate, file)


@lru_cache(maxsize=256)
def _table(file: Path, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) int64 and their times (N,) float64 in seconds, both rising.

    Raises:
        UserError: the table cannot be read, or they do not rise.
    """
    numbers, times = [-1], [-1e-9]
    for count, row in records(file):
        try:
            number, time = int(row["number"]), float(row["time"])
        except (KeyError, ValueError):
            number, time = -1, float("nan")
        if not (numbers[-1] < number < 2**63 and times[-1] < time < float("inf")):
            raise UserError(
                f"{file}, row {count}: no 'number' and 'time' that rise", "Write number,time per line, in seconds"
            )
        numbers.append(number)
        times.append(time)
    if len(numbers) == 1:
        raise UserError(f"{file}: no times in it", "Write number,time per line, in seconds")
    return np.array(numbers[1:], np.int64), np.array(times[1:], np.float64)


@lru_cache(maxsize=256)
def _listed(folder: Path, changed: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the pictures in order of their numbers, and the numbers (F,) int64."""
    found: dict[int, str] = {}
    for entry in os.scandir(folder):
        name = entry.name
        if name.startswith(".") or not name.lower().endswith(SUFFIXES):
            continue
        digits = _NUMBER.search(name.rpartition(".")[0])
        if digits is None or len(digits[1]) > 18:
            raise UserError(f"{folder / name}: no number in the name, so its place is not known", "Number the pictures")
        number = int(digits[1])
        if number in found:
            both = " and ".join(sorted((found[number], name)))
            raise UserError(
                f"{folder}: {both} have the same number {number}", "The last digits of a name count; keep one of them"
            )
        found[number] = name
    if not found:
        raise UserError(f"{folder}: no picture in this folder", f"It needs numbered {', '.join(SUFFIXES)} files")
    numbers = np.array(sorted(found), np.int64)
    return tuple(found[number] for number in numbers.tolist()), numbers


def _picture(file: Path) -> av.VideoFrame:
    """The decoded picture.

    Raises:
        UserError: it is missing, broken, or breaks off.
    """
    pulse()
    try:
        data = file.read_bytes()
        codec = _CODECS.get(data[:2])
        if codec is None:
            raise ValueError("neither JPEG nor PNG" if data else "empty")
        if codec == "mjpeg" and data.rfind(_END) < data.rfind(_SCAN):
            raise ValueError("it breaks off")
        decoder: Any = av.CodecContext.create(codec, "r")  # of pictures, which its stub does not say
        decoder.thread_count = 1
        pictures = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
        if not pictures:
            raise ValueError("it holds no picture")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{file}: not readable as a picture ({reason})", "Extract it again, or remove it: then its moment has none"
        ) from None
    picture: av.VideoFrame = pictures[0]
    return picture
