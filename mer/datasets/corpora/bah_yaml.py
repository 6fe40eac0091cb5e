"""YAML as BAH's authors wrote it, from Python: tuples have a tag of their own. Nothing but plain values is ever made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

from mer.errors import UserError

_TUPLE = "tag:yaml.org,2002:python/tuple"

if yaml.__with_libyaml__:

    class _Loader(Composer, yaml.CSafeLoader):
        """Events from the C parser; nodes from Python, which can be asked for one at a time, and does not overflow a stack."""

        def __init__(self, stream: bytes | str):
            yaml.CSafeLoader.__init__(self, stream)
            Composer.__init__(self)

else:

    class _Loader(yaml.SafeLoader):  # type: ignore[no-redef]
        """The same without the C library."""


def _tuple(loader: Any, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node))


_Loader.add_constructor(_TUPLE, _tuple)


def load(path: Path) -> Any:
    """Content of a small file.

    Raises:
        UserError: missing, or not YAML of plain values.
    """
    try:
        loader = _Loader(path.read_bytes())
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(path, error) from None


def entries(text: bytes, path: Path) -> Iterator[tuple[str, Any]]:
    """Key and value of a mapping, one after the other: a file as large as it may be takes the memory of one value.

    Raises:
        UserError: it is no mapping, or not YAML of plain values.
    """
    last = ""
    try:
        loader: Any = _Loader(text)  # its stubs know nothing of nodes without a parent
        try:
            for kind in (yaml.StreamStartEvent, yaml.DocumentStartEvent):
                if not isinstance(loader.get_event(), kind):
                    raise UserError(f"{path}: it is empty", "Download it again")
            if not loader.check_event(yaml.MappingStartEvent):
                raise UserError(f"{path}: no video by name in it", "Restore the file")
            loader.get_event()
            while not loader.check_event(yaml.MappingEndEvent):
                key = loader.compose_node(None, None)
                node = loader.compose_node(None, None)
                last = str(loader.construct_document(key))
                yield last, loader.construct_document(node)
        finally:
            loader.dispose()
    except (ValueError, RecursionError, AttributeError, yaml.YAMLError) as error:
        raise _unreadable(path, error, f" behind {last!r}" if last else "") from None


def _unreadable(path: Path, error: Exception, where: str = "") -> UserError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path}: not readable as YAML{where} ({said})", "Download it again")
