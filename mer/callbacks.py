"""Lightning callbacks of every training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mer import preemption


class Preemption(pl.Callback):
    """Saves, and ends training, in a SLURM job that was told that its time is up; see `mer.preemption`.

    It acts after a batch, or after the validation of an epoch, as soon as any process has been told.

    Args:
        checkpoint: what to save to; resuming reads this file.

    Raises:
        TimeIsUp: from within `Trainer.fit`, in every process, once all is saved.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        # The last batch is followed by validation and its checkpoints, and half an accumulated step cannot be saved.
        if done < trainer.num_training_batches and done % trainer.accumulate_grad_batches == 0:
            self._leave_if_told(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last:  # else what is left is to write the model, which takes no time
            self._leave_if_told(trainer)

    def _leave_if_told(self, trainer: pl.Trainer) -> None:
        if not preemption.watching() or not trainer.strategy.reduce_boolean_decision(preemption.noted(), all=False):
            return
        preemption.forget()
        trainer.save_checkpoint(self.checkpoint)
        if trainer.is_global_zero:
            print(f"\ntime is up: saved at step {trainer.global_step}, back into the queue", flush=True)
        raise preemption.TimeIsUp
