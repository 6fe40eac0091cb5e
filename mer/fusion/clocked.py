"""The frame of fusions that work moment by moment: every stream on one clock, a join at each tick, a pooling over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool
from mer.fusion.base import Fused, Fusion
from mer.fusion.tcn import TCN
from mer.fusion.vectors import projected
from mer.tokens import Tokens, align, regular_clock


class ClockedFusion(Fusion):
    """Project, bring onto one clock by overlap of time, run a causal TCN per modality, `meet` at every tick, pool over time.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors and of each stream.
        channels: widths of the TCN of each modality, dilated by 1, 2, 4 ...; the last is `dim`. None leaves the TCN
            out.
        kernel: of the TCN.
        heads: attention heads of the pooling over time.
        dropout: in the TCN.
        clock_rate: ticks per second.
    """

    needs_alignment = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int,
        channels: Sequence[int] | None,
        kernel: int,
        heads: int,
        dropout: float,
        clock_rate: float,
    ):
        super().__init__(dims, dim)
        self.clock_rate = clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.tcn = nn.ModuleDict({m: TCN(dim, [*channels, dim], kernel, dropout) for m in dims} if channels else {})
        self.pool = StatisticsPool(dim, heads)
        self.of_one = nn.Linear(dim, dim)  # from a modality's own vector, for auxiliary heads

    def meet(self, ticks: Tensor, there: Tensor, mask: Tensor) -> Tensor:
        """Subclasses implement this.

        Args:
            ticks: (B, K, M, D), 0 where a modality has nothing.
            there: (B, K, M) bool, which has something.
            mask: (B, K) bool, the real ticks.

        Returns:
            (B, K, D)
        """
        raise TypeError(f"{type(self).__name__} does not implement meet")

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = projected(self.project, tokens, self.modalities)
        spans, mask = regular_clock(list(streams.values()), self.clock_rate)
        values, there = [], []
        for m, stream in streams.items():
            tick = align(stream, spans, mask)
            x = tick.values
            if self.tcn:
                # The TCN sees a modality's past through its gaps, but says nothing where there is nothing.
                x = self.tcn[m](x) * tick.mask[..., None].to(x.dtype)
            values.append(x)
            there.append(tick.mask)
        ticks, here = torch.stack(values, 2), torch.stack(there, 2)
        met = self.meet(ticks, here, mask) * mask[..., None].to(ticks.dtype)
        count = here.sum(1).clamp(min=1)[..., None].to(ticks.dtype)
        own = self.of_one(ticks.sum(1) / count) * here.any(1)[..., None].to(ticks.dtype)  # (B, M, D)
        return Fused(
            self.pool(met, mask),
            Tokens(met, mask, spans),
            unimodal={m: own[:, i] for i, m in enumerate(self.modalities)},
        )
