"""Decoded, cropped and resized frames on disk, so that training decodes a video once and then reads what it needs.

    CACHE/<key>/key.json          what the frames were made with: size, crop, face, rate, backends, format
               /<mark>.bin        frames one after another, memory-mapped; one file per process that wrote
               /<mark>.jsonl      one line per clip: where its frames lie; written after the frames, so a killed writer
                                  leaves nothing that would be read

Raw frames take 150 kB each at 224 x 224 and cost nothing to read; JPEG takes a tenth of that and a fraction of a millisecond
per frame that is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mer.errors import UserError
from mer.files import write_text
from mer.media.identity import identity
from mer.media.pictures import picture_folder
from mer.media.sampling import Draw, chosen
from mer.spec import InputSpec
from mer.tokens import Sampled

Form = Literal["raw", "jpeg"]
QUALITY = 92  # of JPEG; at 224 x 224 the mean error of a face is about one grey level


@dataclass(frozen=True)
class CachedFrames:
    """The frames of one clip; a frame is read when it is asked for.

    Attributes:
        spans: (F, 2) float32 seconds.
        shape: (3, H, W) of a frame.
        file: where they lie.
    """

    spans: np.ndarray
    shape: tuple[int, ...]
    file: Path
    _bytes: np.ndarray
    _ends: np.ndarray | None  # of JPEG: where each frame ends

    def __len__(self) -> int:
        return len(self.spans)

    def take(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, 3, H, W) uint8 frames of these numbers."""
        if self._ends is None:
            return self._bytes.reshape(len(self), *self.shape)[np.asarray(index)]
        import cv2

        frames = np.empty((len(index), *self.shape), np.uint8)
        for place, number in enumerate(index):
            first = int(self._ends[number - 1]) if number else 0
            picture = cv2.imdecode(self._bytes[first : int(self._ends[number])], cv2.IMREAD_COLOR_RGB)
            if picture is None or picture.shape != (*self.shape[1:], 3):
                raise UserError(f"{self.file}: a damaged frame", "Remove the file; its clips are then decoded again")
            cv2.split(picture, frames[place])
        return frames

    def sample(self, spec: InputSpec, start: float, end: float | None, seed: Draw = None) -> Sampled | None:
        """Frames of a stretch as `spec` asks: all of them, or a fixed number; None where the stretch shows none."""
        middle = self.spans.mean(axis=1)
        inside = np.flatnonzero((middle >= start) & (middle < (np.inf if end is None else end)))
        if not inside.size:
            return None
        spans = self.spans[inside]
        if spec.sampled_by_count:
            index, spans = chosen(spans, spec, seed)
            inside = inside[index]
        values = torch.from_numpy(self.take(inside))
        mask = torch.ones((1, len(inside)), dtype=torch.bool)
        return Sampled(values[None], mask, torch.from_numpy(np.asarray(spans, np.float32))[None])


class FrameCache:
    """Frames of one preparation.

    Args:
        folder: where caches lie; made where missing.
        spec: of an encoder that takes `video`; what does not change the frames (normalisation, number of frames) is not
            part of the key, so encoders of one size and crop share a cache.
        form: `raw` or `jpeg`.

    Any number of processes read and write at once.

    Raises:
        UserError: frames of this kind are not kept, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, spec: InputSpec, form: Form = "raw"):
        if spec.kind != "video":
            raise UserError(f"a frame cache keeps video, not {spec.kind}", "Use the feature store: mer extract")
        assert spec.size is not None
        self.spec, self.form = spec.dense(), form
        about = {
            "rate": self.spec.rate,
            **{name: self.spec.to_dict()[name] for name in ("size", "crop", "face")},
            "backends": identity(spec),
            "form": form if form == "raw" else f"jpeg {QUALITY}",
        }
        text = json.dumps(about, sort_keys=True, indent=1)
        self.path = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:12]
        if not (self.path / "key.json").exists():
            write_text(self.path / "key.json", text + "\n")
        self._shape = (3, *spec.size)
        self._found: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._read_to: dict[Path, int] = {}
        self._maps: dict[Path, np.ndarray] = {}
        self._writer: _Writer | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes that are spawned: they open the files themselves."""
        return self.__dict__ | {"_maps": {}, "_writer": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def get(self, path: Path, start: float, end: float | None) -> CachedFrames | None:
        """Frames of a stretch of a media file; None where they are not kept, or the file has changed since."""
        name = _name(path, start, end)
        if name is None:
            return None
        with self._lock:
            if name not in self._found:
                self._look_again()
            if name not in self._found:
                return None
            file, entry = self._found[name]
            mapped = self._mapped(file, int(entry["to"]))
        if mapped is None:
            return None
        spans, ends = entry["spans"], entry["ends"]
        return CachedFrames(spans, self._shape, file, mapped[int(entry["from"]) : int(entry["to"])], ends)

    def put(self, path: Path, start: float, end: float | None, frames: Tensor, spans: Tensor) -> None:
        """Keep the frames (F, 3, H, W) uint8 of a stretch, with their spans (F, 2); on a full disk say so once, and go on."""
        name = _name(path, start, end)
        if name is None:
            return
        pieces, ends = _encoded(frames.numpy(), self.form)
        entry: dict[str, Any] = {"name": name, "spans": spans.tolist(), "ends": ends}
        with self._lock:
            if self._stopped:
                return
            try:
                if self._writer is None or self._writer.owner != os.getpid():
                    self._writer = _Writer(self.path)
                self._writer.add(pieces, entry)
            except OSError as error:  # no fault of the clip, which is decoded in any case
                self._stopped = True
                print(
                    f"{self.path}: {error.strerror}. What is not there yet is decoded each time, and no longer kept."
                    " Make room, or name another folder with --data.frame_cache.",
                    file=sys.stderr,
                )

    def _look_again(self) -> None:
        """Take in the lines that this and other processes have written meanwhile."""
        for index in sorted(self.path.glob("*.jsonl")):
            done = self._read_to.get(index, 0)
            if index.stat().st_size <= done:
                continue
            with index.open("rb") as file:
                file.seek(done)
                for line in file:
                    if not line.endswith(b"\n"):  # somebody is writing it
                        break
                    done += len(line)
                    try:
                        entry = json.loads(line)
                        entry["spans"] = np.asarray(entry["spans"], np.float32).reshape(-1, 2)
                        entry["ends"] = None if entry["ends"] is None else np.asarray(entry["ends"], np.int64)
                        self._found[entry["name"]] = index.with_suffix(".bin"), entry
                    except (ValueError, LookupError, TypeError):
                        continue  # a line that a crash left behind; the clip is decoded once more
            self._read_to[index] = done

    def _mapped(self, file: Path, size: int) -> np.ndarray | None:
        """The file as bytes, mapped anew where it has grown; None where it does not hold what its index says."""
        if not size:  # clips in which nothing was found; an empty file cannot be mapped
            return np.zeros(0, np.uint8)
        mapped = self._maps.get(file)
        if mapped is None or len(mapped) < size:
            try:
                mapped = np.asarray(np.memmap(file, np.uint8, "r"))  # the subclass slows every access
            except (OSError, ValueError):
                return None
            self._maps[file] = mapped
        return mapped if len(mapped) >= size else None


class _Writer:
    """The pair of files that this process appends to."""

    def __init__(self, folder: Path):
        self.owner = os.getpid()
        mark = f"{self.owner}-{secrets.token_hex(4)}"
        # Unbuffered: what a full disk refuses must not be tried again when the process ends.
        self._frames = (folder / f"{mark}.bin").open("ab", buffering=0)
        self._index = (folder / f"{mark}.jsonl").open("ab", buffering=0)

    def add(self, pieces: list[np.ndarray], entry: dict[str, Any]) -> None:
        begin = self._frames.tell()
        for piece in pieces:
            _write(self._frames, np.ascontiguousarray(piece).reshape(-1).data)
        line = json.dumps(entry | {"from": begin, "to": self._frames.tell()})
        _write(self._index, line.encode() + b"\n")


def _write(file: FileIO, data: memoryview | bytes) -> None:
    """All of it: one call may take only a part."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _name(path: Path, start: float, end: float | None) -> str | None:
    """A stretch of a file as it is now; another size or time of change is another name. None of a file that is not there."""
    try:
        if (folder := picture_folder(path)) is not None:
            size, changed = folder.state()
        else:
            about = path.stat()
            size, changed = about.st_size, about.st_mtime_ns
            path = path.resolve()
    except (OSError, UserError):  # reading it will say why
        return None
    text = json.dumps([str(path.absolute()), size, changed, start, end])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _encoded(frames: np.ndarray, form: Form) -> tuple[list[np.ndarray], list[int] | None]:
    if form == "raw":
        return [frames], None
    import cv2

    pieces = []
    for frame in frames:
        good, data = cv2.imencode(".jpg", frame.transpose(1, 2, 0)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        assert good
        pieces.append(data)
    return pieces, np.cumsum([len(p) for p in pieces], dtype=np.int64).tolist()
