"""A torch dataset of clips: media prepared from the encoders' specs, labels from the manifest, batches with masks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from mer.datasets.frame_cache import CachedFrames, Form
from mer.datasets.manifest import Clip, Manifest, read_frame_labels
from mer.datasets.source import Source, between, extent
from mer.datasets.store import Shelf
from mer.datasets.store_key import item_id
from mer.errors import UserError
from mer.labels import Task
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens, stack_samples

MISSING_CLASS = -1


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
        clip_ids: B names.
        inputs: per modality one `Sampled`, or `Tokens` from a feature store; an absent modality has an all-False mask.
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
        keep: hold prepared media in memory.
        seed: of the random stretches; each is a function of (seed, epoch, clip id).
        shelves: per modality the shelf of a feature store that gives its tokens; the others are read from media.
        left_out: clips that are known to be unreadable, and why.
        draws: in training, frames of a fixed number are taken from random places; else from the middle of each part.
        cache, form: folder and form of a frame cache, see `mer.datasets.frame_cache`.

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
    ):
        self.manifest, self.clips, self.specs = manifest, list(clips), dict(specs)
        self.crop, self.seed, self.draws = crop, seed, draws
        self.shelves, self.left_out = dict(shelves or {}), dict(left_out or {})
        media = {m: s for m, s in self.specs.items() if m not in self.shelves}
        self.source = Source(manifest, media, keep, cache, form, crop is not None)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: int | tuple[int, int]) -> Item | Skipped:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        clip = self.clips[index]
        if clip.clip_id in self.left_out:
            return Skipped(clip.clip_id, self.left_out[clip.clip_id])
        try:
            return self.read(clip, epoch)
        except UserError as error:
            return Skipped(clip.clip_id, error)

    def read(self, clip: Clip, epoch: int = 0) -> Item:
        """Prepare one clip, or the stretch of it that this epoch shows."""
        random = np.random.default_rng([self.seed, epoch, zlib.crc32(clip.clip_id.encode())])
        place, seed = random.random(), int(random.integers(2**31)) if self.draws else None
        references = {m: cell for m in self.specs if (cell := self.manifest.reference(clip, m)) is not None}
        found: dict[str, Sampled | Tokens | CachedFrames] = {
            **self.source.get(clip, {m: r for m, r in references.items() if m not in self.shelves}, seed)
        }
        for modality in references.keys() & self.shelves.keys():
            found[modality] = _kept(self.shelves[modality], item_id(references[modality], clip.start, clip.end))
        if not found:
            raise UserError(f"no media in {', '.join(self.specs)}", "Fill in at least one of the columns")
        if clip.end is None:
            found = self._spread(found, clip.start)
        stretch = self._stretch(found, place)
        inputs: dict[str, Sampled | Tokens | None] = dict.fromkeys(self.specs)
        for modality, media in found.items():
            if isinstance(media, Tokens):
                inputs[modality] = media if stretch is None else between(media, *stretch)
            else:
                inputs[modality] = self.source.part(modality, media, stretch, seed)
        targets, times = self._labels(clip, *(stretch or (clip.start, math.inf if clip.end is None else clip.end)))
        return Item(clip, inputs, targets, times)

    def _labels(self, clip: Clip, start: float, end: float) -> tuple[dict[str, Tensor], Tensor]:
        """Targets, and the times (F,) of frame-level ones, of the moments that the stretch shows."""
        tasks = self.manifest.corpus.tasks
        targets = {n: _target(clip.labels[n], task) for n, task in tasks.items() if task.level == "video"}
        at_frames = {n: task for n, task in tasks.items() if task.level == "frame"}
        if not at_frames:
            return targets, torch.zeros(0)
        moments: list[float] = []
        rows: dict[str, list[Sequence[float] | None]] = {n: [] for n in at_frames}
        if clip.frame_labels:
            moments, rows = read_frame_labels(self.manifest.corpus.root / self.manifest.resolve(clip.frame_labels), at_frames)
        times = torch.tensor(moments, dtype=torch.float32)
        shown = (times >= start) & (times < end)
        for name, task in at_frames.items():
            cells = [_target(value, task) for value in rows[name]]
            targets[name] = torch.stack(cells)[shown] if cells else _target(None, task)[None][:0]
        return targets, times[shown]

    def _spread(
        self, found: Mapping[str, Sampled | Tokens | CachedFrames], start: float
    ) -> dict[str, Sampled | Tokens | CachedFrames]:
        """Rows without a rate divide the clip; where the manifest gives it no end, it ends with its timed media."""
        untimed = {m for m, spec in self.specs.items() if spec.kind == "features" and spec.rate is None}
        ends = [_end(media) for m, media in found.items() if m not in untimed]
        last = max((end for end in ends if end is not None), default=None)
        spread = dict(found)
        for modality, media in found.items():
            end = _end(media)
            if modality in untimed and last is not None and end is not None:
                assert not isinstance(media, CachedFrames)
                second = (last - start) / (end - start)  # `prepare` gave each row one
                spread[modality] = replace(media, spans=start + (media.spans - start) * second)
        return spread

    def preload(self, what: str) -> dict[str, UserError]:
        """Decode every clip into memory, with a progress bar; gives the clips that could not be read."""
        with ThreadPoolExecutor(2) as pool:  # FFmpeg works outside Python's lock
            items = tqdm(pool.map(self.__getitem__, range(len(self))), f"decode {what}", len(self), leave=False)
            return {item.clip_id: item.error for item in items if isinstance(item, Skipped)}

    def _stretch(
        self, found: Mapping[str, Sampled | Tokens | CachedFrames], place: float
    ) -> tuple[float, float] | None:
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


def _end(media: Sampled | Tokens | CachedFrames) -> float | None:
    """Seconds at which the last real element ends."""
    spans = media.spans if isinstance(media, CachedFrames) else media.spans[0, media.mask[0]]
    return float(spans[-1, 1]) if len(spans) else None


def _kept(shelf: Shelf, item: str) -> Tokens:
    """Tokens of a store, B = 1; where nothing was found, one that is masked, as from media."""
    stored = shelf.read(item)
    count = len(stored.spans)
    if not count:
        return Tokens(torch.zeros(1, 1, shelf.dim), torch.zeros((1, 1), dtype=torch.bool), torch.zeros(1, 1, 2))
    return Tokens(stored.values[None], torch.ones((1, count), dtype=torch.bool), stored.spans[None])


def stack_tokens(items: Sequence[Tokens | None], dim: int) -> Tokens:
    """Right-pad unbatched tokens (each with B = 1) into one float32 batch; None stands for an absent modality."""
    longest = max((item.mask.shape[1] for item in items if item is not None), default=1)
    values = torch.zeros(len(items), longest, dim)
    mask = torch.zeros((len(items), longest), dtype=torch.bool)
    spans = torch.zeros(len(items), longest, 2)
    for row, item in enumerate(items):
        if item is not None:
            size = item.mask.shape[1]
            values[row, :size], mask[row, :size], spans[row, :size] = item.values[0], item.mask[0], item.spans[0]
    return Tokens(values, mask, spans)


def _target(label: Sequence[float] | None, task: Task) -> Tensor:
    if task.space.kind == "classes":
        return torch.tensor(MISSING_CLASS if label is None else int(label[0]))
    return torch.full((len(task.space),), float("nan")) if label is None else torch.tensor(label)


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
        return stack_samples(items, self.specs[modality])


class ShuffledClips(Sampler[tuple[int, int]]):
    """(epoch, index) pairs in an order that depends on (seed, epoch) alone, dealt out to the processes of a DDP job.

    Lightning calls `set_epoch`. Every process gets equally many (the order is wrapped round), as DDP requires. After an
    interruption, `go_on` leaves out what an epoch has already seen.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world: int = 1):
        self.size, self.seed, self.rank, self.world, self.epoch = size, seed, rank, world, 0
        self._begun: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def go_on(self, epoch: int, seen: int) -> None:
        """Begin with this epoch, without the first `seen` pairs of this process."""
        self.epoch, self._begun = epoch, (epoch, seen)

    def __len__(self) -> int:
        return -(-self.size // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        order = np.resize(order, len(self) * self.world)
        seen = self._begun[1] if self._begun and self._begun[0] == self.epoch else 0
        return iter([(self.epoch, int(i)) for i in order[self.rank :: self.world][seen:]])
