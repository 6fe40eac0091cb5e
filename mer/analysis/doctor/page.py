"""The report as one HTML file: nothing fetched, no scripts, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mer.analysis.doctor.findings import SEVERITIES, Finding, Severity, many, sentence
from mer.analysis.doctor.summary import Classes, Division, Part, Report, Summary
from mer.analysis.doctor.terminal import duration, state
from mer.inference.page import page as framed

MOST_FOLDS = 12  # columns of a table of classes
MOST_ERRORS = 5  # whose examples are shown without a click
MOST_OPEN = 3  # corpora whose numbers are shown without a click
_NAMES: dict[Severity, str] = {"leak": "Leak", "error": "Error", "warning": "Warning", "note": "Note"}


def page(report: Report) -> str:
    """The whole page."""
    names = ", ".join(dict.fromkeys(s.name for s in report.summaries))
    many_ = len(report.summaries) > MOST_OPEN
    parts = [_header(report, names), _findings(report)]
    for summary in report.summaries:
        body = "".join((_divisions(summary), _classes(summary), _lengths(summary), _columns(summary)))
        if many_:
            body = (
                f'<details class="corpus"><summary>{escape(summary.name)} <span class="soft">{escape(summary.path)}'
                f" · {many(summary.clips, 'clip')} · {_worst(summary)}</span></summary>{body}</details>"
            )
        elif len(report.summaries) > 1:
            body = (
                f'<h2 class="corpus">{escape(summary.name)} <span class="soft">{escape(summary.path)}</span></h2>{body}'
            )
        parts.append(body)
    parts.append(_checked(report))
    return framed(f"{names}: mer doctor", _STYLE, "\n".join(p for p in parts if p))


def _header(report: Report, names: str) -> str:
    leaks = report.leaks
    if leaks:
        verdict, kind = many(sum(f.count for f in leaks), "leak"), "leak"
        said = "Training and test share what they must not: a score on this split would be too good."
    else:
        divided = [d for s in report.summaries for d in s.divisions if len(d.parts) > 1]
        verdict, kind = "No leak", "fine"
        said = (
            f"{many(len(divided), 'clean division')} into training and test."
            if divided
            else "The clips are not divided."
        )
    clips, seconds = sum(s.clips for s in report.summaries), sum(s.seconds for s in report.summaries)
    people = sum(s.people for s in report.summaries)
    counts = [(n, s) for s in SEVERITIES[1:] if (n := sum(f.severity == s for f in report.findings))]
    found = ", ".join(many(n, s) for n, s in counts).replace(" ", "&nbsp;").replace(",&nbsp;", ", ") or "nothing"
    return (
        f'<header><p class="eyebrow">mer doctor</p><h1>{escape(names)}</h1></header>'
        f'<section class="cards"><div class="card main {kind}"><p class="number">{verdict}</p><p>{said}</p></div>'
        f'<div class="card"><p class="number">{clips:,}</p><p>{"clip" if clips == 1 else "clips"}'
        f"{f' of {people:,} people' if people else ', people not named'}</p></div>"
        f'<div class="card"><p class="number">{_big(duration(seconds)) if seconds else "?"}</p>'
        f"<p>{'of recordings' if seconds else 'length not known'}</p></div>"
        f'<div class="card"><p class="number">{len(report.findings) - len(leaks)}</p>'
        f"<p>{'other findings' if leaks else 'findings'}: {found}</p></div></section>"
    )


def _big(text: str) -> str:
    number, _, unit = text.partition(" ")
    return f'{number}<span class="unit">{unit}</span>'


def _worst(summary: Summary) -> str:
    leaks = sum(d.leaks for d in summary.divisions)
    return f"{leaks:,} shared" if leaks else "clean"


# -- findings -----------------------------------------------------------------------------------------------------------


def _findings(report: Report) -> str:
    if not report.findings:
        return '<section><h2>Findings</h2><p class="soft">Nothing was found.</p></section>'
    errors = sum(f.severity == "error" for f in report.findings)
    shown = ("leak", "error") if errors <= MOST_ERRORS else ("leak",)
    rows = "".join(_finding(f, f.severity in shown) for f in report.findings)
    return f'<section><h2>Findings</h2><div class="findings">{rows}</div></section>'


def _finding(finding: Finding, shown: bool) -> str:
    rest = finding.count - len(finding.examples)
    items = "".join(f"<li>{escape(example)}</li>" for example in finding.examples)
    more = f'<li class="soft">and {rest:,} more</li>' if rest else ""
    opened = " open" if shown else ""
    title = finding.title[:1].upper() + finding.title[1:]
    return (
        f'<details class="finding {finding.severity}"{opened}><summary><span class="badge">{_NAMES[finding.severity]}</span>'
        f'<span class="what">{escape(title)}</span><span class="count">{escape(finding.amount)}</span></summary>'
        f'<ul>{items}{more}</ul><p class="remedy"><b>What to do.</b> {escape(sentence(finding.remedy))}</p>'
        f'<p class="code">{escape(finding.code)}</p></details>'
    )


# -- numbers ------------------------------------------------------------------------------------------------------------


def _divisions(summary: Summary) -> str:
    parts = [part for division in summary.divisions for part in division.parts]
    people, known = any(p.people for p in parts), any(p.known for p in parts)
    rows = []
    for division in summary.divisions:
        for place, part in enumerate(division.parts):
            first = place == 0
            name = f'<th scope="row">{escape(division.name)}</th>' if first else "<td></td>"
            verdict = _verdict(division) if first and len(division.parts) > 1 else "<td></td>"
            rows.append(f'<tr class="{"first" if first else ""}">{name}{_part(part, people, known)}{verdict}</tr>')
    lengths = (">total", ">shortest", ">median", ">longest") if known else ()
    head = ("", "part", ">clips", *((">people",) if people else ()), *lengths, "")
    caption = "Lengths are those of the clips." if known else "Lengths are not known without the recordings."
    return f"<section><h2>Training and test</h2>{_table(head, rows, caption)}</section>"


def _part(part: Part, people: bool, known: bool) -> str:
    lengths = [duration(s) if part.known else "" for s in (part.seconds, part.shortest, part.median, part.longest)]
    cells = [f"{part.clips:,}", *([f"{part.people:,}"] if people else []), *(lengths if known else [])]
    return f"<td>{escape(part.name)}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells)


def _verdict(division: Division) -> str:
    return f'<td><span class="state {"bad" if division.leaks else "good"}">{escape(state(division))}</span></td>'


def _classes(summary: Summary) -> str:
    return "".join(f"<section><h2>Classes of {escape(c.task)}</h2>{_histogram(c)}</section>" for c in summary.classes)


def _histogram(classes: Classes) -> str:
    """A row per class; a bar per part, or per test fold."""
    whole = [d for d in classes.counts if not _is_fold(classes, d)]
    columns: list[tuple[str, tuple[int, ...]]] = []
    for division in whole:
        columns += list(classes.counts[division].items())
    folds = [d for d in classes.counts if _is_fold(classes, d)]
    columns += [(f"{d}: test", classes.counts[d].get("test", ())) for d in folds[:MOST_FOLDS]]
    columns = [(name, counts) for name, counts in columns if counts]
    if folds and not whole:
        first = classes.counts[folds[0]]
        columns.insert(0, ("all", tuple(sum(c) for c in zip(*first.values(), strict=True))))
    shown = [i for i in range(len(classes.names)) if any(counts[i] for _, counts in columns)]
    rows = []
    for i in shown:
        cells = "".join(_bar(counts[i], max(counts), sum(counts), _colour(name)) for name, counts in columns)
        rows.append(f'<tr><th scope="row">{escape(classes.names[i])}</th>{cells}</tr>')
    unseen = [n for i, n in enumerate(classes.names) if i not in shown]
    notes = [f"{', '.join(unseen)}: no clip."] if unseen else []
    notes += [f"The first {MOST_FOLDS} of {len(folds)} folds."] if len(folds) > MOST_FOLDS else []
    return _table(("", *(f"|{name}" for name, _ in columns)), rows, " ".join(notes))


def _is_fold(classes: Classes, division: str) -> bool:
    return len(classes.counts) > 1 and division not in ("split", "all")


def _colour(name: str) -> str:
    """One for each part, whatever the fold."""
    return "f1" if name.endswith("test") else "f2" if name == "val" else "f0"


def _bar(count: int, most: int, total: int, colour: str) -> str:
    share = count / most if most else 0.0
    label = f"{count:,} clips, {100 * count / total if total else 0:.0f} %"
    width = f"{max(100 * share, 1.5 if count else 0):.1f}"
    return (
        f'<td class="bar"><div title="{label}"><span class="value{" zero" if not count else ""}">{count:,}</span>'
        f'<svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect class="rail" width="100" height="8" rx="1"/><rect class="fill {colour}" width="{width}" height="8" '
        f'rx="1"/></svg></div></td>'
    )


def _lengths(summary: Summary) -> str:
    if len(summary.lengths) < 2:
        return ""
    width, height, bottom = 960, 170, 24
    most, edges = max(summary.lengths), summary.edges
    step = width / len(summary.lengths)
    bars = "".join(
        f'<rect class="fill f0" x="{i * step + 1:.1f}" y="{height - bottom - h:.1f}" width="{step - 2:.1f}" height="{h:.1f}" '
        f'rx="2"><title>{_range(edges[i], edges[i + 1], i + 1 == len(summary.lengths))}: {n:,} clips</title></rect>'
        for i, n in enumerate(summary.lengths)
        if (h := max((height - bottom - 12) * n / most, 1.5 if n else 0.0))
    )
    every = max(1, round(len(edges) / 8))
    ticks = "".join(
        f'<text class="tick" x="{i * step:.1f}" y="{height - 6}" text-anchor="{"start" if not i else "middle"}">'
        f"{edges[i]:g}{' s' if not i else ''}</text>"
        for i in range(0, len(edges) - 1, every)
    )
    label = f"{sum(summary.lengths):,} clips, most between {_range(*_mode(summary), False)}"
    return (
        f'<section><h2>Lengths of clips</h2><figure><svg class="lengths" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}"><line class="axis" x1="0" x2="{width}" y1="{height - bottom}" y2="{height - bottom}"/>'
        f"{bars}{ticks}</svg><figcaption>Seconds; the last bar holds what is longer, too.</figcaption></figure></section>"
    )


def _mode(summary: Summary) -> tuple[float, float]:
    place = max(range(len(summary.lengths)), key=lambda i: summary.lengths[i])
    return summary.edges[place], summary.edges[place + 1]


def _range(low: float, high: float, last: bool) -> str:
    return f"{low:g} s and more" if last else f"{low:g} to {high:g} s"


def _columns(summary: Summary) -> str:
    rows = [
        f'<tr><th scope="row">{escape(c.name)}</th><td>{escape(c.kind)}</td><td class="n">{c.cells:,}</td>'
        f'<td class="n">{c.files:,}</td><td class="n">{c.there:,}</td></tr>'
        for c in summary.columns
    ]
    if not rows:
        return ""
    return f"<section><h2>Modalities</h2>{_table(('column', 'read as', '>rows', '>files', '>files here'), rows, '')}</section>"


def _checked(report: Report) -> str:
    done = "".join(f"<li>{escape(c[:1].upper() + c[1:])}</li>" for c in report.checked)
    left = "".join(f'<li class="left">Not checked: {escape(c)}</li>' for c in report.left)
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in report.facts.items())
    command = f"<dt>command</dt><dd>{escape(report.command)}</dd>" if report.command else ""
    return f'<section><h2>What was checked</h2><ul class="checked">{done}{left}</ul><dl>{command}{facts}</dl></section>'


def _table(head: Sequence[str], rows: Sequence[str], caption: str) -> str:
    """A heading that begins with `>` stands over numbers, with `|` over bars."""
    cells = []
    for text in head:
        kind = {">": "n", "|": "bar"}.get(text[:1], "")
        cells.append(f'<th scope="col" class="{kind}">{escape(text[1:] if kind else text)}</th>')
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{said}<thead><tr>{"".join(cells)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


_STYLE = """
:root { --paper: #fbfbfa; --card: #fff; --ink: #1f2328; --soft: #626a73; --line: #e3e6ea; --rail: #eef0f2;
  --f0: #1f6f78; --f1: #c0622f; --f2: #6a559c; --f3: #7a7f87;
  --good: #2b7a4b; --leak: #b3262e; --error: #b8541a; --warning: #94700c; --note: #66707a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1d2125; --ink: #e8eaed; --soft: #a0a8b1;
  --line: #30363c; --rail: #2a3036; --f0: #6cc3cb; --f1: #e79a6c; --f2: #b3a0e0; --f3: #a7adb5;
  --good: #7ccb98; --leak: #ff8a8a; --error: #f2a06e; --warning: #dfbf5f; --note: #a0a8b1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main, footer { max-width: 1040px; margin: 0 auto; padding: 0 24px; }
header { padding: 44px 0 0; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 12px; }
h2.corpus { margin-top: 56px; padding-top: 20px; border-top: 1px solid var(--line); font-size: 1.35rem; }
h2 .soft, summary .soft { font-weight: 400; font-size: 0.85rem; }
section { margin: 36px 0; }
.cards { margin-top: 20px; display: grid; gap: 16px; grid-template-columns: 1.5fr 1fr 1fr 1fr; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 20px; }
.card p { margin: 0; color: var(--soft); font-size: 0.92rem; }
.card .number { font-size: 2rem; font-weight: 650; line-height: 1.25; color: var(--ink); letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.card.fine { border-color: var(--good); } .card.fine .number { color: var(--good); }
.card.leak { border-color: var(--leak); } .card.leak .number { color: var(--leak); }
.unit { font-size: 0.55em; margin-left: 0.25em; color: var(--soft); letter-spacing: 0; }
.eyebrow { color: var(--soft); font-size: 0.82rem; font-weight: 600; margin: 0 0 4px; }
.soft { color: var(--soft); }
.findings { border: 1px solid var(--line); border-radius: 12px; background: var(--card); overflow: hidden; }
.finding + .finding { border-top: 1px solid var(--line); }
.finding summary { display: grid; grid-template-columns: 84px 1fr auto; gap: 12px; align-items: baseline;
  padding: 11px 18px; cursor: pointer; list-style: none; }
.finding summary::-webkit-details-marker { display: none; }
.finding summary:hover { background: var(--rail); }
.finding ul { margin: 0 18px 8px 114px; padding: 0; list-style: none; font-size: 0.86rem;
  font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
.finding li { overflow-wrap: anywhere; padding: 2px 0; }
.finding .remedy { margin: 0 18px 2px 114px; font-size: 0.93rem; }
.finding .code { margin: 0 18px 14px 114px; font-size: 0.78rem; color: var(--soft); }
.badge { font-size: 0.8rem; font-weight: 650; color: var(--note); }
.badge::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: currentColor;
  margin-right: 8px; vertical-align: 1px; }
.leak .badge { color: var(--leak); } .error .badge { color: var(--error); } .warning .badge { color: var(--warning); }
.leak .what, .error .what { font-weight: 600; }
.count { color: var(--soft); font-variant-numeric: tabular-nums; white-space: nowrap; }
.state { font-size: 0.85rem; font-weight: 600; white-space: nowrap; }
.state.good { color: var(--good); } .state.good::before { content: "\\2713\\00a0"; }
.state.bad { color: var(--leak); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--soft); font-size: 0.85rem; padding-top: 10px; }
th, td { padding: 6px 10px; text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.82rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; white-space: nowrap; }
tr.first th, tr.first td { border-top: 1px solid var(--line); }
tbody tr:first-child th, tbody tr:first-child td { border-top: 0; }
.n { text-align: right; white-space: nowrap; }
td.bar { min-width: 92px; padding-top: 4px; padding-bottom: 4px; }
td.bar > div { display: grid; grid-template-columns: 3.4em 1fr; gap: 8px; align-items: center; }
td.bar .value { text-align: right; } .zero { color: var(--error); font-weight: 600; }
td.bar svg { display: block; width: 100%; height: 8px; }
.rail { fill: var(--rail); }
.f0 { fill: var(--f0); } .f1 { fill: var(--f1); } .f2 { fill: var(--f2); } .f3 { fill: var(--f3); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
svg.lengths { display: block; width: 100%; height: auto; overflow: visible; }
.axis { stroke: var(--line); } .tick { fill: var(--soft); font-size: 13px; }
figcaption { color: var(--soft); font-size: 0.85rem; margin-top: 6px; }
.checked { margin: 0 0 20px; padding: 0; list-style: none; columns: 2; column-gap: 32px; font-size: 0.93rem; }
.checked li { padding: 3px 0 3px 24px; position: relative; break-inside: avoid; }
.checked li::before { content: "\\2713"; position: absolute; left: 2px; color: var(--good); }
.checked li.left { color: var(--soft); } .checked li.left::before { content: "\\2013"; color: var(--soft); }
dl { margin: 0; font-size: 0.9rem; display: grid; grid-template-columns: 110px 1fr; gap: 4px 12px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere;
  font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; font-size: 0.9em; }
details.corpus { border: 1px solid var(--line); border-radius: 12px; padding: 0 18px; margin: 12px 0; background: var(--card); }
details.corpus > summary { padding: 12px 0; cursor: pointer; font-weight: 600; }
footer { color: var(--soft); font-size: 0.82rem; padding-top: 12px; padding-bottom: 40px; }
@media (max-width: 760px) { main, footer { padding: 0 14px; } .cards { grid-template-columns: 1fr 1fr; }
  .checked { columns: 1; } .finding summary { grid-template-columns: 1fr auto; } .finding .what { grid-column: 1 / -1; }
  .finding .badge, .finding .count { grid-row: 1; } .finding .count { grid-column: 2; }
  .finding ul, .finding .remedy, .finding .code { margin-left: 18px; } }
@media print { :root { --paper: #fff; } main { max-width: none; } .finding, tr, figure { break-inside: avoid; } }
"""
