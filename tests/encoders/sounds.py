"""Tiny encoders of sound, with the arguments that published ones differ in."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from mer.encoders import AudioSpectrogramTransformer, Encoder, OpenSmile, SpeechTransformer, WhisperEncoder

_TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
_STEM = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SPEECH: dict[str, dict[str, Any]] = {
    "wav2vec2": {"model_type": "wav2vec2"},
    "wav2vec2, layer norms": {"model_type": "wav2vec2"} | LAYER,
    "hubert": {"model_type": "hubert", "conv_pos_batch_norm": True, "feat_proj_layer_norm": False},
    "hubert, layer norms": {"model_type": "hubert"} | LAYER,
    "wavlm": {"model_type": "wavlm", "num_buckets": 16, "max_bucket_distance": 40},
    "wavlm, layer norms": {"model_type": "wavlm", "num_buckets": 16} | LAYER | {"conv_bias": False},
    "data2vec": {"model_type": "data2vec-audio", "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
}
WHISPER = {
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "num_mel_bins": 20,
}
AST = _TINY | {"model_type": "audio-spectrogram-transformer", "num_mel_bins": 32, "max_length": 200, "patch_size": 16}


def speech(name: str, changes: dict[str, Any] | None = None, **arguments: Any) -> SpeechTransformer:
    """With the values of `SPEECH` under this name."""
    return SpeechTransformer(config=_TINY | _STEM | SPEECH[name] | (changes or {}), **arguments)


def whisper(changes: dict[str, Any] | None = None, seconds: float = 2.0, **arguments: Any) -> WhisperEncoder:
    """Windows are short, as each is filled to its end."""
    return WhisperEncoder(config=WHISPER | {"max_source_positions": round(50 * seconds)} | (changes or {}), **arguments)


def ast(changes: dict[str, Any] | None = None, **arguments: Any) -> AudioSpectrogramTransformer:
    return AudioSpectrogramTransformer(config=AST | (changes or {}), **arguments)


def _local() -> Encoder:
    """Convolutions alone. A group norm over time and wide positions would look across the clip."""
    return speech("wav2vec2, layer norms", {"num_conv_pos_embeddings": 1}, layers=0, normalize=False)


# As the contract tests want them.
ENCODERS: dict[str, tuple[Callable[[], Encoder], Callable[[], Encoder]]] = {
    **{name: (lambda name=name: speech(name), _local) for name in SPEECH},  # type: ignore[misc]
    "speech, all layers": (lambda: speech("wavlm, layer norms", layers="weighted", rate=12.5), _local),
    "speech, last four": (lambda: speech("hubert", layers="last4", rate=25.0), _local),
    "speech, an inner layer": (lambda: speech("wav2vec2, layer norms", layers=2, mask_time=0.3), _local),
    "whisper": (whisper, lambda: whisper(layers=0, seconds=4.0)),
    "whisper, all layers": (lambda: whisper(layers="weighted", rate=25.0), lambda: whisper(layers=0, seconds=4.0)),
    "ast": (ast, lambda: ast({"max_length": 400}, layers=0)),
    "ast, windows": (
        lambda: ast({"max_length": 40}, tokens="cls"),
        lambda: ast({"max_length": 40}, tokens="cls", layers=1),
    ),
}
if importlib.util.find_spec("opensmile"):
    ENCODERS |= {
        "opensmile": (lambda: OpenSmile(dim=16), lambda: OpenSmile(dim=16)),
        "opensmile, rows": (lambda: OpenSmile(level="lld", dim=16, layers=1), lambda: OpenSmile(level="lld", dim=16)),
    }
