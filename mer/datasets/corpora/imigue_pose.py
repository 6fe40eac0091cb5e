"""The pose files of iMiGUE, converted once: a spreadsheet of 10,000 rows takes half a minute to read, an array none.

Per video `skeletons/0001.npz` with `skeleton` (frames, V, 3) float32 x, y in pixels and confidence, all zero where OpenPose
failed; and of its 70 points of the face `faces/0001.csv`, which `mer.media.detectors.precomputed` reads, so that faces are cut
out without a detector.

Sources differ on which hand comes first (trap 2 of the data set), so it is measured: the finger tips of the hand that comes
first must lie at the left wrist (joint 7) or at the right one (joint 4). In the arrays the left hand comes first, always.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from mer.errors import UserError
from mer.files import draft_of, replacing
from mer.media import table
from mer.skeletons import convert, layout

LEFT_WRIST, RIGHT_WRIST = 7, 4
SURE = 0.1  # confidence from which a point counts where something is measured
CLEAR = 0.8  # of two mean distances, the less is at most so large a share of the greater
RATE = 25.0  # skeletons per second
Side = Literal["left", "right"]

# Per layout where the joints of the first and of the second hand stand, and which of them are finger tips.
_HANDS = {"openpose137": (95, 116, 21), "imigue35": (25, 30, 5), "imigue22": (12, 17, 5), "imigue36": (24, 30, 6)}
_TIPS = {21: (4, 8, 12, 16, 20), 6: (1, 2, 3, 4, 5), 5: (0, 1, 2, 3, 4)}
_FACE = 25  # the first of the 70 points in openpose137
_FIVE = {"l": range(36, 42), "r": range(42, 48), "n": (30,), "ml": (48,), "mr": (54,)}
FACE_COLUMNS = ("frame", "time", "x0", "y0", "x1", "y1", "score", *(f"{p}{a}" for p in _FIVE for a in "xy"))
FOREHEAD = 1 / 3  # of the landmarks' height, above the brows; as for OpenFace's


@dataclass(frozen=True)
class Job:
    """One pose file to convert.

    Attributes:
        video: number of the interview.
        source: `..._openpose.xlsx`, `..._2.xlsx` or `..._light_hand.csv`.
        skeleton, faces: the files to write; no faces from a file without points of the face.
        joints: layout to keep of 137 points.
    """

    video: int
    source: Path
    skeleton: Path
    faces: Path | None
    joints: str


@dataclass(frozen=True)
class Pose:
    """A converted pose file.

    Attributes:
        job: what it was made from.
        frames: number of rows, and of those in which OpenPose failed.
        failed: see `frames`.
        straight, crossed: pixels, mean distance of finger tips from wrists if the hand that comes first is the left one, or
            the right one; NaN where it cannot be measured.
        measured: frames that this was measured in.
        swapped: the array has the hands the other way round than the file.
    """

    job: Job
    frames: int
    failed: int
    straight: float
    crossed: float
    measured: int
    swapped: bool

    @property
    def first(self) -> Side | None:
        """Whose hand comes first in the file; None where the distances do not tell."""
        near, far = sorted((self.straight, self.crossed))
        if not near <= CLEAR * far:  # NaN included
            return None
        return "left" if self.straight < self.crossed else "right"


# -- Reading -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[np.ndarray, str]:
    """(T, V, 3) float32 and the name of its layout, of a spreadsheet of OpenPose or a CSV with an index before 35 joints.

    Raises:
        UserError: a row of another length, a cell that is no number; names file and row.
    """
    hand = path.suffix.lower() == ".csv"
    name, skip = ("imigue35", 1) if hand else ("openpose137", 0)
    width = 3 * layout(name).size + skip
    rows: list[np.ndarray] = []
    # A row without any number is a frame in which nobody was found; without it all later ones would be early.
    for number, cells in enumerate(table.values(path, blank=True), start=1):
        if number == 1 and hand and len(cells) == width and not cells[0]:
            continue  # the header that pandas writes: nothing, 0, 1, 2 ...
        if not any(cell not in (None, "") for cell in cells):
            rows.append(np.zeros(width - skip, np.float32))
            continue
        if len(cells) != width:
            raise UserError(
                f"{path}, row {number}: {len(cells)} cells, not {width} (x, y, confidence of {layout(name).size} joints)",
                "Copy or extract this file again",
            )
        try:
            rows.append(np.array([0 if cell in (None, "") else cell for cell in cells[skip:]], np.float32))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}, row {number}: {error}", "Copy or extract this file again") from None
    points = np.array(rows, np.float32).reshape(len(rows), -1, 3)
    return np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0), name


def hand_distances(points: np.ndarray, name: str) -> tuple[float, float, int]:
    """`straight`, `crossed` and `measured` of a `Pose`, of (T, V, 3); frames count that show both wrists and both hands."""
    first, second, size = _HANDS[name]
    wrists = points[:, [LEFT_WRIST, RIGHT_WRIST]]
    tips = np.stack([points[:, [start + tip for tip in _TIPS[size]]] for start in (first, second)], 1)
    sure = tips[..., 2] > SURE
    known = np.all(wrists[..., 2] > SURE, axis=1) & np.all(np.any(sure, axis=2), axis=1)
    if not known.any():
        return float("nan"), float("nan"), 0
    weight = sure[known][..., None]
    centre = (tips[known][..., :2] * weight).sum(2) / weight.sum(2)
    places = wrists[known][..., :2]
    straight, crossed = (float(np.linalg.norm(centre - w, axis=-1).mean()) for w in (places, places[:, ::-1]))
    return straight, crossed, int(known.sum())


def swap_hands(points: np.ndarray, name: str) -> np.ndarray:
    """(T, V, 3) with the first and the second hand exchanged."""
    first, second, size = _HANDS[name]
    order = np.arange(points.shape[1])
    order[first : first + size], order[second : second + size] = (
        np.arange(second, second + size),
        np.arange(first, first + size),
    )
    return points[:, order]


def faces(points: np.ndarray) -> Iterator[list[str]]:
    """Rows of `FACE_COLUMNS`, one per frame that shows both eyes, from (T, 137, 3).

    Sides are those of the picture; eyes are the means of their six points; the box is the extent of all points with a third
    of its height above; the score is the mean confidence. What was not seen stays empty.
    """
    for number, frame in enumerate(points[:, _FACE : _FACE + 68]):  # the pupils behind them lie within the eyes
        sure = frame[:, 2] > SURE
        five = {}
        for name, part in _FIVE.items():
            seen = [i for i in part if sure[i]]
            five[name] = frame[seen, :2].mean(0) if seen else None
        if five["l"] is None or five["r"] is None:
            continue
        (x0, y0), (x1, y1) = frame[sure, :2].min(0), frame[sure, :2].max(0)
        box = (x0, y0 - FOREHEAD * (y1 - y0), x1, y1)
        places = [f"{v:.2f}" for v in box] + [f"{frame[:, 2].mean():.3f}"]
        for place in five.values():
            places += ["", ""] if place is None else [f"{place[0]:.2f}", f"{place[1]:.2f}"]
        yield [str(number), f"{(number + 0.5) / RATE:.3f}", *places]


# -- Converting --------------------------------------------------------------------------------------------------------


def converted(jobs: Sequence[Job], workers: int, said: Side | None) -> Iterator[Pose | tuple[Job, UserError]]:
    """Convert what is not there yet, with a progress bar; what cannot be read comes with its error.

    Args:
        jobs: files.
        workers: processes; 1 converts in this one.
        said: whose hand comes first, where the user says it; else it is measured, see `settle`.
    """
    work = partial(_convert, said=said)
    if workers == 1 or len(jobs) < 2:
        yield from tqdm(map(work, jobs), "skeletons", len(jobs), leave=False)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield from tqdm(pool.map(work, jobs), "skeletons", len(jobs), leave=False)
        except BrokenProcessPool:
            raise UserError(
                "a process that converts pose files was ended from outside, as it is where memory is short",
                "Try again with fewer of them, e.g. --workers 1; what is converted stays",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _convert(job: Job, said: Side | None) -> Pose | tuple[Job, UserError]:
    try:
        there = _there(job)
        return there if there is not None else _made(job, said)
    except UserError as error:
        return job, error


def _state(path: Path) -> np.ndarray:
    about = path.stat()
    return np.array([about.st_size, about.st_mtime_ns], np.int64)


def _there(job: Job) -> Pose | None:
    """What an earlier run left; None where there is nothing, or where it was made from another file or with other joints."""
    if not job.skeleton.is_file() or not (job.faces is None or job.faces.is_file()):
        return None
    try:
        with np.load(job.skeleton, allow_pickle=False) as arrays:
            if (arrays["source"] != _state(job.source)).any() or str(arrays["wanted"]) != job.joints:
                return None
            frames, failed, measured = (int(arrays[key]) for key in ("frames", "failed", "measured"))
            straight, crossed = arrays["hands"].tolist()
            return Pose(job, frames, failed, straight, crossed, measured, bool(arrays["swapped"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # damaged: it is made again


def _made(job: Job, said: Side | None) -> Pose:
    points, name = read(job.source)
    distances = hand_distances(points, name)
    pose = Pose(job, len(points), int((~(points[..., 2] > 0).any(1)).sum()), *distances, swapped=False)
    if job.faces is not None and name == "openpose137":
        with replacing(job.faces) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FACE_COLUMNS)
            writer.writerows(faces(points))
    if (said or pose.first) == "right":
        points, pose = swap_hands(points, name), _turned(pose)
    if name == "openpose137" and job.joints != name:
        points, name = convert(points, layout(name), layout(job.joints)), job.joints
    _write(pose, points, name)
    return pose


def _turned(pose: Pose) -> Pose:
    return Pose(pose.job, pose.frames, pose.failed, pose.straight, pose.crossed, pose.measured, not pose.swapped)


def _write(pose: Pose, points: np.ndarray, name: str) -> None:
    """The array; not compressed, because single clips are read from it over and over."""
    with draft_of(pose.job.skeleton) as draft, draft.open("wb") as file:
        np.savez(
            file, skeleton=np.ascontiguousarray(points, np.float32), layout=name, channels="xyc",
            source=_state(pose.job.source), wanted=pose.job.joints, frames=pose.frames, failed=pose.failed,
            hands=np.array([pose.straight, pose.crossed]), measured=pose.measured, swapped=pose.swapped,
        )  # fmt: skip


def settle(poses: Sequence[Pose], said: Side | None) -> tuple[Side | None, list[str]]:
    """Whose hand comes first in all files; files that do not tell by themselves (folded hands) follow those that do.

    Args:
        poses: of all videos; files that have to be turned are written anew.
        said: by the user.

    Returns:
        the side (None where no file shows two hands), and notes.

    Raises:
        UserError: files contradict each other, or none of them tells.
    """
    measured = [pose for pose in poses if pose.measured]
    first: Side | None = said
    if said is None and measured:
        clear: Mapping[Side, list[Pose]] = {
            side: [pose for pose in measured if pose.first == side] for side in ("left", "right")
        }
        if clear["left"] and clear["right"]:
            few = min(clear.values(), key=len)
            raise UserError(
                f"{few[0].job.source}: the hand that comes first lies at the {few[0].first} wrist, and in"
                f" {len(max(clear.values(), key=len))} other file(s) at the other one",
                "Look at these files; if you know the order, say --first-hand left or --first-hand right",
            )
        if not clear["left"] and not clear["right"]:
            pose = max(measured, key=lambda p: p.measured)
            raise UserError(
                f"{pose.job.source}: finger tips lie {pose.straight:.0f} pixels from one pair of wrists and"
                f" {pose.crossed:.0f} from the other, and no other file tells which hand comes first",
                "Say --first-hand left or --first-hand right",
            )
        first = "left" if clear["left"] else "right"
    for pose in poses if first is not None else ():
        if pose.swapped != (first == "right"):
            with np.load(pose.job.skeleton, allow_pickle=False) as arrays:
                points, name = arrays["skeleton"], str(arrays["layout"])
            _write(_turned(pose), swap_hands(points, name), name)
    unsure = sum(pose.first is None for pose in measured) if said is None else 0
    notes = [f"{unsure} pose file(s) do not tell which hand comes first; they follow the others"] if unsure else []
    return first, notes


# -- The arrays of the organisers' kit ---------------------------------------------------------------------------------


def kit_sequences(path: Path, target: Path, said: Side | None) -> tuple[list[int], Side | None]:
    """`train_data.npy`, (N, 3, 90, 22, 1), as sequences end to end for `file#skeleton[row]`.

    Args:
        path: the array; channels x, y, confidence; zeros behind the last frame.
        target: the .npz to write.
        said: whose finger tips come first; None measures it.

    Returns:
        frames of each sequence, and whose finger tips came first.

    Raises:
        UserError: not such an array, or the side cannot be told.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy ({error})", "Write it again without pickled objects") from None
    if array.ndim != 5 or array.shape[1] != 3 or array.shape[3:] != (22, 1) or array.dtype.kind != "f":
        raise UserError(f"{path}: shape {array.shape} is not (N, 3, frames, 22, 1)", "Give an array of the kit")
    pieces = []
    for clip in array:
        points = np.asarray(clip[..., 0], np.float32).transpose(1, 2, 0)
        seen = np.flatnonzero(points.any((1, 2)))
        pieces.append(points[: int(seen[-1]) + 1 if seen.size else 1])
    offset = np.cumsum([0, *map(len, pieces)])
    points = np.concatenate(pieces) if pieces else np.zeros((0, 22, 3), np.float32)
    straight, crossed, measured = hand_distances(points, "imigue22")
    near, far = sorted((straight, crossed))
    if said is None and measured and not near <= CLEAR * far:
        raise UserError(
            f"{path}: finger tips lie {straight:.0f} pixels from one pair of wrists and {crossed:.0f} from the other",
            "Say --first-hand left or --first-hand right",
        )
    first: Side | None = said or (None if not measured else "left" if straight < crossed else "right")
    if first == "right":
        points = swap_hands(points, "imigue22")
    with draft_of(target) as draft, draft.open("wb") as file:
        np.savez(file, skeleton=points, offset=offset, layout="imigue22", channels="xyc")
    return np.diff(offset).tolist(), first


def default_workers() -> int:
    """Processes that convert at once."""
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
