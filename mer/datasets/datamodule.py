"""The data module: a manifest, a fold or split, and loaders whose preprocessing comes from the model's encoders."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mer.datasets.clips import Batch, ClipDataset, Collate
from mer.datasets.frame_cache import Form
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import Split, split_clips
from mer.datasets.samplers import EpochSampler, Shuffled
from mer.datasets.store import Shelf, Store
from mer.datasets.store_key import Key, item_id, stale
from mer.datasets.views import Views
from mer.errors import UserError
from mer.labels import Task
from mer.runs import file_hash
from mer.spec import InputSpec
from mer.tokens import Sampled


class EmotionData(pl.LightningDataModule):
    """Clips of a manifest for `fit`, `validate` and `test`.

    Args:
        manifest: manifest.csv, with corpus.yaml beside it.
        fold: the fold that is the test; None uses the manifest's split column; `all` scores every row, with a model of
            another corpus.
        tasks_used: names of the tasks to train, a part of those in corpus.yaml; None for all.
        label_spaces: per video-level task another label space, for training or scoring across corpora: a name with rules where
            classes merge, `{emotion: basic7.v1+calm_is_neutral}` (see `mer.label_maps`). What has no counterpart is unlabelled.
        batch_size: clips per batch and process.
        num_workers: loader processes; 0 loads in the main process.
        val_fraction: share of the training subjects set aside as inner validation split where the manifest names none.
        crop: seconds of the random stretch taken from each clip in training; None takes whole clips.
        keep_in_memory: decode each clip once and hold it (for corpora that fit).
        skip_errors: leave out clips that cannot be read and list them at the end.
        seed: of order, stretches and inner split; the command passes on `seed_everything`.
        store: feature store that `mer extract` wrote. Encoders that are frozen for good (`model.freeze`) take their tokens
            from there and are not run; the others read media as ever. Training crops cut tokens, where they would have
            cut media: the tokens then have seen beyond the crop's edge.
        frame_cache: folder that keeps the decoded, cropped and resized frames of videos, so that each is decoded once.
        frame_form: `raw` (fastest; 150 kB per frame of 224 x 224) or `jpeg` (a tenth of that, not quite the same pixels).
        sampler: how often an epoch shows each training clip (`mer.datasets.samplers`); None shows each once.
        views: in which ways a clip of validation and test is seen, and how its answers are averaged
            (`mer.datasets.views.Views`); None sees it once, whole.
        specs: the encoders' input specs, where the module is used without a Trainer.

    Attributes:
        skipped: clips that were left out so far, and why.
        checkpoint: the model.safetensors whose weights the model has, where they are not those of the config.

    The loader of test clips exists only inside `mer test`, `crossval` and `quickstart`.
    """

    def __init__(
        self,
        manifest: str,
        fold: str | int | None = None,
        tasks_used: list[str] | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        val_fraction: float = 0.0,
        crop: float | None = None,
        keep_in_memory: bool = False,
        skip_errors: bool = False,
        seed: int = 0,
        specs: dict[str, InputSpec] | None = None,
        store: str | None = None,
        frame_cache: str | None = None,
        frame_form: Form = "raw",
        sampler: Shuffled | None = None,
        views: Views | None = None,
        label_spaces: dict[str, str] | None = None,
    ):
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise UserError(f"data.{name} is {value}", f"Use at least {least}")
        if crop is not None and crop <= 0:
            raise UserError(f"data.crop is {crop:g}", "Use seconds above 0, or null for whole clips")
        if not 0 <= val_fraction < 1:
            raise UserError(f"data.val_fraction is {val_fraction:g}", "Use a share from 0 up to, but not, 1")
        self.manifest = Manifest.read(manifest).mapped(label_spaces or {})
        tasks = self.manifest.corpus.tasks
        unknown = set(tasks_used or ()) - set(tasks)
        if unknown:
            raise UserError(f"data.tasks_used names {', '.join(sorted(unknown))}", f"The tasks are {', '.join(tasks)}")
        self.tasks: dict[str, Task] = {n: t for n, t in tasks.items() if tasks_used is None or n in tasks_used}
        self.fold = None if fold is None else str(fold)
        self.batch_size, self.num_workers, self.val_fraction = batch_size, num_workers, val_fraction
        self.crop, self.keep, self.skip_errors, self.seed = crop, keep_in_memory, skip_errors, seed
        self._specs = specs
        self.store = None if store is None else Store(store)
        self.frame_cache, self.frame_form = frame_cache, frame_form
        self.sampler, self.views = sampler, views
        self._shelves: dict[str, Shelf] = {}
        self.split: Split = split_clips(self.manifest, self.fold, val_fraction, seed)
        self._datasets: dict[str, ClipDataset] = {}
        self.checkpoint: Path | None = None
        self._begin = (0, 0)
        self.skipped: dict[str, str] = {}

    @property
    def specs(self) -> dict[str, InputSpec]:
        """Input specs, from the model in training."""
        if self._specs is None:
            assert self.trainer is not None, "without a Trainer, pass specs"
            self._specs = self.trainer.lightning_module.model.specs  # type: ignore[union-attr, assignment]
        assert self._specs is not None
        return self._specs

    def setup(self, stage: str) -> None:
        model = getattr(getattr(self.trainer, "lightning_module", None), "model", None)
        self._shelves = {} if self.store is None else self._find_shelves(self.store)
        for name, encoder in getattr(model, "encoders", {}).items():
            if encoder.batch_by_length and self.batch_size > 1 and name not in self._shelves:
                raise UserError(f"the encoder {name!r} cannot mask padding", "Set data.batch_size to 1")
        for modality in self.specs:
            self.manifest.reference(self.manifest.clips[0], modality)  # a column that is missing is missing for all
        if self.views is not None:
            self.views.check({m: spec for m, spec in self.specs.items() if m not in self._shelves})
        if stage == "fit" and not self.split.train:
            raise UserError(
                f"{self.manifest.path}: no row has split 'train'", "Fill in 'split', or name a fold with --data.fold"
            )
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        for name in wanted:
            clips = getattr(self.split, name)
            if name != "train" and not clips:
                if stage == "fit":
                    continue
                raise UserError(
                    f"{self.manifest.path}: no {name} clips", "Fill in 'split', or name a fold with --data.fold"
                )
            crop = self.crop if name == "train" else None
            left_out = self._not_kept(clips)
            self._skip(left_out)
            training, cache = name == "train", self.frame_cache
            dataset = ClipDataset(
                self.manifest, clips, self.specs, crop, self.keep, self.seed, self._shelves, left_out,
                training, cache, self.frame_form, None if training else self.views,
            )  # fmt: skip
            self._skip({name: why for name, why in dataset.left_out.items() if name not in left_out})
            if self.keep and len(self._shelves) < len(self.specs):
                self._skip(dataset.preload(name))
            self._datasets[name] = dataset

    def _find_shelves(self, store: Store) -> dict[str, Shelf]:
        """The shelf of every encoder that is frozen for good; says in one line what comes from where."""
        assert self.trainer is not None, "a store needs the model's encoders, and so a Trainer"
        task: Any = self.trainer.lightning_module
        if not task.frozen:
            first = next(iter(self.specs))
            raise UserError(
                f"data.store is {store.path}, but no encoder is frozen, and one that trains has no tokens to keep",
                f"Freeze one with model.freeze: {{encoders.{first}: -1}}, or leave data.store out",
            )
        shelves: dict[str, Shelf] = {}
        for modality in task.frozen:
            if modality not in self.specs:
                continue  # it reads several columns at once; a store keeps the tokens of one
            key = Key.of(task.model.encoders[modality])
            shelf = store.find(modality, key)
            if shelf is None:
                raise UserError(
                    f"{store.path}: no tokens of the encoder {modality!r}: {store.explain(modality, key)}",
                    f"Run {self._extraction(modality)}",
                )
            shelves[modality] = shelf
        if self.trainer.is_global_zero:
            sources = [f"{m} from {shelves[m].folder if m in shelves else 'media'}" for m in self.specs]
            print(f"tokens: {', '.join(sources)}")
        return shelves

    def _not_kept(self, clips: Sequence[Clip]) -> dict[str, UserError]:
        """Clips without tokens in the store, by name; an error that counts them, where they are not to be left out."""
        found: dict[str, UserError] = {}
        for modality, shelf in self._shelves.items():
            wrong: dict[str, UserError] = {}
            failures = shelf.failures()
            for clip in clips:
                reference = self.manifest.reference(clip, modality)
                if reference is None:
                    continue
                item = item_id(reference, clip.start, clip.end)
                remedy = f"Run {self._extraction(modality)}"
                if item in failures:
                    problem = failures[item].problem
                    remedy = (
                        f"{failures[item].remedy.rstrip('.')}, then run {self._extraction(modality, '--retry-failed')}"
                    )
                elif item not in shelf:
                    problem = f"{reference} has no tokens in {shelf.folder}"
                elif (
                    changed := stale(self.manifest.corpus.root, shelf.note(item).sources, self.manifest.resolve)
                ) is not None:
                    problem = f"{changed} is another file than the one that its tokens were made of"
                else:
                    continue
                wrong[clip.clip_id] = UserError(problem, remedy)
            if wrong and not self.skip_errors:
                clip_id, error = next(iter(wrong.items()))
                raise UserError(
                    f"{shelf.folder}: {len(wrong)} of {len(clips)} clips have no tokens that can be used, the first is"
                    f" {clip_id!r} ({error.problem})",
                    f"{error.remedy}, or go on without such clips with --data.skip_errors true",
                )
            found |= wrong
        return found

    def _extraction(self, modality: str, *more: str) -> str:
        """The command that makes what is missing."""
        assert self.trainer is not None and self.store is not None
        resolved = Path(self.trainer.default_root_dir) / "config.yaml"
        whence = ["--config", str(resolved) if resolved.is_file() else "CONFIG.yaml"]
        if self.checkpoint is not None:
            whence = ["--checkpoint", str(self.checkpoint)]
        command = ["mer", "extract", *whence, "--manifest", str(self.manifest.path)]
        return f"'{shlex.join([*command, '--store', str(self.store.path), '--modality', modality, *more])}'"

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(self._datasets["train"].clips, self.tasks, self.sampler, self.seed, rank, world)
        sampler.go_on(*self._begin)
        full = len(sampler) >= self.batch_size  # a last batch of one or two clips upsets batch normalisation
        return self._loader("train", sampler=sampler, drop_last=full)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the epoch that a resumed run begins with, and how many of its clips a process has seen.

        Lightning counts the batches of an interrupted epoch, but would draw the first ones once more instead of the rest; and
        it names the epoch too late for loader processes, which read ahead.
        """
        assert self.trainer is not None
        epochs, batches = self.trainer.fit_loop.epoch_progress.current, self.trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch:
            return {"epoch": epochs.ready, "seen": 0}
        return {"epoch": epochs.ready - 1, "seen": batches.current.ready * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._begin = (int(state_dict["epoch"]), int(state_dict["seen"]))

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return self._loader("val") if "val" in self._datasets else []

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _loader(self, name: str, **options: Any) -> DataLoader[Any]:
        workers: dict[str, Any] = {"persistent_workers": True} if self.num_workers else {}
        return DataLoader(
            self._datasets[name],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=Collate(self.specs, self.tasks, {m: shelf.dim for m, shelf in self._shelves.items()}),
            pin_memory=torch.cuda.is_available(),
            **workers,
            **options,
        )

    def train_inputs(self, modality: str) -> Iterator[Sampled]:
        """All training inputs of one modality, uncropped and in order, for `Encoder.calibrate`."""
        spec = {modality: self.specs[modality]}
        clips = [c for c in self.split.train if self.manifest.reference(c, modality)]
        dataset = ClipDataset(self.manifest, clips, spec, keep=self.keep)
        loader = DataLoader(
            dataset, batch_size=max(self.batch_size, 32), num_workers=self.num_workers, collate_fn=Collate(spec, {})
        )
        for batch in loader:
            self._skip(batch.skipped)
            if len(batch):
                sampled = batch.inputs[modality]
                assert isinstance(sampled, Sampled)
                yield sampled

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        self._skip(batch.skipped)
        return batch.in_float32()

    def _skip(self, unreadable: Mapping[str, UserError]) -> None:
        """List clips that cannot be read, or stop at the first."""
        for clip_id, error in unreadable.items():
            if not self.skip_errors:
                remedy = f"{error.remedy.rstrip('.')}, or go on without such clips with --data.skip_errors true"
                raise UserError(f"clip {clip_id!r}: {error.problem}", remedy)
            self.skipped[clip_id] = str(error)

    def class_counts(self) -> dict[str, list[float]]:
        """Per video-level task how often each class (or label, of a multilabel task) occurs in the training rows."""
        counts: dict[str, list[float]] = {}
        for name, task in self.tasks.items():
            if task.level != "video" or task.space.kind == "continuous":
                continue
            counts[name] = [0.0] * len(task.space)
            for clip in self.split.train:
                label = clip.labels[name]
                if label is None:
                    continue
                if task.space.kind == "classes":
                    counts[name][int(label[0])] += 1
                else:
                    counts[name] = [c + v for c, v in zip(counts[name], label, strict=True)]
        return counts

    @property
    def rows(self) -> str:
        """Hash of the manifest and its corpus.yaml: which rows, labels and folds."""
        path = self.manifest.path
        return "-".join(file_hash(file) for file in (path, path.parent / "corpus.yaml"))

    def describe(self) -> dict[str, Any]:
        """For the run folder: which rows were used."""
        return {
            "manifest": str(self.manifest.path),
            "rows": self.rows,
            "corpus": self.manifest.corpus.name,
            "fold": self.fold,
            "clips": {name: len(getattr(self.split, name)) for name in ("train", "val", "test")},
            "stamp": self.split.stamp,
        }
