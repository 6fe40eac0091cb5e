"""What the cells of a manifest refer to: sound, picture, rows of features, words, skeletons, gaze, or nothing at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mer.datasets.manifest import BESIDE, RESERVED, Clip, Manifest
from mer.errors import UserError
from mer.media.features import split_reference
from mer.media.folder import PICTURE, SOUND, VIDEO
from mer.skeletons import LAYOUTS

Kind = Literal["picture", "sound", "features", "text", "skeleton", "gaze", "other"]
ARRAYS = {".npy", ".npz"}
TEXT = {".srt", ".vtt", ".textgrid", ".ctm", ".txt", ".align", ".lab"}
TABLES = {".csv", ".tsv", ".json", ".xlsx", ".gz", ".parquet"}
BODIES = {".mat", ".skeleton"}
# Words in the name of a column that say what its files hold, where their suffix does not.
NAMES: dict[Kind, str] = {
    "sound": r"audio|voice|sound|speech|wav",
    "skeleton": r"skeleton|pose|body|joints|openpose",
    "gaze": r"gaze|eye|pupil",
    "text": r"text|word|transcript|utterance|subtitle|speech",
}
_FOLDER = re.compile(r".+[^#/]#(?:\d+(?:\.\d+)?(?:@\d+)?|times=.+)$", re.DOTALL)


@dataclass(frozen=True)
class Use:
    """One cell that refers to a file.

    Attributes:
        clip: the row.
        column: of the manifest.
        kind: what the file is read as.
        reference: as the readers take it, relative to the root.
        path: of the file, or of a folder of pictures with its `#25`.
    """

    clip: Clip
    column: str
    kind: Kind
    reference: str
    path: Path

    @property
    def where(self) -> str:
        """For examples."""
        return f"line {self.clip.row}, {self.column}: {self.reference}"


def uses(manifest: Manifest, declared: Mapping[str, Kind]) -> list[Use]:
    """Every cell that refers to a file, row by row.

    Args:
        manifest: the corpus.
        declared: kinds that the user states, by column.

    Raises:
        UserError: `declared` names a column that is not there.
    """
    kinds = columns(manifest, declared)
    found: list[Use] = []
    root, paths = manifest.corpus.root, dict[tuple[str, Kind], Path]()
    for clip in manifest.clips:
        for column, kind in kinds.items():
            cell = clip.cells.get(column, "").strip()
            if cell:
                reference = manifest.resolve(cell)
                path = paths.get((reference, kind))
                if path is None:  # joining paths takes long, and windows of one recording share theirs
                    path = paths[reference, kind] = root / file_of(reference, kind)
                found.append(Use(clip, column, kind, reference, path))
    return found


def columns(manifest: Manifest, declared: Mapping[str, Kind]) -> dict[str, Kind]:
    """Columns whose cells refer to files, and what kind of file."""
    labels = {task.column for task in manifest.corpus.tasks.values()}
    others = [c for c in manifest.columns if c not in RESERVED and c not in labels]
    names = {c for c in others if re.search(r"(^|_)id$", c) and c not in declared}  # may look like a path
    for column, kind in declared.items():
        if column not in others:
            raise UserError(f"{manifest.path}: --kind names column {column!r}", f"There are {', '.join(others)}")
        if kind not in get_args(Kind):
            raise UserError(f"--kind {column}={kind}", f"Use {', '.join(get_args(Kind))}")
    found: dict[str, Kind] = {}
    for column in (c for c in others if c not in names):
        cells = [c for clip in manifest.clips if (c := clip.cells.get(column, "").strip())]
        read_as = declared.get(column) or _kind(column, cells)
        if read_as is not None and cells:
            found[column] = read_as
    return found


def file_of(reference: str, kind: Kind) -> str:
    """The file in a reference; a folder of pictures keeps its `#25`."""
    if kind in ("picture", "sound") and _FOLDER.match(reference) and not _suffix(reference):
        return reference
    if kind == "skeleton":
        head, mark, last = reference.rpartition("#")
        reference = head if mark and last.partition(":")[0] in LAYOUTS else reference
    return split_reference(reference)[0] if kind not in ("picture", "sound") else reference


def _kind(column: str, cells: Sequence[str]) -> Kind | None:
    """What nine in ten of some cells are; None where they are no references."""
    step = max(1, len(cells) // 50)
    guesses = [_guess(column, cell) for cell in cells[::step]]
    known: list[Kind] = [guess for guess in guesses if guess is not None]
    return Counter(known).most_common(1)[0][0] if len(known) >= 0.9 * len(guesses) > 0 else None


def _guess(column: str, cell: str) -> Kind | None:
    suffix = _suffix(cell)
    named = next((kind for kind, words in NAMES.items() if re.search(words, column, re.IGNORECASE)), None)
    if suffix in VIDEO:
        return "sound" if named == "sound" else "picture"
    if suffix in SOUND:
        return "sound"
    if suffix in PICTURE:
        return "picture"
    if suffix in BODIES or cell.rpartition("#")[2].partition(":")[0] in LAYOUTS:
        return "skeleton"
    if suffix in TEXT:
        return named if named in ("gaze", "text") else "text"
    if suffix in ARRAYS:
        return named if named in ("gaze", "skeleton") else "features"
    if suffix in TABLES:
        return named if named in ("gaze", "skeleton", "text") else "other"
    if _FOLDER.match(cell) and " " not in cell.rpartition("/")[2]:
        return "picture"
    return "other" if cell.startswith(BESIDE) else None


def _suffix(cell: str) -> str:
    name = cell.partition("#")[0].rpartition("/")[2]
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and suffix.isalnum() and not suffix.isdigit() else ""
