"""One sequence out of the layers of a transformer: the last one, a sum of some, or a learnt weighting of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mer.errors import UserError

Layers = int | Literal["last", "last4", "weighted"]


class LayerMix(nn.Module):
    """Joins hidden states.

    Args:
        layers: `last`; `last4`, the sum of the last four (MERBench, Lian et al., 2024); `weighted`, a softmax over
            all with weights that are learnt and begin equal (SUPERB, Yang et al., Interspeech 2021); or the index of one,
            0 being what goes into the first layer.
        count: hidden states there are, the layers and their input.

    Raises:
        UserError: an unknown choice, or an index out of range.
    """

    def __init__(self, layers: Layers, count: int):
        super().__init__()
        if not (layers in ("last", "last4", "weighted") or (isinstance(layers, int) and -count <= layers < count)):
            raise UserError(f"layers {layers!r}", f"Use last, last4, weighted, or an index from 0 to {count - 1}")
        self.layers = layers
        if layers == "weighted":
            self.weights = nn.Parameter(torch.zeros(count))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """(B, T, D) each, to (B, T, D)."""
        if self.layers == "last":
            return states[-1]
        if self.layers == "last4":
            return torch.stack(tuple(states[-4:])).sum(0)
        if self.layers == "weighted":
            share = torch.softmax(self.weights, 0)
            return torch.stack([s * w for s, w in zip(states, share, strict=True)]).sum(0)
        return states[int(self.layers)]
