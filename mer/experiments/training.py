"""`mer fit | validate | test`: LightningCLI reads the config, every key can be overridden, the run folder explains itself."""

from __future__ import annotations

import logging
import os
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mer import checkpoint, overlay, per_fold, preemption
from mer.callbacks import Preemption
from mer.datasets.datamodule import EmotionData
from mer.errors import UserError, need_extra
from mer.evaluation import Scores
from mer.evaluation.summary import evaluate
from mer.experiments import recipe
from mer.runs import RunFolder, file_hash, write_json
from mer.task import EmotionTask


class MerCLI(LightningCLI):
    """LightningCLI with a run folder and logger flags; the tasks go from the corpus into the model."""

    def __init__(self, *args: Any, trains: bool, **kwargs: Any):
        self.trains = trains
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, default=None, help="run folder (default: runs/<time>)")
        parser.add_argument("--tensorboard", type=bool, default=False, help="log to TensorBoard, too")
        parser.add_argument(
            "--wandb", type=bool, default=False, help="log to Weights & Biases, too; WANDB_MODE=offline works"
        )
        parser.add_argument(
            "--overlay", type=str | None, default=None, help="settings by class, e.g. configs/tiny.yaml (MER_OVERLAY)"
        )
        if not self.trains:
            parser.add_argument(
                "--checkpoint", type=str | None, default=None, help="model.safetensors (default: the run's)"
            )
        parser.add_argument(
            "--allow_module", "--allow-module", nargs="+", default=[], help="modules a checkpoint may name classes from"
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_same_seed)
        parser.link_arguments("data.tasks", "model.tasks", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        if (path := overlay.chosen(self.config.overlay)) is not None:
            overlay.lay(overlay.read(path), self.config)
            self.config.overlay = None  # the resolved config holds what it changed
            self.config = parser.parse_object(self.config)  # as if it had been written so
        if marked := per_fold.marked(self.config):
            fold = self.config.data.fold
            if fold is None:
                key, value = next(iter(marked.items()))
                raise UserError(f"{key} is {value!r}, but no fold is named", "Name one with --data.fold")
            per_fold.fill(self.config, str(fold))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer of the config, with the run folder, the loggers and the callbacks of every run."""
        config = self.config_init
        folder = run_folder(config.out)
        callbacks = list(config.trainer.callbacks or [])
        callbacks.append(Preemption(folder.checkpoints / "last.ckpt"))
        if config.trainer.enable_progress_bar:
            callbacks.append(TQDMProgressBar(leave=True))
        if not any(isinstance(c, ModelCheckpoint) for c in callbacks):
            filename, monitor = ("best", "val/loss") if self.datamodule.split.val else ("newest", None)
            callbacks.append(
                ModelCheckpoint(folder.checkpoints, filename, monitor, save_last=True, enable_version_counter=False)
            )
        # Evaluation writes score files; a logger would begin the metrics.csv of the training anew.
        own = self.trains and _loggers(folder.path, config.tensorboard, config.wandb)
        loggers = config.trainer.logger or own
        kwargs |= {"callbacks": callbacks, "logger": loggers, "default_root_dir": str(folder.path)}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(f"trainer: {error}", "Correct the keys under trainer") from None


def _same_seed(seed: int | bool) -> int:
    """One seed for weights, order, crops and inner split (`true`, Lightning's word for a random one, is 0 here)."""
    return 0 if isinstance(seed, bool) else seed


def run_folder(out: str | None) -> RunFolder:
    """The folder that was named, or a new one; one per process, all ranks of a job agree through MER_RUN."""
    if out is None:
        out = os.environ.setdefault("MER_RUN", f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    return RunFolder(Path(out))


def _loggers(folder: Path, tensorboard: bool, wandb: bool) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(str(folder), name="", version="")]
    if tensorboard:
        from pytorch_lightning.loggers import TensorBoardLogger

        try:
            loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version=""))
        except ModuleNotFoundError:
            raise need_extra("tensorboard", "tensorboard") from None
    if wandb:
        from pytorch_lightning.loggers import WandbLogger

        try:
            offline = os.environ.get("WANDB_MODE") == "offline"
            loggers.append(WandbLogger(name=folder.name, save_dir=str(folder), project="mer", offline=offline))
        except ModuleNotFoundError:
            raise need_extra("wandb", "wandb") from None
    return loggers


@dataclass
class Run:
    """A config made into objects.

    Attributes:
        people: subjects of the corpus that the encoders were fitted on in earlier runs, whose weights they begin with.
    """

    folder: RunFolder
    task: EmotionTask
    data: EmotionData
    trainer: pl.Trainer
    config: str
    seed: int
    checkpoint: Path | None
    allow_modules: Sequence[str]
    people: frozenset[str] = frozenset()


def parse(argv: Sequence[str], command: str) -> Run:
    """Read config and overrides; build model, data and trainer.

    Raises:
        UserError: an unknown key, a value that the parser or a class or the trainer refuses.
    """
    _calm()
    try:
        cli = _cli(argv, command)
    except (ArgumentError, ValueError, ArithmeticError, MisconfigurationException) as error:
        raise UserError(str(error) or type(error).__name__, f"See mer {command} --help") from None
    config, task, data = cli.config, cli.model, cli.datamodule
    assert isinstance(task, EmotionTask) and isinstance(data, EmotionData)
    people = _people_of_encoders(data, config.model.encoder_weights or {})
    return Run(
        run_folder(config.out),
        task,
        data,
        cli.trainer,
        cli.parser.dump(config, skip_none=True, skip_link_targets=True),
        _same_seed(config.seed_everything),
        Path(config.checkpoint) if config.get("checkpoint") else None,
        config.allow_module,
        people,
    )


def _cli(argv: Sequence[str], command: str) -> MerCLI:
    return MerCLI(
        EmotionTask,
        EmotionData,
        args=list(argv),
        trains=command not in ("validate", "test"),
        run=False,
        save_config_callback=None,  # RunFolder.record writes it
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={
            "logger": False,  # replaced by _loggers
            "enable_model_summary": False,
            "devices": 1,  # several only when asked for: four GPUs are another batch size, and so another recipe
            # Our sampler deals clips out to the processes itself; in evaluation every process sees every clip.
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 10,
            "gradient_clip_val": 1.0,
        },
        parser_kwargs={
            "prog": f"mer {command}",
            "description": None,
            "default_env": False,
            "exit_on_error": False,  # one line instead of the whole usage
        },
    )


def train(run: Run) -> Path:
    """Train, or go on with an interrupted run; leaves `model.safetensors` and returns its path.

    The exported weights are those of the lowest validation loss where there is a validation split, else the last ones
    (averaged, where the config averages).

    Raises:
        UserError: the run folder already holds a finished model.
    """
    folder, trainer = run.folder, run.trainer
    if folder.model.exists():
        raise UserError(f"{folder.path}: this run is finished", "Choose another --out, or delete the folder")
    if folder.last is not None:  # going on from other rows would train on what is tested
        recipe.check(folder.path, run.config, run.data.rows, but=("trainer.max_epochs", "trainer.callbacks"))
    if trainer.is_global_zero:
        folder.record(run.config, {"seed": run.seed, "data": run.data.describe()})
    resume = folder.last
    if resume is not None and trainer.is_global_zero:
        print(f"going on from {resume}")
        _keep_metrics(folder.path)
    try:
        trainer.fit(run.task, run.data, ckpt_path=None if resume is None else str(resume), weights_only=True)
    except RuntimeError as error:
        if resume is None or "loading state_dict" not in str(error):
            raise
        raise UserError(
            f"{resume}: the interrupted run had another model", "Choose another --out, or delete the folder"
        ) from None
    except MisconfigurationException as error:
        raise UserError(str(error), "Correct the config") from None
    except preemption.TimeIsUp:
        trainer.strategy.barrier()  # loader processes and loggers have ended everywhere before SLURM terminates the job
        if trainer.is_global_zero:
            preemption.requeue()
        raise
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        raise KeyboardInterrupt from None
    keeper = trainer.checkpoint_callback
    if isinstance(keeper, ModelCheckpoint) and keeper.monitor and keeper.best_model_path:
        run.task.load_state_dict(_saved(Path(keeper.best_model_path))["state_dict"])
    elif folder.last is not None and (last := _saved(folder.last))["global_step"] == trainer.global_step:
        # The same weights as in memory, but for a run that was cut off between its last step and here: Lightning then
        # leaves the averaging out, and the file has it.
        run.task.load_state_dict(last["state_dict"])
    if trainer.is_global_zero:
        own = {c.subject for c in (*run.data.split.train, *run.data.split.val) if c.subject}
        facts = {
            "corpus": run.data.manifest.corpus.name,
            "licence": run.data.manifest.corpus.licence,
            "fold": run.data.fold,
            "train_subjects": sorted(own | run.people),
            "rows": run.data.rows,
            "seed": run.seed,
            "epochs": trainer.current_epoch,
            "metrics": {k: round(float(v), 5) for k, v in trainer.callback_metrics.items()},
        }
        checkpoint.save(folder.model, run.task.model, facts)
        _list_skipped(run.data)
    return folder.model


def _saved(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return saved


def open_test(run: Run, command: str) -> dict[str, Scores]:
    """Score the test split with the model as it stands; counts the opening and writes one score file per task.

    Raises:
        UserError: several processes; each would score everything and write over the others.
    """
    if run.trainer.world_size > 1:
        raise UserError(f"mer {command} scores in one process", "Leave trainer.devices at 1; training may use several")
    if run.trainer.is_global_zero:
        run.folder.count_test_opening(command, run.data.describe())
    run.trainer.test(run.task, run.data, verbose=False)
    scores = _scores(run, "test")
    for name, table in scores.items():
        if run.trainer.is_global_zero:
            table.write(run.folder.scores(name))
    _list_skipped(run.data)
    return scores


def fit(argv: list[str]) -> int:
    """`mer fit --config C --data.manifest M [--out RUN]`: train a model; the same command goes on after an interruption."""
    run = parse(argv, "fit")
    path = train(run)
    if run.trainer.is_global_zero:
        folder = run.folder.path
        print(f"model: {path}\nopen the test split with: mer test --config {folder / 'config.yaml'} --out {folder}")
    return 0


def validate(argv: list[str]) -> int:
    """`mer validate --config C --checkpoint FILE`: score the validation split."""
    run = parse(argv, "validate")
    _load(run)
    run.trainer.validate(run.task, run.data, verbose=False)
    _show(run, _scores(run, "val"), "val")
    return 0


def test(argv: list[str]) -> int:
    """`mer test --config C --checkpoint FILE`: open the test split, count the opening, write scores and metrics."""
    run = parse(argv, "test")
    _load(run)
    _show(run, open_test(run, "test"), "test")
    return 0


def _load(run: Run) -> None:
    """Put the weights of a checkpoint into the run; it brings its own architecture."""
    path = run.checkpoint or run.folder.model
    model, description = checkpoint.load(path, run.allow_modules)
    _check_people(run.data, str(path), description["facts"])
    for name, task in run.data.tasks.items():
        theirs = model.tasks.get(name)
        if theirs is None or theirs.space != task.space or theirs.level != task.level:
            raise UserError(
                f"{path}: task {name!r} is not the one of {run.data.manifest.path}", "Use a fitting checkpoint"
            )
    run.task.model = model
    run.data.checkpoint = path


def _people_of_encoders(data: EmotionData, weights: Mapping[str, str]) -> frozenset[str]:
    """Subjects of this corpus that the given weights were fitted on; none of them may be tested, nor may a test row."""
    found: set[str] = set()
    for encoder, file in weights.items():
        facts = checkpoint.facts(Path(file))
        if facts is not None and facts.get("corpus") == data.manifest.corpus.name:
            _check_people(data, f"{file}: the encoder {encoder!r}", facts)
            found |= set(facts.get("train_subjects") or ())
    return frozenset(found)


def _check_people(data: EmotionData, what: str, facts: dict[str, Any]) -> None:
    """Nothing that was fitted on the test rows or people is scored on them; where the corpus allows the latter, the result
    says so.

    Args:
        data: what is to be scored.
        what: was fitted, for the message.
        facts: what its checkpoint says about the training.
    """
    corpus, split, fold = data.manifest.corpus, data.split, facts.get("fold")
    if facts.get("corpus") != corpus.name:
        return
    remedy = "Score it on the fold that it was not trained on; {fold} in a path stands for the fold that is run"
    shared = set(facts.get("train_subjects") or ()) & {c.subject for c in split.test}
    if shared and corpus.subject_disjoint == "true":
        raise UserError(
            f"{what} was trained on {len(shared)} of the test subjects (fold {fold!r}), for example"
            f" {sorted(shared)[0]!r}",
            remedy,
        )
    if facts.get("rows") == data.rows and None not in (fold, data.fold) and fold != data.fold:
        raise UserError(f"{what} was trained for fold {fold!r}, on the rows that fold {data.fold!r} tests", remedy)
    if not shared and (facts.get("train_subjects") or fold == data.fold):
        return
    stamp = f"the model was trained on {len(shared) or 'perhaps some'} of the test subjects"
    if stamp not in (split.stamp or ""):  # several encoders, and the model that they are in, have seen the same people
        data.split = replace(split, stamp="; ".join(filter(None, (split.stamp, stamp))))


def _scores(run: Run, split: str) -> dict[str, Scores]:
    clips = {clip.clip_id: clip for clip in run.data.manifest.clips}
    protocol = "; ".join(filter(None, (run.data.manifest.corpus.protocol, run.data.split.stamp)))
    weights = run.checkpoint or run.folder.model
    model = file_hash(weights) if weights.exists() else run.folder.path.name
    return {
        name: predictions.scores(clips, protocol, run.data.fold, split, run.seed, model)
        for name, predictions in run.task.predictions.items()
    }


def _show(run: Run, scores: dict[str, Scores], split: str) -> None:
    if not run.trainer.is_global_zero:
        return
    results = {name: evaluate(table, train_counts=train_counts(run.data, name)) for name, table in scores.items()}
    for evaluation in results.values():
        print(evaluation.table())
    write_json(run.folder.path / f"{split}.json", {name: result.to_dict() for name, result in results.items()})


def train_counts(data: EmotionData, task: str) -> dict[str, int] | None:
    """Class name to number of training clips, for the majority baseline; None for tasks without classes."""
    space = data.tasks[task].space
    counts = data.class_counts().get(task)
    if counts is None or space.kind != "classes":
        return None
    return {name: int(count) for name, count in zip(space.names, counts, strict=True)}


def _keep_metrics(folder: Path) -> None:
    """Put the metrics of the interrupted part aside; the logger begins a new file."""
    old = folder / "metrics.csv"
    if old.exists():
        number = 1 + len(list(folder.glob("metrics.part*.csv")))
        old.rename(folder / f"metrics.part{number}.csv")


def _list_skipped(data: EmotionData) -> None:
    if data.skipped:
        print(f"{len(data.skipped)} clip(s) were left out:")
        for clip_id, why in data.skipped.items():
            print(f"  {clip_id}: {why}")


_ADVICE = (
    "does not have many workers",
    "The number of training batches",
    "Experiment logs directory",
    "exists and is not empty",
    "Found .* module.s. in eval mode",
    "LeafSpec",
    "No device id is provided",
    "Checkpoint directory",
    "LightningCLI's args parameter",
    "Total length of",
    "sync_dist=True",
    "dataloader is not resumable",
    "The `srun` command is available",
)


def _calm() -> None:
    """Silence advice of the libraries that a user of mer can do nothing about."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _ADVICE:
        warnings.filterwarnings("ignore", message=f".*{text}.*")
