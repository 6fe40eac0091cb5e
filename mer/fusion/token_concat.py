"""All tokens of all modalities in one sequence behind a class token."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.fusion.base import Fused, Fusion
from mer.fusion.vectors import projected
from mer.tokens import Tokens, align, regular_clock


class TokenConcat(Fusion):
    """Class token and all tokens, with a learned vector of their modality and a sinusoid of their time, through a Transformer.

    The early fusion that cross-modal token fusion begins with (see `mer.fusion.CMTF`). Quadratic in the number of all
    tokens.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        self.clock_rate = clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.kind = nn.ParameterDict({m: nn.Parameter(0.02 * torch.randn(dim)) for m in dims})
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.when = nn.Linear(dim, dim, bias=False)
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = projected(self.project, tokens, self.modalities)
        spans, clock = regular_clock(list(streams.values()), self.clock_rate)
        begin = torch.where(clock.any(1), spans[:, 0, 0] if spans.shape[1] else 0.0, 0.0)
        marked = []
        for m, s in streams.items():
            place = self.when(
                sinusoids(torch.where(s.mask, s.times - begin[:, None], 0.0), self.dim).to(s.values.dtype)
            )
            marked.append((s.values + self.kind[m] + place) * s.mask[..., None].to(s.values.dtype))
        mask = torch.cat([s.mask for s in streams.values()], 1)
        x = torch.cat([self.class_token.to(marked[0].dtype).expand(len(mask), 1, -1), *marked], 1)
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
        for layer in self.layers:
            x = layer(x, seen)
        x = self.norm(x)
        parts = x[:, 1:].split([s.mask.shape[1] for s in streams.values()], 1)
        known = {
            m: Tokens(p * s.mask[..., None].to(p.dtype), s.mask, s.spans)
            for (m, s), p in zip(streams.items(), parts, strict=True)
        }
        return Fused(
            x[:, 0],
            Tokens(mean_on_clock(known, spans, clock), clock, spans) if self.sequence_wanted else None,
            unimodal={m: mean(v, streams[m].mask) for m, v in zip(streams, marked, strict=True)},
        )


def sinusoids(seconds: Tensor, dim: int) -> Tensor:
    """(...,) seconds to (..., dim): sines and cosines with periods from 0.2 s to about 100 s."""
    half = (dim + 1) // 2
    periods = 0.2 * torch.exp(torch.linspace(0, math.log(500), half, device=seconds.device))
    angle = 2 * math.pi * seconds[..., None].float() / periods
    return torch.cat([angle.sin(), angle.cos()], -1)[..., :dim]


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D) and (B, T) bool to (B, D): over the real tokens, 0 where there are none."""
    real = mask[..., None].to(x.dtype)
    return (x * real).sum(1) / real.sum(1).clamp(min=1)


def mean_on_clock(streams: Mapping[str, Tokens], spans: Tensor, clock: Tensor) -> Tensor:
    """(B, K, D): at each tick the mean over the modalities that have something there."""
    ticks = [align(s, spans, clock) for s in streams.values()]
    count = torch.stack([t.mask for t in ticks]).sum(0).clamp(min=1)[..., None]
    return torch.stack([t.values for t in ticks]).sum(0) / count.to(ticks[0].values.dtype)
