"""Networks of timm, mmaction2 and pytorchvideo hold the contract of an encoder, and no config of theirs loads anything.

With the packages themselves where they are installed, with `fakes` elsewhere.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import fakes, test_contract
from encoders.test_contract import (  # noqa: F401  (collected here, with the fixture below)
    clip,
    close,
    elements,
    test_a_padded_batch_gives_the_tokens_of_each_clip_alone,
    test_a_training_batch_without_the_modality_leaves_no_parameter_out_of_the_graph,
    test_an_absent_modality_gives_masked_finite_zeros,
    test_half_precision_stays_close,
    test_one_element_of_input_gives_tokens_of_its_moment,
    test_spans_tile_the_clip_in_media_time,
    test_the_description_is_json_and_builds_the_same_encoder,
    test_the_state_makes_another_copy_equal,
)
from mer.encoders import Encoder
from mer.encoders.bridge import in_time
from mer.encoders.mmaction import MMAction
from mer.encoders.pytorchvideo_bridge import PyTorchVideo
from mer.encoders.timm_frames import TimmFrames
from mer.encoders.weights import renamed
from mer.errors import UserError
from mer.tokens import Sampled

UNIFORMER = {"type": "UniFormer", "depth": [1, 1, 1, 1], "embed_dim": [8, 16, 16, 32], "head_dim": 8, "img_size": 32}
MVIT = {
    "type": "MViT",
    "arch": {"embed_dims": 8, "num_layers": 3, "num_heads": 1, "downscale_indices": [1]},
    "spatial_size": 32,
    "temporal_size": 8,
}
GRAPH = {"layout": "nturgb+d", "mode": "stgcn_spatial"}
STGCN = {"type": "STGCN", "num_person": 1, "base_channels": 8, "graph_cfg": GRAPH}
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "timm": lambda: TimmFrames("test_efficientnet", size=32),
    "timm, map": lambda: TimmFrames("test_efficientnet", features="mean", size=32),
    "timm, patches": lambda: TimmFrames("test_vit", features="patches", size=32),
    "timm, class token": lambda: TimmFrames("test_vit", features="cls", size=32),
    "mmaction": lambda: MMAction(UNIFORMER, frames=8, size=32),
    "mmaction, single frames": lambda: MMAction({"type": "ResNet", "depth": 18}, frames=4, size=32),
    "mmaction, class token": lambda: MMAction(MVIT, frames=8, tokens="cls", size=32),
    "mmaction, patches": lambda: MMAction(MVIT, frames=8, size=32),
    "mmaction, skeleton": lambda: MMAction(STGCN, frames=16, layout="ntu25"),
    "pytorchvideo": lambda: PyTorchVideo("x3d_xs", frames=4, size=32),
}
SLOW: dict[str, Callable[[], Encoder]] = {  # those of the package are large
    "pytorchvideo, two pathways": lambda: PyTorchVideo("slowfast_r50", frames=8, size=32),
    "pytorchvideo, transformer": lambda: PyTorchVideo("mvit_base_16x4", {"spatial_size": 32}, size=32),
    "pytorchvideo, class token": lambda: PyTorchVideo("mvit_base_16x4", {"spatial_size": 32}, tokens="cls", size=32),
}


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def shaken(encoder: Encoder) -> Encoder:
    """Off its initial zeros and ones, by little: the packages' own networks are deep, and must not saturate."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in encoder.parameters():
            p += 0.01 * torch.randn(p.shape, generator=generator)
    return encoder.eval()


@pytest.fixture(params=[*ENCODERS, *SLOW])
def encoder(request: pytest.FixtureRequest, packages: None) -> Encoder:
    torch.manual_seed(0)
    return shaken((ENCODERS | SLOW)[request.param]())


@pytest.mark.parametrize("training", [False, True])
def test_gradients_reach_every_trainable_parameter(encoder: Encoder, training: bool) -> None:
    if getattr(encoder, "tokens", "") == "cls":
        pytest.skip("what the last block makes of the patches has a part in the class token, but none in its value")
    test_contract.test_gradients_reach_every_trainable_parameter(encoder, training)


@torch.no_grad()
def test_the_tokens_are_what_the_network_makes_of_each_window(encoder: Encoder) -> None:
    """Held against the network itself, called by hand."""
    if isinstance(encoder, TimmFrames):
        inputs = clip(encoder.spec, 3)
        expected = encoder._encode(encoder.pixels(inputs)[0]).reshape(1, -1, encoder.dim)
    else:
        assert isinstance(encoder, (MMAction, PyTorchVideo))
        inputs = clip(encoder.spec, 2 * encoder.frames)
        values = encoder.pixels(inputs) if encoder.spec.kind == "video" else inputs.values
        windows = values[0].unflatten(0, (2, encoder.frames))
        expected = torch.cat([encoder.encode(window[None]) for window in windows], 1)
        assert expected.shape[1] == 2 * encoder.steps
    close(encoder(inputs).values, expected)


@torch.no_grad()
def test_an_event_changes_the_tokens_of_its_window_alone(encoder: Encoder) -> None:
    size = getattr(encoder, "frames", 1)
    inputs = clip(encoder.spec, 4 * size)
    values = inputs.values.clone()
    values[0, 2 * size : 2 * size + size] = 200 if encoder.spec.kind == "video" else 2.0
    before, after = encoder(inputs), encoder(Sampled(values, inputs.mask, inputs.spans))
    changed = (before.values - after.values).abs().amax(2)[0] > 1e-4
    begin, end = inputs.spans[0, 2 * size, 0], inputs.spans[0, 3 * size - 1, 1]
    inside = (before.spans[0, :, 0] >= begin - 1e-4) & (before.spans[0, :, 1] <= end + 1e-4)
    assert not changed[~inside].any()
    assert changed[inside].any()


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "rename", "reason"),
    [
        ("timm", lambda key: key, "a classifier"),
        ("mmaction", lambda key: f"backbone.{key}", "of the recognizer around it"),
        ("pytorchvideo", lambda key: key, "a classifier"),
        ("pytorchvideo, two pathways", lambda key: key, "a classifier"),
        ("pytorchvideo, transformer", lambda key: key, "a classifier"),
    ],
)
def test_files_of_these_projects_fill_the_network_without_their_heads(
    name: str, rename: Callable[[str], str], reason: str, tmp_path: Path
) -> None:
    make = (ENCODERS | SLOW)[name]
    torch.manual_seed(0)
    trained = shaken(make())
    head = {
        "timm": "classifier.weight",
        "mmaction": "cls_head.fc_cls.weight",
        "pytorchvideo": f"blocks.{len(getattr(trained.network, 'blocks', []))}.proj.weight",
        "pytorchvideo, two pathways": f"blocks.{len(getattr(trained.network, 'blocks', [])) + 1}.proj.weight",
        "pytorchvideo, transformer": "head.proj.weight",
    }[name]
    state = {rename(key): value for key, value in trained.network.state_dict().items()}
    container = "state_dict" if name == "mmaction" else "model_state"
    torch.save({container: state | {head: torch.zeros(2)}, "meta": {"epoch": 1}}, tmp_path / "file.pth")
    torch.manual_seed(1)
    fresh = make().eval()
    inputs = clip(fresh.spec, elements(fresh.spec, 0.5))
    assert not torch.allclose(fresh(inputs).values, trained(inputs).values)
    report = fresh.load_published(tmp_path / "file.pth")
    assert report.unused == {head: reason}
    close(fresh(inputs).values, trained(inputs).values)
    first = rename(next(iter(trained.network.state_dict())))
    for change, message in [
        ({first: None}, f"'{first}'.* missing"),
        ({"surplus": torch.zeros(1)}, "'surplus' is extra"),
        ({first: torch.zeros(1, 9, 9)}, f"'{first}' has the shape"),
    ]:
        faulty = {key: value for key, value in (state | change).items() if value is not None}
        torch.save(faulty, tmp_path / "faulty.pth")
        with pytest.raises(UserError, match=message):
            fresh.load_published(tmp_path / "faulty.pth")
    assert renamed(trained.network.state_dict(), fresh.tables()[0]).keys() == state.keys()


# -- configs are not trusted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "os.system"}, "no backbone 'os.system' that reads video"),
        ({"type": "BN3d"}, "no backbone 'BN3d'"),
        ({"type": "ResNetAudio"}, "no backbone 'ResNetAudio'"),
        ({"type": ["UniFormer"]}, "no backbone"),
        ({}, "no backbone None"),
        (UNIFORMER | {"norm_cfg": {"type": "subprocess.run"}}, "config.norm_cfg.type of MMAction is 'subprocess.run'"),
        (UNIFORMER | {"norm_cfg": {"type": "mmdet.SyncBN"}}, "is 'mmdet.SyncBN', which no registry"),
        (UNIFORMER | {"parts": [{"type": "antigravity"}]}, "'antigravity'"),
        (UNIFORMER | {"norm_cfg": {"type": "BN3d", "_scope_": "mmdet"}}, "the key '_scope_'"),
        (UNIFORMER | {"custom_imports": ["x"]}, "the key 'custom_imports'"),
        (UNIFORMER | {"init_cfg": {"type": "Pretrained", "checkpoint": "http://x"}}, "the key 'init_cfg'"),
        (UNIFORMER | {"pretrained": "https://download"}, "pretrained of MMAction is 'https://download'"),
        (UNIFORMER | {"pretrained2d": True}, "pretrained2d of MMAction is True"),
        (UNIFORMER | {"clip_pretrained": True}, "clip_pretrained of MMAction is True"),
        (UNIFORMER | {"drop": object()}, "config.drop of MMAction holds a object"),
    ],
)
def test_a_config_of_mmaction_names_its_models_and_loads_nothing(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        MMAction(config, frames=8, size=32)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMAction(UNIFORMER, layout="ntu25"), "layout 'ntu25' for the backbone 'UniFormer'"),
        (lambda: MMAction(STGCN), "layout None for the backbone 'STGCN'"),
        (lambda: MMAction(STGCN, frames=16, layout="coco17"), "takes no input (16, 17, 3)"),
        (lambda: MMAction(UNIFORMER, tokens="all"), "no tokens 'all'"),  # type: ignore[arg-type]
        (lambda: MMAction(UNIFORMER, frames=8, tokens="cls", size=32), "UniFormer has no class token"),
        (lambda: MMAction(UNIFORMER, frames=0, size=32), "windows of 0 frames"),
        (lambda: PyTorchVideo("resnet50"), "no network 'resnet50'"),
        (lambda: PyTorchVideo("x3d_xs", {"pretrained": True}), "the argument 'pretrained'"),
        (lambda: PyTorchVideo("x3d_xs", {"norm": print}), "a builtin_function_or_method among its arguments"),
        (lambda: PyTorchVideo("x3d_xs", tokens="cls"), "no tokens 'cls'"),
        (lambda: PyTorchVideo("slowfast_r50", frames=6), "windows of 6 frames"),
        (lambda: TimmFrames("hf-hub:someone/something"), "has no model 'hf-hub:someone/something'"),
        (lambda: TimmFrames("local-dir:/tmp/x"), "has no model 'local-dir:/tmp/x'"),
        (lambda: TimmFrames("test_vit", {"pretrained_cfg": {"url": "x"}}), "the argument 'pretrained_cfg'"),
        (lambda: TimmFrames("test_vit", {"checkpoint_path": "x"}), "the argument 'checkpoint_path'"),
        (lambda: TimmFrames("test_vit", {"norm_layer": torch.nn.BatchNorm2d}), "Use plain values"),
        (lambda: TimmFrames("test_vit", features="embedding"), "no features 'embedding'"),  # type: ignore[arg-type]
        (lambda: TimmFrames("test_efficientnet", features="cls"), "has no class token"),
    ],
)
def test_what_cannot_be_built_is_one_line(make: Callable[[], Encoder], message: str) -> None:
    with pytest.raises(UserError) as raised:
        make()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_that_has_no_part_in_the_tokens_trains() -> None:
    heads = {
        n
        for n, p in TimmFrames("test_efficientnet", features="mean", size=32).named_parameters()
        if not p.requires_grad
    }
    if importlib.util.find_spec("timm").loader is None:  # type: ignore[union-attr]  # of the fake: the layer behind its pooling
        assert heads == {"network.late.weight", "network.late.bias"}
    pooled = TimmFrames("test_efficientnet", size=32)
    assert all(p.requires_grad for p in pooled.parameters())


def test_descriptions_are_plain(encoder: Encoder) -> None:
    assert json.loads(json.dumps(encoder.describe())) == encoder.describe()


def test_pathways_meet_at_the_coarsest_time() -> None:
    slow, fast = torch.randn(2, 8, 2, 3, 3), torch.randn(2, 4, 8, 3, 3)
    joined = in_time((slow, fast))
    assert joined.shape == (2, 2, 12)
    close(joined[:, 1, 8:], fast[:, :, 4:].mean((2, 3, 4)))
    close(joined[..., :8], slow.mean((3, 4)).transpose(1, 2))
    vector: Tensor = torch.randn(2, 5)
    close(in_time(vector), vector[:, None])
    with pytest.raises(ValueError, match="neither a feature map"):
        in_time(torch.zeros(2, 3, 4, 5))
