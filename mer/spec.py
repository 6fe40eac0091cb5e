"""`InputSpec`: what an encoder wants to be fed, and the only description of preprocessing anywhere. No torch here.

The datamodule, the feature store and the predictor prepare media from it alone; a checkpoint stores it, and the key of
every cached feature holds it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from mer.errors import UserError
from mer.skeletons import layout

Kind = Literal["audio", "video", "flow", "taylor", "pose", "eye", "text", "features"]


@dataclass(frozen=True)
class Face:
    """How faces are found, followed and cut out.

    Attributes:
        detector: `haar` (OpenCV, in the core), `mediapipe` (extra), `precomputed` (boxes or points from `file`).
        align: `arcface` warps five points onto the ArcFace template, `square` cuts a square around the box.
        target: whose face: the `largest`, the most `central`, or `all` (in order of time, then of track; with `segments`,
            neighbours may then be different people).
        margin: width of the square crop beyond the box, as a share of it on each side; `arcface` has its own frame.
        confidence: least score of a detection, in the detector's own units.
        smallest: least height of a face as a share of the picture's short side.
        every: look for faces on every n-th picture that is used, and hold the box between.
        hold: seconds that a track lives on without a detection, its box standing still.
        file: of `precomputed`: pattern relative to the corpus root, e.g. `boxes/{stem}.csv`; `@/faces/{stem}.csv` lies
            beside the manifest, where `mer prepare` puts its own. In prediction, --input MODALITY.faces=FILE names it.
    """

    detector: Literal["haar", "mediapipe", "precomputed"] = "haar"
    align: Literal["arcface", "square"] = "square"
    target: Literal["largest", "central", "all"] = "largest"
    margin: float = 0.15
    confidence: float = 0.5
    smallest: float = 0.1
    every: int = 1
    hold: float = 0.4
    file: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("detector", ("haar", "mediapipe", "precomputed")),
            ("align", ("arcface", "square")),
            ("target", ("largest", "central", "all")),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"face.{name} is {getattr(self, name)!r}", f"Use {' or '.join(choices)}")
        if (self.detector == "precomputed") != (self.file is not None):
            raise UserError("face.file goes with the detector 'precomputed' and with no other", "Give both, or neither")
        if self.every < 1 or self.hold < 0 or self.margin < 0 or not 0 <= self.smallest < 1:
            raise UserError("face.every, hold, margin or smallest is out of range", "See mer.spec.Face")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Face:
        """From YAML or a checkpoint."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise UserError(f"face has no setting {unknown[0]!r}", f"It has {', '.join(sorted(known))}")
        return cls(**plain)


@dataclass(frozen=True)
class InputSpec:
    """What an encoder wants to be fed.

    Attributes:
        kind: `audio` (mono waveform in [-1, 1]), `video` (RGB frames), `flow` (u, v, strain between frames), `taylor`
            (signed Taylor frames), `pose` (skeletons), `eye` (gaze, pupils, head), `text` (words) or `features` (cached
            rows).
        rate: Hz. Samples per second of a waveform; frames, skeletons or flow fields per second of a video, where None
            takes each frame of the file once; rows per second of a feature sequence (None: one row stands for the whole
            clip, or rows divide the clip evenly).
        size: (height, width) of a frame in pixels.
        mean, std: per channel of a frame scaled to [0, 1]; the encoder subtracts and divides.
        crop: `center` cuts the largest centred picture of the wanted shape before resizing, `left` and `right` the one at that
            end of the longer side (of upright pictures: top and bottom), `none` squeezes the whole picture, `face` cuts out
            the face as `face` says.
        face: how the face is found.
        segments: instead of a rate: the clip is divided into so many equal parts, and each gives `duration` frames
            `stride` frames apart, from its middle (in training from a random place). 16 x 1: segments 16. 8 x 2:
            segments 8, duration 2. Dense 16 x 4: segments 1, duration 16, stride 4.
        width: number of columns of a feature row; of `text`, bytes that a word takes at most.
        trim: dB; sound at both ends that is this much weaker than the loudest 25 ms is left out (None keeps it).
        window: seconds the encoder likes to see at once; the predictor slides windows of this length.
        backend: what computes a derived stream. flow: `dis`, `farneback`, `tvl1`. pose: `mediapipe`, `mediapipe-hands`,
            `file`. eye: `mediapipe`, `file`.
        layout: joints of a skeleton and their order, by name.
        columns: of `eye`: names of the channels, in order.
        pairs: of `flow`: `dense` between neighbouring frames, `onset_apex` from the first frame to the one that moved most.
        terms: of `taylor`: terms of the series.
    """

    kind: Kind
    rate: float | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: Literal["center", "left", "right", "none", "face"] = "center"
    face: Face | None = None
    segments: int | None = None
    duration: int = 1
    stride: int = 1
    width: int | None = None
    trim: float | None = None
    window: float | None = None
    backend: str | None = None
    layout: str | None = None
    columns: tuple[str, ...] = ()
    pairs: Literal["dense", "onset_apex"] = "dense"
    terms: int = 3

    def __post_init__(self) -> None:
        if self.crop == "face" and self.face is None:
            raise UserError("crop 'face' without 'face'", "Say how faces are found, e.g. face=Face()")
        if self.segments is not None and (self.rate is not None or self.segments < 1):
            raise UserError("an input has either a rate or segments of at least 1", "Leave one of them out")
        if self.duration < 1 or self.stride < 1 or (self.rate is not None and self.rate <= 0):
            raise UserError("duration, stride and rate of an input are above 0", "Correct the encoder's arguments")

    @property
    def sampled_by_count(self) -> bool:
        """A fixed number of frames whatever the length of the clip: a stretch must be prepared, it cannot be cut out."""
        return self.segments is not None

    @property
    def from_file(self) -> bool:
        """Whether it stands ready in a file of its own (rows, words, skeletons, gaze), not in the picture or the sound."""
        return self.kind in ("features", "text") or self.backend == "file"

    @property
    def chosen_later(self) -> bool:
        """Whether a fixed number of elements may be chosen once all of them are made, with the same result."""
        return self.sampled_by_count and self.kind in ("video", "flow", "taylor")

    def dense(self) -> InputSpec:
        """Where a fixed number of frames is wanted, each frame of the file once: what they are chosen from later."""
        return replace(self, segments=None, duration=1, stride=1) if self.sampled_by_count else self

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> InputSpec:
        """The spec that `to_dict` wrote."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        if values.get("face") is not None:
            values["face"] = Face.from_dict(values["face"])
        return cls(**values)

    def item_shape(self) -> tuple[int, ...]:
        """Shape of one element along N: () for a waveform, (3, H, W) for a frame, (V, 3) for a skeleton (x, y, confidence;
        (V, 4) where it is 3-D), (columns,) of `eye`, (width,) for a feature row or a word.
        """
        if self.kind in ("video", "flow", "taylor"):
            assert self.size is not None
            return (3, *self.size)
        if self.kind == "eye":
            return (len(self.columns),)
        if self.kind == "pose":
            assert self.layout is not None
            skeleton = layout(self.layout)
            return (skeleton.size, 4 if skeleton.depth else 3)
        return (self.width,) if self.kind in ("features", "text") and self.width else ()
