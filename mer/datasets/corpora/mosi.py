"""CMU-MOSI: 93 film reviews of 89 people, 2,199 utterances with a sentiment from -3 to 3. Zadeh et al., IEEE Intelligent
Systems 31(6), 2016; the licence of the recordings is unclear, ask CMU.

Two layouts are told apart by their files:

- recordings with MMSA's `label.csv` (video_id, clip_id, text, label, ..., mode), anywhere below the root: either the official
  `Raw/Video/Segmented/VIDEO_CLIP.mp4`, `Raw/Audio/WAV_16000/Segmented/VIDEO_CLIP.wav` and
  `Raw/Transcript/Segmented/VIDEO.annotprocessed` (lines `CLIP_DELIM_TEXT`), or MMSA's `Raw/VIDEO/CLIP.mp4`. `mode` (train,
  valid, test) fills `split`. A sentiment of 0 is neither class; `--zero positive` counts it as positive, as several papers do;
- the packaged form: `train.npz` and `test_dev.npz` with `text`, `audio`, `video` (a row per utterance), `label` (0 negative,
  1 positive), `video_id`, `position`, `transcript`. `test_dev` is a part of the official test and becomes `test`.

`--level utterance` (default) gives one row per utterance. `--level review`, packaged form only, gives one row per review: a
sequence of utterances with a label each, at frame level. There a second of media time is an utterance: the n-th one stands
from n - 1 to n, so encoders have `rate: 1.0`.

Who speaks is not told; `subject` is the review, of which a few share a person.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mer.datasets.corpora.reading import Prepared, Request, arrays_of, paths_below
from mer.datasets.manifest import Corpus, write_manifest
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.table import read_text, records

CLASSES, SCORE = SPACES["mosi2.v1"], SPACES["mosi_score.v1"]
FILES = {"train": "train.npz", "test": "test_dev.npz"}
MODALITIES = ("text", "audio", "video")
MODES = {"train": "train", "valid": "val", "test": "test"}
_ID = re.compile(r"[\w-]+")
_LINE = re.compile(r"^\s*(\d+)_DELIM_(.*)$")


def options(parser: argparse._ArgumentGroup) -> None:
    """What is read, what a row is, and what a sentiment of 0 is."""
    parser.add_argument("--form", choices=("recordings", "features"), help="demanded where the root holds both")
    parser.add_argument(
        "--level", choices=("utterance", "review"), default="utterance",
        help="a row per utterance, or per review with a label for each utterance (packaged form only)",
    )  # fmt: skip
    parser.add_argument(
        "--zero",
        choices=("unlabelled", "positive"),
        default="unlabelled",
        help="a sentiment of exactly 0 (recordings only)",
    )


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout; files are damaged, missing, or contradict each other.
    """
    root, form = request.root, request.options.form
    table = next((path for path in paths_below(root, (".csv",)) if Path(path).name.lower() == "label.csv"), None)
    features = next((path for path in paths_below(root, (".npz",)) if Path(path).name in FILES.values()), None)
    if table is not None and features is not None and form is None:
        raise UserError(
            f"{root}: there are {table} (recordings) and {features} (features)",
            "Say --form recordings or --form features",
        )
    if features is not None and form != "recordings":
        return _packaged(request, Path(features).parent)
    if table is None or form == "features":
        raise UserError(
            f"{root}: no label.csv (recordings) and no {' or '.join(FILES.values())} (features)",
            "Put MMSA's label.csv of MOSI beside Raw",
        )
    if request.options.level == "review":
        raise UserError("--level review needs utterances as rows of features", "Use --level utterance with recordings")
    return _recordings(request, root / table)


def _corpus(root: Path, tasks: list[Task], protocol: str) -> Corpus:
    return Corpus(
        "mosi",
        root.resolve(),
        {task.name: task for task in tasks},
        subject_disjoint="unknown",
        protocol=f"CMU-MOSI, {protocol}",
        licence="unclear: for research, ask CMU MultiComp Lab",
    )


# -- recordings ---------------------------------------------------------------------------------------------------------


def _recordings(request: Request, table: Path) -> Prepared:
    root, rows, left_out = request.root, list[dict[str, object]](), dict[str, str]()
    media = _media(root)
    spoken = dict(_transcripts(root))
    texts: dict[str, list[str]] = {}
    seen: set[str] = set()
    zeros = 0
    for number, cells in records(table):
        where = f"{table}, row {number}"
        video, clip = _id(cells, where)
        name = f"{video}_{clip}"
        if name in seen:
            raise UserError(f"{where}: {name} stands here for the second time", "Keep one of the lines")
        seen.add(name)
        found = media.get(name, {})
        if media and not found:
            problem, remedy = f"{where}: there is no recording of {name}", "Copy Raw again"
            if not request.skip_errors:
                raise UserError(problem, f"{remedy}, or pass --skip-errors")
            left_out[name] = f"{problem}. {remedy}."
            continue
        score = _score(cells, where)
        zeros += score == 0
        text = cells.get("text") or spoken.get(name, "")
        lines = texts.setdefault(video, [])
        lines.append(text)
        positive = score > 0 or (score == 0 and request.options.zero == "positive")
        rows.append(
            {
                "clip_id": name,
                "subject": video,
                "group": video,
                "split": _split(cells, where),
                "sentiment": "positive" if positive else "negative" if score < 0 else "",
                "score": f"{score:g}",
                "text": request.beside(f"transcripts/{video}.csv")[1] + f"#text[{len(lines) - 1}]" if text else "",
                **found,
            }
        )
    for video, lines in texts.items():
        path = request.beside(f"transcripts/{video}.csv")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, ("text",), ({"text": line} for line in lines))
    splits = {row["split"] for row in rows}
    protocol = "utterances" + (", standard splits" if splits != {""} else ", no splits")
    notes = [f"{zeros} utterances have a sentiment of 0: {request.options.zero} (--zero)"]
    if not media:
        notes.append("There are no recordings below the root: the manifest has words and no other media")
    tasks = [Task("sentiment", CLASSES), Task("score", SCORE)]
    return Prepared(_corpus(root, tasks, protocol), rows, left_out, notes)


def _media(root: Path) -> dict[str, dict[str, str]]:
    """Per utterance its film and sound, whichever tree they lie in; a wav before the sound of the film."""
    found: dict[str, dict[str, str]] = {}
    for path in paths_below(root, (".mp4", ".wav")):
        *_, folder, file = ("", *path.split("/"))
        stem, _, ending = file.rpartition(".")
        # MMSA's tree has a folder per review; an id may hold '_' itself, so a name is never cut at the first one.
        clip = found.setdefault(f"{folder}_{stem}" if stem.isdecimal() else stem, {})
        if ending.lower() == "wav":
            clip["audio"] = path
        else:
            clip["video"] = path
            clip.setdefault("audio", path)
    return found


def _transcripts(root: Path) -> Iterator[tuple[str, str]]:
    """Utterance and its words, from `VIDEO.annotprocessed`."""
    for path in paths_below(root, (".annotprocessed",)):
        for line in read_text(root / path).splitlines():
            if match := _LINE.match(line):
                yield f"{Path(path).stem}_{match[1]}", match[2].strip()


def _id(cells: Mapping[str, str], where: str) -> tuple[str, str]:
    missing = [column for column in ("video_id", "clip_id", "label") if not cells.get(column)]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} missing", "Take MMSA's label.csv, whose columns these are")
    video, clip = cells["video_id"], cells["clip_id"]
    if not _ID.fullmatch(video):
        raise UserError(
            f"{where}: video_id {video!r} is no id of YouTube; spreadsheets take one that begins with '-' for a formula",
            "Take the original file, unopened",
        )
    if not clip.isdecimal():
        raise UserError(f"{where}: clip_id {clip!r} is no number", "Take the original file")
    return video, str(int(clip))


def _score(cells: Mapping[str, str], where: str) -> float:
    try:
        score = float(cells["label"])
    except ValueError:
        score = math.nan
    if not -3 <= score <= 3:
        raise UserError(f"{where}: label {cells['label']!r} is not a sentiment from -3 to 3", "Take the original file")
    return score


def _split(cells: Mapping[str, str], where: str) -> str:
    mode = cells.get("mode", "")
    if mode not in ("", *MODES):
        raise UserError(f"{where}: mode {mode!r} is not {', '.join(MODES)}", "Take the original file")
    return MODES.get(mode, "")


# -- features -----------------------------------------------------------------------------------------------------------


def _packaged(request: Request, folder: Path) -> Prepared:
    root, rows = request.root, list[dict[str, object]]()
    reviews = request.options.level == "review"
    for split, name in FILES.items():
        if not (root / folder / name).is_file():
            continue
        arrays = _arrays(root / folder / name)
        rows += _reviews(request, split, arrays) if reviews else _utterances((folder / name).as_posix(), split, arrays)
    repeated = [name for name, count in Counter(row["clip_id"] for row in rows).items() if count > 1]
    if repeated:
        raise UserError(f"{root}: {repeated[0]} stands twice in the features", "Restore the files")
    task = Task("sentiment", CLASSES, "frame" if reviews else "video")
    protocol = f"{'reviews' if reviews else 'utterances'}, features of the official train, and a part of its test"
    return Prepared(_corpus(root, [task], protocol), rows)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    keys = dict.fromkeys(MODALITIES, 2) | dict.fromkeys(("label", "video_id", "position"), 1)
    found = dict(zip(keys, arrays_of(path, **keys), strict=True))
    if len({len(array) for array in found.values()}) != 1:
        raise UserError(f"{path}: its arrays differ in length", "Restore the file")
    wrong = np.flatnonzero(~np.isin(found["label"], (0, 1)))
    if len(wrong):
        raise UserError(f"{path}, row {wrong[0]}: label {found['label'][wrong[0]]} is not 0 or 1", "Restore the file")
    if found["position"].dtype.kind not in "iu":
        raise UserError(f"{path}: position holds no whole numbers", "Restore the file")
    for row, video in enumerate(found["video_id"].tolist()):  # it becomes the name of a file
        if not _ID.fullmatch(str(video)):
            raise UserError(f"{path}, row {row}: video_id {video!r} is no id of YouTube", "Restore the file")
    found["video_id"] = found["video_id"].astype(str)
    said = Counter(zip(found["video_id"].tolist(), found["position"].tolist(), strict=True))
    if repeated := [pair for pair, count in said.items() if count > 1]:
        raise UserError(f"{path}: {repeated[0][0]}_{repeated[0][1]} stands twice", "Restore the file")
    return found


def _utterances(name: str, split: str, arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, object]]:
    for row, (video, position, label) in enumerate(
        zip(arrays["video_id"], arrays["position"], arrays["label"], strict=True)
    ):
        yield {
            "clip_id": f"{video}_{position}",
            "subject": str(video),
            "group": str(video),
            "start": 0,
            "end": 1,
            "split": split,
            "sentiment": CLASSES.names[int(label)],
            **{modality: f"{name}#{modality}[{row}]" for modality in MODALITIES},
        }


def _reviews(request: Request, split: str, arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, object]]:
    """One row per review; its utterances, in order of their position, go to a file of their own beside the manifest."""
    for video in dict.fromkeys(str(name) for name in arrays["video_id"]):
        rows = np.flatnonzero(arrays["video_id"] == video)
        rows = rows[np.argsort(arrays["position"][rows], kind="stable")]
        path, reference = request.beside(f"reviews/{video}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, text=arrays["text"][rows], audio=arrays["audio"][rows], video=arrays["video"][rows])
        labels, labels_reference = request.beside(f"reviews/{video}.csv")
        moments = (
            {"time": f"{place + 0.5}", "sentiment": CLASSES.names[int(arrays["label"][row])]}
            for place, row in enumerate(rows)
        )
        write_manifest(labels, ("time", "sentiment"), moments)
        yield {
            "clip_id": video,
            "subject": video,
            "start": 0,
            "end": len(rows),
            "split": split,
            "frame_labels": labels_reference,
            **{modality: f"{reference}#{modality}" for modality in MODALITIES},
        }
