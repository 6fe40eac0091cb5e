"""Token exchange: where a modality's token says little, the other's token of the same moment takes its place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.fusion.vectors import StreamFusion, others_at, renewed
from mer.tokens import Tokens


class TokenExchange(StreamFusion):
    """The TokenFusion rule on tokens that share a moment: tokens scored below the threshold are replaced, others are scaled.

    Wang et al., Multimodal Token Fusion for Vision Transformers, CVPR 2022: after the layer norm a small network gives
    each token a probability of being kept; a token is multiplied by it, and replaced by the other modality's where it
    is below 0.02; a penalty on the sum of the probabilities makes tokens replaceable. There, tokens of equal index
    belong together; here those that overlap in time, averaged, and with several others the mean of those present.
    Nothing is replaced where no other is.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        threshold: below which a token is replaced; 0.02 in the paper.
        penalty: weight of the mean probability; the paper has 1e-6 on the sum.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        threshold: float = 0.02,
        penalty: float = 1e-3,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        self.threshold, self.penalty = threshold, penalty
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: SelfAttention(dim, heads, dropout) for m in dims}) for _ in range(layers)
        )
        self.scorers = nn.ModuleList(
            nn.ModuleDict(
                {
                    m: nn.Sequential(
                        nn.LayerNorm(dim), nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, 1), nn.Sigmoid()
                    )
                    for m in dims
                }
            )
            for _ in range(layers)
        )
        self.translate = nn.ModuleDict({m: nn.Linear(dim, dim) for m in dims})
        self._kept: list[Tensor] = []

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        self._kept = []
        for layer, scorer in zip(self.layers, self.scorers, strict=True):
            assert isinstance(layer, nn.ModuleDict) and isinstance(scorer, nn.ModuleDict)
            streams = renewed(streams, {m: layer[m](s.values, s.mask) for m, s in streams.items()})
            kept = {m: scorer[m](s.values)[..., 0].float() for m, s in streams.items()}
            self._kept += [_mean(kept[m], s.mask) for m, s in streams.items()]
            streams = renewed(streams, {m: self._exchanged(m, streams, kept[m]) for m in streams})
        return streams

    def losses(self, vectors: Tensor, here: Tensor) -> dict[str, Tensor]:
        mean = torch.stack(self._kept).mean()
        self._kept = []
        return {"kept": self.penalty * mean}

    def _exchanged(self, m: str, streams: Mapping[str, Tokens], kept: Tensor) -> Tensor:
        own = streams[m]
        other = others_at(streams, m)
        weak = (kept < self.threshold) & other.mask
        return torch.where(
            weak[..., None], self.translate[m](other.values), own.values * kept[..., None].to(own.values.dtype)
        )


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Scalar: mean of (B, T) over what is real."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
