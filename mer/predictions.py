"""Predictions of one task, collected batch by batch, and turned into the score file that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mer.datasets.manifest import Clip
from mer.evaluation import Scores
from mer.evaluation.metrics import metrics_of, statistics_of
from mer.labels import LabelSpace, Task


def probabilities(logits: Tensor, space: LabelSpace) -> Tensor:
    """Logits (..., C) as what a score file holds: softmax, sigmoid, or the values themselves. float32."""
    logits = logits.detach().float()
    if space.kind == "classes":
        return logits.softmax(dim=-1)
    return logits.sigmoid() if space.kind == "multilabel" else logits


@dataclass
class Predictions:
    """Rows of one task; `start` and `end` are None for whole clips."""

    task: Task
    clip_id: list[str] = field(default_factory=list)
    start: list[float | None] = field(default_factory=list)
    end: list[float | None] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)

    def add_clips(self, clip_ids: Sequence[str], logits: Tensor, target: Tensor) -> None:
        """Add a batch of whole clips: logits (B, C), target as in `Batch`."""
        self.clip_id += clip_ids
        self.start += [None] * len(clip_ids)
        self.end += [None] * len(clip_ids)
        self.values += list(probabilities(logits, self.task.space).cpu().numpy())
        self.targets += list(target.cpu().numpy())

    def add_probabilities(self, clip_id: str, values: np.ndarray) -> None:
        """Add one unlabelled clip whose probabilities (C,) are known."""
        classes = self.task.space.kind == "classes"
        self.clip_id.append(clip_id)
        self.start.append(None)
        self.end.append(None)
        self.values.append(values)
        self.targets.append(np.array(-1) if classes else np.full(len(self.task.space), np.nan))

    def add_frames(self, clip_ids: Sequence[str], times: Tensor, logits: Tensor, target: Tensor) -> None:
        """Add a batch of labelled moments: times (B, F), logits (B, F, C), target (B, F) or (B, F, C)."""
        values = probabilities(logits, self.task.space).cpu().numpy()
        truth = target.cpu().numpy()
        labelled = truth >= 0 if truth.ndim == 2 else np.isfinite(truth).all(axis=2)
        for row, clip_id in enumerate(clip_ids):
            moments = times[row].cpu().numpy().astype(float)
            for frame in np.flatnonzero(labelled[row]):
                after = moments[frame + 1] if frame + 1 < len(moments) and moments[frame + 1] > moments[frame] else None
                self.clip_id.append(clip_id)
                self.start.append(float(moments[frame]))
                self.end.append(None if after is None else float(after))
                self.values.append(values[row, frame])
                self.targets.append(truth[row, frame])

    def metrics(self) -> dict[str, float]:
        """Metrics over the labelled rows, without intervals; empty where nothing is labelled."""
        if not self.values:
            return {}
        values, target = np.stack(self.values), np.stack(self.targets)
        labelled = target >= 0 if target.ndim == 1 else np.isfinite(target).all(axis=1)
        if not labelled.any():
            return {}
        values, target = values[labelled], target[labelled]
        kind = self.task.space.kind
        predicted = values.argmax(1) if kind == "classes" else values >= 0.5 if kind == "multilabel" else values
        totals = statistics_of(self.task.space, target, predicted, np.zeros(len(target), dtype=np.int64), 1)[0]
        return {name: float(metric(totals)) for name, metric in metrics_of(self.task.space).items()}

    def scores(
        self, clips: Mapping[str, Clip], protocol: str, fold: str | None, split: str, seed: int, model: str
    ) -> Scores:
        """The rows as a score file.

        Args:
            clips: manifest rows by id, for subject, group, fold and times.
            protocol: printed beside every number, with the overlap stamp where there is one.
            fold, split, seed, model: where the predictions come from; fold None takes the manifest's.
        """
        rows = [clips[c] for c in self.clip_id]
        nan = float("nan")
        space = self.task.space
        empty: tuple[int, ...] = (0,) if space.kind == "classes" else (0, len(space))
        return Scores(
            task=self.task.name,
            space=space,
            protocol=protocol,
            clip_id=list(self.clip_id),
            start=np.array([r.start if s is None else s for r, s in zip(rows, self.start, strict=True)], float),
            end=np.array(
                [
                    e if e is not None else (r.end if s is None and r.end is not None else nan)
                    for r, s, e in zip(rows, self.start, self.end, strict=True)
                ],
                float,
            ),
            probabilities=np.stack(self.values) if self.values else np.zeros((0, len(space))),
            target=np.stack(self.targets) if self.targets else np.zeros(empty),
            subject=[r.subject for r in rows],
            group=[r.group for r in rows],
            fold=[r.fold if fold is None else fold for r in rows],
            seed=[str(seed)] * len(rows),
            split=[split] * len(rows),
            model=[model] * len(rows),
        )
