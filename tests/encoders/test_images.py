"""Image transformers give what the library gives, and take the files that are published for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from mer.configured import build
from mer.encoders import Encoder
from mer.encoders.images import PRESETS, ImageTransformer
from mer.encoders.weights import KeyTable, tensors
from mer.errors import UserError
from mer.tokens import Sampled

SHAPE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "clip": SHAPE | {"model_type": "clip_vision_model", "projection_dim": 12},
    "siglip": SHAPE | {"model_type": "siglip_vision_model"},
    "dinov2": SHAPE | {"model_type": "dinov2", "mlp_ratio": 2},
    "dinov2, swiglu": SHAPE | {"model_type": "dinov2", "mlp_ratio": 2, "use_swiglu_ffn": True},
    "dinov2, registers": SHAPE | {"model_type": "dinov2_with_registers", "mlp_ratio": 2},
    "dinov3": SHAPE | {"model_type": "dinov3_vit", "num_register_tokens": 3},
}


def tiny(name: str, **more: Any) -> ImageTransformer:
    torch.manual_seed(0)
    return stirred(ImageTransformer(config=TINY[name], **more))


def stirred(module: Any) -> Any:
    """With no parameter left at the 0 or 1 that it was built with."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return module.eval()


def frames(count: int = 3, size: int = 16) -> Sampled:
    values = torch.randint(0, 256, (1, count, 3, size, size), generator=torch.Generator().manual_seed(1))
    return Sampled(values.to(torch.uint8), torch.ones(1, count, dtype=torch.bool), torch.zeros(1, count, 2))


@pytest.mark.parametrize(
    ("architecture", "more", "parameters", "dim"),
    [
        ("clip-vit-base-patch32", {}, 87_456_000, 768),
        ("clip-vit-base-patch32", {"features": "embedding"}, 87_456_000 + 768 * 512, 512),
        ("clip-vit-large-patch14", {}, 303_179_776, 1024),
        ("siglip-base-patch16-224", {}, 92_884_224, 768),
        ("dinov2-base", {}, 85_725_696 + (37**2 - 16**2) * 768, 768),  # published at 518, often counted at 224
        # Counted without the mask token and without the biases of query and value, which timm keeps elsewhere.
        ("dinov3-vits16", {}, 21_586_944 + 384 + 12 * 2 * 384, 384),
        ("dinov3-vitb16", {}, 85_641_216 + 768 + 12 * 2 * 768, 768),
    ],
)
def test_the_presets_have_the_published_sizes(
    architecture: str, more: dict[str, Any], parameters: int, dim: int
) -> None:
    with torch.device("meta"):
        encoder = ImageTransformer(architecture, **more)
    assert sum(p.numel() for p in encoder.network.parameters()) == parameters
    assert (encoder.dim, encoder.spec.size) == (dim, (224, 224))


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_the_features_are_those_of_the_library(name: str) -> None:
    encoder = tiny(name)
    library = encoder.network
    pixels = encoder.pixels(frames())[0]
    answer = library(pixels)
    expected = {
        "pooled": answer.pooler_output[None],
        "cls": answer.last_hidden_state[None, :, 0],
        "mean": answer.last_hidden_state[None, :, -4:].mean(2),
        "patches": answer.last_hidden_state[:, -4:].flatten(0, 1)[None],
    }
    if name == "siglip":
        del expected["cls"]
    for features, values in expected.items():
        torch.testing.assert_close(tiny(name, features=features)(frames()).values, values)


@torch.no_grad()
def test_clips_embedding_is_the_librarys_image_feature(tmp_path: Path) -> None:
    vision = TINY["clip"] | {"projection_dim": 12}
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    whole = stirred(
        transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=12))
    )
    whole.save_pretrained(tmp_path)
    encoder = ImageTransformer(config=str(tmp_path), features="embedding").eval()
    report = encoder.load_published(tmp_path)
    expected = whole.get_image_features(encoder.pixels(frames())[0])
    expected = expected if isinstance(expected, Tensor) else expected.pooler_output
    torch.testing.assert_close(encoder(frames()).values[0], expected)
    assert "the text half" in report.unused.values()
    pooled = ImageTransformer(config=str(tmp_path)).eval()
    report = pooled.load_published(tmp_path)
    assert report.unused["visual_projection.weight"] == "the projection into the space of text"
    torch.testing.assert_close(pooled(frames()).values[0], whole.vision_model(pooled.pixels(frames())[0]).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_a_folder_that_the_library_saved_gives_its_own_answers(name: str, tmp_path: Path) -> None:
    """Its layout is the hub's: the library renames on the way in and out."""
    library = stirred(tiny(name).network)
    library.save_pretrained(tmp_path)
    encoder = ImageTransformer(config=str(tmp_path)).eval()
    report = encoder.load_published(tmp_path)
    assert report.loaded == len(library.state_dict())
    expected = library(encoder.pixels(frames())[0]).pooler_output
    torch.testing.assert_close(encoder(frames()).values[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2", "dinov3"])
def test_at_another_size_positions_are_interpolated_as_the_library_does(name: str) -> None:
    encoder = tiny(name, size=32)
    option = {"interpolate_pos_encoding": True} if name in ("clip", "siglip") else {}
    expected = encoder.network(encoder.pixels(frames(size=32))[0], **option).pooler_output
    torch.testing.assert_close(encoder(frames(size=32)).values[0], expected)


# -- published files ----------------------------------------------------------------------------------------------------


def published(encoder: ImageTransformer, table: KeyTable) -> dict[str, Tensor]:
    """The encoder's tensors as a file of this layout keeps them; what such a file keeps in one tensor is joined."""
    content: dict[str, list[Tensor]] = {}
    for key, value in encoder.network.state_dict().items():
        content.setdefault(table.theirs(key), []).append(value)
    return {name: torch.cat(values) if len(values) > 1 else values[0] for name, values in content.items()}


LAYOUTS = [
    (name, features, table.name)
    for name, features in [
        ("clip", "cls"), ("clip", "embedding"), ("siglip", "pooled"), ("dinov2", "pooled"), ("dinov2, swiglu", "mean"),
        ("dinov2, registers", "pooled"), ("dinov3", "pooled"),
    ]
    for table in tiny(name, features=features).tables()
    if not (features == "embedding" and table.name == "image half")
]  # fmt: skip


@pytest.mark.parametrize(("name", "features", "layout"), LAYOUTS)
class TestFiles:
    def make(self, name: str, features: Any, layout: str) -> tuple[ImageTransformer, dict[str, Tensor]]:
        encoder = tiny(name, features=features)
        table = next(t for t in encoder.tables() if t.name == layout)
        return encoder, published(encoder, table)

    @torch.no_grad()
    def test_a_file_of_each_layout_gives_the_same_answers(
        self, name: str, features: Any, layout: str, tmp_path: Path
    ) -> None:
        encoder, content = self.make(name, features, layout)
        torch.save({"state_dict": {f"module.{k}": v for k, v in content.items()}}, tmp_path / "file.pth")
        fresh = ImageTransformer(config=TINY[name], features=features).eval()
        assert not torch.allclose(fresh(frames()).values, encoder(frames()).values)
        report = fresh.load_published(tmp_path / "file.pth")
        assert (report.unused, report.absent, report.loaded) == ({}, {}, len(encoder.network.state_dict()))
        torch.testing.assert_close(fresh(frames()).values, encoder(frames()).values, atol=0, rtol=0)

    @pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
    def test_one_key_missing_extra_or_of_another_shape_is_named(
        self, name: str, features: Any, layout: str, fault: str, tmp_path: Path
    ) -> None:
        encoder, content = self.make(name, features, layout)
        key = sorted(key for key in content if content[key].ndim == 2)[-1]
        if fault == "missing":
            del content[key]
        elif fault == "extra":
            content[key := "surplus.weight"] = torch.zeros(1)
        else:
            content[key] = torch.cat([content[key], content[key][:1]])
        save_file({k: v.contiguous() for k, v in content.items()}, tmp_path / "file.safetensors")
        with pytest.raises(UserError, match=f"'{key}'.* {'has the shape' if fault == 'shape' else fault}") as raised:
            encoder.load_published(tmp_path / "file.safetensors")
        assert "\n" not in str(raised.value)


def test_joined_tensors_are_query_key_value_and_gate_up_in_this_order() -> None:
    encoder = tiny("dinov2")
    table = next(t for t in encoder.tables() if t.name == "facebookresearch")
    content = published(encoder, table)
    state = encoder.network.state_dict()
    block = [state[f"encoder.layer.1.attention.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(content["blocks.1.attn.qkv.weight"], torch.cat(block))
    gate = published(tiny("dinov2, swiglu"), table)["blocks.0.mlp.w12.weight"]
    state = tiny("dinov2, swiglu").network.state_dict()
    halves = [state[f"encoder.layer.0.mlp.{half}_proj.weight"] for half in ("gate", "up")]
    assert torch.equal(gate, torch.cat(halves))


def test_the_classifier_of_a_task_is_not_needed(tmp_path: Path) -> None:
    encoder = tiny("dinov2")
    library = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**TINY["dinov2"], num_labels=3))
    library.save_pretrained(tmp_path)
    assert any(key.startswith("dinov2.") for key in tensors(tmp_path))
    report = encoder.load_published(tmp_path)
    assert set(report.unused.values()) == {"a classifier"}
    torch.testing.assert_close(encoder.network.layernorm.weight, library.dinov2.layernorm.weight)


# -- configs ------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_config_and_preprocessing_and_is_not_needed_afterwards(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY["dinov2"] | {"architectures": ["Dinov2Model"]}))
    prepared = {"size": {"shortest_edge": 40}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True}
    prepared |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    encoder = ImageTransformer(config=str(tmp_path))
    assert (encoder.spec.size, encoder.spec.mean, encoder.spec.std) == ((24, 24), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    described = json.loads(json.dumps(encoder.describe()))
    for file in tmp_path.iterdir():
        file.unlink()
    copy = build(described, Encoder, ("mer.encoders",), (), "test")
    assert copy.spec == encoder.spec
    assert copy.describe() == described
    assert copy.state_dict().keys() == encoder.state_dict().keys()
    assert ImageTransformer(config=TINY["dinov2"], size=32).spec.size == (32, 32)


def test_sizes_of_a_preprocessor_are_read_in_each_of_their_forms(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY["siglip"]))
    for prepared, size in [
        ({"size": {"height": 32, "width": 32}}, 32),
        ({"size": 24}, 24),
        ({"size": {"shortest_edge": 24}}, 24),
        ({"size": 40, "crop_size": 32}, 32),
        ({"size": 40, "crop_size": 32, "do_center_crop": False}, 40),
        ({}, 16),
    ]:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
        assert ImageTransformer(config=str(tmp_path)).spec.size == (size, size)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"longest_edge": 4}}')
    with pytest.raises(UserError, match="not a readable preprocessor"):
        ImageTransformer(config=str(tmp_path))


def test_only_what_shapes_the_network_is_taken_from_a_config() -> None:
    """The rest may name places that are downloaded from, or code."""
    config = TINY["clip"] | {
        "attn_implementation": "hub-owner/kernel",
        "auto_map": {"AutoModel": "x.Y"},
        "id2label": {},
    }
    encoder = ImageTransformer(config=config)
    assert not {"attn_implementation", "auto_map", "id2label"} & encoder.init_args["config"].keys()
    assert encoder.network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "siglip-base-patch16-224", "features": "cls"}, "siglip_vision_model has no features 'cls'"),
        ({"config": TINY["dinov2"], "features": "embedding"}, "dinov2 has no features 'embedding'"),
        ({"config": TINY["siglip"] | {"vision_use_head": False}}, "has no features 'pooled'. Use mean, patches"),
        ({"config": TINY["clip"], "features": "tokens"}, "no features 'tokens'"),
        ({"config": {"model_type": "bert"}}, "'bert' is none of the image networks"),
        ({"config": TINY["clip"], "size": 7}, "7 pixels has no patch of 8"),
        ({"config": TINY["clip"] | {"num_attention_heads": 3}}, "builds no 'clip_vision_model' from this config"),
        ({"architecture": "resnet50"}, "unknown architecture 'resnet50'"),
        ({}, "either 'architecture' or 'config'"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        ImageTransformer(**arguments)
    assert message in str(raised.value)


def test_what_the_features_are_not_made_of_does_not_train() -> None:
    def frozen(name: str, **more: Any) -> set[str]:
        return {n for n, p in tiny(name, **more).network.named_parameters() if not p.requires_grad}

    assert frozen("clip") == set()
    assert frozen("clip", features="mean") == {"post_layernorm.weight", "post_layernorm.bias"}
    assert all(name.startswith("head.") for name in frozen("siglip", features="mean"))
    assert frozen("siglip", features="mean")
    assert frozen("dinov2") == {"embeddings.mask_token"}


def test_faces_or_whole_pictures() -> None:
    assert ImageTransformer(config=TINY["clip"], crop="face", face={"align": "arcface"}).spec.face is not None
    assert ImageTransformer(config=TINY["clip"], crop="none", rate=None).spec.rate is None


@torch.no_grad()
def test_a_long_clip_goes_through_in_parts() -> None:
    encoder = tiny("clip")
    long = frames(130)
    torch.testing.assert_close(encoder(long).values[0, 129:], encoder._encode(encoder.pixels(long)[0, 129:]))


def test_every_preset_has_a_size_of_its_own() -> None:
    assert len({json.dumps(p, sort_keys=True) for p in PRESETS.values()}) == len(PRESETS)
