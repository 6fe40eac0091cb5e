"""The log-mel front end: Slaney's filters, frames centred where they say, padding without effect."""

from __future__ import annotations

import math

import pytest
import scipy.fft
import torch

from mer.media.spectrum import hz_to_mel, log_mel, mel_filterbank, mel_to_hz, mfcc

RATE, N_FFT, HOP, BANDS = 16000, 512, 200, 40


def spectrogram(wave: torch.Tensor) -> torch.Tensor:
    return log_mel(wave, torch.hann_window(N_FFT), mel_filterbank(BANDS, N_FFT, RATE), N_FFT, HOP)


def test_the_mel_scale_is_slaneys() -> None:
    mel = hz_to_mel(torch.tensor([0.0, 500.0, 1000.0, 6400.0], dtype=torch.float64))
    assert mel.tolist() == pytest.approx([0.0, 7.5, 15.0, 42.0])


def test_the_mel_scale_can_be_inverted() -> None:
    hz = torch.linspace(0, 8000, 400, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hz)), hz)


def test_every_filter_has_area_one() -> None:
    filters = mel_filterbank(BANDS, 8192, RATE)
    area = filters.sum(0) * RATE / 8192
    torch.testing.assert_close(area, torch.ones(BANDS), atol=0.02, rtol=0)


def test_no_filter_is_empty_and_none_looks_below_low_or_above_high() -> None:
    filters = mel_filterbank(64, N_FFT, RATE, low=60.0, high=7000.0)
    hz = torch.linspace(0, RATE / 2, N_FFT // 2 + 1)
    assert (filters.sum(0) > 0).all()
    assert filters[(hz < 60) | (hz > 7000)].abs().max() == 0


def test_a_tone_lights_up_the_band_it_lies_in() -> None:
    edges = mel_to_hz(torch.linspace(0, float(hz_to_mel(torch.tensor(8000.0))), BANDS + 2))
    for band in (8, 20, 33):
        wave = torch.sin(2 * math.pi * edges[band + 1] * torch.arange(RATE) / RATE)
        assert int(spectrogram(wave[None])[0, 40].argmax()) == band


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    wave = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    difference = spectrogram(2 * wave) - spectrogram(wave)
    torch.testing.assert_close(difference, torch.full_like(difference, math.log(4)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [1, 199, 200, 201, 1000, 16001])
def test_there_is_one_frame_per_hop_begun(size: int) -> None:
    mel = spectrogram(torch.zeros(2, size))
    assert mel.shape == (2, -(-size // HOP), BANDS)
    assert torch.isfinite(mel).all()


@pytest.mark.parametrize("frame", [0, 1, 17, 39])
def test_a_click_in_the_middle_of_a_hop_is_loudest_in_its_frame(frame: int) -> None:
    wave = torch.zeros(1, 40 * HOP)
    wave[0, frame * HOP + HOP // 2] = 1.0
    assert int(spectrogram(wave)[0].sum(1).argmax()) == frame


def test_zeros_behind_the_sound_change_none_of_its_frames() -> None:
    wave = torch.randn(1, 3333, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(wave, (0, 5000))
    alone = spectrogram(wave)
    torch.testing.assert_close(spectrogram(padded)[:, : alone.shape[1]], alone)


# librosa 0.11, with y the sweep below:
#   S = librosa.feature.melspectrogram(y=y, sr=16000, n_fft=512, hop_length=200, win_length=400, n_mels=40, pad_mode="constant")
#   librosa.feature.mfcc(S=np.log(S + 1e-8), n_mfcc=13, lifter=22).T[20]
LIBROSA_MEL = {(0, 5): 1.4446447e-4, (7, 20): 0.64956897, (20, 30): 6.921265e-8}
LIBROSA_MFCC = {
    0.0: [-88.178856, 28.503296, 4.42533, -13.310696, -17.056297, -11.842367, -4.555512, 1.614119, 5.39383, 5.925869,
          3.581389, 0.145219, -2.458192],
    22.0: [-226.21962, 116.83667, 24.647165, -92.470055, -139.92079, -110.290879, -46.711262, 17.764917, 62.322582,
           70.44695, 42.976672, 1.726372, -28.402993],
}  # fmt: skip


def sweep() -> torch.Tensor:
    """Log-mel frames centred where librosa centres them: half a hop earlier than ours."""
    k = torch.arange(8000, dtype=torch.float64)
    wave = (0.5 * torch.sin(2 * math.pi * (200 + k / 16) * k / RATE)).float()
    padded = torch.nn.functional.pad(wave, (HOP // 2, HOP))[None]
    return log_mel(padded, torch.hann_window(400), mel_filterbank(BANDS, N_FFT, RATE), N_FFT, HOP)[0]


@pytest.mark.parametrize(("place", "power"), LIBROSA_MEL.items())
def test_mel_power_is_librosas(place: tuple[int, int], power: float) -> None:
    band, frame = place
    assert float(sweep()[frame, band].exp()) - 1e-8 == pytest.approx(power, rel=1e-3, abs=2e-9)


@pytest.mark.parametrize(("lifter", "expected"), LIBROSA_MFCC.items())
def test_mfcc_is_librosas(lifter: float, expected: list[float]) -> None:
    assert mfcc(sweep()[20], 13, lifter).tolist() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("count", [1, 13, 40])
def test_mfcc_is_the_orthonormal_cosine_transform_of_the_bands(count: int) -> None:
    bands = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(0))
    expected = scipy.fft.dct(bands.numpy(), type=2, norm="ortho", axis=-1)[..., :count]
    torch.testing.assert_close(mfcc(bands, count), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_waveform() -> None:
    wave = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    spectrogram(wave).sum().backward()
    assert wave.grad is not None
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.abs().min() >= 0
