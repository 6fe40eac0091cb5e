"""MMA-DFER: the published network, its sizes and its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import golden
from encoders.test_contract import clip, close, shaken
from encoders.test_joint_contract import batch, tiny, whole
from mer.checkpoint import load_encoders
from mer.encoders import MMADFER
from mer.encoders.mma_dfer import TemporalHead, trains
from mer.encoders.vit import VisionTransformer, resized
from mer.errors import UserError
from mer.fusion import Concat
from mer.labels import LabelSpace, Task
from mer.model import EmotionModel


@pytest.fixture
def encoder() -> MMADFER:
    torch.manual_seed(0)
    moved = shaken(tiny())
    assert isinstance(moved, MMADFER)
    return moved


def by_hand(s: Mapping[str, Tensor], pictures: Tensor, spectrogram: Tensor, depth: int = 4, heads: int = 2) -> Tensor:
    """Logits of one clip, written down a second time from the paper's description, without any module of ours.

    Args:
        s: state of the network.
        pictures: (N, 3, H, W) in [0, 1].
        spectrogram: (1, 1, frames, bands).
    """

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], eps)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (torch.stack(x.chunk(heads, dim=-1), dim=-3) for x in (q, k, v))
        weight = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return torch.cat((weight @ v).unbind(-3), dim=-1)

    def start(name: str, images: Tensor) -> Tensor:
        patches = F.conv2d(images, s[f"{name}.patch_embed.proj.weight"], s[f"{name}.patch_embed.proj.bias"], stride=8)
        rows = [
            torch.cat([s[f"{name}.cls_token"][0], p.flatten(1).T, s[f"{name}.learnable_prompts_init"]]) for p in patches
        ]
        return torch.stack(rows) + s[f"{name}.pos_embed"]

    def block(name: str, x: Tensor) -> Tensor:
        q, k, v = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + linear(f"{name}.attn.proj", attend(q, k, v))
        return x + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x, 1e-6))))

    image, audio = start("image_encoder", pictures), start("audio_model", spectrogram)
    for i in range(depth):
        image, audio = block(f"image_encoder.blocks.{i}", image), block(f"audio_model.blocks.{i}", audio)
        v = norm(f"image_encoder.temporal_pre_norm.{i}", linear(f"image_encoder.temporal_pre.{i}", image), 1e-5)
        a = linear(f"image_encoder.audio_proj_pre.{i}.0", audio)
        a = norm(f"image_encoder.audio_proj_pre.{i}.1", a, 1e-5)
        v, a = v + a.mean((0, 1)), a + v.mean((0, 1))
        for name in ("image_encoder", "audio_model"):
            x, mixed = (image, v) if name == "image_encoder" else (audio, a)
            x = x + torch.tanh(s[f"{name}.all_gate.{i}"]) * F.gelu(linear(f"{name}.temporal_att_post.{i}.0", mixed))
            if i % 2 == 0:  # two steps of three prompts over four blocks
                first = x.shape[1] - 6 + 3 * (i // 2)
                x[:, first : first + 3] += s[f"{name}.learnable_prompts_progr.{i // 2}"]
            image, audio = (x, audio) if name == "image_encoder" else (image, x)
    image, audio = norm("image_encoder.norm", image, 1e-6)[:, 0], norm("audio_model.norm", audio, 1e-6)[:, 0]
    x = torch.cat([s["temporal_net.cls_token"][0], linear("vision_proj", image + audio)])
    x = x + s["temporal_net.pos_embedding"][0, : len(x)]
    one, two = (f"temporal_net.temporal_transformer.layers.0.{i}.fn" for i in (0, 1))
    y = norm(f"{one}.norm", x, 1e-5)
    x = x + linear(
        f"{one}.fn.to_out.0", attend(linear(f"{one}.fn.to_q", y), *linear(f"{one}.fn.to_kv", y).chunk(2, -1))
    )
    y = F.gelu(linear(f"{two}.fn.net.0", norm(f"{two}.norm", x, 1e-5)), approximate="tanh")
    return linear("our_classifier", (x + linear(f"{two}.fn.net.3", y))[:1])


def still(encoder: MMADFER) -> MMADFER:
    """With closed gates, as training begins."""
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if "all_gate" in name:
                p.zero_()
    return encoder


class TestNetwork:
    def test_the_published_size_has_the_published_parameters(self) -> None:
        with torch.device("meta"):
            encoder = MMADFER()
        network = encoder.network
        named = dict(network.named_parameters())
        assert len(network.state_dict()) == 500
        assert sum(p.numel() for p in named.values()) == 179_312_147
        assert sum(p.numel() for name, p in named.items() if trains(name)) == 7_632_415
        shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        assert shapes["image_encoder.pos_embed"] == (1, 203, 768)
        assert shapes["audio_model.pos_embed"] == (1, 263, 768)
        assert shapes["image_encoder.head.weight"] == (12, 768)
        assert shapes["audio_model.head.weight"] == (1000, 768)
        assert shapes["audio_model.patch_embed.proj.weight"] == (768, 1, 16, 16)
        assert shapes["temporal_net.temporal_transformer.layers.0.0.fn.fn.to_kv.weight"] == (1024, 512)
        assert (encoder.specs["video"].segments, encoder.specs["video"].mean, encoder.dim) == (16, None, 512)

    def test_what_never_gets_a_gradient_does_not_train(self) -> None:
        """Under DistributedDataParallel a parameter that trains and is not used stops the training."""
        for tokens, unused in (
            ("frames", ("our_classifier.", "temporal_net.")),
            ("clip", ("our_classifier.", ".fn.norm2.")),
        ):
            named = dict(tiny(tokens).network.named_parameters())
            kept = {name for name, p in named.items() if p.requires_grad}
            assert kept == {name for name in named if trains(name) and not any(part in name for part in unused)}

    @torch.no_grad()
    def test_it_is_what_the_paper_describes(self, encoder: MMADFER) -> None:
        golden.fill(encoder)
        for name, p in encoder.named_parameters():
            if "all_gate" in name:
                p.mul_(10)
            elif "temporal_pre." in name or (".0.weight" in name and "audio_proj" in name):
                p.mul_(0.01)  # so small that the adapters' layer norms show their epsilon
        few = {"video": clip(encoder.specs["video"], 2, seed=8)}  # of four frames
        clips = [whole(encoder, 0.4), whole(encoder, 0.2, seed=9), whole(encoder, 0.3) | few]
        inputs = batch(encoder, clips, more=3)
        logits = encoder.logits(inputs)
        for row, c in enumerate(clips):
            assert c["video"] is not None
            assert c["audio"] is not None
            picture = encoder.front(c["audio"], encoder.heard)[:, None]
            close(logits[row : row + 1], by_hand(encoder.network.state_dict(), c["video"].values[0] / 255, picture))

    @torch.no_grad()
    def test_sound_is_continued_to_its_fixed_length_and_cut_there(self, encoder: MMADFER) -> None:
        """As published: 0 before the normalisation."""
        size = encoder.front.size
        long, short = whole(encoder, 3.0)["audio"], whole(encoder, 0.1)["audio"]
        assert long is not None
        assert short is not None
        picture = encoder.front(short, 32)
        assert picture.shape == (1, 32, 16)
        frames = (short.mask.shape[1] - size) // encoder.front.shift + 1
        close(picture[0, frames:], torch.full((32 - frames, 16), 0.467033))
        close(encoder.front(long, 32), encoder.front(long, 64)[:, :32])

    @torch.no_grad()
    def test_closed_gates_leave_the_adapters_unheard(self, encoder: MMADFER) -> None:
        inputs = batch(still(encoder), [whole(encoder, 0.4)])
        before = encoder(inputs).values
        for name, p in encoder.named_parameters():
            if any(part in name for part in ("temporal_pre", "temporal_att", "audio_proj")):
                p.normal_()
        assert torch.equal(encoder(inputs).values, before)

    @torch.no_grad()
    def test_prompts_are_added_to_where_a_step_begins_and_to_its_own_places(self, encoder: MMADFER) -> None:
        for stream in (still(encoder).network.image_encoder, encoder.network.audio_model):
            x, mixed = torch.randn(2, 11, 16), torch.randn(2, 11, 8)
            changed = [(stream.receive(i, x, mixed) - x).abs().amax((0, 2)) > 0 for i in range(4)]
            places = [torch.nonzero(c)[:, 0].tolist() for c in changed]
            assert places == [[5, 6, 7], [], [8, 9, 10], []]

    @torch.no_grad()
    def test_with_closed_gates_the_order_of_frames_is_a_matter_of_the_last_layer(self, encoder: MMADFER) -> None:
        inputs, order = batch(still(encoder), [whole(encoder, 0.4)]), [2, 0, 3, 1]
        turned = dict(inputs) | {"video": batch(encoder, [whole(encoder, 0.4)])["video"]}
        turned["video"].values = inputs["video"].values[:, order]
        close(encoder(turned).values, encoder(inputs).values[:, order])
        assert float((encoder.logits(turned) - encoder.logits(inputs)).abs().max()) > 1e-4
        encoder.network.temporal_net.pos_embedding.zero_()
        close(encoder.logits(turned), encoder.logits(inputs))

    @torch.no_grad()
    def test_frames_hear_of_each_other_and_of_the_sound_through_open_gates(self, encoder: MMADFER) -> None:
        inputs, other = (batch(encoder, [whole(encoder, 0.4)]) for _ in range(2))
        other["video"].values[0, 3] = 255 - other["video"].values[0, 3]
        assert float((encoder(other).values - encoder(inputs).values)[0, 0].abs().max()) > 1e-4
        still(encoder)
        close(encoder(other).values[0, :3], encoder(inputs).values[0, :3])

    @torch.no_grad()
    def test_a_missing_stream_is_a_mean_and_a_class_token_of_zero(self, encoder: MMADFER) -> None:
        network, both = encoder.network, whole(encoder, 0.4)
        silent, blind = both | {"audio": None}, both | {"video": None}
        x = network.image_encoder.embed(batch(encoder, [both])["video"].values[0] / 255)
        for i in range(4):
            x = network.image_encoder.block(i, x)
            v = network.image_encoder.temporal_pre_norm[i](network.image_encoder.temporal_pre[i](x))
            x = network.image_encoder.receive(i, x, v)
        close(encoder(batch(encoder, [silent])).values[0], network.vision_proj(network.image_encoder.norm(x)[:, 0]))
        heard = encoder(batch(encoder, [blind]))
        assert heard.values.shape == (1, 4, 12)
        assert torch.equal(heard.values[0, 0], heard.values[0, 3])
        end = (31 * 40 + 100) / 4000  # of the spectrogram, within 0.4 s of sound
        close(heard.spans[0], 5.0 + torch.stack([torch.arange(4), torch.arange(1, 5)], dim=1) * end / 4)

    def test_frozen_blocks_keep_their_stochastic_depth(self) -> None:
        """As published; positions below them train."""
        torch.manual_seed(0)
        encoder = tiny(drop_path=0.9, augment=0.0).train()
        inputs = batch(encoder, [whole(encoder, 0.4)])
        assert not torch.equal(encoder(inputs).values, encoder(inputs).values)
        assert not encoder.network.image_encoder.blocks[0].attn.qkv.weight.requires_grad
        assert encoder.network.image_encoder.pos_embed.requires_grad

    def test_faces_are_varied_in_training_only_and_sound_is_not(self) -> None:
        torch.manual_seed(0)
        encoder = tiny(drop_path=0.0)
        video, audio = (batch(encoder, [whole(encoder, 0.4) | {m: None}]) for m in ("audio", "video"))
        assert not torch.equal(encoder.train()(video).values, encoder(video).values)
        assert torch.equal(encoder(audio).values, encoder(audio).values)
        assert torch.equal(encoder.eval()(video).values, encoder(video).values)
        assert float(encoder._pictures(video["video"]).max()) <= 1

    def test_checkpointing_changes_nothing_but_memory(self) -> None:
        torch.manual_seed(0)
        plain, again = tiny(drop_path=0.0, augment=0.0), tiny(drop_path=0.0, augment=0.0, checkpointing=True)
        again.load_state_dict(plain.state_dict())
        for encoder in (plain, again):
            encoder.train()(batch(encoder, [whole(encoder, 0.4)])).values.square().sum().backward()
        for a, b in zip(plain.parameters(), again.parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None and b.grad is not None:
                close(a.grad, b.grad)

    @torch.no_grad()
    def test_the_layer_over_time_does_not_see_frames_that_are_not_there(self) -> None:
        head = TemporalHead(12, 6, 2)
        x, mask = torch.randn(2, 6, 12), torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
        close(head(x, mask)[1:], head(x[1:, :2], mask[1:, :2]))

    def test_what_does_not_fit_is_one_line(self, encoder: MMADFER) -> None:
        wrong = (
            {"video": "av", "audio": "av"},
            {"heard": 30},
            {"depth": 3},
            {"steps": 3},
            {"tokens": "all"},
            {"time_heads": 5},
            {"time_heads": 0},
            {"patch": 0},
            {"classes": 0},
            {"rate": 50.0},
        )
        for sizes in wrong:
            with pytest.raises(UserError):
                tiny(**sizes)
        many = batch(encoder, [whole(tiny(frames=5), 0.4)])
        with pytest.raises(UserError, match="takes 4 frames of a clip and got 5"):
            encoder(many)


class RecorderMeter:
    """The class whose object the published file holds: curves of the training."""


class TestFile:
    def content(self, encoder: MMADFER, **changes: Tensor | None) -> dict[str, object]:
        state = {**encoder.network.state_dict(), **changes}
        kept = {f"module.{k}": v for k, v in state.items() if v is not None}
        optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
        return {"epoch": 25, "state_dict": kept, "best_acc": torch.tensor(77.5), "optimizer": optimizer}

    @torch.no_grad()
    def test_the_published_layout_loads_strictly_and_gives_the_same_logits(
        self, encoder: MMADFER, tmp_path: Path
    ) -> None:
        torch.save(self.content(encoder), tmp_path / "model.pth")
        ours = tiny().eval()
        report = ours.load_published(tmp_path / "model.pth")
        assert (report.loaded, report.unused, report.absent) == (len(encoder.network.state_dict()), {}, {})
        inputs = batch(encoder, [whole(encoder, 0.4)])
        assert torch.equal(ours.logits(inputs), encoder.logits(inputs))

    def test_a_gate_may_be_saved_without_a_dimension(self, encoder: MMADFER, tmp_path: Path) -> None:
        gates = {k: v.reshape(()) for k, v in encoder.network.state_dict().items() if "all_gate" in k}
        torch.save(self.content(encoder, **gates), tmp_path / "model.pth")
        ours = tiny()
        ours.load_published(tmp_path / "model.pth")
        assert torch.equal(ours.network.audio_model.all_gate[3], encoder.network.audio_model.all_gate[3])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image_encoder.temporal_pre.2.bias": None}, "the key 'image_encoder.temporal_pre.2.bias' is missing"),
            ({"image_encoder.more": torch.zeros(1)}, "the key 'image_encoder.more' is extra"),
            (
                {"our_classifier.bias": torch.zeros(11)},
                r"'our_classifier.bias' has the shape \(11,\) instead of \(7,\)\. .*classes: 11 for MAFW",
            ),
            ({"audio_model.all_gate.0": torch.zeros(2)}, "the key 'audio_model.all_gate.0' has the shape"),
        ],
    )
    def test_a_key_that_does_not_fit_is_named(
        self, encoder: MMADFER, tmp_path: Path, changes: dict[str, Tensor | None], message: str
    ) -> None:
        torch.save(self.content(encoder, **changes), tmp_path / "model.pth")
        with pytest.raises(UserError, match=message):
            tiny().load_published(tmp_path / "model.pth")

    def test_as_published_it_holds_more_than_tensors_and_is_refused(self, encoder: MMADFER, tmp_path: Path) -> None:
        torch.save({**self.content(encoder), "recorder": RecorderMeter()}, tmp_path / "model.pth")
        with pytest.raises(UserError, match=r"holds Python objects besides tensors.* mer weights convert .*model\.pth"):
            tiny().load_published(tmp_path / "model.pth")

    @pytest.mark.parametrize(("part", "published", "columns"), [("image", (32, 32), None), ("audio", (64, 16), 2)])
    def test_each_transformer_takes_its_own_file(
        self, tmp_path: Path, part: str, published: tuple[int, int], columns: int | None
    ) -> None:
        """Made for another picture and twice the sound, so that positions are resized; prompts keep theirs."""
        torch.manual_seed(1)
        alone = VisionTransformer(published, 8, 3 if part == "image" else 1, 16, 4, 2)
        decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_pred.bias": torch.zeros(4), "head.bias": torch.zeros(3)}
        torch.save({"model": alone.state_dict() | decoder}, tmp_path / "pretrained.pth")
        encoder = tiny()
        before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
        report = encoder.load_published(tmp_path / "pretrained.pth", part)
        name = {"image": "image_encoder", "audio": "audio_model"}[part]
        assert (report.table, report.loaded, len(report.unused)) == (name, len(alone.state_dict()), 3)
        after = encoder.network.state_dict()
        positions = resized(alone.pos_embed, alone.grid, (2, 2) if part == "image" else (4, 2))
        assert torch.equal(
            after[f"{name}.pos_embed"], torch.cat([positions, before[f"{name}.pos_embed"][:, -6:]], dim=1)
        )
        for key, value in alone.state_dict().items():
            if key != "pos_embed":
                assert torch.equal(after[f"{name}.{key}"], value)
        own = {f"{name}.{key}" for key in alone.state_dict()}
        assert all(torch.equal(after[key], before[key]) for key in after if key not in own)

    def test_a_file_in_the_wrong_place_is_told_where_it_belongs(self, encoder: MMADFER, tmp_path: Path) -> None:
        torch.save({"model": VisionTransformer((16, 16), 8, 3, 16, 4, 2).state_dict()}, tmp_path / "face.pth")
        torch.save(self.content(encoder), tmp_path / "joint.pth")
        with pytest.raises(UserError, match="name the part"):
            encoder.load_published(tmp_path / "face.pth")
        with pytest.raises(UserError, match="without naming a part"):
            encoder.load_published(tmp_path / "joint.pth", "image")
        with pytest.raises(UserError, match=r"no part 'text'\. The parts are image and audio"):
            encoder.load_published(tmp_path / "joint.pth", "text")
        with pytest.raises(UserError, match=r"'patch_embed.proj.weight' has the shape \(16, 3, 8, 8\)"):
            encoder.load_published(tmp_path / "face.pth", "audio")


class TestWithinAModel:
    def test_it_reads_two_columns_and_takes_the_files_of_its_parts(self, encoder: MMADFER, tmp_path: Path) -> None:
        torch.save({"model": VisionTransformer((16, 16), 8, 3, 16, 4, 2).state_dict()}, tmp_path / "face.pth")
        task = Task("emotion", LabelSpace("three.v1", ("a", "b", "c")))
        both = tiny("clip", video="face", audio="voice")
        model = EmotionModel({"av": both}, lambda dims: Concat(dims, 8), {"emotion": task})
        load_encoders({"av": both}, {"av.image": str(tmp_path / "face.pth")})
        inputs = batch(both, [whole(both, 0.4), whole(both, 0.2)])
        logits = model(inputs).logits["emotion"]
        assert logits.shape == (2, 3)
        logits.sum().backward()
        assert both.network.vision_proj.weight.grad is not None
        assert both.network.image_encoder.blocks[0].mlp.fc1.weight.grad is None
        with pytest.raises(UserError, match="no part 'text'"):
            load_encoders({"av": both}, {"av.text": str(tmp_path / "face.pth")})


@pytest.mark.slow
@torch.no_grad()
def test_the_published_size_takes_the_published_files(tmp_path: Path) -> None:
    """MAE-Face's and AudioMAE's sizes into the parts, then a whole file; one clip goes through."""
    torch.manual_seed(0)
    encoder = MMADFER("clip").eval()
    for part, size, channels in (("image", (224, 224), 3), ("audio", (1024, 128), 1)):
        alone = VisionTransformer(size, channels=channels)
        torch.save({"model": alone.state_dict() | {"mask_token": torch.zeros(1, 1, 512)}}, tmp_path / "part.pth")
        assert encoder.load_published(tmp_path / "part.pth", part).loaded == 150
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in encoder.network.state_dict().items()}}, tmp_path / "whole.pth"
    )
    copy = MMADFER("clip").eval()
    assert copy.load_published(tmp_path / "whole.pth").loaded == 500
    inputs = batch(encoder, [whole(encoder, 5.5)])
    tokens = encoder(inputs)
    assert tokens.values.shape == (1, 1, 512)
    assert torch.equal(copy(inputs).values, tokens.values)
