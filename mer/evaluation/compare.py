"""`mer compare`: two systems on the same clips, the difference with its interval, and what may be concluded."""

from __future__ import annotations

import argparse

from mer.evaluation.bootstrap import Comparison, paired_bootstrap
from mer.evaluation.metrics import LOWER_IS_BETTER
from mer.evaluation.scores import Scores
from mer.evaluation.summary import number, show, title
from mer.labels import LabelSpace

DEFAULT = {"classes": "uar", "multilabel": "macro_f1", "continuous": "ccc"}


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status.

    Raises:
        UserError: a file cannot be read, or the two cannot be compared.
    """
    parser = argparse.ArgumentParser(prog="mer compare", description="Paired comparison of two score files.")
    parser.add_argument("a", metavar="A.csv", help="score file of the first system")
    parser.add_argument("b", metavar="B.csv", help="score file of the second system, same clips")
    parser.add_argument("--metric", help="e.g. war, uar (default for classes), macro_f1, weighted_f1, ccc")
    args = parser.parse_args(argv)

    a, b = Scores.read(args.a), Scores.read(args.b)
    result = paired_bootstrap(a, b, args.metric or DEFAULT[a.space.kind])
    print(report(result, a.space, args.a, args.b))
    return 0


def report(result: Comparison, space: LabelSpace, name_a: str, name_b: str) -> str:
    """Both values, the difference and one sentence of conclusion, as text."""
    width = max(len(name_a), len(name_b), len("difference (A - B)") - 3)
    ends = result.difference.interval
    interval = f" [{number(ends.low, space, sign=True)}, {number(ends.high, space, sign=True)}]" if ends else ""
    lines = [
        f"{title(result.metric)}, {100 * result.level:g} % intervals over {result.units} {result.unit}s"
        + ("" if space.kind == "continuous" else ", percent"),
        f"  A  {name_a:<{width}}  {show(result.a, space)}",
        f"  B  {name_b:<{width}}  {show(result.b, space)}",
        f"  {'difference (A - B)':<{width + 3}}  {number(result.difference.value, space, sign=True)}{interval}"
        f"{p_text(result.p_value)}",
        conclusion(result, space),
    ]
    if result.subjects and result.unit == "clip":
        lines.append(
            f"WARNING: clips of {result.subjects} known subjects are not independent; "
            "the intervals are too narrow and p is too small."
        )
    return "\n".join(lines)


def p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return ", p < 0.001" if p_value < 0.001 else f", p = {p_value:.3f}"


def conclusion(result: Comparison, space: LabelSpace) -> str:
    """One plain sentence: which system is better, or that the data do not say."""
    name, gap, ends = title(result.metric), result.difference.value, result.difference.interval
    if result.p_value is None:
        return f"No conclusion: {result.units} {result.unit}s are too few (ten are needed)."
    unit = "" if space.kind == "continuous" else " points"
    if result.p_value < 1 - result.level:
        better, worse = ("B", "A") if (gap > 0) == (result.metric in LOWER_IS_BETTER) else ("A", "B")
        size = number(abs(gap), space)
        return (
            f"{better} is better than {worse} by {size}{unit} of {name}, more than the choice "
            f"of {result.unit}s explains at the {100 * (1 - result.level):.2g} % level."
        )
    if ends is None:
        return f"No difference in {name} is shown."
    return (
        f"No difference in {name} is shown: A minus B may be anything from {number(ends.low, space, sign=True)} "
        f"to {number(ends.high, space, sign=True)}{unit}."
    )
