"""ALMT: a dominant modality asks the others for what it lacks, layer by layer, and a few hyper-modality tokens keep it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import CrossAttention, SelfAttention
from mer.errors import UserError
from mer.fusion.vectors import StreamFusion, renewed
from mer.tokens import Tokens


class ALMT(StreamFusion):
    """Adaptive hyper-modality learning: h <- h + sum over others of Attention(dominant, other, other); then dominant asks h.

    Zhang et al., Learning Language-guided Adaptive Hyper-modality Representation, EMNLP 2023. As there: every modality
    is first summed up in `tokens` learned tokens; the dominant one is refined by a self-attention layer per level, and
    at each level guides attention to the others; a cross transformer lets it ask the hyper-modality tokens at the end.
    Ours: any modality may dominate; where it is absent, the mean of the others' tokens takes its place.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        dominant: the modality that guides; the first where not given. The paper has the words.
        tokens: per modality; the paper has 8.
        layers: levels of guidance; the paper has 3.
        heads: attention heads; the paper has 8.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        dominant: str | None = None,
        tokens: int = 8,
        layers: int = 3,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        if dominant is not None and dominant not in dims:
            raise UserError(f"ALMT.dominant is {dominant!r}", f"The modalities are {', '.join(dims)}")
        self.dominant = dominant or self.modalities[0]
        self.others = [m for m in self.modalities if m != self.dominant]
        self.queries = nn.ParameterDict({m: nn.Parameter(0.02 * torch.randn(tokens, dim)) for m in dims})
        self.hyper = nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.gather = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in dims})
        self.refine = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers - 1))
        self.guide = nn.ModuleList(
            nn.ModuleDict({m: _Guided(dim, heads, dropout) for m in self.others}) for _ in range(layers)
        )
        self.ask = CrossAttention(dim, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.tell = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in dims})

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        sums = {m: self._summed(m, s) for m, s in streams.items()}
        here = {m: s.present[:, None, None] for m, s in streams.items()}
        rest = torch.stack([sums[m] * here[m] for m in self.others]).sum(0)
        there = torch.stack([here[m] for m in self.others]).sum(0).clamp(min=1)
        guide = torch.where(here[self.dominant], sums[self.dominant], rest / there)
        hyper = self.hyper.expand_as(guide).to(guide.dtype)
        open_ = torch.ones(guide.shape[:2], dtype=torch.bool, device=guide.device)
        for level, layer in enumerate(self.guide):
            assert isinstance(layer, nn.ModuleDict)
            if level:
                guide = self.refine[level - 1](guide, open_)
            for m in self.others:
                hyper = hyper + layer[m](guide, sums[m]) * here[m].to(hyper.dtype)
        known = self.norm(self.ask(guide, open_, hyper, open_))
        return renewed(streams, {m: self.tell[m](s.values, s.mask, known, open_) for m, s in streams.items()})

    def _summed(self, m: str, stream: Tokens) -> Tensor:
        """(B, tokens, D): what the learned tokens of a modality find in it."""
        queries = self.queries[m].expand(len(stream.mask), -1, -1).to(stream.values.dtype)
        everywhere = torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
        return self.gather[m](queries, everywhere, stream.values, stream.mask)


class _Guided(nn.Module):
    """Attention of (B, K, D) tokens to (B, K, D) others, all of them real; no residual."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.norm_q, self.norm_kv = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)

    def forward(self, guide: Tensor, others: Tensor) -> Tensor:
        kv = self.norm_kv(others)
        return self.attention(self.norm_q(guide), kv, kv, need_weights=False)[0]
