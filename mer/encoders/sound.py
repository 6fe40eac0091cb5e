"""From samples to tokens: what encoders of sound share. Spans by sample, windows of a long clip, fewer tokens a second."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mer.tokens import Sampled, Tokens, pool_time

RATE = 16000.0  # samples per second that published speech networks were trained on


def longest(inputs: Sampled, least: int) -> Tensor:
    """(B, N) waveforms without the padding that all clips share, 0 where padded; N is at least `least`."""
    size = max(int(inputs.lengths.max()), 1)
    return F.pad(inputs.zeroed()[:, :size].float(), (0, max(0, least - size)))


def tiled(inputs: Sampled, begins: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Spans and mask of tokens that follow each other without gaps.

    Args:
        inputs: the waveforms.
        begins: (T,) int64, number of the sample that each token begins with, rising from 0. It ends where the next one
            begins, the last one of a clip with the clip.
        counts: (B,) int64 tokens of each clip, 0 for an absent one.

    Returns:
        spans (B, T, 2) seconds, 0 at padded tokens, and mask (B, T).
    """
    index = torch.arange(len(begins), device=begins.device)
    mask = index < counts[:, None]
    final = (inputs.lengths - 1).clamp(min=0)[:, None]
    ends = torch.cat([begins[1:], begins.new_full((1,), inputs.mask.shape[1])]) - 1
    last = torch.where(index == counts[:, None] - 1, final, torch.minimum(ends, final))
    first = torch.minimum(begins, final)
    spans = torch.stack([inputs.spans[..., 0].gather(1, first), inputs.spans[..., 1].gather(1, last)], dim=2)
    return spans * mask[..., None], mask


def windows(rows: Tensor, counts: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut clips into consecutive windows.

    Args:
        rows: (B, N, ...) samples or frames, 0 behind each clip.
        counts: (B,) real ones of each.
        size: of a window.

    Returns:
        pieces (P, size, ...), the windows with something real in them, clip after clip, filled up with zeros; and where
        they belong (B, W) bool.
    """
    much = -(-rows.shape[1] // size)
    padded = F.pad(rows, (0, 0) * (rows.ndim - 2) + (0, much * size - rows.shape[1]))
    where = torch.arange(much, device=rows.device) * size < counts[:, None]
    return padded.unflatten(1, (much, size))[where], where


def joined(pieces: Tensor, where: Tensor) -> Tensor:
    """Tokens (P, J, D) of windows, put behind each other per clip: (B, W * J, D), 0 where there is no window."""
    values = pieces.new_zeros((*where.shape, *pieces.shape[1:]))
    return values.index_put((where,), pieces).flatten(1, 2)


def pooled(tokens: Tokens, stride: int) -> Tokens:
    """Mean of every `stride` tokens; a last, smaller group is divided by the number of tokens that it has."""
    if stride == 1:
        return tokens
    spans, mask = pool_time(tokens.spans, tokens.mask, stride)
    values = F.pad(tokens.zeroed(), (0, 0, 0, -tokens.mask.shape[1] % stride)).unflatten(1, (-1, stride)).sum(2)
    real = F.pad(tokens.mask, (0, -tokens.mask.shape[1] % stride)).unflatten(1, (-1, stride)).sum(2)
    return Tokens(values / real.clamp(min=1)[..., None].to(values.dtype), mask, spans * mask[..., None])
