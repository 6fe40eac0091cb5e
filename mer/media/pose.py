"""Skeletons seen in a video by MediaPipe: body, or body and hands, of one person."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from mer.errors import UserError
from mer.media.frame import Frame
from mer.media.mesh import VERSION, silence, solutions
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream
from mer.media.view import Taking
from mer.skeletons import Layout, convert, layout
from mer.spec import InputSpec

# Per backend the layout that it sees.
NATIVE = {"mediapipe": "mediapipe33", "mediapipe-hands": "mediapipe75"}
# Least scores: to find a person or a hand, and to keep following it. With MediaPipe's own 0.5 and 0.5 lettering and feet
# pass for bodies: 25 of 40 pictures of a title sequence, with these 4; no picture of a real person was lost.
DETECT, TRACK = 0.6, 0.8
STEADY = 10.0  # Hz; people move too far between pictures that are further apart to be followed from one to the next


def identity(spec: InputSpec) -> str:
    """Backend, version and thresholds, for cache keys; the package need not be there.

    Raises:
        UserError: unknown backend.
    """
    _check(spec)
    how = "each alone" if _alone(spec) else "followed"
    return f"{spec.backend} {VERSION} pose-1; complexity 1; detect {DETECT:g}; track {TRACK:g}; {how}"


class Skeletons(Taking):
    """The skeleton of the person that MediaPipe finds: (N, V, 3) float32 of x, y, confidence.

    x and y are pixels of the upright picture and may lie outside it; confidence is MediaPipe's visibility in [0, 1], and
    for the points of a hand the score of its handedness. A hand that is not found has zeros. Frames in which no body is
    found give no element. MediaPipe finds one person; which one, where there are several, it does not promise.

    The pictures of a stretch are followed from one to the next and their points smoothed (Bazarevsky et al., BlazePose,
    2020), so that a skeleton depends on where the stretch starts. Where they are sampled by `segments` or below 10 Hz,
    each is looked at alone.

    Args:
        sampling: which frames are looked at.
        spec: `backend` `mediapipe` or `mediapipe-hands`; `layout`, by default what the backend sees.

    Raises:
        UserError: unknown backend or layout, a layout that is 3-D, or MediaPipe is not installed (at the first frame).
    """

    def __init__(self, sampling: Sampling, spec: InputSpec):
        _check(spec)
        super().__init__(sampling)
        self.spec = spec
        self.layout: Layout = layout(spec.layout or NATIVE[str(spec.backend)])
        if self.layout.depth:
            raise UserError(
                f"pose: skeletons of {self.layout.name!r} are 3-D, and those of {spec.backend} 2-D",
                "Choose an encoder of another layout, or a file of 3-D skeletons",
            )
        convert(np.zeros((1, self._native.size, 3), np.float32), self._native, self.layout)  # refuses what cannot be
        self._finder: Finder | None = None

    @property
    def _native(self) -> Layout:
        return layout(NATIVE[str(self.spec.backend)])

    def made(self) -> Stream:
        if self._finder is not None:
            self._finder.close()
        native = self.kept((self._native.size, 3))
        return Stream(convert(native.values, self._native, self.layout), native.spans)

    def take(self, frame: Frame, spans: list[Span]) -> None:
        if self._finder is None:
            self._finder = Finder(hands=self.spec.backend == "mediapipe-hands", alone=_alone(self.spec))
        found = self._finder.find(frame.rgb())
        if found is not None:
            self.keep(found, spans)


class Finder:
    """MediaPipe's pose, and hands where they are wanted, over the pictures of one stretch in order.

    Args:
        hands: look for hands, too.
        alone: look at each picture for itself.
    """

    def __init__(self, hands: bool, alone: bool):
        library = solutions()
        # Complexity 1 is the only one whose model the wheel contains; 0 and 2 would be downloaded.
        scores: dict[str, Any] = {"min_detection_confidence": DETECT, "min_tracking_confidence": TRACK}
        with silence():
            self._pose = library.pose.Pose(static_image_mode=alone, model_complexity=1, **scores)
            self._hands = library.hands.Hands(static_image_mode=alone, model_complexity=1, **scores) if hands else None
        self._talks = True

    def find(self, rgb: np.ndarray) -> np.ndarray | None:
        """(33 or 75, 3) float32 of x, y, confidence, or None where no body is found.

        Args:
            rgb: (H, W, 3) uint8.
        """
        size = np.array([rgb.shape[1], rgb.shape[0]], np.float32)
        with silence() if self._talks else contextlib.nullcontext():  # the models load with what they first see
            marks = self._pose.process(rgb).pose_landmarks
            # The hands see every picture, with or without a body: they follow, too.
            seen = self._hands.process(rgb) if self._hands is not None else None
        self._talks = marks is None
        if marks is None:
            return None
        body = np.array([[m.x, m.y, m.visibility] for m in marks.landmark], np.float32)
        body[:, :2] *= size
        if seen is None:
            return body
        hands, lefts = [], []
        for points, side in zip(seen.multi_hand_landmarks or (), seen.multi_handedness or (), strict=True):
            kind = side.classification[0]
            hand = np.array([[m.x, m.y, kind.score] for m in points.landmark], np.float32)
            hand[:, :2] *= size
            hands.append(hand)
            lefts.append(kind.label == "Right")  # it takes every picture for a mirror
        left, right = whose(hands, lefts, body[15, :2], body[16, :2])
        return np.concatenate([body, left, right])

    def close(self) -> None:
        """Let go of the models."""
        self._pose.close()
        if self._hands is not None:
            self._hands.close()


def whose(
    hands: list[np.ndarray], lefts: list[bool], left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hands by the wrists of the body that they hang on, at most one each; zeros where there is none.

    A hand goes to the nearer wrist, if that is within two lengths of its palm; the side that it looks like counts as
    one length, which decides where the wrists are close together. Hands of other people so find no wrist.

    Args:
        hands: (21, 3) each, x, y, confidence.
        lefts: whether each looks like a left hand.
        left, right: (2,) the wrists of the body, pixels.

    Returns:
        (21, 3) left hand, (21, 3) right hand.
    """
    found = {True: np.zeros((21, 3), np.float32), False: np.zeros((21, 3), np.float32)}
    pairs = []
    for number, hand in enumerate(hands):
        length = float(np.linalg.norm(hand[9, :2] - hand[0, :2])) + 1e-6  # from the wrist to the middle knuckle
        for is_left, wrist in ((True, left), (False, right)):
            distance = float(np.linalg.norm(hand[0, :2] - wrist)) / length
            if distance < 2:
                pairs.append((distance + (lefts[number] != is_left), number, is_left))
    taken: set[int] = set()
    for _, number, is_left in sorted(pairs):
        if number not in taken and not found[is_left].any():
            found[is_left] = hands[number]
            taken.add(number)
    return found[True], found[False]


def _alone(spec: InputSpec) -> bool:
    return spec.segments is not None or (spec.rate is not None and spec.rate < STEADY)


def _check(spec: InputSpec) -> None:
    if spec.backend not in NATIVE:
        raise UserError(f"unknown backend {spec.backend!r} of pose", f"Use {', '.join(NATIVE)} or file")
