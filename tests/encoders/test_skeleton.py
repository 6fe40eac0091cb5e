"""The skeleton encoder: published files find their network, settings that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mer import checkpoint
from mer.encoders import SkeletonGCN
from mer.encoders.agcn import AGCN
from mer.encoders.weights import renamed
from mer.errors import UserError
from mer.skeletons import layout
from mer.tokens import Sampled

BLOCKS = ((8, 1), (8, 1), (12, 2))
LAYOUTS = ("2s-AGCN", "mmaction2")
VARIANTS: tuple[dict[str, Any], ...] = ({}, {"variant": "aagcn"}, {"variant": "aagcn", "attention": False})


def encoder(**options: Any) -> SkeletonGCN:
    usual: dict[str, Any] = {"layout": "ntu25", "blocks": BLOCKS, "streams": ("joint",), "people": 2, "gain": 1.0}
    return SkeletonGCN(**(usual | options))


def shaken(module: nn.Module, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value += 0.3 * torch.rand(value.shape, generator=generator)


def clip(name: str = "ntu25", frames: int = 10, length: int | None = None) -> Sampled:
    it = layout(name)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, frames, it.size, 4 if it.depth else 3, generator=generator)
    values[..., -1] = 1
    begin = torch.arange(frames) / 10
    mask = torch.arange(frames) < torch.tensor([[frames], [length or frames]])
    return Sampled(values, mask, torch.stack([begin, begin + 0.1], 1).expand(2, -1, 2))


def published(theirs: AGCN, name: str, **options: Any) -> dict[str, Tensor]:
    """The state of a network under the keys of that project, with what else such a file holds."""
    table = next(t for t in encoder(**options).tables() if t.name == name)
    state = renamed(theirs.state_dict(), table)
    head = "fc" if name == "2s-AGCN" else "cls_head.fc"
    state |= {f"{head}.weight": torch.zeros(60, theirs.dim), f"{head}.bias": torch.zeros(60)}
    return state | ({"backbone.A": torch.zeros(3, 25, 25)} if name == "mmaction2" else {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.pth"


class TestPublishedFiles:
    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize("options", VARIANTS)
    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"meta": {"epoch": 3}, "state_dict": s}])
    @torch.no_grad()
    def test_they_give_the_network_that_they_hold(
        self, path: Path, name: str, options: dict[str, Any], wrap: Callable[[dict[str, Tensor]], dict[str, Any]]
    ) -> None:
        theirs = AGCN(layout("ntu25"), people=2, blocks=BLOCKS, gain=1.0, **options).eval()
        shaken(theirs)
        torch.save(wrap(published(theirs, name, **options)), path)
        ours = encoder(**options).eval()
        report = ours.load_published(path)
        assert report.table == name and report.loaded == len(theirs.state_dict()) and not report.absent
        x = torch.randn(1, 3, 8, 25, 2)
        torch.testing.assert_close(ours.network["joint"](x), theirs(x), rtol=0, atol=0)

    def test_mmaction2_counts_units_from_0_and_calls_the_learned_graph_A(self) -> None:
        keys = published(AGCN(layout("ntu25"), people=2, variant="aagcn"), "mmaction2", variant="aagcn", blocks=None)
        for key in (
            "backbone.data_bn.weight", "backbone.gcn.0.gcn.A", "backbone.gcn.0.gcn.alpha", "backbone.gcn.9.tcn.conv.weight",
            "backbone.gcn.4.gcn.conv_a.2.bias", "backbone.gcn.4.gcn.down.1.running_mean", "backbone.gcn.7.residual.bn.weight",
            "backbone.gcn.2.gcn.conv_sa.weight", "backbone.gcn.2.gcn.fc2c.bias",
        ):  # fmt: skip
            assert key in keys
        assert not [key for key in keys if "gcn1" in key or "tcn1" in key or ".PA" in key]

    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s, k: s.pop(k), "is missing"),
            (lambda s, k: s.update({f"{k}.more": torch.zeros(1)}), "is extra"),
            (lambda s, k: s.update({k: torch.zeros(2, 2)}), "has the shape"),
        ],
    )
    def test_one_key_missing_extra_or_of_another_shape_is_named(
        self, path: Path, name: str, change: Callable[[dict[str, Tensor], str], Any], message: str
    ) -> None:
        state = published(AGCN(layout("ntu25"), people=2, blocks=BLOCKS), name)
        key = "l2.tcn1.conv.weight" if name == "2s-AGCN" else "backbone.gcn.1.tcn.conv.weight"
        change(state, key)
        torch.save(state, path)
        ours = encoder()
        before = {k: v.clone() for k, v in ours.state_dict().items()}
        with pytest.raises(UserError, match=f"{key}.*{message}"):
            ours.load_published(path)
        assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())

    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize(
        ("theirs", "ours", "remedy"),
        [
            ({"variant": "aagcn"}, {}, "AAGCN with attention. Use variant: aagcn, attention: true"),
            (
                {"variant": "aagcn", "attention": False}, {},
                "AAGCN without attention, which mmaction2 and pyskl call 2s-AGCN. Use variant: aagcn, attention: false",
            ),
            (
                {"variant": "aagcn", "attention": False}, {"variant": "aagcn"},
                "call 2s-AGCN. Use variant: aagcn, attention: false",
            ),
            ({}, {"variant": "aagcn"}, "a file of 2s-AGCN. Use variant: agcn"),
            ({"layout": "coco17"}, {}, "joints: 17 in the file, 25 here. Change layout"),
            ({"people": 1}, {}, "people at once: 1 in the file, 2 here. Change people"),
            ({"channels": 2}, {}, "channels of a joint: 2 in the file, 3 here. Change channels"),
        ],
    )  # fmt: skip
    def test_a_file_of_another_network_says_which(
        self, path: Path, name: str, theirs: Mapping[str, Any], ours: dict[str, Any], remedy: str
    ) -> None:
        options = {"people": 2, **theirs}
        it = layout(options.pop("layout", "ntu25"))
        torch.save(published(AGCN(it, blocks=BLOCKS, **options), name), path)
        with pytest.raises(UserError) as raised:
            encoder(**ours).load_published(path)
        assert remedy in str(raised.value)

    def test_each_stream_has_its_file(self, path: Path, tmp_path: Path) -> None:
        files = {}
        for seed, name in enumerate(("joint", "bone")):
            theirs = AGCN(layout("ntu25"), people=2, blocks=BLOCKS)
            shaken(theirs, seed)
            files[name] = theirs.state_dict()
            torch.save(theirs.state_dict(), tmp_path / f"{name}.pt")
        ours = encoder(streams=("joint", "bone"))
        checkpoint.load_encoders({"it": ours}, {f"it.{name}": str(tmp_path / f"{name}.pt") for name in files})
        for name, state in files.items():
            assert all(torch.equal(ours.network[name].state_dict()[key], value) for key, value in state.items())
        with pytest.raises(UserError, match=r"which of the networks joint, bone .* skeleton\.joint"):
            ours.load_published(tmp_path / "joint.pt")
        with pytest.raises(UserError, match=r"no network 'motion' here\. It has joint, bone"):
            ours.load_published(tmp_path / "joint.pt", "motion")

    def test_another_file_altogether_is_refused(self, path: Path) -> None:
        torch.save({"layer.weight": torch.zeros(2)}, path)
        with pytest.raises(UserError, match="is missing"):
            encoder().load_published(path)


class TestTokens:
    @torch.no_grad()
    def test_they_are_the_means_of_what_the_published_network_gives(self) -> None:
        torch.manual_seed(0)
        ours = encoder(normalise="none", tokens="both", people=2).eval()
        x = clip()
        shown = torch.cat([x.values[..., :3, None], torch.zeros(2, 10, 25, 3, 1)], -1).permute(0, 3, 1, 2, 4)
        network = ours.network["joint"]
        assert isinstance(network, AGCN)
        maps, _ = network.maps(shown)
        found = ours(x)
        assert found.values.shape == (2, 25 + 5, 12)
        torch.testing.assert_close(found.values[:, :25], maps.mean((1, 2)))
        torch.testing.assert_close(found.values[:, 25:], maps.mean((1, 3)))
        torch.testing.assert_close(found.values[:, 25:].mean(1), network(shown))

    def test_a_joint_stands_for_the_clip_and_a_moment_for_the_frames_around_it(self) -> None:
        found = encoder(blocks=((8, 4),), tokens="both").eval()(clip(length=6))
        assert found.spans[1, 0].tolist() == pytest.approx([0, 0.6])
        moments = found.spans[:, 25:]
        # Frames 0, 4 and 8 are the centres.
        assert moments[0].flatten().tolist() == pytest.approx([0, 0.25, 0.25, 0.65, 0.65, 1.0])
        assert moments[1, :2].flatten().tolist() == pytest.approx([0, 0.25, 0.25, 0.6])
        assert found.mask[:, 25:].tolist() == [[True] * 3, [True, True, False]]

    @pytest.mark.parametrize(
        ("options", "dim"),
        [({}, 24), ({"join": "sum"}, 12), ({"join": "early"}, 12), ({"streams": ("joint", "bone", "bone_motion")}, 36)],
    )
    def test_streams_are_joined(self, options: dict[str, Any], dim: int) -> None:
        ours = encoder(**{"streams": ("joint", "bone"), **options})
        assert ours.dim == ours(clip()).dim == dim

    @torch.no_grad()
    def test_a_stream_enters_its_own_network(self) -> None:
        """Moving a whole body by a constant moves joints and no bones."""
        ours = encoder(streams=("joint", "bone"), normalise="none").eval()
        x = clip()
        moved = Sampled(x.values + torch.tensor([1.0, 2.0, 3.0, 0.0]), x.mask, x.spans)
        change = (ours(moved).values - ours(x).values).abs().amax((0, 1))
        assert (change[:12] > 1e-3).any() and change[12:].max() < 1e-4

    @torch.no_grad()
    def test_resampled_clips_have_equally_many_tokens(self) -> None:
        found = encoder(frames=8).eval()(clip(length=3))
        assert found.mask.all() and found.mask.shape == (2, 4)
        assert found.spans[1].flatten()[[0, -1]].tolist() == pytest.approx([0, 0.3])

    @torch.no_grad()
    @pytest.mark.parametrize("fit", ["loop", "pad"])
    def test_repetitions_and_zeros_are_seen_and_give_no_token(self, fit: str) -> None:
        x = clip(length=4)
        found, alone = encoder(frames=16, fit=fit, gain=1.0).eval(), encoder(gain=1.0).eval()
        alone.load_state_dict(found.state_dict())
        assert found(x).mask.tolist() == alone(x).mask.tolist()
        assert not torch.allclose(found(x).values, alone(x).values, atol=1e-4)

    def test_training_varies_the_clips_and_evaluation_does_not(self) -> None:
        ours = encoder(frames=8)
        assert not torch.equal(ours(clip()).values, ours(clip()).values)
        still = encoder(augment=0.0, frames=8)
        assert torch.equal(still(clip()).values, still(clip()).values)
        ours.eval()
        assert torch.equal(ours(clip()).values, ours(clip()).values)

    def test_unseen_joints_may_hold_anything(self) -> None:
        x = clip("coco17")
        x.values[:, 3, 4, 2] = 0
        other = Sampled(x.values.clone(), x.mask, x.spans)
        other.values[:, 3, 4, :2] = 1e6
        ours = encoder(layout="coco17", streams=("joint", "bone", "joint_motion")).eval()
        torch.testing.assert_close(ours(other).values, ours(x).values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "nobody"}, "unknown skeleton layout"),
        ({"variant": "gcn"}, "variant 'gcn' is unknown. Use agcn, aagcn"),
        ({"streams": ("joint", "motion")}, "streams 'motion' is unknown. Use joint, bone"),
        ({"streams": ()}, "streams"),
        ({"channels": "xyc"}, "no channels 'xyc'. Use xyz or xyzc"),
        ({"people": 0}, "0 people"),
        ({"streams": ("bone", "bone")}, "Name each stream once"),
        ({"blocks": ()}, "at least one block"),
        ({"blocks": ((8, 0),)}, "a stride from 1"),
        ({"frames": 0}, "0 frames"),
        ({"normalise": "kinetics"}, "wants 2-D skeletons"),
        ({"layout": "coco17", "normalise": "ntu"}, "wants 3-D skeletons"),
    ],
)
def test_settings_that_cannot_be_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder(**options)


def test_the_published_network_is_the_default() -> None:
    with torch.device("meta"):
        ours = SkeletonGCN("ntu25", people=2)
    assert (ours.dim, ours.stride, list(ours.network)) == (512, 4, ["joint", "bone"])
    head = 60 * 257
    assert sum(p.numel() for p in ours.parameters()) == 2 * (3_469_510 - head)


@pytest.mark.parametrize("training", [True, False], ids=["training", "scoring"])
@pytest.mark.parametrize("options", VARIANTS)
def test_weights_of_half_precision_work(options: dict[str, Any], training: bool) -> None:
    torch.manual_seed(0)
    net = encoder(augment=0.0, **options).train(training)
    exact = net(clip(length=7)).values
    found = net.bfloat16()(clip(length=7)).values
    assert found.dtype == torch.bfloat16
    assert float((found.float() - exact).detach().norm() / exact.norm()) < 0.05
    found.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ["ntu25", "coco17"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "scoring"])
def test_a_joint_that_was_not_seen_may_hold_anything(name: str, training: bool) -> None:
    net, clean = encoder(layout=name, streams=("joint", "bone_motion")).train(training), clip(name)
    clean.values[0, 2:5, 3] = 0
    clean.values[1, :, :, -1] = 0  # nobody at all
    dirty = Sampled(clean.values.clone(), clean.mask, clean.spans)
    dirty.values[..., :-1][clean.values[..., -1] == 0] = float("nan")
    state = {key: value.clone() for key, value in net.state_dict().items()}
    outcomes = []
    for inputs in (clean, dirty):
        net.load_state_dict(state)
        torch.manual_seed(1)
        outcomes.append(net(inputs).values)
    assert outcomes[0].isfinite().all()
    assert torch.equal(outcomes[0], outcomes[1])
