"""Examining every file once: in child processes, several at a time, with a cache that outlives an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from mer.analysis.doctor.cells import Use
from mer.analysis.doctor.exam import VERSION, Exam, Item
from mer.errors import UserError
from mer.media.guard import abandon, called
from mer.media.pictures import picture_folder, plain
from mer.spec import Face

CACHE = "doctor_cache.jsonl"


@dataclass(frozen=True)
class Job:
    """One file, and the uses that are made of it: (reference, start, end or None)."""

    kind: str
    root: Path
    path: Path
    items: tuple[tuple[str, float, float | None], ...]


@dataclass
class Ward:
    """What is known of the files of some manifests.

    Attributes:
        exams: by kind and path.
        missing: paths that are not there.
        places: number of an item in its exam, by kind, path and what identifies a use.
        state: size and time of change, by path.
    """

    exams: dict[tuple[str, Path], Exam] = field(default_factory=dict)
    missing: set[Path] = field(default_factory=set)
    places: dict[tuple[str, Path, tuple[str, float, float | None]], int] = field(default_factory=dict)
    state: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def exam(self, use: Use) -> Exam | None:
        """Of the use's file; None where it is missing or was not looked into."""
        return self.exams.get((_kind(use), use.path))

    def item(self, use: Use) -> Item | None:
        """Of the use; None where its file is missing or cannot be read."""
        exam, place = self.exam(use), self.places.get((_kind(use), use.path, identity(use)))
        return None if exam is None or place is None or place >= len(exam.items) else exam.items[place]


def identity(use: Use) -> tuple[str, float, float | None]:
    """What of a file a use takes."""
    kind = _kind(use)
    if kind in ("features", "skeleton"):  # rows and sequences are taken whole
        return use.reference, 0.0, None
    return ("" if kind == "media" else use.reference), use.clip.start, use.clip.end


def _kind(use: Use) -> str:
    return "media" if use.kind in ("sound", "picture") else use.kind


def examined(
    root_uses: Iterable[tuple[Path, Sequence[Use]]], cache: Path, jobs: int, quick: bool, face: Face | None
) -> Ward:
    """Look into every file that is there.

    Args:
        root_uses: per manifest the corpus's root and its uses.
        cache: file of what is already known; added to as files are done.
        jobs: child processes.
        quick: only headers of media.
        face: look for faces with it.
    """
    ward, wanted = Ward(), dict[tuple[str, Path], tuple[Path, dict[tuple[str, float, float | None], None]]]()
    for root, uses in root_uses:
        for use in uses:
            if use.path not in ward.state and use.path not in ward.missing:
                state = _state(use.path)
                if state is None:
                    ward.missing.add(use.path)
                else:
                    ward.state[use.path] = state
            if use.path in ward.state and use.kind != "other":
                wanted.setdefault((_kind(use), use.path), (root, {}))[1].setdefault(identity(use))
    todo = [Job(kind, root, path, tuple(items)) for (kind, path), (root, items) in wanted.items()]
    for job in todo:
        for place, item in enumerate(job.items):
            ward.places[job.kind, job.path, item] = place
    _examine(ward, todo, cache, jobs, quick, face)
    return ward


def _examine(ward: Ward, todo: Sequence[Job], cache: Path, jobs: int, quick: bool, face: Face | None) -> None:
    known = _known(cache)
    keys = {job: _key(job, ward.state[job.path], quick, face) for job in todo}
    left: list[Job] = []
    for job in todo:
        if keys[job] in known:
            ward.exams[job.kind, job.path] = known[keys[job]]
        else:
            left.append(job)
    if not left:
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(todo), initial=len(todo) - len(left), desc="doctor", unit="file", leave=False)
    pool = ThreadPoolExecutor(jobs)
    with bar, cache.open("a", encoding="utf-8") as file:
        waiting: dict[Future[Exam], Job] = {}
        queue = iter(left)
        try:
            while True:
                for job in queue:
                    waiting[pool.submit(_one, job, quick, face)] = job
                    if len(waiting) >= 4 * jobs:  # a queue of its own would go on after Ctrl-C
                        break
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    job = waiting.pop(future)
                    exam = future.result()
                    ward.exams[job.kind, job.path] = exam
                    _remember(file, keys[job], exam)
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            abandon()
            raise
        pool.shutdown()


def _one(job: Job, quick: bool, face: Face | None) -> Exam:
    arguments: dict[str, Any] = {
        "kind": job.kind, "root": str(job.root), "path": str(job.path.absolute()), "items": job.items, "quick": quick,
        "face": None if face is None else vars(face),
    }  # fmt: skip
    try:
        return Exam.from_dict(called("mer.analysis.doctor.exam:examine", arguments, str(job.path)))
    except UserError as error:
        return Exam(problem=error.problem)


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file or a folder of pictures; None where it is not there."""
    try:
        about = path.stat()
    except OSError:
        pass
    else:
        return about.st_size, about.st_mtime_ns
    try:
        folder = picture_folder(path)
        return None if folder is None else folder.state()
    except UserError:  # a folder without pictures is there, and its exam will say what is wrong
        here = plain(path)
        return (0, here.stat().st_mtime_ns) if here.is_dir() else None


def _key(job: Job, state: tuple[int, int], quick: bool, face: Face | None) -> str:
    asked = [
        VERSION,
        job.kind,
        str(job.path.absolute()),
        *state,
        quick,
        None if face is None else vars(face),
        job.items,
    ]
    return hashlib.blake2b(json.dumps(asked).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _known(cache: Path) -> dict[str, Exam]:
    """Exams of earlier runs; a line that is damaged (say, of a run that was killed) counts as not there."""
    found: dict[str, Exam] = {}
    try:
        with cache.open(encoding="utf-8") as file:
            for line in file:
                try:
                    entry: Mapping[str, Any] = json.loads(line)
                    found[str(entry["key"])] = Exam.from_dict(entry["exam"])
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue
    except (OSError, UnicodeDecodeError):
        pass
    return found


def _remember(file: TextIO, key: str, exam: Exam) -> None:
    """One line. The newline in front ends the last one of a run that was killed."""
    file.write(f"\n{json.dumps({'key': key, 'exam': exam.to_dict()})}\n")
    file.flush()


def content(path: Path, size: int) -> str:
    """Hash of a file's bytes, or of all pictures of a folder; of no use beyond comparing files of one size."""
    hasher = hashlib.blake2b(str(size).encode(), digest_size=16)
    folder = None if path.is_file() else picture_folder(path)
    for part in [path] if folder is None else [folder.folder / name for name in folder.names]:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    return hasher.hexdigest()
