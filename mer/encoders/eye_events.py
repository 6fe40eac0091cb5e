"""A scanpath as tokens: one per fixation, pursuit or blink, with its true span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.encoders.base import Encoder, column_statistics
from mer.encoders.eye_recording import EyeReader, Recording, stacked
from mer.encoders.media_time import sinusoids
from mer.errors import UserError
from mer.media.gaze_events import Label
from mer.tokens import Sampled, Tokens

_KINDS = (Label.FIXATION, Label.PURSUIT, Label.BLINK)
# Numbers of an event: place, extent, length, rest since the event before, saccade into it, pupil.
_NUMBERS = 13


class EyeEvents(Encoder):
    """Events detected in the raw gaze, each described by a few numbers, then self-attention over the events.

    A token knows its kind (fixation, pursuit, blink, nothing), where it lies and how far it reaches in degrees, how long it
    lasts, how long after the event before it began, size and direction of the saccade that led to it, mean and change of
    the pupil, and the time of its middle since the clip's begin. Where nothing was detected in a clip, one token of kind
    `nothing` stands for all of it.

    Events are detected on the processor at each pass, in 2 to 3 ms per clip of four seconds.

    Args:
        screen: `{width_cm, height_cm, distance_cm, unit: px | norm, width_px, height_px}`, see `mer.media.screen`.
        gaze: names of the columns of the gaze point.
        pupils: names of the columns of the pupils, whose mean is used; () for none.
        rate: samples per second; None takes every sample of the file, and is the better choice below 250 Hz.
        dim: width of the tokens.
        hidden: width of the MLP's hidden layer.
        layers, heads: of the self-attention over events.
        dropout: on the hidden layer and in the attention.
        clip: standardised numbers are limited to ±clip.
        detection: settings of `mer.media.gaze_events.Detection` that differ from the defaults.
        window: seconds the predictor shows at once.

    Tokens: one per event, (B, T, dim); between them are saccades, after-swings and what was lost.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        screen: Mapping[str, Any],
        gaze: Sequence[str] = ("gaze_x", "gaze_y"),
        pupils: Sequence[str] = ("pupil_left", "pupil_right"),
        rate: float | None = None,
        dim: int = 128,
        hidden: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        clip: float = 5.0,
        detection: Mapping[str, Any] | None = None,
        window: float | None = 4.0,
    ):
        super().__init__()
        if dim < 2 or dim % 2 or hidden < 1:
            raise UserError(f"EyeEvents with dim {dim}, hidden {hidden}", "Use positive sizes and an even dim")
        self.reader = EyeReader(screen, gaze, pupils, rate, detection, window)
        self.spec, self.dim, self.clip = self.reader.spec, dim, clip
        self.register_buffer("mean", torch.zeros(_NUMBERS))
        self.register_buffer("std", torch.ones(_NUMBERS))
        self.mlp = nn.Sequential(
            nn.Linear(_NUMBERS + len(_KINDS), hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        def rows() -> Iterable[Tensor]:
            for batch in batches:
                numbers, _, tokens = self._described(batch)
                yield numbers[tokens.mask]

        mean, std = column_statistics(rows())
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        numbers, kinds, tokens = self._described(inputs)
        standard = ((numbers - self.mean) / self.std).clamp(-self.clip, self.clip)
        x = self.mlp(torch.cat([standard, kinds], 2))
        begin = tokens.spans[:, :1, 0]
        x = (x + sinusoids(tokens.times - begin, self.dim).to(x.dtype)) * tokens.mask[..., None]
        for layer in self.layers:
            x = layer(x, tokens.mask)
        return Tokens(x, tokens.mask, tokens.spans)

    def _described(self, inputs: Sampled) -> tuple[Tensor, Tensor, Tokens]:
        """(B, T, numbers), (B, T, kinds), and tokens without values."""
        clips = [None if r is None else self._of_clip(r) for r in self.reader.recordings(inputs)]
        shapes = ((_NUMBERS,), (len(_KINDS),), (2,))
        (numbers, kinds, spans), mask = stacked(clips, shapes, inputs.spans.device)
        return numbers, kinds, Tokens(numbers, mask, spans)

    def _of_clip(self, clip: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(T, numbers), (T, kinds) and (T, 2) spans."""
        found = self.reader.events(clip)
        saccades, held = found.of(Label.SACCADE), found.of(*_KINDS)
        if not len(held):
            spans = np.array([[clip.spans[0, 0], clip.spans[-1, 1]]])
            return np.zeros((1, _NUMBERS)), np.zeros((1, len(_KINDS))), spans
        before = np.append(clip.spans[0, 0], held.end[:-1])
        # The last saccade between the event before and this one.
        last = np.searchsorted(saccades.start, held.start) - 1
        some = last >= 0
        some[some] &= saccades.start[last[some]] >= before[some] - 1e-9
        way = np.zeros((len(held), 2))
        way[some] = saccades.way[last[some]]
        size = np.hypot(*way.T)
        with np.errstate(invalid="ignore"):
            both = np.isfinite(clip.pupils).sum(1)
            pupil = np.where(both > 0, np.nansum(clip.pupils, 1) / np.maximum(both, 1), np.nan)
        pupils = np.array([_level(pupil[a:b]) for a, b in zip(held.first, held.behind, strict=True)])
        seen = np.isfinite(held.centre).all(1)
        numbers = np.column_stack(
            [held.centre, held.extent, np.log(held.duration), np.log1p(held.start - before), np.log1p(size),
             way / np.maximum(size, 1e-9)[:, None], pupils, seen]
        )  # fmt: skip
        kinds = np.stack([held.kind == kind for kind in _KINDS], 1)
        return np.nan_to_num(numbers), kinds, np.stack([held.start, held.end], 1)


def _level(pupil: np.ndarray) -> tuple[float, float, float]:
    """Mean, change from the first to the second half, and whether anything was seen."""
    there = np.isfinite(pupil)
    if not there.any():
        return 0.0, 0.0, 0.0
    half = len(pupil) // 2
    first, second = pupil[:half][there[:half]], pupil[half:][there[half:]]
    change = float(second.mean() - first.mean()) if len(first) and len(second) else 0.0
    return float(pupil[there].mean()), change, 1.0
