"""One manifest with all that is known of its files: what every check is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mer.analysis.doctor.cells import Use
from mer.analysis.doctor.exam import Exam, Item
from mer.analysis.doctor.sides import View, views
from mer.analysis.doctor.ward import Ward
from mer.datasets.manifest import Clip, Manifest


@dataclass(frozen=True)
class Case:
    """A manifest under examination.

    Attributes:
        manifest: the corpus and its clips.
        uses: its cells that refer to files, row by row.
        ward: exams of the files.
        quick: media were not decoded.
    """

    manifest: Manifest
    uses: tuple[Use, ...]
    ward: Ward
    quick: bool = False

    @cached_property
    def views(self) -> list[View]:
        return views(self.manifest)

    @cached_property
    def by_column(self) -> dict[str, list[Use]]:
        """Uses of each column."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            found.setdefault(use.column, []).append(use)
        return found

    @cached_property
    def by_row(self) -> dict[int, list[Use]]:
        """Uses of each row, by its line."""
        found: dict[int, list[Use]] = {clip.row: [] for clip in self.manifest.clips}
        for use in self.uses:
            found[use.clip.row].append(use)
        return found

    @cached_property
    def absent(self) -> set[str]:
        """Columns of which not one file is there: lists without the recordings."""
        return {c for c, uses in self.by_column.items() if all(u.path in self.ward.missing for u in uses)}

    @cached_property
    def _readable(self) -> list[tuple[Use, Exam, Item]]:
        found = []
        for use in self.uses:
            exam, item = self.ward.exam(use), self.ward.item(use)
            if exam is not None and item is not None and not exam.problem and not item.problem:
                found.append((use, exam, item))
        return found

    def read(self, *kinds: str) -> Iterator[tuple[Use, Exam, Item]]:
        """Uses of some kinds whose file could be read, with what was learnt."""
        return (known for known in self._readable if known[0].kind in kinds)

    @cached_property
    def files(self) -> list[tuple[Use, Exam]]:
        """Each media file that could be read once, with the first use of it."""
        first: dict[Path, tuple[Use, Exam]] = {}
        for use, exam, _ in self.read("sound", "picture"):
            first.setdefault(use.path, (use, exam))
        return list(first.values())

    @cached_property
    def seconds(self) -> dict[int, float]:
        """Length of each clip by its line; clips of which nothing is known are left out."""
        known: dict[int, float] = {}
        for use, _, item in self.read("sound", "picture"):
            known[use.clip.row] = max(known.get(use.clip.row, 0.0), item.seconds)
        for clip in self.manifest.clips:
            if clip.row not in known and clip.end is not None:
                known[clip.row] = clip.end - clip.start
        return known


def label_of(case: Case, clip: Clip, task: str) -> str | None:
    """A clip's label in words; None where there is none."""
    value, space = clip.labels.get(task), case.manifest.corpus.tasks[task].space
    if value is None:
        return None
    if space.kind == "classes":
        return space.names[int(value[0])]
    if space.kind == "multilabel":
        return " + ".join(n for n, on in zip(space.names, value, strict=True) if on) or "none"
    return ", ".join(f"{v:g}" for v in value)
