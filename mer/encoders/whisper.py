"""The encoder of Whisper: 30 s of log-mel spectrogram at a time, of which the tokens that heard the clip are kept."""

from __future__ import annotations

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
from mer.encoders.sound import RATE, joined, longest, pooled, tiled, windows
from mer.errors import UserError
from mer.media.spectrum import mel_filterbank
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

N_FFT, HOP = 400, 160  # samples: 25 ms of sound every 10 ms
TOKEN = 2 * HOP  # the second convolution halves the rate


def _size(dim: int, depth: int, heads: int, bands: int = 80) -> dict[str, Any]:
    return {
        "model_type": "whisper",
        "d_model": dim,
        "encoder_layers": depth,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * dim,
        "num_mel_bins": bands,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "whisper-tiny": _size(384, 4, 6),
    "whisper-base": _size(512, 6, 8),
    "whisper-small": _size(768, 12, 12),
    "whisper-medium": _size(1024, 24, 16),
    "whisper-large": _size(1280, 32, 20),
    "whisper-large-v2": _size(1280, 32, 20),
    "whisper-large-v3": _size(1280, 32, 20, 128),
    "whisper-large-v3-turbo": _size(1280, 32, 20, 128),
}
# What of a config.json makes the encoder what it is.
SIZES = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "num_mel_bins",
    "max_source_positions",
    "activation_function",
    "scale_embedding",
)
_DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")


class WhisperEncoder(Encoder):
    """Radford et al.: Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023; the encoder alone.

    Whisper always hears 30 s: each clip is filled up with silence, a longer one is cut into pieces of 30 s, and tokens of the
    filling are dropped. What a batch is padded with is not heard. A short clip costs as much as 30 s do.

    Args:
        architecture: name of a preset, see `PRESETS` (`whisper-tiny` to `whisper-large-v3`).
        config: in its place the `config.json` beside the weights, its folder, or its content.
        layers: `last`, `last4` (their sum), `weighted` (learnt), or an index (0 is what goes into the first layer); layers
            behind it are not built. See `mer.encoders.layer_mix`.
        rate: tokens a second, 50, 25 or 12.5; fewer by averaging neighbours.
        checkpointing: in training, compute layers again in the backward pass instead of keeping what is in them.
        window: seconds the predictor shows at once.

    Tokens: (B, T, dim) at `rate` Hz, dim 384 (tiny), 512, 768, 1024, 1280 (large). Token i of a piece hears the 1040 samples
    round sample 320 i, and stands for the 320 of them in the middle.

    Raises:
        UserError: no or two ways of saying what to build, an unknown architecture, values that make no network.
    """

    filters: Tensor
    taper: Tensor

    def __init__(
        self,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        layers: Layers = "last",
        rate: float = 50.0,
        checkpointing: bool = False,
        window: float | None = 30.0,
    ):
        super().__init__()
        if rate not in (50.0, 25.0, 12.5):
            raise UserError(f"WhisperEncoder at {rate:g} Hz", "Use 50, 25 or 12.5 Hz")
        plain = library.plain_config(architecture, config, PRESETS)
        if plain["model_type"] != "whisper":
            raise UserError(f"WhisperEncoder is no {plain['model_type']!r}", "Use the config of a Whisper")
        self.plain = {key: plain[key] for key in ("model_type", *SIZES, *_DROPOUTS) if key in plain}
        if config is not None:  # what a checkpoint builds the same encoder from, wherever the file was
            self.init_args |= {"config": self.plain}
        self.network = _network(self.plain)
        settings: Any = self.network.config
        depth = int(settings.encoder_layers)
        if min(depth + 1, settings.max_source_positions, settings.num_mel_bins) < 1:
            raise UserError(
                f"a Whisper of {depth} layers, {settings.max_source_positions} tokens, {settings.num_mel_bins} bands",
                "Correct the config",
            )
        self.mix = LayerMix(layers, depth + 1)
        if isinstance(layers, int):
            self._cut(layers % (depth + 1))
        self.size = int(settings.max_source_positions)  # tokens of a window
        self.checkpointing = checkpointing
        self.register_buffer("taper", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filters", mel_filterbank(int(settings.num_mel_bins), N_FFT, RATE), persistent=False)
        self.spec = InputSpec("audio", rate=RATE, window=window)
        self.stride = round(50.0 / rate)
        self.dim, self.output_rate = int(settings.d_model), RATE / TOKEN / self.stride

    def tables(self) -> Sequence[weights.KeyTable]:
        return _TABLES

    def whole(self) -> nn.Module:
        with torch.device("meta"):
            return _network(self.plain)

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        library.agree(path, self.plain, SIZES)
        return super().load_published(path, part)

    def forward(self, inputs: Sampled) -> Tokens:
        wave, where = windows(longest(inputs, 1), inputs.lengths, self.size * TOKEN)
        if len(wave):
            with torch.autocast(wave.device.type, enabled=False):
                mel = self.spectrogram(wave)
            values = joined(self.mix(self._states(mel)), where)
        else:
            values = wave.new_zeros((*where.shape, self.size, self.dim)).flatten(1, 2)
            values = self.in_graph(values)
        counts = -(-inputs.lengths // TOKEN)
        begins = torch.arange(values.shape[1], device=values.device) * TOKEN
        begins = torch.where(begins % (self.size * TOKEN) == 0, begins, begins - TOKEN // 2)
        begins, values = begins[: max(int(counts.max()), 1)], values[:, : max(int(counts.max()), 1)]
        spans, mask = tiled(inputs, begins, counts)
        return pooled(Tokens(values * mask[..., None].to(values.dtype), mask, spans), self.stride)

    def spectrogram(self, wave: Tensor) -> Tensor:
        """Windows (P, N) to what Whisper hears, (P, bands, N / 160): decibels / 40 of which the lowest 80 count, from the
        loudest place of the window down.
        """
        spectrum = torch.stft(wave, N_FFT, HOP, window=self.taper, pad_mode="reflect", return_complex=True)[..., :-1]
        power = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2) @ self.filters
        mel = power.clamp(min=1e-10).log10().transpose(1, 2)
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def _states(self, mel: Tensor) -> list[Tensor]:
        """What goes into the first layer and what comes out of each, the last one after the last norm."""
        net: Any = self.network
        x = F.gelu(net.conv2(F.gelu(net.conv1(mel)))).transpose(1, 2)
        x = F.dropout(x + net.embed_positions.weight, net.dropout, net.training)
        states = [x]
        for layer in net.layers:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(_through, layer, x, use_reentrant=False)
            else:
                x = _through(layer, x)
            states.append(x)
        if len(net.layers) == net.config.encoder_layers:
            states[-1] = net.layer_norm(states[-1])
        return states

    def _cut(self, depth: int) -> None:
        """Leave out the layers behind the one that is asked for, and what would get no gradient."""
        net: Any = self.network
        if depth < len(net.layers):
            net.layers = net.layers[:depth]
            net.layer_norm.requires_grad_(False)
        self.mix = LayerMix("last", depth + 1)


def _network(plain: Mapping[str, Any]) -> nn.Module:
    # A decoder belongs to the package's network; it is built with next to nothing in it and left behind.
    small = {"vocab_size": 4, "decoder_layers": 0, "pad_token_id": 0, "max_target_positions": 1}
    small |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    encoder: nn.Module = library.network(plain, **small).encoder  # type: ignore[assignment]
    return encoder


def _through(layer: Any, x: Tensor) -> Tensor:
    """One pre-norm transformer layer (P, T, D)."""
    attention, drop = layer.self_attn, layer.training
    split = (attention.num_heads, -1)
    y = layer.self_attn_layer_norm(x)
    q, k, v = (p(y).unflatten(2, split).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=attention.dropout if drop else 0.0)
    x = x + F.dropout(attention.out_proj(y.transpose(1, 2).flatten(2)), layer.dropout, drop)
    y = F.dropout(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))), layer.activation_dropout, drop)
    out: Tensor = x + F.dropout(layer.fc2(y), layer.dropout, drop)
    return out


_UNUSED = (
    (r"^(model\.)?decoder\.", "the decoder, which writes"),
    (r"^proj_out\.", "the decoder, which writes"),
    (r"^(projector|classifier|layer_weights)\b", "a head for another task"),
)
_OPENAI = (
    (r"^embed_positions\.weight$", "positional_embedding"),
    (r"^layer_norm\.", "ln_post."),
    (r"^layers\.", "blocks."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
    (r"\.self_attn\.out_proj\.", ".attn.out."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"^", "encoder."),
)
_TABLES = (
    weights.KeyTable("transformers", (), _UNUSED),
    weights.KeyTable("transformers, inside a Whisper", ((r"^", "encoder."),), _UNUSED),
    weights.KeyTable("transformers, inside one that writes", ((r"^", "model.encoder."),), _UNUSED),
    weights.KeyTable("openai", _OPENAI, _UNUSED),
)
