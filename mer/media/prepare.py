"""One clip, prepared exactly as its encoders ask; training, extraction and prediction all come here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mer.errors import UserError
from mer.media import features
from mer.media.guard import guarded
from mer.media.sampling import Draw
from mer.media.stream import Stream, steady
from mer.spec import InputSpec
from mer.tokens import Sampled


def prepare(root: Path, reference: str, spec: InputSpec, start: float = 0.0, end: float | None = None) -> Sampled:
    """Read one modality of one clip.

    Args:
        root: folder that a relative reference is resolved against.
        reference: a media file, or `file#key[row]` for features.
        spec: the encoder's declaration.
        start, end: seconds of media time, half-open; end None is the end of the file.

    Returns:
        `Sampled` with B = 1. Every element is real, unless nothing was found (no face in the clip): then one element with
        mask False, an absent modality.

    Raises:
        UserError: the file is missing, damaged, kills or hangs the decoder, or has nothing of this kind.
    """
    result = prepare_all(root, {"it": reference}, {"it": spec}, start, end)["it"]
    if isinstance(result, UserError):
        raise result
    return result


def prepare_all(
    root: Path,
    references: Mapping[str, str],
    specs: Mapping[str, InputSpec],
    start: float = 0.0,
    end: float | None = None,
    seed: Draw = None,
) -> dict[str, Sampled | UserError]:
    """Read several modalities of one clip; a file that several of them share is decoded once.

    Args:
        root, start, end: as for `prepare`.
        references, specs: per modality.
        seed: in training, of the random places of `InputSpec.segments`; in evaluation, which of several views.

    Returns:
        per modality its `Sampled`, or why there is none.
    """
    prepared: dict[str, Sampled | UserError] = {}
    media = {m: s for m, s in specs.items() if not s.from_file}
    for modality, spec in specs.items():
        if modality not in media:
            try:
                prepared[modality] = _sampled(_from_file(root, references[modality], spec, start, end))
            except UserError as error:
                prepared[modality] = error
            except Exception as error:  # whatever a parser stumbles over in a file that is broken, or made to break it
                prepared[modality] = UserError(
                    f"{root / references[modality]}: reading failed ({type(error).__name__}: {error})",
                    "Convert, extract or download it again",
                )
    if media:
        streams = guarded(root, {m: references[m] for m in media}, media, start, end, seed)
        prepared |= {m: s if isinstance(s, UserError) else _sampled(s) for m, s in streams.items()}
    return {modality: prepared[modality] for modality in specs}


def _from_file(root: Path, reference: str, spec: InputSpec, start: float, end: float | None) -> Stream:
    """Rows, words, skeletons or gaze that somebody else extracted."""
    if spec.kind == "text":
        from mer.media import text

        return text.load(root, reference, spec, start, end)
    if spec.kind == "pose":
        from mer.media import skeleton_files

        return skeleton_files.load(root, reference, spec, start, end)
    if spec.kind == "eye":
        from mer.media import gaze_files

        return gaze_files.load(root, reference, spec, start, end)
    return _cut(features.load(root, reference, spec.width), spec.rate, start, end, reference)


def _sampled(stream: Stream) -> Sampled:
    if not len(stream):
        values = torch.zeros((1, 1, *stream.values.shape[1:]), dtype=torch.from_numpy(stream.values).dtype)
        return Sampled(values, torch.zeros((1, 1), dtype=torch.bool), torch.zeros((1, 1, 2)))
    mask = torch.ones((1, len(stream)), dtype=torch.bool)
    return Sampled(torch.from_numpy(stream.values)[None], mask, torch.from_numpy(stream.spans)[None])


def _cut(rows: np.ndarray, rate: float | None, start: float, end: float | None, reference: str) -> Stream:
    """Feature rows with their spans: by rate where one is declared, else the rows divide the clip evenly."""
    if rate is None:
        stop = end if end is not None and end > start else start + len(rows)
        return Stream(rows, steady(len(rows), len(rows) / (stop - start), start))
    first = round(start * rate)
    last = len(rows) if end is None else min(len(rows), max(first + 1, round(end * rate)))
    if first >= last:
        raise UserError(
            f"{reference}: {len(rows)} rows at {rate:g} Hz hold nothing from {start:g} s",
            "Check 'start', or the rate of the encoder",
        )
    return Stream(rows[first:last], steady(last - first, rate, first / rate))
