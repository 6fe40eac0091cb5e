"""Optical flow between pictures of a video, and the strain it means for the skin: u, v, strain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer.errors import UserError
from mer.media.frame import Frame
from mer.media.patches import Elements, Patch, Patches
from mer.media.pulse import pulse
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream
from mer.media.view import Taking
from mer.spec import InputSpec

# Settings, as they stand in the key of cached fields.
METHODS = {"dis": "medium evidence 0.3 4 0.3", "farneback": "0.5 3 15 3 5 1.2", "tvl1": "default"}
# Pixels of the short side at which flow is computed at least: patches of 8 pixels find nothing in smaller pictures.
WORK = 112
# Of `dis`: lesser eigenvalue of the structure tensor, in gray levels squared per pixel squared, at which half of the motion
# is believed; sigma of its window in pixels; how weak the evidence is that pulls towards standing still. On speakers before
# a plain backdrop two thirds and more of the backdrop's false motion go, and none of the face's.
EVIDENCE, WINDOW, REST = 0.3, 4.0, 0.3


def flow(first: np.ndarray, second: np.ndarray, method: str = "dis") -> np.ndarray:
    """Where every pixel of the first picture is in the second.

    Args:
        first, second: (H, W) uint8 gray, at least 12 pixels on each side.
        method: `dis` (Kroeger et al., ECCV 2016; OpenCV's preset `medium`), `farneback` (Farneback, SCIA 2003; window 15,
            3 levels, 3 iterations), `tvl1` (Zach et al., DAGM 2007; needs opencv-contrib, takes 100 times as long).

    Returns:
        (2, H, W) float32 pixels: u to the right, v down. `dis` alone follows the noise where a picture is plain and slides
        along straight edges; there the motion of the surroundings is taken, or rest where those are plain, too. What counts
        as plain follows Shi and Tomasi (CVPR 1994); the rest of that step is ours.

    Raises:
        UserError: the method is unknown or not installed.
    """
    _check(method)
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    engine: Any = cv2  # whose stubs want an output array and know no contrib modules
    if method == "dis":
        field = engine.DISOpticalFlow_create(engine.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
        field = _believed(field, first)
    elif method == "farneback":
        field = engine.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    else:
        field = engine.optflow.DualTVL1OpticalFlow_create().calc(first, second, None)
    return np.ascontiguousarray(field.transpose(2, 0, 1))


def _believed(field: np.ndarray, gray: np.ndarray) -> np.ndarray:
    """A field (H, W, 2) where the picture shows motion, and what surrounds it where it does not."""
    smooth = cv2.GaussianBlur(gray, (0, 0), 1.0).astype(np.float32)
    right, down = (0.5 * cv2.Sobel(smooth, -1, dx, 1 - dx, ksize=1) for dx in (1, 0))
    xx, yy, xy = (cv2.GaussianBlur(g, (0, 0), WINDOW) for g in (right * right, down * down, right * down))
    lesser = 0.5 * (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy)).clip(min=0)
    belief = (lesser**2 / (lesser**2 + EVIDENCE**2))[..., None]
    around = cv2.GaussianBlur(np.concatenate([field * belief, belief], axis=2), (0, 0), 2 * WINDOW)
    return belief * field + (1 - belief) * around[..., :2] / (around[..., 2:] + REST)


def strain(field: np.ndarray) -> np.ndarray:
    """How much the surface is stretched or sheared, wherever it moves to: magnitude of the infinitesimal strain tensor.

    Shreve et al., FG 2011. A translation gives 0, and so, to first order, does a rotation: by an angle a, sqrt(2)(1 - cos a).

    Args:
        field: (2, H, W) u, v in pixels, at least 2 on each side.

    Returns:
        (H, W) float32, without unit: sqrt(e_xx^2 + e_yy^2 + 2 e_xy^2).
    """
    # NumPy gives the derivative from row to row, downwards, first.
    (u_down, u_right), (v_down, v_right) = np.gradient(field[0]), np.gradient(field[1])
    shear = 0.5 * (u_down + v_right)
    return np.sqrt(u_right**2 + v_down**2 + 2 * shear**2).astype(np.float32)


def identity(spec: InputSpec) -> str:
    """What computes the field: method, settings, working size and version.

    Raises:
        UserError: the method is unknown or not installed.
    """
    method = spec.backend or "dis"
    _check(method)
    return f"flow {method} {METHODS[method]} at {WORK} opencv {cv2.__version__}"


@dataclass(frozen=True)
class _Onset:
    """The first picture of a pair: when it is shown, what it was cut from and where, and the patch itself."""

    time: float
    source: np.ndarray
    patch: Patch
    gray: np.ndarray


class Flow(Taking):
    """Flow fields of a video: (N, 3, H, W) float32 u, v, strain.

    u and v are displacements from the first picture of a pair to the second in pixels of the spec's size, not divided by the
    time between them; the span reaches from the first picture's time to the second's. They are computed on pictures whose
    short side has at least 112 pixels, then averaged over area.

    `dense`: between neighbouring sampled pictures, N - 1 fields for N pictures; a picture alone gives none, and one that is
    shown for two ticks a field of zeros. `onset_apex`: one field, from the first picture to the apex, the one whose field
    has the largest mean distance from its own median, so that a face that shifts as a whole does not count, nor what of the
    crop lies outside the picture. That criterion is ours.

    Of a face, both pictures of a pair are cut out where the face is in the first one: what the follower corrects between
    them, noise or not, would be taken for motion. `onset_apex` then gives one field per track, from where it is first seen.
    """

    def __init__(self, sampling: Sampling, spec: InputSpec, path: Path, root: Path):
        assert spec.size is not None
        super().__init__(sampling)
        self.size, self.dense = spec.size, spec.pairs == "dense"
        self.method = spec.backend or "dis"
        _check(self.method)
        self.finer = -(-WORK // min(self.size))  # so many times larger are the pictures that flow is computed on
        height, width = self.size
        self._patches = Patches(spec, (height * self.finer, width * self.finer), path, root)
        self._onsets: dict[int, _Onset] = {}
        self._farthest: dict[int, float] = {}
        self._elements = Elements()

    def made(self) -> Stream:
        return self._elements.stream(self._patches.chosen(), (3, *self.size))

    def take(self, frame: Frame, spans: list[Span]) -> None:
        found, source = self._patches.look(frame), self._patches.source(frame)
        for begin, _ in spans:
            for track, patch in found.items():
                if track in self._onsets and (self.dense or patch.seen):
                    self._pair(track, self._onsets[track], source, begin)
            new = {
                t: _Onset(begin, source, p, self._patches.cut(source, p))
                for t, p in found.items()
                if self._wanted(t, p)
            }
            self._onsets = new if self.dense else self._onsets | new
        self._elements.forget(found, self._patches.hopeless())

    def _wanted(self, track: int, patch: Patch) -> bool:
        """Whether a patch is the first one of a pair."""
        return self.dense or (patch.seen and track not in self._onsets)

    def _pair(self, track: int, onset: _Onset, source: np.ndarray, time: float) -> None:
        pulse()
        field = np.zeros((2, *self.size), np.float32)
        if source is not onset.source:
            field = self._between(onset.gray, self._patches.cut(source, onset.patch))
        element = np.concatenate([field, strain(field)[None]])
        span = (onset.time, max(time, onset.time + 1e-3))
        if self.dense:
            self._elements.add(track, onset.patch.seen, span, element)
            return
        within = field[:, self._patches.inside(source, onset.patch)[:: self.finer, :: self.finer]]
        away = float(np.hypot(*(within - np.median(within, axis=1, keepdims=True))).mean()) if within.size else 0.0
        if away > self._farthest.get(track, -1.0):
            self._farthest[track] = away
            self._elements.replace(track, span, element)

    def _between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(2, H, W) at the spec's size from two patches at working size."""
        field = flow(first, second, self.method)
        if self.finer == 1:
            return field
        height, width = self.size
        blocks = field.reshape(2, height, self.finer, width, self.finer)
        return blocks.mean(axis=(2, 4)) / self.finer


def _check(method: str) -> None:
    if method not in METHODS:
        raise UserError(f"unknown optical flow {method!r}", f"Use {', '.join(METHODS)}")
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        raise UserError(
            "the optical flow 'tvl1' needs the package 'opencv-contrib-python-headless', which is not installed",
            "It must replace opencv-python-headless, as both own the folder cv2: pip uninstall opencv-python-headless, "
            "then pip install 'opencv-contrib-python-headless<5'; or use 'dis'",
        )
