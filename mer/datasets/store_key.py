"""What cached tokens were made of: the key of a shelf, the name of an item, and the media files behind it.

A key holds the whole input spec, the encoder's class and arguments, a hash of its weights, and the versions of what decoded
the media. Tokens that were made of anything else have another key, and so lie on another shelf.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.media.identity import identity
from mer.media.pictures import picture_folder, plain
from mer.spec import InputSpec

FORMAT = 1  # of the store: folders, files and key. A store of another format is not read.


@dataclass(frozen=True)
class Key:
    """What the tokens of a shelf depend on.

    Attributes:
        spec: the whole input spec, plain.
        encoder: class path and arguments, plain.
        weights: `weights_hash` of the encoder.
        media: `mer.media.identity`; None where a backend is not installed here, so that it cannot be told.
    """

    spec: Mapping[str, Any]
    encoder: Mapping[str, Any]
    weights: str
    media: str | None

    @classmethod
    def of(cls, encoder: Encoder) -> Key:
        """The key of what an encoder would write."""
        try:
            media = identity(encoder.spec)
        except UserError:
            media = None
        return cls(_plain(encoder.spec.to_dict()), _plain(encoder.describe()), weights_hash(encoder), media)

    @property
    def digest(self) -> str:
        """64 hex digits."""
        parts = {"format": FORMAT, **self.to_dict()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return {"spec": self.spec, "encoder": self.encoder, "weights": self.weights, "media": self.media}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Key:
        """The key that `to_dict` wrote; raises LookupError or TypeError for anything else."""
        spec, encoder, weights, media = (plain[name] for name in ("spec", "encoder", "weights", "media"))
        if not (isinstance(spec, dict) and isinstance(encoder, dict) and isinstance(weights, str)):
            raise TypeError("not a key")
        return cls(spec, encoder, weights, media)

    def fits(self, other: Key) -> bool:
        """Whether both stand for the same tokens; an unknown media backend is given the benefit of the doubt."""
        return not self.differences(other)

    def differences(self, other: Key) -> list[str]:
        """What differs, one phrase each: `spec.rate 4 instead of 8`, `weights`; `other` is what was asked for."""
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        if None in (self.media, other.media):
            mine["media"] = theirs["media"] = None
        phrases = []
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                shown = (
                    f" {mine.get(name)!r} instead of {theirs.get(name)!r}" if name != "weights" else " (other values)"
                )
                phrases.append(name.replace("init_args.", "") + shown)
        return phrases


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the state dict, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def item_id(reference: str, start: float, end: float | None) -> str:
    """32 hex digits that name the tokens of one stretch of one reference within a shelf."""
    text = json.dumps([reference, float(start), None if end is None else float(end)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Source:
    """A file that an item was made from, as it was then.

    Attributes:
        name: relative to the corpus root, as the manifest says it.
        size, mtime_ns: bytes, and nanoseconds of the last change.
        digest: BLAKE2b of the whole content.
    """

    name: str
    size: int
    mtime_ns: int
    digest: str

    @classmethod
    def from_list(cls, plain: Sequence[Any]) -> Source:
        """From `[name, size, mtime_ns, digest]`; raises ValueError, TypeError or ArithmeticError for anything else."""
        name, size, mtime_ns, digest = plain
        return cls(str(name), int(size), int(mtime_ns), str(digest))

    def to_list(self) -> list[Any]:
        return [self.name, self.size, self.mtime_ns, self.digest]


def source_names(reference: str, spec: InputSpec) -> list[str]:
    """The files that one modality of a clip is read from."""
    names = [reference.partition("#")[0] if spec.from_file else reference]
    if spec.face is not None and spec.face.file:
        media = plain(Path(names[0]))
        names.append(spec.face.file.replace("{stem}", media.stem).replace("{name}", media.name))
    return names


def sources(root: Path, reference: str, spec: InputSpec, resolve: Callable[[str], str] = str) -> list[Source]:
    """The files of one modality of a clip, hashed; a file that is missing is left out.

    Args:
        root: of the corpus.
        reference, spec: of the modality.
        resolve: `Manifest.resolve`, which knows where a face file `@/...` lies; it keeps that name in the store.
    """
    found = []
    for name in source_names(reference, spec):
        path = root / resolve(name)
        state = _state(path)
        if state is not None:
            found.append(Source(name, *state, _content(path, state)))
    return found


def stale(root: Path, then: Sequence[Source], resolve: Callable[[str], str] = str) -> str | None:
    """The name of a file whose content is not what it was, None where all is as before.

    Size and time of change are compared first; only where they differ is the file read. A file that is absent is trusted:
    features are often used where the videos are not.
    """
    for source in then:
        path = root / resolve(source.name)
        state = _state(path)
        if state is None or state == (source.size, source.mtime_ns):
            continue
        if state[0] != source.size or _content(path, state) != source.digest:
            return source.name
    return None


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, or of all files in a folder; None where there is nothing."""
    try:
        if (pictures := picture_folder(path)) is not None:
            return pictures.state()
        about = path.stat()
        if stat.S_ISREG(about.st_mode):  # a pipe or a device would be read for ever
            return about.st_size, about.st_mtime_ns
        if not stat.S_ISDIR(about.st_mode):
            return None
        inside = [file.stat() for file in _files(path)]
    except (OSError, UserError):
        return None
    return sum(s.st_size for s in inside), max((s.st_mtime_ns for s in inside), default=0)


def _content(path: Path, state: tuple[int, int]) -> str:
    """BLAKE2b of a file, of a folder's files, or of names and sizes of pictures (`FOLDER#25`).

    Remembered, as one file often holds the rows of many clips.
    """
    key = (str(path), *state)
    with _LOCK:
        if key in _KNOWN:
            return _KNOWN[key]
    digest = hashlib.blake2b(digest_size=20)
    pictures = picture_folder(path)
    if pictures is not None:
        digest.update(pictures.content())
    for file in () if pictures is not None else _files(path) if path.is_dir() else [path]:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    with _LOCK:
        _KNOWN[key] = digest.hexdigest()
    return _KNOWN[key]


_KNOWN: dict[tuple[str, int, int], str] = {}
_LOCK = threading.Lock()


def _files(folder: Path) -> list[Path]:
    return sorted(Path(base) / name for base, _, names in os.walk(folder) for name in names)


def _plain(value: Any) -> Any:
    """JSON values with one way to write a number, so that 4 and 4.0 in a config are the same argument."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}.{name}".strip(".")).items()}
    return {prefix: value}
