"""Corpora that are lists of clips beside folders of them: what the readers of DFEW, MAFW and FERV39k share.

A list says per line which clip and which label, in one of these forms; a fold and a part (train or test) are in its path:

    video_name,label            CSV with a header that names a column of clips and one of labels, and perhaps `frames`
    .../00001 144 1             path, pictures in it (or its sound), label; parted by blanks, no header
    00025.mp4 anger             path and label
    00025.mp4<tab>anger<tab>... the same and captions, which may hold commas
"""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mer.errors import UserError
from mer.media.pictures import SUFFIXES, picture_folder
from mer.media.probe import MediaInfo, probe

Part = Literal["train", "test"]
SHORT = 16  # pictures; what the usual samplers take of a clip
FPS = 25.0  # declared where no video tells it
MOST_BYTES = 2**28  # of a list, unpacked
_CLIPS = ("video_name", "clip", "path", "name", "video", "file")
_LABELS = ("label", "labels", "emotion", "id")
_LIST = re.compile(r"\.(csv|txt)(\.gz)?$", re.IGNORECASE)
_PART = re.compile(r"(train|test)(?!.*(?:train|test))", re.IGNORECASE | re.DOTALL)
_FOLD = re.compile(r"(?:set|split)_?0*(\d+)(?!.*(?:set|split)_?\d)", re.IGNORECASE | re.DOTALL)
_DIGITS = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Attributes:
        clip: its name, as the reader normalises it.
        label: as it stands there.
        frames: pictures that the list counts, or None.
        captions: what follows the label, parted by tabs.
        file, number: where it stands.
    """

    clip: str
    label: str
    frames: int | None
    captions: tuple[str, ...]
    file: Path
    number: int

    @property
    def where(self) -> str:
        return f"{self.file}, line {self.number}"


@dataclass(frozen=True)
class ClipList:
    """One list.

    Attributes:
        header: names of its columns; empty without a header.
        lines: its clips.
    """

    file: Path
    header: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def codes(self) -> set[int]:
        """Numbers that stand for labels; empty where labels are names."""
        return {int(line.label) for line in self.lines if line.label.isascii() and line.label.isdecimal()}


@dataclass(frozen=True)
class Known:
    """What the lists say of a clip.

    Attributes:
        label: name of the class.
        place: fold whose test list holds it, or the part (train or test) where there are no folds.
        line: where it is said first.
    """

    label: str
    place: str
    line: Line


# -- the lists -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """Files and folders of a download, relative to its root; what lies in folders that are named by a number is left out."""

    root: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, depth: int = 6) -> Survey:
        """Look at the tree, without a `stat` per file."""
        files: list[str] = []
        folders: list[str] = []
        for folder, inside, names in os.walk(root):
            relative = os.path.relpath(folder, root).replace(os.sep, "/")
            lead = "" if relative == "." else f"{relative}/"
            inside[:] = sorted(n for n in inside if not n.isdecimal() and not n.startswith("."))
            folders += [lead + name for name in inside]
            files += [lead + name for name in sorted(names) if not name.startswith(".")]
            if lead.count("/") >= depth:
                inside[:] = []
        return cls(root, tuple(files), tuple(folders))

    def folder(self, names: Iterable[str], chosen: Path | None = None) -> Path | None:
        """The folder that is chosen, or the first of these names, in order of the names; None where there is none.

        Raises:
            UserError: the chosen one does not lie below the root.
        """
        if chosen is not None:
            path = self.root / chosen
            if not path.is_dir() or not path.is_relative_to(self.root) or ".." in chosen.parts:
                raise UserError(f"{chosen}: no such folder below {self.root}", "Name one relative to --root")
            return path
        for name in names:
            for folder in self.folders:
                if folder == name or folder.endswith(f"/{name}"):
                    return self.root / folder
        return None


def find_lists(
    survey: Survey, preferred: Sequence[str], within: Path | None, folds: bool
) -> dict[tuple[str, Part], Path]:
    """List files by fold and part; the fold is empty in a corpus without folds.

    Args:
        survey: of the download.
        preferred: patterns of relative paths; where lists of several forms lie side by side, those of the first count.
        within: folder of the lists, where it is another one.
        folds: whether a list belongs to a fold.

    Raises:
        UserError: there are none, or several forms of which none is preferred.
    """
    if within is not None and not within.is_dir():
        raise UserError(f"{within}: no such folder (--lists)", "Name the folder that holds the lists")
    root, files = (survey.root, survey.files) if within is None else (within, Survey.of(within).files)
    forms: dict[str, dict[tuple[str, Part], Path]] = {}
    for name in files:
        part, fold = _PART.search(name), _FOLD.search(name)
        if not _LIST.search(name) or part is None or (folds and fold is None):
            continue
        # The form of a list is its path without what differs from list to list.
        plain = name if fold is None or not folds else f"{name[: fold.start(1)]}#{name[fold.end(1) :]}"
        form = re.sub(r"train|test", "*", plain, flags=re.IGNORECASE)
        key: tuple[str, Part] = (fold[1] if folds and fold else "", "train" if part[1].lower() == "train" else "test")
        forms.setdefault(form, {})[key] = root / name
    if not forms:
        raise UserError(f"{root}: no lists of clips", "Put them there, or name their folder with --lists")
    for pattern in preferred:
        fitting = [found for form, found in forms.items() if re.search(pattern, form)]
        if len(fitting) == 1:
            return fitting[0]
    if len(forms) > 1:
        raise UserError(
            f"{root}: lists of several forms ({', '.join(sorted(forms))})", "Name the folder of one with --lists"
        )
    return next(iter(forms.values()))


def read_list(file: Path, clip: Callable[[str], str]) -> ClipList:
    """Read a list.

    Args:
        file: one of the forms above, perhaps packed by gzip.
        clip: the name of a clip from its path.

    Raises:
        UserError: it cannot be read, or a line has no clip or no label.
    """
    rows = _rows(file)
    number, first = next(rows, (0, []))
    if not first:
        raise UserError(f"{file}: the list is empty", "Restore the file")
    header = tuple(cell.strip().lower() for cell in first)
    named, labelled = (next((header.index(n) for n in names if n in header), None) for names in (_CLIPS, _LABELS))
    lines: list[Line] = []
    if named is not None and labelled is not None:
        counted = header.index("frames") if "frames" in header else None
        for number, cells in rows:
            if len(cells) != len(header):
                raise UserError(f"{file}, line {number}: more or fewer cells than the header", "Restore the file")
            frames = None if counted is None else _count(cells[counted], file, number)
            lines.append(Line(clip(cells[named].strip()), cells[labelled].strip(), frames, (), file, number))
        return ClipList(file, header, tuple(lines))
    if len(first) == 1 or header[-1] in _LABELS:
        raise UserError(
            f"{file}, line {number}: {' '.join(first)!r} is no line of clip and label",
            "Lists have a header with video_name and label, or lines like '.../00001 144 1'",
        )
    lines.append(_line(file, number, first, clip))
    lines += [_line(file, number, cells, clip) for number, cells in rows]
    return ClipList(file, (), tuple(lines))


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, cut into cells. Each is decoded by itself: one in another encoding spoils no other."""
    try:
        if file.name.lower().endswith(".gz"):
            with gzip.open(file) as stream:
                raw = stream.read(MOST_BYTES + 1)
        else:
            with file.open("rb") as stream:
                raw = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise UserError(f"{file}: not readable ({error})", "Copy or download it again") from None
    if len(raw) > MOST_BYTES or b"\0" in raw:
        raise UserError(f"{file}: not a list of clips", "Name the folder of the lists with --lists")
    texts = [_text(line) for line in raw.removeprefix(b"\xef\xbb\xbf").splitlines()]
    sample = next((t for t in texts if t.strip()), "")
    mark = next((m for m in ",;" if m in sample), None)
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        if "\t" in sample:
            yield number, text.split("\t")
        elif mark is not None:
            yield number, next(csv.reader([text], delimiter=mark))
        else:
            path, _, label = text.strip().rpartition(" ")
            before, _, middle = path.strip().rpartition(" ")
            # A path may hold blanks; between it and the label stands a count or a sound file, or nothing.
            counted = bool(before) and (middle.isdecimal() or middle.lower().endswith(".wav"))
            yield number, [before.strip(), middle, label] if counted else [path.strip(), label]


def _text(line: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")


def _line(file: Path, number: int, cells: Sequence[str], clip: Callable[[str], str]) -> Line:
    if len(cells) < 2 or not cells[0].strip():
        raise UserError(f"{file}, line {number}: {' '.join(cells)!r} is not a clip and its label", "Restore the file")
    if len(cells) == 3 and (cells[1].isdecimal() or cells[1].lower().endswith(".wav")):
        frames = _count(cells[1], file, number) if cells[1].isdecimal() else None
        return Line(clip(cells[0]), cells[2].strip(), frames, (), file, number)
    captions = tuple(cell.strip() for cell in cells[2:])
    return Line(clip(cells[0].strip()), cells[1].strip(), None, captions, file, number)


def _count(cell: str, file: Path, number: int) -> int:
    if not (cell.strip().isascii() and cell.strip().isdecimal()):
        raise UserError(f"{file}, line {number}: {cell!r} is no number of pictures", "Restore the file")
    return int(cell)


def numbered(name: str) -> str:
    """`.../1`, `00001.mp4` and `1.0` are clip 00001: five digits, as tables and paths lose or keep the zeros."""
    stem = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = re.sub(r"\.(mp4|avi|wav|0)$", "", stem, flags=re.IGNORECASE)
    return stem.zfill(5) if stem.isdecimal() else stem


def of_folds(lists: Mapping[tuple[str, Part], ClipList], decode: Callable[[Line], str], folds: int) -> dict[str, Known]:
    """Every clip once, in the fold whose test list holds it, in order of name.

    Raises:
        UserError: a fold's test list is missing, a clip stands in two of them, in training and test of one fold, in no test
            list, or with two labels.
    """
    have = sorted({fold for fold, part in lists if part == "test"}, key=int)
    if have != [str(k) for k in range(1, folds + 1)]:
        raise UserError(
            f"{next(iter(lists.values())).file.parent}: test lists of the folds {', '.join(have) or 'none'}",
            f"All {folds} are needed: a clip's fold is the one whose test list holds it",
        )
    known: dict[str, Known] = {}
    for fold in have:
        for line in lists[fold, "test"].lines:
            if line.clip in known:
                raise UserError(
                    f"{line.where}: clip {line.clip} was already tested in {known[line.clip].line.where}",
                    "Restore the lists; a clip belongs to one fold",
                )
            known[line.clip] = Known(decode(line), fold, line)
    for fold in have:
        training = lists.get((fold, "train"))
        if training is None:
            continue
        names = set()
        for line in training.lines:
            before = known.get(line.clip)
            if before is None:
                raise UserError(
                    f"{line.where}: clip {line.clip} is in no test list", "Restore the lists; every clip is tested once"
                )
            if before.place == fold or line.clip in names:
                also = before.line.where if before.place == fold else "the same list"
                raise UserError(f"{line.where}: clip {line.clip} stands in {also}, too", "Restore the lists")
            _agree(line, decode(line), before)
            names.add(line.clip)
        absent = [clip for clip, one in known.items() if one.place != fold and clip not in names]
        if absent:
            raise UserError(
                f"{training.file}: {len(absent)} clip(s) of the other folds are missing, the first is {absent[0]}",
                "Restore the lists; a fold trains on all clips that the others test",
            )
    return dict(sorted(known.items()))


def of_parts(lists: Mapping[tuple[str, Part], ClipList], decode: Callable[[Line], str]) -> dict[str, Known]:
    """Every clip once, with its part.

    Raises:
        UserError: a list is missing, or a clip stands twice.
    """
    known: dict[str, Known] = {}
    parts: tuple[Part, ...] = ("train", "test")
    for part in parts:
        if ("", part) not in lists:
            raise UserError(f"{next(iter(lists.values())).file.parent}: no list of {part}", "Put it beside the other")
        for line in lists["", part].lines:
            if line.clip in known:
                raise UserError(
                    f"{line.where}: clip {line.clip} stands in {known[line.clip].line.where}, too", "Restore the lists"
                )
            known[line.clip] = Known(decode(line), part, line)
    return known


def _agree(line: Line, label: str, before: Known) -> None:
    if label != before.label:
        raise UserError(
            f"{line.where}: clip {line.clip} is {label}, and {before.label} in {before.line.where}", "Restore the lists"
        )


# -- the media -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pictures:
    """A clip's folder: path relative to the root, number of pictures, least number in their names."""

    path: str
    count: int
    first: int


@dataclass
class Media:
    """What was found of the clips.

    Attributes:
        faces: pictures by clip.
        videos, sounds: files by clip, relative to the root.
        info: what the videos' headers say, where they were asked.
        broken: clips whose video cannot be opened, and why.
    """

    faces: dict[str, Pictures] = field(default_factory=dict)
    videos: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, str] = field(default_factory=dict)
    info: dict[str, MediaInfo] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def cells(self, clip: str, fps: float | None, first: int | None) -> dict[str, str]:
        """Manifest cells of a clip.

        Args:
            clip: its name.
            fps: pictures per second; None takes the video's own rate, and `FPS` where there is none.
            first: number of the first moment, where it is known.
        """
        cells: dict[str, str] = {}
        info = self.info.get(clip)
        if clip in self.faces:
            rate = fps or (info.fps if info is not None and info.fps else FPS)
            at = "" if first is None else f"@{first}"
            cells["faces"] = f"{self.faces[clip].path}#{rate:.6g}{at}"
        if clip in self.videos and clip not in self.broken:
            cells["video"] = self.videos[clip]
        if clip in self.sounds:
            cells["audio"] = self.sounds[clip]
        elif "video" in cells and info is not None and info.has_audio:
            cells["audio"] = self.videos[clip]
        return cells

    @property
    def first(self) -> int | None:
        """Number of the first moment, where some clip begins with 0 or 1: one that begins later lacks its first faces."""
        least = min((pictures.first for pictures in self.faces.values()), default=None)
        return least if least in (0, 1) else None


def pictures_of(root: Path, folder: Path, clips: Iterable[str], flat: bool = True) -> dict[str, Pictures]:
    """Pictures of the clips, from one listing per clip.

    Args:
        root: that paths are relative to.
        folder: of the clips' folders.
        clips: their names.
        flat: folders lie side by side, perhaps named without zeros; else the clip's name is the path to its folder.

    Raises:
        UserError: two folders are of one clip.
    """
    lead = _lead(root, folder)
    names: dict[str, str] = {}
    for entry in os.listdir(folder) if flat else ():
        other = names.setdefault(numbered(entry), entry)
        if other != entry:
            raise UserError(f"{folder}: {entry} and {other} are both of clip {numbered(entry)}", "Keep one of them")
    found: dict[str, Pictures] = {}
    for clip in tqdm(list(clips), "pictures", leave=False, disable=None):
        name = names.get(clip) if flat else clip
        if name is None:
            continue
        try:
            inside = [n for n in os.listdir(folder / name) if n.lower().endswith(SUFFIXES) and n[0] != "."]
        except OSError:
            continue
        if inside:
            at = [int(digits[1]) for n in inside if (digits := _DIGITS.search(n.rpartition(".")[0]))]
            found[clip] = Pictures(lead + name, len(inside), min(at, default=0))
    return found


def files_of(root: Path, folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Files by clip number, whatever zeros their names have; relative to the root.

    Raises:
        UserError: two files are of one clip.
    """
    lead, found = _lead(root, folder), dict[str, str]()
    for entry in sorted(os.listdir(folder)):
        if entry.startswith(".") or not entry.lower().endswith(suffixes):
            continue
        clip = numbered(entry.rpartition(".")[0])
        if clip in found:
            raise UserError(f"{folder}: {entry} and {found[clip]} are both of clip {clip}", "Keep one of them")
        found[clip] = lead + entry
    return found


def _lead(root: Path, folder: Path) -> str:
    """What a path below a folder begins with, seen from the root."""
    lead = folder.relative_to(root).as_posix()
    return "" if lead == "." else f"{lead}/"


def ask_videos(root: Path, media: Media, clips: Iterable[str]) -> None:
    """Read rate and sound from the headers of the videos."""

    def ask(clip: str) -> MediaInfo | str:
        try:
            return probe(root / media.videos[clip])
        except UserError as error:
            return str(error)

    wanted = [clip for clip in clips if clip in media.videos]
    with ThreadPoolExecutor(4) as pool:
        for clip, answer in zip(wanted, tqdm(pool.map(ask, wanted), "videos", len(wanted), leave=False), strict=True):
            if isinstance(answer, str):
                media.broken[clip] = answer
            else:
                media.info[clip] = answer


def card(known: Mapping[str, Known], media: Media) -> tuple[list[str], dict[str, object]]:
    """What was found, as sentences and as numbers: a data card."""
    notes: list[str] = []
    facts: dict[str, object] = {
        "clips": len(known), "faces": len(media.faces.keys() & known), "video": len(media.videos.keys() & known),
        "classes": dict(Counter(one.label for one in known.values())),
        "places": dict(Counter(one.place for one in known.values())),
    }  # fmt: skip
    if media.faces:
        counts = {clip: p.count for clip, p in media.faces.items()}
        short = sum(count < SHORT for count in counts.values())
        missing = [clip for clip in known if clip not in media.faces]
        facts |= {"short": short, "without_faces": len(missing)}
        notes.append(
            f"Faces: {len(counts)} of {len(known)} clips, {sum(counts.values())} pictures;"
            f" {short} clip(s) have fewer than {SHORT}, of which samplers repeat some"
        )
        if missing:
            notes.append(f"{len(missing)} clip(s) have no faces, the first is {missing[0]}")
        listed = {c: one.line.frames for c, one in known.items() if one.line.frames is not None and c in counts}
        differ = [clip for clip, frames in listed.items() if frames != counts[clip]]
        facts["other_count"] = len(differ)
        if differ:
            clip = differ[0]
            notes.append(
                f"{len(differ)} of {len(listed)} clips have another number of pictures on disk than in the list (clip"
                f" {clip}: {counts[clip]}, list {listed[clip]}); what is on disk counts"
            )
    else:
        listed_only = [one.line.frames for one in known.values() if one.line.frames is not None]
        if listed_only:
            short = sum(frames < SHORT for frames in listed_only)
            facts["short"] = short
            notes.append(f"By the lists, {short} clip(s) have fewer than {SHORT} pictures")
    if media.broken:
        clip = next(iter(media.broken))
        notes.append(f"{len(media.broken)} video(s) cannot be opened, the first is {media.broken[clip]}")
    return notes, facts


def heard(known: Mapping[str, Known], rows: Iterable[Mapping[str, object]], facts: dict[str, object]) -> list[str]:
    """A sentence about sound, where any clip has some."""
    silent = [str(row["clip_id"]) for row in rows if not row.get("audio")]
    facts["without_audio"] = len(silent)
    if len(silent) == len(known):
        return ["No sound was found"]
    return [f"{len(silent)} clip(s) have no sound, the first is {silent[0]}"] if silent else []


def not_faces(root: Path, media: Media, among: int = 16) -> str | None:
    """A sentence where pictures are not square, as crops of faces are: said of whole frames; from a sample of clips."""
    clips = sorted(media.faces)
    sample = clips[:: max(1, len(clips) // among)][:among]
    for clip in sample:
        folder = picture_folder(root / f"{media.faces[clip].path}#1")
        assert folder is not None
        picture = next(folder.frames())
        height, width = picture.rgb().shape[:2]
        if height != width or height < 48:
            return (
                f"Pictures like those of {media.faces[clip].path} are {width} x {height}: crops of faces are square and"
                " larger than 48. If they are whole frames, give the encoder crop: face"
            )
    return None
