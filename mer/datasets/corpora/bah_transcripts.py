"""What was said in BAH's videos, with the times of the speech recogniser mended, as files that `mer.media.text` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer.datasets.corpora import bah_yaml
from mer.errors import UserError
from mer.files import write_text

BACK = 1.0  # seconds; a start that lies farther below the previous end begins a new count
WINDOW = 30.0  # seconds that the recogniser hears at once, and after which it counts from 0 again


@dataclass(frozen=True)
class Chunk:
    """A stretch of speech.

    Attributes:
        text: what was said.
        start, end: seconds; None where the recogniser does not say.
    """

    text: str
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, entry: Any) -> Chunk:
        """From `{text, timestamp: (start, end)}`.

        Raises:
            ValueError: it is none, or its times are no seconds.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f"a chunk of the transcript is {str(entry)[:80]!r}")
        start, end = entry.get("timestamp") or (None, None)
        return cls(str(entry.get("text") or "").strip(), _time(start), _time(end))


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{str(value)[:80]!r} is no time of a chunk")
    return float(value)


def read(path: Path) -> tuple[tuple[Chunk, ...], str]:
    """Chunks as written, and the whole text, of one `transcription/.../<name>.yml`.

    Raises:
        UserError: not readable, or of another shape.
    """
    content = bah_yaml.load(path)
    if content is None:
        return (), ""
    try:
        return tuple(Chunk.of(chunk) for chunk in content.get("chunks") or ()), str(content.get("text") or "")
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}", "A transcript has text and chunks, each with text and timestamp") from None


def monotone(chunks: Sequence[Chunk], duration: float | None) -> list[Chunk]:
    """Chunks on one clock. The recogniser begins to count anew about every 30 s.

    A start more than `BACK` below the previous end begins a new count, which goes on from that end. Where the previous end is
    not known, it is the end of the window of 30 s (ours), and a new count is a start below the previous start.

    Args:
        duration: seconds of the clip, where known; the last end, if it is missing.

    Returns:
        starts and ends that never fall; an end is None only for a last chunk of a clip of unknown length.
    """
    mended: list[Chunk] = []
    offset, previous, certain = 0.0, 0.0, True
    for chunk in chunks:
        start = previous if chunk.start is None else offset + chunk.start
        behind = previous if certain or not mended else mended[-1].start or 0.0
        if start < behind - BACK:
            offset = previous
            start = offset + (chunk.start or 0.0)
        if mended:
            start = max(start, mended[-1].start or 0.0)
            if mended[-1].end is None:
                mended[-1] = Chunk(mended[-1].text, mended[-1].start, start)
        end = None if chunk.end is None else max(start, offset + chunk.end)
        certain = end is not None
        previous = max(start, offset + WINDOW) if end is None else end
        mended.append(Chunk(chunk.text, start, end))
    if mended and mended[-1].end is None and duration is not None:
        last = mended[-1]
        mended[-1] = Chunk(last.text, last.start, max(duration, last.start or 0.0))
    return mended


def write(path: Path, chunks: Sequence[Chunk], text: str, duration: float | None) -> bool:
    """Write a transcript as segments; without chunks the text alone, which then stands for the whole clip.

    Returns:
        whether anything was said; nothing is written otherwise.
    """
    said = [c for c in monotone(chunks, duration) if c.text]
    if not said and text.strip():
        said = [Chunk(text.strip())]
    if said:
        segments = [{"text": c.text, "start": _round(c.start), "end": _round(c.end)} for c in said]
        write_text(path, json.dumps({"segments": segments}, ensure_ascii=False) + "\n")
    return bool(said)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
