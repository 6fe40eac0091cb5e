"""What a download of iMiGUE holds: label files, interviews, pose files; found in one pass, looked into once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mer.datasets.corpora import imigue_labels, imigue_pose
from mer.datasets.corpora.imigue_labels import Labels
from mer.datasets.corpora.imigue_pose import RATE, Job, Pose
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import BESIDE
from mer.errors import UserError
from mer.media.probe import MediaInfo, probe

_FULL = re.compile(r"^labels.*\.csv$", re.IGNORECASE)
_LABEL = re.compile(r"^(\d+)_label\.csv$", re.IGNORECASE)
_POSE = re.compile(r"^(\d+)_(?:(openpose\.xlsx|2\.xlsx)|light_hand\.csv)$", re.IGNORECASE)
_KIT = re.compile(r"^(.+)_data\.npy$", re.IGNORECASE)
_OUTCOMES = ("train_label.csv", "validation_label.csv")


@dataclass
class Media:
    """What is there of the interviews.

    Attributes:
        videos: per video its mp4, relative to the root.
        clips: mp4 files that hold one clip each, by name.
        poses: per video its pose file, relative to the root.
        labels, others: label files per video; all other CSV, TXT and NPY files.
        pickles: files that are not opened.
    """

    videos: dict[int, str] = field(default_factory=dict)
    clips: dict[str, str] = field(default_factory=dict)
    poses: dict[int, str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    pickles: list[str] = field(default_factory=list)


def listing(root: Path) -> Media:
    """All files in one pass, in order of their paths; where a number occurs twice, the first stays."""
    media = Media()
    for folder, folders, names in os.walk(root):
        folders.sort()
        inside = Path(os.path.relpath(folder, root))
        for name in sorted(names):
            path = (inside / name).as_posix()
            stem, suffix = os.path.splitext(name.lower())
            if name.startswith("."):
                continue
            if suffix == ".mp4":
                number = stem if stem.isdecimal() else inside.name
                if number.isdecimal() and not re.fullmatch(r"\d+_\d+", stem):
                    media.videos.setdefault(int(number), path)
                else:
                    media.clips.setdefault(name, path)
            elif match := _POSE.match(name):
                better = match[2] is not None  # 137 points rather than 35
                if better and not media.poses.get(int(match[1]), "").endswith(".xlsx"):
                    media.poses[int(match[1])] = path
                media.poses.setdefault(int(match[1]), path)
            elif match := _LABEL.match(name):
                media.labels.setdefault(int(match[1]), path)
            elif suffix in (".pkl", ".pickle"):
                media.pickles.append(path)
            elif suffix in (".csv", ".txt", ".npy"):
                media.others.append(path)
    return media


def labelled(request: Request, media: Media) -> tuple[Labels, dict[str, tuple[str, int]]]:
    """What the label files say; of the kit's arrays, per clip its skeleton and how many frames it has."""
    root, chosen = request.root, request.options
    full = [path for path in media.others if _FULL.match(Path(path).name) and not imigue_labels.is_list(root / path)]
    if len(full) > 1:
        raise UserError(f"{root}: two label files, {full[0]} and {full[1]}", "Keep one of them")
    if full:
        return imigue_labels.full(root / full[0], chosen.first_frame), {}
    named = [root / path for path in media.others if Path(path).name.lower() in _OUTCOMES]
    outcomes = [path for path in named if imigue_labels.is_outcomes(path)]
    if media.labels or outcomes:
        files = {video: root / path for video, path in sorted(media.labels.items())}
        return imigue_labels.challenge(files, outcomes, chosen.won), {}
    texts = [root / path for path in media.others if not path.endswith(".npy")]
    lists = [path for path in texts if imigue_labels.is_list(path)]
    kits = [path for path in media.others if _KIT.match(Path(path).name)]
    if media.pickles and not (lists and len(kits) <= len(lists)):
        raise UserError(
            f"{root / media.pickles[0]}: a pickle, which runs whatever is in it when it is opened",
            "Write its names and labels as a CSV 'sample,label', and arrays as .npy, where you trust it",
        )
    if not lists:
        raise UserError(
            f"{root}: neither labels_20200831.csv, nor 0001_label.csv, nor a list of clips and labels",
            "Unpack the data set, or the archives of the MiGA challenge, there",
        )
    if not kits:
        return imigue_labels.label_list(lists, chosen.labels), {}
    return _kit(request, kits, lists)


def _kit(request: Request, kits: Sequence[str], lists: Sequence[Path]) -> tuple[Labels, dict[str, tuple[str, int]]]:
    """Arrays of the kit, each with its list `..._label.csv` in the same order."""
    ready: dict[str, tuple[str, int]] = {}
    used: list[Path] = []
    sides: set[str] = set()
    for kit in kits:
        match = _KIT.match(Path(kit).name)
        assert match is not None
        own = [
            path for path in lists if path.stem.lower() in (f"{match[1]}_label".lower(), f"{match[1]}_labels".lower())
        ]
        if not own:
            raise UserError(f"{request.root / kit}: no list of its clips", f"Write {match[1]}_label.csv: sample,label")
        target, reference = request.beside(f"skeletons/{match[1]}.npz")
        lengths, side = imigue_pose.kit_sequences(request.root / kit, target, request.options.first_hand)
        names = [gesture.name for gesture in imigue_labels.label_list(own[:1], request.options.labels).gestures]
        if len(names) != len(lengths):
            raise UserError(f"{own[0]}: {len(names)} rows for {len(lengths)} clips of {kit}", "Restore the list")
        ready |= {n: (f"{reference}#skeleton[{row}]", lengths[row]) for row, n in enumerate(names)}
        used.append(own[0])
        sides |= {side} - {None}  # type: ignore[arg-type]
    labels = imigue_labels.label_list(used, request.options.labels)
    labels.facts["hand_first_in_file"] = "/".join(sorted(sides)) or None
    return labels, ready


def probed(request: Request, media: Media, prepared: Prepared) -> dict[int, MediaInfo]:
    """Length and sound of every interview; there are hundreds of them, and thousands of clips."""

    def look(path: str) -> MediaInfo | UserError:
        try:
            return probe(request.root / path)
        except UserError as error:
            return error

    infos: dict[int, MediaInfo] = {}
    with ThreadPoolExecutor(8) as pool:
        found = tqdm(pool.map(look, media.videos.values()), "videos", len(media.videos), leave=False)
        for video, info in zip(list(media.videos), found, strict=True):
            if isinstance(info, UserError):
                leave_out(request, prepared, f"{video:04d}.mp4", info)
                del media.videos[video]
            else:
                infos[video] = info
    other = [f"{v:04d} ({i.fps:g})" for v, i in sorted(infos.items()) if i.fps and abs(i.fps - RATE) > 0.01]
    if other:
        prepared.notes.append(
            f"{len(other)} video(s) do not have {RATE:g} frames per second, by which frames of the labels become seconds:"
            f" {', '.join(other[:5])}{' ...' if len(other) > 5 else ''}"
        )
    return infos


def leave_out(request: Request, prepared: Prepared, name: str, error: UserError) -> None:
    if not request.skip_errors:
        raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
    prepared.left_out[name] = str(error)


def skeletons_of(request: Request, media: Media, prepared: Prepared) -> dict[str, tuple[str, int]]:
    """Per video, by its four digits, the reference of its converted skeleton and the number of frames."""
    chosen = request.options
    if chosen.no_skeletons or not media.poses:
        return {}
    jobs, stems = [], dict[str, int]()
    for video, path in sorted(media.poses.items()):
        stem = Path(media.videos[video]).stem if video in media.videos else f"{video:04d}"
        if stems.setdefault(stem, video) != video:
            raise UserError(f"{request.root}: two videos are called {stem}.mp4", "Call each by its number")
        faces = request.out / f"faces/{stem}.csv" if path.endswith(".xlsx") else None
        array, _ = request.beside(f"skeletons/{video:04d}.npz")
        jobs.append(Job(video, request.root / path, array, faces, chosen.joints))
    workers = imigue_pose.default_workers() if chosen.workers is None else chosen.workers
    if workers < 1:
        raise UserError(f"--workers {workers}", "Give at least 1")
    poses: list[Pose] = []
    for done in imigue_pose.converted(jobs, workers, chosen.first_hand):
        if isinstance(done, Pose):
            poses.append(done)
        else:
            job, error = done
            leave_out(request, prepared, job.source.name, error)
    first, notes = imigue_pose.settle(poses, chosen.first_hand)
    prepared.notes += notes
    prepared.facts |= _pose_facts(poses, first)
    if empty := [f"{pose.job.video:04d}" for pose in poses if not pose.frames]:
        prepared.notes.append(f"empty pose files: {', '.join(empty)}")
    if failed := sum(pose.failed for pose in poses):
        rows = sum(pose.frames for pose in poses)
        prepared.notes.append(f"OpenPose found nobody in {failed} of {rows} frames; there the skeleton is absent")
    return {
        f"{p.job.video:04d}": (f"{BESIDE}skeletons/{p.job.video:04d}.npz#skeleton", p.frames) for p in poses if p.frames
    }


def _pose_facts(poses: Sequence[Pose], first: str | None) -> dict[str, object]:
    measured = [pose for pose in poses if pose.measured]
    frames = sum(pose.measured for pose in measured)

    def mean(values: Iterator[float]) -> float | None:
        return round(sum(values) / frames, 2) if frames else None

    return {
        "hand_first_in_file": first,
        "pixels_if_left_is_first": mean(p.straight * p.measured for p in measured),
        "pixels_if_right_is_first": mean(p.crossed * p.measured for p in measured),
        "frames_measured": frames,
        "pose_files": len(poses),
    }
