"""A checkpoint and a recording in; probabilities for the clip and for each moment out. No flag describes preprocessing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mer import checkpoint
from mer.datasets.clips import between
from mer.errors import UserError
from mer.inference.timeline import Timeline
from mer.inference.windows import SlidingWindow
from mer.labels import Task
from mer.media.prepare import prepare
from mer.media.probe import MediaInfo, probe
from mer.media.video import presentation_times
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
        self.device = _device(device)
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
        info = probe(media)
        whole, absent = self._prepare(media, info, start, end, dict(inputs or {}))
        ends = [float(s.spans[0, -1, 1]) for s in whole.values()]
        stop = end if end is not None else max([*ends, info.duration] if info.duration else ends)
        times, frames = _clock(media, info, start, stop)

        spans = self.windows.over(start, stop)
        per_window, weights = self._windows(whole, spans)
        clip: dict[str, np.ndarray] = {}
        clip_weights: dict[str, float] | None = None
        how = "whole clip" if stop - start <= WHOLE_CLIP else "mean over windows"
        if how == "whole clip":
            prediction = self._forward([whole])
            clip = {n: probabilities(v, self.tasks[n].space)[0].cpu().numpy() for n, v in prediction.logits.items()}
            if prediction.fused.modality_weights is not None:
                clip_weights = {m: float(w[0]) for m, w in prediction.fused.modality_weights.items()}
        else:
            clip = {n: np.nanmean(v, axis=0) for n, v in per_window.items() if self.tasks[n].level == "video"}
            clip_weights = {m: float(np.nanmean(w)) for m, w in weights.items()} if weights else None
        curves = (
            {m: self.windows.blend(spans, w[:, None], times)[:, 0] for m, w in weights.items()} if weights else None
        )
        timelines = {
            name: Timeline(media.stem, name, self.tasks[name].space, times, curve, stop, curves, frames)
            for name, curve in self._curves(whole, per_window, spans, times).items()
        }
        return ClipResult(info, start, stop, clip, timelines, list(whole), absent, clip_weights, how)

    def _prepare(
        self, media: Path, info: MediaInfo, start: float, end: float | None, inputs: dict[str, str]
    ) -> tuple[dict[str, Sampled], dict[str, str]]:
        """Each modality that can be had, and why the others cannot."""
        unknown = set(inputs) - set(self.model.specs)
        if unknown:
            raise UserError(
                f"the model has no modality {sorted(unknown)[0]!r}", f"It reads {', '.join(self.model.specs)}"
            )
        whole: dict[str, Sampled] = {}
        absent: dict[str, str] = {}
        for modality, spec in self.model.specs.items():
            inside = {"audio": info.has_audio, "video": info.has_video}.get(spec.kind, False)
            if modality in inputs:
                # Cached rows without a rate divide the stretch, so its end must be known.
                until = end if end is not None or spec.rate is not None else info.duration or None
                whole[modality] = prepare(Path(), inputs[modality], spec, start, until)
            elif inside:
                whole[modality] = prepare(media.parent, media.name, spec, start, end)
            else:
                missing = {"audio": "no sound in the file", "video": "no picture in the file"}
                absent[modality] = missing.get(spec.kind, f"give cached features with --input {modality}=FILE")
        if not whole:
            reasons = "; ".join(f"{m}: {why}" for m, why in absent.items())
            raise UserError(f"{media}: nothing the model can read ({reasons})", "Use another clip or another model")
        return whole, absent

    def _windows(
        self, whole: Mapping[str, Sampled], spans: list[tuple[float, float]]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Per video-level task (W, C) and per modality (W,) weights; NaN where a window holds nothing."""
        values = {n: np.full((len(spans), len(t.space)), np.nan) for n, t in self.tasks.items() if t.level == "video"}
        weights: dict[str, np.ndarray] = {}
        cuts = [{m: cut for m, s in whole.items() if (cut := between(s, *span)) is not None} for span in spans]
        filled = [w for w, cut in enumerate(cuts) if cut]
        for first in range(0, len(filled), self.batch_size):
            rows = filled[first : first + self.batch_size]
            prediction = self._forward([cuts[w] for w in rows])
            for name, logits in prediction.logits.items():
                values[name][rows] = probabilities(logits, self.tasks[name].space).cpu().numpy()
            for modality, weight in (prediction.fused.modality_weights or {}).items():
                weights.setdefault(modality, np.full(len(spans), np.nan))[rows] = weight.float().cpu().numpy()
        return values, weights

    def _curves(
        self,
        whole: Mapping[str, Sampled],
        per_window: Mapping[str, np.ndarray],
        spans: list[tuple[float, float]],
        times: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Per task (F, C) on the presentation times: a frame-level head's own answer, else the blend of the windows."""
        curves = {name: self.windows.blend(spans, values, times) for name, values in per_window.items()}
        at_frames = [n for n, t in self.tasks.items() if t.level == "frame"]
        if at_frames:
            # A frame-level head sees long stretches; a minute bounds memory on long recordings.
            stretch = SlidingWindow(WHOLE_CLIP, WHOLE_CLIP)
            for name in at_frames:
                curves[name] = np.full((len(times), len(self.tasks[name].space)), np.nan)
            for begin, end in stretch.over(spans[0][0], spans[-1][1]):
                cut = {m: c for m, s in whole.items() if (c := between(s, begin, end)) is not None}
                under = (times >= begin) & (times <= end)
                if not cut or not under.any():
                    continue
                prediction = self._forward([cut])
                moments = torch.as_tensor(times[under], dtype=torch.float32, device=self.device)[None]
                for name in at_frames:
                    logits = at_times(prediction.frames[name], moments)[0]
                    curves[name][under] = probabilities(logits, self.tasks[name].space).cpu().numpy()
            silent = np.isnan(self.windows.blend(spans, _filled(whole, spans), times)[:, 0])
            for name in at_frames:
                curves[name][silent] = np.nan
        return curves

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


def _filled(whole: Mapping[str, Sampled], spans: list[tuple[float, float]]) -> np.ndarray:
    """(W, 1): 1 for a window that holds anything, else NaN."""
    return np.array([[1.0 if any(between(s, *span) is not None for s in whole.values()) else np.nan] for span in spans])


def _clock(media: Path, info: MediaInfo, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Presentation times within [start, end) and the number of each frame in the file; a regular clock for sound."""
    if info.has_video:
        every = presentation_times(media)
        inside = np.flatnonzero((every >= start - 1e-6) & (every < end))
        if inside.size:
            return every[inside], inside
    count = max(1, int(np.ceil((end - start) * SOUND_CLOCK - 1e-6)))
    return start + np.arange(count) / SOUND_CLOCK, np.arange(count)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"there is no device {name!r} here", "Use --device cpu, or auto") from None
    return device
