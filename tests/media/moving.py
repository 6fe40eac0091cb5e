"""Pictures in which a pattern moves as it is told, and a follower of faces that sees what it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.media.face import TrackedFace
from mer.media.frame import Frame
from mer.spec import Face


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right, y down, in pixels from the centre."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x - (width - 1) / 2, y - (height - 1) / 2


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gray levels of an endless cloudy pattern at any place; waves of 8 to 64 pixels."""
    rng = np.random.default_rng(3)
    total = np.zeros_like(x)
    for _ in range(60):
        length, angle, phase = 2 ** rng.uniform(3, 6), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        total += np.sqrt(length) * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length + phase)
    return 128 + 100 * np.tanh(total / 50)


def gray(x: np.ndarray, y: np.ndarray, noise: int | None = None) -> np.ndarray:
    level = texture(x, y)
    if noise is not None:
        level = level + np.random.default_rng(noise).standard_normal(x.shape)
    return level.round().clip(0, 255).astype(np.uint8)


def moved(size: int, u: float, v: float) -> np.ndarray:
    """The pattern after it has moved by u to the right and v down."""
    x, y = grid(size, size)
    return gray(x - u, y - v)


def film(shifts: list[tuple[float, float]], size: int = 128, fps: float = 25.0) -> list[Frame]:
    pictures = [np.repeat(moved(size, u, v)[..., None], 3, axis=2) for u, v in shifts]
    return [Frame(p, k, k / fps, (k + 1) / fps) for k, p in enumerate(pictures)]


class Follower:
    """Stands in for the follower of faces: face 0 is a box that jumps about, face 1 is there in the first two pictures."""

    present = (None, None, None, None)  # of face 0: seen, coasting (False) or absent (None)

    start = 20  # of the box, to the right and down

    def __init__(self, face: Face, path: Path, root: Path):
        self.number = -1

    def look(self, frame: Frame) -> list[TrackedFace]:
        self.number += 1
        k = self.number
        place = self.start + 3 * (k % 2)
        box = np.array([place, place, place + 64, place + 64], float)
        faces = [] if self.present[k] is None else [TrackedFace(0, box, None, 1.0, bool(self.present[k]))]
        return faces + ([TrackedFace(1, box + 30, None, 1.0, True)] if k < 2 else [])

    def matrix(self, face: TrackedFace, size: tuple[int, int]) -> np.ndarray:
        scale = size[0] / 64
        return np.array([[scale, 0, -scale * face.box[0]], [0, scale, -scale * face.box[1]]])

    def chosen(self) -> list[int]:
        return [0]

    def hopeless(self) -> set[int]:
        return set()
