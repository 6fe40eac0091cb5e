"""Window statistics of gaze and pupils through an MLP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mer.encoders.base import Encoder, column_statistics
from mer.encoders.eye_recording import EyeReader, Recording, stacked, tiles
from mer.errors import UserError
from mer.media.gaze_statistics import CLIP_FEATURES, FEATURES, PUPIL_FEATURES, kalman_smooth, statistics
from mer.tokens import Sampled, Tokens


class EyeStatistics(Encoder):
    """The 33 statistics of `mer.media.gaze_statistics` per window, standardised, then an MLP.

    A token stands for `hop` seconds and is made of the `length` seconds around it, as far as the clip goes. With
    `hop: 4, length: 4` these are the windows of the SEED corpora.

    Args:
        screen: `{width_cm, height_cm, distance_cm, unit: px | norm, width_px, height_px}`, see `mer.media.screen`.
        gaze: names of the columns of the gaze point.
        pupils: names of the columns of the left and the right pupil, in mm; () leaves their 12 numbers out.
        rate: samples per second; None takes every sample of the file.
        length, hop: seconds.
        whole: also the nine numbers of the clip as a whole.
        smooth: numbers are smoothed over the windows of a clip by a Kalman smoother, as in the SEED work.
        dim: width of the tokens.
        hidden: width of the MLP's hidden layer.
        dropout: on the hidden layer.
        clip: standardised numbers are limited to ±clip.
        detection: settings of `mer.media.gaze_events.Detection` that differ from the defaults.
        window: seconds the predictor shows at once.

    Tokens: (B, T, dim) at 1 / hop Hz.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        screen: Mapping[str, Any],
        gaze: Sequence[str] = ("gaze_x", "gaze_y"),
        pupils: Sequence[str] = ("pupil_left", "pupil_right"),
        rate: float | None = None,
        length: float = 4.0,
        hop: float = 1.0,
        whole: bool = True,
        smooth: bool = False,
        dim: int = 128,
        hidden: int = 128,
        dropout: float = 0.2,
        clip: float = 5.0,
        detection: Mapping[str, Any] | None = None,
        window: float | None = 8.0,
    ):
        super().__init__()
        if len(pupils) not in (0, 2) or not 0 < hop <= length or dim < 1 or hidden < 1:
            raise UserError(
                f"EyeStatistics: pupils {list(pupils)}, length {length:g}, hop {hop:g}, dim {dim}, hidden {hidden}",
                "Use two pupils or none, a hop up to the length, and positive sizes",
            )
        self.reader = EyeReader(screen, gaze, pupils, rate, detection, window)
        self.spec, self.dim, self.clip = self.reader.spec, dim, clip
        self.length, self.hop, self.smooth, self.output_rate = length, hop, smooth, 1 / hop
        left_out = {*(() if pupils else PUPIL_FEATURES), *(() if whole else CLIP_FEATURES)}
        self.features = tuple(name for name in FEATURES if name not in left_out)
        self._chosen = [FEATURES.index(name) for name in self.features]
        self.register_buffer("mean", torch.zeros(len(self.features)))
        self.register_buffer("std", torch.ones(len(self.features)))
        self.mlp = nn.Sequential(
            nn.Linear(len(self.features), hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim),
            nn.LayerNorm(dim),
        )  # fmt: skip

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        def rows() -> Iterable[Tensor]:
            for batch in batches:
                tokens = self._rows(batch)
                yield tokens.values[tokens.mask]

        mean, std = column_statistics(rows())
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, inputs: Sampled) -> Tokens:
        rows = self._rows(inputs)
        x = self.mlp(((rows.values - self.mean) / self.std).clamp(-self.clip, self.clip))
        return Tokens(x * rows.mask[..., None], rows.mask, rows.spans)

    def _rows(self, inputs: Sampled) -> Tokens:
        """The numbers as tokens (B, T, features)."""
        clips = [None if r is None else self._of_clip(r) for r in self.reader.recordings(inputs)]
        (values, spans), mask = stacked(clips, ((len(self.features),), (2,)), inputs.spans.device)
        return Tokens(values, mask, spans)

    def _of_clip(self, clip: Recording) -> tuple[np.ndarray, np.ndarray]:
        begin, end = float(clip.spans[0, 0]), float(clip.spans[-1, 1])
        own = tiles(begin, end, self.hop)
        more = (self.length - self.hop) / 2
        around = np.clip(own + np.array([-more, more]), begin, end)
        pupils = clip.pupils if clip.pupils.shape[1] else np.full((len(clip.spans), 2), np.nan)
        rows = statistics(clip.spans, clip.gaze, pupils, around, self.reader.detection)[:, self._chosen]
        return (kalman_smooth(rows) if self.smooth else rows), own
