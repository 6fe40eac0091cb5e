"""A view: what one modality takes from the pictures of a clip while they pass by once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mer.media.frame import Frame
from mer.media.sampling import Sampling
from mer.media.stream import Stream


class View(Protocol):
    """Fed by `mer.media.reading` with every displayed frame of the stretch, in order. Keeps no frame longer than it must."""

    def see(self, frame: Frame) -> None:
        """Look at the next frame; take from it what the input spec's sampling wants."""
        ...

    def result(self) -> Stream:
        """What was taken, once the stretch has ended."""
        ...


class Pictures:
    """Whole pictures, scaled: (N, 3, H, W) uint8."""

    def __init__(self, sampling: Sampling, size: tuple[int, int], crop: str):
        self.sampling, self.size, self.crop = sampling, size, crop
        self._values: list[np.ndarray] = []
        self._spans: list[tuple[float, float]] = []
        self._last: Frame | None = None

    def see(self, frame: Frame) -> None:
        self._take(frame, self.sampling.take(frame))
        self._last = frame

    def result(self) -> Stream:
        if self._last is not None:
            self._take(self._last, self.sampling.rest())
        values = np.stack(self._values) if self._values else np.zeros((0, 3, *self.size), np.uint8)
        return Stream(values, np.asarray(self._spans, np.float32).reshape(-1, 2))

    def _take(self, frame: Frame, spans: list[tuple[float, float]]) -> None:
        self._values += [frame.picture(self.size, self.crop)] * len(spans)
        self._spans += spans
