"""Who is who: tracks survive gaps and crossings, and end with the scene."""

from __future__ import annotations

import numpy as np
import pytest

from mer.media.detectors import Detection, overlap
from mer.media.frame import Frame
from mer.media.track import Cuts, Steady, Tracker


def face(x: float, y: float = 50, side: float = 40, track: int | None = None, points: np.ndarray | None = None):
    return Detection(np.array([x, y, x + side, y + side], float), 1.0, points, track)


def numbers(tracker: Tracker, pictures: list[list[Detection]], step: float = 0.04, cut_at: int = -1) -> list[list[int]]:
    """Per picture the tracks of its detections, from left to right."""
    seen = []
    for k, found in enumerate(pictures):
        tracks = tracker.see(found, k * step, k == cut_at)
        seen.append([t.number for t in sorted((t for t in tracks if t.found), key=lambda t: t.box[0])])
    return seen


def tracker(hold: float = 0.4) -> Tracker:
    return Tracker(hold, "exact", smooth=True)


def test_overlap_of_boxes() -> None:
    a = np.array([0, 0, 10, 10.0])
    assert overlap(a, a) == 1
    assert overlap(a, np.add(a, [5, 0, 5, 0])) == pytest.approx(1 / 3)
    assert overlap(a, a + 10) == 0


def test_two_people_keep_their_numbers_in_whatever_order_they_are_found() -> None:
    pictures = [[face(10 + k), face(200 - k)][:: 1 if k % 2 else -1] for k in range(50)]
    assert {tuple(p) for p in numbers(tracker(), pictures)} in ({(0, 1)}, {(1, 0)})


def test_one_of_two_leaves_and_the_other_is_not_taken_for_him() -> None:
    pictures = [[face(10), face(120)]] * 5 + [[face(120)]] * 30
    seen = numbers(tracker(), pictures)
    assert seen[-1] == [seen[0][1]]


def test_a_track_coasts_for_hold_and_then_is_no_face_any_more() -> None:
    watch = tracker(hold=0.4)
    watch.see([face(10)], 0.0, False)
    (coasting,) = watch.see([], 0.3, False)
    assert not coasting.found
    np.testing.assert_array_equal(coasting.box, face(10).box)
    assert watch.see([], 0.5, False) == []


def test_who_comes_back_to_his_place_is_the_same_and_who_comes_elsewhere_is_not() -> None:
    pictures = [[face(100)]] * 5 + [[]] * 50
    assert numbers(tracker(), [*pictures, [face(110)]])[-1] == [0]
    assert numbers(tracker(), [*pictures, [face(250)]])[-1] == [1]
    assert numbers(tracker(), [*pictures, [face(100, side=100)]])[-1] == [1]


def test_no_track_survives_a_cut() -> None:
    assert numbers(tracker(), [[face(100)]] * 6, cut_at=3) == [[0]] * 3 + [[1]] * 3


def test_a_file_that_names_its_faces_is_believed() -> None:
    pictures = [[face(10, track=7), face(60, track=3)], [face(60, track=7), face(10, track=3)]]
    assert numbers(tracker(), pictures, cut_at=1) == [[7, 3], [3, 7]]


def test_a_face_is_followed_at_two_pictures_a_second() -> None:
    assert numbers(tracker(), [[face(10 + 30 * k)] for k in range(8)], step=0.5) == [[0]] * 8


def test_jitter_of_a_still_face_is_halved_and_a_moving_one_lags_by_two_per_cent_at_most() -> None:
    rng = np.random.default_rng(0)
    still, noise = Steady(), rng.normal(0, 1, (200, 2, 2))
    smooth = np.array([still(100 + n, k * 0.04, 100.0) for k, n in enumerate(noise)])
    assert smooth[50:].std() < 0.6 * noise[50:].std()
    for speed in (20.0, 100.0, 400.0):  # pixels per second, of a face 100 wide
        moving = Steady()
        times = np.arange(100) * 0.04
        places = [moving(np.full((2, 2), speed * t), t, 100.0) for t in times]
        lag = speed * times[60:] - np.array(places)[60:, 0, 0]
        assert 0 <= lag.max() < 2.0, speed


def test_points_that_are_not_known_stay_unknown_and_disturb_nothing() -> None:
    steady = Steady()
    points = np.full((5, 2), np.nan)
    points[:2] = 10.0
    for k in range(5):
        out = steady(points + k, k * 0.04, 50.0)
    assert np.isfinite(out[:2]).all()
    assert np.isnan(out[2:]).all()


def test_rough_eyes_settle_in_the_box_and_are_kept_where_they_are_not_found() -> None:
    rng = np.random.default_rng(0)
    watch = Tracker(0.4, "rough", smooth=True)
    errors = []
    for k in range(100):
        points = np.full((5, 2), np.nan)
        points[:2] = np.array([[112 + k, 65], [128 + k, 65]]) + rng.normal(0, 2, (2, 2))
        (track,) = watch.see([face(100 + k, points=points if k % 3 else None)], k * 0.04, False)
        if k > 50:
            assert track.points is not None
            errors.append(np.abs(track.points[:2] - [[112 + k, 65], [128 + k, 65]]).max())
    assert np.mean(errors) < 1.2


def picture(colour: tuple[int, int, int], seed: int, shift: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 120, (12, 16, 1)).repeat(8, 0).repeat(8, 1)
    return (np.roll(noise, shift, 1) + np.array(colour)).astype(np.uint8)


def test_a_new_scene_is_a_cut_and_movement_noise_and_a_fade_are_not() -> None:
    cuts = Cuts()
    rng = np.random.default_rng(0)
    calm = [picture((60, 40, 20), 0, shift=2 * k) for k in range(10)]
    noisy = [np.clip(calm[-1] + rng.normal(0, 6, calm[-1].shape), 0, 255).astype(np.uint8) for _ in range(5)]
    fade = [(calm[-1] * (1 - 0.04 * k)).astype(np.uint8) for k in range(25)]
    seen = [cuts.at(Frame(p, k, k / 25, (k + 1) / 25)) for k, p in enumerate([*calm, *noisy, *fade])]
    assert not any(seen)
    assert cuts.at(Frame(picture((20, 60, 100), 1), 40, 1.6, 1.64))
