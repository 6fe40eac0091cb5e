"""`{fold}` in a value of a config stands for the fold that is run: what each fold has of its own is named once for all.

    model: {encoder_weights: {audio: 'runs/audio/fold{fold}/model.safetensors'}}

The commands that read a config (`fit`, `test`, `crossval`, `compare-fusions`) put the fold of `data.fold` there, `extract`
each of its `--folds`; the resolved config of a run holds what came of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mer.errors import UserError

MARK = "{fold}"


def marked(config: Any) -> dict[str, str]:
    """The values of a config, parsed or as YAML gave it, that hold the mark: dotted key to value."""
    return {key: value for _, _, key, value in _texts(config, "") if MARK in value}


def fill(config: Any, fold: str) -> None:
    """Put the name of the fold in the place of every mark, in place."""
    for node, place, _, value in list(_texts(config, "")):
        if MARK in value:
            node[place] = value.replace(MARK, fold)


def refuse(path: Path, flag: str) -> None:
    """Let no mark stand in a path that is one for all folds.

    Raises:
        UserError: there is one.
    """
    if MARK in str(path):
        raise UserError(f"{flag} {path}: one folder holds all folds", f"Leave {MARK} out of it")


def _texts(node: Any, prefix: str) -> Iterator[tuple[Any, Any, str, str]]:
    """Every text of a config: what holds it, its place therein, the dotted key, and the text."""
    inside: Any = ()
    if isinstance(node, Namespace | dict):
        inside = (vars(node) if isinstance(node, Namespace) else node).items()
    elif isinstance(node, list):
        inside = enumerate(node)
    for place, value in inside:
        key = f"{prefix}.{place}" if prefix else str(place)
        if isinstance(value, str):
            yield node, place, key, value
        else:
            yield from _texts(value, key)
