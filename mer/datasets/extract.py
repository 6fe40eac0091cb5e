"""`mer extract`: run encoders over the clips of a manifest once, and keep their tokens in a feature store."""

from __future__ import annotations

import argparse
import math
import os
import queue
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from mer import checkpoint, overlay, per_fold
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.source import beside
from mer.datasets.store import DTYPES, Note, Shelf, Store
from mer.datasets.store_key import Key, Source, source_names, sources, stale, weights_hash
from mer.device import device_named
from mer.encoders.base import Encoder, JointEncoder
from mer.errors import NothingThereError, UserError
from mer.media.guard import abandon, examined
from mer.media.prepare import prepare_all
from mer.spec import InputSpec
from mer.tokens import Sampled, stack_samples

_SHOWN = 20  # failures that are printed; the store has them all


def main(argv: list[str]) -> int:
    """Run the command. Exit status 1 where a clip of this shard has failed, now or earlier."""
    parser = argparse.ArgumentParser(
        "mer extract",
        description="Run encoders over the clips of a manifest and keep their tokens. What is done is left alone, so an"
        " interrupted extraction goes on with the same command.",
        epilog="Exit status: 0 all done, 1 some clips have failed (they are listed, the rest is done), 2 a mistake in the"
        " call. Without --shard, a SLURM array or step (SLURM_ARRAY_TASK_*, SLURM_PROCID) or RANK and WORLD_SIZE divide"
        " the work.",
    )
    parser.add_argument("--config", type=Path, help="YAML with 'encoders:', or a config of mer fit")
    parser.add_argument("--checkpoint", type=Path, help="take the encoders from this model.safetensors instead")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.csv with corpus.yaml beside it")
    parser.add_argument("--store", type=Path, required=True, help="folder of the feature store")
    parser.add_argument("--folds", nargs="+",
                        help="of which the config's encoder_weights name a file each, with {fold} (default: all)")  # fmt: skip
    parser.add_argument("--modality", nargs="+", help="encoders to run (default: the config's frozen ones, else all)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16", help="of the kept tokens (float16)")
    parser.add_argument("--shard", type=_shard, help="I/N: part I, from 0, of N")
    parser.add_argument("--workers", type=int, default=1, help="decoding processes (1)")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=8, help="clips per forward pass (8)")
    parser.add_argument("--stretch", type=float, default=120.0,
                        help="seconds; longer clips are read and encoded piece by piece (120)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--retry_failed", "--retry-failed", action="store_true", help="try failed clips again")
    parser.add_argument("--allow_module", "--allow-module", nargs="+", default=[],
                        help="modules a checkpoint may name classes from")  # fmt: skip
    options = parser.parse_args(argv)
    for name, least in (("workers", 1), ("batch_size", 1), ("stretch", 1.0)):
        if not getattr(options, name) >= least:
            raise UserError(f"--{name} is {getattr(options, name):g}", f"Use at least {least:g}")
    per_fold.refuse(options.store, "--store")
    manifest = Manifest.read(options.manifest)
    shard, whence = (options.shard, "") if options.shard else default_shard(os.environ)
    plan = Plan(shard, options.workers, options.batch_size, options.stretch, options.dtype, options.retry_failed)
    note = f", shard {shard[0]}/{shard[1]}{whence}" if shard[1] > 1 else ""
    status = 0
    for fold in _folds(options.config, options.folds, manifest):
        encoders = encoders_of(options.config, options.checkpoint, options.modality, options.allow_module, fold=fold)
        encoders = _chosen(encoders, options.modality)
        store, told = Store.create(options.store), note if fold is None else f", fold {fold}{note}"
        status = max(status, extract(encoders, manifest, store, plan, device_named(options.device), told))
    return status


def _folds(config: Path | None, named: Sequence[str] | None, manifest: Manifest) -> Sequence[str | None]:
    """The folds whose encoders are run one after another; None alone where all folds have the same.

    Raises:
        UserError: folds that the config does not tell apart, or that the manifest has not.
    """
    if config is None or not per_fold.marked(_described(config).get("encoder_weights")):
        if named:
            raise UserError("--folds without {fold} in the config's encoder_weights", "Leave --folds out")
        return [None]
    unknown = [fold for fold in named or () if fold not in manifest.folds]
    if unknown or not manifest.folds:
        known = ", ".join(manifest.folds) or "none: the manifest needs a fold column"
        raise UserError(f"{manifest.path}: there is no fold {(unknown or ['at all'])[0]}", f"The folds are {known}")
    return list(named or manifest.folds)


@dataclass(frozen=True)
class Plan:
    """How to go about an extraction.

    Attributes:
        shard: (I, N): part I of N.
        workers: decoding threads, each with a process of its own.
        batch_size: clips per forward pass.
        stretch: seconds; a longer clip is read piece by piece, and a batch holds no more than that many.
        dtype: of the kept tokens.
        retry_failed: try clips again that have failed.
    """

    shard: tuple[int, int] = (0, 1)
    workers: int = 1
    batch_size: int = 8
    stretch: float = 120.0
    dtype: str = "float16"
    retry_failed: bool = False


# -- encoders ------------------------------------------------------------------------------------------------------------


def encoders_of(
    config: Path | None,
    weights: Path | None,
    only: Sequence[str] | None = None,
    allow_modules: Sequence[str] = (),
    warn: bool = True,
    fold: str | None = None,
) -> dict[str, Encoder]:
    """The encoders of a config (see `configured`), or of a checkpoint.

    Raises:
        UserError: neither or both are given, or one that cannot be read.
    """
    if (config is None) == (weights is None):
        raise UserError("the encoders come from either --config or --checkpoint", "Name one of them")
    if config is not None:
        encoders = configured(config, only, warn, fold)
    else:
        assert weights is not None
        model, _ = checkpoint.load(weights, allow_modules)
        encoders = {name: encoder for name, encoder in model.encoders.items() if isinstance(encoder, Encoder)}
    joint = [name for name, encoder in encoders.items() if isinstance(encoder, JointEncoder)]
    if joint and (only is None or set(joint) & set(only)) and len(joint) == len(encoders if only is None else only):
        raise UserError(
            f"the encoder {joint[0]!r} reads several modalities at once, and a store keeps the tokens of one",
            "Leave data.store out: it is read from media",
        )
    return {name: encoder for name, encoder in encoders.items() if name not in joint}


def configured(
    path: Path, only: Sequence[str] | None = None, warn: bool = True, fold: str | None = None
) -> dict[str, Encoder]:
    """Encoders of a config, with the weights that `mer fit` would begin with.

    Args:
        path: YAML with `encoders:`, or the config of a fit; of the latter, the frozen encoders where there are any.
        only: names of the encoders that are wanted, in place of the frozen ones.
        warn: name those that are untrained on standard error.
        fold: what stands for `{fold}` in the weights' paths.

    Raises:
        UserError: no such file, no encoders in it, arguments they refuse, or a path that wants a fold.
    """
    part = _described(path)
    described, weights, seed = part["encoders"], part["encoder_weights"], part["seed"]
    if marked := per_fold.marked(weights):
        if fold is None:
            raise UserError(
                f"{path}: encoder_weights wants a fold ({next(iter(marked.values()))})", "Name it in the path"
            )
        per_fold.fill(weights, fold)
    encoders = _built(path, described, seed)
    drawn = {n for n, e in _built(path, described, seed + 1).items() if weights_hash(e) != weights_hash(encoders[n])}
    checkpoint.load_encoders(encoders, {str(name): str(file) for name, file in weights.items()})
    given = {str(name).partition(".")[0] for name in weights}
    freeze = part["freeze"]
    frozen = {n for n in encoders if freeze.get(f"encoders.{n}", freeze.get("encoders")) == -1}
    wanted = {n: e for n, e in encoders.items() if n in (only or frozen or encoders)}
    for name, encoder in wanted.items() if warn else ():
        # Weights that depend on the seed were drawn, not learnt.
        if name not in given and (name in drawn or type(encoder).calibrate is not Encoder.calibrate):
            print(
                f"mer extract: the encoder {name!r} is untrained (seed {seed}): its tokens are as good as random weights"
                " make them. Name a trained one with --checkpoint, or with encoder_weights in the config.",
                file=sys.stderr,
            )
    return encoders if only else wanted


def _described(path: Path) -> dict[str, Any]:
    """What a config says of its encoders, as YAML gave it: `encoders`, `encoder_weights`, `freeze`, `seed`."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable config ({error})", "Check the path and the YAML") from None
    config = config if isinstance(config, dict) else {}
    if (laid := overlay.chosen(None)) is not None:
        overlay.lay(overlay.read(laid), config)
    part = config["model"] if isinstance(config.get("model"), dict) else config
    described, weights = part.get("encoders"), part.get("encoder_weights") or {}
    if not isinstance(described, dict) or not described or not isinstance(weights, dict):
        raise UserError(
            f"{path}: there is no 'encoders' in it", "Write encoders: {NAME: {class_path: ..., init_args: ...}}"
        )
    seed = config.get("seed_everything", 0)
    seed = 0 if isinstance(seed, bool) or not isinstance(seed, int) else seed
    return {"encoders": described, "encoder_weights": weights, "freeze": part.get("freeze") or {}, "seed": seed}


def _built(path: Path, described: Any, seed: int) -> dict[str, Encoder]:
    """The encoders as LightningCLI builds them: in order, after seeding."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--encoders", type=dict[str, Encoder])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before 4.49
        return dict(instantiate(parser.parse_object({"encoders": described})).encoders)
    except (ArgumentError, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{path}: {error}", "Correct the encoder's class_path and init_args") from None


def _chosen(encoders: Mapping[str, Encoder], names: Sequence[str] | None) -> dict[str, Encoder]:
    unknown = set(names or ()) - set(encoders)
    if unknown:
        raise UserError(f"there is no encoder {min(unknown)!r}", f"The encoders are {', '.join(encoders)}")
    return {n: e for n, e in encoders.items() if names is None or n in names}


# -- shards --------------------------------------------------------------------------------------------------------------


def _shard(text: str) -> tuple[int, int]:
    part, _, count = text.partition("/")
    if not (part.isdigit() and count.isdigit() and int(part) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(part), int(count)


def default_shard(environment: Mapping[str, str]) -> tuple[tuple[int, int], str]:
    """Which part of the work is this process's: a task of a SLURM array, times a process of a SLURM step or of torchrun.

    Returns:
        (I, N), and in words where that comes from (empty where it is all the work).

    Raises:
        UserError: an array that is not evenly numbered, or numbers that do not fit together.
    """

    def number(name: str, default: int) -> int:
        try:
            return int(environment.get(name) or default)
        except ValueError:
            raise UserError(f"{name} is {environment[name]!r}", "Name the part with --shard I/N") from None

    part, count, named = 0, 1, []
    if environment.get("SLURM_ARRAY_TASK_ID"):
        first, stride = number("SLURM_ARRAY_TASK_MIN", 0), max(1, number("SLURM_ARRAY_TASK_STEP", 1))
        part = (number("SLURM_ARRAY_TASK_ID", 0) - first) // stride
        count = number(
            "SLURM_ARRAY_TASK_COUNT", (number("SLURM_ARRAY_TASK_MAX", first + part * stride) - first) // stride + 1
        )
        named.append("SLURM array")
    # Not SLURM_NTASKS: that is there in a batch script, too, which without srun is a single process.
    step = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM step")
    for own, all_of_them, name in (step, ("RANK", "WORLD_SIZE", "RANK")):
        if environment.get(own) and number(all_of_them, 1) > 1:
            part, count = part * number(all_of_them, 1) + number(own, 0), count * number(all_of_them, 1)
            named.append(name)
            break
    if not 0 <= part < count:
        raise UserError(f"part {part} of {count} (from {', '.join(named)}) does not exist", "Name it with --shard I/N")
    return (part, count), f" (from {' and '.join(named)})" if named else ""


# -- what there is to do -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A clip and what is wanted of it: per modality the note that its item will carry; seconds, 0 where unknown."""

    clip: Clip
    notes: Mapping[str, Note]
    seconds: float


@dataclass(frozen=True)
class _Job:
    """One reading: modalities of a clip from `start` to `end`; `whole` where that is all of the clip."""

    wanted: _Wanted
    modalities: tuple[str, ...]
    start: float
    end: float | None
    whole: bool = True
    last: bool = True

    @property
    def seconds(self) -> float:
        end = self.wanted.clip.start + self.wanted.seconds if self.end is None else self.end
        return max(0.0, end - self.start)


def groups(manifest: Manifest, specs: Mapping[str, InputSpec], plan: Plan) -> list[list[_Wanted]]:
    """All clips of the manifest in batches of like length, longest first; the same however many shards there are."""
    taken: set[tuple[str, str]] = set()
    wanted: list[_Wanted] = []
    lengths = _lengths(manifest, specs)
    for clip in manifest.clips:
        notes = {}
        for modality in specs:
            reference = manifest.reference(clip, modality)
            if reference is None:
                continue
            note = Note(reference, clip.start, clip.end)
            if (modality, note.id) not in taken:  # rows may share a stretch, say with other labels
                taken.add((modality, note.id))
                notes[modality] = note
        if notes:
            wanted.append(_Wanted(clip, notes, _seconds(clip, notes.values(), lengths)))
    wanted.sort(key=lambda w: -w.seconds)  # stable: clips of one length stay in the manifest's order
    made: list[list[_Wanted]] = []
    for one in wanted:
        batch = made[-1] if made else []
        longest = batch[0].seconds if batch else math.inf
        if len(batch) < plan.batch_size and longest * (len(batch) + 1) <= plan.stretch:
            batch.append(one)
        else:
            made.append([one])
    return made


def _seconds(clip: Clip, notes: Any, lengths: Mapping[str, float]) -> float:
    if clip.end is not None:
        return clip.end - clip.start
    return max(0.0, max(lengths.get(note.reference, 0.0) for note in notes) - clip.start)


def _lengths(manifest: Manifest, specs: Mapping[str, InputSpec]) -> dict[str, float]:
    """Seconds of every media file that a row takes to its end; files that cannot be opened have none."""
    seen = [m for m, spec in specs.items() if _is_media(spec)]
    files = {r for clip in manifest.clips if clip.end is None for m in seen if (r := manifest.reference(clip, m))}

    def length(reference: str) -> float:
        try:
            return examined(manifest.corpus.root / reference, times=False).length
        except UserError:  # reading it will say why
            return 0.0

    names = sorted(files)
    with ThreadPoolExecutor(4) as pool:
        found = tqdm(pool.map(length, names), "lengths", len(names), leave=False, disable=len(names) < 1000)
        return dict(zip(names, found, strict=True))


def _is_media(spec: InputSpec) -> bool:
    return not spec.from_file


def _in_pieces(spec: InputSpec) -> bool:
    """Whether a long clip of this input can be read piece by piece."""
    return _is_media(spec) and not spec.sampled_by_count


class Steps:
    """What is left to do of a shard: readings that are encoded together, in order."""

    def __init__(self, manifest: Manifest, shelves: Mapping[str, Shelf], specs: Mapping[str, InputSpec], plan: Plan):
        self.manifest, self.shelves, self.specs, self.plan = manifest, shelves, specs, plan
        self.done, self.failed_before = 0, 0
        self._failures = {m: s.failures() for m, s in shelves.items()}
        part, count = plan.shard
        self.steps: list[list[_Job]] = []
        for group in groups(manifest, self.specs, plan)[part::count]:
            self.steps += self._of(group)

    def _of(self, group: list[_Wanted]) -> list[list[_Job]]:
        together: list[_Job] = []
        steps: list[list[_Job]] = []
        for wanted in group:
            todo = tuple(m for m, note in wanted.notes.items() if self._open(m, note))
            pieces = tuple(m for m in todo if wanted.seconds > self.plan.stretch and _in_pieces(self.specs[m]))
            whole = tuple(m for m in todo if m not in pieces)
            if whole:
                together.append(_Job(wanted, whole, wanted.clip.start, wanted.clip.end))
            if pieces:
                count = math.ceil(wanted.seconds / self.plan.stretch)
                length = math.ceil(wanted.seconds / count)  # whole seconds keep frame clocks in step
                begins = [wanted.clip.start + length * n for n in range(count) if length * n < wanted.seconds]
                ends = [*begins[1:], wanted.clip.end]
                for begin, end in zip(begins, ends, strict=True):
                    last = begin == begins[-1]
                    steps.append([_Job(wanted, pieces, begin, end, whole=False, last=last)])
        return [together, *steps] if together else steps

    def _open(self, modality: str, note: Note) -> bool:
        """Whether an item is still to be made."""
        shelf, root = self.shelves[modality], self.manifest.corpus.root
        if note.id in shelf:
            try:
                then = shelf.note(note.id)
            except UserError:  # damaged: made again
                return True
            other = then.stretch is not None and then.stretch != self.plan.stretch
            if not other and stale(root, then.sources, self.manifest.resolve) is None:
                self.done += 1
                return False
            return True
        failure = self._failures[modality].get(note.id)
        if (
            failure is None
            or self.plan.retry_failed
            or failure.note.sources != tuple(sources(root, note.reference, self.specs[modality], self.manifest.resolve))
        ):
            return True
        self.failed_before += 1
        return False


# -- doing it ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    inputs: Mapping[str, Sampled | UserError]
    sources: Mapping[str, tuple[Source, ...]]


def extract(
    encoders: Mapping[str, Encoder], manifest: Manifest, store: Store, plan: Plan, device: torch.device, note: str = ""
) -> int:
    """Fill the shelves of the encoders with the manifest's clips; gives the exit status of the command."""
    shelves = {}
    for modality, encoder in encoders.items():
        manifest.reference(manifest.clips[0], modality)  # a missing column is missing for all
        key = Key.of(encoder)
        if key.media is None:
            from mer.media.identity import identity

            identity(encoder.spec)  # says what has to be installed
        shelves[modality] = store.shelf(modality, key, plan.dtype, encoder.dim)
        encoder.to(device).eval().requires_grad_(False)
    for modality, shelf in shelves.items():
        print(f"{modality}: {shelf.folder}{note}")
    work = Steps(manifest, shelves, {m: encoder.spec for m, encoder in encoders.items()}, plan)
    writer = _Writer(encoders, shelves, device, plan)
    jobs = [job for step in work.steps for job in step]
    readings = [partial(_read, manifest, job, work.specs) for job in jobs]
    total = sum(max(job.seconds, 1.0) for job in jobs)
    with (
        closing(Ahead(readings, [job.seconds for job in jobs], plan)) as reading,
        tqdm(total=round(total), desc="extract", unit="s", unit_scale=True, disable=not jobs) as bar,
    ):
        for step in work.steps:
            writer.take([(job, next(reading)) for job in step])
            bar.set_postfix_str(f"{writer.written} items, {len(writer.failed)} failed", refresh=False)
            bar.update(round(sum(max(job.seconds, 1.0) for job in step)))
    print(
        f"{writer.written} item(s) written, {work.done} done earlier, {len(writer.failed) + work.failed_before} failed"
    )
    if writer.empty:
        print(f"{writer.empty} of them hold no token: nothing was found in the media")
    if work.failed_before:
        print(f"{work.failed_before} had failed earlier; --retry-failed tries them again", file=sys.stderr)
    for line in writer.failed[:_SHOWN]:
        print(f"  {line}", file=sys.stderr)
    if len(writer.failed) > _SHOWN:
        print(f"  and {len(writer.failed) - _SHOWN} more: mer store check names them", file=sys.stderr)
    return 1 if writer.failed or work.failed_before else 0


def _read(manifest: Manifest, job: _Job, specs: Mapping[str, InputSpec]) -> _Read:
    """Decode one job; runs in a thread of its own."""
    root, notes = manifest.corpus.root, job.wanted.notes
    asked = {m: beside(manifest, specs[m] if job.whole else replace(specs[m], trim=None)) for m in job.modalities}
    # Hashed before they are read: a file that changes in between is then found stale, and not taken for the new one.
    found = {
        m: tuple(sources(root, notes[m].reference, specs[m], manifest.resolve)) for m in job.modalities if job.last
    }
    inputs = prepare_all(root, {m: notes[m].reference for m in job.modalities}, asked, job.start, job.end)
    return _Read(inputs, found)


class _Writer:
    """Encodes what was read, and writes each item as soon as it is encoded."""

    def __init__(self, encoders: Mapping[str, Encoder], shelves: Mapping[str, Shelf], device: torch.device, plan: Plan):
        self.encoders, self.shelves, self.device, self.stretch = encoders, shelves, device, plan.stretch
        self.written, self.empty = 0, 0
        self.failed: list[str] = []
        self._pieces: dict[tuple[str, str], list[tuple[Tensor, Tensor] | UserError]] = {}

    def take(self, step: Sequence[tuple[_Job, _Read]]) -> None:
        """Encode the readings of one step together and write what is complete."""
        for modality, encoder in self.encoders.items():
            rows = [(job, read) for job, read in step if modality in job.modalities]
            if not rows:
                continue
            made = encode(encoder, [read.inputs[modality] for _, read in rows], self.device)
            for (job, read), result in zip(rows, made, strict=True):
                self._finish(modality, job, read, result)

    def _finish(self, modality: str, job: _Job, read: _Read, result: tuple[Tensor, Tensor] | UserError) -> None:
        note, shelf = job.wanted.notes[modality], self.shelves[modality]
        unread = read.inputs[modality]
        if isinstance(unread, UserError) and not (shelf.loose or shelf.packed):
            names = source_names(note.reference, self.encoders[modality].spec)
            if not any(Path(name).name in unread.problem for name in names):
                raise unread  # no clip is to blame, and it is the same for all: say, a package that is not installed
        if not job.whole:
            pieces = self._pieces.setdefault((modality, note.id), [])
            pieces.append(result)
            if not job.last:
                return
            del self._pieces[modality, note.id]
            result = _joined(pieces)
            note = replace(note, stretch=self.stretch)
        note = replace(note, sources=read.sources[modality])
        try:
            if isinstance(result, UserError):
                raise result
            values, spans = result
            values = shelf.fitting(note, values)
        except UserError as error:
            shelf.fail(note, error)
            self.failed.append(f"{modality} of {job.wanted.clip.clip_id}: {error}")
            return
        shelf.write(note, values, spans)  # a full disk is no fault of the clip: it ends the extraction
        self.written += 1
        self.empty += not len(values)


def _joined(pieces: Sequence[tuple[Tensor, Tensor] | UserError]) -> tuple[Tensor, Tensor] | UserError:
    """The tokens of a clip that was read piece by piece."""
    whole: list[tuple[Tensor, Tensor]] = []
    for piece in pieces:
        if isinstance(piece, NothingThereError):  # sound that ends before the picture does
            continue
        if isinstance(piece, UserError):
            return piece
        whole.append(piece)
    if not whole:
        return pieces[0]
    return torch.cat([values for values, _ in whole]), torch.cat([spans for _, spans in whole])


@torch.inference_mode()
def encode(
    encoder: Encoder, samples: Sequence[Sampled | UserError], device: torch.device
) -> list[tuple[Tensor, Tensor] | UserError]:
    """Tokens of several unbatched samples, padded into one batch where the encoder can mask padding.

    Returns:
        per sample values (T, D) and spans (T, 2) on the CPU, T = 0 where the sample has no real element; or what is wrong.
    """
    made: list[Any] = list(samples)
    rows = []
    for row, sample in enumerate(samples):
        if not isinstance(sample, UserError):
            made[row] = (torch.zeros(0, encoder.dim), torch.zeros(0, 2))
            if bool(sample.mask.any()):
                rows.append(row)
    batches = [[row] for row in rows] if encoder.batch_by_length else [rows] if rows else []
    for batch in batches:
        for row, result in zip(batch, _encoded(encoder, [samples[r] for r in batch], device), strict=True):
            made[row] = result
    return made


def _encoded(encoder: Encoder, samples: Sequence[Any], device: torch.device) -> list[tuple[Tensor, Tensor] | UserError]:
    """One forward pass; where it fails, one for each sample, to find out whose fault it is."""
    try:
        tokens = encoder(stack_samples(samples, encoder.spec).to(device))
        values, spans, mask = tokens.values.float().cpu(), tokens.spans.cpu(), tokens.mask.cpu()
        return [(v[m], s[m]) for v, s, m in zip(values, spans, mask, strict=True)]
    except (RuntimeError, ValueError, IndexError) as error:  # out of memory, or a clip too short for the network
        if len(samples) > 1:
            return [_encoded(encoder, [sample], device)[0] for sample in samples]
        why = f"the encoder {type(encoder).__name__} fails on it ({type(error).__name__}: {error})"
        return [UserError(why, "Look at the clip, or at the encoder's arguments; out of memory: a smaller --stretch")]


class Ahead(Iterator[_Read]):
    """Results of jobs in their order, worked on ahead by threads; no more in hand than a batch and `stretch` seconds."""

    def __init__(self, jobs: Sequence[Callable[[], _Read]], seconds: Sequence[float], plan: Plan):
        self._jobs = iter(zip(jobs, seconds, strict=True))
        self._most, self._workers, self._stretch = plan.batch_size + plan.workers, plan.workers, plan.stretch
        self._queue: queue.SimpleQueue[tuple[Future[_Read], Callable[[], _Read]] | None] = queue.SimpleQueue()
        self._ahead: deque[tuple[Future[_Read], float]] = deque()
        self._next = next(self._jobs, None)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(plan.workers, len(jobs)))]
        for thread in self._threads:
            thread.start()

    def __next__(self) -> _Read:
        self._fill()
        if not self._ahead:
            raise StopIteration
        future, _ = self._ahead[0]
        result = future.result()
        self._ahead.popleft()
        self._fill()
        return result

    def close(self) -> None:
        """End the threads; what waits is not begun, and what is being decoded is given up."""
        for future, _ in self._ahead:
            future.cancel()
        for _ in self._threads:
            self._queue.put(None)
        if self._ahead:  # interrupted: do not wait for a long decoding to end
            abandon()
        for thread in self._threads:  # a thread that runs on while the interpreter ends takes the process down with it
            thread.join(10)

    def _fill(self) -> None:
        while self._next is not None:
            job, seconds = self._next
            waiting = sum(s for _, s in self._ahead)
            if len(self._ahead) >= self._workers and (
                len(self._ahead) >= self._most or waiting + seconds > 2 * self._stretch
            ):
                return
            future: Future[_Read] = Future()
            self._ahead.append((future, seconds))
            self._queue.put((future, job))
            self._next = next(self._jobs, None)

    def _work(self) -> None:
        while True:
            waiting = self._queue.get()
            if waiting is None:
                return
            future, job = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
