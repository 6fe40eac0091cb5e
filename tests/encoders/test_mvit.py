"""MViTv2: the published network number by number and key by key, and what the encoder makes of clips of any length."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import golden
from encoders.test_contract import clip, close, padded, probe_sum, shaken
from mer.encoders import MViTv2
from mer.encoders.mvit import MViT, _attend, _Attention, _Block, _fused, _in_parts, _relative
from mer.encoders.weights import renamed
from mer.errors import UserError
from mer.tokens import Sampled

SMALL: dict[str, Any] = {"width": 8, "depths": (1, 2), "heads": 2, "kv_stride": 4}
encoder: Callable[..., MViTv2] = functools.partial(MViTv2, rate=8.0, size=32, frames=8, drop_path=0.0, **SMALL)


def network(seed: int = 0, **options: Any) -> MViT:
    """A tiny one in which every parameter differs from its neutral value."""
    torch.manual_seed(seed)
    net = MViT(**SMALL | {"size": (8, 32, 32)} | options).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def pictures(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestPublished:
    @torch.no_grad()
    def test_the_numbers_of_the_reference(self) -> None:
        net = MViT(head=400).eval()
        golden.fill(net)
        net = net.double()
        tokens, grid = net(golden.source((1, 3, 8, 96, 96)))
        assert (grid, tuple(tokens.shape)) == ((4, 3, 3), (1, 37, 768))
        first = (0.835487, -1.582209, 1.142329, 0.052593, -0.772523, 0.147331)
        golden.check(tokens, first, 12.51704, 169.06193)
        golden.check(tokens[:, 0], first, -0.16004, 27.81726)
        mean = (0.263821, -1.408382, 1.609706, -0.442471, -0.248727, 0.786443)
        golden.check(tokens[:, 1:].mean(1), mean, 0.35214, 24.98643)
        logits = (0.70253, 0.09843, -0.050226, 0.144968, 0.243121, -0.016113)
        assert net.head is not None
        golden.check(net.head(tokens[:, 0]), logits, -4.82147, 12.19129)

    def test_its_size_its_keys_and_its_tables_of_positions(self) -> None:
        with torch.device("meta"):
            net = MViT(head=400)
        state = net.state_dict()
        assert (sum(p.numel() for p in net.parameters()), len(state)) == (34_537_744, 397)
        lengths = [[len(state[f"blocks.{n}.attn.rel_pos_{axis}"]) for axis in "thw"] for n in range(16)]
        assert lengths == [[15, 111, 111]] + [[15, 55, 55]] * 2 + [[15, 27, 27]] * 12 + [[15, 13, 13]]
        assert [n for n in range(16) if f"blocks.{n}.project.weight" in state] == [1, 3, 14]
        assert state["pos_encoding.class_token"].shape == (96,)

    def test_stochastic_depth_rises_to_its_rate(self) -> None:
        with torch.device("meta"):
            blocks = MViTv2().network.blocks
        assert [round(block.drop_path * 75) for block in blocks] == list(range(16))  # type: ignore[operator, arg-type]

    @pytest.mark.slow
    @torch.no_grad()
    def test_half_precision_stays_within_two_percent_at_full_size(self) -> None:
        torch.manual_seed(0)
        net, x = MViT().eval(), pictures(1, 3, 16, 224, 224)
        tokens, grid = net(x)
        assert (grid, tuple(tokens.shape)) == ((8, 7, 7), (1, 393, 768))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half, _ = net(x)
        assert (half - tokens).norm() <= 0.02 * tokens.norm()


class TestNetwork:
    @torch.no_grad()
    @pytest.mark.parametrize("size", [(1, 4, 4), (5, 37, 50), (8, 32, 32), (11, 64, 24)])
    def test_takes_any_size_and_clips_do_not_see_each_other(self, size: tuple[int, int, int]) -> None:
        net, x = network(), pictures(3, 3, *size)
        tokens, grid = net(x)
        assert tuple(tokens.shape) == (3, 1 + math.prod(grid), net.dim)
        t, h, w = size
        assert grid == (-(-t // 2), -(-h // 8), -(-w // 8))
        close(torch.cat([net(one[None])[0] for one in x]), tokens)

    @torch.no_grad()
    @pytest.mark.parametrize(("queries", "keys"), [(8, 8), (8, 4), (4, 8), (7, 2), (1, 1), (5, 3)])
    def test_relative_positions_are_those_of_the_paper(self, queries: int, keys: int) -> None:
        longest = max(queries, keys)
        table = pictures(2 * longest - 1, 3)
        rows = _relative(table, queries, keys)
        for i in range(queries):
            for j in range(keys):
                wide, narrow = max(keys / queries, 1), max(queries / keys, 1)
                assert torch.equal(rows[i, j], table[int(i * wide - j * narrow + (keys - 1) * narrow + 1e-9)])

    @torch.no_grad()
    def test_a_table_of_positions_is_stretched_linearly(self) -> None:
        """Three rows for five positions: each stands for a fifth of the table, as in pictures that are resized."""
        rows = _relative(torch.tensor([[0.0], [10.0], [20.0]]), 3, 3)
        close(rows[:, 0, 0], torch.tensor([10.0, 16.0, 20.0]))
        close(rows[0, :, 0], torch.tensor([10.0, 4.0, 0.0]))

    @torch.no_grad()
    def test_attention_adds_the_bias_to_the_scores_and_the_query_to_what_it_finds(self) -> None:
        """Against the formula, pair by pair: softmax(q k / sqrt(d) + q r_t + q r_h + q r_w) v + q; no r of a class token."""
        attention = network().blocks[1].attn
        assert isinstance(attention, _Attention)
        rows = pictures(1 + 4 * 6 * 8, 8)
        answer, grid = attention(rows, 1, (4, 6, 8))
        assert grid == (4, 3, 4)
        weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
        pools = (attention.pool_q, attention.pool_k, attention.pool_v)
        (q_cls, q), (k_cls, k), (v_cls, v) = (
            pool(F.linear(rows, w, b), 1, (4, 6, 8)) for pool, w, b in zip(pools, weights, biases, strict=True)
        )
        r = [
            _relative(table, queries, keys)
            for table, queries, keys in zip(
                (attention.rel_pos_t, attention.rel_pos_h, attention.rel_pos_w), grid, k.shape[1:4], strict=True
            )
        ]
        found = []
        for head in range(4):
            keys = torch.cat([k_cls[0, :, head], k[0, ..., head, :].flatten(0, 2)])
            values = torch.cat([v_cls[0, :, head], v[0, ..., head, :].flatten(0, 2)])
            outcome = [torch.softmax(q_cls[0, 0, head] @ keys.T / 2, -1) @ values]  # 2: the root of 4 channels
            for t, h, w in torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist():
                query = q[0, t, h, w, head]
                bias = (r[0][t] @ query)[:, None, None] + (r[1][h] @ query)[:, None] + r[2][w] @ query
                scores = keys @ query / 2 + torch.cat([torch.zeros(1), bias.flatten()])
                outcome.append(torch.softmax(scores, 0) @ values + query)
            found.append(torch.stack(outcome))
        close(answer, attention.project(torch.stack(found, 1).flatten(1)))

    @torch.no_grad()
    def test_tokens_lose_something_without_the_pooled_query(self) -> None:
        """`torchvision`'s feature extractor drops this sum without a word (it is made in place there)."""
        net, x = network(), pictures(1, 3, 8, 32, 32)
        whole, _ = net(x)
        for block in net.blocks:  # attention finds nothing, so that the query alone is left
            block.attn.pool_v.norm_act[0].weight.zero_()  # type: ignore[union-attr, index, operator]
            block.attn.pool_v.norm_act[0].bias.zero_()  # type: ignore[union-attr, index, operator]
        queries, _ = net(x)
        for block in net.blocks:
            block.attn.pool_q.norm_act[0].weight.zero_()  # type: ignore[union-attr, index, operator]
            block.attn.pool_q.norm_act[0].bias.zero_()  # type: ignore[union-attr, index, operator]
        nothing, _ = net(x)
        assert (whole - queries).abs().max() > 0.01
        assert (queries - nothing)[:, 1:].abs().max() > 0.1

    @torch.no_grad()
    def test_the_ways_to_attend_agree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        q, k, v = pictures(2, 3, 20, 11), pictures(2, 3, 7, 11, seed=6), pictures(2, 3, 7, 8, seed=7)
        expected = torch.softmax(q @ k.mT, -1) @ v
        close(_fused(q, k, v), expected)
        close(_in_parts(q, k, v), expected)
        monkeypatch.setattr("mer.encoders.mvit._SCORES", 2 * 3 * 7 * 6)  # 6 queries at once, and 2 are left
        close(_in_parts(q, k, v), expected)
        close(_attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2), expected)

    def test_blocks_that_are_computed_twice_have_the_same_gradients(self) -> None:
        x, gradients = pictures(2, 3, 4, 24, 24), []
        for checkpointing in (False, True):
            net = network(drop_path=0.5).train()
            net.checkpointing = checkpointing
            torch.manual_seed(1)
            net(x)[0].square().sum().backward()
            gradients.append([p.grad for p in net.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)

    @torch.no_grad()
    def test_stochastic_depth_leaves_branches_out_clip_by_clip_and_keeps_their_mean(self) -> None:
        block = network(drop_path=0.25).train().blocks[-1]
        assert isinstance(block, _Block)
        torch.manual_seed(0)
        rows = block._dropped(torch.ones(4000 * 3, 1), 4000).flatten()  # a class token and two patches each
        cls, patches = rows[:4000], rows[4000:].view(4000, 2)
        assert torch.equal(patches, cls[:, None].expand(-1, 2))
        assert set(cls.tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
        assert cls.mean() == pytest.approx(1, abs=0.03)
        assert torch.equal(block.eval()._dropped(rows, 4000), rows)

    @torch.no_grad()
    def test_half_precision_keeps_the_residual_stream_whole(self) -> None:
        net, x = network(), pictures(1, 3, 8, 32, 32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half, _ = net(x)
        assert half.dtype == torch.float32
        assert 0 < (half - net(x)[0]).norm() < 0.05 * half.norm()
        assert net.to(torch.bfloat16)(x)[0].dtype == torch.bfloat16

    def test_other_channels_and_impossible_sizes(self) -> None:
        assert network(in_channels=2)(pictures(1, 2, 4, 32, 32))[1] == (2, 4, 4)
        for wrong in ({"heads": 3}, {"kv_stride": 3}, {"heads": 0}):
            with pytest.raises(UserError, match="MViT: width 8"):
                network(**wrong)


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "torchvision": lambda state: state,
    "slowfast": lambda state: {"epoch": 3, "model_state": state, "optimizer_state": {}},
    "mmaction2": lambda state: {"meta": {}, "state_dict": state},
}


def saved(net: MViT, layout: str, path: Path, prefix: str = "", **changes: Tensor | None) -> Path:
    """A file as that project saves it; `changes` by key, None for a key that is missing."""
    table = next(t for t in MViTv2(size=32, frames=8, **SMALL).tables() if t.name == layout)
    state = renamed(net.state_dict(), table) | changes
    if layout != "torchvision":
        cls = table.theirs("pos_encoding.class_token")
        state[cls] = state[cls].reshape(1, 1, -1)  # type: ignore[union-attr]
    torch.save(LAYOUTS[layout]({prefix + k: v for k, v in state.items() if v is not None}), path)
    return path


class TestFiles:
    @torch.no_grad()
    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_file_of_each_layout_gives_the_same_tokens(self, tmp_path: Path, layout: str, prefix: str) -> None:
        published, ours = network(3, head=5), encoder("all").eval()
        report = ours.load_published(saved(published, layout, tmp_path / "a.pth", prefix))
        assert (report.table, report.loaded) == (layout, len(published.state_dict()) - 2)
        assert (len(report.unused), set(report.unused.values())) == (2, {"the classifier of its training set"})
        inputs = clip(ours.spec, 8)
        tokens, _ = published(ours.normalised(inputs.values).transpose(1, 2))
        assert torch.equal(ours(inputs).values, tokens)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_classifier_is_taken_where_it_is_built(self, tmp_path: Path, layout: str) -> None:
        published, ours = network(3, head=5), encoder()
        ours.network = network(head=5)
        report = ours.load_published(saved(published, layout, tmp_path / "a.pth"))
        assert not report.unused
        for one, other in zip(published.parameters(), ours.network.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_the_keys_are_those_that_the_projects_use(self) -> None:
        keys = MViT(head=5, **SMALL).state_dict()
        theirs = {table.name: {table.theirs(key) for key in keys} for table in MViTv2(**SMALL).tables()}
        assert {
            "cls_token", "patch_embed.proj.bias", "norm.weight", "head.projection.weight", "blocks.0.norm1.weight",
            "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.1.proj.weight", "blocks.2.mlp.fc1.bias",
            "blocks.2.mlp.fc2.bias", "blocks.1.attn.pool_q.weight", "blocks.1.attn.norm_q.weight",
            "blocks.1.attn.rel_pos_h",
        } <= theirs["slowfast"]  # fmt: skip
        assert {
            "backbone.cls_token", "backbone.patch_embed.projection.weight", "backbone.norm3.bias", "cls_head.fc_cls.bias",
            "backbone.blocks.0.attn.proj.bias", "backbone.blocks.1.proj.bias", "backbone.blocks.1.attn.norm_v.bias",
            "backbone.blocks.0.mlp.fc2.weight", "backbone.blocks.0.attn.rel_pos_t", "backbone.blocks.0.norm2.bias",
        } <= theirs["mmaction2"]  # fmt: skip

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_what_is_missing_extra_or_of_another_shape_is_named(self, tmp_path: Path, layout: str) -> None:
        ours = encoder()
        table = next(t for t in ours.tables() if t.name == layout)
        before = {k: v.clone() for k, v in ours.state_dict().items()}
        key = table.theirs("blocks.1.attn.pool_k.norm_act.0.bias")
        extra = table.theirs("blocks.7.norm1.bias")
        for changes, message in (
            ({key: None}, f"the key '{key}'.* is missing"),
            ({extra: torch.zeros(8)}, f"the key '{extra}' is extra"),
            ({key: torch.zeros(5)}, rf"the key '{key}' has the shape \(5,\) instead of \(4,\)"),
        ):
            with pytest.raises(UserError, match=message):
                ours.load_published(saved(network(3), layout, tmp_path / "a.pth", **changes))
        for channels in (table.theirs("blocks.0.attn.rel_pos_w"), table.theirs("pos_encoding.class_token")):
            with pytest.raises(UserError, match=f"the key '{channels}' has the shape"):
                ours.load_published(saved(network(3), layout, tmp_path / "a.pth", **{channels: torch.zeros(15, 5)}))
        assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())

    @torch.no_grad()
    def test_tables_of_positions_are_interpolated_for_another_size(self, tmp_path: Path) -> None:
        published = network(3)
        ours = encoder("all", size=48, frames=4).eval()
        ours.load_published(saved(published, "slowfast", tmp_path / "a.pyth"))
        inputs = clip(ours.spec, 4)
        tokens, grid = published(ours.normalised(inputs.values).transpose(1, 2))
        assert grid == (2, 6, 6)
        assert ours.network.blocks[0].attn.rel_pos_h.shape == (23, 4)  # type: ignore[union-attr]
        close(ours(inputs).values, tokens)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("pos_encoding.spatial_pos", "absolute positions, as MViT of version 1"),
            ("backbone.pos_embed", "absolute positions, as MViT of version 1"),
            ("pos_embed_spatial", "absolute positions, as MViT of version 1"),
            ("cls_positional_encoding.cls_token", "absolute positions, as MViT of version 1"),
            ("blocks.0.proj.weight", "MaskFeat variant"),
            ("backbone.blocks.13.proj.bias", "MaskFeat variant"),
            ("stages.0.blocks.0.attn.qkv.weight", "timm's network of pictures"),
        ],
    )
    def test_files_of_related_networks_are_known(self, tmp_path: Path, key: str, message: str) -> None:
        torch.save(network(3).state_dict() | {key: torch.zeros(2)}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=f"another network, as the key '{key}' shows.*{message}"):
            encoder().load_published(tmp_path / "a.pth")


class TestEncoder:
    @torch.no_grad()
    def test_what_its_tokens_are_made_of(self) -> None:
        inputs = clip(encoder().spec, 13)
        made = {}
        for kind in ("cls", "patch", "temporal", "all"):
            torch.manual_seed(0)
            made[kind] = shaken(encoder(kind))(inputs)
        cls, patch, temporal, everything = (made[kind] for kind in ("cls", "patch", "temporal", "all"))
        assert [t.mask.shape[1] for t in made.values()] == [2, (4 + 3) * 16, 4 + 3, 2 + (4 + 3) * 16]
        close(patch.values.unflatten(1, (7, 16)).mean(2), temporal.values)
        for name in ("values", "spans"):
            a, p, e = (getattr(tokens, name)[0] for tokens in (cls, patch, everything))
            assert torch.equal(e, torch.cat([a[:1], p[:64], a[1:], p[64:]]))
        start, end = inputs.spans[0].unbind(1)
        close(cls.spans[0], torch.stack([start[[0, 8]], end[[7, 12]]], 1))
        close(temporal.spans[0], torch.stack([start[::2], end[[1, 3, 5, 7, 9, 11, 12]]], 1))
        assert torch.equal(patch.spans.unflatten(1, (7, 16)), temporal.spans[:, :, None].expand(-1, -1, 16, -1))

    @torch.no_grad()
    def test_all_tokens_of_a_padded_batch_are_those_of_each_clip_alone(self) -> None:
        ours = shaken(encoder("all"))
        clips = [clip(ours.spec, n, n) for n in (3, 17, 8)]
        batch = ours(padded(clips, 4))
        assert not batch.mask[3].any() and not batch.values[~batch.mask].any()
        for row, one in enumerate(clips):
            alone = ours(one)
            count = alone.mask.shape[1]
            assert batch.mask[row].tolist() == [True] * count + [False] * (batch.mask.shape[1] - count)
            close(batch.values[row, :count], alone.values[0])
            close(batch.spans[row, :count], alone.spans[0])

    @torch.no_grad()
    def test_windows_are_seen_one_by_one_and_a_short_one_as_it_is(self) -> None:
        ours = shaken(encoder())
        whole = clip(ours.spec, 8 * 9 + 5)  # more windows than go through the network at once
        tokens = ours(whole).values
        for window in range(10):
            part = slice(8 * window, 8 * window + 8)
            alone = ours(Sampled(whole.values[:, part], whole.mask[:, part], whole.spans[:, part])).values
            close(tokens[:, 4 * window : 4 * window + 4], alone)

    @torch.no_grad()
    @pytest.mark.parametrize(("frame", "tokens"), [(0, [0]), (4, [2]), (5, [2, 3]), (7, [3]), (8, [4]), (11, [5, 6])])
    def test_without_blocks_a_frame_shows_in_its_token_and_an_odd_one_in_the_next(
        self, frame: int, tokens: list[int]
    ) -> None:
        """The patch convolution sees three frames at each second one; nothing crosses from one window to the next."""
        ours = shaken(encoder(depths=()))
        inputs = clip(ours.spec, 14)
        flash = inputs.values.clone()
        flash[0, frame] = 255
        changed = (ours(Sampled(flash, inputs.mask, inputs.spans)).values - ours(inputs).values).abs().amax(2)[0]
        assert changed.nonzero()[:, 0].tolist() == tokens
        covering = int(torch.nonzero(ours(inputs).spans[0, :, 1] > inputs.spans[0, frame].mean())[0])
        assert tokens[0] == covering

    def test_frozen_blocks_do_not_train_and_the_others_do(self) -> None:
        ours = encoder(drop_path=0.5, frozen_blocks=2, augment=0.0).train()
        names = {n for n, p in ours.network.named_parameters() if not p.requires_grad}
        beginnings = ("conv_proj.", "pos_encoding.", "blocks.0.", "blocks.1.")
        assert names == {n for n, _ in ours.network.named_parameters() if n.startswith(beginnings)}
        seen: list[Tensor] = []
        ours.network.blocks[1].register_forward_hook(lambda block, args, out: seen.append(out[0]))
        inputs = clip(ours.spec, 8)
        for _ in range(4):
            probe_sum(ours(inputs)).backward()
        assert all(torch.equal(rows, seen[0]) and not rows.requires_grad for rows in seen)
        assert {n for n, p in ours.network.named_parameters() if p.grad is None} == names

    def test_nothing_is_frozen_unless_it_is_said(self) -> None:
        assert all(p.requires_grad for p in encoder().parameters())

    def test_augmentation_is_one_draw_per_clip_and_in_training_only(self) -> None:
        ours = encoder().train()
        still = clip(ours.spec, 1)
        frames = Sampled(*(x.expand(x.shape[0], 24, *x.shape[2:]) for x in (still.values, still.mask, still.spans)))
        torch.manual_seed(0)
        tokens = ours(frames).values[0]
        close(tokens[:4], tokens[4:8])
        assert not torch.allclose(tokens, ours(frames).values[0], atol=1e-3)
        assert torch.equal(ours.eval()(frames).values, ours(frames).values)

    def test_it_is_fed_as_the_published_network_was(self) -> None:
        with torch.device("meta"):
            ours, dense = MViTv2(), MViTv2("cls", segments=1, duration=16, stride=4, size=160)
        spec = ours.spec
        assert (spec.kind, spec.rate, spec.size, spec.mean, spec.std) == (
            "video",
            7.5,
            (224, 224),
            (0.45,) * 3,
            (0.225,) * 3,
        )
        assert spec.window == pytest.approx(16 / 7.5)
        assert (ours.dim, ours.output_rate) == (768, 3.75)
        spec = dense.spec
        assert (spec.rate, spec.segments, spec.duration, spec.stride, spec.size) == (None, 1, 16, 4, (160, 160))
        assert (spec.window, dense.output_rate) == (None, None)
        assert encoder("cls").output_rate == 1.0
        face = encoder(crop="face", face={"detector": "mediapipe"}).spec.face
        assert face is not None and face.detector == "mediapipe"

    def test_arguments_that_cannot_be_are_one_line(self) -> None:
        for wrong, message in (
            ({"tokens": "mean"}, "no tokens 'mean'"),
            ({"frames": 7}, "windows of 7 frames"),
            ({"frames": 0}, "windows of 0 frames"),
            ({"frozen_blocks": 4}, "4 of 3 blocks"),
        ):
            with pytest.raises(UserError, match=message):
                encoder(**wrong)
