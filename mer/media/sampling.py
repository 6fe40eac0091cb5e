"""Which frames a modality takes, and the stretch of media time that each of them stands for."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from mer.media.frame import Frame
from mer.spec import InputSpec

Span = tuple[float, float]


class Place(NamedTuple):
    """One of several evaluation views of a fixed number of frames.

    Attributes:
        number, among: view `number` (from 0) among so many.
        ends: of a dense clip (`segments` 1): the first view begins with the stretch and the last one ends with it. Else, and in
            every segment where there are several, a view stands in the middle of its share.
    """

    number: int
    among: int
    ends: bool = True


Draw = int | Place | None  # the seed of random places (training), a place, or the middles


class Sampling(Protocol):
    """Asked once per displayed frame, in order."""

    def take(self, frame: Frame) -> list[Span]:
        """Spans that this frame stands for: none, one, or several where it is shown for several ticks."""
        ...

    def rest(self) -> list[Span]:
        """Spans left for the last frame shown, once the stretch has ended."""
        ...


class Ticks:
    """A fixed rate: tick k takes the frame that a player shows at its middle.

    Args:
        rate: ticks per second, counted from `start`.
        start, end: seconds, half-open; end None is the end of the picture.
    """

    def __init__(self, rate: float, start: float, end: float | None):
        self.rate, self.start, self.end = rate, start, math.inf if end is None else end
        self.due, self.taken = 0, False

    def take(self, frame: Frame) -> list[Span]:
        if frame.blank is not None:
            self.due = max(self.due, self._before(frame.time))
        return [self._next() for _ in range(self._before(min(frame.until, self.end)) - self.due)]

    def rest(self) -> list[Span]:
        return [] if self.taken else [self._next()]  # the stretch is shorter than half a tick

    def _before(self, until: float) -> int:
        """Ticks whose middle lies before a moment: (k + 0.5) / rate < until - start; a tie goes to the next frame."""
        return math.ceil((until - self.start) * self.rate - 0.5 - 1e-6)

    def _next(self) -> Span:
        begin = self.start + self.due / self.rate
        self.due, self.taken = self.due + 1, True
        return begin, max(min(begin + 1 / self.rate, self.end), begin + 1e-3)


class EveryFrame:
    """Each frame of the file once, for as long as it is shown."""

    def __init__(self, start: float, end: float | None):
        self.start, self.end = start, math.inf if end is None else end

    def take(self, frame: Frame) -> list[Span]:
        begin, until = max(frame.time, self.start), min(frame.until, self.end)
        return [(begin, max(until, begin + 1e-3))]

    def rest(self) -> list[Span]:
        return []


def choose(
    times: np.ndarray,
    until: float,
    segments: int,
    duration: int = 1,
    stride: int = 1,
    draw: np.random.Generator | Place | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A fixed number of frames: equal parts of the clip, a few neighbouring frames from each.

    In the manner of TSN (Wang et al., ECCV 2016). From the middles, with stride 1 and more than segments + duration - 1 frames,
    these are the frames of TSN's test rule, as Former-DFER, DFER-CLIP and MMA-DFER have it. On purpose not theirs: a
    shorter clip repeats frames evenly (TSN: the last one over and over, Former-DFER: the first), and training draws from
    all of the clip (TSN never reaches the last frames that do not fill a segment).

    The views of a dense clip that stand at the ends are those of VideoMAE and MAE-DFER: they begin at multiples of the
    stride.

    Args:
        times: (F,) presentation times, seconds, rising.
        until: end of the last frame.
        segments, duration, stride: see `InputSpec`.
        draw: in training, gives each segment's place; or one of several views; None takes the middles.

    Returns:
        (segments * duration,) int64 indices, rising, and the spans (..., 2) they stand for: an equal share of the clip each,
        or, of a single segment, the time until the next frame that is taken.
    """
    count, reach = len(times), (duration - 1) * stride + 1
    room = max(count - reach + 1, 1) / segments
    if isinstance(draw, Place) and draw.ends and draw.among > 1 and segments == 1:
        last = max(-(-count // stride) - duration, 0)
        first = np.array([int(last * draw.number / (draw.among - 1)) * stride])
    else:
        first = ((np.arange(segments) + _places(segments, draw)) * room).astype(np.int64)
    index = np.sort(np.minimum(first[:, None] + np.arange(duration) * stride, count - 1).reshape(-1))
    if segments > 1:
        edges = np.linspace(times[0], until, segments * duration + 1)
        return index, np.stack([edges[:-1], edges[1:]], axis=1)
    ends = np.append(times, until)
    return index, np.stack([ends[index], ends[np.minimum(index + stride, count)]], axis=1)


def _places(segments: int, draw: np.random.Generator | Place | None) -> np.ndarray:
    """(segments,) where in its segment each choice lies, 0 to 1."""
    if isinstance(draw, np.random.Generator):
        return draw.random(segments)
    return np.full(segments, 0.5 if draw is None else (draw.number + 0.5) / draw.among)


def drawn(seed: Draw) -> np.random.Generator | Place | None:
    """What `choose` takes; a place may have become a plain list on its way through another process."""
    if seed is None or isinstance(seed, int):
        return None if seed is None else np.random.default_rng(seed)
    return Place(*seed)


def chosen(spans: np.ndarray, spec: InputSpec, seed: Draw = None) -> tuple[np.ndarray, np.ndarray]:
    """`choose` for elements that are there already.

    Args:
        spans: (F, 2) seconds, of all of them.
        spec: how many are wanted.
        seed: in training, of the random places; or one of several views; None takes the middles.

    Returns:
        indices and spans, see `choose`.
    """
    assert spec.segments is not None
    spans = spans.astype(np.float64)
    return choose(spans[:, 0], float(spans[-1, 1]), spec.segments, spec.duration, spec.stride, drawn(seed))


class Segments:
    """The frames that `choose` names, as they come by; what the first one shows before `start` does not count."""

    def __init__(
        self,
        times: np.ndarray,
        until: float,
        segments: int,
        duration: int = 1,
        stride: int = 1,
        draw: np.random.Generator | Place | None = None,
        start: float = 0.0,
    ):
        self.wanted: dict[float, list[Span]] = {}
        for index, span in zip(*choose(np.maximum(times, start), until, segments, duration, stride, draw), strict=True):
            self.wanted.setdefault(float(times[index]), []).append((float(span[0]), float(span[1])))

    def take(self, frame: Frame) -> list[Span]:
        """Every wanted time up to this frame's end: in place of a frame that would not decode comes the next one."""
        due = [t for t in self.wanted if t < frame.until - 1e-6]
        return [span for t in due for span in self.wanted.pop(t)]

    def rest(self) -> list[Span]:
        left = [span for spans in self.wanted.values() for span in spans]
        self.wanted = {}
        return left
