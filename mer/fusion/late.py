"""Late fusion: every modality decides for itself, and the decisions are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool, at_least_float32, masked_softmax
from mer.errors import UserError
from mer.fusion.base import Fused, Fusion, presence
from mer.fusion.vectors import projected, ticking
from mer.heads import MLPHead
from mer.labels import Task
from mer.tokens import Tokens


class Late(Fusion):
    """A head per modality and task; its logits are averaged over the present modalities, with weights that sum to 1.

    A mean of logits is a geometric mean of probabilities (a product of experts): one modality that rules a class out is
    heard. The mean of probabilities is what most challenge ensembles do (a weighted mean of score files); there one
    modality that is always sure, as one is on the rows it was fitted on, drowns the others. Either way nothing that lies
    between the modalities is seen. For frame-level tasks the heads look at every tick of a clock.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of each modality's vector.
        average: what is averaged, `logits` or `probabilities` (of a continuous task, values either way).
        learned: weights per modality and task are learned; else all count the same.
        heads: attention heads of the pooling over time.
        dropout: on the vectors.
        clock_rate: ticks per second of frame-level scores.
    """

    scores = True

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        average: Literal["logits", "probabilities"] = "logits",
        learned: bool = True,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim)
        if average not in ("logits", "probabilities"):
            raise UserError(f"Late cannot average {average!r}", "Use logits or probabilities")
        self.average, self.learned, self.clock_rate = average, learned, clock_rate
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.pool = nn.ModuleDict({m: StatisticsPool(dim, heads) for m in dims})
        self.dropout = nn.Dropout(dropout)
        self.decide = nn.ModuleDict()
        self.weights = nn.ParameterDict()
        self.tasks: dict[str, Task] = {}

    def for_tasks(self, tasks: Mapping[str, Task]) -> None:
        self.tasks = dict(tasks)
        for name, task in tasks.items():
            self.decide[name] = nn.ModuleDict({m: MLPHead(self.dim, len(task.space)) for m in self.modalities})
            if self.learned:
                self.weights[name] = nn.Parameter(torch.zeros(len(self.modalities)))

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = projected(self.project, tokens, self.modalities)
        unimodal = {m: self.pool[m](s.values, s.mask) for m, s in streams.items()}
        vectors, here = torch.stack(list(unimodal.values()), 1), presence(tokens, self.modalities)
        found = Fused(vectors, unimodal=unimodal)
        weights = masked_softmax(torch.zeros_like(here, dtype=torch.float32), here, dim=1)
        ticks = ticking(streams, self.clock_rate) if self.sequence_wanted else None
        for name, task in self.tasks.items():
            if task.level == "video":
                weights = self._weights(name, here)
                found.logits[name] = self._decided(name, vectors, here)
            elif ticks is not None:
                values, there, spans, mask = ticks
                weights = weights if found.logits else self._weights(name, here)
                scores = self._decided(name, values.flatten(0, 1), there.flatten(0, 1))
                found.frames[name] = Tokens(scores.unflatten(0, mask.shape) * mask[..., None], mask, spans)
        found.pooled = (weights[..., None].to(vectors.dtype) * vectors).sum(1)
        found.modality_weights = {m: weights[:, i] for i, m in enumerate(self.modalities)}
        return found

    def _weights(self, name: str, here: Tensor) -> Tensor:
        """(N, M) weights of the modalities, of which `here` (N, M) are there."""
        raw = self.weights[name] if self.learned else torch.zeros(here.shape[1], device=here.device)
        return masked_softmax(raw.expand(len(here), -1), here, dim=1)

    def _decided(self, name: str, vectors: Tensor, here: Tensor) -> Tensor:
        """Vectors (N, M, D), of which `here` (N, M) are there, to logits (N, C)."""
        heads = self.decide[name]
        assert isinstance(heads, nn.ModuleDict)
        own = torch.stack([heads[m](self.dropout(vectors[:, i])) for i, m in enumerate(self.modalities)], 1)
        own, weights = at_least_float32(own), self._weights(name, here)
        kind = self.tasks[name].space.kind
        if self.average == "logits" or kind == "continuous":
            return (weights[..., None] * own).sum(1)
        return _of_probabilities(own, weights, here, kind)


def _of_probabilities(own: Tensor, weights: Tensor, here: Tensor, kind: str) -> Tensor:
    """(B, M, C) logits and (B, M) weights to (B, C) logits of the mean probability; 0 where nothing is there."""
    logs = own.log_softmax(-1) if kind == "classes" else nn.functional.logsigmoid(own)
    some = here.any(1)[:, None]
    parts = logs + weights.clamp(min=1e-30).log()[..., None]
    mean = torch.logsumexp(parts.masked_fill(~here[..., None], -1e30), 1)
    if kind == "classes":
        return torch.where(some, mean, torch.zeros_like(mean))
    against = nn.functional.logsigmoid(-own) + weights.clamp(min=1e-30).log()[..., None]
    no = torch.logsumexp(against.masked_fill(~here[..., None], -1e30), 1)
    return torch.where(some, mean - no, torch.zeros_like(mean))
