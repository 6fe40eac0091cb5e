"""Masked attention pooling, the default: attention over the tokens of each modality, then over the modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool, masked_softmax
from mer.fusion.base import Fused, Fusion, presence
from mer.tokens import Tokens, align, regular_clock


class AttentionPool(Fusion):
    """Each modality is pooled over time by attention; a softmax over the *present* modalities then weighs the vectors.

    The modality attention of MERBench (Lian et al., arXiv 2401.03429) in repaired form: the weights are normalised over
    what is present, any number of modalities, padding is masked. The attention within a modality, and the mixing layer
    behind the weighted sum, are our choice.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        heads: attention heads of the pooling over time.
        dropout: on pooled vectors.
        temperature: of the softmax over modalities; higher is more even.
        clock_rate: ticks per second of the sequence that frame-level heads read.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        heads: int = 4,
        dropout: float = 0.2,
        temperature: float = 1.0,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        self.temperature, self.clock_rate = temperature, clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.pool = nn.ModuleDict({m: StatisticsPool(dim, heads) for m in dims})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(dim) for m in dims})
        self.score = nn.ModuleDict({m: nn.Linear(dim, 1) for m in dims})
        self.mix = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams: dict[str, Tokens] = {}
        for m in self.modalities:
            values = self.project[m](tokens[m].zeroed()) * tokens[m].mask[..., None]
            streams[m] = Tokens(values, tokens[m].mask, tokens[m].spans)
        here = presence(tokens, self.modalities)  # (B, M)
        unimodal = {m: self.norm[m](self.pool[m](s.values, s.mask)) * s.present[:, None] for m, s in streams.items()}
        vectors = torch.stack(list(unimodal.values()), dim=1)  # (B, M, D)
        scores = torch.cat([self.score[m](v) for m, v in unimodal.items()], dim=1) / self.temperature
        weights = masked_softmax(scores, here, dim=1)
        # The number of present modalities keeps the scale of a sum; the softmax alone would shrink each contribution.
        scaled = (weights * here.sum(1, keepdim=True)).to(vectors.dtype)
        pooled = self.mix((scaled[..., None] * vectors).sum(1))
        return Fused(
            pooled,
            self._sequence(streams, scaled) if self.sequence_wanted else None,
            unimodal=unimodal,
            modality_weights={m: weights[:, i] for i, m in enumerate(self.modalities)},
        )

    def _sequence(self, streams: Mapping[str, Tokens], scaled: Tensor) -> Tokens:
        spans, mask = regular_clock(list(streams.values()), self.clock_rate)
        ticks = torch.zeros((), device=mask.device)
        for index, (m, stream) in enumerate(streams.items()):
            on_clock = align(stream, spans, mask)
            ticks = ticks + scaled[:, index, None, None] * self.norm[m](on_clock.values) * on_clock.mask[..., None]
        return Tokens(self.mix(ticks) * mask[..., None], mask, spans)
