"""`EmotionTask`: the Lightning side of an `EmotionModel`: losses, optimiser groups, schedule, freezing, logging."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from mer import checkpoint
from mer.datasets.clips import Batch
from mer.datasets.views import Average
from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.fusion.attention_pool import AttentionPool
from mer.fusion.base import Fusion
from mer.labels import Task
from mer.losses import Loss, default_loss
from mer.model import EmotionModel, Prediction
from mer.predictions import Predictions
from mer.self_labels import SelfLabels
from mer.tokens import at_times

# In the names of tables of positions and of learned tokens, as published networks call them.
_UNDECAYED = ("position", "pos_embed", "rel_pos", "class_token", "cls_token")


class EmotionTask(pl.LightningModule):
    """Train, validate and test an `EmotionModel`.

    Args:
        encoders: one per modality, by manifest column.
        tasks: from corpus.yaml (linked by the command).
        fusion: class path and arguments; the widths come from the encoders.
        heads: per task a head other than the two-layer MLP.
        losses: per task a loss other than the default of its kind.
        task_weights: per task the weight of its loss; 1 where not given.
        unimodal_weight: weight of the auxiliary losses of one head per modality, of whose losses the mean is taken; 0 builds
            no such heads.
        unimodal_labels: what these heads learn: the label of the clip (`shared`), or labels of their own `generated` while
            training goes on (Self-MM, see `mer.self_labels`; one process only, and the validation loss then has no
            part of them). Labels that annotators gave to one modality are tasks: see `reads`.
        modality_dropout: probability with which each modality is hidden from a training sample.
        missing: what the fusion gets for a modality that a clip lacks: nothing (`masked`), or a `learned` token.
        reads: per task the modality that it is about, e.g. {sentiment_text: text}: its head reads that modality's own
            vector. Clips that lack it teach nothing, and are scored with an even answer (values of 0).
        token_noise: per encoder the standard deviation of noise on its tokens in training, of a frozen encoder's from a
            store as well.
        lr: peak learning rate of AdamW.
        weight_decay: of matrices; norms, biases, embeddings and position tables are never decayed.
        lr_factors: per parameter prefix (`encoders.audio`, `fusion`) a factor on the learning rate; the longest match counts.
        warmup: share of the steps with linear warm-up; cosine decay follows.
        final_lr: share of `lr` at the last step.
        freeze: per parameter prefix the epoch at which it starts to train; -1 keeps it frozen for good. A frozen part is in
            eval mode. (Gradients of parts that thaw later are computed and thrown away, which keeps DDP's buckets whole.)
            An encoder that is frozen for good is what its weights are: it is not calibrated either, and its tokens may
            come from a feature store (`data.store`).
        encoder_weights: per encoder what it begins with: a model.safetensors of mer (the encoder of that name in it), a
            published file or folder, or a name that `mer weights list` prints. Where an encoder has several networks with a
            file each, the part is named: `skeleton.joint`. `{fold}` in a path stands for the fold that is run
            (`mer.per_fold`); a file of mer that was fitted on people or rows of the test is refused.
    """

    def __init__(
        self,
        encoders: dict[str, Encoder],
        tasks: dict[str, Task],
        fusion: Callable[[Mapping[str, int]], Fusion] = AttentionPool,
        heads: dict[str, Callable[[int, int], nn.Module]] | None = None,
        losses: dict[str, Loss] | None = None,
        task_weights: dict[str, float] | None = None,
        unimodal_weight: float = 0.0,
        unimodal_labels: Literal["shared", "generated"] = "shared",
        modality_dropout: float = 0.0,
        missing: Literal["masked", "learned"] = "masked",
        reads: dict[str, str] | None = None,
        token_noise: dict[str, float] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        lr_factors: dict[str, float] | None = None,
        warmup: float = 0.1,
        final_lr: float = 0.001,
        freeze: dict[str, int] | None = None,
        encoder_weights: dict[str, str] | None = None,
    ):
        super().__init__()
        self.model = EmotionModel(
            encoders, fusion, tasks, heads, unimodal_weight > 0, modality_dropout, missing, reads, token_noise
        )
        self.losses = nn.ModuleDict({n: (losses or {}).get(n) or default_loss(t.space.kind) for n, t in tasks.items()})
        for name in {*(losses or {}), *(task_weights or {})} - set(tasks):
            raise UserError(
                f"model.losses or model.task_weights names the unknown task {name!r}", f"Use {', '.join(tasks)}"
            )
        for name, task in tasks.items():
            if task.level == "frame" and _loss(self.losses[name]).needs_counts:
                raise UserError(
                    f"the loss of task {name!r} wants class counts, which are taken of video-level labels only",
                    "Leave balanced and adjust off for a frame-level task",
                )
            if task.space.kind not in _loss(self.losses[name]).kinds:
                wrong = type(self.losses[name]).__name__
                raise UserError(
                    f"{wrong} does not fit task {name!r} ({task.space.kind})", "Choose another under model.losses"
                )
        if not 0 <= warmup <= 1:
            raise UserError(f"model.warmup is {warmup:g}", "Use a share of the steps, 0 to 1")
        self.task_weights = task_weights or {}
        self.unimodal_weight = unimodal_weight
        self.self_labels = self._generated(unimodal_labels)
        self.lr, self.weight_decay, self.warmup, self.final_lr = lr, weight_decay, warmup, final_lr
        self.lr_factors, self.freeze_until = lr_factors or {}, freeze or {}
        names = {*(n for n, _ in self.model.named_parameters()), *(f"encoders.{n}" for n in encoders)}
        for prefix in (*self.lr_factors, *self.freeze_until):
            if prefix not in names and not any(_under(name, prefix) for name in names):
                raise UserError(
                    f"no parameter of the model begins with {prefix!r}", "Name e.g. encoders.audio or fusion"
                )
        for name, parameter in self.model.named_parameters():
            if self._thaws(name) == -1:
                parameter.requires_grad_(False)
        checkpoint.load_encoders(encoders, encoder_weights or {})
        self.predictions: dict[str, Predictions] = {}
        self._as_given: dict[str, Tensor] = {}

    @property
    def tasks(self) -> dict[str, Task]:
        return self.model.tasks

    @property
    def frozen(self) -> list[str]:
        """Encoders of which nothing will ever train."""
        parameters = [name for name, _ in self.model.named_parameters()]
        prefixes = {encoder: f"encoders.{encoder}" for encoder in self.model.encoders}
        return [
            encoder
            for encoder, prefix in prefixes.items()
            if all(self._thaws(name) == -1 for name in (prefix, *parameters) if _under(name, prefix))
        ]

    # -- before training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Let losses and encoders take what they need from the training rows."""
        if stage == "fit" and self.self_labels is not None and self.trainer.world_size > 1:
            raise UserError(
                f"model.unimodal_labels is generated, in {self.trainer.world_size} processes, each of which sees other clips",
                "Set trainer.devices and trainer.num_nodes to 1, or unimodal_labels to shared",
            )
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or data is None:
            return
        if self.self_labels is not None:
            for name in self.self_labels.spaces:
                labels = [clip.labels[name] for clip in data.split.train if clip.labels[name] is not None]
                self.self_labels.fit(name, torch.tensor(labels, dtype=torch.float32))
        for name, counts in data.class_counts().items():
            labelled = sum(clip.labels[name] is not None for clip in data.split.train)
            _loss(self.losses[name]).fit(counts, labelled)
        for modality, encoder in self.model.encoders.items():
            assert isinstance(encoder, Encoder)
            if type(encoder).calibrate is not Encoder.calibrate and modality not in self.frozen:
                with torch.no_grad():
                    encoder.calibrate(data.train_inputs(modality))

    # Averaging over weights that stand still rounds them by a bit now and then, and tokens in a store belong to exactly
    # these weights. Callbacks come before the task in both hooks, so what averaging left there is put right.

    def on_fit_start(self) -> None:
        averages = any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        frozen = tuple(f"model.encoders.{name}." for name in (self.frozen if averages else ()))
        self._as_given = {k: v.detach().cpu().clone() for k, v in self.state_dict().items() if k.startswith(frozen)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= self._as_given
        if self.self_labels is not None:
            checkpoint["self_labels"] = self.self_labels.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.self_labels is not None:
            self.self_labels.load_state_dict(checkpoint.get("self_labels", {}))

    def on_train_end(self) -> None:
        self.load_state_dict(self._as_given, strict=False)

    def configure_optimizers(self) -> Any:
        groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
        tables = {f"{n}.{p}" for n, m in self.model.named_modules() if isinstance(m, nn.Embedding) for p in ("weight",)}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                plain = parameter.ndim <= 1 or name in tables or any(word in name for word in _UNDECAYED)
                groups[self._longest(name, self.lr_factors, 1.0), not plain].append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {"params": p, "lr": self.lr * factor, "weight_decay": self.weight_decay * decays}
                for (factor, decays), p in groups.items()
            ],
            lr=self.lr,
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._share_of_lr(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _share_of_lr(self, step: int, total: int) -> float:
        """Linear warm-up to 1, then a cosine down to `final_lr`."""
        rising = max(1, round(self.warmup * total))
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))

    # -- training -------------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        for name, module in self.model.named_modules():
            if any(_under(name, prefix) for prefix in self.freeze_until):
                until = self._thaws(name)
                module.training = 0 <= until <= self.current_epoch  # not train(): a part of it may have its own epoch

    on_train_start = on_train_epoch_start  # an epoch that is resumed in its middle has no start

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self.model.named_parameters():
            if self._thaws(name) > self.current_epoch:
                parameter.grad = None

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if not len(batch):
            # Every clip was unreadable. A zero that touches all parameters keeps the other processes of a DDP job going.
            return sum((p.sum() * 0.0 for p in self.model.parameters() if p.requires_grad), start=torch.zeros(()))
        prediction = self.model(batch.inputs)
        loss = self._loss(prediction, batch, "train")
        if not bool(torch.isfinite(loss)):
            raise UserError(
                f"the loss became {loss.item()} in epoch {self.current_epoch} on clips {', '.join(batch.clip_ids)}",
                "Look at these clips, lower model.lr, or set trainer.gradient_clip_val",
            )
        self._renew_labels(prediction, batch)
        return loss

    def _loss(self, prediction: Prediction, batch: Batch, stage: str) -> Tensor:
        """Weighted sum over tasks, auxiliary heads and the fusion's own terms; each part is logged."""
        parts: dict[str, Tensor] = {}
        total = prediction.fused.pooled.new_zeros((), dtype=torch.float32)
        for name in self.tasks:
            logits, target = self._scored(prediction, batch, name)
            if name in self.model.reads:
                seen = prediction.seen[self.model.reads[name]]
                logits, target = logits[seen], target[seen]
            parts[name] = self.losses[name](logits, target)
            total = total + self.task_weights.get(name, 1.0) * parts[name]
            for modality, part in self._unimodal(prediction, batch, name, stage).items():
                parts[f"{name}_{modality}"] = part
                total = total + self.unimodal_weight / len(prediction.unimodal[name]) * part
        for name, value in prediction.fused.aux_losses.items():
            parts[f"aux_{name}"] = value
            total = total + value
        self.log(f"{stage}/loss", total, prog_bar=True, batch_size=len(batch), on_step=False, on_epoch=True)
        for name, value in prediction.fused.logs.items():
            self.log(f"{stage}/{name}", value, batch_size=len(batch), on_step=False, on_epoch=True)
        if len(parts) > 1:
            named = {f"{stage}/loss_{k}": v for k, v in parts.items()}
            self.log_dict(named, batch_size=len(batch), on_step=False, on_epoch=True)
        return total

    def _unimodal(self, prediction: Prediction, batch: Batch, name: str, stage: str) -> dict[str, Tensor]:
        """Losses of the auxiliary heads of a task; a head learns from the clips that have its modality."""
        heads, target, seen = prediction.unimodal.get(name, {}), batch.targets[name], prediction.seen
        if self.self_labels is None:
            return {m: self.losses[name](own[seen[m]], target[seen[m]]) for m, own in heads.items()}
        if stage != "train" or not heads:
            return {}
        return self.self_labels.losses(name, heads, target, batch.clip_ids, seen)

    def _renew_labels(self, prediction: Prediction, batch: Batch) -> None:
        if self.self_labels is None:
            return
        fused, seen = prediction.fused, prediction.seen
        for name in self.self_labels.spaces:
            target = batch.targets[name]
            self.self_labels.renew(name, self.current_epoch, fused.pooled, fused.unimodal, target, batch.clip_ids, seen)

    def _generated(self, labels: str) -> SelfLabels | None:
        if labels not in ("shared", "generated"):
            raise UserError(f"model.unimodal_labels is {labels!r}", "Use shared or generated")
        if labels == "shared":
            return None
        heads = {name: task for name, task in self.tasks.items() if name in self.model.unimodal_heads}
        if not heads:
            raise UserError(
                "model.unimodal_labels is generated, but there is no auxiliary head to learn them",
                "Set unimodal_weight above 0; frame-level tasks and those under reads have no such heads",
            )
        return SelfLabels(heads, list(self.model.encoders))

    def _scored(self, prediction: Prediction, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and targets of a task, frames of a frame-level one flattened."""
        if self.tasks[name].level == "video":
            return prediction.logits[name], batch.targets[name]
        logits = at_times(prediction.frames[name], batch.frame_times)
        return logits.flatten(0, 1), batch.targets[name].flatten(0, 1)

    # -- validation and test --------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        views = getattr(getattr(self.trainer, "datamodule", None), "views", None)
        average: Average = "probabilities" if views is None else views.average
        self.predictions = {name: Predictions(task, average) for name, task in self.tasks.items()}

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        if not len(batch):
            return
        prediction = self.model(batch.inputs)
        self._loss(prediction, batch, stage)
        anything = torch.stack(list(prediction.seen.values())).any(dim=0)
        for name, task in self.tasks.items():
            shown = prediction.seen.get(self.model.reads.get(name, ""), anything)
            if task.level == "video":
                self.predictions[name].add_clips(batch.clip_ids, prediction.logits[name], batch.targets[name], shown)
            else:
                logits = at_times(prediction.frames[name], batch.frame_times)
                self.predictions[name].add_frames(batch.clip_ids, batch.frame_times, logits, batch.targets[name], shown)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        for name, predictions in self.predictions.items():
            several = f"{name}_" if len(self.tasks) > 1 else ""
            for metric, value in predictions.metrics().items():
                if math.isfinite(value):
                    self.log(f"{stage}/{several}{metric}", value, prog_bar=metric in ("war", "uar", "ccc"))

    # -- names ----------------------------------------------------------------------------------------------------------

    def _thaws(self, name: str) -> int:
        return int(self._longest(name, self.freeze_until, 0))

    @staticmethod
    def _longest(name: str, table: Mapping[str, float], default: float) -> float:
        matching = [prefix for prefix in table if _under(name, prefix)]
        return table[max(matching, key=len)] if matching else default


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _loss(module: nn.Module) -> Loss:
    assert isinstance(module, Loss)
    return module
