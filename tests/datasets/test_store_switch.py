"""`data.store`: one key takes a fit from media to cached tokens; the tokens, the loss and the scores stay what they were."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from mer import checkpoint
from mer.datasets.clips import Batch, Collate, stack_tokens
from mer.datasets.source import between
from mer.datasets.store import Store
from mer.errors import UserError
from mer.experiments.training import Run, parse
from mer.fusion import AttentionPool
from mer.model import EmotionModel
from mer.task import EmotionTask
from mer.tokens import Sampled, Tokens

BOTH = {"encoders.video": -1, "encoders.audio": -1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A copy of the tiny corpus, so that its store is written once for this module."""
    folder = tmp_path_factory.mktemp("switch") / "corpus"
    shutil.copytree(tiny_corpus, folder)
    return folder


@pytest.fixture(scope="module")
def config(corpus: Path) -> Path:
    return tiny.config(corpus.parent / "frozen.yaml", corpus, **{"model.freeze": BOTH})


@pytest.fixture(scope="module")
def store(corpus: Path, config: Path) -> Path:
    """Tokens of both frozen encoders in float32. Tests only read it."""
    shared = ("--manifest", corpus / "manifest.csv", "--store", corpus.parent / "S", "--dtype", "float32")
    assert tiny.mer("extract", "--config", config, *shared) == 0
    return corpus.parent / "S"


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row.get("train/loss")]


def fit(config: Path, out: Path, *more: object, fold: str = "0") -> int:
    return tiny.mer("fit", "--config", config, "--out", out, "--data.fold", fold, *more)


def parsed(config: Path, out: Path, *more: str) -> Run:
    return parse(["--config", str(config), "--out", str(out), "--data.fold", "0", *more], "fit")


def first_batch(run: Run) -> Batch:
    run.data.trainer = run.trainer
    run.trainer.strategy.connect(run.task)
    run.data.setup("fit")
    batch = next(iter(run.data.train_dataloader()))
    assert isinstance(batch, Batch)
    return batch


class TestTheSameNumbers:
    def test_tokens_are_those_of_the_frozen_encoders(self, config: Path, store: Path, tmp_path: Path) -> None:
        raw = parsed(config, tmp_path / "a")
        kept = parsed(config, tmp_path / "b", "--data.store", str(store))
        one, two = first_batch(raw), first_batch(kept)
        assert one.clip_ids == two.clip_ids
        raw.task.eval()
        for modality, encoder in raw.task.model.encoders.items():
            stored = two.inputs[modality]
            assert isinstance(stored, Tokens)
            with torch.no_grad():
                made = encoder(one.inputs[modality])
            assert torch.equal(stored.mask, made.mask)
            torch.testing.assert_close(stored.zeroed(), made.zeroed(), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(stored.spans[stored.mask], made.spans[made.mask])

    def test_losses_and_scores_are_the_same(self, config: Path, store: Path, tmp_path: Path) -> None:
        for name, more in (("raw", ()), ("kept", ("--data.store", store))):
            assert fit(config, tmp_path / name, "--trainer.max_epochs", 3, *more) == 0
        assert len(losses(tmp_path / "raw")) == 3
        assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "raw"), abs=1e-5)
        for name in ("raw", "kept"):
            assert tiny.mer("test", "--config", tmp_path / name / "config.yaml", "--out", tmp_path / name) == 0
        tables = []
        for name in ("raw", "kept"):
            lines = (tmp_path / name / "scores_emotion.csv").read_text(encoding="utf-8").splitlines()
            rows = csv.DictReader(line for line in lines if not line.startswith("#"))
            tables.append([{k: float(v) for k, v in row.items() if k.startswith("p_")} for row in rows])
        for one, two in zip(*tables, strict=True):
            assert one == pytest.approx(two, abs=1e-5)

    def test_half_precision_is_close(self, corpus: Path, config: Path, tmp_path: Path) -> None:
        shared = ("--manifest", corpus / "manifest.csv", "--store", tmp_path / "S")
        assert tiny.mer("extract", "--config", config, *shared) == 0
        assert tiny.mer("store", "pack", "--store", tmp_path / "S") == 0
        assert fit(config, tmp_path / "raw") == 0
        assert fit(config, tmp_path / "kept", "--data.store", tmp_path / "S") == 0
        assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "raw"), abs=1e-3)

    def test_a_trained_model_is_whole_without_the_store(
        self, corpus: Path, config: Path, store: Path, tmp_path: Path
    ) -> None:
        assert fit(config, tmp_path / "r", "--data.store", store) == 0
        clip = next(corpus.rglob("*.mp4"))
        model = tmp_path / "r" / "model.safetensors"
        assert tiny.mer("predict", clip, "--checkpoint", model, "--out", tmp_path / "p") == 0

    def test_cross_validation_reads_it_in_every_fold(self, config: Path, store: Path, tmp_path: Path) -> None:
        manifest = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["manifest"]
        shared = ("--config", config, "--data.manifest", manifest, "--folds", "0", "1")
        assert tiny.mer("crossval", *shared, "--out", tmp_path / "raw") == 0
        assert tiny.mer("crossval", *shared, "--out", tmp_path / "kept", "--data.store", store) == 0
        one, two = ((tmp_path / n / "scores_emotion.csv").read_text(encoding="utf-8") for n in ("raw", "kept"))
        assert len(one.splitlines()) == len(two.splitlines())


class TestWhereTokensComeFrom:
    def test_it_is_said_in_one_line(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        freeze = '{"encoders.video": -1}'
        assert fit(config, tmp_path / "r", "--data.store", store, "--model.freeze", freeze) == 0
        [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("tokens:")]
        assert f"video from {store}/video-" in line and "audio from media" in line

    def test_a_crop_cuts_tokens(self, config: Path, store: Path, tmp_path: Path) -> None:
        run = parsed(config, tmp_path / "r", "--data.store", str(store), "--data.crop", "0.5")
        batch = first_batch(run)
        raw = first_batch(parsed(config, tmp_path / "q", "--data.crop", "0.5"))
        for modality, tokens in batch.inputs.items():
            last = tokens.lengths - 1
            length = tokens.spans[range(len(tokens)), last, 1] - tokens.spans[:, 0, 0]
            assert float(length.max()) <= 0.5 + 0.25 and tokens.mask.shape[1] > 1
            begin = raw.inputs[modality].spans[:, 0, 0]
            assert float((tokens.spans[:, 0, 0] - begin).abs().max()) <= 0.25  # the same stretch, to a token

    def test_no_frozen_encoder_is_an_error(
        self, tiny_config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fit(tiny_config, tmp_path / "r", "--data.store", store) == 2
        assert "model.freeze: {encoders.video: -1}" in tiny.one_line(capsys.readouterr().err)

    def test_an_encoder_that_thaws_is_not_frozen(self, config: Path, store: Path, tmp_path: Path) -> None:
        task = tiny_task(freeze={"encoders": -1, "encoders.video": 3, "encoders.audio.flatten": 0})
        assert task.frozen == []
        assert tiny_task(freeze={"encoders": -1, "encoders.video": 3}).frozen == ["audio"]
        assert tiny_task(freeze=BOTH).frozen == ["video", "audio"]

    def test_a_missing_shelf_names_what_differs_and_the_command_that_makes_it(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "S"
        shutil.copytree(store, own)
        change = ("--data.store", own, "--model.encoders.video.init_args.rate", 5)
        assert fit(config, tmp_path / "r", *change) == 2
        line = tiny.one_line(capsys.readouterr().err)
        assert "spec.rate 4 instead of 5" in line
        command = shlex.split(line.split("Run '")[1].rpartition("'")[0])
        assert tiny.mer(*command[1:], "--dtype", "float32") == 0
        # The rate changes no number that is drawn, so the shelf of the audio still fits.
        assert fit(config, tmp_path / "r", *change) == 0

    def test_other_weights_are_another_shelf(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fit(config, tmp_path / "r", "--data.store", store, "--seed_everything", 5) == 2
        assert "made with weights (other values)" in tiny.one_line(capsys.readouterr().err)

    def test_for_a_checkpoint_with_other_weights_the_command_takes_them_from_it(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "S"
        shutil.copytree(store, own)
        assert fit(config, tmp_path / "r", "--seed_everything", 5) == 0
        test = ("test", "--config", tmp_path / "r" / "config.yaml", "--seed_everything", 0, "--data.store", own)
        weights = tmp_path / "r" / "model.safetensors"
        shared = ("--checkpoint", weights, "--out", tmp_path / "r", "--data.fold", "0")
        capsys.readouterr()
        for modality in ("video", "audio"):
            assert tiny.mer(*test, *shared) == 2
            line = tiny.one_line(capsys.readouterr().err)
            command = shlex.split(line[line.index("'mer extract") :].strip("'."))
            assert command[-1] == modality and str(weights) in command
            assert tiny.mer(*command[1:]) == 0
        assert tiny.mer(*test, *shared) == 0
        of_it = ("--manifest", config.parent / "corpus" / "manifest.csv", "--checkpoint", weights)
        assert tiny.mer("store", "check", "--store", own, *of_it) == 1  # foreign: the shelves of the config
        assert "missing" not in capsys.readouterr().out.rpartition("shelf  ")[2]

    def test_missing_items_are_counted_and_can_be_left_out(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "S"
        shutil.copytree(store, own)
        shelf = next(s for s in Store(own).shelves() if s.modality == "video")
        shelf.remove(sorted(shelf.ids())[:6])
        assert fit(config, tmp_path / "r", "--data.store", own) == 2
        line = tiny.one_line(capsys.readouterr().err)
        assert "clips have no tokens that can be used" in line and "mer extract --config" in line
        assert fit(config, tmp_path / "q", "--data.store", own, "--data.skip_errors", "true") == 0
        assert "clip(s) were left out" in capsys.readouterr().out

    def test_failed_items_say_why(
        self, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "S"
        shutil.copytree(store, own)
        shelf = Store(own).shelves()[0]
        for item in sorted(shelf.ids()):
            note = shelf.note(item)
            shelf.remove([item])
            shelf.fail(note, UserError("it was cursed", "Lift the curse"))
        assert fit(config, tmp_path / "r", "--data.store", own) == 2
        line = tiny.one_line(capsys.readouterr().err)
        assert "it was cursed" in line and "--retry-failed" in line

    def test_changed_media_are_noticed_and_absent_media_trusted(
        self, corpus: Path, config: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "corpus"
        shutil.copytree(corpus, own)
        shared = ("--data.store", store, "--data.manifest", own / "manifest.csv")
        assert fit(config, tmp_path / "a", *shared) == 0
        films = sorted(own.rglob("*.mp4"))
        for film in films:
            film.write_bytes(film.read_bytes() + b"\0")
        assert fit(config, tmp_path / "b", *shared) == 2
        assert "another file than the one" in tiny.one_line(capsys.readouterr().err)
        for film in films:
            film.unlink()
        assert fit(config, tmp_path / "c", *shared) == 0

    def test_a_folder_that_is_no_store_is_one_line(
        self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fit(config, tmp_path / "r", "--data.store", tmp_path) == 2
        assert "not a feature store" in tiny.one_line(capsys.readouterr().err)


def tiny_task(**options: Any) -> EmotionTask:
    fusion = lambda dims: AttentionPool(dims, 8)  # noqa: E731
    return EmotionTask(tiny.encoders(), {"emotion": tiny.EMOTION}, fusion=fusion, **options)


class TestWeights:
    def test_an_encoder_begins_with_those_of_a_checkpoint(self, tiny_checkpoint: Path) -> None:
        model, _ = checkpoint.load(tiny_checkpoint)
        task = tiny_task(encoder_weights={"video": str(tiny_checkpoint)})
        theirs, ours = model.encoders["video"].state_dict(), task.model.encoders["video"].state_dict()
        assert all(torch.equal(theirs[k], ours[k]) for k in theirs)
        assert not torch.equal(
            model.encoders["audio"].flatten[1].weight, task.model.encoders["audio"].flatten[1].weight
        )  # type: ignore[index, union-attr]

    @pytest.mark.parametrize(
        ("weights", "named"),
        [
            ({"smell": "x.safetensors"}, "'smell'"),
            ({"video": "nowhere.safetensors"}, "nowhere.safetensors"),
        ],
    )
    def test_a_mistake_is_named(self, weights: dict[str, str], named: str) -> None:
        with pytest.raises(UserError, match=named):
            tiny_task(encoder_weights=weights)

    def test_another_architecture_is_refused(self, tiny_checkpoint: Path) -> None:
        from mer.encoders import FrameCNN, MelNet

        with pytest.raises(UserError, match="built another way"):
            checkpoint.load_encoder(tiny_checkpoint, "video", FrameCNN(16, rate=4, size=16, channels=(4, 4)))
        with pytest.raises(UserError, match="built another way"):
            checkpoint.load_encoder(tiny_checkpoint, "video", MelNet(8, bands=16, channels=(4, 4), halvings=2))

    def test_a_run_with_them_goes_on_after_an_interruption(
        self, corpus: Path, tiny_checkpoint: Path, tmp_path: Path
    ) -> None:
        weights = {name: str(tiny_checkpoint) for name in tiny.ENCODERS}
        changes = {"model.freeze": BOTH, "model.encoder_weights": weights, "trainer.max_epochs": 1}
        config = tiny.config(tmp_path / "c.yaml", corpus, **changes)
        shared = ("--manifest", corpus / "manifest.csv", "--store", tmp_path / "S", "--dtype", "float32")
        assert tiny.mer("extract", "--config", config, *shared) == 0
        assert fit(config, tmp_path / "r", "--data.store", tmp_path / "S") == 0
        (tmp_path / "r" / "model.safetensors").unlink()
        assert fit(config, tmp_path / "r", "--data.store", tmp_path / "S", "--trainer.max_epochs", 2) == 0
        trained, _ = checkpoint.load(tmp_path / "r" / "model.safetensors")
        given, _ = checkpoint.load(tiny_checkpoint)
        for name, tensor in given.encoders.state_dict().items():
            assert torch.equal(tensor, trained.encoders.state_dict()[name]), name

    def test_a_frozen_encoder_is_not_calibrated_and_stays_in_eval_mode(
        self, corpus: Path, config: Path, tmp_path: Path
    ) -> None:
        run = parsed(config, tmp_path / "r")
        before = {k: v.clone() for k, v in run.task.model.encoders.state_dict().items()}
        run.trainer.fit(run.task, run.data)
        after = run.task.model.encoders.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)

    def test_averaging_leaves_frozen_weights_alone(self, config: Path, store: Path, tmp_path: Path) -> None:
        averaging = [{"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}]
        plain = yaml.safe_load(config.read_text(encoding="utf-8"))
        plain["trainer"] |= {"callbacks": averaging, "max_epochs": 2}
        own = tmp_path / "c.yaml"
        own.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        assert fit(own, tmp_path / "r", "--data.store", store) == 0
        assert tiny.mer("test", "--config", tmp_path / "r" / "config.yaml", "--out", tmp_path / "r") == 0


class TestModel:
    def tokens(self, count: int, present: bool = True) -> Tokens:
        mask = torch.full((1, count), present)
        return Tokens(torch.randn(1, count, 8), mask, torch.arange(2.0 * count).view(1, count, 2))

    def test_given_tokens_are_taken_as_they_are(self) -> None:
        model = tiny.model()
        frames = Sampled(
            torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8),
            torch.ones((2, 4), dtype=torch.bool),
            torch.rand(2, 4, 2),
        )
        wave = Sampled(torch.rand(2, 8000) - 0.5, torch.ones((2, 8000), dtype=torch.bool), torch.rand(2, 8000, 2))
        with torch.no_grad():
            whole = model({"video": frames, "audio": wave})
            given = model({"video": model.encoders["video"](frames), "audio": wave})
        assert torch.equal(whole.logits["emotion"], given.logits["emotion"])

    def test_dropout_of_modalities_reaches_given_tokens(self) -> None:
        torch.manual_seed(0)
        model: EmotionModel = tiny.model(modality_dropout=0.9).train()
        inputs: dict[str, Sampled | Tokens] = {m: stack_tokens([self.tokens(3)] * 50, 8) for m in ("video", "audio")}
        seen = model(inputs).seen
        assert 0 < int(seen["video"].sum()) < 50
        assert bool((seen["video"] | seen["audio"]).all())

    def test_tokens_are_padded_on_the_right(self) -> None:
        one = Tokens(
            torch.ones(1, 2, 8, dtype=torch.float16), torch.ones((1, 2), dtype=torch.bool), torch.rand(1, 2, 2)
        )
        batch = stack_tokens([one, None, self.tokens(3)], 8)
        assert batch.values.dtype == torch.float32
        assert batch.mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
        assert bool((batch.values[1] == 0).all())
        assert stack_tokens([None], 8).values.shape == (1, 1, 8)

    def test_tokens_travel_in_the_dtype_of_the_store(self) -> None:
        half = self.tokens(3).to(torch.float16)
        batch = Batch(["a", "b"], {"video": stack_tokens([half, None], 8)}, {}, torch.zeros(2, 0))
        assert batch.inputs["video"].values.dtype == torch.float16
        taken = batch.in_float32().inputs["video"]
        assert taken.values.dtype == torch.float32
        assert torch.equal(taken.values[0].half(), half.values[0])

    def test_a_batch_without_a_readable_clip_is_empty(self) -> None:
        batch = Collate({"video": tiny.encoders()["video"].spec}, {"emotion": tiny.EMOTION}, {"video": 8})([])
        assert len(batch) == 0 and isinstance(batch.inputs["video"], Tokens)

    def test_a_stretch_of_tokens_goes_by_their_midpoints(self) -> None:
        spans = torch.tensor([[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]])
        tokens = Tokens(torch.arange(24.0).view(1, 3, 8), torch.ones((1, 3), dtype=torch.bool), spans)
        cut = between(tokens, 1.2, 3.0)
        assert isinstance(cut, Tokens)
        assert cut.spans[0].tolist() == [[1.0, 2.0], [2.0, 3.0]]
        assert between(tokens, 5.0, 6.0) is None
