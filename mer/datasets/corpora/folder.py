r"""Clips of one's own: a tree of files, or a table of them.

    mer prepare folder --root CLIPS --out data/mine --label-level 1 --subject-level 2 --split 70/15/15

A tree. Files that are called alike but for their ending (`anna 01.mp4`, `anna 01.wav`, `anna 01.srt`) are one clip with several
modalities, if they lie in one folder; with `--join name`, wherever they lie. Films are `video` and, unless a sound file is
there, `audio`; subtitles, transcripts and texts are `text`, `.npy` is `features`. Any other ending gets its modality by
`--column au=_au.npy`: files whose names end so. What a clip shows and who is in it stands in its folders (`--label-level 1`
is the first folder below the root, -1 the one that the file lies in; likewise `--subject-level`) or anywhere in its path
(`--label-regex '_(sad|glad)_'`, `--subject-regex 'p(\d+)'`; the group in brackets counts). Nothing is guessed: without these
options clips have no label and no subject.

A table. `--table clips.csv` (.csv, .tsv, .xlsx; `clips.csv` in the root is taken by itself) has a row per clip: `path` relative
to the root, or a column per modality (`video`, `audio`, `text`, `features`); where wanted `clip_id`, `label` or `emotion`,
`subject`, `group`, `start`, `end`, `split`, `fold`. Other columns are kept.

Labels are class names; their order is that of the alphabet, or of `--classes`. Numbers are taken for classes or for values as
`--label-kind classes | continuous | multilabel` says. `--split 70/15/15` divides the clips into train, val and test by subject
(`--by group`, `--by clip`), `--folds 5` into folds.

Every film and sound is looked into once: what cannot be read is an error or, with `--skip-errors`, left out, and a film
without sound gets no `audio`. `--no-look` saves the time.

Not read: names that begin with a dot, what `mer prepare` wrote itself, folders that are links.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from mer.datasets.corpora.dividing import parts_of, shares_of
from mer.datasets.corpora.reading import Prepared, Request, paths_below
from mer.datasets.manifest import RESERVED, SPLITS, Corpus, Disjoint
from mer.errors import UserError
from mer.labels import LabelSpace, Task
from mer.media.folder import SOUND, VIDEO
from mer.media.probe import probe
from mer.media.table import number, records

TABLE = "clips.csv"
TASK = "emotion"
TEXT = (".srt", ".vtt", ".json", ".textgrid", ".ctm", ".txt")
# Modality by ending. A film is also sound, where there is no sound file.
ENDINGS: dict[str, str] = {
    **dict.fromkeys(sorted(VIDEO), "video"),
    **dict.fromkeys(sorted(SOUND), "audio"),
    **dict.fromkeys(TEXT, "text"),
    ".npy": "features",
}
_MODALITIES = tuple(dict.fromkeys(ENDINGS.values()))
_OWN = (TASK, "label", "path")  # columns of a table that mean something here
_OURS = ("prepared.json", "corpus.yaml", "manifest.csv")
_REFERENCE = re.compile(r"#[^/#]*$")


@dataclass
class Found:
    """A clip: where it was found (for messages), the path that says who and what, its media and further cells."""

    where: str
    path: str
    media: dict[str, str]
    cells: dict[str, str] = field(default_factory=dict)

    def cell(self, name: str) -> str:
        """A cell; empty where there is none."""
        return self.cells.get(name, "")


def options(parser: argparse._ArgumentGroup) -> None:
    """Where labels and subjects stand, and how clips are divided."""
    parser.add_argument("--table", help="CSV, TSV or .xlsx with a row per clip, below the root or anywhere")
    parser.add_argument(
        "--label-level", type=int, help="folder that is the label: 1 the first below the root, -1 the last"
    )
    parser.add_argument("--label-regex", help="the label within the path, e.g. '_(sad|glad)_'")
    parser.add_argument("--subject-level", type=int, help="folder that is the person")
    parser.add_argument("--subject-regex", help="the person within the path, e.g. 'p(\\d+)'")
    parser.add_argument(
        "--label-kind", choices=("classes", "continuous", "multilabel"), help="demanded where labels are numbers"
    )
    parser.add_argument("--classes", help="all labels, in order, with commas between them")
    parser.add_argument("--column", action="append", default=[], metavar="NAME=ENDING", help="e.g. au=_au.npy")
    parser.add_argument(
        "--join", choices=("path", "name"), default="path", help="files of a clip lie together, or anywhere"
    )
    parser.add_argument("--split", help="percent of train/val/test, e.g. 70/15/15, or train/test, e.g. 80/20")
    parser.add_argument("--folds", type=int, help="number of folds")
    parser.add_argument("--by", choices=("subject", "group", "clip"), default="subject", help="what is kept together")
    parser.add_argument("--name", default="folder", help="of the corpus, printed with every result")
    parser.add_argument("--no-look", action="store_true", help="do not look into the files")


def read(request: Request) -> Prepared:
    """The clips below a folder, or of a table.

    Raises:
        UserError: naming file, row or option, with a remedy.
    """
    chosen = request.options
    if chosen.table or (request.root / TABLE).is_file():
        found = _tabled(request)
    else:
        found = _tree(request)
    _name_subjects(found, chosen)
    space = _label(found, chosen)
    seed = int(getattr(chosen, "seed", 0))
    _divide(_rows(found), chosen, seed)  # what cannot be divided is better known before all files are opened
    left_out: dict[str, str] = {}
    if not chosen.no_look:
        found, left_out = _looked(request, found)
    rows = _rows(found)
    disjoint = _divide(rows, chosen, seed)
    tasks = {} if space is None else {TASK: Task(TASK, space)}
    protocol = _protocol(rows, chosen)
    corpus = Corpus(chosen.name, request.root.resolve(), tasks, disjoint, protocol, "your own")
    notes = _notes(rows, space, disjoint, chosen)
    if linked := _linked(request.root):
        notes.append(f"{len(linked)} folders are links and were not looked into, e.g. {linked[0]}")
    return Prepared(corpus, rows, left_out, notes)


# -- a tree -------------------------------------------------------------------------------------------------------------


def _tree(request: Request) -> list[Found]:
    root, join = request.root, request.options.join
    clips: dict[str, Found] = {}
    others: Counter[str] = Counter()
    endings = _endings(request.options.column)
    for path in _paths(request):
        modality, ending = _modality(path, endings)
        if modality is None:
            others[PurePosixPath(path).suffix.lower() or "no ending"] += 1
            continue
        _check_name(root, path)
        stem = path[: len(path) - len(ending)]
        key = stem if join == "path" else stem.rpartition("/")[2]
        clip = clips.setdefault(key, Found(str(root / path), path, {}))
        if modality in clip.media:
            raise UserError(
                f"{root / path}: the clip {key!r} has {clip.media[modality]} for its {modality} already",
                "Rename one, give it a modality of its own with --column NAME=ENDING"
                + (", or leave --join name out" if join == "name" else ""),
            )
        clip.media[modality] = path
    if not clips:
        there = ", ".join(f"{count} {ending}" for ending, count in others.most_common(4)) or "no files at all"
        if linked := _linked(root):
            there += f", and {linked[0]}, a link, which is not followed"
        raise UserError(
            f"{root}: no films, sounds, texts or features below it; it holds {there}",
            "Pass the folder of the clips, or say what an ending is with --column NAME=ENDING",
        )
    for key, clip in clips.items():
        if "video" in clip.media:
            clip.media.setdefault("audio", clip.media["video"])
        clip.path = (
            clip.media.get("video") or clip.media.get("audio") or clip.path
        )  # with --join name, the film's folders
        clip.cells["clip_id"] = key
    return [clips[key] for key in sorted(clips, key=_natural)]


def _paths(request: Request) -> Iterator[str]:
    """Files below the root, but for those that `mer prepare` writes."""
    out = os.path.relpath(request.out.resolve(), request.root.resolve()).replace(os.sep, "/") + "/"
    for path in paths_below(request.root):
        if not path.startswith(out) and path.rpartition("/")[2] not in _OURS:
            yield path


def _linked(root: Path) -> list[str]:
    """Folders that are links; what they hold is not below the root."""
    return [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, _ in os.walk(root)
        for name in sorted(folders)
        if os.path.islink(os.path.join(folder, name))
    ]


def _endings(pairs: Sequence[str]) -> dict[str, str]:
    """Modality by ending, longer endings first."""
    own: dict[str, str] = {}
    for pair in pairs:
        name, _, ending = pair.partition("=")
        if not name.isidentifier() or not ending or name in (*RESERVED, *_OWN, TASK):
            raise UserError(
                f"--column {pair}: not NAME=ENDING, with a modality for NAME", "Write e.g. --column au=_au.npy"
            )
        own[ending.lower()] = name
    return dict(sorted({**ENDINGS, **own}.items(), key=lambda pair: -len(pair[0])))


def _modality(path: str, endings: Mapping[str, str]) -> tuple[str | None, str]:
    lower = path.lower()
    return next(((endings[e], e) for e in endings if lower.endswith(e)), (None, ""))


def _check_name(root: Path, path: str) -> None:
    if "#" in path:
        raise UserError(
            f"{root / path}: '#' in a name means a part of a file in a manifest", "Rename the file or folder"
        )
    if path != path.strip() or not path.isprintable():
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise UserError(
            f"{root}: the name {shown!r} begins with a blank, or has what is no character of UTF-8",
            "Rename the file or folder",
        )


def _natural(text: str) -> list[tuple[int, int, str]]:
    """`clip2` before `clip10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


# -- a table ------------------------------------------------------------------------------------------------------------


def _tabled(request: Request) -> list[Found]:
    chosen = request.options
    table = _table_path(request)
    if chosen.column:
        raise UserError("--column is for folders; a table has a column per modality", "Leave --column out")
    there = {unicodedata.normalize("NFC", path): path for path in paths_below(request.root)}
    found = []
    for row, written in records(table):
        where, cells = f"{table}, row {row}", _known(table, written)
        media = {m: _media_cell(request.root, cells[m], where, there) for m in _media_columns(cells) if cells[m]}
        if path := cells.get("path", ""):
            path = _media_cell(request.root, path, where, there)
            modality = _modality(_file(path), ENDINGS)[0]
            if modality is None:
                raise UserError(
                    f"{where}: {path!r} has no ending of a film, sound, text or feature",
                    "Name its column after the modality instead of 'path'",
                )
            if (other := media.setdefault(modality, path)) != path:
                raise UserError(f"{where}: 'path' is {path!r}, {modality!r} is {other!r}", "Name the file in one place")
        if "video" in media:
            media.setdefault("audio", media["video"])
        if not media:
            raise UserError(f"{where}: no file", "Fill in 'path', or a column per modality such as video, audio, text")
        kept = {name: cell for name, cell in cells.items() if name not in ("path", *_media_columns(cells))}
        found.append(Found(where, path or next(iter(media.values())), media, kept))
    if not found:
        raise UserError(f"{table}: no rows below the header", "Write one row per clip")
    for clip in found:
        _check_times(clip)
        if clip.cell("split") not in ("", *SPLITS):
            raise UserError(f"{clip.where}: split {clip.cell('split')!r}", "Write train, val or test, or nothing")
    _identify(found)
    return found


def _table_path(request: Request) -> Path:
    named = request.options.table
    if named is None:
        return request.root / TABLE
    path = next((p for p in (Path(named), request.root / named) if p.is_file()), None)
    if path is None:
        raise UserError(f"--table {named}: no such file, here or in {request.root}", "Check the path")
    return path


def _known(table: Path, cells: Mapping[str, str]) -> dict[str, str]:
    """Cells with the names of known columns in lower case; a spreadsheet may have `Path` and `Label`."""
    known = {
        name.lower() if name.lower() in (*RESERVED, *_OWN, *_MODALITIES) else name: cell for name, cell in cells.items()
    }
    if len(known) < len(cells):
        raise UserError(f"{table}: two columns differ in capitals only ({', '.join(cells)})", "Keep one of them")
    if "path" not in known and not _media_columns(known):
        raise UserError(
            f"{table}: no column 'path', and none called {', '.join(_MODALITIES)}; it has {', '.join(cells)}",
            "Name the column of the files 'path'",
        )
    return known


def _media_columns(cells: Iterable[str]) -> list[str]:
    return [name for name in cells if name in _MODALITIES]


def _file(reference: str) -> str:
    """`a.npz#key[3]` without what stands behind the name of the file."""
    return _REFERENCE.sub("", reference)


def _media_cell(root: Path, cell: str, where: str, there: Mapping[str, str]) -> str:
    """A path of the table relative to the root, with '/'.

    Args:
        there: files below the root by their names in composed Unicode, as tables have them; macOS decomposes those of files.
    """
    text = posixpath.normpath(cell.replace("\\", "/"))
    if text.startswith("/"):
        base = next((base for base in (root.absolute(), root.resolve()) if Path(text).is_relative_to(base)), None)
        if base is None:
            raise UserError(f"{where}: {cell} lies outside {root}", "Pass a root that holds all files")
        text = Path(text).relative_to(base).as_posix()
    if text.split("/")[0] == "..":
        raise UserError(f"{where}: {cell} leads out of {root}", "Pass a root that holds all files, and paths below it")
    file = unicodedata.normalize("NFC", _file(text))
    if file not in there:
        if (root / file).is_dir():
            raise UserError(f"{where}: {root / file} is a folder", "Write a row per file")
        near = difflib.get_close_matches(file, there, 1, 0.6) if len(there) < 5000 else []
        near = [name for name in there if name.lower() == file.lower()] or near
        hint = f"; there is {near[0]}" if near else ""
        raise UserError(f"{where}: {root / file}: no such file{hint}", "Write paths relative to --root")
    return there[file] + text[len(_file(text)) :]


def _identify(found: Sequence[Found]) -> None:
    """A name for every clip: its own, else its path, with its seconds where several clips share a file."""
    names = [clip.cell("clip_id") or _stem(clip.path) for clip in found]
    often = Counter(names)
    seen: dict[str, str] = {}
    for clip, name in zip(found, names, strict=True):
        if often[name] > 1 and not clip.cell("clip_id") and (clip.cell("start") or clip.cell("end")):
            name = f"{name}@{clip.cell('start') or '0'}-{clip.cell('end') or 'end'}"
        if name in seen:
            raise UserError(
                f"{clip.where}: the clip {name!r} was there before ({seen[name]})",
                "Give each row its own clip_id, file, or start and end",
            )
        seen[name] = clip.where
        clip.cells["clip_id"] = name


def _stem(path: str) -> str:
    return str(PurePosixPath(_file(path)).with_suffix(""))


def _check_times(clip: Found) -> None:
    times = []
    for column in ("start", "end"):
        cell = clip.cell(column)
        try:
            times.append(number(cell) if cell else (0.0 if column == "start" else math.inf))
        except ValueError:
            times.append(math.nan)
        if math.isnan(times[-1]) or times[-1] < 0:
            raise UserError(
                f"{clip.where}: {column} is {cell!r}", "Write seconds from the begin of the file, e.g. 12.5"
            )
        if cell:
            clip.cells[column] = cell.replace(",", ".")
    if times[1] <= times[0]:
        raise UserError(
            f"{clip.where}: end {times[1]:g} is not after start {times[0]:g}", "Write seconds, start before end"
        )


# -- who and what -------------------------------------------------------------------------------------------------------


def _finder(what: str, level: int | None, pattern: str | None) -> Callable[[Found], str] | None:
    """How a label or subject is read off a path; None where neither option is given."""
    if level is not None and pattern is not None:
        raise UserError(f"--{what}-level and --{what}-regex together", "Use one of them")
    if level is not None:
        return lambda clip: _folder(clip, what, level)
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--{what}-regex {pattern}: not a regular expression ({error})", "Correct it") from None
    if compiled.groups != 1:
        raise UserError(
            f"--{what}-regex {pattern}: {compiled.groups} groups in brackets, where one says the {what}",
            f"Write e.g. --{what}-regex '^([^_/]+)_', and (?:...) for other brackets",
        )
    return lambda clip: _match(clip, what, compiled)


def _folder(clip: Found, what: str, level: int) -> str:
    folders = PurePosixPath(_file(clip.path)).parts[:-1]
    if level == 0 or abs(level) > len(folders):
        raise UserError(
            f"{clip.where}: --{what}-level {level}, but {clip.path!r} lies {len(folders)} folder(s) below the root",
            "Count 1 for the first folder below the root, -1 for the one that the file lies in, or move the file",
        )
    return folders[level - 1 if level > 0 else level].strip()


def _match(clip: Found, what: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(clip.path)
    if match is None or not match[1]:
        raise UserError(
            f"{clip.where}: --{what}-regex {pattern.pattern} finds nothing in {clip.path!r}",
            "Correct it, or move the file",
        )
    return match[1]


def _name_subjects(found: Sequence[Found], chosen: argparse.Namespace) -> None:
    finder = _finder("subject", chosen.subject_level, chosen.subject_regex)
    for clip in found:
        if finder is None:
            break
        named, given = finder(clip), clip.cell("subject")
        if given and given != named:
            raise UserError(
                f"{clip.where}: subject {given!r} in the table, {named!r} in the path", "Name it in one place"
            )
        clip.cells["subject"] = named
    _refuse_twins("subjects", (clip.cell("subject") for clip in found))


def _label(found: Sequence[Found], chosen: argparse.Namespace) -> LabelSpace | None:
    """Move labels to the task's column; their space, or None where there are none."""
    finder = _finder("label", chosen.label_level, chosen.label_regex)
    for clip in found:
        if clip.cell("label") and clip.cell(TASK):
            raise UserError(f"{clip.where}: both 'label' and '{TASK}' are filled in", "Keep one of the columns")
        label = clip.cells.pop("label", "") or clip.cell(TASK)
        named = finder(clip) if finder is not None else label
        if label and label != named:
            raise UserError(
                f"{clip.where}: label {label!r} in the table, {named!r} in the path", "Name it in one place"
            )
        clip.cells[TASK] = named
    labels = {clip.cell(TASK): clip.where for clip in reversed(found) if clip.cell(TASK)}
    if not labels:
        for clip in found:
            del clip.cells[TASK]
        if chosen.classes:
            raise UserError(
                "--classes, but no clip has a label", "Say where labels stand: --label-level, --label-regex or a column"
            )
        return None
    kind = chosen.label_kind
    if kind is None and all(_number(label) for label in labels):
        shown = ", ".join(sorted(labels, key=_natural)[:5])
        raise UserError(
            f"the labels are numbers ({shown}), which may be classes or values",
            "Say --label-kind classes or --label-kind continuous",
        )
    if kind == "continuous":
        if chosen.classes:
            raise UserError("--classes, but the labels are values (--label-kind continuous)", "Leave --classes out")
        for label, where in labels.items():
            if not _number(label):
                raise UserError(f"{where}: label {label!r} is no number", "Correct it, or use --label-kind classes")
        for clip in found:
            clip.cells[TASK] = clip.cells[TASK].replace(",", ".")
        return LabelSpace(f"{chosen.name}_value.v1", (TASK,), "continuous")
    several = kind == "multilabel"
    single = {
        part.strip(): where for label, where in labels.items() for part in (label.split(";") if several else [label])
    }
    if several:
        single.pop("-", None)  # none of them
    names = [name.strip() for name in chosen.classes.split(",")] if chosen.classes else sorted(single, key=_natural)
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--classes {chosen.classes}: a name is empty or stands twice", "Write e.g. --classes glad,sad")
    for label, where in single.items():
        if label not in names:
            raise UserError(
                f"{where}: label {label!r} is not among --classes {chosen.classes}", "Complete --classes, or correct it"
            )
        if ";" in label:
            raise UserError(f"{where}: label {label!r} has a ';'", "Several labels a clip are --label-kind multilabel")
    if len(names) < 2 and not several:
        raise UserError(
            f"all labels are {names[0]!r}, and there is nothing to tell apart",
            "Check which folder or column has the classes (--label-level), or leave labels out",
        )
    _refuse_twins("labels", names)
    return LabelSpace(f"{chosen.name}{len(names)}.v1", tuple(names), "multilabel" if several else "classes")


def _refuse_twins(what: str, names: Iterable[str]) -> None:
    """Happy and happy are one class, written twice; Anna and anna are one person, who must not be on both sides."""
    plain: dict[str, str] = {}
    for name in names:
        other = plain.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), name)
        if other != name:
            raise UserError(
                f"the {what} {other!r} and {name!r} differ in capitals or accents' coding only", "Write them alike"
            )


def _number(text: str) -> bool:
    try:
        return math.isfinite(number(text))
    except ValueError:
        return False


# -- what the files hold ------------------------------------------------------------------------------------------------


def _looked(request: Request, found: list[Found]) -> tuple[list[Found], dict[str, str]]:
    """Open each film and sound; those without sound or picture lose that modality."""
    files = sorted({f for clip in found for m in ("video", "audio") if (f := _file(clip.media.get(m, "")))})
    with ThreadPoolExecutor(4) as pool:
        looks = list(tqdm(pool.map(lambda f: _look(request.root / f), files), "look", len(files), leave=False))
    seen = dict(zip(files, looks, strict=True))
    kept, left_out = [], dict[str, str]()
    for clip in found:
        errors = [seen[_file(clip.media[m])] for m in ("video", "audio") if m in clip.media]
        broken = next((error for error in errors if isinstance(error, UserError)), None)
        if broken is not None:
            if not request.skip_errors:
                raise UserError(broken.problem, f"{broken.remedy.rstrip('.')}, or pass --skip-errors")
            left_out[clip.cell("clip_id")] = str(broken)
            continue
        for modality, place in (("video", 0), ("audio", 1)):
            streams = seen.get(_file(clip.media.get(modality, "")))
            if isinstance(streams, tuple) and not streams[place]:
                del clip.media[modality]
        kept.append(clip)
    return kept, left_out


def _look(path: Path) -> tuple[bool, bool] | UserError:
    """Whether there is picture, whether there is sound; or why it cannot be read."""
    try:
        info = probe(path)
    except UserError as error:
        return error
    if not (info.has_video or info.has_audio):
        return UserError(f"{path}: neither picture nor sound in it", "Convert or download it again")
    return info.has_video, info.has_audio


# -- rows, splits, folds ------------------------------------------------------------------------------------------------


def _rows(found: Sequence[Found]) -> list[dict[str, object]]:
    modalities = list(dict.fromkeys(m for clip in found for m in clip.media))
    rows: list[dict[str, object]] = []
    for clip in found:
        media = {m: clip.media.get(m, "") for m in modalities}
        clash = [name for name in clip.cells if name in media]
        assert not clash, clash
        rows.append({**clip.cells, **media})
    return rows


def _divide(rows: Sequence[dict[str, object]], chosen: argparse.Namespace, seed: int) -> Disjoint:
    """Fill in split and fold where asked; whether the parts share a person."""
    for option, column in (("split", "split"), ("folds", "fold")):
        if getattr(chosen, option) and any(row.get(column) for row in rows):
            raise UserError(f"--{option}, but the table has a column '{column}'", "Use one of them")
    if chosen.split and chosen.folds:
        raise UserError(
            "--split and --folds together", "Use one of them; data.val_fraction sets people aside in a fold"
        )
    if chosen.split:
        shares = shares_of(chosen.split)
        parts = parts_of(rows, shares, chosen.by, seed, f"--split {chosen.split}")
        names = SPLITS if len(shares) == 3 else ("train", "test")
        for row, part in zip(rows, parts, strict=True):
            row["split"] = names[part]
    if chosen.folds is not None:
        if chosen.folds < 2:
            raise UserError(f"--folds {chosen.folds}", "Give at least 2")
        parts = parts_of(rows, [1.0] * chosen.folds, chosen.by, seed, f"--folds {chosen.folds}")
        for row, part in zip(rows, parts, strict=True):
            row["fold"] = part
    if not all(row.get("subject") for row in rows):
        return "unknown"
    for column in ("split", "fold"):
        sides: dict[object, set[object]] = {}
        for row in rows:
            if row.get(column) not in (None, ""):
                sides.setdefault(row["subject"], set()).add(row[column])
        if any(len(parts) > 1 for parts in sides.values()):
            return "false"
    return "true"


def _protocol(rows: Sequence[Mapping[str, object]], chosen: argparse.Namespace) -> str:
    if chosen.split:
        return f"split {chosen.split} by {chosen.by}"
    if chosen.folds:
        return f"{chosen.folds} folds by {chosen.by}"
    given = [column for column in ("split", "fold") if any(row.get(column) for row in rows)]
    return f"{' and '.join(given)} of the table" if given else "no split"


def _notes(
    rows: Sequence[Mapping[str, object]], space: LabelSpace | None, disjoint: str, chosen: argparse.Namespace
) -> list[str]:
    """What was found, and what is missing for a training."""
    modalities = [
        m
        for m in dict.fromkeys([*ENDINGS.values(), *(c.partition("=")[0] for c in chosen.column)])
        if m in (rows[0] if rows else {})
    ]
    counts = [f"{sum(bool(row.get(m)) for row in rows)} {m}" for m in modalities]
    notes = [f"modalities: {', '.join(counts)}"]
    words = [str(row["clip_id"]) for row in rows if [m for m in modalities if row.get(m)] == ["text"]]
    if 0 < len(words) < len(rows):
        notes.append(f"{len(words)} clips are words alone, e.g. {words[0]!r}: should they be clips?")
    if space is None:
        notes.append(
            "no labels: good for mer predict and mer extract. Where they stand in folders, add --label-level 1; in names,"
            " --label-regex; in a table, call their column 'label'"
        )
    elif space.kind == "classes":
        often = Counter(str(row[TASK]) for row in rows)
        notes.append("labels, in this order: " + ", ".join(f"{name} {often[name]}" for name in space.names))
        if often[""]:
            notes.append(f"{often['']} clips have no label and are not trained on")
    people = {row["subject"] for row in rows if row.get("subject")}
    notes.append(f"{len(people)} people" if people else "no subjects: scores cannot say how new people fare")
    for column in ("split", "fold"):
        often = Counter(str(row.get(column)) for row in rows if row.get(column) not in (None, ""))
        if often:
            notes.append(f"{column}s: " + ", ".join(f"{name} {often[name]}" for name in _ordered(often)))
    notes += _unlearned(rows, space)
    if disjoint == "false":
        notes.append("somebody is in several parts: every score will say so")
    if space is not None and not any(row.get(column) not in (None, "") for row in rows for column in ("split", "fold")):
        notes.append("no split: add --split 70/15/15 or --folds 5 before a training")
    return notes


def _unlearned(rows: Sequence[Mapping[str, object]], space: LabelSpace | None) -> Iterator[str]:
    """Classes that a training does not see."""
    if space is None or space.kind != "classes":
        return
    splits, folds = {(row[TASK], row.get("split")) for row in rows}, {(row[TASK], row.get("fold")) for row in rows}
    for name in space.names:
        if any(row.get("split") for row in rows) and (name, "train") not in splits:
            yield f"no clip of {name!r} is in train: it will not be learned"
        if len(own := [fold for label, fold in folds if label == name and fold not in (None, "")]) == 1:
            yield f"{name!r} is in fold {own[0]} only: it will not be learned where that one is the test"


def _ordered(names: Mapping[str, int]) -> Iterator[str]:
    yield from sorted(names, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), _natural(name)))
