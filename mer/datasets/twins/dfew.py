"""A twin of DFEW: the official download, votes of ten annotators, and the lists of another repository that count from 0.

Planted: pictures whose numbers have no zeros, one clip of 11 pictures, one whose first faces are missing and one with a gap,
videos named without zeros, one of a variable rate, one without sound, 16-picture folders, a count that is wrong in the list.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mer.datasets.corpora.dfew import FOLDS, SPACE
from mer.datasets.twins import studio
from mer.media import table

SIZE, SECONDS = (64, 64), 1.0
FRAMES = 25
OTHERS = "annotation_of_others"
SHORT, LATE, GAP, VFR, SILENT = 0, 1, 2, 3, 4  # places in the order of the clips
_VOTED = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "other")


def write(out: Path, count: int, seed: int) -> None:
    """Every person shows each of the seven emotions once.

    Args:
        out: folder.
        count: people.
        seed: of what is made up.
    """
    classes = len(SPACE)
    numbers = [k + 1 + k // 3 for k in range(count * classes)]  # ids have gaps
    labels = [(k + k // classes) % classes for k in range(len(numbers))]
    pictures: list[int] = []
    for place, (number, label) in enumerate(zip(numbers, labels, strict=True)):
        scene = studio.Scene(label, classes, place // classes, number, seed)
        frames = 11 if place == SHORT else FRAMES
        shown = studio.pictures(scene, frames, SIZE)
        wave = studio.sound(scene, frames / 25)
        absent = {LATE: range(3), GAP: range(8, 14)}.get(place, ())
        faces, clip = out / "Clip" / "clip_224x224" / f"{number:05d}", f"{number:05d}"
        studio.frames(faces, shown, partial(_plain if place % 2 else _padded, clip), absent)
        sixteen = shown[np.linspace(0, frames - 1, 16).round().astype(int)]
        studio.frames(out / "Clip" / "clip_224x224_16f" / clip, sixteen, lambda k: f"{k + 1:02d}.jpg")
        times = np.cumsum(np.tile([0.02, 0.1], frames))[:frames].tolist() if place == VFR else None
        silent = place == SILENT
        studio.film(out / "raw" / f"{number}.mp4", shown, None if silent else wave, times=times)
        if not silent:
            studio.record(out / "raw_wav" / f"{number}.wav", wave)
        pictures.append(frames - len(absent))
    pictures[-1] += 2  # a list that counts otherwise
    for fold in range(1, FOLDS + 1):
        for part in ("train", "test"):
            rows = [k for k in range(len(numbers)) if (k % FOLDS + 1 == fold) == (part == "test")]
            official = out / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{fold}.csv"
            studio.write_lines(official, ["video_name,label", *(f"{numbers[k]:05d},{labels[k] + 1}" for k in rows)])
            lines = [f"/somewhere else/{numbers[k]:05d} {pictures[k]} {labels[k]}" for k in rows]
            studio.write_lines(out / OTHERS / f"DFEW_set_{fold}_{part}.txt", lines)
    _votes(out / "annotation.xlsx", numbers, labels, seed)


def _plain(clip: str, k: int) -> str:
    return f"{k + 1}.jpg"


def _padded(clip: str, k: int) -> str:
    return f"{clip}_{k + 1:05d}.jpg"


def _votes(path: Path, numbers: list[int], labels: list[int], seed: int) -> None:
    """Ten people per clip, most of whom see what is shown; one more clip has no single label."""
    random = np.random.default_rng([seed, 11])
    rows: list[list[object]] = [[*_VOTED, "order", "annotation"]]
    for number, label in zip(numbers, labels, strict=True):
        votes = random.multinomial(3, np.full(len(_VOTED), 1 / len(_VOTED)))
        votes[label] += 7
        rows.append([*(int(v) for v in votes), number, label + 1])
    rows.append([3, 3, 0, 0, 0, 0, 0, 4, numbers[-1] + 5, 0])
    table.write_workbook(path, rows)
