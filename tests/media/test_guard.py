"""A file that kills or hangs the decoder costs that file and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from media_files import RATE, grey, tone, write

from mer.errors import NothingThereError, UserError
from mer.media import reading
from mer.media.guard import PATIENCE, Child, called, guarded
from mer.media.stream import Stream
from mer.spec import InputSpec

SPECS = {"face": InputSpec("video", rate=5, size=(16, 16)), "voice": InputSpec("audio", rate=RATE)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("guard") / "clip.mp4", grey(25), tone(1.0))


@pytest.fixture
def child():
    one = Child()
    yield one
    one.close()


def ask(child: Child, clip: Path, patience: float = 20.0, specs=SPECS) -> dict[str, Stream | UserError]:
    return child.read(clip.parent, {m: clip.name for m in specs}, specs, 0.0, None, None, patience)


def equal(a: dict[str, Stream | UserError], b: dict[str, Stream | UserError]) -> bool:
    assert a.keys() == b.keys()
    return all(
        isinstance(a[m], Stream)
        and np.array_equal(a[m].values, b[m].values)
        and np.array_equal(a[m].spans, b[m].spans)
        and a[m].values.dtype == b[m].values.dtype
        for m in a
    )


def test_the_child_gives_what_reading_here_gives(child: Child, clip: Path) -> None:
    here = reading.read(clip.parent, {m: clip.name for m in SPECS}, SPECS)
    assert equal(ask(child, clip), here)
    assert equal(ask(child, clip), here), "and once more from the same process"


def test_a_stretch_that_holds_nothing_is_told_from_a_file_that_fails(child: Child, clip: Path, tmp_path: Path) -> None:
    late = child.read(clip.parent, {m: clip.name for m in SPECS}, SPECS, 7.0, 8.0, None, 20.0)
    assert all(type(error) is NothingThereError for error in late.values())
    (tmp_path / "text.mp4").write_text("words")
    bad = child.read(tmp_path, dict.fromkeys(SPECS, "text.mp4"), SPECS, 0.0, None, None, 20.0)
    assert all(type(error) is UserError for error in bad.values())


def test_seed_and_stretch_reach_the_child(child: Child, clip: Path) -> None:
    specs = {"face": InputSpec("video", size=(8, 8), segments=4)}
    there = child.read(clip.parent, {"face": clip.name}, specs, 0.2, 0.9, 7, 20.0)
    assert equal(there, reading.read(clip.parent, {"face": clip.name}, specs, 0.2, 0.9, 7))


def test_one_modalitys_trouble_leaves_the_others_alone(child: Child, tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", grey(10))
    found = ask(child, silent)
    assert isinstance(found["face"], Stream)
    assert isinstance(found["voice"], UserError)
    assert "no sound" in str(found["voice"])


def test_a_child_that_hangs_is_given_up_and_replaced(child: Child, clip: Path) -> None:
    ask(child, clip)
    os.kill(child._process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    found = ask(child, clip, patience=0.5)
    assert time.monotonic() - begun < 5
    assert all(isinstance(error, UserError) and "hung for 0.5 s" in str(error) for error in found.values())
    assert str(clip) in str(found["face"])
    assert equal(ask(child, clip), reading.read(clip.parent, {m: clip.name for m in SPECS}, SPECS))


def test_a_child_that_dies_while_it_works_costs_one_file(child: Child, clip: Path) -> None:
    ask(child, clip)
    process = child._process
    os.kill(process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, lambda: os.kill(process.pid, signal.SIGKILL))
    killer.start()
    found = ask(child, clip)
    assert all(isinstance(error, UserError) and "exit status -9" in str(error) for error in found.values())
    assert isinstance(ask(child, clip)["face"], Stream)


def test_a_child_killed_between_two_files_is_nobodys_fault(child: Child, clip: Path) -> None:
    ask(child, clip)
    child._process.kill()
    child._process.wait()
    assert isinstance(ask(child, clip)["face"], Stream)


def test_a_surprise_is_one_line(child: Child, clip: Path) -> None:
    # segments of a size that NumPy cannot make: an error that reading itself did not foresee
    specs = {"face": InputSpec("video", size=(16, 16), segments=2**62)}
    error = ask(child, clip, specs=specs)["face"]
    assert isinstance(error, UserError)
    assert "reading failed" in str(error)
    assert "\n" not in str(error)
    assert isinstance(ask(child, clip)["face"], Stream)


def test_signs_of_life_keep_slow_work_going(tmp_path: Path, child: Child) -> None:
    """Work that takes longer than the patience goes on as long as frames come."""
    clip = write(tmp_path / "long.mp4", np.repeat(grey(40, 240, 320), 8, axis=0))
    specs = {"flow": InputSpec("flow", rate=25, size=(224, 224), backend="farneback")}
    begun = time.monotonic()
    ask(child, clip, patience=60, specs=specs)
    took = time.monotonic() - begun
    assert took > 1.3, "the clip is too short to show anything"
    assert isinstance(ask(child, clip, patience=took / 2, specs=specs)["flow"], Stream)


def test_threads_and_forked_processes_have_a_child_each(clip: Path) -> None:
    references = {m: clip.name for m in SPECS}
    here = reading.read(clip.parent, references, SPECS)
    assert equal(guarded(clip.parent, references, SPECS), here)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: guarded(clip.parent, references, SPECS), range(4)):
            assert equal(found, here)
    with get_context("fork").Pool(1) as pool:
        assert equal(pool.apply(guarded, (clip.parent, references, SPECS)), here)
    assert equal(guarded(clip.parent, references, SPECS), here)


def test_zero_patience_reads_in_this_process(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    with patch("mer.media.guard.Child.read", side_effect=AssertionError("a child was asked")):
        assert isinstance(guarded(clip.parent, {"face": clip.name}, {"face": SPECS["face"]})["face"], Stream)


@pytest.mark.parametrize("name", ["soon", "nan"])
def test_a_patience_that_is_no_number_is_a_line(clip: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(PATIENCE, name)
    with pytest.raises(UserError, match=PATIENCE):
        guarded(clip.parent, {"face": clip.name}, {"face": SPECS["face"]})


def test_the_child_ends_with_its_parent(clip: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mer.media.guard import Child; from mer.spec import InputSpec\n"
        "c = Child(); c.read(Path(sys.argv[1]).parent, {'v': Path(sys.argv[1]).name},\n"
        "    {'v': InputSpec('video', rate=5, size=(8, 8))}, 0.0, None, None, 20.0)\n"
        "print(c._process.pid, flush=True); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(clip)], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")


def test_the_child_starts_without_torch() -> None:
    code = "import sys, mer.media.child; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_is_examined_in_the_child(child: Child, clip: Path, tmp_path: Path) -> None:
    there, here = child.examine(clip, True, 20.0), reading.examine(clip, True)
    assert (there.info, there.length) == (here.info, here.length)
    np.testing.assert_array_equal(there.times, here.times)
    assert len(here.times) == 25
    assert not len(child.examine(clip, False, 20.0).times)
    sound = write(tmp_path / "sound.mp4", wave=tone(1.0))
    assert not child.examine(sound, True, 20.0).info.has_video
    (tmp_path / "text.mp4").write_text("words")
    with pytest.raises(UserError, match="not readable"):
        child.examine(tmp_path / "text.mp4", True, 20.0)
    os.kill(child._process.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match="hung"):
        child.examine(clip, True, 0.5)
    assert child.examine(clip, True, 20.0).length == here.length


def test_a_function_is_called_in_the_child(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"kind": "media", "root": str(clip.parent), "path": str(clip), "items": [["", 0.0, None]]}
    there = called("mer.analysis.doctor.exam:examine", arguments, clip.name)
    monkeypatch.setenv(PATIENCE, "0")
    assert called("mer.analysis.doctor.exam:examine", arguments, clip.name) == there
    monkeypatch.delenv(PATIENCE)
    with pytest.raises(UserError, match="no such file"):
        called("mer.analysis.doctor.exam:examine", arguments | {"path": "nowhere.mp4"}, "nowhere.mp4")
    with pytest.raises(UserError, match=r"clip\.mp4: reading failed \(KeyError"):
        called("mer.analysis.doctor.exam:examine", arguments | {"kind": "music"}, clip.name)
