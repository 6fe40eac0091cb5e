"""Where things lie in a download of BAH: the released and the challenge's tree, ABAW-8, the baseline's, and lists alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mer.datasets.corpora import bah_annotations, bah_names
from mer.datasets.corpora.reading import files_below
from mer.datasets.manifest import SPLITS
from mer.errors import UserError
from mer.media.table import read_text

DEPTH = 5  # folders below the root that lists and annotations are looked for in
_ABAW = re.compile(r"(?:^|[^a-z])(train|val|validation|test)(?:[^a-z]|$)", re.IGNORECASE)
_PACKAGED = re.compile(r"^split0_(train|val|test)\.csv$")
_FACES = ("cropped-aligned-faces", "cropped_aligned", "cropped-aligned")


@dataclass
class Tree:
    """What a download holds.

    Attributes:
        videos, faces, transcripts, features: folders by kind.
        lists, frame_lists: per folder of lists the file of each split.
        annotations: YAML files.
        participants: `meta_data.yml`.
        classes: `class_id.yaml`.
        labels: `bah-video.csv`.
    """

    videos: list[Path] = field(default_factory=list)
    faces: list[Path] = field(default_factory=list)
    transcripts: list[Path] = field(default_factory=list)
    features: list[Path] = field(default_factory=list)
    lists: dict[Path, dict[str, Path]] = field(default_factory=dict)
    frame_lists: dict[Path, dict[str, Path]] = field(default_factory=dict)
    annotations: list[Path] = field(default_factory=list)
    participants: list[Path] = field(default_factory=list)
    classes: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)


def look(root: Path) -> Tree:
    """Find the parts by their names. Folders of media are not walked here.

    Raises:
        UserError: a list cannot be read.
    """
    tree = Tree()
    media = {"videos": tree.videos, "transcription": tree.transcripts, "compacted_48": tree.features}
    media |= dict.fromkeys(_FACES, tree.faces)
    single = {"meta_data.yml": tree.participants, "class_id.yaml": tree.classes, "bah-video.csv": tree.labels}
    single |= dict.fromkeys(bah_annotations.FILES, tree.annotations)
    for folder, folders, names in os.walk(root):
        at = Path(folder)
        for name in list(folders):
            kind = media.get(name.lower())
            if kind is not None:
                kind.append(at / name)
                folders.remove(name)
            elif name.startswith(".") or name.lower() == "frames":
                folders.remove(name)
        folders.sort()
        if len(at.relative_to(root).parts) >= DEPTH:
            folders.clear()
        for name in sorted(names):
            if name in single:
                single[name].append(at / name)
        _lists(at, names, tree)
    return tree


def _lists(folder: Path, names: list[str], tree: Tree) -> None:
    """The lists of one folder; their first line says whether they are of videos or of frames."""
    files = {name[:-4]: folder / name for name in names if name in {f"{s}.txt" for s in SPLITS}}
    files |= {m[1]: folder / name for name in names if (m := _PACKAGED.match(name))}
    kinds: dict[bool, dict[str, Path]] = {}
    for split, path in files.items():
        first = read_first(path)
        name = first.split(",", 1)[0].strip('"')
        if bah_names.found(name) is not None or first.startswith("video,label"):
            kinds.setdefault("/frame-" in name, {})[split] = path
    if False in kinds:
        tree.lists[folder] = kinds[False]
    if True in kinds:
        tree.frame_lists[folder] = kinds[True]


def read_first(path: Path) -> str:
    """First line of a text file; empty where it has none."""
    try:
        with path.open("rb") as file:
            return file.readline(4096).decode("utf-8-sig", "replace").strip()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "Check its permissions") from None


def split_of(path: Path, root: Path) -> str:
    """The split that a folder of ABAW-8 names (`BAH-train-8th-ABAW`); empty where none does."""
    for part in reversed(path.relative_to(root).parts[:-1]):
        if match := _ABAW.search(part):
            return {"validation": "val"}.get(match[1].lower(), match[1].lower())
    return ""


def media_of(folders: list[Path], root: Path, suffix: str) -> dict[str, str]:
    """Files by the key of the video that their name tells: paths below the root.

    Raises:
        UserError: two files are of one video.
    """
    found: dict[str, str] = {}
    for folder in folders:
        above = folder.relative_to(root).as_posix()
        for relative in files_below(folder, [suffix]).values():
            name = bah_names.found(relative.removesuffix(suffix))
            if name is None:
                continue
            path = f"{above}/{relative}"
            if name.key in found:
                raise UserError(f"{root / path}: the same video as {root / found[name.key]}", "Remove one of the two")
            found[name.key] = path
    return found


def folders_of(folders: list[Path], root: Path) -> dict[str, str]:
    """Folders of one video each (of face pictures, of features) by key: paths below the root. What is in them is not read."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in _leaves(folder):
            name = bah_names.found(path.name)
            assert name is not None
            relative = path.relative_to(root).as_posix()
            if name.key in found:
                raise UserError(f"{path}: of the same video as {root / found[name.key]}", "Remove one of the two")
            found[name.key] = relative
    return found


def _leaves(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        inner = sorted((e.path for e in entries if e.is_dir()), key=str)
    for path in inner:
        if bah_names.found(Path(path).name) is not None:
            yield Path(path)
        else:
            yield from _leaves(Path(path))


def faces(root: Path, folder: str) -> list[int]:
    """Numbers of the pictures `frame-<k>.jpg` of a folder, rising."""
    numbers = (bah_names.frame_number(name) for name in os.listdir(root / folder))
    return sorted(n for n in numbers if n is not None)


def known(tree: Tree, root: Path) -> None:
    """Check that labels are numbered as they are everywhere.

    Raises:
        UserError: `class_id.yaml` numbers them otherwise.
    """
    for path in tree.classes:
        lines = [line.rpartition(":")[::2] for line in read_text(path).splitlines() if line.strip()]
        told = {name.strip().strip("'\"").lower(): number.strip() for name, number in lines}
        if told.get("with a-h") != "1" or told.get("no a-h") != "0":
            raise UserError(f"{path}: not 'With A-H: 1' and 'No A-H: 0'", "Restore the file; the lists count so")
