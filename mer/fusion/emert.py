"""EMERT: codes that all modalities share ask the codes that each has for itself, kept apart by an adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.errors import UserError
from mer.fusion.base import Fused, Fusion, presence
from mer.fusion.token_concat import mean, mean_on_clock
from mer.tokens import Tokens, regular_clock


class EMERT(Fusion):
    """Adversarial decoupling per token, then a Transformer whose queries are the shared codes of all modalities.

    EMERT (arXiv 2411.05879 and 2512.16485), after its released code: every token X_m gives a private code P_m(X_m) and,
    by one network for all, a shared code P(X_m). One linear modality classifier reads the mean code of each modality;
    behind a gradient reversal it reads the shared ones. The codes of all modalities lie end to end in time; in each
    layer the shared ones attend to the private ones, which stay as they are. The mean over time of the shared ones is
    the clip.

    Ours: any number of modalities and tokens, masks, absent modalities, the side that asks, a schedule for the
    reversal, and the sequence on a clock. `positions` gives the learned tables of the release, which hold for one fixed
    number of tokens; without them tokens carry what time their encoders put into them.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the codes, and of the fused vectors: 64 in the release for regression and intensity, 32 for
            classes.
        width: tokens are brought to this width first where theirs is another; 128 in the release.
        hidden: width of a hidden layer in the projections to codes (64 in the release for classes); None: a single
            layer.
        layers, heads, head_width: of the Transformer; inner width is heads * head_width, whatever `dim` is.
        query: which codes ask: `shared`, as published, or `private`.
        invariant, specific: weights of the two classifier losses (sums over modalities): 0.01 and 0.01; with intensity
            0.3 and 0.1.
        reversal: lambda of the gradient reversal.
        ramp: training steps over which lambda rises from 0 as 2 / (1 + exp(-10 p)) - 1 (Ganin et al., 2016); 0 is
            constant.
        dropout: of tokens, attention output and MLP; 0.5 in the release.
        positions: number of tokens that the learned position tables hold, 72 in the release; None for none.
        clock_rate: ticks per second of the sequence.
    """

    steps: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 64,
        width: int = 128,
        hidden: int | None = None,
        layers: int = 2,
        heads: int = 8,
        head_width: int = 64,
        query: Literal["shared", "private"] = "shared",
        invariant: float = 0.01,
        specific: float = 0.01,
        reversal: float = 1.0,
        ramp: int = 0,
        dropout: float = 0.5,
        positions: int | None = None,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        if query not in ("shared", "private"):
            raise UserError(f"EMERT.query is {query!r}", "Use shared or private")
        self.query, self.clock_rate, self.positions = query, clock_rate, positions
        self.invariant, self.specific, self.reversal, self.ramp = invariant, specific, reversal, ramp
        self.project = nn.ModuleDict({m: nn.Identity() if d == width else nn.Linear(d, width) for m, d in dims.items()})
        self.private = nn.ModuleDict({m: _coder(width, hidden, dim) for m in dims})
        self.shared = _coder(width, hidden, dim)
        self.discriminator = nn.Linear(dim, max(2, len(dims)))
        self.layers = nn.ModuleList(_Layer(dim, heads, head_width, dropout) for _ in range(layers))
        self.token_dropout, self.code_dropout = nn.Dropout(dropout), nn.Dropout(0.1 if dropout else 0.0)
        if positions is not None:
            self.position_private = nn.Parameter(torch.randn(1, positions, dim))
            self.position_shared = nn.Parameter(torch.randn(1, positions, dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=ramp > 0)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        private, shared = {}, {}
        for m in self.modalities:
            there = tokens[m].mask[..., None]
            x = self.token_dropout(self.project[m](tokens[m].zeroed()))
            private[m], shared[m] = (net(x) * there.to(x.dtype) for net in (self.private[m], self.shared))
        mask = torch.cat([tokens[m].mask for m in self.modalities], 1)
        asked, asking = torch.cat(list(private.values()), 1), torch.cat(list(shared.values()), 1)
        if self.positions is not None:
            self._check_count(mask.shape[1])
            asked, asking = asked + self.position_private, asking + self.position_shared
        asked, asking = self.code_dropout(asked), self.code_dropout(asking)
        if self.query == "private":
            asked, asking = asking, asked
        for layer in self.layers:
            asking = layer(asking, asked, mask)
        lengths = [tokens[m].mask.shape[1] for m in self.modalities]
        streams = {
            m: Tokens(x, tokens[m].mask, tokens[m].spans)
            for m, x in zip(self.modalities, asking.split(lengths, 1), strict=True)
        }
        spans, clock = regular_clock(list(streams.values()), self.clock_rate)
        aux, seen = self._adversary(tokens, private, shared)
        return Fused(
            mean(asking, mask),
            Tokens(mean_on_clock(streams, spans, clock), clock, spans),
            unimodal={m: mean(shared[m] + private[m], tokens[m].mask) for m in self.modalities},
            aux_losses=aux,
            logs=seen,
        )

    def _adversary(
        self, tokens: Mapping[str, Tokens], private: Mapping[str, Tensor], shared: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Both classifier losses, and how often the classifier is right: that is what shows whether decoupling works."""
        here = presence(tokens, self.modalities)
        who = torch.arange(len(self.modalities), device=here.device).expand_as(here)
        means = [
            torch.stack([mean(codes[m], tokens[m].mask) for m in self.modalities], 1) for codes in (shared, private)
        ]
        reversed_ = _Reverse.apply(means[0], self._strength())
        aux, seen = {}, {}
        for name, code, weight in (
            ("invariant", reversed_, self.invariant),
            ("specific", means[1], self.specific),
        ):
            logits = self.discriminator(code).float()  # (B, M, classes)
            losses = F.cross_entropy(logits.flatten(0, 1), who.flatten(), reduction="none").view_as(here) * here
            aux[name] = weight * (losses.sum(0) / here.sum(0).clamp(min=1)).sum()
            seen[f"discriminator_{name}"] = ((logits.argmax(-1) == who) & here).sum() / here.sum().clamp(min=1)
        return aux, seen

    def _strength(self) -> float:
        if not self.ramp:
            return self.reversal
        progress = min(1.0, self.steps.item() / self.ramp)
        if self.training:
            self.steps += 1
        return self.reversal * (2 / (1 + math.exp(-10 * progress)) - 1)

    def _check_count(self, found: int) -> None:
        if found != self.positions:
            raise UserError(
                f"EMERT.positions is {self.positions}, but the modalities bring {found} tokens",
                "Give every encoder a fixed number of tokens that add up to it, or leave positions out",
            )


class _Reverse(torch.autograd.Function):
    """Identity forward; the gradient comes back multiplied by -strength."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class _Layer(nn.Module):
    """x + Attention(LN(x), LN(asked), LN(asked)), then x + MLP(LN(x)); queries, keys and values without bias."""

    def __init__(self, dim: int, heads: int, head_width: int, dropout: float):
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm_q, self.norm_k, self.norm_v = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(norm(y)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, norm, y in (
                (self.to_q, self.norm_q, x),
                (self.to_k, self.norm_k, asked),
                (self.to_v, self.norm_v, asked),
            )
        )
        visible = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm(x))
        return x * mask[..., None].to(x.dtype)


def _coder(width: int, hidden: int | None, dim: int) -> nn.Sequential:
    if hidden is None:
        return nn.Sequential(nn.Linear(width, dim))
    return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, dim))
