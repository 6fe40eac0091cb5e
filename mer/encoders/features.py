"""Cached vectors or sequences of any width: action units, openSMILE functionals, embeddings of a frozen network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from mer.attention import SelfAttention
from mer.encoders.base import Encoder, column_ranges, column_statistics
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens


class FeatureEncoder(Encoder):
    """Scale columns with training statistics, then an MLP per row and, for sequences, self-attention over rows.

    Args:
        width: columns of the cached feature.
        rate: rows per second of a sequence; None for one vector per clip (or rows that divide the clip evenly).
        dim: width of the tokens.
        hidden: width of the MLP's hidden layer.
        layers: self-attention layers over the rows; 0 for single vectors.
        dropout: on the hidden layer.
        noise: standard deviation of the Gaussian noise added to scaled inputs in training.
        clip: scaled values are limited to ±clip, so that one broken column cannot drown the others.
        scale: `deviation` (mean 0, standard deviation 1 over the training rows) or `range` (0 to 1 over them; for what
            has natural ends, such as another network's scores).

    Tokens: one per row, (B, T, dim), with the row's span.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        width: int,
        rate: float | None = None,
        dim: int = 128,
        hidden: int = 256,
        layers: int = 0,
        heads: int = 4,
        dropout: float = 0.2,
        noise: float = 0.0,
        clip: float = 5.0,
        scale: Literal["deviation", "range"] = "deviation",
    ):
        super().__init__()
        if scale not in ("deviation", "range"):
            raise UserError(f"FeatureEncoder.scale is {scale!r}", "Use deviation or range")
        if width < 1 or dim < 1 or hidden < 1 or (rate is not None and rate <= 0):
            raise UserError(
                f"FeatureEncoder with width {width}, dim {dim}, hidden {hidden}, rate {rate}", "Use positive sizes"
            )
        self.spec = InputSpec("features", rate=rate, width=width)
        self.dim, self.output_rate, self.noise, self.clip = dim, rate, noise, clip
        self.statistics = column_ranges if scale == "range" else column_statistics
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.LayerNorm(dim)
        )
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        mean, std = self.statistics(batch.values[batch.mask] for batch in batches)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        x = ((inputs.zeroed() - self.mean) / self.std).clamp(-self.clip, self.clip)
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        x = self.mlp(x) * inputs.mask[..., None]
        for layer in self.layers:
            x = layer(x, inputs.mask)
        return Tokens(x, inputs.mask, inputs.spans)
