"""A callback that writes down which clips each process trains on, and a config that uses it."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml


class Witness(pl.Callback):
    """Writes `epoch batch clip clip ...` per batch to `seen<rank>.txt` in the run folder.

    Args:
        pause: seconds to sleep after each batch, so that a test can act in time.
        signal_at: (epoch, batch) after which the process sends itself SIGUSR1, as SLURM would.
    """

    def __init__(self, pause: float = 0.0, signal_at: list[int] | None = None):
        self.pause, self.signal_at = pause, signal_at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        path = Path(trainer.default_root_dir) / f"seen{trainer.global_rank}.txt"
        with path.open("a") as stream:
            stream.write(" ".join([str(trainer.current_epoch), str(batch_idx), *batch.clip_ids]) + "\n")
        if [trainer.current_epoch, batch_idx] == self.signal_at:
            os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(self.pause)


def seen(run: Path, rank: int) -> dict[int, list[str]]:
    """Epoch to clips in order, as one process saw them, over all parts of the run."""
    epochs: dict[int, list[str]] = defaultdict(list)
    for line in (run / f"seen{rank}.txt").read_text().splitlines():
        epoch, _, *clips = line.split()
        epochs[int(epoch)] += clips
    return dict(epochs)


def write_config(path: Path, corpus: Path, epochs: int, workers: int = 0, **witness: Any) -> Path:
    """A config that trains a very small model on sound, two clips at a time, watched by a `Witness`."""
    net = {"dim": 8, "bands": 20, "channels": [8, 8], "layers": 0}
    config = {
        "model": {"encoders": {"audio": {"class_path": "mer.encoders.MelNet", "init_args": net}}},
        "data": {
            "manifest": str(corpus / "manifest.csv"),
            "tasks_used": ["emotion"],
            "batch_size": 2,
            "num_workers": workers,
            "keep_in_memory": True,
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": epochs,
            "enable_progress_bar": False,
            "log_every_n_steps": 1,
            "callbacks": [{"class_path": "witness.Witness", "init_args": witness}],
        },
    }
    path.write_text(yaml.safe_dump(config))
    return path
