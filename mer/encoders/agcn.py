"""The adaptive graph convolutional networks 2s-AGCN and AAGCN over skeletons, with the key names of their authors' files.

Shi, Zhang, Cheng, Lu: Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based Action Recognition, CVPR 2019;
the same: Skeleton-Based Action Recognition with Multi-Stream Adaptive Graph Convolutional Networks, IEEE TIP 29, 2020.

Inside, skeletons are (B, T, V, C), channels last, the layout that convolutions are fastest in; the graph step is one batched
product of small matrices, without a copy. Outside training, batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.skeletons import Layout

Variant = Literal["agcn", "aagcn"]
Blocks = Sequence[tuple[int, int]]  # of each unit: channels out, stride over time

PUBLISHED: Blocks = ((64, 1),) * 4 + ((128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
SUBSETS = 3  # of the graph: what a joint hears from itself, from nearer to the centre, from farther out


def adjacency(layout: Layout) -> Tensor:
    """(3, V, V) float32 `[subset, source, target]`: from itself, from the parent, from the children.

    Each column sums to 1, or to 0 where a joint hears nothing.
    """
    graph = torch.zeros(SUBSETS, layout.size, layout.size)
    graph[0] = torch.eye(layout.size)
    for child, parent in layout.edges:
        graph[1, parent, child] = 1
        graph[2, child, parent] = 1
    return graph / graph.sum(1, keepdim=True).clamp(min=1)


def mean_over_time(y: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, ...) to (B, ...), over the real frames."""
    if mask is None:
        return y.mean(1)
    real = mask.reshape(*mask.shape, *[1] * (y.ndim - 2)).to(y.dtype)
    return (y * real).sum(1) / real.sum(1).clamp(min=1)


class AGCN(nn.Module):
    """The published network.

    Args:
        layout: joints and edges.
        channels: C, coordinates of a joint.
        people: M, bodies that it sees at once.
        classes: outputs of the classifier; None builds none.
        blocks: (channels, stride over time) of each unit; None for the ten of the papers.
        variant: `agcn` of the first paper, `aagcn` of the second (a learned graph, gated by `alpha`).
        attention: of `aagcn`: over joints, time and channels.
        gain: first value of the batch normalisation behind each graph convolution. 1e-6, as published, begins with the
            shortcuts alone and wants long training; 0.3 suits small networks and few epochs.

    State dict: the keys of the authors' files. The fixed graph of `agcn` is not in it.
    """

    def __init__(
        self,
        layout: Layout,
        channels: int = 3,
        people: int = 1,
        classes: int | None = None,
        blocks: Blocks | None = None,
        variant: Variant = "agcn",
        attention: bool = True,
        gain: float = 1e-6,
    ):
        super().__init__()
        blocks = PUBLISHED if blocks is None else blocks
        self.people, self.joints, self.channels, self.depth = people, layout.size, channels, len(blocks)
        self.dim, self.stride = blocks[-1][0], math.prod(stride for _, stride in blocks)
        self.data_bn = nn.BatchNorm1d(people * layout.size * channels)
        graph = adjacency(layout)
        inside = channels
        for index, (outside, stride) in enumerate(blocks):
            convolution: _Convolution = (
                _Fixed(inside, outside, graph, gain)
                if variant == "agcn"
                else _Learned(inside, outside, graph, gain, attention)
            )
            self.add_module(f"l{index + 1}", _Unit(inside, outside, stride, convolution, shortcut=index > 0))
            inside = outside
        if classes is not None:
            self.fc = nn.Linear(self.dim, classes)
            nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / classes))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (N, classes) of skeletons (N, C, T, V, M), or without a classifier what it would read, (N, D)."""
        maps, real = self.maps(x, mask)
        pooled = mean_over_time(maps.mean((1, 3)), real)  # people and joints, then time
        return self.fc(pooled) if hasattr(self, "fc") else pooled

    def maps(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the last unit gives.

        Args:
            x: (N, C, T, V, M), finite everywhere.
            mask: (N, T) bool, True = a real frame; padding on the right only. None where all are.

        Returns:
            (N, M, T', V, D), T' = T over the strides, rounded up at each; and its mask (N, T').
        """
        count, _, frames, joints, people = x.shape
        y = self._standardised(x.permute(0, 2, 4, 3, 1).reshape(count, frames, -1), mask)
        y = y.view(count, frames, people, joints, -1).transpose(1, 2).flatten(0, 1)
        real = None if mask is None else mask.repeat_interleave(people, 0)
        for index in range(self.depth):
            y, real = self.get_submodule(f"l{index + 1}")(y, real)
        return y.unflatten(0, (count, people)), None if real is None else real[::people]

    def _standardised(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Batch normalisation of the coordinates (N, T, M V C), each with statistics of its own."""
        norm = self.data_bn
        x = x.to(norm.weight.dtype)
        real = x.flatten(0, 1) if mask is None else x[mask]
        if norm.training and len(real) < 2:  # one frame says nothing about a spread
            real = F.batch_norm(real, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            real = norm(real)
        return real.view_as(x) if mask is None else torch.zeros_like(x).index_put((mask,), real)


class _Unit(nn.Module):
    """Graph convolution, convolution over time, shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, convolution: _Convolution, shortcut: bool):
        super().__init__()
        self.stride = stride
        self.gcn1 = convolution
        self.tcn1 = _Temporal(outside, outside, 9, stride)
        self.shortcut = shortcut
        if shortcut and (inside != outside or stride != 1):
            self.residual = _Temporal(inside, outside, 1, stride)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T, V, C) and (B, T) to (B, T', V, D) and (B, T')."""
        later = None if mask is None else mask[:, :: self.stride]
        y = self.tcn1(self.gcn1(x, mask), later)
        if self.shortcut:
            y = y.add_(self.residual(x, later) if hasattr(self, "residual") else x)
        return y.relu_(), later


class _Temporal(nn.Module):
    """Convolution over time and batch normalisation."""

    def __init__(self, inside: int, outside: int, size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, (size, 1), (stride, 1), (size // 2, 0))
        self.bn = nn.BatchNorm2d(outside)
        _kaiming(self.conv)

    def forward(self, x: Tensor, later: Tensor | None) -> Tensor:
        """(B, T, V, C) to (B, T', V, D); `later` (B, T') says which of these are real."""
        weight, bias = _folded(*_parts(self.conv), self.bn)
        return _trained(self.bn, _convolved(x, weight, bias, self.conv.stride[0]), later)


class _Convolution(nn.Module):
    """Adaptive graph convolution: the sum over subsets k of conv_d_k(x G_k), where the graphs G follow from x."""

    def __init__(self, inside: int, outside: int, gain: float):
        super().__init__()
        self.inter = outside // 4
        self.conv_a = nn.ModuleList(nn.Conv2d(inside, self.inter, 1) for _ in range(SUBSETS))
        self.conv_b = nn.ModuleList(nn.Conv2d(inside, self.inter, 1) for _ in range(SUBSETS))
        self.conv_d = nn.ModuleList(nn.Conv2d(inside, outside, 1) for _ in range(SUBSETS))
        self.bn = nn.BatchNorm2d(outside)
        nn.init.constant_(self.bn.weight, gain)
        if inside != outside:
            self.down = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))
            _kaiming(self.down[0])
        for conv in (*self.conv_a, *self.conv_b):
            _kaiming(conv)
        for conv in self.conv_d:
            weight, bias = _parts(conv)
            nn.init.normal_(weight, 0, math.sqrt(2 / (outside * inside * SUBSETS)))
            nn.init.zeros_(bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, V, C) and (B, T) to (B, T, V, D), 0 at padded frames."""
        batch, frames, joints, _ = x.shape
        graphs = self.graphs(self._likeness(x, mask)).to(x.dtype)
        weights, biases = zip(*map(_parts, self.conv_d), strict=True)
        weight, bias = _folded(torch.cat(weights), torch.stack(biases).sum(0), self.bn)
        # Each joint sends a message per subset; what reaches a joint is one product of (V, 3 V) and (3 V, D).
        sent = _convolved(x, weight).reshape(batch, frames, SUBSETS * joints, -1)
        y = (graphs.permute(0, 3, 2, 1).reshape(batch, 1, joints, -1) @ sent).add_(bias.to(sent.dtype))
        y = _trained(self.bn, y, mask).add_(self._shortcut(x, mask)).relu_()
        return self.attend(y if mask is None else y * mask[:, :, None, None], mask)

    def graphs(self, likeness: Tensor) -> Tensor:
        """The graphs (B, 3, V, V) `[subset, source, target]`, from how alike the joints are. Subclasses implement this."""
        raise NotImplementedError

    def attend(self, y: Tensor, mask: Tensor | None) -> Tensor:
        """Weigh joints, frames and channels; not at all by default."""
        return y

    def _likeness(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, 3, V, V): mean over frames and channels of a_k[source] * b_k[target]; at least float32."""
        batch, frames, joints, _ = x.shape
        weights, biases = zip(*map(_parts, (*self.conv_a, *self.conv_b)), strict=True)
        pairs = _convolved(x, torch.cat(weights), torch.cat(biases)).reshape(
            batch, frames, joints, 2, SUBSETS, self.inter
        )
        if mask is not None:
            pairs = pairs * mask[:, :, None, None, None, None]
        a, b = pairs.permute(3, 0, 4, 2, 1, 5).reshape(2, batch * SUBSETS, joints, -1)
        summed = torch.bmm(a, b.transpose(1, 2)).unflatten(0, (batch, SUBSETS))
        summed = summed.to(torch.promote_types(summed.dtype, torch.float32))
        count = frames if mask is None else mask.sum(1).clamp(min=1)[:, None, None, None]
        return summed / (self.inter * count)

    def _shortcut(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if not hasattr(self, "down"):
            return x
        conv, norm = self.down
        assert isinstance(norm, nn.BatchNorm2d)
        weight, bias = _folded(*_parts(conv), norm)
        return _trained(norm, _convolved(x, weight, bias), mask)


class _Fixed(_Convolution):
    """Of 2s-AGCN: the skeleton's graph as it is, plus a learned one, plus softmax of the likeness over sources."""

    A: Tensor

    def __init__(self, inside: int, outside: int, graph: Tensor, gain: float):
        super().__init__(inside, outside, gain)
        self.PA = nn.Parameter(torch.full_like(graph, 1e-6))
        self.register_buffer("A", graph.clone(), persistent=False)

    def graphs(self, likeness: Tensor) -> Tensor:
        return self.A + self.PA + likeness.softmax(2)


class _Learned(_Convolution):
    """Of AAGCN: a learned graph that begins as the skeleton's, plus alpha times tanh of the likeness; then attention.

    Each attention is y + y * sigmoid(...): over joints from the mean over time, then over frames from the mean over joints,
    then over channels from the mean over both.
    """

    def __init__(self, inside: int, outside: int, graph: Tensor, gain: float, attention: bool):
        super().__init__(inside, outside, gain)
        self.PA = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.attention = attention
        if attention:
            joints = graph.shape[1]
            size = joints - 1 + joints % 2  # the largest odd number of joints
            self.conv_sa = nn.Conv1d(outside, 1, size, padding=size // 2)
            self.conv_ta = nn.Conv1d(outside, 1, 9, padding=4)
            self.fc1c = nn.Linear(outside, outside // 2)
            self.fc2c = nn.Linear(outside // 2, outside)
            nn.init.xavier_normal_(self.conv_sa.weight)
            nn.init.kaiming_normal_(self.fc1c.weight)
            for parameter in (
                self.conv_ta.weight,
                self.fc2c.weight,
                self.conv_sa.bias,
                self.conv_ta.bias,
                self.fc2c.bias,
            ):
                assert parameter is not None
                nn.init.zeros_(parameter)

    def graphs(self, likeness: Tensor) -> Tensor:
        return self.PA + self.alpha * likeness.tanh()

    def attend(self, y: Tensor, mask: Tensor | None) -> Tensor:
        if not self.attention:
            return y
        joints = self.conv_sa(mean_over_time(y, mask).transpose(1, 2)).sigmoid()  # (B, 1, V)
        y = y + y * joints[:, 0, None, :, None]
        frames = self.conv_ta(y.mean(2).transpose(1, 2)).sigmoid()  # (B, 1, T)
        y = y + y * frames[:, 0, :, None, None]
        pooled = mean_over_time(y.mean(2), mask)  # (B, D)
        return y + y * self.fc2c(F.relu(self.fc1c(pooled))).sigmoid()[:, None, None]


# -- Parts -------------------------------------------------------------------------------------------------------------


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """(B, T, V, C) to (B, T', V, D): a convolution over time (D, C, size, 1), with half its size of zeros at both ends."""
    if weight.shape[2] == 1 and stride > 1:
        # The same numbers; in bfloat16, torch 2.13 on a CPU writes past its memory in the backward pass of the other form.
        x, stride = x[:, ::stride].contiguous(), 1
    # Of size 1, too: the same as a matrix product, and on processors that MKL does not know twice as fast.
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, (stride, 1), (weight.shape[2] // 2, 0))
    return y.permute(0, 2, 3, 1)


def _folded(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A convolution, one or several side by side whose sum is normalised, with the normalisation in it; not in training."""
    if norm.training:
        return weight, bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (
        weight * scale.repeat(len(weight) // len(scale))[:, None, None, None],
        (bias - norm.running_mean) * scale + norm.bias,
    )


def _trained(norm: nn.BatchNorm2d, y: Tensor, mask: Tensor | None) -> Tensor:
    """Batch normalisation where `_folded` left it out, over the real frames of (B, T, V, C) alone."""
    if not norm.training:
        return y
    if mask is None:
        return norm(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    # One "picture" per joint and frame: a batch of one, permuted, gets wrong gradients from torch 2.13 on CPUs.
    real = norm(y[mask].flatten(0, 1)[..., None, None]).view(-1, *y.shape[2:])
    return torch.zeros_like(y, dtype=real.dtype).index_put((mask,), real)


def _parts(conv: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    return conv.weight, conv.bias


def _kaiming(conv: nn.Module) -> None:
    weight, bias = _parts(conv)
    nn.init.kaiming_normal_(weight, mode="fan_out")
    nn.init.zeros_(bias)
