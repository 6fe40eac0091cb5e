"""Log-mel spectrogram and MFCC in plain torch: no librosa or torchaudio in the code path, cheap to import, differentiable.

Filterbank after Slaney's Auditory Toolbox (1998), the formula that librosa uses by default.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney scale: linear below 1 kHz, logarithmic above."""
    log_step = math.log(6.4) / 27.0
    return torch.where(hz < 1000.0, hz * 3.0 / 200.0, 15.0 + torch.log(hz.clamp(min=1.0) / 1000.0) / log_step)


def mel_to_hz(mel: Tensor) -> Tensor:
    log_step = math.log(6.4) / 27.0
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * log_step))


def mel_filterbank(bands: int, n_fft: int, rate: float, low: float = 0.0, high: float | None = None) -> Tensor:
    """Triangular filters of equal area.

    Args:
        bands: number of filters.
        n_fft: length of the Fourier transform.
        rate: samples per second.
        low, high: Hz; high None is half the rate.

    Returns:
        (n_fft // 2 + 1, bands) float32.
    """
    bins = torch.linspace(0.0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    # Two numbers that are read below, so never on the meta device.
    ends = hz_to_mel(torch.tensor([low, high if high is not None else rate / 2], dtype=torch.float64, device="cpu"))
    edges = mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64))
    width = edges[1:] - edges[:-1]
    rising = (bins[:, None] - edges[None, :-2]) / width[None, :-1]
    falling = (edges[None, 2:] - bins[:, None]) / width[None, 1:]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).float()


def log_mel(waveform: Tensor, window: Tensor, filters: Tensor, n_fft: int, hop: int, floor: float = 1e-8) -> Tensor:
    """Natural logarithm of mel power, one frame per `hop` samples.

    Frame t is centred on the middle of samples [t * hop, (t + 1) * hop); beyond both ends the sound is silence, so that
    a waveform padded with zeros gives the same frames as the unpadded one.

    Args:
        waveform: (B, N) float.
        window: (n,) analysis window, n at most n_fft.
        filters: from `mel_filterbank`.

    Returns:
        (B, ceil(N / hop), bands) float32.
    """
    frames = -(-waveform.shape[1] // hop)
    before = (n_fft - hop) // 2
    after = (frames - 1) * hop + n_fft - before - waveform.shape[1]
    padded = F.pad(waveform.float(), (before, max(after, 0)))
    spectrum = torch.stft(padded, n_fft, hop, window.numel(), window, center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log(power.transpose(1, 2)[:, :frames] @ filters + floor)


def mfcc(log_mels: Tensor, count: int = 13, lifter: float = 0.0) -> Tensor:
    """Mel-frequency cepstral coefficients (Davis and Mermelstein, 1980): an orthonormal DCT-II over the bands.

    Args:
        log_mels: (..., bands) from `log_mel`; librosa's own default takes decibels, 10 / ln 10 times as large, with a floor.
        count: coefficients kept, at most the number of bands.
        lifter: L of the sine lifter `1 + L / 2 sin(pi n / L)`, n from 1; 0 leaves it out. HTK uses 22.

    Returns:
        (..., count), the first one the square root of the number of bands times their mean.
    """
    bands = log_mels.shape[-1]
    order = torch.arange(count, dtype=torch.float64)
    middle = (torch.arange(bands, dtype=torch.float64) + 0.5) * math.pi / bands
    basis = torch.cos(middle[:, None] * order) * math.sqrt(2.0 / bands)
    basis[:, 0] /= math.sqrt(2.0)
    if lifter > 0:
        basis *= 1 + lifter / 2 * torch.sin(math.pi * (order + 1) / lifter)
    return log_mels @ basis.to(log_mels)
