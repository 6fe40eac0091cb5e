"""CREMA-D: 91 actors, twelve sentences, six emotions. Cao et al., IEEE Trans. Affective Computing 5(4), 2014; ODbL 1.0.

Two layouts are told apart by their files:

- the official repository: `AudioWAV/1001_DFA_ANG_XX.wav`, `VideoFlash/1001_DFA_ANG_XX.flv` (or `AudioMP3`), the raters' votes
  in `processedResults/summaryTable.csv`, the actors in `VideoDemographics.csv`. A name says actor, sentence, intended
  emotion and its intensity (`XX`: not stated);
- the packaged form: the same tables (`summaryTable.csv.gz`) without media; each rated clip is a row.

Four labels stand side by side: what the actor was asked to show (`intended`) and what most raters said they heard (`voice`),
saw (`face`), or heard and saw (`both`); a tie such as `A:N` is no label. `--label` chooses the one that is the task.

There is no official split. `fold` is ours: five groups of actors, men and women dealt out one by one in order of their number.
Where a `*speaker_splits.json` lies below the root (train, dev, test: lists of actors), it fills `split`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from mer.datasets.corpora.reading import Prepared, Request, files_below
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task

SPACE = SPACES["crema_d6.v1"]
INTENDED = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
LABELS = {"voice": "VoiceVote", "face": "FaceVote", "both": "MultiModalVote"}  # column of the raters' table
FOLDS = 5
# One file of the repository, 1040_ITH_SAD_X, has a single X.
_NAME = re.compile(r"^(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(XX?|LO|MD|HI)$")
_POINTER = b"version https://git-lfs"


def options(parser: argparse._ArgumentGroup) -> None:
    """Which label is the task."""
    parser.add_argument(
        "--label", choices=("intended", *LABELS), default="intended", help="intended (default), or what raters said"
    )


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout, media are placeholders of git-lfs, or a table contradicts the names.
    """
    root = request.root
    files = files_below(root, (".wav", ".flv", ".mp3", ".mp4", ".csv", ".csv.gz", ".json"))
    votes = _votes(root, files)
    if request.options.label != "intended" and not votes:
        raise UserError(
            f"{root}: no summaryTable.csv, which has what raters said",
            "Copy processedResults/summaryTable.csv there, or use --label intended",
        )
    media = _media(root, files)
    names = sorted(media or votes)
    if not names:
        raise UserError(
            f"{root}: no CREMA-D recordings (names like 1001_DFA_ANG_XX.wav) and no summaryTable.csv",
            "Pass the folder that has AudioWAV and VideoFlash",
        )
    sexes = _sexes(root, files)
    folds = _folds({int(name[:4]) for name in names}, sexes)
    splits = _splits(root, files)
    rows = []
    for name in names:
        actor, sentence, emotion, intensity = _parts(name)
        if splits and actor not in splits:
            raise UserError(
                f"{root}: the speaker splits do not name actor {actor} of {name}", "Complete or remove them"
            )
        row: dict[str, object] = {
            "clip_id": name,
            "subject": str(actor),
            "fold": folds[actor],
            "intended": INTENDED[emotion],
            **votes.get(name, {}),
            **media.get(name, {}),
            "sentence": sentence,
            "intensity": intensity,
            "sex": sexes.get(actor, ""),
        }
        rows.append(row | ({"split": splits[actor]} if splits else {}))
    corpus = Corpus(
        "crema_d",
        root.resolve(),
        {"emotion": Task("emotion", SPACE, column=request.options.label)},
        subject_disjoint="true",
        protocol=f"CREMA-D, {request.options.label} emotion, {'splits as given' if splits else 'five folds by actor, ours'}",
        licence="ODbL 1.0, contents DbCL 1.0",
    )
    return Prepared(corpus, rows, notes=_notes(request.options.label, names, votes, media, sexes))


def _parts(name: str) -> tuple[int, str, str, str]:
    match = _NAME.match(name)
    assert match is not None
    return int(match[1]), match[2], match[3], {"X": "XX"}.get(match[4], match[4])


def _media(root: Path, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Per clip its sound (wav before mp3 before the film's own) and its film."""
    found: dict[str, dict[str, str]] = {}
    checked: set[str] = set()
    for suffix in (".wav", ".mp3", ".flv", ".mp4"):
        for file, path in files.items():
            stem, _, ending = file.rpartition(".")
            if f".{ending.lower()}" != suffix or _NAME.match(stem) is None:
                continue
            if suffix not in checked:
                _refuse_pointer(root / path)
                checked.add(suffix)
            clip = found.setdefault(stem, {})
            clip.setdefault("audio", path)
            if suffix in (".flv", ".mp4"):
                clip.setdefault("video", path)
    return found


def _refuse_pointer(path: Path) -> None:
    """The repository keeps media by git-lfs; without it, a clone has a note of 130 bytes in place of each."""
    with path.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise UserError(f"{path}: a placeholder of git-lfs, not the recording", "Run 'git lfs pull' in the clone")


def _table(path: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Lines of a table, gzipped or not, by number.

    Raises:
        UserError: not readable, or without a column that is needed.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error})", "Copy it again") from None
    missing = [column for column in needed if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: column(s) {', '.join(missing)} are missing", "Copy the original table")
    return rows


def _votes(root: Path, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Per clip what most raters said, by column of the manifest; a tie is empty."""
    file = files.get("summaryTable.csv") or files.get("summaryTable.csv.gz")
    if file is None:
        return {}
    by_letter = {label[0]: name for label, name in INTENDED.items()}
    votes: dict[str, dict[str, str]] = {}
    for line, row in _table(root / file, ("FileName", *LABELS.values())):
        where, name = f"{root / file}, line {line}", row["FileName"]
        if _NAME.match(name or "") is None:
            raise UserError(f"{where}: {name!r} is no CREMA-D name, as 1001_DFA_ANG_XX", "Copy the original table")
        if name in votes:
            raise UserError(f"{where}: {name} stands here for the second time", "Keep one of the lines")
        votes[name] = {}
        for column, original in LABELS.items():
            letters = (row[original] or "").split(":")
            unknown = [letter for letter in letters if letter not in by_letter]
            if unknown:
                raise UserError(
                    f"{where}, column {original}: {row[original]!r} is not one of {', '.join(by_letter)}, or several with ':'",
                    "Copy the original table",
                )
            votes[name][column] = by_letter[letters[0]] if len(letters) == 1 else ""
    return votes


def _sexes(root: Path, files: Mapping[str, str]) -> dict[int, str]:
    file = files.get("VideoDemographics.csv")
    if file is None:
        return {}
    rows = _table(root / file, ("ActorID", "Sex"))
    return {int(row["ActorID"]): row["Sex"].lower() for _, row in rows if row["ActorID"].isdecimal()}


def _folds(actors: set[int], sexes: Mapping[int, str]) -> dict[int, int]:
    """Five groups of actors: those of each sex are dealt out in order of their number."""
    folds: dict[int, int] = {}
    for sex in sorted({sexes.get(actor, "") for actor in actors}):
        for actor in sorted(actor for actor in actors if sexes.get(actor, "") == sex):
            folds[actor] = len(folds) % FOLDS
    return folds


def _splits(root: Path, files: Mapping[str, str]) -> dict[int, str]:
    """Per actor the split of a file that is there; empty where there is none."""
    file = next((path for name, path in files.items() if name.endswith("speaker_splits.json")), None)
    if file is None:
        return {}
    try:
        content = json.loads((root / file).read_text(encoding="utf-8"))
        named = {split: [int(actor) for actor in content[key]] for split, key in zip(_SPLITS, content, strict=True)}
        if tuple(content) != tuple(_SPLITS.values()):
            raise ValueError(f"keys {', '.join(content)}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{root / file}: not lists of actors under train, dev and test ({error})", "Correct or remove it"
        ) from None
    splits: dict[int, str] = {}
    for split, actors in named.items():
        for actor in actors:
            if actor in splits:
                raise UserError(f"{root / file}: actor {actor} is in {splits[actor]} and in {split}", "Name each once")
            splits[actor] = split
    return splits


_SPLITS = {"train": "train", "val": "dev", "test": "test"}


def _notes(
    label: str,
    names: list[str],
    votes: Mapping[str, Mapping[str, str]],
    media: Mapping[str, Mapping[str, str]],
    sexes: Mapping[int, str],
) -> list[str]:
    notes = (
        []
        if sexes
        else ["There is no VideoDemographics.csv: folds are not balanced by sex, and differ from those with it"]
    )
    if not media:
        notes.append("There are tables only, no recordings: the manifest has labels and no media")
    elif silent := sum("video" not in clip for clip in media.values()):
        notes.append(f"{silent} of {len(media)} clips have no film (VideoFlash)")
    if label != "intended":
        empty = sum(not votes.get(name, {}).get(label) for name in names)
        notes.append(
            f"{empty} of {len(names)} clips have no label '{label}': raters were at odds, or the table lacks them"
        )
    return notes
