"""The public checkpoints that `mer` knows: source, licence, hash, which encoder takes them. Names and facts, no tensors.

A name stands wherever a file of weights does (`encoder_weights: {video: mvit_v2_s-kinetics400}`). It is looked for in the
folder that the variable MER_WEIGHTS names (a mirror, for nodes without internet), then in the user's cache.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mer.errors import UserError


@dataclass(frozen=True)
class Published:
    """One public checkpoint.

    Attributes:
        name: what a config says.
        encoder: class path of the encoder that takes it.
        init_args: the arguments of the encoder that fit it, where they are not the defaults.
        files: names of its files, in a folder of its name where there are several.
        source: address that `mer weights fetch` downloads the files from; None where the author must be asked.
        licence: of the weights.
        sha256: of the one file, or its first digits where the author published no more; None where unknown.
        about: what it was trained on, and the paper.
    """

    name: str
    encoder: str
    files: tuple[str, ...]
    licence: str
    about: str
    init_args: tuple[tuple[str, object], ...] = ()
    source: str | None = None
    sha256: str | None = None


CATALOGUE: dict[str, Published] = {}


def folders() -> list[Path]:
    """Where published weights are looked for, the first one first."""
    mirror = os.environ.get("MER_WEIGHTS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mer" / "weights"
    return [*([Path(mirror)] if mirror else []), cache]


def locate(named: str | Path) -> Path:
    """The file or folder of weights that a path or a name of the catalogue stands for.

    Raises:
        UserError: a name of the catalogue whose files are in none of the folders.
    """
    path = Path(named)
    entry = CATALOGUE.get(str(named))
    if path.exists() or entry is None:
        return path
    for folder in folders():
        place = folder / (entry.files[0] if len(entry.files) == 1 else entry.name)
        if place.exists():
            return place
    raise UserError(
        f"the weights {entry.name!r} are not on this machine",
        f"Where there is internet: mer weights fetch {entry.name}",
    )
