"""Files that are missing, broken, silent, still, of another speed or size than the rest, or shorter than the manifest says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer.analysis.doctor.case import Case
from mer.analysis.doctor.cells import Use
from mer.analysis.doctor.exam import Exam, Item
from mer.analysis.doctor.findings import Finding, found
from mer.media.pictures import plain

# Containers whose header only estimates how long they are.
ESTIMATED = {".mpg", ".mpeg", ".mp3", ".ts", ".vob", ".aac", ".flv"}
SHORTER = (0.25, 0.03)  # seconds, and share of the stated length, by which a file may fall short of it
SILENT = -60.0  # dB of full scale: the loudest 50 ms of a silent clip are weaker
CLIPPED = 0.005  # share of samples at full scale
UNEVEN = 0.02  # share of distances between frames that are not the usual one
SPEED = 0.02  # share by which frames per second may differ
BEYOND = (0.1, 1.5)  # seconds, and frames, by which a clip may end after its file: a rounded last frame
BLANK, STILL = 3.0, 2.5  # grey levels: a picture without anything on it, and one in which nothing changes
USUAL = 0.6  # share of files that must agree before others are outliers
FEW = 4  # files, below which nothing is usual
LOST = 0.5  # share of frames or samples


@dataclass(frozen=True)
class Limits:
    """What the user can set.

    Attributes:
        frames: a clip with fewer is too short.
        fps: what the corpus has; None takes the usual one.
    """

    frames: int = 8
    fps: float | None = None


def check(case: Case, limits: Limits) -> list[Finding]:
    """All findings about files."""
    parts = (presence, reading, streams, sound, timing, stretches, pictures, numbers)
    findings = [finding for part in parts for finding in part(case)]
    return findings + speed(case, limits.fps) + short(case, limits.frames)


def presence(case: Case) -> list[Finding]:
    """Files that are not there; said once where none of a column is."""
    findings = []
    for column in sorted(case.absent):
        uses = case.by_column[column]
        findings += found(
            f"media.absent.{column}", "note", f"files of column {column!r} are not here: lists only", "file",
            _once(uses), f"To check them, get the recordings or correct 'root' ({case.manifest.corpus.root})",
        )  # fmt: skip
    gone = _once([u for u in case.uses if u.path in case.ward.missing and u.column not in case.absent])
    return findings + found(
        "media.missing", "error", "files are missing", "file", gone,
        "Copy them, correct their names, or empty the cells; then prepare again",
    )  # fmt: skip


def reading(case: Case) -> list[Finding]:
    """Files that cannot be read, break off, or have damaged pictures."""
    broken: dict[tuple[str, Path], list[str]] = {}
    for use in case.uses:
        exam, item = case.ward.exam(use), case.ward.item(use)
        problem = exam.problem if exam is not None and exam.problem else item.problem if item is not None else ""
        if problem and "are NaN or infinite" not in problem:
            media = use.kind in ("sound", "picture")
            key = (_group(use.kind), use.path if media else Path(use.reference))
            broken.setdefault(key, []).append(f"line {use.clip.row}, {use.column}: {_short(problem, case)}")
    findings = []
    for kind in dict.fromkeys(kind for kind, _ in broken):
        findings += found(
            f"{kind}.unreadable", "error", f"{_KIND[kind]} cannot be read", "file",
            [lines[0] for (k, _), lines in broken.items() if k == kind], "Download, convert or extract them again",
        )  # fmt: skip
    cut = [
        f"{use.where} ({exam.length:.1f} of {exam.stated:.1f} s)"
        for use, exam in case.files
        if exam.cut_off or _falls_short(use.path, exam)
    ]
    damaged = [
        f"{use.where} ({exam.promised - exam.frames} of {exam.promised} pictures)"
        for use, exam in case.files
        if exam.promised - exam.frames > max(1, 0.01 * exam.promised) and not case.quick
    ]
    return [
        *findings,
        *found("media.truncated", "error", "files break off", "file", cut, "Download them again"),
        *found(
            "media.damaged", "warning", "pictures do not decode", "file", damaged, "Download or convert the files again"
        ),
    ]


def streams(case: Case) -> list[Finding]:
    """Sound or picture that the manifest counts on, and that the file has not."""
    deaf = [u.where for u, e, _ in case.read("sound") if not e.has_sound]
    mute = [
        u.where
        for u, e, i in case.read("sound")
        if e.has_sound and not case.quick and i.level is None and u.clip.start < e.length
    ]
    blind = [u.where for u, e, _ in case.read("picture") if not e.has_picture]
    remedy = "Empty the cells: the clip is then used without this modality"
    return [
        *found("media.no_sound", "error", "files named as sound have none", "file", deaf, remedy),
        *found("media.sound_ends", "warning", "no sound in the clip, though in the file", "clip", mute, remedy),
        *found("media.no_picture", "error", "files named as video have no picture", "file", blind, remedy),
    ]


def sound(case: Case) -> list[Finding]:
    """Silence, a constant, and clipping."""
    heard = [(u, i) for u, e, i in case.read("sound", "picture") if e.has_sound and i.level is not None]
    heard = [(u, i) for u, i in heard if u.kind == "sound" or not _listed(case, u)]
    flat = [u.where for u, i in heard if i.flat and _level(i) > SILENT]
    silent = [f"{u.where} ({_level(i):.0f} dB)" for u, i in heard if _level(i) <= SILENT]
    clipped = [f"{u.where} ({100 * i.clipped:.1f} %)" for u, i in heard if i.clipped > CLIPPED and not i.flat]
    return [
        *found(
            "media.silent", "warning", "the sound is silent", "clip", silent,
            "Look for a better copy, or empty the cells of the sound",
        ),
        *found("media.constant", "warning", "the sound is one constant", "clip", flat, "Record or convert it again"),
        *found(
            "media.clipping", "warning", f"more than {100 * CLIPPED:g} % of the sound is at full scale", "clip", clipped,
            "Lower the gain where it was converted; what was recorded so stays so",
        ),
    ]  # fmt: skip


def timing(case: Case) -> list[Finding]:
    """A variable frame rate, and gaps."""
    seen = [(u, e) for u, e in case.files if e.has_picture]
    films = [(u, e) for u, e in seen if plain(u.path) == u.path]  # in a folder of pictures, numbers are missing instead
    vfr = [f"{u.where} ({100 * e.uneven:.0f} % of frames off {e.fps:.4g} fps)" for u, e in films if e.uneven > UNEVEN]
    gaps = [f"{u.where} ({e.gap[1]:.1f} s without a new picture at {e.gap[0]:.1f} s)" for u, e in seen if e.gaps]
    return [
        *found(
            "media.vfr", "warning", "the frame rate is variable", "file", vfr,
            "mer reads by presentation time and needs nothing; tools that count frames get out of step",
        ),
        *found("media.gaps", "warning", "the picture stands still in gaps", "file", gaps, "Check the recording there"),
    ]  # fmt: skip


def speed(case: Case, declared: float | None) -> list[Finding]:
    """Frames per second other than the usual, by column."""
    odd: list[str] = []
    usual: float | None = declared
    for group in _columns(case, lambda e: e.fps > 0 and e.uneven <= UNEVEN):
        usual = declared
        if declared is not None:  # folders of pictures say their own
            group = [(u, e) for u, e in group if plain(u.path) == u.path]
        if usual is None and len(group) >= FEW:
            rate, count = Counter(round(e.fps, 1) for _, e in group).most_common(1)[0]
            usual = rate if count >= USUAL * len(group) else None
        if usual is not None:
            odd += [f"{u.where} ({e.fps:.4g} fps)" for u, e in group if abs(e.fps - usual) > SPEED * usual]
    what = "declared one" if declared is not None else "usual one"
    return found(
        "media.fps", "warning", f"frames per second differ from the {what}", "file", odd,
        "Check that nothing was converted at a wrong rate: speech and movement would be too fast or too slow",
    )  # fmt: skip


def stretches(case: Case) -> list[Finding]:
    """Clips that begin or end after their file does."""
    late, long = [], []
    for use, exam, _ in case.read("sound", "picture"):
        clip, slack = use.clip, max(BEYOND[0], BEYOND[1] / exam.fps if exam.fps else 0.0)
        if clip.start >= exam.length:
            late.append(f"{use.where} (starts at {clip.start:g} s of {exam.length:.2f} s)")
        elif clip.end is not None and clip.end > exam.length + slack:
            long.append(f"{use.where} (ends at {clip.end:g} s of {exam.length:.2f} s)")
    remedy = "Compare the times with the file: another version of it, another clock, or seconds for milliseconds?"
    return [
        *found("media.start_beyond", "error", "clips start after the end of their file", "clip", late, remedy),
        *found("media.end_beyond", "warning", "clips end after the end of their file", "clip", long, remedy),
    ]


def short(case: Case, frames: int) -> list[Finding]:
    """Clips of few frames, or of a blink of sound."""
    if case.quick:
        return []
    few = [
        f"{u.where} ({i.frames} frames)" if e.has_picture else f"{u.where} ({i.seconds:.2f} s)"
        for u, e, i in case.read("sound", "picture")
        if u.clip.start < e.length and (i.frames < frames if e.has_picture and u.kind == "picture" else i.seconds < 0.1)
    ]
    return found(
        "media.short", "warning", f"clips have fewer than {frames} frames, or 0.1 s of sound", "clip", few,
        "Leave them out, or use an encoder that takes so few",
    )  # fmt: skip


def pictures(case: Case) -> list[Finding]:
    """Nothing to see, nothing that moves, nobody, or a picture of another size than the rest."""
    seen = [(u, e, i) for u, e, i in case.read("picture") if i.contrast is not None and i.change is not None]
    blank = [u.where for u, _, i in seen if _number(i.contrast) < BLANK]
    still = [
        u.where for u, _, i in seen if _number(i.contrast) >= BLANK and _number(i.change) < STILL and i.frames > FEW
    ]
    nobody = [u.where for u, _, i in seen if i.looked and not i.faces]
    return [
        *found("media.blank", "warning", "the picture is blank", "clip", blank, "Look at them; leave them out"),
        *found("media.still", "warning", "nothing moves in the picture", "clip", still, "Look at them: frozen?"),
        *found(
            "media.no_face", "warning", "no face was found", "clip", nobody,
            "Look at them with 'mer look'; a better detector may find one",
        ),
        *_sizes(case),
    ]  # fmt: skip


def _sizes(case: Case) -> list[Finding]:
    odd = []
    for group in _columns(case, lambda e: min(e.size) > 0):
        if len(group) < FEW:
            continue
        shape = np.array([e.size for _, e in group], float)
        side, turned = np.sqrt(shape.prod(1)), shape[:, 0] < shape[:, 1]
        usual, upright = float(np.median(side)), float(turned.mean())
        for (use, exam), here, stands in zip(group, side, turned, strict=True):
            alone = (stands and upright < 0.1) or (not stands and upright > 0.9)
            if not usual / 2 < here < usual * 2 or (alone and exam.size[0] != exam.size[1]):
                odd.append(f"{use.where} ({exam.size[0]} x {exam.size[1]})")
    return found(
        "media.size", "warning", "the picture is of another size or turned another way than the rest", "file", odd,
        "Look at them: turned by 90 degrees, a thumbnail, or another camera?",
    )  # fmt: skip


def numbers(case: Case) -> list[Finding]:
    """Words, rows of features, skeletons and gaze."""
    items = [(u, i) for u, _, i in case.read("features", "text", "skeleton", "gaze")]
    broken = [
        f"line {u.clip.row}, {u.column}: {_short(i.problem, case)}"
        for u in case.uses
        if u.kind == "features" and (i := case.ward.item(u)) is not None and "are NaN or infinite" in i.problem
    ]
    wordless = [u.where for u, i in items if u.kind == "text" and not i.frames]
    flat = [u.where for u, i in items if u.kind == "features" and i.flat and i.width > 1]
    wide: list[str] = []
    for column in dict.fromkeys(u.column for u, _ in items if u.kind == "features"):
        mine = [(u, i) for u, i in items if u.column == column]
        usual = Counter(i.width for _, i in mine).most_common(1)[0][0]
        wide += [f"{u.where} ({i.width} columns where {usual} are usual)" for u, i in mine if i.width != usual]
    bodies = [f"{u.where} ({100 * i.lost:.0f} %)" for u, i in items if u.kind == "skeleton" and i.lost > LOST]
    eyes = [f"{u.where} ({100 * i.lost:.0f} %)" for u, i in items if u.kind == "gaze" and i.lost > LOST]
    return [
        *found("text.empty", "warning", "the text has no words", "clip", wordless, "Transcribe again, or empty the cells"),
        *found("features.nan", "error", "features are NaN or infinite", "clip", broken, "Extract them again"),
        *found("features.width", "error", "features are of another width", "clip", wide, "Extract all with one setting"),
        *found("features.constant", "warning", "all numbers of the features are one", "clip", flat, "Extract them again"),
        *found(
            "skeleton.lost", "warning", f"no body in more than {100 * LOST:g} % of the frames", "clip", bodies,
            "Look at the video; extract again with another tracker, or leave them out",
        ),
        *found(
            "gaze.lost", "warning", f"no gaze in more than {100 * LOST:g} % of the samples", "clip", eyes,
            "Check the calibration and the clock; leave them out",
        ),
    ]  # fmt: skip


_KIND = {"media": "media", "features": "features", "text": "texts", "skeleton": "skeletons", "gaze": "gaze recordings"}


def _once(uses: Sequence[Use]) -> list[str]:
    """Where each file is used first."""
    return [use.where for use in {use.path: use for use in reversed(uses)}.values()][::-1]


def _group(kind: str) -> str:
    return "media" if kind in ("sound", "picture") else kind


def _columns(case: Case, fits: Callable[[Exam], bool]) -> list[Sequence[tuple[Use, Exam]]]:
    """Files with a picture that fit, by column."""
    groups: dict[str, dict[Path, tuple[Use, Exam]]] = {}
    for use, exam, _ in case.read("picture"):
        if exam.has_picture and fits(exam):
            groups.setdefault(use.column, {}).setdefault(use.path, (use, exam))
    return [list(group.values()) for group in groups.values()]


def _falls_short(path: Path, exam: Exam) -> bool:
    if path.suffix.lower() in ESTIMATED:
        return False
    return exam.stated - exam.length > max(SHORTER[0], SHORTER[1] * exam.stated)


def _listed(case: Case, use: Use) -> bool:
    """Whether some column names this row's sound: then that of its picture's file is of no interest."""
    return any(other.kind == "sound" for other in case.by_row[use.clip.row])


def _level(item: Item) -> float:
    return -200.0 if item.level is None else item.level


def _number(value: float | None) -> float:
    assert value is not None
    return value


def _short(problem: str, case: Case) -> str:
    """A message with the file's name below the root."""
    return " ".join(problem.replace(f"{case.manifest.corpus.root}/", "").split())[:160]
