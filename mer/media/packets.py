"""What the packets of a video say about its frames without decoding one: times in order of display, and where to begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import av
import av.container
import av.packet
import numpy as np

from mer.errors import UserError
from mer.media.probe import media_zero, opened, pictures
from mer.media.pulse import pulse

# Containers that store a time and a key flag with each picture, and can be entered at any key picture.
INDEXED = {"mov", "mp4", "matroska", "webm"}
# Codecs where each packet that is shown decodes to exactly one picture (MPEG-4 part 2 has packets without a picture).
ONE_TO_ONE = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "png", "prores", "dnxhd", "ffv1", "huffyuv", "rawvideo"}


@dataclass(frozen=True)
class PacketIndex:
    """The video packets of one file.

    Attributes:
        stamps: (F,) int64, rising: presentation stamps of the frames that are shown.
        keys: (K, 2) int64: presentation and decoding stamp of each key picture, in order of the first.
        tick: seconds per unit of the stamps.
        zero: seconds on the container's clock that a player shows as 0:00.
        lasts: seconds that the last frame is shown.
        container, codec: names as FFmpeg has them; `container` may be several, with commas.
        depth: bits per colour component.
        unsure: why the stamps cannot be relied on, so that only decoding in order tells the frames; None where they can.
        edited: packets that are decoded and not shown (an edit list).
        open_gop: pictures behind a key picture in the file that are shown before it.
        hidden: packets without a picture of their own (reference frames of VP8).
        cut_off: the file ends before its pictures do.
        only: the file has no other picture stream.
    """

    stamps: np.ndarray
    keys: np.ndarray
    tick: float
    zero: float
    lasts: float
    container: str
    codec: str
    depth: int
    unsure: str | None
    edited: bool
    open_gop: bool
    hidden: bool
    cut_off: bool
    only: bool

    @cached_property
    def times(self) -> np.ndarray:
        """(F,) float64 seconds of media time; read only."""
        return self.stamps.astype(np.float64) * self.tick - self.zero

    def shown_at(self, seconds: float) -> int:
        """Number of the frame on screen at that time; the first one before it begins."""
        return max(0, int(np.searchsorted(self.times, seconds, side="right")) - 1)


def packet_index(path: Path) -> PacketIndex:
    """The index of a file, made once per process and file.

    Raises:
        UserError: the file is missing, not media, or has no picture.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check the path, or 'root' in corpus.yaml")
    state = path.stat()
    return _made(path.resolve(), state.st_size, state.st_mtime_ns, str(path))


def forget() -> None:
    """Have every index made anew."""
    _made.cache_clear()


def video_stream(container: av.container.InputContainer, path: Path | str) -> av.VideoStream:
    """The stream that is read.

    Raises:
        UserError: the file has none.
    """
    stream = pictures(container)
    if stream is None:
        raise UserError(f"{path}: the file has no picture", "Leave the video cell of this clip empty")
    return stream


class WholePackets:
    """Packets as they lie in the file, up to where it breaks off; half a picture at a cut is left out.

    In a broadcast (MPEG-TS) a packet marked as damaged is passed on: the decoder conceals what is missing.

    Attributes:
        broke_off: said afterwards: the file ended in the middle of a packet.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        self._container, self._stream = container, stream
        self._indexed = is_indexed(container)
        self.broke_off = False

    def __iter__(self) -> Iterator[av.packet.Packet]:
        try:
            for packet in self._container.demux(self._stream):
                if self._indexed and packet.is_corrupt:
                    self.broke_off = True
                elif packet.size:
                    yield packet
        except av.error.FFmpegError:
            self.broke_off = True


def is_indexed(container: av.container.InputContainer) -> bool:
    """Whether the container is one of `INDEXED`."""
    return bool(INDEXED & set(container.format.name.split(",")))


# Some hundred clips of a corpus are gone through epoch after epoch; an hour of video is 0.7 MB.
@lru_cache(maxsize=64)
def _made(path: Path, size: int, changed: int, named: str) -> PacketIndex:
    with opened(path) as container:
        stream = video_stream(container, named)
        stamps: list[int | None] = []
        stored = 0
        keys: list[tuple[int, int]] = []
        key: int | None = None
        latest, lasts = None, 0
        edited = open_gop = hidden = early = False
        packets = WholePackets(container, stream)
        for packet in packets:
            pulse()
            stored += 1
            stamp = packet.pts
            if packet.is_keyframe and stamp is not None:
                key = stamp
                keys.append((stamp, stamp if packet.dts is None else packet.dts))
            if stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10:
                hidden = True
                continue
            if packet.is_discard:
                edited = True
                continue
            if stamp is not None:
                early |= key is None or (len(keys) == 1 and stamp < key)
                open_gop |= key is not None and stamp < key
                if latest is None or stamp > latest:
                    latest, lasts = stamp, packet.duration or 0
            stamps.append(stamp)
        known = [s for s in stamps if s is not None]
        tick = float(stream.time_base or 0)
        unsure = None
        if not is_indexed(container):
            unsure = f"the container ({container.format.name}) has no index of pictures"
        elif stream.codec_context.name not in ONE_TO_ONE:
            unsure = f"packets of {stream.codec_context.name} may hold no picture"
        elif not known or not tick or len(known) < len(stamps):
            unsure = "packets without a time"
        elif len(set(known)) < len(known):
            unsure = "two pictures with one time"
        elif early:
            unsure = "it begins in the middle of a group of pictures"
        pixels = stream.codec_context.format
        rate = stream.average_rate or stream.guessed_rate
        return PacketIndex(
            stamps=np.sort(np.asarray(known, np.int64)),
            keys=np.asarray(sorted(keys), np.int64).reshape(-1, 2),
            tick=tick,
            zero=media_zero(container),
            lasts=lasts * tick or (1 / float(rate) if rate else 0.04),
            container=container.format.name,
            codec=stream.codec_context.name,
            depth=max(c.bits for c in pixels.components) if pixels is not None else 8,
            unsure=unsure,
            edited=edited,
            open_gop=open_gop,
            hidden=hidden,
            cut_off=packets.broke_off or _cut_off(container, stream, stored, tick, latest),
            only=len(container.streams.video) == 1,
        )


def _cut_off(
    container: av.container.InputContainer, stream: av.VideoStream, count: int, tick: float, latest: int | None
) -> bool:
    """Fewer pictures than the header promises, or a header that promises more seconds than any stream lasts."""
    if stream.frames:
        return count < stream.frames
    # A fragmented MP4 and a Matroska file have no count. The sound may be longer than the picture, but not by this much.
    if latest is None or not container.duration:
        return False
    promised = container.duration / av.time_base
    return promised - (latest * tick - media_zero(container)) > max(1.0, 0.05 * promised)
