"""Late fusion: every modality decides for itself, and the decisions are averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mer.attention import StatisticsPool, masked_softmax
from mer.errors import UserError
from mer.fusion.base import Fused, Fusion, presence
from mer.fusion.vectors import projected
from mer.heads import MLPHead
from mer.labels import Task
from mer.tokens import Tokens


class Late(Fusion):
    """A head per modality and task; probabilities (values, of a continuous task) are averaged over the present modalities.

    What most challenge ensembles do (a weighted mean of score files). It cannot see anything that lies between the
    modalities, and has no
    sequence: frame-level tasks want another fusion.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of each modality's vector.
        learned: weights per modality and task are learned; else all count the same.
        heads: attention heads of the pooling over time.
        dropout: on the vectors.
    """

    scores = True

    def __init__(
        self, dims: Mapping[str, int], dim: int = 128, learned: bool = True, heads: int = 4, dropout: float = 0.2
    ):
        super().__init__(dims, dim)
        self.learned = learned
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, dim), nn.LayerNorm(dim)) for m, d in dims.items()})
        self.pool = nn.ModuleDict({m: StatisticsPool(dim, heads) for m in dims})
        self.dropout = nn.Dropout(dropout)
        self.decide = nn.ModuleDict()
        self.weights = nn.ParameterDict()
        self.kinds: dict[str, str] = {}

    def for_tasks(self, tasks: Mapping[str, Task]) -> None:
        for name, task in tasks.items():
            if task.level != "video":
                raise UserError(
                    f"task {name!r} is at frame level, but Late averages the scores of clips", "Choose another fusion"
                )
            self.kinds[name] = task.space.kind
            self.decide[name] = nn.ModuleDict({m: MLPHead(self.dim, len(task.space)) for m in self.modalities})
            if self.learned:
                self.weights[name] = nn.Parameter(torch.zeros(len(self.modalities)))

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = projected(self.project, tokens, self.modalities)
        unimodal = {m: self.pool[m](s.values, s.mask) for m, s in streams.items()}
        here = presence(tokens, self.modalities)
        logits, last = {}, None
        for name, heads in self.decide.items():
            assert isinstance(heads, nn.ModuleDict)
            own = torch.stack([heads[m](self.dropout(v)) for m, v in unimodal.items()], 1).float()  # (B, M, C)
            raw = self.weights[name] if self.learned else own.new_zeros(len(unimodal))
            last = masked_softmax(raw.expand(len(here), -1), here, dim=1)
            logits[name] = _averaged(own, last, here, self.kinds[name])
        weights = masked_softmax(here.float() * 0, here, dim=1) if last is None else last
        vectors = torch.stack(list(unimodal.values()), 1)
        pooled = (weights[..., None].to(vectors.dtype) * vectors).sum(1)
        shown = {m: weights[:, i] for i, m in enumerate(self.modalities)}
        return Fused(pooled, None, logits, unimodal, modality_weights=shown)


def _averaged(own: Tensor, weights: Tensor, here: Tensor, kind: str) -> Tensor:
    """(B, M, C) logits and (B, M) weights to (B, C) logits of the mean probability; 0 where nothing is there."""
    if kind == "continuous":
        return (weights[..., None] * own).sum(1)
    logs = own.log_softmax(-1) if kind == "classes" else nn.functional.logsigmoid(own)
    some = here.any(1)[:, None]
    parts = logs + weights.clamp(min=1e-30).log()[..., None]
    mean = torch.logsumexp(parts.masked_fill(~here[..., None], -1e30), 1)
    if kind == "classes":
        return torch.where(some, mean, torch.zeros_like(mean))
    against = nn.functional.logsigmoid(-own) + weights.clamp(min=1e-30).log()[..., None]
    no = torch.logsumexp(against.masked_fill(~here[..., None], -1e30), 1)
    return torch.where(some, mean - no, torch.zeros_like(mean))
