"""An overlay: settings by class, laid over every place of a config where that class stands. `configs/tiny.yaml` is one.

    mer.encoders.MViTv2: {embed: 8, depths: [1, 1, 1, 1]}
    mer.fusion.AttentionPool: {dim: 16}
    data: {batch_size: 4}
    model: {encoder_weights: null}

A key with dots is a class path, and its values become `init_args` wherever the config names that class; the other keys are
those of any config. `--overlay FILE` names one, or the environment variable MER_OVERLAY for a whole session.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from mer.errors import UserError

VARIABLE = "MER_OVERLAY"


def chosen(option: str | None) -> Path | None:
    """The overlay that the command or the environment names."""
    name = option or os.environ.get(VARIABLE)
    return Path(name) if name else None


def read(path: Path) -> dict[str, Any]:
    """The keys of an overlay.

    Raises:
        UserError: missing, or not a mapping of mappings.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"overlay {path}: not readable ({error})", "Name a YAML file") from None
    if not isinstance(content, Mapping) or not all(isinstance(value, Mapping) for value in content.values()):
        raise UserError(f"overlay {path}: not settings by class", "See configs/tiny.yaml")
    return {str(key): dict(value) for key, value in content.items()}


def lay(settings: Mapping[str, Mapping[str, Any]], config: Namespace | dict[str, Any]) -> None:
    """Change a config in place, parsed or as YAML gave it.

    Raises:
        UserError: a class path leads nowhere.
    """
    classes = {_imported(key): value for key, value in settings.items() if "." in key}
    _walk(config, classes)
    for section, values in settings.items():
        if "." not in section:
            for key, value in values.items():
                if isinstance(config, dict):
                    config.setdefault(section, {})[key] = value
                elif f"{section}.{key}" in config:
                    config[f"{section}.{key}"] = value
                else:
                    raise UserError(f"the overlay sets {section}.{key}, which no config has", "Correct the key")


def _walk(node: Any, classes: Mapping[Any, Mapping[str, Any]]) -> None:
    if isinstance(node, Namespace | dict):
        values = vars(node) if isinstance(node, Namespace) else node
        path = values.get("class_path")
        if isinstance(path, str) and (extra := classes.get(_imported(path))):
            given = values.get("init_args")
            if given is None:
                values["init_args"] = given = type(node)()
            for key, value in extra.items():
                given[key] = value
        for inner in list(values.values()):
            _walk(inner, classes)
    elif isinstance(node, list | tuple):
        for inner in node:
            _walk(inner, classes)


def _imported(path: str) -> Any:
    """What a class path names: one class has several paths."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{path}: there is no such class", "Correct the class path") from None
