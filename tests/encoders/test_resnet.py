"""ResNet computes what the library of the same name does, and reads torchvision's files and EMERT's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoders.test_contract import clip, shaken
from mer.encoders import ResNet
from mer.errors import UserError
from mer.spec import InputSpec


@torch.no_grad()
@pytest.mark.parametrize(("depth", "kind"), [(18, "basic"), (34, "basic"), (50, "bottleneck")])
def test_the_network_is_the_published_one(depth: int, kind: str) -> None:
    """Against transformers' ResNet, which numbers its layers another way."""
    from transformers import ResNetConfig, ResNetModel

    width, blocks = 8, {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}[depth]
    sizes = [width * 2**i * (4 if kind == "bottleneck" else 1) for i in range(4)]
    theirs = ResNetModel(ResNetConfig(embedding_size=width, hidden_sizes=sizes, depths=blocks, layer_type=kind)).eval()
    ours = ResNet(depth, width=width).network.eval()
    assert ours.dim == sizes[-1]

    def name(key: str) -> str:
        key = re.sub(r"^conv1\.", "embedder.embedder.convolution.", key)
        key = re.sub(r"^bn1\.", "embedder.embedder.normalization.", key)
        key = re.sub(r"^layer(\d)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.", key)
        key = re.sub(r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution.", key)
        key = re.sub(r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization.", key)
        return key.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")

    state = theirs.state_dict()
    ours.load_state_dict({key: state.pop(name(key)) for key in ours.state_dict()})
    assert state == {}
    x = torch.randn(2, 3, 75, 64)
    torch.testing.assert_close(ours(x), theirs(x).pooler_output.flatten(1), atol=1e-5, rtol=1e-5)


def test_it_has_the_published_size() -> None:
    sizes = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}  # with the classifier of 1000
    for depth, size in sizes.items():
        with torch.device("meta"):
            encoder = ResNet(depth)  # type: ignore[arg-type]
        assert sum(p.numel() for p in encoder.parameters()) + 1000 * (encoder.dim + 1) == size


@torch.no_grad()
def test_the_pixels_are_those_of_imagenet_or_those_of_emert() -> None:
    plain, emert = (
        ResNet(width=4, size=8, augment=0.0, **more).eval() for more in ({}, {"bgr": True, "normalise": False})
    )
    assert plain.spec.mean == (0.485, 0.456, 0.406)
    assert emert.spec.mean is None
    inputs = clip(emert.spec, 3)
    shown = inputs.values[0].float() / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(plain(inputs).values[0], plain.network((shown - mean) / std))
    torch.testing.assert_close(emert(inputs).values[0], emert.network(shown[:, [2, 1, 0]]))


def test_the_face_stream_of_emert_is_eight_frames_of_112_pixels() -> None:
    encoder = ResNet(segments=8, size=112, bgr=True, normalise=False, augment=0.0, window=None)
    assert encoder.spec == InputSpec("video", segments=8, size=(112, 112))
    assert (encoder.dim, encoder.output_rate) == (512, None)


def test_augmentation_changes_what_is_learned_from_only() -> None:
    encoder = shaken(ResNet(width=4, size=16))
    inputs = clip(encoder.spec, 4)
    with torch.no_grad():
        torch.testing.assert_close(encoder(inputs).values, encoder(inputs).values)
        encoder.network.train()
        encoder.training = True
        assert not torch.equal(encoder(inputs).values, encoder(inputs).values)


@pytest.mark.parametrize("counters", [True, False])
def test_a_file_of_torchvision_is_read_with_or_without_counters(tmp_path: Path, counters: bool) -> None:
    torch.manual_seed(1)
    state = dict(ResNet(width=4).network.state_dict())
    content: dict[str, Tensor] = {k: v for k, v in state.items() if counters or not k.endswith("num_batches_tracked")}
    content |= {"fc.weight": torch.zeros(1000, 32), "fc.bias": torch.zeros(1000)}
    torch.save(content, tmp_path / "resnet18.pth")
    encoder = ResNet(width=4)
    report = encoder.load_published(tmp_path / "resnet18.pth")
    assert set(report.unused) == {"fc.weight", "fc.bias"}
    assert len(report.absent) == (0 if counters else 20)
    assert all(torch.equal(v, state[k]) for k, v in encoder.network.state_dict().items())
    with pytest.raises(UserError, match=r"layer1\.2\.conv1\.weight.*is missing"):
        ResNet(34, width=4).load_published(tmp_path / "resnet18.pth")


def test_a_depth_that_nobody_published_is_refused() -> None:
    with pytest.raises(UserError, match="ResNet of depth 20"):
        ResNet(20)  # type: ignore[arg-type]
