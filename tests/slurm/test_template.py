"""The text of `slurm/train.sbatch`, without Slurm: what it starts is what the user wrote."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm.conftest import ROOT

TEMPLATE = ROOT / "slurm" / "train.sbatch"
JOB = {"SLURM_JOB_ID": "42", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "4"}


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with a `srun` that prints its arguments, one per line, and what it finds in the environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    srun = folder / "srun"
    srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\necho "$MER_RUN $SRUN_CPUS_PER_TASK $OMP_NUM_THREADS"\n')
    srun.chmod(0o755)
    return folder


def _start(bin_folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**JOB, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run(
        ["bash", str(TEMPLATE), *arguments], env=variables, capture_output=True, text=True, timeout=30
    )


def test_it_is_valid_bash() -> None:
    subprocess.run(["bash", "-n", str(TEMPLATE)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", str(TEMPLATE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_arguments_arrive_unbroken_and_after_the_template_s_own(bin_folder: Path) -> None:
    done = _start(bin_folder, "my config.yaml", "--data.manifest", "my corpus/manifest.csv", "--model.lr", "*", "")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[lines.index("--config") + 1] == "my config.yaml"
    at = lines.index("--data.manifest")
    assert lines[at : at + 5] == ["--data.manifest", "my corpus/manifest.csv", "--model.lr", "*", ""]
    assert at > lines.index("--trainer.strategy")


@pytest.mark.parametrize(("nodes", "tasks", "strategy"), [(1, 1, "auto"), (1, 4, "ddp"), (2, 1, "ddp")])
def test_sizes_come_from_slurm_and_stand_once(bin_folder: Path, nodes: int, tasks: int, strategy: str) -> None:
    done = _start(bin_folder, "c.yaml", SLURM_NNODES=str(nodes), SLURM_NTASKS_PER_NODE=str(tasks))
    lines = done.stdout.split("\n")
    for key, value in (("num_nodes", nodes), ("devices", tasks), ("strategy", strategy)):
        assert lines.count(f"--trainer.{key}") == 1
        assert lines[lines.index(f"--trainer.{key}") + 1] == str(value)


def test_the_run_folder_is_named_after_the_job_unless_the_user_names_one(bin_folder: Path) -> None:
    assert _start(bin_folder, "c.yaml").stdout.endswith("\nruns/slurm-42 4 4\n")
    assert _start(bin_folder, "c.yaml", MER_RUN="mine", OMP_NUM_THREADS="2").stdout.endswith("\nmine 4 2\n")


def test_a_virtual_environment_is_entered(bin_folder: Path, tmp_path: Path) -> None:
    activate = tmp_path / "my venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("MER_RUN=entered\n")
    assert "\nentered 4 4\n" in _start(bin_folder, "c.yaml", VENV=str(tmp_path / "my venv")).stdout


@pytest.mark.parametrize("arguments", [(), ("--config", "c.yaml")])
def test_without_a_config_it_says_how_it_is_used(bin_folder: Path, arguments: tuple[str, ...]) -> None:
    done = _start(bin_folder, *arguments)
    assert done.returncode == 2
    assert "usage: sbatch slurm/train.sbatch CONFIG.yaml" in done.stderr


@pytest.mark.parametrize("option", ["signal=SIGUSR1@", "requeue", "open-mode=append", "ntasks-per-node=", "time="])
def test_options_that_requeueing_needs_are_set(option: str) -> None:
    assert re.search(rf"^#SBATCH --{option}", TEMPLATE.read_text(), re.MULTILINE)


def test_every_option_is_explained() -> None:
    options = [line for line in TEMPLATE.read_text().splitlines() if line.startswith("#SBATCH")]
    assert options
    assert [line for line in options if not re.search(r"\S +# \S", line)] == []
