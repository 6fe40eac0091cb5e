"""What of an eye recording was seen: values, where they are there, and short gaps bridged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled


class EyeColumns:
    """The columns of an `eye` input.

    Files are read with a column `valid`, so that every sample stands at its moment. It is 0 where any other column is
    missing; what is missing is then stored as 0. A gaze point is missing where both its coordinates are 0.

    Args:
        columns: names, without `valid`.
        rate: Hz; None takes every sample of the file.
        backend: `file`, or `mediapipe` for the proxy from video, which has no missing values.
        window: seconds the predictor shows at once.

    Attributes:
        names: the columns.
        spec: of the encoder.
    """

    def __init__(self, columns: Sequence[str], rate: float | None, backend: str = "file", window: float | None = None):
        self.names = tuple(name for name in columns if name != "valid")
        if isinstance(columns, str) or not self.names or len(set(self.names)) < len(self.names):
            named = columns if isinstance(columns, str) else list(columns)
            raise UserError(f"eye columns {named}", "Name each column once, and at least one")
        if rate is not None and rate <= 0:
            raise UserError(f"an eye input at {rate:g} Hz", "Use a rate above 0, or none for the file's own samples")
        marked = ("valid",) if backend == "file" else ()
        self.spec = InputSpec("eye", rate=rate, backend=backend, columns=(*self.names, *marked), window=window)
        partners = [self._partner(name) for name in self.names]
        self._partners = [k if p is None else p for k, p in enumerate(partners)]

    def _partner(self, name: str) -> int | None:
        """Where the other coordinate of a point stands: `gaze_y_norm` of `gaze_x_norm`."""
        if not name.startswith("gaze"):
            return None
        for own, other in (("_x", "_y"), ("_y", "_x")):
            if own in name and (twin := other.join(name.rsplit(own, 1))) in self.names:
                return self.names.index(twin)
        return None

    def seen(self, inputs: Sampled) -> tuple[Tensor, Tensor]:
        """Values (B, N, C), 0 where missing or padded, and (B, N, C) bool where they are there."""
        values = inputs.zeroed().float()
        there = inputs.mask[..., None].expand(*inputs.mask.shape, len(self.names))
        if len(self.spec.columns) > len(self.names):
            values, marked = values[..., :-1], values[..., -1:] > 0.5
            some = values != 0
            there = there & (marked | some | some[..., self._partners])
        there = there & values.isfinite()
        return torch.where(there, values, torch.zeros_like(values)), there


def bridge(values: Tensor, there: Tensor, times: Tensor, longest: float, hold: bool = False) -> tuple[Tensor, Tensor]:
    """Fill gaps linearly over time.

    Args:
        values: (B, N, C).
        there: (B, N, C) bool.
        times: (B, N) seconds, rising where anything is there.
        longest: seconds between the samples around a gap that is filled.
        hold: also carry the first and the last value to the ends.

    Returns:
        values, 0 where they are still missing, and (B, N, C) bool where they are known.
    """
    size = values.shape[1]
    place = torch.arange(size, device=values.device)[None, :, None]
    before = torch.where(there, place, -1).cummax(1).values
    after = torch.where(there, place, size).flip(1).cummin(1).values.flip(1)
    has_before, has_after = before >= 0, after < size
    before, after = before.clamp(min=0), after.clamp(max=size - 1)
    clock = torch.where(there.any(2), times, torch.zeros_like(times))[..., None].expand_as(values)
    begin, end = clock.gather(1, before), clock.gather(1, after)
    short = has_before & has_after & (end - begin <= longest + 1e-6)
    share = ((times[..., None] - begin) / (end - begin).clamp(min=1e-6)).clamp(0, 1)
    share = torch.where(has_before & has_after, share, (~has_before).float())
    line = torch.lerp(values.gather(1, before), values.gather(1, after), share)
    known = there | short
    if hold:
        known = known | (has_before ^ has_after)
    return torch.where(there, values, torch.where(known, line, torch.zeros_like(line))), known


def seen_statistics(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per column over what was seen, in float64; a constant column gets 1.

    Args:
        batches: values and where they are there, both (B, N, C).
    """
    count, total, square = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for values, there in batches:
        x = torch.where(there, values, torch.zeros_like(values)).double()
        count, total, square = count + there.sum((0, 1)), total + x.sum((0, 1)), square + x.square().sum((0, 1))
    mean = total / count.clamp(min=1)
    std = (square / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float()
