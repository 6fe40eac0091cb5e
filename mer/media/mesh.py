"""Faces and their 478 landmarks by MediaPipe 0.10.21 (Kartynnik et al., 2019; Grishchenko et al., 2020), an extra.

Landmarks are numbered as in MediaPipe's canonical face; 468 to 472 and 473 to 477 are the irises, 468 at image left.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mer.errors import UserError
from mer.media.detectors import overlap
from mer.media.frame import Frame

VERSION = "0.10.21"  # the last but a few with `solutions` and with its models inside the wheel
OVERLAP = 0.4  # two boxes that overlap more are one face
CROP = 384  # a face is looked at in a square of twice its box, of this side at most


@dataclass(frozen=True)
class Mesh:
    """One face.

    Attributes:
        points: (478, 3) float64: x, y pixels of the upright picture, z in pixels towards the back, 0 at the head's middle.
        score: of the detector, 0 to 1.
    """

    points: np.ndarray
    score: float


def identity(confidence: float, smallest: float) -> str:
    """Backend, version and thresholds; the package need not be there."""
    return f"mediapipe {VERSION} mesh-1; confidence {confidence:g}; smallest {smallest:g}"


class FaceMesh:
    """Every face of a picture, each picture on its own, so that what is found does not depend on who else looked.

    The short-range detector sees faces that fill the picture, the full-range one small ones and several; each box that
    either gives is then looked at closely, and is a face when the mesh finds one there.

    Args:
        confidence: least score of a detection.
        smallest: least height of a face as a share of the picture's short side.

    Raises:
        UserError: MediaPipe is not installed, or another version.
    """

    def __init__(self, confidence: float = 0.5, smallest: float = 0.1):
        self.identity, self.smallest = identity(confidence, smallest), smallest
        library = solutions()
        with silence():
            find, mesh = library.face_detection.FaceDetection, library.face_mesh.FaceMesh
            self._detectors = [find(min_detection_confidence=confidence, model_selection=k) for k in (0, 1)]
            self._mesh = mesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
            # The models load with the first picture, and report it.
            for part in (*self._detectors, self._mesh):
                part.process(np.zeros((64, 64, 3), np.uint8))
        self._talks = True

    def find(self, frame: Frame) -> list[Mesh]:
        """Every face, the best score first; made once per frame for all who ask with the same thresholds."""
        return frame.once(("mesh", self.identity), lambda: self._find(frame.rgb()))

    def _find(self, picture: np.ndarray) -> list[Mesh]:
        boxes = sorted(self._boxes(picture), key=lambda entry: -entry[1])
        with silence() if self._talks else contextlib.nullcontext():
            candidates = [(self._look(picture, box), score) for box, score in _distinct(boxes)]
        self._talks = not candidates  # the mesh's own models wait for the first face to load and to talk
        seen = [(extent(points), score, points) for points, score in candidates if points is not None]
        least = self.smallest * min(picture.shape[:2])
        large = [entry for entry in seen if entry[0][3] - entry[0][1] >= least]
        return [Mesh(large[i][2], large[i][1]) for i in _keep([entry[0] for entry in large])]

    def _boxes(self, picture: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        height, width = picture.shape[:2]
        for detector in self._detectors:
            for found in detector.process(picture).detections or ():
                box = found.location_data.relative_bounding_box
                x0, y0 = box.xmin * width, box.ymin * height
                yield np.array([x0, y0, x0 + box.width * width, y0 + box.height * height]), float(found.score[0])

    def _look(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """(478, 3) landmarks in pixels of the picture, from a square of twice the box around it."""
        side = 2 * float(max(box[2] - box[0], box[3] - box[1]))
        if side < 8:
            return None
        corner = np.round([(box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2]).astype(int)
        crop = _cut(picture, corner, round(side))
        scale = min(1.0, CROP / len(crop))
        if scale < 1:
            crop = cv2.resize(crop, (CROP, CROP), interpolation=cv2.INTER_AREA)
        found = self._mesh.process(crop).multi_face_landmarks
        if not found:
            return None
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark]) * round(side)
        return points + np.append(corner, 0)


def extent(points: np.ndarray) -> np.ndarray:
    """(4,) x0, y0, x1, y1 of a mesh: from the hairline to the chin, from ear to ear."""
    return np.concatenate([points[:468, :2].min(0), points[:468, :2].max(0)])


def solutions() -> Any:
    """`mediapipe.solutions`.

    Raises:
        UserError: the package is not installed or has another version; names the two commands that install it.
    """
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        version = importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        version = "no mediapipe"
    if version != VERSION:
        raise UserError(
            f"this needs the package 'mediapipe' {VERSION} (Python 3.11 or 3.12), and {version} is installed",
            "In the checkout: pip install -e '.[mediapipe]' and then "
            f"pip install --no-deps mediapipe=={VERSION} (in this order)",
        )
    with silence():
        return importlib.import_module("mediapipe").solutions


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing reaches standard error meanwhile: TF-Lite and absl write there from C++ before any log level is heard."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", DeprecationWarning)  # of protobuf 6, at each graph that is built
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _cut(picture: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """A square of the picture; black where it reaches beyond."""
    height, width = picture.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x0, y0 = np.maximum(corner, 0)
    x1, y1 = min(corner[0] + side, width), min(corner[1] + side, height)
    if x1 > x0 and y1 > y0:
        square[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]] = picture[y0:y1, x0:x1]
    return square


def _distinct(boxes: list[tuple[np.ndarray, float]]) -> list[tuple[np.ndarray, float]]:
    return [boxes[i] for i in _keep([box for box, _ in boxes])]


def _keep(boxes: list[np.ndarray]) -> list[int]:
    """Indices of boxes that overlap with none before them."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if all(overlap(box, boxes[k]) < OVERLAP for k in kept):
            kept.append(i)
    return kept
