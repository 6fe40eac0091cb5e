"""Frames of a video in order of display, each with its presentation time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from mer.errors import UserError
from mer.media.frame import Frame
from mer.media.probe import media_zero, opened, pictures
from mer.media.pulse import pulse


def presentation_times(path: Path) -> np.ndarray:
    """Time of every displayed frame, float64 seconds (F,), rising; from packets where they say it, else by decoding."""
    with opened(path) as container:
        stream = _video(container, path)
        zero = media_zero(container)
        stamps = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        if stamps and None not in stamps and len(set(stamps)) == len(stamps) and stream.time_base:
            return np.sort(np.asarray(stamps, np.float64)) * float(stream.time_base) - zero
    return np.asarray([time for time, _ in _decoded(path)], np.float64)


def frames(path: Path, start: float = 0.0, end: float | None = None) -> Iterator[Frame]:
    """Every frame that is shown at some moment of [start, end), in order of display, one in memory at a time.

    Args:
        path: any file PyAV reads.
        start, end: seconds of media time, half-open; end None is the end of the picture.

    A frame is shown until the next one replaces it; the last one for its own duration. A damaged tail ends the stream.

    Raises:
        UserError: the file is missing, not media, or has no picture.
    """
    limit = float("inf") if end is None else end
    held: tuple[int, float, av.VideoFrame] | None = None
    for index, (time, picture) in enumerate(_decoded(path)):
        pulse()
        if held is not None and time > start:
            yield Frame(held[2], held[0], held[1], time)
        if time >= limit:
            return
        held = index, time, picture
    if held is not None and held[1] + _duration(held[2]) > start:
        yield Frame(held[2], held[0], held[1], held[1] + _duration(held[2]))


def _video(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = pictures(container)
    if stream is None:
        raise UserError(f"{path}: the file has no picture", "Leave the video cell of this clip empty")
    return stream


def _decoded(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds, frame) in display order; a decode error is the end of the stream."""
    with opened(path) as container:
        stream = _video(container, path)
        stream.thread_type = "SLICE"  # frame threads cost CPU time and memory in every loader worker
        zero, count = media_zero(container), 0
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        try:
            for frame in container.decode(stream):
                time = frame.time - zero if frame.time is not None else count / fps
                count += 1
                yield time, frame
        except av.error.FFmpegError:
            return


def _duration(frame: av.VideoFrame) -> float:
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return 0.04
