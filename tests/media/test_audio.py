"""Sound becomes a mono waveform in step with the picture, whatever file it came in."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
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


def hiss(seconds: float, rate: int = RATE, below: float = 0.8, seed: int = 0) -> np.ndarray:
    """(N,) float32 noise without anything above `below` of the lower of half the rate and 8 kHz."""
    count = round(seconds * rate)
    lines = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    lines[np.fft.rfftfreq(count, 1 / rate) > below * min(rate / 2, 8000)] = 0
    noise = np.fft.irfft(lines, count)
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def pieces(path: Path, codec: str, *parts: tuple[float, np.ndarray], **options: str) -> Path:
    """A file of several stretches of sound at 16 kHz, each with the second at which it begins, in frames of 1024 samples."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono", options=options)
        for begins, wave in parts:
            for k in range(0, len(wave), 1024):
                block = (wave[None, k : k + 1024] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16", layout="mono")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = round(begins * RATE) + k
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_equals_the_fourier_transform_of_the_sound(tmp_path: Path, rate: int) -> None:
    wave = hiss(4.0, rate)
    loaded = audio.load(write(tmp_path / "a.flac", wave=wave, rate=rate, audio_codec="flac"), RATE)
    lines = np.fft.rfft(wave)
    padded = np.zeros(4 * RATE // 2 + 1, complex)
    padded[: min(len(lines), len(padded))] = lines[: len(padded)]
    truth = np.fft.irfft(padded, 4 * RATE) * RATE / rate
    np.testing.assert_allclose(loaded[2000:-2000], truth[2000:-2000], atol=2e-4)  # 16-bit file


def test_what_a_lower_rate_cannot_hold_does_not_come_back_as_another_pitch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", wave=tone(1.0, 48000, 8300), rate=48000, audio_codec="pcm_s16le")
    assert np.abs(audio.load(path, RATE)[2000:-2000]).max() < 1e-3


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.ogg", "libopus"), ("a.wav", "pcm_s16le")])
def test_the_same_sound_on_both_channels_keeps_its_level_in_every_codec(tmp_path: Path, name: str, codec: str) -> None:
    wave = tone(1.0, 48000)
    path = write(tmp_path / name, wave=np.stack([wave, wave]), rate=48000, audio_codec=codec)
    assert np.abs(audio.load(path, RATE)[4000:12000]).max() == pytest.approx(0.5, abs=0.02)


def test_of_surround_sound_the_centre_counts_most_and_the_rumble_nothing(tmp_path: Path) -> None:
    from scipy.io import wavfile

    levels = []
    for channel in range(6):
        wave = np.zeros((RATE, 6), np.float32)
        wave[:, channel] = tone(1.0)
        wavfile.write(tmp_path / "a.wav", RATE, wave)
        levels.append(float(np.abs(audio.load(tmp_path / "a.wav", RATE)).max()) / 0.5)
    left, right, centre, rumble, *behind = levels
    assert centre > left == right > behind[0] == behind[1] > rumble == 0
    assert sum(levels) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_has_the_same_scale(tmp_path: Path, codec: str) -> None:
    loaded = audio.load(write(tmp_path / "a.wav", wave=tone(0.5), audio_codec=codec), RATE)
    np.testing.assert_allclose(loaded, tone(0.5), atol=1 / 128 if codec == "pcm_u8" else 1e-4)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp4", "aac", 44100), ("a.mkv", "aac", 44100), ("a.ts", "aac", 44100), ("a.mp3", "libmp3lame", 44100),
        ("a.avi", "libmp3lame", 44100), ("a.webm", "libopus", 48000), ("a.ogg", "libopus", 48000),
    ],
)  # fmt: skip
def test_a_deep_stretch_is_the_same_samples_as_in_the_whole(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    # A mixture of tones, as the decoder of AAC invents noise anew each time.
    wave = sum(
        tone(12.0, rate, f) * np.sin(np.arange(12 * rate) / rate * g) for f, g in [(300, 3), (777, 5), (1501, 7)]
    )
    path = write(tmp_path / name, wave=(wave / 3).astype(np.float32), rate=rate, audio_codec=codec)
    whole = audio.load(path, RATE)
    for start, end in [(6.0, 7.0), (8.3456, 9.0), (11.5, None)]:
        part, first = audio.load(path, RATE, start, end), round(start * RATE)
        assert len(part) == (len(whole) - first if end is None else round((end - start) * RATE))
        np.testing.assert_allclose(part, whole[first : first + len(part)], atol=2e-3)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("seconds", [0.05, 0.777, 1.0, 60.0])
def test_pieces_make_up_the_whole(tmp_path: Path, rate: int, seconds: float) -> None:
    path = write(tmp_path / "a.flac", wave=hiss(3.3, rate), rate=rate, audio_codec="flac")
    for start, end in [(0.0, None), (0.25, 2.0)]:
        parts = list(audio.chunks(path, RATE, start, end, seconds))
        assert {len(p) for p in parts[:-1]} <= {round(seconds * RATE)}
        np.testing.assert_array_equal(np.concatenate(parts), audio.load(path, RATE, start, end))


def test_a_long_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", wave=np.tile(tone(10.0, 48000), 12), rate=48000, audio_codec="flac")
    tracemalloc.start()
    total = sum(len(part) for part in audio.chunks(path, RATE, seconds=1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 120 * RATE
    assert peak < 2e6  # the whole is 7.7 MB


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.mp4", "libmp3lame")])
def test_a_gap_in_the_middle_is_filled_so_that_sound_stays_in_step(tmp_path: Path, name: str, codec: str) -> None:
    path = pieces(tmp_path / name, codec, (0.0, np.zeros(RATE, np.float32)), (3.0, click_at(1.0, 2.0)))
    assert loudest(audio.load(path, RATE)) == pytest.approx(4.005, abs=0.02)
    for start in (2.0, 3.5, 3.9):
        assert loudest(audio.load(path, RATE, start)) == pytest.approx(4.005 - start, abs=0.02)


def test_ordinary_jitter_of_times_leaves_the_samples_alone(tmp_path: Path) -> None:
    wave, block = tone(2.0), 1024
    jitter = 0.008 * np.random.default_rng(0).uniform(-1, 1, 40)
    jitter[0] = 0.0
    parts = [(k * block / RATE + jitter[k], wave[k * block : (k + 1) * block]) for k in range(31)]
    loaded = audio.load(pieces(tmp_path / "a.mkv", "flac", *parts), RATE)
    np.testing.assert_allclose(loaded, wave[: 31 * block], atol=1e-4)


def test_times_that_jump_back_do_not_swallow_the_sound(tmp_path: Path) -> None:
    for name, wave in [("a.ts", tone(3.0)), ("b.ts", tone(2.0, hertz=880))]:
        write(tmp_path / name, wave=wave)
    (tmp_path / "glued.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    loaded = audio.load(tmp_path / "glued.ts", RATE)
    assert len(loaded) == pytest.approx(5.1 * RATE, abs=0.15 * RATE)
    assert np.abs(np.fft.rfft(loaded[-RATE - 4000 : -4000])).argmax() == 880


def test_a_change_of_rate_in_the_middle_changes_neither_pitch_nor_time(tmp_path: Path) -> None:
    write(tmp_path / "a.aac", wave=tone(2.0, 48000), rate=48000)
    write(tmp_path / "b.aac", wave=tone(2.0, 22050), rate=22050)
    (tmp_path / "both.aac").write_bytes((tmp_path / "a.aac").read_bytes() + (tmp_path / "b.aac").read_bytes())
    loaded = audio.load(tmp_path / "both.aac", RATE)
    assert len(loaded) == pytest.approx(4.1 * RATE, abs=0.1 * RATE)
    for begin in (8000, 40000):
        assert np.abs(np.fft.rfft(loaded[begin : begin + RATE])).argmax() == 440


def test_a_damaged_middle_costs_only_the_middle(tmp_path: Path) -> None:
    path = pieces(tmp_path / "a.mp4", "aac", (0.0, np.concatenate([tone(4.0), click_at(1.0, 2.0)])))
    raw = bytearray(path.read_bytes())
    begin = raw.index(b"mdat")
    raw[begin + 6000 : begin + 7000] = b"\xff" * 1000
    path.write_bytes(raw)
    assert len(audio.load(path, RATE)) == pytest.approx(6.0 * RATE, abs=2048)
    assert loudest(audio.load(path, RATE, 4.5)) == pytest.approx(0.505, abs=0.02)


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
