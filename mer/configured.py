"""Modules that remember how they were built, so that a checkpoint can hold a plain description instead of a pickle."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mer.errors import UserError

T = TypeVar("T")


class Configured:
    """Records the arguments of `__init__` as `init_args`; `describe()` gives them and the class path, plain."""

    init_args: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def describe(self) -> dict[str, Any]:
        cls = type(self)
        plain = {k: _plain(v) for k, v in self.init_args.items()}
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": plain}


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if "init_args" not in self.__dict__:  # the outermost class records; its parents' calls are its own business
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            named = {k: v for k, v in list(bound.arguments.items())[1:]}
            for name, parameter in signature.parameters.items():
                if parameter.kind is parameter.VAR_KEYWORD:
                    named.update(named.pop(name, {}))
            object.__setattr__(self, "init_args", named)
        init(self, *args, **kwargs)

    return wrapper


def _plain(value: Any) -> Any:
    if isinstance(value, Configured):
        return value.describe()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be stored in a checkpoint; pass plain values to __init__")


def build(
    description: Any, base: type[T], rooms: Iterable[str], allow_modules: Iterable[str], where: str, **given: Any
) -> T:
    """Build a module from its description, looking only where it may live.

    Args:
        description: `{class_path, init_args}` from an untrusted file.
        base: class that the result must be a subclass of.
        rooms: modules of `mer` that may be imported from, e.g. `mer.encoders`.
        allow_modules: further modules the user named with `--allow-module`.
        where: the file, for the message.
        given: arguments that are filled in by the caller (widths, label spaces).

    Raises:
        UserError: the class path is foreign, missing, of another kind, or refuses its arguments.
    """
    path = str(description.get("class_path", "")) if isinstance(description, Mapping) else ""
    arguments = description.get("init_args", {}) if isinstance(description, Mapping) else {}
    module_name, _, class_name = path.rpartition(".")
    allowed = [*rooms, *allow_modules]
    if not any(module_name == room or module_name.startswith(room + ".") for room in allowed):
        raise UserError(
            f"{where} names the class {path!r}, which is not one of mer's",
            "Do not open it unless you trust its author; then name its module with --allow-module",
        )
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where} names the class {path!r}, which cannot be imported ({error})", "Install it") from None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{where}: {path!r} is not a {base.__name__}", "The file is damaged or was not written by mer")
    try:
        return cls(**given, **arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AssertionError) as error:
        # Wrong names or types, or sizes that torch cannot make.
        message = f"{where}: {path} refuses its arguments ({error})"
        raise UserError(message, "Use the version that wrote the file") from None
