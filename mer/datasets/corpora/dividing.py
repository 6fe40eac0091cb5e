"""Dividing clips into train, validation and test, or into folds, so that whole people (or other units) stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from mer.errors import UserError


def shares_of(text: str) -> list[float]:
    """`70/15/15` as numbers, two or three.

    Raises:
        UserError: they do not make 100.
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    if len(shares) not in (2, 3) or min(shares, default=0) <= 0 or abs(sum(shares) - 100) > 0.5:
        raise UserError(
            f"--split {text}",
            "Write percent that make 100: 70/15/15 (train/val/test) or 80/20 (train/test); equal parts are --folds",
        )
    return shares


def parts_of(
    rows: Sequence[Mapping[str, object]], shares: Sequence[float], by: str, seed: int, asked: str
) -> list[int]:
    """Part of each row: whole units go, in random order, to the part that lacks most clips; none stays empty.

    Args:
        rows: of a manifest.
        shares: of the clips, per part; they are brought to a sum of 1.
        by: `subject`, `group` or `clip`: what is kept together.
        seed: of the order.
        asked: the option, for messages.

    Raises:
        UserError: a clip whose unit is not known, or fewer units than parts.
    """
    units = [str(row.get("clip_id" if by == "clip" else by) or "") for row in rows]
    if not all(units):
        bare = next(str(row["clip_id"]) for row, unit in zip(rows, units, strict=True) if not unit)
        raise UserError(
            f"{asked} --by {by}, but the {by} of the clip {bare!r} is not known",
            "Say where it stands (--subject-level, --subject-regex, a column), or divide --by clip,"
            " which puts a person on both sides"
            if by == "subject"
            else f"Fill in a column '{by}' of a table",
        )
    sizes = Counter(units)
    if len(sizes) < len(shares):
        what = {"subject": "people", "group": "groups", "clip": "clips"}[by]
        raise UserError(
            f"{asked}: {len(sizes)} {what} do not fill {len(shares)} parts",
            f"Ask for {len(sizes)} at most, or record more",
        )
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    goals = [share / sum(shares) * len(rows) for share in shares]
    filled, chosen = [0.0] * len(shares), dict[str, int]()
    for place, unit in enumerate(order):
        empty = [part for part, size in enumerate(filled) if not size]
        choice = empty if len(order) - place <= len(empty) else range(len(shares))
        part = max(choice, key=lambda p: (goals[p] - filled[p], -p))
        chosen[unit] = part
        filled[part] += sizes[unit]
    return [chosen[unit] for unit in units]
