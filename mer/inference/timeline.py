"""The emotion of one clip over media time: as a table for the statistics program, and as a picture for the eye."""

from __future__ import annotations

import csv
import io
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mer.errors import UserError
from mer.files import replacing
from mer.labels import LabelSpace

FloatArray = NDArray[np.float64]

# Chosen by a search over lightness and hue so that the nearest pair stays apart for normal, protanope and deuteranope
# sight (CIE Lab distance of 16 or more); names beside the bands carry the meaning, colour only helps the eye.
_EMOTION_COLOURS = {
    "#CA4D33": ("angry", "anger", "ang", "annoyance", "rage"),
    "#DAAD34": ("happy", "happiness", "hap", "joy", "joyful", "amusement", "positive"),
    "#0077C9": ("sad", "sadness", "negative"),
    "#7C7C7C": ("neutral", "neu", "other", "none"),
    "#553592": ("fearful", "fear", "fea", "afraid", "anxiety", "anxious", "worried"),
    "#1D6243": ("disgust", "disgusted", "dis"),
    "#FFA0D4": ("surprised", "surprise", "sur", "ps"),
    "#1EB0AC": ("calm", "calmness", "relaxed", "content", "contentment"),
}
_KNOWN_COLOURS = {name: colour for colour, names in _EMOTION_COLOURS.items() for name in names}
_OTHER_COLOURS = ("#2F6F9F", "#E08A2E", "#8B5A2B", "#8FB339", "#A05195", "#56B4E9", "#B8434E", "#6B7A8F")
_MODALITY_COLOURS = ("#5B6B7F", "#A8B6C4", "#7F9C96", "#C9C2B0", "#8A8398", "#D5DCE3")
_INK, _GREY, _FAINT, _GAP_INK = "#1F2328", "#6A7079", "#E4E7EB", "#565C64"
_LINE_ENDS = {"solid_joinstyle": "round", "solid_capstyle": "butt"}  # a round end would reach into a gap
_FONT = "DejaVu Sans"
_NO_READING = "no reading"

_WIDTH, _DPI = 10.0, 150  # inches, dots per inch
_MOST_COLUMNS = 2000  # more frames than this are drawn as bins: the picture is 1500 dots wide
_STEP_FRAMES = 60  # up to this many frames are drawn as steps, so that single windows stay visible


@dataclass(eq=False)
class Timeline:
    """What was read in one clip, frame by frame: F frames, C classes or dimensions.

    Every frame has a row. Where there was nothing to read (no face, silence) the row is NaN, never zero.

    Attributes:
        clip_id: name of the clip.
        task: name of the task.
        space: its labels.
        times: (F,) float64 presentation time of each frame in seconds, never falling.
        probabilities: (F, C) float64, as in `Scores`; values for a continuous task. A row of NaN: nothing to read.
        duration: of the clip, seconds.
        modality_weights: modality name to (F,) weights, NaN where there was nothing to read (weights given there are
            dropped); None where the fusion has none.
        frame_index: (F,) int64 number of each frame in the file; 0 ... F - 1 where left out.

    Raises:
        ValueError: shapes that do not fit together, or no frame (a programmer's mistake).
        UserError: times that fall, or numbers that are not finite (infinite, a row that is NaN only in part, a weight
            that is missing though the frame was read); the clip is named.
    """

    clip_id: str
    task: str
    space: LabelSpace
    times: FloatArray
    probabilities: FloatArray
    duration: float
    modality_weights: dict[str, FloatArray] | None = None
    frame_index: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self.times = np.asarray(self.times, dtype=np.float64)
        frames = self.times.size
        self.probabilities = np.asarray(self.probabilities, dtype=np.float64)
        self.frame_index = np.asarray(np.arange(frames) if self.frame_index is None else self.frame_index, np.int64)
        self.duration = float(self.duration)
        checked = {
            "times": (self.times, (frames,)),
            "probabilities": (self.probabilities, (frames, len(self.space))),
            "frame_index": (self.frame_index, (frames,)),
        }
        if self.modality_weights is not None:
            self.modality_weights = {k: np.asarray(v, dtype=np.float64) for k, v in self.modality_weights.items()}
            checked |= {f"modality_weights[{k!r}]": (v, (frames,)) for k, v in self.modality_weights.items()}
        if not frames:
            raise ValueError("a Timeline needs at least one frame")
        for name, (array, shape) in checked.items():
            if array.shape != shape:
                raise ValueError(f"Timeline.{name} must be {shape}, got {array.shape}")
        readable = self.readable
        for name, (array, _) in checked.items():
            read = array if name in ("times", "frame_index") else array[readable]
            if np.isinf(array).any() or np.isnan(read).any():
                raise UserError(
                    f"clip {self.clip_id!r}: {name} holds numbers that are not finite",
                    "Check the training run for divergence, and the media file",
                )
        if (np.diff(self.times) < 0).any() or not np.isfinite(self.duration):
            raise UserError(
                f"clip {self.clip_id!r}: the times of its frames fall, or its duration is not known",
                "Write the media file again, e.g. with ffmpeg -i IN -c copy OUT",
            )
        if self.modality_weights is not None:
            self.modality_weights = {k: np.where(readable, v, np.nan) for k, v in self.modality_weights.items()}

    def __len__(self) -> int:
        return len(self.times)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(F,) True where there was something to read."""
        return np.asarray(~np.isnan(self.probabilities).all(axis=1))

    @property
    def mean(self) -> FloatArray:
        """(C,) mean probability or value of the frames that could be read; NaN where none could."""
        return _mean_of(self.probabilities, self.readable)

    @property
    def end(self) -> float:
        """Where the last frame stops being shown, in seconds: the duration, or one frame after the last time."""
        step = float(np.median(np.diff(self.times))) if len(self) > 1 else 0.0
        end = max(self.duration, float(self.times[-1]) + step)
        return end if end > self.times[0] else float(self.times[0]) + 1.0

    @property
    def labels(self) -> list[str]:
        """F decisions: the likeliest class; the labels at 0.5 or more joined by `;` (`-`: none).

        '' where there was nothing to read, and for a continuous task.
        """
        names, p = self.space.names, self.probabilities
        if self.space.kind == "classes":
            decided = [names[i] for i in p.argmax(axis=1)]
        elif self.space.kind == "multilabel":
            decided = [";".join(n for n, on in zip(names, row, strict=True) if on) or "-" for row in p >= 0.5]
        else:
            decided = [""] * len(self)
        return [label if read else "" for label, read in zip(decided, self.readable, strict=True)]

    @property
    def confidence(self) -> FloatArray:
        """(F,) probability of the decision; of the least sure of several decisions.

        NaN where there was nothing to read, and for a continuous task.
        """
        p = self.probabilities
        if self.space.kind == "classes":
            return np.asarray(p.max(axis=1))
        if self.space.kind == "multilabel":
            return np.asarray(np.maximum(p, 1 - p).min(axis=1))
        return np.full(len(self), np.nan)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one row per frame; a reader sees the whole file or none of it.

        Columns: `frame, time` (seconds, six decimals), `p_<class>` each, `label, confidence`; for a continuous task
        `v_<dimension>` each instead of these; then `weight_<modality>` where the fusion gives weights. Where there was
        nothing to read, all cells after `time` are empty.

        Raises:
            UserError: the folder cannot be written.
        """
        assert self.frame_index is not None
        continuous = self.space.kind == "continuous"
        weights = self.modality_weights or {}
        head = ["frame", "time", *(f"{'v' if continuous else 'p'}_{name}" for name in self.space.names)]
        head += [] if continuous else ["label", "confidence"]
        labels, confidence = self.labels, self.confidence
        with replacing(path) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([*head, *(f"weight_{name}" for name in weights)])
            for i in range(len(self)):
                values = [_digits(v) for v in self.probabilities[i].tolist()]
                decided = [] if continuous else [labels[i], _digits(confidence[i])]
                shares = [_digits(weight[i]) for weight in weights.values()]
                table.writerow([int(self.frame_index[i]), f"{self.times[i]:.6f}", *values, *decided, *shares])


@dataclass(frozen=True)
class Segment:
    """A stretch of media time that people have labelled: `start` and `end` in seconds, half-open."""

    start: float
    end: float
    label: str


def read_segments(path: str | os.PathLike[str]) -> list[Segment]:
    """Read a truth file: CSV with the columns `start`, `end` (seconds) and `label`; others are ignored.

    Returns:
        The segments in order of their start.

    Raises:
        UserError: no such file, a missing column, or a row that is not a segment; names the file and line (from 1).
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return sorted(_parse_segments(file, path), key=lambda s: (s.start, s.end))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "Check the path of the truth file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", "Save it as CSV, UTF-8, separated by commas") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "Check the path and its permissions") from None


def class_colours(space: LabelSpace) -> dict[str, str]:
    """Label name to `#RRGGBB`.

    An emotion has the same colour in every space (the first of several names for one emotion); other names go round a
    fixed cycle, past the colours that look like one already taken.
    """
    colours: dict[str, str] = {}
    for name in space.names:
        known = _KNOWN_COLOURS.get(name.strip().lower())
        if known and known not in colours.values():
            colours[name] = known
    free: list[str] = []
    for name in space.names:
        if name not in colours:
            free = free or list(_OTHER_COLOURS)
            distance = {c: min((_distance(c, taken) for taken in colours.values()), default=1.0) for c in free}
            colours[name] = next((c for c in free if distance[c] > 0.3), max(free, key=lambda c: distance[c]))
            free.remove(colours[name])
    return {name: colours[name] for name in space.names}


def draw_timeline(
    timeline: Timeline,
    path_or_buffer: str | os.PathLike[str] | IO[bytes],
    truth: Sequence[Segment] | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw a clip over media time as PNG, ten inches wide at 150 dots per inch.

    From top to bottom: one band per class (each from 0 to 100 %; its mean over the clip at the right), or one line per
    dimension of a continuous task; a ribbon of the likeliest class (several labels: blank where none reaches 0.5); a
    ribbon of the truth; the share of each modality in the sum of the weights.

    Where there was nothing to read, bands, lines and shares have a gap and the ribbon is light grey (`no reading`).
    Means are over the frames that could be read; a clip without any is drawn too, and says so.

    Args:
        timeline: any number of frames; more than the picture has columns are averaged (those that could be read; a
            gap only where none could), the ribbon shows the commonest label.
        path_or_buffer: where the PNG goes. A file takes its name only once it is complete.
        truth: labelled stretches; None leaves the ribbon out. Names that are not in the space are drawn in grey.
        title: the name of the clip where left out.
        subtitle: task, number of frames and duration where left out.

    Raises:
        UserError: the folder cannot be written.
    """
    picture = io.BytesIO()
    figure = _Picture(timeline, truth).figure(title or timeline.clip_id, subtitle or _about(timeline))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a title in a script that the font lacks
        figure.savefig(picture, format="png", dpi=_DPI, metadata={"Software": "mer"})
    if not isinstance(path_or_buffer, str | os.PathLike):
        path_or_buffer.write(picture.getvalue())
        return
    with replacing(path_or_buffer) as file:
        file.buffer.write(picture.getvalue())  # type: ignore[attr-defined]  # an open text file has a byte buffer


def clock(seconds: float, longest: float) -> str:
    """A media time as a reader of a clip of `longest` seconds wants it: `2.4 s`, `1:05`, `1:02:07`."""
    if longest <= 90:
        return f"{seconds:.3g} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if longest >= 3600 else f"{minutes}:{rest:02d}"


class _Picture:
    """One drawing: the rows it needs, and their places on the page in inches."""

    def __init__(self, timeline: Timeline, truth: Sequence[Segment] | None):
        self.timeline, self.truth = timeline, truth
        self.space, self.colours = timeline.space, class_colours(timeline.space)
        self.start, self.end = min(0.0, float(timeline.times[0])), timeline.end
        self.ribbon = self.space.kind != "continuous"
        self.bins = _Bins(timeline)
        row_names = [_shortened(name, 20) for name in self.space.names] if self.ribbon else []
        self.left = 0.42 + 0.078 * max(len(name) for name in ["likeliest", "modalities", *row_names])
        modalities = [_shortened(name, 12) for name in timeline.modality_weights or {}]
        beside = [f"{name} 100 %" for name in modalities] or ["100 %"]
        beside += [] if self.ribbon else [_shortened(name, 16) for name in self.space.names]
        self.right = 0.32 + 0.08 * max(map(len, beside))

    def figure(self, title: str, subtitle: str) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        classes = len(self.space)
        heights = [min(max(0.3 * classes, 1.5), 4.2)] if self.ribbon else [2.3]
        heights += [0.27] * self.ribbon + [0.27] * (self.truth is not None)
        heights += [0.5] if self.timeline.modality_weights else []
        top, bottom, gap = 0.98, 0.45, 0.11
        self.height = max(3.2, top + sum(heights) + gap * (len(heights) - 1) + bottom)
        heights[0] += self.height - (top + sum(heights) + gap * (len(heights) - 1) + bottom)
        self.page = Figure(figsize=(_WIDTH, self.height), facecolor="white")
        FigureCanvasAgg(self.page)
        self._write(0.22, 0.33, _shortened(title, 88), size=13, weight="bold")
        self._write(0.22, 0.6, _shortened(subtitle, 130), size=9, color=_GREY)

        axes, y = [], top
        for height in heights:
            axes.append(self._axes(y, height))
            y += height + gap
        rest = iter(axes)
        if self.ribbon:
            self._bands(next(rest), top)
            self._likeliest(next(rest))
        else:
            self._lines(next(rest))
        if self.truth is not None:
            self._true(next(rest))
        if self.timeline.modality_weights:
            self._weights(next(rest))
        self._time_axis(axes)
        return self.page

    def _axes(self, top: float, height: float) -> Any:
        width = _WIDTH - self.left - self.right
        box = (self.left / _WIDTH, 1 - (top + height) / self.height, width / _WIDTH, height / self.height)
        axes = self.page.add_axes(box)
        axes.set_xlim(self.start, self.end)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_yticks([])
        axes.patch.set_visible(False)
        return axes

    def _write(self, x: float, y: float, text: str, size: float, color: str = _INK, **how: Any) -> None:
        """Text at `x`, `y` inches from the left and the top."""
        style: dict[str, Any] = {"family": _FONT, "fontsize": size, "color": color, "parse_math": False} | how
        self.page.text(x / _WIDTH, 1 - y / self.height, text, **style)

    def _beside(self, axes: Any, y: float, text: str, side: str, **how: Any) -> None:
        """Text left or right of the axes at its height `y` (data)."""
        style = {"family": _FONT, "fontsize": 9, "color": _INK, "parse_math": False, "va": "center"} | how
        x, shift, align = (0, -8, "right") if side == "left" else (1, 8, "left")
        axes.annotate(
            text, (x, y), (shift, 0), xycoords=("axes fraction", "data"), textcoords="offset points", ha=align, **style
        )

    def _bands(self, axes: Any, top: float) -> None:
        names, bins, count = self.space.names, self.bins, len(self.space)
        axes.set_ylim(-0.03, count)
        means = self.timeline.mean
        likeliest = -1 if np.isnan(means).any() else int(means.argmax())
        head: dict[str, Any] = {"size": 7.5, "color": _GREY, "va": "bottom"}
        self._write(self.left, top - 0.05, "probability, each band 0 to 100 %", **head)
        self._write(_WIDTH - self.right + 0.11, top - 0.05, "mean", **head)
        for i, name in enumerate(names):
            base, colour = count - 1 - i, self.colours[name]
            x, y = bins.curve(bins.mean[:, i])
            axes.axhline(base, color=_FAINT, linewidth=0.8, zorder=1)
            axes.fill_between(x, base, base + 0.9 * y, color=colour, alpha=0.38, linewidth=0, zorder=2)
            axes.plot(x, base + 0.9 * y, color=colour, linewidth=1.3, zorder=3, **_LINE_ENDS)
            weight = "bold" if i == likeliest else "normal"
            self._beside(axes, base + 0.42, _shortened(name, 20), "left", fontweight=weight)
            self._beside(axes, base + 0.42, _percent(means[i]), "right", fontweight=weight)
        self._nothing_at_all(axes)

    def _lines(self, axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        bins, names = self.bins, self.space.names
        read = bins.mean[bins.readable]
        low, high = (float(read.min()), float(read.max())) if len(read) else (0.0, 1.0)
        pad = 0.08 * (high - low) or 0.5
        axes.set_ylim(low - pad, high + pad)
        if len(read):
            axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=_GREY, labelfontfamily=_FONT)
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        if low < 0 < high:
            axes.axhline(0, color=_GREY, linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            axes.plot(*bins.curve(bins.mean[:, i]), color=self.colours[name], linewidth=1.6, zorder=3, **_LINE_ENDS)
        places = _spread(read[-1] if len(read) else np.full(len(names), 0.5), 0.075 * (high - low + 2 * pad))
        for name, y in zip(names, places, strict=True):
            self._beside(axes, y, _shortened(name, 16), "right", color=self.colours[name], fontweight="bold")
        self._nothing_at_all(axes)

    def _nothing_at_all(self, axes: Any) -> None:
        """Say it, where no frame of the clip could be read."""
        if self.bins.readable.any():
            return
        axes.text(
            *(0.5, 0.5, "There was nothing to read in this clip"),
            **{"family": _FONT, "fontsize": 11, "color": _GREY, "ha": "center", "va": "center"},
            transform=axes.transAxes,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 4},
        )

    def _likeliest(self, axes: Any) -> None:
        names, edges = self.space.names, self.bins.edges
        self._beside(axes, 0.5, "likeliest", "left", color=_GREY)
        self._background(axes)
        for first, last in _runs(self.bins.decided):
            decided = self.bins.decided[first]
            if decided >= 0:
                self._stretch(axes, edges[first], edges[last], names[decided])
        self._gaps(axes, _NO_READING)

    def _true(self, axes: Any) -> None:
        self._beside(axes, 0.5, "truth", "left", color=_GREY)
        self._background(axes)
        for segment in self.truth or ():
            start, end = max(segment.start, self.start), min(segment.end, self.end)
            if start < end:
                self._stretch(axes, start, end, segment.label)

    def _background(self, axes: Any) -> None:
        axes.set_ylim(0, 1)
        axes.axhspan(0, 1, color="#F3F4F6", linewidth=0, zorder=0)

    def _gaps(self, axes: Any, text: str = "") -> None:
        """Light grey where nothing could be read, with a text where there is room for it."""
        edges, readable = self.bins.edges, self.bins.readable
        gaps = [(edges[first], edges[last]) for first, last in _runs(readable) if not readable[first]]
        axes.broken_barh([(start, end - start) for start, end in gaps], (0, 1), color=_FAINT, linewidth=0, zorder=0.5)
        for start, end in gaps:
            self._inside(axes, start, end, text, color=_GAP_INK, fontsize=7.5)

    def _stretch(self, axes: Any, start: float, end: float, label: str) -> None:
        """A filled stretch of a ribbon, with its name where there is room for it."""
        from matplotlib.patches import Rectangle

        colour = self.colours.get(label, "#B9BEC6")
        width = self._inches(start, end)
        axes.add_patch(
            Rectangle((start, 0), end - start, 1, facecolor=colour, edgecolor="white", linewidth=0.8 * (width > 0.06))
        )
        self._inside(axes, start, end, _shortened(label, 24), color=_ink_on(colour), fontsize=8)

    def _inside(self, axes: Any, start: float, end: float, text: str, **how: Any) -> None:
        """Text in the middle of a stretch of a ribbon, where there is room for it."""
        if self._inches(start, end) > 0.07 * len(text) + 0.06:
            style: dict[str, Any] = {"family": _FONT, "parse_math": False, "ha": "center", "va": "center"} | how
            axes.text((start + end) / 2, 0.47, text, clip_on=True, **style)

    def _inches(self, start: float, end: float) -> float:
        """Width of a stretch of media time on the page."""
        return (end - start) / (self.end - self.start) * (_WIDTH - self.left - self.right)

    def _weights(self, axes: Any) -> None:
        weights = self.timeline.modality_weights or {}
        table = np.maximum(np.stack(list(weights.values()), axis=1), 0)
        whole = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, whole, out=np.zeros_like(table), where=whole > 0)
        self._beside(axes, 0.5, "modalities", "left", color=_GREY)
        self._background(axes)
        self._gaps(axes)
        tops = np.cumsum(self.bins.average(shares), axis=1)
        bottoms = np.concatenate([np.zeros((len(tops), 1)), tops[:, :-1]], axis=1)
        middles = np.nan_to_num(_mean_of(tops + bottoms, self.bins.readable) / 2, nan=0.5)
        means = _mean_of(shares, self.timeline.readable)
        places = _spread(middles, 0.3)
        places += 0.5 - (places.max() + places.min()) / 2 if len(places) > 3 else 0
        for i, (name, y) in enumerate(zip(weights, places, strict=True)):
            colour = _MODALITY_COLOURS[i % len(_MODALITY_COLOURS)]
            x, low = self.bins.curve(bottoms[:, i])
            axes.fill_between(x, low, self.bins.curve(tops[:, i])[1], color=colour, linewidth=0)
            label = f"{_shortened(name, 12)} {_percent(means[i])}"
            self._beside(axes, y, label, "right", fontsize=8, color=_darker(colour))

    def _time_axis(self, axes: Sequence[Any]) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter

        ticks = _ticks(self.start, self.end)
        for one in axes:
            one.xaxis.set_major_locator(FixedLocator(ticks))
            one.tick_params(axis="x", length=0, labelbottom=False)
        for one in axes[:1]:
            one.grid(axis="x", color=_FAINT, linewidth=0.8, zorder=0)
            one.set_axisbelow(True)
        last, longest = axes[-1], self.end
        last.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x + 0.0, longest)))
        last.tick_params(
            axis="x", length=3, color=_GREY, labelbottom=True, labelsize=8, labelcolor=_GREY, labelfontfamily=_FONT
        )


class _Bins:
    """The frames of a timeline, or averages over neighbours where there are more than a picture can show.

    Attributes:
        edges: (K + 1,) seconds; bin k is shown from edges[k] to edges[k + 1].
        readable: (K,) True where at least one frame could be read. Only such frames count in what follows.
        mean: (K, C) mean probability or value; NaN where nothing could be read.
        decided: (K,) commonest decision of a class task or several labels; -1 for none.
    """

    def __init__(self, timeline: Timeline):
        frames = len(timeline)
        self.count = min(frames, _MOST_COLUMNS)
        self.first = np.linspace(0, frames, self.count, endpoint=False).astype(np.int64)
        sizes = np.diff([*self.first, frames])
        self.edges = np.append(timeline.times[self.first], timeline.end)
        self.frame_readable = timeline.readable
        self.read = np.add.reduceat(self.frame_readable.astype(np.int64), self.first)  # frames per bin
        self.readable = self.read > 0
        self.mean = self.average(timeline.probabilities)
        likeliest = timeline.probabilities.argmax(axis=1)
        if timeline.space.kind == "multilabel":
            likeliest = np.where(timeline.probabilities.max(axis=1) >= 0.5, likeliest, -1)
        votes = np.zeros((self.count, len(timeline.space) + 1))
        np.add.at(votes, (np.repeat(np.arange(self.count), sizes), likeliest + 1), self.frame_readable)
        self.decided = votes.argmax(axis=1) - 1

    def average(self, values: FloatArray) -> FloatArray:
        """(F, C) to (K, C), over the frames that could be read; NaN where none could."""
        total = np.add.reduceat(np.where(self.frame_readable[:, None], values, 0), self.first, axis=0)
        return np.where(self.readable[:, None], total / np.maximum(self.read, 1)[:, None], np.nan)

    def curve(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points of a line through (K,) values: steps where there are few, else the last value up to the next gap.

        NaN breaks the line.
        """
        if self.count <= _STEP_FRAMES:
            return np.repeat(self.edges, 2)[1:-1], np.repeat(values, 2)
        x: list[FloatArray] = [np.empty(0)]
        y: list[FloatArray] = [np.empty(0)]
        for first, last in _runs(self.readable):
            if self.readable[first]:
                x.append(self.edges[[*range(first, last + 1), last]])
                y.append(np.append(values[first:last], [values[last - 1], np.nan]))
        return np.concatenate(x), np.concatenate(y)


def _parse_segments(file: IO[str], path: Path) -> Iterator[Segment]:
    table = csv.DictReader(file)
    missing = [name for name in ("start", "end", "label") if name not in (table.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path}, line 1: no column {', '.join(map(repr, missing))}",
            "Begin the file with the line start,end,label (separated by commas)",
        )
    for row in table:
        where = f"{path}, line {table.line_num}"
        start, end = (_seconds(row, name, where) for name in ("start", "end"))
        if end <= start:
            raise UserError(f"{where}: end {end:g} is not after start {start:g}", "Correct the row")
        label = (row["label"] or "").strip()
        if not label:
            raise UserError(f"{where}: label is empty", "Name the label, or leave the row out")
        yield Segment(start, end, label)


def _seconds(row: Mapping[str, str | None], name: str, where: str) -> float:
    cell = row[name] or ""
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"{where}: {name} {cell!r} is not a media time", "Write seconds from the start, e.g. 12.48")
    return seconds


def _about(timeline: Timeline) -> str:
    frames = "1 frame" if len(timeline) == 1 else f"{len(timeline):,} frames"
    gaps = int((~timeline.readable).sum())
    nothing = f", {gaps:,} with nothing to read" if gaps else ""
    return f"{timeline.task} · {frames}{nothing} · {clock(timeline.duration, timeline.duration)}"


def _mean_of(values: FloatArray, rows: NDArray[np.bool_]) -> FloatArray:
    """Mean of some rows of (N, C), or NaN where there are none."""
    return np.asarray(values[rows].mean(axis=0)) if rows.any() else np.full(values.shape[1], np.nan)


def _runs(values: NDArray[Any]) -> list[tuple[int, int]]:
    """First and last + 1 of each stretch of equal values."""
    cuts = (np.flatnonzero(np.diff(values)) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(values)], strict=True))


def _digits(value: float) -> str:
    return "" if math.isnan(value) else format(value, ".9g")


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def _shortened(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _ticks(start: float, end: float) -> list[float]:
    """Round media times, about eight of them."""
    span = end - start
    if end <= 90:
        scale = 10 ** math.floor(math.log10(span / 8))
        steps = [scale * s for s in (1, 2, 5, 10)]
    else:
        steps = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]
        steps.append(3600 * math.ceil(span / 8 / 3600))
    step = next((s for s in steps if span / s <= 9), steps[-1])
    return [step * i for i in range(math.ceil(start / step), math.floor(end / step + 1e-9) + 1)]


def _spread(wanted: Sequence[float] | FloatArray, apart: float) -> FloatArray:
    """Places near the wanted ones, in the same order, at least `apart` from each other."""
    wanted = np.asarray(wanted, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    steps = apart * np.arange(len(wanted))
    placed = np.empty_like(wanted)
    placed[order] = np.maximum.accumulate(wanted[order] - steps) + steps
    return placed - np.mean(placed - wanted)  # the push goes both ways


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _distance(one: str, other: str) -> float:
    return math.dist(_channels(one), _channels(other))


def _ink_on(colour: str) -> str:
    """White or dark text, whichever contrasts more with the colour (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _INK if luminance > 0.2 else "#FFFFFF"


def _darker(colour: str) -> str:
    return "#" + "".join(f"{round(255 * 0.62 * c):02X}" for c in _channels(colour))
