"""From a face in the picture to an upright crop of fixed size."""

from __future__ import annotations

import cv2
import numpy as np

# ArcFace (Deng et al., CVPR 2019), 112 x 112: image-left eye, image-right eye, nose tip, image-left and image-right corner
# of the mouth. It is cropped tightly: the chin is at the lower edge or a little beyond. What must be seen whole: `square`.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift (4 degrees of freedom, never a reflection); Umeyama, TPAMI 1991.

    Args:
        points, onto: (P, 2) with P >= 2, not all points in one place.

    Returns:
        (2, 3) float64 that maps `points` onto `onto`. In the plane, Umeyama's solution among rotations is the linear
        regression of complex numbers, which is what is computed.
    """
    source, target = points @ [1, 1j], onto @ [1, 1j]
    centred = source - source.mean()
    turn = (centred.conj() @ (target - target.mean())) / (centred.conj() @ centred).real
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def arcface(points: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """The similarity onto ArcFace's template, scaled to a crop of any size.

    Args:
        points: (5, 2) pixels in the template's order; NaN rows are left out (two eyes are enough).
        size: (height, width) of the crop; the template's square is centred in it.

    Returns:
        (2, 3) picture to crop, or None where fewer than two different points are known.
    """
    known = np.isfinite(points).all(1)
    if known.sum() < 2 or np.ptp(points[known], axis=0).max() < 1:
        return None
    height, width = size
    side = min(size)
    corner = np.array([(width - side) / 2, (height - side) / 2])
    return similarity(points[known], TEMPLATE[known] * (side / 112) + corner)


def square(box: np.ndarray, size: tuple[int, int], margin: float) -> np.ndarray:
    """The square around a box: its longer side and `margin` of that on both sides, mapped onto the crop's shorter side.

    Args:
        box: (4,) x0, y0, x1, y1 pixels, edges (0, 0, width, height of the whole picture).
        size: (height, width) of the crop; where it is no square, the longer side shows more of the surroundings.
        margin: share of the box's longer side.

    Returns:
        (2, 3) picture to crop, in coordinates of pixel centres.
    """
    x0, y0, x1, y1 = box
    scale = min(size) / (max(x1 - x0, y1 - y0) * (1 + 2 * margin))
    # An edge at e is at e - 0.5 from the centre of pixel 0.
    shift_x = size[1] / 2 - 0.5 - scale * ((x0 + x1) / 2 - 0.5)
    shift_y = size[0] / 2 - 0.5 - scale * ((y0 + y1) / 2 - 0.5)
    return np.array([[scale, 0, shift_x], [0, scale, shift_y]])


def warp(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut a crop out of a picture; a face that shrinks is averaged over area, so that it does not alias.

    Args:
        picture: (H, W, 3) or (H, W), uint8 or float32.
        matrix: (2, 3) picture to crop, in coordinates of pixel centres.
        size: (height, width) of the crop.

    Returns:
        (height, width, 3) or (height, width). What lies outside the picture is black, as in the crops that ArcFace and its
        successors were trained on; a repeated border would draw streaks that look like hair or a neck.
    """
    height, width = size
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    # A crop k times as large has at least as many pixels as the face; blocks of k x k are then averaged.
    # Of a box far beyond the picture no more are made than the picture has to give.
    most = 2 * -(-max(picture.shape[:2]) // min(size))
    k = min(int(np.ceil(1 / scale - 0.05)), most) if scale < 0.95 else 1
    finer = k * matrix + np.array([[0, 0, (k - 1) / 2]] * 2)
    large = cv2.warpAffine(picture, finer, (k * width, k * height), flags=cv2.INTER_LINEAR)
    return large if k == 1 else cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
