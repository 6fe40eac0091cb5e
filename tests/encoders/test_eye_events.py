"""Event encoders: tokens lie where the events are, statistics and maps show what was looked at."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from media.moving_eyes import clock, jump, noise

from mer.encoders import Encoder, EyeEvents, EyeStatistics, FixationMap
from mer.encoders.fixation_map import heat_maps
from mer.errors import UserError
from mer.media.gaze_statistics import CLIP_FEATURES, FEATURES, PUPIL_FEATURES
from mer.media.screen import Screen
from mer.tokens import Sampled

SCREEN: dict[str, Any] = {
    "width_cm": 50.0, "height_cm": 30.0, "distance_cm": 60.0, "unit": "px", "width_px": 2000, "height_px": 1200,
}  # fmt: skip
RATE = 250.0
CENTRE = (1000.0, 600.0)
make_events: Callable[..., EyeEvents] = functools.partial(EyeEvents, SCREEN, rate=RATE, dim=16, hidden=16)


def reading(seconds: float = 4.0, pupil: float = 3.0, angle: float = 0.0) -> Sampled:
    """From 5 s on: rests in the middle, at 1 s a saccade of 6 degrees, a blink from 2.0 to 2.15 s, at 3 s back again."""
    times = clock(seconds, RATE)
    away = jump(times, 1.0, 6.0) - jump(times, 3.0, 6.0)
    degrees = np.stack([away * np.cos(angle), away * np.sin(angle)], 1) + noise((len(times), 2))
    pixels = np.tan(np.radians(degrees)) * 60 * 40 + CENTRE
    values = np.column_stack([pixels, np.full((len(times), 2), pupil), np.ones(len(times))])
    values[(times >= 2) & (times < 2.15)] = 0
    spans = np.stack([times, times + 1 / RATE], 1) + 5
    return Sampled(
        torch.from_numpy(values).float()[None], torch.ones(1, len(times), dtype=torch.bool),
        torch.from_numpy(spans).float()[None],
    )  # fmt: skip


def without_pupils(inputs: Sampled) -> Sampled:
    return Sampled(inputs.values[..., [0, 1, 4]], inputs.mask, inputs.spans)


# -- Events as tokens --------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_tokens_are_the_fixations_and_blinks_at_their_times() -> None:
    tokens = make_events()(reading())
    wanted = [[5, 5.98], [6.02, 6.95], [6.95, 7.2], [7.2, 7.98], [8.02, 9]]
    np.testing.assert_allclose(tokens.spans[0], wanted, atol=0.02)
    assert tokens.mask.all()


def test_a_token_knows_place_length_and_the_saccade_into_it() -> None:
    encoder = make_events()
    numbers, kinds, _ = encoder._described(reading(angle=0.5))
    assert kinds[0].argmax(1).tolist() == [0, 0, 2, 0, 0]
    x, y, *_, duration, rest, size, cos, sin, pupil, change, known, seen = numbers[0].T
    away = [6 * np.cos(0.5), 6 * np.sin(0.5)]
    np.testing.assert_allclose(x[[0, 1, 3, 4]], [0, away[0], away[0], 0], atol=0.1)
    np.testing.assert_allclose(y[[0, 1, 3, 4]], [0, away[1], away[1], 0], atol=0.1)
    np.testing.assert_allclose(duration.exp(), [0.98, 0.93, 0.25, 0.78, 0.98], atol=0.03)
    np.testing.assert_allclose(rest.expm1(), [0, 0.04, 0, 0, 0.04], atol=0.02)
    np.testing.assert_allclose(size.expm1(), [0, 6, 0, 0, 6], atol=0.3)
    np.testing.assert_allclose(cos[[1, 4]], [np.cos(0.5), -np.cos(0.5)], atol=0.05)
    np.testing.assert_allclose(sin[[1, 4]], [np.sin(0.5), -np.sin(0.5)], atol=0.05)
    np.testing.assert_allclose(pupil[[0, 1, 3, 4]], 3.0, atol=1e-4)
    assert change.abs().max() < 1e-4
    assert known.tolist() == [1] * 5 and seen.tolist()[:2] == [1, 1]


@torch.no_grad()
@pytest.mark.parametrize("moment", [0.5, 3.5])
def test_what_happens_in_a_fixation_shows_in_its_token_alone(moment: float) -> None:
    torch.manual_seed(0)
    encoder = make_events(layers=0).eval()
    quiet = reading()
    at = (quiet.spans[0].mean(1) - 5 - moment).abs() < 0.2
    values = quiet.values.clone()
    values[0, at, 2:4] += 0.8  # the pupil widens
    change = (encoder(Sampled(values, quiet.mask, quiet.spans)).values - encoder(quiet).values)[0].norm(dim=1)
    spans = encoder(quiet).spans[0] - 5
    covering = (spans[:, 0] <= moment) & (spans[:, 1] > moment)
    assert (change[covering] > 1e-3).all() and (change[~covering] == 0).all()


@torch.no_grad()
def test_a_clip_without_events_is_one_token_of_nothing() -> None:
    inputs = reading(1.0)
    lost = Sampled(torch.zeros_like(inputs.values), inputs.mask, inputs.spans)
    encoder = make_events().eval()
    tokens = encoder(lost)
    np.testing.assert_allclose(tokens.spans[0], [[5, 6]], atol=1e-4)
    assert encoder._described(lost)[1].sum() == 0
    assert torch.isfinite(tokens.values).all()


def test_settings_of_the_detection_reach_it() -> None:
    tokens = make_events(detection={"blink_longest": 0.1})._described(reading())[2]
    assert tokens.mask.shape == (1, 4), "150 ms are no blink then"
    with pytest.raises(UserError, match="no setting 'speed'"):
        make_events(detection={"speed": 3})


# -- Statistics --------------------------------------------------------------------------------------------------------


def test_a_token_stands_for_its_hop_and_is_made_of_what_is_around() -> None:
    encoder = EyeStatistics(SCREEN, rate=RATE, length=2.0, hop=1.0, dim=8)
    rows = encoder._rows(reading())
    np.testing.assert_allclose(rows.spans[0], [[5, 6], [6, 7], [7, 8], [8, 9]], atol=1e-4)
    blink = rows.values[0, :, encoder.features.index("blink_duration_mean")]
    np.testing.assert_allclose(blink, [0, 0.25, 0.25, 0], atol=0.01)  # at 7.08 s, within half a second of the second
    assert encoder.features == FEATURES and encoder.output_rate == 1.0


def test_what_is_left_out_is_left_out() -> None:
    encoder = EyeStatistics(SCREEN, pupils=(), whole=False, rate=RATE, dim=8)
    assert set(FEATURES) - set(encoder.features) == {*PUPIL_FEATURES, *CLIP_FEATURES}
    assert encoder(without_pupils(reading())).values.shape == (1, 4, 8)


def test_the_smoother_evens_out_neighbours() -> None:
    plain, smooth = (EyeStatistics(SCREEN, rate=RATE, hop=0.5, length=0.5, dim=8, smooth=s) for s in (False, True))
    a, b = plain._rows(reading()).values[0], smooth._rows(reading()).values[0]
    assert b.diff(dim=0).abs().sum() < 0.2 * a.diff(dim=0).abs().sum()


# -- Maps --------------------------------------------------------------------------------------------------------------


def test_maps_sum_to_one_peak_where_the_eyes_were_and_weigh_by_time() -> None:
    encoder = FixationMap(SCREEN, rate=RATE, length=4.0, size=50, patch=10, dim=8)
    maps, held, mask, spans = encoder.maps(without_pupils(reading()))
    assert maps.shape == (1, 1, 50, 50) and mask.all()
    assert maps.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(spans[0], [[5, 9]], atol=1e-4)
    right = int((0.5 + np.tan(np.radians(6.0)) * 60 / 50) * 50)  # column of the place 6 degrees to the right
    columns = maps[0, 0].sum(0)
    assert set(torch.topk(columns, 4).indices.tolist()) <= {23, 24, 25, 26, right - 1, right, right + 1}
    middle, away = columns[:28].sum(), columns[28:].sum()
    assert float(middle / away) == pytest.approx(1.96 / 1.71, rel=0.05)
    assert float(held) == pytest.approx((1.96 + 1.71) / 4, abs=0.03)


def test_a_window_without_fixations_is_an_empty_map_and_says_so() -> None:
    inputs = without_pupils(reading())
    values = inputs.values.clone()
    values[:, 500:750] = 0  # the third second: tracking lost
    encoder = FixationMap(SCREEN, rate=RATE, length=1.0, size=16, patch=8, dim=8).eval()
    maps, held, mask, _ = encoder.maps(Sampled(values, inputs.mask, inputs.spans))
    assert (maps[0, 2] == 0).all() and held[0, 2] == 0 and mask.all()
    np.testing.assert_allclose(maps.sum((2, 3))[0, [0, 1, 3]], 1.0, atol=1e-5)


def test_heat_maps_have_the_spread_of_sigma_and_leave_out_what_is_off_the_screen() -> None:
    screen = Screen.from_dict(SCREEN)
    (one,) = heat_maps(np.array([[0.5, 0.5]]), np.ones((1, 1)), 200, screen, 1.0)
    grid = (np.arange(200) + 0.5) / 200 - 0.5
    assert np.sqrt((one.sum(0) * grid**2).sum()) * 50 == pytest.approx(np.tan(np.radians(1)) * 60, rel=0.01)
    assert np.sqrt((one.sum(1) * grid**2).sum()) * 30 == pytest.approx(np.tan(np.radians(1)) * 60, rel=0.01)
    maps = heat_maps(np.array([[0.0, 0.0], [1.6, 0.5]]), np.array([[1.0, 9.0], [0, 1], [0, 0]]), 64, screen, 1.0)
    np.testing.assert_allclose(maps.sum((1, 2)), [1, 0, 0], atol=1e-9)
    assert maps[0].argmax() == 0, "the upper left corner, in spite of a longer look beside the screen"
    assert heat_maps(np.zeros((0, 2)), np.zeros((2, 0)), 8, screen, 1.0).shape == (2, 8, 8)


@torch.no_grad()
def test_patches_share_the_span_of_their_window_and_make_up_its_token() -> None:
    torch.manual_seed(0)
    whole = FixationMap(SCREEN, rate=RATE, size=16, patch=8, dim=8).eval()
    parts = FixationMap(SCREEN, rate=RATE, size=16, patch=8, dim=8, tokens="patch").eval()
    parts.load_state_dict(whole.state_dict())
    a, b = whole(without_pupils(reading())), parts(without_pupils(reading()))
    torch.testing.assert_close(b.values.unflatten(1, (2, 4)).mean(2), a.values)
    torch.testing.assert_close(b.spans[:, ::4], a.spans)


# -- All of them -------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["events", "statistics", "maps"])
def test_pixels_and_shares_of_the_same_screen_give_the_same_tokens(kind: str) -> None:
    norm = {k: v for k, v in SCREEN.items() if not k.endswith("_px")} | {"unit": "norm"}
    inputs = reading() if kind != "maps" else without_pupils(reading())
    shares = inputs.values.clone()
    shares[..., :2] /= torch.tensor([2000.0, 1200.0])
    answers = []
    for screen, values in ((SCREEN, inputs.values), (norm, shares)):
        torch.manual_seed(0)
        encoder: Encoder = {
            "events": lambda s=screen: EyeEvents(s, rate=RATE, dim=8), "statistics": lambda s=screen: EyeStatistics(s, dim=8),
            "maps": lambda s=screen: FixationMap(s, dim=8, size=16, patch=8),
        }[kind]().eval()  # fmt: skip
        answers.append(encoder(Sampled(values, inputs.mask, inputs.spans)))
    torch.testing.assert_close(answers[0].values, answers[1].values, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(answers[0].spans, answers[1].spans)


def test_arguments_that_make_no_sense() -> None:
    for call, says in [
        (lambda: EyeEvents({"width_cm": 3}), "screen says nothing of 'height_cm'"),
        (lambda: make_events(dim=7), "even dim"),
        (lambda: make_events(gaze=("gaze_x",)), "two columns"),
        (lambda: EyeStatistics(SCREEN, pupils=("pupil",)), "two pupils or none"),
        (lambda: EyeStatistics(SCREEN, hop=5.0), "hop up to the length"),
        (lambda: FixationMap(SCREEN, size=60), "patch divides"),
        (lambda: FixationMap(SCREEN, tokens="map"), "Use window or patch"),
    ]:
        with pytest.raises(UserError, match=says):
            call()
