"""Whatever `torch.save` wrote is read for its tensors, and nothing in it is called, imported or given attributes."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import copyreg
import functools
import importlib
import io
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mer.encoders import pickled
from mer.errors import UserError


class Recorder:
    """As training scripts keep one beside the weights."""

    def __init__(self) -> None:
        self.losses = np.zeros((3, 2))


def saved(path: Path, content: Any, zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(torch.view_as_real(found) if found.is_complex() else found.float(),
                           torch.view_as_real(wanted) if wanted.is_complex() else wanted.float())  # fmt: skip
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            same(found[key], wanted[key])
    elif isinstance(wanted, list):
        same(dict(enumerate(found)), dict(enumerate(wanted)))
    else:
        assert found == wanted


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_tensors_of_every_kind_come_back(tmp_path: Path, zipped: bool, protocol: int) -> None:
    whole = torch.randn(6, 4)
    content = {
        "state_dict": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(),
        "views": {"row": whole[2], "turned": whole.t(), "part": whole[1:3, ::2], "again": whole},
        "expanded": torch.ones(1, 3).expand(4, 3),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "kinds": [
            torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.half, torch.int64, torch.uint8, torch.bool)
        ],
        "newer": {"f8": torch.ones(2).to(torch.float8_e4m3fn), "u16": torch.tensor([65535], dtype=torch.uint16)},
        "complex": torch.randn(2, dtype=torch.complex64),
        "parameter": nn.Parameter(torch.randn(2)),
        7: {"epoch": 3, "name": "ünïcode", "list": [1, 2.5, None, True, 2**70]},
    }
    same(pickled.read(saved(tmp_path / "file.pth", content, zipped, protocol)).value, content)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_objects_stay_words_and_are_named(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": {"w": torch.ones(2)}, "recorder": Recorder(), "args": argparse.Namespace(lr=1),
               "seen": collections.Counter("aab"), "best": np.float64(0.5)}  # fmt: skip
    read = pickled.read(saved(tmp_path / "file.pth", content, zipped))
    assert isinstance(read.value["recorder"], pickled.Said)
    assert {f"{__name__}.Recorder", "argparse.Namespace", "collections.Counter"} <= set(read.classes)


def test_a_whole_module_gives_its_state_dict(tmp_path: Path) -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.ones(2))
            self.register_buffer("passing", torch.ones(3), persistent=False)

    globals()["Passing"] = Passing
    Passing.__qualname__ = "Passing"
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Passing())
    found = pickled.read(saved(tmp_path / "file.pt", network)).value
    flat = {f"{outer}.{inner}": value for outer, part in found.items() for inner, value in part.items()}
    same(flat, dict(network.state_dict()))


def test_self_reference_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": torch.ones(2)}
    content["self"] = content
    assert torch.equal(pickled.read(saved(tmp_path / "file.pth", content)).value["w"], torch.ones(2))


# -- nothing runs --------------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def named(module: str, name: str) -> dict[str, bytes]:
    """The ways in which a program names a function."""
    return {"GLOBAL": f"c{module}\n{name}\n".encode(), "STACK_GLOBAL": text(module) + text(name) + b"\x93"}


def programs(mark: Path) -> dict[str, bytes]:
    """Programs that make the file `mark` in Python's unpickler, by what they use for it."""
    touch = f"open({str(mark)!r}, 'w').close()"
    argument = text(touch) if len(touch) < 250 else pickle.dumps(touch, 2)[2:-1]
    ways = {}
    for way, function in named("builtins", "exec").items():
        ways[f"REDUCE of {way}"] = b"\x80\x04" + function + argument + b"\x85R."
    ways["INST"] = b"(" + argument + b"ibuiltins\nexec\n."
    ways["OBJ"] = b"(" + named("builtins", "exec")["GLOBAL"] + argument + b"o."
    # partial(exec, program) as the class whose __new__ is called, and as the __setstate__ of an object.
    spring = f"{__name__}\nSpring\n".encode()
    ways["NEWOBJ"] = b"\x80\x04c" + spring + argument + b"\x85\x81."
    ways["NEWOBJ_EX"] = b"\x80\x04c" + spring + argument + b"\x85}\x92."
    ways["BUILD"] = b"\x80\x04c" + f"{__name__}\nLoaded\n".encode() + b")\x81" + argument + b"b."
    ways["APPEND"] = b"\x80\x04c" + f"{__name__}\nListening\n".encode() + b")\x81" + argument + b"a."
    ways["SETITEM"] = b"\x80\x04c" + f"{__name__}\nListening\n".encode() + b")\x81" + argument + b"Ns."
    return ways


class Spring:
    """Runs what it is made with."""

    def __new__(cls, program: str) -> Spring:
        exec(program)
        return super().__new__(cls)


class Loaded:
    def __setstate__(self, program: str) -> None:
        exec(program)


class Listening:
    def append(self, program: str) -> None:
        exec(program)

    def __setitem__(self, program: str, _: None) -> None:
        exec(program)


def archive(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/version", "3\n")
    return path


def legacy(path: Path, program: bytes) -> Path:
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + program + pickle.dumps([], 2))
    return path


WAYS = tuple(programs(Path("mark")))


@pytest.mark.parametrize("container", [archive, legacy], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("way", WAYS)
def test_a_program_that_calls_something_is_only_written_down(
    tmp_path: Path, way: str, container: Callable[[Path, bytes], Path]
) -> None:
    mark = tmp_path / "sprung"
    program = programs(mark)[way]
    pickle.loads(program)
    assert mark.exists(), "the trap is a trap"
    mark.unlink()
    value = pickled.read(container(tmp_path / "file.pth", program)).value
    assert isinstance(value, (pickled.Said, dict))
    assert not mark.exists()


@pytest.mark.parametrize("container", [archive, legacy], ids=["zip", "before 1.6"])
def test_persistent_ids_are_only_words(tmp_path: Path, container: Callable[[Path, bytes], Path]) -> None:
    """A storage, a module with its source, and anything else that an id could name."""
    mark = tmp_path / "sprung"
    call = programs(mark)["REDUCE of GLOBAL"][2:-1]
    ids = {
        "a call": call + b"Q",
        "a module": b"(" + text("module") + call + text("file.py") + text("import os") + b"tQ",
        "its text": b"P" + b"anything\n",
    }
    for program in ids.values():
        pickled.read(container(tmp_path / "file.pth", b"\x80\x04" + program + b"."))
    assert not mark.exists()


def test_reading_imports_nothing_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sprung_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = torch._utils._rebuild_tensor_v2.__dict__.copy()
    program = (
        b"\x80\x04csprung_module\nanything\n)R"
        + b"0ctorch._utils\n_rebuild_tensor_v2\n"
        + b"}"
        + text("evil")
        + b"Nsb."
    )
    read = pickled.read(archive(tmp_path / "file.pth", program))
    assert "sprung_module" not in sys.modules
    assert torch._utils._rebuild_tensor_v2.__dict__ == before
    assert read.value == pickled.Name("torch._utils._rebuild_tensor_v2")


def test_what_could_run_something_is_not_even_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the doors of Python's unpickler nailed up, every trap is still read."""

    def nailed(*_: Any, **__: Any) -> None:
        raise AssertionError("the file ran something")

    paths = [archive(tmp_path / f"{n}.pth", programs(tmp_path / "sprung")[way]) for n, way in enumerate(WAYS)]
    monkeypatch.setattr(pickle, "Unpickler", nailed)
    monkeypatch.setattr(pickle, "load", nailed)
    monkeypatch.setattr(torch, "load", nailed)
    monkeypatch.setattr(builtins, "exec", nailed)
    monkeypatch.setattr(builtins, "__import__", functools.partial(_guarded_import, builtins.__import__))
    monkeypatch.setattr(importlib, "import_module", nailed)
    monkeypatch.setattr(os, "system", nailed)
    for path in paths:
        pickled.read(path)


def _guarded_import(real: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
    assert name in sys.modules or name.startswith(("encodings", "zipfile")), f"imports {name}"
    return real(name, *args, **kwargs)


def test_the_registry_of_extensions_is_refused(tmp_path: Path) -> None:
    copyreg.add_extension(__name__, "Spring", 0xF1)
    try:
        with pytest.raises(UserError, match="uses EXT1"):
            pickled.read(archive(tmp_path / "file.pth", b"\x80\x04\x82\xf1."))
    finally:
        copyreg.remove_extension(__name__, "Spring", 0xF1)


# -- broken files --------------------------------------------------------------------------------------------------------


def rebuilt(storage: bytes, rest: bytes = b"") -> bytes:
    """A program for one tensor of the given persistent id."""
    return b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"Q" + rest + b"tR."


def storage(kind: str = "FloatStorage", size: int = 2) -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + b"K" + bytes([size]) + b"t"


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80\x04",
        b"\x80\x04.",
        b"\x80\x04R.",
        b"\x80\x04h\x07.",  # a memory that was never filled
        b"\x80\x04K\x01]K\x02u.",
        b"\x80\x04NNa.",
        b"\x80\x04}]Ns.",  # a list as a key
        b"\x80\x05\x97.",
        b"\xff\xff\xff",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        rebuilt(storage(), b"K\x00(K\x03t(K\x01t\x89Nt"[:-1]),  # three numbers of a storage of two
        rebuilt(storage(), b"K\x00(K\x02t(J\xff\xff\xff\xfft\x89N"),  # a negative stride
        rebuilt(storage("system"), b"K\x00(K\x02t(K\x01t\x89N"),
    ],
)
def test_a_broken_program_is_one_line(tmp_path: Path, program: bytes) -> None:
    path = archive(tmp_path / "file.pth", program)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", bytes(8))
    with pytest.raises(UserError, match="a damaged one"):
        pickled.read(path)


def test_archives_of_other_kinds_are_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(archive(tmp_path / "script.pt", pickle.dumps({})), "a") as file:
        file.writestr("archive/constants.pkl", pickle.dumps(()))
    with pytest.raises(UserError, match="TorchScript"):
        pickled.read(tmp_path / "script.pt")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="without the one"):
        pickled.read(tmp_path / "arrays.npz")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="not a file that torch"):
        pickled.read(tmp_path / "text.pth")
    big = io.BytesIO()
    torch.save({"w": torch.ones(2)}, big)
    with zipfile.ZipFile(io.BytesIO(big.getvalue())) as old, zipfile.ZipFile(tmp_path / "big.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    with pytest.raises(UserError, match="big-endian"):
        pickled.read(tmp_path / "big.pth")


def test_a_file_that_was_cut_off_is_one_line(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = saved(tmp_path / "file.pth", {"w": torch.randn(1000)}, zipped)
        path.write_bytes(path.read_bytes()[:-1500])
        with pytest.raises(UserError):
            pickled.read(path)


def _archive(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
    return path


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8c\x01a" + 60 * b"2\x93" + b".",  # a name made of itself twice, 60 times
        b"\x80\x04)" + 60 * b"2\x86" + b"\x94}h\x00Ns.",  # a key that is a tuple of itself twice, 60 times
        b"\x80\x04}(" + b")" + 60 * b"2\x86" + b"Nu.",
        b"\x80\x04}(\x8c\x07storage\x8c\x05torch\x8c\x0cFloatStorage\x93)" + 60 * b"2\x86" + b"\x8c\x03cpuK\x01tQ"
        b"\x8c\x01au.",  # likewise, the key of a storage
    ],
    ids=["name", "key", "keys", "storage"],
)
def test_a_program_of_a_few_bytes_takes_no_more_memory_or_time(tmp_path: Path, program: bytes) -> None:
    with contextlib.suppress(UserError):  # refused, or kept under a short name
        content = pickled.read(_archive(tmp_path / "small.pt", program))
        assert all(len(f"{key}") < 100 for key in content.value)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compressed"):
        pickled.read(_archive(tmp_path / "a.pt", b"\x80\x04N.", zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_one_number_that_stands_for_a_billion_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "wide.pt", {"a": torch.zeros(1).expand(1 << 40), "b": torch.ones(2)}, zipped)
    with pytest.raises(UserError, match="many times larger"):
        pickled.read(path)
    same(pickled.read(saved(path, {"a": torch.zeros(1).expand(64)}, zipped)).value, {"a": torch.zeros(64)})


def test_a_type_of_numbers_is_looked_up_among_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.tensor([1, 2, 3], dtype=torch.uint16)})
    same(pickled.read(path).value, {"a": torch.tensor([1, 2, 3], dtype=torch.uint16)})
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part.replace(b"ctorch\nuint16\n", b"ctorch\n_dynamo\n"))
    monkeypatch.setattr(torch, "__getattr__", lambda name: pytest.fail(f"torch.{name} was asked for"), raising=False)
    with pytest.raises(UserError, match="something else than numbers"):
        pickled.read(path)
