"""`EmotionTask` trains what it is told to, at the rate it is told to, on the labels there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mer.datasets.clips import Batch
from mer.encoders import Encoder, FeatureEncoder, FrameCNN
from mer.errors import UserError
from mer.fusion import AttentionPool, Concat
from mer.labels import LabelSpace, Task
from mer.losses import MSE, CrossEntropy, Focal
from mer.spec import InputSpec
from mer.task import EmotionTask
from mer.tokens import Sampled, Tokens

MOOD = Task("mood", LabelSpace("mood.v1", ("sad", "glad")))
SIGNS = Task("signs", LabelSpace("signs.v1", ("a", "b"), "multilabel"))
LEVEL = Task("level", LabelSpace("level.v1", ("x",), "continuous"))
MOMENT = Task("moment", LabelSpace("mood.v1", ("sad", "glad")), "frame")
COURSE = Task("course", LabelSpace("level.v1", ("x",), "continuous"), "frame")
EVERY = {t.name: t for t in (MOOD, SIGNS, LEVEL, MOMENT, COURSE)}
WIDTH, ROWS = 3, 4  # columns of a feature, rows per clip at 4 Hz


def encoders(*names: str, width: int = WIDTH) -> dict[str, Encoder]:
    return {name: FeatureEncoder(width, 4.0, dim=8, hidden=8, dropout=0.0) for name in names or ("one", "two")}


def task(tasks: Sequence[Task] = (MOOD,), seed: int = 0, **options: Any) -> EmotionTask:
    torch.manual_seed(seed)
    options.setdefault("encoders", encoders())
    options.setdefault("fusion", lambda dims: AttentionPool(dims, 8, dropout=0.0))
    return EmotionTask(tasks={t.name: t for t in tasks}, **options)


def batch(size: int = 8, seed: int = 0, present: dict[str, list[bool]] | None = None) -> Batch:
    """Clips of one second whose first column tells every label."""
    generator = torch.Generator().manual_seed(seed)
    tells = torch.randn(size, generator=generator)
    begin = torch.arange(ROWS) / 4
    spans = torch.stack([begin, begin + 0.25], 1).expand(size, -1, -1).contiguous()
    inputs = {}
    for name in ("one", "two"):
        values = torch.randn(size, ROWS, WIDTH, generator=generator)
        values[..., 0] = tells[:, None]
        here = torch.tensor((present or {}).get(name, [True] * size))
        inputs[name] = Sampled(values, here[:, None].expand(size, ROWS).clone(), spans)
    mood = (tells > 0).long()
    targets = {
        "mood": mood,
        "signs": torch.stack([tells > 0, tells < 0.5], 1).float(),
        "level": tells[:, None].clone(),
        "moment": mood[:, None].expand(size, 2).clone(),
        "course": tells[:, None, None].expand(size, 2, 1).clone(),
    }
    times = torch.tensor([0.25, 0.75]).expand(size, 2).clone()
    return Batch([f"clip{i}" for i in range(size)], inputs, targets, times)


def trainer(epochs: int = 1, callbacks: Sequence[pl.Callback] = (), **options: Any) -> pl.Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, callbacks=list(callbacks), **quiet, **options
    )


def loader(batches: Sequence[Batch]) -> DataLoader[Batch]:
    """Batches that are already made, in order."""
    return DataLoader(list(batches), batch_size=None, collate_fn=lambda made: made)  # type: ignore[arg-type]


def fit(
    net: EmotionTask,
    train: Sequence[Batch],
    val: Sequence[Batch] = (),
    epochs: int = 1,
    callbacks: Sequence[pl.Callback] = (),
    **options: Any,
) -> pl.Trainer:
    made = trainer(epochs, callbacks, **options)
    made.fit(net, loader(train), loader(val) if val else None)
    return made


def snapshot(net: EmotionTask) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in net.model.state_dict().items()}


def changed(net: EmotionTask, before: dict[str, Tensor]) -> set[str]:
    return {n for n, t in net.model.state_dict().items() if not torch.equal(t, before[n])}


class Watch(pl.Callback):
    """Calls a function at each optimiser step, after clipping."""

    def __init__(self, look: Callable[[pl.Trainer, EmotionTask], Any]):
        self.look, self.seen = look, []  # type: ignore[var-annotated]

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(self.look(trainer, pl_module))


class Positioned(Encoder):
    """Has everything that is not to be decayed: a norm, biases, an embedding, tables of positions, a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.dim = InputSpec("features", rate=4.0, width=WIDTH), 8
        self.linear, self.norm = nn.Linear(WIDTH, 8), nn.LayerNorm(8)
        self.kinds = nn.Embedding(2, 8)
        self.positions = nn.Parameter(torch.randn(ROWS, 8))
        self.rel_pos_t, self.pos_embed = nn.Parameter(torch.randn(ROWS, 8)), nn.Parameter(torch.randn(1, ROWS, 8))
        self.class_token, self.cls_token = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, inputs: Sampled) -> Tokens:
        values = self.norm(self.linear(inputs.zeroed())) + self.kinds.weight[0] + self.positions
        values = values + self.rel_pos_t + self.pos_embed + self.class_token + self.cls_token
        return Tokens(values * inputs.mask[..., None], inputs.mask, inputs.spans)


class TestParameterGroups:
    def groups(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Options of the optimiser by parameter name."""
        net = task(encoders={"one": Positioned(), "two": encoders("two")["two"]}, lr=0.01, **options)
        made = fit(net, [batch()])
        names = {id(p): n for n, p in net.model.named_parameters()}
        return {names[id(p)]: g for g in made.optimizers[0].param_groups for p in g["params"]}

    def test_matrices_alone_are_decayed(self) -> None:
        decays = {n: g["weight_decay"] for n, g in self.groups(weight_decay=0.3).items()}
        positions = ("positions", "rel_pos_t", "pos_embed", "class_token", "cls_token")
        for name in ("linear.bias", "norm.weight", "norm.bias", "kinds.weight", *positions):
            assert decays[f"encoders.one.{name}"] == 0, name
        assert decays["encoders.one.linear.weight"] == 0.3
        assert decays["heads.mood.layers.0.weight"] == 0.3
        assert decays["fusion.norm.two.weight"] == 0
        assert set(decays.values()) == {0, 0.3}

    def test_every_parameter_is_in_one_group(self) -> None:
        net = task()
        made = fit(net, [batch()])
        listed = [id(p) for g in made.optimizers[0].param_groups for p in g["params"]]
        assert sorted(listed) == sorted(id(p) for p in net.model.parameters())

    def test_the_longest_prefix_decides_the_learning_rate(self) -> None:
        factors = {"encoders": 0.1, "encoders.two": 0.5, "encoders.two.mlp.0": 2.0}
        rates = {n: g["initial_lr"] / 0.01 for n, g in self.groups(lr_factors=factors).items()}
        assert rates["encoders.one.norm.weight"] == pytest.approx(0.1)
        assert rates["encoders.two.mlp.3.weight"] == pytest.approx(0.5)
        assert rates["encoders.two.mlp.0.bias"] == pytest.approx(2.0)
        assert rates["fusion.score.one.weight"] == pytest.approx(1.0)

    def test_a_prefix_is_a_whole_name(self) -> None:
        with pytest.raises(UserError, match=r"no parameter .* begins with 'encoders\.o'"):
            task(lr_factors={"encoders.o": 0.1})
        with pytest.raises(UserError, match=r"no parameter .* begins with 'encoder'"):
            task(freeze={"encoder": 1})


class TestSchedule:
    def rates(self, steps: int, **options: Any) -> list[float]:
        watch = Watch(lambda trainer, net: trainer.optimizers[0].param_groups[0]["lr"])
        fit(task(lr=1.0, **options), [batch()] * (steps // 2), epochs=2, callbacks=[watch])
        return watch.seen

    def test_linear_warm_up_then_a_cosine_to_the_final_rate(self) -> None:
        rates = self.rates(20, warmup=0.2, final_lr=0.1)
        assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
        cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 16)) for k in range(16)]
        assert rates[4:] == pytest.approx(cosine)

    def test_no_warm_up_begins_at_the_peak(self) -> None:
        assert self.rates(10, warmup=0.0)[0] == 1.0

    def test_one_step_is_enough(self) -> None:
        fit(task(), [batch()])


class TestFreezing:
    FRAMES = InputSpec("video", rate=4.0, size=(16, 16))

    def net(self, **options: Any) -> EmotionTask:
        """`two` has batch normalisation and dropout."""
        return task(encoders={"one": encoders("one")["one"], "two": FrameCNN(8, 4, 16, (4,), dropout=0.5)}, **options)

    def batch(self) -> Batch:
        made = batch()
        rest = made.inputs["two"]
        pictures = torch.randint(0, 255, (8, ROWS, 3, 16, 16), dtype=torch.uint8)
        made.inputs["two"] = Sampled(pictures, rest.mask, rest.spans)
        return made

    def test_what_is_frozen_for_good_never_changes_nor_do_its_statistics(self) -> None:
        net = self.net(freeze={"encoders.two": -1})
        before = snapshot(net)
        fit(net, [self.batch()] * 2, [self.batch()], epochs=2)
        assert not {n for n in changed(net, before) if n.startswith("encoders.two")}
        assert any(n.startswith("encoders.one") for n in changed(net, before))

    def test_a_stage_begins_at_its_epoch_with_its_statistics_and_its_dropout(self) -> None:
        net = self.net(freeze={"encoders.two": 1, "encoders.two.out": 2})
        changes: list[set[str]] = []

        class Epochs(pl.Callback):
            def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
                self.before = snapshot(net)

            def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
                changes.append({n for n in changed(net, self.before) if n.startswith("encoders.two")})

        fit(net, [self.batch()] * 2, [self.batch()], epochs=3, callbacks=[Epochs()])
        assert changes[0] == set()
        assert {"encoders.two.stem.0.weight", "encoders.two.stem.1.running_mean"} <= changes[1]
        assert not {n for n in changes[1] if ".out." in n}
        assert "encoders.two.out.1.weight" in changes[2]
        assert net.model.encoders["two"].out[0].training, "dropout is at work again"

    def test_part_of_a_frozen_part_may_train(self) -> None:
        net = self.net(freeze={"encoders": -1, "encoders.two.out": 0})
        before = snapshot(net)
        fit(net, [self.batch()] * 2)
        moved = {n.rsplit(".", 2)[0] for n in changed(net, before) if n.startswith("encoders")}
        assert moved == {"encoders.two.out"}
        assert net.model.encoders["two"].out.training
        assert not net.model.encoders["two"].stem.training


class TestMissingLabels:
    def gradients(self, net: EmotionTask, clips: Batch) -> Tensor:
        """(B,) largest gradient on each clip's input."""
        clips.inputs["one"].values.requires_grad_()
        fit(net, [clips])
        gradient = clips.inputs["one"].values.grad
        assert gradient is not None
        return gradient.abs().amax((1, 2))

    def test_a_row_without_any_label_teaches_nothing(self) -> None:
        clips = batch(4)
        clips.targets["mood"][1] = -1
        clips.targets["level"][1:3] = float("nan")
        gradient = self.gradients(task((MOOD, LEVEL)), clips)
        assert gradient[1] == 0
        assert (gradient[[0, 2, 3]] > 0).all()

    def test_frames_without_a_label_teach_nothing(self) -> None:
        clips = batch(4)
        clips.targets["moment"][2] = -1
        gradient = self.gradients(task((MOMENT,)), clips)
        assert gradient[2] == 0
        assert (gradient[[0, 1, 3]] > 0).all()

    def test_a_task_without_any_label_leaves_the_others_alone(self) -> None:
        clips = batch(4)
        clips.targets["level"][:] = float("nan")
        both, alone = task((MOOD, LEVEL)), task((MOOD,))
        alone.model.load_state_dict({k: v for k, v in both.model.state_dict().items() if "level" not in k})
        assert self.loss(both, clips) == pytest.approx(self.loss(alone, clips))

    def test_a_batch_without_any_label_is_survived(self) -> None:
        clips = batch(4)
        clips.targets["mood"][:] = -1
        net = task(weight_decay=0.0)
        before = snapshot(net)
        made = fit(net, [clips], [clips])
        assert changed(net, before) == set()
        assert "val/war" not in made.callback_metrics

    @staticmethod
    def loss(net: EmotionTask, clips: Batch) -> float:
        return float(trainer().validate(net, loader([clips]), verbose=False)[0]["val/loss"])


class TestWhatIsLearnt:
    @pytest.mark.parametrize("one", EVERY.values(), ids=EVERY)
    def test_a_task_of_any_kind_and_level_is_learnt(self, one: Task) -> None:
        net = task((one,), lr=0.02)
        metric = {"classes": "war", "multilabel": "macro_f1", "continuous": "ccc"}[one.space.kind]
        made = fit(net, [batch(32, seed) for seed in range(4)], [batch(32, 9)], epochs=8)
        assert made.callback_metrics[f"val/{metric}"] > 0.85

    def test_several_tasks_have_their_own_metrics_and_losses(self) -> None:
        made = fit(task(tuple(EVERY.values()), unimodal_weight=0.5), [batch()], [batch(seed=1)])
        found = made.callback_metrics
        for name in ("mood_war", "signs_macro_f1", "level_ccc", "moment_war", "course_ccc", "loss"):
            assert math.isfinite(found[f"val/{name}"]), name
        for name in ("loss_mood", "loss_course", "loss_mood_one", "loss_signs_two"):
            assert math.isfinite(found[f"train/{name}"]), name

    def test_the_weight_of_a_task_scales_its_loss(self) -> None:
        losses = {
            w: TestMissingLabels.loss(task((MOOD, LEVEL), task_weights={"level": w}), batch()) for w in (0.0, 1.0, 3.0)
        }
        assert losses[3.0] - losses[0.0] == pytest.approx(3 * (losses[1.0] - losses[0.0]))

    def test_a_run_in_half_precision_stays_finite(self) -> None:
        made = fit(task(tuple(EVERY.values()), unimodal_weight=0.5), [batch()] * 3, [batch()], precision="bf16-mixed")
        assert all(math.isfinite(v) for v in made.callback_metrics.values())
        assert all(p.dtype == torch.float32 for p in made.model.parameters())  # type: ignore[union-attr]

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        def weights() -> dict[str, Tensor]:
            net = task(seed=5, modality_dropout=0.3)
            fit(net, [batch()] * 3)
            return snapshot(net)

        first, second = weights(), weights()
        assert all(torch.equal(first[n], second[n]) for n in first)

    def test_a_gradient_is_clipped_where_that_is_asked(self) -> None:
        norms = []

        class AtStep(pl.Callback):
            def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
                parts = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
                norms.append(float(torch.stack(parts).norm()))

        fit(task(), [batch()], callbacks=[AtStep()])
        fit(task(), [batch()], callbacks=[AtStep()], gradient_clip_val=0.01)
        assert norms[0] > 0.02
        assert norms[1] == pytest.approx(0.01, rel=1e-3)


class TestModalities:
    def test_heads_of_their_own_learn_from_the_clips_that_have_the_modality(self) -> None:
        clips = batch(4, present={"two": [True, True, False, False]})
        clips.inputs["two"].values.requires_grad_()
        net = task(unimodal_weight=1.0)
        before = snapshot(net)
        fit(net, [clips])
        gradient = clips.inputs["two"].values.grad
        assert gradient is not None
        assert (gradient.abs().amax((1, 2)) > 0).tolist() == [True, True, False, False]
        assert {f"unimodal_heads.mood.{m}.weight" for m in ("one", "two")} <= changed(net, before)

    def test_a_modality_that_no_clip_has_stays_as_it_is(self) -> None:
        net = task(unimodal_weight=1.0, weight_decay=0.0)
        before = snapshot(net)
        made = fit(net, [batch(4, present={"two": [False] * 4})])
        assert math.isfinite(made.callback_metrics["train/loss"])
        assert not {n for n in changed(net, before) if ".two." in n and not n.startswith("unimodal")}

    def test_hiding_modalities_leaves_one_to_every_clip(self) -> None:
        left: list[Tensor] = []

        class Listening(Concat):
            def forward(self, tokens: dict[str, Tokens]) -> Any:
                left.append(torch.stack([t.present for t in tokens.values()], 1))
                return super().forward(tokens)

        net = task(fusion=lambda dims: Listening(dims, 8), modality_dropout=0.9)
        fit(net, [batch(32)] * 4, [batch(8)])
        training, validating = left[:-1], left[-1]
        assert torch.cat(training).any(1).all()
        assert torch.cat(training).float().mean() < 0.7
        assert validating.all()


class TestMistakes:
    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_a_loss_that_is_not_finite_stops_with_the_clips(self, precision: Any) -> None:
        clips = batch(3)
        clips.inputs["one"].values[1, 0, 0] = float("nan")
        with pytest.raises(UserError, match=r"the loss became nan in epoch 0 on clips clip0, clip1, clip2.*model\.lr"):
            fit(task(), [clips], precision=precision)

    def test_a_batch_of_unreadable_clips_is_passed_over(self) -> None:
        nothing = Batch(
            [],
            {m: Sampled(s.values[:0], s.mask[:0], s.spans[:0]) for m, s in batch().inputs.items()},
            {},
            torch.zeros(0, 0),
        )
        net = task(weight_decay=0.0)
        before = snapshot(net)
        fit(net, [nothing], [nothing])
        assert changed(net, before) == set()

    def test_a_loss_for_another_kind_of_task_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"MSE does not fit task 'mood' \(classes\)"):
            task(losses={"mood": MSE()})
        assert isinstance(task(losses={"mood": Focal()}).losses["mood"], CrossEntropy)

    @pytest.mark.parametrize("option", ["losses", "task_weights"])
    def test_an_unknown_task_is_named_with_the_known_ones(self, option: str) -> None:
        value = {"losses": MSE(), "task_weights": 2.0}[option]
        with pytest.raises(UserError, match=r"unknown task 'feeling'. Use mood"):
            task(**{option: {"feeling": value}})


class TestLossesKnowTheTrainingRows:
    class Data(pl.LightningDataModule):
        def class_counts(self) -> dict[str, list[float]]:
            return {"mood": [30.0, 10.0]}

        def train_inputs(self, modality: str) -> list[Sampled]:
            return [batch(16, seed).inputs[modality] for seed in range(2)]

        @property
        def split(self) -> Any:
            labels = [{"mood": [0.0]}] * 30 + [{"mood": [1.0]}] * 10 + [{"mood": None}] * 5
            clip = type("Clip", (), {})
            rows = [clip() for _ in labels]
            for row, label in zip(rows, labels, strict=True):
                row.labels = label
            return type("Split", (), {"train": rows})

        def train_dataloader(self) -> DataLoader[Batch]:
            return loader([batch()])

    def test_class_weights_and_column_statistics_come_from_the_training_rows(self) -> None:
        net = task(losses={"mood": CrossEntropy(balanced=True)})
        trainer().fit(net, self.Data())
        assert net.losses["mood"].weight.tolist() == pytest.approx([2 / 3, 2.0])
        columns = torch.cat([s.values.flatten(0, 1) for s in self.Data().train_inputs("one")])
        torch.testing.assert_close(net.model.encoders["one"].mean, columns.mean(0), atol=1e-5, rtol=1e-5)
