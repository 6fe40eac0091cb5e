"""`slurm/extract.sbatch`: its text without Slurm, and a job array on a real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from mer.datasets.store import Store
from slurm.conftest import ROOT, Cluster, Job

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


def _states(cluster: Cluster, job: Job) -> list[str]:
    """The state of each task of an array."""
    return re.findall(r"JobState=(\w+)", cluster.run("scontrol", "show", "job", job.number))


@pytest.mark.slurm
def test_an_array_of_three_writes_the_items_of_one_process(cluster: Cluster, tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "encoders.yaml").write_text(yaml.safe_dump({"encoders": tiny.ENCODERS}, sort_keys=False))
    shared = ["--manifest", str(tiny_corpus / "manifest.csv"), "--dtype", "float32"]
    options = ["--array=0-2", "--gpus-per-node=0", "--cpus-per-task=2", str(TEMPLATE)]
    job = cluster.submit(*options, "encoders.yaml", *shared, "--store", "parts", cwd=tmp_path)
    job.wait(lambda: not {*_states(cluster, job)} & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}, "the end")
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("mer-extract-*.log")))
    assert _states(cluster, job) == ["COMPLETED"] * 3, logs
    for part in range(3):
        assert f"shard {part}/3 (from SLURM array)" in logs
    assert logs.count("16 item(s) written, 0 done earlier, 0 failed") == 3

    assert tiny.mer("extract", "--config", tmp_path / "encoders.yaml", *shared, "--store", tmp_path / "whole") == 0
    parts, whole = _items(tmp_path / "parts"), _items(tmp_path / "whole")
    assert parts.keys() == whole.keys() and len(whole) == 48
    for name, (values, spans) in whole.items():
        assert torch.equal(parts[name][1], spans)
        torch.testing.assert_close(parts[name][0], values, atol=1e-5, rtol=1e-5)  # other threads, other sums


def _items(store: Path) -> dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    read = [(shelf, item, shelf.read(item)) for shelf in Store(store).shelves() for item in shelf.ids()]
    return {(shelf.folder.name, item): (stored.values, stored.spans) for shelf, item, stored in read}


@pytest.mark.slurm
def test_only_what_srun_starts_divides_the_work(cluster: Cluster, tmp_path: Path) -> None:
    """A batch script that forgets srun runs once, whatever number of tasks the job has."""
    ask = "import os; from mer.datasets.extract import default_shard; print(default_shard(os.environ)[0])"
    lines = ['"$PYTHON" -c "$ASK" > alone', """srun bash -c '"$PYTHON" -c "$ASK" > "step$SLURM_PROCID"'"""]
    (tmp_path / "job").write_text(
        "\n".join(["#!/bin/bash", f"export PYTHON='{sys.executable}' ASK='{ask}'", *lines, ""])
    )
    job = cluster.submit("--ntasks=2", str(tmp_path / "job"), cwd=tmp_path)
    job.wait_until_over()
    assert (tmp_path / "alone").read_text() == "(0, 1)\n"
    assert [(tmp_path / f"step{n}").read_text() for n in range(2)] == ["(0, 2)\n", "(1, 2)\n"]
