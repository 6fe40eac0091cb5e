"""The 33 numbers say what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from media.moving_eyes import clock, jump, noise, saccade_time, spans
from mer.media.gaze_statistics import BANDS, FEATURES, kalman_smooth, statistics

RATE = 250.0


def recording(seconds: float = 12.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A saccade of 6 degrees to and fro each half second, one blink of 150 ms at 5 s; a slow and a fast pupil."""
    times = clock(seconds, RATE)
    gaze = noise((len(times), 2), size=0.003)
    for k in range(1, int(2 * seconds)):
        gaze[:, 0] += jump(times, k / 2, 6.0 if k % 2 else -6.0)
    pupils = np.stack([3 + 0.3 * np.sin(2 * np.pi * 0.5 * times), 4 + 0.2 * np.sin(2 * np.pi * 0.8 * times)], 1)
    gone = (times >= 5.2) & (times < 5.35)
    gaze[gone], pupils[gone] = np.nan, np.nan
    return spans(times, RATE), gaze, pupils


def named(rows: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(FEATURES, rows.T, strict=True))


def test_there_are_33_numbers_of_their_own_names() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 33


def test_windows_and_the_whole_clip_are_counted() -> None:
    rows = named(statistics(*recording(), np.array([[0.0, 4.0], [4.0, 8.0], [8.0, 12.0]])))
    quiet = [0, 2]
    np.testing.assert_allclose(rows["saccade_amplitude_mean"], 6.0, rtol=0.03)
    np.testing.assert_allclose(rows["saccade_duration_mean"], saccade_time(6), atol=0.012)
    np.testing.assert_allclose(rows["fixation_duration_mean"][quiet], 0.5 - saccade_time(6), atol=0.02)
    assert (rows["fixation_duration_std"][quiet] < 0.03).all()
    assert rows["fixation_duration_std"][1] > 0.05, "the blink cuts a fixation in two"
    np.testing.assert_allclose(rows["blink_duration_mean"], [0, 0.25, 0], atol=0.01)
    np.testing.assert_allclose(rows["clip_blink_rate"], 1 / 12, rtol=1e-6)
    np.testing.assert_allclose(rows["clip_saccade_rate"], 23 / 12, rtol=1e-6)
    np.testing.assert_allclose(rows["clip_fixation_rate"], 25 / 12, rtol=1e-6)
    np.testing.assert_allclose(rows["clip_saccade_latency_mean"], 0.5 - saccade_time(6), atol=0.015)
    dispersion = rows["dispersion_x_mean"] + rows["dispersion_y_mean"]
    assert (dispersion > 0.01).all() and (dispersion < 0.06).all(), "that of the noise"
    np.testing.assert_allclose(rows["clip_dispersion_total"], 25 * dispersion.mean(), rtol=0.1)
    assert (rows["clip_dispersion_max"] > dispersion.max()).all()


def test_pupils_have_level_spread_and_their_power_where_they_swing() -> None:
    rows = named(statistics(*recording(24.0), np.array([[8.0, 24.0]])))
    assert rows["pupil_left_mean"][0] == pytest.approx(3.0, abs=0.01)
    assert rows["pupil_right_mean"][0] == pytest.approx(4.0, abs=0.01)
    assert rows["pupil_left_std"][0] == pytest.approx(0.3 / np.sqrt(2), rel=0.03)
    for side, band in (("left", (0.4, 0.6)), ("right", (0.6, 1.0))):
        power = {b: rows[f"pupil_{side}_entropy_{b[0]:g}_{b[1]:g}"][0] for b in BANDS}
        assert max(power, key=power.__getitem__) == band
        assert all(power[band] > power[b] + 3 for b in BANDS if b != band), "eight times the power"


def test_twice_the_swing_is_two_bits_more() -> None:
    at, gaze, pupils = recording(24.0)
    windows = np.array([[8.0, 24.0]])
    once, twice = (named(statistics(at, gaze, 3 + k * (pupils - 3), windows)) for k in (1, 2))
    name = "pupil_left_entropy_0.4_0.6"
    assert twice[name][0] - once[name][0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_a_recording_without_anything_seen_is_all_zeros(count: int) -> None:
    lost = np.full((count, 2), np.nan)
    rows = statistics(spans(clock(1, 100)[:count], 100), lost, lost, np.array([[0.0, 0.5], [0.5, 1.0]]))
    assert rows.shape == (2, 33)
    assert np.isfinite(rows).all()
    assert (rows[:, [k for k, name in enumerate(FEATURES) if "blink" not in name]] == 0).all()


def test_the_smoother_follows_a_drift_and_takes_noise_away() -> None:
    random = np.random.default_rng(0)
    drift = np.cumsum(0.03 * random.standard_normal((400, 2)), 0)
    seen = drift + random.standard_normal(drift.shape)
    smoothed = kalman_smooth(seen)
    assert np.square(smoothed - drift).mean() < 0.1 * np.square(seen - drift).mean()
    np.testing.assert_allclose(kalman_smooth(np.full((20, 1), 7.0)), 7.0)
    np.testing.assert_allclose(kalman_smooth(seen[::-1])[::-1], smoothed, atol=0.05)  # neither direction is preferred
    assert kalman_smooth(np.zeros((0, 3))).shape == (0, 3)
