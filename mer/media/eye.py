"""Eyes and head seen in a video: a proxy of gaze, how far the eyes are open, where the head points."""

from __future__ import annotations

import numpy as np

from mer.errors import UserError
from mer.media import head
from mer.media.frame import Frame
from mer.media.mesh import FaceMesh, Mesh
from mer.media.mesh import identity as mesh_identity
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream
from mer.media.view import Taking
from mer.spec import InputSpec

# The eye at the left of the picture (the person's right one), then the other: landmarks of the refined mesh.
IRIS = (468, 473)
CORNERS = ((33, 133), (362, 263))  # each from the left of the picture to its right
LIDS = (((160, 144), (158, 153)), ((385, 380), (387, 373)))  # upper, lower
COLUMNS = ("gaze_x", "gaze_y", "openness_left", "openness_right", "yaw", "pitch", "roll")
CONFIDENCE, SMALLEST = 0.5, 0.1  # of the face detector; see `FaceMesh`


def identity(spec: InputSpec) -> str:
    """Backend, version and thresholds, for cache keys; the package need not be there.

    Raises:
        UserError: unknown backend or column.
    """
    _check(spec)
    return f"{mesh_identity(CONFIDENCE, SMALLEST)}; eye-1"


class EyesInVideo(Taking):
    """Columns about the eyes of the largest face: (N, columns) float32. Frames without a face give no element.

    `gaze_x`, `gaze_y`: how far the iris lies from the middle between the corners of its eye, in widths of the eye, along
    the picture's axes (x right, y down), mean of both eyes. A proxy, not gaze: it moves with the head, has an offset of
    its own in every person, and knows nothing of a screen.
    `openness_left`, `openness_right`: height of the eye over its width (Soukupova and Cech, 2016), about 0.3 open and
    0.1 shut; left and right in the picture, so `openness_left` is the person's right eye unless the picture is mirrored.
    Widths and heights include the mesh's depth (our choice): in the picture the far eye of a turned head is too narrow,
    and would seem wide open.
    `yaw`, `pitch`, `roll`: degrees; see `mer.media.head.angles`. Where they cannot be solved there is no element.

    Args:
        sampling: which frames are looked at.
        spec: `backend` `mediapipe`; `columns` from those above, in any order.

    Raises:
        UserError: unknown backend or column, or MediaPipe is not installed (at the first frame).
    """

    def __init__(self, sampling: Sampling, spec: InputSpec):
        _check(spec)
        super().__init__(sampling)
        self.columns = spec.columns
        self._mesh: FaceMesh | None = None

    def made(self) -> Stream:
        return self.kept((len(self.columns),))

    def take(self, frame: Frame, spans: list[Span]) -> None:
        if self._mesh is None:
            self._mesh = FaceMesh(CONFIDENCE, SMALLEST)
        faces = self._mesh.find(frame)
        if not faces:
            return
        height, width = frame.rgb().shape[:2]
        row = measure(largest(faces).points, width, height, self.columns)
        if row is not None:
            self.keep(row, spans)


def largest(faces: list[Mesh]) -> Mesh:
    """The face of the greatest box."""
    return max(faces, key=lambda face: float(np.prod(np.ptp(face.points[:468, :2], axis=0))))


def measure(points: np.ndarray, width: float, height: float, columns: tuple[str, ...]) -> np.ndarray | None:
    """(columns,) float32 of one face; None where the head's rotation is asked for and has no solution.

    Args:
        points: (478, 3) refined mesh, pixels.
        width, height: of the picture, pixels.
        columns: names from `COLUMNS`.
    """
    found = dict(zip(("gaze_x", "gaze_y"), gaze(points), strict=True))
    found |= dict(zip(("openness_left", "openness_right"), openness(points), strict=True))
    if {"yaw", "pitch", "roll"} & set(columns):
        matrix = head.rotation(points, width, height)
        if matrix is None:
            return None
        found |= dict(zip(("yaw", "pitch", "roll"), head.angles(matrix), strict=True))
    return np.array([found[name] for name in columns], np.float32)


def gaze(points: np.ndarray) -> tuple[float, float]:
    """Offset of the irises from the middle of the eyes, in widths of an eye, x right and y down."""
    offsets = []
    for iris, (a, b) in zip(IRIS, CORNERS, strict=True):
        middle = (points[a] + points[b])[:2] / 2
        offsets.append((points[iris, :2] - middle) / (np.linalg.norm(points[b] - points[a]) + 1e-9))
    x, y = np.mean(offsets, axis=0)
    return float(x), float(y)


def openness(points: np.ndarray) -> tuple[float, float]:
    """Eye aspect ratio of the eye at the left of the picture and of the one at its right."""
    ratios = []
    for (a, b), lids in zip(CORNERS, LIDS, strict=True):
        across = np.linalg.norm(points[b] - points[a]) + 1e-9
        ratios.append(float(np.mean([np.linalg.norm(points[u] - points[v]) for u, v in lids]) / across))
    return ratios[0], ratios[1]


def _check(spec: InputSpec) -> None:
    if spec.backend != "mediapipe":
        raise UserError(f"unknown backend {spec.backend!r} of eye", "Use mediapipe or file")
    unknown = [name for name in spec.columns if name not in COLUMNS]
    if unknown or not spec.columns:
        problem = f"unknown eye columns {', '.join(unknown)}" if unknown else "an eye input without columns"
        raise UserError(problem, f"From a video there are {', '.join(COLUMNS)}")
