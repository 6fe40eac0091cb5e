"""Eye recordings of 18 people under five loads (about 88 Hz): how far the eyes are open, and pupils, 2023. MIT.

Two layouts are told apart by their files:

- the original tables, anywhere below the root, with semicolons, also packed by gzip: `P1_Control.csv`, `P1_1_....csv` to
  `P1_4_Combined.csv`, the number behind the person's being that of the condition, and the same with `_blinks`, which mark
  blinks as well and are taken where both are there;
- the packaged form: `recordings.npz` with the recordings end to end in `data`, their limits in `offset`, and per recording
  `participant` and `condition`.

The tables write -1 for the pupil of a closed eye, and stamp wall-clock time; a recording begins at 0. The corpus names no
protocol: six folds of three people each are ours. Conditions: `control`, no load; `npc`, `noise`, `arithmetic_second_task`
and `combined`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from mer.datasets.corpora.folds import grouped_folds
from mer.datasets.corpora.reading import Prepared, Request, files_below
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media import gaze_files
from mer.spec import InputSpec

SPACE = SPACES["eye_ier5.v1"]
PACKAGE = "recordings.npz"
FOLDS = 6
SPEC = InputSpec("eye", columns=("openness_left", "openness_right", "valid"), backend="file")
_NAME = re.compile(r"^P(\d+)_(?:(Control)|([1-4])_(\w+?))(_blinks)?\.csv(?:\.gz)?$", re.IGNORECASE)
_KNOWN = {"combined": 4, "noise": 2, "npc": 1, "control": 0}


@dataclass(frozen=True)
class Taken:
    """One recording: who, under which load, where, and how long in seconds."""

    person: int
    condition: int
    reference: str
    seconds: float


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout; files are damaged or contradict their names.
    """
    root = request.root
    left_out: dict[str, str] = {}
    packaged = (root / PACKAGE).is_file()
    found = _packaged(root / PACKAGE) if packaged else _tables(root, request.skip_errors, left_out)
    if not found and not left_out:
        raise UserError(
            f"{root}: no {PACKAGE} and no tables like P1_Control.csv or P1_4_Combined_blinks.csv", "Pass their folder"
        )
    count = min(FOLDS, len({t.person for t in found}))
    units = [(f"{t.person}", SPACE.names[t.condition]) for t in found]
    folds = grouped_folds(units, count) if count > 1 else {}
    rows = [
        {
            "clip_id": f"P{t.person}_{SPACE.names[t.condition]}",
            "subject": f"{t.person}",
            "start": "0",
            "end": f"{t.seconds:.4f}",
            "fold": folds.get(f"{t.person}", ""),
            "condition": SPACE.names[t.condition],
            "eye": t.reference,
        }
        for t in sorted(found, key=lambda t: (t.person, t.condition))
    ]
    corpus = Corpus(
        "eye_ier",
        root.resolve(),
        {"condition": Task("condition", SPACE)},
        subject_disjoint="true",
        protocol=f"eye_ier, {count} folds of people (ours)",
        licence="MIT",
    )
    return Prepared(corpus, rows, left_out)


def _tables(root: Path, skip_errors: bool, left_out: dict[str, str]) -> list[Taken]:
    named: dict[tuple[int, int], dict[bool, str]] = {}
    for name, file in files_below(root, (".csv", ".csv.gz")).items():
        match = _NAME.match(name)
        if match is None:
            continue
        person, condition = int(match[1]), 0 if match[2] else int(match[3])
        said = next((n for word, n in _KNOWN.items() if word == (match[4] or "control").lower()), condition)
        if said != condition:
            raise UserError(
                f"{root / file}: condition {condition} is {SPACE.names[condition]!r}, not {match[4]!r}",
                "Restore the name",
            )
        kinds = named.setdefault((person, condition), {})
        if (before := kinds.setdefault(bool(match[5]), file)) != file:
            raise UserError(f"{root / file}: the same person and condition as {before}", "Keep one of them")
    found = []
    for (person, condition), kinds in tqdm(sorted(named.items()), "eye_ier", leave=False):
        file = kinds.get(True) or kinds[False]
        try:
            stream = gaze_files.load(root, file, SPEC)
        except UserError as error:
            if not skip_errors:
                raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
            left_out[file] = str(error)
            continue
        found.append(Taken(person, condition, file, float(stream.spans[-1, 1])))
    return found


def _packaged(path: Path) -> list[Taken]:
    keys = ("data", "columns", "offset", "condition", "participant", "condition_names")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data, columns, offset, condition, person, names = (arrays[key] for key in keys)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not readable, or without {', '.join(keys)} ({error})", "Restore the file") from None
    whole = all(array.dtype.kind in "iu" and array.ndim == 1 for array in (offset, condition, person))
    if (
        tuple(names.tolist()) != SPACE.names
        or columns.tolist()[:1] != ["t_s"]
        or not (whole and len(condition) == len(person) == len(offset) - 1)
        or data.dtype.kind != "f"
        or data.ndim != 2
        or offset[0] != 0
        or offset[-1] != len(data)
    ):
        raise UserError(
            f"{path}: its conditions are not {', '.join(SPACE.names)}, or its lists do not fit each other",
            "Restore the file",
        )
    found: list[Taken] = []
    for row, (who, label) in enumerate(zip(person.tolist(), condition.tolist(), strict=True)):
        times = data[int(offset[row]) : int(offset[row + 1]), 0].astype(np.float64)
        if len(times) < 2 or not 0 <= label < len(SPACE):
            raise UserError(f"{path}, row {row}: {len(times)} samples under condition {label}", "Restore the file")
        if any((t.person, t.condition) == (who, label) for t in found):
            raise UserError(f"{path}, row {row}: person {who} under {SPACE.names[label]} twice", "Restore the file")
        steps = np.diff(times)
        period = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.01
        found.append(Taken(int(who), int(label), f"{PACKAGE}#data[{row}]", float(times[-1]) + period))
    return found
