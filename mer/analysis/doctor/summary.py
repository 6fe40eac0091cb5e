"""What a corpus holds, in numbers: partitions, classes, lengths, modalities; and the whole report as plain JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mer import __version__
from mer.analysis.doctor import label_checks, lists
from mer.analysis.doctor.case import Case
from mer.analysis.doctor.findings import Finding
from mer.analysis.doctor.sides import partitions
from mer.datasets.manifest import Clip

SCHEMA = 1
BINS = 24  # of the histogram of lengths


@dataclass(frozen=True)
class Part:
    """Train, val or test of a partition. Seconds are of the clips whose length is known."""

    name: str
    clips: int
    people: int = 0
    known: int = 0
    seconds: float = 0.0
    shortest: float = 0.0
    median: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True)
class Division:
    """One way to train and test.

    Attributes:
        name: `split`, `fold 3`, `set1`.
        parts: in order.
        leaks: pairs, or clips of lists, that stand on both sides.
    """

    name: str
    parts: tuple[Part, ...]
    leaks: int


@dataclass(frozen=True)
class Classes:
    """Clips of each class: per division and part, in the order of `names`."""

    task: str
    names: tuple[str, ...]
    counts: dict[str, dict[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Column:
    """Cells of a modality: how many refer to a file, and how many files are there."""

    name: str
    kind: str
    cells: int
    files: int
    there: int


@dataclass(frozen=True)
class Summary:
    """One manifest, or the lists of one folder.

    Attributes:
        name, path: of the corpus.
        clips, people, groups: how many.
        seconds: of all clips whose length is known.
        edges, lengths: (BINS + 1) seconds, and clips between them; empty where no length is known.
    """

    name: str
    path: str
    clips: int
    people: int = 0
    groups: int = 0
    seconds: float = 0.0
    divisions: tuple[Division, ...] = ()
    classes: tuple[Classes, ...] = ()
    columns: tuple[Column, ...] = ()
    edges: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that `mer doctor` says.

    Attributes:
        summaries: per manifest.
        findings: worst first.
        checked: what was looked at, a sentence each; and what was not, and why.
        command: as it was typed.
    """

    summaries: tuple[Summary, ...]
    findings: tuple[Finding, ...]
    checked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    command: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def leaks(self) -> list[Finding]:
        """The findings for which the exit status is 1."""
        return [f for f in self.findings if f.severity == "leak"]

    def to_dict(self) -> dict[str, Any]:
        """doctor.json."""
        return {
            "schema": SCHEMA, "mer": __version__, "command": self.command, "leaks": len(self.leaks),
            "findings": [f.to_dict() for f in self.findings], "corpora": [asdict(s) for s in self.summaries],
            "checked": list(self.checked), "not_checked": list(self.left), "facts": self.facts,
        }  # fmt: skip


def of_case(case: Case, pairs: Sequence[tuple[Clip, Clip]]) -> Summary:
    """Numbers of a manifest; `pairs` are clips that must not stand on two sides."""
    clips, seconds = case.manifest.clips, case.seconds
    ways = partitions(case.manifest)
    divisions = []
    for way in ways:
        part_of = {c.row: name for name, members in way.parts.items() for c in members}
        crossing = {
            (a.row, b.row)
            for a, b in pairs
            if part_of.get(a.row) is not None and part_of.get(b.row) is not None and part_of[a.row] != part_of[b.row]
        }
        parts = tuple(_part(name, members, seconds) for name, members in way.parts.items() if members)
        divisions.append(Division(way.name, parts, len(crossing)))
    classes = []
    for name, task in case.manifest.corpus.tasks.items():
        if task.level == "video" and task.space.kind == "classes":
            counts = {
                way.name: {
                    part: tuple(seen.get(n, 0) for n in task.space.names)
                    for part, seen in label_checks.histogram(case, name, way).items()
                }
                for way in ways
            }
            classes.append(Classes(name, task.space.names, counts))
    columns = []
    for column, uses in case.by_column.items():
        files = {u.path for u in uses}
        columns.append(Column(column, uses[0].kind, len(uses), len(files), len(files - case.ward.missing)))
    known = [seconds[c.row] for c in clips if seconds.get(c.row, 0) > 0]
    edges, lengths = _lengths(known)
    return Summary(
        case.manifest.corpus.name,
        str(case.manifest.path),
        len(clips),
        len({c.subject for c in clips if c.subject}),
        len({c.group for c in clips if c.group}),
        sum(known),
        tuple(divisions),
        tuple(classes),
        tuple(columns),
        edges,
        lengths,
    )


def of_lists(found: lists.Lists) -> Summary:
    """Numbers of official lists."""
    divisions, counts = [], {}
    for fold, members in found.folds.items():
        leaks = len({clip for clip, _ in lists.shared(fold, members)})
        parts = {p: sum(len(m.label) for m in members if m.part == p) for p in ("train", "val", "test")}
        divisions.append(Division(fold or "split", tuple(Part(p, n) for p, n in parts.items() if n), leaks))
        counts[fold or "split"] = lists.histogram(members)
    seen: Counter[str] = sum((c for parts in counts.values() for c in parts.values()), Counter())
    names = tuple(sorted(seen, key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n)))
    table = {fold: {p: tuple(c.get(n, 0) for n in names) for p, c in parts.items()} for fold, parts in counts.items()}
    classes = (Classes("label", names, table),) if 1 < len(names) <= 100 else ()
    return Summary(
        found.folder.resolve().name, str(found.folder), len(found.clips), divisions=tuple(divisions), classes=classes
    )


def _part(name: str, clips: Sequence[Clip], seconds: dict[int, float]) -> Part:
    known = np.array([seconds[c.row] for c in clips if seconds.get(c.row, 0) > 0])
    people = len({c.subject for c in clips if c.subject})
    if not len(known):
        return Part(name, len(clips), people)
    shortest, median, longest = (float(q) for q in np.quantile(known, (0, 0.5, 1)))
    return Part(name, len(clips), people, len(known), float(known.sum()), shortest, median, longest)


def _lengths(known: Sequence[float]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Bins of a round width from 0 on; what is longer than almost all goes into the last."""
    if not known:
        return (), ()
    top = float(np.quantile(known, 0.995))
    raw = max(top, 1e-3) / BINS
    scale = 10.0 ** math.floor(math.log10(raw))
    width = next(scale * s for s in (1, 2, 2.5, 5, 10) if scale * s >= raw * 0.999)
    count = max(1, math.ceil(top / width + 1e-9))
    edges = width * np.arange(count + 1)
    values, _ = np.histogram(np.minimum(known, edges[-1] - 1e-9), edges)
    return tuple(round(float(e), 6) for e in edges), tuple(int(v) for v in values)
