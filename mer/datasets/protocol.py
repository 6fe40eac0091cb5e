"""Who may be trained on and who is scored: splits by column, fold or inner subject split, and the overlap guard."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer.datasets.manifest import Clip, Manifest
from mer.errors import UserError

EVERYTHING = "all"


@dataclass(frozen=True)
class Split:
    """Clips of a run.

    Attributes:
        train, val, test: the rows.
        stamp: what every result must say about the split, e.g. that subjects overlap; empty where nothing is wrong.
    """

    train: tuple[Clip, ...]
    val: tuple[Clip, ...]
    test: tuple[Clip, ...]
    stamp: str


def split_clips(manifest: Manifest, fold: str | None, val_fraction: float, seed: int) -> Split:
    """Divide a manifest.

    Args:
        manifest: the corpus.
        fold: this fold is the test; every other row trains, but for those of split `test`, which stay closed: where a corpus
            has an official test split, folds divide the rest. `all` scores every row and trains on none, as for a model of
            another corpus. None uses the split column.
        val_fraction: share of the training subjects (clips where there are no subjects) set aside as an inner
            validation split, where the manifest names none; 0 for none.
        seed: of the inner split.

    Raises:
        UserError: an unknown fold, no rows, or subjects shared with the test where the corpus says otherwise.
    """
    if fold == EVERYTHING and fold not in manifest.folds:
        return Split((), (), manifest.clips, "")
    if fold is not None:
        if fold not in manifest.folds:
            known = ", ".join(manifest.folds) or "none (the manifest has no fold column)"
            raise UserError(f"{manifest.path}: there is no fold {fold!r}", f"The folds are {known}")
        test = [c for c in manifest.clips if c.fold == fold]
        train = [c for c in manifest.clips if c.fold != fold and (c.fold or c.split != "test")]
        val: list[Clip] = []
        if not train:
            raise UserError(f"{manifest.path}: fold {fold!r} holds every clip, none is left to train on", "Add folds")
    else:
        by_split = {s: [c for c in manifest.clips if c.split == s] for s in ("train", "val", "test")}
        train, val, test = by_split["train"], by_split["val"], by_split["test"]
        if not train and not val and not test:
            remedy = f"Name one with --data.fold ({', '.join(manifest.folds)})" if manifest.folds else "Fill in 'split'"
            raise UserError(f"{manifest.path}: no row has a split and no fold was named", remedy)
    stamp = guard(manifest, train + val, test)
    if train and not val and val_fraction > 0:
        train, val = _inner(train, val_fraction, seed)
    return Split(tuple(train), tuple(val), tuple(test), stamp)


def guard(manifest: Manifest, seen: Sequence[Clip], test: Sequence[Clip]) -> str:
    """Compare the people in training and test; the stamp for every result, empty where they are apart.

    Raises:
        UserError: they share a subject although the corpus declares `subject_disjoint: true`.
    """
    corpus = manifest.corpus
    shared = sorted({c.subject for c in seen if c.subject} & {c.subject for c in test})
    if shared and corpus.subject_disjoint == "true":
        clip = next(c for c in test if c.subject in shared)
        raise UserError(
            f"{manifest.path}, line {clip.row}: subject {clip.subject!r} is in training and in test"
            f" ({len(shared)} such subject(s)), but corpus.yaml declares subject_disjoint: true",
            "Move all clips of a subject to one side, or declare subject_disjoint: false",
        )
    nameless = next((c for c in (*seen, *test) if not c.subject), None)
    if nameless is not None and test and corpus.subject_disjoint == "true":
        raise UserError(
            f"{manifest.path}, line {nameless.row}: no subject, but corpus.yaml declares subject_disjoint: true",
            "Fill in the subject of every clip, or declare subject_disjoint: unknown",
        )
    if shared:
        stamp = f"{len(shared)} subject(s) occur in training and test"
    elif test and nameless is not None:
        stamp = "subjects are not known for every clip, so an overlap cannot be excluded"
    else:
        return ""
    warnings.warn(f"{corpus.name}: {stamp}; the score is optimistic for new people", stacklevel=2)
    return stamp


def _inner(clips: Sequence[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Set whole subjects aside; single clips only where no subject is known."""
    units = sorted({c.subject or c.clip_id for c in clips})
    held = max(1, round(fraction * len(units)))
    if held >= len(units):
        raise UserError(
            f"{len(units)} training subject(s) are too few for an inner validation split", "Set data.val_fraction to 0"
        )
    chosen = set(np.random.default_rng(seed).permutation(units)[:held].tolist())
    inner = [c for c in clips if (c.subject or c.clip_id) in chosen]
    return [c for c in clips if (c.subject or c.clip_id) not in chosen], inner
