"""`mer compare-fusions`: every fusion with the same config, seeds and rows; mean, interval, paired test, parameters, cost."""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from mer import checkpoint, per_fold
from mer.datasets.manifest import Manifest
from mer.errors import UserError
from mer.evaluation import Evaluation, Scores
from mer.evaluation.bootstrap import Comparison, paired_bootstrap
from mer.evaluation.compare import DEFAULT
from mer.evaluation.metrics import LOWER_IS_BETTER
from mer.evaluation.summary import evaluate, number, show, title
from mer.experiments import recipe
from mer.experiments.crossval import manifest_of
from mer.experiments.training import Run, open_test, parse, train
from mer.files import draft_of, replacing, write_text
from mer.fusion.base import Fusion
from mer.model import EmotionModel
from mer.runs import environment, write_json
from mer.shipped import shipped
from mer.tokens import Tokens

REFERENCE = "concat"
_TIMED = 20  # forward passes of which the median counts


@dataclass(frozen=True)
class Entry:
    """One line of the zoo."""

    name: str
    class_path: str
    init_args: dict[str, Any]


@dataclass(frozen=True)
class Division:
    """One way to divide rows into training and test: a manifest's split, or one of its folds; and the folder of its runs."""

    manifest: Path
    fold: str | None
    folder: str


@dataclass(frozen=True)
class Cost:
    """What the fusion alone costs, measured on the tokens of one test clip.

    Attributes:
        parameters: number of weights of the fusion (encoders and heads are the same for all).
        gmacs: billions of multiply-adds of a forward pass.
        milliseconds: median time of a forward pass in eval mode on the CPU.
    """

    parameters: int
    gmacs: float
    milliseconds: float


@dataclass(frozen=True)
class Row:
    """The result of one fusion on one task."""

    name: str
    evaluation: Evaluation
    per_seed: tuple[float, ...]
    of_folds: float
    folds: int
    versus: Comparison | None
    cost: Cost


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "mer compare-fusions",
        description="Train every fusion with one config and several seeds, score them on the test split or on the folds, and"
        " compare each with concatenation on the same clips. What is done is left alone: the same command goes on.",
        epilog="Every further --key value overrides the config, as in mer fit.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="append", required=True, help="YAML as for mer fit; may be given several times"
    )
    parser.add_argument(
        "--data.manifest",
        dest="manifest",
        nargs="+",
        help="manifest.csv (default: the config's); several are folds of one corpus",
    )
    parser.add_argument("--fusions", nargs="+", default=["all"], help="names from the zoo (default: all)")
    parser.add_argument("--zoo", type=Path, help="YAML of name: {class_path, init_args} (default: the shipped one)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each fusion, with seeds from 0 (3)")
    parser.add_argument("--folds", nargs="+", help="score these folds, or 'all', in place of the test split")
    parser.add_argument("--metric", help="the one that is shown (war for classes, ccc for continuous tasks)")
    parser.add_argument("--recommend", help="the fusion that is recommended, named before the test rows are opened")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and tables")
    options, overrides = parser.parse_known_args(argv)
    per_fold.refuse(options.out, "--out")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}", "Use at least 1")
    entries = chosen(options.zoo or shipped("configs") / "compare" / "fusions.yaml", options.fusions)
    manifests = [Manifest.read(path) for path in options.manifest or [manifest_of(options.config)]]
    manifest = manifests[0]
    divisions = [Division(m.path, None, m.path.parent.name if len(manifests) > 1 else "") for m in manifests]
    if options.folds:
        names = manifest.folds if options.folds == ["all"] else options.folds
        divisions = [Division(manifest.path, fold, f"fold{fold}") for fold in names]
    if options.recommend and options.recommend not in {e.name for e in entries}:
        raise UserError(f"--recommend {options.recommend!r} is not among the fusions", "Name one that is compared")
    base = [part for config in options.config for part in ("--config", config)]
    base += overrides
    _named_beforehand(options.out, options.recommend)

    results: dict[str, dict[str, list[Scores]]] = {}
    costs: dict[str, Cost] = {}
    left_out: dict[str, str] = {}
    for entry in entries:
        for seed in range(options.seeds):
            for division in divisions:
                try:
                    run = _run(base, entry, seed, division, options.out)
                except UserError as error:
                    if " takes " not in error.problem or " modalities, not " not in error.problem:
                        raise
                    left_out[entry.name] = error.problem  # say, TFN with four modalities
                    break
                scored, cost = _scored(run)
                for task, scores in scored.items():
                    results.setdefault(task, {}).setdefault(entry.name, []).append(scores)
                costs.setdefault(entry.name, cost)
            if entry.name in left_out:
                break
    if not results:
        raise UserError(f"no fusion is left to compare: {'; '.join(left_out.values())}", "Name others with --fusions")
    for task, by_name in results.items():
        table = rows(by_name, costs, options.metric)
        _write(options.out, task, table, options, left_out, base, manifest)
    return 0


def _named_beforehand(out: Path, recommend: str | None) -> None:
    """Keep what was recommended before the first test row was opened.

    Raises:
        UserError: rows were opened under another recommendation, or under none.
    """
    path = out / "recommended.json"
    if any(out.glob("*/seed*/**/scores_*.csv")):
        before = json.loads(path.read_text(encoding="utf-8")).get("recommended") if path.is_file() else None
        if before != recommend:
            raise UserError(
                f"{out}: test rows were opened with --recommend {before}, which is not {recommend}",
                "Leave the flag as it was; what is recommended now has seen the test rows"
                if before
                else "Leave the flag out, or compare into another folder",
            )
    write_json(path, {"recommended": recommend, "named": "before scoring"})


def chosen(path: Path, names: Sequence[str]) -> list[Entry]:
    """The lines of a zoo that are wanted, in its order.

    Raises:
        UserError: not a zoo, or a name that is not in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        zoo = [Entry(str(n), str(c["class_path"]), dict(c.get("init_args") or {})) for n, c in content.items()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a list of fusions ({error})", "Write NAME: {class_path: ..., init_args: ...}"
        ) from None
    if list(names) == ["all"]:
        return zoo
    unknown = [name for name in names if name not in {entry.name for entry in zoo}]
    if unknown:
        raise UserError(f"{path} has no fusion {unknown[0]!r}", f"It has {', '.join(e.name for e in zoo)}")
    return [entry for entry in zoo if entry.name in names]


def _run(base: Sequence[str], entry: Entry, seed: int, division: Division, out: Path) -> Run:
    folder = out / entry.name / f"seed{seed}" / division.folder
    init_args = {k: v for k, v in _inherited(base).items() if k in _accepted(entry.class_path)} | entry.init_args
    fusion = json.dumps({"class_path": entry.class_path, "init_args": init_args})
    arguments = [*base, "--data.manifest", str(division.manifest), "--model.fusion", fusion]
    arguments += ["--seed_everything", str(seed), "--out", str(folder)]
    if division.fold is not None:
        arguments += ["--data.fold", division.fold]
    return parse(arguments, "compare-fusions")


def _accepted(class_path: str) -> set[str]:
    """Names of the arguments of a class; none where there is no such class, which the parser then says."""
    module, _, name = class_path.rpartition(".")
    try:
        return set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return set()


def _inherited(base: Sequence[str]) -> dict[str, Any]:
    """Width, dropout and clock of the fusion in the config: the same for all, unless a line of the zoo says otherwise."""
    found: dict[str, Any] = {}
    for flag, value in itertools.pairwise(base):
        if flag == "--config":
            model = (yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {}).get("model") or {}
            given = (model.get("fusion") or {}) if isinstance(model.get("fusion"), dict) else {}
            found |= {k: v for k, v in (given.get("init_args") or {}).items() if k in ("dim", "dropout", "clock_rate")}
    return found


def _scored(run: Run) -> tuple[dict[str, Scores], Cost]:
    """Scores and cost of one training: read where they are there, else from the trained model, else from training it."""
    folder = run.folder
    done, price = {name: folder.scores(name) for name in run.data.tasks}, folder.path / "cost.json"
    if folder.model.exists():
        recipe.check(folder.path, run.config, run.data.rows)
        if all(path.exists() for path in (*done.values(), price)):
            found = {name: Scores.read(path) for name, path in done.items()}
            return found, Cost(**json.loads(price.read_text(encoding="utf-8")))
        run.task.model, _ = checkpoint.load(folder.model, run.allow_modules)
    else:
        print(f"{folder.path}: {len(run.data.split.train)} training clips")
        pl.seed_everything(run.seed, verbose=False)
        train(run)
    scores = open_test(run, "compare-fusions")
    cost = cost_of(run)
    write_json(price, asdict(cost))
    return scores, cost


@torch.no_grad()
def cost_of(run: Run) -> Cost:
    """Cost of the fusion of a run, on the tokens of one test clip."""
    model: EmotionModel = run.task.model.eval().cpu()
    batch = next(batch for batch in run.data.test_dataloader() if len(batch)).in_float32()
    alone = {m: type(x)(x.values[:1], x.mask[:1], x.spans[:1]) for m, x in batch.inputs.items()}
    return measured(model.fusion, model.tokens(alone))


@torch.no_grad()
def measured(fusion: Fusion, tokens: dict[str, Tokens]) -> Cost:
    """Parameters, multiply-adds and time of a fusion, which is of no further use for training."""
    parameters = sum(p.numel() for p in fusion.parameters())
    fusion.eval().requires_grad_(False)  # the counter of operations follows gradients, where there are any
    with FlopCounterMode(display=False) as counter:
        fusion(tokens)
    times = []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        fusion(tokens)
        times.append(time.perf_counter() - begun)
    return Cost(parameters, counter.get_total_flops() / 2e9, 1e3 * float(np.median(times)))


def rows(by_name: dict[str, list[Scores]], costs: dict[str, Cost], metric: str | None = None) -> list[Row]:
    """One row per fusion, the best first; every one is compared with concatenation where that is among them."""
    pooled = {name: Scores.concat(parts) for name, parts in by_name.items()}
    space = next(iter(pooled.values())).space
    shown = metric or {"classes": "war"}.get(space.kind, DEFAULT[space.kind])
    found = []
    for name, scores in pooled.items():
        by_seed = [scores.select(np.asarray(scores.seed) == seed) for seed in dict.fromkeys(scores.seed)]
        values = tuple(evaluate(part, draws=1).metrics[shown].value for part in by_seed)
        versus = (
            None if name == REFERENCE or REFERENCE not in pooled else paired_bootstrap(scores, pooled[REFERENCE], shown)
        )
        folds = [evaluate(part, draws=1).metrics[shown].value for part in by_name[name]]
        found.append(
            Row(name, evaluate(scores), values, float(np.mean(folds)), len(folds) // len(values), versus, costs[name])
        )
    return sorted(found, key=lambda row: row.evaluation.metrics[shown].value, reverse=shown not in LOWER_IS_BETTER)


def _write(
    out: Path,
    task: str,
    table: list[Row],
    options: argparse.Namespace,
    left_out: dict[str, str],
    base: Sequence[str],
    manifest: Manifest,
) -> None:
    """CSV, Markdown, picture and JSON of one task."""
    space = table[0].evaluation.space
    metric = options.metric or {"classes": "war"}.get(space.kind, DEFAULT[space.kind])
    with replacing(out / f"fusions_{task}.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        ends = ("low", "high", "seeds", "mean_of_folds", "difference", "difference_low", "difference_high", "p")
        writer.writerow(["fusion", metric, *ends, "parameters", "gmacs", "milliseconds"])
        writer.writerows([_cells(row, metric) for row in table])
    text = _markdown(task, table, metric, options.recommend, left_out, manifest)
    write_text(out / f"fusions_{task}.md", text)
    _picture(out / f"fusions_{task}.png", table, metric, options.recommend, f"{manifest.corpus.name}: {task}")
    record = {
        "schema": "mer-compare-fusions", "schema_version": 1, "corpus": manifest.corpus.name, "task": task,
        "metric": metric, "recommended": options.recommend, "left_out": left_out, "arguments": list(base),
        "environment": environment(),
    }  # fmt: skip
    write_json(out / f"fusions_{task}.json", record)
    print(text)


def _cells(row: Row, metric: str) -> list[object]:
    value = row.evaluation.metrics[metric]
    gap = row.versus.difference if row.versus else None
    ends = (value.interval.low, value.interval.high) if value.interval else ("", "")
    apart = (gap.interval.low, gap.interval.high) if gap and gap.interval else ("", "")
    return [
        row.name, value.value, *ends, ";".join(f"{v:.6f}" for v in row.per_seed), row.of_folds,
        gap.value if gap else "", *apart,
        "" if row.versus is None or row.versus.p_value is None else row.versus.p_value,
        row.cost.parameters, row.cost.gmacs, row.cost.milliseconds,
    ]  # fmt: skip


def _markdown(
    task: str,
    table: list[Row],
    metric: str,
    recommend: str | None,
    left_out: dict[str, str],
    manifest: Manifest,
) -> str:
    space = table[0].evaluation.space
    seeds, folds = len(table[0].per_seed), table[0].folds > 1
    many = f"{seeds} seed{'s' * (seeds > 1)}" + f" and {table[0].folds} folds" * folds
    lines = [
        f"{title(metric)} of {task} ({space.name}), {manifest.corpus.name}: pooled over {many}, with its 95 % interval;"
        f" lowest and highest seed;{' mean over folds and seeds;' * folds} difference from `{REFERENCE}` on the same clips;"
        " what the fusion alone costs for one clip on this CPU.",
        "",
        f"| fusion | {title(metric)} | seeds |{' mean of folds |' * folds} against {REFERENCE} | parameters | GMACs | ms |",
        f"| --- | --- | --- |{' --- |' * folds} --- | --- | --- | --- |",
    ]
    for row in table:
        name = f"**{row.name}**" if row.name == recommend else row.name
        spread = f"{number(min(row.per_seed), space)} to {number(max(row.per_seed), space)}"
        against = ""
        if row.versus is not None:
            p = row.versus.p_value
            against = number(row.versus.difference.value, space, sign=True)
            against += "" if p is None else f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        lines.append(
            f"| {name} | {show(row.evaluation.metrics[metric], space)} | {spread} |"
            f"{f' {number(row.of_folds, space)} |' * folds} {against} |"
            f" {row.cost.parameters:,} | {row.cost.gmacs:.4f} | {row.cost.milliseconds:.2f} |"
        )
    if recommend:
        lines += ["", f"Recommended before the test rows were opened: {recommend}."]
    lines += [f"Left out: {name} ({why})." for name, why in left_out.items()]
    return "\n".join(lines) + "\n"


def _picture(path: Path, table: list[Row], metric: str, recommended: str | None, heading: str) -> None:
    """Points with intervals, the best on top; seeds as small dots, the recommended one a diamond."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    space = table[0].evaluation.space
    scale = 1.0 if space.kind == "continuous" else 100.0
    figure, axes = pyplot.subplots(figsize=(7, 0.32 * len(table) + 1.2), layout="constrained")
    for place, row in enumerate(reversed(table)):
        value = row.evaluation.metrics[metric]
        colour = "#b5451f" if row.name == REFERENCE else "#1f5fa8"
        if value.interval:
            axes.plot([scale * value.interval.low, scale * value.interval.high], [place, place], color=colour, lw=1.2)
        axes.plot([scale * v for v in row.per_seed], [place] * len(row.per_seed), ".", color=colour, alpha=0.45, ms=4)
        axes.plot(scale * value.value, place, "D" if row.name == recommended else "o", color=colour, ms=5)
    reference = next((row for row in table if row.name == REFERENCE), None)
    if reference is not None:
        axes.axvline(scale * reference.evaluation.metrics[metric].value, color="#b5451f", lw=0.8, ls=":")
    axes.set_yticks(range(len(table)), [row.name for row in reversed(table)])
    axes.set_title(heading, loc="left", fontsize="medium", fontweight="bold")
    unit = "" if space.kind == "continuous" else ", percent"
    legend = f"line: 95 % interval; small dots: seeds; dotted: {REFERENCE}" + "; diamond: recommended" * bool(
        recommended
    )
    axes.set_xlabel(f"{title(metric)}{unit}")
    figure.supxlabel(legend, fontsize="x-small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", lw=0.3)
    with draft_of(path) as draft:
        figure.savefig(draft, dpi=150, format="png")
    pyplot.close(figure)
