"""The feature store: tokens of an encoder for the clips of a corpus, kept on disk and read without copying.

    STORE/store.json                       format of the store
    STORE/<modality>-<key>/key.json        what the tokens of this shelf were made of (`mer.datasets.store_key`)
                          /items/ab/<id>.safetensors   one item: values (T, D), spans (T, 2); written whole or not at all
                          /failed/<id>.json            one that could not be made, and why
                          /shards/00000-<mark>.bin     packed items, memory-mapped
                          /shards/00000-<mark>.npz     where they lie in it

Any number of processes may write at once. A loose item is newer than a packed one of the same name.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import mer
from mer.datasets.store_key import FORMAT, Key, Source, item_id, source_names
from mer.errors import UserError
from mer.files import draft_of, write_text
from mer.spec import InputSpec

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# What reading JSON that somebody else wrote can raise.
_MALFORMED = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
_ALIGN = 64  # bytes; every array in a shard begins at a multiple, so that any dtype can be mapped
_META = "mer"


@dataclass(frozen=True)
class Note:
    """What an item remembers about its origin.

    Attributes:
        reference, start, end: which stretch of which media.
        sources: the files behind it, as they were.
        stretch: seconds of the pieces it was read in; None where it was read whole.
    """

    reference: str
    start: float
    end: float | None
    sources: tuple[Source, ...] = ()
    stretch: float | None = None

    @property
    def id(self) -> str:
        return item_id(self.reference, self.start, self.end)

    def __str__(self) -> str:
        if self.end is None:
            return self.reference if not self.start else f"{self.reference} from {self.start:g} s"
        return f"{self.reference} {self.start:g}-{self.end:g} s"

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "start": self.start,
            "end": self.end,
            "sources": [s.to_list() for s in self.sources],
            "stretch": self.stretch,
        }

    @classmethod
    def from_dict(cls, plain: Any) -> Note:
        """The note that `to_dict` wrote; raises LookupError, TypeError, ValueError or ArithmeticError for anything else."""
        end, stretch = plain["end"], plain["stretch"]
        return cls(
            str(plain["reference"]),
            float(plain["start"]),
            None if end is None else float(end),
            tuple(Source.from_list(s) for s in plain["sources"]),
            None if stretch is None else float(stretch),
        )


@dataclass(frozen=True)
class Stored:
    """Tokens of one item: `values` (T, D) in the shelf's dtype, `spans` (T, 2) float32 seconds; T is 0 where nothing was
    found. Packed ones are mapped from the file: read them, do not write to them.
    """

    values: Tensor
    spans: Tensor


@dataclass(frozen=True)
class Failure:
    """An item that could not be made."""

    note: Note
    problem: str
    remedy: str


@dataclass
class _Shard:
    """A packed file and its index: per item id (16 bytes), byte offset, number of tokens, and note (JSON)."""

    path: Path
    ids: np.ndarray
    offset: np.ndarray
    tokens: np.ndarray
    notes: np.ndarray
    note_end: np.ndarray
    mapped: tuple[Tensor, Tensor] | None = field(default=None, repr=False)  # all of it, seen as spans and as values

    def note(self, row: int) -> Any:
        first = int(self.note_end[row - 1]) if row else 0
        return json.loads(self.notes[first : int(self.note_end[row])].tobytes())


class Store:
    """A folder of shelves.

    Args:
        path: the folder; it must be a store.

    Raises:
        UserError: no such folder, not a store, or a store of another format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        remedy = "Make one with 'mer extract --store', or correct the path"
        try:
            made = json.loads((self.path / "store.json").read_text(encoding="utf-8"))["format"]
        except FileNotFoundError:
            raise UserError(f"{self.path}: not a feature store (it has no store.json)", remedy) from None
        except (OSError, *_MALFORMED) as error:
            raise UserError(f"{self.path / 'store.json'}: not readable ({error})", remedy) from None
        if made != FORMAT:
            raise UserError(
                f"{self.path}: a store of format {made!r}, this is mer {mer.__version__} with format {FORMAT}",
                "Use the version that wrote it, or extract into another folder",
            )

    @classmethod
    def create(cls, path: str | Path) -> Store:
        """The store at `path`, made where there is none.

        Raises:
            UserError: the folder holds something else, or cannot be written.
        """
        path = Path(path)
        if not (path / "store.json").exists():
            strange = path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir())
            if strange and not (path / "store.json").exists():  # else another process has made it just now
                raise UserError(f"{path}: a folder with other things in it", "Name a new folder for the store")
            write_text(path / "store.json", json.dumps({"format": FORMAT}) + "\n")
        return cls(path)

    def shelves(self) -> list[Shelf]:
        """All shelves that can be read, by name."""
        return [Shelf.open(folder) for folder in self.folders()]

    def folders(self) -> list[Path]:
        """Folders of the store that call themselves shelves."""
        return sorted(p.parent for p in self.path.glob("*/key.json"))

    def find(self, modality: str, key: Key) -> Shelf | None:
        """The shelf of a modality with a key, None where there is none."""
        if key.media is not None:
            folder = self._folder(modality, key)
            return Shelf.open(folder) if (folder / "key.json").exists() else None
        fitting = [s for s in self.shelves() if s.modality == modality and s.key.fits(key)]
        return fitting[0] if len(fitting) == 1 else None

    def shelf(self, modality: str, key: Key, dtype: str, dim: int) -> Shelf:
        """The shelf to write to, made where there is none.

        Raises:
            UserError: it is there in another dtype.
        """
        folder = self._folder(modality, key)
        if not (folder / "key.json").exists():
            about = {"format": FORMAT, "modality": modality, "dtype": dtype, "dim": dim, "mer": mer.__version__}
            write_text(folder / "key.json", json.dumps({**about, **key.to_dict()}, indent=2) + "\n")
        shelf = Shelf.open(folder)
        if shelf.dtype != dtype:
            raise UserError(
                f"{folder}: these tokens are kept as {shelf.dtype}, not as {dtype}",
                f"Pass --dtype {shelf.dtype}, or name another store",
            )
        return shelf

    def explain(self, modality: str, key: Key) -> str:
        """Why there is no shelf with this key: what differs in the one that comes nearest."""
        near = [s for s in self.shelves() if s.modality == modality]
        if not near:
            others = ", ".join(sorted({s.modality for s in self.shelves()})) or "nothing yet"
            return f"it holds {others}"
        nearest = min((s.key.differences(key) for s in near), key=len)
        return "what it holds was made with " + (", ".join(nearest) or "another format")

    def _folder(self, modality: str, key: Key) -> Path:
        return self.path / f"{modality}-{key.digest[:12]}"


class Shelf:
    """Tokens of one encoder for any number of clips. Made by `Store`.

    Attributes:
        folder: where it lies.
        modality: the manifest column it belongs to.
        key: what its tokens were made of.
        dtype, dim: of the values.
        ignored: indices of shards that are damaged, and are to be passed over.
    """

    def __init__(self, folder: Path, modality: str, key: Key, dtype: str, dim: int):
        self.folder, self.modality, self.key, self.dtype, self.dim = folder, modality, key, dtype, dim
        self._digest = key.digest
        self._spec = InputSpec.from_dict(dict(key.spec))
        self._itemsize = DTYPES[dtype].itemsize
        self.ignored: set[Path] = set()
        self.refresh()

    @classmethod
    def open(cls, folder: Path) -> Shelf:
        """Read `key.json`.

        Raises:
            UserError: damaged, of another format, or a folder whose name is not its key.
        """
        path = folder / "key.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            key, dtype, dim = Key.from_dict(about), about["dtype"], int(about["dim"])
            made, modality = about["format"], str(about["modality"])
            InputSpec.from_dict(dict(key.spec))
        except (OSError, UserError, *_MALFORMED) as error:
            raise UserError(
                f"{path}: not the key of a shelf ({error})", "Remove the folder and extract again"
            ) from None
        if made != FORMAT or dtype not in DTYPES or dim < 1 or folder.name != f"{modality}-{key.digest[:12]}":
            raise UserError(f"{path}: it does not belong to this folder", "Remove the folder and extract again")
        return cls(folder, modality, key, dtype, dim)

    def __getstate__(self) -> dict[str, Any]:  # loader processes that do not fork map the shards themselves
        return {**self.__dict__, "_loose": None, "_packed": None, "_shards": []}

    # -- what is there ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the folder again when next asked: somebody may have written or packed."""
        self._loose: set[str] | None = None
        self._packed: dict[str, tuple[int, int]] | None = None
        self._shards: list[_Shard] = []

    @property
    def loose(self) -> set[str]:
        """Ids of the items that lie in files of their own."""
        if self._loose is None:
            paths = self.folder.glob("items/*/*.safetensors")
            self._loose = {p.stem for p in paths if _is_name(p.stem) and p.parent.name == p.stem[:2]}
        return self._loose

    @property
    def packed(self) -> dict[str, tuple[int, int]]:
        """Ids of the packed items, and the shard and row of each.

        Raises:
            UserError: a damaged index.
        """
        if self._packed is None:
            self._shards = [_shard(p, self.dim, self._itemsize) for p in self.shard_files()]
            self._packed = {
                bytes(row).hex(): (number, place)
                for number, shard in enumerate(self._shards)
                for place, row in enumerate(shard.ids)
            }
        return self._packed

    def shard_files(self) -> list[Path]:
        """Indices of the shards, oldest first."""
        return sorted(
            p for p in self.folder.glob("shards/*.npz") if not p.name.startswith(".") and p not in self.ignored
        )

    def ids(self) -> set[str]:
        """All items that are done."""
        return self.loose | self.packed.keys()

    def __contains__(self, item: str) -> bool:
        return item in self.loose or item in self.packed

    def path(self, item: str) -> Path:
        """Where a loose item lies."""
        return self.folder / "items" / item[:2] / f"{item}.safetensors"

    # -- reading ---------------------------------------------------------------------------------------------------------

    def read(self, item: str) -> Stored:
        """Tokens of an item.

        Raises:
            UserError: it is not there, or damaged.
        """
        if item not in self.loose and (place := self.packed.get(item)) is not None:
            return self._mapped(*place)
        return self._either(item, lambda: self._loaded(item, True)[0], self._mapped)

    def note(self, item: str) -> Note:
        """Where an item comes from.

        Raises:
            UserError: it is not there, or damaged.
        """
        return self._either(item, lambda: self._loaded(item, False)[1], self._packed_note)

    def tokens(self, item: str) -> int:
        """Number of tokens of an item, without reading them."""
        return self._either(
            item, lambda: len(self._loaded(item, True)[0].spans), lambda n, r: int(self._shards[n].tokens[r])
        )

    def _either(self, item: str, loose: Callable[[], Any], packed: Callable[[int, int], Any]) -> Any:
        if item in self.loose:
            try:
                return loose()
            except FileNotFoundError:  # packed, or removed, since we looked
                self.refresh()
                if item in self.loose:
                    raise UserError(f"{self.path(item)}: it vanishes while it is read", "Try again") from None
        if item not in self.packed:
            raise UserError(f"{self.folder}: there is no item {item}", "Extract it")
        return packed(*self.packed[item])

    def _loaded(self, item: str, values: bool) -> tuple[Stored, Note]:
        path = self.path(item)
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})[_META])
                note = Note.from_dict(about)
                if about["key"] != self._digest or not self._is_of(item, note):
                    raise UserError(f"{path}: an item of another key or clip", self._removal)
                if not values:
                    return Stored(torch.empty(0, self.dim), torch.empty(0, 2)), note
                stored = Stored(file.get_tensor("values"), file.get_tensor("spans"))
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError, *_MALFORMED) as error:
            raise UserError(f"{path}: not an item of a feature store ({error})", self._removal) from None
        count = len(stored.values) if stored.values.ndim else 0
        if (
            stored.values.dtype != DTYPES[self.dtype]
            or tuple(stored.values.shape) != (count, self.dim)
            or stored.spans.dtype != torch.float32
            or tuple(stored.spans.shape) != (count, 2)
        ):
            raise UserError(f"{path}: its tokens have another shape or dtype than the shelf", self._removal)
        return stored, note

    def _mapped(self, number: int, row: int) -> Stored:
        shard = self._shards[number]
        if shard.mapped is None:
            try:
                # Copy on write: torch wants a writable array, and nothing ever reaches the file.
                whole = torch.from_numpy(np.memmap(shard.path, np.uint8, mode="c"))
            except (OSError, ValueError) as error:
                raise UserError(f"{shard.path}: cannot be mapped ({error})", self._removal) from None
            whole = whole[: len(whole) // _ALIGN * _ALIGN]
            shard.mapped = whole.view(torch.float32), whole.view(DTYPES[self.dtype])
        all_spans, all_values = shard.mapped
        first, count = int(shard.offset[row]), int(shard.tokens[row])
        spans = all_spans.as_strided((count, 2), (2, 1), first // 4)
        first = (first + _aligned(8 * count)) // self._itemsize
        return Stored(all_values.as_strided((count, self.dim), (self.dim, 1), first), spans)

    def _packed_note(self, number: int, row: int) -> Note:
        shard = self._shards[number]
        try:
            note = Note.from_dict(shard.note(row))
        except _MALFORMED as error:
            raise UserError(f"{shard.path}: a damaged note ({error})", self._removal) from None
        if not self._is_of(bytes(shard.ids[row]).hex(), note):
            raise UserError(f"{shard.path}: the note of another clip", self._removal)
        return note

    def _is_of(self, item: str, note: Note) -> bool:
        """Whether a note is that of an item, and names no file but those that the item is made from."""
        files = source_names(note.reference, self._spec)
        return note.id == item and all(source.name in files for source in note.sources)

    @property
    def _removal(self) -> str:
        """What to do about something damaged."""
        return _removal(self.folder.parent)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def fitting(self, note: Note, values: Tensor) -> Tensor:
        """Tokens (T, D) of one item in the shelf's dtype.

        Raises:
            UserError: a value is not finite, or too large for the shelf's dtype.
        """
        cast = values.detach().cpu().to(DTYPES[self.dtype]).contiguous()
        if not bool(torch.isfinite(cast).all()):
            if bool(torch.isfinite(values).all()):
                raise UserError(f"{note}: a token does not fit into {self.dtype}", "Extract as bfloat16 or float32")
            raise UserError(f"{note}: the encoder answers with numbers that are not finite", "Look at the clip")
        return cast

    def write(self, note: Note, values: Tensor, spans: Tensor) -> None:
        """Keep the tokens of one item: values (T, D) of any float dtype, spans (T, 2) seconds; replaces what was there.

        Raises:
            UserError: as for `fitting`; or the disk is full.
        """
        cast = self.fitting(note, values)
        tensors = {"values": cast, "spans": spans.detach().cpu().float().contiguous()}
        about = json.dumps({"key": self._digest, **note.to_dict()})
        path = self.path(note.id)
        with draft_of(path) as draft:
            draft.write_bytes(save(tensors, metadata={_META: about}))
        with suppress(OSError):
            self._failed(note.id).unlink()
        if self._loose is not None:
            self._loose.add(note.id)

    def fail(self, note: Note, error: UserError) -> None:
        """Note that an item cannot be made, and why."""
        plain = {"key": self._digest, **note.to_dict(), "problem": error.problem, "remedy": error.remedy}
        write_text(self._failed(note.id), json.dumps(plain, ensure_ascii=False) + "\n")

    def failures(self) -> dict[str, Failure]:
        """Items that could not be made and have not been made since."""
        found = {}
        for path in sorted(self.folder.glob("failed/*.json")):
            if path.name.startswith(".") or path.stem in self:
                continue
            try:
                plain = json.loads(path.read_text(encoding="utf-8"))
                found[path.stem] = Failure(Note.from_dict(plain), str(plain["problem"]), str(plain["remedy"]))
            except (OSError, *_MALFORMED):
                continue  # `mer store check` names it
        return found

    def _failed(self, item: str) -> Path:
        return self.folder / "failed" / f"{item}.json"

    def remove(self, items: Sequence[str]) -> None:
        """Forget items, loose and packed, and failures of that name."""
        for item in items:
            for path in (self.path(item), self._failed(item)):
                with suppress(FileNotFoundError):
                    path.unlink()
        gone = {bytes.fromhex(item) for item in items if item in self.packed}
        for shard in self._shards if gone else []:
            keep = np.array([bytes(row) not in gone for row in shard.ids], bool)
            if not keep.all():
                rows = np.flatnonzero(keep)
                notes = [json.dumps(shard.note(int(r))).encode() for r in rows]
                _write_index(shard.path, shard.ids[rows], shard.offset[rows], shard.tokens[rows], notes)
        self.refresh()

    def pack(self, most: int = 1 << 30) -> tuple[int, list[str]]:
        """Move loose items into memory-mapped shards of about `most` bytes.

        Returns:
            how many were moved, and what is wrong with those that were not.
        """
        self.refresh()
        moved, wrong = 0, []
        batch: list[tuple[str, Stored, Note, tuple[int, int]]] = []
        size = 0
        for item in sorted(self.loose):
            try:
                about = self.path(item).stat()
                stored, note = self._loaded(item, True)
            except FileNotFoundError:  # somebody else packs, too
                continue
            except UserError as error:
                wrong.append(str(error))
                continue
            batch.append((item, stored, note, (about.st_ino, about.st_mtime_ns)))
            size += _aligned(8 * len(stored.spans)) + _aligned(stored.values.nbytes)
            if size >= most:
                moved, batch, size = moved + self._pack(batch), [], 0
        moved += self._pack(batch)
        self.refresh()
        return moved, wrong

    def _pack(self, batch: Sequence[tuple[str, Stored, Note, tuple[int, int]]]) -> int:
        if not batch:
            return 0
        numbers = [int(p.name[:5]) for p in self.folder.glob("shards/[0-9]*.*") if p.name[:5].isdigit()]
        # The mark keeps two processes that pack at the same time apart.
        path = self.folder / "shards" / f"{max(numbers, default=-1) + 1:05}-{secrets.token_hex(4)}.bin"
        offsets, place = [], 0
        with draft_of(path) as draft, draft.open("wb") as file:
            for _, stored, _, _ in batch:
                offsets.append(place)
                for tensor in (stored.spans, stored.values):
                    raw = tensor.reshape(-1).view(torch.uint8).numpy()
                    place += file.write(raw.data) + file.write(bytes(_aligned(raw.size) - raw.size))
            file.write(bytes(_ALIGN))  # an empty file cannot be mapped
            file.flush()
            os.fsync(file.fileno())
        ids = np.array([list(bytes.fromhex(item)) for item, *_ in batch], np.uint8)
        tokens = np.array([len(stored.spans) for _, stored, _, _ in batch], np.int64)
        notes = [json.dumps(note.to_dict()).encode() for _, _, note, _ in batch]
        _write_index(path, ids, np.array(offsets, np.int64), tokens, notes)
        for item, _, _, then in batch:
            with suppress(FileNotFoundError):
                now = self.path(item).stat()
                if (now.st_ino, now.st_mtime_ns) == then:  # else it was written anew meanwhile
                    self.path(item).unlink()
        return len(batch)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _write_index(path: Path, ids: np.ndarray, offset: np.ndarray, tokens: np.ndarray, notes: Sequence[bytes]) -> None:
    ends = np.cumsum([len(note) for note in notes], dtype=np.int64)
    with draft_of(path.with_suffix(".npz")) as draft, draft.open("wb") as file:
        joined = np.frombuffer(b"".join(notes), np.uint8)
        np.savez(file, ids=ids.reshape(-1, 16), offset=offset, tokens=tokens, notes=joined, note_end=ends)


def _shard(index: Path, dim: int, itemsize: int) -> _Shard:
    """Read an index and hold it against its shard, so that nothing is ever read beyond the file."""
    path = index.with_suffix(".bin")
    removal = _removal(index.parents[2])
    try:
        with zipfile.ZipFile(index) as parts:  # ours are stored as they are: none can unfold to more than the file
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("it is compressed")
        with np.load(index, allow_pickle=False) as arrays:
            ids, offset, tokens, notes, ends = (arrays[n] for n in ("ids", "offset", "tokens", "notes", "note_end"))
        size = path.stat().st_size // _ALIGN * _ALIGN
    except (OSError, ValueError, LookupError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{index}: not a readable index ({error})", removal) from None
    count = len(ids) if ids.ndim else 0
    kinds: list[tuple[np.ndarray, Any, tuple[int, ...]]] = [
        (ids, np.uint8, (count, 16)),
        (notes, np.uint8, (notes.size,)),
    ]
    kinds += [(a, np.int64, (count,)) for a in (offset, tokens, ends)]
    sound = all(a.dtype == dtype and a.shape == shape for a, dtype, shape in kinds)
    if sound and count:
        most = size // 8  # so that the products below cannot overflow
        sound = bool(
            ((tokens >= 0) & (tokens <= most) & (offset >= 0) & (offset <= size) & (offset % _ALIGN == 0)).all()
        )
        last = offset + -(-8 * tokens // _ALIGN) * _ALIGN + tokens * dim * itemsize
        sound = sound and bool((last <= size).all())
        sound = sound and bool((np.diff(ends, prepend=0) >= 0).all()) and int(ends[-1]) == len(notes)
    if not sound:
        raise UserError(f"{index}: it does not fit its shard of {size} bytes", removal)
    return _Shard(path, ids, offset, tokens, notes, ends)


def leftovers(shelf: Shelf, older: float) -> Iterator[Path]:
    """Files on a shelf that belong to no item: what a killed writer left, and what somebody else put there.

    Args:
        shelf: the shelf.
        older: seconds since the epoch; what is younger may be in the making.
    """
    indices = {*shelf.shard_files(), *shelf.ignored}
    known = {shelf.folder / "key.json", *indices, *(p.with_suffix(".bin") for p in indices)}
    for base, _, names in os.walk(shelf.folder):
        for path in (Path(base) / name for name in sorted(names)):
            if path in known:
                continue
            # A shard takes its name before its index does.
            if (path.name.startswith(".") and path.suffix == ".part") or path.parts[-2:-1] == ("shards",):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < older:
                        yield path
            elif not _is_item(path.relative_to(shelf.folder)):
                yield path


def _removal(store: Path) -> str:
    """What to do about something damaged in a store."""
    return (
        f"Remove it with '{shlex.join(['mer', 'store', 'check', '--store', str(store), '--fix'])}', then extract again"
    )


def _is_name(text: str) -> bool:
    """Whether it looks like the id of an item."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _is_item(path: Path) -> bool:
    """Whether a path below a shelf is where an item, or a failure, belongs."""
    places = f"items/{path.stem[:2]}/{path.stem}.safetensors", f"failed/{path.stem}.json"
    return _is_name(path.stem) and path.as_posix() in places
