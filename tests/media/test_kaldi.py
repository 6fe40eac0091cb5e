"""Kaldi's filterbank, against numbers of torchaudio 2.11 (`compliance.kaldi.fbank`) on noise and a tone."""

from __future__ import annotations

import math

import pytest
import torch
from encoders import golden
from torch import Tensor

from mer.media.kaldi import FLOOR, filterbank, frame_count, frame_sizes, log_fbank


def sound(rate: int, samples: int) -> Tensor:
    noise = torch.from_numpy(golden.noise("input", (1, samples))).float()
    return 0.1 * noise + 0.3 * torch.sin(torch.arange(samples) * 2 * math.pi * 440 / rate)


@pytest.mark.parametrize(
    ("rate", "first", "total", "norm"),
    [
        (16000, (-11.56754, -14.237069, -10.793669, -15.942385, -11.994054, -14.972777), -23561.9304, 445.40168),
        (44100, (-10.255221, -9.552268, -9.965274, -11.320476, -11.030551, -10.442828), -14462.6514, 381.30162),
    ],
)
def test_it_gives_the_numbers_of_torchaudio(rate: int, first: tuple[float, ...], total: float, norm: float) -> None:
    wave = sound(rate, rate // 2)
    mel = log_fbank(wave - wave.mean(), filterbank(128, rate), rate)
    assert mel.shape == (1, 48, 128)
    golden.check(mel, first, total, norm, rtol=1e-6, atol=1e-4)


def test_silence_is_the_floor() -> None:
    mel = log_fbank(torch.zeros(1, 800), filterbank(40, 16000), 16000)
    assert torch.equal(mel, torch.full((1, 3, 40), math.log(FLOOR)))


@pytest.mark.parametrize(
    ("rate", "sizes"), [(16000, (400, 160, 512)), (44100, (1102, 441, 2048)), (48000, (1200, 480, 2048))]
)
def test_frames_are_25_ms_long_and_10_ms_apart(rate: int, sizes: tuple[int, int, int]) -> None:
    assert frame_sizes(rate) == sizes
    size, shift, n_fft = sizes
    assert filterbank(23, rate).shape == (n_fft // 2 + 1, 23)
    samples = torch.tensor([0, 1, size - 1, size, size + shift - 1, size + shift, size + 7 * shift])
    assert frame_count(samples, rate).tolist() == [0, 0, 0, 1, 1, 2, 8]
    assert log_fbank(sound(rate, size + 7 * shift), filterbank(23, rate), rate).shape == (1, 8, 23)


def test_what_follows_a_clip_leaves_its_frames_untouched() -> None:
    wave = sound(16000, 4000)
    alone = log_fbank(wave, filterbank(40, 16000), 16000)
    longer = log_fbank(torch.cat([wave, torch.ones(1, 900)], dim=1), filterbank(40, 16000), 16000)
    torch.testing.assert_close(longer[:, : alone.shape[1]], alone)


def test_a_clip_shorter_than_a_frame_is_continued_with_silence() -> None:
    wave = sound(16000, 130)
    filled = torch.cat([wave, torch.zeros(1, 270)], dim=1)
    filters = filterbank(40, 16000)
    assert torch.equal(log_fbank(wave, filters, 16000), log_fbank(filled, filters, 16000))


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    filters = filterbank(64, 16000)
    for hz in (300.0, 1000.0, 4000.0):
        wave = torch.sin(torch.arange(1600) * 2 * math.pi * hz / 16000)[None]
        band = int(log_fbank(wave, filters, 16000)[0, 4].argmax())
        touched = torch.nonzero(filters[:, band])[:, 0] * 16000 / 512
        assert touched.min() - 16000 / 512 <= hz <= touched.max() + 16000 / 512


def test_a_constant_is_not_heard() -> None:
    wave, filters = sound(16000, 4000), filterbank(40, 16000)
    torch.testing.assert_close(
        log_fbank(wave + 0.5, filters, 16000), log_fbank(wave, filters, 16000), atol=1e-2, rtol=0
    )


def test_gradients_pass() -> None:
    wave = sound(16000, 800).requires_grad_()
    log_fbank(wave, filterbank(40, 16000), 16000).sum().backward()
    assert wave.grad is not None
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.any()
