"""Networks that learnt speech without labels, over the raw waveform: wav2vec 2.0, HuBERT, WavLM, data2vec.

emotion2vec (Ma et al., Findings of ACL 2024), a data2vec 2 for emotion, has no network here: its authors' program writes
arrays (T, 768) or (T, 1024), 50 a second, and `FeatureEncoder(width=768, rate=50)` takes them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer.encoders import library, weights
from mer.encoders.base import Encoder
from mer.encoders.layer_mix import LayerMix, Layers
from mer.encoders.sound import RATE, longest, pooled, tiled
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

# `layer`: a norm after each convolution, and before each block instead of after it.
_LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_XL = {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120}
_2B = {"hidden_size": 1920, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 7680}
_W2V2, _HUBERT, _WAVLM = ({"model_type": name} for name in ("wav2vec2", "hubert", "wavlm"))
_DATA2VEC = {"model_type": "data2vec-audio"}
_XLSR = _W2V2 | _LAYER | {"conv_bias": True}
PRESETS: dict[str, dict[str, Any]] = {
    "wav2vec2-base": _W2V2,
    "wav2vec2-large": _W2V2 | _LARGE,
    "wav2vec2-large-lv60": _XLSR | _LARGE,
    "xlsr-53": _XLSR | _LARGE,
    "xlsr-300m": _XLSR | _LARGE,
    "xlsr-1b": _XLSR | _XL,
    "xlsr-2b": _XLSR | _2B,
    "hubert-base": _HUBERT,
    "hubert-large": _HUBERT | _LAYER | _LARGE | {"conv_bias": True},
    "hubert-xlarge": _HUBERT | _LAYER | _XL | {"conv_bias": True},
    "chinese-hubert-base": _HUBERT,
    "chinese-hubert-large": _HUBERT | _LAYER | _LARGE | {"conv_bias": True},
    "wavlm-base": _WAVLM,
    "wavlm-base-plus": _WAVLM,
    "wavlm-large": _WAVLM | _LAYER | _LARGE,
    "data2vec-audio-base": _DATA2VEC,
    "data2vec-audio-large": _DATA2VEC | _LARGE,
}
# What of a config.json makes the network what it is.
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "feat_extract_norm",
    "feat_extract_activation",
    "feat_proj_layer_norm",
    "conv_dim",
    "conv_stride",
    "conv_kernel",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "conv_pos_kernel_size",
    "conv_pos_batch_norm",
    "do_stable_layer_norm",
    "num_buckets",
    "max_bucket_distance",
    "adapter_attn_dim",
)
_DROPOUTS = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
_MASK_LENGTH = 10  # tokens that a masked stretch takes, as in all four papers


class SpeechTransformer(Encoder):
    """wav2vec 2.0, HuBERT, WavLM or data2vec: convolutions over the waveform, then a transformer.

    Baevski et al., NeurIPS 2020; Hsu et al., TASLP 2021; Chen et al., JSTSP 2022; Baevski et al., ICML 2022. XLS-R is Babu
    et al., Interspeech 2022. The modules are those of transformers, the way through them is ours: a padded batch gives the
    tokens of each clip alone, which theirs does not where the first norm is a group norm over time. There is no layer drop.

    The usual recipe keeps the convolutions as they are: `freeze: {encoders.audio.network.feature_extractor: -1}`.

    Args:
        architecture: name of a preset, see `PRESETS`.
        config: in its place the `config.json` beside the weights, its folder, or its content.
        layers: `last`, `last4` (their sum), `weighted` (learnt), or an index (0 is what goes into the first layer); layers
            behind it are not built. See `mer.encoders.layer_mix`.
        rate: tokens a second, 50, 25 or 12.5; fewer by averaging neighbours.
        normalize: bring each clip to mean 0 and variance 1. None: as the weights want it, which is what the
            `preprocessor_config.json` beside `config` says, else yes except for WavLM base.
        mask_time: share of the tokens hidden in training, in stretches of ten (SpecAugment, Park et al., Interspeech 2019).
        checkpointing: in training, compute layers again in the backward pass instead of keeping what is in them.
        window: seconds the predictor shows at once.

    Tokens: (B, T, dim) at `rate` Hz; dim 768 (base), 1024 (large). Token i hears samples [320 i, 320 i + 400) and stands for
    the 320 in the middle of them; the first and the last one reach to the ends of the clip. A clip of less than 400 samples
    is filled up with zeros, and gives one token.

    Raises:
        UserError: no or two ways of saying what to build, an unknown architecture, values that make no network.
    """

    def __init__(
        self,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        layers: Layers = "last",
        rate: float = 50.0,
        normalize: bool | None = None,
        mask_time: float = 0.0,
        checkpointing: bool = False,
        window: float | None = 10.0,
    ):
        super().__init__()
        if rate not in (50.0, 25.0, 12.5) or not 0 <= mask_time < 1:
            raise UserError(
                f"SpeechTransformer at {rate:g} Hz with mask_time {mask_time:g}",
                "Use 50, 25 or 12.5 Hz and a share below 1",
            )
        plain = library.plain_config(architecture, config, PRESETS)
        if plain["model_type"] not in ("wav2vec2", "hubert", "wavlm", "data2vec-audio"):
            raise UserError(
                f"SpeechTransformer is no {plain['model_type']!r}", "Use a wav2vec2, hubert, wavlm or data2vec-audio"
            )
        self.plain = {key: plain[key] for key in ("model_type", *SIZES, *_DROPOUTS) if key in plain}
        if normalize is None:
            said = library.beside(config, "preprocessor_config.json").get("do_normalize")
            grouped = plain.get("feat_extract_norm", "group") == "group"
            normalize = bool(said) if said is not None else not (plain["model_type"] == "wavlm" and grouped)
        if config is not None:  # what a checkpoint builds the same encoder from, wherever the file was
            self.init_args |= {"config": self.plain, "normalize": normalize}
        self.network = _network(self.plain)
        settings: Any = self.network.config
        self.mix = LayerMix(layers, settings.num_hidden_layers + 1)
        self.normalize, self.mask_time, self.checkpointing = normalize, mask_time, checkpointing
        self.stable = bool(getattr(settings, "do_stable_layer_norm", False)) and plain["model_type"] != "data2vec-audio"
        if isinstance(layers, int):
            self._cut(layers % (settings.num_hidden_layers + 1))
        self.network.masked_spec_embed.requires_grad_(False)  # most batches would give it no gradient
        self.kernels, self.strides = tuple(settings.conv_kernel), tuple(settings.conv_stride)
        if min(*self.kernels, *self.strides) < 1:
            raise UserError(f"convolutions of kernels {self.kernels}, strides {self.strides}", "Correct the config")
        self.hop = math.prod(self.strides)
        self.field = 1 + sum((k - 1) * math.prod(self.strides[:i]) for i, k in enumerate(self.kernels))
        self.spec = InputSpec("audio", rate=RATE, window=window)
        self.stride = round(50.0 / rate)
        self.dim, self.output_rate = int(settings.hidden_size), RATE / self.hop / self.stride

    def tables(self) -> Sequence[weights.KeyTable]:
        return speech_tables(self.network)

    def whole(self) -> nn.Module:
        with torch.device("meta"):
            return _network(self.plain)

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        library.agree(path, self.plain, SIZES)
        return super().load_published(path, part)

    def forward(self, inputs: Sampled) -> Tokens:
        wave = longest(inputs, self.field)
        lengths = inputs.lengths.clamp(min=self.field)  # as they reach the network
        counts = self._counts(lengths) * inputs.present
        with torch.autocast(wave.device.type, enabled=False):
            wave = self._normalized(wave, inputs) if self.normalize else wave
        x = self._projected(self._stem(wave, lengths))
        begins = torch.arange(x.shape[1], device=x.device) * self.hop + (self.field - self.hop) // 2
        begins[0] = 0
        spans, mask = tiled(inputs, begins, counts)
        values = self.mix(self._states(x, mask))
        return pooled(Tokens(values * mask[..., None].to(values.dtype), mask, spans), self.stride)

    # -- the waveform -------------------------------------------------------------------------------------------------

    def _normalized(self, wave: Tensor, inputs: Sampled) -> Tensor:
        real = F.pad(inputs.mask, (0, max(0, wave.shape[1] - inputs.mask.shape[1])))[:, : wave.shape[1]].float()
        count = real.sum(1, keepdim=True).clamp(min=1)
        centred = (wave - wave.sum(1, keepdim=True) / count) * real
        return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + 1e-7)

    def _counts(self, lengths: Tensor) -> Tensor:
        """Tokens that so many samples give."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def _stem(self, wave: Tensor, lengths: Tensor) -> Tensor:
        """(B, N) to (B, channels, T). Convolutions are not padded: real tokens hear real samples alone."""
        x = wave[:, None]
        for layer in self.network.feature_extractor.conv_layers:  # type: ignore[union-attr]
            x = layer.conv(x)
            lengths = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                x = _channel_norm(norm, x, lengths)
            elif norm is not None:
                x = norm(x.transpose(1, 2)).transpose(1, 2)
            x = layer.activation(x)
        return x

    # -- the transformer ----------------------------------------------------------------------------------------------

    def _projected(self, x: Tensor) -> Tensor:
        """(B, channels, T) to (B, T, dim)."""
        projection: Any = self.network.feature_projection
        norm = getattr(projection, "layer_norm", None)
        x = x.transpose(1, 2)
        out: Tensor = projection.dropout(projection.projection(x if norm is None else norm(x)))
        return out

    def _states(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """What goes into the first layer and what comes out of each."""
        encoder: Any = self.network.encoder
        if self.training and self.mask_time:
            hidden = _stretches(mask, self.mask_time / _MASK_LENGTH, _MASK_LENGTH)
            stand_in: Any = self.network.masked_spec_embed
            x = torch.where(hidden[..., None], stand_in.to(x.dtype), x)
        x = x * mask[..., None].to(x.dtype)
        x = x + self._positions(x, mask)
        x = encoder.dropout(x if self.stable else encoder.layer_norm(x))
        # A row without any real key attends to everything (a finite number), and is set to 0 in the end.
        visible = None if bool(mask.all()) else (mask | ~mask.any(1, keepdim=True))[:, None, None]
        bias = _distance_bias(encoder.layers, x.shape[1])
        states = [x]
        for layer in encoder.layers:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(self._layer, layer, x, visible, bias, use_reentrant=False)
            else:
                x = self._layer(layer, x, visible, bias)
            states.append(x)
        if self.stable and len(encoder.layers) == self.network.config.num_hidden_layers:  # type: ignore[union-attr]
            states[-1] = encoder.layer_norm(states[-1])
        return states

    def _positions(self, x: Tensor, mask: Tensor) -> Tensor:
        """Positions as wide convolutions hear them from the tokens around; those need zeros behind the clip."""
        embed: Any = self.network.encoder.pos_conv_embed  # type: ignore[union-attr]
        x = x.transpose(1, 2)
        real = mask[:, None].to(x.dtype)
        if hasattr(embed, "layers"):  # data2vec: one after the other, each with a norm
            for layer in embed.layers:
                x = layer(x) * real
            return x.transpose(1, 2)
        norm = getattr(embed, "batch_norm", None)
        if norm is not None:  # always as it was published: statistics of a batch would hold its padding
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps) * real
        out: Tensor = embed.activation(embed.padding(embed.conv(x)))
        return out.transpose(1, 2)

    def _layer(self, layer: Any, x: Tensor, visible: Tensor | None, bias: Tensor | None) -> Tensor:
        if not self.stable:
            x = layer.layer_norm(x + layer.dropout(_attended(layer.attention, x, visible, bias)))
            out: Tensor = layer.final_layer_norm(x + layer.feed_forward(x))
            return out
        x = x + layer.dropout(_attended(layer.attention, layer.layer_norm(x), visible, bias))
        x = x + layer.feed_forward(layer.final_layer_norm(x))
        adapter = getattr(layer, "adapter_layer", None)  # MMS: a small network per language
        return x if adapter is None else x + adapter(x)

    def _cut(self, depth: int) -> None:
        """Leave out the layers behind the one that is asked for, and what would get no gradient."""
        encoder: Any = self.network.encoder
        if depth < len(encoder.layers):
            encoder.layers = encoder.layers[:depth]
            if self.stable:
                encoder.layer_norm.requires_grad_(False)
        self.mix = LayerMix("last", depth + 1)


def speech_tables(network: nn.Module) -> tuple[weights.KeyTable, ...]:
    """Files of transformers (of the bare network, and of one for a task around it; the two ways of keeping the norm of a
    weight), and of fairseq, whose layout WavLM's authors keep as well.
    """
    prefix = str(network.base_model_prefix)
    norms = [layer.layer_norm for layer in network.feature_extractor.conv_layers if hasattr(layer, "layer_norm")]  # type: ignore[union-attr]
    # There, a layer norm stands between two transpositions, and so one level deeper than a group norm.
    place = "2" if isinstance(norms[0], nn.GroupNorm) else "2.1"
    old = ((r"parametrizations\.weight\.original0", "weight_g"), (r"parametrizations\.weight\.original1", "weight_v"))
    unused = (
        (r"^(lm_head|classifier|projector|layer_weights|tdnn|feature_extractor_head|objective)\b", "a head for a task"),
        (r"^(quantizer|project_q|project_hid)\b", "the pre-training task"),
        (r"(^|\.)adapter\.", "convolutions that shorten the sequence; tokens are taken before them"),
    )
    absent = ((r"^masked_spec_embed$", "the stand-in for masked tokens"),)
    return (
        *(
            weights.KeyTable(f"transformers{where}{age}", (*names, *inside), unused, absent)
            for where, inside in (("", ()), (f", inside {prefix!r}", ((r"^", f"{prefix}."),)))
            for age, names in (("", ()), (" before 2.0 of torch", old))
        ),
        *(
            weights.KeyTable(f"fairseq{where}", (*_fairseq(place), *old, *inside), _FAIRSEQ_UNUSED, absent)
            for where, inside in (("", ()), (", fine-tuned", ((r"^", "w2v_encoder.w2v_model."),)))
        ),
    )


def _fairseq(norm: str) -> tuple[tuple[str, str], ...]:
    return (
        (r"^masked_spec_embed$", "mask_emb"),
        (r"^feature_projection\.layer_norm", "layer_norm"),
        (r"^feature_projection\.projection", "post_extract_proj"),
        (r"(conv_layers\.\d+)\.conv\.", r"\1.0."),
        (r"(conv_layers\.\d+)\.layer_norm\.", rf"\1.{norm}."),
        (r"pos_conv_embed\.layers\.(\d+)\.conv", r"pos_conv.\1.0"),
        (r"pos_conv_embed\.conv", "pos_conv.0"),
        (r"gru_rel_pos_linear", "grep_linear"),
        (r"gru_rel_pos_const", "grep_a"),
        (r"rel_attn_embed", "relative_attention_bias"),
        (r"(layers\.\d+)\.layer_norm", r"\1.self_attn_layer_norm"),
        (r"(layers\.\d+)\.attention", r"\1.self_attn"),
        (r"feed_forward\.intermediate_dense", "fc1"),
        (r"feed_forward\.output_dense", "fc2"),
    )


_FAIRSEQ_UNUSED = (
    (r"^(final_proj|label_embs_concat|quantizer|project_q|target_glu|_ema)\b", "the pre-training task"),
    (r"^w2v_encoder\.(proj|w2v_model\.(final_proj|label_embs_concat|quantizer|project_q|target_glu|_ema))\b", "a head"),
)


def _network(plain: Mapping[str, Any]) -> nn.Module:
    # The stand-in for masked tokens is in every published file, and is built where masking is allowed at all.
    return library.network(plain, mask_time_prob=0.05, add_adapter=False)


def _channel_norm(norm: nn.GroupNorm, x: Tensor, lengths: Tensor) -> Tensor:
    """One group per channel, with the statistics of each clip's own frames (B, C, T)."""
    if bool((lengths == x.shape[2]).all()):
        full: Tensor = norm(x)
        return full
    with torch.autocast(x.device.type, enabled=False):
        real = (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None]
        count = lengths[:, None, None]
        wide = x.float()
        centred = (wide - (wide * real).sum(2, keepdim=True) / count) * real
        scale = torch.rsqrt(centred.square().sum(2, keepdim=True) / count + norm.eps)
        return (centred * scale * norm.weight[:, None] + norm.bias[:, None]).to(x.dtype)


def _attended(attention: Any, x: Tensor, visible: Tensor | None, bias: Tensor | None) -> Tensor:
    """Self-attention (B, T, D); WavLM's adds a bias (H, T, T) that depends on the distance and is gated by the query."""
    split = (attention.num_heads, -1)
    q, k, v = (p(x).unflatten(2, split).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    mask = visible
    if bias is not None:
        gates = attention.gru_rel_pos_linear(x.unflatten(2, split).transpose(1, 2)).unflatten(3, (2, 4)).sum(4)
        a, b = torch.sigmoid(gates).unsqueeze(-1).unbind(3)
        mask = ((a * (b * attention.gru_rel_pos_const - 1.0) + 2.0) * bias).to(q.dtype)
        mask = mask if visible is None else mask.masked_fill(~visible, -torch.inf)
    dropout = attention.dropout if attention.training else 0.0
    if bias is not None and q.dtype == torch.bfloat16 and q.device.type == "cpu":
        # There, the products one by one take half the time of the fused kernel.
        share = torch.softmax((q * q.shape[3] ** -0.5) @ k.transpose(2, 3) + mask, dim=3)
        y = F.dropout(share, dropout, attention.training) @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    out: Tensor = attention.out_proj(y.transpose(1, 2).flatten(2))
    return out


def _distance_bias(layers: nn.ModuleList, size: int) -> Tensor | None:
    """(H, T, T): WavLM's bias of key j for query i, from the first layer's table; small distances have a place each, larger
    ones share it logarithmically (as in T5, Raffel et al., JMLR 2020). None for other networks.
    """
    table = getattr(layers[0].attention, "rel_attn_embed", None) if len(layers) else None
    if table is None:
        return None
    attention: Any = layers[0].attention
    half = attention.num_buckets // 2
    exact = half // 2
    distance = torch.arange(1 - size, size, device=table.weight.device)  # key - query
    far = torch.log(distance.abs().clamp(min=1).float() / exact) / math.log(attention.max_distance / exact)
    far = (exact + far * (half - exact)).long().clamp(max=half - 1)
    bucket = torch.where(distance.abs() < exact, distance.abs(), far) + (distance > 0) * half
    index = torch.arange(size, device=distance.device)
    bias: Tensor = table(bucket).t()[:, index[None, :] - index[:, None] + size - 1]
    return bias


def _stretches(mask: Tensor, chance: float, length: int) -> Tensor:
    """(B, T) bool: stretches of `length` real tokens, one beginning at each token with this chance."""
    begins = (torch.rand(mask.shape, device=mask.device) < chance).float()
    covered = F.max_pool1d(F.pad(begins, (length - 1, 0))[:, None], length, stride=1)[:, 0] > 0
    return covered & mask
