"""Clips of an eye input as recordings in NumPy: gaze in degrees, pupils, and the events detected in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mer.encoders.eye_columns import EyeColumns
from mer.errors import UserError
from mer.media.gaze_events import Detection, Events, events, label
from mer.media.screen import Screen
from mer.spec import InputSpec
from mer.tokens import Sampled


@dataclass(frozen=True)
class Recording:
    """One clip.

    Attributes:
        spans: (N, 2) seconds, float64.
        gaze: (N, 2) degrees from the middle of the screen, NaN where lost.
        pupils: (N, P) in the file's unit, NaN where lost.
    """

    spans: np.ndarray
    gaze: np.ndarray
    pupils: np.ndarray


class EyeReader:
    """From `Sampled` to recordings, one per clip that has any element.

    Args:
        screen: see `mer.media.screen.Screen`; what unit gaze is in is said here and guessed nowhere.
        gaze: names of the two columns of the gaze point.
        pupils: names of the columns of the pupils.
        rate: Hz; None takes every sample of the file.
        detection: settings of `mer.media.gaze_events.Detection` that differ from the defaults.
        window: seconds the predictor shows at once.
    """

    def __init__(
        self,
        screen: Mapping[str, Any],
        gaze: Sequence[str],
        pupils: Sequence[str],
        rate: float | None,
        detection: Mapping[str, Any] | None,
        window: float | None,
    ):
        if len(gaze) != 2:
            raise UserError(f"a gaze point of columns {list(gaze)}", "Name two columns, x and y")
        self.screen = Screen.from_dict(screen)
        self.detection = Detection.from_dict(detection or {})
        self.columns = EyeColumns((*gaze, *pupils), rate, window=window)

    @property
    def spec(self) -> InputSpec:
        return self.columns.spec

    def recordings(self, inputs: Sampled) -> list[Recording | None]:
        """Per clip; None where the modality is absent."""
        values, there = (part.detach().cpu().numpy() for part in self.columns.seen(inputs))
        spans, counts = inputs.spans.cpu().numpy().astype(np.float64), inputs.mask.sum(1).tolist()
        found: list[Recording | None] = []
        for row, count in enumerate(counts):
            if not count:
                found.append(None)
                continue
            seen = np.where(there[row, :count], values[row, :count].astype(np.float64), np.nan)
            found.append(Recording(spans[row, :count], self.screen.degrees(seen[:, :2]), seen[:, 2:]))
        return found

    def events(self, recording: Recording) -> Events:
        """What the eyes did, by `detection`."""
        labels = label(recording.spans.mean(1), recording.gaze, self.detection)
        return events(recording.spans, recording.gaze, labels)


def stacked(
    clips: Sequence[tuple[np.ndarray, ...] | None], shapes: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Arrays of clips of different lengths as one batch.

    Args:
        clips: per clip arrays of equal length (T, *shape); None where it is absent.
        shapes: the shape of an element of each.

    Returns:
        (B, T, *shape) float32 of each, 0 at padding, and the mask (B, T).
    """
    size = max([len(clip[0]) for clip in clips if clip is not None], default=1)
    arrays = [np.zeros((len(clips), size, *shape), np.float32) for shape in shapes]
    mask = np.zeros((len(clips), size), bool)
    for row, clip in enumerate(clips):
        if clip is not None:
            mask[row, : len(clip[0])] = True
            for array, part in zip(arrays, clip, strict=True):
                array[row, : len(part)] = part
    return [torch.from_numpy(array).to(device) for array in arrays], torch.from_numpy(mask).to(device)


def tiles(begin: float, end: float, length: float) -> np.ndarray:
    """(W, 2) seconds: windows of one length from begin to end; the last is what is left."""
    count = max(1, int(np.ceil((end - begin) / length - 1e-4)))
    edges = np.append(begin + np.arange(count) * length, end)
    return np.stack([edges[:-1], edges[1:]], 1)
