"""The manifest: one row per clip in a CSV, and beside it `corpus.yaml` with what holds for the whole corpus."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from mer.errors import UserError
from mer.files import replacing, write_text
from mer.label_maps import LabelMap
from mer.labels import Task

RESERVED = ("clip_id", "subject", "group", "start", "end", "split", "fold", "frame_labels")
SPLITS = ("train", "val", "test")
BESIDE = "@/"  # begins a reference to a file that lies beside the manifest, not below the corpus's root
TIMES = "#times="  # between a folder of pictures and the table of their times, as in `mer.media.pictures`
Disjoint = Literal["true", "false", "unknown"]


@dataclass(frozen=True)
class Corpus:
    """What `corpus.yaml` says.

    Attributes:
        name, licence, protocol: printed with every result.
        root: folder that media references are resolved against.
        tasks: what can be predicted, by name.
        subject_disjoint: whether training and test are meant to share no person. `true` makes an overlap an error.
    """

    name: str
    root: Path
    tasks: dict[str, Task]
    subject_disjoint: Disjoint = "unknown"
    protocol: str = ""
    licence: str = ""

    @classmethod
    def read(cls, path: Path) -> Corpus:
        """Read corpus.yaml; a relative root is relative to the file.

        Raises:
            UserError: missing, not YAML, a key missing or of the wrong kind.
        """
        if not path.is_file():
            remedy = "The manifest needs a corpus.yaml beside it; 'mer prepare' writes one"
            raise UserError(f"{path}: no such file", remedy)
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid YAML ({error})", "Correct the file") from None
        if not isinstance(data, Mapping) or not data.get("name") or not isinstance(data.get("tasks"), Mapping):
            raise UserError(f"{path}: 'name' or 'tasks' is missing", "Add them; the README shows an example")
        disjoint = str(data.get("subject_disjoint", "unknown")).lower()
        if disjoint not in ("true", "false", "unknown"):
            raise UserError(f"{path}: subject_disjoint is {disjoint!r}", "Use true, false or unknown")
        tasks = {str(name): Task.from_dict(str(name), task, str(path)) for name, task in data["tasks"].items()}
        root = (path.parent / str(data.get("root") or ".")).resolve()
        text = {key: str(data.get(key) or "") for key in ("protocol", "licence")}
        return cls(str(data["name"]), root, tasks, disjoint, **text)  # type: ignore[arg-type]

    def write(self, path: Path) -> None:
        """Write corpus.yaml, the root relative to the file where it lies below it."""
        folder = path.parent.resolve()
        root = self.root.resolve()
        shown = str(root.relative_to(folder)) if root.is_relative_to(folder) else str(root)
        disjoint: Any = {"true": True, "false": False}.get(self.subject_disjoint, "unknown")
        data = {
            "name": self.name,
            "licence": self.licence,
            "protocol": self.protocol,
            "subject_disjoint": disjoint,
            "root": shown,
            "tasks": {name: task.to_dict() for name, task in self.tasks.items()},
        }
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True)
class Clip:
    """One row of a manifest.

    Attributes:
        clip_id: unique name.
        subject, group: who it shows; a further grouping (session, source video); empty where unknown.
        start, end: seconds of media time, half-open; end None is the end of the file.
        split, fold: `train`, `val`, `test`, and the number of the fold; empty where not given.
        cells: the other columns as they stand: media references by modality, and anything else.
        labels: per task the parsed label, None where the cell is empty.
        frame_labels: CSV with a `time` column and one column per frame-level task; a reference like those of media.
        row: line number in the manifest, for messages.
    """

    clip_id: str
    subject: str = ""
    group: str = ""
    start: float = 0.0
    end: float | None = None
    split: str = ""
    fold: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Sequence[float] | None] = field(default_factory=dict)
    frame_labels: str = ""
    row: int = 0


@dataclass(frozen=True)
class Manifest:
    """A corpus and its clips."""

    path: Path
    corpus: Corpus
    columns: tuple[str, ...]
    clips: tuple[Clip, ...]

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """Read and check a manifest.

        Raises:
            UserError: naming file and line, for a missing file or column, a duplicate id, a bad number, an unknown
                split, or a label outside its space.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such manifest", "Write one with 'mer prepare CORPUS --root R --out D'")
        corpus = Corpus.read(path.parent / "corpus.yaml")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            try:
                reader = csv.DictReader(stream)
                columns = tuple(reader.fieldnames or ())
                _check_columns(path, columns, corpus.tasks.values())
                clips = tuple(_clip(path, reader.line_num, row, corpus.tasks) for row in reader)
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{path}: not a readable CSV ({error})", "Save it as comma-separated UTF-8") from None
        if not clips:
            raise UserError(f"{path}: the manifest has no rows", "Prepare the corpus again")
        seen: dict[str, int] = {}
        for clip in clips:
            if clip.clip_id in seen:
                raise UserError(
                    f"{path}, line {clip.row}: clip_id {clip.clip_id!r} was already used on line {seen[clip.clip_id]}",
                    "Give every clip its own id",
                )
            seen[clip.clip_id] = clip.row
        return cls(path, corpus, columns, clips)

    def reference(self, clip: Clip, modality: str) -> str | None:
        """The media reference of a clip, relative to the corpus's root; None where the cell is empty.

        Raises:
            UserError: the manifest has no such column.
        """
        if modality not in self.columns:
            others = [c for c in self.columns if c not in RESERVED and c not in self.corpus.tasks]
            raise UserError(
                f"{self.path}: no column {modality!r} for the encoder of that name",
                f"Name the encoder after a media column ({', '.join(others)}), or add the column",
            )
        return self.resolve(clip.cells.get(modality, "").strip()) or None

    def mapped(self, wishes: Mapping[str, str]) -> Manifest:
        """The manifest with the labels of some tasks in other spaces, for training and scoring across corpora.

        Args:
            wishes: per video-level task what `LabelMap.of` takes, e.g. `{"emotion": "basic7.v1+calm_is_neutral"}`. A label that
                has no counterpart becomes unlabelled.

        Raises:
            UserError: an unknown task, one at frame level, or no such map.
        """
        tasks, maps = dict(self.corpus.tasks), dict[str, LabelMap]()
        for name, wish in wishes.items():
            if name not in tasks or tasks[name].level != "video":
                others = ", ".join(n for n, task in tasks.items() if task.level == "video")
                raise UserError(f"data.label_spaces names {name!r}", f"The video-level tasks are {others}")
            maps[name] = LabelMap.of(tasks[name].space, wish)
            tasks[name] = replace(tasks[name], space=maps[name].target)
        clips = tuple(replace(c, labels=_relabelled(c.labels, maps)) for c in self.clips) if maps else self.clips
        return replace(self, corpus=replace(self.corpus, tasks=tasks), clips=clips)

    def resolve(self, reference: str) -> str:
        """A reference relative to the corpus's root; `@/file` lies beside the manifest, where `mer prepare` puts its own.

        So may the table of a folder of pictures, `FOLDER#times=@/file`; `mer.media.pictures` takes it relative to the folder.
        """
        folder, mark, table = reference.partition(f"{TIMES}{BESIDE}")
        if mark:
            folder = self.resolve(folder)
            beside = os.path.relpath(self.path.parent.resolve() / table, self.corpus.root / folder)
            return f"{folder}{TIMES}{Path(beside).as_posix()}"
        if not reference.startswith(BESIDE):
            return reference
        return f"{self._beside}/{reference.removeprefix(BESIDE)}"

    @cached_property
    def _beside(self) -> str:
        return Path(os.path.relpath(self.path.parent.resolve(), self.corpus.root)).as_posix()

    @property
    def folds(self) -> list[str]:
        """The folds that occur, in natural order."""
        names = {clip.fold for clip in self.clips if clip.fold}
        return sorted(names, key=lambda f: (not f.isdigit(), int(f) if f.isdigit() else 0, f))


def _relabelled(
    labels: Mapping[str, Sequence[float] | None], maps: Mapping[str, LabelMap]
) -> dict[str, Sequence[float] | None]:
    changed = dict(labels)
    for name, mapping in maps.items():
        value = labels[name]
        if value is not None and mapping.source.kind == "classes":
            place = mapping.to[int(value[0])]
            changed[name] = [float(place)] if place >= 0 else None
    return changed


def write_manifest(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write manifest rows atomically: a reader sees the old file or the whole new one."""
    with replacing(path) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _check_columns(path: Path, columns: Sequence[str], tasks: Iterable[Task]) -> None:
    needed = ["clip_id", *(task.column for task in tasks if task.level == "video")]
    if any(task.level == "frame" for task in tasks):
        needed.append("frame_labels")
    for column in needed:
        if column not in columns:
            raise UserError(
                f"{path}: column {column!r} is missing", f"Add it; there are {', '.join(columns) or 'none'}"
            )
    repeated = {c for c in columns if columns.count(c) > 1}
    if repeated:
        raise UserError(f"{path}: column {sorted(repeated)[0]!r} stands twice", "Keep one of them")


def _clip(path: Path, line: int, row: Mapping[str, Any], tasks: Mapping[str, Task]) -> Clip:
    where = f"{path}, line {line}"
    _check_cells(row, where)
    clip_id = row["clip_id"].strip()
    if not clip_id:
        raise UserError(f"{where}: clip_id is empty", "Give every clip its own id")
    start = _seconds(row.get("start", ""), where, "start")
    end = _seconds(row.get("end", ""), where, "end")
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: end {end:g} is not after start {start or 0.0:g}", "Write seconds, start before end")
    split = row.get("split", "").strip()
    if split not in ("", *SPLITS):
        raise UserError(f"{where}: split {split!r} is unknown", f"Use {', '.join(SPLITS)} or leave it empty")
    labels = {
        name: task.space.parse(row[task.column], f"{where}, column {task.column!r}")
        for name, task in tasks.items()
        if task.level == "video"
    }
    return Clip(
        clip_id,
        row.get("subject", "").strip(),
        row.get("group", "").strip(),
        start or 0.0,
        end,
        split,
        row.get("fold", "").strip(),
        {k: v for k, v in row.items() if k not in RESERVED},
        labels,
        row.get("frame_labels", "").strip(),
        line,
    )


def _check_cells(row: Mapping[Any, Any], where: str) -> None:
    if None in row or None in row.values():
        raise UserError(f"{where}: the row has more or fewer cells than the header", "Quote cells that contain a comma")


def _seconds(cell: str, where: str, column: str) -> float | None:
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise UserError(f"{where}: {column} {cell!r} is not a number of seconds", "Write seconds, e.g. 12.5")
    return value


def read_frame_labels(
    path: Path, tasks: Mapping[str, Task]
) -> tuple[list[float], dict[str, list[Sequence[float] | None]]]:
    """Read a frame_labels file: times (F,) in seconds, rising, and per task F parsed labels.

    Raises:
        UserError: naming file and line.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check frame_labels in the manifest")
    times: list[float] = []
    labels: dict[str, list[Sequence[float] | None]] = {name: [] for name in tasks}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        try:
            reader = csv.DictReader(stream)
            for column in ("time", *(task.column for task in tasks.values())):
                if column not in (reader.fieldnames or ()):
                    remedy = "A frame_labels file has 'time' and a column per frame-level task"
                    raise UserError(f"{path}: column {column!r} is missing", remedy)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                _check_cells(row, where)
                time = _seconds(row["time"], where, "time")
                if time is None or (times and time <= times[-1]):
                    raise UserError(f"{where}: time is missing or does not rise", "Sort the rows by time")
                times.append(time)
                for name, task in tasks.items():
                    labels[name].append(task.space.parse(row[task.column], f"{where}, column {task.column!r}"))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a readable CSV ({error})", "Save it as comma-separated UTF-8") from None
    return times, labels
