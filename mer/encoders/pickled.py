"""PyTorch's pickled files read as data: tensors come out, and nothing in the file is called, imported or given attributes.

Python's unpickler is a small machine whose programs may call anything. The one here runs the same programs and has no call
at all: where a program says "call this with that", it writes down that it was said (`Said`). The few sayings that stand
for a tensor, an ordered dictionary or a module are understood afterwards; all others stay words.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mer.errors import UserError

_LEGACY = 0x1950A86A20F9469CFC6C  # the first object of a file that is not a zip archive
_DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
_BLOW_UP = 16  # by how much tensors may outgrow their file: a few are tied, or one row repeated by a stride of 0
_SLACK = 1 << 26  # bytes that they may take in any case
_MODULE = ("_parameters", "_buffers", "_modules")  # what holds the tensors of a pickled module
# What a broken or hostile program makes of the reader below.
_BROKEN = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError, EOFError,
    RecursionError, OSError, struct.error, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A class or function that a program names, e.g. `torch._utils._rebuild_tensor_v2`. Never looked up."""

    path: str


@dataclass(eq=False, repr=False)
class Said:
    """A call that a program asks for, and what it then does to the outcome. Never done.

    Attributes:
        what: the class or function, mostly a `Name`; of a persistent id, None.
        arguments: of the call.
        state: what `__setstate__` or the attributes of the outcome would get.
        items: what it is filled with as a dictionary.
        entries: what it is filled with as a list or a set.
    """

    what: Any
    arguments: Any
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Dotted name of the class or function."""
        return self.what.path if isinstance(self.what, Name) else "something unnamed"

    def __repr__(self) -> str:  # not what is in it: that may contain one thing a billion times
        return f"<{self.name}>"


@dataclass
class Content:
    """What was in a file.

    Attributes:
        value: dictionaries, lists, tensors, plain values; objects of other classes as `Said`.
        classes: names of the classes and functions that were not made or called, sorted.
    """

    value: Any
    classes: list[str]


def read(path: Path) -> Content:
    """Read a file that `torch.save` wrote, whatever it holds.

    Args:
        path: a zip archive (PyTorch 1.6 on) or one of the older format.

    Raises:
        UserError: it cannot be read, is a TorchScript archive, or damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with path.open("rb") as file:
            return _read_legacy(file)
    except _BROKEN as error:
        first = "".join(str(error).strip().splitlines()[:1])[:200]
        raise UserError(
            f"{path}: not a file that torch.save wrote, or a damaged one ({type(error).__name__}: {first})",
            "Copy or download it again",
        ) from None


def _read_archive(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed, which torch.save never does")  # a small file would become a huge one
        inside = sorted(name for name in names if name.endswith("/data.pkl"))
        if len(inside) != 1:
            raise ValueError("a zip archive without the one data.pkl")
        folder = inside[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise ValueError("a TorchScript archive: a program, not weights")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        with archive.open(inside[0]) as file:
            program = run(file)
        return _Rebuilder(lambda key: archive.read(f"{folder}data/{key}"), path.stat().st_size).content(program)


def _read_legacy(file: IO[bytes]) -> Content:
    if run(file) != _LEGACY:
        raise ValueError("no mark of PyTorch at its beginning")
    version, system, program, keys = run(file), run(file), run(file), run(file)
    if version != 1001 or not system.get("little_endian", True):
        raise ValueError("of another version or byte order")
    sizes = {s.key: s.dtype.itemsize for s in _storages(program)}
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count < 0:
            raise ValueError("a storage of negative size")
        size = count * sizes.get(str(key), 1)
        places[str(key)] = file.tell(), size
        file.seek(size, 1)

    def stored(key: str) -> bytes:
        place, size = places[key]
        file.seek(place)
        return file.read(size)

    return _Rebuilder(stored, file.seek(0, 2)).content(program)


# -- the machine ---------------------------------------------------------------------------------------------------------


def run(file: IO[bytes]) -> Any:
    """Run one pickle program; the file is left behind its end.

    Raises:
        ValueError, IndexError, KeyError, TypeError: the program is broken, or uses what no file of weights needs (the
            registry of extensions, buffers out of band).
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        begin = marks.pop()
        taken = stack[begin:]
        del stack[begin:]
        return taken

    value: Any
    for opcode, value, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "STOP":
                return stack.pop()
            case "POP":
                # A mark is popped like an object.
                if marks and marks[-1] == len(stack):
                    marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(since_mark())
            case "EMPTY_SET":
                stack.append(Said(Name("builtins.set"), ()))
            case "FROZENSET":
                stack.append(Said(Name("builtins.frozenset"), (), entries=since_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_pairs(since_mark()))
            case "APPEND":
                entry = stack.pop()
                _entries(stack[-1]).append(entry)
            case "APPENDS" | "ADDITEMS":
                taken = since_mark()
                _entries(stack[-1]).extend(taken)
            case "SETITEM":
                *_, key, item = stack[-2:]
                del stack[-2:]
                _items(stack[-1]).update(_pairs([key, item]))
            case "SETITEMS":
                taken = since_mark()
                _items(stack[-1]).update(_pairs(taken))
            case "GLOBAL":
                stack.append(Name(str(value).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                if not (type(stack[-2]) is str and type(stack[-1]) is str):
                    raise TypeError("a name that is no text")
                stack[-2:] = [Name(f"{stack[-2]}.{stack[-1]}")]
            case "REDUCE" | "NEWOBJ":
                stack[-2:] = [Said(stack[-2], stack[-1])]
            case "NEWOBJ_EX":
                stack[-3:] = [Said(stack[-3], stack[-2], state=stack[-1])]
            case "INST":
                stack.append(Said(Name(str(value).replace(" ", ".", 1)), tuple(since_mark())))
            case "OBJ":
                what, *arguments = since_mark()
                stack.append(Said(what, tuple(arguments)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Said):
                    stack[-1].state = state
            case "PERSID" | "BINPERSID":
                named = value if opcode.name == "PERSID" else stack.pop()
                # The old format keeps the source of a module's class beside its name.
                module = isinstance(named, tuple) and len(named) > 1 and named[0] == "module"
                stack.append(named[1] if module else Said(None, named))
            case _ if opcode.stack_before == [] and len(opcode.stack_after) == 1 and opcode.arg is not None:
                if opcode.name.startswith(("EXT", "NEXT_BUFFER")):
                    raise ValueError(f"uses {opcode.name}")
                stack.append(value)  # a number, text or bytes
            case _:
                raise ValueError(f"uses {opcode.name}")
    raise ValueError("a program without an end")


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    # The hash of a tuple looks into it each time: of one that holds another twice, and so on, for ever.
    if any(isinstance(part, tuple) for key in flat[::2] if isinstance(key, tuple) for part in key):
        raise TypeError("a key of tuples in tuples")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entries(target: Any) -> list[Any]:
    return target.entries if isinstance(target, Said) else _as(list, target)


def _items(target: Any) -> dict[Any, Any]:
    return target.items if isinstance(target, Said) else _as(dict, target)


def _as(kind: type, target: Any) -> Any:
    if type(target) is not kind:
        raise TypeError(f"fills a {type(target).__name__} as a {kind.__name__}")
    return target


# -- what the words mean -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Storage:
    """A stretch of numbers that tensors look into; `view` (first, count) of a storage that is a part of another."""

    dtype: torch.dtype
    key: str
    size: int
    view: tuple[int, int] | None = None

    @classmethod
    def of(cls, said: Any) -> _Storage | None:
        """From a persistent id: `("storage", class, key, device, size[, view])`."""
        if not (isinstance(said, Said) and said.what is None and isinstance(said.arguments, tuple)):
            return None
        match said.arguments:
            case ("storage", Name(path), str() | int() as key, _, int(size), *rest) if path.startswith("torch."):
                dtype = _DTYPES[path.rpartition(".")[2].removesuffix("Storage")]
                view = rest[0] if rest else None
                return cls(dtype, str(key), size, None if view is None else (int(view[1]), int(view[2])))
        return None


def _storages(node: Any, seen: set[int] | None = None) -> Iterator[_Storage]:
    seen = set() if seen is None else seen
    if id(node) in seen or not isinstance(node, (dict, list, tuple, Said)):
        return
    seen.add(id(node))
    storage = _Storage.of(node)
    if storage is not None:
        yield storage
        return
    for inner in _inside(node):
        yield from _storages(inner, seen)


def _inside(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, Said):
        return [node.what, node.arguments, node.state, *node.items.values(), *node.entries]
    return list(node)


def _dtype(path: str) -> torch.dtype:
    found = vars(torch).get(path.removeprefix("torch."))  # not getattr, which imports what is not there yet
    if not isinstance(found, torch.dtype):
        raise ValueError("a tensor of something else than numbers")
    return found


class _Rebuilder:
    """Turns the outcome of a program into plain values and tensors.

    Args:
        stored: gives the bytes of a storage by its key.
        size: of the file in bytes.
    """

    def __init__(self, stored: Callable[[str], bytes], size: int):
        self.stored = stored
        self.left = _BLOW_UP * size + _SLACK  # bytes that are still believed
        self.flat: dict[tuple[str, torch.dtype], Tensor] = {}
        self.classes: set[str] = set()
        self.made: dict[int, Any] = {}
        self.kept: list[Any] = []  # so that an id stays one object's

    def content(self, program: Any) -> Content:
        """Everything."""
        value = self.plain(program)
        return Content(value, sorted(self.classes))

    def plain(self, node: Any) -> Any:
        if not isinstance(node, (dict, list, tuple, Said)):
            return node
        if id(node) not in self.made:
            self.kept.append(node)
            self.made[id(node)] = None  # of a loop, the way back
            self.made[id(node)] = self._plain(node)
        return self.made[id(node)]

    def _plain(self, node: Any) -> Any:
        if isinstance(node, dict):
            return {key: self.plain(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(self.plain(value) for value in node)
        tensor = self.tensor(node)
        if tensor is not None:
            return tensor
        if isinstance(node.state, dict) and all(isinstance(node.state.get(part), (dict, Said)) for part in _MODULE):
            self.classes.add(node.name)
            return self.module(node.state)
        if node.items or node.name == "collections.OrderedDict":
            if node.name != "collections.OrderedDict":
                self.classes.add(node.name)
            items = node.items
            if not items and node.arguments:  # as Python 2 wrote it: a list of pairs
                items = _pairs([part for pair in node.arguments[0] for part in pair])
            return {key: self.plain(value) for key, value in items.items()}
        if node.what is not None:
            self.classes.add(node.name)
        return node

    def module(self, state: dict[str, Any]) -> dict[str, Any]:
        """A pickled module as its state dict, less what it says not to keep."""
        parts = [self.plain(state[part]) for part in _MODULE]
        passing = state.get("_non_persistent_buffers_set")
        left_out = [*passing.entries, *(passing.arguments or ([],))[0]] if isinstance(passing, Said) else []
        return {k: v for part in parts for k, v in part.items() if v is not None and k not in left_out}

    def tensor(self, said: Said) -> Tensor | None:
        """The tensor that a call would give, None where it is a call of another kind."""
        if not (isinstance(said.what, Name) and isinstance(said.arguments, tuple)):
            return None
        match said.what.path, said.arguments:
            case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (
                storage,
                offset,
                size,
                stride,
                *_,
            ):
                return self._view(storage, None, offset, size, stride)
            case "torch._utils._rebuild_tensor_v3", (storage, offset, size, stride, _, _, Name(dtype), *_):
                return self._view(storage, _dtype(dtype), offset, size, stride)
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (data, *_):
                inner = self.plain(data)
                return inner if isinstance(inner, Tensor) else None
            case "torch._tensor._rebuild_from_type_v2", (function, _, arguments, *_):
                return self.tensor(Said(function, arguments))
        return None

    def _view(self, said: Any, dtype: torch.dtype | None, offset: Any, size: Any, stride: Any) -> Tensor | None:
        storage = _Storage.of(said)
        if storage is None:
            return None
        dtype = storage.dtype if dtype is None else dtype
        # as_strided refuses what reaches beyond the storage, not what looks at a number of it a billion times.
        view = self._numbers(storage, dtype).as_strided(tuple(size), tuple(stride), offset)
        self._take(view.nbytes)
        return view

    def _take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError("its tensors are many times larger than the file")

    def _numbers(self, storage: _Storage, dtype: torch.dtype) -> Tensor:
        if (storage.key, dtype) not in self.flat:
            data = self.stored(storage.key)
            self._take(len(data))
            if len(data) % dtype.itemsize or (
                storage.view is None and len(data) < storage.size * storage.dtype.itemsize
            ):
                raise ValueError(f"the storage {storage.key!r} is cut off")
            empty = torch.empty(0, dtype=dtype)
            self.flat[storage.key, dtype] = torch.frombuffer(bytearray(data), dtype=dtype) if data else empty
        whole = self.flat[storage.key, dtype]
        return whole if storage.view is None else whole[storage.view[0] : sum(storage.view)]
