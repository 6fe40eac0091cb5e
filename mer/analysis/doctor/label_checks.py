"""Rows and files that do not belong together, labels that are missing, and classes that cannot be learnt or scored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from mer.analysis.doctor.case import Case, label_of
from mer.analysis.doctor.findings import Finding, found
from mer.analysis.doctor.sides import Partition, partitions
from mer.datasets.manifest import Clip, read_frame_labels
from mer.errors import UserError
from mer.media.pictures import plain

SLACK = 0.5  # seconds by which frame labels may lie outside a clip
FEWEST = 2  # test examples of a class, below which its recall says nothing


def check(case: Case) -> list[Finding]:
    """All findings about labels and rows."""
    return [*rows(case), *strays(case), *frame_labels(case), *unlabelled(case), *classes(case)]


def rows(case: Case) -> list[Finding]:
    """Rows that refer to no file, or lack one that most rows have."""
    if not case.by_column:
        return []
    bare = [f"line {c.row}: {c.clip_id}" for c in case.manifest.clips if not case.by_row[c.row]]
    findings = found(
        "rows.no_file", "warning", "rows refer to no file at all", "row", bare, "Add what they show, or leave them out"
    )
    for column, uses in case.by_column.items():
        have = {u.clip.row for u in uses}
        lack = [c for c in case.manifest.clips if c.row not in have and case.by_row[c.row]]
        findings += found(
            f"rows.without.{column}", "note", f"rows without {column!r}", "row", [f"line {c.row}: {c.clip_id}" for c in lack],
            "Nothing, where the modality may be absent",
        )  # fmt: skip
    return findings


def strays(case: Case) -> list[Finding]:
    """Files below the root, of a kind that the manifest names and in folders that it names, which no row names."""
    root = case.manifest.corpus.root
    named = {os.path.normpath(plain(u.path)) for u in case.uses}
    kinds = {
        (_top(u.reference), plain(u.path).suffix.lower())
        for u in case.uses
        if u.kind != "other" and u.path not in case.ward.missing and plain(u.path).suffix
    }
    tops, lost = {top for top, _ in kinds}, list[str]()
    if not kinds or ".." in tops:
        return []
    for folder, folders, names in os.walk(root):
        relative = os.path.relpath(folder, root)
        if relative == ".":
            folders[:] = [f for f in folders if f in tops or "." in tops]
            if "." not in tops:
                continue
        folders[:] = sorted(f for f in folders if os.path.join(folder, f) not in named)
        for name in sorted(names):
            path = os.path.join(folder, name)
            below = os.path.relpath(path, root)
            if (_top(below), os.path.splitext(name)[1].lower()) in kinds and name[0] != "." and path not in named:
                lost.append(below)
    return found(
        "files.no_row", "note", "files of the corpus that no row names", "file", lost,
        "Nothing, where they are left out on purpose; else look why the reader passed over them",
    )  # fmt: skip


def _top(reference: str) -> str:
    """First folder of a relative path."""
    return reference.partition("/")[0] if "/" in reference else "."


def frame_labels(case: Case) -> list[Finding]:
    """Frame-level labels that cannot be read, lie outside the clip, or are all empty."""
    tasks = {n: t for n, t in case.manifest.corpus.tasks.items() if t.level == "frame"}
    if not tasks:
        return []
    root, read = case.manifest.corpus.root, dict[str, tuple[float, float, bool] | str]()
    broken, outside, empty, none = [], [], [], []
    for clip in case.manifest.clips:
        where = f"line {clip.row}: {clip.frame_labels}"
        if not clip.frame_labels:
            none.append(f"line {clip.row}: {clip.clip_id}")
            continue
        reference = case.manifest.resolve(clip.frame_labels)
        if reference not in read:
            try:
                times, labels = read_frame_labels(root / reference, tasks)
                some = any(value is not None for values in labels.values() for value in values)
                read[reference] = (times[0], times[-1], some) if times else "it has no rows"
            except UserError as error:
                read[reference] = error.problem
        known = read[reference]
        if isinstance(known, str):
            broken.append(f"{where} ({known.replace(f'{root}/', '')})")
            continue
        first, last, some = known
        length = case.seconds.get(clip.row)
        end = clip.end if clip.end is not None else None if length is None else clip.start + length
        if last < clip.start or (end is not None and first >= end):
            outside.append(f"{where} ({first:g} to {last:g} s; the clip is {clip.start:g} to {_seconds(end)})")
        elif clip.end is None and end is not None and last > end + SLACK:
            outside.append(f"{where} (up to {last:g} s; the clip ends at {_seconds(end)})")
        elif not some:
            empty.append(where)
    return [
        *found(
            "labels.frame_unreadable", "error", "frame labels cannot be read", "row", broken, "Prepare the corpus again"
        ),
        *found(
            "labels.frame_times", "error", "times of frame labels lie outside their clip", "row", outside,
            "Compare the clocks: frames counted at another rate, or another version of the video?",
        ),
        *found("labels.frame_empty", "warning", "frame labels without one label", "row", empty, "Leave the rows out"),
        *found("labels.frame_none", "note", "rows without frame labels", "row", none, "They take no part in that task"),
    ]  # fmt: skip


def unlabelled(case: Case) -> list[Finding]:
    """Rows without a label, by split; a part without any is worse."""
    findings: list[Finding] = []
    for task in _tasks(case):
        for part in partitions(case.manifest):
            if part.name.startswith("fold"):
                continue
            for name, clips in part.parts.items():
                bare = [c for c in clips if c.labels.get(task) is None]
                whole = bool(bare) and len(bare) == len(clips)
                findings += found(
                    f"labels.unlabelled.{task}.{name}", "warning" if whole and name == "train" else "note",
                    f"{'all' if whole else 'some'} rows of {_part(name)} have no label of {task!r}", "row",
                    [f"line {c.row}: {c.clip_id}" for c in bare], "They are neither trained on nor scored",
                )  # fmt: skip
    return findings


def classes(case: Case) -> list[Finding]:
    """Classes that training lacks, parts of one class, and classes with next to no test examples."""
    untaught: list[str] = []
    single: list[str] = []
    few: list[str] = []
    for task in _tasks(case):
        space = case.manifest.corpus.tasks[task].space
        if space.kind != "classes":
            continue
        for part in partitions(case.manifest):
            counts = histogram(case, task, part)
            train = counts.get("train")
            for name, seen in counts.items():
                where = f"{part.name}, {_part(name)}, task {task!r}"
                if len(seen) == 1 and sum(seen.values()) > 1:
                    single.append(f"{where}: only {next(iter(seen))}")
                if name in ("val", "test") and train:
                    untaught += [f"{where}: {label} ({n} clips)" for label, n in seen.items() if not train.get(label)]
                if name == "test" and seen:
                    known = [label for label in space.names if any(c.get(label) for c in counts.values())]
                    few += [
                        f"{where}: {label} ({seen.get(label, 0)})" for label in known if seen.get(label, 0) < FEWEST
                    ]
    return [
        *found(
            "labels.untaught", "warning", "classes that are scored and never trained", "class", untaught,
            "Leave them out of the label space, or divide the clips otherwise",
        ),
        *found(
            "labels.single_class", "warning", "parts that hold a single class", "part", single, "Divide the clips otherwise"
        ),
        *found(
            "labels.few", "note", f"classes with fewer than {FEWEST} test clips: their recall says nothing", "class", few,
            "Report UAR over folds together, or leave the class out",
        ),
    ]  # fmt: skip


def histogram(case: Case, task: str, partition: Partition) -> dict[str, Counter[str]]:
    """Clips of each class by part."""
    return {
        name: Counter(label for c in clips if (label := label_of(case, c, task)) is not None)
        for name, clips in partition.parts.items()
        if clips
    }


def _tasks(case: Case) -> list[str]:
    return [name for name, task in case.manifest.corpus.tasks.items() if task.level == "video"]


def _part(name: str) -> str:
    return {"train": "training", "val": "validation", "all": "the corpus"}.get(name, name)


def _seconds(end: float | None) -> str:
    return "its end" if end is None else f"{end:.2f} s"


def conflicts(case: Case, pairs: Sequence[tuple[Clip, Clip]]) -> list[Finding]:
    """Pairs of one and the same recording that are labelled differently."""
    unlike = []
    for first, second in pairs:
        for task in _tasks(case):
            a, b = label_of(case, first, task), label_of(case, second, task)
            if a is not None and b is not None and a != b:
                unlike.append(f"lines {first.row} and {second.row}: {a} and {b}")
    return found(
        "labels.conflict", "warning", "one recording with two labels", "pair", unlike,
        "Keep the row whose label is right, or leave both out",
    )  # fmt: skip
