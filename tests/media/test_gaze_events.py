"""Eye movements are found where they happen, at any rate, and nothing is seen in noise or in what was lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.moving_eyes import clock, jump, noise, saccade_time, spans
from mer.errors import UserError
from mer.media.gaze_events import Detection, Label, engbert_kliegl, events, idt, ivt, label

DETECTORS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "label": label, "ivt": ivt, "idt": idt, "engbert_kliegl": engbert_kliegl,
}  # fmt: skip


def share(labels: np.ndarray, *kinds: Label) -> float:
    return float(np.isin(labels, kinds).mean())


def along(x: np.ndarray, angle: float = 0.6) -> np.ndarray:
    """(N, 2) degrees: motion on a slanted line."""
    return np.stack([x * np.cos(angle), x * np.sin(angle)], 1)


# -- Saccades ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [120.0, 250.0, 500.0, 1000.0])
@pytest.mark.parametrize("amplitude", [2.0, 5.0, 10.0, 20.0])
def test_a_saccade_on_the_main_sequence_is_found_where_it_is_and_as_large_as_it_is(
    rate: float, amplitude: float
) -> None:
    times = clock(2, rate)
    gaze = along(jump(times, 1.003, amplitude)) + noise((len(times), 2))
    found = events(spans(times, rate), gaze, label(times, gaze))
    saccades = found.of(Label.SACCADE)
    assert len(saccades) == 1
    middle = (saccades.start[0] + saccades.end[0]) / 2 - 0.5 / rate
    assert middle == pytest.approx(1.003, abs=1 / rate)
    assert saccades.amplitude[0] == pytest.approx(amplitude, rel=0.1)
    assert np.degrees(np.arctan2(*saccades.way[0, ::-1])) == pytest.approx(np.degrees(0.6), abs=2)
    # Both ends are slow and below the threshold; smoothing over 20 ms makes it longer.
    assert saccades.duration[0] == pytest.approx(saccade_time(amplitude), abs=0.012 + 1 / rate)
    held = found.of(Label.FIXATION)
    assert len(held) == 2
    np.testing.assert_allclose(held.centre, [[0, 0], along(np.array([amplitude]))[0]], atol=0.1)


@given(
    st.lists(st.tuples(st.floats(1.0, 20.0), st.floats(0, 6.28)), min_size=1, max_size=6),
    st.sampled_from([250.0, 500.0]),
    st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_every_saccade_of_a_scanpath_is_found_within_a_sample(
    path: list[tuple[float, float]], rate: float, seed: int
) -> None:
    times = clock(0.4 * (len(path) + 1), rate)
    gaze = noise((len(times), 2), seed)
    for k, (amplitude, angle) in enumerate(path):
        gaze += along(jump(times, 0.4 * (k + 1), amplitude), angle)
    saccades = events(spans(times, rate), gaze, label(times, gaze)).of(Label.SACCADE)
    assert len(saccades) == len(path)
    middles = (saccades.start + saccades.end) / 2 - 0.5 / rate
    np.testing.assert_allclose(middles, 0.4 * (1 + np.arange(len(path))), atol=max(1 / rate, 0.003))


def test_the_swing_after_a_saccade_is_no_second_saccade() -> None:
    times = clock(1.5, 500)
    after = (times - 0.5 - saccade_time(8) / 2).clip(0)
    swing = 0.8 * np.sin(2 * np.pi * 25 * after) * np.exp(-after / 0.015)
    gaze = along(jump(times, 0.5, 8.0) + swing) + noise((len(times), 2))
    found = events(spans(times, 500), gaze, label(times, gaze))
    assert found.kind.tolist() == [Label.FIXATION, Label.SACCADE, Label.PSO, Label.FIXATION]
    assert 0.01 < found.duration[2] < 0.08


def test_microsaccades_stand_out_of_noise() -> None:
    times = clock(4, 500)
    gaze = noise((len(times), 2), size=0.005)
    for k in range(1, 8):
        gaze += along(jump(times, k / 2, 0.5), k)
    runs = np.flatnonzero(np.diff((engbert_kliegl(times, gaze) == Label.SACCADE).astype(int)) == 1)
    np.testing.assert_allclose(times[runs], np.arange(1, 8) / 2, atol=0.02)


# -- Pursuit and fixation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [60.0, 500.0])
@pytest.mark.parametrize("speed", [2.0, 10.0, 25.0])
def test_pursuit_is_no_saccade_and_no_fixation(rate: float, speed: float) -> None:
    times = clock(2, rate)
    target = speed * np.abs((times - 1) % 2 - 1)  # there and back
    gaze = along(target) + noise((len(times), 2))
    labels = label(times, gaze)
    assert share(labels, Label.PURSUIT) > 0.95
    assert share(labels, Label.SACCADE) == 0


def test_pursuit_at_the_speed_of_a_threshold_is_a_saccade_to_ivt_alone() -> None:
    times = clock(1, 500)
    gaze = along(35 * times) + noise((len(times), 2))
    assert share(ivt(times, gaze), Label.SACCADE) > 0.9
    assert share(label(times, gaze), Label.SACCADE) == 0


def test_a_catch_up_saccade_is_found_within_pursuit() -> None:
    times = clock(2, 500)
    gaze = along(10 * times + jump(times, 1.0, 2.0)) + noise((len(times), 2))
    found = events(spans(times, 500), gaze, label(times, gaze))
    assert found.kind.tolist() == [Label.PURSUIT, Label.SACCADE, Label.PURSUIT]
    assert found.start[1] == pytest.approx(1 - saccade_time(2) / 2, abs=0.008)


@pytest.mark.parametrize("size", [0.005, 0.02, 0.05])
@pytest.mark.parametrize("rate", [30.0, 60.0, 500.0])
def test_a_resting_eye_makes_no_saccade_however_noisy_the_tracker(size: float, rate: float) -> None:
    times = clock(10, rate)
    wander = 0.1 * np.sin(2 * np.pi * 0.4 * times)
    labels = label(times, along(wander) + noise((len(times), 2), size=size))
    assert share(labels, Label.FIXATION) > 0.97
    assert share(labels, Label.SACCADE) == 0


def test_pursuit_ends_where_the_target_stops() -> None:
    times = clock(2, 500)
    gaze = along(8 * times.clip(max=1.0)) + noise((len(times), 2))
    found = events(spans(times, 500), gaze, label(times, gaze))
    assert found.kind.tolist() == [Label.PURSUIT, Label.FIXATION]
    assert found.end[0] == pytest.approx(1.0, abs=0.06)


# -- Blinks and losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [False, True])
def test_blinks_lost_eyes_and_glitches(left_out: bool) -> None:
    """Whether lost samples are NaN, or missing from the table."""
    times = clock(6, 250)
    gaze = noise((len(times), 2))
    for begin, end in ((1.0, 1.15), (2.0, 2.8), (4.0, 4.005), (5.0, 5.2)):
        gaze[(times >= begin - 1e-6) & (times < end - 1e-6)] = np.nan
    if left_out:
        there = np.isfinite(gaze[:, 0])
        times, gaze = times[there], gaze[there]
    found = events(spans(times, 250), gaze, label(times, gaze))
    blinks = found.of(Label.BLINK)
    assert ((blinks.start > 0.94) & (blinks.start < 5.21)).all()
    covered = [(0.95, 1.2), (4.95, 5.25)]
    for begin, end in covered:
        inside = (blinks.end > begin) & (blinks.start < end)
        assert blinks.start[inside].min() == pytest.approx(begin, abs=0.008)
        assert blinks.end[inside].max() == pytest.approx(end, abs=0.008)
    labels = label(times, gaze)
    assert (labels[(times > 1.96) & (times < 2.84)] == Label.NONE).all()
    assert (labels[(times > 3.9) & (times < 4.1)] == Label.FIXATION).all()
    assert not (labels == Label.SACCADE).any()


def test_the_jolt_of_a_closing_lid_is_part_of_the_blink() -> None:
    times = clock(2, 500)
    gaze = noise((len(times), 2))
    gaze[(times >= 1) & (times < 1.15)] = np.nan
    lid = (times >= 0.97) & (times < 1.0)
    gaze[lid, 1] += np.linspace(0, 15, lid.sum())
    assert share(label(times, gaze), Label.SACCADE) == 0


# -- Any input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("seen", [False, True])
def test_short_and_empty_recordings_have_a_label_per_sample(name: str, count: int, seen: bool) -> None:
    gaze = noise((count, 2)) if seen else np.full((count, 2), np.nan)
    labels = DETECTORS[name](clock(1, 60)[:count], gaze)
    assert labels.shape == (count,)
    assert seen or np.isin(labels, (Label.NONE, Label.BLINK)).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_repeated_and_wild_times_are_borne(name: str) -> None:
    times = np.concatenate([np.zeros(5), clock(1, 100), [1.0, 1.0, 1e9, 1e9 + 0.01]])
    assert len(DETECTORS[name](times, noise((len(times), 2)))) == len(times)


def test_an_uneven_clock_gives_the_events_of_an_even_one() -> None:
    even = clock(3, 200)
    uneven = even + np.random.default_rng(0).uniform(-0.4, 0.4, len(even)) / 200
    uneven = np.delete(uneven, np.arange(7, len(even), 40))
    found = []
    for times in (even, uneven):
        gaze = along(jump(times, 1.0, 6.0) + jump(times, 2.0, -4.0))
        found.append(events(spans(times, 200), gaze, label(times, gaze)).of(Label.SACCADE))
    np.testing.assert_allclose(found[0].start, found[1].start, atol=0.008)
    np.testing.assert_allclose(found[0].amplitude, found[1].amplitude, rtol=0.05)


def test_settings_come_from_plain_words_or_are_refused() -> None:
    assert Detection.from_dict({"peak": 45}).peak == 45
    for plain, says in [
        ({"speed": 1}, "no setting 'speed'. It has"),
        ({"window": -1.0}, "detection.window is -1.0"),
        ({"peak": "fast"}, "detection.peak is 'fast'"),
        ({"background": float("inf")}, "detection.background is inf"),
        ({"edge": 50.0}, "edge 50 above peak 30"),
    ]:
        with pytest.raises(UserError, match=says):
            Detection.from_dict(plain)


# -- Classic detectors and lists of events -----------------------------------------------------------------------------


def test_ivt_merges_what_a_glitch_parts_and_drops_what_is_short() -> None:
    times = clock(2, 500)
    gaze = noise((len(times), 2), size=0.001)
    twitch = gaze + along(((times - 1.0) / 0.008).clip(0, 1) * 0.4)  # 50 deg/s
    assert share(ivt(times, twitch), Label.FIXATION) == 1.0
    assert share(ivt(times, twitch, merge_angle=0.0), Label.FIXATION) < 1.0
    gaze[500:] += 8.0
    gaze[520:] += 8.0  # rests for 40 ms
    labels = ivt(times, gaze)
    assert not (labels[500:520] == Label.FIXATION).any()
    assert (labels[540:] == Label.FIXATION).all()


def test_idt_takes_the_longest_stretch_that_fits() -> None:
    times = clock(1, 100)
    gaze = np.zeros((100, 2))
    gaze[40:] = 5.0
    gaze[60:63] = np.nan
    labels = idt(times, gaze)
    assert (np.flatnonzero(labels != Label.FIXATION) == [60, 61, 62]).all()
    assert share(idt(times, along(20 * times)), Label.FIXATION) == 0


def test_events_end_at_gaps_and_know_what_they_cover() -> None:
    times = np.concatenate([clock(0.5, 100), 2 + clock(0.5, 100)])
    gaze = along(np.linspace(0, 1, 100), 0)
    gaze[10] = np.nan
    found = events(spans(times, 100), gaze, np.full(100, Label.FIXATION, np.int8))
    np.testing.assert_allclose([found.start, found.end], [[0, 2], [0.5, 2.5]], atol=1e-9)
    np.testing.assert_allclose(found.extent[1], [49 / 99, 0], atol=1e-9)
    np.testing.assert_allclose(found.way[1], [49 / 99, 0], atol=1e-9)
    assert len(events(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int8))) == 0
    assert len(events(spans(times, 100), gaze, np.zeros(100, np.int8))) == 0
