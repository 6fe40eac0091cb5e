"""One clip of one modality, prepared exactly as its encoder asks; training, validation and prediction all come here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mer.errors import UserError
from mer.media import audio, features, video
from mer.tokens import InputSpec, Sampled


def prepare(root: Path, reference: str, spec: InputSpec, start: float = 0.0, end: float | None = None) -> Sampled:
    """Read one modality of one clip.

    Args:
        root: folder that a relative reference is resolved against.
        reference: a media file, or `file#key[row]` for features.
        spec: the encoder's declaration.
        start, end: seconds of media time, half-open; end None is the end of the file.

    Returns:
        `Sampled` with B = 1 and every element real.

    Raises:
        UserError: the file is missing, damaged, or has nothing of this kind.
    """
    if spec.kind == "audio":
        assert spec.rate is not None
        wave = audio.load(root / reference, spec.rate, start, end)
        first, last = (0, len(wave)) if spec.trim is None else audio.voiced(wave, spec.rate, spec.trim)
        heard = _steady(last - first, spec.rate, start + first / spec.rate)
        return _sampled(torch.from_numpy(wave[first:last]), heard)
    if spec.kind == "video":
        assert spec.rate is not None
        assert spec.size is not None
        frames, spans = video.load(root / reference, spec.rate, spec.size, spec.crop, start, end)
        return _sampled(torch.from_numpy(frames), torch.from_numpy(spans))
    if spec.kind == "features":
        rows = torch.from_numpy(features.load(root, reference, spec.width))
        return _cut(rows, spec.rate, start, end, reference)
    raise UserError(f"unknown kind of input {spec.kind!r}", "Use audio, video or features")


def _sampled(values: torch.Tensor, spans: torch.Tensor) -> Sampled:
    return Sampled(values[None], torch.ones((1, len(values)), dtype=torch.bool), spans[None])


def _steady(count: int, rate: float, start: float) -> torch.Tensor:
    """(count, 2) float32 spans of equal length; computed in float64, as late samples of long files need it."""
    edges = start + np.arange(count + 1, dtype=np.float64) / rate
    return torch.from_numpy(np.stack([edges[:-1], edges[1:]], axis=1).astype(np.float32))


def _cut(rows: torch.Tensor, rate: float | None, start: float, end: float | None, reference: str) -> Sampled:
    """Feature rows with their spans: by rate where one is declared, else the rows divide the clip evenly."""
    if rate is None:
        stop = end if end is not None and end > start else start + len(rows)
        return _sampled(rows, _steady(len(rows), len(rows) / (stop - start), start))
    first = round(start * rate)
    last = len(rows) if end is None else min(len(rows), max(first + 1, round(end * rate)))
    if first >= last:
        raise UserError(
            f"{reference}: {len(rows)} rows at {rate:g} Hz hold nothing from {start:g} s",
            "Check 'start', or the rate of the encoder",
        )
    return _sampled(rows[first:last], _steady(last - first, rate, first / rate))
