"""MulT: one directed transformer for every ordered pair of modalities, unaligned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mer.attention import CrossAttention, SelfAttention
from mer.errors import UserError
from mer.fusion.vectors import StreamFusion, renewed
from mer.tokens import Tokens


class MulT(StreamFusion):
    """For each target, a stack of cross-attention per source; side by side, narrowed, then a self-attention memory.

    Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, ACL 2019. As there: in every layer
    of a directed stack the target asks the source's first-level features. Instead of position tables tokens carry none
    (their encoders do that); there is no causal mask; and instead of the last step, which may be padding, attention
    pooling reads out. The cost is quadratic in the number of modalities; `sources` names the pairs that are wanted.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors; the paper has 30 to 40 for features of some hundred.
        layers: cross-attention layers of a directed stack; the paper has 4 to 5.
        memory: self-attention layers of each target; the paper has 3.
        sources: per target the modalities it asks; all others where not given.
        heads: attention heads.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 64,
        layers: int = 3,
        memory: int = 2,
        sources: dict[str, list[str]] | None = None,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        for target, asked in (sources or {}).items():
            if target not in dims or target in asked or not set(asked) <= set(dims):
                raise UserError(
                    f"MulT.sources has {target}: {', '.join(asked)}", f"Use others of the modalities {', '.join(dims)}"
                )
        self.sources = {m: (sources or {}).get(m, [o for o in dims if o != m]) for m in dims}
        self.directed = nn.ModuleDict(
            {
                m: nn.ModuleDict(
                    {o: nn.ModuleList(CrossAttention(dim, heads, dropout) for _ in range(layers)) for o in asked}
                )
                for m, asked in self.sources.items()
            }
        )
        self.narrow = nn.ModuleDict({m: nn.Linear((1 + len(asked)) * dim, dim) for m, asked in self.sources.items()})
        self.memory = nn.ModuleDict(
            {m: nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(memory)) for m in dims}
        )

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        values = {}
        for m, own in streams.items():
            told = [own.values]
            for other in self.sources[m]:
                source, x = streams[other], own.values
                for layer in self.directed[m][other]:  # type: ignore[index]
                    x = layer(x, own.mask, source.values, source.mask)
                told.append(x * source.present[:, None, None].to(x.dtype))
            x = self.narrow[m](torch.cat(told, 2)) * own.mask[..., None].to(own.values.dtype)
            for layer in self.memory[m].children():
                x = layer(x, own.mask)
            values[m] = x
        return renewed(streams, values)
