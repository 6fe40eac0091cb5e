"""`mer quickstart`: a corpus, a trained fusion model, an honest score, a timeline and a report, without any download."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from mer.datasets.synthetic import generate
from mer.errors import UserError
from mer.evaluation import Evaluation, Scores
from mer.evaluation.bootstrap import paired_bootstrap
from mer.evaluation.summary import evaluate
from mer.experiments.training import open_test, parse, run_folder, train, train_counts
from mer.inference.predict import write_result
from mer.inference.predictor import Predictor
from mer.inference.report import write_report
from mer.inference.timeline import draw_timeline, read_segments
from mer.runs import environment, write_json
from mer.shipped import shipped

CONFIG = "configs/quickstart.yaml"
SUBJECTS, CLIPS = 40, 12
FAINT = 0.12  # a share of clips that cannot be told, as in life: a score of 100 % teaches nothing


@dataclass(frozen=True)
class Trained:
    """One trained and scored model."""

    name: str
    scores: dict[str, Scores]
    evaluations: dict[str, Evaluation]


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "mer quickstart",
        description="Make a small synthetic corpus of talking faces, train a two-modality model on it, score it on people it"
        " has not seen, read the timeline of an interview, and write a report. No download.",
    )
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="run folder (default: ./quickstart)")
    parser.add_argument("--subjects", type=int, default=SUBJECTS, help=f"people in the corpus (default {SUBJECTS})")
    parser.add_argument("--epochs", type=int, help="training epochs (default: what the config says)")
    parser.add_argument("--no-ablation", action="store_true", help="do not train the single modalities for comparison")
    options = parser.parse_args(argv)
    begun = time.monotonic()
    out = options.out
    if (out / "report.html").exists():
        raise UserError(f"{out}: this quickstart is finished, see {out / 'report.html'}", "Choose another --out")
    out.mkdir(parents=True, exist_ok=True)

    print("1/4  a synthetic corpus: talking faces; the face gives one half of the emotion and the voice the other")
    generate(out / "corpus", subjects=options.subjects, clips_per_subject=CLIPS, faint=FAINT)

    overrides = ["--trainer.max_epochs", str(options.epochs)] if options.epochs else []
    print("2/4  train face + voice" + ("" if options.no_ablation else ", then each of them alone for comparison"))
    fused = _trained("face + voice", out, out / "corpus", overrides)
    alone = []
    if not options.no_ablation:
        for modality, name in (("video", "face alone"), ("audio", "voice alone")):
            other = {"video": "audio", "audio": "video"}[modality]
            # One modality less is one line of config, here and in YAML.
            without = [f"--model.encoders={_single(modality)}", *overrides]
            alone.append(_trained(name, out / f"without_{other}", out / "corpus", without))

    print("3/4  read the timeline of an interview with somebody the model has never seen")
    predictor = Predictor(out / "model.safetensors", device="cpu", window=1.5)
    interview = out / "corpus" / "interview.mp4"
    result = predictor.read(interview)
    write_result(out / "prediction", "interview", interview, result, predictor, environment())
    truth = read_segments(out / "corpus" / "interview_truth.csv")
    timeline = result.timelines["emotion"]
    draw_timeline(timeline, out / "prediction" / "interview_emotion_timeline.png", truth, title="interview.mp4")

    print("4/4  report")
    notes = [
        "The corpus is drawn and sung by a program. The score says that the toolkit works, and nothing about people.",
        f"In {FAINT:.0%} of the clips both cues are too faint to tell, so nobody reaches 100 %.",
        "Each modality alone gets half of the emotions right at best: the face tells joyful or relieved from alarmed or sad,"
        " the voice joyful or alarmed from relieved or sad.",
    ]
    for single in alone:
        test = paired_bootstrap(fused.scores["emotion"], single.scores["emotion"], "war")
        p_value = "" if test.p_value is None else f", p = {test.p_value:.3f}"
        notes.append(f"Face + voice against {single.name}: {100 * test.difference.value:+.1f} points WAR{p_value}.")
    agreement = ", ".join(f"{m.name} {m.evaluations['agreement'].show('war')}" for m in (fused, *alone))
    notes.append(
        f"Whether face and voice agree is their exclusive-or, of which one alone says nothing. WAR: {agreement}."
    )
    facts = environment()
    summary = {m.name: {task: e.to_dict() for task, e in m.evaluations.items()} for m in (fused, *alone)}
    write_json(out / "summary.json", summary)
    write_report(
        out / "report.html",
        title="mer quickstart",
        evaluation=fused.evaluations["emotion"],
        intro="A model that joins a face and a voice, trained from scratch on a synthetic corpus and scored on people it has"
        " not seen.",
        comparisons=[(m.name, m.evaluations["emotion"]) for m in (fused, *alone)] if alone else [],
        timelines=[(timeline, truth)],
        curves=out / "metrics.csv",
        facts={
            "command": facts["command"],
            "seed": fused.scores["emotion"].seed[0],
            "model": predictor.model_id,
            "test split opened": f"{_openings(out)} time(s)",
            **{f"version of {k}": v for k, v in facts["versions"].items()},
            "machine": f"{facts['platform']}, {facts['cpus']} CPUs",
        },
        config=(out / "config.yaml").read_text(encoding="utf-8"),
        notes=notes,
    )
    print()
    for model in (fused, *alone):
        emotion, agree = (model.evaluations[task].show("war") for task in ("emotion", "agreement"))
        print(f"{model.name:<13} WAR of emotion {emotion}, of agreement {agree}")
    print(f"\nreport      {out / 'report.html'}\nscores      {out / 'scores_emotion.csv'}")
    print(
        f"checkpoint  {out / 'model.safetensors'}\nconfig      {out / 'config.yaml'}\ntimeline    {out / 'prediction'}"
    )
    print(
        f"{time.monotonic() - begun:.0f} s. Next: mer predict CLIP.mp4 --checkpoint {out / 'model.safetensors'} --out DIR"
    )
    return 0


def _trained(name: str, folder: Path, corpus: Path, overrides: list[str]) -> Trained:
    """Train and score one model, or take what an interrupted quickstart left."""
    arguments = [
        "--config",
        str(shipped(CONFIG)),
        "--data.manifest",
        str(corpus / "manifest.csv"),
        "--out",
        str(folder),
    ]
    run = parse([*arguments, *overrides], "quickstart")
    done = run_folder(str(folder))
    if not done.model.exists() or not all(done.scores(task).exists() for task in run.data.tasks):
        done.model.unlink(missing_ok=True)
        print(f"     {name}")
        train(run)
        open_test(run, "quickstart")
    scores = {task: Scores.read(done.scores(task)) for task in run.data.tasks}
    return Trained(
        name, scores, {task: evaluate(s, train_counts=train_counts(run.data, task)) for task, s in scores.items()}
    )


def _single(modality: str) -> str:
    """The encoders of the shipped config with one modality only, as JSON for the command line."""
    config = yaml.safe_load(shipped(CONFIG).read_text(encoding="utf-8"))
    return json.dumps({modality: config["model"]["encoders"][modality]})


def _openings(folder: Path) -> int:
    return len((folder / "test_openings.jsonl").read_text(encoding="utf-8").splitlines())
