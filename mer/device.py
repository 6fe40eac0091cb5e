"""The device that a command computes on."""

from __future__ import annotations

import torch

from mer.errors import UserError


def device_named(name: str) -> torch.device:
    """A device by name; `auto` takes the fastest there is.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"there is no device {name!r} here", "Use --device cpu, or auto") from None
    return device
