"""`EmotionModel`: any encoders, one fusion, one head per task. Plain torch, usable without Lightning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.configured import Configured
from mer.encoders.base import Encoder, JointEncoder
from mer.errors import UserError
from mer.fusion.base import Fused, Fusion
from mer.heads import MLPHead
from mer.labels import Task
from mer.missing import LearnedMissing, hide
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

HeadFactory = Callable[[int, int], nn.Module]
FusionFactory = Callable[[Mapping[str, int]], Fusion]


@dataclass
class Prediction:
    """What a forward pass gives.

    Attributes:
        logits: per video-level task (B, C).
        frames: per frame-level task the logits as tokens (B, K, C) on the fusion's clock; `at_times` reads them.
        unimodal: per video-level task and modality (B, C), from auxiliary heads; empty without them.
        fused: the fusion's whole answer (weights, auxiliary losses), less what it says about stand-ins.
        seen: per encoder (B,) bool, what the model was shown: what is there, less what modality dropout hid.
    """

    logits: dict[str, Tensor]
    frames: dict[str, Tokens]
    fused: Fused
    unimodal: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)


class EmotionModel(nn.Module):
    """Encoders, fusion, heads.

    Attributes:
        specs: per input (a column of the manifest) how it is prepared.

    Args:
        encoders: one per modality; the names are the manifest's column names. (A `JointEncoder` names its columns itself.)
        fusion: called with the encoders' widths, gives the fusion module. A YAML config names its class path and the
            arguments other than the widths.
        tasks: what to predict, by name.
        heads: per task a callable (dim, outputs) -> module; `MLPHead` where not given.
        unimodal_heads: add one auxiliary head per modality and video-level task, which keeps every branch trained when one
            modality is easier than the rest.
        modality_dropout: probability with which each modality is hidden from a training sample; one always stays.
        missing: what the fusion gets for a modality that a sample lacks, by nature or by modality dropout: nothing
            (`masked`), or a `learned` token (`mer.missing`).
        reads: per video-level task the modality whose own vector its head reads instead of the fused one: labels that
            annotators gave to one modality alone, as in CH-SIMS (Yu et al., ACL 2020), are tasks like any other. Where a
            clip lacks that modality the logits are 0, and teach nothing; the row stays in the score file, as that of
            a clip without any modality does.
        token_noise: per encoder the standard deviation of Gaussian noise on its tokens in training, one draw per clip and
            column (a draw per token would average out). Tokens of a frozen encoder are surer on the clips that it was
            fitted on than on others, and the noise keeps the fusion from leaning on that. A checkpoint does not store it.

    Raises:
        UserError: no encoder, two that want one column prepared in different ways, a fusion that does not take that many,
            a frame-level task on a fusion without sequence, an option that does not exist or does not fit.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        fusion: FusionFactory,
        tasks: Mapping[str, Task],
        heads: Mapping[str, HeadFactory] | None = None,
        unimodal_heads: bool = False,
        modality_dropout: float = 0.0,
        missing: Literal["masked", "learned"] = "masked",
        reads: Mapping[str, str] | None = None,
        token_noise: Mapping[str, float] | None = None,
    ):
        super().__init__()
        if not encoders:
            raise UserError("the model has no encoder", "Name at least one under model.encoders")
        if not tasks:
            raise UserError("the model has no task", "Name at least one under 'tasks' in corpus.yaml")
        unknown = set(heads or {}) - set(tasks)
        if unknown:
            named = ", ".join(sorted(unknown))
            raise UserError(f"heads for unknown tasks: {named}", f"The tasks are {', '.join(tasks)}")
        if not 0 <= modality_dropout < 1:
            raise UserError(f"modality_dropout {modality_dropout} is not in [0, 1)", "Use 0 to 0.5")
        if missing not in ("masked", "learned"):
            raise UserError(f"model.missing is {missing!r}", "Use masked or learned")
        self.token_noise = dict(token_noise or {})
        _check_noise(self.token_noise, encoders)
        self.reads = dict(reads or {})
        _check_reads(self.reads, tasks, encoders)
        self.encoders = nn.ModuleDict(encoders)
        self.specs = _columns(encoders)
        dims = {m: e.dim for m, e in encoders.items()}
        self.fusion = fusion(dims)
        self.fusion.for_tasks({t: task for t, task in tasks.items() if t not in self.reads})
        self.fusion.sequence_wanted = any(task.level == "frame" for task in tasks.values())
        self.tasks = dict(tasks)
        self.modality_dropout = modality_dropout
        make = heads or {}
        self.heads = nn.ModuleDict(
            {
                t: make.get(t, MLPHead)(self.fusion.dim, len(task.space))
                for t, task in tasks.items()
                if t in self.reads or not self.fusion.scores
            }
        )
        self.unimodal_heads = nn.ModuleDict(
            {
                t: nn.ModuleDict({m: nn.Linear(self.fusion.dim, len(task.space)) for m in encoders})
                for t, task in tasks.items()
                if unimodal_heads and task.level == "video" and t not in self.reads
            }
        )
        # Last, so that the same seed gives the same other parameters with either.
        self.missing = LearnedMissing(dims) if missing == "learned" else None

    def forward(self, inputs: Mapping[str, Sampled | Tokens]) -> Prediction:
        """Predict a batch.

        Args:
            inputs: one `Sampled` per column of `specs`, or the `Tokens` that its encoder gave earlier (from a feature
                store); a modality that is absent has an all-False mask.
        """
        inputs = self._drop_modalities(inputs) if self.training and self.modality_dropout else inputs
        tokens = self.tokens(inputs)
        if self.training:
            tokens |= {m: noisy(tokens[m], deviation) for m, deviation in self.token_noise.items()}
        seen = {m: t.present for m, t in tokens.items()}
        fused: Fused = self.fusion(tokens) if self.missing is None else hide(self.fusion(self.missing(tokens)), seen)
        logits, frames = {}, {}
        for name, task in self.tasks.items():
            if name in self.reads:
                logits[name] = self._of_one(name, fused, seen)
            elif task.level == "video":
                logits[name] = fused.logits[name] if name in fused.logits else self.heads[name](fused.pooled)
            elif name in fused.frames:
                frames[name] = fused.frames[name]
            elif fused.sequence is None:
                raise UserError(
                    f"task {name!r} is at frame level, but {type(self.fusion).__name__} gives no sequence",
                    "Choose a fusion that does, e.g. mer.fusion.AttentionPool",
                )
            else:
                s, head = fused.sequence, self.heads[name]
                frames[name] = Tokens(head(s.values) * s.mask[..., None], s.mask, s.spans)
        unimodal = {
            t: {m: head(fused.unimodal[m]) for m, head in heads.items() if m in fused.unimodal}  # type: ignore[operator]
            for t, heads in self.unimodal_heads.items()
        }
        return Prediction(logits, frames, fused, unimodal, seen)

    def describe(self) -> dict[str, Any]:
        """The plain configuration a checkpoint stores; `mer.checkpoint` rebuilds the model from it."""
        return {
            "encoders": {m: _describe(e) for m, e in self.encoders.items()},
            "fusion": _describe(self.fusion, without=("dims",)),
            "tasks": {t: task.to_dict() for t, task in self.tasks.items()},
            "heads": {t: _describe(h, without=("dim", "outputs")) for t, h in self.heads.items()},
            "unimodal_heads": bool(self.unimodal_heads),
            "modality_dropout": self.modality_dropout,
            "missing": "masked" if self.missing is None else "learned",
            "reads": self.reads,
        }

    def tokens(self, inputs: Mapping[str, Sampled | Tokens]) -> dict[str, Tokens]:
        """What each encoder makes of its input: what the fusion gets."""
        return {m: self._tokens(m, encoder, inputs) for m, encoder in self.encoders.items()}

    def _tokens(self, name: str, encoder: nn.Module, inputs: Mapping[str, Sampled | Tokens]) -> Tokens:
        if isinstance(encoder, JointEncoder):
            tokens: Tokens = encoder({column: inputs[column] for column in encoder.specs})
            return tokens
        given = inputs[name]
        return given if isinstance(given, Tokens) else encoder(given)

    def _of_one(self, name: str, fused: Fused, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, C) logits of a task that reads one modality; 0 where that is absent."""
        modality = self.reads[name]
        if modality not in fused.unimodal:
            raise UserError(
                f"task {name!r} reads {modality!r} alone, but {type(self.fusion).__name__} gives no vector of one modality",
                "Choose a fusion that does, e.g. mer.fusion.AttentionPool",
            )
        logits: Tensor = self.heads[name](fused.unimodal[modality])
        return torch.where(seen[modality][:, None], logits, torch.zeros_like(logits))

    def _drop_modalities(self, inputs: Mapping[str, Sampled | Tokens]) -> dict[str, Sampled | Tokens]:
        """Hide whole modalities at random; a sample never loses its last one."""
        present = torch.stack([inputs[m].present for m in self.specs], dim=1)
        noise = torch.rand(present.shape, device=present.device)
        keep = present & (noise >= self.modality_dropout)
        luckiest = noise.masked_fill(~present, -1.0).argmax(dim=1)
        rescue = torch.zeros_like(keep).scatter_(1, luckiest[:, None], True)
        keep = torch.where(keep.any(1, keepdim=True), keep, rescue & present)
        return {m: inputs[m].keep(keep[:, i]) for i, m in enumerate(self.specs)}


def _columns(encoders: Mapping[str, Encoder]) -> dict[str, InputSpec]:
    """The columns that the encoders read, each with its one spec."""
    specs: dict[str, InputSpec] = {}
    for name, encoder in encoders.items():
        for column, spec in (encoder.specs if isinstance(encoder, JointEncoder) else {name: encoder.spec}).items():
            if specs.setdefault(column, spec) != spec:
                raise UserError(
                    f"the encoder {name!r} and another one want the column {column!r} prepared in different ways",
                    "Give the manifest a second column with the same files, and the encoder its name",
                )
    return specs


def noisy(tokens: Tokens, deviation: float) -> Tokens:
    """Tokens (B, T, D) with Gaussian noise, one draw per sample and column; padding stays as it is."""
    shift = deviation * torch.randn_like(tokens.values[:, :1])
    return Tokens(tokens.values + shift * tokens.mask[..., None], tokens.mask, tokens.spans)


def _check_noise(noise: Mapping[str, float], encoders: Mapping[str, Encoder]) -> None:
    for name, deviation in noise.items():
        if name not in encoders:
            raise UserError(
                f"model.token_noise names the unknown encoder {name!r}", f"The encoders are {', '.join(encoders)}"
            )
        if not 0 <= deviation < math.inf:
            raise UserError(f"model.token_noise of {name!r} is {deviation}", "Use 0 or more")


def _check_reads(reads: Mapping[str, str], tasks: Mapping[str, Task], encoders: Mapping[str, Encoder]) -> None:
    for name, modality in reads.items():
        if name not in tasks:
            raise UserError(f"model.reads names the unknown task {name!r}", f"The tasks are {', '.join(tasks)}")
        if tasks[name].level != "video":
            raise UserError(
                f"model.reads: task {name!r} is at frame level, and a modality has one vector per clip",
                "Leave it out; frame-level tasks read the fused sequence",
            )
        if modality not in encoders:
            raise UserError(
                f"model.reads: task {name!r} reads the unknown modality {modality!r}",
                f"The encoders are {', '.join(encoders)}",
            )
    if set(reads) == set(tasks):
        raise UserError(
            "model.reads leaves the fusion without a task", "Leave one task out, or train each modality by itself"
        )


def _describe(module: nn.Module, without: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(module, Configured):
        raise UserError(
            f"{type(module).__name__} cannot be stored in a checkpoint", "Let it inherit from mer.configured.Configured"
        )
    description = module.describe()
    description["init_args"] = {k: v for k, v in description["init_args"].items() if k not in without}
    return description
