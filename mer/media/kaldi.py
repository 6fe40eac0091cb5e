"""Kaldi's log-mel filterbank in plain torch, as AudioMAE and AST hear sound: no torchaudio in the code path.

Povey et al.: The Kaldi Speech Recognition Toolkit, ASRU 2011. The settings are those of its `compute-fbank-feats` with a
Hanning window, no dither and no energy; `use_energy=False` leaves `htk_compat` nothing to reorder.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PREEMPHASIS = 0.97
FLOOR = float(torch.finfo(torch.float32).eps)  # Kaldi's floor of a band's energy, before the logarithm


def frame_sizes(rate: float, length: float = 0.025, shift: float = 0.010) -> tuple[int, int, int]:
    """Samples in a frame, from a frame to the next, and in its Fourier transform (the next power of two)."""
    size = int(rate * length)
    return size, int(rate * shift), 1 << (size - 1).bit_length()


def frame_count(samples: Tensor, rate: float) -> Tensor:
    """Frames that lie wholly within a clip (Kaldi's `snip_edges`); 0 where it is shorter than one.

    Args:
        samples: int64, any shape: lengths of clips.
        rate: samples per second.
    """
    size, shift, _ = frame_sizes(rate)
    return torch.where(samples >= size, (samples - size) // shift + 1, torch.zeros_like(samples))


def filterbank(bands: int, rate: float, low: float = 20.0, high: float | None = None) -> Tensor:
    """Filters of height 1 that are triangles over HTK's mel, 1127 ln(1 + f / 700), not over Hz.

    Args:
        bands: number of filters.
        rate: samples per second.
        low, high: Hz; high None is half the rate.

    Returns:
        (n_fft // 2 + 1, bands) float32, n_fft as `frame_sizes` gives it.
    """
    n_fft = frame_sizes(rate)[2]
    # In float32 as published features were made: where a narrow filter barely touches a bin, rounding shows in the log.
    bottom, top = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (low, high if high is not None else rate / 2))
    edges = bottom + torch.arange(bands + 2, device="cpu") * ((top - bottom) / (bands + 1))
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = 1127.0 * torch.log(1.0 + torch.arange(n_fft // 2 + 1, device="cpu")[:, None] * (rate / n_fft) / 700.0)
    return torch.minimum((bins - left) / (center - left), (right - bins) / (right - center)).clamp(min=0)


def log_fbank(waveform: Tensor, filters: Tensor, rate: float) -> Tensor:
    """Natural logarithm of mel power, one frame every 10 ms from 25 ms of sound.

    Each frame: its mean is taken away, then pre-emphasis 0.97, a symmetric Hanning window, zeros up to the next power of
    two, power, filters, a floor of 2^-23. Frame m sees samples [m * shift, m * shift + size), so that what follows a clip
    leaves its own frames untouched.

    Args:
        waveform: (B, N) float, N at least one frame; shorter ones are continued with zeros.
        filters: from `filterbank` at the same rate.

    Returns:
        (B, (N - size) // shift + 1, bands) float32.
    """
    size, shift, n_fft = frame_sizes(rate)
    waveform = F.pad(waveform.float(), (0, max(0, size - waveform.shape[1])))
    frames = waveform.unfold(1, size, shift)
    frames = frames - frames.mean(2, keepdim=True)
    before = F.pad(frames[..., :-1], (1, 0))  # Kaldi repeats the first sample, where the window is 0
    window = torch.hann_window(size, periodic=False, device=waveform.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n_fft)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log((power @ filters).clamp(min=FLOOR))
