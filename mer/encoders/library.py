"""Networks of the package `transformers`, built from plain configs: never by a name on a hub, never with remote code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mer.encoders import foreign
from mer.errors import UserError

# Of a config.json: where it came from, whose code runs it (an attention may be named by a place on a hub, from where it
# would be fetched and run), and how its weights were kept.
_DROPPED = (
    "_attn_implementation",
    "_attn_implementation_internal",
    "_experts_implementation",
    "_experts_implementation_internal",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "experts_implementation",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


def transformers() -> Any:
    """The package, imported when it is first needed (a second).

    Raises:
        UserError: it cannot be imported, say because a torchvision or torchaudio for GPUs lies beside a torch for CPUs.
    """
    foreign.mend()
    try:
        import transformers
        import transformers.modeling_utils
    except Exception as error:  # broken neighbours raise what they like
        raise _broken(error) from None
    return transformers


def _broken(error: Exception) -> UserError:
    return UserError(
        f"the package 'transformers' cannot be imported ({type(error).__name__}: {error})",
        "Most often a torchvision or torchaudio that does not fit torch is why: pip uninstall torchvision torchaudio",
    )


def plain_config(
    architecture: str | None, config: str | Mapping[str, Any] | None, presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What a network is built from, as plain values that a checkpoint can keep.

    Args:
        architecture: name of a preset.
        config: in its place a `config.json`, the folder of one, or what stands in it.
        presets: hyper-parameters by name, each with its `model_type`.

    Raises:
        UserError: neither or both are given, an unknown name, or an unreadable file.
    """
    if (architecture is None) == (config is None):
        raise UserError("a network is built from either 'architecture' or 'config'", "Give one of them")
    if config is None:
        if architecture not in presets:
            raise UserError(
                f"unknown architecture {architecture!r}",
                f"Use one of {', '.join(presets)}, or give config: config.json",
            )
        return dict(presets[str(architecture)])
    if isinstance(config, Mapping):
        plain = dict(config)
    else:
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a readable config.json ({error})", "Give the folder of the weights") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("model_type"), str):
        raise UserError("a config without 'model_type'", "Give a config.json as it lies beside the weights")
    kept: dict[str, Any] = _kept(plain)
    return kept


def _kept(value: Any) -> Any:
    """A config, and those inside it, without what is dropped."""
    if not isinstance(value, Mapping):
        return value
    return {key: _kept(inside) for key, inside in value.items() if key not in _DROPPED}


def network(plain: Mapping[str, Any], **options: Any) -> nn.Module:
    """The bare network (without a head for a task) of a plain config, with random weights.

    Args:
        plain: from `plain_config`.
        options: overrides of it.

    Raises:
        UserError: the package does not know the model type, or refuses the values.
    """
    package = transformers()
    values = {key: value for key, value in plain.items() if key != "model_type"} | options
    try:
        config = package.AutoConfig.for_model(plain["model_type"], **values)
        built: nn.Module = package.AutoModel.from_config(config)
    except (ImportError, OSError) as error:  # some neighbours are imported only here
        raise _broken(error) from None
    except Exception as error:  # each model type checks its config in its own way
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"transformers {package.__version__} builds no {plain['model_type']!r} from this config ({text})",
            "Correct the config, or install the version it was written with",
        ) from None
    return built


def beside(config: str | Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """What stands in a JSON file beside a `config.json`, or in the folder of one; nothing where there is no such file."""
    if not isinstance(config, str):
        return {}
    folder = Path(config) if Path(config).is_dir() else Path(config).parent
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def agree(path: Path, plain: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Hold the `config.json` that lies with published weights against what was built; without one, all is well.

    Args:
        path: the folder, or a file in it.
        plain: what was built.
        keys: of a config, those that shape the network.

    Raises:
        UserError: they differ; the first key that does is named.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").is_file():
        return
    theirs = plain_config(None, str(folder), {})
    wanted, found = _complete(plain), _complete(theirs)
    for key in ("model_type", *keys):
        if json.dumps(wanted.get(key)) != json.dumps(found.get(key)):
            raise UserError(
                f"{folder / 'config.json'}: {key} is {found.get(key)!r}, the encoder was built with {wanted.get(key)!r}",
                f"Build it from these weights: config: {folder}",
            )


def _complete(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A plain config with the package's defaults for what it does not say."""
    values = {key: value for key, value in plain.items() if key != "model_type"}
    try:
        complete: dict[str, Any] = transformers().AutoConfig.for_model(plain["model_type"], **values).to_dict()
    except Exception as error:  # each model type checks its config in its own way
        text = " ".join(str(error).split())[:300]
        raise UserError(f"a config of {plain['model_type']!r} is wrong ({text})", "Correct it") from None
    return complete
