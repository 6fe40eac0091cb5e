"""Taylor frames equal a loop that spells the formula out, and keep the sign and the place of what moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.moving import Follower, film
from mer.media import face
from mer.media.sampling import EveryFrame, Ticks
from mer.media.stream import Stream
from mer.media.taylor import Taylor, identity, taylor
from mer.spec import Face, InputSpec


def spelled_out(frames: np.ndarray, terms: int, signed: bool) -> np.ndarray:
    """The formula, number by number."""
    block = terms + 3
    count, (height, width) = len(frames) - block + 1, frames.shape[1:]
    out = np.zeros((count, 3, height, width))
    for t in range(count):
        for row in range(height):
            for column in range(width):
                shown = [float(frames[t + i, row, column]) for i in range(block)]
                table = [shown]
                while len(table[-1]) > 1:
                    table.append([table[-1][i + 1] - table[-1][i] for i in range(len(table[-1]) - 1)])
                for channel in range(3):
                    total, factorial = 0.0, 1.0
                    for k in range(terms):
                        if k > 0:
                            factorial *= k
                        powers = 0.0
                        for i in range(block):
                            x = shown[i] - shown[0]
                            power = 1.0  # also of x = 0 for k = 0
                            for _ in range(k):
                                power *= x
                            powers += power / factorial
                        total += powers * table[k + 1 + channel][0]
                    out[t, channel, row, column] = total / block
        if not signed:
            out[t] = np.where(out[t] < 0, 0, out[t])
        largest = np.abs(out[t]).max()
        if largest > 0:
            out[t] = out[t] / largest * (1 if signed else 255)
    return out


@pytest.mark.parametrize("terms", [1, 2, 3, 5])
def test_the_formula_spelled_out_gives_the_same(terms: int) -> None:
    frames = np.random.default_rng(terms).random((terms + 6, 4, 5)).astype(np.float32)
    signed = taylor(frames, terms)
    assert signed.shape == (4, 3, 4, 5)
    assert signed.dtype == np.float32
    np.testing.assert_allclose(signed, spelled_out(frames, terms, True), atol=1e-5)
    clamped = taylor(frames, terms, signed=False)
    assert clamped.dtype == np.uint8
    assert np.abs(clamped - spelled_out(frames, terms, False)).max() <= 1  # cut to whole numbers


def test_each_frame_uses_its_own_range() -> None:
    frames = np.random.default_rng(0).random((12, 6, 6)) * 0.1
    np.testing.assert_allclose(np.abs(taylor(frames)).max(axis=(1, 2, 3)), 1.0)
    assert (taylor(frames, signed=False).max(axis=(1, 2, 3)) == 255).all()


def test_what_becomes_lighter_is_positive_and_what_becomes_darker_negative() -> None:
    frames = np.full((6, 2, 2), 0.5)
    frames[:, 0, 0] += 0.05 * np.arange(6)
    frames[:, 1, 1] -= 0.05 * np.arange(6)
    displacement = taylor(frames)[0, 0]
    assert displacement[0, 0] > 0 > displacement[1, 1]
    assert displacement[0, 1] == displacement[1, 0] == 0
    assert taylor(frames, signed=False)[0, 0, 1, 1] == 0


def test_a_steady_change_has_velocity_and_acceleration_zero() -> None:
    frames = 0.1 + 0.03 * np.arange(8)[:, None, None] * np.ones((8, 2, 2))
    np.testing.assert_allclose(taylor(frames)[:, 1:], 0, atol=1e-9)


def test_where_nothing_moves_there_is_nothing() -> None:
    frames = np.repeat(np.random.default_rng(0).random((1, 4, 4)), 8, axis=0)
    for signed in (True, False):
        assert not taylor(frames, signed=signed).any()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_fewer_pictures_than_a_block_give_none(count: int) -> None:
    assert taylor(np.zeros((count, 4, 5))).shape == (0, 3, 4, 5)


def view(frames: list, rate: float | None = None, **settings) -> Stream:  # type: ignore[no-untyped-def]
    spec = InputSpec("taylor", rate=rate, **{"size": (32, 32), **settings})
    looking = Taylor(EveryFrame(0, None) if rate is None else Ticks(rate, 0, None), spec, Path("film.mp4"), Path("."))
    for frame in frames:
        looking.see(frame)
    return looking.result()


@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("terms", [2, 3])
def test_the_view_is_the_function_of_its_gray_pictures(crop: str, terms: int) -> None:
    frames = film([(2 * k, k) for k in range(9)])
    stream = view(frames, crop=crop, terms=terms)
    pictures = np.stack([f.picture((32, 32), crop)[0] for f in frames]) / np.float32(255)  # gray: R = G = B
    np.testing.assert_allclose(stream.values, taylor(pictures, terms), atol=1e-6)
    block = terms + 3
    np.testing.assert_allclose(stream.spans, [(k / 25, (k + block) / 25) for k in range(9 - block + 1)], atol=1e-6)


def test_too_short_a_clip_gives_an_empty_stream() -> None:
    stream = view(film([(0, 0)] * 5))
    assert stream.values.shape == (0, 3, 32, 32)
    assert stream.spans.shape == (0, 2)


def test_an_unsteady_crop_of_a_face_is_not_taken_for_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Follower, "present", (True,) * 8)
    monkeypatch.setattr(face, "FaceFollower", Follower)
    still = view(film([(0, 0)] * 8), crop="face", face=Face())
    assert len(still) == 3
    assert not still.values.any()
    assert view(film([(k, 0) for k in range(8)]), crop="face", face=Face()).values.any()


def test_a_block_needs_the_face_in_all_of_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Follower, "present", (True, True, None, True, True, True, True, True, True))
    monkeypatch.setattr(face, "FaceFollower", Follower)
    stream = view(film([(k, 0) for k in range(9)]), crop="face", face=Face())
    np.testing.assert_allclose(stream.spans, [(3 / 25, 9 / 25)], atol=1e-6)


def test_the_key_of_cached_frames_has_a_version() -> None:
    assert identity(InputSpec("taylor", size=(32, 32))).startswith("taylor 1 ")
