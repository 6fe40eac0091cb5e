"""CMTF: cross-modal token fusion, in the variants that the name may stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mer.errors import UserError
from mer.fusion.base import Fused, Fusion
from mer.fusion.bottleneck import Bottleneck
from mer.fusion.cross_attention import CrossAttention
from mer.fusion.late import Late
from mer.fusion.token_concat import TokenConcat
from mer.fusion.token_exchange import TokenExchange
from mer.labels import Task
from mer.tokens import Tokens

VARIANTS: dict[str, Callable[..., Fusion]] = {
    "concat": TokenConcat,
    "cross": CrossAttention,
    "exchange": TokenExchange,
    "bottleneck": Bottleneck,
    "late": Late,
}


class CMTF(Fusion):
    """Tokens of several modalities fused as tokens, in the style of the MiGA-2025 entry of Martirosyan et al.

    The paper (arXiv 2512.23291) says that a module of this name joins MViTv2-S and 2s-AGCN embeddings and combines
    spatial and pose information. Its equations, depths and widths are not public, so everything below is ours: which
    tokens meet how is the choice of `variant`, and each variant is a module of its own with its paper.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        variant: `concat` (class token and all tokens through a Transformer), `cross` (each modality asks the others),
            `exchange` (tokens that say little are replaced by the other's of the same moment), `bottleneck` (four
            shared tokens), `late` (mean of the scores).
        dropout: of the variant.
        clock_rate: ticks per second of the sequence.
        options: further arguments of the variant's class.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 256,
        variant: str = "concat",
        dropout: float = 0.2,
        clock_rate: float = 5.0,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(dims, dim)
        if variant not in VARIANTS:
            raise UserError(f"CMTF.variant is {variant!r}", f"Use {', '.join(VARIANTS)}")
        self.scores = variant == "late"
        given = {"clock_rate": clock_rate} | (options or {})  # which was the only place for a clock once
        try:
            self.inner = VARIANTS[variant](dims, dim=dim, dropout=dropout, **given)
        except TypeError as error:
            raise UserError(
                f"CMTF.options of {variant!r}: {error}", f"See mer.fusion.{VARIANTS[variant].__name__}"
            ) from None

    def for_tasks(self, tasks: Mapping[str, Task]) -> None:
        self.inner.for_tasks(tasks)

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        self.inner.sequence_wanted = self.sequence_wanted
        found: Fused = self.inner(tokens)
        return found
