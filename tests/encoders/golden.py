"""Weights and inputs made of nothing but key names, so that numbers measured elsewhere can be held against ours."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def noise(key: str, shape: torch.Size | tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) that follow from a key and a place: a linear congruence started with the key's checksum."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    start = np.uint64(zlib.crc32(key.encode()))
    with np.errstate(over="ignore"):
        drawn = (index * np.uint64(1103515245) + start) % np.uint64(2**31)
    return (2 * (drawn.astype(np.float64) / 2**31) - 1).reshape(shape)


@torch.no_grad()
def fill(module: nn.Module, name: Callable[[str], str] = lambda key: key) -> None:
    """Fill a module; `name` gives the key under which a tensor is known to those who measured."""
    for key, tensor in module.state_dict().items():
        known = name(key)
        if not tensor.is_floating_point() or "attn_mask" in known:
            continue
        r = noise(known, tensor.shape)
        if known.endswith("running_var"):
            r = 1 + 0.5 * r
        elif known.endswith("running_mean"):
            r = 0.1 * r
        elif tensor.ndim >= 2 and known.endswith(".weight"):
            r = r * np.sqrt(3 / (tensor.numel() / tensor.shape[0]))
        elif tensor.ndim == 1 and known.endswith(".weight"):
            r = 1 + 0.1 * r
        else:
            r = 0.1 * r
        tensor.copy_(torch.from_numpy(r.astype(np.float32)))


def source(shape: tuple[int, ...]) -> Tensor:
    """The input: float64, of the key `input`."""
    return torch.from_numpy(noise("input", shape))


def check(
    tensor: Tensor, first: tuple[float, ...], total: float, norm: float, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """First values, sum and L2 norm of a tensor, to the digits that were printed."""
    flat = tensor.detach().double().flatten()
    torch.testing.assert_close(flat[: len(first)], torch.tensor(first, dtype=torch.float64), rtol=rtol, atol=atol)
    torch.testing.assert_close(flat.norm(), torch.tensor(norm, dtype=torch.float64), rtol=rtol, atol=atol)
    # A sum of many terms of both signs loses digits that its terms have.
    torch.testing.assert_close(
        flat.sum(), torch.tensor(total, dtype=torch.float64), rtol=rtol, atol=max(10 * atol, rtol * norm)
    )
