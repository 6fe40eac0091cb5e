"""A job that is told that its time is up saves, requeues itself, and goes on exactly where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from witness import seen, write_config

from mer import preemption
from mer.cli import main
from mer.errors import UserError

EPOCHS, STEPS = 3, 8  # 16 training clips, two at a time


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The environment of job 7 with a `scontrol` that writes down how it is called; gives that file."""
    calls, scontrol = tmp_path / "calls", tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/sh\necho "$@" >> "{calls}"\n[ -z "$REFUSED" ] || echo not allowed >&2\nexit ${{REFUSED:-0}}\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    calls.touch()
    before = signal.getsignal(signal.SIGUSR1)
    yield calls
    preemption.forget()
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """The clips of every epoch in order, of a run that nobody interrupts."""
    out = tmp_path_factory.mktemp("undisturbed")
    config = write_config(out / "config.yaml", tiny_corpus, EPOCHS)
    assert main(["fit", "--config", str(config), "--out", str(out / "run")]) == 0
    return seen(out / "run", 0)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True, timeout=60
    )


def test_a_signal_during_start_up_is_noted_and_not_fatal() -> None:
    done = _python(
        "import os, signal\n"
        "from mer.cli import main\n"
        "main([])\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "from mer.preemption import noted\n"
        "print('noted', noted())",
        SLURM_JOB_ID="7",
    )
    assert done.returncode == 0
    assert done.stdout.endswith("noted True\n")


def test_outside_of_slurm_the_signal_keeps_its_meaning() -> None:
    done = _python("import os, signal\nfrom mer.cli import main\nmain([])\nos.kill(os.getpid(), signal.SIGUSR1)")
    assert done.returncode == -signal.SIGUSR1


def test_the_handler_of_somebody_else_stays() -> None:
    done = _python(
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('theirs'))\n"
        "from mer import preemption\n"
        "preemption.remember_signals()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print(preemption.watching())",
        SLURM_JOB_ID="7",
    )
    assert done.stdout.splitlines() == ["theirs", "False"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [[0, 0], [1, 4], [1, STEPS - 1]], ids=["first batch", "mid-epoch", "end of epoch"])
def test_the_job_saves_requeues_and_goes_on_where_it_stopped(
    at: list[int],
    workers: int,
    in_job: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    undisturbed: dict[int, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    config = write_config(tmp_path / "config.yaml", tiny_corpus, EPOCHS, workers, signal_at=at)
    arguments = ["fit", "--config", str(config), "--out", str(run)]

    assert main(arguments) == 0
    assert in_job.read_text() == "requeue 7\n"
    assert not (run / "model.safetensors").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert sum(len(clips) for clips in seen(run, 0).values()) == 2 * (STEPS * at[0] + at[1] + 1)

    assert main(arguments) == 0
    assert in_job.read_text() == "requeue 7\n"
    assert (run / "model.safetensors").exists()
    assert seen(run, 0) == undisturbed
    printed = capsys.readouterr()
    assert f"saved at step {STEPS * at[0] + at[1] + 1}, back into the queue" in printed.out
    assert "going on from" in printed.out
    assert "resum" not in printed.err  # Lightning's warnings


def test_a_signal_that_came_early_is_acted_on_after_the_first_batch(
    in_job: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "config.yaml", tiny_corpus, EPOCHS)
    preemption.remember_signals()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "run")]) == 0
    assert in_job.read_text() == "requeue 7\n"
    assert len(seen(tmp_path / "run", 0)[0]) == 2


def test_a_signal_in_the_last_epoch_end_lets_the_training_finish(
    in_job: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "config.yaml", tiny_corpus, 1, signal_at=[0, STEPS - 1])
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "run")]) == 0
    assert in_job.read_text() == ""
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_where_slurm_refuses_it_says_so_and_the_same_command_goes_on(
    in_job: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUSED", "1")
    config = write_config(tmp_path / "config.yaml", tiny_corpus, 1, signal_at=[0, 2])
    arguments = ["fit", "--config", str(config), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert in_job.read_text() == "requeue 7\n"
    assert "mer fit: saved, but job 7 cannot be put back into the queue: not allowed" in capsys.readouterr().err
    assert main(arguments) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_task_of_an_array_requeues_itself_alone(in_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    preemption.requeue()
    assert in_job.read_text() == "requeue 5_2\n"


def test_without_scontrol_it_says_so(in_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="scontrol"):
        preemption.requeue()


def test_a_signal_at_the_very_end_does_not_fail_a_finished_job() -> None:
    done = _python(
        "import os, signal\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1): kill(pid, number)\n"
        "late = Late()\n"
        "from mer.cli import main\n"
        "main([])",
        SLURM_JOB_ID="7",
    )
    assert done.returncode == 0
