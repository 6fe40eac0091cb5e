"""Detail-enhanced fusion: movement enriches the frames, then each stream and finally all of them enhance each other."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mer.attention import CrossAttention
from mer.errors import UserError
from mer.fusion.conformer import Conformer
from mer.fusion.vectors import StreamFusion, others_of, renewed
from mer.tokens import Tokens


class DetailEnhanced(StreamFusion):
    """DE-III: frames ask optical flow, Conformers within each stream, cross-attention both ways between streams.

    Shi et al., Detail-Enhanced Intra- and Inter-modal Interaction for Audio-Visual Emotion Recognition (arXiv
    2405.16701), after its abstract; depths and widths are ours. Its three heads (picture, sound, fused) are the
    auxiliary heads of `unimodal_weight`. The flow stream, once it has enriched the frames, also takes part as a stream
    of its own, so that flow without frames still counts.

    Args:
        dims: token width of each modality, two at least (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        enrich: which stream (flow) enriches which (frames): `{flow: video}`; the streams named so by default, where
            both are there.
        layers: Conformer layers of each stream.
        heads: attention heads.
        kernel: of the Conformers' convolution.
        dropout: in the layers and on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    min_modalities = 2

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        enrich: dict[str, str] | None = None,
        layers: int = 1,
        heads: int = 4,
        kernel: int = 15,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, heads, dropout, clock_rate)
        if enrich is None:
            enrich = {"flow": "video"} if {"flow", "video"} <= set(dims) else {}
        for detail, frames in enrich.items():
            if detail not in dims or frames not in dims or detail == frames:
                raise UserError(
                    f"DetailEnhanced.enrich has {detail}: {frames}", f"Use two of the modalities {', '.join(dims)}"
                )
        self.enrich = dict(enrich)
        self.details = nn.ModuleDict({d: CrossAttention(dim, heads, dropout) for d in enrich})
        self.within = nn.ModuleDict(
            {m: nn.ModuleList(Conformer(dim, heads, dropout, kernel) for _ in range(layers)) for m in dims}
        )
        self.between = nn.ModuleDict({m: CrossAttention(dim, heads, dropout) for m in dims})

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        for detail, frames in self.enrich.items():
            own, flow = streams[frames], streams[detail]
            values = self.details[detail](own.values, own.mask, flow.values, flow.mask)
            streams = streams | renewed({frames: own}, {frames: values})
        values = {}
        for m, own in streams.items():
            x = own.values
            for layer in self.within[m].children():
                x = layer(x, own.mask)
            values[m] = x
        streams = renewed(streams, values)
        told = {}
        for m, own in streams.items():
            others, mask = others_of(streams, m)
            told[m] = self.between[m](own.values, own.mask, others, mask)
        return renewed(streams, told)
