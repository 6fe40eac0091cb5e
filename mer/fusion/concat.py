"""Concatenation: the reference that every fancier module has to beat."""

from __future__ import annotations

from mer.fusion.vectors import StreamFusion


class Concat(StreamFusion):
    """Pool each modality over time, put the vectors side by side, mix them with one hidden layer.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors.
        heads: attention heads of the pooling over time.
        dropout: on the concatenation.
        clock_rate: ticks per second of the sequence that frame-level heads read.

    An absent modality contributes zeros. Sequence: every stream averaged onto the clock, then the same mixing.
    """
