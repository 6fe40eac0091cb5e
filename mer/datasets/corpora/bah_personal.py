"""Personalisation: per target participant a manifest of its own, as adapting to one person is studied on BAH.

`personal/<pid>/manifest.csv` has the participants of the training split as source (train; the validation split stays what it
is) and all videos of one target as test; the column `domain` says `source` or `target`. Training on it and testing is the row
"source only" of the paper; what adapts sees the target's rows without their labels. `personal/targets.csv` lists the targets.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from mer.datasets.corpora.reading import Prepared
from mer.datasets.manifest import BESIDE, TIMES, write_manifest
from mer.errors import UserError

FOLDER = "personal"
ALL = "all"


def write(prepared: Prepared, out: Path, target: str) -> int:
    """Write the manifests below `out`.

    Args:
        prepared: the whole corpus.
        out: folder of its manifest.
        target: number of a participant, or `all` for one manifest per participant of the test split.

    Returns:
        number of targets.

    Raises:
        UserError: there is no such participant, or none who is tested, or nobody else to train on.
    """
    people = dict.fromkeys(str(row["subject"]) for row in prepared.rows)
    tested = dict.fromkeys(str(row["subject"]) for row in prepared.rows if row["split"] == "test")
    if target != ALL and target not in people:
        raise UserError(f"--personalise {target}: no such participant", f"There are {', '.join(list(people)[:8])} ...")
    targets = list(tested) if target == ALL else [target]
    if not targets:
        raise UserError("--personalise all: nobody is in the test split", "Name a participant, or give split lists")
    lines = []
    for person in targets:
        rows = [
            _row(row, person) for row in prepared.rows if row["subject"] == person or row["split"] in ("train", "val")
        ]
        if not any(row["split"] == "train" for row in rows):
            raise UserError(f"--personalise {person}: nobody else is in the training split", "Give split lists")
        corpus = replace(
            prepared.corpus, protocol=f"{prepared.corpus.protocol}; personalised: source to participant {person}"
        )
        Prepared(corpus, rows).write(out / FOLDER / person)
        labels = [row["ah"] for row in rows if row["domain"] == "target"]
        lines.append(
            {
                "target": person,
                "manifest": f"{FOLDER}/{person}/manifest.csv",
                "clips": len(labels),
                "absent": labels.count("absent"),
                "present": labels.count("present"),
            }
        )
    write_manifest(out / FOLDER / "targets.csv", list(lines[0]), lines)
    return len(targets)


def _row(row: Any, target: str) -> dict[str, object]:
    """A row of a personal manifest, which lies two folders below what its references name."""
    moved = {
        column: re.sub(f"(^|{TIMES}){BESIDE}", r"\g<0>../../", cell, count=1) if isinstance(cell, str) else cell
        for column, cell in row.items()
    }
    mine = row["subject"] == target
    return moved | {"split": "test" if mine else row["split"], "domain": "target" if mine else "source"}
