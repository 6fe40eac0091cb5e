"""Official lists without a manifest: which clip is in training and which in test, fold by fold.

Lists are text tables (.csv, .tsv, .txt, also .gz) whose name, or whose folder's, says train, val or test; what is left of the
path without that word names the fold: `set1_train.csv` and `set1_test.csv`, or `train(single-labeled)/set_1.csv` and
`test(single-labeled)/set_1.csv`. The clip stands in the first column, the label in one named label or emotion, or in the last.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mer.analysis.doctor.findings import Finding, found
from mer.errors import UserError
from mer.media.table import read_text

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
LARGEST = 1 << 28  # bytes of an unpacked list
_PART = re.compile(r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|dev|test)(?![a-z])", re.IGNORECASE)
_PARTS = {"tr": "train", "va": "val", "de": "val", "te": "test"}
_HEADINGS = re.compile(r"(clip|video|file|name|path|id|utt|label|emotion|annotation)", re.IGNORECASE)


@dataclass
class Listed:
    """One list.

    Attributes:
        file: relative to the folder.
        part: train, val or test.
        label: by clip; empty where there is none.
        line: of each clip.
        repeated: clips that stand twice, with their lines.
    """

    file: str
    part: str
    label: dict[str, str] = field(default_factory=dict)
    line: dict[str, int] = field(default_factory=dict)
    repeated: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Lists:
    """The lists of a folder by fold, folds in natural order."""

    folder: Path
    folds: dict[str, list[Listed]]

    @property
    def clips(self) -> set[str]:
        return {clip for lists in self.folds.values() for listed in lists for clip in listed.label}


def read(folder: Path) -> Lists | None:
    """The lists below a folder; None where there are no two that belong together.

    Raises:
        UserError: a list cannot be read.
    """
    folds: dict[str, list[Listed]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file()):
        file = path.relative_to(folder).as_posix()
        named = list(_PART.finditer(re.sub(r"[_\d]", " ", file)))
        if named:
            word = named[-1]
            fold = re.sub(r"\W+|_+", " ", file[: word.start()] + file[word.end() :].partition(".")[0]).strip()
            folds.setdefault(fold, []).append(_list(path, file, _PARTS[word[0][:2].lower()]))
    folds = {fold: lists for fold, lists in folds.items() if len({listed.part for listed in lists}) > 1}
    order = sorted(folds, key=lambda f: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", f)])
    return Lists(folder, {fold: folds[fold] for fold in order}) if folds else None


def _list(path: Path, file: str, part: str) -> Listed:
    listed = Listed(file, part)
    text = _text(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = next((d for d in "\t,; " if d in first), ",")
    label_at = -1
    for number, cells in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if not listed.label and number == 1 and sum(bool(_HEADINGS.search(c)) for c in cells) >= len(cells) / 2 > 0.5:
            label_at = next((i for i, c in enumerate(cells) if re.search("label|emotion", c, re.IGNORECASE)), -1)
            continue
        clip = cells[0]
        if clip in listed.line:
            listed.repeated.append((clip, listed.line[clip], number))
        label = cells[label_at] if len(cells) > 1 and label_at < len(cells) else ""
        listed.label.setdefault(clip, label)
        listed.line.setdefault(clip, number)
    return listed


def _text(path: Path) -> str:
    if path.suffix.lower() != ".gz":
        return read_text(path)
    try:
        with gzip.open(path) as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError("too large for a list")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a readable list ({error})", "Unpack it, or download it again") from None


def check(lists: Lists) -> list[Finding]:
    """Clips in training and test of one fold, clips that stand twice, and labels that differ between lists."""
    leaks, twice, unlike, again = [], [], [], []
    known: dict[str, tuple[str, str]] = {}
    tested: dict[str, str] = {}
    for fold, members in lists.folds.items():
        leaks += [text for _, text in shared(fold, members)]
        for listed in members:
            twice += [f"{listed.file}, lines {a} and {b}: {clip}" for clip, a, b in listed.repeated]
            for clip, label in listed.label.items():
                if clip in known and label != known[clip][0]:
                    unlike.append(f"{clip}: {known[clip][0]} in {known[clip][1]}, {label} in {listed.file}")
                known.setdefault(clip, (label, listed.file))
                if listed.part == "test" and tested.setdefault(clip, fold) != fold:
                    again.append(f"{clip}: {tested[clip]} and {fold}")
    untested = [clip for clip in sorted(lists.clips) if clip not in tested] if len(lists.folds) > 1 else []
    return [
        *found(
            "leak.list", "leak", "clips in training and test of one fold", "clip", leaks, "Take them out of one of the lists"
        ),
        *found("list.repeated", "warning", "clips that stand twice in one list", "clip", twice, "Keep one of the lines"),
        *found(
            "labels.conflict", "warning", "clips whose label differs between lists", "clip", unlike, "Ask which is right"
        ),
        *found("list.tested_twice", "note", "clips that are tested in several folds", "clip", again, "Pool no scores"),
        *found("list.untested", "note", "clips that no fold tests", "clip", untested, "Nothing, where it is meant so"),
    ]  # fmt: skip


def shared(fold: str, members: list[Listed]) -> list[tuple[str, str]]:
    """(clip, where) of clips in two parts of one fold."""
    where: dict[str, Listed] = {}
    found_: list[tuple[str, str]] = []
    for listed in members:
        for clip, line in listed.line.items():
            first = where.setdefault(clip, listed)
            if first.part != listed.part:
                spots = f"{first.file}, line {first.line[clip]}, and {listed.file}, line {line}"
                found_.append((clip, f"fold {fold or 'the only one'}, {clip}: {spots}"))
    return found_


def histogram(members: list[Listed]) -> dict[str, Counter[str]]:
    """Clips of each label by part."""
    counts: dict[str, Counter[str]] = {}
    for listed in members:
        counts.setdefault(listed.part, Counter()).update(label for label in listed.label.values() if label)
    return counts
