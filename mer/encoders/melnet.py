"""Raw waveform to tokens: our log-mel front end, a small convolutional network, and self-attention over time."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.encoders.base import Encoder, column_statistics
from mer.errors import UserError
from mer.media.spectrum import log_mel, mel_filterbank
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens, pool_time


class MelNet(Encoder):
    """Log-mel spectrogram in two views, convolutions over frequency and time, self-attention.

    The two views are the spectrogram standardised with training statistics (keeps loudness and timbre) and the same with
    the clip's own mean per band removed (drops speaker and channel). Padding is masked before every convolution, so a
    padded clip gives the tokens of the unpadded one.

    Args:
        dim: width of the tokens.
        rate: samples per second.
        bands: mel bands between 60 Hz and `rate` / 2.
        hop: samples between spectrogram frames.
        channels: output channels of the convolutions; each halves the bands, the first `halvings` halve time as well.
        halvings: convolutions that halve time; a token stands for `hop * 2**halvings` samples.
        layers, heads: self-attention layers over the tokens and their heads; worth it with more than a few hundred clips.
        dropout: before the token layer and in the attention.
        trim: dB, see `InputSpec.trim`.
        augment: strength of the training augmentations (tempo, pitch, gain, tilt, noise, masks); 0 switches them off. Tempo
            moves sound by up to 5 % of a clip against its spans, so a frame-level task on long clips wants less of it.
        window: seconds the predictor shows at once.

    Tokens: (B, T, dim) at rate / (hop * 2**halvings) Hz; 10 a second by default.
    """

    filters: Tensor
    taper: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int = 128,
        rate: float = 16000.0,
        bands: int = 64,
        hop: int = 200,
        n_fft: int = 512,
        channels: tuple[int, ...] = (32, 64, 96, 128),
        halvings: int = 3,
        layers: int = 0,
        heads: int = 4,
        dropout: float = 0.1,
        trim: float | None = 30.0,
        augment: float = 1.0,
        window: float | None = 2.0,
    ):
        super().__init__()
        if rate <= 0 or not 0 < hop <= n_fft or bands >> len(channels) < 1 or heads < 1:
            raise UserError(
                f"MelNet: rate {rate:g}, hop {hop}, n_fft {n_fft}, {bands} bands halved {len(channels)} times, {heads} heads",
                "Use positive sizes, hop up to n_fft, and a band left after the last convolution",
            )
        self.spec = InputSpec("audio", rate=rate, trim=trim, window=window)
        self.dim, self.hop, self.n_fft, self.augment = dim, hop, n_fft, augment
        self.stride = hop * 2**halvings
        self.output_rate = rate / self.stride
        self.register_buffer("taper", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", mel_filterbank(bands, n_fft, rate, low=60.0), persistent=False)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))
        self.blocks = nn.ModuleList()
        inside, height = 2, bands
        for index, outside in enumerate(channels):
            self.blocks.append(_Block(inside, outside, halve_time=index < halvings))
            inside, height = outside, height // 2
        self.flatten = nn.Sequential(nn.Dropout(dropout), nn.Linear(inside * height, dim), nn.LayerNorm(dim))
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        def frames() -> Iterable[Tensor]:
            for batch in batches:
                mel, mask, _ = self._spectrogram(batch)
                yield mel[mask]

        mean, std = column_statistics(frames())
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        mel, mask, spans = self._spectrogram(inputs)
        mel = (mel - self.mean) / self.std
        if self.training and self.augment:
            mel = _augmented(mel, mask, self.augment)
        weight = mask[..., None].to(mel.dtype)
        own = (mel * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        x = torch.stack([mel * weight, (mel - own) * weight], dim=1)  # (B, 2, T, bands)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x, spans, mask = block(x, spans, mask)
        x = self.flatten(x.permute(0, 2, 1, 3).flatten(2)) * mask[..., None]
        for layer in self.layers:
            x = layer(x, mask)
        return Tokens(x, mask, spans)

    def _spectrogram(self, inputs: Sampled) -> tuple[Tensor, Tensor, Tensor]:
        spans, mask = pool_time(inputs.spans, inputs.mask, self.hop)
        with torch.autocast(inputs.values.device.type, enabled=False):
            mel = log_mel(inputs.zeroed(), self.taper, self.filters, self.n_fft, self.hop)
        return mel, mask, spans


class _Block(nn.Module):
    """3x3 convolution, batch normalisation, ReLU, maximum pooling; padded frames come in as 0 and leave as 0."""

    def __init__(self, inside: int, outside: int, halve_time: bool):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.step = 2 if halve_time else 1

    def forward(self, x: Tensor, spans: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.norm(self.conv(x)) * mask[:, None, :, None].to(x.dtype))
        # Everything is >= 0 after the ReLU, so a padded 0 never wins over a real frame.
        x = F.max_pool2d(x, (self.step, 2), ceil_mode=True)
        if self.step > 1:
            spans, mask = pool_time(spans, mask, self.step)
        return x, spans, mask


def _augmented(mel: Tensor, mask: Tensor, strength: float) -> Tensor:
    """Training augmentations on a standardised log-mel (B, T, bands); every draw comes from torch's generator."""
    batch, frames, bands = mel.shape
    device = mel.device

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(*shape, device=device) - 1) * strength

    # Tempo and pitch: resample time by up to 10 % and slide up to two bands, each clip by its own amount.
    t = torch.linspace(-1, 1, frames, device=device)[None, :] * (1 + 0.1 * uniform(batch, 1))
    f = torch.linspace(-1, 1, bands, device=device)[None, :] + 4.0 / bands * uniform(batch, 1)
    grid = torch.stack([f[:, None, :].expand(-1, frames, -1), t[:, :, None].expand(-1, -1, bands)], dim=3)
    mel = F.grid_sample(mel[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    # Gain, spectral tilt, noise.
    ramp = torch.linspace(-1, 1, bands, device=device)
    mel = mel + 0.3 * uniform(batch, 1, 1) + 0.3 * uniform(batch, 1, 1) * ramp
    mel = mel + 0.1 * strength * torch.randn_like(mel)
    # SpecAugment (Park et al., Interspeech 2019): one stretch of time and one of bands set to the mean.
    for axis, size, widest in ((1, frames, 0.12), (2, bands, 0.15)):
        width = torch.rand(batch, 1, device=device) * widest * size * min(strength, 1.5)
        begin = torch.rand(batch, 1, device=device) * (size - width)
        place = torch.arange(size, device=device)[None]
        hidden = (place >= begin) & (place < begin + width)
        mel = mel.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None, :], 0.0)
    return mel
