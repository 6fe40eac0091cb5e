"""Sound of any file as a mono waveform on the media clock, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from mer.errors import NothingThereError, UserError
from mer.media.probe import media_zero, opened, sound
from mer.media.pulse import pulse

# Left and right are averaged, whatever the codec: without it FFmpeg makes float codecs (AAC, Opus, MP3) 3 dB louder than
# integer ones, and clips. Of 5.1 the centre weighs most and the LFE nothing (ITU-R BS.775).
MIX = "rematrix_maxval=1"
# FFmpeg's default (32 taps, cutoff 0.97) lets tones just above half the rate through at -18 dB; this one at -90 dB.
FILTER = "filter_size=64:cutoff=0.95"
# Seconds by which presentation times may differ from the count of samples: less than a lost frame of any common codec
# (Opus 20 ms, AAC 21 ms), more than the rounding of containers (Matroska 0.5 ms, AVI up to a frame).
JITTER = 0.015
# Times that jump back by more than this belong to another clock (files glued together): the count of samples goes on.
BACK = 1.0
# Decoding starts so much early after a seek: decoders (bit reservoirs, overlap, Opus' 80 ms) and filters settle.
SETTLE = 1.0
# A seek pays from here on; nearer stretches are decoded from the beginning.
DEEP = 5.0


def load(path: Path, rate: float, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Decode, mix down to mono and resample.

    Args:
        path: any file PyAV reads.
        rate: samples per second of the result.
        start, end: seconds of media time, half-open; end None is the end of the sound.

    Returns:
        float32 (N,) in [-1, 1]; sample k stands for `start + k / rate`. Sound that begins later than the media does is
        preceded by zeros and gaps in it are filled with zeros, so that it stays in step with the picture. What cannot
        be decoded is left out.

    Raises:
        UserError: the file has no sound, or none in the stretch asked for.
    """
    return np.concatenate(list(chunks(path, rate, start, end)))


def chunks(
    path: Path, rate: float, start: float = 0.0, end: float | None = None, seconds: float = 10.0
) -> Iterator[np.ndarray]:
    """What `load` gives, sample for sample, in pieces of `seconds`; only the last one may be shorter."""
    hz = round(rate)
    size = max(1, round(seconds * hz))
    first = round(start * hz)
    last = None if end is None else first + max(0, round((end - start) * hz))
    held: list[np.ndarray] = []
    count, some = 0, False
    for piece in _between(_resampled(_in_step(path, start), hz), first, last, size):
        held.append(piece)
        count += len(piece)
        while count >= size:
            joined = np.concatenate(held)
            yield joined[:size]
            held, count, some = [joined[size:]], count - size, True
    if count:
        yield np.concatenate(held)
    elif not some:
        stretch = f"between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        raise NothingThereError(f"{path}: no sound {stretch}", "Check 'start' and 'end', or leave the audio cell empty")


@dataclass(frozen=True)
class _Piece:
    """Mono float32 samples at a rate; `at` counts them from media time 0 (None: not known)."""

    samples: np.ndarray
    rate: int
    at: int | None


def _between(pieces: Iterator[_Piece], first: int, last: int | None, size: int) -> Iterator[np.ndarray]:
    """Samples [first, last) of pieces that follow each other, with zeros in front of the first."""
    at = first
    for piece in pieces:
        assert piece.at is not None
        samples, begin = piece.samples, piece.at
        if last is not None and begin > last:  # sound that begins behind the stretch: silence until then
            samples, begin = samples[:0], last
        yield from _zeros(begin - at, size)
        at = max(at, begin)
        samples = samples[at - begin : None if last is None else max(last - begin, 0)]
        if len(samples):
            yield samples.clip(-1.0, 1.0)
            at += len(samples)
        if last is not None and at >= last:
            return


def _resampled(pieces: Iterator[_Piece], hz: int) -> Iterator[_Piece]:
    """Pieces at `hz`. The grid of samples is that of media time, whatever piece comes first: a stretch equals the whole."""
    run: _Run | None = None
    for piece in pieces:
        if run is not None and run.rate != piece.rate:
            yield run.finish()
            run = None
        if run is None:
            assert piece.at is not None
            run = _Run(piece.rate, hz, piece.at)
        yield run.push(piece.samples)
    if run is not None:
        yield run.finish()


class _Run:
    """Resamples one uninterrupted run of sound.

    Args:
        rate, hz: samples per second of what comes in and of what goes out.
        begin: number of the first sample, counted at `rate` from media time 0.
    """

    def __init__(self, rate: int, hz: int, begin: int):
        self.rate, self.hz = rate, hz
        self.put = begin  # the next sample that comes in
        self.got = round(Fraction(begin * hz, rate))  # the next one that goes out
        self.filter = None if rate == hz else _Filter(rate, "flt", "mono", f"{hz}:{FILTER}")
        self.early = 0
        if self.filter is not None:
            # Both grids coincide every so many samples; from there the filter runs through the same phases in any run.
            ahead = begin % (rate // math.gcd(rate, hz))
            made = self._filtered(np.zeros(ahead, np.float32))
            self.early = self.got - (begin - ahead) * hz // rate - len(made)

    def push(self, samples: np.ndarray) -> _Piece:
        self.put += len(samples)
        return self._out(samples if self.filter is None else self._filtered(samples))

    def finish(self) -> _Piece:
        """The rest: as long as what came in, to the nearest sample."""
        left = max(round(Fraction(self.put * self.hz, self.rate)) - self.got, 0)
        return self._out(
            np.zeros(0, np.float32) if self.filter is None else self.filter.push(None)[: left + self.early]
        )

    def _filtered(self, samples: np.ndarray) -> np.ndarray:
        assert self.filter is not None
        if not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate = self.rate
        return self.filter.push(frame)

    def _out(self, samples: np.ndarray) -> _Piece:
        samples, self.early = samples[max(self.early, 0) :], max(self.early - len(samples), 0)
        self.got += len(samples)
        return _Piece(samples, self.hz, self.got - len(samples))


def _in_step(path: Path, start: float) -> Iterator[_Piece]:
    """Decoded sound without holes: gaps are filled with zeros, what comes twice is left out."""
    at = rate = shift = 0
    trusted = True
    for piece in _decoded(path, start):
        if not rate:
            at = piece.at or 0
        elif piece.rate != rate:
            at, trusted = round(Fraction(at * piece.rate, rate)), False  # raw streams are stamped by the old rate
        rate, samples = piece.rate, piece.samples
        ahead = piece.at + shift - at if trusted and piece.at is not None else 0
        if ahead < -BACK * rate:
            shift, ahead = shift - ahead, 0
        gap = ahead if ahead > JITTER * rate else 0
        if ahead < -JITTER * rate:
            samples = samples[-ahead:]
        for block in chain(_zeros(gap, rate), [samples]):
            at += len(block)
            if at > (start - SETTLE) * rate:  # what lies before need not be resampled
                yield _Piece(block, rate, at - len(block))


def _decoded(path: Path, start: float) -> Iterator[_Piece]:
    """Sound as it was recorded, mixed to mono, from somewhere before `start`; each piece is one decoded frame."""
    with opened(path) as container:
        stream = sound(container)
        if stream is None:
            raise UserError(f"{path}: the file has no sound", "Leave the audio cell of this clip empty")
        zero = Fraction(media_zero(container))
        pieces = _mixed(container, stream, zero)
        if start < DEEP or not _exact(stream):
            yield from pieces
            return
        wanted = start - SETTLE / 2
        before: _Piece | None = None
        try:
            assert stream.time_base is not None
            container.seek(math.floor((Fraction(start - SETTLE) + zero) / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            pieces = iter(())
        # The last piece in time gives the place: the first ones after a seek may be stamped wrongly (Vorbis in Ogg).
        for piece in pieces:
            if piece.at is None or piece.at > wanted * piece.rate:
                if before is None:
                    break
                yield before
                yield piece
                yield from pieces
                return
            before = piece
    yield from _decoded(path, 0.0)  # the seek failed, or led too far or behind the end


def _exact(stream: av.AudioStream) -> bool:
    """Whether presentation times say which sample is meant; else (Matroska, AVI, MPEG) samples must be counted."""
    return stream.time_base is not None and (Fraction(1, stream.rate) / stream.time_base).denominator == 1


def _mixed(container: av.container.InputContainer, stream: av.AudioStream, zero: Fraction) -> Iterator[_Piece]:
    mixer, kind = None, None
    until = container.duration / av.time_base + 1.0 if container.duration else math.inf
    for frame in _frames(container, stream):
        pulse()
        at = None
        if frame.pts is not None and frame.time_base:
            at = math.floor((frame.pts * frame.time_base - zero) * frame.sample_rate + Fraction(1, 2))
            if at > until * frame.sample_rate:  # a time behind the end of the file is a mistake, and no gap until then
                at = None
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        if mixer is None or kind != now:  # the stream may change in the middle; a filter knows one format
            try:
                mixer, kind = _Filter(*now, MIX), now
            except (av.error.FFmpegError, ValueError):  # a damaged header: there is no such rate or layout
                continue
        # Unset, as times that jump back would be refused; NaN and infinity would spread in the resampler.
        frame.pts = None
        yield _Piece(np.nan_to_num(mixer.push(frame), posinf=1.0, neginf=-1.0), frame.sample_rate, at)


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Every frame that can be decoded; what is damaged is passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


class _Filter:
    """FFmpeg's resampler with all of its options; gives mono float32."""

    def __init__(self, rate: int, kind: str, layout: str, options: str):
        self.graph = av.filter.Graph()
        source = self.graph.add_abuffer(sample_rate=rate, format=kind, layout=layout, time_base=Fraction(1, rate))
        resample = self.graph.add("aresample", options)
        mono = self.graph.add("aformat", "sample_fmts=flt:channel_layouts=mono")
        self.graph.link_nodes(source, resample, mono, self.graph.add("abuffersink")).configure()

    def push(self, frame: av.AudioFrame | None) -> np.ndarray:
        """(n,) samples that are ready after this frame; None ends the sound and gives the rest."""
        self.graph.push(frame)
        ready = [np.zeros(0, np.float32)]
        while True:
            try:
                ready.append(self.graph.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(ready)


def _zeros(count: int, size: int) -> Iterator[np.ndarray]:
    """So many zeros, at most `size` at once."""
    for begin in range(0, count, size):
        pulse()
        yield np.zeros(min(size, count - begin), np.float32)


def voiced(wave: np.ndarray, rate: float, below: float) -> tuple[int, int]:
    """First and last sample of the stretch between the silences at both ends.

    Args:
        wave: (N,) samples.
        rate: samples per second.
        below: dB; a 25 ms frame this much weaker than the loudest one is silence.

    Returns:
        half-open range of samples; the whole wave where it is shorter than two frames or all silent.
    """
    size = max(1, round(0.025 * rate))
    frames = len(wave) // size
    if frames < 2:
        return 0, len(wave)
    power = np.square(wave[: frames * size].reshape(frames, size)).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below / 10))
    if not loud.size:
        return 0, len(wave)
    # What is left over behind the last whole frame goes with it.
    return int(loud[0]) * size, len(wave) if loud[-1] == frames - 1 else (int(loud[-1]) + 1) * size
