"""The plain vision transformer, and the two masked autoencoders that are built from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from encoders import golden
from encoders.test_contract import clip, close
from mer.encoders import AudioMAE, Encoder, MAEFace
from mer.encoders.vit import Block, VisionTransformer, resized
from mer.errors import UserError
from mer.media.kaldi import filterbank, log_fbank
from mer.tokens import Sampled


def face(**more: object) -> MAEFace:
    return MAEFace(**{"size": 16, "dim": 16, "depth": 2, "heads": 2, "patch": 8, "crop": "none"} | more).eval()  # type: ignore[arg-type]


def sound(**more: object) -> AudioMAE:
    sizes = {"window": 0.32, "rate": 4000.0, "bands": 8, "dim": 16, "depth": 2, "heads": 2, "patch": 4}
    return AudioMAE(**sizes | more).eval()  # type: ignore[arg-type]


ENCODERS: dict[str, Callable[..., Encoder]] = {"MAE-Face": face, "AudioMAE": sound}


@pytest.fixture(params=ENCODERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Encoder]:
    torch.manual_seed(0)
    return ENCODERS[request.param]


class TestVisionTransformer:
    def test_it_gives_the_numbers_of_timm(self) -> None:
        """Measured with timm 1.0.31, whose difference to ours was exactly 0 in float64."""
        network = VisionTransformer((32, 32), 8, 3, 24, 3, 3)
        golden.fill(network)
        with torch.no_grad():
            tokens = network.double()(golden.source((2, 3, 32, 32)))
        assert tokens.shape == (2, 17, 24)
        golden.check(tokens, (-1.247971, 0.272483, 3.354608, -1.610158, 0.204663, 0.772352), -5.85932, 28.59699)

    def test_the_published_size_has_the_published_parameters(self) -> None:
        with torch.device("meta"):
            network = VisionTransformer()
        assert sum(p.numel() for p in network.parameters()) == 85_798_656
        assert {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.startswith("blocks.")} == {
            "cls_token": (1, 1, 768),
            "pos_embed": (1, 197, 768),
            "patch_embed.proj.weight": (768, 3, 16, 16),
            "patch_embed.proj.bias": (768,),
            "norm.weight": (768,),
            "norm.bias": (768,),
        }
        assert {k.removeprefix("blocks.11.") for k in network.state_dict() if k.startswith("blocks.11.")} == {
            f"{layer}.{kind}"
            for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
            for kind in ("weight", "bias")
        }

    @torch.no_grad()
    def test_a_picture_of_another_size_takes_resized_positions(self) -> None:
        network = VisionTransformer((32, 32), 8, 3, 16, 1, 2).eval()
        wide = network.embed(torch.zeros(1, 3, 24, 56))
        assert wide.shape == (1, 1 + 3 * 7, 16)
        close(wide[:, 1:] - network.patch_embed.proj.bias, resized(network.pos_embed, (4, 4), (3, 7))[:, 1:])

    def test_positions_are_resized_plane_by_plane_and_the_class_tokens_stay(self) -> None:
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(4.0), indexing="ij")
        positions = torch.cat([torch.full((1, 1, 2), 9.0), torch.stack([rows, columns], 2).view(1, 32, 2)], dim=1)
        half = resized(positions, (8, 4), (4, 4))
        assert torch.equal(half[:, 0], positions[:, 0])
        planes = half[0, 1:].view(4, 4, 2)
        close(planes[1:3, :, 0], torch.tensor([2.5, 4.5])[:, None].expand(2, 4))  # midpoints, away from the border
        close(planes[..., 1], torch.arange(4.0).expand(4, 4))

    def test_resized_positions_are_those_of_timm(self) -> None:
        """Measured with timm 1.0.31, `resample_abs_pos_embed` without antialiasing: half the rows of AudioMAE's grid."""
        positions = torch.sin(10 * golden.source((1, 1 + 16 * 3, 2)))
        half = resized(positions, (16, 3), (8, 3))[:, 1:]
        golden.check(half, (-0.725638, 0.800381, -0.425458, 0.609599, 0.002253, 0.23609), 0.43891, 4.35651)

    @torch.no_grad()
    def test_hidden_patches_are_as_good_as_absent(self) -> None:
        network = VisionTransformer((16, 16), 4, 1, 16, 2, 2).eval()
        images = torch.randn(2, 1, 16, 16)
        keys = torch.arange(16).expand(2, -1) < 8
        other = images.clone()
        other[:, :, 8:] = torch.randn(2, 1, 8, 16)
        close(network(images, keys)[:, :9], network(other, keys)[:, :9])
        assert not torch.allclose(network(images)[:, :9], network(other)[:, :9])

    def test_stochastic_depth_skips_samples_and_keeps_the_mean(self) -> None:
        torch.manual_seed(0)
        rates = [block.drop_path for block in VisionTransformer((8, 8), 8, 1, 8, 5, 1, drop_path=0.2).blocks]
        assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
        block = Block(8, 1, 8, drop_path=0.4)
        x = torch.randn(1, 3, 8).expand(4000, -1, -1)
        with torch.no_grad():
            dropped = block._drop(x)
            close(torch.unique((dropped / x).mean((1, 2)).round(decimals=3)), torch.tensor([0.0, 1.667]))
            assert float((dropped / x).mean()) == pytest.approx(1.0, abs=0.05)
            close(block.eval()._drop(x), x)

    def test_checkpointing_changes_nothing_but_memory(self) -> None:
        torch.manual_seed(0)
        network = VisionTransformer((16, 16), 8, 3, 16, 3, 2, drop_path=0.5)
        images, gradients = torch.randn(4, 3, 16, 16), []
        for network.checkpointing in (False, True):
            torch.manual_seed(1)
            network.zero_grad()
            network(images).square().sum().backward()
            gradients.append([p.grad.clone() for p in network.parameters()])  # type: ignore[union-attr]
        for a, b in zip(*gradients, strict=True):
            close(a, b)

    def test_freezing_stops_what_is_below(self) -> None:
        def trained(first: int) -> set[str]:
            network = VisionTransformer((8, 8), 8, 1, 8, 2, 1)
            network.freeze(first)
            return {
                name.split(".m")[0].split(".attn")[0].split(".norm")[0]
                for name, p in network.named_parameters()
                if p.requires_grad
            }

        assert trained(0) >= {"cls_token", "pos_embed", "blocks.0", "blocks.1"}
        assert trained(1) == {"blocks.1", "norm.weight", "norm.bias"}
        assert trained(2) == set()

    def test_frozen_blocks_are_never_skipped(self) -> None:
        network = VisionTransformer((8, 8), 8, 1, 8, 3, 1, drop_path=0.9)
        network.freeze(2)
        assert [block.drop_path for block in network.blocks] == [0.0, 0.0, 0.9]

    def test_sizes_that_do_not_fit_are_one_line(self) -> None:
        for wrong in ({"size": (8, 8)}, {"heads": 5}, {"heads": 0}, {"patch": 0}, {"drop_path": 1.0}):
            with pytest.raises(UserError, match="vision transformer"):
                VisionTransformer(**wrong)  # type: ignore[arg-type]
        for frozen in (-1, 3):
            with pytest.raises(UserError, match="of 2 blocks"):
                VisionTransformer((8, 8), 8, 1, 8, 2, 1).freeze(frozen)


def theirs(network: nn.Module) -> dict[str, Tensor]:
    """As a masked autoencoder's pretraining saves it: the encoder, and a decoder behind it."""
    decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_embed.weight": torch.zeros(4, 16)}
    return network.state_dict() | decoder | {"decoder_blocks.0.norm1.weight": torch.zeros(4)}


class TestFiles:
    @pytest.mark.parametrize("prefix", ["", "module."])
    @torch.no_grad()
    def test_a_published_file_gives_its_network(
        self, make: Callable[..., Encoder], tmp_path: Path, prefix: str
    ) -> None:
        source, ours = make(), make()
        content = {"model": {prefix + k: v for k, v in theirs(source.network).items()}, "epoch": 400}
        torch.save(content, tmp_path / "pretrained.pth")
        report = ours.load_published(tmp_path / "pretrained.pth")
        assert report.loaded == len(source.network.state_dict())
        assert set(report.unused.values()) == {"the decoder of the masked autoencoder"}
        inputs = clip(ours.spec, 900 if ours.spec.kind == "audio" else 3)
        assert torch.equal(ours(inputs).values, source(inputs).values)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"blocks.1.attn.qkv.bias": None}, "the key 'blocks.1.attn.qkv.bias' is missing"),
            ({"blocks.2.norm1.weight": torch.zeros(16)}, "the key 'blocks.2.norm1.weight' is extra"),
            ({"norm.weight": torch.zeros(8)}, r"the key 'norm.weight' has the shape \(8,\) instead of \(16,\)"),
            ({"pos_embed": torch.zeros(1, 4, 16)}, "the key 'pos_embed' has the shape"),
            ({"image_encoder.norm.weight": torch.zeros(16)}, "use mer.encoders.MMADFER"),
        ],
    )
    def test_a_key_that_does_not_fit_is_named(
        self, make: Callable[..., Encoder], tmp_path: Path, change: dict[str, Tensor | None], message: str
    ) -> None:
        content = {k: v for k, v in (theirs(make().network) | change).items() if v is not None}
        torch.save({"model": content}, tmp_path / "pretrained.pth")
        with pytest.raises(UserError, match=message):
            make().load_published(tmp_path / "pretrained.pth")

    def test_positions_of_another_picture_or_length_are_resized(self, tmp_path: Path) -> None:
        for ours, other, grids in (
            (face(), face(size=32), ((4, 4), (2, 2))),
            (sound(), sound(window=0.64), ((16, 2), (8, 2))),
        ):
            torch.save({"model": theirs(other.network)}, tmp_path / "pretrained.pth")
            ours.load_published(tmp_path / "pretrained.pth")
            assert torch.equal(ours.network.pos_embed, resized(other.network.pos_embed, *grids))

    def test_the_published_sizes_are_those_of_the_files(self) -> None:
        with torch.device("meta"):
            faces, sounds = MAEFace(), AudioMAE()
        assert tuple(faces.network.pos_embed.shape) == (1, 197, 768)
        assert tuple(sounds.network.pos_embed.shape) == (1, 513, 768)
        assert tuple(sounds.network.patch_embed.proj.weight.shape) == (768, 1, 16, 16)
        assert (len(faces.network.state_dict()), len(sounds.network.state_dict())) == (150, 150)
        assert (faces.dim, sounds.dim, sounds.output_rate) == (768, 768, 6.25)


class TestMAEFace:
    @torch.no_grad()
    def test_tokens_are_parts_of_what_the_network_gives(self) -> None:
        inputs = clip(face().spec, 3)
        source = face()
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (source.spec.mean, source.spec.std))
        x = source.network((inputs.values[0] / 255 - mean) / std)
        for tokens, wanted in (("cls", x[:, 0]), ("mean", x[:, 1:].mean(1)), ("patches", x[:, 1:].flatten(0, 1))):
            encoder = face(tokens=tokens)
            encoder.network = source.network
            got = encoder(inputs)
            close(got.values[0], wanted)
            assert torch.equal(got.spans[0], inputs.spans[0].repeat_interleave(len(wanted) // 3, dim=0))

    def test_faces_are_looked_for_unless_told_otherwise(self) -> None:
        with torch.device("meta"):
            spec = MAEFace(face={"detector": "mediapipe"}).spec
        assert (spec.crop, spec.size) == ("face", (224, 224))
        assert spec.face is not None
        assert spec.face.detector == "mediapipe"


class TestAudioMAE:
    """Tiny: windows of 8 rows of patches, a row is 4 frames or 160 samples."""

    def picture(self, encoder: AudioMAE, inputs: Sampled, frames: int) -> Tensor:
        """The spectrogram of the only clip as the published loader makes it, (1, 1, frames, bands)."""
        wave = inputs.values - inputs.values.mean()
        mel = log_fbank(wave, filterbank(8, 4000), 4000)[:, :frames]
        mel = torch.cat([mel, torch.zeros(1, frames - mel.shape[1], 8)], dim=1)
        return (mel[:, None] + 4.2677393) / (2 * 4.5689974)

    @torch.no_grad()
    def test_a_window_of_sound_is_what_the_published_network_gives(self) -> None:
        encoder = sound()
        inputs = clip(encoder.spec, 31 * 40 + 100)  # exactly 32 frames
        x = encoder.network(self.picture(encoder, inputs, 32))
        close(encoder(inputs).values[0], x[0, 1:].view(8, 2, 16).mean(1))
        whole = sound(tokens="cls")
        whole.network = encoder.network
        close(whole(inputs).values[0], x[0, :1])

    @torch.no_grad()
    def test_a_short_clip_attends_to_silence_only_where_it_is_filled(self) -> None:
        encoder = sound(fill=True)
        inputs = clip(encoder.spec, 9 * 40 + 100)  # 10 frames, three rows
        x = encoder.network(self.picture(encoder, inputs, 32))
        close(encoder(inputs).values[0], x[0, 1:].view(8, 2, 16).mean(1)[:3])
        bare = sound()
        bare.network = encoder.network
        x = encoder.network(self.picture(encoder, inputs, 12))
        close(bare(inputs).values[0], x[0, 1:].view(3, 2, 16).mean(1))

    @torch.no_grad()
    def test_a_long_clip_passes_in_windows(self) -> None:
        encoder = sound()
        inputs = clip(encoder.spec, 69 * 40 + 100)  # 70 frames, 18 rows, three windows
        tokens = encoder(inputs)
        assert tokens.values.shape == (1, 18, 16)
        picture = self.picture(encoder, inputs, 72)
        for row, piece in ((0, picture[:, :, :32]), (8, picture[:, :, 32:64]), (16, picture[:, :, 64:])):
            x = encoder.network(piece)[0, 1:].view(-1, 2, 16).mean(1)
            close(tokens.values[0, row : row + 8], x)
        whole = sound(tokens="cls")
        whole.network = encoder.network
        spans = whole(inputs).spans[0] - 5.0
        close(spans, torch.tensor([[0.0, 0.32], [0.32, 0.64], [0.64, inputs.mask.shape[1] / 4000]]))

    def test_behind_a_clip_comes_what_the_published_loader_pads_with(self) -> None:
        encoder = sound()
        picture = encoder.front(clip(encoder.spec, 9 * 40 + 100), 32)
        close(picture[0, 10:], torch.full((22, 8), 0.467033))
        assert (picture[0, :10] != picture[0, 10]).all()

    def test_sizes_that_do_not_fit_are_one_line(self) -> None:
        for wrong in ({"window": 0.01}, {"bands": 9}, {"tokens": "grid"}, {"patch": 0}):
            with pytest.raises(UserError, match="AudioMAE with"):
                sound(**wrong)
        with pytest.raises(UserError, match="a spectrogram of sound at 100 Hz"):
            sound(rate=100.0)
