"""Frames of a video with their presentation times, decoded in order: the one way that is exact on every file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from mer.errors import UserError
from mer.media.probe import media_zero, opened, pictures


def presentation_times(path: Path) -> np.ndarray:
    """Time of every displayed frame, float64 seconds (F,), rising; from packets where they say it, else by decoding."""
    with opened(path) as container:
        stream = _video(container, path)
        zero = media_zero(container)
        stamps = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        if stamps and None not in stamps and len(set(stamps)) == len(stamps) and stream.time_base:
            return np.sort(np.asarray(stamps, np.float64)) * float(stream.time_base) - zero
    return np.asarray([time for time, _ in _decoded(path)], np.float64)


def load(
    path: Path,
    rate: float,
    size: tuple[int, int],
    crop: str = "center",
    start: float = 0.0,
    end: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames at a fixed rate: each tick shows the frame that a player would show at its middle.

    Args:
        path: any file PyAV reads.
        rate: ticks per second, counted from `start`.
        size: (height, width) of the result.
        crop: `center` cuts the largest centred square first, `none` squeezes.
        start, end: seconds of media time, half-open; end None is the end of the picture.

    Returns:
        frames (K, 3, H, W) uint8 RGB and spans (K, 2) float32 seconds.

    Raises:
        UserError: no picture in the file, or none in the stretch asked for.
    """
    ticks: list[np.ndarray] = []
    limit = float("inf") if end is None else end
    shown: av.VideoFrame | None = None
    for frame, time, until in _shown(path):
        if time >= limit:
            break
        if until > start:
            shown = frame
        # Tick k belongs to the frame where (k + 0.5) / rate < until - start; a tie goes to the next frame.
        count = math.ceil((min(until, limit) - start) * rate - 0.5 - 1e-6) - len(ticks)
        if count > 0:
            ticks += [_picture(frame, size, crop)] * count
    if shown is not None and not ticks:  # the stretch is shorter than half a tick
        ticks.append(_picture(shown, size, crop))
    if not ticks:
        stretch = f"between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        raise UserError(f"{path}: no frame could be decoded {stretch}", "Check 'start' and 'end', or convert the file")
    begin = start + np.arange(len(ticks)) / rate
    spans = np.stack([begin, begin + 1.0 / rate], axis=1)
    return np.stack(ticks), np.minimum(spans, max(limit, begin[-1] + 1e-3)).astype(np.float32)


def _video(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = pictures(container)
    if stream is None:
        raise UserError(f"{path}: the file has no picture", "Leave the video cell of this clip empty")
    return stream


def _shown(path: Path) -> Iterator[tuple[av.VideoFrame, float, float]]:
    """(frame, seconds, seconds when the next one replaces it) in display order; the last one lasts its own duration."""
    held: tuple[float, av.VideoFrame] | None = None
    for time, frame in _decoded(path):
        if held is not None:
            yield held[1], held[0], time
        held = time, frame
    if held is not None:
        yield held[1], held[0], held[0] + _duration(held[1])


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


def _picture(frame: av.VideoFrame, size: tuple[int, int], crop: str) -> np.ndarray:
    """One frame as (3, H, W) uint8, upright, cropped and resized."""
    height, width = size
    turned = frame.rotation % 180 != 0
    if crop == "center":
        # Resize so that the short side fits, then cut: the scaler works on the small picture only.
        scale = max((height if not turned else width) / frame.height, (width if not turned else height) / frame.width)
        inner = (max(1, round(frame.height * scale)), max(1, round(frame.width * scale)))
    else:
        inner = (width, height) if turned else (height, width)
    small = frame.reformat(width=inner[1], height=inner[0], format="rgb24", interpolation="AREA").to_ndarray()
    if frame.rotation:
        small = np.rot90(small, round(frame.rotation / 90))
    top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
    cut = small[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    return np.ascontiguousarray(cut.transpose(2, 0, 1))
