"""A twin of the RAVDESS posteriors: two folds of made-up answers, the sound's far surer on the rows it was fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.datasets.corpora.ravdess_posteriors import STREAMS
from mer.labels import SPACES

CLASSES = len(SPACES["ravdess8.v1"])
FOLDS = 2


def write(out: Path, count: int, seed: int) -> None:
    """Write `posteriors/foldK.npz` of `count` actors, at least two; each says each emotion twice."""
    actors = np.arange(1, max(count, FOLDS) + 1)
    folder = out / "posteriors"
    folder.mkdir(parents=True, exist_ok=True)
    for fold in range(FOLDS):
        random = np.random.default_rng([seed, fold])
        arrays: dict[str, np.ndarray] = {}
        for split in ("train", "test"):
            who = [a for a in actors if (a % FOLDS == fold) == (split == "test")]
            said = [(emotion, take, actor) for actor in who for emotion in range(CLASSES) for take in (1, 2)]
            labels = np.array([emotion for emotion, _, _ in said])
            # Neutral is not said with strong intensity, so the take is the repetition.
            arrays[f"{split}_name"] = np.array([f"01-01-{e + 1:02d}-01-01-{t:02d}-{a:02d}" for e, t, a in said])
            arrays[f"{split}_label"] = labels
            for stream, array in STREAMS.items():
                sure = 8.0 if (stream, split) == ("audio", "train") else 2.0
                logits = sure * np.eye(CLASSES)[labels] + random.normal(0, 1, (len(said), CLASSES))
                if array.endswith("probs"):
                    logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                arrays[f"{split}_{array}"] = logits.astype(np.float32)
        np.savez(folder / f"fold{fold}.npz", **arrays)  # type: ignore[arg-type]
