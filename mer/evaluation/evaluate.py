"""`mer evaluate`: the numbers of one score file, with intervals and baselines."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from mer.errors import UserError
from mer.evaluation.scores import Scores
from mer.evaluation.summary import Evaluation, evaluate
from mer.files import replacing
from mer.label_maps import LabelMap

MIN_GROUP = 5


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status.

    Raises:
        UserError: the file cannot be read or has no labels.
    """
    parser = argparse.ArgumentParser(
        prog="mer evaluate", description="Metrics, intervals and baselines of a score file."
    )
    parser.add_argument("scores", metavar="SCORES.csv", help="score file with labels")
    parser.add_argument(
        "--by", choices=("fold", "group", "split"), help="also the numbers of each fold, group or split"
    )
    parser.add_argument(
        "--space",
        metavar="NAME[+RULE]",
        help="first go to another label space: basic7.v1+calm_is_neutral, or &NAME for what both share",
    )
    parser.add_argument("--json", metavar="OUT", help="also write the numbers to this file")
    args = parser.parse_args(argv)

    scores = Scores.read(args.scores)
    if args.space:
        before = int(scores.labelled.sum())
        scores = scores.mapped(LabelMap.of(scores.space, args.space))
        if lost := before - int(scores.labelled.sum()):
            print(f"{lost} of {before} labelled rows have a class that {scores.space.name} lacks, and do not count")
    whole = evaluate(scores)
    print(whole.table())
    result: dict[str, Any] = {"file": args.scores, **whole.to_dict()}
    if args.by:
        shown, hidden = evaluate_by(scores, args.by)
        for name, part in shown.items():
            print(f"\n{args.by} {name or '(none)'}: {part.table(details=False)}")
        if hidden:
            print(f"\n{hidden} {args.by}(s) with fewer than {MIN_GROUP} labelled clips not shown")
        result["by"] = {args.by: {name: part.to_dict() for name, part in shown.items()}, "hidden": hidden}
    if args.json:
        with replacing(args.json) as file:
            json.dump(result, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        print(f"\nwritten: {args.json}")
    return 0


def evaluate_by(scores: Scores, column: str) -> tuple[dict[str, Evaluation], int]:
    """The evaluation of each value of a column, in alphabetical order, and how many values have too few clips to show.

    Args:
        scores: any scores.
        column: `fold`, `group` or `split`.

    Raises:
        UserError: the column is empty in every row.
    """
    values = np.asarray(getattr(scores, column), dtype=str)
    if not (values != "").any():
        raise UserError(f"{scores.source or 'scores'}: no row has a {column}", f"Leave out --by {column}")
    shown, hidden = {}, 0
    for value in np.unique(values):
        part = scores.select((values == value) & scores.labelled)
        if len(set(part.clip_id)) < MIN_GROUP:
            hidden += 1
        else:
            shown[str(value)] = evaluate(part)
    return shown, hidden
