"""EMERT: codes that all modalities share ask the codes that each has for itself, kept apart by an adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.errors import UserError
from mer.fusion.base import Fused, Fusion, presence
from mer.fusion.token_concat import mean, mean_on_clock
from mer.tokens import Tokens, regular_clock

_SMALL = 1 << 17  # queries of all heads times keys of a clip


class EMERT(Fusion):
    """Adversarial decoupling per token, then a Transformer whose queries are the shared codes of all modalities.

    EMERT (arXiv 2411.05879 and 2512.16485), after its released code: every token X_m gives a private code P_m(X_m) and,
    by one network for all, a shared code P(X_m). One linear modality classifier reads the mean code of each modality;
    behind a gradient reversal it reads the shared ones. The codes of all modalities lie end to end in time; in each
    layer the shared ones attend to the private ones, which stay as they are. The mean over time of the shared ones is
    the clip.

    A classifier at chance does not show that shared codes are alike: on the synthetic streams of its tests the
    two chased each other, and a fresh linear classifier still told the modalities apart.

    Ours: any number of modalities and tokens, masks, absent modalities, the side that asks, a schedule for the
    reversal, and the sequence on a clock. `positions` gives the learned tables of the release, for encoders that give a
    fixed number of tokens; without them tokens carry what time their encoders put into them. `mer.emert_reference`
    builds the published models whole.

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
        positions: per modality how many places the learned position tables have, in the release 8 for face and 32 for eye
            and gaze; a shorter stream takes the first ones. None for no tables.
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
        positions: dict[str, int] | None = None,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        if query not in ("shared", "private"):
            raise UserError(f"EMERT.query is {query!r}", "Use shared or private")
        self.query, self.clock_rate = query, clock_rate
        self.invariant, self.specific, self.reversal, self.ramp = invariant, specific, reversal, ramp
        self.project = nn.ModuleDict({m: nn.Identity() if d == width else nn.Linear(d, width) for m, d in dims.items()})
        self.private = nn.ModuleDict({m: _coder(width, hidden, dim) for m in dims})
        self.shared = _coder(width, hidden, dim)
        self.discriminator = nn.Linear(dim, max(2, len(dims)))
        self.layers = nn.ModuleList(_Layer(dim, heads, head_width, dropout) for _ in range(layers))
        self.token_dropout, self.code_dropout = _Dropout(dropout), _Dropout(0.1 if dropout else 0.0)
        self.positions = self._counts(positions)
        if self.positions:
            count = sum(self.positions.values())
            self.position_private = nn.Parameter(torch.randn(1, count, dim))
            self.position_shared = nn.Parameter(torch.randn(1, count, dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=ramp > 0)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        lengths = [tokens[m].mask.shape[1] for m in self.modalities]
        mask = torch.cat([tokens[m].mask for m in self.modalities], 1)
        x = self.token_dropout(torch.cat([self.project[m](tokens[m].zeroed()) for m in self.modalities], 1))
        real = mask[..., None].to(x.dtype)
        parts = zip(self.modalities, x.split(lengths, 1), strict=True)
        private = torch.cat([self.private[m](part) for m, part in parts], 1) * real
        shared = self.shared(x) * real
        own, common = (_means(codes, mask, lengths) for codes in (private, shared))
        aux, seen = self._adversary(own, common, presence(tokens, self.modalities))
        if self.positions:
            private = private + self._places(self.position_private, lengths)
            shared = shared + self._places(self.position_shared, lengths)
        asked, asking = self.code_dropout(private), self.code_dropout(shared)
        if self.query == "private":
            asked, asking = asking, asked
        seen_by_all = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        for layer in self.layers:
            asking = layer(asking, asked, seen_by_all)
        unimodal = own + common
        return Fused(
            mean(asking, mask),
            self._sequence(tokens, asking.split(lengths, 1)) if self.sequence_wanted else None,
            unimodal={m: unimodal[:, i] for i, m in enumerate(self.modalities)},
            aux_losses=aux,
            logs=seen,
        )

    def _sequence(self, tokens: Mapping[str, Tokens], parts: Sequence[Tensor]) -> Tokens:
        streams = {m: Tokens(x, tokens[m].mask, tokens[m].spans) for m, x in zip(self.modalities, parts, strict=True)}
        spans, clock = regular_clock(list(streams.values()), self.clock_rate)
        return Tokens(mean_on_clock(streams, spans, clock), clock, spans)

    def _adversary(self, own: Tensor, common: Tensor, here: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Both classifier losses, and how often the classifier is right: that is what shows whether decoupling works.

        Args:
            own, common: mean private and shared codes (B, M, D).
            here: (B, M) bool.
        """
        who = torch.arange(len(self.modalities), device=here.device).expand(2, *here.shape)
        codes = torch.stack([_Reverse.apply(common, self._strength()), own])
        logits = self.discriminator(codes).float()  # (2, B, M, classes)
        each = F.cross_entropy(logits.flatten(0, 2), who.flatten(), reduction="none").view(who.shape)
        count = here.sum(0).clamp(min=1)
        losses = ((each * here).sum(1) / count).sum(1)
        right = ((logits.detach().argmax(-1) == who) & here).sum((1, 2)) / here.sum().clamp(min=1)
        aux = {"invariant": self.invariant * losses[0], "specific": self.specific * losses[1]}
        return aux, {"discriminator_invariant": right[0], "discriminator_specific": right[1]}

    def _strength(self) -> float:
        if not self.ramp:
            return self.reversal
        progress = min(1.0, self.steps.item() / self.ramp)
        if self.training:
            self.steps += 1
        return self.reversal * (2 / (1 + math.exp(-10 * progress)) - 1)

    def _counts(self, positions: Mapping[str, int] | None) -> dict[str, int]:
        """The positions in the order of the modalities."""
        given = dict(positions or {})
        if given and (set(given) != set(self.modalities) or min(given.values()) < 1):
            raise UserError(
                f"EMERT.positions is {given}",
                f"Give the number of tokens of each of {', '.join(self.modalities)}, or leave positions out",
            )
        return {m: given[m] for m in self.modalities} if given else {}

    def _places(self, table: Tensor, lengths: Sequence[int]) -> Tensor:
        """Of a position table (1, all places, D) the rows that the tokens take."""
        counts = list(self.positions.values())
        if list(lengths) == counts:
            return table
        for (m, count), length in zip(self.positions.items(), lengths, strict=True):
            if length > count:
                raise UserError(
                    f"EMERT.positions has {count} places for {m!r}, which brings {length} tokens",
                    "Give its encoder a fixed number of tokens, or leave positions out",
                )
        parts = zip(table.split(counts, 1), lengths, strict=True)
        return torch.cat([part[:, :length] for part, length in parts], 1)


class _Reverse(torch.autograd.Function):
    """Identity forward; the gradient comes back multiplied by -strength."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class _Dropout(nn.Dropout):
    """Dropout whose coins cost a quarter on CPUs: every random word of 64 bits is four of them, of 16 bits each."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        coins = words.view(torch.int16)[: x.numel()].view(x.shape)  # from -2^15 to 2^15 - 1
        least = round(self.p * 2**16)
        return x * (coins >= least - 2**15).to(x.dtype).mul_(2**16 / (2**16 - least))


class _Layer(nn.Module):
    """x + Attention(LN(x), LN(asked), LN(asked)), then x + MLP(LN(x)); queries, keys and values without bias.

    Where tokens are not wider than a head, less work gives the same numbers: with W_q and W_k of a head, the product of a
    query and a key is x (W_q^T W_k) y^T, so that every head asks the normed tokens themselves, which need no keys; and
    likewise no values, as the mean of the tokens passes W_o W_v afterwards. The products of the weights cost little beside
    a batch of tokens.
    """

    def __init__(self, dim: int, heads: int, head_width: int, dropout: float):
        super().__init__()
        inner = heads * head_width
        self.heads, self.head_width = heads, head_width
        self.norm_q, self.norm_k, self.norm_v = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.out = nn.Sequential(nn.Linear(inner, dim), _Dropout(dropout))
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), _Dropout(dropout), nn.Linear(dim, dim), _Dropout(dropout)
        )

    def forward(self, x: Tensor, asked: Tensor, visible: Tensor) -> Tensor:
        """(B, T, D), (B, S, D) and a mask that broadcasts to (B, heads, T, S), to (B, T, D)."""
        attend = self._attend_merged if x.shape[2] <= self.head_width else self._attend
        x = x + self.out[1](attend(self.norm_q(x), self.norm_k(asked), self.norm_v(asked), visible))
        return x + self.mlp(self.norm(x))

    def _attend(self, x: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.to_q, x), (self.to_k, k), (self.to_v, v))
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.out[0](y.transpose(1, 2).flatten(2))

    def _attend_merged(self, x: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        batch, size, dim = x.shape
        w_q, w_k, w_v = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.to_q, self.to_k, self.to_v))
        out = self.out[0]
        assert isinstance(out, nn.Linear)
        w_o = out.weight.unflatten(1, (self.heads, -1))  # (D, heads, head_width)
        ask = (w_q.transpose(1, 2) @ w_k).transpose(0, 1).flatten(1)  # (D, heads * D)
        tell = (w_v.transpose(1, 2) @ w_o.permute(1, 2, 0)).flatten(0, 1)  # (heads * D, D)
        # One head whose queries are those of all heads.
        q = (x @ ask).view(batch, size * self.heads, dim)
        y = _attention(q, k, v, visible[:, 0], self.head_width**-0.5)
        return y.reshape(batch, size, self.heads * dim) @ tell + out.bias


def _attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """Scaled dot product attention of (B, T, D) to (B, S, D), with a mask (B, 1, S)."""
    if q.device.type != "cpu" or q.shape[1] * k.shape[1] > _SMALL:
        attend = F.scaled_dot_product_attention
        return attend(q[:, None], k[:, None], v[:, None], attn_mask=visible[:, None], scale=scale)[:, 0]
    # Of few tokens a table of scores is made faster than the fused kernel works without one.
    hidden = torch.zeros_like(visible, dtype=q.dtype).masked_fill_(~visible, -torch.inf)
    weights = torch.baddbmm(hidden, q, k.transpose(1, 2).to(q.dtype), alpha=scale).softmax(-1)
    return torch.bmm(weights.to(v.dtype), v)


def _means(codes: Tensor, mask: Tensor, lengths: Sequence[int]) -> Tensor:
    """(B, T, D), 0 where nothing is real, (B, T) bool and the length of each modality's part, to (B, M, D)."""
    parts = zip(codes.split(list(lengths), 1), mask.split(list(lengths), 1), strict=True)
    return torch.stack([part.sum(1) / there.sum(1).clamp(min=1)[:, None].to(part.dtype) for part, there in parts], 1)


def _coder(width: int, hidden: int | None, dim: int) -> nn.Sequential:
    if hidden is None:
        return nn.Sequential(nn.Linear(width, dim))
    return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, dim))
