"""How fast cached features become batches, and how fast and how large a long manifest is read."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from mer.datasets.clips import ClipDataset, Collate
from mer.datasets.manifest import Clip, Corpus, Manifest, write_manifest
from mer.datasets.samplers import ClassBalanced, EpochSampler
from mer.datasets.store import Note, Shelf, Store
from mer.datasets.store_key import Key
from mer.encoders import FeatureEncoder
from mer.experiments.bench_media import Row
from mer.labels import LabelSpace, Task
from mer.spec import InputSpec

CLIPS, BATCH, EPOCHS = 4096, 64, 4
STREAMS = {"face": (50, 256), "voice": (100, 256)}  # tokens per clip and their width: 10 s at 5 and at 10 per second
WIDTH = 512  # of a row
LONG = 100_000  # clips of the long manifest
AIM, AIM_SECONDS, AIM_MIB = 3000.0, 20.0, 1024.0
TASK = Task("emotion", LabelSpace("bench7.v1", ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")))

_READ = """
import resource, sys, time
from mer.datasets.manifest import Manifest
began = time.perf_counter()
manifest = Manifest.read(sys.argv[1])
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(manifest.clips))
"""


def loader_rows(folder: Path) -> list[Row]:
    """Samples per second from a warm loader: features lie in the page cache, the worker is running, batches of 64, shuffled.

    Args:
        folder: where features are, or are written (0.3 GB).

    Returns:
        a row per kind of features for one worker, ratios to what is aimed at.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shelves = _shelves(folder)
    manifest = _corpus(folder)
    tokens = {name: InputSpec("features", width=1) for name in STREAMS}
    jobs: list[tuple[str, dict[str, InputSpec], dict[str, Shelf]]] = [
        *((_about(name), {name: tokens[name]}, {name: shelves[name]}) for name in STREAMS),
        ("both of them", tokens, shelves),
        (f".npz, one row of {WIDTH}", {"rows": InputSpec("features", width=WIDTH)}, {}),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = {what: samples_per_second(manifest, specs, shelf) for what, specs, shelf in jobs}
    finally:
        torch.set_num_threads(threads)
    name = f"warm loader, one worker, batches of {BATCH}, {CLIPS} clips"
    return [Row(name, what, rate, "clips/s", rate / AIM) for what, rate in rates.items()]


def samples_per_second(
    manifest: Manifest, specs: Mapping[str, InputSpec], shelves: Mapping[str, Shelf], workers: int = 1
) -> float:
    """The best of a few epochs after the first."""
    data = ClipDataset(manifest, manifest.clips, specs, shelves=shelves, draws=True)
    sampler = EpochSampler(manifest.clips, manifest.corpus.tasks)
    loader = DataLoader(
        data,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=Collate(specs, manifest.corpus.tasks, {m: shelf.dim for m, shelf in shelves.items()}),
    )
    best = 0.0
    for epoch in range(EPOCHS + 1):
        sampler.set_epoch(epoch)
        began, count = time.perf_counter(), 0
        for batch in loader:
            count += len(batch)
        if epoch:
            best = max(best, count / (time.perf_counter() - began))
    return best


def manifest_rows(folder: Path) -> list[Row]:
    """Seconds and peak memory of a process that reads a manifest of 100,000 clips; seconds of a balanced epoch of them.

    Args:
        folder: where the manifest is, or is written (12 MB).

    Returns:
        rows with ratios to what is allowed.
    """
    path = Path(folder) / "long" / "manifest.csv"
    if not path.exists():
        _write_long(path)
    done = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True)
    seconds, kib, count = (float(word) for word in done.stdout.split())
    clips = Manifest.read(path).clips
    sampler = EpochSampler(clips, {TASK.name: TASK}, ClassBalanced(TASK.name))
    began = time.perf_counter()
    sampler.order()
    order = time.perf_counter() - began
    mib = kib / 1024 if sys.platform != "darwin" else kib / 2**20  # macOS counts bytes
    name = f"a manifest of {count:.0f} clips"
    return [
        Row(name, "read", seconds, "s", seconds / AIM_SECONDS),
        Row(name, "peak memory of the process", mib, "MiB", mib / AIM_MIB),
        Row(name, "order of an epoch balanced by class", order, "s", None),
    ]


def _about(name: str) -> str:
    tokens, dim = STREAMS[name]
    return f"store, {tokens} tokens of {dim} float16"


def _shelves(folder: Path) -> dict[str, Shelf]:
    store = Store.create(folder / "store")
    shelves = {}
    for name, (tokens, dim) in STREAMS.items():
        encoder = FeatureEncoder(1, dim=dim)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.zero_()  # so that its key is the same next time
        shelf = store.shelf(name, Key.of(encoder), "float16", dim)
        if len(shelf.ids()) < CLIPS:
            edges = torch.linspace(0, 10, tokens + 1)
            spans = torch.stack([edges[:-1], edges[1:]], 1)
            generator = torch.Generator().manual_seed(0)
            for number in range(CLIPS):
                shelf.write(Note(_media(number), 0.0, 10.0), torch.randn(tokens, dim, generator=generator), spans)
            shelf.pack()
        shelves[name] = Shelf.open(shelf.folder)
    return shelves


def _corpus(folder: Path) -> Manifest:
    path = folder / "rows.npz"
    if not path.exists():
        np.savez(path, x=np.random.default_rng(0).normal(size=(CLIPS, WIDTH)).astype(np.float32))
    clips = tuple(_clip(number) for number in range(CLIPS))
    return Manifest(
        folder / "manifest.csv", Corpus("bench", folder, {TASK.name: TASK}), ("clip_id", *STREAMS, "rows"), clips
    )


def _clip(number: int) -> Clip:
    cells = {**dict.fromkeys(STREAMS, _media(number)), "rows": f"rows.npz#x[{number}]"}
    return Clip(f"clip{number}", f"p{number % 100}", end=10.0, cells=cells, labels={TASK.name: [float(number % 7)]})


def _media(number: int) -> str:
    return f"clips/{number}.mp4"


def _write_long(path: Path) -> None:
    """As wide as that of a corpus with three modalities."""
    columns: Sequence[str] = (
        "clip_id",
        "subject",
        "group",
        "start",
        "end",
        "split",
        "fold",
        "emotion",
        "video",
        "audio",
        "rows",
    )
    moods = TASK.space.names
    rows = (
        {
            "clip_id": f"clip{n:06}",
            "subject": f"p{n % 997}",
            "start": f"{n % 60}.25",
            "end": f"{n % 60 + 4}.5",
            "fold": n % 5,
            "emotion": moods[n * n % 7],
            "video": f"videos/p{n % 997}/{n:06}.mp4",
            "audio": f"videos/p{n % 997}/{n:06}.wav",
            "rows": f"features/rows.npz#x[{n}]",
        }
        for n in range(LONG)
    )
    Corpus("bench", path.parent, {TASK.name: TASK}).write(path.parent / "corpus.yaml")
    write_manifest(path, columns, rows)
