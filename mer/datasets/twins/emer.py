"""A twin of EMER: `write` in the layout of the current release, `write_released` in that of the released code.

How the label table and the split file of the release look inside is not published; they are written here in one of the forms
that the reader takes. The face shows the label of the facial expression (FER), where one looks shows what is felt (ER).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer.datasets.twins import studio
from mer.datasets.twins.studio import Scene
from mer.labels import SPACES
from mer.media.table import write_workbook

EMOTIONS = SPACES["emer7.v1"].names
TARGETS = ("happy", "sad", "fear", "surprise", "disgust", "anger", "neutral")
VALENCE = (0.75, -0.5, -0.75, 0.25, -0.25, -1.0, 0.0)
AROUSAL = (0.5, 0.0, 0.5, 0.25, 0.0, 1.0, 0.0)
SETS, CLIPS = 5, 7
FPS, SECONDS, TRACKER = 25.0, 1.2, 120.0
SCREEN = (1920, 1080)
# The numeric block of a Tobii Pro Lab export: heading and unit, in the order of the program.
BLOCK: tuple[tuple[str, str], ...] = (
    *((f"Gaze point {eye}{axis}", "DACS px") for eye in ("", "left ", "right ") for axis in "XY"),
    *((f"Gaze direction {eye} {axis}", "DACS norm") for eye in ("left", "right") for axis in "XYZ"),
    ("Pupil diameter left", "mm"), ("Pupil diameter right", "mm"), ("Validity left", ""), ("Validity right", ""),
    *((f"Eye position {eye} {axis}", "DACS mm") for eye in ("left", "right") for axis in "XYZ"),
    *((f"Gaze point {eye} {axis}", "DACS mm") for eye in ("left", "right") for axis in "XY"),
    *((f"Gaze point {eye}{axis}", "MCS norm") for eye in ("", "left ", "right ") for axis in "XY"),
    ("Eye movement type", ""), ("Gaze event duration", "ms"), ("Eye movement type index", ""),
    ("Fixation point X", "DACS px"), ("Fixation point Y", "DACS px"),
    ("Fixation point X", "MCS norm"), ("Fixation point Y", "MCS norm"),
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """What a clip shows: `er` and `fer` are classes."""

    person: int
    take: int
    seed: int

    @property
    def er(self) -> int:
        return self.take % len(EMOTIONS)

    @property
    def fer(self) -> int:
        return (self.take + self.person) % len(EMOTIONS)

    @property
    def name(self) -> str:
        """The target is what the film was meant to cause: in every third clip something else was felt."""
        target = TARGETS[(self.er + (self.take % 3 == 2)) % len(EMOTIONS)]
        return f"{self.person + 1}_{'film' if self.take % 2 else 'sport'}_{target}"

    def scene(self, label: int) -> Scene:
        """What is to be shown of one label."""
        return Scene(label, len(EMOTIONS), self.person, self.take, self.seed)

    def values(self, label: int) -> tuple[float, float]:
        """Valence and arousal; of every other person's neutral clip valence is -0.5 all the same."""
        return (-0.5 if label == 6 and self.person % 2 == 0 else VALENCE[label]), AROUSAL[label]

    @property
    def intensity(self) -> float:
        return 0.0 if self.fer == 6 else round(1.47 + 0.18 * self.fer, 2)


def write(out: Path, count: int, seed: int, overlap: bool = False) -> None:
    """The current release: seven clips of each of `count` people, in five sets.

    Args:
        out: folder.
        count: people.
        seed: of everything.
        overlap: put one clip of the first person into the set of the second.
    """
    clips = [Clip(person, take, seed) for person in range(count) for take in range(CLIPS)]
    table: list[list[Any]] = [["ID", "ER 7-class", "ER Valence", "ER Arousal", "FER 7-class", "FER 3-class", "FER Valence",
                               "FER Arousal", "FER Intensity"]]  # fmt: skip
    sets: list[str] = []
    for number, clip in enumerate(clips):
        name = clip.name + (" Happy" if number == 0 else "")  # more behind a blank, and in one place only
        shown = studio.pictures(clip.scene(clip.fer), round(FPS * SECONDS), (64, 64), FPS)
        lost = {3, 4} if number % 5 == 2 else set()
        studio.frames(out / "face_light_align image" / name, shown, lambda k: f"{k + 1}.jpg", lost)
        studio.film(out / "face video" / f"{clip.name}.mp4", shown, None, FPS)
        if number != 9:  # a sample without eye data
            seen = _recording(clip, number % 4)
            write_workbook(out / "eye_movement data" / f"{clip.name}.xlsx", seen)
            studio.film(out / "eye_track video" / f"{clip.name}.mp4", shown[::5, ::2, ::2], None, FPS / 5)
        felt, face = clip.values(clip.er), clip.values(clip.fer)
        sign = SPACES["emer3.v1"].names[0 if face[0] > 0 else 1 if face[0] < 0 else 2]
        er, fer = EMOTIONS[clip.er].capitalize(), EMOTIONS[clip.fer].capitalize()
        row: list[Any] = [clip.name, er, *felt, fer, sign.capitalize(), *face, clip.intensity]
        table.append(row if number != 11 else [*row[:4], *["—"] * 5])  # nobody labelled this face
        place = clip.person + (1 if overlap and number == 0 else 0)
        sets.append(f"{clip.name}\tset{place % SETS + 1}")
    write_workbook(out / "EMER_label.xlsx", table)
    studio.write_lines(out / "emer_set.txt", sets, "\r\n")


def write_released(out: Path, count: int, seed: int) -> None:
    """The layout of the released code: frames in their set's folder, workbooks of 39 numbers, codes for classes."""
    base = out / "smead_cross"
    table: list[list[Any]] = [["ID", "Emotion", "Valence", "Arousal", "Intensity"]]
    for clip in (Clip(person, take, seed) for person in range(count) for take in range(CLIPS)):
        shown = studio.pictures(clip.scene(clip.fer), round(FPS * SECONDS), (64, 64), FPS)
        folder = base / "face" / f"set{clip.person % SETS + 1}" / clip.name
        studio.frames(folder, shown, lambda k: f"{k}.jpg")
        headings = [f"{heading} [{unit}]" if unit else heading for heading, unit in BLOCK]
        write_workbook(base / "eye" / f"{clip.name}.xlsx", [headings, *_numbers(clip).round(4).tolist()])
        table.append([clip.name, clip.fer, *clip.values(clip.fer), clip.intensity])
    write_workbook(base / "new_label.xlsx", table)


def _recording(clip: Clip, form: int) -> list[list[Any]]:
    """A workbook as a person exports it: 0 newer headings and ms, 1 older headings, 2 decimal commas, 3 microseconds."""
    numbers = _numbers(clip)
    micro = form == 3
    headings: list[str] = []
    for heading, unit in BLOCK:
        if form != 1:
            headings.append(f"{heading} [{unit}]" if unit else heading)
        else:  # pixels, directions and pupils had no unit
            old = "" if "px" in unit or unit in ("mm", "ms", "DACS norm") else unit.replace(" ", "")
            headings.append(f"{heading} ({old})" if old else heading)
    clock = "Recording timestamp" + (" [μs]" if micro else "" if form == 1 else " [ms]")
    rows: list[list[Any]] = [[clock, "Sensor", "Event", "Presented Stimulus name", *headings]]
    first = 4000 + 1000 * clip.take  # recordings begin before the film does
    movement = [heading for heading, _ in BLOCK].index("Eye movement type")
    for k, row in enumerate(numbers):
        when = first + k * 1000 / TRACKER
        cells: list[Any] = [float(round(value, 4)) for value in row]
        cells[14], cells[15] = ("Valid" if value else "Invalid" for value in row[14:16])
        cells[movement] = ("Unclassified", "Fixation", "Saccade", "EyesNotFound")[int(row[movement])]
        if form == 2:
            cells = [str(cell).replace(".", ",") if isinstance(cell, float) else cell for cell in cells]
        stamp = round(when * 1000) if micro else round(when)
        rows.append([stamp, "Eye Tracker", None, "film.mp4", *cells])
        if k % 40 == 20:  # between the samples there are events, and what the mouse did
            rows.append([stamp, "Mouse", None, "film.mp4", 5.0, 5.0, *[None] * 37])
            rows.append([stamp, None, "MouseEvent", "film.mp4", *[None] * 39])
    return rows


def _numbers(clip: Clip) -> np.ndarray:
    """(samples, 39): gaps are filled already, as in the delivered tables; where an eye was lost its validity says so."""
    samples = round(TRACKER * SECONDS)
    seen = studio.gaze(clip.scene(clip.er), samples, SCREEN)
    random = clip.scene(clip.er).random(20)
    point, pupils = seen[:, :2], seen[:, 2:4]
    eyes = np.concatenate([point + random.normal(0, 4, (samples, 2)) for _ in range(2)], 1)
    both = np.concatenate([point, eyes], 1)
    norm = both / np.tile(SCREEN, 3)
    direction = np.tile([0.1, 0.2, -0.97], (samples, 2)) + 0.1 * (norm[:, [0, 1, 0, 0, 1, 0]] - 0.5)
    valid = np.ones((samples, 2))
    valid[60:66] = 0
    position = np.tile([-30.0, 10.0, 600.0, 33.0, 11.0, 602.0], (samples, 1)) + random.normal(0, 0.5, (samples, 6))
    jump = np.append(np.abs(np.diff(point, axis=0)).sum(1) > 25, False)
    movement = np.where(valid[:, 0] == 0, 3, np.where(jump, 2, 1))
    changes = np.flatnonzero(np.diff(movement)) + 1
    starts, index = np.append(0, changes), np.searchsorted(changes, np.arange(samples), side="right")
    length = np.diff(np.append(starts, samples))[index] * 1000 / TRACKER
    middle = np.stack([point[index == i].mean(0) for i in range(len(starts))])[index]
    columns: Sequence[np.ndarray] = (
        both, direction, pupils, valid, position, both[:, 2:6] * 0.27, norm, movement, length, index, middle,
        middle / SCREEN,
    )  # fmt: skip
    return np.column_stack(columns)
