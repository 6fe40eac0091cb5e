"""Optical flow by a network, RAFT (Teed and Deng, ECCV 2020), and the encoder that looks at its fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders import weights
from mer.encoders.flow import FlowNet
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

PAIRS = 32  # that are matched at once; each takes about 10 MB at 224 pixels


class RAFTFlow(FlowNet):
    """Frames in; RAFT finds the flow between neighbours, which goes on through a `FlowNet`.

    For graphics processors: on a CPU core a field takes a hundred times as long as with the method `dis` of the input kind
    `flow`. RAFT is not trained along, wants published weights (`raft_small_C_T_V2` and the like, as torchvision has them),
    and computes in float32 whatever the precision of the rest.

    Args:
        model: `small` or `large`.
        updates: how often the flow is refined.
        frame: height and width of the frames in pixels, divisible by 8, at least 128.
        size: height and width of the fields that the `FlowNet` gets, averaged over area.
        rate: frames per second taken from the video; None takes each frame of the file.
        crop: whole frames or their centre. (A crop that follows the face would take its own movement for the face's.)
        levels, narrow: levels of the correlation pyramid, and what all widths are divided by; published are 4 and 1.
        dim, channels, halvings, layers, heads, dropout, augment, window: see `FlowNet`.

    Tokens: (B, T, dim) at rate / 2**halvings Hz. A field stands for the time of its first frame, the last one also for the
    frame after it, of which nothing more is known; a frame alone is a field without movement.
    """

    network: RAFT

    def __init__(
        self,
        model: Literal["small", "large"] = "small",
        updates: int = 12,
        frame: int = 224,
        size: int = 112,
        dim: int = 128,
        rate: float | None = 12.5,
        channels: tuple[int, ...] = (16, 32, 64, 96),
        halvings: int = 1,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        augment: float = 1.0,
        window: float | None = 4.0,
        crop: Literal["center", "none"] = "center",
        levels: int = 4,
        narrow: int = 1,
    ):
        super().__init__(dim, rate, size, channels, halvings, layers, heads, dropout, augment)
        if min(levels, narrow) < 1:
            raise UserError(f"RAFTFlow: {levels} levels, widths divided by {narrow}", "Use at least 1 of both")
        if model not in ("small", "large") or updates < 1 or frame % 8 or frame < 16 << (levels - 1) or size > frame:
            raise UserError(
                f"RAFTFlow: model {model!r}, {updates} updates, frames of {frame} pixels, fields of {size}",
                f"Use small or large, frames divisible by 8 from {16 << (levels - 1)} pixels on, and fields no larger",
            )
        half = (0.5, 0.5, 0.5)
        self.spec = InputSpec("video", rate=rate, size=(frame, frame), mean=half, std=half, crop=crop, window=window)
        self.size = size
        self.network = RAFT(model == "large", updates, levels, narrow).requires_grad_(False)

    def tables(self) -> Sequence[weights.KeyTable]:
        return (weights.KeyTable("torchvision"),)

    def forward(self, inputs: Sampled) -> Tokens:
        return super().forward(self.fields(inputs))

    @torch.no_grad()
    def fields(self, inputs: Sampled) -> Sampled:
        """Frames (B, N, 3, H, W) to u, v, strain (B, max(N - 1, 1), 3, size, size), as the input kind `flow` has them."""
        self.network.eval()  # whatever mode the rest is in
        mask, spans = inputs.mask, inputs.spans
        last = (inputs.lengths - 2).clamp(min=0)[:, None]  # field of each clip
        count = max(1, mask.shape[1] - 1)
        place = torch.arange(count, device=mask.device)
        ends = torch.where(
            place == last, spans[..., 1].gather(1, (inputs.lengths - 1).clamp(min=0)[:, None]), spans[:, :count, 1]
        )
        values = torch.zeros(len(inputs), count, 3, self.size, self.size, device=spans.device)
        with torch.autocast(spans.device.type, enabled=False):
            frames = self.pixels(inputs)[mask]
            clip = mask.nonzero()[:, 0]
            first = (clip[1:] == clip[:-1]).nonzero()[:, 0]  # frames that another one of their clip follows
            if len(first):
                values[mask[:, 1:]] = self._between_neighbours(frames, first)
        return Sampled(
            values, (place <= last) & inputs.present[:, None], torch.stack([spans[:, :count, 0], ends], dim=2)
        )

    def _between_neighbours(self, frames: Tensor, first: Tensor) -> Tensor:
        """(pairs, 3, size, size) from frames (n, 3, H, W) and the places of the pairs' first ones."""
        features = torch.cat([self.network.feature_encoder(some) for some in frames.split(PAIRS)])
        fields = []
        for some in first.split(PAIRS):
            field = self.network.match(features[some], features[some + 1], frames[some])
            fields.append(F.adaptive_avg_pool2d(field, self.size) * (self.size / frames.shape[-1]))
        joined = torch.cat(fields)
        return torch.cat([joined, strain(joined)[:, None]], dim=1)


def strain(field: Tensor) -> Tensor:
    """(n, 2, H, W) to (n, H, W); as `mer.media.flow.strain`."""
    (u_down, u_right), (v_down, v_right) = (torch.gradient(part, dim=(1, 2)) for part in field.unbind(1))
    return (u_right**2 + v_down**2 + 0.5 * (u_down + v_right) ** 2).sqrt()


class RAFT(nn.Module):
    """Recurrent all-pairs field transforms, for inference; the state dict has torchvision's keys.

    Args:
        large: the large of torchvision's two models, with batch normalisation in one encoder, larger windows, learnt
            upsampling.
        updates: how often the flow is refined.
        levels: of the correlation pyramid.
        narrow: what all widths are divided by.
    """

    def __init__(self, large: bool = False, updates: int = 12, levels: int = 4, narrow: int = 1):
        super().__init__()
        self.updates, self.levels, self.radius = updates, levels, 4 if large else 3
        widths = [width // narrow for width in ((64, 64, 96, 128) if large else (32, 32, 64, 96))]
        self.hidden, context, features = (width // narrow for width in ((128, 128, 256) if large else (96, 64, 128)))
        block = _Residual if large else _Bottleneck
        self.feature_encoder = _Encoder(block, widths, features, nn.InstanceNorm2d)
        self.context_encoder = _Encoder(block, widths, self.hidden + context, nn.BatchNorm2d if large else None)
        seen = self.levels * (2 * self.radius + 1) ** 2
        self.update_block = _Update(seen, self.hidden, context, large, narrow)
        self.mask_predictor = _Weights(self.hidden, 256 // narrow) if large else None

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (n, 2, H, W) in pixels, u to the right and v down, from the first to the second of two pictures
        (n, 3, H, W) in [-1, 1].
        """
        return self.match(self.feature_encoder(first), self.feature_encoder(second), first)

    def match(self, there: Tensor, here: Tensor, first: Tensor) -> Tensor:
        """The same from the features of both pictures, and the first picture."""
        hidden, context = self.context_encoder(first).tensor_split([self.hidden], dim=1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        pyramid = _correlations(there, here, self.levels)
        size, device = there.shape[2:], there.device
        down, right = torch.meshgrid(*(torch.arange(n, device=device, dtype=there.dtype) for n in size), indexing="ij")
        start = torch.stack([right, down])[None]
        flow = torch.zeros_like(start).repeat(len(first), 1, 1, 1)
        for _ in range(self.updates):
            seen = _around(pyramid, start + flow, self.radius)
            hidden, change = self.update_block(hidden, context, seen, flow)
            flow = flow + change
        if self.mask_predictor is None:
            return 8 * F.interpolate(flow, scale_factor=8, mode="bilinear", align_corners=True)
        return _upsampled(8 * flow, self.mask_predictor(hidden))


def _correlations(there: Tensor, here: Tensor, levels: int) -> list[Tensor]:
    """(n * H * W, 1, H, W) likeness of each place of one map to each of the other, and the same pooled."""
    width, *size = there.shape[1:]
    likeness = there.flatten(2).transpose(1, 2) @ here.flatten(2) / width**0.5
    pyramid = [likeness.reshape(-1, 1, *size)]
    for _ in range(levels - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid


def _around(pyramid: Sequence[Tensor], places: Tensor, radius: int) -> Tensor:
    """The correlations in a window around the places (n, 2, H, W): (n, levels * (2 * radius + 1)^2, H, W)."""
    count, _, height, width = places.shape
    reach = torch.arange(-radius, radius + 1, device=places.device, dtype=places.dtype)
    # Of the two axes of the window, the first goes to the right; so were the published weights trained.
    window = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
    centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = []
    for level, likeness in enumerate(pyramid):
        last = torch.tensor([likeness.shape[3] - 1, likeness.shape[2] - 1], device=places.device, dtype=places.dtype)
        grid = (centres / 2**level + window) * (2 / last) - 1
        found.append(F.grid_sample(likeness, grid, align_corners=True).view(count, height, width, -1))
    return torch.cat(found, dim=3).permute(0, 3, 1, 2)


def _upsampled(flow: Tensor, mask: Tensor) -> Tensor:
    """Eight times the size (n, 2, 8 H, 8 W): each pixel a weighted mean of the nine places around it."""
    count, _, height, width = flow.shape
    share = mask.view(count, 1, 9, 8, 8, height, width).softmax(2)
    near = F.unfold(flow, 3, padding=1).view(count, 2, 9, 1, 1, height, width)
    return (share * near).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(count, 2, 8 * height, 8 * width)


def _conv(
    inside: int,
    outside: int,
    kernel: int,
    stride: int = 1,
    norm: type[nn.Module] | None = None,
    relu: bool = True,
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inside, outside, kernel, stride, kernel // 2)]
    if norm is not None:
        layers.append(norm(outside))
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, norm: type[nn.Module] | None, stride: int):
        super().__init__()
        self.convnormrelu1 = _conv(inside, outside, 3, stride, norm)
        self.convnormrelu2 = _conv(outside, outside, 3, 1, norm)
        self.downsample = nn.Identity() if stride == 1 else _conv(inside, outside, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.downsample(x) + self.convnormrelu2(self.convnormrelu1(x)))


class _Bottleneck(nn.Module):
    def __init__(self, inside: int, outside: int, norm: type[nn.Module] | None, stride: int):
        super().__init__()
        between = outside // 4
        self.convnormrelu1 = _conv(inside, between, 1, 1, norm)
        self.convnormrelu2 = _conv(between, between, 3, stride, norm)
        self.convnormrelu3 = _conv(between, outside, 1, 1, norm)
        self.downsample = nn.Identity() if stride == 1 else _conv(inside, outside, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.downsample(x) + self.convnormrelu3(self.convnormrelu2(self.convnormrelu1(x))))


class _Encoder(nn.Module):
    """(n, 3, H, W) to (n, outside, H / 8, W / 8)."""

    def __init__(self, block: Any, widths: Sequence[int], outside: int, norm: type[nn.Module] | None):
        super().__init__()
        first, *widths = widths
        self.convnormrelu = _conv(3, first, 7, 2, norm)
        layers = [
            nn.Sequential(block(inside, width, norm, stride), block(width, width, norm, 1))
            for inside, width, stride in zip((first, *widths), widths, (1, 2, 2), strict=False)
        ]
        self.layer1, self.layer2, self.layer3 = layers
        self.conv = nn.Conv2d(widths[-1], outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class _Update(nn.Module):
    """One refinement: what is seen where the flow points to now, through a gated recurrent unit, to a change of the flow."""

    def __init__(self, seen: int, hidden: int, context: int, large: bool, narrow: int):
        super().__init__()
        self.motion_encoder = _Motion(seen, large, narrow)
        self.recurrent_block = nn.ModuleDict()
        for index, kernel in enumerate(((1, 5), (5, 1)) if large else ((3, 3),)):
            unit = _Unit(hidden, context + self.motion_encoder.outside, kernel)
            self.recurrent_block[f"convgru{index + 1}"] = unit
        between = (256 if large else 128) // narrow
        self.flow_head = nn.ModuleDict(
            {"conv1": nn.Conv2d(hidden, between, 3, padding=1), "conv2": nn.Conv2d(between, 2, 3, padding=1)}
        )

    def forward(self, hidden: Tensor, context: Tensor, seen: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([context, self.motion_encoder(seen, flow)], dim=1)
        for unit in self.recurrent_block.values():
            hidden = unit(hidden, x)
        return hidden, self.flow_head["conv2"](F.relu(self.flow_head["conv1"](hidden)))


class _Motion(nn.Module):
    def __init__(self, seen: int, large: bool, narrow: int):
        super().__init__()
        correlation = [width // narrow for width in ((256, 192) if large else (96,))]
        flow = [width // narrow for width in ((128, 64) if large else (64, 32))]
        own = (126 if large else 80) // narrow
        self.convcorr1 = _conv(seen, correlation[0], 1)
        self.convcorr2 = _conv(correlation[0], correlation[1], 3) if large else nn.Identity()
        self.convflow1, self.convflow2 = _conv(2, flow[0], 7), _conv(flow[0], flow[1], 3)
        self.conv = _conv(correlation[-1] + flow[-1], own, 3)
        self.outside = own + 2

    def forward(self, seen: Tensor, flow: Tensor) -> Tensor:
        both = [self.convcorr2(self.convcorr1(seen)), self.convflow2(self.convflow1(flow))]
        return torch.cat([self.conv(torch.cat(both, dim=1)), flow], dim=1)


class _Unit(nn.Module):
    """Convolutional gated recurrent unit."""

    def __init__(self, hidden: int, outside: int, kernel: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convz, self.convr, self.convq = (
            nn.Conv2d(hidden + outside, hidden, kernel, padding=padding) for _ in range(3)
        )

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([hidden, x], dim=1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        fresh = torch.tanh(self.convq(torch.cat([reset * hidden, x], dim=1)))
        return (1 - update) * hidden + update * fresh


class _Weights(nn.Module):
    """Of each of 8 x 8 pixels in a place, scores of the nine places around."""

    def __init__(self, hidden: int, between: int):
        super().__init__()
        self.convrelu = _conv(hidden, between, 3)
        self.conv = nn.Conv2d(between, 8 * 8 * 9, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return 0.25 * self.conv(self.convrelu(hidden))
