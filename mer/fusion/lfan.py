"""LFAN: at every moment the modalities attend to each other, and follow a leader."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.errors import UserError
from mer.fusion.clocked import ClockedFusion


class LFAN(ClockedFusion):
    """Leader-follower attention across the modalities at each tick; the leader's features are kept beside the result.

    Zhang et al., ABAW 2022 (arXiv 2203.13031), as BAH's baseline has it (arXiv 2505.19328): per modality queries, keys
    and values of `heads` times `width`, attention over the modalities of one moment, a residual on the values, side by
    side, layer norm; time is mixed by the TCN alone. Ours: an absent modality is not asked, streams meet on a clock in
    seconds, and attention pooling gives the vector of a clip.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        leader: whose features are kept; the first modality where not given. The baseline has the picture.
        width: of a head; the baseline has 16.
        heads: of the attention across modalities; the baseline has 2.
        channels: of the TCN before `dim`, e.g. [256, 256, 128, 128]; null for none.
        kernel: of the TCN.
        dropout: in the TCN and on the followers; the baseline has 0.1.
        clock_rate: ticks per second.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        leader: str | None = None,
        width: int = 16,
        heads: int = 2,
        channels: list[int] | None = None,
        kernel: int = 5,
        dropout: float = 0.1,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, channels, kernel, heads, dropout, clock_rate)
        if leader is not None and leader not in dims:
            raise UserError(f"LFAN.leader is {leader!r}", f"The modalities are {', '.join(dims)}")
        self.leader, self.heads = self.modalities.index(leader) if leader else 0, heads
        self.qkv = nn.ModuleDict({m: nn.Linear(dim, 3 * heads * width) for m in dims})
        size = len(dims) * heads * width
        self.follow = nn.Sequential(nn.Linear(size, size), nn.Dropout(dropout), nn.LayerNorm(size))
        self.out = nn.Linear(dim + size, dim)
        for layer in (*self.qkv.values(), self.follow[0], self.out):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def meet(self, ticks: Tensor, there: Tensor, mask: Tensor) -> Tensor:
        made = torch.stack([self.qkv[m](ticks[:, :, i]) for i, m in enumerate(self.modalities)], 2)  # (B, K, M, 3hw)
        q, k, v = made.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (B, K, h, M, w) each
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).float()
        scores = scores.masked_fill(~there[:, :, None, None, :], -1e30)
        y = (scores.softmax(-1) * there[:, :, None, None, :]).to(v.dtype) @ v + v
        y = y.transpose(2, 3).flatten(3) * there[..., None].to(v.dtype)  # (B, K, M, hw)
        return self.out(torch.cat([ticks[:, :, self.leader], self.follow(y.flatten(2))], -1))
