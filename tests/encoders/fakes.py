"""Packages that few machines have, as far as our bridges look at them: networks of their shapes under their names.

Where a package is installed (say, for the oracles), it is taken instead, and the same tests hold for it.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of timm, mmaction2 and pytorchvideo that are not there."""
    if importlib.util.find_spec("timm") is None:
        models = {"test_vit": Tokens, "test_efficientnet": Maps}
        timm = module(monkeypatch, "timm", __version__="1.0.0")
        timm.is_model = models.__contains__
        timm.list_models = lambda pattern="": list(models)
        timm.create_model = lambda name, pretrained, num_classes, **arguments: models[name.split(".")[0]](**arguments)
    if importlib.util.find_spec("mmaction") is None:
        module(monkeypatch, "mmaction")
        module(monkeypatch, "mmaction.models")
        module(monkeypatch, "mmengine")
        scope = SimpleNamespace(overwrite_default_scope=lambda name: nullcontext())
        module(monkeypatch, "mmengine.registry", DefaultScope=scope)
        backbones = {cls.__name__: cls for cls in (UniFormer, ResNet, MViT, STGCN, ResNetAudio)}
        registry = SimpleNamespace(
            module_dict=dict(backbones), parent=SimpleNamespace(module_dict={"BN3d": nn.BatchNorm3d})
        )
        registry.build = lambda config: registry.module_dict[config.pop("type")](**config)
        module(monkeypatch, "mmaction.registry", MODELS=registry)
    if importlib.util.find_spec("pytorchvideo") is None:
        module(monkeypatch, "pytorchvideo")
        module(monkeypatch, "pytorchvideo.models")
        hub = module(monkeypatch, "pytorchvideo.models.hub")
        hub.x3d_xs, hub.slowfast_r50, hub.mvit_base_16x4 = pyramid, two_pathways, transformer


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> Any:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


# -- timm ---------------------------------------------------------------------------------------------------------------


class Maps(nn.Module):
    """A feature map, and a layer behind the pooling."""

    pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.4,) * 3, "std": (0.2,) * 3, "classifier": "classifier"}  # noqa: RUF012
    num_features = 6

    def __init__(self, **arguments: Any):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.late = nn.Linear(6, 10)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
        return self.late(x.mean((2, 3)))


class Tokens(nn.Module):
    """A class token before the tokens of the patches."""

    pretrained_cfg = Maps.pretrained_cfg | {"classifier": "head"}
    num_features, num_prefix_tokens, has_class_token = 6, 1, True

    def __init__(self, **arguments: Any):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 6))
        self.norm = nn.LayerNorm(6)

    def set_input_size(self, img_size: int) -> None:
        pass

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([self.cls + x.mean(1, keepdim=True), x + self.cls.sin()], 1))

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
        return x[:, 0]


# -- mmaction2 ----------------------------------------------------------------------------------------------------------


class _Backbone(nn.Module):
    def __init__(self, **arguments: Any):
        super().__init__()
        self.arguments = arguments


class UniFormer(_Backbone):
    def __init__(self, pretrained: str | None = "downloads", **arguments: Any):
        super().__init__(pretrained=pretrained, **arguments)
        self.conv = nn.Conv3d(3, 8, (3, 4, 4), (2, 4, 4), (1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ResNet(_Backbone):
    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)  # returns nothing, as theirs

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class MViT(_Backbone):
    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.conv = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
        self.cls = nn.Parameter(torch.ones(8))

    def init_weights(self) -> None:
        nn.init.constant_(self.cls, 0.5)

    def forward(self, x: Tensor) -> tuple[list[Tensor], ...]:
        x = self.conv(x)
        return ([x, x.mean((2, 3, 4)) * self.cls],)


class STGCN(_Backbone):
    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.linear = nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Tensor:  # (N, M, T, V, C) to (N, M, C, T / 4, V)
        assert x.ndim == 5
        assert x.shape[-2:] == (25, 3)
        return nn.functional.avg_pool2d(self.linear(x).flatten(0, 1).permute(0, 3, 1, 2), (4, 1)).unflatten(
            0, x.shape[:2]
        )


class ResNetAudio(_Backbone):
    pass


for backbone in (UniFormer, ResNet, MViT, STGCN, ResNetAudio):
    backbone.__module__ = "mmaction.models.backbones.fake"


# -- pytorchvideo -------------------------------------------------------------------------------------------------------


class ResNetBasicHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 3)


class PoolConcatPathway(nn.Module):
    pass


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = nn.Conv3d(3, 8, (1, 4, 4), (1, 4, 4)), nn.Conv3d(3, 4, (1, 4, 4), (1, 4, 4))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.slow(x[0]), self.fast(x[1])]


def pyramid(pretrained: bool, progress: bool, **arguments: Any) -> nn.Module:
    assert not pretrained
    return Net(nn.Conv3d(3, 8, (1, 4, 4), (1, 4, 4)), nn.ReLU(), ResNetBasicHead())


def two_pathways(pretrained: bool, progress: bool, **arguments: Any) -> nn.Module:
    assert not pretrained
    return Net(Both(), PoolConcatPathway(), ResNetBasicHead())


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4))
        self.cls_positional_encoding = SimpleNamespace(patch_embed_shape=(8, 56, 56), cls_embed_on=True)
        self.blocks = nn.ModuleList()
        self.norm_embed = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.norm_embed(torch.cat([x.mean(1, keepdim=True), x], 1))


def transformer(pretrained: bool, progress: bool, head: None, **arguments: Any) -> nn.Module:
    assert not pretrained
    return Transformer()
