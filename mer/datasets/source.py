"""Where a clip's media come from (memory, the frame cache, the decoder), and the part of them that is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch

from mer.datasets.frame_cache import CachedFrames, Form, FrameCache
from mer.datasets.manifest import Clip, Manifest
from mer.errors import NothingThereError, UserError
from mer.media.pick import pick
from mer.media.prepare import prepare_all
from mer.media.sampling import Draw
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

Timed = TypeVar("Timed", bound=Sampled | Tokens)

# Prepared clips, so that epochs, and the folds of a cross-validation, decode a file once.
_KEPT: dict[tuple[str, str, float, float | None, InputSpec], Sampled] = {}


class Source:
    """Media of the clips of a corpus.

    Args:
        manifest: the corpus.
        specs: how each modality is prepared.
        keep: hold prepared clips in memory.
        cache: folder of a frame cache, for modalities of kind `video`.
        form: of its frames.
        parts: stretches of clips will be asked for, so a fixed number of frames cannot be chosen while decoding.
    """

    def __init__(
        self,
        manifest: Manifest,
        specs: Mapping[str, InputSpec],
        keep: bool = False,
        cache: str | None = None,
        form: Form = "raw",
        parts: bool = False,
    ):
        self.manifest, self.specs, self.keep = manifest, dict(specs), keep
        self._caches: dict[str, FrameCache] = {}
        if cache is not None:
            self._caches = {m: FrameCache(cache, s, form) for m, s in specs.items() if s.kind == "video"}
        # Chosen from all frames later, wherever all frames are at hand.
        self._later = {m for m, s in specs.items() if s.chosen_later and (keep or parts or m in self._caches)}
        for modality, spec in specs.items():
            if parts and spec.sampled_by_count and not spec.chosen_later:
                raise UserError(
                    f"data.crop cannot cut {modality!r}, a fixed number of elements of kind {spec.kind}",
                    "Give the encoder a rate, or leave data.crop out",
                )

    def get(
        self, clip: Clip, references: Mapping[str, str], seed: Draw = None, window: bool = False
    ) -> dict[str, Sampled | CachedFrames]:
        """Each modality of a clip; what must be decoded is read together, so that a file is decoded once.

        Args:
            clip: a row of the manifest.
            references: its media, per modality.
            seed: in training, of the random places of a fixed number of frames; in evaluation, which of several views.
            window: the clip is a window of a longer one; a modality that shows nothing in it is left out.

        Raises:
            UserError: a modality cannot be read.
        """
        root = self.manifest.corpus.root
        asked = {m: self.specs[m].dense() if m in self._later else self.specs[m] for m in references}
        keys = {m: (str(root), references[m], clip.start, clip.end, spec) for m, spec in asked.items()}
        found: dict[str, Sampled | CachedFrames] = {m: _KEPT[key] for m, key in keys.items() if key in _KEPT}
        for modality in references.keys() & self._caches.keys() - found.keys():
            frames = self._caches[modality].get(root / references[modality], clip.start, clip.end)
            if frames is not None:
                found[modality] = frames
        rest = {m: r for m, r in references.items() if m not in found}
        read = {}
        if rest:
            specs = {m: beside(self.manifest, asked[m]) for m in rest}
            read = prepare_all(root, rest, specs, clip.start, clip.end, seed)
        for modality, result in read.items():
            if window and isinstance(result, NothingThereError):
                continue
            if isinstance(result, UserError):
                raise result
            found[modality] = result
            if modality in self._caches:
                real = result.mask[0]
                path = root / references[modality]
                self._caches[modality].put(path, clip.start, clip.end, result.values[0, real], result.spans[0, real])
            elif self.keep:
                _KEPT[keys[modality]] = result
        return found

    def part(
        self,
        modality: str,
        media: Sampled | CachedFrames,
        stretch: tuple[float, float] | None = None,
        seed: Draw = None,
    ) -> Sampled | None:
        """What `get` gave, cut to a stretch (seconds), and of that the number of frames that the encoder wants.

        None where the stretch shows nothing.
        """
        spec = self.specs[modality]
        if isinstance(media, CachedFrames):
            start, end = stretch or (-math.inf, None)
            return media.sample(spec, start, end, seed)
        cut = media if stretch is None else between(media, *stretch)
        return cut if cut is None or modality not in self._later else pick(cut, spec, seed)


def beside(manifest: Manifest, spec: InputSpec) -> InputSpec:
    """A spec for reading: where `face.file` begins with `@/`, it lies beside the manifest. Keys hold it as declared."""
    if spec.face is None or spec.face.file is None:
        return spec
    return replace(spec, face=replace(spec.face, file=manifest.resolve(spec.face.file)))


def extent(media: Sampled | Tokens | CachedFrames) -> tuple[float, float] | None:
    """Seconds from the first to the last element; None of a single one, which stands for a clip of any length."""
    spans = torch.from_numpy(media.spans) if isinstance(media, CachedFrames) else media.spans[0, media.mask[0]]
    return (float(spans[0, 0]), float(spans[-1, 1])) if len(spans) > 1 else None


def between(sampled: Timed, start: float, end: float) -> Timed | None:
    """The stretch [start, end) of an unbatched sample: elements whose midpoint lies in it, or else those over its middle; None
    where there are none.

    A single element that stands for the whole clip (one cached row) belongs to every stretch it overlaps.
    """
    spans = sampled.spans[0]
    if len(spans) == 1:
        return sampled if spans[0, 0] < end and spans[0, 1] > start else None
    middle = spans.mean(1)
    first, last = int(torch.searchsorted(middle, start)), int(torch.searchsorted(middle, end))
    if first >= last:
        # What is longer than the stretch (the words of a sentence that share its span) shows where it covers its middle.
        covering = torch.nonzero((spans[:, 0] <= (start + end) / 2) & (spans[:, 1] > (start + end) / 2))[:, 0]
        if not len(covering):
            return None
        first, last = int(covering[0]), int(covering[-1]) + 1
    return replace(
        sampled, values=sampled.values[:, first:last], mask=sampled.mask[:, first:last], spans=spans[None, first:last]
    )
