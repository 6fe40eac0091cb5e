"""A twin of somebody's own clips: a folder per class, a name per person, and what is found on any disk.

Planted: spaces and brackets in names, endings in capitals, a film of variable frame rate, one without sound, one with its sound
in a file of its own, transcripts with a comma, and files that are no clips.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.datasets.twins import studio

SECONDS = 1.2
CLASSES = ("angry", "calm", "glad", "sad")
NAMES = ("Anna", "Bo", "Chi", "Dan", "Eve", "Finn", "Gil", "Han", "Ida", "Jo")


def write(out: Path, count: int, seed: int) -> None:
    """Two clips of each class and person: `glad/Anna 01 (take 1).mp4`, with `.srt` beside it."""
    for person in range(count):
        name = f"{NAMES[person % len(NAMES)]} {person:02d}"
        for label, folder in enumerate(CLASSES):
            for take in (1, 2):
                scene = studio.Scene(label, len(CLASSES), person, take, seed)
                path = out / folder / f"{name} (take {take}).mp4"
                _clip(path, scene, person, label, take)
                words = studio.words(scene)
                lines = ["1", "00:00:00,100 --> 00:00:01,000", f"{words[0]}, {' '.join(words[1:])}", ""]
                studio.write_lines(path.with_suffix(".srt"), lines)
    studio.write_lines(out / "Thumbs.db", ["no clip"])
    studio.write_lines(out / "glad" / "notes.docx", ["no clip"])
    (out / ".DS_Store").write_bytes(b"\0")


def _clip(path: Path, scene: studio.Scene, person: int, label: int, take: int) -> None:
    shown, wave = studio.pictures(scene, 24), studio.sound(scene, SECONDS)
    kind = (person, label, take)
    if kind == (0, 0, 1):  # no sound
        studio.film(path, shown, fps=20)
    elif kind == (0, 1, 1):  # sound in a file of its own
        studio.film(path, shown, fps=20)
        studio.record(path.with_suffix(".wav"), wave)
    elif kind == (0, 2, 1):  # variable frame rate
        studio.film(path, shown, wave, times=(np.linspace(0, 1, len(shown)) ** 1.3 * SECONDS).tolist())
    else:
        studio.film(path.with_suffix(".MP4") if kind == (1, 0, 1) else path, shown, wave, fps=20)
