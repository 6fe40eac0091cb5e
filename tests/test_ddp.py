"""`mer fit` on two processes of this machine, without a cluster."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from witness import seen, write_config

from mer.cli import main

ROOT = Path(__file__).parents[1]
TWO = ("--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.accelerator", "cpu")


def _fit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MER_"))}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mer", "fit", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_two_processes_train_one_model_in_one_folder_on_disjoint_clips(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "config.yaml", tiny_corpus, epochs=2)
    done = _fit(tmp_path, "--config", str(config), *TWO)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    (run,) = (tmp_path / "runs").iterdir()  # without --out both processes agree on a new folder
    assert done.stdout.count("model: ") == 1
    for name in ("model.safetensors", "config.yaml", "environment.json"):
        assert (run / name).exists()
    with (run / "metrics.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream) if row["train/loss"]] == [3, 7]  # 16 clips / 2 / 2
    first, second = seen(run, 0), seen(run, 1)
    for epoch in (0, 1):
        assert len(first[epoch]) == len(second[epoch]) == 8
        assert len({*first[epoch], *second[epoch]}) == 16

    assert main(["fit", "--config", str(config), "--out", str(run), *TWO]) == 2
    assert "this run is finished" in capsys.readouterr().err
