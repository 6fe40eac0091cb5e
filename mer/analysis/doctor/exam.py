"""What is learnt of one file in a child process: everything of it is really decoded, once, in constant memory.

`examine` is called by name through `mer.media.guard.called`; what it answers is plain JSON, and kept in the cache.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mer.analysis.doctor import prints
from mer.errors import NothingThereError, UserError
from mer.media import audio, features, gaze_files, skeleton_files, text, video
from mer.media.frame import Frame
from mer.media.packets import packet_index
from mer.media.pictures import picture_folder
from mer.media.probe import length, probe
from mer.media.table import read_text
from mer.spec import Face, InputSpec

VERSION = 1  # of what is learnt; another number makes every cached exam anew
MOST = 600.0  # seconds of sound that a fingerprint is made of
BLOCK = 800  # samples: 50 ms, of which the loudest tells whether a sound is silent
FULL = 0.985  # of full scale, from which on a sample counts as clipped
EVEN = 0.25  # share of the usual distance by which one between frames may differ: what rounding to milliseconds does
GAP = (3.0, 0.25)  # usual distances, and seconds, above which one is a gap
GAZE = (("gaze_x", "gaze_y", "valid"), ("pupil", "valid"), ("openness", "valid"))


@dataclass
class Item:
    """What was learnt of one use of a file.

    Attributes:
        problem: why there is nothing.
        seconds: that a clip really lasts.
        frames: that it shows, or rows, or words.
        level: dB of full scale of the loudest 50 ms; None without sound, -200 of digital silence.
        clipped: share of samples at full scale.
        flat: the sound, or a row of features, is one and the same number.
        contrast, change: grey levels: the greatest standard deviation within a thumbnail, and the greatest difference
            between two; None without picture.
        looked, faces: pictures in which faces were looked for, and those with one.
        width: columns of a row.
        lost: share of frames or samples without a body or gaze.
        digest: of the content, where it is numbers, and more than a code of two different ones.
        thumbs, votes: fingerprints, see `prints`; base64.
    """

    problem: str = ""
    seconds: float = 0.0
    frames: int = 0
    level: float | None = None
    clipped: float = 0.0
    flat: bool = False
    contrast: float | None = None
    change: float | None = None
    looked: int = 0
    faces: int = 0
    width: int = 0
    lost: float = 0.0
    digest: str = ""
    thumbs: str = ""
    votes: str = ""


@dataclass
class Exam:
    """What was learnt of one file.

    Attributes:
        problem: why it cannot be read.
        length, stated: seconds by its packets, and by its header.
        has_picture, has_sound: streams that can be decoded.
        size: (width, height) of the picture; (0, 0) where unknown.
        frames, promised: pictures that decode, and that the packets promise.
        sound: seconds of sound that decode; nan where not listened to.
        fps: pictures per second by the median of their distances; 0 where unknown.
        uneven: share of distances that differ from the median by more than `EVEN`.
        gaps: number of gaps, and the longest one's (time, seconds).
        cut_off: the file ends before its pictures do.
        items: per use.
    """

    problem: str = ""
    length: float = 0.0
    stated: float = 0.0
    has_picture: bool = False
    has_sound: bool = False
    size: tuple[int, int] = (0, 0)
    frames: int = 0
    promised: int = 0
    sound: float = math.nan
    fps: float = 0.0
    uneven: float = 0.0
    gaps: int = 0
    gap: tuple[float, float] = (0.0, 0.0)
    cut_off: bool = False
    items: list[Item] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = asdict(self)
        plain["sound"] = None if math.isnan(self.sound) else self.sound
        plain["size"], plain["gap"] = list(self.size), list(self.gap)
        # Most of an item is as it is by default.
        plain["items"] = [{k: v for k, v in i.items() if v != _BLANK[k]} for i in plain["items"]]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Exam:
        """The inverse; `TypeError`, `KeyError` or `ValueError` where it is not one."""
        values = dict(plain)
        values["sound"] = math.nan if values["sound"] is None else float(values["sound"])
        values["size"], values["gap"] = tuple(values["size"]), tuple(values["gap"])
        values["items"] = [Item(**item) for item in values["items"]]
        return cls(**values)


_BLANK = asdict(Item())


def examine(
    kind: str,
    root: str,
    path: str,
    items: Sequence[Sequence[Any]],
    quick: bool = False,
    face: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Look at one file.

    Args:
        kind: see `cells.Kind`; sound and picture are `media`.
        root: of the corpus.
        path: the file, or a folder of pictures with its `#25`.
        items: per use (reference, start, end or None).
        quick: of media only the header.
        face: `mer.spec.Face` as a dict: look for faces.

    Returns:
        `Exam.to_dict`.

    Raises:
        UserError: the file cannot be read at all.
    """
    if kind == "media":
        stretches = [(float(start), None if end is None else float(end)) for _, start, end in items]
        exam = _media(Path(path), Path(root), stretches, quick, None if face is None else Face.from_dict(face))
    else:
        look = {"features": _rows, "text": _words, "skeleton": _bodies, "gaze": _gaze}[kind]
        exam = Exam(items=[_tried(look, Path(root), *item) for item in items])
        problems = {item.problem for item in exam.items}
        if len(problems) == 1:
            exam.problem = problems.pop()
    return exam.to_dict()


def _tried(look: Any, root: Path, reference: str, start: float, end: float | None) -> Item:
    try:
        item: Item = look(root, reference, start, end)
        return item
    except NothingThereError:
        return Item()
    except UserError as error:
        return Item(problem=error.problem)
    except Exception as error:  # whatever a parser stumbles over
        return Item(problem=f"{reference}: {type(error).__name__}: {error}")


# -- files of numbers and words -----------------------------------------------------------------------------------------


def _rows(root: Path, reference: str, start: float, end: float | None) -> Item:
    values = features.load(root, reference, None)
    flat = bool((values == values.flat[0]).all())
    # A one-hot code is shared by all that it stands for: it is no recording, and its equal no copy.
    digest = "" if len(np.unique(values)) <= 2 else _digest(values)
    return Item(frames=len(values), width=values.shape[1], flat=flat, digest=digest)


def _words(root: Path, reference: str, start: float, end: float | None) -> Item:
    file = root / features.split_reference(reference)[0]
    if file.suffix.lower() not in (".xlsx", ".xlsm"):
        read_text(file)  # refuses what is no text at all
    return Item(frames=len(text.load(root, reference, InputSpec("text", width=64), start, end)))


def _bodies(root: Path, reference: str, start: float, end: float | None) -> Item:
    # Frames divide one second evenly, so the width of a span tells their number.
    found = skeleton_files.load(root, reference, InputSpec("pose", backend="file"), 0.0, 1.0)
    if not len(found):
        return Item(lost=1.0)
    count = round(1 / float(found.spans[0, 1] - found.spans[0, 0]))
    return Item(frames=count, lost=1 - len(found) / count, digest=_digest(found.values))


def _gaze(root: Path, reference: str, start: float, end: float | None) -> Item:
    trouble: UserError | None = None
    for names in GAZE:
        try:
            found = gaze_files.load(root, reference, InputSpec("eye", backend="file", columns=names), start, end)
            return Item(frames=len(found), lost=1 - float(found.values[:, -1].mean()), digest=_digest(found.values))
        except UserError as error:
            trouble = trouble or error
    assert trouble is not None
    raise trouble


def _digest(values: np.ndarray) -> str:
    return hashlib.blake2b(
        np.ascontiguousarray(values).tobytes() + str(values.shape).encode(), digest_size=12
    ).hexdigest()


# -- sound and picture --------------------------------------------------------------------------------------------------


def _media(
    path: Path, root: Path, stretches: Sequence[tuple[float, float | None]], quick: bool, face: Face | None
) -> Exam:
    info, seconds = probe(path), length(path)
    exam = Exam(length=seconds, stated=info.duration, has_picture=info.has_video, has_sound=info.has_audio)
    exam.items = [Item(seconds=max(0.0, min(seconds if e is None else e, seconds) - s)) for s, e in stretches]
    if info.has_video:
        folder = picture_folder(path)
        if folder is None:
            index = packet_index(path)
            exam.cut_off = index.cut_off
            if quick and index.unsure is None:
                _timing(exam, index.times)
            exam.promised = len(index.stamps) if index.unsure is None else 0
        if quick:
            exam.fps = exam.fps or info.fps or 0.0
        else:
            _watch(path, exam, stretches, face, root)
            if folder is not None:
                exam.fps = folder.rate
    if info.has_audio and not quick:
        _listen(path, exam, stretches)
    claimed, there = _riff(path)
    if claimed > there > 0:  # FFmpeg takes the shorter of the two for the length
        exam.cut_off, exam.stated = True, seconds * claimed / there
    return exam


def _riff(path: Path) -> tuple[int, int]:
    """Of a .wav: bytes of sound that its header claims, and those that are there; zeros of anything else."""
    if not path.is_file():
        return 0, 0
    with path.open("rb") as file:
        head = file.read(1 << 16)
    at, size = 12, path.stat().st_size
    while head[:4] == b"RIFF" and head[8:12] == b"WAVE" and at + 8 <= len(head):
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"data":
            # A writer that never came back leaves 0 or the largest number.
            return (0, 0) if length in (0, 0x7FFFFFFF, 0xFFFFFFFF) else (length, size - at - 8)
        at += 8 + length + length % 2
    return 0, 0


def _timing(exam: Exam, times: np.ndarray) -> None:
    steps = np.diff(times)
    if not len(steps):
        return
    usual = float(np.median(steps))
    exam.fps = 1 / usual if usual > 0 else 0.0
    exam.uneven = float((np.abs(steps - usual) > EVEN * usual).mean())
    gaps = np.flatnonzero((steps > GAP[0] * usual) & (steps > GAP[1]))
    exam.gaps = len(gaps)
    if len(gaps):
        worst = int(gaps[steps[gaps].argmax()])
        exam.gap = (float(times[worst]), float(steps[worst]))


def _watch(
    path: Path, exam: Exam, stretches: Sequence[tuple[float, float | None]], face: Face | None, root: Path
) -> None:
    """Decode every picture; take thumbnails at the places of each clip."""
    ends = [min(exam.length if e is None else e, exam.length) for _, e in stretches]
    wanted = sorted(
        (float(second), clip, place)
        for clip, ((start, _), end) in enumerate(zip(stretches, ends, strict=True))
        if end > start
        for place, second in enumerate(prints.places(start, end))
    )
    thumbs = [np.full((prints.PLACES, *prints.GRID), -1, np.int16) for _ in stretches]
    finder = None
    if face is not None:
        from mer.media.detectors import detector

        finder = detector(face, path, root)
    times: list[float] = []
    due, last = 0, None
    for frame in video.frames(path):
        times.append(frame.time)
        if last is None:
            rows, columns = frame.rgb().shape[:2]
            exam.size = (columns, rows)
        while due < len(wanted) and wanted[due][0] < frame.until:
            _take(frame, wanted[due], thumbs, exam.items, finder)
            due += 1
        last = frame
    while last is not None and due < len(wanted):  # the sound goes on, or the file breaks off
        _take(last, wanted[due], thumbs, exam.items, finder)
        due += 1
    exam.frames = len(times)
    _timing(exam, np.asarray(times))
    shown = np.asarray(times)
    for (start, _), end, item, picture in zip(stretches, ends, exam.items, thumbs, strict=True):
        item.frames = int(((shown >= start - 1e-6) & (shown < end)).sum())
        if picture.min() >= 0:
            item.thumbs = base64.b64encode(picture.astype(np.uint8).tobytes()).decode()
            item.contrast = float(picture.std(axis=(1, 2)).max())
            item.change = float(np.ptp(picture, axis=0).max())


def _take(frame: Frame, wish: tuple[float, int, int], thumbs: list[np.ndarray], items: list[Item], finder: Any) -> None:
    _, clip, place = wish
    thumbs[clip][place] = frame.once("doctor", lambda: prints.thumbnail(frame.picture(prints.GRID, "none")))
    if finder is not None:
        items[clip].looked += 1
        items[clip].faces += bool(frame.once("doctor faces", lambda: finder.find(frame)))


def _listen(path: Path, exam: Exam, stretches: Sequence[tuple[float, float | None]]) -> None:
    """Decode all sound in pieces; each clip takes what is its own."""
    ears = [_Ear(round(s * prints.RATE), None if e is None else round(e * prints.RATE)) for s, e in stretches]
    at = 0
    try:
        for piece in audio.chunks(path, prints.RATE):
            for ear in ears:
                ear.hear(piece, at)
            at += len(piece)
    except NothingThereError:
        pass
    exam.sound = at / prints.RATE
    for ear, item in zip(ears, exam.items, strict=True):
        ear.tell(item)


class _Ear:
    """Listens to samples [first, last)."""

    def __init__(self, first: int, last: int | None):
        self.first, self.last = first, last
        self.held: list[np.ndarray] = []
        self.kept = self.count = self.full = 0
        self.power, self.low, self.high = 0.0, math.inf, -math.inf

    def hear(self, piece: np.ndarray, at: int) -> None:
        mine = piece[max(self.first - at, 0) : None if self.last is None else max(self.last - at, 0)]
        if not len(mine):
            return
        if self.kept < MOST * prints.RATE:
            self.held.append(mine)
            self.kept += len(mine)
        self.count += len(mine)
        self.full += int((np.abs(mine) >= FULL).sum())
        self.low, self.high = min(self.low, float(mine.min())), max(self.high, float(mine.max()))
        blocks = mine[: max(len(mine) // BLOCK, 1) * BLOCK]
        blocks = blocks.reshape(-1, BLOCK) if len(blocks) >= BLOCK else blocks[None]
        self.power = max(self.power, float(np.square(blocks).mean(1).max()))

    def tell(self, item: Item) -> None:
        if not self.count:
            return
        item.level = max(10 * math.log10(self.power), -200.0) if self.power > 0 else -200.0
        item.clipped, item.flat = self.full / self.count, self.low == self.high
        votes = prints.heard(np.concatenate(self.held))
        item.votes = "" if votes is None else base64.b64encode(votes.tobytes()).decode()
