"""Checkpoints: tensors and a plain JSON description in one safetensors file. Nothing in it is ever executed."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import mer
from mer.configured import build
from mer.encoders import catalogue
from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.files import draft_of
from mer.fusion.base import Fusion
from mer.labels import Task
from mer.model import EmotionModel

SCHEMA = 2  # 1: pooling over time and JMT had a bias in front of a softmax, which nothing saw
_KEY = "mer"
_REMEDY = "Pass a model.safetensors that mer wrote (it lies in the run folder of fit, crossval or quickstart)"


def save(path: Path, model: EmotionModel, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: `model.safetensors`.
        model: what to store; its `describe()` goes beside the tensors.
        facts: plain values about the training (corpus, licence, seed, versions, scores) for whoever opens the file.
    """
    description = {
        "schema": SCHEMA,
        "mer": mer.__version__,
        "model": model.describe(),
        "inputs": {
            m: spec.to_dict() for m, spec in model.specs.items()
        },  # for readers; loading takes the encoders' own
        "facts": dict(facts),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    umask = os.umask(0)
    os.umask(umask)
    with draft_of(path) as draft:
        save_file(tensors, draft, metadata={_KEY: json.dumps(description)})
        os.chmod(draft, 0o666 & ~umask)  # safetensors makes files that only their owner reads; colleagues want to, too


def describe(path: Path) -> dict[str, Any]:
    """The description inside a checkpoint, without its tensors.

    Raises:
        UserError: missing, damaged, not ours, or of a newer schema.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint", _REMEDY)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
        description = json.loads(text) if text else None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a checkpoint of mer ({error})", _REMEDY) from None
    if not isinstance(description, dict) or not all(isinstance(description.get(k), dict) for k in ("model", "facts")):
        raise UserError(f"{path}: a safetensors file, but not a checkpoint of mer", _REMEDY)
    if description.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: schema {description.get('schema')!r}, this is mer {mer.__version__} with schema {SCHEMA}",
            "Update mer, or write the checkpoint again",
        )
    return description


def load(path: Path, allow_modules: Iterable[str] = ()) -> tuple[EmotionModel, dict[str, Any]]:
    """Rebuild a model, in eval mode on the CPU.

    Args:
        path: a file that `save` wrote. It is not trusted: class paths in it may only name mer's own encoders, fusions and
            heads.
        allow_modules: further modules (`mylab.encoders`) the user vouches for.

    Returns:
        the model and the whole description (`facts` holds what was stored beside it).

    Raises:
        UserError: missing, damaged, not ours, a foreign class, or tensors that do not fit.
    """
    description = describe(path)
    where, allowed = str(path), list(allow_modules)
    config = description["model"]
    try:
        tasks = {n: Task.from_dict(n, t, where) for n, t in config["tasks"].items()}
        encoders = {m: build(d, Encoder, ["mer.encoders"], allowed, where) for m, d in config["encoders"].items()}
        # Widths and label counts are not stored twice: the encoders and the label spaces give them.
        fusion = functools.partial(_fusion, config["fusion"], allowed, where)
        heads = {n: functools.partial(_head, d, allowed, where) for n, d in config["heads"].items()}
        model = EmotionModel(
            encoders,
            fusion,
            tasks,
            heads,
            bool(config["unimodal_heads"]),
            float(config["modality_dropout"]),
            config.get("missing", "masked"),  # older checkpoints know neither option
            dict(config.get("reads", {})),
        )
    except UserError as error:
        if where in error.problem:
            raise
        raise UserError(f"{path}: {error.problem}", _REMEDY) from None
    except (LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: the description is damaged ({type(error).__name__}: {error})", _REMEDY) from None
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    expected = model.state_dict()
    for key in sorted({*expected, *tensors}):
        if key not in tensors or key not in expected:
            which = "is missing" if key in expected else "is not part of the model"
            raise UserError(f"{path}: tensor {key!r} {which}", "The file is damaged; copy it again")
        if tensors[key].shape != expected[key].shape:
            shapes = f"{tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
            raise UserError(f"{path}: tensor {key!r} has shape {shapes}", "The file is damaged; copy it again")
    model.load_state_dict(tensors)
    return model.eval(), description


def load_encoders(encoders: Mapping[str, Encoder], files: Mapping[str, str]) -> None:
    """Give encoders the weights that a config's `encoder_weights` names.

    Args:
        encoders: by name.
        files: per encoder, or part of one (`skeleton.joint`), what `load_encoder` takes.

    Raises:
        UserError: there is no such encoder, or `load_encoder` raises it.
    """
    for named, file in files.items():
        name, _, part = named.partition(".")
        if name not in encoders:
            raise UserError(
                f"encoder_weights names the unknown encoder {name!r}", f"The encoders are {', '.join(encoders)}"
            )
        load_encoder(Path(file), name, encoders[name], part or None)


def load_encoder(path: Path, name: str, encoder: Encoder, part: str | None = None) -> None:
    """Give an encoder weights: those of the encoder of this name in a checkpoint of ours, or those somebody published.

    Args:
        path: a file that `save` wrote (no class in it is built), a published file or folder of a layout that the encoder
            knows, or a name that `mer weights list` prints.
        name: of the encoder in a checkpoint of ours.
        encoder: of the same architecture.
        part: which network of the encoder a published file is for, where it has several.

    Raises:
        UserError: missing, damaged, no encoder of that name, or another architecture.
    """
    path = catalogue.locate(path)
    if not _is_ours(path):
        encoder.load_published(path, part)
        return
    known = describe(path)["model"].get("encoders")
    if not isinstance(known, dict) or name not in known:
        raise UserError(f"{path}: there is no encoder {name!r} in it", f"It holds {', '.join(known or ()) or 'none'}")
    prefix = f"encoders.{name}."
    with safe_open(path, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118  (not a dict)
        tensors = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    expected = encoder.state_dict()
    for key in sorted({*expected, *tensors}):
        there, here = (str(tuple(t[key].shape)) if key in t else "absent" for t in (tensors, expected))
        if there != here:
            raise UserError(
                f"{path}: the encoder {name!r} is built another way: {key!r} is {there}, and {here} in the config",
                "Give the encoder in the config the arguments it was trained with",
            )
    encoder.load_state_dict(tensors)


def facts(path: Path) -> dict[str, Any] | None:
    """What a file that `load_encoder` takes says about its training; None where it is a published one.

    Raises:
        UserError: as `load_encoder`.
    """
    path = catalogue.locate(path)
    return dict(describe(path)["facts"]) if _is_ours(path) else None


def _is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint of mer, of whatever schema and in whatever state."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return path.name == "model.safetensors"  # damaged; what `describe` says about it fits best


def _fusion(config: Any, allowed: list[str], where: str, dims: Mapping[str, int]) -> Fusion:
    return build(config, Fusion, ["mer.fusion"], allowed, where, dims=dims)


def _head(config: Any, allowed: list[str], where: str, dim: int, outputs: int) -> torch.nn.Module:
    return build(config, torch.nn.Module, ["mer.heads"], allowed, where, dim=dim, outputs=outputs)
