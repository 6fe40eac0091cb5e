"""The same part of several pictures, in gray: the whole, or a face where it was in one of them; and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mer.media.align import warp
from mer.media.frame import Frame
from mer.media.sampling import Span
from mer.media.stream import Stream
from mer.spec import InputSpec


@dataclass(frozen=True)
class Patch:
    """A part of a picture.

    Attributes:
        matrix: (2, 3) picture to patch; None: the whole picture.
        seen: the face was found here; False: it was somewhere near lately.
    """

    matrix: np.ndarray | None = None
    seen: bool = True


class Patches:
    """Finds patches, one per face that is followed or the whole picture as track 0, and cuts them out.

    Args:
        spec: crop and face are used.
        size: (height, width) of a patch.
        path, root: see `FaceFollower`.
    """

    def __init__(self, spec: InputSpec, size: tuple[int, int], path: Path, root: Path):
        self.crop, self.size = spec.crop, size
        self._follower = None
        if spec.crop == "face":
            from mer.media.face import FaceFollower

            assert spec.face is not None
            self._follower = FaceFollower(spec.face, path, root)
        self._looked: Frame | None = None
        self._found = {0: Patch()}

    def look(self, frame: Frame) -> dict[int, Patch]:
        """Patches of the next picture, or again of the same, by track."""
        if self._follower is not None and frame is not self._looked:
            self._looked, self._found = frame, {}
            for face in self._follower.look(frame):
                matrix = self._follower.matrix(face, self.size)
                if matrix is not None:
                    self._found[face.track] = Patch(matrix, face.seen)
        return self._found

    def source(self, frame: Frame) -> np.ndarray:
        """(H, W) uint8 that patches are cut from, the same array for the same frame; all that need be kept of it."""
        if self._follower is not None:
            return frame.gray()
        return frame.once(("gray", self.size, self.crop), lambda: _gray(frame.picture(self.size, self.crop)))

    def cut(self, source: np.ndarray, patch: Patch) -> np.ndarray:
        """(height, width) uint8: a patch of this or of another picture."""
        return source if patch.matrix is None else warp(source, patch.matrix, self.size)

    def inside(self, source: np.ndarray, patch: Patch) -> np.ndarray:
        """(height, width) bool: what of a patch lies within the picture."""
        return self.cut(np.full_like(source, 255), patch) == 255

    def chosen(self) -> list[int]:
        """Tracks of the target, once all pictures were looked at."""
        return [0] if self._follower is None else self._follower.chosen()

    def hopeless(self) -> set[int]:
        """Tracks that will not be among the chosen ones."""
        return set() if self._follower is None else self._follower.hopeless()


class Elements:
    """What was computed, by track, until it is known whose face is wanted.

    What was computed while a face was out of sight counts only once the face is seen again.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[tuple[Span, np.ndarray]]] = {}
        self._coasted: dict[int, list[tuple[Span, np.ndarray]]] = {}

    def add(self, track: int, seen: bool, span: Span, value: np.ndarray) -> None:
        """One more element of a track."""
        if seen:
            self._kept.setdefault(track, []).extend([*self._coasted.pop(track, ()), (span, value)])
        else:
            self._coasted.setdefault(track, []).append((span, value))

    def replace(self, track: int, span: Span, value: np.ndarray) -> None:
        """The only element of a track."""
        self._kept[track] = [(span, value)]

    def forget(self, present: Iterable[int], hopeless: Iterable[int]) -> None:
        """Let go of what no longer counts: of faces that did not come back, and of tracks that will not be chosen."""
        for track in self._coasted.keys() - set(present):
            del self._coasted[track]
        for track in hopeless:
            self._kept.pop(track, None)

    def stream(self, chosen: Iterable[int], shape: tuple[int, ...]) -> Stream:
        """(N, *shape) float32 of the chosen tracks, in order of time, then of track."""
        elements = [(span, track, value) for track in chosen for span, value in self._kept.get(track, ())]
        elements.sort(key=lambda element: element[:2])
        values = np.stack([value for _, _, value in elements]) if elements else np.zeros((0, *shape), np.float32)
        return Stream(values, np.asarray([span for span, _, _ in elements], np.float32).reshape(-1, 2))


def _gray(picture: np.ndarray) -> np.ndarray:
    """(3, H, W) uint8 RGB to (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(picture.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
