"""Who is who from picture to picture: tracks of faces, causal and in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from mer.media.detectors import Detection, Points, overlap
from mer.media.frame import Frame

CUTOFF, GAIN = 1.5, 8.0  # of `Steady`: Hz at rest, and Hz per face width per second
PLACE = 1.0  # seconds over which rough points settle within the box
REACH, SPEED, FAR = 0.6, 2.0, 2.0  # face widths: how far a face may have moved; per second; at most
ASLEEP = 1.0  # face widths from where a lost face may come back
RATIO = 2.0  # of sizes, at most
CUT = (0.15, 2.0, 0.04)  # see `Cuts`


class Steady:
    """Takes the jitter out of places without lagging behind them: the 1 euro filter, Casiez et al., CHI 2012.

    A low-pass whose cutoff grows with speed. A still face is smoothed at 1.5 Hz; behind a steady movement the result lags by
    speed / (2 pi cutoff) < 1 / (2 pi 8) = 2 % of the face's width, however fast.
    """

    def __init__(self) -> None:
        self.value: np.ndarray | None = None
        self._speed = np.zeros(())
        self._time = 0.0

    def __call__(self, value: np.ndarray, time: float, width: float) -> np.ndarray:
        """The filtered value, (P, 2) pixels, at a time in seconds; `width` of the face in pixels."""
        step = time - self._time
        self._time = time
        if self.value is None or step <= 0:
            self.value, self._speed = value, np.zeros_like(value)
            return value
        new = (value - self.value) / step
        new = np.where(np.isfinite(new), new, 0.0)  # points that were not known then, or are not now
        self._speed = self._speed + _gain(1.0, step) * (new - self._speed)
        pace = float(np.linalg.norm(self._speed, axis=1).max()) / width
        smooth = self.value + _gain(CUTOFF + GAIN * pace, step) * (value - self.value)
        self.value = np.where(np.isfinite(smooth), smooth, value)
        return self.value


def _gain(cutoff: float, step: float) -> float:
    """Of a one-pole low-pass."""
    ratio = 2 * np.pi * cutoff * step
    return float(ratio / (ratio + 1))


class Cuts:
    """Notices that the scene has changed: the colours of the picture differ much more than they did lately, and its parts, too.

    A cut is a histogram distance (0 to 1) above 0.15 + 2 x its running mean, and pictures whose thumbnails differ by more
    than 4 % of full scale. Camera shake raises the running mean; a fade is no cut.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._usual = 0.06

    def at(self, frame: Frame) -> bool:
        """Whether the scene was cut between the last frame and this one."""
        small = frame.picture((32, 32), "none").transpose(1, 2, 0)
        colours = cv2.calcHist([small], [0, 1, 2], None, [6, 6, 6], [0, 256] * 3).ravel() / small[..., 0].size
        last, self._last = self._last, (colours, small.astype(np.float32))
        if last is None:
            return False
        distance = 0.5 * float(np.abs(colours - last[0]).sum())
        apart = float(np.abs(self._last[1] - last[1]).mean()) / 255
        base, times, least = CUT
        if distance > base + times * self._usual and apart > least:
            return True
        self._usual += 0.1 * (distance - self._usual)
        return False


@dataclass(eq=False)
class Track:
    """One face over time.

    Attributes:
        number: from 0 in order of birth, or as the file says.
        named: the file says which detections are its own.
        box, points: smoothed, of the last detection; see `Detection`.
        score: of the last detection.
        met: seconds, time of the last detection.
        found: whether it was found when last looked for.
        awake: False once it was not found for longer than `hold`: it is no face of the picture, but may come back.
        over: the scene was cut; it never comes back.
        looks: in how many pictures it was found.
        scene: its scene, from 0.
    """

    number: int
    box: np.ndarray
    score: float
    met: float
    named: bool = False
    points: np.ndarray | None = None
    found: bool = True
    awake: bool = True
    over: bool = False
    looks: int = 0
    scene: int = 0
    _corners: Steady = field(default_factory=Steady)
    _landmarks: Steady = field(default_factory=Steady)
    _place: np.ndarray | None = None

    def meet(self, seen: Detection, time: float, points: Points, smooth: bool) -> None:
        """Take a detection in."""
        width = float(seen.box[2] - seen.box[0])
        if time - self.met > 1.0 or not self.awake:  # from so long ago there is nothing to smooth with
            self._corners, self._landmarks = Steady(), Steady()
        corners = seen.box.reshape(2, 2)
        self.box = (self._corners(corners, time, width) if smooth else corners).reshape(4)
        if points == "rough":
            self.points = self._settled(seen, time - self.met)
        elif seen.points is not None and smooth:
            self.points = self._landmarks(seen.points, time, width)
        else:
            self.points = seen.points
        self.score, self.met, self.found, self.awake = seen.score, time, True, True
        self.looks += 1

    def _settled(self, seen: Detection, step: float) -> np.ndarray | None:
        """Rough points: their mean place within the box, which moves with the head, carried over to the steady box."""
        if seen.points is not None:
            place = (seen.points - seen.box[:2]) / (seen.box[2:] - seen.box[:2])
            if self._place is None or not np.isfinite(place).any():
                self._place = place
            else:
                share = max(1 / (self.looks + 1), 1 - float(np.exp(-step / PLACE)))
                self._place = self._place + share * (place - self._place)
        if self._place is None:
            return None
        return self.box[:2] + self._place * (self.box[2:] - self.box[:2])


class Tracker:
    """Gives detections to tracks: Hungarian assignment (Kuhn, 1955) on overlap and distance.

    Args:
        hold: seconds that a track stays awake without a detection.
        points, smooth: of the detector.

    A track that fell asleep is taken up again by a face that appears where it was lost: a person who turned away and back is
    one person. A cut ends all tracks.
    """

    def __init__(self, hold: float, points: Points, smooth: bool):
        self.hold, self.points, self.smooth = hold, points, smooth
        self.tracks: list[Track] = []
        self.scenes = [0]  # pictures looked at, per scene

    def see(self, detections: list[Detection], time: float, cut: bool) -> list[Track]:
        """Tracks that are awake after the detections of one picture, in order of birth."""
        if cut:
            self.scenes.append(0)
            for track in self.tracks:
                track.over, track.awake = not track.named, track.awake and track.named
        self.scenes[-1] += 1
        running = [track for track in self.tracks if not track.over]
        for track in running:
            track.found = False
        rest = self._by_name(detections, running, time)
        if rest and running:
            costs = np.array([[self._cost(track, seen, time) for seen in rest] for track in running])
            pairs = [(i, j) for i, j in zip(*linear_sum_assignment(costs), strict=True) if costs[i, j] < 100]
            for i, j in pairs:
                running[i].meet(rest[j], time, self.points, self.smooth)
            rest = [seen for j, seen in enumerate(rest) if j not in {j for _, j in pairs}]
        for seen in rest:
            self._birth(seen, time)
        for track in running:
            track.awake = track.awake and time - track.met <= self.hold
        return [track for track in self.tracks if track.awake]

    def _by_name(self, detections: list[Detection], running: list[Track], time: float) -> list[Detection]:
        """Detections of a file that says whose face is whose go there; the others are returned."""
        named = {track.number: track for track in running if track.named}
        for seen in detections:
            if seen.track is None:
                continue
            if seen.track in named:
                named[seen.track].meet(seen, time, self.points, self.smooth)
            else:
                self._birth(seen, time)
        return [seen for seen in detections if seen.track is None]

    def _birth(self, seen: Detection, time: float) -> None:
        number = len(self.tracks) if seen.track is None else seen.track
        track = Track(number, seen.box, seen.score, time, seen.track is not None, scene=len(self.scenes) - 1)
        track.meet(seen, time, self.points, self.smooth)
        self.tracks.append(track)

    def _cost(self, track: Track, seen: Detection, time: float) -> float:
        """At most 4; 100 where it cannot be the same face."""
        sizes = [float(np.sqrt((box[2:] - box[:2]).prod())) for box in (track.box, seen.box)]
        away = (seen.box[:2] + seen.box[2:] - track.box[:2] - track.box[2:]) / 2
        distance = float(np.linalg.norm(away)) / max(*sizes, 1e-6)
        reach = min(REACH + SPEED * (time - track.met), FAR) if track.awake else ASLEEP
        if distance > reach or max(sizes) > RATIO * min(sizes):
            return 100.0
        return 1 - overlap(track.box, seen.box) + distance + (0.0 if track.awake else 0.5)
