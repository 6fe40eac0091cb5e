"""Which clips stand on opposite sides of a split: by the `split` column, and by folds, of which each is once the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mer.datasets.manifest import SPLITS, Clip, Manifest


@dataclass(frozen=True)
class Partition:
    """One way to train and test.

    Attributes:
        name: `split`, or `fold 3`.
        parts: clips by what they are for: train, val, test.
    """

    name: str
    parts: dict[str, list[Clip]]


@dataclass(frozen=True)
class View:
    """Sides of the clips; two clips with different sides must have nothing in common.

    Attributes:
        name: `split` or `fold`.
        side: by line of the manifest; clips that take no part have none.
    """

    name: str
    side: dict[int, str]

    def apart(self, first: Clip, second: Clip) -> str:
        """`train and test` where the two stand on different sides, else empty."""
        a, b = self.side.get(first.row), self.side.get(second.row)
        return f"{a} and {b}" if a is not None and b is not None and a != b else ""


def views(manifest: Manifest) -> list[View]:
    """The split column where it divides the clips, and the folds where there are some."""
    found = []
    split = {c.row: c.split for c in manifest.clips if c.split}
    if len(set(split.values())) > 1:
        found.append(View("split", split))
    if len(manifest.folds) > 1:
        # As in `mer.datasets.protocol`: rows without a fold train in every one, but for those of split test.
        side = {c.row: f"fold {c.fold}" if c.fold else "no fold" for c in manifest.clips if c.fold or c.split != "test"}
        found.append(View("fold", side))
    return found


def crossing(views: Sequence[View], first: Clip, second: Clip) -> str:
    """`train and test` where some view sets two clips apart, else empty."""
    return next((words for view in views if (words := view.apart(first, second))), "")


def partitions(manifest: Manifest) -> list[Partition]:
    """Every way to train and test that the manifest states; one without sides where it states none."""
    clips = manifest.clips
    found: list[Partition] = []
    by_split = {s: [c for c in clips if c.split == s] for s in SPLITS}
    if any(by_split.values()):
        rest = [c for c in clips if not c.split and not c.fold]
        found.append(Partition("split", by_split | ({"no split": rest} if rest else {})))
    for fold in manifest.folds:
        test = [c for c in clips if c.fold == fold]
        train = [c for c in clips if c.fold != fold and (c.fold or c.split != "test")]
        found.append(Partition(f"fold {fold}", {"train": train, "test": test}))
    return found or [Partition("all", {"all": list(clips)})]
