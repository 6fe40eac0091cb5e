"""How fast videos are read: `mer.media.video` beside plain PyAV and the other readers, on files made for it.

Every engine decodes with one thread and gives the same pictures; what counts is CPU time, as in training each core runs a
worker. Engines take turns, and the least of the repeats stands: other work on the machine only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mer.media import video
from mer.media.packets import forget

FPS, WANTED = 25, 16
# height, width, frames, repeats
FILES = {"224": (224, 224, 1500, 5), "720p": (720, 1280, 300, 5)}

Engine = Callable[[Path, Sequence[int] | None], int]


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        name: what was done, e.g. `224, 16 of 1500 frames as RGB`.
        what: who did it.
        value, unit: the number.
        ratio: to what it is held against, None where it is that itself.
    """

    name: str
    what: str
    value: float
    unit: str
    ratio: float | None


def decode_rows(folder: Path) -> list[Row]:
    """CPU seconds for all frames without conversion, for all as RGB, and for 16 evenly spaced ones as RGB.

    Args:
        folder: where the test videos are, or are written.

    Returns:
        a row per job and engine, ratios to plain PyAV; and one per job that holds `mer` against the fastest.
    """
    rows = []
    for label, (height, width, count, repeats) in FILES.items():
        path = folder / f"textured_{label}.mp4"
        if not path.exists():
            write_textured(path, height, width, count)
        spaced = ((np.arange(WANTED) + 0.5) * count / WANTED).astype(int).tolist()
        jobs: list[tuple[str, dict[str, Engine], Sequence[int] | None]] = [
            (f"{label}, {count} frames decoded", {"plain PyAV": plain, "mer": ours}, None),
            (f"{label}, {count} frames as RGB", engines(), range(count)),
            (f"{label}, {WANTED} of {count} frames as RGB", engines() | {"mer, by moments": picked}, spaced),
        ]
        for name, contestants, wanted in jobs:
            rows += _rows(name, _least(contestants, path, wanted, repeats))
    return rows


def engines() -> dict[str, Engine]:
    """The readers that are installed."""
    found: dict[str, Engine] = {"plain PyAV": plain, "mer": ours}
    for name, engine, module in (
        ("decord", by_decord, "decord"),
        ("torchcodec", by_torchcodec, "torchcodec.decoders"),
        ("OpenCV", by_opencv, "cv2"),
    ):
        try:
            __import__(module)
        except (ImportError, OSError, RuntimeError):  # the latter two: its libraries are missing
            continue
        found[name] = engine
    return found


def plain(path: Path, wanted: Sequence[int] | None) -> int:
    """The shortest loop PyAV allows; `wanted` frames become RGB, None converts nothing."""
    taken, last, count = _choice(wanted), _last(wanted), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in taken:
                frame.to_ndarray(format="rgb24")
            count += 1
            if number >= last:
                break
    return count


def ours(path: Path, wanted: Sequence[int] | None) -> int:
    """`mer.media.video.frames`."""
    taken, last, count = _choice(wanted), _last(wanted), 0
    with closing(video.frames(path, backend="pyav")) as frames:  # type: ignore[type-var]
        for frame in frames:
            if frame.index in taken:
                frame.rgb()
            count += 1
            if frame.index >= last:
                break
    return count


def picked(path: Path, wanted: Sequence[int] | None) -> int:
    """`mer.media.video.frames_at`; the packet index, else made once per file, is made anew each time."""
    assert wanted is not None
    forget()
    moments = [(k + 0.5) / FPS for k in wanted]
    return sum(frame.rgb() is not None for frame in video.frames_at(path, moments, backend="pyav"))


def by_decord(path: Path, wanted: Sequence[int] | None) -> int:
    """decord, frame by frame where all are wanted, else its batch."""
    import decord  # type: ignore[import-untyped,import-not-found,unused-ignore]

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    if wanted is not None and len(wanted) < len(reader):
        return len(reader.get_batch(list(wanted)).asnumpy())
    return sum(reader[k].asnumpy() is not None for k in range(len(reader)))


def by_torchcodec(path: Path, wanted: Sequence[int] | None) -> int:
    """torchcodec in exact mode."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found,unused-ignore]

    reader = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    if wanted is not None and len(wanted) < len(reader):
        return len(reader.get_frames_at(list(wanted)).data)
    return sum(reader.get_frame_at(k).data is not None for k in range(len(reader)))


def by_opencv(path: Path, wanted: Sequence[int] | None) -> int:
    """OpenCV in order (its seeking is not exact), colours turned to RGB."""
    import cv2

    taken, last, number = _choice(wanted), _last(wanted), 0
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while number <= last and capture.grab():
        if number in taken:
            cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
        number += 1
    capture.release()
    return number


def write_textured(path: Path, height: int, width: int, count: int) -> None:
    """A pan over a texture, an ellipse like a face, sensor noise: H.264 with about the bits of a recording."""
    random = np.random.default_rng(0)
    texture = random.normal(128, 50, (height // 4 + 100, width // 4 + 100, 3)).repeat(4, 0).repeat(4, 1)
    noise = random.normal(0, 6, (16, height, width, 1))
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "g": "250"}
        for k in range(count):
            picture = texture[k // 2 % 300 :, k % 300 :][:height, :width].copy()
            across = (x - width * (0.5 + np.sin(k / 30) / 6)) / (width / 8)
            down = (y - height * (0.5 + np.cos(k / 25) / 8)) / (height / 5)
            picture[across**2 + down**2 < 1] = (200, 160, 140)
            picture += noise[k % 16]
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _least(contestants: dict[str, Engine], path: Path, wanted: Sequence[int] | None, repeats: int) -> dict[str, float]:
    seconds = dict.fromkeys(contestants, float("inf"))
    for _ in range(repeats):
        for name, engine in contestants.items():
            began = time.process_time()
            engine(path, wanted)
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def _rows(name: str, seconds: dict[str, float]) -> list[Row]:
    base = seconds["plain PyAV"]
    rows = [Row(name, who, s, "CPU s", None if who == "plain PyAV" else s / base) for who, s in seconds.items()]
    fastest = min(seconds, key=seconds.__getitem__)
    own = "mer, by moments" if "mer, by moments" in seconds else "mer"
    rows.append(Row(name, f"{own} : {fastest} (the fastest)", seconds[own], "CPU s", seconds[own] / seconds[fastest]))
    return rows


def _choice(wanted: Sequence[int] | None) -> frozenset[int]:
    return frozenset(wanted or ())


def _last(wanted: Sequence[int] | None) -> float:
    return max(wanted) if wanted is not None else float("inf")
