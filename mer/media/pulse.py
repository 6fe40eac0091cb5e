"""A sign of life from long work: whoever decodes or detects calls `pulse` per frame; the child process passes it on."""

from __future__ import annotations

from collections.abc import Callable

_listener: Callable[[], None] | None = None


def pulse() -> None:
    """Work goes on. Costs next to nothing where nobody listens."""
    if _listener is not None:
        _listener()


def listen(listener: Callable[[], None] | None) -> None:
    """Have `listener` called at each pulse of this process."""
    global _listener
    _listener = listener
