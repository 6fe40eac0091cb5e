"""Labels of single modalities, made from the label of the whole clip while training goes on (ULGM of Self-MM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mer.labels import LabelSpace, Task

_EPS = 1e-8


class SelfLabels:
    """The unimodal label generation module of Self-MM (Yu et al., AAAI 2021, arXiv 2102.04830), for every kind of task.

    A clip may be glad as a whole and sad to hear. Whether it is, is read off how near the vector of a modality lies to the
    centre of its positive and of its negative clips, compared with how the fused vector does.

    The paper's, for continuous tasks: the centres C of the vectors F of positive and of negative clips, by each
    modality's own labels, and by the clip's for the fused vector; the distance D = |F - C|^2 / sqrt(d); the relative
    distance a = (D_neg - D_pos) / (D_pos + eps); the new label y_s = y_m + (a_s - a_m) / 2 * (y_m + a_m) / a_m, clamped to
    the range of the labels; its mean with the old one in epoch i = 2, 3 ...: (i - 1) / (i + 1) old + 2 / (i + 1) new; the first
    epoch learns from the clip's label; the loss tanh(|y_s - y_m|) |prediction - y_s|, mean over clips, so that a head learns
    from clips whose modality differs, and from none in the first epoch. A label is renewed after it was learnt from. (The
    released code differs from the paper: it takes |F - C| as it is, and counts a label of 0 as positive.)

    Ours: centres are those of the last whole epoch (the paper keeps every vector and renews the centres with each batch,
    so that they depend on the order of clips); the range is that of the training labels; where these have one sign, the
    middle of their range stands for 0; several dimensions have their own centres. A clip whose label is 0 belongs to neither
    centre, as in the paper; where a side has no clip, the label stays as it is.

    Ours, too: classes and multilabel tasks. Each class is a dimension that is 1 where it applies and -1 elsewhere, clamped to
    that; (y + 1) / 2 over the classes, divided by its sum, is a soft target of cross-entropy (a sigmoid's, of a multilabel
    task, undivided), and the weight is the tanh of the summed differences. Class weights of the task's loss do not count here.

    On synthetic clips of which three in ten have a voice that contradicts label and words (tests/test_self_labels.py), the
    generated label took the voice's side in about nine of ten of these, the shared one in none. Its size was coarser (mean
    absolute error 0.32 to 0.41, of the shared label 0.19 to 0.23, four seeds), and a head that learnt the shared label told
    the voice's side more often (0.89 to 0.94 against 0.52 to 0.89): what is shown is that the side is recovered in the
    labels, not that a model gains by it.

    Labels are kept by clip id, so the order of clips does not matter. One process only: in a job of several each sees
    other clips in every epoch.

    Args:
        tasks: the video-level tasks that have auxiliary heads.
        modalities: whose labels are made.
    """

    def __init__(self, tasks: Mapping[str, Task], modalities: Sequence[str]):
        self.spaces = {name: task.space for name, task in tasks.items()}
        self.modalities = list(modalities)
        self.scales = {name: _Scale() for name in tasks}
        self.memories: dict[str, _Memory] = {}

    def fit(self, name: str, labels: Tensor) -> None:
        """Take the range of a continuous task from its training labels (n, C); without it nothing is clamped."""
        if self.spaces[name].kind == "continuous" and len(labels):
            low, high = labels.amin(0), labels.amax(0)
            one_sided = (low >= 0) | (high <= 0)
            self.scales[name] = _Scale(low, high, torch.where(one_sided, (low + high) / 2, torch.zeros_like(low)))

    def losses(
        self,
        name: str,
        logits: Mapping[str, Tensor],
        target: Tensor,
        clip_ids: Sequence[str],
        seen: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The auxiliary losses of a batch, from the labels as they are.

        Args:
            name: of the task.
            logits: per modality (B, C).
            target: the labels of the clips, as in `Batch`; unlabelled ones teach nothing.
            clip_ids: B names.
            seen: per modality (B,) bool, where it is there.

        Returns:
            per modality a scalar float32.
        """
        labelled, whole = self._signed(name, target)
        own = self._current(name, clip_ids, whole)
        space, scale = self.spaces[name], self.scales[name]
        found = {}
        for number, m in enumerate(self.modalities):
            if m in logits:
                rows = labelled & seen[m]
                goal, shared = (_target(y[rows], space, scale) for y in (own[:, number], whole))
                found[m] = _loss(logits[m][rows].float(), goal, shared, space)
        return found

    @torch.no_grad()
    def renew(
        self,
        name: str,
        epoch: int,
        fused: Tensor,
        unimodal: Mapping[str, Tensor],
        target: Tensor,
        clip_ids: Sequence[str],
        seen: Mapping[str, Tensor],
    ) -> None:
        """Make new labels for the clips of a batch, and let its vectors count for the centres of the next epoch.

        Args:
            name: of the task.
            epoch: from 0.
            fused: (B, D) vectors of the clips.
            unimodal: per modality (B, D).
            target, clip_ids, seen: as in `losses`.
        """
        with torch.autocast(fused.device.type, enabled=False):  # sums over a corpus want all their digits
            labelled, whole = self._signed(name, target)
            vectors = torch.stack(
                [fused, *(unimodal.get(m, torch.zeros_like(fused)) for m in self.modalities)], 1
            ).float()
            here = torch.stack([seen[m] if m in unimodal else torch.zeros_like(labelled) for m in self.modalities], 1)
            here = here & labelled[:, None]
            memory = self.memories.get(name)
            if memory is None:
                memory = self.memories[name] = _Memory.empty(len(self.modalities), whole.shape[1], vectors)
            memory.to(vectors.device)
            memory.begin(epoch)
            rows = memory.rows(clip_ids, whole)
            old = memory.labels[rows]
            made = self.scales[name].clamp(_generated(whole, vectors, memory.centres), self.spaces[name])
            i = epoch + 1
            new = (i - 1) / (i + 1) * old + 2 / (i + 1) * made
            # A sampler may draw a clip twice; its label is renewed once per epoch.
            first = torch.tensor(_first(clip_ids), device=here.device)
            due = here & first[:, None] & (memory.renewed[rows] < epoch)
            now = torch.where(due[..., None] & torch.isfinite(made), new, old)
            memory.labels[rows[first]] = now[first]
            memory.renewed[rows[first]] = torch.where(due, epoch, memory.renewed[rows])[first]
            memory.count(
                vectors, torch.cat([whole[:, None], memory.labels[rows]], 1), torch.cat([labelled[:, None], here], 1)
            )

    def labels(self, name: str) -> dict[str, dict[str, Tensor]]:
        """Per modality and clip its label as it is now: a number per dimension, or a share per class."""
        memory = self.memories.get(name)
        if memory is None:
            return {m: {} for m in self.modalities}
        space, scale = self.spaces[name], self.scales[name]
        columns = [_target(memory.labels[:, number], space, scale).cpu() for number in range(len(self.modalities))]
        return {
            m: {clip: column[row] for clip, row in memory.clips.items()}
            for m, column in zip(self.modalities, columns, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, all that going on needs."""
        return {name: memory.to_dict() for name, memory in self.memories.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.memories = {name: _Memory.from_dict(values) for name, values in state.items()}

    def _signed(self, name: str, target: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) which are labelled, and (B, C) labels whose sign tells the two sides; 0 for what is unlabelled."""
        space = self.spaces[name]
        if space.kind == "classes":
            labelled = target >= 0
            signed = 2 * F.one_hot(target.clamp(min=0), len(space)).float() - 1
        else:
            labelled = torch.isfinite(target).all(1)
            number = torch.nan_to_num(target.float())
            signed = self.scales[name].centred(number) if space.kind == "continuous" else 2 * number - 1
        return labelled, signed * labelled[:, None]

    def _current(self, name: str, clip_ids: Sequence[str], whole: Tensor) -> Tensor:
        """(B, M, C) signed labels; those of the clip where a modality has none of its own yet."""
        shared = whole[:, None].repeat(1, len(self.modalities), 1)
        memory = self.memories.get(name)
        if memory is None:
            return shared
        memory.to(whole.device)
        known = [memory.clips.get(clip, -1) for clip in clip_ids]
        rows = torch.tensor(known, device=whole.device)
        return torch.where((rows >= 0)[:, None, None], memory.labels[rows], shared)


@dataclass(frozen=True)
class _Scale:
    """The labels of a continuous task: least, greatest, and what lies between the two sides, (C,) each."""

    low: Tensor | None = None
    high: Tensor | None = None
    middle: Tensor | None = None

    def centred(self, labels: Tensor) -> Tensor:
        return labels if self.middle is None else labels - self.middle.to(labels.device)

    def restored(self, signed: Tensor) -> Tensor:
        return signed if self.middle is None else signed + self.middle.to(signed.device)

    def clamp(self, signed: Tensor, space: LabelSpace) -> Tensor:
        if space.kind != "continuous":
            return signed.clamp(-1, 1)
        if self.low is None or self.high is None:
            return signed
        low, high = (self.centred(x.to(signed.device)) for x in (self.low, self.high))
        return torch.maximum(torch.minimum(signed, high), low)


@dataclass
class _Memory:
    """What is known of one task: N clips, M modalities, C dimensions or classes, vectors of width D; 0 of M + 1 is the clip.

    Attributes:
        clips: their numbers by id.
        labels: (N, M, C) signed.
        renewed: (N, M) int64, the epoch of the last renewal; 0 for none, as the first epoch has none.
        epoch: whose vectors are being summed.
        sums: (M + 1, C, 2, D) of vectors of positive and negative clips.
        counts: (M + 1, C, 2) of such clips.
        centres: (M + 1, C, 2, D) of the epoch before; NaN where there was no such clip.
    """

    clips: dict[str, int]
    labels: Tensor
    renewed: Tensor
    epoch: int
    sums: Tensor
    counts: Tensor
    centres: Tensor

    @classmethod
    def empty(cls, modalities: int, size: int, vectors: Tensor) -> _Memory:
        shape = (modalities + 1, size, 2)
        sums = vectors.new_zeros(*shape, vectors.shape[2])
        return cls(
            {},
            vectors.new_zeros(0, modalities, size),
            torch.zeros(0, modalities, dtype=torch.int64, device=vectors.device),
            0,
            sums,
            vectors.new_zeros(shape),
            torch.full_like(sums, torch.nan),
        )

    def to_dict(self) -> dict[str, Any]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {k: v.detach().cpu().clone() for k, v in found.items() if isinstance(v, Tensor)}
        return {**found, **tensors, "clips": list(self.clips)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> _Memory:
        tensors = {k: v.clone() for k, v in values.items() if isinstance(v, Tensor)}
        return cls(**{**values, **tensors, "clips": {clip: n for n, clip in enumerate(values["clips"])}})

    def to(self, device: torch.device) -> None:
        for f in fields(self):
            if isinstance(value := getattr(self, f.name), Tensor) and value.device != device:
                setattr(self, f.name, value.to(device))

    def begin(self, epoch: int) -> None:
        """Where an epoch has begun, what the last one summed up gives the centres."""
        if epoch != self.epoch:
            none = self.counts == 0
            mean = self.sums / self.counts.clamp(min=1)[..., None]
            self.centres = mean.masked_fill(none[..., None], torch.nan)
            self.sums, self.counts = torch.zeros_like(self.sums), torch.zeros_like(self.counts)
            self.epoch = epoch

    def rows(self, clip_ids: Sequence[str], whole: Tensor) -> Tensor:
        """(B,) numbers of the clips; new ones begin with the label of the clip."""
        new = [n for n, first in enumerate(_first(clip_ids)) if first and clip_ids[n] not in self.clips]
        for n in new:
            self.clips[clip_ids[n]] = len(self.clips)
        if new:
            labels = whole[new][:, None].repeat(1, self.labels.shape[1], 1)
            self.labels = torch.cat([self.labels, labels])
            self.renewed = torch.cat([self.renewed, self.renewed.new_zeros(len(new), self.renewed.shape[1])])
        return torch.tensor([self.clips[clip] for clip in clip_ids], device=whole.device)

    def count(self, vectors: Tensor, labels: Tensor, here: Tensor) -> None:
        """Add vectors (B, M + 1, D) with signed labels (B, M + 1, C) where `here` (B, M + 1)."""
        sides = torch.stack([labels > 0, labels < 0], 3) & here[..., None, None]
        side = sides.to(vectors.dtype)
        vectors = vectors.masked_fill(~here[..., None], 0.0)
        self.sums += torch.einsum("bmcs,bmd->mcsd", side, vectors)
        self.counts += side.sum(0)


def _first(clip_ids: Sequence[str]) -> list[bool]:
    """Whether each place is the first with its clip."""
    place = {clip: n for n, clip in reversed(list(enumerate(clip_ids)))}
    return [place[clip] == n for n, clip in enumerate(clip_ids)]


def _generated(whole: Tensor, vectors: Tensor, centres: Tensor) -> Tensor:
    """(B, M, C) new signed labels of the modalities from those of the clips (B, C); not finite where a centre is unknown.

    Args:
        whole: (B, C) signed.
        vectors: (B, M + 1, D), the fused one first.
        centres: (M + 1, C, 2, D), of positive and negative clips.
    """
    difference = vectors[:, :, None, None] - centres
    distance = difference.square().sum(-1) / vectors.shape[2] ** 0.5  # (B, M + 1, C, 2)
    positive, negative = distance.unbind(-1)
    relative = (negative - positive) / (positive + _EPS)
    fused, own = relative[:, :1], relative[:, 1:]
    divisor = torch.where(fused < 0, fused.clamp(max=-_EPS), fused.clamp(min=_EPS))
    y = whole[:, None]
    return y + (own - fused) / 2 * (y + fused) / divisor


def _target(signed: Tensor, space: LabelSpace, scale: _Scale) -> Tensor:
    """Signed labels (N, C) as what a head is to say: numbers, probabilities, or shares that sum to 1."""
    if space.kind == "continuous":
        return scale.restored(signed)
    share = (signed + 1) / 2
    if space.kind == "multilabel":
        return share
    total = share.sum(1, keepdim=True)
    even = torch.full_like(share, 1 / share.shape[1])
    return torch.where(total > _EPS, share / total.clamp(min=_EPS), even)


def _loss(logits: Tensor, goal: Tensor, shared: Tensor, space: LabelSpace) -> Tensor:
    """Mean over clips of what a head (N, C) loses against its own label, weighted by how far that is from the clip's."""
    if not len(logits):
        return logits.sum() * 0.0
    apart = (goal - shared).abs()
    if space.kind == "continuous":
        return (apart.tanh() * (logits - goal).abs()).mean()
    if space.kind == "multilabel":
        return (apart.tanh() * F.binary_cross_entropy_with_logits(logits, goal, reduction="none")).mean()
    return (apart.sum(1).tanh() * F.cross_entropy(logits, goal, reduction="none")).mean()
