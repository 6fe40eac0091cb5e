"""Between the modalities: every module of the zoo learns an exclusive-or; no single modality and no mean of scores does.

The commands are those of docs/fusion.md. Two minutes of CPU time.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import yaml
from tiny import mer

from mer.evaluation import Scores
from mer.experiments import compare_fusions
from mer.shipped import shipped

CONFIG = shipped("configs") / "compare" / "synthetic_xor.yaml"
ZOO = compare_fusions.chosen(shipped("configs") / "compare" / "fusions.yaml", ["all"])
BLIND = ("late", "cmtf_late")  # a sum of one score per modality is right on three of the four pairs of cues at best
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the corpus, encoders that know their own cue, and their tokens."""
    home = tmp_path_factory.mktemp("xor")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        manifest = "data/synthetic/manifest.csv"
        assert mer("prepare", "synthetic", "--out", "data/synthetic") == 0
        cues = ["fit", "--config", shipped("configs") / "quickstart.yaml", "--data.manifest", manifest, *QUIET]
        cues += ["--data.tasks_used", "[emotion]", "--model.fusion", "mer.fusion.Late", "--out", "runs/synthetic_cues"]
        assert mer(*cues) == 0
        assert mer("extract", "--config", CONFIG, "--manifest", manifest, "--store", "data/synthetic_tokens") == 0
    return home


def war(home: Path, monkeypatch: pytest.MonkeyPatch, fusion: str, name: str, *more: str) -> float:
    """WAR of `agreement` on the test people, of one line of the zoo."""
    monkeypatch.chdir(home)
    command = ["compare-fusions", "--config", CONFIG, "--fusions", fusion, "--seeds", "1", "--out", f"runs/{name}"]
    assert mer(*command, *QUIET, *more) == 0
    with Path(f"runs/{name}/fusions_agreement.csv").open(newline="") as stream:
        return float(next(csv.DictReader(stream))["war"])


@pytest.mark.parametrize("name", [entry.name for entry in ZOO if entry.name not in BLIND])
def test_a_module_sees_what_lies_between_the_modalities(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert war(home, monkeypatch, name, "xor") > 0.95


@pytest.mark.parametrize("name", BLIND)
def test_scores_alone_do_not(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert war(home, monkeypatch, name, "xor") < 0.8


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_single_modality_stays_at_chance(home: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> None:
    part = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["model"]
    alone = [f"--model.{key}={json.dumps({modality: part[key][modality]})}" for key in ("encoders", "encoder_weights")]
    reached = war(home, monkeypatch, "attention_pool", f"{modality}_alone", *alone)
    clips = len(Scores.read(home / f"runs/{modality}_alone/attention_pool/seed0/scores_agreement.csv"))
    # 99.9 % of the binomial distribution of guesses.
    assert abs(reached - 0.5) < 3.3 * math.sqrt(0.25 / clips)


def test_the_encoders_tell_their_cues_apart(home: Path) -> None:
    """Else a module could fail for want of anything to see, and a single modality stay at chance for no good reason."""
    rows = list(csv.DictReader((home / "runs/synthetic_cues/metrics.csv").open(newline="")))
    last = [row for row in rows if row["val/loss_emotion_video"]][-1]
    for modality in ("video", "audio"):  # one half of the emotion told, the other half a toss: ln 2
        assert float(last[f"val/loss_emotion_{modality}"]) == pytest.approx(math.log(2), abs=0.05)
