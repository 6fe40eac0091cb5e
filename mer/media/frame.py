"""One displayed picture of a video, upright, with its time; converted only when and as somebody asks.

Turned and mirrored as the file says. As in the frames of `ffmpeg`, pixels are the file's own: where they are not square
(sample aspect ratio) nothing is stretched, and the two fields of an interlaced picture stay woven into one.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

T = TypeVar("T")
_PLACES = {"left": 0, "center": 1, "right": 2}  # of a crop, in halves of the room along the longer side


class Frame:
    """A picture as a player shows it.

    Args:
        picture: decoded frame of PyAV, or (H, W, 3) uint8 RGB, already upright, from another decoder.
        index: number in order of display from the beginning of the file, or -1 where it is not known.
        time, until: seconds of media time in which it is shown.
        blank: seconds from which until `time` nothing is shown, as in a folder where numbers are missing; None where the
            picture follows at once, or stands for what is before it.
    """

    def __init__(
        self,
        picture: av.VideoFrame | np.ndarray,
        index: int,
        time: float,
        until: float,
        blank: float | None = None,
    ):
        self._picture, self.index, self.time, self.until = picture, index, time, until
        self.blank = blank if blank is not None and blank < time else None
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once per frame, so that several modalities share one conversion or detection."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, the whole picture; read only."""
        return self.once("rgb", self._rgb)

    def gray(self) -> np.ndarray:
        """(H, W) uint8 luma of the whole picture; read only."""
        return self.once("gray", self._gray)

    def picture(self, size: tuple[int, int], crop: str) -> np.ndarray:
        """(3, height, width) uint8, scaled by area. `center`, `left` or `right` cut the largest picture of that shape first,
        from that place along the longer side (`left` is the top of an upright one); `none` squeezes.
        """
        return self.once(("picture", size, crop), lambda: self._scaled(size, crop))

    def _rgb(self) -> np.ndarray:
        if isinstance(self._picture, np.ndarray):
            return self._picture
        return _upright(_converted(self._picture, format="rgb24"), *self._orientation(self._picture))

    def _gray(self) -> np.ndarray:
        if isinstance(self._picture, np.ndarray):
            return (self._picture @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
        return _upright(_converted(self._picture, format="gray"), *self._orientation(self._picture))

    def _scaled(self, size: tuple[int, int], crop: str) -> np.ndarray:
        height, width = size
        picture, turns, mirrored = self._picture, 0, False
        if isinstance(picture, np.ndarray):
            picture = av.VideoFrame.from_ndarray(picture, format="rgb24")
        else:
            turns, mirrored = self._orientation(picture)
        turned = turns % 2 != 0
        if crop in _PLACES:
            # Resize so that the short side fits, then cut: the scaler works on the small picture only.
            scale = max((width if turned else height) / picture.height, (height if turned else width) / picture.width)
            inner = (max(1, round(picture.height * scale)), max(1, round(picture.width * scale)))
        else:
            inner = (width, height) if turned else (height, width)
        small = _converted(picture, format="rgb24", width=inner[1], height=inner[0], interpolation="AREA")
        small = _upright(small, turns, mirrored)
        place = _PLACES.get(crop, 0)
        top, left = max((small.shape[0] - height) * place // 2, 0), max((small.shape[1] - width) * place // 2, 0)
        return np.ascontiguousarray(small[top : top + height, left : left + width].transpose(2, 0, 1))

    def _orientation(self, picture: av.VideoFrame) -> tuple[int, bool]:
        return self.once("orientation", lambda: orientation(picture))  # a picture tells it once


_scalers = threading.local()  # a scaler serves one thread, and remembers one conversion
# Since PyAV 17 a scaler starts threads of its own for every frame, which costs more than it saves.
_THREADS = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def _converted(picture: av.VideoFrame, **wanted: Any) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8 of a decoded frame."""
    made = _scalers.__dict__
    key = str((picture.width, picture.height, picture.format.name, *wanted.values()))
    if key not in made:
        if len(made) > 8:
            made.clear()
        made[key] = VideoReformatter()
    return made[key].reformat(picture, **wanted, **_THREADS).to_ndarray()


def orientation(picture: av.VideoFrame) -> tuple[int, bool]:
    """The file's display matrix, which PyAV reports and does not apply: quarter turns against the clock, and a mirror.

    Mirrored pictures (some front cameras) are turned upside down before the turns; `rotation` alone does not tell them. Of
    a photograph with EXIF data only the turns are known. To be asked once per picture.
    """
    turns = round(picture.rotation / 90)
    try:
        side_data = picture.side_data
    except ValueError:  # PyAV stumbles over what it has no name for: EXIF data
        return turns, False
    found = side_data.get("DISPLAYMATRIX")
    matrix = None if found is None else bytes(memoryview(found))  # type: ignore[arg-type]
    # A picture and its side data hold each other, and would stay until the garbage collector comes by: hundreds of pictures
    # of 1280 x 720. Bound to an empty picture instead, they let go.
    side_data.__init__(av.VideoFrame())  # type: ignore[misc]
    if matrix is None:
        return turns, False
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    return turns, a * d < b * c


def _upright(picture: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Put a stored picture the way round that `orientation` says."""
    if mirrored:
        picture = picture[::-1]
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns or mirrored else picture
