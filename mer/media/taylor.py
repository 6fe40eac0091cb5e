"""Taylor frames: what moves in a few neighbouring pictures, as displacement, velocity and acceleration.

After Wang et al., Taylor Videos for Action Recognition, ICML 2024, in the form that MM-Gesture (arXiv 2507.08344) uses.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import factorial
from pathlib import Path

import cv2
import numpy as np

from mer.media.frame import Frame
from mer.media.patches import Elements, Patch, Patches
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream
from mer.media.view import Taking
from mer.spec import InputSpec


def taylor(frames: np.ndarray, terms: int = 3, signed: bool = True) -> np.ndarray:
    """Taylor frames of all blocks of `terms + 3` neighbouring pictures.

    With the pictures F_0 ... F_n of a block, their forward differences D_k at the first picture and x_i = F_i - F_0, channel
    c is `sum_{k < terms} (sum_i x_i^k / k!) D_{k+1+c}`, where x_0^0 = 1. The published division by the number of pictures
    cancels in the scaling.

    Args:
        frames: (T, H, W) gray in [0, 1].
        terms: of the series, at least 1.
        signed: keep the sign, which says whether it becomes lighter or darker; False drops what is negative, as the
            published code does.

    Returns:
        (T - terms - 2, 3, H, W), none where there are fewer pictures: displacement, velocity, acceleration. Each Taylor
        frame is scaled by its own largest magnitude, over the three channels together: signed to float32 in [-1, 1], else
        to uint8. Where nothing moves it is 0.
    """
    count = max(len(frames) - terms - 2, 0)
    made = [_block(frames[t : t + terms + 3], terms, signed) for t in range(count)]
    return np.stack(made) if made else np.zeros((0, 3, *frames.shape[1:]), np.float32 if signed else np.uint8)


def _block(frames: np.ndarray, terms: int, signed: bool) -> np.ndarray:
    """(3, H, W) of one block (terms + 3, H, W)."""
    frames = frames.astype(np.float64)
    moved = frames - frames[0]
    differences = []
    rest = frames
    for _ in range(terms + 2):
        rest = np.diff(rest, axis=0)
        differences.append(rest[0])
    weights = [(moved**k).sum(axis=0) / factorial(k) for k in range(terms)]
    series = np.stack([sum(w * differences[k + c] for k, w in enumerate(weights)) for c in range(3)])
    if not signed:
        series = series.clip(min=0)
    scale = float(np.abs(series).max())
    # Pictures that differ by rounding errors alone are the same picture.
    series = series / scale if scale > 1e-9 else np.zeros_like(series)
    return series.astype(np.float32) if signed else (series * 255).astype(np.uint8)


def identity(spec: InputSpec) -> str:
    """What computes Taylor frames: its version (of ours, to be raised when results change) and that of OpenCV."""
    return f"taylor 1 opencv {cv2.__version__}"


@dataclass(frozen=True)
class _Shown:
    """A picture of a block: its time, what patches are cut from, and where they are."""

    span: Span
    source: np.ndarray
    found: dict[int, Patch]


class Taylor(Taking):
    """Signed Taylor frames of a video: (N, 3, H, W) float32 in [-1, 1], one per block of neighbouring sampled pictures.

    N pictures give N - terms - 2 elements, whose spans reach from the first to the last picture of their block. Of a face,
    all pictures of a block are cut out where the face is in the first one, so that alignment is not taken for motion.
    """

    def __init__(self, sampling: Sampling, spec: InputSpec, path: Path, root: Path):
        assert spec.size is not None
        super().__init__(sampling)
        self.size, self.terms = spec.size, spec.terms
        self._patches = Patches(spec, spec.size, path, root)
        self._block: deque[_Shown] = deque(maxlen=spec.terms + 3)
        self._elements = Elements()

    def made(self) -> Stream:
        return self._elements.stream(self._patches.chosen(), (3, *self.size))

    def take(self, frame: Frame, spans: list[Span]) -> None:
        found, source = dict(self._patches.look(frame)), self._patches.source(frame)
        for span in spans:
            self._block.append(_Shown(span, source, found))
            if len(self._block) == self._block.maxlen:
                self._whole_block()
        self._elements.forget(found, self._patches.hopeless())

    def _whole_block(self) -> None:
        first, *others = self._block
        for track, patch in first.found.items():
            if all(track in shown.found for shown in others):
                cuts = np.stack([self._patches.cut(shown.source, patch) for shown in self._block])
                element = taylor(cuts / np.float32(255), self.terms)[0]
                self._elements.add(track, patch.seen, (first.span[0], others[-1].span[1]), element)
