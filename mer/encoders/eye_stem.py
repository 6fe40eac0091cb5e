"""Eye recordings as channels, and convolutions that thin them out: what the TCN and the transformer share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders.base import Encoder
from mer.encoders.eye_columns import EyeColumns, bridge, seen_statistics
from mer.errors import UserError
from mer.tokens import Sampled, Tokens, pool_time


class EyeSequence(Encoder):
    """Base of the encoders of gaze and pupil samples. Subclasses add layers by `further`.

    Channels: each column, standardised; the difference of the samples around; whether it was seen; and the time since the
    sample before that was seen whole. Gaps of up to `bridge` seconds are filled linearly, and marked as not seen all the
    same; longer ones are 0. Then convolutions, each followed by the maximum of every two samples.

    Args:
        columns: names of the columns, see `mer.media.gaze_files` (or, with `backend: mediapipe`, `mer.media.eye`).
        rate: samples per second; None takes every sample of the file.
        dim: width of the tokens.
        channels: output channels of the convolutions, each of which halves time.
        centred: columns whose mean over a clip is taken off: pupils differ between people and with the light.
        bridge: seconds of the longest gap that is filled.
        clip: standardised values are limited to ±clip.
        backend: `file` or `mediapipe`.
        window: seconds the predictor shows at once.

    Tokens: (B, T, dim) at rate / 2**len(channels) Hz.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        columns: Sequence[str],
        rate: float | None,
        dim: int,
        channels: Sequence[int],
        centred: Sequence[str],
        bridge: float,
        clip: float,
        backend: str,
        window: float | None,
    ):
        super().__init__()
        self.columns = EyeColumns(columns, rate, backend, window)
        self.spec = self.columns.spec
        names = self.columns.names
        if unknown := [name for name in centred if name not in names]:
            raise UserError(
                f"centred column {unknown[0]!r} is not among the columns", f"Choose from {', '.join(names)}"
            )
        if dim < 2 or dim % 2 or min(channels, default=1) < 1 or bridge < 0 or clip <= 0:
            raise UserError(
                f"{type(self).__name__}: dim {dim}, channels {list(channels)}, bridge {bridge:g}, clip {clip:g}",
                "Use positive sizes and an even dim",
            )
        self.dim, self.bridge, self.clip = dim, bridge, clip
        self.output_rate = None if rate is None else rate / 2 ** len(channels)
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))
        self.centred = [names.index(name) for name in centred]
        inside = 3 * len(names) + 1
        self.stem = nn.ModuleList()
        for outside in channels:
            self.stem.append(_Halving(inside, outside))
            inside = outside
        self.out = nn.Linear(inside, dim)

    def further(self, x: Tensor, mask: Tensor, seconds: Tensor) -> Tensor:
        """What follows the stem: (B, T, dim), (B, T) bool and (B, T) seconds since the clip's begin to (B, T, dim)."""
        return x

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        mean, std = seen_statistics(self._values(batch) for batch in batches)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        mask, spans = inputs.mask, inputs.spans
        begin = torch.where(mask[:, 0], spans[:, 0, 0], torch.zeros_like(spans[:, 0, 0]))
        x = self._channels(inputs)
        for block in self.stem:
            x = block(x, mask)
            spans, mask = pool_time(spans, mask, 2)
        x = self.out(x) * mask[..., None]
        seconds = torch.where(mask, spans.mean(2) - begin[:, None], torch.zeros_like(spans[..., 0]))
        return Tokens(self.further(x, mask, seconds) * mask[..., None], mask, spans)

    def _values(self, inputs: Sampled) -> tuple[Tensor, Tensor]:
        values, there = self.columns.seen(inputs)
        if self.centred:
            part, seen = values[..., self.centred], there[..., self.centred]
            own = part.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
            values = values.clone()
            values[..., self.centred] = torch.where(seen, part - own, torch.zeros_like(part))
        return values, there

    def _channels(self, inputs: Sampled) -> Tensor:
        """(B, N, 3 C + 1), 0 at padding."""
        values, there = self._values(inputs)
        middle = inputs.spans.mean(2)
        standard = ((values - self.mean) / self.std).clamp(-self.clip, self.clip) * there
        standard, known = bridge(standard, there, middle, self.bridge)
        step = (standard[:, 1:] - standard[:, :-1]) * (known[:, 1:] & known[:, :-1])
        step = F.pad(step, (0, 0, 1, 0)) + F.pad(step, (0, 0, 0, 1))  # from before and onwards: centred on the sample
        since = _since(there.all(2), middle, inputs.mask)
        return torch.cat([standard, step, there.float(), torch.log1p(since)[..., None]], 2) * inputs.mask[..., None]


def _since(seen: Tensor, times: Tensor, mask: Tensor) -> Tensor:
    """(B, N) seconds since the sample before that was seen, or since the clip's first."""
    times = torch.where(mask, times, torch.zeros_like(times))
    first = times[:, :1].expand_as(times)
    last = torch.where(seen, times, first).cummax(1).values
    return (times - torch.cat([first[:, :1], last[:, :-1]], 1)).clamp(min=0)


class _Halving(nn.Module):
    """Convolution of width 3, layer norm over channels, ReLU, maximum of each two samples."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, 3, padding=1)
        self.norm = nn.LayerNorm(outside)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, inside), 0 at padding, and (B, N) bool to (B, ceil(N / 2), outside), 0 at padding."""
        x = F.relu(self.norm(self.conv(x.transpose(1, 2)).transpose(1, 2))) * mask[..., None]
        # Everything is >= 0 after the ReLU, so a padded 0 never wins over a real sample.
        return F.max_pool1d(x.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)
