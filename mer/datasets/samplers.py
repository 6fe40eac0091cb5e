"""How often, and in what order, an epoch shows each training clip: evenly, balanced by class, in two stages, by subject.

    data:
      sampler:
        class_path: mer.datasets.samplers.ClassBalanced
        init_args: {task: emotion, power: 0.5}

Every random draw is a hash of (seed, epoch, clip id), and of nothing else: a clip that is added or taken away leaves the
others in the order they had. An epoch always has as many places as there are training clips.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler

from mer.datasets.manifest import Clip
from mer.errors import UserError
from mer.labels import Task

# What a draw is for; the same clip gets independent numbers for each.
_ORDER, _COPIES, _FILL = 1, 2, 3


class Shuffled:
    """Every clip once, in a new order each epoch. What is used where `data.sampler` is not set.

    Subclasses say how often a clip is shown.
    """

    def weights(self, clips: Sequence[Clip], tasks: Mapping[str, Task], epoch: int) -> np.ndarray:
        """How often each clip is shown on average, up to a factor.

        Args:
            clips: the N training clips.
            tasks: what is trained.
            epoch: counted from 0.

        Returns:
            (N,) float64, none below 0.

        Raises:
            UserError: the clips, or the tasks, do not allow it.
        """
        return np.ones(len(clips))


class ClassBalanced(Shuffled):
    """Rare classes more often: a clip of a class with n clips has the weight n^-power.

    Args:
        task: a video-level task with classes, or with labels of which any number applies.
        power: 1 shows every class equally often; 0.5 is the square root; 0 is `Shuffled`.

    A clip without a label of this task is shown once per epoch, as ever; the rest of the epoch is shared out among the
    labelled ones. Where several labels apply, the rarest counts (as in the repeat factors of LVIS, Gupta et al., CVPR 2019),
    and `none of them` is a class of its own. A loss that is weighted by class as well corrects twice.
    """

    def __init__(self, task: str, power: float = 1.0):
        if not 0 <= power <= 1:
            raise UserError(
                f"data.sampler: power is {power:g}", "Use 0 (as they come) to 1 (every class equally often)"
            )
        self.task, self.power = task, power

    def weights(self, clips: Sequence[Clip], tasks: Mapping[str, Task], epoch: int) -> np.ndarray:
        task = tasks.get(self.task)
        if task is None:
            raise UserError(f"data.sampler: there is no task {self.task!r}", f"The tasks are {', '.join(tasks)}")
        if task.level != "video" or task.space.kind == "continuous":
            raise UserError(
                f"data.sampler: the task {self.task!r} is {task.space.kind}, at {task.level} level",
                "Balance by a video-level task with classes, or use SubjectBalanced",
            )
        many = task.space.kind == "multilabel"
        groups = [_classes(clip.labels.get(self.task), many) for clip in clips]
        counts = Counter(label for labels in groups for label in labels)
        own = np.array([min((counts[label] for label in labels), default=0) for labels in groups], float)
        return _evened(own, self.power)


class TwoStage(ClassBalanced):
    """First every clip once, later balanced by class (decoupled training, Kang et al., ICLR 2020).

    Args:
        task, power: as of `ClassBalanced`.
        from_epoch: the first epoch (counted from 0) that is balanced. Training the classifier alone from then on (cRT) takes a
            second run that begins with the weights of the first: nothing is frozen here.
    """

    def __init__(self, task: str, from_epoch: int, power: float = 1.0):
        super().__init__(task, power)
        if from_epoch < 0:
            raise UserError(f"data.sampler: from_epoch is {from_epoch}", "Count epochs from 0")
        self.from_epoch = from_epoch

    def weights(self, clips: Sequence[Clip], tasks: Mapping[str, Task], epoch: int) -> np.ndarray:
        balanced = super().weights(clips, tasks, epoch)  # in the first epoch, too: what is wrong is said at the start
        return balanced if epoch >= self.from_epoch else np.ones(len(clips))


class SubjectBalanced(Shuffled):
    """Every person equally often, however many clips there are of each. A clip without a subject is shown once per epoch."""

    def weights(self, clips: Sequence[Clip], tasks: Mapping[str, Task], epoch: int) -> np.ndarray:
        counts = Counter(clip.subject for clip in clips)
        if set(counts) == {""}:
            raise UserError(
                "data.sampler: no training clip names its subject", "Fill in 'subject', or use another sampler"
            )
        return _evened(np.array([counts[clip.subject] if clip.subject else 0 for clip in clips], float), 1.0)


def _classes(label: Sequence[float] | None, many: bool) -> list[Hashable]:
    """What a clip counts among; nothing where it is unlabelled."""
    if label is None:
        return []
    if not many:
        return [int(label[0])]
    return [place for place, on in enumerate(label) if on] or ["none"]


def _evened(counts: np.ndarray, power: float) -> np.ndarray:
    """counts^-power with mean 1; a count of 0 stands for a clip that belongs nowhere, and has 1."""
    known = counts > 0
    weights = np.ones(len(counts))
    if known.any():
        weights[known] = counts[known] ** -power
        weights[known] /= weights[known].mean()
    return weights


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index) pairs of an epoch, dealt out to the processes of a DDP job.

    A clip of weight w is shown floor(w + u) times, where weights have mean 1 and u in [0, 1) is drawn of (seed, epoch, clip
    id). Order is that of a hash of (seed, epoch, clip id, repetition). The epoch has as many places as there are clips:
    what is too much is left out at its end, what is missing is drawn by weight.

    Args:
        clips: the training clips.
        tasks: what is trained.
        policy: how often each is shown.
        seed: of all draws.
        rank, world: this process, and how many there are.

    Lightning calls `set_epoch`. Every process gets equally many (the order is wrapped round), as DDP requires. After an
    interruption, `go_on` leaves out what an epoch has already seen.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        tasks: Mapping[str, Task],
        policy: Shuffled | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        self.clips, self.tasks, self.policy = clips, tasks, policy or Shuffled()
        self.seed, self.rank, self.world, self.epoch = seed, rank, world, 0
        self._keys = clip_keys([clip.clip_id for clip in clips])
        self._begun: tuple[int, int] | None = None
        self.policy.weights(clips, tasks, 0)  # what is wrong is said before the training

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def go_on(self, epoch: int, seen: int) -> None:
        """Begin with this epoch, without the first `seen` pairs of this process."""
        self.epoch, self._begun = epoch, (epoch, seen)

    def __len__(self) -> int:
        return -(-len(self.clips) // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.resize(self.order(), len(self) * self.world)
        seen = self._begun[1] if self._begun and self._begun[0] == self.epoch else 0
        return iter([(self.epoch, index) for index in order[self.rank :: self.world][seen:].tolist()])

    def order(self) -> np.ndarray:
        """(N,) indices of the clips of this epoch, of all processes together."""
        size = len(self.clips)
        if not size:
            return np.zeros(0, np.int64)
        weights = self.policy.weights(self.clips, self.tasks, self.epoch)
        weights = weights * (size / weights.sum())
        copies = (weights + _uniform(self._draw(_COPIES, self._keys))).astype(np.int64)
        if missing := size - int(copies.sum()):
            copies += self._filling(weights, max(missing, 0))
        index = np.repeat(np.arange(size), copies)
        first = np.cumsum(copies) - copies
        repetition = np.arange(len(index)) - first[index]
        ranks = self._draw(_ORDER, self._keys[index] + repetition.astype(np.uint64) * _ODD)
        return index[np.argsort(ranks, kind="stable")][:size]

    def _filling(self, weights: np.ndarray, missing: int) -> np.ndarray:
        """(N,) further copies, `missing` in all, drawn by weight: the first to ring of clocks that ring at these rates."""
        more = np.zeros(len(weights), np.int64)
        waits = -np.log1p(-_uniform(self._draw(_FILL, self._keys))) + 1e-12
        with np.errstate(divide="ignore"):
            rings = waits / weights
        while missing > 0:  # once, unless hardly any clip has a weight
            some = np.argsort(rings, kind="stable")[: min(missing, int(np.isfinite(rings).sum()))]
            more[some] += 1
            missing -= len(some)
        return more

    def _draw(self, purpose: int, keys: np.ndarray) -> np.ndarray:
        """(N,) uint64, one per key, of (seed, epoch, purpose, key)."""
        state = np.zeros(1, np.uint64)
        for part in (self.seed % 2**64, self.epoch, purpose):
            state = _mixed(state + np.uint64(part) + _ODD)
        return _mixed(keys ^ state)


_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


def clip_keys(clip_ids: Sequence[str]) -> np.ndarray:
    """(N,) uint64, a number per name that is the same in every process and version."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in clip_ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """(N,) uint64 in which every bit depends on every bit: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _uniform(bits: np.ndarray) -> np.ndarray:
    """(N,) float64 in [0, 1), of 32 bits, so that a whole number plus it never rounds up to the next."""
    return (bits >> np.uint64(32)).astype(np.float64) / 2**32
