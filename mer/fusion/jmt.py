"""JMT: the modalities and their joint representation attend to each other over time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import CrossAttention, SelfAttention, masked_softmax
from mer.fusion.clocked import ClockedFusion


class JMT(ClockedFusion):
    """Joint multimodal transformer: an encoder per stream and for the joint stream, every ordered pair of them attends.

    Waligora et al., Joint Multimodal Transformer for Emotion Recognition in the Wild, CVPRW 2024 (arXiv 2403.10488),
    repaired: the baseline of BAH hands (time * batch) to attention as the sequence, so that clips see each other, and
    all branches but one get no gradient. Here attention runs over the moments of one clip, the branches are weighed at
    each moment, any number of modalities takes part, and every branch is trained.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of the fused vectors and of each stream.
        channels: of the TCN before `dim`; null for none.
        kernel: of the TCN.
        heads: attention heads; the baseline has 1.
        dropout: in TCN and attention.
        clock_rate: ticks per second.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        channels: list[int] | None = None,
        kernel: int = 5,
        heads: int = 4,
        dropout: float = 0.1,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, channels, kernel, heads, dropout, clock_rate)
        streams = len(dims) + 1  # the last is the joint one
        self.joint = nn.Linear(len(dims) * dim, dim)
        self.encode = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(streams))
        self.pairs = list(itertools.permutations(range(streams), 2))
        self.cross = nn.ModuleList(CrossAttention(dim, heads, dropout, expansion=0) for _ in self.pairs)
        self.weigh = nn.Linear(dim, 1, bias=False)  # a softmax over pairs follows, which sees no common addend
        self.mix = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))

    def meet(self, ticks: Tensor, there: Tensor, mask: Tensor) -> Tensor:
        joint = self.joint(ticks.flatten(2)) * mask[..., None].to(ticks.dtype)
        here = [*there.unbind(2), mask & there.any(2)]
        streams = [
            encode(x, seen) for encode, x, seen in zip(self.encode, [*ticks.unbind(2), joint], here, strict=True)
        ]
        branches, open_ = [], []
        for (target, source), layer in zip(self.pairs, self.cross, strict=True):
            branches.append(layer(streams[target], here[target], streams[source], here[source]))
            open_.append(here[target] & here[source].any(1, keepdim=True))
        stacked = torch.stack(branches, 2)  # (B, K, pairs, D)
        weights = masked_softmax(self.weigh(stacked)[..., 0], torch.stack(open_, 2), dim=2)
        return self.mix((weights[..., None].to(stacked.dtype) * stacked).sum(2))
