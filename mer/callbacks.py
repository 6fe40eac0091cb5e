"""Lightning callbacks of every training run."""

from __future__ import annotations

import pytorch_lightning as pl

from mer import preemption


class Preemption(pl.Callback):
    """Hands a signal that came during start-up over to Lightning's SLURM handler; see `mer.preemption`."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        preemption.step_aside()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        preemption.replay()
