"""What a corpus reader is asked, what it answers, and how that becomes `manifest.csv`, `corpus.yaml` and `prepared.json`."""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mer import __version__
from mer.datasets.manifest import BESIDE, RESERVED, Corpus, write_manifest
from mer.errors import UserError
from mer.files import write_text


@dataclass(frozen=True)
class Request:
    """What `mer prepare CORPUS` was asked.

    Attributes:
        root: folder of the official download, or of its packaged form.
        out: folder of the manifest; what a reader makes itself (frame labels, mended transcripts) goes there, too.
        skip_errors: leave out and list what cannot be read, where an error would stop.
        options: the reader's own options, as its `options` added them to the parser.
    """

    root: Path
    out: Path
    skip_errors: bool = False
    options: argparse.Namespace = field(default_factory=argparse.Namespace)

    def folder(self) -> Path:
        """The root.

        Raises:
            UserError: there is no such folder.
        """
        if self.root.is_file():
            raise UserError(f"{self.root}: a file, not a folder", "Unpack an archive, and pass the folder with --root")
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder", "Pass the folder of the download with --root")
        return self.root

    def beside(self, name: str) -> tuple[Path, str]:
        """Where a file of the reader's own lies, and how a manifest cell refers to it."""
        return self.out / name, BESIDE + name


@dataclass
class Prepared:
    """A corpus as a reader found it.

    Attributes:
        corpus: what `corpus.yaml` says.
        rows: one per clip, by manifest column; columns that a row lacks are empty.
        left_out: per recording that was left out the reason.
        notes: what the reader found or decided that the user must know, one sentence each (a version told by its counts,
            an ambiguity resolved by the data, subjects on both sides); printed and kept in `prepared.json`.
        facts: the same for machines, e.g. `{"wrist_of_tips": "left"}`; kept in `prepared.json`.
        parts: manifests in folders of these names, where one corpus is several (a fold whose features are its own).
    """

    corpus: Corpus
    rows: Sequence[Mapping[str, object]]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Prepared] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Write the three files; the manifest last, so that one without it is unfinished."""
        for name, part in self.parts.items():
            part.write(out / name)
        if not self.rows and self.parts:
            return
        if not self.rows:
            name, why = next(iter(self.left_out.items()), ("", "no clips were found"))
            count = f"{len(self.left_out)} recording(s) were left out, among them {name}: " if name else ""
            raise UserError(f"{self.corpus.name}: nothing could be prepared; {count}{why.rstrip('.')}", "Check --root")
        out.mkdir(parents=True, exist_ok=True)
        self.corpus.write(out / "corpus.yaml")
        record = {
            "corpus": self.corpus.name, "mer": __version__, "clips": len(self.rows),
            "notes": self.notes, "facts": self.facts, "left_out": self.left_out,
        }  # fmt: skip
        write_text(out / "prepared.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        write_manifest(out / "manifest.csv", _columns(self.rows, self.corpus), self.rows)


def _columns(rows: Iterable[Mapping[str, object]], corpus: Corpus) -> list[str]:
    """Reserved columns in their order, then labels, then the rest as the rows bring them."""
    seen = dict.fromkeys(column for row in rows for column in row)
    labels = [task.column for task in corpus.tasks.values() if task.level == "video"]
    first = [column for column in RESERVED if column in seen or column == "clip_id"]
    if any(task.level == "frame" for task in corpus.tasks.values()) and "frame_labels" not in first:
        first.append("frame_labels")
    return list(dict.fromkeys([*first, *labels, *seen]))


def below(cell: str, where: str) -> str:
    """A path of a table, which stays below the root.

    Raises:
        UserError: it is absolute, or climbs.
    """
    if cell.startswith("/") or ".." in cell.replace("\\", "/").split("/"):
        raise UserError(f"{where}: {cell!r} leads out of the root", "Restore the file")
    return cell


def arrays_of(path: Path, **dimensions: int) -> list[np.ndarray]:
    """Arrays of an .npz, in the order asked for.

    Args:
        path: the file.
        dimensions: per name of an array the number of its dimensions.

    Raises:
        UserError: damaged, an array is missing or has other dimensions, or it holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = [arrays[name] for name in dimensions]
    except (
        OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, NotImplementedError, BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        names = ", ".join(dimensions)
        raise UserError(f"{path}: not readable, or without {names} ({error})", "Restore the file") from None
    for (name, number), array in zip(dimensions.items(), found, strict=True):
        if array.ndim != number:
            raise UserError(f"{path}: {name} has {array.ndim} dimension(s), not {number}", "Restore the file")
    return found


def files_below(root: Path, suffixes: Iterable[str] = ()) -> dict[str, str]:
    """Files below a folder: name -> path relative to it, in natural order of the paths. One pass, no `stat` per file.

    Where two folders hold a file of the same name, the first stays.

    Args:
        root: folder.
        suffixes: lower case, with the dot; none takes every file.
    """
    found: dict[str, str] = {}
    for path in paths_below(root, suffixes):
        found.setdefault(path.rpartition("/")[2], path)
    return found


def paths_below(root: Path, suffixes: Iterable[str] = ()) -> Iterator[str]:
    """Files below a folder, relative to it, folder by folder in order of their names. One pass, no `stat` per file.

    Args:
        root: folder.
        suffixes: lower case, with the dot; none takes every file. Names that begin with a dot are left out, those of folders,
            too.
    """
    wanted = tuple(suffixes)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(folder, root)
        for name in sorted(names):
            if not name.startswith(".") and (not wanted or name.lower().endswith(wanted)):
                yield name if relative == "." else f"{relative}/{name}".replace(os.sep, "/")
