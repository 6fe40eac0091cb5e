"""Optical flow points where things move, strain is what is left when they do not move as a whole, fields have their times."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import write

from media.moving import Follower, film, gray, grid, moved, texture
from mer.errors import UserError
from mer.media import face
from mer.media.flow import Flow, flow, identity, strain
from mer.media.frame import Frame
from mer.media.patches import Patches
from mer.media.reading import read
from mer.media.sampling import EveryFrame, Ticks
from mer.media.stream import Stream
from mer.spec import Face, InputSpec

has_contrib = hasattr(cv2, "optflow")
METHODS = ["dis", "farneback", pytest.param("tvl1", marks=pytest.mark.skipif(not has_contrib, reason="opencv-contrib"))]


def swirl(size: int, amplitude: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two noisy pictures and the true flow (2, size, size) between them, smooth, at most `amplitude` in u and in v."""
    x, y = grid(size, size)

    def back(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        wave = 2 * np.pi / size
        return amplitude * np.stack(
            [np.sin(wave * y + 0.5) * np.cos(wave * x / 2), np.cos(wave * x) * np.sin(wave * y / 2)]
        )

    true = back(x, y)
    for _ in range(50):  # the second picture is T(y - back(y)), so true(x) = back(x + true(x))
        true = back(x + true[0], y + true[1])
    u, v = back(x, y)
    return gray(x, y, 0), gray(x - u, y - v, 1), true


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("u", "v"), [(2.0, 0.0), (0.0, 2.0), (-3.0, 1.0)])
def test_u_is_to_the_right_and_v_is_down(method: str, u: float, v: float) -> None:
    field = flow(moved(96, 0, 0), moved(96, u, v), method)
    assert field.dtype == np.float32
    assert field.shape == (2, 96, 96)
    inner = field[:, 16:-16, 16:-16]
    np.testing.assert_allclose(inner.mean(axis=(1, 2)), (u, v), atol=0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("amplitude", "error"), [(0.5, 0.12), (3.0, 0.4)])
def test_smooth_motion_is_found_below_a_pixel(method: str, amplitude: float, error: float) -> None:
    first, second, true = swirl(112, amplitude)
    off = np.hypot(*(flow(first, second, method) - true)).mean()
    assert off < error
    assert off < 0.35 * np.hypot(*true).mean()


def test_rows_and_columns_of_oblong_pictures_are_not_mixed_up() -> None:
    x, y = grid(80, 160)
    field = flow(gray(x, y), gray(x - 2, y + 1))
    assert field.shape == (2, 80, 160)
    np.testing.assert_allclose(np.median(field, axis=(1, 2)), (2, -1), atol=0.1)


@pytest.mark.parametrize("level", [0, 128])
def test_nothing_moves_where_nothing_is(level: int) -> None:
    blank = np.full((112, 112), level, np.uint8)
    assert np.abs(flow(blank, blank)).max() == 0


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_noise_before_a_plain_backdrop_is_no_motion(method: str) -> None:
    first, second = (
        (128 + np.random.default_rng(k).standard_normal((112, 112))).round().astype(np.uint8) for k in (0, 1)
    )
    assert np.hypot(*flow(first, second, method)).mean() < 0.3


def test_nothing_slides_along_a_straight_edge() -> None:
    first, second = (np.random.default_rng(k).standard_normal((112, 112)) + 128 for k in (0, 1))
    for picture in (first, second):
        picture[:, 56:] -= 80
    field = flow(first.round().astype(np.uint8), second.round().astype(np.uint8))
    assert np.abs(field[1, :, 50:62]).mean() < 0.5


def test_a_picture_that_moves_as_a_whole_is_not_strained_where_it_is_plain() -> None:
    x, y = grid(112, 112)
    faint = np.exp(-(y**2) / 800)  # full contrast in the middle, plain above and below

    def picture(u: float) -> np.ndarray:
        return (128 + faint * (texture(x - u, y) - 128)).round().astype(np.uint8)

    field = flow(picture(0), picture(4))
    assert np.median(field[0]) == pytest.approx(4.0, abs=0.2)
    assert strain(field)[10:-10, 10:-10].mean() < 0.05


def test_a_part_of_a_larger_array_will_do() -> None:
    first, second = moved(96, 0, 0)[8:88, 8:88], moved(96, 2, 0)[8:88, 8:88]
    np.testing.assert_array_equal(flow(first, second), flow(first.copy(), second.copy()))


def test_unknown_methods_and_missing_packages_are_named() -> None:
    spec = InputSpec("flow", size=(28, 28), backend="magic")
    for call in (
        lambda: flow(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), "magic"),
        lambda: identity(spec),
    ):
        with pytest.raises(UserError, match="unknown optical flow 'magic'"):
            call()


@pytest.mark.skipif(has_contrib, reason="opencv-contrib is installed")
def test_tvl1_says_what_to_install_and_what_it_replaces() -> None:
    with pytest.raises(UserError, match=r"opencv-contrib-python-headless.*replace opencv-python-headless"):
        identity(InputSpec("flow", size=(28, 28), backend="tvl1"))


def test_the_key_of_cached_fields_tells_methods_and_versions_apart() -> None:
    names = {identity(InputSpec("flow", size=(28, 28), backend=b)) for b in ("dis", "farneback")}
    assert len(names) == 2
    assert all(cv2.__version__ in name for name in names)
    assert identity(InputSpec("flow", size=(28, 28))) in names


@pytest.mark.parametrize(
    ("u", "v", "expected"),
    [
        (lambda x, y: 0 * x + 3, lambda x, y: 0 * x - 2, 0.0),  # translation
        (lambda x, y: -0.01 * y, lambda x, y: 0.01 * x, 0.0),  # rotation by a small angle
        (lambda x, y: 0.02 * x, lambda x, y: 0 * x, 0.02),  # stretch to the right
        (lambda x, y: 0 * x, lambda x, y: 0.02 * y, 0.02),  # stretch downwards
        (lambda x, y: 0.03 * x, lambda x, y: 0.04 * y, 0.05),  # both
        (lambda x, y: 0.02 * y, lambda x, y: 0 * x, 0.02 / np.sqrt(2)),  # simple shear: e_xy = 0.01
        (lambda x, y: 0.01 * y, lambda x, y: 0.01 * x, 0.02 / np.sqrt(2)),  # pure shear: e_xy = 0.01
    ],
)
def test_strain_of_known_motions(u, v, expected: float) -> None:  # type: ignore[no-untyped-def]
    x, y = grid(20, 30)
    values = strain(np.stack([u(x, y), v(x, y)]))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, np.full((20, 30), expected), atol=1e-7)


def test_strain_of_a_rotation_vanishes_with_the_square_of_its_angle() -> None:
    x, y = grid(20, 30)
    for angle in (0.1, 0.01):
        u, v = x * (np.cos(angle) - 1) - y * np.sin(angle), x * np.sin(angle) + y * (np.cos(angle) - 1)
        np.testing.assert_allclose(strain(np.stack([u, v])), np.sqrt(2) * (1 - np.cos(angle)), rtol=1e-3)


def view(frames: list[Frame], rate: float | None = None, **settings) -> Stream:  # type: ignore[no-untyped-def]
    spec = InputSpec("flow", rate=rate, **{"size": (64, 64), **settings})
    sampling = EveryFrame(0.0, None) if rate is None else Ticks(rate, 0.0, None)
    looking = Flow(sampling, spec, Path("film.mp4"), Path("."))
    for frame in frames:
        looking.see(frame)
    return looking.result()


@pytest.mark.parametrize("size", [28, 64, 128])
@pytest.mark.parametrize("crop", ["center", "none"])
def test_displacements_are_in_pixels_of_the_size_asked_for(size: int, crop: str) -> None:
    stream = view(film([(0, 0), (3, 0), (3, -2)]), size=(size, size), crop=crop)
    assert stream.values.shape == (2, 3, size, size)
    assert stream.values.dtype == np.float32
    u, v = np.median(stream.values[:, :2], axis=(2, 3)).T * 128 / size
    np.testing.assert_allclose(u, [3, 0], atol=0.2)
    np.testing.assert_allclose(v, [0, -2], atol=0.2)
    assert np.median(stream.values[:, 2]) < 0.03


def test_a_field_lasts_from_the_first_picture_to_the_second() -> None:
    stream = view(film([(0, 0)] * 4))
    np.testing.assert_allclose(stream.spans, [(0.0, 0.04), (0.04, 0.08), (0.08, 0.12)], atol=1e-6)


def test_a_lower_rate_gives_longer_and_larger_fields() -> None:
    stream = view(film([(k, 0) for k in range(9)]), rate=12.5)
    np.testing.assert_allclose(np.diff(stream.spans, axis=1), 0.08, atol=1e-6)
    np.testing.assert_allclose(np.median(stream.values[:, 0], axis=(1, 2)), 2 * 64 / 128, atol=0.1)


def test_a_picture_shown_twice_moves_nowhere() -> None:
    stream = view(film([(0, 0), (3, 0)]), rate=50.0)
    assert len(stream) == 3
    assert [bool(np.abs(field).max() > 0.5) for field in stream.values] == [False, True, False]
    assert np.abs(stream.values[[0, 2]]).max() == 0


@pytest.mark.parametrize("pairs", ["dense", "onset_apex"])
def test_a_picture_alone_gives_no_field(pairs: str) -> None:
    stream = view(film([(0, 0)]), pairs=pairs)
    assert stream.values.shape == (0, 3, 64, 64)
    assert stream.spans.shape == (0, 2)


def pinch(strengths: list[float], drift: float = 0.0) -> list[Frame]:
    """A pattern whose middle is drawn together, and which may drift to the right as a whole."""
    x, y = grid(128, 128)
    bump = np.exp(-(x**2 + y**2) / 800)
    frames = []
    for k, s in enumerate(strengths):
        level = gray(x * (1 + s * bump) - drift * k, y * (1 + s * bump))
        frames.append(Frame(np.repeat(level[..., None], 3, axis=2), k, k / 25, (k + 1) / 25))
    return frames


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_the_apex_is_where_the_shape_has_changed_most(drift: float) -> None:
    stream = view(pinch([0, 0.02, 0.06, 0.12, 0.05, 0.01], drift), size=(128, 128), pairs="onset_apex")
    assert len(stream) == 1
    np.testing.assert_allclose(stream.spans, [(0.0, 0.12)], atol=1e-6)
    middle = stream.values[0, 0, 64, 44:85]
    assert middle[0] - middle[-1] > 1.5  # left of the middle to the right of where the right half goes


def faces(monkeypatch: pytest.MonkeyPatch, present: tuple[bool | None, ...], frames: list[Frame], **more) -> Stream:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Follower, "present", present)
    monkeypatch.setattr(face, "FaceFollower", Follower)
    return view(frames, crop="face", face=Face(), size=(64, 64), **more)


def test_an_unsteady_crop_is_not_taken_for_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    still = faces(monkeypatch, (True,) * 4, film([(0, 0)] * 4))
    assert len(still) == 3
    assert np.abs(still.values).max() < 1e-3
    moving = faces(monkeypatch, (True,) * 4, film([(k, 0) for k in range(4)]))
    np.testing.assert_allclose(np.median(moving.values[:, :2], axis=(2, 3)), [(1, 0)] * 3, atol=0.1)


def test_only_the_target_is_returned_and_only_while_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = faces(monkeypatch, (None, True, True, None), film([(0, 0)] * 4))
    np.testing.assert_allclose(stream.spans, [(0.04, 0.08)], atol=1e-6)


def test_what_was_seen_of_a_face_out_of_sight_counts_if_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = film([(0, 0)] * 5)
    assert len(faces(monkeypatch, (True, False, False, True, True), frames)) == 4
    assert len(faces(monkeypatch, (True, False, False, False, None), frames)) == 1


def test_what_of_a_crop_lies_outside_the_picture_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "FaceFollower", Follower)
    monkeypatch.setattr(Follower, "start", -20)
    monkeypatch.setattr(Follower, "present", (True,))
    frame = film([(0, 0)])[0]
    patches = Patches(InputSpec("flow", size=(64, 64), crop="face", face=Face()), (64, 64), Path("a.mp4"), Path("."))
    inside = patches.inside(patches.source(frame), patches.look(frame)[0])
    expected = np.zeros((64, 64), bool)
    expected[20:, 20:] = True
    np.testing.assert_array_equal(inside, expected)


def test_one_field_from_onset_to_apex_of_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = faces(monkeypatch, (None, True, True, True), pinch([0, 0, 0.1, 0.05]), pairs="onset_apex")
    np.testing.assert_allclose(stream.spans, [(0.04, 0.08)], atol=1e-6)


@pytest.mark.parametrize("backend", ["dis", "farneback"])
def test_flow_of_a_video_file(tmp_path: Path, backend: str) -> None:
    pictures = np.stack([np.repeat(moved(128, 2 * k, 0)[..., None], 3, axis=2) for k in range(6)])
    write(tmp_path / "a.mp4", pictures)
    spec = InputSpec("flow", size=(64, 64), backend=backend)
    stream = read(tmp_path, {"flow": "a.mp4"}, {"flow": spec})["flow"]
    assert isinstance(stream, Stream)
    assert stream.values.shape == (5, 3, 64, 64)
    np.testing.assert_allclose(np.median(stream.values[:, 0], axis=(1, 2)), 1.0, atol=0.15)
