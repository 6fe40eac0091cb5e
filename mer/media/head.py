"""Where a head points: rotation from a few landmarks of the face mesh that do not move with the expression."""

from __future__ import annotations

import math

import cv2
import numpy as np

# Landmark: x, y, z in centimetres of MediaPipe's canonical face (Apache-2.0, face_geometry/data/canonical_face_model.obj);
# x to the picture's right, y up, z out of the face. Nose, root of the nose, hairline, eye corners, wings of the nose, and
# the sides of the face: bone, or close to it.
CANONICAL: dict[int, tuple[float, float, float]] = {
    4: (0.0, -0.463170, 7.586580),
    168: (0.0, 3.271027, 5.236015),
    10: (0.0, 8.261778, 4.481535),
    33: (-4.445859, 2.663991, 3.173422),
    133: (-1.856432, 2.585245, 3.757904),
    362: (1.856432, 2.585245, 3.757904),
    263: (4.445859, 2.663991, 3.173422),
    129: (-1.785794, -0.978284, 4.850470),
    358: (1.785794, -0.978284, 4.850470),
    127: (-7.743095, 2.364999, -2.005167),
    356: (7.743095, 2.364999, -2.005167),
}
# As the camera sees it: x right, y down, z away. A face with no rotation looks into the camera.
MODEL = np.array(list(CANONICAL.values())) * [1, -1, -1]


def camera(width: float, height: float) -> np.ndarray:
    """(3, 3) of a pinhole camera whose focal length is the picture's width (53 degrees across): our assumption."""
    return np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])


def rotation(points: np.ndarray, width: float, height: float) -> np.ndarray | None:
    """(3, 3) rotation of the head from looking into the camera, in the camera's axes; None where there is no solution.

    Args:
        points: (at least 468, 2 or 3) landmarks, x and y in pixels of the upright picture.
        width, height: of the picture, pixels.
    """
    seen = np.ascontiguousarray(points[list(CANONICAL), :2], np.float64)
    lens, none = camera(width, height), np.zeros(4)
    try:
        # SQPnP finds the global optimum of 3-D distances; the second step has least distance in the picture.
        found, turn, shift = cv2.solvePnP(MODEL, seen, lens, none, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            return None
        turn, _ = cv2.solvePnPRefineLM(MODEL, seen, lens, none, turn, shift)
    except cv2.error:
        return None
    matrix = cv2.Rodrigues(turn)[0]
    return matrix if np.isfinite(matrix).all() else None


def angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees.

    Yaw above 0: the face looks to the right of the picture (the person's own left). Pitch above 0: it looks up. Roll
    above 0: the head leans clockwise, its top towards the right of the picture. Yaw is taken first, then pitch, then roll
    about the line of sight of the face.
    """
    ahead = matrix @ [0.0, 0.0, -1.0]
    yaw, pitch = math.atan2(ahead[0], -ahead[2]), math.atan2(-ahead[1], math.hypot(ahead[0], ahead[2]))
    own = turned(math.degrees(yaw), math.degrees(pitch), 0.0).T @ matrix
    roll = math.atan2(own[1, 0], own[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3): the rotation that `angles` reads as these degrees."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    about_z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z
