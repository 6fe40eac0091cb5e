"""A folder of numbered pictures read as a video without sound: `FOLDER#25`, 25 pictures per second.

    faces/00001#25      the smallest number in the folder is shown at 0 s
    faces/00001#25@1    number 1 is shown at 0 s, whether or not it is there

The number is the last run of digits in a name (`frame-9.jpg` comes before `frame-10.jpg`). A number that is missing is a
moment without a picture: in steps of a fixed rate nothing is taken there. Names that begin with a dot are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from mer.errors import UserError
from mer.media.frame import Frame
from mer.media.pulse import pulse

SUFFIXES = (".jpg", ".jpeg", ".png")
_REFERENCE = re.compile(r"^(?P<name>.*[^#])#(?P<rate>\d+(?:\.\d+)?)(?:@(?P<first>\d+))?$", re.DOTALL)
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
        moments: (F,) int64, rising: the number in the name less that of 0 s.
        rate: moments per second.
    """

    path: Path
    folder: Path
    names: tuple[str, ...]
    moments: np.ndarray
    rate: Fraction

    @property
    def times(self) -> np.ndarray:
        """(F,) float64 seconds."""
        return self.moments / float(self.rate)

    @property
    def length(self) -> float:
        """Seconds from 0 to the end of the last picture."""
        return self._second(int(self.moments[-1]) + 1)

    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[Frame]:
        """As `mer.media.video.frames`: every picture that is shown at some moment of [start, end).

        Raises:
            UserError: a picture cannot be read.
        """
        limit = float("inf") if end is None else end
        for place, moment in enumerate(self.moments.tolist()):
            if self._second(moment + 1) > start and self._second(moment) < limit:
                yield self._frame(place)

    def frames_at(self, moments: Sequence[float]) -> Iterator[Frame]:
        """As `mer.media.video.frames_at`, but where no picture is shown, nothing is given: not even before the first.

        Raises:
            UserError: a picture cannot be read.
        """
        wanted = np.floor(np.asarray(moments) * float(self.rate) + 1e-6).astype(np.int64)
        for place in np.flatnonzero(np.isin(self.moments, wanted)).tolist():
            yield self._frame(place)

    def state(self) -> tuple[int, int]:
        """Sum of the pictures' sizes in bytes, and the latest of their times of change in nanoseconds."""
        about = [os.stat(self.folder / name) for name in self.names]
        return sum(a.st_size for a in about), max(a.st_mtime_ns for a in about)

    def content(self) -> bytes:
        """Names and sizes of the pictures, which stand for what is in them: some hundred times cheaper than to read them."""
        return b"".join(
            f"{name}\0{os.stat(self.folder / name).st_size}\0".encode(errors="surrogateescape") for name in self.names
        )

    def _second(self, moment: int) -> float:
        return float(moment / self.rate)

    def _frame(self, place: int) -> Frame:
        moment = int(self.moments[place])
        gone = int(self.moments[place - 1]) + 1 if place else 0
        picture = _picture(self.folder / self.names[place])
        return Frame(picture, moment, self._second(moment), self._second(moment + 1), self._second(gone))


def plain(path: Path) -> Path:
    """A media file as it is, and of `FOLDER#25@1` the folder."""
    match = _REFERENCE.match(path.name)
    return path.with_name(match["name"]) if match else path


def picture_folder(path: Path) -> PictureFolder | None:
    """The pictures that a path like `FOLDER#25` stands for; None of any other path.

    Raises:
        UserError: the folder is missing or has no pictures, their names have no number or the same, a number lies before
            that of 0 s, or the rate is 0.
    """
    match = _REFERENCE.match(path.name)
    if match is None or path.is_file():  # a file may be called anything
        return None
    rate, folder = Fraction(match["rate"]), path.with_name(match["name"])
    if not rate:
        raise UserError(f"{path}: 0 pictures per second", "Write FOLDER#25 for 25 pictures per second")
    try:
        changed = folder.stat().st_mtime_ns
        names, numbers = _listed(folder, changed)
    except OSError as error:
        missing = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{folder}: {missing} (of pictures)", "Check the path, or 'root' in corpus.yaml") from None
    first = int(numbers[0]) if match["first"] is None else int(match["first"])
    if numbers[0] < first:
        raise UserError(
            f"{folder / names[0]}: its number lies before {first}, which is that of 0 s",
            f"Write FOLDER#{match['rate']}@{numbers[0]}, or remove the picture",
        )
    return PictureFolder(path, folder, names, numbers - first, rate)


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
