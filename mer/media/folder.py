"""Which files a user means who names files and folders, and what their results are called."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from mer.errors import UserError
from mer.media.pictures import plain

VIDEO = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv"}
SOUND = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"}
PICTURE = {".jpg", ".jpeg", ".png", ".gif"}


def media_files(paths: Sequence[Path], suffixes: set[str]) -> list[Path]:
    """Files as named, and those of a folder that end in one of `suffixes`, in order of name.

    Raises:
        UserError: a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if not inside:
                raise UserError(
                    f"{path}: no video or sound file in this folder",
                    "Name the files, or another folder; numbered pictures are read as FOLDER#25, 25 per second",
                )
            files += inside
        else:
            files.append(path)
    return files


def result_names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each clip: its stem, numbered where two clips share it."""
    names: list[str] = []
    for path in paths:
        candidates = itertools.chain([plain(path).stem], (f"{plain(path).stem}-{n}" for n in itertools.count(2)))
        names.append(next(name for name in candidates if name not in names))
    return names
