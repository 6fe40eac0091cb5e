"""A clip of any length cut into the windows that a network of fixed length sees, and its tokens put in a row again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mer.tokens import Sampled, Tokens


@dataclass(frozen=True)
class Windows:
    """The windows of a batch that hold something real.

    Attributes:
        values: (K, size, ...), the windows of all clips; a last window that is not full repeats its last element.
        counts: (K,) int64, real elements of each.
        where: (B, W) bool, which windows of which clip they are, in this order.
    """

    values: Tensor
    counts: Tensor
    where: Tensor


def cut(inputs: Sampled, size: int) -> Windows:
    """Windows of `size` elements, one after the other, from the beginning of each clip."""
    total = inputs.mask.shape[1]
    count = -(-total // size)
    start = torch.arange(count, device=inputs.mask.device) * size
    real = (inputs.lengths[:, None] - start).clamp(0, size)  # (B, W)
    where = real > 0
    row, window = where.nonzero(as_tuple=True)
    counts = real[where]
    within = torch.minimum(torch.arange(size, device=counts.device), counts[:, None] - 1)
    return Windows(inputs.values[row[:, None], start[window][:, None] + within], counts, where)


def spread(encoded: Tensor, windows: Windows, inputs: Sampled) -> Tokens:
    """Tokens of windows as tokens of clips; a token without a real element is left out.

    Args:
        encoded: (K, S, D), S tokens that divide each window evenly.
        windows: from `cut`.
        inputs: what was cut.

    Returns:
        Tokens (B, W * S, D), each with the span from its first to its last real element.
    """
    size, steps = windows.values.shape[1], encoded.shape[1]
    batch, count = windows.where.shape
    values = encoded.new_zeros((batch, count, steps, encoded.shape[2]))
    values = values.index_put((windows.where,), encoded).flatten(1, 2)
    # Token s of a window stands for its elements [s * size // steps, (s + 1) * size // steps), one at least.
    edge = torch.arange(steps + 1, device=values.device) * size // steps
    offset = torch.arange(count, device=values.device)[:, None] * size
    first = (offset + edge[:-1]).flatten()
    last = (offset + torch.maximum(edge[1:] - 1, edge[:-1])).flatten()
    mask = first < inputs.lengths[:, None]
    end = (inputs.lengths[:, None] - 1).clamp(min=0)
    start = inputs.spans[..., 0].gather(1, torch.minimum(first, end))
    stop = inputs.spans[..., 1].gather(1, torch.minimum(last, end))
    longest = max(1, int(mask.sum(1).max()))  # a row of windows may end beyond the longest clip
    return Tokens(
        (values * mask[..., None])[:, :longest], mask[:, :longest], torch.stack([start, stop], 2)[:, :longest]
    )
