"""Folds that keep the clips of one person, or of one video, together and hold like shares of every class. No random draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mer.errors import UserError


def grouped_folds(units: Iterable[tuple[str, str]], count: int) -> dict[str, int]:
    """The fold of every group.

    The largest group first, each goes where it leaves every class spread most evenly; a tie goes to the lower fold.

    Args:
        units: (group, class) of every clip.
        count: of folds.

    Raises:
        UserError: there are fewer groups than folds.
    """
    groups: dict[str, Counter[str]] = {}
    for group, label in units:
        groups.setdefault(group, Counter())[label] += 1
    if not 2 <= count <= len(groups):
        remedy = f"Choose from 2 to {len(groups)} folds" if len(groups) > 1 else "Leave the folds out, or add people"
        raise UserError(f"{count} folds of {len(groups)} people or videos", remedy)
    whole = sum(groups.values(), Counter[str]())
    filled = [Counter[str]() for _ in range(count)]
    found: dict[str, int] = {}
    for group, clips in sorted(groups.items(), key=lambda item: (-item[1].total(), item[0])):
        # What the sum of squares of all shares grows by: a class counts alike whether it is common or rare.
        costs = [sum((2 * fold[c] + n) * n / whole[c] ** 2 for c, n in clips.items()) for fold in filled]
        best = min(range(count), key=lambda k: (round(costs[k], 12), filled[k].total(), k))
        filled[best] += clips
        found[group] = best
    return found
