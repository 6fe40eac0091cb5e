"""A Conformer layer over masked tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mer.attention import SelfAttention


class Conformer(nn.Module):
    """Half an MLP, self-attention, a gated depthwise convolution, half an MLP, layer norm.

    Gulati et al., Interspeech 2020. A layer norm stands for the batch norm in the convolution, which would see padding.

    Args:
        dim: token width.
        heads: attention heads.
        dropout: in all parts.
        kernel: of the convolution, odd.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1, kernel: int = 15):
        super().__init__()
        self.before, self.after = (_half(dim, dropout) for _ in range(2))
        self.attend = SelfAttention(dim, heads, dropout, expansion=1)
        self.norm, self.gate = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.conv_norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.dropout, self.last = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) bool to (B, T, D)."""
        real = mask[..., None].to(x.dtype)
        x = self.attend(x + 0.5 * self.before(x), mask)
        y = F.glu(self.gate(self.norm(x)), dim=-1) * real
        y = self.conv(y.transpose(1, 2)).transpose(1, 2)
        x = x + self.dropout(self.out(F.silu(self.conv_norm(y))))
        return self.last(x + 0.5 * self.after(x)) * real


def _half(dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, 2 * dim),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(2 * dim, dim),
        nn.Dropout(dropout),
    )
