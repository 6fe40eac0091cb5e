"""Every layout of a published file that an encoder says it reads, it reads strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoders.test_contract import ENCODERS
from mer.encoders import Encoder, SkeletonGCN
from mer.encoders.weights import KeyTable, renamed
from mer.errors import UserError


def made(name: str) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[name][0]()


def cases() -> list[tuple[str, int]]:
    """A variant of each encoder, and a layout of it. Skeletons have a file per stream, and tests of their own."""
    found: dict[tuple[type[Encoder], str], tuple[str, int]] = {}
    for name in ENCODERS:
        encoder = made(name)
        for number, table in enumerate(() if isinstance(encoder, SkeletonGCN) else encoder.tables()):
            found.setdefault((type(encoder), table.name), (name, number))
    return list(found.values())


@pytest.fixture(params=cases(), ids=lambda case: f"{case[0]}-{case[1]}")
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return made(request.param[0])


@pytest.fixture
def table(request: pytest.FixtureRequest, encoder: Encoder) -> KeyTable:
    return encoder.tables()[request.node.callspec.params["encoder"][1]]


@pytest.fixture
def state(encoder: Encoder) -> dict[str, Tensor]:
    """Random weights under our keys."""
    generator = torch.Generator().manual_seed(1)
    shapes = (encoder.whole() or encoder.network).state_dict()
    own = encoder.network.state_dict()
    return {
        key: torch.rand(value.shape, generator=generator, dtype=value.dtype)
        if value.is_floating_point()
        else own.get(key, torch.zeros(value.shape, dtype=value.dtype)).clone()
        for key, value in shapes.items()
    }


def needed(state: dict[str, Tensor], table: KeyTable) -> str:
    """A key that the file must have, whose tensor is taken as it is."""
    free = [pattern for pattern, _ in (*table.absent, *table.fits)]
    return next(k for k in reversed(state) if state[k].ndim and not any(re.search(p, k) for p in free))


def test_a_file_of_this_layout_fills_the_network(
    encoder: Encoder, table: KeyTable, state: dict[str, Tensor], tmp_path: Path
) -> None:
    content = renamed(state, table)
    if len(content) < len(state):
        pytest.skip("several of our tensors are one of theirs; the encoder's own tests put them together")
    torch.save(content, tmp_path / "file.pth")
    report = encoder.load_published(tmp_path / "file.pth")
    assert report.loaded == len(encoder.network.state_dict()) - len(report.absent)
    for key, value in encoder.network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_key_that_is_missing_extra_or_of_another_shape_is_named(
    encoder: Encoder, table: KeyTable, state: dict[str, Tensor], fault: str, tmp_path: Path
) -> None:
    content = renamed(state, table)
    key = table.theirs(needed(state, table))
    if fault == "missing":
        del content[key]
    elif fault == "extra":
        key = "surplus.weight"
        content[key] = torch.zeros(3)
    else:
        content[key] = torch.zeros((2, *content[key].shape))
    torch.save(content, tmp_path / "file.pth")
    before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
    with pytest.raises(UserError, match=re.escape(key)):
        encoder.load_published(tmp_path / "file.pth")
    assert all(torch.equal(v, before[k]) for k, v in encoder.network.state_dict().items())
