"""What synthetic twins are made of: pictures, sound, skeletons, gaze, words that show a class. Nobody in them is real.

Every maker takes a `Scene`: which of how many classes is shown, by whom, and which take it is. The class is seen (colour of the
light, mouth), heard (pitch), moved (which joints swing, how fast), looked at (where) and said (which word); the person and the
take vary everything else.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from mer.datasets.synthetic import draw_person
from mer.skeletons import layout

RATE = 16000
_WORDS = [
    "sunny", "grim", "quiet", "harsh", "sudden", "sour", "shaky", "smug", "uneasy", "stuck", "flat", "calm", "bright",
    "slow", "loud", "soft", "warm", "cold", "sharp", "dull", "heavy", "light", "round", "square", "early", "late",
    "inner", "outer", "upper", "lower", "rapid", "steady",
]  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What is to be shown.

    Attributes:
        label: index of the class.
        classes: number of classes.
        person, take: numbers that all variation is drawn from.
        seed: of the whole twin.
    """

    label: int
    classes: int
    person: int = 0
    take: int = 0
    seed: int = 0

    @property
    def place(self) -> float:
        """The class as a number from 0 up to, but not, 1."""
        return (self.label + 0.5) / self.classes

    def random(self, *what: int) -> np.random.Generator:
        """A generator of this person's and take's own."""
        return np.random.default_rng([self.seed, self.person, self.take, *what])


def pictures(scene: Scene, count: int, size: tuple[int, int] = (96, 96), fps: float = 25.0) -> np.ndarray:
    """A person in coloured light: (count, height, width, 3) uint8 RGB. The face fills the middle square."""
    height, width = size
    side = min(height, width)
    times = (np.arange(count) + 0.5) / fps
    mouth = np.full(count, 2 * scene.place - 1)
    person, random = np.random.SeedSequence([scene.seed, scene.person]).generate_state(1)[0], scene.random(5)
    face = draw_person(
        int(person),
        mouth,
        0.3 + 0.3 * np.sin(random.uniform(6, 14) * times + random.uniform(0, 6)),
        times,
        side,
        scene.random(0),
    )
    light = np.array(colorsys.hsv_to_rgb(scene.place, 0.9, 1.0)) * 255
    lit = 0.55 * face + 0.45 * light
    top, left = (height - side) // 2, (width - side) // 2
    room = np.empty((count, height, width, 3))
    room[:] = 0.3 * light + 60
    room[:, top : top + side, left : left + side] = lit
    return np.clip(np.rint(room), 0, 255).astype(np.uint8)


def sound(scene: Scene, seconds: float, rate: int = RATE) -> np.ndarray:
    """A hum whose pitch is the class: (N,) float32 in [-1, 1], with a little noise."""
    random = scene.random(1)
    times = np.arange(round(seconds * rate)) / rate
    pitch = 140 * 2 ** (3 * scene.place) * random.uniform(0.97, 1.03)
    wave = sum(np.sin(2 * np.pi * k * pitch * times) / k for k in (1, 2, 3))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * random.uniform(1.5, 3) * times)
    return (0.2 * swell * wave + 0.005 * random.standard_normal(len(times))).astype(np.float32)


def words(scene: Scene, count: int = 8) -> list[str]:
    """A sentence in which every other word is the class's own."""
    random = scene.random(2)
    own = _WORDS[scene.label % len(_WORDS)]
    filler = ("well", "so", "i", "think", "it", "is", "you", "know")
    return [own if k % 2 else filler[int(random.integers(len(filler)))] for k in range(count)]


def skeleton(
    scene: Scene, frames: int, name: str, fps: float = 25.0, size: tuple[int, int] = (1280, 720)
) -> np.ndarray:
    """(frames, V, 3) x, y in pixels and confidence of a layout of `mer.skeletons`; what swings, and how fast, is the class."""
    joints = layout(name).size
    random, times = scene.random(3), (np.arange(frames) / fps)[:, None]
    body = np.random.default_rng([scene.seed, 7, joints]).uniform(0.3, 0.7, (joints, 2))
    phase = np.arange(joints)[None, :] / joints * scene.classes - scene.label
    part = np.exp(-(phase**2))  # those joints whose turn it is
    swing = 0.08 * part * np.sin(2 * np.pi * (1 + 2 * scene.place) * times + random.uniform(0, 6))
    points = np.empty((frames, joints, 3), np.float32)
    points[..., 0] = size[0] * (body[:, 0] + swing + random.normal(0, 0.01))
    points[..., 1] = size[1] * (body[:, 1] + 0.5 * swing + random.normal(0, 0.01))
    points[..., :2] += random.normal(0, 1, (frames, joints, 2))
    points[..., 2] = random.uniform(0.6, 0.95, (frames, joints))
    return points


def gaze(scene: Scene, samples: int, screen: tuple[int, int] = (1920, 1080)) -> np.ndarray:
    """(samples, 4): gaze x, y in pixels, pupils left and right in mm; where one looks, and how wide, is the class."""
    random = scene.random(4)
    angle = 2 * np.pi * scene.place
    centre = np.array(screen) * (0.5 + 0.3 * np.array([np.cos(angle), np.sin(angle)]))
    jumps = np.repeat(random.normal(0, 40, (samples // 12 + 1, 2)), 12, axis=0)[:samples]
    points = centre + jumps + random.normal(0, 3, (samples, 2))
    pupil = 3 + 1.5 * scene.place + 0.05 * np.cumsum(random.normal(0, 0.05, samples))
    return np.column_stack([points, pupil, pupil + random.normal(0, 0.02, samples)])


def film(
    path: Path,
    shown: np.ndarray,
    wave: np.ndarray | None = None,
    fps: float = 25.0,
    times: Sequence[float] | None = None,
    rate: int = RATE,
) -> None:
    """Write an H.264 mp4, with AAC sound where there is some.

    Args:
        shown: (F, height, width, 3) uint8; height and width even.
        wave: (N,) sound, or None for a file without any.
        fps: frames per second.
        times: (F,) seconds at which the frames are shown instead: a variable frame rate.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 1000)
    when = np.arange(len(shown)) / fps if times is None else np.asarray(times, float)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        video.height, video.width, video.pix_fmt = *shown.shape[1:3], "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "20", "bf": "0", "threads": "1"}
        if times is not None:
            video.codec_context.time_base = base
        audio = None
        if wave is not None:
            audio = container.add_stream("aac", rate=rate, layout="mono")
        for picture, second in zip(shown, when, strict=True):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            image.pts, image.time_base = round(second / base), base
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        if audio is not None and wave is not None:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[None], np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))


def record(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    """Write 16-bit mono sound as .wav or .flac."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}[path.suffix.lower()]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        samples = np.clip(wave * 32767, -32768, 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def frames(folder: Path, shown: np.ndarray, name: Callable[[int], str], absent: Collection[int] = ()) -> None:
    """Write pictures as .jpg or .png files of one folder.

    Args:
        shown: (F, height, width, 3) uint8.
        name: file name of frame k.
        absent: frames that are left out, as where no face was found.
    """
    import cv2  # a fifth of a second

    folder.mkdir(parents=True, exist_ok=True)
    for k, picture in enumerate(shown):
        if k not in absent:
            cv2.imwrite(str(folder / name(k)), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> None:
    """Write text, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")
