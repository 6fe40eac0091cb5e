"""`EmotionModel` joins any encoders, one fusion and one head per task, and describes itself in plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from mer.encoders import Encoder, FeatureEncoder, FrameCNN, MelNet
from mer.encoders.base import JointEncoder
from mer.errors import UserError
from mer.fusion import AttentionPool, Concat, Fused, Fusion
from mer.heads import LinearHead
from mer.labels import LabelSpace, Task
from mer.model import EmotionModel
from mer.tokens import Sampled, Tokens, at_times

EMOTION = Task("emotion", LabelSpace("three.v1", ("a", "b", "c")))
VALENCE = Task("valence", LabelSpace("v.v1", ("valence",), "continuous"), "frame")
TASKS = {"emotion": EMOTION, "valence": VALENCE}


def encoders() -> dict[str, Encoder]:
    return {
        "audio": MelNet(8, channels=(4, 4), layers=0),
        "face": FrameCNN(12, size=16, channels=(4, 4)),
        "au": FeatureEncoder(5, dim=10),
    }


def model(tasks: Mapping[str, Task] = TASKS, **options: object) -> EmotionModel:
    torch.manual_seed(0)
    return EmotionModel(encoders(), lambda dims: AttentionPool(dims, 16), tasks, **options)  # type: ignore[arg-type]


def inputs(present: Mapping[str, list[bool]] | None = None, more: int = 0) -> dict[str, Sampled]:
    """Two clips of 1.0 and 0.6 s; values behind the mask are arbitrary."""
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Sampled] = {}
    for name, rate, shape in (("audio", 16000, ()), ("face", 8, (3, 16, 16)), ("au", 5, (5,))):
        size = rate + more
        values = torch.rand(2, size, *shape, generator=generator)
        counts = torch.tensor([rate, round(0.6 * rate)])
        mask = torch.arange(size)[None] < counts[:, None]
        begin = torch.arange(size) / rate
        spans = torch.stack([begin, begin + 1 / rate], 1).expand(2, size, 2).contiguous()
        made[name] = Sampled(values, mask & torch.tensor((present or {}).get(name, [True, True]))[:, None], spans)
    return made


def test_every_task_gets_its_logits() -> None:
    prediction = model().eval()(inputs())
    assert prediction.logits["emotion"].shape == (2, 3)
    frames = prediction.frames["valence"]
    assert isinstance(frames, Tokens)
    assert frames.dim == 1
    assert frames.lengths.tolist() == [5, 4]  # 1.0 s, and 5 frames at 8 Hz
    assert at_times(frames, torch.tensor([[0.1, 0.5], [0.2, 0.4]])).shape == (2, 2, 1)
    assert prediction.unimodal == {}


@torch.no_grad()
def test_padding_and_neighbours_change_no_prediction() -> None:
    net, clips = model().eval(), inputs()
    together = net(clips)
    for row in range(2):
        alone = net({m: Sampled(s.values[row, None], s.mask[row, None], s.spans[row, None]) for m, s in clips.items()})
        torch.testing.assert_close(alone.logits["emotion"][0], together.logits["emotion"][row], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_missing_modality_and_a_missing_everything_are_survived() -> None:
    prediction = model().eval()(inputs({"audio": [False, False], "face": [True, False], "au": [True, False]}))
    assert torch.isfinite(prediction.logits["emotion"]).all()
    weights = prediction.fused.modality_weights
    assert weights is not None
    assert weights["audio"].tolist() == [0, 0]
    assert float(weights["face"][0] + weights["au"][0]) == pytest.approx(1)


def test_training_reaches_every_parameter_even_where_a_modality_is_absent_from_the_batch() -> None:
    net = model(unimodal_heads=True).train()
    prediction = net(inputs({"face": [False, False], "audio": [False, False]}))
    loss = prediction.logits["emotion"].sum() + prediction.frames["valence"].values.sum()
    loss = loss + sum(v.sum() for v in prediction.unimodal["emotion"].values())
    loss.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_specs_come_from_the_encoders() -> None:
    specs = model().specs
    assert (specs["audio"].kind, specs["face"].size, specs["au"].width) == ("audio", (16, 16), 5)


def test_auxiliary_heads_read_each_modality_for_clip_level_tasks() -> None:
    unimodal = model(unimodal_heads=True).eval()(inputs()).unimodal
    assert set(unimodal) == {"emotion"}
    assert {m: tuple(v.shape) for m, v in unimodal["emotion"].items()} == dict.fromkeys(("audio", "face", "au"), (2, 3))


class TestModalityDropout:
    def hidden(self, rate: float, present: dict[str, list[bool]] | None = None) -> torch.Tensor:
        """(400, M, B) bool: what stays."""
        torch.manual_seed(0)
        net, clips = model(modality_dropout=rate), inputs(present)
        rounds = [[s.present for s in net._drop_modalities(clips).values()] for _ in range(400)]
        return torch.stack([torch.stack(r) for r in rounds])

    def test_each_modality_is_hidden_about_as_often_as_said(self) -> None:
        kept = self.hidden(0.3).float().mean(0)
        torch.testing.assert_close(kept, torch.full((3, 2), 0.7 + 0.3**3 / 3), atol=0.08, rtol=0)

    def test_a_sample_never_loses_its_last_modality(self) -> None:
        kept = self.hidden(0.95, {"audio": [False, True], "face": [False, True]})
        assert kept.any(1).all()
        assert not kept[:, 0, 0].any(), "what is absent does not come back"

    def test_a_sample_without_anything_stays_so(self) -> None:
        assert not self.hidden(0.5, {m: [False, True] for m in ("audio", "face", "au")})[:, :, 0].any()

    def test_nothing_is_hidden_in_evaluation(self) -> None:
        net = model(modality_dropout=0.9).eval()
        torch.testing.assert_close(net(inputs()).logits["emotion"], net(inputs()).logits["emotion"])
        assert net(inputs()).fused.modality_weights["audio"].min() > 0

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_a_rate_outside_its_range_is_refused(self, rate: float) -> None:
        with pytest.raises(UserError, match="modality_dropout"):
            model(modality_dropout=rate)


def test_a_description_is_plain_and_repeats_no_width() -> None:
    net = model(heads={"emotion": LinearHead}, unimodal_heads=True, modality_dropout=0.2)
    description = json.loads(json.dumps(net.describe()))
    assert description["fusion"]["class_path"] == "mer.fusion.attention_pool.AttentionPool"
    assert "dims" not in description["fusion"]["init_args"]
    assert description["heads"]["emotion"] == {"class_path": "mer.heads.LinearHead", "init_args": {}}
    assert list(description["encoders"]) == ["audio", "face", "au"]
    assert (description["unimodal_heads"], description["modality_dropout"]) == (True, 0.2)
    assert Task.from_dict("valence", description["tasks"]["valence"], "here") == VALENCE


def test_a_head_that_does_not_describe_itself_cannot_be_stored() -> None:
    net = model(heads={"emotion": nn.Linear})
    with pytest.raises(UserError, match="Linear cannot be stored"):
        net.describe()


def test_an_unusable_model_is_refused_with_a_reason() -> None:
    fusion = lambda dims: Concat(dims, 16)  # noqa: E731
    with pytest.raises(UserError, match="no encoder"):
        EmotionModel({}, fusion, TASKS)
    with pytest.raises(UserError, match="no task"):
        EmotionModel(encoders(), fusion, {})
    with pytest.raises(UserError, match="heads for unknown tasks: mood"):
        EmotionModel(encoders(), fusion, TASKS, heads={"mood": LinearHead})


class Votes(Fusion):
    """Score-level fusion without a sequence: its logits are the answer."""

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        first = tokens[self.modalities[0]].mean()
        return Fused(first.new_zeros(len(first), self.dim), logits={"emotion": first.new_full((len(first), 3), 7.0)})


def test_logits_of_a_score_level_fusion_are_taken_as_they_are() -> None:
    net = EmotionModel(encoders(), lambda dims: Votes(dims, 4), {"emotion": EMOTION}, unimodal_heads=True)
    prediction = net.eval()(inputs())
    assert (prediction.logits["emotion"] == 7).all()
    assert prediction.unimodal == {"emotion": {}}


def test_a_frame_level_task_needs_a_fusion_with_a_sequence() -> None:
    net = EmotionModel(encoders(), lambda dims: Votes(dims, 4), {"valence": VALENCE})
    with pytest.raises(UserError, match="task 'valence' is at frame level, but Votes gives no sequence"):
        net(inputs())


class Duet(JointEncoder):
    """The sum of the means of two columns: one token."""

    def __init__(self, picture: str = "face", sound: str = "audio"):
        super().__init__()
        self.specs = {picture: FrameCNN(12, size=16, channels=(4, 4)).spec, sound: MelNet(8).spec}
        self.dim = 2
        self.mix = nn.Linear(2, 2)

    def forward(self, inputs: Mapping[str, Sampled]) -> Tokens:  # type: ignore[override]
        means = [s.zeroed().flatten(1).mean(1) for s in inputs.values()]
        present = torch.stack([s.present for s in inputs.values()], 1).any(1, keepdim=True)
        values = self.mix(torch.stack(means, 1)) * present
        return Tokens(values[:, None], present, torch.tensor([0.0, 1.0]).expand(len(values), 1, 2))


class TestJointEncoder:
    def model(self, **options: object) -> EmotionModel:
        torch.manual_seed(0)
        both = {"duet": Duet(), "au": FeatureEncoder(5, dim=10)}
        return EmotionModel(both, lambda dims: AttentionPool(dims, 16), TASKS, **options)  # type: ignore[arg-type]

    def test_it_names_its_columns_and_is_fed_all_of_them(self) -> None:
        model = self.model().eval()
        assert list(model.specs) == ["face", "audio", "au"]
        prediction = model(inputs({"face": [True, False], "audio": [True, False]}))
        assert prediction.logits["emotion"].shape == (2, 3)
        assert prediction.seen["duet"].tolist() == [True, False]
        both, one = (model(inputs({"face": [True, face]})).logits["emotion"] for face in (True, False))
        assert torch.equal(both[0], one[0])
        assert not torch.equal(both[1], one[1])

    def test_modality_dropout_hides_its_columns_one_by_one(self) -> None:
        model = self.model(modality_dropout=0.5).train()
        torch.manual_seed(0)
        kept = [model._drop_modalities(inputs()) for _ in range(30)]
        assert {tuple(d[m].present.tolist()[0] for m in ("face", "audio")) for d in kept} >= {
            (True, False),
            (False, True),
        }

    def test_a_column_cannot_be_prepared_in_two_ways(self) -> None:
        others = {"duet": Duet(), "face": FrameCNN(12, size=24, channels=(4, 4))}
        with pytest.raises(UserError, match="'face' and another one want the column 'face'"):
            EmotionModel(others, lambda dims: AttentionPool(dims, 16), TASKS)

    def test_a_column_prepared_alike_is_shared(self) -> None:
        others = {"duet": Duet(), **{m: e for m, e in encoders().items() if m != "audio"}}
        model = EmotionModel(others, lambda dims: AttentionPool(dims, 16), TASKS)
        assert model(inputs()).logits["emotion"].shape == (2, 3)
