"""The score file: what prediction writes and everything in `evaluation` reads. A CSV with one stated label space."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer.errors import UserError
from mer.files import replacing
from mer.label_maps import LabelMap
from mer.labels import LabelSpace

SCHEMA_VERSION = 1
TEXT_COLUMNS = ("subject", "group", "fold", "seed", "split", "model")
SUM_TOLERANCE = 1e-3
_REWRITE = "Write the file again with mer predict, or with Scores.write"


@dataclass(eq=False)
class Scores:
    """N scored clips (or stretches of clips) of one task.

    Attributes:
        task: name of the task.
        space: its labels; C is their number.
        protocol: how the rows came to be, e.g. `loso, subject disjoint`; printed beside every number.
        clip_id: N names of clips, never empty. A clip may have several rows (stretches, seeds, models).
        start, end: (N,) seconds of media time, half-open; NaN stands for the whole clip.
        probabilities: (N, C) float64. `classes`: sum to 1 in each row; `multilabel`: independent, each in [0, 1];
            `continuous`: the predicted values.
        target: what is true. `classes`: (N,) int64 index, -1 = unlabelled. Otherwise (N, C) float64, NaN = unlabelled;
            `multilabel` holds 0 and 1.
        subject, group, fold, seed, split, model: N texts each, '' = not known. Left out, they are all ''.
        source: the file the rows came from, for messages.

    Raises:
        ValueError: shapes that do not fit together (a programmer's mistake).
        UserError: values that the file format does not allow; the clip is named.
    """

    task: str
    space: LabelSpace
    protocol: str
    clip_id: list[str]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    target: NDArray[Any]
    subject: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    fold: list[str] = field(default_factory=list)
    seed: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    source: str = ""

    def __post_init__(self) -> None:
        self._shape_up()
        problem = _first_problem(self)
        if problem is not None:
            row, what, remedy = problem
            raise UserError(f"{self.source or 'scores'}, clip {self.clip_id[row]!r}: {what}", remedy)

    def _shape_up(self) -> None:
        rows, labels = len(self.clip_id), len(self.space)
        self.clip_id = [str(c) for c in self.clip_id]
        self.start = np.asarray(self.start, dtype=np.float64)
        self.end = np.asarray(self.end, dtype=np.float64)
        self.probabilities = np.asarray(self.probabilities, dtype=np.float64)
        classes = self.space.kind == "classes"
        self.target = np.asarray(self.target, dtype=np.int64 if classes else np.float64)
        wanted = {"start": (rows,), "end": (rows,), "probabilities": (rows, labels)}
        wanted["target"] = (rows,) if classes else (rows, labels)
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Scores.{name} must be {shape}, got {getattr(self, name).shape}")
        for name in TEXT_COLUMNS:
            cells = ["" if cell is None else str(cell) for cell in getattr(self, name)] or [""] * rows
            if len(cells) != rows:
                raise ValueError(f"Scores.{name} must have {rows} entries, got {len(cells)}")
            setattr(self, name, cells)

    def __len__(self) -> int:
        return len(self.clip_id)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) bool: the row has a label (for several labels or dimensions: at least one of them)."""
        if self.space.kind == "classes":
            return np.asarray(self.target >= 0)
        return np.asarray(~np.isnan(self.target).all(axis=1))

    @property
    def predicted(self) -> NDArray[Any]:
        """The decision: (N,) int64 likeliest class (the first of equals); (N, C) bool at 0.5; (N, C) values."""
        if self.space.kind == "classes":
            return self.probabilities.argmax(axis=1)
        return self.probabilities >= 0.5 if self.space.kind == "multilabel" else self.probabilities

    def mapped(self, mapping: LabelMap) -> Scores:
        """The same rows in another label space; rows whose label has no counterpart there are unlabelled."""
        if self.space.kind != "classes":
            return replace(self, space=mapping.target)
        done: dict[str, Any] = {
            "probabilities": mapping.probabilities(self.probabilities),
            "target": mapping.targets(self.target),
        }
        return replace(self, space=mapping.target, **done)

    def select(self, mask: ArrayLike) -> Scores:
        """The rows where `mask` (N,) bool is True."""
        rows = np.asarray(mask)
        if rows.dtype != np.bool_ or rows.shape != (len(self),):
            raise ValueError(f"select takes a bool mask ({len(self)},), got {rows.dtype} {rows.shape}")
        index = np.flatnonzero(rows)
        arrays: dict[str, Any] = {
            name: getattr(self, name)[index] for name in ("start", "end", "probabilities", "target")
        }
        texts: dict[str, Any] = {name: [getattr(self, name)[i] for i in index] for name in ("clip_id", *TEXT_COLUMNS)}
        return replace(self, **arrays, **texts)

    @classmethod
    def concat(cls, parts: Sequence[Scores]) -> Scores:
        """The rows of several score files, e.g. of the folds of a cross-validation, in the given order.

        Raises:
            UserError: they differ in task, label space or protocol, or a row occurs twice.
        """
        if not parts:
            raise ValueError("concat needs at least one part")
        first = parts[0]
        for number, part in enumerate(parts[1:], start=2):
            for what in ("task", "space", "protocol"):
                if getattr(part, what) != getattr(first, what):
                    one, other = (getattr(p, what) for p in (first, part))
                    raise UserError(
                        f"{part.source or f'part {number}'} has the {what} {getattr(other, 'name', other)!r}, "
                        f"{first.source or 'part 1'} has {getattr(one, 'name', one)!r}",
                        "Join only scores of one task, label space and protocol",
                    )
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(p, name) for p in parts])
            for name in ("start", "end", "probabilities", "target")
        }
        texts: dict[str, Any] = {
            name: [cell for p in parts for cell in getattr(p, name)] for name in ("clip_id", *TEXT_COLUMNS)
        }
        return replace(first, **arrays, **texts, source=" + ".join(dict.fromkeys(p.source for p in parts if p.source)))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the CSV; a reader sees the whole file or none of it. Probabilities keep the digits of a float32.

        Raises:
            UserError: the folder cannot be written.
        """
        header = {"task": self.task, "space": self.space.to_dict(), "protocol": self.protocol}
        with replacing(path) as file:
            file.write(f"# mer-scores {SCHEMA_VERSION} {json.dumps(header, ensure_ascii=False)}\n")
            table = csv.writer(file, lineterminator="\n")
            table.writerow(
                ["clip_id", "start", "end", *_target_columns(self.space), *_p_columns(self.space), *TEXT_COLUMNS]
            )
            for i in range(len(self)):
                values = [format(p, ".9g") for p in self.probabilities[i].tolist()]
                texts = [getattr(self, name)[i] for name in TEXT_COLUMNS]
                span = [_cell(self.start[i]), _cell(self.end[i])]
                table.writerow([self.clip_id[i], *span, *self._target_cells(i), *values, *texts])

    def _target_cells(self, row: int) -> list[str]:
        if self.space.kind == "classes":
            return [self.space.names[self.target[row]] if self.target[row] >= 0 else ""]
        return [_cell(value) for value in self.target[row]]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Scores:
        """Read a score file.

        Raises:
            UserError: no score file there, another schema version, a missing column, or a cell that the format does not
                allow; names the file, the line (from 1) and the column.
        """
        path = Path(path)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                return _parse(file, path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file", "Check the path; mer predict writes score files") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a score file (not UTF-8 text)", _REWRITE) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})", "Check the path and its permissions") from None


def _p_columns(space: LabelSpace) -> list[str]:
    return [f"p_{name}" for name in space.names]


def _target_columns(space: LabelSpace) -> list[str]:
    return ["label"] if space.kind == "classes" else [f"y_{name}" for name in space.names]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _first_problem(scores: Scores) -> tuple[int, str, str] | None:
    """The first row whose values the format does not allow, what is wrong with it, and the remedy."""
    found = [
        p
        for p in (_odd_clip(scores), _odd_time(scores), _odd_probability(scores), _odd_target(scores))
        if p is not None
    ]
    return min(found, key=lambda problem: problem[0], default=None)


def _odd_clip(scores: Scores) -> tuple[int, str, str] | None:
    seen: dict[tuple[str, ...], int] = {}
    starts = [_cell(s) for s in scores.start]
    for row, key in enumerate(zip(scores.clip_id, starts, scores.seed, scores.model, strict=True)):
        if not key[0]:
            return row, "clip_id is empty", "Give every clip a name"
        if seen.setdefault(key, row) != row:
            return (
                row,
                f"clip_id {key[0]!r}, start {key[1]!r}, seed {key[2]!r}, model {key[3]!r} occurs twice",
                "Keep one of the rows, or give them different seeds or models",
            )
    return None


def _odd_time(scores: Scores) -> tuple[int, str, str] | None:
    for name in ("start", "end"):
        rows = np.flatnonzero(np.isinf(getattr(scores, name)))
        if len(rows):
            return int(rows[0]), f"{name} is not finite", "Write seconds, or leave the cell empty"
    return None


def _odd_probability(scores: Scores) -> tuple[int, str, str] | None:
    p, names, kind = scores.probabilities, _p_columns(scores.space), scores.space.kind
    for bad, what in (
        (~np.isfinite(p), "is not a finite number"),
        ((p < -1e-6) | (p > 1 + 1e-6) if kind != "continuous" else np.zeros(p.shape, bool), "is not between 0 and 1"),
    ):
        if bad.any():
            row, column = (int(i[0]) for i in np.nonzero(bad))
            return row, f"{names[column]} = {p[row, column]:g} {what}", "Correct the model or the file that wrote it"
    off = np.flatnonzero(np.abs(p.sum(axis=1) - 1) > SUM_TOLERANCE) if kind == "classes" else np.empty(0, int)
    if len(off):
        row = int(off[0])
        what = f"the probabilities {names[0]} ... {names[-1]} sum to {p[row].sum():.6g}, not 1"
        return row, what, "Write softmax outputs, not logits, and at least four digits"
    return None


def _odd_target(scores: Scores) -> tuple[int, str, str] | None:
    t, kind = scores.target, scores.space.kind
    if kind == "classes":
        rows = np.flatnonzero((t < -1) | (t >= len(scores.space)))
        if len(rows):
            what = f"label index {t[rows[0]]} is not in the label space {scores.space.name}"
            return int(rows[0]), what, f"Use 0 to {len(scores.space) - 1}, and -1 for unlabelled"
        return None
    bad = np.isinf(t) if kind == "continuous" else ~np.isnan(t) & (t != 0) & (t != 1)
    if bad.any():
        row, column = (int(i[0]) for i in np.nonzero(bad))
        allowed = "a finite number" if kind == "continuous" else "0 or 1"
        what = f"y_{scores.space.names[column]} = {t[row, column]:g} is not {allowed}"
        return row, what, "Correct the cell; an empty cell means unlabelled"
    return None


def _parse(file: IO[str], path: Path) -> Scores:
    header, space = _parse_header(file.readline(), path)
    try:
        table = csv.reader(file)
        columns = _parse_columns(next(table, []), space, path)
        rows, lines = [], []
        for cells in table:
            if cells:  # a blank line, e.g. at the end
                lines.append(table.line_num + 1)
                rows.append(_parse_row(cells, columns, space, f"{path}, line {lines[-1]}"))
    except csv.Error as error:
        raise UserError(f"{path}, line {table.line_num + 1}: not CSV ({error})", _REWRITE) from None
    texts, times, targets, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    spans, count = np.array(times, dtype=np.float64).reshape(-1, 2), len(rows)
    scores = object.__new__(Scores)  # checked below, where the line of a bad row is known
    scores.__dict__.update(
        task=str(header.get("task", "")),
        space=space,
        protocol=str(header.get("protocol", "")),
        source=str(path),
        start=spans[:, 0],
        end=spans[:, 1],
        probabilities=np.array(values, dtype=np.float64).reshape(count, len(space)),
        target=np.array(targets).reshape((count,) if space.kind == "classes" else (count, len(space))),
        **{name: [t[name] for t in texts] for name in ("clip_id", *TEXT_COLUMNS)},
    )
    scores._shape_up()
    problem = _first_problem(scores)
    if problem is not None:
        row, what, remedy = problem
        raise UserError(f"{path}, line {lines[row]}: {what}", remedy)
    return scores


def _parse_header(line: str, path: Path) -> tuple[Mapping[str, Any], LabelSpace]:
    match = re.match(r"# mer-scores (\S+)(.*)", line)
    if match is None:
        raise UserError(f"{path}, line 1: not a score file (it does not begin with '# mer-scores')", _REWRITE)
    if match[1] != str(SCHEMA_VERSION):
        raise UserError(
            f"{path}, line 1: schema version {match[1]!r}, this mer reads {SCHEMA_VERSION}",
            "Use the version of mer that wrote the file, or write it again",
        )
    try:
        header = json.loads(match[2])
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("space"), dict):
        raise UserError(f"{path}, line 1: the header is damaged (no label space)", _REWRITE)
    return header, LabelSpace.from_dict(header["space"], f"{path}, line 1")


def _parse_columns(names: list[str], space: LabelSpace, path: Path) -> dict[str, int]:
    for name in ("clip_id", "start", "end", *_p_columns(space), *TEXT_COLUMNS):
        if name not in names:
            raise UserError(
                f"{path}, line 2: the column {name!r} is missing", "Add it; it may hold empty cells, p_ not"
            )
    known = {*_p_columns(space), *_target_columns(space), "clip_id", "start", "end", *TEXT_COLUMNS}
    for name in names:
        if names.count(name) > 1 and name in known:
            raise UserError(f"{path}, line 2: the column {name!r} occurs twice", "Remove one of them")
        if name not in known and name.startswith(("p_", "y_")):
            raise UserError(
                f"{path}, line 2: the column {name!r} is not of the label space {space.name}: {', '.join(space.names)}",
                "Correct the label space in line 1, or remove the column",
            )
    return {name: i for i, name in enumerate(names)}


def _parse_row(
    cells: list[str], columns: Mapping[str, int], space: LabelSpace, where: str
) -> tuple[dict[str, str], list[float], list[float], list[float]]:
    if len(cells) != len(columns):
        raise UserError(
            f"{where}: {len(cells)} cells under {len(columns)} columns", "Complete the row, or quote commas"
        )
    cell = {name: cells[i] for name, i in columns.items()}
    times = [_number(cell[name], name, where, empty=True) for name in ("start", "end")]
    targets = []
    for name in _target_columns(space):
        text = cell.get(name, "").strip()  # label columns may be left out: nothing is labelled
        if space.kind == "classes":
            targets.append(float(space.index(text, f"{where}, column label")) if text else -1.0)
        else:
            targets.append(_number(text, name, where, empty=True))
    values = [_number(cell[name], name, where, empty=False) for name in _p_columns(space)]
    return cell, times, targets, values


def _number(text: str, column: str, where: str, *, empty: bool) -> float:
    if empty and not text.strip():
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        remedy = "Write a finite number, or leave the cell empty" if empty else "Write a finite number"
        raise UserError(f"{where}: {column} = {text!r} is not a finite number", remedy)
    return number
