"""`Stream`: what one modality took from a file, as NumPy arrays; `mer.media.prepare` makes it a `Sampled`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stream:
    """Elements that are there, in order of time. What could not be seen (no face, lost track) is not an element.

    Attributes:
        values: (N, ...) of any dtype; N is 0 where nothing was found.
        spans: (N, 2) float32 seconds of media time that each element stands for.
    """

    values: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


def steady(count: int, rate: float, start: float) -> np.ndarray:
    """(count, 2) float32 spans of equal length; computed in float64, as late samples of long files need it."""
    edges = start + np.arange(count + 1, dtype=np.float64) / rate
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float32)
