"""ICT-MMMO: 370 reviews of films, sentiment 1 to 5. Wöllmer et al., IEEE Intelligent Systems 28(3), 2013.

The corpus goes from hand to hand as features; an official tree of its recordings is not documented, and we know none. What is
read is the packaged form: `mmmo_train.npz`, `mmmo_valid.npz` and, who has it, `mmmo_test.npz`, with `audio` (N, 20, 74)
(COVAREP), `video` (N, 20, 36) (Facet) and `y` (N,) from 1 to 5 in half steps. Its licence is not stated: ask the authors.

A step is a word, not a second: the manifest counts steps as seconds, so encoders have `rate: 1.0`. Steps before the first and
behind the last word are zero in both modalities; `start` and `end` leave them out. `sentiment` is positive above 3.25, as
the baseline beside the data has it; `score` is the number. Who speaks is not known. Without `mmmo_test.npz`,
`--score-validation` makes the validation part the test; nothing can then be chosen by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mer.datasets.corpora.reading import Prepared, Request, arrays_of
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task

FILES = {"train": "mmmo_train.npz", "val": "mmmo_valid.npz", "test": "mmmo_test.npz"}
MODALITIES = ("audio", "video")
THRESHOLD = 3.25  # above it, a review is positive


def options(parser: argparse._ArgumentGroup) -> None:
    """What is scored."""
    parser.add_argument(
        "--score-validation", action="store_true", help="make the validation part the test, where there is no test part"
    )


def read(request: Request) -> Prepared:
    """The corpus in a folder.

    Raises:
        UserError: no file of the packaged form, or one that is damaged or contradicts itself.
    """
    root = request.root
    there = {split: root / name for split, name in FILES.items() if (root / name).is_file()}
    if not there:
        raise UserError(
            f"{root}: none of {', '.join(FILES.values())}", "Pass the folder of the features; recordings are not read"
        )
    promoted: bool = request.options.score_validation
    if promoted and ("val" not in there or "test" in there):
        raise UserError(
            f"{root}: --score-validation stands for a missing test part, and wants a validation part",
            "Leave it out where there is a test part",
        )
    rows = [
        row | {"split": "test" if promoted and split == "val" else split}
        for split, path in there.items()
        for row in _rows(path, split)
    ]
    corpus = Corpus(
        "mmmo",
        root.resolve(),
        {
            "sentiment": Task("sentiment", SPACES["mmmo2.v1"]),
            "score": Task("score", SPACES["mmmo_score.v1"]),
        },
        subject_disjoint="unknown",
        protocol=f"ICT-MMMO, {', '.join(there)} as packaged{', val scored' * promoted}; positive above {THRESHOLD}",
        licence="unclear: for research, ask the authors",
    )
    notes = []
    if "test" not in there and not promoted:
        notes.append("There is no mmmo_test.npz; --score-validation makes the validation part the test")
    return Prepared(corpus, rows, notes=notes)


def _rows(path: Path, split: str) -> list[dict[str, object]]:
    audio, video, y = arrays_of(path, audio=3, video=3, y=1)
    if any(array.dtype.kind not in "fiu" for array in (audio, video, y)):
        raise UserError(f"{path}: audio, video or y holds no numbers", "Restore the file")
    if not audio.shape[:2] == video.shape[:2] == (len(y), audio.shape[1]):
        raise UserError(
            f"{path}: audio {audio.shape}, video {video.shape} and y {y.shape} do not belong together",
            "Restore the file",
        )
    said = (audio != 0).any(axis=2) | (video != 0).any(axis=2)
    rows: list[dict[str, object]] = []
    for row, score in enumerate(y.tolist()):
        where = f"{path}, row {row}"
        steps = np.flatnonzero(said[row])
        if not len(steps):
            raise UserError(f"{where}: all steps are zero", "Restore the file")
        if not 1 <= score <= 5:
            raise UserError(f"{where}: y is {score:g}, not a sentiment from 1 to 5", "Restore the file")
        rows.append(
            {
                "clip_id": f"{split}_{row:03d}",
                "start": int(steps[0]),
                "end": int(steps[-1]) + 1,
                "split": split,
                "sentiment": "positive" if score > THRESHOLD else "negative",
                "score": f"{score:g}",
                **{modality: f"{path.name}#{modality}[{row}]" for modality in MODALITIES},
            }
        )
    return rows
