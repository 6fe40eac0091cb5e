"""Single frames through any network of the package timm, which is installed apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.encoders import foreign
from mer.encoders.base import Encoder
from mer.encoders.images import AT_ONCE
from mer.encoders.measure import measure
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

Feature = Literal["pooled", "cls", "mean", "patches"]


class TimmFrames(Encoder):
    """Any network of timm 1.x (EfficientNet, MobileViT, Swin, ViT, EVA-02, ConvNeXt ...) over single frames.

    Wightman: PyTorch Image Models, 2019. Frames do not see each other: real frames alone pass through the network. timm is
    imported when an encoder is built. Its networks need no torchvision, and beside a CPU build of torch it must not bring
    it: `pip install --no-deps 'timm>=1.0,<2'`.

    Args:
        model: its name in timm, with or without the tag of a checkpoint (`efficientnet_b0`, `vit_base_patch14_dinov2.lvd142m`);
            the tag says size, mean and std. Built without weights; no name is looked up on a hub.
        arguments: plain values for its constructor, e.g. `{drop_path_rate: 0.1}`.
        features: `pooled`, what its classifier would read; `mean` over the places of its last feature map (class and
            register tokens left out); `cls`, the class token; `patches`, all places.
        rate: frames per second taken from the video; None takes each frame once.
        size: height and width in pixels; by default what the model is made for.
        mean, std: per channel, of pixels in [0, 1]; by default the model's.
        window: seconds the predictor shows at once.
        crop, face: see `InputSpec`.

    Tokens: one per frame, (B, T, dim) at `rate` Hz; `patches`: (B, T * patches, dim), row by row, those of a frame share
        its span.
    """

    def __init__(
        self,
        model: str,
        arguments: dict[str, Any] | None = None,
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
        if features not in ("pooled", "cls", "mean", "patches"):
            raise UserError(f"TimmFrames has no features {features!r}", "Use pooled, mean, cls or patches")
        self.features: Feature = features
        self.network = _network(model, dict(arguments or {}), size)
        own: Any = self.network.pretrained_cfg
        size = size or int(own["input_size"][-1])
        self.spec = InputSpec(
            "video",
            rate=rate,
            size=(size, size),
            mean=tuple(mean or own["mean"]),
            std=tuple(std or own["std"]),
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.output_rate = rate
        self.prefix = int(getattr(self.network, "num_prefix_tokens", 0))  # class and register tokens
        if features == "cls" and not getattr(self.network, "has_class_token", self.prefix > 0):
            raise UserError(f"timm's {model!r} has no class token", "Use the features pooled or mean")
        shape = measure(self, self._encode, (1, 3, size, size))
        self.patches, self.dim = (shape[1] if features == "patches" else 1), shape[-1]

    def forward(self, inputs: Sampled) -> Tokens:
        group = self.patches if self.features == "patches" else 1
        values = torch.zeros((*inputs.mask.shape, group, self.dim), device=inputs.values.device)
        if bool(inputs.mask.any()):
            parts = inputs.values[inputs.mask].split(AT_ONCE)
            encoded = torch.cat([self._encode(self.normalised(part)) for part in parts]).reshape(-1, group, self.dim)
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        return Tokens(
            values.flatten(1, 2), inputs.mask.repeat_interleave(group, 1), inputs.spans.repeat_interleave(group, 1)
        )

    def _encode(self, frames: Tensor) -> Tensor:
        """(K, 3, H, W) to (K, dim), or (K, patches, dim)."""
        network: Any = self.network
        x = network.forward_features(frames)
        if self.features == "pooled":
            return network.forward_head(x, pre_logits=True)
        if self.features == "cls":
            return x[:, 0]
        places = self._places(x)
        return places.mean(1) if self.features == "mean" else places

    def _places(self, x: Tensor) -> Tensor:
        """The last feature map (K, C, H, W), (K, H, W, C) or (K, tokens, C) as (K, H * W, C)."""
        if x.ndim == 3:
            return x[:, self.prefix :]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return x.flatten(1, 2)
        return x.flatten(2).transpose(1, 2)

    def tables(self) -> Sequence[KeyTable]:
        own: Any = self.network.pretrained_cfg
        heads = own.get("classifier") or "classifier"
        names = "|".join(name.replace(".", r"\.") for name in ([heads] if isinstance(heads, str) else heads))
        return (KeyTable("timm", unused=((rf"^({names})\.", "a classifier"),)),)


def _network(model: str, arguments: dict[str, Any], size: int | None) -> nn.Module:
    """A network of timm without its classifier, with random weights.

    Raises:
        UserError: timm is absent or broken, does not know the name, or refuses the arguments.
    """
    timm = foreign.timm()
    # A name with a scheme would be looked up on a hub or in a folder, and `pretrained_cfg` says where to download from.
    name = model.split(".")[0]
    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:8] if name.replace("_", "").isalnum() else []
        hint = f"Use one of timm.list_models(), e.g. {', '.join(near or timm.list_models()[:8])}"
        raise UserError(f"timm {timm.__version__} has no model {model!r}", hint)
    for key, value in arguments.items():
        if key.startswith(("pretrained", "checkpoint", "cache", "num_classes", "features_only")):
            raise UserError(f"TimmFrames with the argument {key!r}", "Leave it out; weights come from encoder_weights")
        if not (value is None or isinstance(value, (bool, int, float, str, list, tuple))):
            raise UserError(f"TimmFrames with a {type(value).__name__} as {key!r}", "Use plain values")
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, **arguments)
        own = network.pretrained_cfg["input_size"][-1]
        if size not in (None, own) and hasattr(network, "set_input_size") and "img_size" not in arguments:
            network.set_input_size(img_size=size)
    except Exception as error:  # each model checks its arguments in its own way
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"timm's {model} refuses its arguments ({type(error).__name__}: {reason})", "Correct them"
        ) from None
    return network
