"""A torch dataset of clips: media prepared from the encoders' specs, labels from the manifest, batches with masks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from tqdm import tqdm

from mer.datasets.frame_cache import CachedFrames, Form
from mer.datasets.manifest import Clip, Manifest, read_frame_labels
from mer.datasets.source import Source, between, extent
from mer.datasets.store import Shelf
from mer.datasets.store_key import item_id
from mer.datasets.views import WHOLE, Crop, View, Views, cropped, mirrored
from mer.errors import UserError
from mer.labels import Task
from mer.media.guard import examined
from mer.media.sampling import Draw
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens, stack_samples

MISSING_CLASS = -1
_REAL = torch.ones((1, 4096), dtype=torch.bool)  # masks of clips are parts of it
Found = Sampled | Tokens | CachedFrames


@dataclass
class Item:
    """One clip: prepared modalities (None where absent), its targets as tensors, times (F,) of frame-level targets."""

    clip: Clip
    inputs: dict[str, Sampled | Tokens | None]
    targets: dict[str, Tensor]
    frame_times: Tensor


@dataclass(frozen=True)
class Skipped:
    """A clip that could not be read, and why. Workers hand it on; the main process lists it or stops."""

    clip_id: str
    error: UserError


@dataclass
class Batch:
    """What the model and the task get.

    Attributes:
        clip_ids: B names; in evaluation a clip may stand in several rows, one per view.
        inputs: per modality one `Sampled`, or `Tokens` from a feature store (in its dtype until `in_float32`); an absent
            modality has an all-False mask.
        targets: per task (B,) int64 classes with -1 for unlabelled, or (B, C) float32 with NaN for unlabelled; a
            frame-level task has (B, F) or (B, F, C).
        frame_times: (B, F) seconds of the frame-level targets; F is 0 where there is no such task.
        skipped: clips of this batch that could not be read, and why.
    """

    clip_ids: list[str]
    inputs: dict[str, Sampled | Tokens]
    targets: dict[str, Tensor]
    frame_times: Tensor
    skipped: dict[str, UserError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Move everything to a device."""
        return Batch(
            self.clip_ids,
            {m: s.to(device, non_blocking=non_blocking) for m, s in self.inputs.items()},
            {t: v.to(device, non_blocking=non_blocking) for t, v in self.targets.items()},
            self.frame_times.to(device, non_blocking=non_blocking),
            self.skipped,
        )

    def in_float32(self) -> Batch:
        """Tokens as the model takes them."""
        inputs = {m: s.to(torch.float32) if isinstance(s, Tokens) else s for m, s in self.inputs.items()}
        return replace(self, inputs=inputs)

    def pin_memory(self) -> Batch:
        """Page-locked copy."""
        return Batch(
            self.clip_ids,
            {m: s.pin_memory() for m, s in self.inputs.items()},
            {t: v.pin_memory() for t, v in self.targets.items()},
            self.frame_times.pin_memory(),
            self.skipped,
        )


class ClipDataset(Dataset[Item | Skipped]):
    """Clips of one split.

    Args:
        manifest: the corpus.
        clips: its rows to use.
        specs: how each modality is prepared, from the model.
        crop: seconds of the random stretch taken in training; None takes whole clips.
        keep: hold prepared media, and tokens of a store, in memory.
        seed: of the random stretches; each is a function of (seed, epoch, clip id).
        shelves: per modality the shelf of a feature store that gives its tokens; the others are read from media.
        left_out: clips that are known to be unreadable, and why.
        draws: in training, frames of a fixed number are taken from random places; else from the middle of each part.
        cache, form: folder and form of a frame cache, see `mer.datasets.frame_cache`.
        views: in evaluation, the ways in which each clip is seen; an item is then one view of a clip.

    Every random draw is a function of (seed, epoch, clip id). Items are addressed by (epoch, index), or by index alone for
    epoch 0. A clip that cannot be read gives `Skipped`.
    """

    def __init__(
        self,
        manifest: Manifest,
        clips: Sequence[Clip],
        specs: Mapping[str, InputSpec],
        crop: float | None = None,
        keep: bool = False,
        seed: int = 0,
        shelves: Mapping[str, Shelf] | None = None,
        left_out: Mapping[str, UserError] | None = None,
        draws: bool = False,
        cache: str | None = None,
        form: Form = "raw",
        views: Views | None = None,
    ):
        self.manifest, self.clips, self.specs = manifest, list(clips), dict(specs)
        self.crop, self.seed, self.draws = crop, seed, draws
        self.shelves, self.left_out = dict(shelves or {}), dict(left_out or {})
        self._held: dict[tuple[str, str], Tokens] | None = {} if keep else None
        media = {m: s for m, s in self.specs.items() if m not in self.shelves}
        crops: set[Crop] = {"center"} if views is None else {view.crop for view in views.of(0.0, 0.0)}
        self.sources = {
            place: Source(manifest, cropped(media, place), keep, cache, form, crop is not None)
            for place in ("center", *sorted(crops - {"center"}))
        }
        self._counted = any(spec.sampled_by_count for spec in media.values())
        self._ends: dict[str, float] = {}
        self._rows: tuple[str, dict[str, Found]] | None = None
        self._moments: tuple[str, Tensor, dict[str, Tensor]] | None = None
        self.views: list[tuple[int, View]] | None = None if views is None else self._seen(views)

    def __len__(self) -> int:
        return len(self.clips) if self.views is None else len(self.views)

    def __getitem__(self, key: int | tuple[int, int]) -> Item | Skipped:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        index, view = (index, WHOLE) if self.views is None else self.views[index]
        clip = self.clips[index]
        if clip.clip_id in self.left_out:
            return Skipped(clip.clip_id, self.left_out[clip.clip_id])
        try:
            return self.read(clip, epoch, view)
        except UserError as error:
            return Skipped(clip.clip_id, error)

    def read(self, clip: Clip, epoch: int = 0, view: View = WHOLE) -> Item:
        """Prepare one clip, or the stretch of it that this epoch, or this view, shows."""
        references = {m: cell for m in self.specs if (cell := self.manifest.reference(clip, m)) is not None}
        if not references:
            raise UserError(f"no media in {', '.join(self.specs)}", "Fill in at least one of the columns")
        source = self.sources[view.crop]
        place, seed = self._drawn(clip, epoch)
        draw = view.place if seed is None else seed
        inputs: dict[str, Sampled | Tokens | None] = dict.fromkeys(self.specs)
        stretch: tuple[float, float] | None
        if view.window is None:
            found = self._found(clip, references, source, draw)
            if clip.end is None:
                found = self._spread(found, clip.start)
            stretch = self._stretch(found, place)
        else:
            found, stretch = self._windowed(clip, references, source, view.window, draw), None
        for modality, media in found.items():
            if isinstance(media, Tokens):
                inputs[modality] = media if stretch is None else between(media, *stretch)
            else:
                inputs[modality] = source.part(modality, media, stretch, draw)
        if view.flip:
            inputs = {m: mirrored(s, self.specs[m]) if isinstance(s, Sampled) else s for m, s in inputs.items()}
        begin, end = stretch or view.window or (clip.start, math.inf)
        if stretch is None and view.last:
            end = math.inf if clip.end is None else clip.end
        targets, times = self._labels(clip, begin, end)
        return Item(clip, inputs, targets, times)

    def _drawn(self, clip: Clip, epoch: int) -> tuple[float, int | None]:
        """Where in the clip its stretch lies, 0 to 1, and the seed of a fixed number of frames."""
        if self.crop is None and not (self.draws and self._counted):
            return 0.0, None
        random = np.random.default_rng([self.seed, epoch, zlib.crc32(clip.clip_id.encode())])
        return random.random(), int(random.integers(2**31)) if self.draws else None

    def _found(self, clip: Clip, references: Mapping[str, str], source: Source, draw: Draw) -> dict[str, Found]:
        """Each modality of a clip, from media or from a shelf."""
        media = {m: r for m, r in references.items() if m not in self.shelves}
        found: dict[str, Found] = {**source.get(clip, media, draw)} if media else {}
        for modality in references.keys() & self.shelves.keys():
            found[modality] = self._tokens(modality, item_id(references[modality], clip.start, clip.end))
        return found

    def _tokens(self, modality: str, item: str) -> Tokens:
        if self._held is None:
            return _kept(self.shelves[modality], item)
        if (modality, item) not in self._held:
            self._held[modality, item] = _kept(self.shelves[modality], item)
        return self._held[modality, item]

    def _windowed(
        self, clip: Clip, references: Mapping[str, str], source: Source, window: tuple[float, float], draw: Draw
    ) -> dict[str, Found]:
        """What a window shows: media are read as if it were a clip, rows and tokens of the whole clip are cut."""
        rows = {m: r for m, r in references.items() if m in self.shelves or self.specs[m].from_file}
        media = {m: r for m, r in references.items() if m not in rows}
        found: dict[str, Found] = {}
        for modality, whole in self._whole_rows(clip, rows).items():
            assert not isinstance(whole, CachedFrames)
            cut = between(whole, *window)
            if cut is not None:
                found[modality] = cut
        if media:
            part = replace(clip, start=window[0], end=window[1])
            alone = part.start == clip.start and part.end == (clip.end or self._ends.get(clip.clip_id))
            found |= source.get(part, media, draw, window=not alone)
        return found

    def _whole_rows(self, clip: Clip, references: Mapping[str, str]) -> dict[str, Found]:
        """Rows and tokens of a clip, which its views follow each other to."""
        last = self._rows
        if last is None or last[0] != clip.clip_id:
            found = self._found(clip, references, self.sources["center"], None)
            if clip.end is None:
                found = self._spread(found, clip.start, self._ends[clip.clip_id])
            self._rows = last = clip.clip_id, found
        return last[1]

    def _seen(self, views: Views) -> list[tuple[int, View]]:
        """Every view of every clip, the views of a clip one after another."""
        known = {c.clip_id: c.end for c in self.clips}
        unknown = [c for c in self.clips if c.end is None and c.clip_id not in self.left_out]
        if views.windows is not None and unknown:
            with ThreadPoolExecutor(2) as pool:
                ends = tqdm(pool.map(self._measured, unknown), "measure clips", len(unknown), leave=False)
                for clip, end in zip(unknown, ends, strict=True):
                    if isinstance(end, UserError):
                        self.left_out[clip.clip_id] = end
                    else:
                        known[clip.clip_id] = self._ends[clip.clip_id] = end
        rows: list[tuple[int, View]] = []
        for index, clip in enumerate(self.clips):
            if clip.clip_id in self.left_out:
                rows.append((index, WHOLE))
            else:
                rows += [(index, view) for view in views.of(clip.start, known[clip.clip_id])]
        return rows

    def _measured(self, clip: Clip) -> float | UserError:
        """Seconds at which a clip ends whose row does not say it: with the longest of its timed media."""
        try:
            references = {m: cell for m in self.specs if (cell := self.manifest.reference(clip, m)) is not None}
            rows = {m: r for m, r in references.items() if m in self.shelves or self.specs[m].from_file}
            found = self._found(clip, rows, self.sources["center"], None)
            timed = [media for m, media in found.items() if not self._untimed(m)]
            paths = {self.manifest.corpus.root / r for m, r in references.items() if m not in rows}
            ends = [examined(path, False).length or examined(path).length for path in paths]
            ends += [end for media in (timed if timed or paths else found.values()) if (end := _end(media)) is not None]
            if max(ends, default=0.0) <= clip.start:
                raise UserError(f"nothing from {clip.start:g} s on", "Check 'start', or write 'end' into the manifest")
            return max(ends)
        except UserError as error:
            return error

    def _untimed(self, modality: str) -> bool:
        spec = self.specs[modality]
        return spec.kind == "features" and spec.rate is None

    def _labels(self, clip: Clip, start: float, end: float) -> tuple[dict[str, Tensor], Tensor]:
        """Targets, and the times (F,) of frame-level ones, of the moments that the stretch shows."""
        tasks = self.manifest.corpus.tasks
        targets = {n: _target(clip.labels[n], task) for n, task in tasks.items() if task.level == "video"}
        at_frames = {n: task for n, task in tasks.items() if task.level == "frame"}
        if not at_frames:
            return targets, torch.zeros(0)
        last = self._moments
        if last is None or last[0] != clip.clip_id:
            moments: list[float] = []
            rows: dict[str, list[Sequence[float] | None]] = {n: [] for n in at_frames}
            if clip.frame_labels:
                path = self.manifest.corpus.root / self.manifest.resolve(clip.frame_labels)
                moments, rows = read_frame_labels(path, at_frames)
            labels = {name: _of_frames(rows[name], task) for name, task in at_frames.items()}
            self._moments = last = clip.clip_id, torch.tensor(moments, dtype=torch.float32), labels
        _, times, labels = last
        shown = (times >= start) & (times < end)
        return targets | {name: labels[name][shown] for name in at_frames}, times[shown]

    def _spread(self, found: Mapping[str, Found], start: float, last: float | None = None) -> dict[str, Found]:
        """Rows without a rate divide the clip; where the manifest gives it no end, it ends (`last`) with its timed media."""
        spread, untimed = dict(found), {m for m in found if self._untimed(m)}
        if untimed and last is None:
            ends = [_end(media) for m, media in found.items() if m not in untimed]
            last = max((end for end in ends if end is not None), default=None)
        for modality in untimed if last is not None else ():
            media, end = found[modality], _end(found[modality])
            if end is not None and last is not None:
                assert not isinstance(media, CachedFrames)
                second = (last - start) / (end - start)  # `prepare` gave each row one
                spread[modality] = replace(media, spans=start + (media.spans - start) * second)
        return spread

    def preload(self, what: str) -> dict[str, UserError]:
        """Decode every clip into memory, with a progress bar; gives the clips that could not be read."""
        with ThreadPoolExecutor(2) as pool:  # FFmpeg works outside Python's lock
            first = self._firsts()
            items = tqdm(pool.map(self.__getitem__, first), f"decode {what}", len(first), leave=False)
            return {item.clip_id: item.error for item in items if isinstance(item, Skipped)}

    def _firsts(self) -> list[int]:
        """One item of everything that is decoded by itself: clips, or windows and crops of them."""
        if self.views is None:
            return list(range(len(self)))
        first: dict[Any, int] = {}
        for number, (index, view) in enumerate(self.views):
            first.setdefault((index, view.window, view.crop), number)
        return list(first.values())

    def _stretch(self, found: Mapping[str, Found], place: float) -> tuple[float, float] | None:
        """The `crop` seconds that are shown, the same for all modalities of the clip; None for all of it."""
        if self.crop is None:
            return None
        # A timed stream alone says how long the clip is; one cached row stands for all of it and is never cut.
        extents = [e for media in found.values() if (e := extent(media)) is not None]
        begin, end = min((e[0] for e in extents), default=0.0), max((e[1] for e in extents), default=0.0)
        if end - begin <= self.crop:
            return None
        first = begin + place * (end - begin - self.crop)
        return first, first + self.crop


def _end(media: Found) -> float | None:
    """Seconds at which the last real element ends."""
    spans = media.spans if isinstance(media, CachedFrames) else media.spans[0, media.mask[0]]
    return float(spans[-1, 1]) if len(spans) else None


def _kept(shelf: Shelf, item: str) -> Tokens:
    """Tokens of a store, B = 1; where nothing was found, one that is masked, as from media."""
    stored = shelf.read(item)
    count = len(stored.spans)
    if not count:
        return Tokens(torch.zeros(1, 1, shelf.dim), torch.zeros((1, 1), dtype=torch.bool), torch.zeros(1, 1, 2))
    mask = _REAL[:, :count] if count <= _REAL.shape[1] else torch.ones((1, count), dtype=torch.bool)
    return Tokens(stored.values[None], mask, stored.spans[None])


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros; in a loader process right in the shared memory that a batch would be copied to on its way out."""
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=dtype)
    # As torch's own collation does it. Memory that was just mapped is zero.
    size = math.prod(shape)
    storage = torch.UntypedStorage._new_shared(max(size, 1) * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype).set_(storage)[:size].view(shape)


def stack_tokens(items: Sequence[Tokens | None], dim: int) -> Tokens:
    """Right-pad unbatched tokens (each with B = 1) into one batch; None stands for an absent modality.

    The values keep the dtype of the store where all have it: half as many bytes on the way to the main process and to the GPU.
    """
    longest = max((item.mask.shape[1] for item in items if item is not None), default=1)
    dtypes = {item.values.dtype for item in items if item is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    values = _zeros((len(items), longest, dim), dtype)
    mask = _zeros((len(items), longest), torch.bool)
    spans = _zeros((len(items), longest, 2), torch.float32)
    for row, item in enumerate(items):
        if item is not None:
            size = item.mask.shape[1]
            values[row, :size], mask[row, :size], spans[row, :size] = item.values[0], item.mask[0], item.spans[0]
    return Tokens(values, mask, spans)


def _target(label: Sequence[float] | None, task: Task) -> Tensor:
    if task.space.kind == "classes":
        return torch.tensor(MISSING_CLASS if label is None else int(label[0]))
    return torch.full((len(task.space),), float("nan")) if label is None else torch.tensor(label)


def _of_frames(labels: Sequence[Sequence[float] | None], task: Task) -> Tensor:
    """(F,) classes or (F, C) values of the moments of a frame-level task."""
    if task.space.kind == "classes":
        return torch.tensor([MISSING_CLASS if label is None else int(label[0]) for label in labels], dtype=torch.int64)
    size = len(task.space)
    missing = [float("nan")] * size
    rows = [missing if label is None else list(label) for label in labels]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, size)


@dataclass(frozen=True)
class Collate:
    """Items to a `Batch`: right padding, masks, missing labels marked, skipped clips listed.

    Attributes:
        specs: per modality how it is prepared.
        tasks: what is predicted.
        dims: per modality that comes from a feature store the width of its tokens.
    """

    specs: Mapping[str, InputSpec]
    tasks: Mapping[str, Task]
    dims: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, items: Sequence[Item | Skipped]) -> Batch:
        real = [item for item in items if isinstance(item, Item)]
        skipped = {item.clip_id: item.error for item in items if isinstance(item, Skipped)}
        inputs = {m: self._stacked(m, [item.inputs[m] for item in real]) for m in self.specs}
        longest = max((len(item.frame_times) for item in real), default=0)
        times = torch.zeros(len(real), longest)
        targets: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            missing = _target(None, task)
            if task.level == "video":
                targets[name] = torch.stack([item.targets[name] for item in real]) if real else missing[None][:0]
                continue
            targets[name] = missing.expand(len(real), longest, *missing.shape).clone()
            for row, item in enumerate(real):
                targets[name][row, : len(item.frame_times)] = item.targets[name]
        for row, item in enumerate(real):
            times[row, : len(item.frame_times)] = item.frame_times
        return Batch([item.clip.clip_id for item in real], inputs, targets, times, skipped)

    def _stacked(self, modality: str, items: Sequence[Any]) -> Sampled | Tokens:
        if modality in self.dims:
            return stack_tokens(items, self.dims[modality])
        return stack_samples(items, self.specs[modality], _zeros)
