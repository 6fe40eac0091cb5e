"""Where faces are in one picture. A detector knows nothing of other pictures, so its answers can be shared and cached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from mer.media.frame import Frame
from mer.spec import Face

# of `points`: none; eyes only, found one picture at a time and unsteady; or places as good as the landmarks of a mesh.
Points = Literal["none", "rough", "exact"]


@dataclass(frozen=True)
class Detection:
    """A face in one picture.

    Attributes:
        box: (4,) float64 x0, y0, x1, y1 pixels of the upright picture.
        score: 0 to 1, on the detector's own scale.
        points: (5, 2) float64 pixels: image-left eye, image-right eye, nose, image-left and image-right corner of the
            mouth; NaN where the detector does not find that point. None: no points.
        track: whose face it is, where a file says so.
    """

    box: np.ndarray
    score: float
    points: np.ndarray | None = None
    track: int | None = None


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    both = float(sides.prod())
    return both / (float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both)


class Detector(Protocol):
    """Finds faces picture by picture.

    Attributes:
        identity: backend, its version and thresholds: part of the key of every cached feature.
        points: what it knows about the five points.
        smooth: its boxes jitter; False where they were made with care elsewhere and are taken as they are.
    """

    identity: str
    points: Points
    smooth: bool

    def find(self, frame: Frame) -> list[Detection]:
        """Every face in the picture, in no particular order."""
        ...


def detector(face: Face, path: Path, root: Path) -> Detector:
    """The detector that `face` asks for.

    Args:
        face: how faces are found.
        path: the media file.
        root: folder that `face.file` is resolved against.

    Raises:
        UserError: what it needs is not installed, or the file of boxes is missing or wrong.
    """
    if face.detector == "haar":
        from mer.media.detectors.haar import Haar

        return Haar(face)
    if face.detector == "mediapipe":
        from mer.media.detectors.mesh_detector import MeshDetector

        return MeshDetector(face)
    from mer.media.detectors.precomputed import Precomputed

    return Precomputed(face, path, root)


def identity(face: Face) -> str:
    """`Detector.identity` without building the detector or needing its package."""
    if face.detector == "haar":
        from mer.media.detectors import haar

        return haar.identity(face)
    if face.detector == "mediapipe":
        from mer.media import mesh

        return mesh.identity(face.confidence, face.smallest)
    return f"precomputed {face.file}; confidence {face.confidence:g}; smallest {face.smallest:g}"
