"""A causal temporal convolutional network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class TCN(nn.Module):
    """Residual blocks of two weight-normed causal convolutions with dilation 1, 2, 4 ...

    Bai, Kolter, Koltun, arXiv 1803.01271, with the leaky ReLU of BAH's baselines. Looks back only, so that padding on
    the right changes nothing.

    Args:
        dim: width of the input.
        channels: width of each block.
        kernel: of both convolutions.
        dropout: behind each.
    """

    def __init__(self, dim: int, channels: Sequence[int], kernel: int = 5, dropout: float = 0.1):
        super().__init__()
        widths = [dim, *channels]
        self.blocks = nn.ModuleList(
            _Block(a, b, kernel, 2**i, dropout) for i, (a, b) in enumerate(itertools.pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) to (B, T, channels[-1])."""
        x = x.transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, wide: int, out: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.first = weight_norm(nn.Conv1d(wide, out, kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(out, out, kernel, dilation=dilation))
        self.skip = nn.Identity() if wide == out else nn.Conv1d(wide, out, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.leaky_relu(self.first(F.pad(x, (self.past, 0)))))
        y = self.dropout(F.leaky_relu(self.second(F.pad(y, (self.past, 0)))))
        return F.leaky_relu(y + self.skip(x))
