"""Single frames through an image transformer of the package `transformers`: CLIP, SigLIP, DINOv2, DINOv3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.encoders import library
from mer.encoders.base import Encoder
from mer.encoders.weights import Fit, KeyTable
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

Feature = Literal["pooled", "cls", "mean", "patches", "embedding"]

AT_ONCE = 64  # frames that go through a network together; more costs memory and wins nothing
_CLIP = {"model_type": "clip_vision_model", "projection_dim": 512, "image_size": 224, "patch_size": 32}
_SIGLIP = {"model_type": "siglip_vision_model", "image_size": 224, "patch_size": 16}
_DINO2 = {"model_type": "dinov2", "image_size": 518, "patch_size": 14}
_DINO3 = {"model_type": "dinov3_vit", "num_register_tokens": 4}
_SMALL = {"hidden_size": 384, "num_attention_heads": 6}
_BASE = {"hidden_size": 768, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
_CLIP_LARGE = _CLIP | _LARGE | {"intermediate_size": 4096, "patch_size": 14, "projection_dim": 768}
_SO400M = {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304}
# What is not given here is transformers' default, which is the base size of each family.
PRESETS: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch32": _CLIP,
    "clip-vit-base-patch16": _CLIP | {"patch_size": 16},
    "clip-vit-large-patch14": _CLIP_LARGE,
    "clip-vit-large-patch14-336": _CLIP_LARGE | {"image_size": 336},
    "siglip-base-patch16-224": _SIGLIP,
    "siglip-base-patch16-384": _SIGLIP | {"image_size": 384},
    "siglip-large-patch16-256": _SIGLIP | _LARGE | {"intermediate_size": 4096, "image_size": 256},
    "siglip-so400m-patch14-384": _SIGLIP | _SO400M | {"image_size": 384, "patch_size": 14},
    "dinov2-small": _DINO2 | _SMALL,
    "dinov2-base": _DINO2 | _BASE,
    "dinov2-large": _DINO2 | _LARGE,
    "dinov2-giant": _DINO2 | _GIANT,
    "dinov2-with-registers-small": _DINO2 | _SMALL | {"model_type": "dinov2_with_registers"},
    "dinov2-with-registers-base": _DINO2 | _BASE | {"model_type": "dinov2_with_registers"},
    "dinov2-with-registers-large": _DINO2 | _LARGE | {"model_type": "dinov2_with_registers"},
    "dinov2-with-registers-giant": _DINO2 | _GIANT | {"model_type": "dinov2_with_registers"},
    "dinov3-vits16": _DINO3 | _SMALL | {"intermediate_size": 1536},
    "dinov3-vitb16": _DINO3 | _BASE | {"intermediate_size": 3072},
    "dinov3-vitl16": _DINO3 | _LARGE | {"intermediate_size": 4096},
}
# A config.json says much about where a network comes from; this is what it is built from.
_SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "mlp_ratio", "num_hidden_layers", "num_attention_heads",
    "image_size", "patch_size", "num_channels", "hidden_act", "layer_norm_eps", "attention_dropout",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate", "layerscale_value", "projection_dim",
    "vision_use_head", "qkv_bias", "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "use_swiglu_ffn",
    "use_gated_mlp", "num_register_tokens", "use_mask_token", "rope_theta", "pos_embed_shift", "pos_embed_jitter",
    "pos_embed_rescale",
)  # fmt: skip
_VISION_PART = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # of networks that also read text
_MEAN_STD = {
    "clip_vision_model": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip_vision_model": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "dinov2_with_registers": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "dinov3_vit": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class ImageTransformer(Encoder):
    """CLIP, SigLIP, DINOv2 (with registers or without) or DINOv3 over single frames, faces or whole pictures.

    Radford et al., ICML 2021; Zhai et al., ICCV 2023; Oquab et al., TMLR 2024; Darcet et al., ICLR 2024; Siméoni et al.,
    2025. Frames do not see each other: real frames alone pass through the network.

    Args:
        architecture: name of a preset, see `PRESETS`.
        config: in its place a `config.json` of one of these networks, its folder, or its content. Of a folder,
            `preprocessor_config.json` gives size, mean and std where they are not given here.
        features: `pooled`, what the network itself makes of a picture (CLIP: the class token, normalised; SigLIP: its
            attention pooling; DINO: the class token); `cls`, the class token of the last hidden state; `mean` of its
            patches; `patches`, all of them; `embedding`, CLIP's projection into the space it shares with text.
        rate: frames per second taken from the video; None takes each frame once.
        size: height and width in pixels; other than the network's own, its positions are interpolated. By default its own,
            but 224 for DINOv2 (published with positions for 518).
        mean, std: per channel, of pixels in [0, 1].
        window: seconds the predictor shows at once.
        crop: `center`, `none` or `face`, see `InputSpec.crop`. Published numbers often resize to 256 and cut 224; here the
            largest centred square is seen whole.
        face: of crop `face`: how faces are found, see `mer.spec.Face`.

    Tokens: one per frame, (B, T, dim) at `rate` Hz; `patches`: (B, T * patches, dim), row by row, those of a frame share
        its span.
    """

    def __init__(
        self,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        features: Feature = "pooled",
        rate: float | None = 4.0,
        size: int | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        prepared = preprocessing(config) if isinstance(config, str) else {}
        size = size or prepared.get("size")
        mean, std = mean or prepared.get("mean"), std or prepared.get("std")
        plain = vision_config(library.plain_config(architecture, config, PRESETS))
        self.kind: str = plain["model_type"]
        self.features: Feature = features
        self._check(plain)
        vision: Any = library.network(plain)
        own = dict(vision.config.to_dict())
        if config is not None:  # a checkpoint needs no file, nor later defaults
            plain = {key: own[key] for key in _SHAPE if key in own}
            self.init_args |= {"config": plain, "size": size, "mean": mean, "std": std}
        self.own_size = int(own["image_size"])
        size = size or (min(224, self.own_size) if self.kind.startswith("dinov2") else self.own_size)
        patch = int(own["patch_size"])
        if size < patch:
            raise UserError(f"a picture of {size} pixels has no patch of {patch}", f"Use a multiple of {patch} as size")
        self.patches = (size // patch) ** 2  # what is left over at the right and below is not seen, as published
        known_mean, known_std = _MEAN_STD[self.kind]
        self.spec = InputSpec(
            "video",
            rate=rate,
            size=(size, size),
            mean=tuple(mean or known_mean),
            std=tuple(std or known_std),
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.output_rate = rate
        self.dim = int(own["projection_dim"] if features == "embedding" else own["hidden_size"])
        self.network: nn.Module = Projected(vision, self.dim) if features == "embedding" else vision
        for name, parameter in self.network.named_parameters():
            if any(re.search(pattern, name) for pattern in self._idle()) or not parameter.numel():
                parameter.requires_grad_(False)

    def forward(self, inputs: Sampled) -> Tokens:
        group = self.patches if self.features == "patches" else 1
        values = torch.zeros((*inputs.mask.shape, group, self.dim), device=inputs.values.device)
        if bool(inputs.mask.any()):
            parts = inputs.values[inputs.mask].split(AT_ONCE)
            encoded = torch.cat([self._encode(self.normalised(part)) for part in parts]).unflatten(0, (-1, 1))
            encoded = encoded.reshape(-1, group, self.dim)
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        return Tokens(
            values.flatten(1, 2), inputs.mask.repeat_interleave(group, 1), inputs.spans.repeat_interleave(group, 1)
        )

    def _encode(self, frames: Tensor) -> Tensor:
        """(K, 3, H, W) to (K, dim), or (K, patches, dim)."""
        vision = self.network.vision_model if isinstance(self.network, Projected) else self.network
        resized = self.kind in _VISION_PART.values() and frames.shape[-1] != self.own_size  # DINO sees it by itself
        answer = vision(frames, **({"interpolate_pos_encoding": True} if resized else {}))
        if isinstance(self.network, Projected):
            return self.network.visual_projection(answer.pooler_output)
        if self.features == "pooled":
            return answer.pooler_output
        if self.features == "cls":
            return answer.last_hidden_state[:, 0]
        patches = answer.last_hidden_state[:, -self.patches :]  # class and register tokens come first
        return patches.mean(1) if self.features == "mean" else patches

    def tables(self) -> Sequence[KeyTable]:
        if self.kind.startswith("dinov2"):
            return _DINOV2
        return _DINOV3 if self.kind == "dinov3_vit" else _WITH_TEXT

    def _check(self, plain: Mapping[str, Any]) -> None:
        missing = {
            "cls": self.kind == "siglip_vision_model",
            "embedding": self.kind != "clip_vision_model",
            "pooled": not plain.get("vision_use_head", True),
        }
        if self.features not in ("pooled", "cls", "mean", "patches", "embedding") or missing.get(self.features):
            choices = [f for f in ("pooled", "cls", "mean", "patches", "embedding") if not missing.get(f)]
            raise UserError(f"{self.kind} has no features {self.features!r}", f"Use {', '.join(choices)}")

    def _idle(self) -> Iterable[str]:
        """Parameters that such features are not made of."""
        yield r"embeddings\.mask_token$"
        if self.features not in ("pooled", "embedding"):
            yield r"^post_layernorm\." if self.kind == "clip_vision_model" else r"^head\."


class Projected(nn.Module):
    """CLIP's image half with its projection, in the key layout of the whole network."""

    def __init__(self, vision: nn.Module, dim: int):
        super().__init__()
        self.vision_model = vision
        config: Any = vision.config
        self.visual_projection = nn.Linear(int(config.hidden_size), dim, bias=False)


def vision_config(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Of a config of one of the families, also of a whole CLIP or SigLIP: what the image half is built from.

    Raises:
        UserError: another model type.
    """
    kind = str(plain["model_type"])
    if kind in _VISION_PART:
        part = plain.get("vision_config") or {}
        shared = {"projection_dim": plain["projection_dim"]} if "projection_dim" in plain else {}
        plain = {**(part if isinstance(part, Mapping) else {}), **shared, "model_type": _VISION_PART[kind]}
        kind = plain["model_type"]
    if kind not in _MEAN_STD:
        raise UserError(f"the model type {kind!r} is none of the image networks here", f"Use {', '.join(_MEAN_STD)}")
    return {key: plain[key] for key in _SHAPE if key in plain}


def preprocessing(folder: str) -> dict[str, Any]:
    """`size`, `mean` and `std` of the `preprocessor_config.json` in a folder; nothing where there is none.

    Raises:
        UserError: it is not readable.
    """
    path = Path(folder, "preprocessor_config.json")
    if not path.is_file():
        return {}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = {}
        cut = plain.get("crop_size") if plain.get("do_center_crop", "crop_size" in plain) else None
        sizes = cut or plain.get("size")
        if sizes:
            found["size"] = sizes if isinstance(sizes, int) else int(sizes.get("height") or sizes["shortest_edge"])
        for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
            if plain.get(theirs):
                found[ours] = tuple(float(v) for v in plain[theirs])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a readable preprocessor ({error})", "Download it again, or remove it") from None
    return found


def part(index: int, of: int) -> Fit:
    """One of several equal blocks of rows that a file keeps in one tensor."""

    def fit(value: Tensor, shape: torch.Size) -> Tensor:
        return value.unflatten(0, (of, -1))[index] if value.shape[:1] == (of * shape[0],) else value

    return fit


_OLD_POSITIONS = (r"embeddings\.position_ids$", "a table of indices")
_TEXT = ((r"^(text_model|text_projection|logit_scale|logit_bias)\b", "the text half"), _OLD_POSITIONS)
_WITH_TEXT = (
    KeyTable(
        "whole network",
        ((r"^(?!visual_projection)(vision_model\.)?", "vision_model."),),
        unused=(*_TEXT, (r"^visual_projection\.", "the projection into the space of text")),
    ),
    KeyTable("image half", ((r"^vision_model\.", ""),), unused=(_OLD_POSITIONS,)),
)
_HALVES = ((r"mlp\.gate_proj", part(0, 2)), (r"mlp\.up_proj", part(1, 2)))
# As the hub keeps them (transformers 4), also within a classifier; as torch.hub of facebookresearch; as transformers 5 does.
_HUB = (
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.(gate|up)_proj", "mlp.weights_in"),
    (r"mlp\.down_proj", "mlp.weights_out"),
)
_FACEBOOK = (
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"attention\.[qkv]_proj", "attn.qkv"),
    (r"attention\.o_proj", "attn.proj"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"mlp\.(gate|up)_proj", "mlp.w12"),
    (r"mlp\.down_proj", "mlp.w3"),
    (r"^layernorm\.", "norm."),
)
_THIRDS = ((r"\.q_proj", part(0, 3)), (r"\.k_proj", part(1, 3)), (r"\.v_proj", part(2, 3)))
_DINOV2 = (
    KeyTable("hub", _HUB, fits=_HALVES),
    KeyTable(
        "hub, classifier",
        (*_HUB, (r"^", "dinov2.")),
        unused=((r"^classifier\.", "a classifier"),),
        fits=_HALVES,
    ),
    KeyTable(
        "hub, classifier with registers",
        (*_HUB, (r"^", "dinov2_with_registers.")),
        unused=((r"^classifier\.", "a classifier"),),
        fits=_HALVES,
    ),
    KeyTable("facebookresearch", _FACEBOOK, fits=(*_THIRDS, *_HALVES)),
    KeyTable("transformers 5"),
)
_DINOV3 = (KeyTable("hub", ((r"^model\.layer\.", "layer."),)), KeyTable("transformers 5"))
