"""A view: what one modality takes from the pictures of a clip while they pass by once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mer.media.frame import Frame
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream


class View(Protocol):
    """Fed by `mer.media.reading` with every displayed frame of the stretch, in order. Keeps no frame longer than it must."""

    def see(self, frame: Frame) -> None:
        """Look at the next frame; take from it what the input spec's sampling wants."""
        ...

    def result(self) -> Stream:
        """What was taken, once the stretch has ended."""
        ...


class Taking:
    """A view that hands the frames its sampling wants to `take`; subclasses say what to take of them and make of it.

    Args:
        sampling: which frames are taken, and what they stand for.
    """

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self._values: list[np.ndarray] = []
        self._spans: list[Span] = []
        self._last: Frame | None = None

    def see(self, frame: Frame) -> None:
        spans = self.sampling.take(frame)
        if spans:
            self.take(frame, spans)
        self._last = frame

    def result(self) -> Stream:
        spans = self.sampling.rest()
        if spans and self._last is not None:
            self.take(self._last, spans)
        return self.made()

    def take(self, frame: Frame, spans: list[Span]) -> None:
        """Look at a frame that stands for these spans, at least one."""
        raise TypeError(f"{type(self).__name__} does not implement take")

    def made(self) -> Stream:
        """What was taken."""
        raise TypeError(f"{type(self).__name__} does not implement made")

    def keep(self, value: np.ndarray, spans: list[Span]) -> None:
        """Remember an element for each of the spans."""
        self._values += [value] * len(spans)
        self._spans += spans

    def kept(self, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> Stream:
        """What `keep` remembered; `shape` and `dtype` of an element, where there is none."""
        values = np.stack(self._values) if self._values else np.zeros((0, *shape), dtype)
        return Stream(values, np.asarray(self._spans, np.float32).reshape(-1, 2))


class Pictures(Taking):
    """Whole pictures, scaled: (N, 3, H, W) uint8."""

    def __init__(self, sampling: Sampling, size: tuple[int, int], crop: str):
        super().__init__(sampling)
        self.size, self.crop = size, crop

    def take(self, frame: Frame, spans: list[Span]) -> None:
        self.keep(frame.picture(self.size, self.crop), spans)

    def made(self) -> Stream:
        return self.kept((3, *self.size), np.uint8)
