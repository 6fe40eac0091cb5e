"""What a media file holds, and the one place where a bad file becomes a clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import numpy as np

from mer.errors import UserError
from mer.media.pictures import picture_folder


@dataclass(frozen=True)
class MediaInfo:
    """Streams of a media file.

    Attributes:
        duration: seconds, from the container; 0.0 where it does not say.
        has_video, has_audio: a decodable stream of that kind exists (a cover picture is no video).
        fps: average frames per second of the video, or None.
    """

    path: Path
    duration: float
    has_video: bool
    has_audio: bool
    fps: float | None


# A corpus is untrusted: a file is that file, never a pattern of names, another protocol, or a list that leads elsewhere.
_HERE = {"protocol_whitelist": "file", "pattern_type": "none"}
_LISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[playlist]")


@dataclass(frozen=True)
class Examined:
    """What the packets of a media file say.

    Attributes:
        info: its streams.
        length: seconds, see `length`.
        times: presentation time of each displayed frame, float64 seconds (F,); empty without pictures, or not asked for.
    """

    info: MediaInfo
    length: float
    times: np.ndarray


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading and close it for sure (left to the garbage collector, memory grows).

    Raises:
        UserError: the file is missing, empty or not media.
    """
    if not path.is_file():
        if path.is_dir():
            raise UserError(f"{path}: a folder", "Of pictures, write FOLDER#25 with their number per second")
        if picture_folder(path) is not None:
            raise UserError(f"{path}: a folder of pictures has no sound", "Leave the cell of the sound empty")
        raise UserError(f"{path}: no such file", "Check the path, or 'root' in corpus.yaml")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes)", "Copy or download it again")
    try:
        if _points_elsewhere(path):
            raise ValueError("it only lists other files")
        container = av.open(f"file:{path.absolute()}", metadata_errors="ignore", options=_HERE)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not readable as video or audio ({reason})", "Convert or download it again") from None
    try:
        yield container
    finally:
        container.close()


def _points_elsewhere(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_LISTS)


def media_zero(container: av.container.InputContainer) -> float:
    """Seconds on the container's clock that a player shows as 0:00."""
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def pictures(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream that is a video and not an attached picture, and that can be decoded."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


def sound(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first audio stream that can be decoded."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def probe(path: Path) -> MediaInfo:
    """Look into a file, or a folder of pictures (`FOLDER#25`), without decoding it.

    Raises:
        UserError: the file is missing, empty or not media.
    """
    if (folder := picture_folder(path)) is not None:
        return MediaInfo(path, folder.length, True, False, folder.rate)
    with opened(path) as container:
        video = pictures(container)
        duration = container.duration / av.time_base if container.duration else 0.0
        fps = float(video.average_rate) if video is not None and video.average_rate else None
        return MediaInfo(path, duration, video is not None, sound(container) is not None, fps)


def length(path: Path) -> float:
    """Seconds from 0:00 to the end of the last packet of sound or picture, read from the packets, without decoding.

    The duration that a container states is an estimate in MPEG program streams and in many mp3 files; it is used only where
    packets have no times.

    Raises:
        UserError: the file is missing, empty or not media.
    """
    if (folder := picture_folder(path)) is not None:
        return folder.length
    with opened(path) as container:
        zero, end = media_zero(container), 0.0
        streams = [s for s in (sound(container), pictures(container)) if s is not None]
        try:
            for packet in container.demux(streams) if streams else ():
                stamp = packet.pts if packet.pts is not None else packet.dts
                if packet.size and not packet.is_discard and stamp is not None and packet.time_base:
                    end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base) - zero)
        except av.error.FFmpegError:
            pass  # a damaged tail
        return end or (container.duration or 0) / av.time_base
