"""The child process that decodes: one request after another on standard input, one answer each on standard output.

A message is its length (8 bytes) and JSON; an answer is followed by the raw bytes of its arrays. A zero length is a sign of
life. Nothing is pickled. The process ends with its parent, or when its input is closed.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mer.errors import NothingThereError, UserError
from mer.media import pulse
from mer.media.reading import call, examine, read
from mer.spec import InputSpec

LENGTH = struct.Struct("<q")


def main() -> None:
    """Serve until the input ends."""
    _die_with_parent()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    pulse.listen(_Heart(answers).beat)
    while head := requests.read(LENGTH.size):
        _answer(answers, json.loads(requests.read(LENGTH.unpack(head)[0])))


def _answer(answers: BinaryIO, request: dict[str, Any]) -> None:
    if "examine" in request:
        _examine(answers, Path(request["examine"]), request["times"])
        return
    if "call" in request:
        _call(answers, request["call"], request["arguments"], request["names"])
        return
    specs = {m: InputSpec.from_dict(plain) for m, plain in request["specs"].items()}
    try:
        streams = read(
            Path(request["root"]), request["references"], specs, request["start"], request["end"], request["seed"]
        )
    except Exception as error:  # a decoder's surprise at a broken file, or a defect of ours: the line says which
        sys.excepthook(type(error), error, error.__traceback__)
        names = ", ".join(sorted(set(request["references"].values())))
        failed = UserError(f"{names}: reading failed ({type(error).__name__}: {error})", "Convert or download it again")
        streams = {m: failed for m in specs}
    header: dict[str, Any] = {}
    arrays: list[np.ndarray] = []
    for modality, stream in streams.items():
        if isinstance(stream, UserError):
            nothing = isinstance(stream, NothingThereError)
            header[modality] = {"problem": stream.problem, "remedy": stream.remedy, "nothing": nothing}
            continue
        header[modality] = [{"dtype": a.dtype.str, "shape": a.shape} for a in (stream.values, stream.spans)]
        arrays += [np.ascontiguousarray(stream.values), np.ascontiguousarray(stream.spans)]
    _send(answers, header, arrays)


def _examine(answers: BinaryIO, path: Path, times: bool) -> None:
    try:
        found = examine(path, times)
    except UserError as error:
        _send(answers, {"problem": error.problem, "remedy": error.remedy}, [])
        return
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        problem = f"{path}: reading failed ({type(error).__name__}: {error})"
        _send(answers, {"problem": problem, "remedy": "Convert or download it again"}, [])
        return
    info = {k: v for k, v in asdict(found.info).items() if k != "path"}
    _send(answers, {"info": info, "length": found.length, "frames": len(found.times)}, [found.times])


def _call(answers: BinaryIO, function: str, arguments: dict[str, Any], names: str) -> None:
    try:
        header = {"answer": call(function, arguments)}
    except UserError as error:
        header = {"problem": error.problem, "remedy": error.remedy}
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        problem = f"{names}: reading failed ({type(error).__name__}: {error})"
        header = {"problem": problem, "remedy": "Convert or download it again"}
    _send(answers, header, [])


def _send(answers: BinaryIO, header: dict[str, Any], arrays: list[np.ndarray]) -> None:
    text = json.dumps(header).encode()
    answers.write(LENGTH.pack(len(text)) + text)
    for array in arrays:
        answers.write(array.reshape(-1).view(np.uint8).data)
    answers.flush()


class _Heart:
    """Passes signs of life on, twice a second at most."""

    def __init__(self, answers: BinaryIO):
        self.answers, self.last = answers, 0.0

    def beat(self) -> None:
        now = time.monotonic()
        if now - self.last > 0.5:
            self.last = now
            self.answers.write(LENGTH.pack(0))
            self.answers.flush()


def _die_with_parent() -> None:
    """A parent that is killed cannot close the pipe while others hold it open, so look after it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
