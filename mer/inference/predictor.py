"""A checkpoint and a recording in; probabilities for the clip and for each moment out. No flag describes preprocessing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mer import checkpoint
from mer.datasets.source import between
from mer.device import device_named
from mer.errors import UserError
from mer.inference.recording import Recording, Stretch
from mer.inference.timeline import Timeline
from mer.inference.windows import SlidingWindow
from mer.labels import Task
from mer.media.guard import examined
from mer.media.probe import MediaInfo
from mer.model import Prediction
from mer.predictions import probabilities
from mer.runs import file_hash
from mer.tokens import Sampled, at_times, stack_samples

SOUND_CLOCK = 25.0  # rows per second of a timeline where there is no picture
WHOLE_CLIP = 60.0  # seconds; a longer clip is read in windows, and its answer is their mean


@dataclass(frozen=True)
class ClipResult:
    """What was read in one clip.

    Attributes:
        media: what the file holds.
        start, end: seconds that were looked at.
        probabilities: per video-level task (C,), as in a score file.
        timelines: per task one row per presented frame.
        used: modalities that went in.
        absent: modalities that did not, and why.
        modality_weights: per modality its weight in the clip's answer, where the fusion has weights.
        how: `whole clip` or `mean over windows`.
    """

    media: MediaInfo
    start: float
    end: float
    probabilities: dict[str, np.ndarray]
    timelines: dict[str, Timeline]
    used: list[str]
    absent: dict[str, str]
    modality_weights: dict[str, float] | None
    how: str


class Predictor:
    """A model ready to read recordings.

    Args:
        path: `model.safetensors`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        window: seconds of a window of the timeline; None takes what the encoders declare.
        step: seconds between windows.
        batch_size: windows per forward pass.
        allow_modules: modules the checkpoint may name classes from, beside mer's own.

    Raises:
        UserError: no such checkpoint, not ours, or a device that is not there.
    """

    def __init__(
        self,
        path: Path,
        device: str = "auto",
        window: float | None = None,
        step: float = 0.25,
        batch_size: int = 32,
        allow_modules: Iterable[str] = (),
    ):
        self.model, self.description = checkpoint.load(path, allow_modules)
        self.model_id = file_hash(path)
        self.device = device_named(device)
        self.model.to(self.device)
        declared = [spec.window for spec in self.model.specs.values() if spec.window]
        length = window or (max(declared) if declared else 2.0)
        self.windows = SlidingWindow(length, min(step, length))
        self.batch_size = batch_size

    @property
    def tasks(self) -> dict[str, Task]:
        return self.model.tasks

    def read(
        self, media: Path, start: float = 0.0, end: float | None = None, inputs: Mapping[str, str] | None = None
    ) -> ClipResult:
        """Read one recording.

        Args:
            media: video or sound file.
            start, end: seconds to look at; end None is the end of the file.
            inputs: references for modalities that are not in the file itself, e.g. cached action units.

        Raises:
            UserError: the file is missing or damaged, or holds nothing that the model can read.
        """
        file = examined(media)
        recording = Recording(media, file, self.model.specs, start, end, dict(inputs or {}))
        stop = recording.stop
        times, frames = _clock(file.times, start, stop)
        spans = self.windows.over(start, stop)
        answers = _Answers(self.tasks, len(spans), len(times))
        how = "whole clip" if stop - start <= WHOLE_CLIP else "mean over windows"
        stretches = SlidingWindow(WHOLE_CLIP, WHOLE_CLIP).over(start, stop)
        taken = 0
        for number, (begin, until) in enumerate(stretches):
            # A window is read in the first stretch that it begins in, so a stretch reaches over its end by one window.
            last = number == len(stretches) - 1
            rows = [w for w in range(taken, len(spans)) if last or spans[w][0] < until]
            taken += len(rows)
            reach = max([until, *(spans[w][1] for w in rows)])
            stretch = recording.read(begin, reach, [spans[w] for w in rows])
            self._windows(stretch, rows, answers)
            self._frames(stretch, until, times, answers)
            if how == "whole clip" and stretch.whole:
                prediction = self._forward([stretch.whole])
                for name, logits in prediction.logits.items():
                    answers.clip[name] = probabilities(logits, self.tasks[name].space)[0].cpu().numpy()
                if prediction.fused.modality_weights is not None:
                    answers.clip_weights = {m: float(w[0]) for m, w in prediction.fused.modality_weights.items()}
        recording.finish()

        per_window, weights = answers.windows, answers.weights
        if how != "whole clip":
            answers.clip = {n: self._mean(n, v) for n, v in per_window.items()}
            answers.clip_weights = {m: float(np.nanmean(w)) for m, w in weights.items()} if weights else None
        blend = self.windows.blend
        curves = {n: blend(spans, v, times) for n, v in per_window.items()}
        silent = np.isnan(blend(spans, answers.filled[:, None], times)[:, 0])
        for name, curve in answers.frames.items():
            curve[silent] = np.nan
            curves[name] = curve
        shares = {m: blend(spans, w[:, None], times)[:, 0] for m, w in weights.items()} if weights else None
        timelines = {
            name: Timeline(media.stem, name, self.tasks[name].space, times, curve, stop, shares, frames)
            for name, curve in curves.items()
        }
        return ClipResult(
            file.info, start, stop, answers.clip, timelines, recording.used, recording.absent, answers.clip_weights, how
        )

    def _windows(self, stretch: Stretch, rows: list[int], answers: _Answers) -> None:
        """Fill in the answers of a stretch's windows, whose numbers are `rows`."""
        filled = [w for w, part in enumerate(stretch.parts) if part]
        for first in range(0, len(filled), self.batch_size):
            batch = filled[first : first + self.batch_size]
            here = [rows[w] for w in batch]
            prediction = self._forward([stretch.parts[w] for w in batch])
            answers.filled[here] = 1.0
            for name, logits in prediction.logits.items():
                values = probabilities(logits, self.tasks[name].space).cpu().numpy()
                if name in self.model.reads:  # a window without that modality has nothing to say
                    values[~prediction.seen[self.model.reads[name]].cpu().numpy()] = np.nan
                answers.windows[name][here] = values
            for modality, weight in (prediction.fused.modality_weights or {}).items():
                row = answers.weights.setdefault(modality, np.full(len(answers.filled), np.nan))
                row[here] = weight.float().cpu().numpy()

    def _mean(self, name: str, values: np.ndarray) -> np.ndarray:
        """(C,) mean of the windows (W, C) that say something; an even answer where none does."""
        if np.isfinite(values).any():
            return np.asarray(np.nanmean(values, axis=0))
        even = torch.zeros(1, values.shape[1])
        return probabilities(even, self.tasks[name].space)[0].numpy()

    def _frames(self, stretch: Stretch, until: float, times: np.ndarray, answers: _Answers) -> None:
        """Fill in what frame-level heads say of a stretch; they see a minute at once, which bounds memory."""
        under = (times >= stretch.begin) & (times <= until)
        cut = {m: c for m, s in stretch.whole.items() if (c := between(s, stretch.begin, until)) is not None}
        if not answers.frames or not cut or not under.any():
            return
        prediction = self._forward([cut])
        moments = torch.as_tensor(times[under], dtype=torch.float32, device=self.device)[None]
        for name, curve in answers.frames.items():
            logits = at_times(prediction.frames[name], moments)[0]
            curve[under] = probabilities(logits, self.tasks[name].space).cpu().numpy()

    @torch.inference_mode()
    def _forward(self, samples: list[dict[str, Sampled]]) -> Prediction:
        inputs = {
            m: stack_samples([s.get(m) for s in samples], spec).to(self.device) for m, spec in self.model.specs.items()
        }
        prediction: Prediction = self.model(inputs)
        for name, logits in [*prediction.logits.items(), *((n, t.values) for n, t in prediction.frames.items())]:
            if not bool(torch.isfinite(logits).all()):
                raise UserError(f"the model answers {name!r} with numbers that are not finite", "Train it again")
        return prediction


class _Answers:
    """What was answered so far; NaN where nothing was.

    Attributes:
        windows: per video-level task (W, C).
        filled: (W,) 1 for a window that held anything.
        weights: per modality (W,).
        frames: per frame-level task (F, C).
        clip, clip_weights: of a clip that was seen whole.
    """

    def __init__(self, tasks: Mapping[str, Task], windows: int, frames: int):
        self.windows = {n: np.full((windows, len(t.space)), np.nan) for n, t in tasks.items() if t.level == "video"}
        self.frames = {n: np.full((frames, len(t.space)), np.nan) for n, t in tasks.items() if t.level == "frame"}
        self.filled = np.full(windows, np.nan)
        self.weights: dict[str, np.ndarray] = {}
        self.clip: dict[str, np.ndarray] = {}
        self.clip_weights: dict[str, float] | None = None


def _clock(every: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Presentation times within [start, end) and the number of each frame in the file; a regular clock for sound."""
    inside = np.flatnonzero((every >= start - 1e-6) & (every < end))
    if inside.size:
        return every[inside], inside
    count = max(1, int(np.ceil((end - start) * SOUND_CLOCK - 1e-6)))
    return start + np.arange(count) / SOUND_CLOCK, np.arange(count)
