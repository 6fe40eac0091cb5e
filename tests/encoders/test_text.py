"""Words go through a text network as the text they came from, and keep their times."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor

from encoders import letters
from mer.encoders import TextEncoder
from mer.encoders.text import packed
from mer.encoders.weights import renamed
from mer.errors import UserError
from mer.tokens import Sampled


def said(*words: str, spans: list[tuple[float, float]] | None = None, width: int = 48) -> Sampled:
    values = torch.zeros(1, len(words), width, dtype=torch.uint8)
    for i, word in enumerate(words):
        raw = word.encode()
        values[0, i, : len(raw)] = torch.tensor(list(raw), dtype=torch.uint8)
    times = torch.tensor(spans or [(i, i + 1.0) for i in range(len(words))])
    return Sampled(values, torch.ones(1, len(words), dtype=torch.bool), times[None])


def published(encoder: TextEncoder) -> dict[str, Tensor]:
    return {k: torch.randn_like(v) for k, v in encoder.network.state_dict().items()}


class TestTokens:
    def test_a_word_is_the_mean_of_its_pieces_in_the_text_as_a_whole(self) -> None:
        encoder = letters.tiny(mix="last").eval()
        tokens = encoder(said("ab", "c", "def"))
        ids = letters.tokenizer().encode("ab c def").ids
        whole = encoder.network(input_ids=torch.tensor([ids])).last_hidden_state[0, 1:-1]
        expected = torch.stack([whole[:2].mean(0), whole[2], whole[3:].mean(0)])
        torch.testing.assert_close(tokens.values[0], expected)
        assert tokens.times.tolist() == [[0.5, 1.5, 2.5]]

    def test_a_segment_is_the_mean_of_the_words_that_share_its_span(self) -> None:
        spans = [(0.0, 2.0), (0.0, 2.0), (2.0, 5.0)]
        words = letters.tiny("word").eval()
        segments = letters.tiny("segment").eval()
        segments.load_state_dict(words.state_dict())
        clip = said("ab", "cd", "e", spans=spans)
        tokens = segments(clip)
        assert tokens.mask.tolist() == [[True, True, False]]
        assert tokens.spans[0, :2].tolist() == [[0.0, 2.0], [2.0, 5.0]]
        by_word = words(clip).values[0]
        torch.testing.assert_close(tokens.values[0, 0], by_word[:2].mean(0))
        torch.testing.assert_close(tokens.values[0, 1], by_word[2])

    def test_pieces_carry_the_time_of_their_word(self) -> None:
        tokens = letters.tiny("piece").eval()(said("ab", "c"))
        assert tokens.spans[0].tolist() == [[0.0, 1.0], [0.0, 1.0], [1.0, 2.0]]

    def test_a_long_text_is_read_in_parts_that_fit_the_network(self) -> None:
        encoder = letters.tiny("word").eval()
        words = ["abcdefgh"] * 20  # 160 pieces, 62 fit beside the two special ones
        tokens = encoder(said(*words))
        assert tokens.mask.all()
        assert (tokens.values.norm(dim=2) > 0).all()
        first = encoder(said(*words[:7]))
        assert not torch.allclose(first.values[0, 0], tokens.values[0, 0])  # it sees its part, which is longer

    def test_words_of_writing_without_spaces_are_joined_without(self) -> None:
        seen = []
        encoder = letters.tiny("word").eval()
        made = encoder._tokenizer

        class Listener:
            def encode(self, text: str) -> object:
                seen.append(text)
                return made.encode(text)

        encoder._tokenizer = Listener()
        encoder(said("你", "好", "，", "a", "b", "世"))
        assert seen == ["你好， a b 世"]

    def test_a_word_that_the_tokenizer_makes_nothing_of_is_zero(self) -> None:
        tokens = letters.tiny("word").eval()(said("ab", "", "c"))
        assert tokens.values[0].norm(dim=1).gt(0).tolist() == [True, False, True]


class TestLayers:
    CONFIG: ClassVar[dict[str, Any]] = {
        "vocab_size": len(letters.VOCABULARY), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0,
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8,
    }  # fmt: skip

    @pytest.mark.parametrize("kind", ["bert", "deberta-v2", "llama"])
    @pytest.mark.parametrize("layer", [0, 1, 3, -2])
    def test_all_that_trains_gets_a_gradient_whichever_layer_is_asked_for(self, kind: str, layer: int) -> None:
        """DistributedDataParallel waits for the gradient of every parameter."""
        torch.manual_seed(0)
        content = packed(letters.tokenizer().to_str())
        encoder = TextEncoder(content, config=self.CONFIG | {"model_type": kind}, layers=layer)
        assert all(module.training for module in encoder.modules())
        encoder(said("ab", "cde")).values.square().sum().backward()
        trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
        assert trained == [n for n, p in encoder.named_parameters() if p.grad is not None]
        stack = [n for n in trained if re.search(r"layers?\.\d", n)]
        assert len({re.findall(r"layers?\.(\d)", n)[0] for n in stack}) == layer % 4

    def test_the_one_that_is_asked_for_is_the_librarys(self) -> None:
        content = packed(letters.tokenizer().to_str())
        encoder = TextEncoder(content, config=self.CONFIG | {"model_type": "llama"}, layers=2).eval()
        ids = torch.tensor([letters.tokenizer().encode("ab").ids])
        states = encoder.network(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(encoder(said("ab")).values[0, 0], states[2][0, 1:-1].mean(0))


class TestPublished:
    @pytest.mark.parametrize("table", range(4))
    def test_files_of_the_bare_network_and_of_one_with_a_task_load(self, table: int, tmp_path: Path) -> None:
        encoder = letters.tiny()
        state = published(encoder)
        content = renamed(state, encoder.tables()[table]) | {"cls.predictions.bias": torch.zeros(3)}
        torch.save(content, tmp_path / "pytorch_model.bin")
        report = encoder.load_published(tmp_path)
        assert report.unused == {"cls.predictions.bias": "a head for another task"}
        assert all(torch.equal(v, state[k]) for k, v in encoder.network.state_dict().items())

    def test_what_transformers_itself_writes_loads_and_gives_the_same(self, tmp_path: Path) -> None:
        encoder = letters.tiny(mix="last4").eval()
        settings: Any = encoder.network.config
        task = transformers.BertForMaskedLM(settings).eval()
        task.save_pretrained(tmp_path)
        (tmp_path / "tokenizer.json").write_text(letters.tokenizer().to_str())
        again = TextEncoder(str(tmp_path), config=str(tmp_path), layers="last4").eval()
        again.load_published(tmp_path)
        ids = torch.tensor([letters.tokenizer().encode("ab c").ids])
        with torch.no_grad():
            states = task.bert(input_ids=ids, output_hidden_states=True).hidden_states
            expected = torch.stack(states[-4:]).sum(0)[0, 1:-1]
            torch.testing.assert_close(again(said("ab", "c")).values[0, 1], expected[2])

    @pytest.mark.parametrize("change", ["missing", "extra", "shape"])
    def test_a_wrong_key_is_named(self, change: str, tmp_path: Path) -> None:
        encoder = letters.tiny()
        content = published(encoder)
        name = "encoder.layer.1.output.dense.weight"
        if change == "missing":
            del content[name]
        elif change == "extra":
            name = "encoder.layer.2.output.dense.weight"
            content[name] = torch.zeros(2)
        else:
            content[name] = torch.zeros(2, 2)
        torch.save(content, tmp_path / "pytorch_model.bin")
        with pytest.raises(UserError, match=f"'{name}'"):
            encoder.load_published(tmp_path)

    @pytest.mark.parametrize(
        ("name", "parameters"), [("roberta-base", 124_645_632 - 590_592), ("bert-base-uncased", 109_482_240 - 590_592)]
    )
    def test_presets_have_the_published_size_less_the_pooler(self, name: str, parameters: int) -> None:
        with torch.device("meta"):
            encoder = TextEncoder(packed(letters.tokenizer().to_str()), architecture=name)
        assert sum(p.numel() for p in encoder.parameters()) == parameters


class TestMistakes:
    def test_each_is_one_line(self, tmp_path: Path) -> None:
        content = packed(letters.tokenizer().to_str())
        with pytest.raises(UserError, match="either 'architecture' or 'config'"):
            TextEncoder(content)
        with pytest.raises(UserError, match="unknown architecture 'bart'"):
            TextEncoder(content, architecture="bart")
        with pytest.raises(UserError, match="no such tokenizer"):
            TextEncoder(str(tmp_path / "tokenizer.json"), architecture="roberta-base")
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(UserError, match=r"not a readable tokenizer\.json"):
            TextEncoder(str(tmp_path), architecture="roberta-base")
        (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3}))
        with pytest.raises(UserError, match="without 'model_type'"):
            TextEncoder(content, config=str(tmp_path))
        with pytest.raises(UserError, match="the network 5"):
            TextEncoder(content, config={"model_type": "bert", "vocab_size": 5, "hidden_size": 12})
        with pytest.raises(UserError, match="builds no 'unheard-of'"):
            TextEncoder(content, config={"model_type": "unheard-of"})
        for kind in ("t5", "vit"):
            with pytest.raises(UserError, match=f"a '{kind}' does not read a text alone"):
                TextEncoder(content, config={"model_type": kind, "num_layers": 1, "num_hidden_layers": 1, "d_model": 8})
        with pytest.raises(UserError, match="2 positions has no place for words"):
            TextEncoder(content, config=letters.tiny().init_args["config"] | {"max_position_embeddings": 2})
        with pytest.raises(UserError, match="layers 7"):
            TextEncoder(content, config=letters.tiny().init_args["config"], layers=7)
