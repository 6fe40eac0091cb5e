"""Gaze and pupil samples through a small transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.encoders.eye_stem import EyeSequence
from mer.encoders.media_time import sinusoids


class EyeTransformer(EyeSequence):
    """Channels and stem of `EyeSequence`, sinusoids of the seconds since the clip's begin, self-attention.

    Args:
        layers, heads: of the self-attention; with 0 layers time is not added either.
        dropout: in the attention.
        columns, rate, dim, channels, centred, bridge, clip, backend, window: see `EyeSequence`.

    Tokens: (B, T, dim) at rate / 2**len(channels) Hz; 7.5 a second by default.
    """

    def __init__(
        self,
        columns: Sequence[str] = ("gaze_x", "gaze_y", "pupil_left", "pupil_right"),
        rate: float | None = 60.0,
        dim: int = 128,
        channels: Sequence[int] = (64, 64, 64),
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        centred: Sequence[str] = (),
        bridge: float = 0.075,
        clip: float = 5.0,
        backend: str = "file",
        window: float | None = 4.0,
    ):
        super().__init__(columns, rate, dim, channels, centred, bridge, clip, backend, window)
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))

    def further(self, x: Tensor, mask: Tensor, seconds: Tensor) -> Tensor:
        if len(self.layers):
            x = x + sinusoids(seconds, self.dim).to(x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        return x
