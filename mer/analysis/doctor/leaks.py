"""What training and test must not share: people, source videos, recordings, copies of recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

from mer.analysis.doctor import prints
from mer.analysis.doctor.case import Case
from mer.analysis.doctor.cells import Use
from mer.analysis.doctor.findings import Finding, Severity, found
from mer.analysis.doctor.label_checks import conflicts
from mer.analysis.doctor.sides import crossing
from mer.analysis.doctor.ward import content
from mer.datasets.manifest import Clip
from mer.errors import UserError

Sameness = Literal["stretch", "copy", "alike"]
TOUCH = 0.02  # seconds by which stretches may overlap: times rounded to frames
MOST = 10_000  # pairs of one recording that are listed
# Per sameness: what it is called across sides and within one, and what to do.
_WORDS: dict[Sameness, tuple[str, str, str]] = {
    "stretch": ("the same stretch of one file", "one stretch of one file in several rows", "Keep one of the rows"),
    "copy": ("exact copies", "exact copies", "Keep one of them"),
    "alike": (
        "what looks and sounds like one recording",
        "what looks and sounds like one recording",
        "Compare them with eyes and ears; keep one of them, or --accept {code} where they differ after all",
    ),
}


@dataclass
class Shared:
    """What was found.

    Attributes:
        findings: for the report.
        pairs: clips that stand on different sides and must not.
    """

    findings: list[Finding] = field(default_factory=list)
    pairs: list[tuple[Clip, Clip]] = field(default_factory=list)


def check(case: Case, progress: Callable[[int], object] = lambda done: None) -> Shared:
    """All findings about leaks.

    Args:
        case: the manifest.
        progress: told how many more fingerprints were compared.
    """
    shared = Shared()
    _people(case, shared)
    same = {"stretch": [], "copy": []} | _same(case)  # type: ignore[var-annotated]
    known = {_rows(a, b) for pairs in same.values() for a, b, _ in pairs}
    same["alike"] = [p for p in _alike(case, progress) if _rows(*p[:2]) not in known]
    one: list[tuple[Clip, Clip]] = []
    for kind, words in _WORDS.items():
        across: list[str] = []
        within: list[str] = []
        for first, second, what in same[kind]:
            apart = crossing(case.views, first, second)
            where = f"lines {first.row} and {second.row}{f', {apart}' if apart else ''}: {what}"
            (across if apart else within).append(where)
            if apart:
                shared.pairs.append((first, second))
        one += [(a, b) for a, b, _ in same[kind]]
        title, inside, remedy = words
        shared.findings += found(
            f"leak.{kind}", "leak", f"{title} on both sides of a split", "pair", across,
            remedy.format(code=f"leak.{kind}") + ", or move both to one side",
        )  # fmt: skip
        shared.findings += found(
            f"duplicate.{kind}", "warning", f"{inside} within one part", "pair", within,
            remedy.format(code=f"duplicate.{kind}"),
        )  # fmt: skip
    shared.findings += conflicts(case, [(a, b) for a, b in one if a.row != b.row])
    return shared


# -- people and source videos -------------------------------------------------------------------------------------------


def _people(case: Case, shared: Shared) -> None:
    disjoint = case.manifest.corpus.subject_disjoint
    severity: Severity = "warning" if disjoint == "false" else "leak"
    declare = "" if disjoint == "false" else ", or declare subject_disjoint: false where the protocol means it so"
    for what, of, said in (
        ("subject", lambda c: c.subject, "people"), ("group", lambda c: c.group, "groups (source videos, sessions)"),
    ):  # fmt: skip
        where: list[str] = []
        clips: dict[str, list[Clip]] = {}
        for clip in case.manifest.clips:
            if of(clip):
                clips.setdefault(of(clip), []).append(clip)
        for name, mine in clips.items():
            pairs = list(_one_per_side(case, mine))
            if pairs:
                first, second, apart = pairs[0]
                where.append(f"{what} {name}: {apart} (lines {first.row} and {second.row})")
                if severity == "leak":
                    shared.pairs += [(a, b) for a, b, _ in pairs]
        expected = " (corpus.yaml says that they overlap)" if disjoint == "false" else ""
        shared.findings += found(
            f"leak.{what}", severity, f"{said} on both sides of a split{expected}", what, where,
            f"Move all their clips to one side{declare}" if declare else
            "Nothing to do; read the scores as those of known people",
        )  # fmt: skip


def _one_per_side(case: Case, clips: Sequence[Clip]) -> Iterator[tuple[Clip, Clip, str]]:
    """For each two sides that these clips stand on, one of either."""
    for view in case.views:
        first: dict[str, Clip] = {}
        for clip in clips:
            side = view.side.get(clip.row)
            if side is not None:
                first.setdefault(side, clip)
        for a, b in combinations(first.values(), 2):
            yield a, b, view.apart(a, b)


# -- recordings ---------------------------------------------------------------------------------------------------------


def _same(case: Case) -> dict[str, list[tuple[Clip, Clip, str]]]:
    """Pairs of rows with one stretch of one file, and pairs with copies of it."""
    contents = _contents(case)
    groups: dict[tuple[str, str], list[Use]] = {}
    for use in case.uses:
        if use.kind in ("sound", "picture") and use.path in case.ward.state:
            groups.setdefault(("media", contents.get(use.path, str(use.path))), []).append(use)
        elif use.kind in ("sound", "picture"):  # not here: the name is all there is
            groups.setdefault(("name", use.reference), []).append(use)
        elif use.kind in ("features", "skeleton", "gaze"):
            item = case.ward.item(use)
            if item is None:
                groups.setdefault(("name", use.reference), []).append(use)
            elif item.digest and not item.flat and item.lost < 1:
                groups.setdefault((use.kind, item.digest), []).append(use)
    found: dict[str, list[tuple[Clip, Clip, str]]] = {"stretch": [], "copy": []}
    seen: set[tuple[int, int]] = set()
    for members in groups.values():
        for first, second in _overlapping(case, members):
            rows = _rows(first.clip, second.clip)
            if rows not in seen:
                seen.add(rows)
                one = first.reference == second.reference
                what = first.reference if one else f"{first.reference} = {second.reference}"
                found["stretch" if one else "copy"].append((first.clip, second.clip, what))
    return found


def _overlapping(case: Case, uses: Sequence[Use]) -> Iterator[tuple[Use, Use]]:
    """Pairs of different rows that overlap in time and stand on different sides, or are one stretch."""
    if len({u.clip.row for u in uses}) < 2:
        return
    apart = any(len({view.side.get(u.clip.row) for u in uses}) > 1 for view in case.views)
    ordered = sorted(uses, key=lambda u: u.clip.start)
    count = 0
    for place, first in enumerate(ordered):
        for second in ordered[place + 1 :]:
            timeless = first.kind not in ("sound", "picture") and first.reference != second.reference
            if not timeless and second.clip.start >= _end(first) - TOUCH:
                if first.kind in ("sound", "picture"):
                    break  # sorted by start
                continue
            if first.clip.row == second.clip.row:
                continue
            if timeless or _one_stretch(first, second) or (apart and crossing(case.views, first.clip, second.clip)):
                yield first, second
                count += 1
                if count >= MOST:
                    return
            elif not apart and second.clip.start > first.clip.start + TOUCH:
                break  # windows of one side: only equal ones are of interest


def _end(use: Use) -> float:
    return float("inf") if use.clip.end is None else use.clip.end


def _one_stretch(first: Use, second: Use) -> bool:
    near = abs(first.clip.start - second.clip.start) <= TOUCH
    return near and (first.clip.end == second.clip.end or abs(_end(first) - _end(second)) <= TOUCH)


def _contents(case: Case) -> dict[Path, str]:
    """Hash of the content of those media files that have the size of another one."""
    media = {u.path for u in case.uses if u.kind in ("sound", "picture") and u.path in case.ward.state}
    sizes: dict[int, list[Path]] = {}
    for path in sorted(media):
        sizes.setdefault(case.ward.state[path][0], []).append(path)
    found: dict[Path, str] = {}
    for size, paths in sizes.items():
        for path in paths if len(paths) > 1 and size else ():
            try:
                found[path] = content(path, size)
            except (OSError, UserError):  # its exam says why
                continue
    return found


def _alike(case: Case, progress: Callable[[int], object]) -> list[tuple[Clip, Clip, str]]:
    """Pairs of rows whose fingerprints say that they are one recording."""
    uses: dict[tuple[Path, float, float | None], list[Use]] = {}
    seen: list[prints.Print] = []
    for use, _, item in case.read("sound", "picture"):
        if item.votes or item.thumbs:
            key = (use.path, use.clip.start, use.clip.end)
            if key not in uses:
                seen.append(prints.Print(item.seconds, item.thumbs, item.votes))
            uses.setdefault(key, []).append(use)
    members = list(uses.values())
    found = []
    for i, j in prints.copies(seen, progress):
        if members[i][0].path == members[j][0].path:
            continue  # two stretches of one file: repetition, which is no copy
        for first in members[i]:
            for second in members[j]:
                if first.clip.row != second.clip.row:
                    found.append((first.clip, second.clip, f"{first.reference} ~ {second.reference}"))
    unique = {_rows(a, b): (a, b, what) for a, b, what in reversed(found)}
    return list(unique.values())[::-1]


def _rows(first: Clip, second: Clip) -> tuple[int, int]:
    return min(first.row, second.row), max(first.row, second.row)
