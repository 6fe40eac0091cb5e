"""The recurrent streams of EMERT: eye movements or gaze through an LSTM, one token per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mer.encoders.base import Encoder, column_statistics
from mer.encoders.eye_columns import EyeColumns, bridge
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

_SIDES = ("left", "right")
# The numeric block of a Tobii Pro Lab export, as `mer.media.gaze_files` names its columns. EMER's 39 columns count the same;
# in which order its workbooks hold them is not published.
TOBII = (
    "gaze_x", "gaze_y", *(f"gaze_{s}_{a}" for s in _SIDES for a in "xy"),
    *(f"gaze_direction_{s}_{a}" for s in _SIDES for a in "xyz"), "pupil_left", "pupil_right", "valid_left", "valid_right",
    *(f"eye_position_{s}_{a}_mm" for s in _SIDES for a in "xyz"), *(f"gaze_{s}_{a}_mm" for s in _SIDES for a in "xy"),
    "gaze_x_norm", "gaze_y_norm", *(f"gaze_{s}_{a}_norm" for s in _SIDES for a in "xy"), "eye_movement_type",
    "gaze_event_duration", "eye_movement_type_index", "fixation_point_x", "fixation_point_y", "fixation_point_x_norm",
    "fixation_point_y_norm",
)  # fmt: skip
# What else an EMERT file holds, beside the stream that is read.
_REST = (
    r"^(subnet\.{other}\.|subnet\.(f_extractor|classifier)\.|proj_v1\.|specific_projection_[val]\.|"
    r"invariant_projection\.|distriminator\.|transformer\.|cls_head(_e|_in)?\.)"
)


class EyeLSTM(Encoder):
    """A unidirectional LSTM over raw columns, every step a token: EMERT's `eye` stream (39 columns) and `gaze` stream (2).

    After the public code of EMERT (Liu et al., IEEE Transactions on Multimedia, accepted 2025; arXiv 2512.16485). Its
    dropout of 0.5 on the tokens belongs to the fusion. It takes one random sample of each of 32 equal parts of a clip, also
    when it is tested, and other ones for gaze than for eyes; here `steps` takes the middle of each part, and in training a
    random one, which is the same for all encoders of a model.

    A column that was not seen for a while is filled linearly, as in EMER's tables; before the first and after the last
    sight it is held, and 0 where it was never seen.

    Args:
        columns: names of the columns of a recording, see `mer.media.gaze_files`; `tobii` for the 39 of a Pro Lab export.
        width: instead of columns: columns of a cached feature.
        rate: samples per second; None takes every sample.
        stream: which of the two streams of a published file is loaded.
        hidden, layers: of the LSTM.
        steps: parts of a clip, one sample of each is shown; None shows all. A shorter clip shows what it has.
        standardise: columns are standardised by the training inputs; the published network takes raw values.
        window: seconds the predictor shows at once.

    Tokens: (B, T, hidden), one per step; of `steps` each stands for its part of the clip.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        columns: Sequence[str] | Literal["tobii"] | None = ("gaze_x", "gaze_y"),
        width: int | None = None,
        rate: float | None = None,
        stream: Literal["eye", "gaze"] = "gaze",
        hidden: int = 128,
        layers: int = 3,
        steps: int | None = None,
        standardise: bool = False,
        window: float | None = None,
    ):
        super().__init__()
        if (columns is None) == (width is None):
            raise UserError("EyeLSTM reads either columns or a cached feature of some width", "Give one of them")
        if stream not in ("eye", "gaze") or min(hidden, layers, steps or 1, width or 1) < 1:
            raise UserError(
                f"EyeLSTM: stream {stream!r}, hidden {hidden}, layers {layers}, steps {steps}, width {width}",
                "Use the stream eye or gaze, and sizes of at least 1",
            )
        self.columns: EyeColumns | None = None
        if width is not None:
            self.spec = InputSpec("features", rate=rate, width=width, window=window)
        else:
            self.columns = EyeColumns(TOBII if columns == "tobii" else columns or (), rate, window=window)
            self.spec, width = self.columns.spec, len(self.columns.names)
        self.stream, self.dim, self.steps, self.standardise = stream, hidden, steps, standardise
        self.output_rate = None if steps else rate
        self._draws = 0  # so far
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.network: nn.LSTM = nn.LSTM(width, hidden, layers, batch_first=True)

    def tables(self) -> Sequence[KeyTable]:
        ours, other = ("e_lstm", "v_lstm") if self.stream == "eye" else ("v_lstm", "e_lstm")
        unused = (_REST.replace("{other}", other), "other parts of EMERT")
        return (KeyTable(f"EMERT, {self.stream} stream", pairs=((r"^", f"subnet.{ours}."),), unused=(unused,)),)

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        if not self.standardise:
            return
        mean, std = column_statistics(self._filled(batch)[batch.mask] for batch in batches)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        x, mask, spans = self._filled(inputs), inputs.mask, inputs.spans
        if self.steps:
            x, mask, spans = self._parts(x, mask, spans, self.steps)
        x = (x - self.mean) / self.std * mask[..., None]
        # Padding comes after what is real, and an LSTM that runs forward never looks there.
        values, _ = self.network(x)
        return Tokens(values * mask[..., None], mask, spans)

    def _filled(self, inputs: Sampled) -> Tensor:
        """(B, N, width)."""
        if self.columns is None:
            return inputs.zeroed().float()
        values, there = self.columns.seen(inputs)
        values, _ = bridge(values, there, inputs.spans.mean(2), float("inf"), hold=True)
        return torch.where(inputs.mask[..., None], values, torch.zeros_like(values))

    def _parts(self, x: Tensor, mask: Tensor, spans: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """One element of each of `steps` equal parts per clip; the first parts get one more where it does not divide."""
        count = mask.sum(1, keepdim=True)
        size = min(steps, mask.shape[1])
        parts = count.clamp(max=steps)
        step = torch.arange(size + 1, device=mask.device)[None]
        each = parts.clamp(min=1)
        edges = step * (count // each) + torch.minimum(step, count % each)
        first, last = edges[:, :-1], edges[:, 1:] - 1
        if self.training:
            draw = self._places(len(mask), steps)[:, :size].to(mask.device)
            chosen = first + (draw * (last - first + 1)).long().clamp(max=last - first)
        else:
            chosen = (first + last) // 2
        kept = step[:, :-1] < parts
        most = mask.shape[1] - 1
        first, last, chosen = (index.clamp(0, most) for index in (first, last, chosen))
        begin, end = spans[..., 0].gather(1, first), spans[..., 1].gather(1, last)
        x = x.gather(1, chosen[..., None].expand(*chosen.shape, x.shape[2]))
        return x * kept[..., None], kept, torch.stack([begin, end], 2)

    def _places(self, clips: int, steps: int) -> Tensor:
        """(clips, steps) from 0 to 1: where in its part a step lies.

        Not from torch's own generator, which whoever draws first moves on: of two encoders that were trained together each
        draws the same, so that eye and gaze show the same moments.
        """
        random = np.random.default_rng([torch.initial_seed(), self._draws])
        self._draws += 1
        return torch.from_numpy(random.random((clips, steps), np.float32))
