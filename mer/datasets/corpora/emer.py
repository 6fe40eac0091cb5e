"""EMER: 1,303 clips of 121 people watching films, face and eyes. Liu et al., IEEE Trans. Multimedia, 2025 (arXiv 2512.16485).

A signed licence of a permanent academic; non-commercial, no redistribution of any part.

Two layouts are told apart by their folders:

- the current release: `eye_movement data` (a workbook per sample), `face video`, `face_light_align image` (a folder of frames
  per sample), `eye_track video`, labels in `EMER_label.xlsx`, the split in `emer_set.txt`;
- that of the released code: `smead_cross/face/set1 ... set5/<ID>/*.jpg`, `smead_cross/eye/<ID>.xlsx`, `new_label.xlsx`.

The inner formats of `EMER_label.xlsx` and `emer_set.txt` are not published: see `emer_labels` and `emer_sets` for what is read.
An ID is `<subject>_<material>_<target>`, perhaps with more behind a blank; the subject is the number it begins with. The target
is what a film was meant to cause and no label.

Tasks: what was felt (ER: `er7`, `er3`, `er_va`) and what the face showed (FER: `fer7`, `fer3`, `fer_va`, `fer_intensity`). The
three classes are read where the table has them, else they are the sign of valence; they are no function of the seven: the
authors show a neutral face of valence -0.5 that is negative.

Folds are the five sets of the corpus; whether they share people is not published, so it is counted and said. Where there are
none, people are divided into five folds of about the same number of clips. Frames are in order of their numbers. How many of
them make a second is not published: the face video says it, or else the eye tracker's clock; else 25 are declared.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mer.datasets.corpora import emer_eyes, emer_labels
from mer.datasets.corpora.emer_labels import Labels, Reading
from mer.datasets.corpora.emer_sets import natural, read_sets, shared
from mer.datasets.corpora.folds import grouped_folds
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import SPLITS, Corpus, Disjoint
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.folder import VIDEO
from mer.media.pictures import SUFFIXES
from mer.media.probe import probe

FPS = 25.0  # declared where nothing says it: 300 frames are then 12 s, as the eye data's 1,466 samples are at 120 Hz
FOLDS = 5
TABLES = (".xlsx", ".xlsm", ".csv", ".tsv", ".txt")
TASKS = {
    **{side: Task(side, SPACES["emer7.v1"]) for side in ("er7", "fer7")},
    **{side: Task(side, SPACES["emer3.v1"]) for side in ("er3", "fer3")},
    **{side: Task(side, SPACES["emer_va.v1"]) for side in ("er_va", "fer_va")},
    "fer_intensity": Task("fer_intensity", SPACES["emer_intensity.v1"]),
}
# What folders of the release are called: letters alone, as the beginning of the name (screenshots cut names off).
FOLDERS = {
    "aligned": ("facelightalign", "facealign"),
    "video": ("facevideo",),
    "eyes": ("eyemovement",),
    "track": ("eyetrack",),
}
HIDDEN = (".", "~$")  # the latter are locks of open workbooks
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass
class Sample:
    """One clip.

    Attributes:
        name: as its folder or file is called, without what follows a blank.
        aligned, video, eyes, track: relative to the root; empty where there is none.
        frames, first: pictures of `aligned` from the first number to the last, and the first number.
        place: the set whose folder it lies in; empty where there are no such folders.
    """

    name: str
    aligned: str = ""
    video: str = ""
    eyes: str = ""
    track: str = ""
    frames: int = 0
    first: int = 0
    place: str = ""
    written: dict[str, str] = field(default_factory=dict)


def options(parser: argparse._ArgumentGroup) -> None:
    """Options of `mer prepare emer`."""
    emer_labels.options(parser)
    parser.add_argument(
        "--validity",
        choices=["one", "zero", "studio"],
        help="which codes mean a valid eye, where workbooks have numbers: 1; 0; or 0 and 1 of 0 to 4",
    )


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout; labels or sets cannot be read, or say things that were not declared.
    """
    root = request.root
    samples, tables, sets = _released(root) or _release(root)
    reading = Reading.of(request.options)
    labels = emer_labels.read(tables, reading)
    cells = {_key(name): row for name, row in labels.cells.items()}
    _unique(tables, labels)
    notes = list(labels.notes)
    place_of = _places(samples, sets, cells, notes)
    rows, left_out = [], dict[str, str]()
    kept: dict[str, Sample] = {}
    clocks: Counter[str] = Counter()
    first = min((s.first for s in samples.values() if s.aligned), default=0)
    for key in tqdm(sorted(samples, key=natural), "emer", leave=False):
        sample = samples[key]
        if key not in cells:
            left_out[sample.name] = f"{tables.name} has no label of this name"
            continue
        try:
            media = _media(request, sample, first, clocks)
        except UserError as error:
            if not request.skip_errors:
                raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
            left_out[sample.name] = str(error)
            continue
        kept[key] = sample
        place = place_of.get(key, "")
        rows.append(
            {
                "clip_id": sample.name,
                "subject": subject(sample.name),
                "start": "0",
                "split": place if place in SPLITS else "",
                "fold": "" if place in SPLITS else place,
                **cells[key],
                **media,
            }
        )
    if absent := sorted(set(cells) - set(samples), key=natural):
        notes.append(f"{len(absent)} labelled sample(s) have neither pictures nor eye data: {_few(absent)}")
    notes += _clock_notes(clocks)
    disjoint = _overlap({k: place_of.get(k, "") for k in kept}, kept, notes)
    official = sets is not None or any(sample.place for sample in samples.values())
    corpus = Corpus(
        "emer",
        root.resolve(),
        dict(TASKS),
        subject_disjoint=disjoint,
        protocol="EMER, the sets of the corpus" if official else "EMER, folds by subject (ours)",
        licence="signed licence agreement; non-commercial, no redistribution",
    )
    return Prepared(corpus, rows, left_out, notes, {"clocks": dict(clocks)})


def subject(name: str) -> str:
    """The number that an ID begins with; empty where it begins with none."""
    match = re.match(r"\d+", name)
    return str(int(match[0])) if match else ""


def _key(name: str) -> str:
    """What is the same in all spellings of an ID: no folder, no ending, nothing behind a blank, and no leading zeros, which
    spreadsheets lose.
    """
    word = re.split(r"[\\/]", (name.split() or [""])[0].lower())[-1].partition(".")[0]
    return word.lstrip("0") or word


# -- Files -------------------------------------------------------------------------------------------------------------


def _release(root: Path) -> tuple[dict[str, Sample], Path, Path | None]:
    """Samples of the current release, its label table and its split file.

    Raises:
        UserError: it is not this layout.
    """
    folders: dict[str, Path] = {}
    tables: list[Path] = []
    sets: list[Path] = []
    for folder in (root, *_folders(root)):
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            plain = re.sub("[^a-z]", "", entry.name.lower())
            if entry.name.startswith(HIDDEN):
                continue
            if entry.is_dir():
                for kind, names in FOLDERS.items():
                    if plain.startswith(names):
                        folders.setdefault(kind, Path(entry.path))
            elif plain.startswith("emerlabel") and entry.name.lower().endswith(TABLES):
                tables.append(Path(entry.path))
            elif plain.startswith("emerset") and entry.name.lower().endswith(".txt"):
                sets.append(Path(entry.path))
    if not folders or not tables:
        found = ", ".join(sorted(e.name for e in os.scandir(root))[:20]) or "nothing"
        raise UserError(
            f"{root}: neither the release of EMER ('eye_movement data', 'face video', 'face_light_align image',"
            f" EMER_label.xlsx, emer_set.txt) nor smead_cross of the released code; found {found}",
            "Pass the folder that holds these",
        )
    _single(tables)
    _single(sets)
    samples: dict[str, Sample] = {}
    if "aligned" in folders:
        _add(root, samples, "aligned", _folders(folders["aligned"]))
    for kind, suffixes in (("video", tuple(VIDEO)), ("eyes", TABLES), ("track", tuple(VIDEO))):
        if kind in folders:
            _add(root, samples, kind, _files(folders[kind], suffixes))
    return samples, tables[0], sets[0] if sets else None


def _released(root: Path) -> tuple[dict[str, Sample], Path, None] | None:
    """Samples of the layout of the released code; None where it is not that."""
    base = next((p for p in (root, root / "smead_cross") if (p / "face").is_dir() and (p / "eye").is_dir()), None)
    if base is None:
        return None
    tables = [p for p in sorted(base.iterdir()) if p.stem.lower() == "new_label" and p.suffix.lower() in TABLES]
    places = {
        int(match[1]): p for p in _folders(base / "face") if (match := re.fullmatch(r"set[ _-]?(\d+)", p.name.lower()))
    }
    if not tables or not places:
        raise UserError(
            f"{base}: {'no new_label.xlsx' if places else 'no folders face/set1 to face/set5'} beside 'face' and 'eye'",
            "Restore the files",
        )
    _single(tables)
    samples: dict[str, Sample] = {}
    for number, folder in sorted(places.items()):
        for path in _folders(folder):
            key = _key(path.name)
            if (before := samples.get(key)) is not None and before.place != str(number):
                raise UserError(f"{path}: this sample is in set{before.place}, too", "Keep one of them")
            _add(root, samples, "aligned", [path])
            samples[key].place = str(number)
    _add(root, samples, "eyes", _files(base / "eye", TABLES))
    return samples, tables[0], None


def _single(paths: list[Path]) -> None:
    if len(paths) > 1:
        raise UserError(f"{paths[0]}: {paths[1]} says the same things", "Keep one of them")


def _add(root: Path, samples: dict[str, Sample], kind: str, paths: Iterable[Path]) -> None:
    """Note where one kind of media of each sample lies."""
    for path in paths:
        written = path.name if kind == "aligned" else path.stem
        sample = samples.setdefault(_key(written), Sample((written.split() or [written])[0]))
        if kind in sample.written:
            raise UserError(
                f"{path}: {written!r} and {sample.written[kind]!r} are one ID, as what follows a blank and leading zeros do not"
                " count",
                "Keep one of them",
            )
        sample.written[kind] = written
        if kind == "aligned":
            sample.first, sample.frames = _numbers(path)
            if not sample.frames:
                continue
        setattr(sample, kind, path.relative_to(root).as_posix())


def _folders(path: Path) -> list[Path]:
    inside = (Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    return sorted(inside, key=lambda p: natural(p.name))


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for where in (folder, *_folders(folder)):
        for entry in sorted(os.scandir(where), key=lambda e: e.name):
            if entry.is_file() and not entry.name.startswith(HIDDEN) and entry.name.lower().endswith(suffixes):
                yield Path(entry.path)


def _numbers(folder: Path) -> tuple[int, int]:
    """The lowest number of the pictures in a folder, and how many moments there are from it to the highest."""
    names = (e.name for e in os.scandir(folder) if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
    numbers = [int(match[1]) for name in names if (match := _NUMBER.search(name.rpartition(".")[0]))]
    return (min(numbers), max(numbers) - min(numbers) + 1) if numbers else (0, 0)


# -- Media -------------------------------------------------------------------------------------------------------------


def _media(request: Request, sample: Sample, first: int, clocks: Counter[str]) -> dict[str, str]:
    """Cells of the media columns, and the clip's end."""
    root = request.root
    media = {"face": "", "eye": "", "gaze": "", "face_video": sample.video, "eye_track": sample.track}
    info = probe(root / sample.video) if sample.video else None
    length = info.duration if info is not None else 0.0
    # A tracker loses the face at times. Numbers of the corpus begin with 0 or 1, and so does every clip.
    moments = sample.frames + (sample.first - first if first in (0, 1) else 0)
    if sample.eyes:
        name = f"eyes/{sample.name}.npz"
        target, reference = request.beside(name)
        validity = getattr(request.options, "validity", None) or ""
        eyes = emer_eyes.convert(root / sample.eyes, target, length or moments / FPS or 1.0, validity)
        media["eye"] = f"{reference}#data"
        media["gaze"] = media["eye"] if eyes.gaze else ""
        clocks[f"eye clock: {eyes.clock}"] += 1
        if eyes.absent:
            clocks[f"columns absent: {', '.join(eyes.absent)}"] += 1
        if eyes.clock != "spread" and length and abs(eyes.seconds - length) > 0.1 * length:
            clocks["eye and video differ"] += 1
        if eyes.clock != "spread":
            length = length or eyes.seconds
    else:
        clocks["no eye data"] += 1
    if sample.aligned:
        fps = _rate(moments, length, None if info is None else info.fps)
        clocks[f"frames: {'video' if info is not None and info.duration else 'eyes' if length else 'declared'}"] += 1
        if info is not None and info.fps and abs(fps - info.fps) > 0.1 * info.fps:
            clocks["frames: spread"] += 1
        media["face"] = f"{sample.aligned}#{fps:.9g}" + (f"@{first}" if first in (0, 1) else "")
        length = length or moments / fps
    elif sample.video:
        media["face"] = sample.video
    else:
        clocks["no face"] += 1
    return {"end": f"{length:.6f}" if length else "", **media}


def _rate(moments: int, length: float, fps: float | None) -> float:
    """Frames per second of a folder of pictures."""
    if not length:
        return FPS
    if fps and abs(moments - fps * length) <= max(2.0, 0.01 * moments):
        return round(fps, 6)  # every frame of the video; the container's length is a frame off at times
    return round(moments / length, 6)


def _clock_notes(clocks: Counter[str]) -> list[str]:
    notes = []
    for what, text in (
        ("frames: declared", f"of {{n}} clip(s) nothing says how long they are; {FPS:g} frames a second were declared"),
        (
            "frames: eyes",
            "of {n} clip(s) the eye tracker's clock says how fast the frames are, as there is no face video",
        ),
        (
            "frames: spread",
            "of {n} clip(s) frames are more or fewer than the video's; they were spread over its length",
        ),
        ("eye clock: spread", "{n} eye recording(s) have no clock; their samples were spread over the clip"),
        ("eye and video differ", "of {n} clip(s) eye data and face video differ in length by more than a tenth"),
        ("no eye data", "{n} clip(s) have no eye data"),
        ("no face", "{n} clip(s) have no pictures of the face"),
    ):
        if clocks[what]:
            notes.append(text.format(n=clocks[what]))
    for what, count in clocks.items():
        if what.startswith("columns absent: "):
            names = what.partition(": ")[2].split(", ")
            notes.append(
                f"{count} eye recording(s) lack {len(names)} of the 39 columns of a Tobii export ({_few(names)}); give the"
                " encoder those that there are"
            )
        elif what in ("eye clock: ms", "eye clock: us", "eye clock: s"):
            notes.append(
                f"{count} eye clock(s) without a unit are in {what.split()[-1]}: no other unit gives a tracker's rate"
            )
    return notes


# -- Sets --------------------------------------------------------------------------------------------------------------


def _places(
    samples: Mapping[str, Sample], sets: Path | None, cells: Mapping[str, Mapping[str, str]], notes: list[str]
) -> dict[str, str]:
    """Fold or split of each sample that has one."""
    if any(sample.place for sample in samples.values()):
        return {key: sample.place for key, sample in samples.items()}
    if sets is None:
        who = {key: subject(sample.name) or sample.name for key, sample in samples.items() if key in cells}
        count = min(FOLDS, len(set(who.values())))
        units = [(name, cells[key]["er7"] or cells[key]["fer7"]) for key, name in who.items()]
        folds = grouped_folds(units, count) if count > 1 else dict.fromkeys(who.values(), 0)
        notes.append(f"no split file: people were divided into {count} folds (ours)")
        return {key: str(folds[name] + 1) for key, name in who.items()}
    found = read_sets(sets, lambda name: _key(name) if _key(name) in samples else None)
    if missing := [samples[key].name for key in samples if key not in found]:
        notes.append(f"{len(missing)} sample(s) are in no set of {sets.name} and so in no fold: {_few(missing)}")
    return found


def _overlap(place_of: Mapping[str, str], samples: Mapping[str, Sample], notes: list[str]) -> Disjoint:
    """Count the people in more than one fold, and say so."""
    who = {key: subject(sample.name) for key, sample in samples.items()}
    several = shared(place_of, who)
    people = len({name for name in who.values() if name})
    if several:
        shown = _few([f"{name} (folds {', '.join(folds)})" for name, folds in several.items()])
        notes.append(f"{len(several)} of {people} subjects occur in more than one fold: {shown}; scores are optimistic")
        return "false"
    numbers = [
        sample.name for sample in samples.values() if re.fullmatch(r"\d*", sample.name) or not subject(sample.name)
    ]
    if numbers:
        notes.append(
            f"{len(numbers)} ID(s) are plain numbers or have none, so who they show is not known: {_few(numbers)}"
        )
        return "unknown"
    notes.append(f"no subject occurs in more than one fold ({people} subjects)")
    return "true"


def _unique(path: Path, labels: Labels) -> None:
    """
    Raises:
        UserError: two names of the table are one ID.
    """
    seen: dict[str, str] = {}
    for name in labels.cells:
        if (before := seen.setdefault(_key(name), name)) != name:
            raise UserError(
                f"{path}, row {labels.rows[name]}: {name!r} and {before!r} of row {labels.rows[before]} are one ID",
                "Keep one of them",
            )


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (" ..." if len(listed) > 5 else "")
