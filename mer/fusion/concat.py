"""Concatenation: the reference that every fancier module has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool
from mer.fusion.base import Fused, Fusion
from mer.tokens import Tokens, align, regular_clock


class Concat(Fusion):
    """Pool each modality over time, put the vectors side by side, mix them with one hidden layer.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        heads: attention heads of the pooling over time.
        dropout: on the concatenation.
        clock_rate: ticks per second of the sequence that frame-level heads read.

    An absent modality contributes zeros. Sequence: every stream averaged onto the clock, then the same mixing.
    """

    def __init__(
        self, dims: Mapping[str, int], dim: int = 128, heads: int = 4, dropout: float = 0.2, clock_rate: float = 5.0
    ):
        super().__init__(dims, dim)
        self.clock_rate = clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.pool = nn.ModuleDict({m: StatisticsPool(dim, heads) for m in dims})
        self.mix = nn.Sequential(nn.Dropout(dropout), nn.Linear(len(dims) * dim, dim), nn.GELU(), nn.LayerNorm(dim))

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = {m: _projected(self.project[m], tokens[m]) for m in self.modalities}
        unimodal = {m: self.pool[m](s.values, s.mask) for m, s in streams.items()}
        spans, mask = regular_clock(list(streams.values()), self.clock_rate)
        ticks = torch.cat([align(s, spans, mask).values for s in streams.values()], dim=2)
        sequence = Tokens(self.mix(ticks) * mask[..., None], mask, spans)
        return Fused(self.mix(torch.cat(list(unimodal.values()), dim=1)), sequence, unimodal=unimodal)


def _projected(layer: nn.Module, tokens: Tokens) -> Tokens:
    values: Tensor = layer(tokens.zeroed())
    return Tokens(values * tokens.mask[..., None].to(values.dtype), tokens.mask, tokens.spans)
