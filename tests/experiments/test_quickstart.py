"""`mer quickstart` leaves a trained model, an honest score and a report, without any download."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import mer, one_line

import mer as package
from mer import checkpoint
from mer.evaluation import Scores

FILES = (
    "report.html", "summary.json", "config.yaml", "environment.json", "metrics.csv", "model.safetensors",
    "scores_emotion.csv", "test_openings.jsonl",
    "corpus/manifest.csv", "corpus/corpus.yaml", "corpus/interview.mp4",
    "prediction/interview.json",
    "prediction/interview_emotion_frames.csv", "prediction/interview_emotion_timeline.png",
    "prediction/interview_agreement_frames.csv", "prediction/interview_agreement_timeline.png",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart too small to learn anything. Tests only read the folder."""
    out = tmp_path_factory.mktemp("quick") / "run"
    assert mer("quickstart", "--out", out, "--subjects", 4, "--epochs", 1, "--no-ablation") == 0
    return out


def test_everything_is_in_one_folder(run: Path) -> None:
    assert [name for name in FILES if not (run / name).is_file() or not (run / name).stat().st_size] == []


def test_the_score_is_of_people_the_model_has_not_seen(run: Path) -> None:
    with (run / "corpus" / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        split_of = {row["subject"]: row["split"] for row in csv.DictReader(stream)}
    scores = Scores.read(run / "scores_emotion.csv")
    assert {split_of[s] for s in scores.subject} == {"test"}
    assert len(scores) == 12
    assert len((run / "test_openings.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_the_model_reads_face_and_voice(run: Path) -> None:
    model, description = checkpoint.load(run / "model.safetensors")
    assert set(model.specs) == {"video", "audio"}
    assert description["facts"]["epochs"] == 1


def test_the_timeline_has_a_row_for_every_frame_of_the_interview(run: Path) -> None:
    lines = (run / "prediction" / "interview_emotion_frames.csv").read_text(encoding="utf-8").splitlines()
    assert sum(not line.startswith("#") for line in lines) == 1 + 120  # 12 s at 10 frames per second


def test_the_report_is_one_file_that_needs_no_network(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "WAR" in page
    assert "synthetic" in page


def test_a_finished_quickstart_is_not_written_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("quickstart", "--out", run) == 2
    assert "report.html" in one_line(capsys.readouterr().err)


@pytest.mark.slow
def test_fusion_beats_each_modality_alone_within_three_minutes(tmp_path: Path) -> None:
    idle = os.getloadavg()[0] < 0.5  # three minutes are promised to a machine that does nothing else
    begun = time.monotonic()
    command = [sys.executable, "-m", "mer", "quickstart", "--out", str(tmp_path / "run")]
    subprocess.run(command, check=True, cwd=Path(package.__file__).parent.parent)
    seconds = time.monotonic() - begun
    found = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    war = {
        task: {name: entry[task]["metrics"]["war"]["value"] for name, entry in found.items()}
        for task in ("emotion", "agreement")
    }
    assert war["emotion"]["face + voice"] > 0.85
    assert war["agreement"]["face + voice"] > 0.85
    for name in ("face alone", "voice alone"):
        assert war["emotion"][name] < 0.65  # half of the emotion
        assert war["agreement"][name] < 0.65  # chance is 0.5
    assert found["face + voice"]["emotion"]["subjects"] == 10
    assert seconds < 180 or not idle
