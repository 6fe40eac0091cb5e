"""Faces that somebody else found: OpenFace's CSV, or boxes and points in CSV, JSON or npz, one file per video.

Crops that were cut by somebody else need no detector: they are a video like any other, with crop 'center'.

Columns of CSV (header line), keys of each record of a JSON list, or arrays (R,) of an npz:

- `frame` (from 0, in order of display) or `time` (seconds of media time), or both
- `x0, y0, x1, y1`: the box, in pixels of the upright picture
- `score` (0 to 1), `track` (whole number: whose face), where there are such
- `lx, ly, rx, ry`: image-left and image-right eye; `nx, ny`: nose; `mlx, mly, mrx, mry`: corners of the mouth, likewise

OpenFace (Baltrusaitis et al., FG 2018): `frame` (from 1), `timestamp`, `confidence`, `success`, `x_0 ... y_67`. Rows without
success are no faces. Eyes are the means of landmarks 36 to 41 and 42 to 47, nose 30, mouth 48 and 54. Its landmarks begin at
the brows; the box is the landmarks' extent with a third of its height added above for the forehead.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np

from mer.errors import UserError
from mer.media.detectors import Detection, Points, identity
from mer.media.frame import Frame
from mer.media.pictures import plain
from mer.spec import Face

BOX = ("x0", "y0", "x1", "y1")
EYES, OTHERS = ("lx", "ly", "rx", "ry"), ("nx", "ny", "mlx", "mly", "mrx", "mry")
FOREHEAD = 1 / 3
Columns = dict[str, np.ndarray]


def file_of(face: Face, path: Path, root: Path) -> Path:
    """The file that belongs to a video; `{stem}` is the video's name without, `{name}` with its suffix.

    Raises:
        UserError: `face.file` names something else in braces.
    """
    assert face.file is not None  # `Face` sees to that
    path = plain(path)
    known = {"{stem}": path.stem, "{name}": path.name}

    def filled(match: re.Match[str]) -> str:
        if match[0] not in known:
            raise UserError(f"face.file {face.file!r}", "Use {stem} and {name} only")
        return known[match[0]]

    return root / re.sub(r"\{[^{}]*\}|[{}]", filled, face.file)


class Precomputed:
    """Rows of the file for each picture: by frame number where both know it, else the nearest in time within half a row.

    Raises:
        UserError: the file is missing, or columns are.
    """

    smooth = False

    def __init__(self, face: Face, path: Path, root: Path):
        self.identity, self.face, self.file = identity(face), face, file_of(face, path, root)
        columns = _read(self.file)
        table = _openface(columns, self.file) if "x_0" in columns else _plain(columns, self.file)
        self.points: Points = "exact" if "lx" in table else "none"
        if face.align == "arcface" and self.points == "none":
            raise UserError(
                f"{self.file}: align 'arcface' needs points, and there are none (columns {', '.join(EYES)})",
                "Add the columns, or use align 'square'",
            )
        self._table = table
        self._frames = _grouped(table["frame"].round().astype(int)) if "frame" in table else None
        self._times: np.ndarray | None = None
        if "time" in table:
            self._times = np.unique(table["time"])
            self._of_time = _grouped(table["time"])
            self._half = float(np.median(np.diff(self._times))) / 2 if len(self._times) > 1 else 0.02

    def find(self, frame: Frame) -> list[Detection]:
        least = self.face.smallest * min(frame.rgb().shape[:2])
        found = [self._detection(row) for row in self._rows(frame)]
        sure = [d for d in found if d.score >= self.face.confidence and np.isfinite(d.box).all()]
        return [d for d in sure if d.box[3] - d.box[1] >= least and d.box[2] > d.box[0]]

    def _rows(self, frame: Frame) -> list[int]:
        if self._frames is not None and frame.index >= 0:
            return self._frames.get(frame.index, [])
        if self._times is None:
            raise UserError(
                f"{self.file}: there are frame numbers, and those of this video are not known",
                "Add a column 'time' in seconds",
            )
        if not len(self._times):
            return []
        nearest = float(self._times[np.abs(self._times - frame.time).argmin()])
        return self._of_time[nearest] if abs(nearest - frame.time) <= self._half + 1e-6 else []

    def _detection(self, row: int) -> Detection:
        t = self._table
        points = None
        if "lx" in t:
            names = [*EYES, *OTHERS]
            points = np.array([t[n][row] if n in t else math.nan for n in names]).reshape(5, 2)
            points = None if np.isnan(points[:2]).any() else points
        score = float(t["score"][row]) if "score" in t else 1.0
        track = int(t["track"][row]) if "track" in t else None
        return Detection(np.array([t[n][row] for n in BOX]), score, points, track)


def _grouped(keys: np.ndarray) -> dict:
    """Rows of each key."""
    rows: dict = {}
    for row, key in enumerate(keys.tolist()):
        rows.setdefault(key, []).append(row)
    return rows


def _plain(columns: Columns, file: Path) -> Columns:
    missing = [name for name in BOX if name not in columns]
    if "frame" not in columns and "time" not in columns:
        missing.insert(0, "frame (or time)")
    if set(EYES) & set(columns):
        missing += [name for name in EYES if name not in columns]
    if missing:
        has = ", ".join(columns) or "none"
        raise UserError(f"{file}: missing columns {', '.join(missing)}; there are {has}", "Add or rename them")
    return columns


def _openface(columns: Columns, file: Path) -> Columns:
    wanted = ["frame", "timestamp", "confidence", "success", *(f"{a}_{i}" for a in "xy" for i in range(68))]
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UserError(
            f"{file}: an OpenFace file without {', '.join(missing[:5])}", "Run FeatureExtraction with -2Dfp"
        )
    good = columns["success"] > 0
    x, y = (np.stack([columns[f"{axis}_{i}"][good] for i in range(68)], 1) for axis in "xy")
    five = [slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55)]
    points = {
        name: values[:, part].mean(1)
        for part, pair in zip(five, zip([*EYES, *OTHERS][::2], [*EYES, *OTHERS][1::2], strict=True), strict=True)
        for name, values in zip(pair, (x, y), strict=True)
    }
    top, bottom = y.min(1), y.max(1)
    return points | {
        "frame": columns["frame"][good] - 1,
        "time": columns["timestamp"][good],
        "score": columns["confidence"][good],
        "x0": x.min(1),
        "y0": top - FOREHEAD * (bottom - top),
        "x1": x.max(1),
        "y1": bottom,
    }


def _read(file: Path) -> Columns:
    """Columns by name, float64 (R,)."""
    if not file.is_file():
        raise UserError(f"{file}: not found (faces of detector 'precomputed')", "Check 'file' of the face settings")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                columns = {name: np.asarray(arrays[name], np.float64).reshape(-1) for name in arrays.files}
        else:
            text = file.read_text(encoding="utf-8-sig")
            rows = json.loads(text) if file.suffix == ".json" else _csv(text)
            names = {name: None for row in rows for name in row}
            columns = {name: np.array([_number(row.get(name)) for row in rows]) for name in names}
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError("columns of unequal length")
    except Exception as error:  # whatever a parser stumbles over
        raise UserError(f"{file}: cannot be read as faces ({error})", "Give a CSV, JSON or npz as documented") from None
    return columns


def _csv(text: str) -> list[dict[str, str]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    rows = list(reader)
    # A header alone is a video without a face; its columns must be known all the same.
    return rows or [dict.fromkeys(names, "nan")]


def _number(cell: object) -> float:
    return math.nan if cell in (None, "") else float(cell)  # type: ignore[arg-type]
