"""The screen that was looked at: gaze on it as degrees of visual angle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from mer.errors import UserError


@dataclass(frozen=True)
class Screen:
    """Where the gaze points of a recording lie, and how large they look. Nothing of it can be read off the numbers.

    The origin of gaze is the upper left corner, x to the right and y down, as trackers write it.

    Attributes:
        width_cm, height_cm: of the picture on the screen.
        distance_cm: from the eyes to the screen.
        unit: `px` for pixels, `norm` for shares of the screen from 0 to 1.
        width_px, height_px: of the screen; wanted for pixels alone.
    """

    width_cm: float
    height_cm: float
    distance_cm: float
    unit: Literal["px", "norm"]
    width_px: float | None = None
    height_px: float | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("px", "norm"):
            raise UserError(f"screen.unit is {self.unit!r}", "Use px, or norm for 0 to 1")
        if (self.unit == "px") != (self.width_px is not None and self.height_px is not None):
            raise UserError(
                "screen.width_px and height_px go with the unit 'px' and with no other", "Give both, or neither"
            )
        sizes = (self.width_cm, self.height_cm, self.distance_cm, *self.size)
        if not all(isinstance(size, int | float) and 0 < size < 1e6 for size in sizes):
            raise UserError(f"screen sizes {sizes}: each is a number above 0", "Give width, height and distance in cm")

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in the unit of gaze."""
        return (1.0 if self.width_px is None else self.width_px, 1.0 if self.height_px is None else self.height_px)

    def degrees(self, gaze: np.ndarray) -> np.ndarray:
        """(N, 2) gaze to degrees right of and below the middle of the screen; NaN more than one screen outside.

        That far out a tracker has lost the eye.
        """
        share = np.asarray(gaze, np.float64) / self.size
        lost = ~np.all((share >= -1) & (share <= 2), axis=1)
        angle = np.degrees(np.arctan2((share - 0.5) * (self.width_cm, self.height_cm), self.distance_cm))
        return np.where(lost[:, None], np.nan, angle)

    def looked_at(self, degrees: np.ndarray) -> np.ndarray:
        """(N, 2) degrees to shares of the screen, 0 to 1 from its upper left corner."""
        return 0.5 + np.tan(np.radians(degrees)) * self.distance_cm / (self.width_cm, self.height_cm)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Screen:
        """From YAML or a checkpoint.

        Raises:
            UserError: an unknown or missing setting, or one that makes no sense.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(plain) - set(known)):
            raise UserError(f"screen has no setting {unknown[0]!r}", f"It has {', '.join(known)}")
        if missing := [name for name in known[:4] if name not in plain]:
            raise UserError(f"screen says nothing of {missing[0]!r}", f"Give {', '.join(known[:4])}")
        return cls(**plain)
