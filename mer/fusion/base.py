"""The contract of a fusion module: a dictionary of `Tokens` in, one `Fused` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mer.configured import Configured
from mer.errors import UserError
from mer.labels import Task
from mer.tokens import Tokens


@dataclass
class Fused:
    """What every fusion module returns.

    Attributes:
        pooled: (B, D), one vector per clip.
        sequence: tokens (B, K, D) on one monotone clock, for frame-level heads; None where the module has none, or nobody
            wants it.
        logits: per video-level task (B, C); only score-level fusion fills it.
        frames: per frame-level task the scores as tokens (B, K, C) on one monotone clock; only score-level fusion fills it.
        unimodal: per modality (B, D), for auxiliary heads; 0 where absent.
        aux_losses: scalars to be added to the loss, already weighted.
        modality_weights: per modality (B,), summing to 1 over the present ones; None where the module has none.
        logs: scalars to be logged and nothing else, e.g. how often a discriminator is right.
    """

    pooled: Tensor
    sequence: Tokens | None = None
    logits: dict[str, Tensor] = field(default_factory=dict)
    frames: dict[str, Tokens] = field(default_factory=dict)
    unimodal: dict[str, Tensor] = field(default_factory=dict)
    aux_losses: dict[str, Tensor] = field(default_factory=dict)
    modality_weights: dict[str, Tensor] | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)


class Fusion(Configured, nn.Module):
    """Base of all fusion modules.

    Args:
        dims: token width of each modality, in order; `EmotionModel` fills it in from its encoders.
        dim: width of the fused vectors.

    Attributes:
        min_modalities, max_modalities: what the module takes, checked at construction (max None: any number).
        needs_alignment: the module wants all streams on one clock and calls `align` itself.
        scores: the module answers the tasks itself (`Fused.logits`, `Fused.frames`); the model then has no heads for them.
        sequence_wanted: somebody reads `Fused.sequence`; where nobody does, a module may save the work and leave it None.
            The model sets it by its tasks.

    The contract, held by tests for every module: padding changes nothing; in eval mode samples do not touch each other; an
    absent modality gets no gradient and weight 0; every trainable parameter is reached. All encoders run for every batch,
    absent modalities included (masked), so that DDP finds no unused parameter; only a model whose tasks are all at frame
    level leaves the pooling unused, and wants `trainer.strategy: ddp_find_unused_parameters_true`.
    """

    min_modalities: int = 1
    max_modalities: int | None = None
    needs_alignment: bool = False
    scores: bool = False
    sequence_wanted: bool = True

    def __init__(self, dims: Mapping[str, int], dim: int):
        super().__init__()
        few, many = self.min_modalities, self.max_modalities
        if len(dims) < few or (many is not None and len(dims) > many):
            allowed = f"at least {few}" if many is None else f"{few} to {many}"
            raise UserError(
                f"{type(self).__name__} takes {allowed} modalities, not {len(dims)} ({', '.join(dims)})",
                "Choose another fusion or other encoders",
            )
        self.modalities, self.dim = list(dims), dim

    def for_tasks(self, tasks: Mapping[str, Task]) -> None:
        """Called once by the model, before any forward pass: what is to be predicted. Only score-level fusion needs it."""

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        """Join the streams. Subclasses implement this."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


def presence(tokens: Mapping[str, Tokens], modalities: list[str]) -> Tensor:
    """(B, M) bool: which of the modalities each sample has."""
    return torch.stack([tokens[m].present for m in modalities], dim=1)
