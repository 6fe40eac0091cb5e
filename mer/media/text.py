"""What was said, as words with times: subtitles, speech recognisers' output, tables, alignments, plain text.

A word has its own time where the file gives one (Whisper's and WhisperX's JSON with words, CTM, TextGrid, a table with a row
per word, WebVTT with time stamps inside a cue), else the time of its segment, which all its words share; without any times,
all words share the whole clip. `table.csv#column[row]` is one cell of a table: the transcript of one clip.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer.errors import UserError
from mer.media.features import split_reference
from mer.media.stream import Stream
from mer.spec import InputSpec

LARGEST = 1 << 25  # bytes; a day of subtitles has a twentieth of that
_CONVERT = "Convert it to .srt, .vtt, .json (Whisper), .csv (start, end, text), .TextGrid, .ctm or .txt"


@dataclass(frozen=True)
class Words:
    """A stretch of text.

    Attributes:
        text: one word or many.
        start, end: seconds; None where the file gives no time.
    """

    text: str
    start: float | None = None
    end: float | None = None


def load(root: Path, reference: str, spec: InputSpec, start: float = 0.0, end: float | None = None) -> Stream:
    """The words of one stretch.

    Args:
        root: folder that relative names are resolved against.
        reference: a file, or `table.csv#column[row]`.
        spec: `width` bytes are kept of a word (cut between characters).
        start, end: seconds of media time, half-open; a word belongs to the stretch that its middle lies in.

    Returns:
        (N, width) uint8: UTF-8, filled with 0. Words that share a span follow each other in the order of the text. Text
        without times stands for the whole stretch, and for one second where its end is unknown.

    Raises:
        UserError: the file is missing, broken, or of a kind that is not known.
    """
    name, key, row = split_reference(reference)
    path = root / name
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check the path, or 'root' in corpus.yaml")
    parts = _cell(path, key, row) if key is not None else _parts(path)
    found: list[tuple[float, float, bytes]] = []
    for part in parts:
        begin = start if part.start is None else part.start
        stop = part.end if part.start is not None else None
        if stop is None:  # no times at all, or a recogniser that was cut off within its last segment
            stop = end if end is not None else begin + 1.0
        if begin <= stop and (part.start is None or start <= (begin + stop) / 2 < (math.inf if end is None else end)):
            found += [(begin, stop, _cut(word, spec.width or 1)) for word in words(part.text)]
    found.sort(key=lambda item: item[0])  # stable: what begins together stays in order
    values = np.zeros((len(found), spec.width or 1), np.uint8)
    spans = np.zeros((len(found), 2), np.float32)
    for i, (begin, stop, word) in enumerate(found):
        values[i, : len(word)] = np.frombuffer(word, np.uint8)
        spans[i] = begin, max(stop, begin + 1e-3)
    return Stream(values, spans)


def words(text: str) -> list[str]:
    """Words between spaces; of writing without spaces (Chinese, Japanese, Thai ...) every character is one."""
    return _WORD.findall(text)


def decoded(values: np.ndarray) -> list[str]:
    """The words that `load` put into (N, width) bytes."""
    return [bytes(row).rstrip(b"\0").decode("utf-8", "ignore") for row in values]


# Thai and Lao, Myanmar, Khmer, their and full-width punctuation, kana, Han: no spaces between words. Hangul has them.
_RANGES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60"
_WORD = re.compile(rf"[{_RANGES}]|[^\s{_RANGES}]+")
_SPACELESS = re.compile(f"[{_RANGES}]")


def spaceless(character: str) -> bool:
    """Whether a character is of a script that puts no spaces between words."""
    return _SPACELESS.fullmatch(character) is not None


def _cut(word: str, width: int) -> bytes:
    """UTF-8 of at most `width` bytes, without half a character at its end."""
    return word.replace("\0", "").encode("utf-8", "ignore")[:width].decode("utf-8", "ignore").encode()


# -- files --------------------------------------------------------------------------------------------------------------


def _parts(path: Path) -> list[Words]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: not a kind of text file that is known", _CONVERT)
    try:
        return list(reader(_text(path)))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a readable {path.suffix} ({said})", _CONVERT) from None


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{path}: {size >> 20} MiB are no transcript", "Check the path")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", "Check its permissions") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Praat and subtitle editors write UTF-16
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "Save it again as UTF-8") from None


_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
_ARROW = re.compile(rf"^\s*({_TIME.pattern})\s*-->\s*({_TIME.pattern})")
# A tag does not hold the begin of another: time grows with the text, not with its square.
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))


def _subtitles(text: str) -> Iterable[Words]:
    """SubRip and WebVTT: blocks with an arrow between two times; what has no arrow (numbers, notes, styles) is no speech."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is None:
            continue
        match = _ARROW.match(lines[at])
        if match is None:
            raise ValueError(f"{lines[at].strip()!r} is not a pair of times")
        start, end = _seconds(match[1]), _seconds(match[5])
        pieces = re.split(rf"<({_TIME.pattern})>", "\n".join(lines[at + 1 :]))
        # Between time stamps inside a cue (each brings its time and three groups of it) stand its words.
        texts, inside = pieces[::5], [_seconds(time) for time in pieces[1::5]]
        edges = [start, *inside, end]
        for piece, begin, stop in zip(texts, edges, edges[1:], strict=False):
            yield Words(html.unescape(_TAG.sub("", piece)), begin, stop)


def _json(text: str) -> Iterable[Words]:
    """Whisper, WhisperX and what takes after them: segments with text and times, with or without words."""
    content = json.loads(text)
    segments = content.get("segments") if isinstance(content, dict) else content
    if segments is None and "chunks" in content:  # transformers' pipeline
        segments = [
            {"text": c["text"], "start": c["timestamp"][0], "end": c["timestamp"][1]} for c in content["chunks"]
        ]
    if not isinstance(segments, list):
        raise ValueError("no list of segments in it")
    for segment in segments:
        timed = [w for w in segment.get("words") or () if w.get("start") is not None and w.get("end") is not None]
        if timed and len(timed) == len(segment["words"]):
            yield from (Words(str(w.get("word", w.get("text"))), float(w["start"]), float(w["end"])) for w in timed)
        else:  # a recogniser that could not place one word may have placed the others elsewhere
            said = str(segment.get("text", segment.get("word", "")))
            yield Words(said, _optional(segment.get("start")), _optional(segment.get("end")))


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _table(text: str) -> Iterable[Words]:
    """Rows of start, end (seconds, or h:mm:ss; milliseconds under start_ms, end_ms) and text or word."""
    rows = _rows(text)
    header = {name.strip().lower(): i for i, name in enumerate(rows[0])}
    if text.startswith("start\tend\ttext") and all(cell.isdecimal() for row in rows[1:] for cell in row[:2]):
        raise ValueError("Whisper counts milliseconds here, others seconds: head it start_ms, end_ms or start_s, end_s")
    said = next((header[n] for n in ("word", "text", "sentence", "utterance", "transcript") if n in header), None)
    start, end = (next((header[n] for n in names if n in header), None) for names in (_STARTS, _ENDS))
    if said is None or (start is None) != (end is None):
        raise ValueError(f"headings {', '.join(header)}; it takes start, end and text, or text alone")
    unit = 1e-3 if {"start_ms", "end_ms"} <= set(header) else 1.0
    for row in rows[1:]:
        if start is None or end is None:
            yield Words(row[said])
        else:
            yield Words(row[said], _moment(row[start]) * unit, _moment(row[end]) * unit)


_STARTS = ("start", "start_s", "starttime", "start_time", "onset", "begin", "start_ms")
_ENDS = ("end", "end_s", "endtime", "end_time", "offset", "stop", "end_ms")


def _moment(cell: str) -> float:
    return _seconds(cell) if ":" in cell else float(cell)


def _rows(text: str) -> list[list[str]]:
    """The headings and the rows below; a row may lack cells at its end, never have more than there are headings."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows: list[list[str]] = []
    for row in reader:
        if rows and len(row) > len(rows[0]):
            count = f"{len(row)} cells under {len(rows[0])} headings"
            raise ValueError(f"line {reader.line_num}: {count}; text with commas in it stands in quotes")
        if row:
            rows.append(row + [""] * (len(rows[0]) - len(row) if rows else 0))
    if not rows:
        raise ValueError("it is empty")
    return rows


def _cell(path: Path, column: str, row: int | None) -> list[Words]:
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"{path}#{column}: only tables have columns", "Name the file alone, or a .csv or .tsv")
    try:
        rows = _rows(_text(path))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error})", _CONVERT) from None
    if column not in rows[0]:
        raise UserError(f"{path}: no column {column!r}", f"It has {', '.join(rows[0])}")
    at = rows[0].index(column)
    if row is None or row + 1 >= len(rows):
        given = "no row" if row is None else f"row {row} of {len(rows) - 1}, counted from 0"
        raise UserError(f"{path}#{column}: {given}", "Write table.csv#column[row]")
    return [Words(rows[row + 1][at])]


_INTERVAL = re.compile(
    r"xmin\s*=\s*(?P<a>[\d.eE+-]+)\s+xmax\s*=\s*(?P<b>[\d.eE+-]+)\s+text\s*=\s*\"(?P<text>[^\"]*(?:\"\"[^\"]*)*)\""
)
_TIER = re.compile(r"name\s*=\s*\"(?P<name>[^\"]*(?:\"\"[^\"]*)*)\"")


def _textgrid(text: str) -> Iterable[Words]:
    """Praat's long form: the tier called words, else the first tier of intervals. Empty intervals are silence."""
    tiers = re.split(r"item\s*\[\d+\]\s*:", text)[1:]
    if not tiers:
        raise ValueError("no tiers; save it as a long text file")
    named = {(m["name"].lower() if (m := _TIER.search(tier)) else ""): tier for tier in reversed(tiers)}
    tier = next((t for n, t in named.items() if n in ("words", "word")), None)
    tier = tier if tier is not None else next((t for t in tiers if _INTERVAL.search(t)), "")
    for match in _INTERVAL.finditer(tier):
        yield Words(match["text"].replace('""', '"'), float(match["a"]), float(match["b"]))


def _ctm(text: str) -> Iterable[Words]:
    """NIST CTM: recording, channel, start, duration, word, and perhaps a confidence."""
    for line in text.splitlines():
        if line.strip() and not line.startswith(";;"):
            _, _, start, duration, word = line.split()[:5]
            yield Words(word, float(start), float(start) + float(duration))


_READERS: dict[str, Callable[[str], Iterable[Words]]] = {
    ".srt": _subtitles,
    ".vtt": _subtitles,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".textgrid": _textgrid,
    ".ctm": _ctm,
    ".txt": lambda text: [Words(text)],
}
