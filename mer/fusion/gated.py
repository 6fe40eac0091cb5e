"""Gated fusion: every modality passes a gate that all of them set together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.fusion.vectors import VectorFusion


class Gated(VectorFusion):
    """Gated multimodal units for any number of modalities: sum over m of sigmoid(gate_m(all)) * tanh(value_m).

    Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR 2017 workshop (arXiv 1702.01992), equations 5.
    Ours: gates of absent modalities are shut, and a layer norm follows the sum.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        heads: attention heads of the pooling over time.
        dropout: on the vectors.
        clock_rate: ticks per second of the sequence.

    Weights of the modalities: mean openness of their gates, scaled to sum to 1.
    """

    def __init__(
        self, dims: Mapping[str, int], dim: int = 128, heads: int = 4, dropout: float = 0.2, clock_rate: float = 5.0
    ):
        super().__init__(dims, dim, heads, clock_rate)
        self.dropout = nn.Dropout(dropout)
        self.values = nn.ModuleDict({m: nn.Linear(dim, dim) for m in dims})
        self.gates = nn.Linear(len(dims) * dim, len(dims) * dim)
        self.norm = nn.LayerNorm(dim)

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.dropout(vectors)
        values = torch.stack([torch.tanh(self.values[m](vectors[:, i])) for i, m in enumerate(self.modalities)], 1)
        gates = torch.sigmoid(self.gates(vectors.flatten(1))).view_as(values) * here[..., None]
        openness = gates.float().mean(2)
        weights = openness / openness.sum(1, keepdim=True).clamp(min=1e-9)
        return self.norm((gates * values).sum(1)), weights
