"""Published checkpoints: their tensors, and tables that say under which key such a file keeps each tensor of ours.

A table renames our key into theirs, never the other way: each tensor of a network is looked up, and what is missing, extra
or of another shape is an error that names the key. Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mer.errors import UserError

Fit = Callable[[Tensor, torch.Size], Tensor]
# What holds the tensors in files that hold more; of these names the last one found counts.
CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict", "module")
_DEEPEST, _MOST = 64, 2**20  # dictionaries within each other, and things in them, that a file of weights may have
_COPY = "Copy or download the file again, or choose the file that belongs to this network"


@dataclass(frozen=True)
class KeyTable:
    """Under which key a published file keeps each tensor of a network.

    Attributes:
        name: of the layout, e.g. `slowfast`.
        pairs: (regular expression, replacement), applied one after the other to a key of ours; the outcome is theirs.
        unused: (regular expression, reason) of keys that such a file may hold besides.
        absent: (regular expression, reason) of keys of ours that such a file may lack; they stay as they were built.
        fits: (regular expression, function) of keys of ours whose tensor is reshaped or resized to ours.
        remedies: (regular expression, what to do) of keys of ours whose shape an argument of the encoder decides.
    """

    name: str
    pairs: tuple[tuple[str, str], ...] = ()
    unused: tuple[tuple[str, str], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    fits: tuple[tuple[str, Fit], ...] = ()
    remedies: tuple[tuple[str, str], ...] = ()

    def theirs(self, key: str) -> str:
        """The key in the file of what we call `key`."""
        for pattern, replacement in self.pairs:
            key = re.sub(pattern, replacement, key)
        return key


@dataclass(frozen=True)
class Stranger:
    """How to know a file of another network, and what to tell whoever offers it.

    Attributes:
        pattern: regular expression that one of its keys matches.
        remedy: what to do with it.
    """

    pattern: str
    remedy: str


@dataclass
class Report:
    """What became of a file.

    Attributes:
        table: name of the layout it has.
        loaded: number of tensors taken.
        unused: keys of the file that were not needed, with the reason.
        absent: keys of the network that the file lacks, with the reason.
    """

    table: str
    loaded: int
    unused: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = sorted({*self.unused.values(), *self.absent.values()})
        more = f"; {len(self.unused)} unused, {len(self.absent)} absent ({'; '.join(reasons)})" if reasons else ""
        return f"layout {self.table}: {self.loaded} tensors loaded{more}"


def load(
    network: nn.Module,
    path: Path,
    tables: Sequence[KeyTable],
    strangers: Sequence[Stranger] = (),
    whole: nn.Module | None = None,
) -> Report:
    """Give a network the weights of a published file, strictly.

    Args:
        network: what to fill; unchanged when an error is raised.
        path: a .safetensors, .pth, .pt, .bin or .ckpt file, or a folder as the Hugging Face hub has them.
        tables: layouts the file may have; the one that finds the most keys counts.
        strangers: how files of related networks are known.
        whole: where only a part of the published network was built, all of it (say, on the meta device): the file is
            checked against that, and what was not built is left out.

    Raises:
        UserError: the file is missing, damaged, of another network, or holds more than tensors; a key is missing, extra
            or of another shape, and is named.
    """
    content = tensors(path)
    for stranger in strangers:
        found = next((key for key in content if re.search(stranger.pattern, key)), None)
        if found is not None:
            raise UserError(f"{path}: belongs to another network, as the key {found!r} shows", stranger.remedy)
    state = (network if whole is None else whole).state_dict(keep_vars=True)
    table = max(tables, key=lambda t: sum(t.theirs(key) in content for key in state))
    report = Report(table.name, 0)
    taken: dict[str, Tensor] = {}
    used = set()
    for key, wanted in state.items():
        name = table.theirs(key)
        if name not in content:
            reason = _reason(table.absent, key)
            if reason is None:
                ours = "" if name == key else f" (here {key!r})"
                others = f", nor is it of layout {_others(tables, table)}" if len(tables) > 1 else ""
                raise UserError(
                    f"{path}: read as layout {table.name!r}, the key {name!r}{ours} is missing{others}", _COPY
                )
            report.absent[key] = reason
            continue
        used.add(name)
        value = content[name]
        for pattern, fit in table.fits:
            if re.search(pattern, key) and value.shape != wanted.shape:
                value = fit(value, wanted.shape)
        if value.shape != wanted.shape:
            shapes = f"{tuple(content[name].shape)} instead of {tuple(wanted.shape)}"
            remedy = _reason(table.remedies, key) or _COPY
            raise UserError(f"{path}: the key {name!r} has the shape {shapes}", remedy)
        taken[key] = value
    for name in content:
        if name not in used:
            reason = _reason(table.unused, name)
            if reason is None:
                raise UserError(f"{path}: read as layout {table.name!r}, the key {name!r} is extra", _COPY)
            report.unused[name] = reason
    built = network.state_dict()
    report.unused |= {table.theirs(key): "not built" for key in taken if key not in built}
    taken = {key: value for key, value in taken.items() if key in built}
    network.load_state_dict(taken, strict=False)  # what `absent` allows; all else was checked above
    report.loaded = len(taken)
    return report


def renamed(state: Mapping[str, Tensor], table: KeyTable) -> dict[str, Tensor]:
    """A state dict of ours with the keys that the table gives."""
    return {table.theirs(key): value for key, value in state.items()}


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file by their dotted keys, taken out of the dictionaries that may be wrapped around them.

    Raises:
        UserError: missing, damaged, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights", "Give a file, or a name that `mer weights list` prints")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error})", "Copy or download it again") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated storages in old files
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise UserError(
                f"{path}: holds Python objects besides tensors, which could run code when opened",
                f"Take the tensors out of it once: mer weights convert {path}",
            ) from None
        raise UserError(f"{path}: not a readable PyTorch file ({error})", "Copy or download it again") from None
    except Exception as error:  # whatever the reader stumbles over in a broken file
        first = str(error).strip().splitlines()[:1]
        raise UserError(
            f"{path}: not a readable PyTorch file ({type(error).__name__}: {''.join(first)[:200]})",
            "Copy or download it again",
        ) from None
    return flat(content, path)


def flat(content: Any, path: Path) -> dict[str, Tensor]:
    """Tensors of nested dictionaries under dotted keys, without the names of known containers and of `DataParallel`.

    Raises:
        UserError: there is no tensor in it, or its dictionaries contain themselves.
    """
    name = container(content)
    found = dict(_leaves(content if name is None else content[name], path))
    if not found:
        raise UserError(f"{path}: there are no tensors in it", "Choose the file with the weights")
    if all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return found


def container(content: Any) -> str | None:
    """Under which name a file keeps the dictionary of its weights; None where the file is that dictionary."""
    holding = [name for name in CONTAINERS if isinstance(content, Mapping) and isinstance(content.get(name), Mapping)]
    return holding[-1] if holding else None


def _leaves(content: Any, path: Path) -> Iterator[tuple[str, Tensor]]:
    waiting, visited = [("", content, 0)], 0
    while waiting:
        prefix, value, depth = waiting.pop()
        visited += 1
        if depth > _DEEPEST or visited > _MOST:  # a small file can hold one dictionary in another without an end
            raise UserError(f"{path}: dictionaries that contain themselves, or far too many", _COPY)
        if isinstance(value, Tensor):
            yield prefix.removesuffix("."), value.detach()
        elif isinstance(value, Mapping):
            waiting += [(f"{prefix}{key}.", inner, depth + 1) for key, inner in reversed([*value.items()])]


def _folder(path: Path) -> dict[str, Tensor]:
    """A folder as the Hugging Face hub has them: one file, or several and an index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return tensors(path / name)
        index = path / f"{name}.index.json"
        if index.is_file():
            try:
                parts = sorted(
                    {str(part) for part in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
                )
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise UserError(f"{index}: not a readable index ({error})", "Download the folder again") from None
            if any(Path(part).name != part for part in parts):
                raise UserError(
                    f"{index}: names a file outside its folder", "Do not use it unless you trust its author"
                )
            return {key: value for part in parts for key, value in tensors(path / part).items()}
    raise UserError(f"{path}: neither model.safetensors nor pytorch_model.bin in it", "Download the whole folder")


def _reason(patterns: Sequence[tuple[str, str]], key: str) -> str | None:
    return next((reason for pattern, reason in patterns if re.search(pattern, key)), None)


def _others(tables: Sequence[KeyTable], table: KeyTable) -> str:
    return " or ".join(t.name for t in tables if t is not table)
