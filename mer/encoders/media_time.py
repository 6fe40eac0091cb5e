"""Media time as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(seconds: Tensor, dim: int, shortest: float = 0.1, longest: float = 1000.0) -> Tensor:
    """Sines and cosines of time, whose periods grow geometrically from `shortest` to `longest` seconds.

    As in Vaswani et al. (2017), but of seconds and not of indices: streams of other rates speak the same language.

    Args:
        seconds: (...) of any shape, float32.
        dim: even.

    Returns:
        (..., dim) float32.
    """
    periods = shortest * (longest / shortest) ** torch.linspace(0, 1, dim // 2, device=seconds.device)
    phase = 2 * math.pi * seconds.float()[..., None] / periods
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
