"""wav2vec 2.0, HuBERT, WavLM and data2vec equal the published networks, in a padded batch as well."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from encoders import sounds
from encoders.test_contract import clip, padded, shaken
from mer.configured import build
from mer.encoders import Encoder, FeatureEncoder, SpeechTransformer, library
from mer.encoders.speech import PRESETS
from mer.encoders.weights import KeyTable, renamed
from mer.errors import UserError
from mer.media import features
from mer.tokens import Sampled

BROKEN = """
import sys
sys.path.insert(0, {folder!r})
import mer.encoders
assert "transformers" not in sys.modules, "imported for nothing"
try:
    mer.encoders.SpeechTransformer("hubert-base")
except mer.errors.UserError as error:
    print(error)
"""


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def encoder(name: str, changes: dict[str, Any] | None = None, **arguments: Any) -> SpeechTransformer:
    torch.manual_seed(0)
    made = shaken(sounds.speech(name, changes, **arguments))
    assert isinstance(made, SpeechTransformer)
    return made


def close(a: Tensor, b: Tensor, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.usefixtures("no_grad")
class TestEquality:
    @pytest.mark.parametrize("name", sounds.SPEECH)
    def test_a_whole_clip_gives_what_the_published_network_gives(self, name: str) -> None:
        ours, inputs = encoder(name, normalize=False), clip(encoder(name).spec, 20000)
        theirs: Any = ours.network
        answer = theirs(inputs.values, output_hidden_states=True)
        close(ours(inputs).values, answer.last_hidden_state)
        for layer in range(3):
            close(sounds_at(ours, layer)(inputs).values, answer.hidden_states[layer])

    @pytest.mark.parametrize("name", [name for name in sounds.SPEECH if "layer" in name])
    def test_so_does_a_padded_batch_where_theirs_takes_a_mask(self, name: str) -> None:
        ours = encoder(name, normalize=False)
        batch = padded([clip(ours.spec, 20000), clip(ours.spec, 9000, 1)], 100)
        theirs: Any = ours.network
        answer = theirs(batch.zeroed()[:2], attention_mask=batch.mask[:2].long()).last_hidden_state
        tokens = ours(batch)
        for row in range(2):
            real = tokens.mask[row]
            close(tokens.values[row][real], answer[row, : len(real)][real], 1e-5)

    def test_their_group_norm_hears_the_padding_and_ours_does_not(self) -> None:
        ours = encoder("wav2vec2", normalize=False)
        short = clip(ours.spec, 9000)
        theirs: Any = ours.network
        alone, more = theirs(short.values).last_hidden_state, torch.cat([short.values, torch.zeros(1, 9000)], 1)
        mask = torch.arange(18000)[None] < 9000
        assert (theirs(more, attention_mask=mask.long()).last_hidden_state[:, :27] - alone).abs().max() > 0.01
        close(ours(padded([short], 9000)).values[:1, :27], alone, 1e-5)

    @pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2, layer norms"])
    def test_clips_are_normalised_as_by_their_feature_extractor(self, name: str) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        ours = encoder(name)
        clips = [clip(ours.spec, 7000), clip(ours.spec, 4000, 1)]
        raw = [3 * c.values[0].numpy() + 0.5 for c in clips]
        prepared = Wav2Vec2FeatureExtractor(do_normalize=True)(raw, sampling_rate=16000)["input_values"]
        theirs: Any = ours.network
        batch = padded([Sampled(3 * c.values + 0.5, c.mask, c.spans) for c in clips], 50)
        tokens = ours(batch)
        for row, wave in enumerate(prepared):
            expected = theirs(torch.from_numpy(np.asarray(wave))[None]).last_hidden_state[0]
            close(tokens.values[row, : len(expected)], expected, 1e-5)

    @pytest.mark.parametrize(
        ("name", "parameters", "keys"),
        [
            ("wav2vec2-base", 94_371_712, 211),
            ("wav2vec2-large", 315_428_992, 403),
            ("wav2vec2-large-lv60", 315_438_720, 422),
            ("xlsr-300m", 315_438_720, 422),
            ("xlsr-1b", 962_497_408, 806),
            ("hubert-base", 94_371_712, 211),
            ("hubert-large", 315_438_720, 422),
            ("wavlm-base", 94_381_936, 248),
            ("wavlm-base-plus", 94_381_936, 248),
            ("wavlm-large", 315_453_120, 488),  # its convolutions have no bias
            ("data2vec-audio-base", 93_164_288, 230),
            ("data2vec-audio-large", 313_276_416, 422),
        ],
    )
    def test_presets_have_the_published_sizes(self, name: str, parameters: int, keys: int) -> None:
        with torch.device("meta"):
            made = SpeechTransformer(name)
        assert sum(p.numel() for p in made.network.parameters()) == parameters
        assert len(made.network.state_dict()) == keys
        assert (made.field, made.hop, made.dim) == (400, 320, 768 if "base" in name else 1280 if "1b" in name else 1024)
        assert made.normalize == (not name.startswith("wavlm-base"))


@pytest.mark.usefixtures("no_grad")
class TestTokens:
    def test_a_token_stands_for_the_middle_of_what_it_hears(self) -> None:
        ours = encoder("wav2vec2")
        tokens = ours(clip(ours.spec, 16100))
        edges = torch.tensor([0.0, *((320 * i + 40) / 16000 for i in range(1, 50)), 16100 / 16000]) + 5.0
        close(tokens.spans[0], torch.stack([edges[:-1], edges[1:]], 1))

    @pytest.mark.parametrize("name", ["wavlm", "wavlm, layer norms"])
    def test_a_clip_shorter_than_what_a_token_hears_gives_one(self, name: str) -> None:
        ours = encoder(name, normalize=False)
        short = clip(ours.spec, 150)
        theirs: Any = ours.network
        expected = theirs(torch.cat([short.values, torch.zeros(1, 250)], 1)).last_hidden_state
        close(ours(short).values, expected)
        batch = ours(padded([short, clip(ours.spec, 5000)], 0))
        assert batch.mask.sum(1).tolist() == [1, 15, 0]
        close(batch.values[0, :1], expected[0], 1e-5)

    @pytest.mark.parametrize("rate", [25.0, 12.5])
    def test_a_lower_rate_averages_neighbours_by_their_number(self, rate: float) -> None:
        fine, coarse = encoder("hubert"), encoder("hubert", rate=rate)
        batch = padded([clip(fine.spec, 20000), clip(fine.spec, 12000, 1)], 60)
        stride = round(50 / rate)
        tokens, pooled = fine(batch), coarse(batch)
        for row in range(2):
            groups = tokens.values[row][tokens.mask[row]].split(stride)
            close(pooled.values[row][pooled.mask[row]], torch.stack([g.mean(0) for g in groups]))
            spans = tokens.spans[row][tokens.mask[row]].split(stride)
            close(pooled.spans[row][pooled.mask[row]], torch.stack([torch.stack([s[0, 0], s[-1, 1]]) for s in spans]))

    @pytest.mark.parametrize("name", ["hubert", "hubert, layer norms"])
    def test_layers_are_mixed_as_asked(self, name: str) -> None:
        last, four, equal = (encoder(name, layers=layers) for layers in ("last", "last4", "weighted"))
        inputs = clip(last.spec, 5000)
        for other in (four, equal):
            other.network.load_state_dict(last.network.state_dict())
        each = torch.stack([sounds_at(last, layer)(inputs).values for layer in range(4)])
        close(each[3], last(inputs).values)
        close(four(inputs).values, each.sum(0), 1e-5)
        equal.mix.weights.zero_()
        close(equal(inputs).values, each.mean(0))

    def test_layers_behind_the_one_asked_for_are_not_built(self) -> None:
        ours = encoder("wavlm, layer norms", layers=1)
        assert not any(key.startswith("encoder.layers.1") for key in ours.network.state_dict())
        assert encoder("wavlm, layer norms", layers=-3).init_args["layers"] == -3
        close(encoder("wavlm", layers=-1)(clip(ours.spec, 800)).values, encoder("wavlm")(clip(ours.spec, 800)).values)

    def test_emotion2vec_comes_as_an_array(self, tmp_path: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(120, 768)).astype(np.float32)
        np.save(tmp_path / "clip.npy", rows)
        read = features.load(tmp_path, "clip.npy", 768)
        begin = torch.arange(len(read)) / 50
        inputs = Sampled(
            torch.from_numpy(read)[None],
            torch.ones(1, 120, dtype=torch.bool),
            torch.stack([begin, begin + 0.02], 1)[None],
        )
        tokens = FeatureEncoder(width=768, rate=50, dim=32)(inputs)
        assert tokens.values.shape == (1, 120, 32)


class TestTraining:
    def test_masking_hides_about_its_share_in_training_only(self) -> None:
        ours = encoder(
            "wav2vec2", {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}, mask_time=0.3
        )
        ours.network.masked_spec_embed.data.fill_(7.0)  # type: ignore[operator, union-attr]
        seen: list[Tensor] = []
        ours.network.encoder.pos_conv_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[operator, union-attr]
        hidden: list[Tensor] = []
        ours.network.encoder.pos_conv_embed.conv.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))  # type: ignore[operator, union-attr]
        inputs = clip(ours.spec, 160000)
        plain = ours(inputs).values
        torch.manual_seed(0)
        masked = ours.train()(inputs).values
        shares = [(h == 7).all(1).float().mean().item() for h in hidden]
        assert shares[0] == 0
        assert shares[1] == pytest.approx(0.26, abs=0.08)  # some stretches overlap
        assert not torch.equal(plain, masked)

    @pytest.mark.parametrize("name", ["wavlm", "data2vec"])
    def test_checkpointing_changes_neither_tokens_nor_gradients(self, name: str) -> None:
        quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
        gradients = []
        for checkpointing in (False, True):
            ours = encoder(name, quiet, checkpointing=checkpointing).train()
            tokens = ours(padded([clip(ours.spec, 4000), clip(ours.spec, 3000, 1)], 0))
            (tokens.values**3).sum().backward()
            gradients.append([p.grad for p in ours.parameters() if p.requires_grad])
        for a, b in zip(*gradients, strict=True):
            close(a, b, 1e-4)

    def test_no_layer_is_dropped(self) -> None:
        ours = encoder("hubert", {"layerdrop": 1.0}).train()
        ours(clip(ours.spec, 2000)).values.sum().backward()
        assert all(p.grad is not None for p in ours.network.encoder.layers.parameters())  # type: ignore[union-attr]


OLD = KeyTable(
    "", ((r"parametrizations\.weight\.original0", "weight_g"), (r"parametrizations\.weight\.original1", "weight_v"))
)


class TestPublishedFiles:
    @pytest.mark.parametrize("name", sounds.SPEECH)
    @pytest.mark.parametrize("inside", [False, True])
    @pytest.mark.parametrize("old", [False, True])
    def test_files_of_transformers(self, tmp_path: Path, name: str, inside: bool, old: bool) -> None:
        torch.manual_seed(1)
        published = sounds.speech(name, normalize=True)
        content = dict(published.network.state_dict())
        content = renamed(content, OLD) if old else content
        if inside:
            prefix = {"wav": "wav2vec2.", "hub": "hubert.", "dat": "data2vec_audio."}[name[:3]]
            prefix = "wavlm." if name.startswith("wavlm") else prefix
            content = {prefix + key: value for key, value in content.items()}
            content |= {key: torch.zeros(2) for key in ("lm_head.weight", "quantizer.codevectors", "project_q.bias")}
        torch.save(content, path := tmp_path / "pytorch_model.bin")
        check(name, path, published)

    @pytest.mark.parametrize("name", [name for name in sounds.SPEECH if name != "hubert"])
    @pytest.mark.parametrize("tuned", [False, True])
    def test_files_of_fairseq(self, tmp_path: Path, name: str, tuned: bool) -> None:
        torch.manual_seed(1)
        published = sounds.speech(name, normalize=True)
        content = {
            fairseq(key, "layer" in name or name == "data2vec"): v for key, v in published.network.state_dict().items()
        }
        content |= {"final_proj.weight": torch.zeros(2), "quantizer.vars": torch.zeros(1)}
        if tuned:
            content = {f"w2v_encoder.w2v_model.{key}": value for key, value in content.items()}
            content |= {"w2v_encoder.proj.weight": torch.zeros(3)}
        torch.save({"cfg": {"layers": 3}, "model": content}, path := tmp_path / "base.pt")
        check(name, path, published)

    def test_what_is_missing_extra_or_of_another_shape_is_named(self, tmp_path: Path) -> None:
        content = dict(sounds.speech("hubert, layer norms").network.state_dict())
        key = "encoder.layers.1.attention.k_proj.weight"
        path = tmp_path / "model.pt"
        for changed, message in (
            ({k: v for k, v in content.items() if k != key}, f"'{key}' is missing"),
            (content | {"encoder.layers.3.odd": torch.zeros(1)}, "'encoder.layers.3.odd' is extra"),
            (content | {key: torch.zeros(16, 17)}, rf"'{key}' has the shape \(16, 17\) instead of \(16, 16\)"),
        ):
            torch.save(changed, path)
            with pytest.raises(UserError, match=message):
                sounds.speech("hubert, layer norms").load_published(path)

    def test_a_file_without_the_stand_in_for_masked_tokens_will_do(self, tmp_path: Path) -> None:
        content = dict(sounds.speech("wavlm").network.state_dict())
        del content["masked_spec_embed"]
        torch.save(content, path := tmp_path / "model.pt")
        assert list(sounds.speech("wavlm").load_published(path).absent) == ["masked_spec_embed"]

    def test_a_whole_file_fills_a_network_that_ends_early(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        published = sounds.speech("hubert, layer norms", layers=1).eval()
        whole = sounds.speech("hubert, layer norms")
        torch.save(whole.network.state_dict(), path := tmp_path / "model.pt")
        report = published.load_published(path)
        assert set(report.unused.values()) == {"not built"}
        assert report.loaded == len(published.network.state_dict())
        key = "encoder.layers.0.layer_norm.weight"
        assert torch.equal(published.network.state_dict()[key], whole.network.state_dict()[key])

    def test_a_folder_of_the_hub_says_what_to_build(self, tmp_path: Path) -> None:
        theirs: Any = sounds.speech("wavlm").network
        theirs.save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
        ours = SpeechTransformer(config=str(tmp_path)).eval()
        assert ours.normalize
        ours.load_published(tmp_path)
        description = json.loads(json.dumps(ours.describe()))
        assert str(tmp_path) not in str(description), "a checkpoint needs no folder"
        again = build(description, Encoder, ("mer.encoders",), (), "test").eval()
        again.load_state_dict(ours.state_dict())
        inputs = clip(ours.spec, 3000)
        close(again(inputs).values, ours(inputs).values)

    def test_a_folder_of_another_network_is_refused_with_the_value_that_differs(self, tmp_path: Path) -> None:
        theirs: Any = sounds.speech("wavlm").network
        theirs.save_pretrained(tmp_path)
        with pytest.raises(UserError, match=r"config.json: intermediate_size is 24, the encoder was built with 32"):
            sounds.speech("wavlm", {"intermediate_size": 32}).load_published(tmp_path)
        with pytest.raises(UserError, match="model_type is 'wavlm', the encoder was built with 'hubert'"):
            sounds.speech("hubert").load_published(tmp_path)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "either 'architecture' or 'config'"),
            ({"architecture": "hubert"}, "unknown architecture 'hubert'. Use one of wav2vec2-base"),
            ({"config": {"hidden_size": 8}}, "without 'model_type'"),
            ({"config": {"model_type": "bert"}}, "no 'bert'"),
            ({"config": {"model_type": "hubert", "hidden_size": 10, "num_attention_heads": 3}}, "builds no 'hubert'"),
            ({"config": "/no/such/folder"}, "not a readable config.json"),
            ({"architecture": "hubert-base", "rate": 30.0}, "Use 50, 25 or 12.5"),
            ({"config": sounds.speech("hubert").plain | {"conv_stride": [0] * 7}}, "Correct the config"),
            ({"config": sounds.speech("hubert").plain, "layers": 9}, "an index from 0 to 3"),
        ],
    )
    def test_are_one_line(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=re.escape(message)):
            SpeechTransformer(**arguments)

    def test_a_neighbour_that_breaks_transformers_is_named(self, tmp_path: Path) -> None:
        about = tmp_path / "torchaudio-9.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchaudio\nVersion: 9.0\n")
        (tmp_path / "torchaudio").mkdir()
        (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('libc10_cuda.so: cannot open')\n")
        run = [sys.executable, "-c", BROKEN.format(folder=str(tmp_path))]
        said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        assert re.search(r"libc10_cuda.*pip uninstall torchvision torchaudio", said), said


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["wav2vec2-base", "hubert-base", "wavlm-base-plus", "data2vec-audio-base"])
def test_the_full_size_equals_the_library_and_half_precision_stays_within_two_per_cent(name: str) -> None:
    torch.manual_seed(0)
    ours = SpeechTransformer(name, normalize=False).eval()
    inputs = clip(ours.spec, 48000)
    theirs: Any = ours.network
    exact = ours(inputs).values
    close(exact, theirs(inputs.values).last_hidden_state, 1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = ours(inputs).values
    assert (half.float() - exact).norm() < 0.02 * exact.norm()


def sounds_at(whole: SpeechTransformer, layer: int) -> SpeechTransformer:
    """The same network, of which one hidden state is read."""
    cut = SpeechTransformer(config=whole.plain, layers=layer, normalize=whole.normalize).eval()
    cut.network.load_state_dict(whole.network.state_dict(), strict=False)
    return cut


def check(name: str, path: Path, published: SpeechTransformer) -> None:
    """It loads strictly, and then gives the same tokens."""
    torch.manual_seed(2)
    ours = sounds.speech(name, normalize=True)
    inputs = clip(ours.spec, 3000)
    with torch.no_grad():
        before = ours.eval()(inputs).values
        report = ours.load_published(path)
        assert report.loaded == len(published.network.state_dict())
        after = ours(inputs).values
        assert not torch.equal(before, after)
        assert torch.equal(after, published.eval()(inputs).values)


def fairseq(key: str, layer_norms: bool) -> str:
    """The key under which fairseq keeps a tensor."""
    if key == "masked_spec_embed":
        return "mask_emb"
    key = re.sub(r"^feature_projection\.projection", "post_extract_proj", key).removeprefix("feature_projection.")
    key = key.replace(".conv.weight", ".0.weight").replace(".conv.bias", ".0.bias") if "conv_layers" in key else key
    key = key.replace(".layer_norm", ".2.1" if layer_norms else ".2") if "conv_layers" in key else key
    key = re.sub(r"pos_conv_embed\.layers\.(\d)\.conv", r"pos_conv.\1.0", key).replace(
        "pos_conv_embed.conv", "pos_conv.0"
    )
    key = key.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )
    for ours, theirs in (
        (".attention.", ".self_attn."),
        ("gru_rel_pos_linear", "grep_linear"),
        ("gru_rel_pos_const", "grep_a"),
        ("rel_attn_embed", "relative_attention_bias"),
        ("feed_forward.intermediate_dense", "fc1"),
        ("feed_forward.output_dense", "fc2"),
    ):
        key = key.replace(ours, theirs)
    return re.sub(r"(encoder\.layers\.\d)\.layer_norm", r"\1.self_attn_layer_norm", key)


def test_library_networks_are_never_looked_for_elsewhere() -> None:
    with pytest.raises(UserError, match="not a readable config"):
        library.plain_config(None, "facebook/hubert-base-ls960", {})
    assert isinstance(sounds.speech("hubert").network, nn.Module)
    assert all(preset["model_type"] in ("wav2vec2", "hubert", "wavlm", "data2vec-audio") for preset in PRESETS.values())
