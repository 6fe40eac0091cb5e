"""Decoding in a child process, so that a file that kills or hangs the decoder costs that file and nothing else."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mer.errors import NothingThereError, UserError
from mer.media import reading
from mer.media.child import LENGTH
from mer.media.probe import Examined, MediaInfo
from mer.media.sampling import Draw
from mer.media.stream import Stream
from mer.spec import InputSpec

T = TypeVar("T")
PATIENCE = "MER_DECODE_TIMEOUT"  # seconds without a decoded frame after which a file is given up; 0 decodes in process


def guarded(
    root: Path,
    references: Mapping[str, str],
    specs: Mapping[str, InputSpec],
    start: float = 0.0,
    end: float | None = None,
    seed: Draw = None,
) -> dict[str, Stream | UserError]:
    """`mer.media.reading.read` in a child process of this thread, which is started once and used again.

    The environment variable MER_DECODE_TIMEOUT says after how many seconds without progress a file is given up (60), and
    0 reads in this process.
    """
    patience = _patience()
    if patience <= 0:
        return reading.read(root, references, specs, start, end, seed)
    return _child().read(root, references, specs, start, end, seed, patience)


def examined(path: Path, times: bool = True) -> Examined:
    """`mer.media.reading.examine` in the child process of this thread.

    Raises:
        UserError: the file is missing, empty or not media, or kills or hangs the decoder.
    """
    patience = _patience()
    return reading.examine(path, times) if patience <= 0 else _child().examine(path, times, patience)


def called(function: str, arguments: Mapping[str, Any], names: str) -> Any:
    """What a function of `mer` answers, called in the child process of this thread.

    Args:
        function: `mer.module:function`; a long run calls `mer.media.pulse.pulse` once in a while.
        arguments: by name. They and the answer are plain JSON values.
        names: the files that are read, for messages.

    Raises:
        UserError: the function raises one, fails, or kills or hangs the process.
    """
    patience = _patience()
    return reading.call(function, arguments) if patience <= 0 else _child().call(function, arguments, names, patience)


def _patience() -> float:
    """Seconds, from the environment."""
    wish = os.environ.get(PATIENCE, "60")
    try:
        patience = float(wish)
        if not math.isfinite(patience):
            raise ValueError
    except ValueError:
        raise UserError(f"{PATIENCE} is {wish!r}", "Give seconds, e.g. 60; 0 decodes in process") from None
    return patience


def _child() -> Child:
    own = (os.getpid(), threading.get_ident())  # a forked loader process must not talk to its parent's child
    if getattr(_mine, "own", None) != own:
        _mine.own, _mine.child = own, Child()
    child: Child = _mine.child
    return child


_mine = threading.local()
_children: weakref.WeakSet[Child] = weakref.WeakSet()


def abandon() -> None:
    """End all child processes of this process, so that threads that wait for one go on at once (with an error)."""
    for child in list(_children):
        child.kill()


class Child:
    """One child process; started when first asked, and again after it died."""

    def __init__(self) -> None:
        _children.add(self)
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the child)

    def read(
        self,
        root: Path,
        references: Mapping[str, str],
        specs: Mapping[str, InputSpec],
        start: float,
        end: float | None,
        seed: Draw,
        patience: float,
    ) -> dict[str, Stream | UserError]:
        """As `mer.media.reading.read`; a death or a silence of the child is an error of every modality asked for."""
        request = {
            "root": str(root.resolve()),
            "references": dict(references),
            "specs": {m: s.to_dict() for m, s in specs.items()},
            "start": start,
            "end": end,
            "seed": seed,
        }
        names = ", ".join(sorted({str(root / reference) for reference in references.values()}))
        try:
            return self._tried(lambda: self._streams(request, patience), names, patience)
        except UserError as failed:
            return dict.fromkeys(specs, failed)

    def examine(self, path: Path, times: bool, patience: float) -> Examined:
        """As `mer.media.reading.examine`."""
        request = {"examine": str(path.absolute()), "times": times}

        def ask() -> Examined:
            header = self._ask(request, patience)
            if "problem" in header:
                raise UserError(header["problem"], header["remedy"])
            shown = np.frombuffer(self._take(8 * int(header["frames"]), patience), np.float64)
            return Examined(MediaInfo(path=path, **header["info"]), header["length"], shown)

        return self._tried(ask, str(path), patience)

    def call(self, function: str, arguments: Mapping[str, Any], names: str, patience: float) -> Any:
        """As `called`."""

        def ask() -> Any:
            header = self._ask({"call": function, "arguments": dict(arguments), "names": names}, patience)
            if "problem" in header:
                raise UserError(header["problem"], header["remedy"])
            return header["answer"]

        return self._tried(ask, names, patience)

    def _tried(self, ask: Callable[[], T], names: str, patience: float) -> T:
        """The answer; a death or a silence of the child is an error that names the files."""
        try:
            return ask()
        except UserError:
            raise
        except TimeoutError:
            why = f"the decoder hung for {patience:g} s"
        except (EOFError, BrokenPipeError):
            why = f"the decoder died ({self._last_words()})"
        except BaseException:  # interrupted: the answer of this request must not be taken for that of the next
            self.close()
            raise
        self.close()
        raise UserError(f"{names}: {why}", "Convert or download it again")

    def kill(self) -> None:
        """End the process, from any thread; whoever waits for its answer learns that it died."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process, whatever it is doing, and clear up."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __del__(self) -> None:
        self.close()
        self._complaints.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:  # not started, or killed while it waited
            self.close()
            # -P and no site hooks of the working directory: only the installed package is imported. Threads of OpenCV and
            # BLAS would only quarrel with the neighbours'.
            search = os.pathsep.join(p for p in (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")) if p)
            environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mer.media.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the child
            )
        return self._process

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        """Send a request and give the header of the answer."""
        process = self._start()
        assert process.stdin is not None
        text = json.dumps(request).encode()
        process.stdin.write(LENGTH.pack(len(text)) + text)
        process.stdin.flush()
        while (length := LENGTH.unpack(self._take(LENGTH.size, patience))[0]) == 0:
            pass  # a sign of life
        header: dict[str, Any] = json.loads(self._take(length, patience))
        return header

    def _streams(self, request: dict[str, Any], patience: float) -> dict[str, Stream | UserError]:
        streams: dict[str, Stream | UserError] = {}
        for modality, entry in self._ask(request, patience).items():
            if isinstance(entry, dict):
                kind = NothingThereError if entry["nothing"] else UserError
                streams[modality] = kind(entry["problem"], entry["remedy"])
                continue
            arrays = []
            for about in entry:
                dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
                raw = self._take(dtype.itemsize * int(np.prod(shape, dtype=np.int64)), patience)
                arrays.append(np.frombuffer(raw, dtype).reshape(shape))
            streams[modality] = Stream(*arrays)
        return streams

    def _take(self, size: int, patience: float) -> bytearray:
        """Exactly so many bytes, each piece within the time limit."""
        assert self._process is not None
        assert self._process.stdout is not None
        buffer = bytearray(size)
        view, got, pipe = memoryview(buffer), 0, self._process.stdout.fileno()
        while got < size:
            if not select.select([pipe], [], [], patience)[0]:
                raise TimeoutError
            count = os.readv(pipe, [view[got:]])
            if not count:
                raise EOFError
            got += count
        return buffer

    def _last_words(self) -> str:
        """Exit status and the last line on the child's standard error."""
        assert self._process is not None
        status = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f"exit status {status}" + (f": {lines[-1].strip()}" if lines else "")
