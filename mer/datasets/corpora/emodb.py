"""EMO-DB: ten actors say ten German sentences in seven emotions, 535 times. Burkhardt et al., Interspeech 2005; an open
download, in its packaged form CC0 1.0.

Two layouts are told apart by their files:

- the official download: `wav/03a01Fa.wav`; a name is speaker, sentence, the emotion's German initial (W Wut: anger,
  L Langeweile: boredom, E Ekel: disgust, A Angst: fear, F Freude: happiness, T Trauer: sadness, N neutral) and the version;
- the packaged form: `clips.csv` with a row per utterance and its sound in `file`.

`--classes 4` keeps anger, happiness, neutral and sadness, which every speaker has. `fold` is the speaker: leave one out. There
is no official split.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mer.datasets.corpora.reading import Prepared, Request, below, files_below
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.table import records

EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "N": "neutral", "T": "sadness",
}  # fmt: skip
MEN, WOMEN = (3, 10, 11, 12, 15), (8, 9, 13, 14, 16)
SPACE = {7: SPACES["emodb7.v1"], 4: SPACES["emodb4.v1"]}
_NAME = re.compile(r"^(\d\d)([ab]\d\d)([WLEAFTN])([a-z])$")


@dataclass
class Utterance:
    """One recording: its file, what the name says, and what else is known."""

    file: str
    speaker: int
    sentence: str
    emotion: str
    further: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, where: str, file: str) -> Utterance:
        """From a file like wav/03a01Fa.wav.

        Raises:
            UserError: the name says nothing, or what the corpus does not have.
        """
        match = _NAME.match(Path(file).stem)
        if match is None or int(match[1]) not in (*MEN, *WOMEN):
            raise UserError(
                f"{where}: {Path(file).name!r} is not speaker (03, 08 to 16), sentence, emotion and version, as in 03a01Fa.wav",
                "Restore the name, or move the file elsewhere",
            )
        return cls(file, int(match[1]), match[2], EMOTIONS[match[3]])


def options(parser: argparse._ArgumentGroup) -> None:
    """How many classes."""
    parser.add_argument(
        "--classes", type=int, choices=(7, 4), default=7, help="7, or 4: anger, happiness, neutral, sadness"
    )


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout, or a table contradicts the names.
    """
    root, space = request.root, SPACE[request.options.classes]
    found = list(_packaged(root) if (root / "clips.csv").is_file() else _official(root))
    if not found:
        raise UserError(
            f"{root}: no EMO-DB recordings (names like 03a01Fa.wav) and no clips.csv", "Unpack download.zip there"
        )
    kept = [u for u in found if u.emotion in space.names]
    rows = [
        {
            "clip_id": Path(u.file).stem,
            "subject": f"{u.speaker:02d}",
            "start": "0",
            "fold": u.speaker,
            "emotion": u.emotion,
            "audio": u.file,
            "sentence": u.sentence,
            "gender": "male" if u.speaker in MEN else "female",
            **u.further,
        }
        for u in sorted(kept, key=lambda u: Path(u.file).stem)
    ]
    corpus = Corpus(
        "emodb",
        root.resolve(),
        {"emotion": Task("emotion", space)},
        subject_disjoint="true",
        protocol=f"EMO-DB, {len(space)} classes, leave one speaker out",
        licence="open download; packaged form CC0 1.0",
    )
    return Prepared(corpus, rows, notes=_notes(found, kept, len(space)))


def _official(root: Path) -> Iterator[Utterance]:
    for name, path in files_below(root, (".wav",)).items():
        folder = Path(path).parent.name.lower()
        if folder in ("wav", "") or _NAME.match(Path(name).stem):
            yield Utterance.of(str(root / path), path)


def _packaged(root: Path) -> Iterator[Utterance]:
    path = root / "clips.csv"
    further = {"listener_recognised_pct": "recognised_percent", "natural_pct": "natural_percent"}
    for row, cells in records(path):
        where = f"{path}, row {row}"
        missing = [column for column in ("file", "speaker", "emotion") if not cells.get(column)]
        if missing:
            raise UserError(f"{where}: {', '.join(missing)} missing", "Restore the file")
        utterance = Utterance.of(where, below(cells["file"], where))
        if (cells["speaker"].lstrip("0"), cells["emotion"]) != (str(utterance.speaker), utterance.emotion):
            raise UserError(
                f"{where}: speaker or emotion contradicts the name {Path(utterance.file).stem}",
                "Restore the file; the name is the recording's own record",
            )
        utterance.further = {ours: cells[theirs] for theirs, ours in further.items() if theirs in cells}
        if seconds := cells.get("duration_s"):
            utterance.further["end"] = seconds
        yield utterance


def _notes(found: list[Utterance], kept: list[Utterance], classes: int) -> list[str]:
    notes = []
    if len(kept) < len(found):
        notes.append(
            f"{len(found) - len(kept)} utterances of other emotions than the {classes} are not in the manifest"
        )
    speakers = {u.speaker for u in kept}
    for emotion, count in Counter(e for e, _ in {(u.emotion, u.speaker) for u in kept}).items():
        if 2 * count < len(speakers):
            notes.append(f"'{emotion}' is said by {count} of {len(speakers)} speakers; think of --classes 4")
    return notes
