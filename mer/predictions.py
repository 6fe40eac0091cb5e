"""Predictions of one task, collected batch by batch, and turned into the score file that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mer.datasets.manifest import Clip
from mer.datasets.views import Average
from mer.evaluation import Scores
from mer.evaluation.metrics import metrics_of, statistics_of
from mer.labels import LabelSpace, Task

_UNSEEN = 1e-12  # weight of a view that shows nothing, so that it counts only where no other view of its clip does


def probabilities(logits: Tensor, space: LabelSpace) -> Tensor:
    """Logits (..., C) as what a score file holds: softmax, sigmoid, or the values themselves. float32."""
    logits = logits.detach().float()
    if space.kind == "classes":
        return logits.softmax(dim=-1)
    return logits.sigmoid() if space.kind == "multilabel" else logits


@dataclass(frozen=True)
class _Part:
    """Some answers.

    Attributes:
        clip: (n,) numbers of the clips.
        time: (n,) seconds of the moments, NaN of whole clips.
        weight: (n,) in the mean over the views of a clip.
        values: (n, C) probabilities or logits.
        target: (n,) or (n, C), as in `Batch`.
    """

    clip: np.ndarray
    time: np.ndarray
    weight: np.ndarray
    values: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """One row per clip, or per labelled moment: what `_Part` says, and the moment that follows, NaN where none does."""

    clip: np.ndarray
    time: np.ndarray
    until: np.ndarray
    values: np.ndarray
    target: np.ndarray


@dataclass
class Predictions:
    """Answers of one task. A clip, or a moment, that is answered several times (views) has the mean of its answers.

    Attributes:
        task: what was predicted.
        average: what the mean is taken of.
        clips: names in order of their first answer, and their numbers.
    """

    task: Task
    average: Average = "probabilities"
    clips: dict[str, int] = field(default_factory=dict)
    _parts: list[_Part] = field(default_factory=list, repr=False)

    def add_clips(self, clip_ids: Sequence[str], logits: Tensor, target: Tensor, shown: Tensor | None = None) -> None:
        """Add a batch of whole clips, or of views of them.

        Args:
            clip_ids: B names.
            logits: (B, C).
            target: as in `Batch`.
            shown: (B,) bool, False where no modality shows anything; None stands for True.
        """
        count = len(clip_ids)
        nan = np.full(count, np.nan)
        self._add(
            _Part(self._numbers(clip_ids), nan, _weights(shown, count), self._values(logits), target.cpu().numpy())
        )

    def add_probabilities(self, clip_id: str, values: np.ndarray) -> None:
        """Add one unlabelled clip whose probabilities (C,) are known; not to be mixed with the mean of logits."""
        assert self.average == "probabilities"
        classes = self.task.space.kind == "classes"
        target = np.array([-1]) if classes else np.full((1, len(self.task.space)), np.nan)
        self._add(_Part(self._numbers([clip_id]), np.full(1, np.nan), np.ones(1), values[None], target))

    def add_frames(
        self,
        clip_ids: Sequence[str],
        times: Tensor,
        logits: Tensor,
        target: Tensor,
        shown: Tensor | None = None,
    ) -> None:
        """Add a batch of moments: times (B, F), logits (B, F, C), target (B, F) or (B, F, C); `shown` as in `add_clips`."""
        seconds = times.cpu().numpy().astype(float)
        real = np.ones(seconds.shape, bool)  # moments rise; what is padded does not
        real[:, 1:] = np.logical_and.accumulate(np.diff(seconds, axis=1) > 0, axis=1)
        truth = target.cpu().numpy()
        labelled = _labelled(truth.reshape(-1, *truth.shape[2:])).reshape(real.shape)
        real &= labelled | (seconds > 0)  # else a row without any moment would have one at 0
        row, frame = np.nonzero(real)
        weight = _weights(shown, len(clip_ids))
        values = self._values(logits)
        part = _Part(self._numbers(clip_ids)[row], seconds[real], weight[row], values[row, frame], truth[row, frame])
        self._add(part)

    def metrics(self) -> dict[str, float]:
        """Metrics over the labelled rows, without intervals; empty where nothing is labelled."""
        rows = self._rows()
        labelled = _labelled(rows.target)
        if not labelled.any():
            return {}
        values, target = rows.values[labelled], rows.target[labelled]
        kind = self.task.space.kind
        predicted = values.argmax(1) if kind == "classes" else values >= 0.5 if kind == "multilabel" else values
        totals = statistics_of(self.task.space, target, predicted, np.zeros(len(target), dtype=np.int64), 1)[0]
        return {name: float(metric(totals)) for name, metric in metrics_of(self.task.space).items()}

    def scores(
        self, clips: Mapping[str, Clip], protocol: str, fold: str | None, split: str, seed: int, model: str
    ) -> Scores:
        """The rows as a score file: one per clip, or per labelled moment of a task at frame level.

        Args:
            clips: manifest rows by id, for subject, group, fold and times.
            protocol: printed beside every number, with the overlap stamp where there is one.
            fold, split, seed, model: where the predictions come from; fold None takes the manifest's.
        """
        rows = self._rows()
        names = list(self.clips)
        clip_id = [names[number] for number in rows.clip]
        about = [clips[name] for name in clip_id]
        whole = np.isnan(rows.time)
        starts = np.array([clip.start for clip in about], float)
        ends = np.array([np.nan if clip.end is None else clip.end for clip in about], float)
        return Scores(
            task=self.task.name,
            space=self.task.space,
            protocol=protocol,
            clip_id=clip_id,
            start=np.where(whole, starts, rows.time),
            end=np.where(whole, ends, rows.until),
            probabilities=rows.values,
            target=rows.target,
            subject=[clip.subject for clip in about],
            group=[clip.group for clip in about],
            fold=[clip.fold if fold is None else fold for clip in about],
            seed=[str(seed)] * len(about),
            split=[split] * len(about),
            model=[model] * len(about),
        )

    def _numbers(self, clip_ids: Sequence[str]) -> np.ndarray:
        return np.array([self.clips.setdefault(name, len(self.clips)) for name in clip_ids], np.int64)

    def _values(self, logits: Tensor) -> np.ndarray:
        if self.average == "logits":
            return logits.detach().float().cpu().numpy()
        return probabilities(logits, self.task.space).cpu().numpy()

    def _add(self, part: _Part) -> None:
        self._parts.append(part)

    def _rows(self) -> _Rows:
        """Everything so far, by clip and by time, several answers to one question averaged."""
        space = self.task.space
        if not self._parts:
            none = np.zeros(0)
            target = none if space.kind == "classes" else np.zeros((0, len(space)))
            return _Rows(none.astype(np.int64), none, none, np.zeros((0, len(space))), target)
        clip, time, weight, values, target = (
            np.concatenate([getattr(part, name) for part in self._parts])
            for name in ("clip", "time", "weight", "values", "target")
        )
        order = np.lexsort((time, clip))
        clip, time = clip[order], time[order]
        new = np.ones(len(order), bool)
        new[1:] = (clip[1:] != clip[:-1]) | ((time[1:] != time[:-1]) & ~np.isnan(time[1:]))
        first = np.flatnonzero(new)
        if len(first) < len(order):
            share = weight[order]
            share = share / np.repeat(np.add.reduceat(share, first), np.diff(first, append=len(order)))
            values = np.add.reduceat(values[order] * share[:, None], first).astype(np.float32)
        else:
            values = values[order]
        clip, time, target = clip[first], time[first], target[order][first]
        until = np.full(len(clip), np.nan)
        until[:-1] = np.where(clip[1:] == clip[:-1], time[1:], np.nan)
        keep = np.isnan(time) | _labelled(target)
        if self.average == "logits":
            values = probabilities(torch.from_numpy(values), space).numpy()
        return _Rows(clip[keep], time[keep], until[keep], values[keep], target[keep])


def _weights(shown: Tensor | None, count: int) -> np.ndarray:
    return np.ones(count) if shown is None else np.where(shown.cpu().numpy(), 1.0, _UNSEEN)


def _labelled(target: np.ndarray) -> np.ndarray:
    return target >= 0 if target.ndim == 1 else np.isfinite(target).all(axis=1)
