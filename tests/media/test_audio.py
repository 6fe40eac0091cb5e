"""Sound becomes a mono waveform in step with the picture, whatever file it came in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_files import RATE, grey, not_media, tone, write

from mer.errors import UserError
from mer.media import audio


def click_at(seconds: float, length: float = 3.0) -> np.ndarray:
    wave = np.zeros(round(length * RATE), np.float32)
    begin = round(seconds * RATE)
    wave[begin : begin + 160] = 0.9 * np.sin(2 * np.pi * 2000 * np.arange(160) / RATE)
    return wave


def loudest(wave: np.ndarray) -> float:
    return float(np.abs(wave).argmax()) / RATE


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_a_lossless_file_gives_its_samples_back(tmp_path: Path, name: str, codec: str) -> None:
    wave = tone(1.0)
    loaded = audio.load(write(tmp_path / name, wave=wave, audio_codec=codec), RATE)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, wave, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampling_keeps_pitch_level_and_length(tmp_path: Path, rate: int) -> None:
    loaded = audio.load(write(tmp_path / "a.wav", wave=tone(1.0, rate), rate=rate, audio_codec="pcm_s16le"), RATE)
    assert abs(len(loaded) - RATE) <= 2
    spectrum = np.abs(np.fft.rfft(loaded[:16000]))
    assert spectrum.argmax() == 440
    assert np.abs(loaded[2000:-2000]).max() == pytest.approx(0.5, abs=0.02)


def test_channels_are_mixed_evenly(tmp_path: Path) -> None:
    left, right = tone(0.5, hertz=300), tone(0.5, hertz=700)
    path = write(tmp_path / "stereo.wav", wave=np.stack([left, right]), audio_codec="pcm_s16le")
    loaded = audio.load(path, RATE)
    np.testing.assert_allclose(loaded / np.abs(loaded).max(), (left + right) / np.abs(left + right).max(), atol=0.01)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_click_in_a_coded_file_stands_at_its_time(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, grey(75), click_at(2.0))
    assert loudest(audio.load(path, RATE)) == pytest.approx(2.005, abs=0.02)
    assert loudest(audio.load(path, RATE, start=1.5)) == pytest.approx(0.505, abs=0.02)


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "late.mp4", grey(50), tone(1.0), sound_starts=0.5)
    loaded = audio.load(path, RATE)
    assert np.abs(loaded[: round(0.45 * RATE)]).max() < 1e-3
    assert np.abs(loaded[round(0.55 * RATE) :][: RATE // 4]).max() > 0.4
    assert len(loaded) == pytest.approx(1.5 * RATE, abs=1024)


def test_a_stretch_is_the_same_samples_as_in_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.flac", wave=rng.uniform(-0.9, 0.9, 3 * RATE).astype(np.float32), audio_codec="flac")
    whole = audio.load(path, RATE)
    part = audio.load(path, RATE, 0.75, 2.25)
    assert len(part) == round(1.5 * RATE)
    np.testing.assert_array_equal(part, whole[round(0.75 * RATE) : round(2.25 * RATE)])
    assert len(audio.load(path, RATE, 2.5, 9.0)) == round(0.5 * RATE)


def test_samples_are_finite_and_within_one(tmp_path: Path) -> None:
    wave = np.array([0.0, np.nan, np.inf, -np.inf, 3.0, -3.0] * 200, np.float32)
    with (tmp_path / "wild.wav").open("wb") as stream:  # 32-bit float WAV, which can hold anything
        from scipy.io import wavfile

        wavfile.write(stream, RATE, wave)
    loaded = audio.load(tmp_path / "wild.wav", RATE)
    assert np.isfinite(loaded).all()
    assert np.abs(loaded).max() <= 1


def test_a_damaged_tail_costs_only_the_tail(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", wave=np.random.default_rng(0).uniform(-1, 1, 2 * RATE), audio_codec="flac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0.5 * RATE < len(audio.load(path, RATE)) < 1.5 * RATE


def test_a_silent_film_is_named_as_lacking_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "silent.mp4", grey(10))
    with pytest.raises(UserError, match=r"silent\.mp4: the file has no sound"):
        audio.load(path, RATE)


def test_a_stretch_behind_the_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", wave=tone(1.0), audio_codec="pcm_s16le")
    with pytest.raises(UserError, match="no sound between 5 s and 6 s"):
        audio.load(path, RATE, 5.0, 6.0)
    with pytest.raises(UserError, match="no sound between 5 s and the end"):
        audio.load(path, RATE, 5.0)


@pytest.mark.parametrize(
    ("name", "message"), [("text", "not readable as video or audio"), ("empty", "0 bytes"), ("missing", "no such file")]
)
def test_what_is_no_sound_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        audio.load(not_media(tmp_path)[name], RATE)


def test_voiced_leaves_the_silence_at_both_ends_out_and_keeps_pauses() -> None:
    wave = np.concatenate([np.zeros(8000), tone(0.5), np.zeros(8000), tone(0.5), np.zeros(4000)])
    first, last = audio.voiced(wave, RATE, 30.0)
    assert first == pytest.approx(8000, abs=400)
    assert last == pytest.approx(32000, abs=400)


@pytest.mark.parametrize("count", [0, 1, 399, 700, 16000])
def test_voiced_keeps_all_of_what_is_short_or_silent(count: int) -> None:
    assert audio.voiced(np.zeros(count, np.float32), RATE, 30.0) == (0, count)


def test_voiced_keeps_the_last_samples_of_sound_that_never_falls_silent() -> None:
    assert audio.voiced(tone(1.01), RATE, 30.0) == (0, round(1.01 * RATE))
