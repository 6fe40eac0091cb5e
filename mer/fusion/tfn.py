"""Tensor fusion: the outer product of the modalities' vectors, so that every product of their numbers is a feature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.fusion.vectors import VectorFusion


class TFN(VectorFusion):
    """[1; a] x [1; b] x [1; c] flattened, then two hidden layers.

    Zadeh et al., Tensor Fusion Network for Multimodal Sentiment Analysis, EMNLP 2017. Each vector is first projected to
    `width` numbers, as the product of the widths is the size of the first hidden layer. An absent modality is [1; 0].

    Args:
        dims: token width of each of two or three modalities (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        width: numbers per modality in the product; 16 and three modalities are 4,913 features.
        heads: attention heads of the pooling over time.
        dropout: on the product.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities, max_modalities = 2, 3

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        width: int = 16,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, clock_rate)
        self.narrow = nn.ModuleDict({m: nn.Sequential(nn.Linear(dim, width), nn.ReLU()) for m in dims})
        size = (width + 1) ** len(dims)
        self.mix = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(size, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.LayerNorm(dim)
        )

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, None]:
        product = vectors.new_ones(len(vectors), 1)
        for i, m in enumerate(self.modalities):
            own = F.pad(self.narrow[m](vectors[:, i]) * here[:, i, None], (1, 0), value=1.0)
            product = torch.einsum("na,nb->nab", product.to(own.dtype), own).flatten(1)
        return self.mix(product), None
