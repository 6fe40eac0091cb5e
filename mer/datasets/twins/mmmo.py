"""A twin of the packaged ICT-MMMO: steps are zero before the first and behind the last word, and a face is missing at times.

The packaged form has no films; one is added, because `mer predict` reads a recording, and features as an input beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.datasets.corpora.mmmo import FILES, THRESHOLD
from mer.datasets.twins import studio

STEPS, AUDIO, VIDEO = 20, 74, 36
SCORES = (1.0, 4.5, 2.0, 5.0, 1.5, 4.0, 3.0, 3.5)
SHARE = {"train": 6, "val": 2, "test": 2}  # reviews per person asked for


def write(out: Path, count: int, seed: int) -> None:
    """Of `count` people ten reviews each, over the three parts."""
    out.mkdir(parents=True, exist_ok=True)
    for part, (split, name) in enumerate(FILES.items()):
        size = SHARE[split] * count
        audio, video = np.zeros((size, STEPS, AUDIO), np.float32), np.zeros((size, STEPS, VIDEO), np.float32)
        y = np.array([SCORES[row % len(SCORES)] for row in range(size)], np.float32)
        for row in range(size):
            positive = int(y[row] > THRESHOLD)
            random = studio.Scene(positive, 2, row, part, seed).random(9)
            first, last = (row % 3) * (row % 2), STEPS - (row % 4)
            for values in (audio, video):
                values[row, first:last] = random.normal(0, 1, (last - first, values.shape[2]))
                values[row, first:last, :6] += 2 * positive - 1
            if row % 5 == 0:
                video[row, first : first + 2] = 0  # no face was found
        np.savez(out / name, audio=audio, video=video, y=y)
    film = studio.Scene(0, 2, 0, 0, seed)
    studio.film(out / "review.mp4", studio.pictures(film, 2 * STEPS, (64, 64), 2.0), studio.sound(film, STEPS), fps=2.0)
