"""Gaze and pupil samples through a temporal convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders.eye_stem import EyeSequence
from mer.errors import UserError


class EyeTCN(EyeSequence):
    """Channels and stem of `EyeSequence`, then residual blocks of dilated convolutions (Bai, Kolter, Koltun, 2018).

    Blocks look both ways, with dilations 1, 2, 4, ...; padding is set to 0 before each convolution, which is what lies
    beyond the end of a clip alone.

    Args:
        blocks: residual blocks; each has one convolution of width `kernel`.
        kernel: odd.
        dropout: in the blocks.
        columns, rate, dim, channels, centred, bridge, clip, backend, window: see `EyeSequence`.

    Tokens: (B, T, dim) at rate / 2**len(channels) Hz; 7.5 a second by default.
    """

    def __init__(
        self,
        columns: Sequence[str] = ("gaze_x", "gaze_y", "pupil_left", "pupil_right"),
        rate: float | None = 60.0,
        dim: int = 128,
        channels: Sequence[int] = (64, 64, 64),
        blocks: int = 4,
        kernel: int = 5,
        dropout: float = 0.1,
        centred: Sequence[str] = (),
        bridge: float = 0.075,
        clip: float = 5.0,
        backend: str = "file",
        window: float | None = 4.0,
    ):
        super().__init__(columns, rate, dim, channels, centred, bridge, clip, backend, window)
        if kernel < 1 or kernel % 2 == 0 or blocks < 0:
            raise UserError(f"EyeTCN: {blocks} blocks of kernel {kernel}", "Use an odd kernel and 0 blocks or more")
        self.blocks = nn.ModuleList(_Block(dim, kernel, 2**k, dropout) for k in range(blocks))

    def further(self, x: Tensor, mask: Tensor, seconds: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class _Block(nn.Module):
    def __init__(self, dim: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.mix = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm(x) * mask[..., None]
        y = self.conv(y.transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.mix(F.gelu(y)))
