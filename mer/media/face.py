"""Whose face, where, and cut out: one pass over the pictures, shared by every modality that wants faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer.media import align, detectors
from mer.media.align import warp
from mer.media.detectors import Detection
from mer.media.frame import Frame
from mer.media.pulse import pulse
from mer.media.sampling import Sampling, Span
from mer.media.stream import Stream
from mer.media.track import Cuts, Track, Tracker
from mer.spec import Face, InputSpec

__all__ = ["FaceCrops", "FaceFollower", "TrackedFace", "warp"]

SHARE, PRESENT, LEAST = 0.1, 0.05, 3  # see `FaceFollower.chosen`
CENTRE = 0.25  # of the picture's short side: a face so far from the centre counts 0.6 of one in the centre


@dataclass(frozen=True)
class TrackedFace:
    """A face in one picture, on its track.

    Attributes:
        track: whose face; the same number from picture to picture.
        box: (4,) x0, y0, x1, y1 pixels of the upright picture, smoothed.
        points: (5, 2) pixels as in `Detection`, smoothed, or None.
        score: of the last detection.
        seen: found when last looked for; False: the track coasts, its box standing still.
    """

    track: int
    box: np.ndarray
    points: np.ndarray | None
    score: float
    seen: bool


class FaceFollower:
    """Finds and follows faces as `face` says; causal, and keeps no pictures.

    Args:
        face: how.
        path: the media file.
        root: folder that `face.file` is resolved against.
    """

    def __init__(self, face: Face, path: Path, root: Path):
        self.face, self.detector = face, detectors.detector(face, path, root)
        self._tracker = Tracker(face.hold, self.detector.points, self.detector.smooth)
        self._cuts = Cuts()
        self._scores: dict[int, float] = {}
        self._pictures = 0
        self._faces: list[TrackedFace] = []

    def look(self, frame: Frame) -> list[TrackedFace]:
        """Faces in the next picture, in order of birth. To be called once per used frame, in order."""
        cut = self._cuts.at(frame)
        due = self._pictures % self.face.every == 0
        self._pictures += 1
        if not due and not cut:
            return self._faces
        pulse()
        found: list[Detection] = frame.once(
            ("faces", self.detector.identity, self.face.file), lambda: self.detector.find(frame)
        )
        awake = self._tracker.see(found, frame.time, cut)
        for track in awake:
            if track.found:
                self._scores[track.number] = self._scores.get(track.number, 0.0) + self._worth(track, frame)
        self._faces = [TrackedFace(t.number, t.box, t.points, t.score, t.found) for t in awake]
        return self._faces

    def chosen(self) -> list[int]:
        """Numbers of the target's tracks, once all frames were looked at.

        `largest` is the track with the greatest sum of its area, `central` of its closeness to the picture's centre, over
        the pictures in which it was found; so is a long presence worth more than a short one. `all` are all tracks. None of
        them is a track that was found in less than a tenth as many pictures as the most seen one, in less than a twentieth
        of its scene, or in less than three pictures of a scene that has more: false faces come and go, and of a person seen
        so briefly nothing can be said.
        """
        tracks = self._tracker.tracks
        most = max((track.looks for track in tracks), default=0)
        real = [t.number for t in tracks if t.looks >= max(SHARE * most, self._enough(t))]
        if self.face.target == "all" or not real:
            return real
        return [max(real, key=lambda number: self._scores[number])]

    def hopeless(self) -> set[int]:
        """Tracks that can never be chosen any more: ended by a cut, seen no more and worth less than another that did."""
        if self.face.target == "all":
            return set()
        ended = [t for t in self._tracker.tracks if t.over]
        real = [t for t in ended if t.looks >= self._enough(t)]
        best = max(real, key=lambda t: self._scores[t.number], default=None)
        if best is None:
            return set()
        worth = self._scores[best.number]
        return {t.number for t in ended if t.looks <= best.looks and self._scores[t.number] < worth}

    def _enough(self, track: Track) -> float:
        """Pictures in which a track of this scene must have been found."""
        scene = self._tracker.scenes[track.scene]
        return max(PRESENT * scene, min(LEAST, scene))

    def matrix(self, face: TrackedFace, size: tuple[int, int]) -> np.ndarray | None:
        """(2, 3) picture to crop of (height, width); None where align is `arcface` and points are not known (yet).

        Of the Haar detector, `arcface` puts the two eyes on the template; nose and mouth are not used.
        """
        if self.face.align == "square":
            return align.square(face.box, size, self.face.margin)
        return None if face.points is None else align.arcface(face.points, size)

    def _worth(self, track: Track, frame: Frame) -> float:
        x0, y0, x1, y1 = track.box
        if self.face.target != "central":
            return float((x1 - x0) * (y1 - y0))
        height, width = frame.rgb().shape[:2]
        away = np.hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)
        return float(np.exp(-0.5 * (away / (CENTRE * min(height, width))) ** 2))


class FaceCrops:
    """The target's face, cut out: (N, 3, H, W) uint8.

    A frame gives no element where the face is not seen, or cannot be aligned. A gap shorter than `hold` is bridged with the
    crop from where the face was last; a face that does not come back ends with its last detection.
    """

    def __init__(self, sampling: Sampling, spec: InputSpec, path: Path, root: Path):
        assert spec.face is not None
        assert spec.size is not None
        self.sampling, self.size = sampling, spec.size
        self._follower = FaceFollower(spec.face, path, root)
        self._kept: dict[int, list[tuple[Span, np.ndarray]]] = {}
        self._coasted: dict[int, list[tuple[Span, np.ndarray]]] = {}
        self._last: Frame | None = None
        self._used = False
        self._faces: list[TrackedFace] = []

    def see(self, frame: Frame) -> None:
        spans = self.sampling.take(frame)
        self._last, self._used = frame, bool(spans)
        if spans:
            self._take(frame, spans, self._follower.look(frame))

    def result(self) -> Stream:
        spans = self.sampling.rest()
        if spans and self._last is not None:
            faces = self._faces if self._used else self._follower.look(self._last)
            self._take(self._last, spans, faces)
        chosen = self._follower.chosen()
        elements = [(span, track, crop) for track in chosen for span, crop in self._kept.get(track, ())]
        elements.sort(key=lambda element: element[:2])
        values = np.stack([crop for _, _, crop in elements]) if elements else np.zeros((0, 3, *self.size), np.uint8)
        return Stream(values, np.asarray([span for span, _, _ in elements], np.float32).reshape(-1, 2))

    def _take(self, frame: Frame, spans: list[Span], faces: list[TrackedFace]) -> None:
        self._faces = faces
        for face in faces:
            matrix = self._follower.matrix(face, self.size)
            if matrix is None:
                continue
            crop = np.ascontiguousarray(warp(frame.rgb(), matrix, self.size).transpose(2, 0, 1))
            entries = [(span, crop) for span in spans]
            if face.seen:
                self._kept.setdefault(face.track, []).extend([*self._coasted.pop(face.track, ()), *entries])
            else:
                self._coasted.setdefault(face.track, []).extend(entries)
        for gone in self._coasted.keys() - {face.track for face in faces}:
            del self._coasted[gone]
        for track in self._follower.hopeless():
            self._kept.pop(track, None)
