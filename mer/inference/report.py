"""One HTML file that says how well a system does and how sure that is. No scripts, nothing fetched."""

from __future__ import annotations

import base64
import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from mer.errors import UserError
from mer.evaluation import Evaluation, MetricValue
from mer.evaluation.summary import number
from mer.evaluation.summary import title as metric_title
from mer.files import write_text
from mer.inference.page import page
from mer.inference.timeline import Segment, Timeline, class_colours, clock, draw_timeline

MOST_PANELS = 6
_ERRORS = ("mae", "rmse")  # metrics that are better when smaller, in units of the labels


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    evaluation: Evaluation,
    intro: str = "",
    comparisons: Sequence[tuple[str, Evaluation]] = (),
    timelines: Sequence[tuple[Timeline, Sequence[Segment] | None]] = (),
    curves: Path | None = None,
    facts: Mapping[str, str] | None = None,
    config: str = "",
    notes: Sequence[str] = (),
) -> None:
    """Write the report; a reader sees the whole file or none of it.

    Args:
        path: the HTML file.
        title: what was tried, in a few words.
        evaluation: the result the report is about. Its first metric is the headline.
        intro: a paragraph under the title.
        comparisons: name and result of other systems, in the order of the table (e.g. single modalities, then fusion).
            Where none of them is `evaluation` itself, it comes first as `this report`.
        timelines: clips to draw, each with the labelled stretches (None: no truth).
        curves: `metrics.csv` of the CSVLogger of Lightning; the columns `<stage>/<metric>` are drawn over the epochs.
        facts: what is needed to repeat the run, e.g. versions, seed, command, data.
        config: the resolved configuration, shown as it is.
        notes: sentences that the reader must know.

    Raises:
        UserError: a comparison has another label space; `curves` cannot be read; the folder cannot be written.
    """
    for name, other in comparisons:
        if other.space != evaluation.space:
            raise UserError(
                f"{name!r} has the label space {other.space.name}, the report has {evaluation.space.name}",
                "Compare results of one label space",
            )
    parts = [
        _header(title, intro, evaluation),
        _headline(evaluation),
        _notes(evaluation.warnings, notes),
        _comparison(evaluation, comparisons) if comparisons else "",
        _classes(evaluation),
        _confusion(evaluation),
        _timelines(timelines) if timelines else "",
        _curves(Path(curves)) if curves is not None else "",
        _facts(facts) if facts else "",
        _config(config) if config.strip() else "",
    ]
    body = "\n".join(part for part in parts if part)
    write_text(path, page(title, _STYLE, body))


def _header(title: str, intro: str, evaluation: Evaluation) -> str:
    space = evaluation.space
    what = f"{evaluation.task} · {space.name} · {_many(len(space), 'dimension' if _plain(evaluation) else 'class')}"
    paragraph = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    return f'<header><p class="eyebrow">{escape(what)}</p><h1>{escape(title)}</h1>{paragraph}</header>'


def _headline(evaluation: Evaluation) -> str:
    name = next(iter(evaluation.metrics))
    value = evaluation.metrics[name]
    unit = "" if _plain(evaluation) or math.isnan(value.value) else '<span class="unit">%</span>'
    baselines = "".join(
        f'<div class="card"><p class="eyebrow">Baseline: {escape(key.replace("_", " "))}</p>'
        f'<p class="number small">{_number(b.metrics.get(name, math.nan), evaluation)}'
        f"{unit if not math.isnan(b.metrics.get(name, math.nan)) else ''}</p>"
        f"<p>{escape(b.rule)}.</p></div>"
        for key, b in evaluation.baselines.items()
    )
    rows = "" if evaluation.n == evaluation.clips else "rows of " + f"{evaluation.clips:,} "
    scored = f"{rows}clip" if evaluation.clips == 1 else f"{rows}clips"
    people = f"of {_many(evaluation.subjects, 'subject')}" if evaluation.subjects else "of unknown subjects"
    left_out = f", {evaluation.unlabelled:,} unlabelled left out" if evaluation.unlabelled else ""
    protocol = escape(evaluation.protocol or "not stated")
    return (
        '<section aria-labelledby="score"><h2 id="score" class="hidden">Score</h2><div class="cards">'
        f'<div class="card main"><p class="eyebrow">{escape(metric_title(name))}</p>'
        f'<p class="number">{_number(value.value, evaluation)}{unit}</p>'
        f"<p>{_interval_sentence(value, evaluation)}</p></div>"
        f'{baselines}<div class="card"><p class="eyebrow">Scored on</p><p class="number small">{evaluation.n:,}</p>'
        f"<p>{scored} {people}{left_out}.<br>Protocol: {protocol}.</p></div></div>"
        f"{_metrics(evaluation)}</section>"
    )


def _interval_sentence(value: MetricValue, evaluation: Evaluation) -> str:
    if value.interval is None:
        return f"No interval: it needs ten {evaluation.unit}s or more, and some variation between them."
    low, high = (_number(end, evaluation) for end in (value.interval.low, value.interval.high))
    over = _many(value.interval.units, value.interval.unit)
    return f"<b>{low} to {high}</b> is the {100 * value.interval.level:g} % interval, resampled over {over}."


def _metrics(evaluation: Evaluation) -> str:
    """All metrics, each with its interval, beside the baselines."""
    bounded = {name: value for name, value in evaluation.metrics.items() if not name.startswith(_ERRORS)}
    scale = _Scale.around([(v, _baseline(evaluation, name)) for name, v in bounded.items()])
    rows = []
    for name, value in evaluation.metrics.items():
        baseline = _baseline(evaluation, name)
        bar = scale.bar(value, baseline, evaluation) if name in bounded else ""
        rows.append(
            f'<tr><th scope="row">{escape(metric_title(name))}</th>{_value_cells(value, evaluation)}'
            f'<td class="bar">{bar}</td><td class="n">{_number(baseline, evaluation)}</td></tr>'
        )
    over = next((v.interval for v in evaluation.metrics.values() if v.interval), None)
    caption = f"Intervals of {100 * over.level:g} % over {_many(over.units, over.unit)}. " if over else ""
    percent = "" if _plain(evaluation) else "All numbers in percent. "
    return _table(
        f"{percent}{caption}The dot is the score, the bar its interval, the dashed line the baseline.",
        ["Metric", ">Score", ">Interval", scale.head(evaluation), ">Baseline"],
        rows,
    )


def _notes(warnings: Sequence[str], notes: Sequence[str]) -> str:
    lines = [f'<li class="warning"><b>Warning.</b> {escape(w)}</li>' for w in warnings]
    lines += [f"<li>{escape(note)}</li>" for note in notes]
    return f'<section class="notes"><h2>What to know first</h2><ul>{"".join(lines)}</ul></section>' if lines else ""


def _comparison(evaluation: Evaluation, comparisons: Sequence[tuple[str, Evaluation]]) -> str:
    systems = list(comparisons)
    if not any(other is evaluation for _, other in systems):
        systems.insert(0, ("this report", evaluation))
    name, *others = list(evaluation.metrics)[:2]
    values = [other.metrics.get(name, MetricValue(math.nan, None)) for _, other in systems]
    scale = _Scale.around([(v, _baseline(o, name)) for v, (_, o) in zip(values, systems, strict=True)])
    rows = []
    for (label, other), value in zip(systems, values, strict=True):
        second = other.metrics.get(others[0], MetricValue(math.nan, None)) if others else None
        rows.append(
            f'<tr{" class=own" if other is evaluation else ""}><th scope="row">{escape(label)}</th>'
            f'{_value_cells(value, other)}<td class="bar">{scale.bar(value, _baseline(other, name), other)}</td>'
            + (_value_cells(second, other) if second else "")
            + f'<td class="n">{other.clips:,}</td></tr>'
        )
    head = [">" + metric_title(name), ">Interval", scale.head(evaluation)]
    head += [">" + metric_title(others[0]), ">Interval"] if others else []
    same = len({(other.n, other.clips, other.subjects, other.protocol) for _, other in systems}) == 1
    caution = "" if same else "The systems were not scored on the same clips or by the same protocol. "
    caption = (
        f"{caution}Overlapping bars do not say whether two systems differ: mer compare tests it on the same clips."
    )
    return f"<section><h2>Compared with</h2>{_table(caption, ['System', *head, '>Clips'], rows)}</section>"


def _classes(evaluation: Evaluation) -> str:
    table, rows = evaluation.classes, []
    if table is None:
        return ""
    colours = class_colours(evaluation.space)
    for i, name in enumerate(table.names):
        colour = colours.get(name, "#888888")
        recall, precision, f1 = (float(column[i]) for column in (table.recall, table.precision, table.f1))
        width = 0 if math.isnan(recall) else 100 * recall
        bar = f'<span class="meter"><span style="width:{width:.1f}%;background:{colour}"></span></span>'
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        numbers = "".join(f'<td class="n">{_number(v, evaluation)}</td>' for v in (recall, precision, f1))
        rows.append(
            f'<tr><th scope="row">{swatch}{escape(name)}</th><td class="bar">{bar}</td>{numbers}'
            f'<td class="n">{int(table.support[i]):,}</td></tr>'
        )
    what = "Label" if evaluation.space.kind == "multilabel" else "Class"
    caption = "In percent. Recall: how many of the true ones were found. Precision: how many decisions were right."
    head = [what, "Recall, 0 to 100 %", ">Recall", ">Precision", ">F1", ">Support"]
    return f"<section><h2>{what} by {what.lower()}</h2>{_table(caption, head, rows)}</section>"


def _confusion(evaluation: Evaluation) -> str:
    if evaluation.confusion is None:
        return ""
    names, counts = evaluation.space.names, evaluation.confusion
    rows = []
    for i, name in enumerate(names):
        total = int(counts[i].sum())
        cells = "".join(_heat_cell(int(n), total, i == j) for j, n in enumerate(counts[i].tolist()))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="n total">{total:,}</td></tr>')
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    return (
        "<section><h2>Confusions</h2>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        "<table class=heat><caption>Percent of each true class (row), with the number of clips below. "
        "Outlined: right decisions.</caption>"
        f'<thead><tr><td></td><th scope="colgroup" colspan="{len(names)}" class="axis">decided</th><td></td></tr>'
        f'<tr><th scope="col" class="axis">true</th>{head}<th scope="col" class="n">all</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _heat_cell(count: int, total: int, right: bool) -> str:
    if not total:
        return '<td class="none">n/a</td>'
    share = count / total
    classes = " ".join(["right"] * right + ["full"] * (share >= 0.74) + ["zero"] * (count == 0))
    return f'<td class="{classes}" style="--share:{share:.3f}"><b>{100 * share:.0f}</b><small>{count:,}</small></td>'


def _timelines(timelines: Sequence[tuple[Timeline, Sequence[Segment] | None]]) -> str:
    figures = []
    for timeline, truth in timelines:
        picture = io.BytesIO()
        draw_timeline(timeline, picture, truth)
        data = base64.b64encode(picture.getvalue()).decode("ascii")
        figures.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{escape(_described(timeline))}"></figure>'
        )
    return f"<section><h2>{'Clips' if len(figures) > 1 else 'A clip'} over time</h2>{''.join(figures)}</section>"


def _described(timeline: Timeline) -> str:
    """What the picture shows, for those who do not see it."""
    length = clock(timeline.duration, timeline.duration)
    means, gaps = timeline.mean, int((~timeline.readable).sum())
    if gaps == len(timeline):
        return f"Timeline of clip {timeline.clip_id}, {length}. There was nothing to read in any frame."
    order = np.argsort(-means, kind="stable")[:3]
    if timeline.space.kind == "continuous":
        parts = [f"{timeline.space.names[i]} {means[i]:.2f}" for i in range(len(means))]
    else:
        parts = [f"{timeline.space.names[i]} {100 * means[i]:.0f} %" for i in order]
    nothing = f" Nothing to read in {gaps:,} of {len(timeline):,} frames." if gaps else ""
    return f"Timeline of clip {timeline.clip_id}, {length}. On average: {', '.join(parts)}.{nothing}"


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    return f"<section><h2>To repeat it</h2><dl>{rows}</dl></section>"


def _config(config: str) -> str:
    return (
        "<section><details><summary>Configuration</summary>"
        f'<pre tabindex="0">{escape(config.strip(chr(10)))}</pre></details></section>'
    )


class _Scale:
    """The common axis of the bars of one table, in units of the metric."""

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    @classmethod
    def around(cls, values: Sequence[tuple[MetricValue, float]]) -> _Scale:
        """From the lowest to the highest of scores, intervals and baselines, on round numbers."""
        ends = [e for v, b in values for e in (v.value, b, *((v.interval.low, v.interval.high) if v.interval else ()))]
        known = [end for end in ends if not math.isnan(end)]
        if not known:
            return cls(0.0, 1.0)
        low, high = math.floor(10 * min(known) + 1e-9) / 10, math.ceil(10 * max(known) - 1e-9) / 10
        return cls(low, high if high > low else low + 0.1)

    def head(self, evaluation: Evaluation) -> str:
        """The ends of the axis, as the heading of a column of bars (already HTML)."""
        low, high = (f"{end:g}" if _plain(evaluation) else f"{100 * end:.0f}" for end in (self.low, self.high))
        return f'|<span class="ends"><span>{low}</span><span>{high}</span></span>'

    def bar(self, value: MetricValue, baseline: float, evaluation: Evaluation) -> str:
        """The score as a dot, its interval as a bar, the baseline as a dashed line."""
        if math.isnan(value.value):
            return ""
        shapes = '<line class="rail" x1="0" x2="100%" y1="10" y2="10"/>'
        if not math.isnan(baseline):
            x = self._x(baseline)
            shapes += f'<line class="base" x1="{x:.2f}%" x2="{x:.2f}%" y1="1" y2="19"/>'
        text = f"{_number(value.value, evaluation)}, no interval"
        if value.interval is not None:
            low, high = self._x(value.interval.low), self._x(value.interval.high)
            shapes += f'<rect class="span" x="{low:.2f}%" y="6" width="{high - low:.2f}%" height="8" rx="4"/>'
            ends = (_number(end, evaluation) for end in (value.interval.low, value.interval.high))
            text = f"{_number(value.value, evaluation)}, interval {' to '.join(ends)}"
        shapes += f'<circle class="dot" cx="{self._x(value.value):.2f}%" cy="10" r="4.5"/>'
        return f'<svg role="img" aria-label="{escape(text)}">{shapes}</svg>'

    def _x(self, value: float) -> float:
        """Percent of the width."""
        return 100 * (value - self.low) / (self.high - self.low)


def _curves(path: Path) -> str:
    panels = _panels(path)
    order = list(dict.fromkeys(["train", "val", *(stage for lines in panels.values() for stage in lines)]))
    shown = [_panel(metric, lines, order) for metric, lines in list(panels.items())[:MOST_PANELS]]
    if not shown:
        return "<section><h2>Training</h2><p>No curve was logged.</p></section>"
    hidden = [escape(name) for name in list(panels)[MOST_PANELS:]]
    more = f"<p>Not drawn: {', '.join(hidden)}.</p>" if hidden else ""
    return f'<section><h2>Training</h2><div class="panels">{"".join(shown)}</div>{more}</section>'


_Line = list[tuple[float, float]]


def _panels(path: Path) -> dict[str, dict[str, _Line]]:
    """Metric to stage to points (epoch, mean over the rows of the epoch); losses first."""
    sums: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in _logged(path):
        epoch = _float(row.get("epoch"))
        for column, cell in row.items():
            stage, slash, metric = (column or "").partition("/")
            value = _float(cell)
            if slash and value is not None and epoch is not None and math.isfinite(value + epoch):
                sums.setdefault((metric, stage), {}).setdefault(epoch, []).append(value)
    for metric, stage in list(sums):
        base = metric.removesuffix("_epoch")
        if base != metric and (base, stage) not in sums:
            sums[base, stage] = sums.pop((metric, stage))
            sums.pop((f"{base}_step", stage), None)
    panels: dict[str, dict[str, _Line]] = {}
    for metric, stage in sorted(sums, key=lambda key: "loss" not in key[0]):
        points = sums[metric, stage]
        panels.setdefault(metric, {})[stage] = [(epoch, float(np.mean(points[epoch]))) for epoch in sorted(points)]
    return panels


def _logged(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "Leave the curves out, or give the metrics.csv of the run") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error})", "Give the metrics.csv of the CSVLogger") from None


def _float(cell: object) -> float | None:
    try:
        return float(str(cell))
    except ValueError:
        return None


def _panel(metric: str, lines: Mapping[str, _Line], order: Sequence[str]) -> str:
    """One small chart of a metric over the epochs, its lines named at their ends and coloured by `order`."""
    width, height, left, top, bottom = 430, 210, 46, 14, 30
    right = min(30 + 7 * max(len(f"{stage} {line[-1][1]:.3g}") for stage, line in lines.items()), 200)
    points = [point for line in lines.values() for point in line]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    ticks = _round_ticks(min(y for _, y in points), max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    shapes = []
    for tick in ticks:
        y = place(first, tick)[1]
        shapes.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shapes.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for x in sorted({first, last}):
        across = place(x, ticks[0])[0]
        shapes.append(f'<text class="tick" x="{across:.1f}" y="{height - 10}" text-anchor="middle">{x:g}</text>')
    middle = (left + width - right) / 2 if last > first else left
    shapes.append(f'<text class="tick" x="{middle:.1f}" y="{height - 10}" text-anchor="middle">epoch</text>')

    below = -math.inf  # names are pushed down where lines end close to each other
    ends = sorted(lines.items(), key=lambda item: -item[1][-1][1])
    for stage, line in ends:
        colour = order.index(stage) % 4
        places = [place(*point) for point in line]
        if len(places) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            shapes.append(f'<polyline class="line line{colour}" points="{path}"/>')
        x, y = places[-1]
        below = max(y + 4, below + 14)
        shapes.append(f'<circle class="end end{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        shapes.append(
            f'<text class="name end{colour}" x="{width - right + 9}" y="{below:.1f}">'
            f"{escape(stage)} {line[-1][1]:.3g}</text>"
        )
    finals = ", ".join(f"{stage} ends at {line[-1][1]:.3g}" for stage, line in ends)
    label = escape(f"{metric} over epochs {first:g} to {last:g}: {finals}")
    return (
        f"<figure><figcaption>{escape(_metric_name(metric))}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(shapes)}</svg></figure>'
    )


def _metric_name(metric: str) -> str:
    *task, name = metric.split("/")
    return " · ".join([*task, metric_title(name)])


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around the values."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    scale = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(scale * s for s in (1, 2, 2.5, 5, 10) if (high - low) / (scale * s) <= 4)
    return [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _table(caption: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table; a heading that begins with `>` stands over numbers, one that begins with `|` is HTML over bars."""
    cells = []
    for text in head:
        if text.startswith("|"):
            cells.append(f'<th scope="col" class="bar">{text[1:]}</th>')
        elif text.startswith(">"):
            cells.append(f'<th scope="col" class="n">{escape(text[1:])}</th>')
        else:
            cells.append(f'<th scope="col">{escape(text)}</th>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{"".join(cells)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _value_cells(value: MetricValue, evaluation: Evaluation) -> str:
    interval = "none"
    if value.interval is not None:
        interval = f"{_number(value.interval.low, evaluation)} to {_number(value.interval.high, evaluation)}"
    return f'<td class="n"><b>{_number(value.value, evaluation)}</b></td><td class="n soft">{interval}</td>'


def _number(value: float, evaluation: Evaluation) -> str:
    return number(value, evaluation.space).replace("-", "\N{MINUS SIGN}")


def _baseline(evaluation: Evaluation, metric: str) -> float:
    """The best trivial answer by this metric; NaN where none is defined."""
    known = [b.metrics[metric] for b in evaluation.baselines.values() if metric in b.metrics]
    known = [value for value in known if not math.isnan(value)]
    if not known:
        return math.nan
    return min(known) if metric.startswith(_ERRORS) else max(known)


def _plain(evaluation: Evaluation) -> bool:
    """Numbers are shown as they are, not in percent."""
    return evaluation.space.kind == "continuous"


def _many(count: int, what: str) -> str:
    if count == 1:
        return f"{count} {what}"
    return f"{count:,} {what}{'es' if what.endswith('s') else 's'}"


_STYLE = """
:root { --paper: #fbfbfa; --card: #ffffff; --ink: #1f2328; --soft: #626a73; --line: #e3e6ea; --accent: #1f6f78;
  --heat: 15, 86, 96; --c0: #1f6f78; --c1: #c0622f; --c2: #6a559c; --c3: #7a7f87;
  --warn: #fff4e0; --warn-line: #d9952b; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1d2125; --ink: #e8eaed; --soft: #a0a8b1;
  --line: #30363c; --accent: #6cc3cb; --heat: 40, 118, 128; --c0: #6cc3cb; --c1: #e79a6c; --c2: #b3a0e0;
  --c3: #a7adb5; --warn: #33291a; --warn-line: #d9952b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main, footer { max-width: 1000px; margin: 0 auto; padding: 0 24px; }
header { padding: 48px 0 8px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 12px; }
section { margin: 40px 0; }
header + section { margin-top: 20px; }
p { margin: 0 0 8px; overflow-wrap: anywhere; }
.intro { color: var(--soft); max-width: 68ch; font-size: 1.05rem; }
.eyebrow { color: var(--soft); font-size: 0.82rem; font-weight: 600; letter-spacing: 0.02em; margin: 0 0 4px; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 16px; margin-bottom: 24px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.card p:last-child { color: var(--soft); font-size: 0.92rem; margin: 0; }
.card.main { border-color: var(--accent); }
.card.main b { color: var(--ink); white-space: nowrap; }
.number { font-size: 3.6rem; font-weight: 650; line-height: 1.1; margin: 0 0 6px; font-variant-numeric: tabular-nums;
  letter-spacing: -0.02em; color: var(--accent); white-space: nowrap; }
.number.small { font-size: 2.2rem; line-height: 1.8; color: var(--ink); }
.unit { font-size: 0.5em; margin-left: 0.15em; color: var(--soft); letter-spacing: 0; }
.scroll { overflow-x: auto; container-type: inline-size; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--soft); font-size: 0.85rem; padding-top: 10px;
  max-width: 100cqi; position: sticky; left: 0; }
th, td { padding: 7px 10px; text-align: left; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; font-size: 0.82rem; vertical-align: bottom; white-space: nowrap; }
tbody th { font-weight: 500; min-width: 7em; overflow-wrap: break-word; }
.n { text-align: right; white-space: nowrap; }
.soft { color: var(--soft); }
tr.own th { font-weight: 700; }
tr.own th, tr.own td { background: var(--card); }
td.bar, th.bar { min-width: 150px; padding-left: 18px; padding-right: 18px; }
td.bar svg { display: block; width: 100%; height: 20px; overflow: visible; }
.ends { display: flex; justify-content: space-between; font-weight: 400; }
.rail { stroke: var(--line); stroke-width: 2; }
.base { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 3 2; }
.span { fill: var(--accent); fill-opacity: 0.32; }
.dot { fill: var(--accent); }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 9px; }
.meter { display: block; height: 8px; border-radius: 4px; background: var(--line); overflow: hidden; }
.meter span { display: block; height: 100%; }
.notes ul { margin: 0; padding: 0; list-style: none; }
.notes li { padding: 10px 14px; border-left: 3px solid var(--line); margin-bottom: 8px; background: var(--card); }
.notes li.warning { border-color: var(--warn-line); background: var(--warn); }
table.heat { border-collapse: separate; border-spacing: 3px; width: auto; min-width: 60%; }
.heat th, .heat td { border: 0; padding: 4px 6px; }
.heat thead th { text-align: center; }
.heat .axis { font-weight: 400; font-style: italic; }
.heat tbody th { text-align: right; white-space: nowrap; padding-right: 10px; }
.heat tbody td { text-align: center; min-width: 56px; border-radius: 6px; }
.heat tbody td:not(.total) { background: rgba(var(--heat), calc(0.04 + 0.9 * var(--share, 0))); }
.heat td b { display: block; font-weight: 600; line-height: 1.25; }
.heat td small { display: block; font-size: 0.72rem; opacity: 0.8; line-height: 1.2; }
.heat td.full { color: #ffffff; }
.heat td.full small { opacity: 0.92; }
.heat td.zero, .heat td.none { color: var(--soft); }
.heat td.right { box-shadow: inset 0 0 0 2px var(--accent); }
.heat td.total { color: var(--soft); text-align: right; }
figure { margin: 0 0 20px; }
figure img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 10px; }
figcaption { color: var(--soft); font-size: 0.85rem; margin-top: 6px; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 16px; }
.panels figure { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px 14px;
  margin: 0; }
.panels figcaption { color: var(--ink); font-weight: 600; margin: 0 0 4px; }
.panels svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--line); }
.tick { fill: var(--soft); font-size: 11px; }
.name { font-size: 12px; font-weight: 600; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line0 { stroke: var(--c0); } .line1 { stroke: var(--c1); } .line2 { stroke: var(--c2); } .line3 { stroke: var(--c3); }
.end0 { fill: var(--c0); } .end1 { fill: var(--c1); } .end2 { fill: var(--c2); } .end3 { fill: var(--c3); }
dl { margin: 0; font-size: 0.93rem; }
dl div { display: grid; grid-template-columns: minmax(90px, 180px) 1fr; gap: 12px; padding: 7px 0;
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; font-size: 0.88em;
  overflow-wrap: anywhere; white-space: pre-wrap; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px;
  font: 0.85rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
footer { color: var(--soft); font-size: 0.82rem; padding-top: 12px; padding-bottom: 40px; }
@media (max-width: 600px) { main, footer { padding: 0 14px; } header { padding-top: 28px; } h1 { font-size: 1.55rem; }
  dl div { grid-template-columns: 1fr; gap: 0; } th, td { padding: 6px; } td.bar, th.bar { min-width: 110px; } }
@media print { :root { --paper: #fff; --card: #fff; --ink: #111; --soft: #555; --line: #ddd; --accent: #1f6f78;
  --heat: 15, 86, 96; --c0: #1f6f78; --c1: #c0622f; --c2: #6a559c; --c3: #7a7f87; --warn: #fff4e0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; } header { padding-top: 0; } section { margin: 22px 0; }
  .card, figure, tr, .notes li { break-inside: avoid; } h2 { break-after: avoid; } .scroll { overflow: visible; } }
"""
