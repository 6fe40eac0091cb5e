"""Cross-attention: the tokens of every modality ask those of all others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mer.attention import CrossAttention as Layer
from mer.fusion.vectors import StreamFusion, others_of, renewed
from mer.tokens import Tokens


class CrossAttention(StreamFusion):
    """L layers in which each modality's tokens attend to the tokens of the others together; then pooled and concatenated.

    The plain bidirectional form of Tsai et al. (MulT, ACL 2019) and of ViLBERT (Lu et al., NeurIPS 2019), with one
    attention per modality rather than one per pair: weights for M, not for M (M - 1).

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        self.layers = nn.ModuleList(nn.ModuleDict({m: Layer(dim, heads, dropout) for m in dims}) for _ in range(layers))

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            values = {}
            for m, own in streams.items():
                others, mask = others_of(streams, m)
                values[m] = layer[m](own.values, own.mask, others, mask)
            streams = renewed(streams, values)
        return streams
