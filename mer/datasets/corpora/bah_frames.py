"""When BAH's frames are shown: times of the pictures `frame-<k>.jpg` and of their labels, as seconds of media time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.datasets.corpora.bah_annotations import FrameLabels
from mer.files import write_text
from mer.labels import LabelSpace

EXACT = 1e-3  # seconds; times that a constant rate describes so well need no table
FPS = 24.0  # of the corpus, where no video tells: 916,618 frames in 10.60 hours


def moments(number: np.ndarray, shown: np.ndarray | None, fps: float) -> np.ndarray:
    """When frames are shown: (F,) seconds, rising.

    Args:
        number: (F,) int, frame k of the video, counted from 0.
        shown: presentation times of the video's frames, where it is there. Numbers behind its last frame go on at `fps`.
        fps: frames per second.
    """
    if shown is None or not len(shown):
        return number / fps
    inside = np.minimum(number, len(shown) - 1)
    return shown[inside] + (number - inside) / fps


def is_even(shown: np.ndarray | None, fps: float) -> bool:
    """Whether frame k is shown at k / fps, within `EXACT`; also where no video tells."""
    return shown is None or bool(np.abs(shown - np.arange(len(shown)) / fps).max(initial=0) < EXACT)


def mean_rate(shown: np.ndarray) -> float | None:
    """Frames per second of presentation times; None where there are fewer than two."""
    return (len(shown) - 1) / float(shown[-1] - shown[0]) if len(shown) > 1 and shown[-1] > shown[0] else None


def write(path: Path, column: str, labels: FrameLabels, times: np.ndarray, space: LabelSpace) -> None:
    """Write a frame_labels file."""
    rows = (f"{t:.6f},{space.names[p]}\n" for t, p in zip(times.tolist(), labels.present.tolist(), strict=True))
    write_text(path, f"time,{column}\n" + "".join(rows))
