"""Whether work that lies in a run folder was done the way that is asked for now: same recipe, same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mer.errors import UserError

# Where, how fast and how talkative; these do not decide about the numbers.
_BESIDE_THE_POINT = {
    "out", "tensorboard", "wandb", "allow_module", "checkpoint", "data.manifest", "data.num_workers", "data.keep_in_memory",
    "data.frame_cache", "data.store",  # other ways to the same numbers
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.logger",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.profiler",
    "trainer.default_root_dir",
}  # fmt: skip


def check(folder: Path, config: str, rows: str, but: tuple[str, ...] = ()) -> None:
    """Compare what a run folder recorded with what is asked now.

    Args:
        folder: with `config.yaml` and `environment.json`, as `RunFolder.record` wrote them; nothing is checked without.
        config: the resolved config of now.
        rows: hash of the manifest and its corpus.yaml.
        but: further keys that may differ.

    Raises:
        UserError: naming the first key that differs, or the manifest.
    """
    recorded = folder / "config.yaml"
    if not recorded.is_file():
        return
    old, new = _keys(recorded.read_text(encoding="utf-8")), _keys(config)
    different = sorted(k for k in {*old, *new} if old.get(k) != new.get(k) and k not in but)
    remedy = "Choose another --out, or delete the folder"
    if different:
        raise UserError(f"{folder}: this run was begun with another {different[0]}", remedy)
    environment = folder / "environment.json"
    if environment.is_file():
        then = json.loads(environment.read_text(encoding="utf-8")).get("data", {}).get("rows")
        if then is not None and then != rows:
            raise UserError(f"{folder}: this run was begun with another manifest or corpus.yaml", remedy)


def _keys(config: str) -> dict[str, Any]:
    """The keys of a resolved config that decide about the numbers, dotted; lists stay whole."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value

    walk("", yaml.safe_load(config))
    return {k: v for k, v in flat.items() if not any(k == b or k.startswith(b + ".") for b in _BESIDE_THE_POINT)}
