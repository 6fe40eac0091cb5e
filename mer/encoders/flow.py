"""Optical flow clips (u, v, strain) to tokens in time: a small 3-D convolutional network and self-attention."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens, pool_time

# What counts as 1: a displacement of so many pixels in a picture of 224, and a strain. The same for all clips, since how far
# a face moves is what tells a twitch from a laugh.
DISPLACEMENT, STRAIN = 20.0, 0.5


def motion(inputs: Sampled) -> Tensor:
    """Flow fields on a fixed scale: (B, N, 3, H, W), u and v in [-1, 1] by `DISPLACEMENT`, strain in [0, 1] by `STRAIN`;
    what is larger is clipped; 0 where padded.
    """
    bound = DISPLACEMENT * inputs.values.shape[-1] / 224
    scale = torch.tensor([bound, bound, STRAIN], device=inputs.values.device).view(3, 1, 1)
    return (inputs.zeroed().float() / scale).clamp(-1, 1)


def moved(x: Tensor, strength: float) -> Tensor:
    """Training augmentation of `motion` (B, N, 3, H, W): half of the clips mirrored, u turned round with them; movement up
    to 20 % weaker or stronger.
    """
    batch = len(x)
    mirrored = (torch.rand(batch, 1, 1, 1, 1, device=x.device) < 0.5).to(x.dtype)
    turned = x.flip(-1) * torch.tensor([-1.0, 1.0, 1.0], device=x.device).view(3, 1, 1)
    more = 1 + 0.2 * strength * (2 * torch.rand(batch, 1, 1, 1, 1, device=x.device) - 1)
    return more * (mirrored * turned + (1 - mirrored) * x)


class FlowNet(Encoder):
    """3-D convolutions over flow fields, then self-attention over time.

    Padding is masked before every convolution, and batch normalisation sees real fields only, so a padded clip gives the
    tokens of the unpadded one.

    Args:
        dim: width of the tokens.
        rate: flow fields per second; None takes each frame of the file.
        size: height and width in pixels.
        channels: output channels of the 3 x 3 x 3 convolutions; each halves the picture.
        halvings: how many of the convolutions, from the first on, halve time as well.
        layers, heads: self-attention layers over the tokens and their heads.
        dropout: before the token layer and in the attention.
        augment: strength of the training augmentations (mirror, slower and faster movement; the same for a whole clip); 0
            switches them off.
        window: seconds the predictor shows at once.
        backend: what computes the flow, see `InputSpec.backend`.
        crop, face: see `InputSpec`.

    Tokens: (B, T, dim) at rate / 2**halvings Hz; 6.25 a second by default.

    Raises:
        UserError: sizes that leave nothing after the last convolution.
    """

    def __init__(
        self,
        dim: int = 128,
        rate: float | None = 12.5,
        size: int = 112,
        channels: tuple[int, ...] = (16, 32, 64, 96),
        halvings: int = 1,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        augment: float = 1.0,
        window: float | None = 4.0,
        backend: Literal["dis", "farneback", "tvl1"] = "dis",
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        if size >> len(channels) < 2 or not 0 <= halvings <= len(channels):
            raise UserError(
                f"FlowNet: {size} pixels halved {len(channels)} times, time {halvings} times",
                "Leave two pixels after the last convolution, and halve time no more often than there are convolutions",
            )
        self.spec = InputSpec(
            "flow",
            rate=rate,
            size=(size, size),
            window=window,
            backend=backend,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.dim, self.augment = dim, augment
        self.output_rate = None if rate is None else rate / 2**halvings
        self.stem = nn.ModuleList(
            _Block(inside, outside, halve_time=index < halvings)
            for index, (inside, outside) in enumerate(zip((3, *channels[:-1]), channels, strict=True))
        )
        self.flatten = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels[-1], dim), nn.LayerNorm(dim))
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))

    def forward(self, inputs: Sampled) -> Tokens:
        x, spans, mask = motion(inputs), inputs.spans, inputs.mask
        if self.training and self.augment:
            x = moved(x, self.augment)
        for block in self.stem:
            x, spans, mask = block(x, spans, mask)
        quarters = F.adaptive_avg_pool2d(x.flatten(0, 1), 2).view(*mask.shape, -1)  # coarse place is kept
        y = self.flatten(quarters) * mask[..., None]
        for layer in self.layers:
            y = layer(y, mask)
        return Tokens(y, mask, spans)


class _Block(nn.Module):
    """3 x 3 x 3 convolution that halves the picture, a shortcut within the moment, batch normalisation, ReLU, and perhaps the
    maximum of two moments.
    """

    def __init__(self, inside: int, outside: int, halve_time: bool):
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, 3, stride=(1, 2, 2), padding=1, bias=False)
        self.shortcut = nn.Conv3d(inside, outside, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.step = 2 if halve_time else 1

    def forward(self, x: Tensor, spans: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C, H, W), 0 where padded, to the same."""
        x = x.transpose(1, 2)
        halved = F.avg_pool3d(x, (1, 2, 2), ceil_mode=True, count_include_pad=False)
        y = (self.conv(x) + self.shortcut(halved)).transpose(1, 2)
        if bool(mask.any()):
            real = F.relu(self.norm(y[mask]))
            y = torch.zeros_like(y, dtype=real.dtype).index_put((mask,), real)
        else:  # nothing to see; the parameters stay in the graph, as DDP wants
            y = 0.0 * (y + self.norm.weight.sum() + self.norm.bias.sum())
        if self.step > 1:
            # Everything is >= 0 after the ReLU, so a padded 0 never wins over a real field.
            y = F.max_pool3d(y.transpose(1, 2), (self.step, 1, 1), ceil_mode=True).transpose(1, 2)
            spans, mask = pool_time(spans, mask, self.step)
        return y, spans, mask
