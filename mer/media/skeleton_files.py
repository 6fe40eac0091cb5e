"""Skeletons that somebody else extracted: OpenPose, COCO and MMPose JSON, iMiGUE, NTU, UTD-MHAD, MediaPipe, arrays.

Coordinates stay in the file's own unit. The last channel of every joint is its confidence: a joint that is NaN or lies at
the origin was not seen and has 0. A layout that neither the format nor the number of joints settles must be declared:
`file#layout`, `file#layout:channels`, `file.npz#key[row]#layout`, or the keys `layout` and `channels` of an .npz;
channels are xy, xyc, xyz or xyzc.
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mer.errors import UserError
from mer.media.features import split_reference
from mer.media.stream import Stream
from mer.skeletons import LAYOUTS, Layout, convert, layout
from mer.spec import InputSpec

CHANNELS = ("xy", "xyc", "xyz", "xyzc")
_DECLARE = f"Declare it: file#layout, one of {', '.join(LAYOUTS)}"


@dataclass(frozen=True)
class Track:
    """One person's skeletons.

    Attributes:
        points: (N, V, C) float32, the last channel confidence.
        frames: (N,) int: which frame of the recording each belongs to, counted from 0.
        length: frames of the recording.
        layout: of the V joints.
    """

    points: np.ndarray
    frames: np.ndarray
    length: int
    layout: Layout


@dataclass(frozen=True)
class Declared:
    """What the reference says about the file."""

    layout: str | None = None
    channels: str | None = None


def load(root: Path, reference: str, spec: InputSpec, start: float = 0.0, end: float | None = None) -> Stream:
    """Skeletons of one stretch.

    Args:
        root: folder that relative names are resolved against.
        reference: a file or a folder, with what must be declared (see above).
        spec: `rate` is frames per second of the file (None: its frames divide the clip evenly); `layout` is what comes
            out (None: what the file has).
        start, end: seconds of media time, half-open.

    Returns:
        (N, V, 3) float32 x, y, confidence, or (N, V, 4) x, y, z, confidence from a file with depth. Frames in which
        nobody is seen give no element.

    Raises:
        UserError: the file is missing, broken or ambiguous, or has nothing in this stretch.
    """
    plain, declared = _declaration(reference)
    name, key, row = split_reference(plain)
    path = root / name
    if not path.exists():
        raise UserError(f"{path}: no such file or folder", "Check the path, or 'root' in corpus.yaml")
    track = _track(path, key, row, declared, _changed(path))
    points = track.points
    if spec.layout is not None:
        if points.shape[-1] != spec.item_shape()[-1]:
            has, wants = points.shape[-1] - 1, spec.item_shape()[-1] - 1
            raise UserError(
                f"{root / reference}: coordinates are {has}-D, and skeletons of {spec.layout!r} are {wants}-D",
                "Choose an encoder of another layout",
            )
        points = convert(points, track.layout, layout(spec.layout))
    rate = spec.rate
    if rate is None:
        stop = end if end is not None and end > start else start + track.length
        rate, first, last, origin = track.length / (stop - start), 0, track.length, start
    else:
        first, origin = round(start * rate), 0.0
        last = track.length if end is None else min(track.length, max(first + 1, round(end * rate)))
    if first >= last:
        raise UserError(
            f"{root / reference}: {track.length} frames at {rate:g} Hz hold nothing from {start:g} s",
            "Check 'start', or the rate of the encoder",
        )
    inside = (track.frames >= first) & (track.frames < last) & (points[..., -1] > 0).any(-1)
    number = track.frames[inside].astype(np.float64)
    spans = origin + np.stack([number, number + 1], 1) / rate
    return Stream(points[inside], spans.astype(np.float32).reshape(-1, 2))


def _declaration(reference: str) -> tuple[str, Declared]:
    """The reference without `#layout` or `#layout:channels` at its end, and what that said."""
    head, mark, last = reference.rpartition("#")
    name, _, channels = last.partition(":")
    if not mark or name not in LAYOUTS:
        return reference, Declared()
    if channels and channels not in CHANNELS:
        raise UserError(f"{reference}: unknown channels {channels!r}", f"Use one of {', '.join(CHANNELS)}")
    return head, Declared(name, channels or None)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@lru_cache(maxsize=8)  # the clips of one recording are read one after the other
def _track(path: Path, key: str | None, row: int | None, declared: Declared, changed: int) -> Track:
    if path.is_dir():
        return _openpose(path, declared)
    read = _READERS.get(path.suffix.lower())
    if path.suffix.lower() in (".npz", ".npy"):
        return _arrays(path, key, row, declared)
    if key is not None:
        raise UserError(f"{path}#{key}: {key!r} is no layout", _DECLARE)
    if read is None:
        kinds = "a folder of OpenPose, .json, .csv, .skeleton, .mat, .npz or .npy"
        raise UserError(f"{path}: not a kind of skeleton file that is known", f"Use {kinds}")
    return read(path, declared)


# -- From numbers to a track -------------------------------------------------------------------------------------------


def _which(path: Path, size: int, declared: Declared, usual: str | None = None) -> Layout:
    """The layout of `size` joints: declared, or the format's own, or the only one of that size."""
    if declared.layout is not None:
        if layout(declared.layout).size != size:
            raise UserError(
                f"{path}: {size} joints, and {declared.layout!r} has {layout(declared.layout).size}",
                "Correct the declared layout",
            )
        return layout(declared.layout)
    if usual is not None:
        return layout(usual)
    same = [name for name, it in LAYOUTS.items() if it.size == size]
    if len(same) == 1:
        return layout(same[0])
    found = f"fits {' and '.join(same)}" if same else "is of no layout that is known"
    raise UserError(f"{path}: a skeleton of {size} joints {found}", _DECLARE)


def _seen(path: Path, points: np.ndarray, channels: str | None, it: Layout) -> np.ndarray:
    """(..., V, 2 to 4) as read, to float32 with confidence as the last channel, 0 where a joint was not seen."""
    width = points.shape[-1]
    if channels is None:
        # Kinect's skeletons are 3-D. For Human3.6M both are common, and nothing in the numbers tells for certain.
        flat = {2: "xy", 3: "xyz" if it.depth else None if it.name == "h36m17" else "xyc", 4: "xyzc"}
        channels = flat.get(width)
    if channels is None or len(channels) != width:
        what = f"{width} channels" if channels is None else f"{width} channels where {channels!r} is declared"
        raise UserError(f"{path}: {what}", f"Declare them: file#{it.name}:channels, one of {', '.join(CHANNELS)}")
    points = np.asarray(points, np.float64)
    confident = channels.endswith("c")
    places = points[..., :-1] if confident else points
    sure = points[..., -1] if confident else np.ones(points.shape[:-1])
    missing = ~np.isfinite(points).all(-1) | (places == 0).all(-1)
    sure = np.where(missing, 0, sure)
    if sure.size and (sure.min() < 0 or sure.max() > 1.5):  # OpenPose's scores pass 1 by a little
        raise UserError(
            f"{path}: confidence from {sure.min():g} to {sure.max():g}",
            f"It lies in [0, 1]; if the third number is another thing, declare it: file#{it.name}:xyz",
        )
    places = np.where(missing[..., None], 0, places)
    return np.concatenate([places, np.minimum(sure, 1)[..., None]], -1).astype(np.float32)


def _one_of(people: np.ndarray) -> np.ndarray:
    """(T, V, C) of the person who is seen best, where (T, M, V, C) has a place for each: surest, then largest."""
    sure = people[..., -1].mean(-1).sum(0)
    size = np.array([[_extent(body) for body in frame] for frame in people]).sum(0)
    return people[:, int(np.lexsort((size, np.round(sure, 6)))[-1])]


def _extent(body: np.ndarray) -> float:
    """Diagonal of the joints that were seen."""
    places = body[body[:, -1] > 0, :-1]
    return float(np.linalg.norm(np.ptp(places, axis=0))) if len(places) else 0.0


def _follow(frames: dict[int, list[np.ndarray]]) -> tuple[np.ndarray, list[int]]:
    """One person out of several per frame: people are joined over time by the nearest centre, and the one seen best stays.

    A person may move by the length of the own diagonal from one sighting to the next. Seen best: the greatest sum of mean
    confidence times diagonal.

    Args:
        frames: per frame bodies of (V, C), each with at least one joint that was seen.

    Returns:
        (N, V, C), and the N frames.
    """
    tracks: list[list[tuple[int, np.ndarray]]] = []
    centres: list[np.ndarray] = []
    for number in sorted(frames):
        bodies = frames[number]
        middle = [np.median(b[b[:, -1] > 0, :-1], axis=0) for b in bodies]
        pairs = sorted(
            (float(np.linalg.norm(m - centres[t])), t, i)
            for i, m in enumerate(middle)
            for t in range(len(tracks))
            if np.linalg.norm(m - centres[t]) <= max(_extent(bodies[i]), _extent(tracks[t][-1][1]))
        )
        joined: dict[int, int] = {}
        for _, t, i in pairs:
            if i not in joined and t not in joined.values():
                joined[i] = t
        for i, body in enumerate(bodies):
            if i not in joined:
                tracks.append([])
                centres.append(middle[i])
                joined[i] = len(tracks) - 1
            tracks[joined[i]].append((number, body))
            centres[joined[i]] = middle[i]
    best = max(tracks, key=lambda track: sum(float(b[:, -1].mean()) * _extent(b) for _, b in track))
    return np.stack([body for _, body in best]), [number for number, _ in best]


def _people(path: Path, frames: dict[int, list[np.ndarray]], length: int, it: Layout) -> Track:
    """A track from bodies per frame; those without a joint that was seen do not count."""
    real = {n: [b for b in bodies if (b[:, -1] > 0).any()] for n, bodies in frames.items()}
    real = {n: bodies for n, bodies in real.items() if bodies}
    if not real:
        width = next((b.shape[-1] for bodies in frames.values() for b in bodies), 3)
        return Track(np.zeros((0, it.size, width), np.float32), np.zeros(0, int), length, it)
    points, numbers = _follow(real)
    return Track(points, np.array(numbers), length, it)


def _whole(points: np.ndarray, it: Layout) -> Track:
    return Track(points, np.arange(len(points)), len(points), it)


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable JSON ({error})", "Extract this frame or file again") from None


_NUMBER = re.compile(r"(\d+)(?:_keypoints)?$")


def _number(path: Path, name: str) -> int:
    match = _NUMBER.search(name)
    if match is None:
        raise UserError(f"{path}: no frame number at the end of {name!r}", "Name frames by their number, from 0 on")
    return int(match[1])


def _triples(path: Path, person: dict[str, Any], key: str, size: int) -> np.ndarray:
    flat = person.get(key) or []
    if len(flat) not in (0, 3 * size):
        raise UserError(f"{path}: {len(flat)} numbers in {key!r}, not 3 x {size}", "Extract this frame again")
    return np.array(flat, np.float64).reshape(-1, 3) if flat else np.zeros((size, 3))


def _openpose(folder: Path, declared: Declared) -> Track:
    """A folder with one JSON per frame, numbered from 0; BODY_25 (with face and hands) or COCO-18."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UserError(f"{folder}: no .json in it", "Give the folder that OpenPose wrote with --write_json")
    frames: dict[int, list[np.ndarray]] = {}
    sizes: Counter[int] = Counter()
    for path in paths:
        number = _number(path, path.stem)
        content = _json(path)
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list):
            raise UserError(f"{path}: no list 'people'", "Give the folder that OpenPose wrote with --write_json")
        frames[number] = []
        for person in people:
            size = len(person.get("pose_keypoints_2d") or []) // 3
            body = _triples(path, person, "pose_keypoints_2d", size)
            if size == 25:
                rest = (("face_keypoints_2d", 70), ("hand_left_keypoints_2d", 21), ("hand_right_keypoints_2d", 21))
                body = np.concatenate([body, *(_triples(path, person, k, n) for k, n in rest)])
            sizes[len(body)] += 1
            frames[number].append(body)
    if not sizes:
        it = layout(declared.layout or "openpose25")  # nobody in any frame
        return Track(np.zeros((0, it.size, 3), np.float32), np.zeros(0, int), max(frames) + 1, it)
    if len(sizes) > 1:
        raise UserError(f"{folder}: people of {' and '.join(map(str, sorted(sizes)))} joints", "Extract it at one go")
    size = next(iter(sizes))
    it = layout("openpose137") if size == 137 else _which(folder, size, declared, "openpose18" if size == 18 else None)
    bodies = {n: [_seen(folder, b, "xyc", it) for b in people] for n, people in frames.items()}
    track = _people(folder, bodies, max(frames) + 1, it)
    bare = size == 137 and not (track.points[:, 25:, -1] > 0).any()
    if not bare or declared.layout == "openpose137":
        return track
    return Track(track.points[:, :25], track.frames, track.length, layout("openpose25"))


def _keypoints(path: Path, where: str, entry: Any) -> np.ndarray:
    """(V, 3) or (V, 4) of one person; flat triples of COCO, or MMPose's points and scores."""
    try:
        points = np.array(entry["keypoints"], np.float64)
        if points.ndim == 1:
            points = points.reshape(-1, 3)
            # Annotations by hand say 0 absent, 1 hidden, 2 visible; estimators write scores in [0, 1].
            if (points[:, 2] == 2).any() and set(np.unique(points[:, 2])) <= {0, 1, 2}:
                points[:, 2] = np.minimum(points[:, 2], 1)
            return points
        scores = np.array(entry.get("keypoint_scores", np.ones(len(points))), np.float64)
        return np.concatenate([points, scores[:, None]], 1)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {where}: no keypoints ({error})", "Each person needs 'keypoints'") from None


def _coco(path: Path, declared: Declared) -> Track:
    """COCO results or annotations (one entry per person), or MMPose predictions (one entry per frame)."""
    content = _json(path)
    usual = {17: "coco17", 133: "coco133"}
    names: dict[Any, int] = {}
    counted_from = 0
    if isinstance(content, dict) and isinstance(content.get("instance_info"), list):
        # MMPose's demo script numbers frames from 1, its inferencer from 0. It names the data set where it is not COCO.
        counted_from = 1
        if "coco" not in str(content.get("meta_info", {}).get("dataset_name", "coco")).lower():
            usual = {}
        content = content["instance_info"]
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        names = {i["id"]: i.get("frame_id", _number(path, Path(i["file_name"]).stem)) for i in content["images"]}
        content = content["annotations"]
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        raise UserError(f"{path}: neither COCO nor MMPose keypoints", "Give a list of people, or of frames")
    frames: dict[int, list[np.ndarray]] = {}
    for place, entry in enumerate(content):
        if "instances" in entry:
            number, people = int(entry.get("frame_id", place + counted_from)) - counted_from, entry["instances"]
        else:
            image = entry.get("image_id")
            if image is None:
                raise UserError(f"{path}: entry {place} has no 'image_id'", "Say which frame each person is in")
            number, people = names.get(image, image), [entry]
            number = number if isinstance(number, int) else _number(path, Path(str(number)).stem)
        frames.setdefault(number, []).extend(_keypoints(path, f"entry {place}", person) for person in people)
    shapes = {b.shape for bodies in frames.values() for b in bodies}
    if len(shapes) > 1:
        raise UserError(f"{path}: people of different numbers of joints", "Extract it at one go")
    size, width = next(iter(shapes), (layout(declared.layout or "coco17").size, 3))
    it = _which(path, size, declared, usual.get(size) if width == 3 else None)
    channels = declared.channels or ("xyzc" if width == 4 else "xyc")
    bodies = {n: [_seen(path, b, channels, it) for b in people] for n, people in frames.items()}
    return _people(path, bodies, max(frames) + 1, it)


# -- Tables ------------------------------------------------------------------------------------------------------------


def _csv(path: Path, declared: Declared) -> Track:
    """Rows of numbers without a header (iMiGUE: index, then joints), or MediaPipe's landmarks with one."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise UserError(f"{path}: empty", "Extract it again")
    try:
        [float(cell or "nan") for cell in rows[0]]
    except ValueError:
        return _landmarks(path, rows, declared)
    table = _numbers(path, rows, 1)
    width = table.shape[1]
    # x, y, confidence per joint, with or without a column that counts the rows.
    flat = table[:, 1:] if width % 3 == 1 else table
    if width % 3 == 2:
        raise UserError(f"{path}: {width} columns are no triples", "Give x, y, confidence of each joint, or a header")
    it = _which(path, flat.shape[1] // 3, declared)
    points = _seen(path, flat.reshape(len(flat), -1, 3), declared.channels, it)
    if it.name == "imigue35" and declared.layout is None:
        points = _tips_at_their_hands(path, points)
    return _whole(points, it)


def _numbers(path: Path, rows: list[list[str]], first: int) -> np.ndarray:
    width = len(rows[0])
    table = np.empty((len(rows), width))
    for i, row in enumerate(rows):
        try:
            table[i] = [float(cell) if cell.strip() else np.nan for cell in row]
        except ValueError as error:
            reason = f"{len(row)} cells instead of {width}" if len(row) != width else str(error)
            raise UserError(f"{path}: row {i + first}: {reason}", "Repair or leave out this row") from None
    return table


def _tips_at_their_hands(path: Path, points: np.ndarray) -> np.ndarray:
    """iMiGUE's ten finger tips with each five at the nearer hand: sources differ on which five come first.

    Decided once per recording by the mean distance from the wrists; columns 25 to 29 should hang on joint 7, 30 to 34
    on joint 4. `#imigue35` in the reference takes the columns as they are.
    """
    wrists, tips = points[:, [7, 4], :], points[:, 25:].reshape(len(points), 2, 5, -1)
    known = np.all(wrists[..., -1] > 0.1, axis=1) & np.all(np.any(tips[..., -1] > 0.1, axis=2), axis=1)
    if not known.any():
        return points
    weight = (tips[known][..., -1] > 0.1)[..., None]
    centre = (tips[known][..., :2] * weight).sum(2) / weight.sum(2)
    straight = float(np.linalg.norm(centre - wrists[known][..., :2], axis=-1).mean())
    crossed = float(np.linalg.norm(centre - wrists[known][:, ::-1, :2], axis=-1).mean())
    if min(straight, crossed) > 0.8 * max(straight, crossed):
        raise UserError(
            f"{path}: the finger tips lie {straight:.0f} from one pair of hands and {crossed:.0f} from the other",
            "Say that the order of the columns is right: file#imigue35",
        )
    order = [*range(25), *range(30, 35), *range(25, 30)]
    return points[:, order] if crossed < straight else points


_WIDE = re.compile(r"^(?:landmarks?_?)?(?P<joint>.*?)_?(?P<axis>x|y|z|v|vis|visibility)$")


def _landmarks(path: Path, rows: list[list[str]], declared: Declared) -> Track:
    """MediaPipe landmarks: one row per frame (x0, y0, z0, visibility0, ... or nose_x, ...), or one per joint."""
    header = [cell.strip().lower().replace(" ", "_").replace(".", "_") for cell in rows[0]]
    body = rows[1:]
    if not body:
        raise UserError(f"{path}: a header and no rows", "Extract it again")
    frame_column = next((header.index(n) for n in ("frame", "frame_id", "frame_index") if n in header), None)
    joint_column = next(
        (header.index(n) for n in ("landmark", "landmark_id", "joint", "id", "index") if n in header), None
    )
    if joint_column is not None and frame_column is not None and {"x", "y"} <= set(header):
        return _long(path, header, body, frame_column, joint_column, declared)
    columns: dict[str, dict[str, int]] = {}
    for i, name in enumerate(header):
        match = _WIDE.match(_AXIS_FIRST.sub(r"\2_\1", name))
        if match is not None and match["joint"]:
            columns.setdefault(match["joint"], {})[match["axis"][0]] = i
    columns = {joint: axes for joint, axes in columns.items() if {"x", "y"} <= set(axes)}
    it = _which(path, len(columns), declared)
    by_name = set(columns) == set(it.joints)
    joints = it.joints if by_name else sorted(columns, key=_rank)
    if not by_name and not all(joint.isdigit() for joint in columns):
        theirs = [joint for joint in columns if joint not in it.joints][:3]
        raise UserError(
            f"{path}: columns of unknown joints ({', '.join(theirs)})", f"Number them, or name them as in {it.name}"
        )
    used = [[columns[j]["x"], columns[j]["y"], *([columns[j]["v"]] if "v" in columns[j] else [])] for j in joints]
    if len({len(axes) for axes in used}) > 1:
        raise UserError(f"{path}: some joints have a visibility and some have none", "Give it for all, or for none")
    needed = sorted({i for axes in used for i in axes} | ({frame_column} if frame_column is not None else set()))
    short = next((i for i, row in enumerate(body) if len(row) != len(header)), None)
    if short is not None:
        raise UserError(
            f"{path}: row {short + 2}: {len(body[short])} cells under {len(header)} headings", "Repair this row"
        )
    table = _numbers(path, [[row[i] for i in needed] for row in body], 2)
    at = {column: i for i, column in enumerate(needed)}
    points = np.stack([table[:, [at[i] for i in axes]] for axes in used], 1)
    points = _seen(path, points, "xyc" if points.shape[-1] == 3 else "xy", it)
    if frame_column is None:
        return _whole(points, it)
    numbers = _whole_numbers(path, table[:, at[frame_column]], header[frame_column])
    return Track(points, numbers, int(numbers.max()) + 1, it)


_AXIS_FIRST = re.compile(r"^(x|y|z|v|visibility)_?(\d+)$")


def _rank(joint: str) -> tuple[int, str]:
    return (int(joint) if joint.isdigit() else 0, joint)


def _whole_numbers(path: Path, column: np.ndarray, name: str) -> np.ndarray:
    bad = ~np.isfinite(column) | (column < 0) | (column != np.floor(column))
    if bad.any():
        raise UserError(f"{path}: row {int(np.argmax(bad)) + 2}: {name} {column[bad][0]:g}", "Count frames from 0")
    return column.astype(int)


def _long(path: Path, header: list[str], body: list[list[str]], frame: int, joint: int, declared: Declared) -> Track:
    sure = next((header.index(n) for n in ("visibility", "confidence", "score") if n in header), None)
    wanted = [frame, joint, header.index("x"), header.index("y"), *([sure] if sure is not None else [])]
    short = next((i for i, row in enumerate(body) if len(row) != len(header)), None)
    if short is not None:
        raise UserError(
            f"{path}: row {short + 2}: {len(body[short])} cells under {len(header)} headings", "Repair this row"
        )
    table = _numbers(path, [[row[i] for i in wanted] for row in body], 2)
    frames = _whole_numbers(path, table[:, 0], header[frame])
    joints = _whole_numbers(path, table[:, 1], header[joint])
    it = _which(path, int(joints.max()) + 1, declared)
    length = int(frames.max()) + 1
    points = np.full((length, it.size, len(wanted) - 2), np.nan)
    points[frames, joints] = table[:, 2:]
    return _whole(_seen(path, points, "xyc" if sure is not None else "xy", it), it)


# -- Kinect ------------------------------------------------------------------------------------------------------------


def _ntu(path: Path, declared: Declared) -> Track:
    """NTU RGB+D .skeleton: metres. Confidence 1 tracked, 0.5 inferred, 0 neither (our choice of numbers)."""
    words = path.read_text(encoding="utf-8").split()
    at = 0

    def take(count: int) -> list[str]:
        nonlocal at
        if at + count > len(words):
            raise UserError(f"{path}: ends within frame {len(bodies)}", "Copy the file again")
        at += count
        return words[at - count : at]

    bodies: list[dict[str, np.ndarray]] = []
    it = layout("ntu25")
    try:
        length = int(take(1)[0])
        for _ in range(length):
            people: dict[str, np.ndarray] = {}
            for _ in range(int(take(1)[0])):
                who = take(10)[0]
                count = int(take(1)[0])
                if count != it.size:
                    raise UserError(f"{path}: frame {len(bodies)}: {count} joints, not 25", "Copy the file again")
                rows = np.array(take(12 * count), np.float64).reshape(count, 12)
                people[who] = np.concatenate([rows[:, :3], rows[:, 11:] / 2], 1)
            bodies.append(people)
    except ValueError as error:
        raise UserError(f"{path}: frame {len(bodies)}: {error}", "Copy the file again") from None
    ids = sorted({who for people in bodies for who in people})
    if not ids:
        return Track(np.zeros((0, it.size, 4), np.float32), np.zeros(0, int), length, it)
    grid = np.zeros((length, len(ids), it.size, 4))
    for t, people in enumerate(bodies):
        for who, points in people.items():
            grid[t, ids.index(who)] = points
    return _whole(_one_of(_seen(path, grid, "xyzc", it)), it)


def _mat(path: Path, declared: Declared) -> Track:
    """UTD-MHAD: `d_skel`, 20 x 3 x T, metres."""
    from scipy.io import loadmat  # a tenth of a second

    try:
        content = loadmat(path, variable_names=["d_skel"])
    except Exception as error:  # the reader raises whatever its parser stumbled over
        raise UserError(f"{path}: not a readable .mat up to version 7 ({error})", "Copy the file again") from None
    skeleton = content.get("d_skel")
    if skeleton is None or skeleton.ndim != 3 or skeleton.dtype.kind not in "fiu":
        raise UserError(f"{path}: no array 'd_skel' of joints x 3 x frames", "Give a skeleton file of UTD-MHAD")
    points = np.asarray(skeleton, np.float64).transpose(2, 0, 1)
    it = _which(path, points.shape[1], declared, "kinect20" if points.shape[1] == 20 else None)
    return _whole(_seen(path, points, declared.channels or "xyz", it), it)


# -- Arrays ------------------------------------------------------------------------------------------------------------


def _arrays(path: Path, key: str | None, row: int | None, declared: Declared) -> Track:
    """.npy or .npz: (T, V, C), (T, M, V, C), or sequences end to end with `<key>_offset` or `offset`."""
    key, content = _content(path, key, _changed(path))
    points = content[""] if "" in content else content[str(key)]
    said = Declared(
        declared.layout or (str(content["layout"]) if "layout" in content else None),
        declared.channels or (str(content["channels"]) if "channels" in content else None),
    )
    if said.channels not in (None, *CHANNELS):
        raise UserError(f"{path}: unknown channels {said.channels!r}", f"Use one of {', '.join(CHANNELS)}")
    if points.dtype.kind not in "fiu":
        raise UserError(f"{path}: dtype {points.dtype} is not numeric", "Store numbers")
    if row is not None:
        points = _row(path, points, content.get(f"{key}_offset", content.get("offset")), row)
    if points.ndim not in (3, 4) or points.shape[-1] not in (2, 3, 4):
        raise UserError(
            f"{path}: shape {points.shape} is neither (frames, joints, 2 to 4) nor (frames, people, joints, 2 to 4)",
            "Store it so; one of several clips is file.npz#key[row]",
        )
    it = _which(path, points.shape[-2], said)
    seen = _seen(path, points, said.channels, it)
    return _whole(_one_of(seen) if seen.ndim == 4 else seen, it)


@lru_cache(maxsize=2)  # many clips lie in one file
def _content(path: Path, key: str | None, changed: int) -> tuple[str | None, dict[str, np.ndarray]]:
    """The array that is meant, and what says how it is to be read; by name, the array of an .npy as ''."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return key, {"": loaded}
        with loaded:
            names = list(loaded.keys())
            key = _key(path, key, names)
            wanted = [n for n in (key, f"{key}_offset", "offset", "layout", "channels") if n in names]
            return key, {name: loaded[name] for name in wanted}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        message = f"{path}: not a readable .npy or .npz ({error})"
        raise UserError(message, "Write it again without pickled objects") from None


def _key(path: Path, key: str | None, names: list[str]) -> str:
    data = [n for n in names if n not in ("layout", "channels") and not n.endswith("offset")]
    if key is None and len(data) == 1:
        return data[0]
    if key not in names:
        raise UserError(f"{path}: no array {key!r}", f"It holds {', '.join(names)}; write file#key")
    return key


def _row(path: Path, points: np.ndarray, offset: np.ndarray | None, row: int) -> np.ndarray:
    count = len(points) if offset is None else len(offset) - 1
    if row >= count:
        raise UserError(f"{path}: row {row} of {count}, counted from 0", "Prepare the corpus again")
    return points[row] if offset is None else points[int(offset[row]) : int(offset[row + 1])]


_READERS: dict[str, Callable[[Path, Declared], Track]] = {
    ".json": _coco,
    ".csv": _csv,
    ".skeleton": _ntu,
    ".mat": _mat,
}
