"""How fast a feature store is read, beside copying memory, and how fast it is filled."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mer.datasets.extract import Plan, extract
from mer.datasets.manifest import Manifest
from mer.datasets.store import Note, Shelf, Store
from mer.datasets.store_key import Key
from mer.datasets.synthetic import generate
from mer.encoders import Encoder, FeatureEncoder, FrameCNN, MelNet
from mer.experiments.bench_media import Row

ITEMS, TOKENS, DIM = 10_000, 100, 256  # a million tokens
REPEATS = 5


def store_rows(folder: Path) -> list[Row]:
    """MB/s at which a million float16 tokens come out of a store, in random order, into memory that is there already.

    Args:
        folder: where the store is, or is written (0.5 GB).

    Returns:
        a plain copy of as many bytes from memory to memory; then packed items, through a mapping that was just made (each
        page is met for the first time) and through one in use. The file lies in the page cache; one thread, as in a loader
        process. Ratios to the plain copy.
    """
    folder = Path(folder)
    encoder = FeatureEncoder(1, dim=DIM)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()  # so that its key is the same next time
    store = Store.create(folder / "packed")
    shelf = store.shelf("rows", Key.of(encoder), "float16", DIM)
    notes = [Note(f"clip{n}", 0.0, None) for n in range(ITEMS)]
    if len(shelf.ids()) < ITEMS:
        _fill(shelf, notes)
    source = torch.ones(ITEMS * TOKENS, DIM, dtype=torch.float16)
    into = torch.zeros_like(source)
    order = [notes[int(n)].id for n in torch.randperm(ITEMS, generator=torch.Generator().manual_seed(0))]
    again = Shelf.open(shelf.folder)
    _read(again, order, into)
    seconds: dict[str, list[float]] = {"plain": [], "fresh": [], "in use": []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(REPEATS):  # in turns, so that other work on the machine meets all of them
        seconds["plain"].append(_timed(lambda: into.copy_(source)))
        fresh = Shelf.open(shelf.folder)
        _ = fresh.packed  # the index is read once in a training
        seconds["fresh"].append(_timed(partial(_read, fresh, order, into)))
        seconds["in use"].append(_timed(lambda: _read(again, order, into)))
    torch.set_num_threads(threads)
    megabytes = into.nbytes / 1e6
    rate = {name: megabytes / min(times) for name, times in seconds.items()}
    name = f"{ITEMS * TOKENS} tokens of {DIM} float16, {ITEMS} items"
    return [
        Row(name, "copy from memory to memory", rate["plain"], "MB/s", None),
        Row(name, "mer, packed, first pass over a mapping", rate["fresh"], "MB/s", rate["fresh"] / rate["plain"]),
        Row(name, "mer, packed, later passes", rate["in use"], "MB/s", rate["in use"] / rate["plain"]),
    ]


def extract_rows(folder: Path) -> list[Row]:
    """Items per second of an extraction with one and with two decoding processes.

    Args:
        folder: where the synthetic corpus is, or is written; the stores in it are removed again.

    Returns:
        a row per number of workers, the ratio to one of them.
    """
    folder = Path(folder)
    corpus = folder / "corpus"
    if not (corpus / "manifest.csv").exists():
        generate(corpus, subjects=6, clips_per_subject=8, seconds=6.0, progress=False)
    manifest = Manifest.read(corpus / "manifest.csv")
    rates: dict[int, float] = {}
    for turn in range(2):
        for workers in (1, 2):
            torch.manual_seed(turn)
            encoders: dict[str, Encoder] = {"video": FrameCNN(), "audio": MelNet()}
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                store, plan = Store.create(fresh), Plan(workers=workers)
                seconds = _timed(partial(extract, encoders, manifest, store, plan, torch.device("cpu")))
            rates[workers] = max(rates.get(workers, 0.0), 2 * len(manifest.clips) / seconds)
    name = f"{len(manifest.clips)} clips, FrameCNN and MelNet, CPU"
    return [
        Row(
            name,
            f"mer extract, {n} decoding process{'es' * (n > 1)}",
            rate,
            "items/s",
            None if n == 1 else rate / rates[1],
        )
        for n, rate in rates.items()
    ]


def _fill(shelf: Shelf, notes: list[Note]) -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.arange(TOKENS + 1) / 10
    for note in notes:
        values = torch.randn(TOKENS, DIM, generator=generator)
        shelf.write(note, values, torch.stack([edges[:-1], edges[1:]], 1))
    shelf.pack()


def _read(shelf: Shelf, order: list[str], into: Tensor) -> None:
    place = 0
    for item in order:
        values = shelf.read(item).values
        into[place : place + len(values)] = values
        place += len(values)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
