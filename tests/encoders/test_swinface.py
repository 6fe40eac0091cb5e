"""SwinFace computes what is published, reads its four-part file, and builds only the branches that are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders.golden import check, fill, source
from encoders.test_contract import clip, padded, shaken
from mer.encoders import SwinFace, swinface
from mer.encoders.swinface import BRANCHES, EXPRESSIONS, OUTPUTS, TABLES, SwinFaceNetwork, classes
from mer.encoders.weights import renamed
from mer.errors import UserError

TINY: dict[str, Any] = {"size": 16, "embed": 8, "depths": (2, 1), "heads": (1, 2), "area": 4, "width": 16}
PARTS = ("backbone", "fam", "tss", "om")


def tiny(**more: Any) -> SwinFace:
    torch.manual_seed(0)
    encoder = shaken(SwinFace(**TINY, **more))
    assert isinstance(encoder, SwinFace)
    return encoder


@pytest.fixture(scope="module")
def network() -> SwinFaceNetwork:
    network = SwinFaceNetwork().eval()
    for part in PARTS:  # each was measured on its own

        def name(key: str, part: str = part) -> str:
            return TABLES[0].theirs(f"{part}.{key}").removeprefix(f"state_dict_{part}.")

        fill(getattr(network, part), name)
    return network


@pytest.fixture(scope="module")
def maps(network: SwinFaceNetwork) -> list[Tensor]:
    with torch.inference_mode():
        return network.backbone(source((2, 3, 112, 112)).float())


class TestPublished:
    def test_maps(self, maps: list[Tensor]) -> None:
        local, last = torch.cat(maps[:-1], dim=2).transpose(1, 2), maps[-1].transpose(1, 2)
        assert (local.shape, last.shape) == ((2, 1344, 49), (2, 768, 49))  # 7 x 7 places
        first = (0.069719, 0.197629, 0.00259, -0.090364, -0.024417, 0.170536)
        check(local, first, 476.90515, 380.73177, rtol=1e-5, atol=1e-4)
        first = (0.432795, 0.439361, 0.453075, 0.451803, 0.421259, 0.425136)
        check(last, first, -448.67106, 435.55047, rtol=1e-5, atol=1e-4)

    @torch.inference_mode()
    def test_identity(self, network: SwinFaceNetwork, maps: list[Tensor]) -> None:
        first = (-1.902762, 0.866694, 0.304751, -1.760359, 1.723698, -0.566341)
        check(network.backbone.identity(maps[-1]), first, -8.20580, 44.33189, rtol=1e-5, atol=1e-4)

    @torch.inference_mode()
    def test_branches(self, network: SwinFaceNetwork, maps: list[Tensor]) -> None:
        selected = torch.stack([network.fam[name](maps) for name in BRANCHES])
        first = (0.018938, 0.017066, -0.008777, 0.172198, -0.009238, 0.273724)
        check(selected, first, 1193.29853, 17.68976, rtol=1e-5, atol=1e-4)
        refined = torch.stack([network.features(name, maps) for name in BRANCHES])
        check(refined, (0.006722, 0.131549, 0.432497, 0.656443, 0.164871, 0), 1747.76583, 30.12949, 1e-5, 1e-4)

    @torch.inference_mode()
    def test_outputs(self, network: SwinFaceNetwork) -> None:
        outputs = network(source((2, 3, 112, 112)).float())
        expression = (0.311441, 0.061299, -0.029782, -0.364409, -0.280225, -0.481999)
        for name, first, total, norm in (
            ("expression", expression, -1.97285, 1.08243),
            ("age", (0.099082, 0.097676), 0.19676, 0.13913),
            ("gender", (-0.074406, -0.355679, -0.073525, -0.356224), -0.85983, 0.51415),
            ("smiling", (0.024724, -0.259677, 0.024479, -0.260574), -0.47105, 0.36952),
            ("wearing_necktie", (0.339042, 0.504577, 0.339394, 0.504158), 1.68717, 0.85960),
        ):
            check(outputs[name], first, total, norm, rtol=1e-5, atol=1e-4)

    def test_numbers_of_parameters_and_keys(self) -> None:
        with torch.device("meta"):
            network = SwinFaceNetwork()
        sizes = [sum(p.numel() for p in getattr(network, part).parameters()) for part in PARTS]
        assert sizes == [28_895_226, 33_090_464, 5_778_432, 45_144]
        assert [len(getattr(network, part).state_dict()) for part in PARTS] == [202, 143, 44, 84]

    def test_of_the_branches_only_what_is_wanted_is_built(self) -> None:
        with torch.device("meta"):
            encoder = SwinFace()
        heads = sum(p.numel() for p in encoder.network.parameters()) - 28_895_226
        assert heads == 3_008_224 + 525_312 + 9 * 513  # of 38.9 million
        assert encoder.dim == 512

    def test_keys_are_those_of_the_file(self) -> None:
        with torch.device("meta"):
            keys = renamed(SwinFaceNetwork().state_dict(), TABLES[0])
        shapes = {
            "state_dict_backbone.patch_embed.proj.weight": (96, 3, 2, 2),
            "state_dict_backbone.layers.0.blocks.1.attn_mask": (64, 49, 49),
            "state_dict_backbone.layers.2.blocks.5.attn_mask": (4, 49, 49),
            "state_dict_backbone.layers.3.blocks.1.attn.relative_position_bias_table": (169, 24),
            "state_dict_backbone.layers.1.downsample.reduction.weight": (384, 768),
            "state_dict_backbone.feature.2.weight": (512, 768),
            "state_dict_fam.nets.2.conv.convs.1.weight": (93, 384, 3, 3),
            "state_dict_fam.nets.10.channel_attention.mlp.3.weight": (512, 32),
            "state_dict_fam.nets.0.norm.running_var": (512,),
            "state_dict_tss.nets.2.feature.3.weight": (512, 512),
            "state_dict_om.output_fcs.3.weight": (7, 512),
            "state_dict_om.output_fcs.41.bias": (2,),
        }
        assert {key: tuple(keys[key].shape) for key in shapes} == shapes
        assert "state_dict_backbone.layers.3.blocks.1.attn_mask" not in keys


class TestFile:
    """As the authors save it: four parts, the training's state, and numbers."""

    def save(self, path: Path, network: SwinFaceNetwork, prefix: str = "", **changes: Tensor | None) -> None:
        state = renamed(network.state_dict(), TABLES[0]) | {k: v for k, v in changes.items() if v is not None}
        state = {k: v for k, v in state.items() if k not in changes or changes[k] is not None}
        content: dict[str, Any] = {"epoch": 3, "global_step": 79999, "local_step": 9}
        for part in PARTS:
            head = f"state_dict_{part}."
            content[head[:-1]] = {prefix + k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}
        content["state_dict_softmax_fc"] = {"weight": torch.zeros(9, 16)}
        content["state_optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
        content["state_lr_scheduler"] = {"last_epoch": 3}
        torch.save(content, path)

    def network(self) -> SwinFaceNetwork:
        return tiny(branches=tuple(BRANCHES)).network

    @pytest.mark.parametrize("prefix", ["", "module."])
    @torch.no_grad()
    def test_it_fills_the_branches_that_are_built(self, tmp_path: Path, prefix: str) -> None:
        published = self.network()
        self.save(tmp_path / "a.pt", published, prefix)
        torch.manual_seed(9)
        encoder = SwinFace(branches=("expression", "neck"), **TINY).eval()
        report = encoder.load_published(tmp_path / "a.pt")
        assert report.loaded == len(encoder.network.state_dict())
        assert set(report.unused.values()) == {
            "not built",
            "the identities that were trained on",
            "state of the training",
        }
        inputs = clip(encoder.spec, 3)
        expected = published(encoder.pixels(inputs)[0])
        given = encoder.outputs(inputs)
        assert list(given) == ["expression", "smiling", "wearing_necklace", "wearing_necktie"]
        assert all(torch.equal(given[name][0], expected[name]) for name in given)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"state_dict_backbone.norm.bias": None}, "'state_dict_backbone.norm.bias' (here 'backbone.norm.bias') is"),
            ({"state_dict_om.output_fcs.41.bias": None}, "(here 'om.wearing_necktie.bias') is missing"),
            (
                {"state_dict_tss.nets.11.feature.0.bias": torch.zeros(16)},
                "'state_dict_tss.nets.11.feature.0.bias' is extra",
            ),
            (
                {"state_dict_fam.nets.7.norm.bias": torch.zeros(9)},
                "'state_dict_fam.nets.7.norm.bias' has the shape (9,)",
            ),
        ],
    )
    def test_it_is_checked_whole(self, tmp_path: Path, changes: dict[str, Tensor | None], message: str) -> None:
        self.save(tmp_path / "a.pt", self.network(), **changes)
        with pytest.raises(UserError) as raised:
            tiny().load_published(tmp_path / "a.pt")
        assert message in str(raised.value)


@torch.no_grad()
def test_probabilities_of_the_expressions_and_of_nothing_where_no_face_is() -> None:
    encoder = tiny(branches=("expression", "age"))
    inputs = padded([clip(encoder.spec, 3), clip(encoder.spec, 2, 1)], 1)
    probabilities = encoder.probabilities(inputs)
    assert probabilities.shape == (3, 4, 7)
    torch.testing.assert_close(probabilities.sum(2), inputs.mask.float())
    logits = encoder.outputs(inputs)["expression"][0, 1]
    assert EXPRESSIONS[int(probabilities[0, 1].argmax())] == classes("expression")[int(logits.argmax())]
    assert encoder.outputs(inputs)["age"].shape == (3, 4, len(classes("age")))
    with pytest.raises(UserError, match="without the branch 'expression'"):
        tiny(tokens="id", branches=("age",)).probabilities(inputs)


def test_eleven_branches_have_forty_two_outputs() -> None:
    assert (len(BRANCHES), len(OUTPUTS), len(set(OUTPUTS))) == (11, 42, 42)
    assert [len(classes(name)) for name in OUTPUTS] == [2, 1, 2, 7] + [2] * 38
    assert OUTPUTS.index("expression") == 3
    assert [len(outputs) for outputs in BRANCHES.values()] == [1, 2, 2, 6, 10, 5, 2, 4, 6, 2, 2]


@torch.no_grad()
def test_the_grid_has_a_token_per_place_and_the_last_map_behind_the_earlier_ones() -> None:
    coarse, fine = tiny(tokens="grid"), tiny(tokens="grid", local=True)
    inputs = clip(coarse.spec, 2)
    tokens, more = coarse(inputs), fine(inputs)
    assert tokens.values.shape == (1, 2 * 16, 16)
    assert more.values.shape == (1, 2 * 16, 16 + 16)
    assert torch.equal(more.values[..., 16:], tokens.values)
    assert torch.equal(tokens.spans[:, :16], inputs.spans[:, :1].expand(1, 16, 2))
    assert torch.equal(tokens.spans[:, 16:], inputs.spans[:, 1:].expand(1, 16, 2))


@torch.no_grad()
def test_places_of_the_grid_stand_in_rows() -> None:
    encoder = tiny(tokens="grid", local=True)
    for block in encoder.network.backbone.layers[0].blocks:  # what is left looks at 4 x 4 pixels
        block.attn.proj.weight.zero_()
    inputs = clip(encoder.spec, 1)
    struck = inputs.values.clone()
    struck[..., 4:8, 8:12] = 255  # second row, third column
    change = encoder(type(inputs)(struck, inputs.mask, inputs.spans)).values - encoder(inputs).values
    assert change[0, :, :16].norm(dim=1).nonzero().flatten().tolist() == [1 * 4 + 2]


@pytest.mark.parametrize("tokens", ["expr", "id", "grid"])
def test_what_the_tokens_do_not_depend_on_does_not_train(tokens: str) -> None:
    encoder = tiny(tokens=tokens, branches=("expression", "age"))
    training = {name.split(".")[0] for name, p in encoder.network.named_parameters() if p.requires_grad}
    assert training == ({"backbone", "fam", "tss"} if tokens == "expr" else {"backbone"})
    backbone = encoder.network.backbone
    assert not any(p.requires_grad for p in backbone.head.parameters())
    assert all(p.requires_grad == (tokens == "id") for p in backbone.feature.parameters())


@pytest.mark.parametrize("tokens", ["expr", "id"])
def test_a_single_face_can_be_trained_on(tokens: str) -> None:
    encoder = tiny(tokens=tokens).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items() if "running" in k}
    encoder(clip(encoder.spec, 1)).values.sum().backward()
    assert all(torch.equal(encoder.state_dict()[k], v) for k, v in before.items())
    encoder(clip(encoder.spec, 2))
    assert not all(torch.equal(encoder.state_dict()[k], v) for k, v in before.items())


@torch.no_grad()
def test_stochastic_depth_skips_blocks_in_training_only() -> None:
    encoder = tiny(tokens="grid", drop_path=0.5, augment=0.0)
    inputs = clip(encoder.spec, 40)
    exact = encoder(inputs).values
    torch.testing.assert_close(tiny(tokens="grid", drop_path=0.0, augment=0.0).train()(inputs).values, exact)
    changed = (encoder.train()(inputs).values - exact).unflatten(1, (40, 16)).norm(dim=(2, 3))[0] > 1e-3
    assert 10 < changed.sum() <= 40


@torch.no_grad()
def test_many_faces_pass_in_groups_but_train_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swinface, "AT_ONCE", 3)
    encoder = tiny(augment=0.0)
    inputs = padded([clip(encoder.spec, 5), clip(encoder.spec, 2, 1)], 1)
    passed: list[int] = []
    encoder.network.backbone.register_forward_pre_hook(lambda _, faces: passed.append(len(faces[0])))
    grouped = encoder(inputs)
    monkeypatch.setattr(swinface, "AT_ONCE", 64)
    torch.testing.assert_close(grouped.values, encoder(inputs).values)
    monkeypatch.setattr(swinface, "AT_ONCE", 3)
    encoder.train()(inputs)
    assert passed == [3, 3, 1, 7, 7]


def test_faces_are_aligned_to_the_template_it_was_trained_with() -> None:
    face = SwinFace(**TINY).spec.face
    assert face is not None and (face.align, face.detector) == ("arcface", "haar")
    face = SwinFace(face={"detector": "mediapipe", "align": "square"}, **TINY).spec.face
    assert face is not None and (face.align, face.detector) == ("square", "mediapipe")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branches": ("expression", "mood")}, "no branch 'mood'"),
        ({"branches": ("age",)}, "without the branch 'expression'"),
        ({"tokens": "all"}, "tokens 'all'"),
        ({"rate": 0.0}, "at 0 Hz"),
        ({"size": 20}, "must divide into windows"),
        ({"area": 5}, "must divide into windows"),
        ({"heads": (3, 2)}, "must divide into windows"),
        ({"heads": (0, 2)}, "of at least 1"),
        ({"depths": (), "heads": ()}, "of at least 1"),
        ({"patch": 0}, "of at least 1"),
        ({"drop_path": 1.0}, "drop_path below 1"),
    ],
)
def test_what_does_not_fit_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SwinFace(**(TINY | settings))
