"""A twin of BAH: made-up people who answer seven questions, in the released layout (`write`) and in that of ABAW-8.

Planted: blanks and underscores in names, spelled otherwise in lists than on disk; the name of a computer behind a name; a
folder `Visite 1`; commas in transcripts and an empty one; a recogniser that counts from 0 again, and one that does not know
its last end; a clip without sound, one of variable frame rate; pictures of faces with gaps, fewer than frames, and none at
all; unpadded numbers; a participant who did not consent. Presence is seen, heard and said in the middle of a clip, and depends
on the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mer.datasets.twins.studio import Scene, film, frames, pictures, sound, words, write_lines

FPS = 24.0
FRAMES = 36  # of a clip
SIZE = 64
FIRST = 90001  # number of the first participant
SPLITS = ("train", "val", "test")
# Of each question how many of three people show it: the question is a prior, and not all.
_PRESENT = (0, 2, 1, 3, 2, 1, 3)


@dataclass(frozen=True)
class Take:
    """One answer.

    Attributes:
        person: from 0; question: 1 to 7.
        split: that the person is in.
        seed: of the twin.
    """

    person: int
    question: int
    split: str
    seed: int

    @property
    def present(self) -> int:
        return int((self.person + self.question) % 3 < _PRESENT[self.question - 1])

    @property
    def pid(self) -> int:
        return FIRST + self.person

    @property
    def file(self) -> str:
        """Name of the video: every other person's with a blank, some with the name of a computer."""
        blank = " " if self.person % 2 else "_"
        suffix = "-DESKTOP-NQ55E0P" if (self.person, self.question) == (0, 2) else ""
        return f"{self.pid}_Question_{self.question}_2024-11-{self.question:02d}{blank}14-46-11_Video{suffix}.mp4"

    @property
    def visit(self) -> str:
        return "Visite 1" if self.person == 3 else "Visite_1"

    @property
    def path(self) -> str:
        """Below `Videos/` as it lies on the disk."""
        return f"{self.pid}/{self.visit}/{self.file}"

    @property
    def listed(self) -> str:
        """As lists and annotations spell it: person 1's without the blank that the disk has."""
        return (f"Videos/{self.path}").replace(" ", "_") if self.person == 1 else f"Videos/{self.path}"

    @property
    def stretch(self) -> tuple[int, int]:
        """First and last frame of the segment that shows it."""
        return FRAMES // 4, 3 * FRAMES // 4

    def scene(self, label: int) -> Scene:
        return Scene(label, 2, self.person, self.question, self.seed)

    def labels(self) -> np.ndarray:
        """(FRAMES,) of 0 and 1."""
        first, last = self.stretch
        number = np.arange(FRAMES)
        return ((number >= first) & (number <= last) & bool(self.present)).astype(int)


def write(out: Path, count: int, seed: int) -> None:
    """Write the released layout with `count` people."""
    takes = list(_takes(count, seed))
    annotations: dict[str, Any] = {}
    for take in takes:
        shown = _media(take, out / "Videos" / take.path)
        _faces(take, shown, out / "cropped-aligned-faces" / "Videos" / take.path)
        transcript = _transcript(take)
        folder = out / "transcription" / "Videos" / take.path
        _dump(folder / f"{take.file.removesuffix('.mp4')}.yml", transcript)
        annotations[take.listed] = _annotation(take, take.listed) | _details(take) | {"transcript": transcript}
    _dump(out / "video_annotation_transcript.yaml", annotations)
    for split in SPLITS:
        mine = [take for take in takes if take.split == split]
        write_lines(out / "split" / f"{split}.txt", [f"{t.listed},{t.present},{_said(t)}" for t in mine])
        lines = [f"{t.listed}/frame-{k}.jpg,{label}" for t in mine for k, label in enumerate(t.labels())]
        write_lines(out / "split-frames" / f"{split}.txt", lines)
    write_lines(out / "bah-video.csv", [f"{take.listed},{take.present}" for take in takes])
    (out / "class_id.yaml").write_text("With A-H: 1\nNo A-H: 0", encoding="utf-8")
    _dump(out / "meta_data.yml", {f"{FIRST + person}": _about(person, count) for person in range(count)})


def write_abaw8(out: Path, count: int, seed: int) -> None:
    """Write the layout of ABAW-8: one folder per split with `annotation.yml` and `videos/`, names with blanks, no more."""
    takes = list(_takes(count, seed))
    for split in SPLITS:
        folder = out / f"BAH-{split}-8th-ABAW" / f"ABAW-8th-BAH-{split}-data"
        annotations = {}
        for take in takes:
            if take.split == split:
                name = take.file.replace("_14-46", " 14-46")
                _media(take, folder / "videos" / str(take.pid) / "Visite 1" / name)
                key = f"{take.pid}/Visite 1/{name}"
                annotations[key] = _annotation(take, key)
        if annotations:
            _dump(folder / "annotation.yml", annotations)


def _takes(count: int, seed: int) -> Iterator[Take]:
    """Seven answers of each: the last third of the people is the test, those before it validate, as far as there are any."""
    test = count // 3
    val = max(1, count // 6) if count > 2 else 0
    for person in range(count):
        split = "test" if person >= count - test else "val" if person >= count - test - val else "train"
        for question in range(1, 8):
            yield Take(person, question, split, seed)


# -- pictures and sound -------------------------------------------------------------------------------------------------


def _media(take: Take, path: Path) -> np.ndarray:
    """Write the video; gives its pictures."""
    labels = take.labels()
    shown = pictures(take.scene(0), FRAMES, (SIZE, SIZE), FPS)
    wave = sound(take.scene(0), FRAMES / FPS)
    if take.present:
        at = np.minimum((np.arange(len(wave)) * FRAMES) // len(wave), FRAMES - 1)
        shown = np.where(labels[:, None, None, None] == 1, pictures(take.scene(1), FRAMES, (SIZE, SIZE), FPS), shown)
        wave = np.where(labels[at] == 1, sound(take.scene(1), FRAMES / FPS), wave)
    times = np.arange(FRAMES) / FPS
    variable = (take.person, take.question) == (0, 3)
    if variable:  # a camera that slows down in the dark
        times = times + np.maximum(0, np.arange(FRAMES) - FRAMES // 2) * 0.02
    silent = (take.person, take.question) == (0, 5)
    film(path, shown, None if silent else wave, FPS, times.tolist() if variable else None)
    return shown


def _faces(take: Take, shown: np.ndarray, folder: Path) -> None:
    """Write pictures of the face, numbered from 0 without padding."""
    if (take.person, take.question) == (1, 6):
        return  # the whole folder is missing
    absent: set[int] = set()
    if (take.person, take.question) == (0, 4):
        absent = {0, 5, 6, 7}
    if (take.person, take.question) == (0, 6):
        shown = shown[: FRAMES - 6]
    frames(folder, shown, "frame-{}.jpg".format, absent)


# -- what is said and annotated -----------------------------------------------------------------------------------------


def _words(take: Take) -> list[str]:
    return [] if (take.person, take.question) == (0, 1) else words(take.scene(take.present), 9)


def _said(take: Take) -> str:
    """With commas, as people speak."""
    said = _words(take)
    return f"{' '.join(said[:4])}, {' '.join(said[4:])}, well." if said else ""


def _transcript(take: Take) -> dict[str, Any]:
    """As Whisper gave it: after the second chunk it counts from 0 again; the last end is missing now and then."""
    said = _words(take)
    if not said:
        return {"chunks": [], "text": ""}
    last = None if take.question % 2 else 0.2
    times = [(0.0, 0.6), (0.6, 1.3), (0.0, last)]
    chunks = [
        {"language": "english", "text": " " + " ".join(said[3 * k : 3 * k + 3]), "timestamp": time}
        for k, time in enumerate(times)
    ]
    return {"chunks": chunks, "text": _said(take)}


def _annotation(take: Take, spelling: str) -> dict[str, Any]:
    """The fields that all releases have."""
    first, last = take.stretch
    return {
        "fr_detailed_ah": [[first, last]] if take.present else [],
        "frame_annotation": [[f"{spelling}/frame-{k}.jpg", int(label)] for k, label in enumerate(take.labels())],
        "global_ah": take.present,
        "time_detailed_ah": [_times(take)] if take.present else [],
    }


def _times(take: Take) -> list[Any]:
    """As text `HH:MM:SS.mmm` or as numbers: both occur."""
    begin, end = (frame / FPS for frame in take.stretch)
    return [f"00:00:{begin:06.3f}", f"00:00:{end:06.3f}"] if take.question % 2 else [round(begin, 3), round(end, 3)]


def _details(take: Take) -> dict[str, Any]:
    cue = {"audio": ["Pause", "Slow"], "body": None, "facial": ["Gaze"], "inconsistencies": "FL", "language": None}
    return {
        "all_cues": [cue] if take.present else [],
        "annotator_id": "MGG",
        "certainty_ah": [1] if take.present else [],
    }


def _about(person: int, count: int) -> dict[str, Any]:
    return {
        "Age": 30 + person,
        "Age range": "25 - 34 years" if person < 5 else "35 - 44 years",
        "Birth country": "Canada",
        "Canada province": "Quebec (QC)",
        "Ethnicity": "Nobody in it is real",
        "Ethnicity simplified": "None",
        "Gender": "Female" if person % 2 else "Male",
        "Is student": "No",
        "Use in challenges": "Yes",
        "Use in publications": "No" if person == count - 1 else "Yes",
    }


def _dump(path: Path, content: object) -> None:
    """As the authors' program writes YAML: block style, tuples with Python's tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(content), encoding="utf-8")
