"""Small made-up score tables for the tests of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer.evaluation.scores import Scores
from mer.labels import LabelSpace

SPACE = LabelSpace("three.v1", ("happy", "sad", "angry"))


def make_scores(target: ArrayLike, predicted: ArrayLike, **columns: Any) -> Scores:
    """Scores of clips c000, c001, ... that are decided as told; other columns as keywords."""
    n = len(np.asarray(target))
    space = columns.pop("space", SPACE)
    classes = len(space)
    given: dict[str, Any] = {
        "clip_id": [f"c{i:03d}" for i in range(n)],
        "start": np.full(n, np.nan),
        "end": np.full(n, np.nan),
    }
    given |= {"task": "emotion", "protocol": "loso", "space": space, "target": np.asarray(target)}
    given["probabilities"] = np.eye(classes)[np.asarray(predicted, dtype=int)] * 0.7 + 0.3 / classes
    return Scores(**(given | columns))


def make_values(space: LabelSpace, target: NDArray[Any], values: NDArray[Any], **columns: Any) -> Scores:
    """Scores of a continuous or multilabel task, both (N, C)."""
    clips, empty = [f"c{i:03d}" for i in range(len(target))], np.full(len(target), np.nan)
    return Scores("affect", space, "loso", clips, empty, empty, values, target, **columns)


def clustered(rng: np.random.Generator, subjects: int = 20, clips: int = 15, shift: float = 0.0) -> Scores:
    """A two-class task where some subjects are read well and others badly (accuracy of a subject: uniform 0.3 to 1)."""
    skill = np.repeat(np.clip(rng.uniform(0.3, 1.0, subjects) + shift, 0, 1), clips)
    target = np.tile(np.arange(clips) % 2, subjects)
    right = rng.random(subjects * clips) < skill
    names = [f"s{i:02d}" for i in range(subjects) for _ in range(clips)]
    space = LabelSpace("two.v1", ("yes", "no"))
    return make_scores(target, np.where(right, target, 1 - target), subject=names, space=space)
