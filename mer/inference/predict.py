"""`mer predict CLIP ... --checkpoint FILE --out DIR`: JSON for the clip, CSV and a picture for its timeline."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mer.datasets.manifest import Clip
from mer.errors import UserError
from mer.inference.predictor import ClipResult, Predictor
from mer.inference.timeline import draw_timeline
from mer.media.folder import SOUND, VIDEO, media_files, result_names
from mer.predictions import Predictions
from mer.runs import environment, write_json

SCHEMA = 1


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser("mer predict", description="Read emotions in recordings with a trained model.")
    parser.add_argument("clips", nargs="+", type=Path, help="video or sound files, or folders of them")
    parser.add_argument("--checkpoint", type=Path, help="model.safetensors from fit, crossval or quickstart")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--start", type=float, default=0.0, help="seconds to begin at")
    parser.add_argument("--end", type=float, help="seconds to end at (default: end of the file)")
    parser.add_argument(
        "--window", type=float, help="seconds of a timeline window (default: what the encoders declare)"
    )
    parser.add_argument("--step", type=float, default=0.25, help="seconds between timeline windows")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="MODALITY=FILE",
        help="words, skeletons, gaze or features, as in a manifest cell: text=a.srt, au=f.npz#key[row]; or, of a model whose"
        " detector is precomputed, the faces in the clip: face.faces=a.csv",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--skip-errors", action="store_true", help="list clips that cannot be read at the end and go on"
    )
    parser.add_argument(
        "--allow-module", action="append", default=[], help="a module the checkpoint may name classes from"
    )
    options = parser.parse_args(argv)
    if options.checkpoint is None:
        raise UserError(
            "mer predict needs a trained model",
            "Pass --checkpoint RUN/model.safetensors; 'mer quickstart' or 'mer fit' writes one",
        )
    end = math.inf if options.end is None else options.end
    if not 0 <= options.start < end:  # NaN included
        raise UserError("--start and --end do not enclose anything", "Use 0 <= start < end, in seconds")
    clips = media_files(options.clips, VIDEO | SOUND)
    inputs = _inputs(options.input, clips)
    predictor = Predictor(
        options.checkpoint, options.device, options.window, options.step, allow_modules=options.allow_module
    )
    print(f"model {predictor.model_id} reads {', '.join(predictor.model.specs)} on {predictor.device}")

    facts = environment()
    tables = {name: Predictions(task) for name, task in predictor.tasks.items() if task.level == "video"}
    rows: dict[str, Clip] = {}
    failed: dict[Path, str] = {}
    for path, name in tqdm(list(zip(clips, result_names(clips), strict=True)), "predict", disable=len(clips) == 1):
        try:
            result = predictor.read(path, options.start, options.end, inputs)
        except UserError as error:
            if not options.skip_errors:
                raise
            failed[path] = str(error)
            continue
        write_result(options.out, name, path, result, predictor, facts)
        rows[name] = Clip(name, start=result.start, end=result.end)
        for task, table in tables.items():
            table.add_probabilities(name, result.probabilities[task])
        if len(clips) <= 5:
            print(_line(path, result, predictor))
    for task, table in tables.items():
        if rows:
            scores = table.scores(rows, "prediction", None, "", 0, predictor.model_id)
            scores.write(options.out / f"scores_{task}.csv")
    if rows:
        print(f"{len(rows)} clip(s) read, results in {options.out}")
    if failed:
        print(f"{len(failed)} clip(s) could not be read:", file=sys.stderr)
        for path, why in failed.items():
            print(f"  {path}: {why}", file=sys.stderr)
    return 1 if failed else 0


def write_result(
    out: Path, name: str, path: Path, result: ClipResult, predictor: Predictor, facts: dict[str, Any]
) -> None:
    """Write `<name>.json`, and per task `<name>_frames.csv` and `<name>_timeline.png` (task in the name if several)."""
    out.mkdir(parents=True, exist_ok=True)
    several = len(predictor.tasks) > 1
    write_json(out / f"{name}.json", to_dict(path, result, predictor, facts))
    for task, timeline in result.timelines.items():
        part = f"{name}_{task}" if several else name
        timeline.write_csv(out / f"{part}_frames.csv")
        draw_timeline(timeline, out / f"{part}_timeline.png", title=path.name)


def to_dict(path: Path, result: ClipResult, predictor: Predictor, facts: dict[str, Any]) -> dict[str, Any]:
    """The JSON of one clip; every number has a name."""
    tasks: dict[str, Any] = {}
    for name, task in predictor.tasks.items():
        entry: dict[str, Any] = {"level": task.level, "labels": task.space.to_dict()}
        if name in result.probabilities:
            values = result.probabilities[name]
            entry["probabilities"] = {n: round(float(v), 6) for n, v in zip(task.space.names, values, strict=True)}
            if task.space.kind == "classes":
                entry["label"] = task.space.names[int(np.argmax(values))]
                entry["confidence"] = round(float(np.max(values)), 6)
        tasks[name] = entry
    weights = result.modality_weights
    return {
        "schema": "mer-prediction",
        "schema_version": SCHEMA,
        "media": {
            "file": path.name,
            "duration": result.media.duration,
            "fps": result.media.fps,
            "has_video": result.media.has_video,
            "has_audio": result.media.has_audio,
        },
        "start": result.start,
        "end": result.end,
        "tasks": tasks,
        "answer_from": result.how,
        "modalities_used": result.used,
        "modalities_absent": result.absent,
        "modality_weights": None if weights is None else {m: round(w, 6) for m, w in weights.items()},
        "timeline": {"window": predictor.windows.duration, "step": predictor.windows.step},
        "model": {"id": predictor.model_id, "facts": predictor.description["facts"]},
        "versions": facts["versions"],
        "created": facts["time"],
    }


def _line(path: Path, result: ClipResult, predictor: Predictor) -> str:
    """One line for the terminal."""
    answers = []
    for name, values in result.probabilities.items():
        names = predictor.tasks[name].space.names
        best = np.argsort(values)[::-1][:3]
        answers.append(f"{name}: " + ", ".join(f"{names[i]} {values[i]:.2f}" for i in best))
    without = f" (without {', '.join(result.absent)})" if result.absent else ""
    return f"{path.name}: " + "; ".join(answers or ["see the timeline"]) + without


def _inputs(pairs: Sequence[str], clips: Sequence[Path]) -> dict[str, str]:
    inputs = dict(pair.partition("=")[::2] for pair in pairs)
    if inputs and len(clips) > 1:
        raise UserError("--input belongs to one clip", "Name a single clip, or write a manifest and use mer test")
    for modality, reference in inputs.items():
        if not modality or not reference:
            raise UserError(f"--input {modality}={reference}: not MODALITY=FILE", "Write e.g. au=features.npz#key[0]")
    return inputs
