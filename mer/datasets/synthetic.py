"""A small audio-visual corpus whose label lives only between the modalities: real mp4 files, drawn and sung by NumPy.

A cartoon face smiles or frowns while a voice hums syllables that glide up or down. `emotion` is the pair of cues (joyful:
smile and rising, relieved: smile and falling, alarmed: frown and rising, sad: frown and falling), so either modality alone
is right half of the time at best. `agreement` is their exclusive-or (congruent or ambivalent), of which either alone says
nothing. Every subject has each of the four pairs equally often. Subjects differ in skin, hair,
clothes, background, place and size of the face, pitch and timbre; clips differ in head motion, blinking, loudness and
noise. The corpus is made up here and follows no publication.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.random import Generator, default_rng
from tqdm import tqdm

from mer.errors import UserError
from mer.files import write_text
from mer.labels import SPACES

EMOTION = SPACES["synthetic4.v1"]
AGREEMENT = SPACES["synthetic_xor.v1"]
FRAME_LABEL_RATE = 5.0  # Hz, of the frame_labels files
_SYLLABLE = 1 / 3  # seconds from one syllable to the next
_FORMAT = 3
_MARK = "# Written by mer.datasets.synthetic; reused while this line stays the same: "
_FIRST_ROUND = ((True, True), (False, True), (False, False), (True, False))  # (smile, rising): agreement switches


# --- What is in the corpus ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SyntheticClip:
    """One clip: who, in which part of the protocol, and which cues it shows.

    Attributes:
        clip_id, subject: names, e.g. `s03_c11` and `s03`.
        split: `train`, `val` or `test`; the same for all clips of a subject.
        fold: 0-based fold of the subject.
        smiles, rising: one cue of each kind per segment.
        segment: seconds per segment.
        subject_seed, clip_seed: what the looks and the voice, and the moment's variation, are drawn from.
        faint: both cues are so weak that they can hardly be told, as with people.
    """

    clip_id: str
    subject: str
    split: str
    fold: int
    smiles: tuple[bool, ...]
    rising: tuple[bool, ...]
    segment: float
    subject_seed: int
    clip_seed: int
    faint: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Emotion of every segment."""
        return tuple(emotion_of(s, r) for s, r in zip(self.smiles, self.rising, strict=True))

    @property
    def file(self) -> str:
        """The mp4, relative to the corpus."""
        return f"clips/{self.subject}/{self.clip_id}.mp4"


def emotion_of(smile: bool, rising: bool) -> str:
    """Class name of a pair of cues: one of four."""
    return EMOTION.names[2 * (not smile) + (not rising)]


def agreement_of(smile: bool, rising: bool) -> str:
    """Whether the cues agree: their exclusive-or."""
    return AGREEMENT.names[int(smile != rising)]


def plan(
    subjects: int = 24,
    clips_per_subject: int = 16,
    folds: int = 4,
    seconds: float = 2.0,
    seed: int = 0,
    frame_level: bool = False,
    faint: float = 0.0,
) -> list[SyntheticClip]:
    """The clips of a corpus, without writing anything; arguments as in `generate`."""
    if clips_per_subject < 4 or clips_per_subject % 4:
        raise UserError(
            f"clips_per_subject is {clips_per_subject}, which the four pairs of cues cannot share equally",
            "Use a multiple of 4",
        )
    if subjects < 3:
        raise UserError(f"{subjects} subject(s) cannot fill train, val and test", "Use at least 3 subjects")
    if not 1 <= folds <= subjects:
        raise UserError(f"{folds} folds of {subjects} subjects", "Use between 1 and as many folds as subjects")
    if not 0 <= faint <= 1:
        raise UserError(f"faint is {faint:g}", "Give a share between 0 and 1")
    segments = 2 if frame_level else 1
    if not seconds >= 0.5 * segments:
        raise UserError(f"clips of {seconds:g} s are too short to hear a glide", f"Use at least {0.5 * segments:g} s")

    testing = max(1, subjects // 4)
    validating = max(1, subjects // 8)
    digits = max(2, len(str(subjects - 1)))
    clips = []
    for s in range(subjects):
        subject = f"s{s:0{digits}d}"
        split = "test" if s >= subjects - testing else "val" if s >= subjects - testing - validating else "train"
        order = default_rng([seed, s])
        # Each segment is balanced by itself, so agreement in the second is as good as a coin toss given the first.
        pairs = [order.permutation(np.arange(clips_per_subject) % 4) for _ in range(segments)]
        weak = order.random(clips_per_subject) < faint
        for c in range(clips_per_subject):
            cues = [_FIRST_ROUND[int(p[c])] for p in pairs]
            clips.append(
                SyntheticClip(
                    clip_id=f"{subject}_c{c:0{max(2, len(str(clips_per_subject - 1)))}d}",
                    subject=subject,
                    split=split,
                    fold=s % folds,
                    smiles=tuple(smile for smile, _ in cues),
                    rising=tuple(up for _, up in cues),
                    segment=seconds / segments,
                    subject_seed=_seed(seed, s),
                    clip_seed=_seed(seed, s, c),
                    faint=bool(weak[c]),
                )
            )
    return clips


def generate(
    out: Path,
    subjects: int = 24,
    clips_per_subject: int = 16,
    folds: int = 4,
    seconds: float = 2.0,
    seed: int = 0,
    progress: bool = True,
    frame_level: bool = False,
    faint: float = 0.0,
) -> None:
    """Write the corpus: `clips/<subject>/<clip_id>.mp4`, `manifest.csv` and `corpus.yaml`.

    Beside it go `interview.mp4`, 12 s of a person who is in no split, and `interview_truth.csv` (start, end, label) with
    an emotion that switches every 3 s: something to draw a timeline of. The last quarter of the subjects is the test
    split and the eighth before it validates. Output of an earlier call with the same arguments is left as it is;
    the manifest is written last, so output without one is unfinished and is written again.

    Args:
        out: folder of the corpus, made if missing.
        subjects: people, at least 3.
        clips_per_subject: a multiple of 4.
        folds: subject k is in fold k modulo this.
        seconds: length of a clip, rounded to whole frames (10 per second).
        seed: everything random follows from it.
        progress: show a bar.
        frame_level: clips get two halves with a pair of cues each, a file `frame_labels/<clip_id>.csv` with columns
            `time, emotion_frame` at 5 Hz (time is the middle of the stretch that the label holds for) and a frame-level
            task `emotion_frame`. The clip's own `emotion` is then that of its first half: about half of the clips
            change, so a model that pools the whole clip cannot get it right, and one that attends to time can.
        faint: share of clips whose cues can hardly be told, so that nobody scores 100 %.

    Raises:
        UserError: the arguments do not fit together, or `out` holds a corpus that is not from here.
    """
    clips = plan(subjects, clips_per_subject, folds, seconds, seed, frame_level, faint)
    out = Path(out)
    manifest, corpus = out / "manifest.csv", out / "corpus.yaml"
    wanted = {
        "format": _FORMAT,
        "subjects": subjects,
        "clips_per_subject": clips_per_subject,
        "folds": folds,
        "seconds": float(seconds),
        "seed": seed,
        "frame_level": frame_level,
        "faint": float(faint),
    }
    description = _corpus_yaml(wanted, frame_level)
    found = corpus.read_text(encoding="utf-8") if corpus.is_file() else None
    if (found is None and manifest.exists()) or (found is not None and not found.startswith(_MARK)):
        raise UserError(f"{out}: there is a corpus here that is not a synthetic one", "Choose an empty folder")
    written = [clip.file for clip in clips] + ["interview.mp4", "interview_truth.csv"]
    written += [_frame_file(clip) for clip in clips] if frame_level else []
    if found == description and manifest.is_file() and all((out / name).is_file() for name in written):
        return

    out.mkdir(parents=True, exist_ok=True)
    manifest.unlink(missing_ok=True)
    write_text(corpus, description)
    rows = []
    for clip in tqdm(clips, desc="synthetic corpus", unit="clip", disable=not progress):
        path = out / clip.file
        path.parent.mkdir(parents=True, exist_ok=True)
        end = write_clip(
            path,
            smiles=clip.smiles,
            rising=clip.rising,
            segment=clip.segment,
            subject_seed=clip.subject_seed,
            clip_seed=clip.clip_seed,
            strength=0.1 if clip.faint else 1.0,
        )
        row = [clip.clip_id, clip.subject, "", "0", f"{end:g}", clip.split, str(clip.fold)]
        row += [clip.labels[0], agreement_of(clip.smiles[0], clip.rising[0]), clip.file, clip.file]
        if frame_level:
            _write_frame_labels(out / _frame_file(clip), clip, end)
            row.append(_frame_file(clip))
        rows.append(row)
    _write_interview(out, seed)
    header = ["clip_id", "subject", "group", "start", "end", "split", "fold", "emotion", "agreement", "video", "audio"]
    _write_csv(manifest, header + ["frame_labels"] * frame_level, rows)


def write_clip(
    path: Path,
    *,
    smiles: Sequence[bool],
    rising: Sequence[bool],
    segment: float,
    subject_seed: int,
    clip_seed: int,
    fps: int = 10,
    size: int = 64,
    rate: int = 16000,
    strength: float = 1.0,
) -> float:
    """Write one mp4 (H.264 and AAC) of one or more segments that follow each other without a cut.

    Args:
        path: the file; its folder exists.
        smiles, rising: the cues of each segment.
        segment: seconds per segment; the whole is rounded to full frames.
        subject_seed: looks and voice.
        clip_seed: what differs between clips of a subject.
        fps: frames per second.
        size: height and width in pixels, even.
        rate: samples of sound per second.
        strength: of both cues; 1 is plain to see and hear, 0 is a straight mouth and level tones.

    Returns:
        length in seconds, the same for picture and sound (the last AAC frame may add a few hundredths of silence).

    Raises:
        UserError: cues and segments do not match, or the size cannot be encoded.
    """
    if not smiles or len(smiles) != len(rising):
        raise UserError(f"{len(smiles)} smiles for {len(rising)} glides", "Give one of each per segment, at least one")
    if size % 2 or size < 32:
        raise UserError(f"size {size} cannot be drawn and encoded", "Use an even number of pixels, at least 32")
    frames = max(1, round(len(smiles) * segment * fps))
    person = _Person.draw(default_rng(subject_seed))
    picture_rng, sound_rng = default_rng([clip_seed, 0]), default_rng([clip_seed, 1])
    wave, loudness = _sing(person, rising, segment, round(frames * rate / fps), rate, sound_rng, strength)
    middles = (np.arange(frames) + 0.5) / fps
    opening = loudness[np.minimum((middles * rate).astype(int), len(loudness) - 1)]
    pictures = _paint(person, strength * _curvature(smiles, segment, middles), opening, middles, size, picture_rng)
    _encode(path, pictures, wave, fps, rate)
    return frames / fps


def draw_person(
    seed: int, curve: np.ndarray, opening: np.ndarray, times: np.ndarray, size: int, rng: Generator
) -> np.ndarray:
    """One person's face: (F, size, size, 3) uint8 RGB; the mouth bends by `curve` (F,), -1 to 1, and opens by `opening`."""
    return _paint(_Person.draw(default_rng(seed)), curve, opening, times, size, rng)


# --- Who is seen and heard ----------------------------------------------------------------------------------------

_SKINS = ((255, 224, 196), (241, 194, 155), (224, 172, 128), (198, 140, 98), (164, 114, 82), (136, 94, 70))
_HAIRS = ((44, 32, 30), (92, 58, 38), (150, 92, 48), (214, 170, 96), (168, 66, 40), (150, 148, 152))
_WALLS = ((140, 190, 214), (176, 208, 168), (232, 206, 150), (206, 176, 214), (236, 176, 164), (168, 176, 190))
_CLOTHES = ((60, 92, 150), (170, 62, 70), (64, 124, 96), (120, 84, 150), (214, 150, 60), (80, 84, 96))


@dataclass(frozen=True)
class _Person:
    """What stays the same over all clips of a subject; lengths are fractions of the picture, colours are 0 to 255."""

    skin: np.ndarray
    hair: np.ndarray
    wall: np.ndarray
    clothes: np.ndarray
    long_hair: bool
    fringe: float
    centre: tuple[float, float]  # x, y
    radius: float
    mouth: float  # half its width in face radii
    pitch: float  # Hz
    formants: tuple[float, float, float]  # Hz
    tilt: float  # fall of the harmonics, as a power of their number

    @classmethod
    def draw(cls, rng: Generator) -> _Person:
        def colour(choices: Sequence[tuple[int, int, int]], spread: float) -> np.ndarray:
            picked = np.asarray(choices[int(rng.integers(len(choices)))], np.float32)
            return np.clip(picked + rng.normal(0, spread, 3), 20, 255).astype(np.float32)

        throat = rng.uniform(0.85, 1.2)
        return cls(
            skin=colour(_SKINS, 3),
            hair=colour(_HAIRS, 6),
            wall=colour(_WALLS, 12),
            clothes=colour(_CLOTHES, 12),
            long_hair=bool(rng.random() < 0.5),
            fringe=float(rng.uniform(-0.62, -0.48)),
            centre=(float(rng.uniform(0.45, 0.55)), float(rng.uniform(0.45, 0.51))),
            radius=float(rng.uniform(0.29, 0.35)),
            mouth=float(rng.uniform(0.42, 0.52)),
            pitch=float(100 * 2.6 ** rng.random()),
            formants=(620 * throat, 1350 * throat, 2600 * throat),
            tilt=float(rng.uniform(0.5, 1.1)),
        )


# --- The picture --------------------------------------------------------------------------------------------------


def _curvature(smiles: Sequence[bool], segment: float, times: np.ndarray) -> np.ndarray:
    """(F,) from -1 (frown) to 1 (smile); the face takes 0.2 s to change, centred on the boundary."""
    signs = np.where(np.asarray(smiles), 1.0, -1.0)
    curve = np.full(len(times), signs[0])
    for k, step in enumerate(np.diff(signs), start=1):
        curve += step * np.clip((times - k * segment) / 0.2 + 0.5, 0, 1)
    return curve


def _paint(
    person: _Person, curve: np.ndarray, opening: np.ndarray, times: np.ndarray, size: int, rng: Generator
) -> np.ndarray:
    """Draw the face of every frame at once, back to front, from signed distances (so edges are smooth).

    Args:
        curve: (F,) curvature of the mouth, from -1 to 1.
        opening: (F,) from 0 to 1, how much the mouth is open.
        times: (F,) seconds.

    Returns:
        (F, size, size, 3) uint8 RGB.
    """
    grid = ((np.arange(size) + 0.5) / size).astype(np.float32)
    sway_x, sway_y, nod = (_wander(times, rng) for _ in range(3))
    x = grid[None, None, :] - _per_frame(person.centre[0] + 0.02 * sway_x)
    y = grid[None, :, None] - _per_frame(person.centre[1] + 0.015 * sway_y)
    angle = _per_frame(0.07 * nod)
    # Face coordinates: the origin between nose and eyes, x right, y down, one unit is the face's radius.
    u = (x * np.cos(angle) + y * np.sin(angle)) / person.radius
    v = (y * np.cos(angle) - x * np.sin(angle)) / person.radius
    unit = person.radius * size  # pixels
    across = np.abs(u)

    light = 1.08 - 0.22 * grid[:, None] + 0.06 * np.sin(4 * grid + rng.uniform(0, 6))[None, :]
    canvas = np.empty((3, len(times), size, size), np.float32)  # colours first: painting is three times faster so
    canvas[:] = person.wall[:, None, None, None] * light

    def lay(distance: np.ndarray, colour: Iterable[float], strength: float = 1.0) -> None:
        """Paint where the distance (face units) is negative; the edge is one pixel wide."""
        cover = (np.clip(0.5 - distance * unit, 0, 1) * strength).astype(np.float32, copy=False)
        for plane, value in zip(canvas, colour, strict=True):
            plane += cover * (np.float32(value) - plane)

    skin, hair = person.skin, person.hair
    if person.long_hair:
        lay(np.maximum(_ellipse(u, v - 0.35, 1.16, 1.5), v - 1.25), hair * 0.85)
    lay(np.maximum(across - 0.34, np.abs(v - 1.0) - 0.5), skin * 0.8)  # neck
    lay(_ellipse(u, v - 2.15, 1.45, 1.0), person.clothes)
    lay(_ellipse(u, v + 0.12, 1.09, 1.1), hair)
    lay(_ellipse(across - 0.97, v - 0.05, 0.16, 0.22), skin * 0.92)  # ears
    lay(_ellipse(u, v - 0.04, 0.96, 1.06), skin)
    fringe = v - person.fringe - 0.16 * u * u + 0.1 * u
    lay(np.maximum(_ellipse(u, v + 0.06, 1.0, 1.06), fringe), hair)
    lay(_ellipse(across - 0.58, v - 0.34, 0.2, 0.14), (236, 110, 104), 0.3)  # cheeks

    lid = _per_frame(_blinking(times, rng))  # 1 open, 0 closed
    lay(_ellipse(across - 0.38, v + 0.1, 0.14 - 0.02 * lid, 0.035 + 0.125 * lid), (34, 22, 28))
    lay(_ellipse(across - 0.38 + 0.04 * np.sign(u), v + 0.16, 0.045, 0.05 * lid), (255, 255, 255))  # a glint
    lay(_arc(across - 0.38, v + 0.42, 0.2, np.float32(-0.05), 0.045), hair * 0.6)  # brows
    lay(_arc(u, v - 0.2, 0.1, np.float32(0.06), 0.035), skin * 0.68)  # nose

    bend = 0.27 * rng.uniform(0.9, 1.15)
    lay(_arc(u, v - 0.55, person.mouth, _per_frame(bend * curve), _per_frame(0.075 + 0.035 * opening)), (78, 10, 22))

    exposure = rng.uniform(0.92, 1.06)
    canvas = canvas * np.float32(exposure) + 5 * rng.standard_normal(canvas.shape, np.float32)
    return np.ascontiguousarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8).transpose(1, 2, 3, 0))


def _per_frame(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]


def _ellipse(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """Distance to an ellipse about the origin, exact to first order at its edge, which is where it is looked at."""
    b = np.maximum(b, 1e-3)
    away = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2)
    return away * (away - 1) / np.maximum(slope, 1e-6)


def _arc(
    x: np.ndarray, y: np.ndarray, half: float, bend: np.ndarray | np.float32, thick: float | np.ndarray
) -> np.ndarray:
    """Distance to a stroke along a parabola with round ends; a positive bend turns the ends up, as in a smile."""
    along = np.clip(x, -half, half)
    height = bend * (0.5 - (along / half) ** 2)
    slope = -2 * bend * along / half**2
    inside = np.abs(y - height) / np.sqrt(1 + slope**2)
    return np.where(np.abs(x) <= half, inside, np.hypot(x - along, y - height)) - thick


def _wander(times: np.ndarray, rng: Generator) -> np.ndarray:
    """(F,) slow motion about zero, at most 1."""
    return 0.6 * np.sin(rng.uniform(1, 2.5) * times + rng.uniform(0, 6.28)) + 0.4 * np.sin(
        rng.uniform(3, 5) * times + rng.uniform(0, 6.28)
    )


def _blinking(times: np.ndarray, rng: Generator) -> np.ndarray:
    """(F,) opening of the lids: closed for 0.2 s every 1.5 to 4 s."""
    lids, blink = np.ones(len(times)), rng.uniform(0.3, 2.5)
    while blink < times[-1]:
        lids = np.minimum(lids, np.clip(np.abs(times - blink) / 0.1 - 0.5, 0, 1))
        blink += rng.uniform(1.5, 4.0)
    return lids


# --- The sound ----------------------------------------------------------------------------------------------------


def _sing(
    person: _Person,
    rising: Sequence[bool],
    segment: float,
    samples: int,
    rate: int,
    rng: Generator,
    strength: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Syllables about three times per second, each a harmonic tone whose pitch glides 7 to 11 semitones.

    A syllable's loudness is symmetric in time and its middle pitch does not depend on the direction, so that nothing but
    the direction of the glide differs. Syllables fill a segment evenly, none crosses a boundary.

    Returns:
        wave (samples,) float32 in [-1, 1] and its envelope (samples,) in [0, 1].
    """
    octaves, envelope = np.zeros(samples), np.zeros(samples)
    count = max(1, round(segment / _SYLLABLE))
    for k, up in enumerate(rising):
        for j in range(count):
            first, length = k * segment + j * segment / count, segment / count
            begin = first + length * rng.uniform(0.03, 0.15)
            stop = begin + length * rng.uniform(0.7, 0.82)
            reach = slice(min(samples, round(begin * rate)), min(samples, round(stop * rate)))
            way = np.linspace(-0.5, 0.5, reach.stop - reach.start)
            glide = strength * rng.uniform(7, 11) / 12
            octaves[reach] = rng.normal(0, 1.0) / 12 + (glide if up else -glide) * way
            envelope[reach] = np.minimum(1, 4 * (0.5 - np.abs(way))) ** 0.7 * rng.uniform(0.7, 1.0)
    pitch = person.pitch * 2**octaves
    phase = (2 * np.pi * (np.cumsum(pitch) / rate % 1.0)).astype(np.float32)
    pitch = pitch.astype(np.float32)
    tone = np.zeros(samples, np.float32)
    for k in range(1, 1 + int(min(3600.0, 0.45 * rate) / person.pitch)):
        frequency = k * pitch
        vowel = 0.15 + sum(np.exp(-np.square((frequency - f) / 250)) for f in person.formants)
        tone += np.sin(k * phase) * vowel * (frequency < 0.48 * rate) / k**person.tilt
    wave = tone * envelope / max(1e-9, float(np.abs(tone).max()))
    wave += _room(samples, rng) * 0.012 * rng.uniform(0.5, 1.5)
    return np.clip(wave * rng.uniform(0.35, 0.8), -1, 1).astype(np.float32), envelope


def _room(samples: int, rng: Generator) -> np.ndarray:
    """(samples,) noise of unit power, stronger towards low frequencies as in a room."""
    noise = rng.normal(0, 1, samples + 8)
    smooth = np.convolve(noise, np.exp(-np.arange(9) / 4.0), "valid")
    return smooth / max(1e-9, float(smooth.std()))


# --- Files --------------------------------------------------------------------------------------------------------


def _encode(path: Path, pictures: np.ndarray, wave: np.ndarray, fps: int, rate: int) -> None:
    """Write (F, H, W, 3) uint8 and (N,) float32 as mp4; one thread and no B-frames, so that bytes do not vary."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = pictures.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        video.options = {"preset": "veryfast", "crf": "18", "bf": "0", "threads": "1"}
        audio = container.add_stream("aac", rate=rate, layout="mono")
        audio.bit_rate = 64000
        audio.options = {"aac_coder": "fast"}
        for k, picture in enumerate(pictures):
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts, image.time_base = k, Fraction(1, fps)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _write_interview(out: Path, seed: int) -> None:
    """Someone outside the corpus, in four segments of 3 s."""
    segment = 3.0
    write_clip(
        out / "interview.mp4",
        smiles=[smile for smile, _ in _FIRST_ROUND],
        rising=[up for _, up in _FIRST_ROUND],
        segment=segment,
        subject_seed=_seed(seed, 1 << 30),
        clip_seed=_seed(seed, 1 << 30, 0),
    )
    rows = [[f"{k * segment:g}", f"{(k + 1) * segment:g}", emotion_of(*cues)] for k, cues in enumerate(_FIRST_ROUND)]
    _write_csv(out / "interview_truth.csv", ["start", "end", "label"], rows)


def _frame_file(clip: SyntheticClip) -> str:
    return f"frame_labels/{clip.clip_id}.csv"


def _write_frame_labels(path: Path, clip: SyntheticClip, end: float) -> None:
    path.parent.mkdir(exist_ok=True)
    times = (np.arange(max(1, round(end * FRAME_LABEL_RATE))) + 0.5) / FRAME_LABEL_RATE
    segments = np.minimum((times / clip.segment).astype(int), len(clip.labels) - 1)
    rows = [[f"{time:g}", clip.labels[k]] for time, k in zip(times, segments, strict=True)]
    _write_csv(path, ["time", "emotion_frame"], rows)


def _corpus_yaml(wanted: Mapping[str, object], frame_level: bool) -> str:
    emotion, agreement = (
        f"{{name: {s.name}, kind: {s.kind}, names: [{', '.join(s.names)}]}}" for s in (EMOTION, AGREEMENT)
    )
    lines = [
        _MARK + json.dumps(wanted),
        "name: synthetic",
        "licence: CC0-1.0",
        "subject_disjoint: true",
        "protocol: synthetic corpus, subject-disjoint",
        "root: .",
        "tasks:",
        f"  emotion: {{space: {emotion}, level: video, column: emotion}}",
        f"  agreement: {{space: {agreement}, level: video, column: agreement}}",
    ]
    if frame_level:
        lines.append(f"  emotion_frame: {{space: {emotion}, level: frame, column: emotion_frame}}")
    return "\n".join(lines) + "\n"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def _seed(*parts: int) -> int:
    """One well-mixed seed from several small numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
