"""The frame of most fusions: streams may exchange among each other, then one vector per modality is joined with the others'."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool
from mer.fusion.base import Fused, Fusion, presence
from mer.tokens import Tokens, align, regular_clock


class VectorFusion(Fusion):
    """Project every stream to one width, let the streams `exchange`, pool each over time by attention, and `join` the vectors.

    The sequence, for frame-level heads, is the same `join` of every stream averaged onto a clock by overlap of time. The
    vectors for auxiliary heads are pooled before the exchange: they know one modality each.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors, and of each modality's own.
        heads: attention heads of the pooling over time.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(self, dims: Mapping[str, int], dim: int = 128, heads: int = 4, clock_rate: float = 5.0):
        super().__init__(dims, dim)
        self.clock_rate = clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.pool = nn.ModuleDict({m: StatisticsPool(dim, heads) for m in dims})

    def exchange(self, streams: dict[str, Tokens]) -> dict[str, Tokens]:
        """Streams (B, T, D) that have heard of each other, on the same clocks and masks; as they are, where not overridden."""
        return streams

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, Tensor | None]:
        """Subclasses implement this.

        Args:
            vectors: (N, M, D), 0 where a modality is absent.
            here: (N, M) bool, which are there.

        Returns:
            the joined vectors (N, D), and weights (N, M) that sum to 1 over the present modalities, or None.
        """
        raise TypeError(f"{type(self).__name__} does not implement join")

    def losses(self, vectors: Tensor, here: Tensor) -> dict[str, Tensor]:
        """Auxiliary losses of the clip vectors (B, M, D), already weighted."""
        return {}

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = projected(self.project, tokens, self.modalities)
        unimodal = {m: self.pool[m](s.values, s.mask) for m, s in streams.items()}
        informed = self.exchange(streams)
        if informed is streams:
            vectors = torch.stack(list(unimodal.values()), dim=1)
        else:
            streams = informed
            vectors = torch.stack([self.pool[m](s.values, s.mask) for m, s in streams.items()], dim=1)
        here = presence(tokens, self.modalities)
        pooled, weights = self.join(vectors, here)
        return Fused(
            pooled,
            self._sequence(streams) if self.sequence_wanted else None,
            unimodal=unimodal,
            aux_losses=self.losses(vectors, here),
            modality_weights=None if weights is None else {m: weights[:, i] for i, m in enumerate(self.modalities)},
        )

    def _sequence(self, streams: Mapping[str, Tokens]) -> Tokens:
        values, there, spans, mask = ticking(streams, self.clock_rate)
        joined, _ = self.join(values.flatten(0, 1), there.flatten(0, 1))
        return Tokens(joined.unflatten(0, mask.shape) * mask[..., None].to(joined.dtype), mask, spans)


class StreamFusion(VectorFusion):
    """Joins by concatenation and one hidden layer, so that what distinguishes a subclass is its `exchange` alone.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of tokens and fused vectors.
        heads: attention heads.
        dropout: on the concatenation.
        clock_rate: ticks per second of the sequence.
    """

    def __init__(
        self, dims: Mapping[str, int], dim: int = 128, heads: int = 4, dropout: float = 0.2, clock_rate: float = 5.0
    ):
        super().__init__(dims, dim, heads, clock_rate)
        self.mix = nn.Sequential(nn.Dropout(dropout), nn.Linear(len(dims) * dim, dim), nn.GELU(), nn.LayerNorm(dim))

    def join(self, vectors: Tensor, here: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.mix(vectors.flatten(1)), None


def ticking(streams: Mapping[str, Tokens], rate: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All streams on one regular clock.

    Returns:
        values (B, K, M, D), which of them are there (B, K, M), spans (B, K, 2) and mask (B, K) of the clock.
    """
    spans, mask = regular_clock(list(streams.values()), rate)
    ticks = [align(s, spans, mask) for s in streams.values()]
    return torch.stack([t.values for t in ticks], 2), torch.stack([t.mask for t in ticks], 2), spans, mask


def renewed(streams: Mapping[str, Tokens], values: Mapping[str, Tensor]) -> dict[str, Tokens]:
    """The streams with other values (B, T, D), which are set to 0 where nothing is real."""
    return {m: Tokens(values[m] * s.mask[..., None].to(values[m].dtype), s.mask, s.spans) for m, s in streams.items()}


def others_of(streams: Mapping[str, Tokens], m: str) -> tuple[Tensor, Tensor]:
    """Values (B, S, D) and mask (B, S) of the tokens of all modalities but `m`, one after the other."""
    rest = [s for name, s in streams.items() if name != m]
    return torch.cat([s.values for s in rest], 1), torch.cat([s.mask for s in rest], 1)


def others_at(streams: Mapping[str, Tokens], m: str) -> Tokens:
    """What the other modalities have at the moments of the tokens of `m`: the mean over those that have something there."""
    own = streams[m]
    ticks = [align(s, own.spans, own.mask) for name, s in streams.items() if name != m]
    count = torch.stack([t.mask for t in ticks]).sum(0)
    values = torch.stack([t.values for t in ticks]).sum(0) / count.clamp(min=1)[..., None].to(own.values.dtype)
    return Tokens(values, count > 0, own.spans)


def projected(layers: nn.ModuleDict, tokens: Mapping[str, Tokens], modalities: list[str]) -> dict[str, Tokens]:
    """Every stream through its layer; padded places are 0 before and after."""
    found = {}
    for m in modalities:
        values: Tensor = layers[m](tokens[m].zeroed())
        found[m] = Tokens(values * tokens[m].mask[..., None].to(values.dtype), tokens[m].mask, tokens[m].spans)
    return found
