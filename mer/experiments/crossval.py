"""`mer crossval`: train and score every fold of a manifest. Interrupted, the same command goes on where it stopped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import yaml

from mer import checkpoint, per_fold
from mer.datasets.manifest import Manifest
from mer.errors import UserError
from mer.evaluation import Evaluation, Scores
from mer.evaluation.summary import Baseline, evaluate, number
from mer.experiments import recipe
from mer.experiments.training import Run, open_test, parse, train, train_counts
from mer.files import write_text
from mer.runs import RunFolder, environment, write_json

_METRICS = ("war", "uar", "macro_f1")


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "mer crossval",
        description="Train and score each fold of a manifest; all rows outside the fold are training rows.",
        epilog="Every further --key value overrides the config, as in mer fit; see mer fit --help.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="append", required=True, help="YAML as for mer fit; may be given several times"
    )
    parser.add_argument(
        "--data.manifest", dest="manifest", help="manifest.csv with a fold column (default: the config's)"
    )
    parser.add_argument("--folds", nargs="+", default=None, help="folds to run (default: all that occur)")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    options, overrides = parser.parse_known_args(argv)
    per_fold.refuse(options.out, "--out")
    options.manifest = options.manifest or manifest_of(options.config)
    manifest = Manifest.read(options.manifest)
    folds = options.folds or manifest.folds
    unknown = [fold for fold in folds if fold not in manifest.folds]
    if unknown or not folds:
        known = ", ".join(manifest.folds) or "none: the manifest needs a fold column"
        raise UserError(f"{manifest.path}: there is no fold {(unknown or ['at all'])[0]}", f"The folds are {known}")
    base = [part for config in options.config for part in ("--config", config)]
    base += ["--data.manifest", options.manifest, *overrides]

    results: dict[str, dict[str, Any]] = {}
    tables: dict[str, list[Scores]] = {}
    majorities: dict[str, list[int]] = {}
    for fold in folds:
        run = _run(base, fold, options.out / f"fold{fold}")
        scores = _fold(run)
        for name, table in scores.items():
            tables.setdefault(name, []).append(table)
            train_rows = train_counts(run.data, name)
            evaluation = evaluate(table, train_counts=train_rows)
            results.setdefault(name, {}).setdefault("folds", {})[fold] = evaluation
            if train_rows:
                commonest = list(train_rows).index(max(train_rows, key=train_rows.__getitem__))
                majorities.setdefault(name, []).extend([commonest] * len(table))
    for name, parts in tables.items():
        pooled = Scores.concat(parts)
        pooled.write(RunFolder(options.out).scores(name))
        results[name]["pooled"] = _pooled(pooled, majorities.get(name))
    write_json(options.out / "summary.json", _summary(results, manifest, base))
    text = "\n\n".join(_table(name, result) for name, result in results.items())
    write_text(options.out / "summary.txt", text + "\n")
    print(text)
    return 0


def manifest_of(configs: Sequence[str]) -> str:
    """The manifest that the last of the configs names which names one."""
    for path in reversed(configs):
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not a readable config ({error})", "Name a YAML file") from None
        data = content.get("data") if isinstance(content, dict) else None
        if isinstance(data, dict) and data.get("manifest"):
            return str(data["manifest"])
    raise UserError("no config names data.manifest", "Pass it with --data.manifest")


def _pooled(scores: Scores, majority: list[int] | None) -> Evaluation:
    """All folds together; each row's trivial answer is the majority of the training rows of its own fold."""
    evaluation = evaluate(scores)
    if majority is None:
        return evaluation
    trivial = evaluate(replace(scores, probabilities=np.eye(len(scores.space))[majority]), draws=1)
    metrics = {name: metric.value for name, metric in trivial.metrics.items()}
    rule = "always the commonest class of the training rows of the fold"
    return replace(evaluation, baselines={"majority": Baseline(rule, metrics)})


def _run(base: Sequence[str], fold: str, folder: Path) -> Run:
    return parse([*base, "--data.fold", fold, "--out", str(folder)], "crossval")


def _fold(run: Run) -> dict[str, Scores]:
    """Scores of one fold: read where they are there, else from the trained model, else from training it."""
    folder = run.folder
    if folder.model.exists():
        recipe.check(folder.path, run.config, run.data.rows)
    done = {name: folder.scores(name) for name in run.data.tasks}
    if folder.model.exists() and all(path.exists() for path in done.values()):
        print(f"fold {run.data.fold}: already scored, {folder.path}")
        return {name: Scores.read(path) for name, path in done.items()}
    if folder.model.exists():
        run.task.model, _ = checkpoint.load(folder.model, run.allow_modules)
    else:
        print(
            f"fold {run.data.fold}: {len(run.data.split.train)} training clips, {len(run.data.split.test)} test clips"
        )
        pl.seed_everything(run.seed, verbose=False)
        train(run)
    return open_test(run, "crossval")


def _summary(results: dict[str, dict[str, Any]], manifest: Manifest, arguments: Sequence[str]) -> dict[str, Any]:
    """`summary.json`. One task stands at the top level; several stand under `tasks`."""
    tasks = {
        name: {
            "task": name,
            "folds": {fold: _entry(evaluation) for fold, evaluation in result["folds"].items()},
            "mean": _means(result["folds"].values()),
            "pooled": _entry(result["pooled"]),
        }
        for name, result in results.items()
    }
    head = {
        "schema": "mer-crossval",
        "schema_version": 1,
        "corpus": manifest.corpus.name,
        "licence": manifest.corpus.licence,
        "protocol": manifest.corpus.protocol,
        "arguments": list(arguments),
        "environment": environment(),
    }
    return {**head, **next(iter(tasks.values()))} if len(tasks) == 1 else {**head, "tasks": tasks}


def _entry(evaluation: Evaluation) -> dict[str, Any]:
    """One evaluation, flat: `war: {value, low, high, unit, units}` and so on, the trivial baseline, the counts."""
    full = evaluation.to_dict()
    entry: dict[str, Any] = {"clips": evaluation.clips, "subjects": evaluation.subjects}
    for name, metric in full["metrics"].items():
        interval = metric["interval"] or {}
        entry[name] = {
            "value": metric["value"],
            **{k: interval.get(k) for k in ("low", "high", "level", "unit", "units")},
        }
    for name, baseline in full["baselines"].items():
        entry[name] = {"rule": baseline["rule"], **baseline["metrics"]}
    for name in ("classes", "confusion", "collapsed", "warnings"):
        entry[name] = full.get(name)
    return entry


def _means(evaluations: Any) -> dict[str, float]:
    """Mean over folds of each metric: what papers quote. It has no interval of its own; the pooled rows do."""
    rows = list(evaluations)
    return {m: sum(e.metrics[m].value for e in rows) / len(rows) for m in rows[0].metrics}


def _table(name: str, result: dict[str, Any]) -> str:
    """Per fold and pooled: WAR, UAR, macro-F1 with intervals, and the majority baseline."""
    pooled: Evaluation = result["pooled"]
    metrics = [m for m in _METRICS if m in pooled.metrics] or list(pooled.metrics)[:3]
    lines = [
        f"{name}: {'fold':<8}{'clips':>6}{'people':>8}  "
        + "".join(f"{m:<22}" for m in metrics)
        + next(iter(pooled.baselines))
    ]
    indent = " " * (len(name) + 2)
    for fold, evaluation in [*result["folds"].items(), ("pooled", pooled)]:
        cells = "".join(f"{_cell(evaluation, m):<22}" for m in metrics)
        baseline = next(iter(evaluation.baselines.values()))
        trivial = number(baseline.metrics[metrics[0]], pooled.space)
        lines.append(f"{indent}{fold:<8}{evaluation.clips:>6}{evaluation.subjects:>8}  {cells}{trivial}")
    means = _means(result["folds"].values())
    lines.append(f"{indent}{'mean':<22}  " + "".join(f"{number(means[m], pooled.space):<22}" for m in metrics))
    lines.append(
        f"{indent}[95 % interval; pooled: bootstrap over {pooled.unit}s; a fold with fewer than ten subjects: over clips,"
        " too narrow]"
    )
    return "\n".join(lines)


def _cell(evaluation: Evaluation, metric: str) -> str:
    value, space = evaluation.metrics[metric], evaluation.space
    if value.interval is None:
        return number(value.value, space)
    return f"{number(value.value, space)} [{number(value.interval.low, space)}, {number(value.interval.high, space)}]"
