"""`slurm/extract.sbatch`: its text without Slurm, and a job array on a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from slurm.conftest import ROOT

TEMPLATE = ROOT / "slurm" / "extract.sbatch"


def test_arguments_and_workers_arrive(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    variables = {"SLURM_CPUS_PER_TASK": "4", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    arguments = ["my config.yaml", "--manifest", "my manifest.csv", "--store", "s"]
    done = subprocess.run(
        ["bash", str(TEMPLATE), *arguments], env=variables, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[lines.index("--config") + 1] == "my config.yaml"
    assert lines[lines.index("--workers") + 1] == "3"
    assert lines[-4:] == arguments[1:]


@pytest.mark.parametrize("arguments", [[], ["--manifest", "m.csv"]])
def test_without_a_config_it_says_how_it_is_used(arguments: list[str]) -> None:
    done = subprocess.run(["bash", str(TEMPLATE), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr
