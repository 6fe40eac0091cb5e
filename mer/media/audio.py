"""Sound of any file as a mono waveform on the media clock."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from mer.errors import UserError
from mer.media.probe import media_zero, opened


def load(path: Path, rate: float, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Decode, mix down to mono and resample.

    Args:
        path: any file PyAV reads.
        rate: samples per second of the result.
        start, end: seconds of media time, half-open; end None is the end of the sound.

    Returns:
        float32 (N,) in [-1, 1]; sample k stands for `start + k / rate`. Sound that begins later than the media does is
        preceded by zeros, so that it stays in step with the picture. A broken tail is left out.

    Raises:
        UserError: the file has no sound, or none in the stretch asked for.
    """
    hz = round(rate)
    chunks: list[np.ndarray] = []
    first: float | None = None
    with opened(path) as container:
        if not container.streams.audio:
            raise UserError(f"{path}: the file has no sound", "Leave the audio cell of this clip empty")
        stream = container.streams.audio[0]
        zero = media_zero(container)
        resampler, layout = av.AudioResampler(format="flt", layout="mono", rate=hz), None
        try:
            for frame in container.decode(stream):
                if first is None:
                    first = (frame.time - zero) if frame.time is not None else 0.0
                elif end is not None and frame.time is not None and frame.time - zero > end + 0.1:
                    break
                # The resampler keeps its own count; presentation times within the stream are not needed and may jump.
                frame.pts = None
                now = (frame.format.name, frame.layout.name, frame.sample_rate)
                if layout not in (None, now):  # the stream changes in the middle; a resampler knows one format
                    chunks += [out.to_ndarray()[0] for out in resampler.resample(None)]
                    resampler = av.AudioResampler(format="flt", layout="mono", rate=hz)
                layout = now
                chunks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
            chunks += [out.to_ndarray()[0] for out in resampler.resample(None)]
        except av.error.FFmpegError:
            pass  # a damaged tail: what was decoded before it is right
    samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    offset = round(((first or 0.0) - start) * hz)
    samples = samples[-offset:] if offset < 0 else np.concatenate([np.zeros(offset, np.float32), samples])
    if end is not None:
        samples = samples[: max(0, round((end - start) * hz))]
    if not samples.size:
        stretch = f"between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        raise UserError(f"{path}: no sound {stretch}", "Check 'start' and 'end', or leave the audio cell empty")
    return np.nan_to_num(samples.astype(np.float32, copy=False)).clip(-1.0, 1.0)


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
