"""Crops are where they should be, upright, and do not alias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.media.align import TEMPLATE, arcface, similarity, square, warp


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    a = np.radians(degrees)
    return scale * points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + shift


def applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@given(st.floats(-180, 180), st.floats(0.05, 20), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_a_similarity_is_undone_exactly(degrees: float, scale: float, shift: tuple[float, float]) -> None:
    seen = turned(TEMPLATE, degrees, scale, shift)
    np.testing.assert_allclose(applied(similarity(seen, TEMPLATE), seen), TEMPLATE, atol=1e-6)


def test_it_is_umeyamas_solution_and_never_a_reflection() -> None:
    rng = np.random.default_rng(0)
    for mirrored in (1, -1):
        seen = TEMPLATE * [mirrored, 1] + rng.normal(0, 4, (5, 2))
        ours = similarity(seen, TEMPLATE)
        a, b = seen - seen.mean(0), TEMPLATE - TEMPLATE.mean(0)
        u, d, v = np.linalg.svd(b.T @ a / 5)
        sign = np.diag([1, np.sign(np.linalg.det(u @ v))])
        turn = u @ sign @ v * np.trace(np.diag(d) @ sign) / a.var(0).sum()
        np.testing.assert_allclose(ours[:, :2], turn, atol=1e-9)
        np.testing.assert_allclose(ours[:, 2], TEMPLATE.mean(0) - turn @ seen.mean(0), atol=1e-9)
        assert np.linalg.det(ours[:, :2]) > 0


def test_arcface_needs_two_points_and_uses_all_that_are_known() -> None:
    seen = turned(TEMPLATE, 20, 3, (50, 60))
    eyes = seen.copy()
    eyes[2:] = np.nan
    one = eyes.copy()
    one[0] = np.nan
    expected = arcface(seen, (112, 112))
    assert expected is not None
    np.testing.assert_allclose(arcface(eyes, (112, 112)), expected, atol=1e-9)
    assert arcface(one, (112, 112)) is None
    assert arcface(np.zeros((5, 2)), (112, 112)) is None


def test_the_template_scales_with_the_crop_and_is_centred_in_a_wide_one() -> None:
    for size, shift in (((224, 224), (0, 0)), ((112, 212), (50, 0)), ((132, 112), (0, 10))):
        matrix = arcface(TEMPLATE, size)
        assert matrix is not None
        np.testing.assert_allclose(applied(matrix, TEMPLATE), TEMPLATE * min(size) / 112 + shift, atol=1e-9)


def test_the_square_holds_the_box_and_its_margin() -> None:
    box = np.array([10.0, 20.0, 50.0, 40.0])
    matrix = square(box, (100, 100), margin=0.25)
    # 40 px are the longer side, 60 with margins: the crop's edges are at 0 to 60 in x and 0 to 60 in y.
    corners = applied(matrix, np.array([[0.0, 0.0], [60.0, 60.0]]) - 0.5)
    np.testing.assert_allclose(corners, np.array([[0, 0], [100, 100]]) - 0.5, atol=1e-9)


def test_a_whole_picture_comes_back_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(warp(picture, square(np.array([0, 0, 32, 32.0]), (32, 32), 0), (32, 32)), picture)


@pytest.mark.parametrize("shape", [(512, 512), (512, 512, 3)])
def test_a_fine_pattern_shrinks_to_its_mean_and_not_to_another_pattern(shape: tuple[int, ...]) -> None:
    picture = np.zeros(shape, np.uint8)
    picture[:, ::2] = 200
    crop = warp(picture, square(np.array([40, 40, 440, 440.0]), (56, 56), 0), (56, 56))
    assert crop.shape == (56, 56, *shape[2:])
    assert (
        np.abs(crop.astype(int) - 100).max() <= 15
    )  # what the edges of a 7.1 pixel wide mean make of it; picking pixels gives 100


def test_what_lies_outside_the_picture_is_black() -> None:
    picture = np.full((40, 40), 255, np.uint8)
    crop = warp(picture, square(np.array([20, 20, 60, 60.0]), (40, 40), 0), (40, 40))
    assert crop[:19, :19].min() == 255
    assert crop[22:].max() == 0
    assert crop[:, 22:].max() == 0
