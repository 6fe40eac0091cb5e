"""Packages that do not import as they are installed, made to import; and one clear line where they cannot.

All of them are imported where they are used, never before. What is wrong with each one was measured with the versions
that the messages name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mer.errors import UserError

# The wheels of torchvision on PyPI are CUDA builds. Beside a CPU build of torch their C++ part does not load, and the
# Python part then stumbles over the two operators that it describes to torch. Kept alive as long as the operators.
_OPERATORS = ("nms", "qnms")
_libraries: list[torch.library.Library] = []

# How each is installed beside mer without touching what is there.
TIMM = "pip install --no-deps 'timm>=1.0,<2'"
PYTORCHVIDEO = "in the checkout: pip install -c constraints.txt -e '.[pytorchvideo]'"
MMACTION = (
    "in the checkout: pip install -c constraints.txt -e '.[mmaction2]', then: "
    "pip install --no-deps mmengine==0.10.7 mmcv-lite==2.1.0 mmaction2==1.2.0"
)


def torchvision() -> ModuleType:
    """The package torchvision, also where its C++ operators do not load: models and transforms work, nms does not.

    Raises:
        UserError: it is not installed, or broken in another way.
    """
    if importlib.util.find_spec("torchvision") is None:
        raise UserError(
            "this needs the package 'torchvision', which is not installed",
            "Beside a CUDA build of torch: pip install torchvision; beside a CPU build use an environment of its own",
        )
    with _explained("torchvision", "Install the version that belongs to your torch, or uninstall it"):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
        _forget("torchvision")
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library = torch.library.Library("torchvision", "FRAGMENT")  # a second try in one process may define it again
        _libraries.append(library)
        for name in _OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(name + schema)
        return importlib.import_module("torchvision")


def mend() -> None:
    """Before a package is imported that imports torchvision wherever it is installed: see that it imports.

    Raises:
        UserError: torchvision is installed and broken beyond mending.
    """
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
        torchvision()


def timm() -> ModuleType:
    """The package timm (1.0), with torchvision or without: its networks need nothing of it.

    Raises:
        UserError: it is not installed, or broken.
    """
    return _beside_torchvision("timm", "timm", TIMM)


def pytorchvideo() -> ModuleType:
    """`pytorchvideo.models.hub` of the package pytorchvideo (0.1.5), with torchvision or without.

    Raises:
        UserError: it is not installed, or broken.
    """
    return _beside_torchvision("pytorchvideo", "pytorchvideo.models.hub", PYTORCHVIDEO)


def mmaction() -> Any:
    """The registry of models of the package mmaction2 (1.2.0), filled.

    Raises:
        UserError: it is not installed, or broken.
    """
    _installed("mmaction", "mmaction2", MMACTION)
    with _explained("mmaction2", f"Install it as intended, {MMACTION}"):
        if "mmaction.models" not in sys.modules:
            with _stand_ins(_mmaction_gaps()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of operators that only the compiled mmcv has
                # Its text models want an older transformers; the switch is read when the models are imported.
                dependency: Any = importlib.import_module("mmaction.utils.dependency")
                dependency.WITH_MULTIMODAL = False
                importlib.import_module("mmaction.models")
                importlib.import_module("mmaction.engine.model")  # initial weights that some of them ask for by name
        return importlib.import_module("mmaction.registry").MODELS


@contextmanager
def mmaction_scope() -> Iterator[None]:
    """While parts of a model of mmaction2 are looked up by their names."""
    with importlib.import_module("mmengine.registry").DefaultScope.overwrite_default_scope("mmaction"):
        yield


def _mmaction_gaps() -> dict[str, ModuleType]:
    """What mmaction2 1.2.0 imports and its wheel does not bring: the folder of one localizer, and a back-port."""
    gaps: dict[str, ModuleType] = {}
    localizer = "mmaction.models.localizers.drn"
    root, *below = localizer.split(".")
    if not any(Path(path, *below).is_dir() for path in importlib.import_module(root).__path__):
        gaps |= {name: _StandIn(name) for name in (localizer, f"{localizer}.drn")}
    if importlib.util.find_spec("importlib_metadata") is None:
        gaps["importlib_metadata"] = importlib.metadata
    return gaps


def _beside_torchvision(package: str, module: str, remedy: str) -> ModuleType:
    _installed(package, package, remedy)
    with _explained(package, f"Install it as intended, {remedy}"):
        if module in sys.modules:
            return sys.modules[module]
        mend()
        if "torchvision" in sys.modules:
            return importlib.import_module(module)
        # It names torchvision at the top of its files, and its networks use nothing of it.
        below = ("", ".ops", ".ops.misc", ".transforms", ".transforms.functional", ".datasets")
        with _stand_ins({name: _StandIn(name) for name in ("torchvision" + part for part in below)}):
            return importlib.import_module(module)


@contextmanager
def _stand_ins(modules: dict[str, ModuleType]) -> Iterator[None]:
    """Modules that can be imported while this lasts, and are gone afterwards."""
    for name, module in modules.items():
        above, _, own = name.rpartition(".")
        if above in modules:
            setattr(modules[above], own, module)
    sys.modules |= modules
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


class _StandIn(ModuleType):
    """A package in which every name is a class that nothing is an instance of."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing(name, (), {})


class _Nothing(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name  # members of an enumeration, which become keys of tables


def _forget(package: str) -> None:
    """Take a package that was imported halfway out of the modules."""
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]


def _installed(module: str, package: str, remedy: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"this needs the package {package!r}, which is not installed", f"Install it, {remedy}")


@contextmanager
def _explained(package: str, remedy: str) -> Iterator[None]:
    """An import that fails, in whatever way, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # ImportError, OSError of a library, RuntimeError of an operator, AttributeError
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the package {package!r} is installed but does not import ({reason[0][:200]})", remedy
        ) from None
