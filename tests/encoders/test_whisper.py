"""Whisper's encoder: its spectrogram, its tokens, clips longer than a window, and its published files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import sounds
from encoders.test_contract import clip, padded, shaken
from mer.encoders import WhisperEncoder
from mer.errors import UserError
from mer.tokens import Sampled


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def encoder(changes: dict[str, Any] | None = None, **arguments: Any) -> WhisperEncoder:
    torch.manual_seed(0)
    made = shaken(sounds.whisper(changes, **arguments))
    assert isinstance(made, WhisperEncoder)
    return made


def close(a: Tensor, b: Tensor, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


class TestEquality:
    @pytest.mark.parametrize("bands", [80, 128])
    def test_the_spectrogram_is_that_of_the_published_feature_extractor(self, bands: int) -> None:
        from transformers import WhisperFeatureExtractor

        ours = encoder({"num_mel_bins": bands, "encoder_layers": 0}, seconds=30.0)
        extractor = WhisperFeatureExtractor(feature_size=bands)
        for samples, loud in ((16000, 0.1), (480000, 0.001), (100, 1.0)):
            wave = loud * clip(ours.spec, samples).values
            theirs = extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt").input_features
            close(ours.spectrogram(F.pad(wave, (0, 480000 - samples))), theirs, 1e-5)

    def test_a_clip_gives_the_first_tokens_of_what_the_published_network_gives(self) -> None:
        ours = encoder()
        inputs = clip(ours.spec, 20001)
        theirs: Any = ours.network
        answer = theirs(ours.spectrogram(F.pad(inputs.values, (0, 32000 - 20001))), output_hidden_states=True)
        tokens = ours(inputs)
        assert tokens.values.shape[1] == 63  # 20001 / 320, begun ones count
        close(tokens.values, answer.last_hidden_state[:, :63])
        for layer in (0, 1):
            cut = sounds.whisper(layers=layer).eval()
            cut.network.load_state_dict(ours.network.state_dict(), strict=False)
            close(cut(inputs).values, answer.hidden_states[layer][:, :63])

    def test_a_longer_clip_passes_in_windows(self) -> None:
        ours = encoder()
        whole = clip(ours.spec, 74000)  # 4.625 s in windows of 2 s
        tokens = ours(padded([whole, clip(ours.spec, 5000, 1)], 3000))
        assert tokens.mask.sum(1).tolist() == [232, 16, 0]
        for number, begin in enumerate(range(0, 74000, 32000)):
            part = Sampled(*(x[:, begin : begin + 32000] for x in (whole.values, whole.mask, whole.spans)))
            expected = ours(part)
            place = slice(100 * number, 100 * number + expected.values.shape[1])
            close(tokens.values[0, place], expected.values[0], 1e-5)
            close(tokens.spans[0, place], expected.spans[0])

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("whisper-tiny", 8_208_384),
            ("whisper-base", 20_590_592),
            ("whisper-small", 88_154_112),
            ("whisper-medium", 307_216_384),
            ("whisper-large-v2", 636_784_640),
            ("whisper-large-v3", 636_968_960),
        ],
    )
    def test_presets_have_the_published_sizes(self, name: str, parameters: int) -> None:
        with torch.device("meta"):
            made = WhisperEncoder(name)
        assert sum(p.numel() for p in made.network.parameters()) == parameters
        assert made.size == 1500


def test_a_token_stands_for_the_samples_round_the_middle_of_what_it_hears() -> None:
    ours = encoder()
    tokens = ours(clip(ours.spec, 16100))
    edges = torch.tensor([0.0, *((320 * i - 160) / 16000 for i in range(1, 51)), 16100 / 16000]) + 5.0
    close(tokens.spans[0], torch.stack([edges[:-1], edges[1:]], 1))


def openai(key: str) -> str:
    """The key under which Whisper's authors keep a tensor."""
    for ours, theirs in (
        ("embed_positions.weight", "positional_embedding"),
        ("self_attn_layer_norm", "attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("self_attn.q_proj", "attn.query"),
        ("self_attn.k_proj", "attn.key"),
        ("self_attn.v_proj", "attn.value"),
        ("self_attn.out_proj", "attn.out"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
    ):
        key = key.replace(ours, theirs)
    return "encoder." + re.sub(r"^layer_norm", "ln_post", re.sub(r"^layers", "blocks", key))


class TestPublishedFiles:
    @pytest.mark.parametrize("layout", ["bare", "encoder.", "model.encoder.", "openai"])
    def test_each_layout_gives_the_same_tokens(self, tmp_path: Path, layout: str) -> None:
        torch.manual_seed(1)
        published = sounds.whisper().eval()
        content = dict(published.network.state_dict())
        assert not any(key.endswith("k_proj.bias") for key in content)
        if layout == "openai":
            content = {openai(key): value for key, value in content.items()}
            content |= {
                "decoder.positional_embedding": torch.zeros(2),
                "decoder.blocks.0.attn.query.weight": torch.zeros(1),
            }
            whole: Any = {"dims": {"n_mels": 20}, "model_state_dict": content}
        else:
            prefix = "" if layout == "bare" else layout
            content = {prefix + key: value for key, value in content.items()}
            whole = content | {"proj_out.weight": torch.zeros(2), "model.decoder.layers.0.fc1.bias": torch.zeros(2)}
        torch.save(whole, path := tmp_path / "file.pt")
        ours = sounds.whisper().eval()
        assert ours.load_published(path).loaded == len(content) - 2 * (layout == "openai")
        inputs = clip(ours.spec, 3000)
        assert torch.equal(ours(inputs).values, published(inputs).values)

    def test_what_is_missing_extra_or_of_another_shape_is_named(self, tmp_path: Path) -> None:
        content = {f"model.encoder.{k}": v for k, v in sounds.whisper().network.state_dict().items()}
        key = "model.encoder.layers.1.fc1.weight"
        path = tmp_path / "model.pt"
        for changed, message in (
            ({k: v for k, v in content.items() if k != key}, f"'{key}' .* is missing"),
            (content | {"model.encoder.layers.2.odd": torch.zeros(1)}, "'model.encoder.layers.2.odd' is extra"),
            (content | {key: torch.zeros(24, 17)}, rf"'{key}' has the shape \(24, 17\) instead of \(24, 16\)"),
        ):
            torch.save(changed, path)
            with pytest.raises(UserError, match=message):
                sounds.whisper().load_published(path)

    def test_a_folder_says_what_to_build_and_one_of_another_size_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(
            json.dumps(sounds.WHISPER | {"max_source_positions": 100, "vocab_size": 9})
        )
        ours = WhisperEncoder(config=str(tmp_path))
        torch.save(sounds.whisper().network.state_dict(), tmp_path / "pytorch_model.bin")
        assert ours.load_published(tmp_path).table == "transformers"
        assert str(tmp_path) not in str(ours.describe())
        with pytest.raises(UserError, match="num_mel_bins is 20, the encoder was built with 24"):
            sounds.whisper({"num_mel_bins": 24}).load_published(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "large"}, "unknown architecture 'large'. Use one of whisper-tiny"),
        ({"config": {"model_type": "hubert"}}, "WhisperEncoder is no 'hubert'"),
        ({"config": sounds.WHISPER, "rate": 10.0}, "Use 50, 25 or 12.5"),
        ({"config": sounds.WHISPER | {"d_model": 15}}, "builds no 'whisper'"),
        ({"config": sounds.WHISPER | {"num_mel_bins": 0}}, "a Whisper of 2 layers, 1500 tokens, 0 bands"),
    ],
)
def test_mistakes_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        WhisperEncoder(**arguments)
