"""Stochastic depth: in training, a residual branch is left out for some samples (Huang et al., ECCV 2016)."""

from __future__ import annotations

import torch
from torch import Tensor


def survivors(batch: int, rate: float, like: Tensor) -> Tensor:
    """(batch,) factors of a branch: 0 at the given rate, else as much above 1 as keeps the mean."""
    return (torch.rand(batch, device=like.device) >= rate).to(like.dtype) / (1 - rate)


def thinned(branch: Tensor, rate: float, training: bool) -> Tensor:
    """A branch (B, ...), left out for whole samples in training."""
    if not training or not rate:
        return branch
    return branch * survivors(len(branch), rate, branch).view(-1, *[1] * (branch.ndim - 1))
