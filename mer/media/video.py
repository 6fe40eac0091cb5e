"""Frames of a video, or of a folder of pictures (`FOLDER#25`), in order of display, each with its presentation time."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import av
import av.container
import numpy as np

from mer.errors import UserError
from mer.media import backends
from mer.media.backends import Shown
from mer.media.frame import Frame
from mer.media.packets import PacketIndex, WholePackets, packet_index, video_stream
from mer.media.pictures import picture_folder
from mer.media.probe import media_zero, opened
from mer.media.pulse import pulse

# pyav (default) reads everything; decord and torchcodec are optional and refuse what they would read wrongly.
BACKEND = "MER_VIDEO_BACKEND"
NEAR = 8.0  # seconds; a stretch that begins before is reached by decoding from the beginning, which needs no index
BUMP = 1e-3  # seconds; the least that a frame is shown
JUMP = 1.0  # seconds; a clock that steps back farther was set anew and goes on from there


def presentation_times(path: Path) -> np.ndarray:
    """Time of every displayed frame, float64 seconds (F,), rising: exactly those that `frames` gives.

    From packets where they can be relied on, else by decoding, once per process and file. A packet in the middle of a
    file that is damaged and does not decode counts here and is missing there.

    Raises:
        UserError: the file is missing, not media, or has no picture.
    """
    if (folder := picture_folder(path)) is not None:
        return folder.times
    index = packet_index(path)
    if index.unsure is None:
        return index.times.copy()
    state = path.stat()
    return _decoded_times(path.resolve(), state.st_size, state.st_mtime_ns).copy()


def frames(path: Path, start: float = 0.0, end: float | None = None, backend: str | None = None) -> Iterator[Frame]:
    """Every frame that is shown at some moment of [start, end), in order of display, one in memory at a time.

    Args:
        path: any file PyAV reads, or a folder of pictures, see `mer.media.pictures`.
        start, end: seconds of media time, half-open; end None is the end of the picture.
        backend: `pyav`, `decord` or `torchcodec`; None asks the environment variable MER_VIDEO_BACKEND, else `pyav`. All
            give equal `Frame.rgb()`; gray and scaled pictures differ by some levels (20 at the edges of strong colours), as
            only PyAV makes them from the coded colours.

    A frame is shown until the next one replaces it; the last one for its own duration. A packet that does not decode is
    left out, a file that breaks off ends the stream. A late `start` is reached through the key picture before it.

    Raises:
        UserError: the file is missing, not media, or has no picture; the backend is unknown, not installed, or would
            read this file wrongly.
    """
    name = named(backend)
    if (folder := picture_folder(path)) is not None:
        return folder.frames(start, end)
    if name == "pyav":
        return _stretch(_decoded(path, start), start, end)
    return _stretch(backends.shown(name, path, start), start, end)


def frames_at(path: Path, moments: Sequence[float], backend: str | None = None) -> Iterator[Frame]:
    """The frames that are on screen at some moments, in order of display, each once.

    What lies between them is skipped by way of key pictures where the file allows it: a few frames of a long recording cost
    no more than those of a short one.

    Args:
        path: any file PyAV reads.
        moments: seconds of media time, rising. One before the first frame gets that; one behind the end gets nothing.
        backend: as for `frames`.

    Raises:
        UserError: as `frames`.
    """
    if not len(moments):
        return iter(())
    if (folder := picture_folder(path)) is not None:
        return folder.frames_at(moments)
    if named(backend) == "pyav":
        index = packet_index(path)
        if index.unsure is None:
            return _picked(path, index, moments)
    return _at(frames(path, max(0.0, float(moments[0])), None, backend), moments)


def named(backend: str | None) -> str:
    """The backend that is meant; None asks the environment variable.

    Raises:
        UserError: there is none of that name.
    """
    name = backend or os.environ.get(BACKEND) or "pyav"
    if name != "pyav" and name not in backends.READERS:
        raise UserError(f"no video backend {name!r} ({BACKEND})", f"Use pyav, {', '.join(backends.READERS)}")
    return name


def _at(shown: Iterator[Frame], moments: Sequence[float]) -> Iterator[Frame]:
    """Those of a sequence of frames that are on screen at the moments."""
    due = 0
    for frame in shown:
        if frame.until > moments[due]:
            yield frame
            while due < len(moments) and moments[due] < frame.until:
                due += 1
            if due == len(moments):
                return


def _picked(path: Path, index: PacketIndex, moments: Sequence[float]) -> Iterator[Frame]:
    """As `_at`, going from key picture to key picture; in order from where that does not lead to the frame."""
    edges = np.append(index.times, index.times[-1] + index.lasts)
    numbers = sorted({index.shown_at(moment) for moment in moments if moment < edges[-1]})
    given = -np.inf
    with opened(path) as container:
        stream = video_stream(container, path)
        pictures, reached = _pictures(container, stream), int(index.stamps[0])
        for number in numbers:
            stamp, ways = int(index.stamps[number]), _ways(index, number)
            if ways and ways[0][0] > reached:
                key, place = ways[0]
                pictures.close()
                try:
                    container.seek(place, stream=stream, backward=True, any_frame=False)
                except av.error.FFmpegError:
                    break
                pictures = _pictures(container, stream, begin_by=key)
            picture = next((p for p in pictures if p.pts is not None and p.pts >= stamp), None)
            if picture is None or picture.pts != stamp or picture.is_corrupt:
                break
            reached, given = stamp, edges[number]
            yield Frame(picture, number, float(edges[number]), float(edges[number + 1]))
        else:
            return
    left = [moment for moment in moments if index.shown_at(moment) >= number]
    rest = _at(_stretch(_from_beginning(path), left[0], None), left)
    # In place of a picture that does not decode the one before it is on screen, which may have been given already.
    yield from (frame for frame in rest if frame.time > given)


def _stretch(shown: Generator[Shown, None, None], start: float, end: float | None) -> Iterator[Frame]:
    """Those of a rising sequence that are on screen in [start, end)."""
    limit = float("inf") if end is None else end
    held: Shown | None = None
    with closing(shown):  # the file is closed here and now, not by the garbage collector
        for now in shown:
            if held is not None and now.time > start:
                yield Frame(held.picture, held.index, held.time, now.time)
            if now.time >= limit:
                return
            held = now
    if held is not None and held.time + held.lasts > start:
        yield Frame(held.picture, held.index, held.time, held.time + held.lasts)


def _decoded(path: Path, start: float) -> Generator[Shown, None, None]:
    """From the frame on screen at `start` or from one before it, to the end."""
    if start >= NEAR:
        index = packet_index(path)
        wanted = index.shown_at(start)
        for key, place in _ways(index, wanted):
            begun = False
            with closing(_from_key(path, index, wanted, key, place)) as shown:
                for picture in shown:
                    begun = True
                    yield picture
            if begun:
                return
    yield from _from_beginning(path)


def _from_beginning(path: Path) -> Generator[Shown, None, None]:
    with opened(path) as container:
        stream = video_stream(container, path)
        clock = Clock(container, stream)
        for count, picture in enumerate(_pictures(container, stream)):
            yield clock.shown(count, picture)


def _ways(index: PacketIndex, wanted: int) -> list[tuple[int, int]]:
    """Stamp of the key picture at or before a frame, with places to seek to for it; none where that way is not sure."""
    if index.unsure is not None or not len(index.keys):
        return []
    key = int(np.searchsorted(index.keys[:, 0], index.stamps[wanted], side="right")) - 1
    if key < 1:  # the first key picture is the beginning
        return []
    # Containers are searched by presentation time, some by decoding time: then the first place is behind the key picture.
    shown, decoded = (int(stamp) for stamp in index.keys[key])
    return [(shown, place) for place in dict.fromkeys((shown, decoded))]


def _from_key(path: Path, index: PacketIndex, wanted: int, key: int, place: int) -> Generator[Shown, None, None]:
    """From a frame on, by way of a key picture; nothing at all where that does not lead to this frame."""
    stamp = int(index.stamps[wanted])
    with opened(path) as container:
        stream = video_stream(container, path)
        try:
            container.seek(place, stream=stream, backward=True, any_frame=False)
        except av.error.FFmpegError:
            return
        clock, arrived = Clock(container, stream), False
        for picture in _pictures(container, stream, begin_by=key):
            if not arrived:
                # What precedes the wanted frame may lean on pictures before the key picture, and is of no interest.
                if picture.pts is None or picture.pts < stamp:
                    continue
                if picture.pts != stamp or picture.is_corrupt:
                    return
                arrived = True
            count = 0 if picture.pts is None else int(np.searchsorted(index.stamps, picture.pts))
            yield clock.shown(count, picture)


def _pictures(
    container: av.container.InputContainer, stream: av.VideoStream, begin_by: int | None = None
) -> Generator[av.VideoFrame, None, None]:
    """Decoded pictures from where the container stands, in order of display.

    Args:
        container, stream: opened by the caller.
        begin_by: nothing comes unless the first packet is a key picture with this stamp or an earlier one.
    """
    if not stream.codec_context.is_open:
        stream.codec_context.thread_count = 1  # least CPU time and memory; loader workers are what runs side by side
    first = True
    for packet in WholePackets(container, stream):
        if (
            first
            and begin_by is not None
            and not (packet.is_keyframe and packet.pts is not None and packet.pts <= begin_by)
        ):
            return
        first = False
        try:
            for picture in stream.decode(packet):
                pulse()
                yield picture
        except av.error.FFmpegError:
            pulse()  # this packet is damaged; a player goes on with the next
    try:
        yield from stream.decode(None)
    except av.error.FFmpegError:
        return


class Clock:
    """Media time of decoded pictures, strictly rising whatever the file says.

    A picture without a time follows its predecessor by the frame period. One that is not later than its predecessor is
    shown just after it; a clock that was set back by more than a second (joined recordings) goes on from where it was.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        rate = stream.average_rate or stream.guessed_rate
        self.period = 1 / float(rate) if rate else 0.04
        self.zero, self.tick = media_zero(container), float(stream.time_base or 0)
        self.last: float | None = None
        self.shift = 0.0

    def shown(self, count: int, picture: av.VideoFrame) -> Shown:
        """The picture with its number and its time."""
        lasts = picture.duration * self.tick if picture.duration else self.period
        return Shown(count, self._time(picture.pts), picture, lasts)

    def _time(self, stamp: int | None) -> float:
        if self.last is None:
            time = 0.0 if stamp is None else stamp * self.tick - self.zero
        elif stamp is None:
            time = self.last + self.period
        else:
            time = stamp * self.tick - self.zero + self.shift
            if time <= self.last - JUMP:
                self.shift += self.last + self.period - time
                time = self.last + self.period
            elif time <= self.last:
                time = self.last + BUMP
        self.last = time
        return time


@lru_cache(maxsize=64)
def _decoded_times(path: Path, size: int, changed: int) -> np.ndarray:
    return np.asarray([shown.time for shown in _from_beginning(path)], np.float64)
