"""What BAH's annotators wrote: `video_annotation_transcript.yaml` (91 MB), or `annotation.yml` of ABAW-8, read once and kept.

Nine tenths of the file is one list per video with the name and the label of every frame. Where it stands in the form that the
authors' program writes, these lists are taken out by their lines, and the YAML parser reads what is left: a few megabytes.
A list in any other form goes through the parser like the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mer.datasets.corpora import bah_names, bah_yaml
from mer.datasets.corpora.bah_transcripts import Chunk
from mer.errors import UserError
from mer.files import draft_of

FILES = ("video_annotation_transcript.yaml", "video_annotation.yaml", "annotation.yml", "annotation.yaml")
CUES = ("audio", "body", "facial", "inconsistencies", "language")
_FORM = 1  # of what is kept; another number makes kept files of old stale


@dataclass(frozen=True)
class FrameLabels:
    """Labels of single frames.

    Attributes:
        number: (F,) int32 rising, in names of frames: `frame-12.jpg`.
        present: (F,) uint8, 1 where ambivalence or hesitancy shows.
    """

    number: np.ndarray
    present: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """One video as it was annotated.

    Attributes:
        key: of its name, see `bah_names.Name`.
        spelling: its name as the file spells it.
        where: file and spelling, for messages.
        present: 1 or 0; None where it is not told.
        segments: seconds (start, end) in which ambivalence or hesitancy shows.
        cues: per segment what shows it, by channel (`CUES`); empty ones are left out.
        annotator: who annotated it.
        certainty: per segment, as written.
        chunks: what was said, with the recogniser's times as written.
        text: what was said, whole.
        frames: labels of frames; None where there are none.
    """

    key: str
    spelling: str
    where: str
    present: int | None = None
    segments: tuple[tuple[float, float], ...] = ()
    cues: tuple[dict[str, list[str]], ...] = ()
    annotator: str = ""
    certainty: tuple[str, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    text: str = ""
    frames: FrameLabels | None = field(default=None, compare=False)


def read(path: Path, keep: Path) -> dict[str, Annotation]:
    """Annotations by key, from the file or from what an earlier reading of the same file kept.

    Args:
        path: the YAML.
        keep: .npz to keep them in; it is used where size and time of the YAML are those it was made of.

    Raises:
        UserError: not readable, or it contradicts itself.
    """
    state = path.stat()
    made_of = json.dumps([_FORM, path.name, state.st_size, state.st_mtime_ns])
    kept = _kept(keep, made_of)
    if kept is None:
        kept = parse(path)
        _keep(keep, made_of, kept)
    return kept


# -- the file -----------------------------------------------------------------------------------------------------------

# Of any indentation, at whichever end of line. The path may be quoted; a line that was folded does not match.
_FRAMES = re.compile(
    rb"^(?P<indent> *)frame_annotation:(?P<list>[ ]*\r?\n(?:(?P=indent) {0,4}- - [^\n]+\n *- [01]\r?\n)+)", re.MULTILINE
)
_LINE = re.compile(rb"""- - (['"]?)([^\n]+)/frame-(\d+)\.(?:jpe?g|png)\1\r?\n *- ([01])""")


def parse(path: Path) -> dict[str, Annotation]:
    """Annotations by key, from the YAML itself.

    Raises:
        UserError: as `read`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "Check its permissions") from None
    rest, frames = _without_frames(text, path)
    del text
    found: dict[str, Annotation] = {}
    with tqdm(total=len(frames) or None, desc=path.name, leave=False) as bar:
        for spelling, content in bah_yaml.entries(rest, path):
            where = f"{path}, {spelling!r}"
            key = bah_names.name_of(spelling, where).key
            if key in found:
                raise UserError(f"{where}: the same video as {found[key].where}", "Remove one of the two")
            found[key] = _annotation(key, spelling, where, content, frames.pop(key, None))
            bar.update()
    if frames:
        raise UserError(
            f"{path}: labels of frames of {next(iter(frames))!r} stand under another video", "Restore the file"
        )
    return found


def _without_frames(text: bytes, path: Path) -> tuple[bytes, dict[str, FrameLabels]]:
    """The file without the lists of frames, and these by video."""
    frames: dict[str, FrameLabels] = {}
    rest: list[bytes] = []
    at = 0
    with tqdm(total=len(text), desc=path.name, unit="B", unit_scale=True, leave=False) as bar:
        for match in _FRAMES.finditer(text):
            lines = _LINE.findall(match["list"])
            videos = {line[1] for line in lines}
            if len(videos) == 1 and 2 * len(lines) + 1 == match["list"].count(b"\n"):
                name = bah_names.name_of(videos.pop().decode("utf-8", "replace"), f"{path}, frame_annotation")
                if name.key in frames:
                    raise UserError(f"{path}: two lists of frames of {name.key!r}", "Remove one of the two")
                number = np.array([line[2] for line in lines], np.bytes_).astype(np.int32)
                present = np.array([line[3] for line in lines], np.bytes_).astype(np.uint8)
                frames[name.key] = in_order(number, present, f"{path}, {name.key}")
                rest += [text[at : match.start("list")], b"\n"]
                at = match.end()
            bar.update(match.end() - bar.n)
    rest.append(text[at:])
    return b"".join(rest), frames


def in_order(number: np.ndarray, present: np.ndarray, where: str) -> FrameLabels:
    """Labels in the order of their frames' numbers.

    Raises:
        UserError: one frame has two labels.
    """
    order = np.argsort(number, kind="stable")
    number, present = number[order].astype(np.int32), present[order].astype(np.uint8)
    twice = np.flatnonzero((number[1:] == number[:-1]) & (present[1:] != present[:-1]))
    if twice.size:
        raise UserError(f"{where}: frame {number[twice[0]]} has the labels 0 and 1", "Restore the file")
    once = np.ones(len(number), bool)
    once[1:] = number[1:] != number[:-1]
    return FrameLabels(number[once], present[once])


# -- one video ----------------------------------------------------------------------------------------------------------


def _annotation(key: str, spelling: str, where: str, content: Any, frames: FrameLabels | None) -> Annotation:
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: no mapping of fields", "Restore the file")
    try:
        transcript = content.get("transcript")
        said = transcript if isinstance(transcript, Mapping) else {"text": transcript}
        return Annotation(
            key,
            spelling,
            where,
            _binary(content.get("global_ah")),
            tuple((seconds(a), seconds(b)) for a, b in content.get("time_detailed_ah") or ()),
            tuple(_cues(segment) for segment in content.get("all_cues") or ()),
            str(content.get("annotator_id") or ""),
            tuple(str(n) for n in _listed(content.get("certainty_ah"))),
            tuple(Chunk.of(chunk) for chunk in said.get("chunks") or ()),
            str(said.get("text") or ""),
            frames or _frames(content.get("frame_annotation"), key, where),
        )
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise UserError(f"{where}: {error}", "Restore the file; the fields are those of the BAH release") from None


def seconds(value: object) -> float:
    """Of a number, or of `HH:MM:SS.mmm`."""
    if isinstance(value, str):
        total = 0.0
        for part in value.strip().split(":"):
            total = 60 * total + float(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        total = float(value)
    else:
        raise ValueError(f"{str(value)[:80]!r} is no time")
    if not 0 <= total < 1e6:
        raise ValueError(f"{str(value)[:80]!r} is no time")
    return total


def _binary(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError(f"global_ah is {str(value)[:80]!r}, where 1 is presence and 0 is absence")
    return int(value)


def _cues(segment: Any) -> dict[str, list[str]]:
    """Channel -> cues, in their order. Values are words or lists of words: nothing deeper is walked into."""
    found: dict[str, list[str]] = {}
    for channel, value in (segment or {}).items():
        words = [_word(v) for v in _listed(value) if v is not None]
        if words:
            found[str(channel)] = words
    return found


def _listed(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        raise ValueError("a cue is a word or a list of words")
    return str(value)


def _frames(entries: Any, key: str, where: str) -> FrameLabels | None:
    """A list of frames that went through the YAML parser."""
    if not entries:
        return None
    numbers, labels = [], []
    for path, label in entries:
        number = bah_names.frame_number(str(path))
        if number is None or label not in (0, 1) or isinstance(label, bool):
            raise ValueError(f"frame_annotation holds {str(path)[:120]!r}: {str(label)[:20]!r}")
        if bah_names.name_of(str(path), where).key != key:
            raise ValueError(f"frame_annotation holds a frame of another video, {str(path)[:120]!r}")
        numbers.append(number)
        labels.append(label)
    return in_order(np.array(numbers), np.array(labels), where)


# -- what is kept -------------------------------------------------------------------------------------------------------


def keep_name(path: Path) -> str:
    """Name of the file that is kept of one YAML; several of the same name may belong to one corpus."""
    return f"annotations-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}.npz"


def _keep(keep: Path, made_of: str, annotations: Mapping[str, Annotation]) -> None:
    plain: list[dict[str, Any]] = []
    for annotation in annotations.values():
        fields = {name: value for name, value in vars(annotation).items() if name != "frames"}
        plain.append(fields | {"chunks": [asdict(chunk) for chunk in annotation.chunks]})
    given = [a.frames for a in annotations.values()]
    counts = np.array([-1 if f is None else len(f.number) for f in given], np.int64)
    numbers = [np.zeros(0, np.int32), *(f.number for f in given if f is not None)]
    labels = [np.zeros(0, np.uint8), *(f.present for f in given if f is not None)]
    records = np.frombuffer(json.dumps(plain, ensure_ascii=False).encode(), np.uint8)
    with draft_of(keep) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            made_of=np.array(made_of),
            records=records,
            counts=counts,
            number=np.concatenate(numbers),
            present=np.concatenate(labels),
        )


def _kept(keep: Path, made_of: str) -> dict[str, Annotation] | None:
    """What was kept; None where nothing was, of another file, or in a form that is not readable."""
    try:
        with np.load(keep, allow_pickle=False) as arrays:
            if str(arrays["made_of"]) != made_of:
                return None
            records = json.loads(arrays["records"].tobytes().decode())
            counts, number, present = arrays["counts"], arrays["number"], arrays["present"]
        found: dict[str, Annotation] = {}
        at = 0
        for record, count in zip(records, counts.tolist(), strict=True):
            frames = None
            if count >= 0:
                frames = FrameLabels(number[at : at + count], present[at : at + count])
                at += count
            segments = tuple((float(a), float(b)) for a, b in record.pop("segments"))
            chunks = tuple(Chunk(**chunk) for chunk in record.pop("chunks"))
            cues, certainty = tuple(record.pop("cues")), tuple(record.pop("certainty"))
            annotation = Annotation(
                **record, segments=segments, cues=cues, certainty=certainty, chunks=chunks, frames=frames
            )
            found[annotation.key] = annotation
        return found
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
