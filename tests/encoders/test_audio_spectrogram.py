"""AST equals the published network, from the waveform to the tokens, and takes its files in each layout they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import sounds
from encoders.test_contract import clip, padded, shaken
from mer.encoders import AudioSpectrogramTransformer
from mer.encoders.weights import KeyTable, renamed
from mer.errors import UserError


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def encoder(changes: dict[str, Any] | None = None, **arguments: Any) -> AudioSpectrogramTransformer:
    torch.manual_seed(0)
    made = shaken(sounds.ast(changes, **arguments))
    assert isinstance(made, AudioSpectrogramTransformer)
    return made


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def theirs(ours: AudioSpectrogramTransformer) -> Any:
    """The network of transformers with our weights; its keys are the same."""
    from transformers import ASTConfig, ASTModel

    values = {key: value for key, value in ours.plain.items() if key != "model_type"}
    network = ASTModel(ASTConfig(**values)).eval()
    network.load_state_dict(ours.network.state_dict())
    return network


class TestEquality:
    @pytest.mark.filterwarnings("ignore:At least one mel filter")
    @pytest.mark.parametrize("samples", [400, 20000, 32240, 60000])  # 60000: cut off by theirs
    def test_tokens_are_the_mean_over_frequency_of_the_published_ones(self, samples: int) -> None:
        from transformers import ASTFeatureExtractor

        ours = encoder({"num_mel_bins": 128})
        inputs = clip(ours.spec, samples)
        extractor = ASTFeatureExtractor(num_mel_bins=128, max_length=200)
        mel = extractor(inputs.values[0].numpy(), sampling_rate=16000, return_tensors="pt").input_values
        answer = theirs(ours)(mel, output_hidden_states=True)
        over_time = answer.last_hidden_state[:, 2:].unflatten(1, (12, 19)).mean(1)
        tokens = ours(inputs)
        count = min(19, tokens.values.shape[1])
        close(tokens.values[:, :count], over_time[:, :count])
        special = sounds.ast({"num_mel_bins": 128}, tokens="cls").eval()
        special.network.load_state_dict(ours.network.state_dict())
        close(special(inputs).values[:, 0], answer.pooler_output)
        inner = sounds.ast({"num_mel_bins": 128}, tokens="cls", layers=1).eval()
        inner.network.load_state_dict(ours.network.state_dict(), strict=False)
        close(inner(inputs).values[:, 0], answer.hidden_states[1][:, :2].mean(1))

    @pytest.mark.parametrize(
        ("name", "parameters", "grid"),
        [
            ("ast-10-10", 86_187_264, (12, 101)),
            ("ast-16-16", 85_649_664, (8, 64)),
            ("ast-speech-commands", 85_367_040, (12, 12)),
        ],
    )
    def test_presets_have_the_published_sizes(self, name: str, parameters: int, grid: tuple[int, int]) -> None:
        with torch.device("meta"):
            made = AudioSpectrogramTransformer(name)
        assert (sum(p.numel() for p in made.network.parameters()), made.network.grid) == (parameters, grid)
        assert (made.mean < -6) == (name == "ast-speech-commands")


class TestTokens:
    def test_a_token_stands_for_the_middle_of_the_frames_it_sees(self) -> None:
        ours = encoder()
        tokens = ours(clip(ours.spec, 16000))  # 98 frames: the patch at 90 has 8 of its 16
        edges = torch.tensor([0.0, *((1600 * i + 600) / 16000 for i in range(1, 10)), 1.0]) + 5.0
        close(tokens.spans[0], torch.stack([edges[:-1], edges[1:]], 1))

    def test_a_long_clip_passes_in_windows(self) -> None:
        ours = encoder()
        long = clip(ours.spec, 70000)  # 435 frames: two windows of 200, and 35
        tokens = ours(padded([long, clip(ours.spec, 9000, 1)], 500))
        assert tokens.mask.sum(1).tolist() == [19 + 19 + 3, 5, 0]
        first = clip(ours.spec, 70000)
        again = ours(padded([first], 0))
        close(tokens.values[0], again.values[0])
        assert (tokens.spans[0, 1:, 0] >= tokens.spans[0, :-1, 1] - 1e-5).all()
        windows = sounds.ast(tokens="cls").eval()(padded([long], 0))
        close(windows.spans[0], torch.tensor([[0, 2.0], [2.0, 4.0], [4.0, 4.375]]) + 5.0)


HUB = KeyTable(
    "",
    (
        (r"^layers\.", "encoder.layer."),
        (r"attention\.q_proj", "attention.attention.query"),
        (r"attention\.k_proj", "attention.attention.key"),
        (r"attention\.v_proj", "attention.attention.value"),
        (r"attention\.o_proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
    ),
)


def authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As AST's authors save it: in timm's layout, with queries, keys and values in one tensor."""
    content = {}
    for key, value in state.items():
        for ours, name in (
            ("embeddings.cls_token", "cls_token"),
            ("embeddings.distillation_token", "dist_token"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("layernorm", "norm"),
            ("layers", "blocks"),
            ("attention.o_proj", "attn.proj"),
        ):
            key = key.replace(ours, name)
        content[f"module.v.{key}"] = value
    for key in [key for key in content if "q_proj" in key]:
        parts = [content.pop(key.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        content[key.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return content | {f"module.{key}": torch.zeros(2) for key in ("mlp_head.1.bias", "v.head.bias", "v.head_dist.bias")}


class TestPublishedFiles:
    @pytest.mark.parametrize("layout", ["hub", "hub, classifier", "new", "new, classifier", "authors"])
    def test_each_layout_gives_the_same_tokens(self, tmp_path: Path, layout: str) -> None:
        torch.manual_seed(1)
        published = sounds.ast().eval()
        content = dict(published.network.state_dict())
        content = renamed(content, HUB) if layout.startswith("hub") else content
        if layout.endswith("classifier"):
            content = {f"audio_spectrogram_transformer.{key}": value for key, value in content.items()}
            content |= {"classifier.dense.weight": torch.zeros(3), "classifier.layernorm.bias": torch.zeros(2)}
        torch.save(authors(content) if layout == "authors" else content, path := tmp_path / "file.pth")
        ours = sounds.ast().eval()
        assert ours.load_published(path).loaded == len(published.network.state_dict())
        inputs = clip(ours.spec, 9000)
        assert torch.equal(ours(inputs).values, published(inputs).values)

    def test_what_is_missing_extra_or_of_another_shape_is_named(self, tmp_path: Path) -> None:
        content = renamed(dict(sounds.ast().network.state_dict()), HUB)
        key = "encoder.layer.1.attention.attention.key.weight"
        path = tmp_path / "model.pt"
        for changed, message in (
            ({k: v for k, v in content.items() if k != key}, f"'{key}' .* is missing"),
            (content | {"encoder.layer.3.odd": torch.zeros(1)}, "'encoder.layer.3.odd' is extra"),
            (content | {key: torch.zeros(16, 17)}, rf"'{key}' has the shape \(16, 17\) instead of \(16, 16\)"),
        ):
            torch.save(changed, path)
            with pytest.raises(UserError, match=message):
                sounds.ast().load_published(path)

    def test_a_folder_says_what_to_build_and_how_sound_is_normalised(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(sounds.AST | {"id2label": {"0": "Speech"}}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"mean": -5.5, "std": 3.25}))
        torch.save(sounds.ast().network.state_dict(), tmp_path / "pytorch_model.bin")
        ours = AudioSpectrogramTransformer(config=str(tmp_path))
        ours.load_published(tmp_path)
        assert (ours.mean, ours.std) == (-5.5, 3.25)
        assert ours.describe()["init_args"]["mean"] == -5.5
        assert str(tmp_path) not in str(ours.describe())
        with pytest.raises(UserError, match="max_length is 200, the encoder was built with 300"):
            sounds.ast({"max_length": 300}).load_published(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "ast"}, "unknown architecture 'ast'. Use one of ast-10-10"),
        ({"config": {"model_type": "vit"}}, "of a 'vit'"),
        ({"config": sounds.AST | {"max_length": 10}}, "there is no AST of these sizes"),
        ({"config": sounds.AST | {"hidden_size": 15}}, "there is no AST of these sizes"),
        ({"config": sounds.AST, "tokens": "all"}, "tokens 'all'"),
        ({"config": sounds.AST, "std": 0.0}, "deviation 0.0"),
    ],
)
def test_mistakes_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        AudioSpectrogramTransformer(**arguments)


def test_a_spoilt_preprocessor_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(sounds.AST))
    (tmp_path / "preprocessor_config.json").write_text('{"mean": "loud", "std": 2.0}')
    with pytest.raises(UserError, match="mean 'loud'"):
        AudioSpectrogramTransformer(config=str(tmp_path))
