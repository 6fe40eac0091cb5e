"""AST: a vision transformer over overlapping patches of a log-mel spectrogram, trained to name the sounds of AudioSet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer.encoders import library, weights
from mer.encoders.base import Encoder
from mer.encoders.layer_mix import LayerMix, Layers
from mer.encoders.sound import RATE, joined, longest, tiled, windows
from mer.errors import UserError
from mer.media.kaldi import filterbank, frame_count, frame_sizes, log_fbank
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

# What of a config.json makes the network what it is, and the values of the first published ones.
SIZES: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
    "patch_size": 16,
    "frequency_stride": 10,
    "time_stride": 10,
    "max_length": 1024,
    "num_mel_bins": 128,
}
_KIND = {"model_type": "audio-spectrogram-transformer"}
PRESETS: dict[str, dict[str, Any]] = {
    "ast-10-10": _KIND,
    "ast-12-12": _KIND | {"frequency_stride": 12, "time_stride": 12},
    "ast-14-14": _KIND | {"frequency_stride": 14, "time_stride": 14},
    "ast-16-16": _KIND | {"frequency_stride": 16, "time_stride": 16},
    "ast-speech-commands": _KIND | {"max_length": 128},
}
_AUDIOSET, _COMMANDS = (-4.2677393, 4.5689974), (-6.845978, 5.5654526)  # mean and deviation of a log-mel over a corpus


class AudioSpectrogramTransformer(Encoder):
    """Gong, Chung, Glass: AST: Audio Spectrogram Transformer, Interspeech 2021.

    Kaldi's log-mel, 100 frames a second, in windows of `max_length` frames (10.24 s); what a clip does not fill is 0 before
    the spectrogram is normalised, as published, so that a short clip costs as much as a full window. The network is our own:
    transformers has renamed its keys before.

    Args:
        architecture: name of a preset, see `PRESETS`; `ast-10-10` has patches of 16 every 10 frames and bands.
        config: in its place the `config.json` beside the weights, its folder, or its content.
        tokens: `time`, the mean over frequency of the patches of one moment; `cls`, the mean of the two special tokens,
            which the published classifiers read, one per window.
        layers: `last`, `last4` (their sum), `weighted` (learnt), or an index (0 is what goes into the first layer); layers
            behind it are not built. See `mer.encoders.layer_mix`.
        mean, std: of the log-mel. None: what the `preprocessor_config.json` beside `config` says, else those of the
            corpus that the preset was trained on.
        checkpointing: in training, compute layers again in the backward pass instead of keeping what is in them.
        window: seconds the predictor shows at once.

    Tokens: (B, T, 768) at 10 Hz (100 / `time_stride`). A token hears 175 ms and stands for the 100 in the middle. Patches of
    which less than half heard the clip are dropped; the first and the last token reach to the ends of their window.

    Raises:
        UserError: no or two ways of saying what to build, an unknown architecture, sizes that do not fit each other.
    """

    filters: Tensor
    network: Network

    def __init__(
        self,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        tokens: Literal["time", "cls"] = "time",
        layers: Layers = "last",
        mean: float | None = None,
        std: float | None = None,
        checkpointing: bool = False,
        window: float | None = 10.24,
    ):
        super().__init__()
        plain = library.plain_config(architecture, config, PRESETS)
        if plain["model_type"] != _KIND["model_type"] or tokens not in ("time", "cls"):
            raise UserError(
                f"AudioSpectrogramTransformer of a {plain['model_type']!r} with tokens {tokens!r}",
                "Use the config of an AST, and time or cls",
            )
        self.plain = _KIND | {key: plain.get(key, value) for key, value in SIZES.items()}
        said = library.beside(config, "preprocessor_config.json")
        usual = _COMMANDS if architecture == "ast-speech-commands" else _AUDIOSET
        mean, std = (
            said.get(name, default) if given is None else given
            for given, name, default in ((mean, "mean", usual[0]), (std, "std", usual[1]))
        )
        if not isinstance(mean, int | float) or not isinstance(std, int | float) or not 0 < std < math.inf:
            raise UserError(f"a log-mel of mean {mean!r} and deviation {std!r}", "Use numbers, the latter above 0")
        if config is not None:  # what a checkpoint builds the same encoder from, wherever the file was
            self.init_args |= {"config": self.plain, "mean": mean, "std": std}
        self.mean, self.std, self.tokens, self.checkpointing = mean, std, tokens, checkpointing
        self.network = _network(self.plain)
        depth = len(self.network.layers)
        self.mix = LayerMix(layers, depth + 1)
        if isinstance(layers, int):
            self._cut(layers % (depth + 1))
        bands, self.frames = int(self.plain["num_mel_bins"]), int(self.plain["max_length"])
        self.register_buffer("filters", filterbank(bands, RATE), persistent=False)
        self.spec = InputSpec("audio", rate=RATE, window=window)
        self.dim = int(self.plain["hidden_size"])
        self.step = int(self.plain["time_stride"]) * frame_sizes(RATE)[1]  # samples from token to token
        self.output_rate = RATE / self.step if tokens == "time" else None

    def tables(self) -> Sequence[weights.KeyTable]:
        return _TABLES

    def whole(self) -> nn.Module:
        with torch.device("meta"):
            return _network(self.plain)

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        library.agree(path, self.plain, tuple(SIZES))
        return super().load_published(path, part)

    def forward(self, inputs: Sampled) -> Tokens:
        frames = frame_count(inputs.lengths, RATE).clamp(min=1) * inputs.present
        mel, where = windows(self.spectrogram(inputs, frames), frames, self.frames)
        bands, moments = self.network.grid
        if len(mel):
            x = self.mix(self.network((mel - self.mean) / (2 * self.std), self._run))
            x = x[:, :2].mean(1, keepdim=True) if self.tokens == "cls" else x[:, 2:].unflatten(1, (bands, -1)).mean(1)
        else:
            x = mel.new_zeros((0, moments if self.tokens == "time" else 1, self.dim))
            x = self.in_graph(x)
        values = joined(x, where)
        shift = frame_sizes(RATE)[1]
        begins = torch.arange(where.shape[1], device=frames.device)[:, None] * (self.frames * shift)
        if self.tokens == "cls":
            counts = -(-frames // self.frames)
        else:
            counts = frames // self.frames * moments + self._heard(frames % self.frames)
            place = torch.arange(moments, device=frames.device)
            begins = begins + place * self.step + (place > 0) * self._middle()
        size = max(int(counts.max()), 1)
        spans, mask = tiled(inputs, begins.flatten()[:size], counts)
        return Tokens(values[:, :size] * mask[..., None].to(values.dtype), mask, spans)

    def spectrogram(self, inputs: Sampled, frames: Tensor) -> Tensor:
        """(B, F, bands) log-mel, 0 behind the frames (B,) of each clip."""
        with torch.autocast(inputs.values.device.type, enabled=False):
            mel = log_fbank(longest(inputs, frame_sizes(RATE)[0]), self.filters, RATE)
        real = torch.arange(mel.shape[1], device=mel.device) < frames[:, None]
        return mel * real[..., None]

    def _heard(self, frames: Tensor) -> Tensor:
        """Moments of a window of which half the frames are real; of any window one."""
        half, stride = self.plain["patch_size"] // 2, self.plain["time_stride"]
        count = ((frames - half) // stride + 1).clamp(1, self.network.grid[1])
        return torch.where(frames > 0, count, torch.zeros_like(count))

    def _middle(self) -> int:
        """Samples from where a token begins to hear to where it begins to stand for what it hears."""
        size, shift, _ = frame_sizes(RATE)
        return ((self.plain["patch_size"] - 1) * shift + size - self.step) // 2

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(layer, x, use_reentrant=False)
            return again
        out: Tensor = layer(x)
        return out

    def _cut(self, depth: int) -> None:
        """Leave out the layers behind the one that is asked for, and what would get no gradient."""
        if depth < len(self.network.layers):
            self.network.layers = self.network.layers[:depth]
            self.network.layernorm.requires_grad_(False)
            self.network.whole = False
        self.mix = LayerMix("last", depth + 1)


def _network(plain: Mapping[str, Any]) -> Network:
    try:
        return Network(plain)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"there is no AST of these sizes ({error})", "Correct the config") from None


class Network(nn.Module):
    """The transformer, in the key layout of transformers 5.

    Args:
        plain: values for all of `SIZES`.
    """

    def __init__(self, plain: Mapping[str, Any]):
        super().__init__()
        dim, patch = int(plain["hidden_size"]), int(plain["patch_size"])
        strides = (int(plain["frequency_stride"]), int(plain["time_stride"]))
        if plain["hidden_act"] != "gelu" or dim % int(plain["num_attention_heads"]):
            raise ValueError(f"{plain['hidden_act']}, width {dim} for {plain['num_attention_heads']} heads")
        sizes = (int(plain["num_mel_bins"]), int(plain["max_length"]))
        self.grid = ((sizes[0] - patch) // strides[0] + 1, (sizes[1] - patch) // strides[1] + 1)
        if min(self.grid) < 1:
            raise ValueError(f"patches of {patch} in a spectrogram of {sizes}")
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.embeddings.distillation_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.embeddings.position_embeddings = nn.Parameter(torch.zeros(1, 2 + self.grid[0] * self.grid[1], dim))
        self.embeddings.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, dim, patch, strides)})
        self.layers = nn.ModuleList(_Layer(plain) for _ in range(int(plain["num_hidden_layers"])))
        self.layernorm = nn.LayerNorm(dim, eps=float(plain["layer_norm_eps"]))
        self.whole = True  # as long as no layer was left out
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in ("cls_token", "distillation_token", "position_embeddings"):
            nn.init.trunc_normal_(getattr(self.embeddings, token), std=0.02)

    def forward(self, mel: Tensor, run: Callable[[nn.Module, Tensor], Tensor]) -> list[Tensor]:
        """What goes into the first layer and what comes out of each, the last one after the last norm.

        Args:
            mel: (P, frames, bands), normalised.
            run: runs a layer.

        Returns:
            (P, 2 + bands' patches * moments, D) each, the special tokens first, then low frequencies first.
        """
        embed: Any = self.embeddings
        x = embed.patch_embeddings["projection"](mel.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        special = (t.expand(len(x), -1, -1).to(x.dtype) for t in (embed.cls_token, embed.distillation_token))
        x = torch.cat([*special, x], dim=1) + embed.position_embeddings
        states = [x]
        for layer in self.layers:
            x = run(layer, x)
            states.append(x)
        if self.whole:
            states[-1] = self.layernorm(states[-1])
        return states


class _Layer(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, plain: Mapping[str, Any]):
        super().__init__()
        dim, inside, eps = int(plain["hidden_size"]), int(plain["intermediate_size"]), float(plain["layer_norm_eps"])
        self.heads = int(plain["num_attention_heads"])
        qkv = {name: nn.Linear(dim, dim, bias=bool(plain["qkv_bias"])) for name in ("q_proj", "k_proj", "v_proj")}
        self.attention = nn.ModuleDict(qkv | {"o_proj": nn.Linear(dim, dim)})
        self.layernorm_before = nn.LayerNorm(dim, eps=eps)
        self.layernorm_after = nn.LayerNorm(dim, eps=eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, inside), "fc2": nn.Linear(inside, dim)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.layernorm_before(x)
        q, k, v = (
            self.attention[name](y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention["o_proj"](y)
        out: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layernorm_after(x))))
        return out


def _third(index: int) -> weights.Fit:
    """Of queries, keys and values in one tensor the one that is wanted."""
    return lambda value, shape: value[index * shape[0] : (index + 1) * shape[0]]


_UNUSED = ((r"^(classifier|mlp_head)\.", "the classifier"), (r"^v\.head(_dist)?\.", "a head for pictures"))
_HUB = (
    (r"^layers\.", "encoder.layer."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)
_AUTHORS = (
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^embeddings\.distillation_token", "dist_token"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^layers\.", "blocks."),
    (r"attention\.[qkv]_proj", "attn.qkv"),
    (r"attention\.o_proj", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^layernorm\.", "norm."),
    (r"^", "v."),
)
_INSIDE = (r"^", "audio_spectrogram_transformer.")
_TABLES = (
    weights.KeyTable("transformers, with its classifier", (*_HUB, _INSIDE), _UNUSED),
    weights.KeyTable("transformers", _HUB, _UNUSED),
    weights.KeyTable("transformers 5, with its classifier", (_INSIDE,), _UNUSED),
    weights.KeyTable("transformers 5", (), _UNUSED),
    weights.KeyTable(
        "ast",
        _AUTHORS,
        _UNUSED,
        fits=tuple((rf"{name}_proj\.", _third(index)) for index, name in enumerate("qkv")),
    ),
)
