"""VideoMAE gives what the library gives, window by window, and takes the files that are published for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from mer.configured import build
from mer.encoders import Encoder
from mer.encoders.videomae import VideoMAE
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.tokens import Sampled

TINY: dict[str, Any] = {
    "model_type": "videomae", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "image_size": 16, "patch_size": 8, "num_frames": 8, "use_mean_pooling": False,
}  # fmt: skip


def stirred(module: Any) -> Any:
    """With no parameter left at the 0 or 1 that it was built with."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return module.eval()


def tiny(mean_pooling: bool = False, **more: Any) -> VideoMAE:
    torch.manual_seed(0)
    return stirred(VideoMAE(config=TINY | {"use_mean_pooling": mean_pooling}, **more))


def frames(count: int) -> Sampled:
    values = torch.randint(0, 256, (1, count, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    time = torch.arange(count).float() / 8
    spans = torch.stack([time, time + 0.125], 1)
    return Sampled(values.to(torch.uint8), torch.ones(1, count, dtype=torch.bool), spans[None])


@pytest.mark.parametrize(("finetuned", "more"), [("", 2 * 768), ("-finetuned", 0)])
def test_the_base_size_has_the_published_parameters(finetuned: str, more: int) -> None:
    with torch.device("meta"):
        encoder = VideoMAE(f"videomae-base{finetuned}")
    assert sum(p.numel() for p in encoder.network.videomae.parameters()) == 86_225_664 + more
    assert encoder.patches * encoder.frames // encoder.tubelet == 1568
    assert encoder.output_rate == 3.75


@torch.no_grad()
@pytest.mark.parametrize("count", [8, 4, 2])
def test_a_window_is_what_a_network_for_so_many_frames_makes_of_it(count: int) -> None:
    encoder = tiny()
    library = transformers.VideoMAEModel(transformers.VideoMAEConfig(**TINY | {"num_frames": count})).eval()
    library.load_state_dict(encoder.network.videomae.state_dict())
    inputs = frames(count)
    expected = library(encoder.pixels(inputs)).last_hidden_state.unflatten(1, (count // 2, 4)).mean(2)
    tokens = encoder(inputs)
    torch.testing.assert_close(tokens.values, expected)
    torch.testing.assert_close(tokens.spans[0, 1:, 0], tokens.spans[0, :-1, 1])
    pooled = tiny(tokens="pooled")(inputs)
    torch.testing.assert_close(pooled.values, expected.mean(1, keepdim=True))
    torch.testing.assert_close(pooled.spans, torch.tensor([[[0.0, count / 8]]]))


@torch.no_grad()
def test_the_pooled_token_of_a_finetuned_network_is_what_its_classifier_reads() -> None:
    encoder = tiny(mean_pooling=True, tokens="pooled")
    config = transformers.VideoMAEConfig(**TINY | {"use_mean_pooling": True}, num_labels=5)
    library = transformers.VideoMAEForVideoClassification(config).eval()
    library.load_state_dict(encoder.network.state_dict(), strict=False)
    inputs = frames(8)
    expected = library(encoder.pixels(inputs)).logits
    torch.testing.assert_close(library.classifier(encoder(inputs).values[:, 0]), expected)


@torch.no_grad()
def test_a_long_clip_is_its_windows_one_after_the_other() -> None:
    encoder, inputs = tiny(), frames(21)
    whole = encoder(inputs)
    assert whole.values.shape == (1, 11, 16)  # the last tubelet holds one frame, twice
    for begin in (0, 8, 16):
        some = slice(begin, min(begin + 8, 21))
        alone = encoder(Sampled(inputs.values[:, some], inputs.mask[:, some], inputs.spans[:, some]))
        place = slice(begin // 2, begin // 2 + alone.values.shape[1])
        torch.testing.assert_close(whole.values[:, place], alone.values)
        torch.testing.assert_close(whole.spans[:, place], alone.spans)
    torch.testing.assert_close(whole.spans[0, -1], inputs.spans[0, -1])
    twice = frames(21).values[:, [*range(21), 20]]
    even = encoder(Sampled(twice, torch.ones(1, 22, dtype=torch.bool), frames(22).spans))
    torch.testing.assert_close(even.values, whole.values)


# -- published files ----------------------------------------------------------------------------------------------------


def published(encoder: VideoMAE, table: KeyTable) -> dict[str, Tensor]:
    """The encoder's tensors as a file of this layout keeps them: query, key and value may be one."""
    content: dict[str, list[Tensor]] = {}
    for key, value in encoder.network.state_dict().items():
        content.setdefault(table.theirs(key), []).append(value)
    return {name: torch.cat(values) if len(values) > 1 else values[0] for name, values in content.items()}


LAYOUTS = [(mean, table.name) for mean in (True, False) for table in tiny().tables()]


@pytest.mark.parametrize(("mean_pooling", "layout"), LAYOUTS)
class TestFiles:
    def make(self, mean_pooling: bool, layout: str) -> tuple[VideoMAE, dict[str, Tensor]]:
        encoder = tiny(mean_pooling)
        table = next(t for t in encoder.tables() if t.name == layout)
        return encoder, published(encoder, table)

    @torch.no_grad()
    def test_a_file_of_each_layout_gives_the_same_tokens(self, mean_pooling: bool, layout: str, tmp_path: Path) -> None:
        encoder, content = self.make(mean_pooling, layout)
        torch.save({"module": content, "epoch": 3}, tmp_path / "file.pth")
        fresh = VideoMAE(config=encoder.init_args["config"]).eval()
        assert not torch.allclose(fresh(frames(6)).values, encoder(frames(6)).values)
        report = fresh.load_published(tmp_path / "file.pth")
        assert (report.unused, report.absent) == ({}, {})
        torch.testing.assert_close(fresh(frames(6)).values, encoder(frames(6)).values, atol=0, rtol=0)

    @pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
    def test_one_key_missing_extra_or_of_another_shape_is_named(
        self, mean_pooling: bool, layout: str, fault: str, tmp_path: Path
    ) -> None:
        encoder, content = self.make(mean_pooling, layout)
        key = sorted(key for key in content if content[key].ndim == 2)[-1]
        if fault == "missing":
            del content[key]
        elif fault == "extra":
            content[key := "surplus.weight"] = torch.zeros(1)
        else:
            content[key] = torch.cat([content[key], content[key][:1]])
        save_file({k: v.contiguous() for k, v in content.items()}, tmp_path / "file.safetensors")
        with pytest.raises(UserError, match=f"'{key}'.* {'has the shape' if fault == 'shape' else fault}"):
            encoder.load_published(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("library", "mean_pooling", "reason"),
    [
        (transformers.VideoMAEForPreTraining, False, "the decoder"),
        (transformers.VideoMAEForVideoClassification, True, "a classifier"),
    ],
)
def test_folders_of_the_hub_hold_more_than_is_needed(
    library: Any, mean_pooling: bool, reason: str, tmp_path: Path
) -> None:
    decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 8}
    config = transformers.VideoMAEConfig(**TINY | {"use_mean_pooling": mean_pooling}, **decoder)
    whole = stirred(library(config))
    whole.save_pretrained(tmp_path)
    encoder = VideoMAE(config=str(tmp_path)).eval()
    assert set(encoder.load_published(tmp_path).unused.values()) == {reason}
    for key, value in encoder.network.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


# -- configs ------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_config_and_preprocessing_and_is_not_needed_afterwards(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"decoder_hidden_size": 8}))
    prepared = {"size": 16, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    encoder = VideoMAE(config=str(tmp_path), segments=8)
    assert (encoder.spec.mean, encoder.spec.segments, encoder.output_rate) == ((0.1, 0.2, 0.3), 8, None)
    described = json.loads(json.dumps(encoder.describe()))
    for file in tmp_path.iterdir():
        file.unlink()
    copy = build(described, Encoder, ("mer.encoders",), (), "test")
    assert (copy.spec, copy.describe()) == (encoder.spec, described)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": TINY, "tokens": "cls"}, "no tokens 'cls'"),
        ({"config": {"model_type": "vivit"}}, "'vivit' is not videomae"),
        ({"config": TINY | {"num_frames": 7}}, "windows of 7 frames in tubelets of 2"),
        ({"architecture": "videomae-giant"}, "unknown architecture 'videomae-giant'"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        VideoMAE(**arguments)
    assert message in str(raised.value)
