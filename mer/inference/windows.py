"""Sliding windows as a value: where they lie, and how their answers become one curve over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer.datasets.views import Windows
from mer.errors import UserError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SlidingWindow:
    """Windows of equal length.

    Attributes:
        duration: seconds of one window.
        step: seconds from one window to the next.
    """

    duration: float
    step: float

    def __post_init__(self) -> None:
        if not (0 < self.step <= self.duration):
            raise UserError(
                f"windows of {self.duration:g} s every {self.step:g} s leave gaps", "Use 0 < step <= window"
            )

    def over(self, start: float, end: float) -> list[tuple[float, float]]:
        """Windows that cover [start, end); the last one ends at `end`. One shorter window where there is no room for two."""
        return Windows(self.duration, self.step).over(start, end)

    def blend(self, windows: Sequence[tuple[float, float]], values: FloatArray, times: FloatArray) -> FloatArray:
        """Overlap-add: at each time the mean of the windows over it, weighted by closeness to their middle.

        Args:
            windows: W spans.
            values: (W, C); a row of NaN has nothing to say.
            times: (F,) seconds.

        Returns:
            (F, C); NaN where no window says anything.
        """
        spans = np.asarray(windows, dtype=np.float64)
        middle, half = spans.mean(axis=1), (spans[:, 1] - spans[:, 0]) / 2
        known = np.isfinite(values).all(axis=1)
        total = np.zeros((len(times), values.shape[1]))
        weight = np.zeros(len(times))
        for w in np.flatnonzero(known):
            # Only the stretch of the (sorted) times under the window is touched: linear in the length of the recording.
            first, last = np.searchsorted(times, spans[w, 0], "left"), np.searchsorted(times, spans[w, 1], "right")
            # Half a triangle is kept at the rim, so that the first and last moments of a recording have an answer.
            closeness = 1.05 - np.abs(times[first:last] - middle[w]) / half[w]
            total[first:last] += closeness[:, None] * values[w]
            weight[first:last] += closeness
        return np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-12)[:, None], np.nan)
