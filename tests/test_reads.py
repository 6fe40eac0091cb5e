"""A task may read one modality's own vector: labels that annotators gave to that modality alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_missing import OF_THREE, SHIPPED, WIDTHS, encoders, inputs
from torch import Tensor

from mer import checkpoint
from mer.datasets.clips import Batch
from mer.errors import UserError
from mer.fusion import AttentionPool, Fused, Fusion
from mer.labels import LabelSpace, Task
from mer.model import EmotionModel
from mer.task import EmotionTask
from mer.tokens import Sampled, Tokens

SPACE = LabelSpace("mood.v1", ("sad", "glad"))
MOOD, OF_VOICE = Task("mood", SPACE), Task("mood_voice", SPACE)
MOMENT = Task("moment", SPACE, "frame")
TASKS = {t.name: t for t in (MOOD, OF_VOICE)}
HERE = {"words": [True, True, True], "voice": [True, True, False], "face": [True, False, True]}


def model(fusion: str = "AttentionPool", **options: Any) -> EmotionModel:
    torch.manual_seed(0)
    options.setdefault("reads", {"mood_voice": "voice"})
    options.setdefault("tasks", TASKS)
    return EmotionModel(encoders(), lambda dims: SHIPPED[fusion](dims, dim=12), **options).eval()


@pytest.mark.parametrize("missing", ["masked", "learned"])
@pytest.mark.parametrize("fusion", OF_THREE)
def test_its_answer_depends_on_that_modality_alone(fusion: str, missing: Any) -> None:
    net, clips = model(fusion, missing=missing), inputs(HERE)
    for sampled in clips.values():
        sampled.values.requires_grad_()
    prediction = net(clips)
    assert prediction.logits["mood_voice"].shape == (3, 2)
    assert prediction.logits["mood_voice"][2].tolist() == [0, 0], "the clip has no voice"
    prediction.logits["mood_voice"][:, 0].sum().backward()
    reached = {m: [bool(row.any()) for row in s.values.grad] for m, s in clips.items() if s.values.grad is not None}
    assert reached.pop("voice") == [True, True, False]
    assert not any(any(rows) for rows in reached.values())


def test_a_score_level_fusion_answers_the_other_tasks_and_leaves_nothing_unused() -> None:
    net = model("Late").train()
    assert list(net.heads) == ["mood_voice"]
    prediction = net(inputs())
    (prediction.logits["mood"][:, 0] + prediction.logits["mood_voice"][:, 0]).sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_it_gets_no_auxiliary_heads() -> None:
    assert list(model(unimodal_heads=True).unimodal_heads) == ["mood"]


def test_a_checkpoint_keeps_what_is_read(tmp_path: Path) -> None:
    net = model()
    checkpoint.save(tmp_path / "m.safetensors", net, {})
    loaded, description = checkpoint.load(tmp_path / "m.safetensors")
    assert description["model"]["reads"] == {"mood_voice": "voice"}
    assert torch.equal(loaded(inputs(HERE)).logits["mood_voice"], net(inputs(HERE)).logits["mood_voice"])


@pytest.mark.parametrize(
    ("reads", "problem"),
    [
        ({"valence": "voice"}, r"model\.reads names the unknown task 'valence'. The tasks are mood, mood_voice"),
        ({"mood_voice": "sound"}, r"'mood_voice' reads the unknown modality 'sound'. The encoders are words"),
        ({"moment": "voice"}, r"'moment' is at frame level"),
        ({"mood": "face", "mood_voice": "voice"}, r"leaves the fusion without a task"),
    ],
)
def test_what_cannot_be_read_is_refused(reads: dict[str, str], problem: str) -> None:
    tasks = TASKS | ({"moment": MOMENT} if "moment" in reads else {})
    with pytest.raises(UserError, match=problem):
        model(reads=reads, tasks=tasks)


class Silent(Fusion):
    """Gives no vectors of single modalities."""

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        return Fused(torch.zeros(len(tokens["voice"]), self.dim))


def test_a_fusion_without_vectors_of_single_modalities_is_refused() -> None:
    net = EmotionModel(encoders(), lambda dims: Silent(dims, 4), TASKS, reads={"mood_voice": "voice"})
    with pytest.raises(UserError, match=r"'mood_voice' reads 'voice' alone, but Silent gives no vector"):
        net(inputs())


def batch(seed: int, size: int = 32) -> Batch:
    """The clip follows the words, its voice tells a label of its own; every fourth clip has no voice, and a wrong label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (2, size), generator=generator)
    absent = torch.arange(size) % 4 == 3
    clips = inputs({m: (~absent).tolist() if m == "voice" else [True] * size for m in WIDTHS})
    for sampled in clips.values():
        sampled.values = 0.1 * torch.randn(sampled.values.shape, generator=generator)
    clips["words"].values[..., 0] += 2.0 * labels[0, :, None] - 1
    clips["voice"].values[..., 0] += 2.0 * labels[1, :, None] - 1
    of_voice = torch.where(absent, 1, labels[1])
    inputs_of: dict[str, Sampled | Tokens] = dict(clips)
    names = [f"{seed}-{n}" for n in range(size)]
    return Batch(names, inputs_of, {"mood": labels[0], "mood_voice": of_voice}, torch.zeros(size, 0))


def test_both_labels_are_learnt_from_the_clips_that_have_what_they_are_about() -> None:
    from test_task import fit

    torch.manual_seed(0)
    options: dict[str, Any] = {"reads": {"mood_voice": "voice"}, "lr": 0.02}
    net = EmotionTask(encoders(), TASKS, lambda dims: AttentionPool(dims, 12, dropout=0.0), **options)
    made = fit(net, [batch(seed) for seed in range(3)], [batch(9)], epochs=8)
    assert made.callback_metrics["val/mood_war"] > 0.95
    scored = net.predictions["mood_voice"]._rows()
    absent = torch.arange(32).numpy() % 4 == 3
    assert (scored.values[~absent].argmax(1) == scored.target[~absent]).mean() > 0.95
    assert scored.values[absent].tolist() == [[0.5, 0.5]] * 8, "an even answer, which stays in the score file"
    assert math.isfinite(made.callback_metrics["train/loss_mood_voice"])


def test_clips_without_the_modality_teach_its_task_nothing() -> None:
    from test_task import fit

    def trained(labels: Tensor) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        net = EmotionTask(encoders(), TASKS, AttentionPool, reads={"mood_voice": "voice"}, lr=0.02)
        made = batch(0)
        made.targets["mood_voice"] = labels
        loss = float(fit(net, [made]).callback_metrics["train/loss_mood_voice"])
        return torch.cat([p.detach().flatten() for p in net.model.heads["mood_voice"].parameters()]), loss

    labels = batch(0).targets["mood_voice"]
    absent = torch.arange(32) % 4 == 3
    (head, loss), (other, same) = trained(labels), trained(torch.where(absent, -1, labels))
    assert torch.equal(head, other)
    assert loss == same
    assert not torch.equal(head, trained(1 - labels)[0])
