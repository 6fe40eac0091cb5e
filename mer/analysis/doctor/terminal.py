"""The report on the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from mer.analysis.doctor.findings import many, sentence
from mer.analysis.doctor.summary import Division, Report, Summary

MOST = 12  # divisions that are printed
EXAMPLES = 3


def lines(report: Report) -> Iterator[str]:
    """Line by line: corpora, findings, and the verdict."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
    for summary in report.summaries:
        yield from _corpus(summary)
    yield ""
    if report.findings:
        yield f"{'severity':<9}{'count':>14}  finding"
    for finding in report.findings:
        indent = " " * 25
        yield from textwrap.wrap(
            f"{finding.severity:<9}{finding.amount:>14}  {finding.title}", width, subsequent_indent=indent,
            drop_whitespace=False, break_long_words=False,
        )  # fmt: skip
        for example in finding.examples[:EXAMPLES]:
            yield f"{indent}{example}"
        if finding.count > EXAMPLES:
            yield f"{indent}... {finding.count - EXAMPLES:,} more"
        yield from textwrap.wrap(
            f"-> {sentence(finding.remedy)}", width, initial_indent=indent, subsequent_indent=f"{indent}   "
        )
    for lacking in report.left:
        yield f"not checked: {lacking}"
    yield ""
    yield verdict(report)


def verdict(report: Report) -> str:
    """One sentence."""
    counts = {s: sum(f.severity == s for f in report.findings) for s in ("error", "warning", "note")}
    rest = ", ".join(many(n, s) for s, n in counts.items() if n)
    if report.leaks:
        return f"LEAK: {'; '.join(f'{f.amount}: {f.title}' for f in report.leaks)}" + (f". Also {rest}" if rest else "")
    divided = [d for s in report.summaries for d in s.divisions if len(d.parts) > 1]
    clean = f"No leak: {many(len(divided), 'clean division')}" if divided else "No leak: nothing is divided"
    return f"{clean}. {f'Findings: {rest}' if rest else 'Nothing was found'}."


def _corpus(summary: Summary) -> Iterator[str]:
    people = f", {many(summary.people, 'person').replace('persons', 'people')}" if summary.people else ""
    hours = f", {duration(summary.seconds)}" if summary.seconds else ""
    yield f"{summary.name}: {many(summary.clips, 'clip')}{people}{hours}   {summary.path}"
    divided = [d for d in summary.divisions if len(d.parts) > 1]
    for division in divided[:MOST]:
        yield f"  {division.name:<10} {_parts(division):<46} {state(division)}"
    if len(divided) > MOST:
        rest = sum(d.leaks > 0 for d in divided[MOST:])
        yield f"  ... {len(divided) - MOST} more, {'all clean' if not rest else f'{rest} of them with leaks'}"


def _parts(division: Division) -> str:
    return ", ".join(f"{part.name} {part.clips:,}" for part in division.parts)


def state(division: Division) -> str:
    """`clean`, or how much is shared."""
    return "clean" if not division.leaks else f"{division.leaks:,} shared"


def duration(seconds: float) -> str:
    """`1.5 h`, `12 min`, `3.2 s`."""
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.1f} s"
