"""Frames come with their presentation times; each tick shows what a player would show at its middle."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import grey, load, not_media, shade, shades, tone, with_matrix, write

from mer.errors import UserError
from mer.media import video
from mer.media.frame import Frame
from mer.media.probe import probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "clip.mp4", grey(50), tone(2.0))


def shown_at(seconds: float, fps: int = 25) -> int:
    return shade(int(seconds * fps + 1e-6))


def same(frames: np.ndarray, expected: list[int]) -> bool:
    return len(frames) == len(expected) and all(abs(a - b) <= 6 for a, b in zip(shades(frames), expected, strict=True))


@pytest.mark.parametrize("rate", [2, 8, 12.5, 25, 60])
def test_each_tick_shows_the_frame_on_screen_at_its_middle(clip: Path, rate: float) -> None:
    frames, spans = load(clip, rate, (32, 32))
    ticks = round(2.0 * rate)
    assert frames.shape == (ticks, 3, 32, 32)
    assert frames.dtype == np.uint8
    assert same(frames, [shown_at((k + 0.5) / rate) for k in range(ticks)])
    assert spans.dtype == np.float32
    np.testing.assert_allclose(spans[:, 0], np.arange(ticks) / rate, atol=1e-6)
    np.testing.assert_allclose(spans[:, 1] - spans[:, 0], 1 / rate, atol=1e-6)


def test_a_stretch_shows_its_own_frames_and_media_time(clip: Path) -> None:
    frames, spans = load(clip, 10, (32, 32), start=0.73, end=1.23)
    assert same(frames, [shown_at(0.73 + (k + 0.5) / 10) for k in range(5)])
    np.testing.assert_allclose(spans[0], [0.73, 0.83], atol=1e-6)
    assert spans[-1, 1] <= 1.23 + 1e-6


def test_a_stretch_shorter_than_a_tick_shows_the_frame_it_begins_with(clip: Path) -> None:
    frames, spans = load(clip, 2, (32, 32), start=1.01, end=1.03)
    assert same(frames, [shown_at(1.02)])
    np.testing.assert_allclose(spans, [[1.01, 1.03]], atol=1e-6)


def test_a_clip_cut_off_by_the_end_of_the_picture_has_only_what_exists(clip: Path) -> None:
    frames, _ = load(clip, 10, (32, 32), start=1.5, end=9.0)
    assert len(frames) == 5


def test_frames_of_varying_length_are_held_as_long_as_they_are_shown(tmp_path: Path) -> None:
    stamps = [0, 1, 2, 20, 21, 40, 49]
    path = write(tmp_path / "slides.mp4", grey(len(stamps)), pts=stamps)
    np.testing.assert_allclose(video.presentation_times(path), np.array(stamps) / 25, atol=1e-6)
    frames, _ = load(path, 10, (32, 32), end=1.96)
    place = [np.searchsorted(stamps, (k + 0.5) / 10 * 25 + 1e-6, side="right") - 1 for k in range(len(frames))]
    assert same(frames, [shade(int(k)) for k in place])
    frames, _ = load(path, 10, (32, 32), start=0.4, end=0.41)
    assert same(frames, [shade(2)])


def test_a_picture_later_than_the_sound_keeps_its_time(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mp4", grey(25), tone(2.0), picture_starts=0.4)
    assert video.presentation_times(path)[0] == pytest.approx(0.4, abs=1e-3)
    frames, _ = load(path, 25, (32, 32), start=0.4)
    assert same(frames, [shade(k) for k in range(25)])
    with pytest.raises(UserError, match=r"no frame could be decoded between 0 s and 0\.3 s"):
        load(path, 25, (32, 32), end=0.3)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_presentation_times_count_the_frames_that_are_decoded(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, grey(30), video_codec=codec)
    times = video.presentation_times(path)
    assert len(times) == 30
    np.testing.assert_allclose(times - times[0], np.arange(30) / 25, atol=2e-3)
    frames, _ = load(path, 25, (32, 32), start=float(times[0]))
    assert same(frames, [shade(k) for k in range(30)])


def test_center_cuts_a_square_and_none_squeezes(tmp_path: Path) -> None:
    wide = np.full((3, 48, 96, 3), 200, np.uint8)
    wide[:, :, :24], wide[:, :, 72:] = 20, 20  # dark beside the centred square
    path = write(tmp_path / "wide.mp4", wide)
    cut, _ = load(path, 25, (24, 24), "center")
    squeezed, _ = load(path, 25, (24, 24), "none")
    assert cut[:, :, :, 2:-2].min() > 180
    assert squeezed[:, :, :, :4].max() < 60
    assert squeezed[:, :, :, 10:14].min() > 180


@pytest.mark.parametrize("size", [(24, 24), (30, 20), (7, 31)])
def test_the_picture_has_the_size_asked_for(clip: Path, size: tuple[int, int]) -> None:
    for crop in ("center", "none"):
        frames, _ = load(clip, 2, size, crop)
        assert frames.shape == (4, 3, *size)


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((3, 48, 48, 3), np.uint8)
    red[..., 0] = 220
    frames, _ = load(write(tmp_path / "red.mp4", red), 25, (16, 16))
    r, g, b = frames.mean((0, 2, 3))
    assert r > 180
    assert max(g, b) < 60


@pytest.mark.parametrize(
    ("matrix", "edge"), [((0, 1, -1, 0), "right"), ((0, -1, 1, 0), "left"), ((-1, 0, 0, -1), "bottom")]
)
def test_a_phone_held_sideways_gives_an_upright_picture(tmp_path: Path, matrix: tuple[int, ...], edge: str) -> None:
    picture = np.full((3, 48, 64, 3), 30, np.uint8)
    picture[:, :12] = 220  # bright at the top of the stored picture
    path = with_matrix(write(tmp_path / "phone.mp4", picture), matrix)
    frames, _ = load(path, 25, (32, 32), "none")
    level = frames[0].mean(0)
    edges = {"top": level[:5], "bottom": level[-5:], "left": level[:, :5], "right": level[:, -5:]}
    assert max(edges, key=lambda name: edges[name].mean()) == edge


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda stored: stored[:, ::-1]),
        ((1, 0, 0, -1), lambda stored: stored[::-1]),
        ((0, 1, 1, 0), lambda stored: stored.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
    ],
    ids=["left to right", "upside down", "transposed", "transposed the other way"],
)
def test_a_mirrored_picture_is_mirrored_and_not_merely_turned(tmp_path: Path, matrix: tuple[int, ...], shown) -> None:
    picture = np.full((3, 48, 64, 3), 30, np.uint8)
    picture[:, :24, :32], picture[:, :24, 32:], picture[:, 24:, :32] = 240, 170, 100  # four corners, four grays
    path = with_matrix(write(tmp_path / "mirror.mp4", picture), matrix)
    frame, expected = next(iter(video.frames(path))), shown(picture[0])
    assert np.abs(frame.rgb().astype(int) - expected).mean() < 5
    assert np.abs(frame.gray().astype(int) - expected[..., 0]).mean() < 5
    size = expected.shape[0] // 2, expected.shape[1] // 2
    assert np.abs(frame.picture(size, "none").transpose(1, 2, 0).astype(int) - expected[::2, ::2]).mean() < 5


def test_a_picture_whose_orientation_is_known_is_held_by_nobody(clip: Path) -> None:
    """PyAV's side data would: an hour of 1280 x 720 then fills gigabytes before the garbage collector comes by."""
    with av.open(str(clip)) as container:
        picture = next(container.decode(video=0))
        holders = sys.getrefcount(picture)
        frame = Frame(picture, 0, 0.0, 0.04)
        frame.rgb(), frame.gray(), frame.picture((8, 8), "none")
        del frame
        assert sys.getrefcount(picture) == holders


def test_a_damaged_tail_costs_only_the_tail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "cut.mkv", rng.integers(0, 255, (50, 48, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, _ = load(path, 25, (16, 16))
    assert 5 < len(frames) < 45


def test_sound_alone_is_named_as_lacking_a_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "voice.wav", wave=tone(0.5), audio_codec="pcm_s16le")
    for read in (lambda: load(path, 8, (16, 16)), lambda: video.presentation_times(path)):
        with pytest.raises(UserError, match=r"voice\.wav: the file has no picture"):
            read()


def test_a_stretch_behind_the_end_is_refused(clip: Path) -> None:
    with pytest.raises(UserError, match="between 5 s and 6 s"):
        load(clip, 8, (16, 16), start=5.0, end=6.0)


@pytest.mark.parametrize(
    ("name", "message"), [("text", "not readable as video"), ("empty", "0 bytes"), ("missing", "no such file")]
)
def test_what_is_no_video_is_named_with_a_remedy(tmp_path: Path, name: str, message: str) -> None:
    path = not_media(tmp_path)[name]
    for read in (lambda: load(path, 8, (16, 16)), lambda: probe(path)):
        with pytest.raises(UserError, match=message) as caught:
            read()
        assert str(path) in caught.value.problem
        assert caught.value.remedy


def test_probe_says_what_is_inside(clip: Path, tmp_path: Path) -> None:
    info = probe(clip)
    assert (info.has_video, info.has_audio, info.fps) == (True, True, 25)
    assert info.duration == pytest.approx(2.0, abs=0.1)
    assert not probe(write(tmp_path / "silent.mp4", grey(5))).has_audio
    sound = probe(write(tmp_path / "a.flac", wave=tone(1.0), audio_codec="flac"))
    assert (sound.has_video, sound.has_audio, sound.fps) == (False, True, None)
