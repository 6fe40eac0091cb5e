"""BAH's split lists: which video is trained on, which is scored, and its label; and the lists of single frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mer.datasets.corpora import bah_names
from mer.datasets.corpora.bah_annotations import FrameLabels, in_order
from mer.datasets.corpora.bah_names import Name
from mer.datasets.manifest import SPLITS
from mer.errors import UserError
from mer.media.table import read_text

# Videos and participants of the two versions, for a note alone: any list is taken as it is.
VERSIONS: dict[str, dict[str, tuple[int, int]]] = {
    "v224": {"train": (616, 143), "val": (110, 25), "test": (392, 56)},
    "v300": {"train": (778, 195), "val": (124, 30), "test": (525, 75)},
}
PRIVATE = 20  # rows from which on a list of one label is no list of labels


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    Attributes:
        name: what the video's name says.
        spelling: the video's path as the list spells it, which a challenge's answer must repeat.
        split: `train`, `val` or `test`.
        present: 1 or 0; None in the challenge's private list, whose 0 are no labels.
        transcript: what was said; empty where the list does not say, or nothing was said.
        where: file and line, for messages.
    """

    name: Name
    spelling: str
    split: str
    present: int | None
    transcript: str
    where: str


def of_videos(files: Mapping[str, Path]) -> dict[str, Listed]:
    """Videos by key, in the order of the lists.

    Args:
        files: per split its list: `video_path,label,transcript` without header and with commas in the transcript, or the
            packaged form `video,label`.

    Raises:
        UserError: a line is none, a video stands twice, or the labels of a list are all the same.
    """
    found: dict[str, Listed] = {}
    alone = "train" not in files
    for split in SPLITS:
        if split not in files:
            continue
        path = files[split]
        rows = [_listed(split, cells, where) for cells, where in _lines(path)]
        labels = {row.present for row in rows}
        if labels == {0} and (alone or len(rows) >= PRIVATE):
            if not alone:
                raise UserError(
                    f"{path}: all of its {len(rows)} labels are 0, as in the challenge's private list, where 0 is no label",
                    "Prepare the private release by itself, from a folder without train.txt",
                )
            rows = [Listed(r.name, r.spelling, r.split, None, r.transcript, r.where) for r in rows]
        for row in rows:
            if row.name.key in found:
                raise UserError(f"{row.where}: this video stands already in {found[row.name.key].where}", "Remove one")
            found[row.name.key] = row
    return found


def _lines(path: Path) -> Iterator[tuple[list[str], str]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = _cells(line)
        if line.strip() and not (number == 1 and [c.strip().lower() for c in cells[:2]] == ["video", "label"]):
            yield cells, f"{path}, line {number}"


def _cells(line: str) -> list[str]:
    """Path, label, and all the rest. The official lists quote nothing; a spreadsheet that saved one does."""
    if not line.startswith('"'):
        return line.split(",", 2)
    path, *rest = next(csv.reader([line]))
    return [path, *rest[:1], ",".join(rest[1:])]


def _listed(split: str, cells: list[str], where: str) -> Listed:
    name = bah_names.name_of(cells[0], where)
    return Listed(
        name, cells[0].strip(), split, _label(cells, where), cells[2].strip() if len(cells) > 2 else "", where
    )


def _label(cells: list[str], where: str) -> int:
    label = cells[1].strip() if len(cells) > 1 else ""
    if label not in ("0", "1"):
        raise UserError(f"{where}: label {label!r}", "A list has video_path,label,transcript with the labels 0 and 1")
    return int(label)


def of_frames(files: Mapping[str, Path]) -> dict[str, FrameLabels]:
    """Labels of frames by video, from lists of `video_path/frame-k.jpg,label`.

    Raises:
        UserError: a line is none, or one frame has two labels.
    """
    numbers: dict[str, list[int]] = {}
    labels: dict[str, list[int]] = {}
    keys: dict[str, str] = {}  # by folder: a name is read once, not once per frame
    for path in files.values():
        for cells, where in tqdm(_lines(path), path.name, unit=" frames", leave=False):
            folder, _, frame = cells[0].strip().rpartition("/")
            number = bah_names.frame_number(frame)
            if number is None:
                raise UserError(f"{where}: {cells[0][:120]!r} names no frame, as in frame-12.jpg", "Restore the file")
            if folder not in keys:
                keys[folder] = bah_names.name_of(folder, where).key
            numbers.setdefault(keys[folder], []).append(number)
            labels.setdefault(keys[folder], []).append(_label(cells, where))
    return {key: in_order(np.array(n), np.array(labels[key]), key) for key, n in numbers.items()}


def same(one: FrameLabels, other: FrameLabels) -> bool:
    """Whether two sources label the frames that both name alike."""
    _, a, b = np.intersect1d(one.number, other.number, assume_unique=True, return_indices=True)
    return bool((one.present[a] == other.present[b]).all())


def version(listed: Mapping[str, Listed]) -> str:
    """One sentence that says which version the counts are of."""
    counts: dict[str, tuple[int, int]] = {}
    for split in SPLITS:
        rows = [row for row in listed.values() if row.split == split]
        if rows:
            counts[split] = len(rows), len({row.name.person for row in rows})
    told = ", ".join(f"{split} {videos} videos of {people}" for split, (videos, people) in counts.items())
    for name, known in VERSIONS.items():
        if known == counts:
            return f"{name}: {told} participants"
    return f"{told} participants; the counts are neither those of v224 nor of v300"
