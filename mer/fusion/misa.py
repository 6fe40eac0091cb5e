"""MISA: what the modalities share and what each has for itself, kept apart by losses."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import SelfAttention, at_least_float32
from mer.fusion.vectors import VectorFusion

MOMENTS = 5


class MISA(VectorFusion):
    """Shared and private codes of each modality, one transformer layer over all of them, concatenation.

    Hazarika et al., Modality-Invariant and -Specific Representations, ACM MM 2020. Losses, weighted as given: the
    shared codes of two modalities have the same distribution (central moment discrepancy, 5 moments, mean over pairs);
    private and shared codes of a modality, and private codes of two, are orthogonal; both together reconstruct the
    modality's vector. Where a modality is absent its two codes are not seen, and the losses are over the clips that
    have it.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors and of each code.
        similarity, difference, reconstruction: weights of the losses; MMSA has 0.3 to 1, 0.1 to 0.5, 0.5 to 1.
        heads: attention heads; the paper has 2.
        dropout: in the transformer layer.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        similarity: float = 0.3,
        difference: float = 0.1,
        reconstruction: float = 0.5,
        heads: int = 2,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, clock_rate)
        self.similarity, self.difference, self.reconstruction = similarity, difference, reconstruction
        self.private = nn.ModuleDict({m: nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid()) for m in dims})
        self.shared = nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid())
        self.decode = nn.ModuleDict({m: nn.Linear(dim, dim) for m in dims})
        self.attend = SelfAttention(dim, heads, dropout)
        self.mix = nn.Sequential(
            nn.Linear(2 * len(dims) * dim, 2 * dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
            nn.LayerNorm(dim),
        )

    def _codes(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(N, M, D) to private and shared codes, (N, M, D) each."""
        private = torch.stack([self.private[m](vectors[:, i]) for i, m in enumerate(self.modalities)], 1)
        return private, self.shared(vectors)

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, None]:
        private, shared = self._codes(vectors)
        codes = torch.cat([private, shared], 1) * here.repeat(1, 2)[..., None].to(private.dtype)
        return self.mix(self.attend(codes, here.repeat(1, 2)).flatten(1)), None

    def losses(self, vectors: Tensor, here: Tensor) -> dict[str, Tensor]:
        vectors = at_least_float32(vectors)
        private, shared = self._codes(vectors)
        pairs = list(itertools.combinations(range(len(self.modalities)), 2))
        zero = vectors.new_zeros(())
        alike, apart, again = zero, zero, zero
        for i, j in pairs:
            both = here[:, i] & here[:, j]
            alike = alike + moment_discrepancy(shared[:, i], shared[:, j], both) / len(pairs)
            apart = apart + orthogonality(private[:, i], private[:, j], both)
        for i, m in enumerate(self.modalities):
            apart = apart + orthogonality(private[:, i], shared[:, i], here[:, i])
            wrong = (self.decode[m](private[:, i] + shared[:, i]) - vectors[:, i]).square().mean(1)
            there = here[:, i].to(wrong.dtype)
            again = again + (wrong * there).sum() / there.sum().clamp(min=1) / len(self.modalities)
        found = {"reconstruction": self.reconstruction * again, "difference": self.difference * apart}
        return {"similarity": self.similarity * alike, **found} if pairs else found


def moment_discrepancy(a: Tensor, b: Tensor, rows: Tensor) -> Tensor:
    """Central moment discrepancy of codes in [0, 1] (Zellinger et al., ICLR 2017): (N, D) twice, over the rows (N,) bool."""
    weight = rows[:, None].to(a.dtype) / rows.sum().clamp(min=1)
    mean_a, mean_b = (a * weight).sum(0), (b * weight).sum(0)
    total = _norm(mean_a - mean_b)
    for k in range(2, MOMENTS + 1):
        total = total + _norm((((a - mean_a) ** k) * weight).sum(0) - (((b - mean_b) ** k) * weight).sum(0))
    return total


def orthogonality(a: Tensor, b: Tensor, rows: Tensor) -> Tensor:
    """Mean square of the products of two codes: centred over the rows, each row scaled to length 1.

    The gradient goes through the lengths. The published code detaches them, which rewards codes for shrinking: with
    sigmoid codes all rows soon are the same, and nothing is told apart any more.
    """
    there = rows[:, None].to(a.dtype)
    count = there.sum().clamp(min=1)
    a, b = ((x - (x * there).sum(0) / count) * there for x in (a, b))
    a, b = (x / (x.square().sum(1, keepdim=True) + 1e-6).sqrt() for x in (a, b))
    return (a.T @ b).square().mean()


def _norm(x: Tensor) -> Tensor:
    """Length of a vector, with a gradient at 0."""
    return (x.square().sum() + 1e-12).sqrt()
