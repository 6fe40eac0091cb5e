"""RAVDESS: 24 actors, two sentences, eight emotions. Livingstone and Russo, PLoS ONE 13(5), 2018; CC BY-NC-SA 4.0.

Two layouts are told apart by their files:

- the official download: folders `Actor_01` ... `Actor_24`, anywhere below the root, with `03-...wav` (sound), `01-...mp4`
  (picture and sound) and `02-...mp4` (picture); what a file shows is in its name;
- the packaged form: `clips.csv` with one row per performance, sound in its `audio` column, and
  `features/ravdess_clip_features.npz` with 35 OpenFace action units per performance (read beside an official download, too).

The folds are the five subject-wise ones that published audio-visual work uses (Luna-Jiménez et al., Applied Sciences 12(1),
2022); `split` is left empty, because there is no official one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mer.datasets.corpora.reading import Prepared, Request, arrays_of, below
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.probe import probe
from mer.media.table import records

SPACE = SPACES["ravdess8.v1"]
FOLDS = {
    0: (2, 5, 14, 15, 16),
    1: (3, 6, 7, 13, 18),
    2: (10, 11, 12, 19, 20),
    3: (8, 17, 21, 23, 24),
    4: (1, 4, 9, 22),
}
FEATURES = Path("features/ravdess_clip_features.npz")
AU_ARRAY = "au_openface_mean_a"
# modality - channel - emotion - intensity - statement - repetition - actor
_NAME = re.compile(r"^(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)$")


@dataclass
class Performance:
    """One recorded performance and the files that show it."""

    name: str
    emotion: int
    intensity: str
    statement: str
    repetition: str
    actor: int
    media: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_name(cls, stem: str) -> tuple[Performance, str] | None:
        """Performance and modality code of a file name; None where it is not a RAVDESS speech name."""
        match = _NAME.match(stem)
        if match is None or match[2] != "01":  # channel 02 is song: other emotions, other protocol
            return None
        modality, _, emotion, intensity, statement, repetition, actor = match.groups()
        name = f"01-{stem[3:]}"  # the sound and the picture of one performance differ in the first code only
        strength = {"01": "normal", "02": "strong"}[intensity]
        return cls(name, int(emotion) - 1, strength, statement[1], repetition[1], int(actor)), modality


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout; files are missing or contradict their names.
    """
    root = request.root
    packaged = (root / "clips.csv").is_file()
    performances = _packaged(root) if packaged else _official(root)
    if not performances:
        raise UserError(
            f"{root}: no RAVDESS speech recordings (names like 03-01-05-01-02-01-12.wav) and no clips.csv",
            "Unpack Audio_Speech_Actors_01-24.zip or Video_Speech_Actor_*.zip there",
        )
    fold_of = {actor: fold for fold, actors in FOLDS.items() for actor in actors}
    rows, left_out = [], dict[str, str]()
    for p in tqdm(sorted(performances, key=lambda p: p.name), "ravdess", leave=False):
        if p.actor not in fold_of:
            raise UserError(f"{root}: actor {p.actor} of {p.name}", "RAVDESS has actors 1 to 24; rename the file")
        timed = p.media.get("video") or p.media["audio"]
        try:
            duration = probe(root / timed).duration
        except UserError as error:
            if not request.skip_errors:
                raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
            left_out[p.name] = str(error)
            continue
        rows.append(
            {
                "clip_id": p.name,
                "subject": f"{p.actor:02d}",
                "start": "0",
                "end": f"{duration:.6f}",
                "fold": fold_of[p.actor],
                "emotion": SPACE.names[p.emotion],
                "gender": "male" if p.actor % 2 else "female",
                "intensity": p.intensity,
                "statement": p.statement,
                "repetition": p.repetition,
                **p.media,
            }
        )
    corpus = Corpus(
        "ravdess",
        root.resolve(),
        {"emotion": Task("emotion", SPACE)},
        subject_disjoint="true",
        protocol="RAVDESS speech, published subject-wise folds",
        licence="CC BY-NC-SA 4.0 (research, non-commercial)",
    )
    return Prepared(corpus, rows, left_out)


def _official(root: Path) -> list[Performance]:
    found: dict[str, Performance] = {}
    for path in sorted(root.rglob("*")):
        parsed = Performance.from_name(path.stem) if path.suffix.lower() in (".wav", ".mp4", ".flac") else None
        if parsed is None:
            continue
        performance, modality = parsed
        entry = found.setdefault(performance.name, performance)
        file = path.relative_to(root).as_posix()
        if modality == "03":
            entry.media["audio"] = file
        elif modality == "01":
            entry.media["video"] = file
            entry.media.setdefault("audio", file)
        else:
            entry.media.setdefault("video", file)
    for name, row in _action_units(root).items():
        if name in found:
            found[name].media["au"] = f"{FEATURES.as_posix()}#{AU_ARRAY}[{row}]"
    # A silent 02-... file alone has no sound that could say how long it is, but a picture that does.
    return list(found.values())


def _packaged(root: Path) -> list[Performance]:
    au = _action_units(root)
    performances = []
    path = root / "clips.csv"
    for number, row in records(path):
        where = f"{path}, row {number}"
        missing = [column for column in ("clip", "audio", "actor", "emotion") if not row.get(column)]
        if missing:
            raise UserError(f"{where}: {', '.join(missing)} missing", "Restore the file")
        parsed = Performance.from_name(row["clip"])
        if parsed is None:
            raise UserError(f"{where}: {row['clip']!r} is no RAVDESS name", "Restore the file")
        performance, _ = parsed
        actor = int(row["actor"]) if row["actor"].isdecimal() else None
        if actor != performance.actor or row["emotion"] != SPACE.names[performance.emotion]:
            raise UserError(
                f"{where}: actor or emotion contradicts the name {row['clip']}",
                "Restore the file; the name is the recording's own record",
            )
        performance.media["audio"] = below(row["audio"], where)
        if (root / "av" / f"{performance.name}.mp4").is_file():
            performance.media["video"] = f"av/{performance.name}.mp4"
        if performance.name in au:
            performance.media["au"] = f"{FEATURES.as_posix()}#{AU_ARRAY}[{au[performance.name]}]"
        performances.append(performance)
    return performances


def _action_units(root: Path) -> dict[str, int]:
    """Row of each performance in the feature file; empty where there is none."""
    path = root / FEATURES
    if not path.is_file():
        return {}
    (names,) = arrays_of(path, name=1)
    return {str(name): row for row, name in enumerate(names)}
