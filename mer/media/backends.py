"""Optional readers beside PyAV: each says beforehand which files it would read wrongly, and refuses them.

They exist for comparison and for sites that already rely on them. What each one gets wrong was measured against the
frames of the `ffmpeg` program (tests/media/test_backends.py); a file of a kind that was not measured is refused as well.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from mer.errors import UserError, need_extra
from mer.media.frame import orientation
from mer.media.packets import PacketIndex, packet_index, video_stream
from mer.media.probe import opened
from mer.media.pulse import pulse


@dataclass(frozen=True)
class Shown:
    """One picture of a displayed sequence.

    Attributes:
        index: number in order of display, from the beginning of the file.
        time: seconds of media time.
        picture: decoded by PyAV, or (H, W, 3) uint8 RGB, upright.
        lasts: seconds that it is shown where no other follows.
    """

    index: int
    time: float
    picture: av.VideoFrame | np.ndarray
    lasts: float


class Reader(Protocol):
    """A file opened by an optional backend: pictures by their number in order of display."""

    def __len__(self) -> int:
        """Pictures that the backend believes in."""
        ...

    def rgb(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8 of one picture, upright."""
        ...


class Decord:
    """decord 0.6.0, with one thread."""

    def __init__(self, path: Path):
        try:
            import decord  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError:
            raise need_extra("decord", "decord") from None
        self._reader: Any = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)

    @staticmethod
    def trouble(index: PacketIndex) -> str | None:
        """Why this backend would read the file wrongly, or None."""
        if index.open_gop:
            return "open groups of pictures (it returns other frames than asked for)"
        return _trouble(index)

    def __len__(self) -> int:
        return len(self._reader)

    def rgb(self, number: int) -> np.ndarray:
        return np.asarray(self._reader[number].asnumpy())


class TorchCodec:
    """torchcodec 0.11 to 0.13 in exact mode, with one thread. It brings torch into the process (280 MB)."""

    def __init__(self, path: Path):
        try:
            from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise need_extra("torchcodec", "torchcodec") from None
        except (OSError, RuntimeError) as error:  # it is there, and finds no FFmpeg libraries
            first = str(error).strip().splitlines()[0]
            raise UserError(f"torchcodec does not load ({first})", "Install FFmpeg's libraries, or use pyav") from None
        self._reader: Any = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")

    @staticmethod
    def trouble(index: PacketIndex) -> str | None:
        """Why this backend would read the file wrongly, or None."""
        return _trouble(index)

    def __len__(self) -> int:
        return len(self._reader)

    def rgb(self, number: int) -> np.ndarray:
        return np.asarray(self._reader.get_frame_at(number).data.numpy())


READERS: dict[str, type[Decord] | type[TorchCodec]] = {"decord": Decord, "torchcodec": TorchCodec}


def shown(name: str, path: Path, start: float = 0.0) -> Generator[Shown, None, None]:
    """Pictures from the one on screen at `start` to the end, by an optional backend.

    Args:
        name: a key of `READERS`.
        path: the file.
        start: seconds of media time.

    Raises:
        UserError: the backend is not installed, or would read this file wrongly.
    """
    index = packet_index(path)
    _refuse(name, path, READERS[name].trouble(index))
    try:
        reader: Reader = READERS[name](path)
        colours, mirrored = reader.rgb(0).shape[2], _mirrored(path)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign library raises
        _refuse(name, path, f"it does not open it: {' '.join(str(error).split())[:120]}")
        raise AssertionError from None
    if mirrored:
        _refuse(name, path, "its pictures are mirrored")
    if colours != 3:  # decord, of pictures that are turned by a quarter and then 16, 32 or 48 pixels wide
        _refuse(name, path, f"it gives {colours} colours")
    if len(reader) != len(index.stamps):
        _refuse(name, path, f"it counts {len(reader)} pictures where {len(index.stamps)} are shown")
    return _numbered(reader, index, index.shown_at(start))


def _numbered(reader: Reader, index: PacketIndex, first: int) -> Generator[Shown, None, None]:
    times = index.times
    for number in range(first, len(times)):
        pulse()
        yield Shown(number, float(times[number]), reader.rgb(number), index.lasts)


def _mirrored(path: Path) -> bool:
    """Whether the display matrix mirrors, which both read as a turn."""
    with opened(path) as container:
        first = next(container.decode(video_stream(container, path)), None)
        return first is not None and orientation(first)[1]


def _trouble(index: PacketIndex) -> str | None:
    """What neither of the two reads rightly."""
    if index.unsure is not None:
        return index.unsure
    if index.edited:
        return "an edit list (pictures that are decoded and not shown)"
    if index.hidden:
        return "packets without a picture"
    if index.cut_off:
        return "the file breaks off"
    if index.depth > 8:
        return f"{index.depth} bits per colour, which it converts in another way"
    if not index.only:
        return "several picture streams"
    return None


def _refuse(name: str, path: Path, why: str | None) -> None:
    if why is not None:
        raise UserError(f"{path}: {name} does not read this file exactly: {why}", "Use pyav, which does")
