"""Divergence fusion: how far the modalities disagree, pair by pair. Made for ambivalence, where the conflict is the message."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mer.errors import UserError
from mer.fusion.vectors import VectorFusion


class Divergence(VectorFusion):
    """|a - b| for every pair, alone (variant B of the paper) or beside the vectors themselves (variant C), then an MLP.

    Divergence fusion of arXiv 2603.16939 (ABAW-10, ambivalence and hesitancy), after a description: variant A is plain
    concatenation, `mer.fusion.Concat`. Here the modalities share one width by their projections, and a pair of which
    one is absent contributes 0.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        parts: `differences` (B) or `both` (C).
        heads: attention heads of the pooling over time.
        dropout: of the MLP; the paper has 0.3.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        parts: Literal["differences", "both"] = "differences",
        heads: int = 4,
        dropout: float = 0.3,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, clock_rate)
        if parts not in ("differences", "both"):
            raise UserError(f"Divergence.parts is {parts!r}", "Use differences or both")
        self.parts = parts
        self.pairs = list(itertools.combinations(range(len(dims)), 2))
        # A single modality that is there has no difference to show, but must not leave the head without anything.
        width = (len(self.pairs) + len(dims)) * dim if parts == "both" else (len(self.pairs) + 1) * dim
        self.norm = nn.LayerNorm(dim)
        self.mix = nn.Sequential(
            nn.Linear(width, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim)
        )

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, None]:
        vectors = self.norm(vectors) * here[..., None].to(vectors.dtype)
        both = [(here[:, i] & here[:, j])[:, None].to(vectors.dtype) for i, j in self.pairs]
        apart = [(vectors[:, i] - vectors[:, j]).abs() * there for (i, j), there in zip(self.pairs, both, strict=True)]
        alone = here.sum(1, keepdim=True) == 1
        own = [vectors.flatten(1)] if self.parts == "both" else [vectors.sum(1) * alone.to(vectors.dtype)]
        return self.mix(torch.cat([*own, *apart], 1)), None
