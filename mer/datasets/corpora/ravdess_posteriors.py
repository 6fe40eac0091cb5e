"""RAVDESS as posteriors of published networks, for late fusion: what three unimodal networks said of every performance.

`posteriors/foldK.npz` of the packaged form holds per fold the answers of a wav2vec network to the sound, of a bi-LSTM and
of an MLP to the face (Luna-Jimenez et al., Applied Sciences 12(1), 2022), for training and test rows. The answers to
training rows come from networks fitted on those very rows, as in the published protocol, so they differ from fold to fold:
every fold is a corpus of its own, `OUT/foldK/manifest.csv`, with its rows in `split`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mer.datasets.corpora.ravdess import SPACE, Performance
from mer.datasets.corpora.reading import Prepared, Request, arrays_of
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import Task

STREAMS = {"audio": "audio_wav2vec_logits", "face_lstm": "face_bilstm_logits", "face_mlp": "face_mlp_probs"}


def read(request: Request) -> Prepared:
    """One part per fold.

    Raises:
        UserError: there are no posteriors, or rows contradict their names.
    """
    folder = request.root / "posteriors"
    files = sorted(folder.glob("fold*.npz"))
    if not files:
        raise UserError(f"{folder}: no fold0.npz and so on", "Pass the packaged form of RAVDESS with --root")
    corpus = Corpus(
        "ravdess_posteriors",
        request.root.resolve(),
        {"emotion": Task("emotion", SPACE)},
        subject_disjoint="true",
        protocol="RAVDESS, posteriors of published unimodal networks, published subject-wise folds",
        licence="CC BY-NC-SA 4.0 (research, non-commercial)",
    )
    parts = {path.stem: Prepared(corpus, _rows(path, folder.name)) for path in files}
    return Prepared(corpus, [], parts=parts)


def _rows(path: Path, folder: str) -> list[dict[str, object]]:
    match = re.fullmatch(r"fold(\d+)", path.stem)
    rows: list[dict[str, object]] = []
    for split in ("train", "test"):
        wanted = {f"{split}_name": 1, f"{split}_label": 1, **{f"{split}_{array}": 2 for array in STREAMS.values()}}
        names, labels, *streams = arrays_of(path, **wanted)
        if any(s.shape != (len(names), len(SPACE)) or not np.isfinite(s).all() for s in streams) or len(names) != len(
            labels
        ):
            raise UserError(f"{path}: lists of {split} differ in length, or hold no numbers", "Restore the file")
        for row, (name, label) in enumerate(zip(names, labels, strict=True)):
            parsed = Performance.from_name(str(name))
            if parsed is None or parsed[0].emotion != int(label):
                raise UserError(f"{path}, {split} row {row}: {name!r} is not of class {label}", "Restore the file")
            rows.append(
                {
                    "clip_id": parsed[0].name,
                    "subject": f"{parsed[0].actor:02d}",
                    "split": split,
                    "fold": "" if match is None else match[1],
                    "emotion": SPACE.names[parsed[0].emotion],
                    **{m: f"{folder}/{path.name}#{split}_{array}[{row}]" for m, array in STREAMS.items()},
                }
            )
    return rows
