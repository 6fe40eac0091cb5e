"""`mer store check | pack | info`: look after a feature store."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from mer.datasets.manifest import Manifest
from mer.datasets.store import Note, Shelf, Store, leftovers
from mer.datasets.store_key import Key, item_id, stale
from mer.errors import UserError
from mer.media.guard import examined
from mer.media.pictures import plain
from mer.spec import InputSpec

_SHOWN = 20  # findings of one kind that are printed
_YOUNG = 600.0  # seconds during which a temporary file may be somebody's work
_COVERED = 0.8  # share of a clip that its tokens reach over, at least
_SLACK = 0.5  # seconds; less than that is never called short


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("mer store", description="Look after a feature store that mer extract wrote.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check | pack | info")
    check_ = commands.add_parser(
        "check",
        help="find missing, broken and foreign items",
        description="Find items that are missing, failed, damaged, not finite, short, stale (their media changed) or"
        " foreign. Exit status 1 where something is found.",
    )
    check_.add_argument("--store", type=Path, required=True)
    check_.add_argument("--manifest", type=Path, help="the clips that should be there; also looks at their media")
    check_.add_argument("--config", type=Path, help="encoders that the shelves should be of, as for mer extract")
    check_.add_argument("--checkpoint", type=Path, help="take the encoders from this model.safetensors instead")
    check_.add_argument("--allow_module", "--allow-module", nargs="+", default=[],
                        help="modules a checkpoint may name classes from")  # fmt: skip
    check_.add_argument(
        "--fix",
        action="store_true",
        help="remove what is broken, so that mer extract makes it again; foreign clips stay",
    )
    pack_ = commands.add_parser("pack", help="move loose items into memory-mapped shards")
    pack_.add_argument("--store", type=Path, required=True)
    pack_.add_argument("--shard_mb", "--shard-mb", type=int, default=1024, help="size of a shard (1024)")
    info_ = commands.add_parser("info", help="list what is there")
    info_.add_argument("--store", type=Path, required=True)
    options = parser.parse_args(argv)
    store = Store(options.store)
    if options.command == "info":
        print(info(store))
        return 0
    if options.command == "pack":
        if options.shard_mb < 1:
            raise UserError(f"--shard_mb is {options.shard_mb}", "Use at least 1")
        return pack(store, options.shard_mb << 20)
    manifest = None if options.manifest is None else Manifest.read(options.manifest)
    keys = None
    if options.config is not None or options.checkpoint is not None:
        from mer.datasets.extract import encoders_of

        encoders = encoders_of(options.config, options.checkpoint, allow_modules=options.allow_module, warn=False)
        keys = {name: Key.of(encoder) for name, encoder in encoders.items()}
    findings = list(check(store, manifest, keys))
    print(table(store, findings))
    if options.fix:
        mended = 0
        for finding in findings:
            if finding.mend is not None:
                finding.mend()
                mended += 1
        print(f"{mended} removed; mer extract makes them again" if mended else "nothing that could be removed")
    return 1 if findings else 0


# -- check ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """Something wrong in a store.

    Attributes:
        shelf: name of its folder.
        kind: missing, failed, damaged, not finite, short, stale, foreign, left over.
        what: the clip or the file.
        why: in words.
        mend: removes it; None where that is not for us to decide, or there is nothing to remove.
    """

    shelf: str
    kind: str
    what: str
    why: str
    mend: Callable[[], None] | None = None


def check(store: Store, manifest: Manifest | None, keys: Mapping[str, Key] | None) -> Iterator[Finding]:
    """Everything that is wrong, shelf by shelf.

    Args:
        store: what to look at.
        manifest: the clips that should be there; None looks at the items alone.
        keys: of the encoders whose shelves should be there; None takes the shelves as they are.
    """
    shelves = []
    for folder in store.folders():
        try:
            shelves.append(Shelf.open(folder))
        except UserError as error:
            yield Finding(folder.name, "damaged", "key.json", str(error))
    known = {"store.json", *(folder.name for folder in store.folders())}
    for path in sorted(store.path.iterdir()):
        if path.name not in known and not path.name.startswith("."):
            yield Finding("", "foreign", path.name, "not part of a store")
    for modality, key in (keys or {}).items():
        if store.find(modality, key) is None:
            yield Finding(
                modality, "missing", "the whole shelf", f"of the config's encoder: {store.explain(modality, key)}"
            )
    for shelf in shelves:
        key_of_config = (keys or {}).get(shelf.modality)
        if keys is not None and (key_of_config is None or not shelf.key.fits(key_of_config)):
            differs = shelf.key.differences(key_of_config) if key_of_config else ["the config has no such encoder"]
            yield Finding(shelf.folder.name, "foreign", "the whole shelf", f"another key: {', '.join(differs)}")
            continue
        yield from _check_shelf(shelf, manifest)


def _check_shelf(shelf: Shelf, manifest: Manifest | None) -> Iterator[Finding]:
    name = shelf.folder.name
    yield from _damaged_shards(shelf)
    for path in leftovers(shelf, time.time() - _YOUNG):
        temporary = path.suffix == ".part" or path.parent.name == "shards"
        kind, why = ("left over", "a writer was killed") if temporary else ("foreign", "not ours")
        yield Finding(name, kind, str(path.relative_to(shelf.folder)), why, path.unlink)
    failures = shelf.failures()
    for path in sorted(shelf.folder.glob("failed/*.json")):
        if path.stem not in failures and path.stem not in shelf and not path.name.startswith("."):
            yield Finding(name, "damaged", f"failed/{path.name}", "not readable", path.unlink)
    for failure in failures.values():
        yield Finding(name, "failed", str(failure.note), f"{failure.problem.rstrip('.')}. {failure.remedy}")
    wanted = None if manifest is None else _wanted(manifest, shelf.modality)
    if wanted is not None:
        for item in wanted.keys() - shelf.ids() - failures.keys():
            yield Finding(name, "missing", str(wanted[item]), "not extracted")
    root = None if manifest is None else manifest.corpus.root
    for item in tqdm(sorted(shelf.ids()), f"check {name}", leave=False):

        def mend(item: str = item) -> None:
            shelf.remove([item])

        try:
            note, stored = shelf.note(item), shelf.read(item)
        except UserError as error:
            yield Finding(name, "damaged", item, error.problem, mend)
            continue
        if wanted is not None and item not in wanted:
            yield Finding(name, "foreign", str(note), "not in the manifest")
        if not bool(torch.isfinite(stored.values).all() and torch.isfinite(stored.spans).all()):
            yield Finding(name, "not finite", str(note), "NaN or infinity among its tokens", mend)
        elif (lacking := _short(shelf, note, stored.spans, root)) is not None:
            yield Finding(name, "short", str(note), lacking, mend)
        if manifest is None:
            continue
        if (changed_file := stale(manifest.corpus.root, note.sources, manifest.resolve)) is not None:
            yield Finding(name, "stale", str(note), f"{changed_file} has changed since", mend)


def _damaged_shards(shelf: Shelf) -> Iterator[Finding]:
    """Shards that cannot be read; they are passed over from here on."""
    while True:
        try:
            _ = shelf.packed
            return
        except UserError as error:
            path = next((p for p in shelf.shard_files() if str(p) in error.problem), None)
            if path is None:
                raise

            def mend(path: Path = path) -> None:
                path.unlink()
                path.with_suffix(".bin").unlink(missing_ok=True)
                shelf.refresh()

            yield Finding(shelf.folder.name, "damaged", f"shards/{path.name}", error.problem, mend)
            shelf.ignored.add(path)
            shelf.refresh()


def _wanted(manifest: Manifest, modality: str) -> dict[str, Note] | None:
    """The items that a manifest asks for; None where it has no such column."""
    if modality not in manifest.columns:
        return None
    notes = (
        Note(reference, clip.start, clip.end)
        for clip in manifest.clips
        if (reference := manifest.reference(clip, modality)) is not None
    )
    return {item_id(n.reference, n.start, n.end): n for n in notes}


def _short(shelf: Shelf, note: Note, spans: torch.Tensor, root: Path | None) -> str | None:
    """Why tokens do not reach over the clip, None where they do or where that cannot be told.

    Tokens of what has to be found first (a face, a skeleton) rightly leave gaps, and trimmed sound leaves out its ends.
    """
    spec = InputSpec.from_dict(dict(shelf.key.spec))
    found_first = spec.face is not None or spec.kind in ("pose", "eye", "text")
    if found_first or spec.trim is not None or not len(spans):
        return None
    end = note.end
    if end is None:
        if root is None or spec.kind == "features" or not plain(root / note.reference).exists():
            return None
        try:
            end = examined(root / note.reference, times=False).length
        except UserError:
            return None
    length = end - note.start
    covered = float(spans[:, 1].max() - spans[:, 0].min())
    if covered >= _COVERED * length or length - covered < _SLACK:
        return None
    return f"its tokens cover {covered:.1f} of {length:.1f} s"


def table(store: Store, findings: list[Finding]) -> str:
    """What was found, counted by shelf and kind, with examples."""
    if not findings:
        return f"{store.path}: nothing wrong"
    counts = Counter((f.shelf, f.kind) for f in findings)
    width = max(len(f.shelf) for f in findings)
    lines = [f"{'shelf':<{width}}  {'kind':<10}  {'number':>6}"]
    lines += [f"{shelf:<{width}}  {kind:<10}  {count:>6}" for (shelf, kind), count in counts.items()]
    shown: Counter[tuple[str, str]] = Counter()
    lines.append("")
    for finding in findings:
        group = (finding.shelf, finding.kind)
        shown[group] += 1
        if shown[group] <= _SHOWN:
            lines.append(f"{finding.kind}: {finding.what}: {finding.why}")
        elif shown[group] == _SHOWN + 1:
            lines.append(f"{finding.kind}: and {counts[group] - _SHOWN} more on {finding.shelf}")
    return "\n".join(lines)


# -- pack and info -------------------------------------------------------------------------------------------------------


def pack(store: Store, most: int) -> int:
    """Pack every shelf; gives the exit status of the command."""
    status = 0
    for shelf in store.shelves():
        moved, wrong = shelf.pack(most)
        print(f"{shelf.folder.name}: {moved} item(s) packed, {len(shelf.packed)} packed in all")
        for line in wrong:
            print(f"  left as it is: {line}")
            status = 1
    return status


def info(store: Store) -> str:
    """One line per shelf."""
    header = ("shelf", "encoder", "dtype", "dim", "items", "loose", "packed", "failed", "tokens", "MB")
    rows: list[tuple[str, ...]] = [header]
    for shelf in store.shelves():
        ids = shelf.ids()
        tokens = sum(shelf.tokens(item) for item in ids)
        size = sum(p.stat().st_size for p in shelf.folder.rglob("*") if p.is_file())
        loose = len(shelf.loose)
        rows.append(
            (
                shelf.folder.name,
                str(shelf.key.encoder.get("class_path", "?")).rpartition(".")[2],
                shelf.dtype,
                *(str(n) for n in (shelf.dim, len(ids), loose, len(ids) - loose, len(shelf.failures()), tokens)),
                f"{size / 1e6:.1f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    aligned = ("<", "<", "<") + (">",) * 7
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True))
        for row in rows
    ]
    return "\n".join(lines if len(rows) > 1 else [f"{store.path}: an empty store"])
