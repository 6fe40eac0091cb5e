"""Low-rank fusion: the tensor product of the modalities without ever building it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.fusion.vectors import VectorFusion


class LMF(VectorFusion):
    """sum over r of w_r * product over m of ([1; h_m] W_m^r) + b: linear in the number of modalities.

    Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, ACL 2018. An absent modality is [1;
    0]. Ours: a layer norm at the end.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        rank: number of factors; the paper's best are 4 to 16.
        heads: attention heads of the pooling over time.
        dropout: on the vectors.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        rank: int = 4,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, clock_rate)
        self.rank, self.dropout = rank, nn.Dropout(dropout)
        self.factors = nn.ModuleDict({m: nn.Linear(dim, rank * dim) for m in dims})  # the bias is the row of the 1
        self.weight, self.bias = nn.Parameter(torch.empty(rank)), nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        for factor in self.factors.values():
            assert isinstance(factor, nn.Linear)
            nn.init.xavier_normal_(factor.weight)
            nn.init.ones_(factor.bias)  # a product of factors near 0 would have no gradient to speak of
        nn.init.normal_(self.weight, std=rank**-0.5)

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, None]:
        vectors = self.dropout(vectors)
        product: Tensor | None = None
        for i, m in enumerate(self.modalities):
            factor = self.factors[m](vectors[:, i])
            product = factor if product is None else product * factor
        assert product is not None
        summed = torch.einsum("nrd,r->nd", product.unflatten(1, (self.rank, -1)), self.weight.to(product.dtype))
        return self.norm(summed + self.bias), None
