"""RAFT is torchvision's network number for number, and its fields are those of the input kind `flow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.golden import check, fill, noise
from encoders.test_contract import clip, padded, shaken
from mer.encoders import RAFTFlow
from mer.encoders.raft import RAFT, strain
from mer.errors import UserError
from mer.media import flow
from mer.tokens import Sampled

TINY: dict[str, Any] = {"frame": 32, "size": 16, "levels": 2, "narrow": 8, "updates": 2, "dim": 16, "channels": (6, 8)}


@pytest.mark.parametrize(
    ("large", "first", "total", "norm"),
    [
        (False, (2.333919, 2.327955, 2.32199, 2.316026, 2.310062, 2.304098), -9027.73166, 255.32916),
        (True, (1.646562, 1.561412, 1.669587, 1.57793, 1.657301, 1.607846), 2727.65918, 340.4448),
    ],
)
@torch.inference_mode()
def test_numbers_of_torchvision(large: bool, first: tuple[float, ...], total: float, norm: float) -> None:
    """Measured with torchvision 0.28.0 after three updates."""
    network = RAFT(large, updates=3).eval()
    fill(network)
    pictures = (torch.from_numpy(noise(key, (1, 3, 128, 136))).float() for key in ("first", "second"))
    check(network(*pictures), first, total, norm, rtol=1e-4, atol=1e-4)


def test_numbers_of_parameters_and_keys() -> None:
    with torch.device("meta"):
        networks = RAFT(), RAFT(large=True)
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [990_162, 5_257_536]
    assert [len(network.state_dict()) for network in networks] == [106, 169]


def test_strain_is_that_of_the_flow_that_is_read_from_files() -> None:
    fields = np.random.default_rng(0).standard_normal((3, 2, 7, 9)).astype(np.float32)
    expected = np.stack([flow.strain(field) for field in fields])
    np.testing.assert_allclose(strain(torch.from_numpy(fields)).numpy(), expected, rtol=1e-5)


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> RAFTFlow:
    """An encoder whose flow is, in u, how much brighter the second frame is; in v, how bright the first one is."""
    encoder = RAFTFlow(**TINY).eval()

    def match(there: Tensor, here: Tensor, first: Tensor) -> Tensor:
        change = (here - there).mean((1, 2, 3))
        pair = torch.stack([change, first.mean((1, 2, 3))], dim=1)
        return pair[:, :, None, None].expand(-1, -1, 32, 32)

    monkeypatch.setattr(encoder.network, "feature_encoder", torch.nn.AvgPool2d(8))
    monkeypatch.setattr(encoder.network, "match", match)
    return encoder


def test_a_field_is_from_a_frame_to_the_next_of_its_clip_in_pixels_of_its_own_size(brightness: RAFTFlow) -> None:
    clips = [clip(brightness.spec, count, seed) for seed, count in enumerate((40, 1, 3))]
    fields = brightness.fields(padded(clips, 2))
    assert fields.values.shape == (4, 41, 3, 16, 16)
    assert fields.lengths.tolist() == [39, 1, 2, 0]
    for row, c in enumerate(clips):
        bright = (c.values[0].float() / 127.5 - 1).mean((1, 2, 3))
        u, v = fields.values[row][fields.mask[row]][:, :2].mean((2, 3)).T
        if len(bright) > 1:
            torch.testing.assert_close(u, bright.diff() / 2)  # 16 pixels of 32
            torch.testing.assert_close(v, bright[:-1] / 2)
        spans = fields.spans[row][fields.mask[row]]
        torch.testing.assert_close(spans[:, 0], c.spans[0, : len(spans), 0])
        torch.testing.assert_close(spans[:, 1], torch.cat([c.spans[0, 1 : len(spans), 0], c.spans[0, -1:, 1]]))
    assert not fields.values[1].any()  # a frame alone
    assert not fields.values[~fields.mask].any()


def test_it_does_not_train_and_keeps_its_precision() -> None:
    encoder = shaken(RAFTFlow(model="large", **TINY)).train()
    assert isinstance(encoder, RAFTFlow)
    for module in encoder.modules():  # as a part that thaws is put into training mode
        module.training = True
    inputs, before = clip(encoder.spec, 3), {k: v.clone() for k, v in encoder.network.state_dict().items()}
    encoder(inputs).values.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in encoder.network.state_dict().items())
    assert encoder.stem.training
    assert all(p.grad is None for p in encoder.network.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder.fields(inputs)
    assert torch.equal(half.values, encoder.fields(inputs).values)
    assert half.values.any()


def test_a_file_of_torchvision_fills_it_strictly(tmp_path: Path) -> None:
    published = RAFT(levels=2, narrow=8, updates=2)
    torch.save(published.state_dict(), tmp_path / "a.pth")
    encoder = RAFTFlow(**TINY)
    encoder.load_published(tmp_path / "a.pth")
    frames = Sampled(
        torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8), torch.ones(1, 2).bool(), torch.zeros(1, 2, 2)
    )
    first, second = encoder.pixels(frames)[0]
    with torch.no_grad():
        expected = published(first[None], second[None])
    pooled = torch.nn.functional.avg_pool2d(expected, 2) / 2
    torch.testing.assert_close(encoder.fields(frames).values[0, :, :2], pooled)
    torch.save({k: v for k, v in published.state_dict().items() if "flow_head.conv2.bias" not in k}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"the key 'update_block\.flow_head\.conv2\.bias' is missing"):
        encoder.load_published(tmp_path / "b.pth")


@pytest.mark.parametrize("settings", [{"frame": 120}, {"frame": 132}, {"model": "tiny"}, {"updates": 0}, {"size": 300}])
def test_sizes_that_it_cannot_take_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="frames divisible by 8 from 128 pixels on"):
        RAFTFlow(**settings)


@pytest.mark.parametrize("settings", [{"levels": 0}, {"narrow": 0}])
def test_a_network_without_levels_or_widths_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="Use at least 1 of both"):
        RAFTFlow(**settings)
