"""Fingerprints of clips that outlive re-encoding, resizing, resampling and a change of loudness; and who has nearly the same.

Picture: at eight fixed places of a clip (the middles of its eighths) a grey thumbnail of 16 x 18. Its difference hash (is a
cell lighter than its right neighbour? 8 x 8 signs at each place; cells that hardly differ do not vote) finds pairs that look
alike. Their means over time must correlate, too. People before one camera look alike all the time, so a pair must also *move*
alike: thumbnails less their mean must correlate. Where nothing moves, pictures prove nothing, and the sound decides; where two
sounds clearly differ, it is not one recording.

Sound: after Haitsma and Kalker (ISMIR 2002): does the difference of neighbouring bands rise or fall from one moment to the
next? 16 x 64 signs at fixed places between the first and the last loud moment. Similarity is agreeing less disagreeing votes,
by all votes.

The thresholds, measured on recordings without a copy among them. Sound, 0.85: of 649,229 pairs of RAVDESS (19 actors say two
sentences again and again) the most similar had 0.77, and of 41,616 pairs of EmoDB 0.53; copies as AAC, MP3 or Opus at 16 to 48
kbit/s, ten times quieter, cut or padded by up to 0.3 s of silence had 0.95 and more (medians). Picture, 0.8 (hash), 0.985
(mean) and 0.85 (movement): of some 5,700 pairs of one or two seconds cut from 20 films, 412 of them from one and the same film,
none reached all three; copies at half the size, brightened, or at CRF 35 had medians of 0.99 and more. So a false pair comes at
most about once in 200,000 (95 %; rule of three) among voices, and once in 1,900 among pictures. What was cut in the middle of
speech, mirrored, cropped or slowed down is not found, nor a short clip inside a long one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mer.media.pulse import pulse

PLACES = 8  # of a clip at which its picture is taken
GRID = (16, 18)  # rows and columns of a thumbnail
VOTES = 2.0  # grey levels between neighbouring cells, below which the difference does not vote
RATE = 16000  # samples per second of the sound
BANDS, BINS = 16, 64
LOW, HIGH = 200.0, 3600.0  # Hz; what telephones and small codecs keep
WINDOW, HOP = 1024, 256  # samples
ENDS = 25.0  # dB below the loudest moment: what is weaker at both ends is left out
ALIKE_SOUND = 0.85
UNLIKE_SOUND = 0.5  # below: two sounds for sure; fewer than one in 1,000 pairs of voices have more
ALIKE_LOOK, ALIKE_STILL, ALIKE_MOVES = 0.8, 0.985, 0.85
LEAST_VOTES = 100  # of a comparison: with fewer, nothing can be said
MOVES = 1.0  # grey levels, root mean square of the thumbnails' distance from their mean, from which on a picture moves
LENGTHS = 1.25  # copies are longer by at most so much
STRIDE = 1024  # prints that are compared at once
LOUD = 40.0  # dB below the loudest band and moment, from which on they vote
CHANGE = 0.2  # nepers of power (0.9 dB) below which a change does not vote


def places(start: float, end: float) -> np.ndarray:
    """(PLACES,) seconds at which the picture of a stretch is taken."""
    return start + (np.arange(PLACES) + 0.5) * (end - start) / PLACES


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """(3, 16, 18) uint8 RGB to grey (16, 18) uint8."""
    return np.rint(np.tensordot([0.299, 0.587, 0.114], picture, 1)).astype(np.uint8)


def heard(wave: np.ndarray) -> np.ndarray | None:
    """Votes (BANDS, BINS) int8 in {-1, 0, 1} of a sound (N,) at RATE; None of a silent one, or below a fifth of a second."""
    if len(wave) < RATE // 5 or not np.any(wave):
        return None
    bands = _bands(wave.astype(np.float32))
    first_loud, last_loud = _ends(bands.sum(1))
    bands = bands[first_loud:last_loud]
    # Means over overlapping windows of three bins: a shift of some milliseconds changes little.
    total = np.vstack([np.zeros(BANDS + 1), np.cumsum(bands, 0, dtype=np.float64)])
    middles = (np.arange(BINS + 1) + 0.5) * len(bands) / (BINS + 1)
    half = max(1.5 * len(bands) / (BINS + 1), 1.0)
    first = np.clip(np.floor(middles - half), 0, len(bands) - 1).astype(int)
    last = np.clip(np.ceil(middles + half), first + 1, len(bands)).astype(int)
    level = np.maximum((total[last] - total[first]) / (last - first)[:, None], 1e-12)
    loud = level > level.max() * 10 ** (-LOUD / 10)
    sure = loud[1:, 1:] & loud[1:, :-1] & loud[:-1, 1:] & loud[:-1, :-1]
    change = np.diff(np.diff(np.log(level), axis=1), axis=0)
    votes = np.where(sure & (np.abs(change) > CHANGE), np.sign(change), 0).astype(np.int8)
    return np.ascontiguousarray(votes.T)


def _bands(wave: np.ndarray) -> np.ndarray:
    """(N,) sound to (moments, BANDS + 1) power."""
    padded = np.pad(wave, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    edges = (np.geomspace(LOW, HIGH, BANDS + 2) * WINDOW / RATE).astype(int)
    window = np.hanning(WINDOW).astype(np.float32)
    parts = []
    for begin in range(0, len(frames), 512):
        power = np.square(np.abs(np.fft.rfft(frames[begin : begin + 512] * window)))
        total = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        parts.append(total[:, np.maximum(edges[1:], edges[:-1] + 1)] - total[:, edges[:-1]])
        pulse()
    return np.concatenate(parts)


def _ends(level: np.ndarray) -> tuple[int, int]:
    """Half-open range of moments from the first to the last loud one: copies are often cut or padded in the silence."""
    smooth = np.convolve(level, np.ones(5) / 5, "same")
    loud = np.flatnonzero(smooth > smooth.max() * 10 ** (-ENDS / 10))
    return int(loud[0]), int(loud[-1]) + 1


@dataclass(frozen=True)
class Print:
    """Fingerprints of one clip.

    Attributes:
        seconds: its length.
        thumbs: base64 of (PLACES, 16, 18) uint8, or empty.
        votes: base64 of (BANDS, BINS) int8, or empty.
    """

    seconds: float
    thumbs: str
    votes: str

    def picture(self) -> np.ndarray:
        """(PLACES, 16, 18) float32; zeros where there is none."""
        if not self.thumbs:
            return np.zeros((PLACES, *GRID), np.float32)
        return np.frombuffer(base64.b64decode(self.thumbs), np.uint8).reshape(PLACES, *GRID).astype(np.float32)

    def sound(self) -> np.ndarray:
        """(BANDS * BINS,) float32 votes; zeros where there is none."""
        if not self.votes:
            return np.zeros(BANDS * BINS, np.float32)
        return np.frombuffer(base64.b64decode(self.votes), np.int8).astype(np.float32)


def looks(thumbs: np.ndarray) -> np.ndarray:
    """(PLACES, 16, 18) to the votes of its difference hash, (PLACES * 64,) float32 in {-1, 0, 1}."""
    rows, columns = GRID[0] // 2, GRID[1] // 2
    cells = thumbs.reshape(PLACES, rows, 2, columns, 2).mean((2, 4))
    steps = np.diff(cells, axis=2)
    return np.where(np.abs(steps) < VOTES, 0, np.sign(steps)).astype(np.float32).ravel()


def movement(thumbs: np.ndarray) -> np.ndarray:
    """(PLACES, 16, 18) to what differs from its mean over time, flat."""
    return (thumbs - thumbs.mean(0)).ravel()


def same_movement(first: np.ndarray, second: np.ndarray) -> bool | None:
    """Whether two clips (PLACES, 16, 18) that look alike move alike; None where one of them hardly moves."""
    a, b = movement(first), movement(second)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if min(norms) < MOVES * np.sqrt(a.size):
        return None
    return float(a @ b) / (norms[0] * norms[1]) >= ALIKE_MOVES


def copies(prints: Sequence[Print], passing: Callable[[int], object] = lambda done: None) -> list[tuple[int, int]]:
    """Pairs of prints, i < j, of what must be one recording.

    Args:
        prints: of clips.
        passing: told how many more prints have been compared.
    """
    order = np.argsort([p.seconds for p in prints], kind="stable")
    seconds = np.array([prints[i].seconds for i in order])
    found: list[tuple[int, int]] = []
    for begin in range(0, len(order), STRIDE):
        rows = order[begin : begin + STRIDE]
        left = _Block.of([prints[i] for i in rows])
        # Sorted by length: only those that are not much longer can be copies.
        until = int(np.searchsorted(seconds, LENGTHS * seconds[min(begin + STRIDE, len(order)) - 1], side="right"))
        for other in range(begin, until, STRIDE):
            columns = order[other : min(other + STRIDE, until)]
            right = left if other == begin and len(columns) == len(rows) else _Block.of([prints[i] for i in columns])
            for a, b in left.candidates(right):
                i, j = int(rows[a]), int(columns[b])
                if begin + a < other + b and _copy(prints[i], prints[j]):
                    found.append((min(i, j), max(i, j)))
        passing(len(rows))
    return sorted(found)


@dataclass(frozen=True)
class _Block:
    """Votes of some prints: (n, PLACES * 64) of the picture, (n, BANDS * BINS) of the sound."""

    picture: np.ndarray
    sound: np.ndarray

    @classmethod
    def of(cls, prints: Sequence[Print]) -> _Block:
        return cls(np.stack([looks(p.picture()) for p in prints]), np.stack([p.sound() for p in prints]))

    def candidates(self, other: _Block) -> list[tuple[int, int]]:
        """Pairs that sound alike, or look alike."""
        alike = _alike(self.sound, other.sound, ALIKE_SOUND) | _alike(self.picture, other.picture, ALIKE_LOOK)
        return [(int(a), int(b)) for a, b in np.argwhere(alike)]


def _alike(first: np.ndarray, second: np.ndarray, least: float) -> np.ndarray:
    """(n, m) bool of votes (n, D) and (m, D)."""
    voting = np.abs(first) @ np.abs(second).T
    return (first @ second.T >= least * voting) & (voting >= LEAST_VOTES)


def _copy(first: Print, second: Print) -> bool:
    if first.seconds > LENGTHS * second.seconds or second.seconds > LENGTHS * first.seconds:
        return False
    heard_alike = False
    if first.votes and second.votes:
        a, b = first.sound(), second.sound()
        voting = float(np.abs(a) @ np.abs(b))
        if voting >= LEAST_VOTES:
            if float(a @ b) < UNLIKE_SOUND * voting:
                return False  # one picture under two sounds: a twin of the camera's, but another recording
            heard_alike = float(a @ b) >= ALIKE_SOUND * voting
    if not (first.thumbs and second.thumbs):
        return heard_alike
    a, b = first.picture(), second.picture()
    if not _alike(looks(a)[None], looks(b)[None], ALIKE_LOOK)[0, 0]:
        return False  # one tune under two pictures
    if float(np.corrcoef(a.mean(0).ravel(), b.mean(0).ravel())[0, 1]) < ALIKE_STILL:
        return False
    moved = same_movement(a, b)
    return heard_alike if moved is None else moved
