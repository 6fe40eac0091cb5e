"""Viola and Jones' detector with OpenCV's cascades: nothing to install or download, frontal faces only.

Of a face it gives a box from the middle of the forehead to the chin. Where both eyes are found in its upper half it gives
their centres, too; nose and mouth are NaN.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mer.errors import UserError
from mer.media.align import warp
from mer.media.detectors import Detection, Points
from mer.media.frame import Frame
from mer.spec import Face

# alt2 had the fewest false faces of the frontal cascades on our recordings, and as many true ones as `default`.
FACE = "haarcascade_frontalface_alt2.xml"
# The first is within 3 % of the eyes' distance of the irises that MediaPipe finds, the second within 5 to 9 %, but it sees
# lowered and closed eyes as well, and is asked where the first sees nothing.
EYE = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")
SIDE = 240  # the picture is searched at this short side, in pixels, unless `smallest` needs more
BORDER = 0.2  # grey border around the picture, of its short side: a face that fills the picture is found as well
WINDOW = 20  # pixels: the cascade's own
STEP, NEIGHBOURS = 1.1, 4  # pyramid step, and how many raw hits make a face
# The sum of the cascade's last stage, mapped to 0 and 1. A clear frontal face has 57; faces that fill the picture or are
# half covered by a hand have 55.3 to 56.5; the false ones on our recordings were below 55.25, which is a score of 0.5.
WEIGHT = (53.5, 57.0)
CHIN = 0.1  # of its height, added below: the cascade's square ends above the chin of an open mouth
EYES = np.array([(0.30, 0.38), (0.70, 0.38)])  # where eyes are expected, of the square
REACH = 0.16  # and how far from there they may be
FACE_SIDE, EYE_SIDE = 120, 20  # eyes are searched in a face of this width, and are so wide at least


def identity(face: Face) -> str:
    """Backend, version and thresholds."""
    eyes = " and eyes" if face.align == "arcface" else ""
    return f"haar{eyes} 1, OpenCV {cv2.__version__}; confidence {face.confidence:g}; smallest {face.smallest:g}"


class Haar:
    """Frontal faces, and their eyes where align is `arcface`; the square crop does without, which saves a quarter of the time.

    Raises:
        UserError: OpenCV 5, which has neither the class nor the cascades.
    """

    points: Points = "rough"
    smooth = True

    def __init__(self, face: Face):
        self.identity, self.confidence, self.smallest = identity(face), face.confidence, face.smallest
        self._face = _cascade(FACE)
        self._eye = [_cascade(name) for name in EYE] if face.align == "arcface" else []
        # With threads the order of raw hits, and with it the grouping, changes from run to run.
        cv2.setNumThreads(1)

    def find(self, frame: Frame) -> list[Detection]:
        gray = frame.gray()
        short = min(gray.shape)
        scale = min(1.0, max(SIDE, WINDOW / self.smallest) / short) if self.smallest else 1.0
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else gray
        border = round(BORDER * min(small.shape))
        padded = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_CONSTANT, value=128)
        least = max(WINDOW, int(self.smallest * min(small.shape)))
        boxes, _, weights = self._face.detectMultiScale3(
            padded, scaleFactor=STEP, minNeighbors=NEIGHBOURS, minSize=(least, least), outputRejectLevels=True
        )
        low, high = WEIGHT
        found = []
        for (x, y, w, h), weight in zip(np.reshape(boxes, (-1, 4)), np.ravel(weights), strict=True):
            score = float(np.clip((weight - low) / (high - low), 0, 1))
            if score >= self.confidence:
                box = np.array([x - border, y - border, x - border + w, y - border + h], np.float64)
                # The scale that resize really used, which rounds to whole pixels.
                box *= np.tile([gray.shape[1] / small.shape[1], gray.shape[0] / small.shape[0]], 2)
                eyes = self._eyes(gray, box) if self._eye else None
                found.append(Detection(np.append(box[:3], box[3] + CHIN * (box[3] - box[1])), score, eyes))
        return found

    def _eyes(self, gray: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """(5, 2) with the two eyes, or None where not both are found."""
        x0, y0, x1, _ = box
        zoom = FACE_SIDE / (x1 - x0)
        upper = np.array([[zoom, 0, -zoom * x0], [0, zoom, -zoom * y0]])
        patch = warp(gray, upper, (round(0.62 * FACE_SIDE), FACE_SIDE))
        for cascade in self._eye:
            hits = np.reshape(cascade.detectMultiScale(patch, 1.08, 3, minSize=(EYE_SIDE, EYE_SIDE)), (-1, 4))
            centres = (hits[:, :2] + hits[:, 2:] / 2) / FACE_SIDE
            away = np.linalg.norm(centres[None] - EYES[:, None], axis=2)
            if len(hits) and (away.min(1) < REACH).all():
                points = np.full((5, 2), np.nan)
                points[:2] = box[:2] + centres[away.argmin(1)] * (x1 - x0)
                return points
        return None


def _cascade(name: str) -> cv2.CascadeClassifier:
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    if not hasattr(cv2, "CascadeClassifier") or not (Path(folder) / name).is_file():
        raise UserError(
            f"OpenCV {cv2.__version__} has no Haar cascades, which detector 'haar' needs",
            "Install OpenCV 4: pip install 'opencv-python-headless<5'; or use another detector",
        )
    return cv2.CascadeClassifier(str(Path(folder) / name))
