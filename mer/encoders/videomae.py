"""VideoMAE through the package `transformers`: windows of frames as tubelets, a plain transformer over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.encoders import library
from mer.encoders.base import Encoder
from mer.encoders.bridge import AT_ONCE
from mer.encoders.images import part, preprocessing
from mer.encoders.weights import KeyTable
from mer.encoders.windows import cut, spread
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

_VIDEOMAE = {"model_type": "videomae", "use_mean_pooling": False}
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {},  # transformers' defaults
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "huge": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120},
}
# A network that was trained to classify has its last norm behind the mean over tokens, the others before it.
PRESETS = {f"videomae-{name}": _VIDEOMAE | size for name, size in _SIZES.items()} | {
    f"videomae-{name}-finetuned": _VIDEOMAE | size | {"use_mean_pooling": True} for name, size in _SIZES.items()
}
_SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
    "patch_size", "num_channels", "num_frames", "tubelet_size", "hidden_act", "layer_norm_eps", "qkv_bias",
    "use_mean_pooling", "hidden_dropout_prob", "attention_probs_dropout_prob",
)  # fmt: skip
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VideoMAE(Encoder):
    """VideoMAE (Tong, Song, Wang, Wang, NeurIPS 2022) over consecutive windows of 16 frames.

    A last window that is not full is seen as it is: its positions are the first ones of the table, which is what a
    network for so many frames would have. An odd last frame is repeated to fill its tubelet.

    Args:
        architecture: `videomae-small`, `-base`, `-large` or `-huge`, with `-finetuned` behind it where the file is of a
            classifier (its last norm sits elsewhere).
        config: in its place a `config.json`, its folder, or its content. Of a folder, `preprocessor_config.json` gives
            mean and std where they are not given here.
        tokens: `temporal`, one per tubelet (2 frames), the mean over its patches; `pooled`, one per window, the mean over
            all. Of a finetuned network the mean goes through its last norm, which in the published classifier only
            that of all patches does.
        rate: frames per second; the published networks saw 16 frames of about 2 s.
        segments: in place of a rate so many frames of the whole clip, however long it is.
        mean, std: per channel, of pixels in [0, 1].
        window: seconds the predictor shows at once.
        crop, face: see `InputSpec`.

    Tokens: (B, T, dim); `temporal` at rate / 2 Hz, `pooled` one per 16 frames.
    """

    positions: Tensor

    def __init__(
        self,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        tokens: Literal["temporal", "pooled"] = "temporal",
        rate: float | None = 7.5,
        segments: int | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        if tokens not in ("temporal", "pooled"):
            raise UserError(f"VideoMAE has no tokens {tokens!r}", "Use temporal or pooled")
        prepared = preprocessing(config) if isinstance(config, str) else {}
        mean, std = mean or prepared.get("mean"), std or prepared.get("std")
        plain = library.plain_config(architecture, config, PRESETS)
        if plain["model_type"] != "videomae":
            raise UserError(f"the model type {plain['model_type']!r} is not videomae", "Use another encoder for it")
        backbone: Any = library.network({key: plain[key] for key in _SHAPE if key in plain})
        own = dict(backbone.config.to_dict())
        if config is not None:  # a checkpoint needs no file, nor later defaults
            self.init_args |= {"config": {key: own[key] for key in _SHAPE if key in own}, "mean": mean, "std": std}
        self.frames, self.tubelet, size = int(own["num_frames"]), int(own["tubelet_size"]), int(own["image_size"])
        if self.frames % self.tubelet:
            raise UserError(f"windows of {self.frames} frames in tubelets of {self.tubelet}", "Correct the config")
        self.dim, self.tokens = int(own["hidden_size"]), tokens
        self.spec = InputSpec(
            "video",
            rate=None if segments else rate,
            segments=segments,
            size=(size, size),
            mean=tuple(mean or _MEAN),
            std=tuple(std or _STD),
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.steps = self.frames // self.tubelet if tokens == "temporal" else 1  # tokens of a full window
        self.output_rate = self.spec.rate * self.steps / self.frames if self.spec.rate else None
        self.network = Network(backbone, self.dim if own["use_mean_pooling"] else None)
        self.patches = (size // int(own["patch_size"])) ** 2
        # A plain tensor there, which would stay behind when the module moves.
        self.register_buffer("positions", backbone.embeddings.position_embeddings, persistent=False)

    def forward(self, inputs: Sampled) -> Tokens:
        windows = cut(inputs, self.frames)
        if not len(windows.counts):
            values = torch.zeros((0, self.steps, self.dim), device=inputs.values.device)
            values = self.in_graph(values)
            return spread(values, windows, inputs)
        tubelets = -(-windows.counts // self.tubelet)
        order, encoded = [], []
        for length in tubelets.unique().tolist():  # full windows together, and each shorter length
            for chosen in (tubelets == length).nonzero()[:, 0].split(AT_ONCE):
                tokens = self._encode(windows.values[chosen, : length * self.tubelet])
                order.append(chosen)
                encoded.append(nn.functional.pad(tokens, (0, 0, 0, self.steps - tokens.shape[1])))
        return spread(torch.cat(encoded)[torch.cat(order).argsort()], windows, inputs)

    def _encode(self, frames: Tensor) -> Tensor:
        """uint8 (K, F, 3, H, W) to (K, F / tubelet, dim), or (K, 1, dim)."""
        network = self.network
        assert isinstance(network, Network)
        x = network.videomae.embeddings.patch_embeddings(self.normalised(frames))
        x = x + self.positions[:, : x.shape[1]].to(x.dtype)
        x = network.videomae.encoder(x).last_hidden_state
        if network.videomae.layernorm is not None:
            x = network.videomae.layernorm(x)
        x = x.unflatten(1, (-1, self.patches)).mean(2)
        if self.tokens == "pooled":
            x = x.mean(1, keepdim=True)
        return x if network.fc_norm is None else network.fc_norm(x)

    def tables(self) -> Sequence[KeyTable]:
        return _TABLES


class Network(nn.Module):
    """The published network without its classifier, in the key layout of the hub.

    Args:
        backbone: transformers' VideoMAEModel.
        pooled_norm: width of the norm behind the mean over tokens, of a finetuned network.
    """

    def __init__(self, backbone: nn.Module, pooled_norm: int | None):
        super().__init__()
        self.videomae: Any = backbone
        self.fc_norm = nn.LayerNorm(pooled_norm) if pooled_norm else None


_REST = ((r"^(decoder|encoder_to_decoder|mask_token)\b", "the decoder"), (r"^classifier\.", "a classifier"))
_HUB_BIAS = (
    (r"attention\.attention\.query\.bias", "attention.attention.q_bias"),
    (r"attention\.attention\.value\.bias", "attention.attention.v_bias"),
)
_ORIGINAL = (
    (r"^videomae\.embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^videomae\.encoder\.layer\.", "blocks."),
    (r"attention\.attention\.query\.bias", "attn.q_bias"),
    (r"attention\.attention\.value\.bias", "attn.v_bias"),
    (r"attention\.attention\.(query|key|value)\.weight", "attn.qkv.weight"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^videomae\.layernorm\.", "norm."),
)
_THIRDS = tuple((rf"attention\.{name}\.weight", part(index, 3)) for index, name in enumerate(("query", "key", "value")))
_ORIGINAL_REST = (
    (r"^(decoder\.|encoder_to_decoder\.|mask_token$)", "the decoder"),
    (r"^head\.", "a classifier"),
)
_TABLES = (
    KeyTable("hub", _HUB_BIAS, unused=_REST),
    KeyTable("hub, bare", (*_HUB_BIAS, (r"^videomae\.", "")), unused=_REST),
    KeyTable("transformers 5", unused=_REST),
    # The authors' own files: a finetuned network, and the encoder of a pre-trained one.
    KeyTable("MCG-NJU", _ORIGINAL, unused=_ORIGINAL_REST, fits=_THIRDS),
    KeyTable("MCG-NJU, pre-trained", (*_ORIGINAL, (r"^", "encoder.")), unused=_ORIGINAL_REST, fits=_THIRDS),
)
