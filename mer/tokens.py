"""What travels through the toolkit: `Sampled` is media prepared as an `InputSpec` says, `Tokens` are encoded.

Time is media time in seconds, kept as float32 `spans` (start, end) whatever the dtype of the values. Padding is on the
right only and is False in the mask; a modality that a sample lacks has an all-False mask. Nothing downstream looks at a
padded value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from mer.spec import InputSpec

_Stream = TypeVar("_Stream", bound="_TimedBatch")

_DENSE = 1 << 18  # ticks times tokens of a clip, up to which a table of overlaps is the faster way


@dataclass
class _TimedBatch:
    values: Tensor
    mask: Tensor
    spans: Tensor

    def __post_init__(self) -> None:
        name = type(self).__name__
        shape = tuple(self.mask.shape)
        if self.mask.dtype != torch.bool or len(shape) != 2:
            raise ValueError(f"{name}.mask must be bool (B, T), got {self.mask.dtype} {shape}")
        if tuple(self.values.shape[:2]) != shape:
            raise ValueError(f"{name}.values {tuple(self.values.shape)} do not start with the mask's shape {shape}")
        if tuple(self.spans.shape) != (*shape, 2):
            raise ValueError(f"{name}.spans must be {(*shape, 2)}, got {tuple(self.spans.shape)}")
        if shape[1] < 1:
            raise ValueError(f"{name} needs at least one element along time; an absent modality is one masked element")
        if self.spans.dtype != torch.float32:
            self.spans = self.spans.float()

    def __len__(self) -> int:
        return int(self.mask.shape[0])

    @property
    def present(self) -> Tensor:
        """(B,) bool: the sample has at least one real element."""
        return self.mask.any(dim=1)

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: real elements per sample."""
        return self.mask.sum(dim=1)

    def to(self: _Stream, *args: Any, **kwargs: Any) -> _Stream:
        """Move and cast like `Tensor.to`; the cast reaches the values only, spans stay float32."""
        values = self.values.to(*args, **kwargs)
        device = values.device
        return replace(self, values=values, mask=self.mask.to(device), spans=self.spans.to(device))

    def pin_memory(self: _Stream) -> _Stream:
        """Page-locked copy, for a DataLoader with `pin_memory=True`."""
        return replace(
            self, values=self.values.pin_memory(), mask=self.mask.pin_memory(), spans=self.spans.pin_memory()
        )

    def keep(self: _Stream, rows: Tensor) -> _Stream:
        """Make the modality absent for the samples where `rows` (B,) is False."""
        return replace(self, mask=self.mask & rows[:, None])

    def zeroed(self) -> Tensor:
        """The values with 0 at every padded position, so that nothing stored there (NaN included) can leak."""
        mask = self.mask.reshape(*self.mask.shape, *[1] * (self.values.ndim - 2))
        return torch.where(mask, self.values, torch.zeros((), dtype=self.values.dtype, device=self.values.device))


class Sampled(_TimedBatch):
    """What every encoder takes: `values` (B, N, ...), `mask` (B, N) bool, `spans` (B, N, 2) float32 seconds.

    A waveform is (B, N) float in [-1, 1]; frames are (B, N, 3, H, W) uint8 RGB (cheap to move; the encoder normalises
    with its spec's mean and std); feature rows are (B, N, width) float.
    """


class Tokens(_TimedBatch):
    """What every encoder returns and every fusion takes: `values` (B, T, D), `mask` (B, T), `spans` (B, T, 2) seconds.

    Example: 3 s of video at 10 tokens a second for a batch of 8 is values (8, 30, 256), spans 0.0-0.1, 0.1-0.2, ...
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values.ndim != 3:
            raise ValueError(f"Tokens.values must be (B, T, D), got {tuple(self.values.shape)}")

    @property
    def dim(self) -> int:
        return int(self.values.shape[2])

    @property
    def times(self) -> Tensor:
        """(B, T) seconds: the midpoint of each span."""
        return self.spans.mean(dim=2)

    def mean(self) -> Tensor:
        """(B, D): mean over the real tokens; 0 for an absent modality."""
        return self.zeroed().sum(dim=1) / self.lengths.clamp(min=1)[:, None].to(self.values.dtype)


def pool_time(spans: Tensor, mask: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Spans and mask after pooling `stride` elements into one.

    Args:
        spans: (B, N, 2) seconds.
        mask: (B, N) bool, padding on the right.
        stride: how many elements one token takes in; a last, partial group counts when it holds a real element.

    Returns:
        spans (B, ceil(N / stride), 2) from the first to the last *real* element of each group, and the mask of groups.
    """
    size = mask.shape[1]
    groups = -(-size // stride)
    first = torch.arange(groups, device=mask.device) * stride
    last = (first + stride - 1).clamp(max=size - 1)
    real_last = torch.minimum(last[None, :], (mask.sum(1, keepdim=True) - 1).clamp(min=0))
    pooled_mask = mask[:, first]
    start = spans[:, first, 0]
    end = torch.gather(spans[..., 1], 1, torch.maximum(real_last, first[None, :]))
    return torch.stack([start, end], dim=2), pooled_mask


def regular_clock(streams: Sequence[Tokens], rate: float, max_ticks: int = 4096) -> tuple[Tensor, Tensor]:
    """One clock for several token streams, made per sample so that no sample depends on its batch.

    Args:
        streams: token streams of one batch.
        rate: ticks per second.
        max_ticks: longest clock; beyond it a tick stands for more time.

    Returns:
        spans (B, K, 2) float32 from the earliest real start to the latest real end, and mask (B, K) bool.
        A sample without any real token gets no tick.
    """
    inf = torch.tensor(float("inf"), device=streams[0].spans.device)
    begin = torch.stack([torch.where(s.mask, s.spans[..., 0], inf).amin(1) for s in streams]).amin(0)
    end = torch.stack([torch.where(s.mask, s.spans[..., 1], -inf).amax(1) for s in streams]).amax(0)
    some = torch.isfinite(begin)
    begin, end = begin.masked_fill(~some, 0.0), end.masked_fill(~some, 0.0)
    duration = (end - begin).clamp(min=0)
    ticks = torch.ceil(duration * rate - 1e-4).clamp(min=1, max=max_ticks)
    size = int(ticks.max())
    index = torch.arange(size, device=begin.device, dtype=torch.float32)
    step = torch.where(ticks < max_ticks, torch.full_like(ticks, 1.0 / rate), duration / ticks)[:, None]
    start = begin[:, None] + index * step
    stop = torch.maximum(torch.minimum(start + step, end[:, None]), start)  # the last tick ends with the media
    return torch.stack([start, stop], dim=2), (index[None, :] < ticks[:, None]) & some[:, None]


def align(tokens: Tokens, spans: Tensor, mask: Tensor) -> Tokens:
    """Bring tokens to another clock: each tick takes the mean of the tokens, weighted by the overlap of spans.

    Args:
        tokens: any token stream.
        spans, mask: the clock, (B, K, 2) seconds and (B, K) bool.

    Returns:
        Tokens on that clock; a tick that no real token overlaps is False in the mask and 0 in the values.
    """
    if spans.shape[1] * tokens.mask.shape[1] > _DENSE:
        return _align_long(tokens, spans, mask)
    start = torch.maximum(tokens.spans[:, None, :, 0], spans[:, :, None, 0])
    end = torch.minimum(tokens.spans[:, None, :, 1], spans[:, :, None, 1])
    overlap = (end - start).clamp(min=0).masked_fill(~tokens.mask[:, None, :], 0.0)
    total = overlap.sum(dim=2)
    weight = overlap / torch.where(total > 0, total, torch.ones_like(total))[..., None]
    values = weight.to(tokens.values.dtype) @ tokens.zeroed()
    met = (total > 0) & mask
    return Tokens(values * met[..., None].to(values.dtype), met, spans)


def _align_long(tokens: Tokens, spans: Tensor, mask: Tensor) -> Tokens:
    """`align` in time and memory that grow with tokens plus ticks, not with their product.

    The integral of all tokens up to a moment is a difference of two sums, over tokens that have begun and over those that have
    ended, each of which is a prefix sum once its borders are sorted. Double precision: the differences are small.
    """
    device_type = spans.device.type
    exact = torch.float32 if device_type == "mps" else torch.float64  # which knows no double
    real = tokens.mask[..., None].to(exact)
    values = torch.cat([tokens.zeroed().to(exact), real], 2)  # the last column integrates time itself
    borders = torch.where(tokens.mask[..., None], tokens.spans, 0.0).to(exact)
    with torch.autocast(device_type, enabled=False):
        begun, ended = (_ramp(values * real, borders[..., side], spans.to(exact)) for side in (0, 1))
        integral = begun - ended  # (B, K, 2, D + 1): up to the begin and up to the end of every tick
        within = integral[:, :, 1] - integral[:, :, 0]
        total = within[..., -1:]
        met = (total[..., 0] > 1e-7) & mask
        mean = (within[..., :-1] / total.clamp(min=1e-7)).to(tokens.values.dtype)
    return Tokens(mean * met[..., None].to(mean.dtype), met, spans)


def _ramp(values: Tensor, borders: Tensor, moments: Tensor) -> Tensor:
    """sum over i of values_i * max(0, t - border_i): (B, T, D), (B, T) and moments (B, K, 2) to (B, K, 2, D)."""
    order = borders.argsort(dim=1)
    borders = borders.gather(1, order)
    values = values.gather(1, order[..., None].expand_as(values))
    none = values.new_zeros(len(values), 1, values.shape[2])
    weights = torch.cat([none, values.cumsum(1)], 1)
    products = torch.cat([none, (values * borders[..., None]).cumsum(1)], 1)
    place = torch.searchsorted(borders, moments.flatten(1))
    index = place[..., None].expand(-1, -1, values.shape[2])
    found = weights.gather(1, index) * moments.flatten(1)[..., None] - products.gather(1, index)
    return found.unflatten(1, (-1, 2))


def at_times(tokens: Tokens, times: Tensor) -> Tensor:
    """Values of a token stream at given moments: linear between token midpoints, constant beyond the ends.

    Args:
        tokens: stream on one monotone clock, values (B, T, D).
        times: (B, F) seconds.

    Returns:
        (B, F, D); 0 for a sample without real tokens.
    """
    size = tokens.mask.shape[1]
    inf = torch.tensor(float("inf"), device=times.device)
    middle = torch.where(tokens.mask, tokens.times, inf).contiguous()
    last = (tokens.lengths - 1).clamp(min=0)[:, None]
    right = torch.searchsorted(middle, times.contiguous()).clamp(max=size - 1)
    right = torch.minimum(right, last)
    left = (right - 1).clamp(min=0)
    t_left, t_right = torch.gather(middle, 1, left), torch.gather(middle, 1, right)
    gap = t_right - t_left
    usable = torch.isfinite(gap) & (gap > 0)
    share = torch.where(usable, (times - t_left) / torch.where(usable, gap, torch.ones_like(gap)), torch.ones_like(gap))
    share = share.clamp(0, 1)[..., None].to(tokens.values.dtype)
    values = tokens.zeroed()
    index = torch.arange(len(tokens), device=times.device)[:, None]
    return values[index, left] * (1 - share) + values[index, right] * share


def stack_samples(
    items: Sequence[Sampled | None],
    spec: InputSpec,
    new: Callable[[tuple[int, ...], torch.dtype], Tensor] | None = None,
) -> Sampled:
    """Right-pad unbatched samples (each a `Sampled` with B = 1) into one batch; None stands for an absent modality.

    `new` gives the tensors that are filled, of zeros.
    """
    real = [item for item in items if item is not None]
    longest = max((item.mask.shape[1] for item in real), default=1)
    shape = tuple(real[0].values.shape[2:]) if real else spec.item_shape()
    dtype = real[0].values.dtype if real else torch.float32
    make = new or _zeros
    values = make((len(items), longest, *shape), dtype)
    mask = make((len(items), longest), torch.bool)
    spans = make((len(items), longest, 2), torch.float32)
    alike = {(i.mask.shape[1], i.values.dtype, i.values.requires_grad) for i in real} == {(longest, dtype, False)}
    if alike and len(real) == len(items):
        torch.cat([item.values for item in real], out=values)  # nothing to pad: all at once; `out` knows no gradients
        torch.cat([item.mask for item in real], out=mask)
        torch.cat([item.spans for item in real], out=spans)
        return Sampled(values, mask, spans)
    for row, item in enumerate(items):
        if item is not None:
            size = item.mask.shape[1]
            values[row, :size], mask[row, :size], spans[row, :size] = item.values[0], item.mask[0], item.spans[0]
    return Sampled(values, mask, spans)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.zeros(shape, dtype=dtype)
