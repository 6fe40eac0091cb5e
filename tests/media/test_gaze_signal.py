"""Cleaning: what is lost stays lost unless it is filled by rule, and nothing is made up at ends and gaps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from media.moving_eyes import clock, noise
from mer.media.gaze_signal import (
    blinks,
    blinks_of_openness,
    clean_pupil,
    even,
    fill,
    low_pass,
    pieces,
    rate_of,
    running_median,
    runs,
    smooth,
    standardised,
    velocity,
)

NAN = np.nan


def lost(count: int, *stretches: tuple[int, int]) -> np.ndarray:
    out = np.zeros(count, bool)
    for first, behind in stretches:
        out[first:behind] = True
    return out


# -- Clock -------------------------------------------------------------------------------------------------------------


def test_the_rate_does_not_mind_gaps_and_repeated_times() -> None:
    times = np.concatenate([clock(1, 120), 3 + clock(1, 120), [5.0, 5.0]])
    assert rate_of(times) == pytest.approx(120)
    assert rate_of(np.array([2.0])) == rate_of(np.zeros(3)) == 1.0
    assert rate_of(np.cumsum(np.tile([1e-6, 1e-6, 0.1], 99))) == 2000  # read in threes, as they came in
    assert [(p.start, p.stop) for p in pieces(times)] == [(0, 120), (120, 240), (240, 242)]
    assert list(pieces(np.zeros(0))) == []


def test_an_even_clock_is_left_as_it_stands() -> None:
    values = noise((100, 2))
    values[40:45] = NAN
    # float32 times an hour into a recording are only good to a quarter of a millisecond
    level, place = even((3600 + clock(0.2, 500)).astype(np.float32).astype(np.float64), values, 500.0)
    np.testing.assert_array_equal(level, values)
    assert place.tolist() == list(range(100))


def test_an_uneven_clock_is_interpolated_and_its_gaps_stay() -> None:
    random = np.random.default_rng(1)
    times = np.sort(random.uniform(0, 2, 400))
    times = times[(times < 0.8) | (times > 1.1)]
    line = np.stack([times, 3 - 2 * times], 1)
    level, place = even(times, line, 100.0)
    at = times[0] + np.arange(len(level)) / 100
    known = np.isfinite(level[:, 0])
    np.testing.assert_allclose(level[known], np.stack([at, 3 - 2 * at], 1)[known], atol=1e-9)
    assert not known[(at > 0.82) & (at < 1.08)].any()
    assert known[(at < 0.75) | (at > 1.15)].mean() > 0.95
    assert np.abs(times[0] + place / 100 - times).max() <= 0.005 + 1e-9


# -- Lines, smoothing, velocity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [30.0, 120.0, 1000.0])
def test_a_straight_way_has_its_velocity_everywhere_also_beside_gaps_and_ends(rate: float) -> None:
    times = clock(1.0, rate)
    gaze = np.stack([12 * times, 100 - 5 * times], 1)
    gaze[len(gaze) // 2] = NAN
    motion = velocity(gaze, rate)
    there = np.isfinite(gaze[:, 0])
    np.testing.assert_allclose(motion[there], np.tile([12.0, -5.0], (there.sum(), 1)), rtol=1e-6)
    assert np.isnan(motion[~there]).all()
    np.testing.assert_allclose(smooth(gaze, rate)[there], gaze[there], rtol=1e-9, atol=1e-9)


def test_smoothing_takes_noise_down_by_the_root_of_the_window() -> None:
    still = noise((20000,), size=1.0)
    assert smooth(still, 500.0, window=0.05)[50:-50].std() == pytest.approx(25**-0.5, rel=0.1)


def test_a_lonely_sample_has_a_place_and_no_velocity() -> None:
    gaze = np.full((9, 2), NAN)
    gaze[4] = 7.0
    assert np.isnan(velocity(gaze, 100.0)).all()
    np.testing.assert_allclose(smooth(gaze, 100.0)[4], 7.0)


def test_the_low_pass_halves_power_at_its_cutoff() -> None:
    times = clock(20, 120)
    for hertz, power in ((0.2, 1.0), (4.0, 0.5), (12.0, 0.002)):
        wave = np.sin(2 * np.pi * hertz * times)
        kept = low_pass(wave[:, None], 120.0, 4.0)[240:-240, 0]
        assert kept.var() / wave[240:-240].var() == pytest.approx(power, abs=0.01)


def test_the_running_median_does_not_see_short_bursts() -> None:
    drift = np.linspace(0, 10, 1000)
    burst = drift.copy()
    burst[480:520] += 400
    burst[700:705] = NAN
    median = running_median(np.stack([burst, drift], 1), 0.25, 500.0)
    np.testing.assert_allclose(median[100:-100, 1], drift[100:-100], atol=0.1)
    np.testing.assert_allclose(median[100:-100, 0], drift[100:-100], atol=0.5)
    assert np.isnan(running_median(np.full((5, 1), NAN), 1.0, 10.0)).all()


# -- Gaps and blinks ---------------------------------------------------------------------------------------------------


def test_gaps_of_up_to_75_ms_are_filled_and_longer_ones_and_ends_are_not() -> None:
    times = clock(1, 100)
    values = times.copy()
    values[[0, 1, 98, 99]] = values[20:26] = values[40:48] = NAN  # 70 and 90 ms between the samples around
    out = fill(values, times)
    np.testing.assert_allclose(out[20:26], times[20:26])
    assert np.isnan(out[[0, 1, 98, 99]]).all() and np.isnan(out[40:48]).all()
    assert np.isnan(values[20:26]).all(), "the argument is not changed"
    np.testing.assert_array_equal(fill(np.stack([values, values], 1), times)[:, 1], out)


def test_blinks_are_widened_joined_and_told_from_glitches_and_lost_eyes() -> None:
    gone = lost(2000, (100, 102), (300, 375), (383, 420), (900, 1200))  # at 500 Hz: 4 ms, a blink in two, 600 ms
    blink, away = blinks(gone, 500.0)
    assert runs(blink).tolist() == [[275, 445]]
    assert runs(away).tolist() == [[875, 1225]]


@pytest.mark.parametrize("rate", [60.0, 250.0, 1000.0])
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_a_blink_of_known_length_comes_out_that_long_and_a_tenth_more(rate: float, seconds: float) -> None:
    gone = lost(round(3 * rate), (round(rate), round((1 + seconds) * rate)))
    blink, away = blinks(gone, rate)
    assert len(runs(blink)) == 1 and not away.any()
    assert blink.sum() / rate == pytest.approx(seconds + 0.1, abs=1.5 / rate)


def test_a_dip_of_openness_is_a_blink_and_a_half_closed_eye_is_not() -> None:
    times = clock(30, 60)
    level = np.where(times > 15, 0.5, 1.0)  # gets tired, and looks down
    shut = np.array([[2.0, 2.15], [9.0, 9.3], [20.0, 20.2]])
    for begin, end in shut:
        level[(times >= begin) & (times < end)] *= 0.1
    level[(times >= 25) & (times < 26)] = NAN  # too long for a blink
    found = blinks_of_openness(times, level + noise(level.shape))
    np.testing.assert_allclose(found, shut, atol=0.02)
    assert blinks_of_openness(times[:0], level[:0]).shape == (0, 2)


# -- Pupil -------------------------------------------------------------------------------------------------------------


def test_a_pupil_is_freed_of_blinks_spikes_and_islands() -> None:
    times = clock(20, 120)
    true = 3.5 + 0.5 * np.sin(2 * np.pi * 0.3 * times)
    seen = true + noise(true.shape, size=0.01)
    seen[600:624] = NAN  # a blink, with a pupil half covered before and after
    seen[596:600] -= 0.8
    seen[624:627] -= 0.5
    seen[[1000, 1500]] = 8.0, 2.0  # spikes
    seen[1800] = 30.0  # no pupil
    seen[2000:2100] = NAN  # gone for long, but for an island
    seen[2050:2053] = 5.0
    clean = clean_pupil(times, seen)
    known = np.isfinite(clean)
    assert known[590:640].all() and known[[1000, 1500, 1800]].all()
    assert not known[2000:2100].any()
    assert np.abs(clean[known] - true[known]).max() < 0.08
    assert np.abs(clean[known] - true[known]).std() < 0.015


def test_columns_are_standardised_over_what_is_there() -> None:
    values = np.array([[1.0, 5.0], [NAN, 5.0], [3.0, NAN]])
    np.testing.assert_allclose(standardised(values), [[-1, 0], [NAN, 0], [1, NAN]])


# -- Nothing there -----------------------------------------------------------------------------------------------------

SIGNALS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "velocity": lambda t, x: velocity(np.stack([x, x], 1), 60.0),
    "smooth": lambda t, x: smooth(x, 60.0),
    "fill": lambda t, x: fill(x, t),
    "median": lambda t, x: running_median(x[:, None], 0.5, 60.0),
    "pupil": clean_pupil,
    "low pass": lambda t, x: low_pass(x[:, None], 60.0, 4.0),
    "standardised": lambda t, x: standardised(x),
}


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_nothing_there_gives_nothing(name: str, count: int) -> None:
    out = SIGNALS[name](clock(1, 60)[:count], np.full(count, NAN))
    assert len(out) == count
    assert np.isnan(out).all()


# -- Real recordings ---------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_openness_finds_the_blinks_that_eye_ier2023_marks(real_data: Path) -> None:
    """The marks follow from lost pupils, 2,060 of 50 to 500 ms; openness is another signal of the same tracker."""
    with np.load(real_data / "eye_ier2023" / "recordings.npz", allow_pickle=False) as held:
        data, offset = held["data"].astype(np.float64), held["offset"]
    hits = marked = found = 0
    for first, behind in pairwise(offset):
        times, length = data[first:behind, 0], data[first:behind, 5]
        every = np.stack([times - length / 2, times + length / 2], 1)[length > 0]
        wanted = every[(np.diff(every)[:, 0] >= 0.05) & (np.diff(every)[:, 0] <= 0.5)]
        ours = blinks_of_openness(times, data[first:behind, 1:3].mean(1))
        meets = _overlap(wanted, ours)
        hits, marked = hits + int(meets.any(1).sum()), marked + len(wanted)
        found += int((meets.any(0) | ~_overlap(every, ours).any(0)).sum())  # shorter and longer marks count neither way
    precision, recall = hits / found, hits / marked
    assert marked == 2060
    assert 2 * precision * recall / (precision + recall) > 0.84


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.minimum(a[:, None, 1], b[None, :, 1]) > np.maximum(a[:, None, 0], b[None, :, 0])
