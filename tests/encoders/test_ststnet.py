"""STSTNet is the published network, layer by layer, and reads its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from encoders.golden import fill
from encoders.test_contract import clip, shaken
from mer.encoders import STSTNet
from mer.encoders.flow import motion
from mer.encoders.ststnet import STSTNetwork
from mer.errors import UserError


def stream(state: dict[str, Tensor], index: int, filters: int) -> nn.Sequential:
    """As the paper draws one of the three."""
    layers = nn.Sequential(
        nn.Conv2d(3, filters, 3, padding=2),
        nn.ReLU(),
        nn.BatchNorm2d(filters),
        nn.MaxPool2d(3, 3, padding=1),
        nn.Dropout(0.5),
    )
    for place, name in ((0, f"conv{index}."), (2, f"bn{index}.")):
        layers[place].load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
    return layers.eval()


@torch.no_grad()
def test_three_streams_of_three_five_and_eight_filters() -> None:
    network = STSTNetwork().eval()
    fill(network)
    state = network.state_dict()
    fields = torch.randn(4, 3, 28, 28)
    joined = torch.cat([stream(state, index, filters)(fields) for index, filters in ((1, 3), (2, 5), (3, 8))], dim=1)
    assert joined.shape == (4, 16, 10, 10)
    features = nn.AvgPool2d(2)(joined).flatten(1)
    torch.testing.assert_close(network.features(fields), features)
    torch.testing.assert_close(network(fields), features @ state["fc.weight"].T + state["fc.bias"])


def test_it_has_the_published_keys() -> None:
    network = STSTNetwork()
    assert {key.split(".")[0] for key in network.state_dict()} == {
        f"{n}{i}" for n in ("conv", "bn") for i in (1, 2, 3)
    } | {"fc"}
    assert network.fc.weight.shape == (3, 400)


@torch.no_grad()
def test_a_file_fills_it_strictly(tmp_path: Path) -> None:
    published = STSTNetwork().eval()
    fill(published)
    torch.save({f"module.{key}": value for key, value in published.state_dict().items()}, tmp_path / "a.pt")
    encoder = shaken(STSTNet())
    assert isinstance(encoder, STSTNet)
    encoder.load_published(tmp_path / "a.pt")
    inputs = clip(encoder.spec, 2)
    torch.testing.assert_close(encoder.logits(inputs)[0], published(motion(inputs)[0]))
    content = published.state_dict()
    del content["bn2.running_var"]
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"the key 'bn2\.running_var' is missing"):
        encoder.load_published(tmp_path / "b.pt")


def test_it_is_fed_one_field_from_onset_to_apex() -> None:
    spec = STSTNet().spec
    assert (spec.kind, spec.pairs, spec.size, spec.crop) == ("flow", "onset_apex", (28, 28), "face")
