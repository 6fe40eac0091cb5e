"""Small media files whose content says its own time, written with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mer.errors import UserError
from mer.media.reading import read
from mer.spec import InputSpec

RATE = 16000


def shade(k: int) -> int:
    """Grey level of frame k of `write`: neighbours differ by more than the codec blurs."""
    return 20 + (k * 37) % 216


def shades(frames: np.ndarray) -> list[int]:
    """(K, 3, H, W) to the mean grey level of each."""
    return [round(float(f.mean())) for f in frames]


def grey(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(count, H, W, 3) uint8, frame k plain grey at `shade(k)`."""
    return np.stack([np.full((height, width, 3), shade(k), np.uint8) for k in range(count)])


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    """(N,) float32 sine at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(
    path: Path,
    pictures: np.ndarray | None = None,
    wave: np.ndarray | None = None,
    fps: int = 25,
    rate: int = RATE,
    picture_starts: float = 0.0,
    sound_starts: float = 0.0,
    pts: list[int] | None = None,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
) -> Path:
    """Write pictures (F, H, W, 3) uint8 and sound (N,) or (C, N) float32 in [-1, 1]; `pts` in units of 1 / fps."""
    with av.open(str(path), "w") as container:
        if pictures is not None:
            video = container.add_stream(video_codec, rate=fps)
            video.height, video.width = pictures.shape[1:3]
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, fps)
            video.thread_count = 1
            if video_codec == "libx264":
                video.options = {"preset": "veryfast", "crf": "12"}
        if wave is not None:
            wave = np.atleast_2d(wave)
            layout = "mono" if len(wave) == 1 else "stereo"
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        if pictures is not None:
            for k, picture in enumerate(pictures):
                image = av.VideoFrame.from_ndarray(picture, format="rgb24")
                image.pts = (pts[k] if pts else k) + round(picture_starts * fps)
                image.time_base = Fraction(1, fps)
                container.mux(video.encode(image))
            container.mux(video.encode(None))
        if wave is not None:
            packed = np.ascontiguousarray((wave.T.reshape(1, -1) * 32767).astype(np.int16))
            sound = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), round(sound_starts * rate)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return path


def with_matrix(path: Path, matrix: tuple[int, ...]) -> Path:
    """The same MP4 with a display matrix; a b, c d of the track's a b u, c d v, x y w."""
    raw = bytearray(path.read_bytes())
    place = raw.index(b"tkhd") + 44
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        raw[place + offset : place + offset + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(raw)
    return path


def not_media(folder: Path) -> dict[str, Path]:
    """Files that are not what their name says: text, nothing at all, and one that is not there."""
    (folder / "text.mp4").write_text("this was a README\n" * 20, encoding="utf-8")
    (folder / "empty.mp4").write_bytes(b"")
    return {name: folder / f"{name}.mp4" for name in ("text", "empty", "missing")}


def load(
    path: Path,
    rate: float,
    size: tuple[int, int],
    crop: str = "center",
    start: float = 0.0,
    end: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (K, 3, H, W) at a rate and their spans (K, 2), read in this process."""
    spec = InputSpec("video", rate=rate, size=size, crop=crop)
    stream = read(path.parent, {"video": path.name}, {"video": spec}, start, end)["video"]
    if isinstance(stream, UserError):
        raise stream
    return stream.values, stream.spans
