"""All modalities of one clip from one pass over its file. NumPy only, so that a child process starts without torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mer.errors import NothingThereError, UserError
from mer.media import audio, video
from mer.media.frame import Frame
from mer.media.pictures import picture_folder
from mer.media.probe import Examined, length, probe
from mer.media.sampling import Draw, EveryFrame, Sampling, Segments, Ticks, chosen, drawn
from mer.media.stream import Stream, steady
from mer.media.view import Pictures, View
from mer.spec import InputSpec

# Kinds that are made from the pictures of a video, by a view.
SEEN = ("video", "flow", "taylor", "pose", "eye")


def read(
    root: Path,
    references: Mapping[str, str],
    specs: Mapping[str, InputSpec],
    start: float = 0.0,
    end: float | None = None,
    seed: Draw = None,
) -> dict[str, Stream | UserError]:
    """Read sound and pictures; each file's pictures are decoded once for all modalities that want them.

    Args:
        root: folder that relative names are resolved against.
        references: per modality a media file.
        specs: per modality what is wanted of it.
        start, end: seconds of media time, half-open; end None is the end of the file.
        seed: in training, of the random places of `segments`; or one of several views; None takes the middles.

    Returns:
        per modality its stream, or the reason why there is none; one modality's trouble leaves the others alone.
    """
    streams: dict[str, Stream | UserError] = {}
    together: dict[str, list[str]] = {}
    for modality, spec in specs.items():
        if spec.kind == "audio":
            try:
                streams[modality] = heard(root / references[modality], spec, start, end)
            except UserError as error:
                streams[modality] = error
        else:
            together.setdefault(references[modality], []).append(modality)
    for reference, modalities in together.items():
        streams |= seen(root / reference, {m: specs[m] for m in modalities}, start, end, seed, root)
    return {modality: streams[modality] for modality in specs}


def examine(path: Path, times: bool) -> Examined:
    """Look into a file; where packets do not tell the times of its frames, its pictures are decoded for them.

    Args:
        path: the file.
        times: False reads the header alone; the length is then what it states.

    Raises:
        UserError: the file is missing, empty or not media.
    """
    info = probe(path)
    if not times:
        return Examined(info, info.duration, np.zeros(0))
    shown = video.presentation_times(path) if info.has_video else np.zeros(0)
    return Examined(info, length(path), shown)


def call(function: str, arguments: Mapping[str, Any]) -> Any:
    """Call `mer.module:function` with arguments by name; the module is imported only now."""
    module, _, name = function.partition(":")
    assert module.startswith("mer.")
    return getattr(importlib.import_module(module), name)(**arguments)


def heard(path: Path, spec: InputSpec, start: float, end: float | None) -> Stream:
    """Sound of a file as its spec asks."""
    assert spec.rate is not None
    wave = audio.load(path, spec.rate, start, end)
    first, last = (0, len(wave)) if spec.trim is None else audio.voiced(wave, spec.rate, spec.trim)
    return Stream(wave[first:last], steady(last - first, spec.rate, start + first / spec.rate))


def seen(
    path: Path, specs: Mapping[str, InputSpec], start: float, end: float | None, seed: Draw, root: Path
) -> dict[str, Stream | UserError]:
    """What several modalities take from one pass over a file's pictures."""
    results: dict[str, Stream | UserError] = {}
    views: dict[str, View] = {}
    samplings: dict[str, Sampling] = {}
    for modality, spec in specs.items():
        try:
            whole = spec.dense() if _thinned_later(spec) else spec
            samplings[modality] = _sampling(path, whole, start, end, seed)
            views[modality] = view(path, whole, samplings[modality], root)
        except UserError as error:
            results[modality] = error
    if not views:
        return results
    shown = 0
    try:
        for frame in _frames(path, list(samplings.values()), start, end):
            shown += 1
            for modality, looking in list(views.items()):
                try:
                    looking.see(frame)
                except UserError as error:  # say, a detector that is not installed
                    results[modality] = error
                    del views[modality]
            if not views:
                return results
    except UserError as error:
        return results | {modality: error for modality in views}
    if not shown:
        stretch = f"between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        none = NothingThereError(
            f"{path}: no frame could be decoded {stretch}", "Check 'start' and 'end', or convert the file"
        )
        return results | {modality: none for modality in views}
    for modality, looking in views.items():
        try:
            results[modality] = _thinned(looking.result(), specs[modality], seed)
        except UserError as error:  # of a clip so short that only now is anything taken from it
            results[modality] = error
    return results


def view(path: Path, spec: InputSpec, sampling: Sampling, root: Path) -> View:
    """The view that a spec asks for."""
    if spec.kind == "video" and spec.crop != "face":
        assert spec.size is not None
        return Pictures(sampling, spec.size, spec.crop)
    # Imported here: OpenCV and the detectors cost a fifth of a second and more, which whole pictures do without.
    if spec.kind == "video":
        from mer.media.face import FaceCrops

        return FaceCrops(sampling, spec, path, root)
    if spec.kind == "flow":
        from mer.media.flow import Flow

        return Flow(sampling, spec, path, root)
    if spec.kind == "taylor":
        from mer.media.taylor import Taylor

        return Taylor(sampling, spec, path, root)
    if spec.kind == "pose":
        from mer.media.pose import Skeletons

        return Skeletons(sampling, spec)
    if spec.kind == "eye":
        from mer.media.eye import EyesInVideo

        return EyesInVideo(sampling, spec)
    raise UserError(f"unknown kind of input {spec.kind!r}", f"Use audio, features, {', '.join(SEEN)}")


def _thinned_later(spec: InputSpec) -> bool:
    """Motion between chosen frames would be that over their distance, and a face is followed through all frames.

    Such elements are made of every frame, and the wanted number is chosen from them.
    """
    return spec.kind in ("flow", "taylor") or spec.crop == "face"


def _thinned(stream: Stream, spec: InputSpec, seed: Draw) -> Stream:
    """The number of elements that the spec asks for, of all."""
    if spec.segments is None or not _thinned_later(spec) or not len(stream):
        return stream
    index, spans = chosen(stream.spans, spec, seed)
    return Stream(stream.values[index], spans.astype(np.float32))


def _frames(path: Path, samplings: list[Sampling], start: float, end: float | None) -> Iterator[Frame]:
    """All frames of the stretch; where only a few are wanted, those."""
    wanted = [set(s.wanted) if isinstance(s, Segments) else None for s in samplings]
    moments: set[float] = set()
    for times in wanted:
        if times is None:
            return video.frames(path, start, end)
        moments |= times
    return video.frames_at(path, sorted(moments))


def _sampling(path: Path, spec: InputSpec, start: float, end: float | None, seed: Draw) -> Sampling:
    if spec.segments is None:
        return EveryFrame(start, end) if spec.rate is None else Ticks(spec.rate, start, end)
    if (folder := picture_folder(path)) is not None:
        every, ends = folder.times, folder.until
    else:
        every = video.presentation_times(path)
        period = float(np.median(np.diff(every))) if len(every) > 1 else 0.04
        ends = np.append(every[1:], every[-1:] + period)
    times = every[(ends > start + 1e-6) & (every < (np.inf if end is None else end))]
    if not times.size:
        raise NothingThereError(f"{path}: no frame from {start:g} s on", "Check 'start' and 'end'")
    until = float(ends[-1])
    limit = until if end is None else min(end, until)
    return Segments(times, limit, spec.segments, spec.duration, spec.stride, drawn(seed), start)
