"""Degrees of visual angle follow from the geometry that was declared, and from nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mer.errors import UserError
from mer.media.screen import Screen

TOBII = {"width_cm": 50.9, "height_cm": 28.6, "distance_cm": 65.0}
PIXELS = Screen(**TOBII, unit="px", width_px=1920, height_px=1080)


def test_the_middle_is_0_and_a_centimetre_its_angle() -> None:
    gaze = np.array([[960.0, 540.0], [960 + 1920 / 50.9, 540], [960, 540 - 1080 / 28.6]])
    angle = np.degrees(np.arctan(1 / 65))
    np.testing.assert_allclose(PIXELS.degrees(gaze), [[0, 0], [angle, 0], [0, -angle]], atol=1e-9)


def test_pixels_and_shares_of_the_screen_are_the_same_places() -> None:
    share = np.random.default_rng(0).random((20, 2))
    np.testing.assert_allclose(
        Screen(**TOBII, unit="norm").degrees(share), PIXELS.degrees(share * (1920, 1080)), atol=1e-9
    )
    np.testing.assert_allclose(PIXELS.looked_at(PIXELS.degrees(share * (1920, 1080))), share, atol=1e-9)


def test_more_than_a_screen_outside_the_eye_was_lost() -> None:
    seen = np.isfinite(PIXELS.degrees(np.array([[-1900.0, 0], [-1930, 0], [0, 2150], [0, 2170], [np.nan, 5]]))).all(1)
    assert seen.tolist() == [True, False, True, False, False]
    assert PIXELS.degrees(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({**TOBII, "unit": "px"}, "width_px and height_px go with the unit 'px'"),
        ({**TOBII, "unit": "norm", "width_px": 3, "height_px": 3}, "go with the unit 'px'"),
        ({**TOBII, "unit": "cm"}, "screen.unit is 'cm'. Use px, or norm"),
        ({**TOBII}, "says nothing of 'unit'"),
        ({**TOBII, "unit": "norm", "distance_cm": 0.0}, "a number above 0"),
        ({**TOBII, "unit": "norm", "distance_cm": "60cm"}, "a number above 0"),
        ({**TOBII, "unit": "norm", "depth": 1}, "no setting 'depth'. It has width_cm"),
    ],
)
def test_what_was_not_declared_is_asked_for(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Screen.from_dict(settings)
