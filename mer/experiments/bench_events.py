"""`mer bench events`: eye movements as detected here and as two human raters label them, sample by sample.

The file is an .npz of recordings end to end, such as those of Andersson, Larsson, Holmqvist, Stridh and Nystrom (One
algorithm to rule them all?, Behavior Research Methods 2017): `xy_px` (N, 2) pixels, 0 where lost; `event` (N, raters)
indices into `event_names`; `raters`, `offset`, `stimulus` per recording, and `meta` with `meta_columns` screen_w_m,
screen_h_m, res_x, res_y, view_dist_m, hz.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from mer.errors import UserError
from mer.media import gaze_files
from mer.media.gaze_events import Label, engbert_kliegl, idt, ivt, label
from mer.media.screen import Screen
from mer.spec import InputSpec

Detector = Callable[[np.ndarray, np.ndarray], np.ndarray]
DETECTORS: dict[str, Detector] = {
    "mer": label,
    "I-VT, 30 deg/s": ivt,
    "I-VT, 45 deg/s": partial(ivt, threshold=45.0),
    "I-DT, 1 deg": idt,
    "Engbert-Kliegl": engbert_kliegl,
}
QUESTIONS: dict[str, tuple[Label, ...]] = {
    "saccade": (Label.SACCADE,),
    "fixation or pursuit": (Label.FIXATION, Label.PURSUIT),
    "fixation": (Label.FIXATION,),
    "pursuit": (Label.PURSUIT,),
    "post-saccadic oscillation": (Label.PSO,),
    "blink": (Label.BLINK,),
}
_NAMES = {
    "fixation": Label.FIXATION, "saccade": Label.SACCADE, "pso": Label.PSO, "smooth_pursuit": Label.PURSUIT,
    "blink": Label.BLINK,
}  # fmt: skip
_META = ("screen_w_m", "screen_h_m", "res_x", "res_y", "view_dist_m", "hz")
_KEYS = ("xy_px", "event", "event_names", "raters", "offset", "stimulus", "meta", "meta_columns")


@dataclass(frozen=True)
class Rated:
    """One recording.

    Attributes:
        stimulus: what was shown, e.g. `img`.
        times: (N,) seconds.
        gaze: (N, 2) degrees, NaN where lost.
        raters: per rater (N,) of `Label`; raters that left the recording out are not there.
    """

    stimulus: str
    times: np.ndarray
    gaze: np.ndarray
    raters: dict[str, np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """One row of the table.

    Attributes:
        rater: who is held to be right.
        question: key of `QUESTIONS`.
        who: what or who is held against the rater.
        kappa: per stimulus, and under `all` for all samples together; NaN where nobody saw such an event.
    """

    rater: str
    question: str
    who: str
    kappa: dict[str, float]


def read(path: Path) -> list[Rated]:
    """The recordings of a file.

    Raises:
        UserError: it is missing, damaged, or lacks a key.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            if missing := [key for key in _KEYS if key not in held]:
                raise UserError(f"{path}: no array {missing[0]!r}", f"It should hold {', '.join(_KEYS)}")
            data = {key: held[key] for key in _KEYS}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, TypeError) as error:
        raise UserError(f"{path}: not a readable .npz ({error})", "Name the file of labelled gaze") from None
    columns = [str(name) for name in data["meta_columns"]]
    if missing := [name for name in _META if name not in columns]:
        raise UserError(f"{path}: meta says nothing of {missing[0]!r}", f"Its columns should be {', '.join(_META)}")
    if len(data["event"]) != len(data["xy_px"]) or len(data["meta"]) != len(data["offset"]) - 1:
        raise UserError(f"{path}: its arrays are of different lengths", "Write it again")
    codes = np.array([_NAMES.get(str(name), Label.NONE) for name in data["event_names"]], np.int8)
    found = []
    for row, (first, behind) in enumerate(pairwise(data["offset"])):
        about = dict(zip(columns, data["meta"][row].tolist(), strict=True))
        screen = Screen(
            100 * about["screen_w_m"], 100 * about["screen_h_m"], 100 * about["view_dist_m"], "px",
            about["res_x"], about["res_y"],
        )  # fmt: skip
        spec = InputSpec("eye", backend="file", columns=("gaze_x", "gaze_y", "valid"))
        reference = f"{path.name}#xy_px[{row}]#{about['hz']:g}hz"
        stream = gaze_files.load(path.parent, reference, spec)
        gaze = np.where(stream.values[:, 2:] > 0, stream.values[:, :2], np.nan)
        rated = codes[data["event"][first:behind]]
        raters = {str(name): rated[:, k] for k, name in enumerate(data["raters"]) if rated[:, k].any()}
        found.append(Rated(str(data["stimulus"][row]), stream.spans.mean(1), screen.degrees(gaze), raters))
    return found


def agreement(recordings: list[Rated]) -> list[Agreement]:
    """Cohen's kappa of every detector, and of the other raters, with each rater; only recordings that both labelled."""
    names = sorted({name for recording in recordings for name in recording.raters})
    made: dict[str, list[np.ndarray | None]] = {
        who: [detector(r.times, r.gaze) for r in recordings] for who, detector in DETECTORS.items()
    }
    for name in names:
        made[f"rater {name}"] = [r.raters.get(name) for r in recordings]
    stimuli = [*sorted({r.stimulus for r in recordings}), "all"]
    rows = []
    for rater in names:
        for question, kinds in QUESTIONS.items():
            for who, answers in made.items():
                if who == f"rater {rater}" or not _answers(answers, kinds):
                    continue
                kappas = {}
                for stimulus in stimuli:
                    pairs = [
                        (np.isin(recording.raters[rater], kinds), np.isin(answer, kinds))
                        for recording, answer in zip(recordings, answers, strict=True)
                        if stimulus in ("all", recording.stimulus) and rater in recording.raters and answer is not None
                    ]
                    kappas[stimulus] = _pooled(pairs)
                rows.append(Agreement(rater, question, who, kappas))
    return rows


def event_table(path: Path) -> str:
    """The agreement as aligned text, a block per rater and question.

    Raises:
        UserError: see `read`.
    """
    recordings = read(path)
    rows = agreement(recordings)
    if not rows:
        raise UserError(f"{path}: nobody labelled anything in it", "Name the file of labelled gaze")
    count = {s: sum(s in ("all", r.stimulus) for r in recordings) for s in rows[0].kappa}
    lines = [f"Cohen's kappa per sample, {', '.join(f'{n} {s}' for s, n in count.items())} recordings"]
    block = ""
    for row in rows:
        head = f"{row.question}, rater {row.rater}"
        if head != block:
            lines += ["", f"{head:<36}" + "".join(f"{s:>8}" for s in row.kappa)]
            block = head
        values = "".join(f"{'-' if np.isnan(v) else f'{v:.3f}':>8}" for v in row.kappa.values())
        lines.append(f"  {row.who:<34}{values}")
    return "\n".join(lines)


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two (N,) bool answers; NaN where chance alone explains everything."""
    if not len(a):
        return float("nan")
    p, q = a.mean(), b.mean()
    chance = p * q + (1 - p) * (1 - q)
    return float(((a == b).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def _pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    if not any(rated.any() for rated, _ in pairs):
        return float("nan")
    return kappa(*(np.concatenate(part) for part in zip(*pairs, strict=True)))


def _answers(answers: list[np.ndarray | None], kinds: tuple[Label, ...]) -> bool:
    """Whether a detector knows such events at all."""
    return any(answer is not None and np.isin(answer, kinds).any() for answer in answers)
