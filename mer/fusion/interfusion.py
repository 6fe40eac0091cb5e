"""InterFusion: two streams, say face and scene, that listen to each other window by window, or once per clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mer.attention import CrossAttention, SelfAttention
from mer.errors import UserError
from mer.fusion.base import Fused, Fusion
from mer.fusion.vectors import StreamFusion, others_at, others_of, renewed
from mer.tokens import Tokens


class InterFusion(Fusion):
    """Inter-modal interaction, in the style of the MiGA-2025 entry that came second in emotion prediction.

    The paper (arXiv 2512.23291) says that a module of this name joins SwinFace and MViTv2-S embeddings; its equations
    are not public, and what follows is ours. `sequence`: in each block a self-attention per stream, cross-attention
    both ways with residual and an MLP per stream, then a gate sigmoid(W [own; other]) that mixes the stream with what
    the others have at the same moments; attention pooling over the windows, concatenation. `two_token`: the vectors of
    the modalities are the tokens of a shared pre-norm attention, followed by an MLP of its own for each modality.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        variant: `sequence` or `two_token`.
        layers: number of blocks.
        heads: attention heads.
        dropout: in the blocks and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 256,
        variant: Literal["sequence", "two_token"] = "sequence",
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        if variant not in ("sequence", "two_token"):
            raise UserError(f"InterFusion.variant is {variant!r}", "Use sequence or two_token")
        made = {"sequence": _Sequence, "two_token": _TwoToken}[variant]
        self.inner = made(dims, dim, layers, heads, dropout, clock_rate)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        self.inner.sequence_wanted = self.sequence_wanted
        found: Fused = self.inner(tokens)
        return found


class _Sequence(StreamFusion):
    """The blocks over streams."""

    def __init__(self, dims: Mapping[str, int], dim: int, layers: int, heads: int, dropout: float, clock_rate: float):
        super().__init__(dims, dim, heads, dropout, clock_rate)

        def each(make: type[nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleDict({m: make(dim, heads, dropout) for m in dims}) for _ in range(layers))

        self.within, self.across = each(SelfAttention), each(CrossAttention)
        self.gates = nn.ModuleList(nn.ModuleDict({m: nn.Linear(2 * dim, dim) for m in dims}) for _ in range(layers))

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        for within, across, gates in zip(self.within, self.across, self.gates, strict=True):
            streams = renewed(streams, {m: within[m](s.values, s.mask) for m, s in streams.items()})  # type: ignore[index]
            told = {}
            for m, own in streams.items():
                others, mask = others_of(streams, m)
                told[m] = across[m](own.values, own.mask, others, mask)  # type: ignore[index]
            streams = renewed(streams, told)
            streams = renewed(streams, {m: self._gated(m, streams, gates[m]) for m in streams})  # type: ignore[index]
        return streams

    @staticmethod
    def _gated(m: str, streams: Mapping[str, Tokens], gate: nn.Module) -> Tensor:
        own = streams[m]
        other = others_at(streams, m)
        keep = torch.sigmoid(gate(torch.cat([own.values, other.values], -1)))
        return torch.where(other.mask[..., None], keep * own.values + (1 - keep) * other.values, own.values)


class _TwoToken(StreamFusion):
    """The blocks over one vector per modality."""

    def __init__(self, dims: Mapping[str, int], dim: int, layers: int, heads: int, dropout: float, clock_rate: float):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        self.blocks = nn.ModuleList(_Block(list(dims), dim, heads, dropout) for _ in range(layers))

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, None]:
        for block in self.blocks:
            vectors = block(vectors, here)
        return self.mix(vectors.flatten(1)), None


class _Block(nn.Module):
    """Shared attention over the vectors, then for each modality its own norm and MLP."""

    def __init__(self, modalities: list[str], dim: int, heads: int, dropout: float):
        super().__init__()
        self.modalities = modalities
        self.attend = CrossAttention(dim, heads, dropout, expansion=0)
        self.mlp = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
                )
                for m in modalities
            }
        )

    def forward(self, vectors: Tensor, here: Tensor) -> Tensor:
        """(N, M, D) and (N, M) bool to (N, M, D)."""
        x = self.attend(vectors, here, vectors, here)
        x = x + torch.stack([self.mlp[m](x[:, i]) for i, m in enumerate(self.modalities)], 1)
        return x * here[..., None].to(x.dtype)
