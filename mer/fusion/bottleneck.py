"""Bottleneck tokens: a few shared tokens carry everything that passes between the modalities. Linear in their number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.fusion.base import presence
from mer.fusion.vectors import StreamFusion, renewed
from mer.tokens import Tokens


class Bottleneck(StreamFusion):
    """Per layer, each modality attends to itself and to k shared tokens; its copies of these are then averaged.

    Nagrani et al., Attention Bottlenecks for Multimodal Fusion (MBT), NeurIPS 2021 (arXiv 2107.00135): layer, then mean
    of the modalities' bottlenecks, equations 8 and 9. The mean is over the present modalities. Read-out by attention
    pooling and concatenation is ours, where MBT averages class tokens.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        bottlenecks: number of shared tokens; the paper's default is 4.
        layers: number of layers, at each of which there is an exchange.
        heads: attention heads.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        bottlenecks: int = 4,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        self.shared = nn.Parameter(0.02 * torch.randn(bottlenecks, dim))
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: SelfAttention(dim, heads, dropout) for m in dims}) for _ in range(layers)
        )
        self.last = nn.LayerNorm(dim)
        self.of_shared = nn.Linear(dim, dim)

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        here = presence(streams, self.modalities)
        batch, count = len(here), len(self.shared)
        shared: Tensor = self.shared.expand(batch, -1, -1)
        open_ = torch.ones(batch, count, dtype=torch.bool, device=shared.device)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            values, copies = {}, []
            for i, (m, own) in enumerate(streams.items()):
                together = torch.cat([shared.to(own.values.dtype), own.values], 1)
                made = layer[m](together, torch.cat([open_, own.mask], 1))
                copies.append(made[:, :count] * here[:, i, None, None].to(made.dtype))
                values[m] = made[:, count:]
            present = here.sum(1)[:, None, None]
            # Without any modality the shared tokens stay what they are.
            shared = torch.where(present > 0, torch.stack(copies).sum(0) / present.clamp(min=1), shared.to(made.dtype))
            streams = renewed(streams, values)
        # What the shared tokens know in the end goes to every token, and so into the read-out.
        summary = self.of_shared(self.last(shared.mean(1)))[:, None]
        return renewed(streams, {m: s.values + summary.to(s.values.dtype) for m, s in streams.items()})
