"""The eye encoders as a user has them: tables of a tracker, a manifest, a YAML; and what can be learnt from each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from media.moving_eyes import clock, jump, noise

from mer import checkpoint, encoders
from mer.encoders import Encoder
from mer.labels import SPACES
from mer.media.gaze_files import load
from mer.spec import InputSpec
from mer.tokens import Sampled

WAYS = SPACES["synthetic4.v1"].names
SCREEN = {"width_cm": 50.0, "height_cm": 30.0, "distance_cm": 60.0, "unit": "norm"}
RATE, SECONDS = 120.0, 3.0
SMALL: dict[str, Any] = {"dim": 16, "dropout": 0.0}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gaze": ("EyeLSTM", {"columns": ["gaze_x", "gaze_y"], "rate": 60, "hidden": 16, "steps": 32, "standardise": True}),
    "tcn": ("EyeTCN", SMALL | {"columns": ["gaze_x", "gaze_y", "pupil_left"], "channels": [8, 8], "blocks": 2}),
    "transformer": ("EyeTransformer", SMALL | {"columns": ["gaze_x", "gaze_y", "pupil_left"], "channels": [8, 8, 8]}),
    "events": ("EyeEvents", SMALL | {"screen": SCREEN}),
    "statistics": ("EyeStatistics", SMALL | {"screen": SCREEN, "length": 3.0, "hop": 3.0}),
    "maps": ("FixationMap", SMALL | {"screen": SCREEN, "size": 16, "patch": 8, "length": 1.0}),
}


def eyes(way: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaze in shares and pupils in mm: rests on the left; rests on the right; follows something; jumps about."""
    random = np.random.default_rng(seed)
    times = clock(SECONDS, RATE)
    degrees = noise((len(times), 2), seed)
    degrees[:, 0] += (-6.0, 6.0, 0.0, 0.0)[way] + random.normal(0, 0.5)
    if way == 2:
        degrees[:, 0] += 4 * np.sin(2 * np.pi * 0.5 * (times + random.random()))
    if way == 3:
        for k in range(1, 9):
            degrees[:, k % 2] += jump(times, k / 3, 5.0 if k % 4 < 2 else -5.0)
    shares = 0.5 + np.tan(np.radians(degrees)) * 60 / (50.0, 30.0)
    return shares, 3 + random.normal(0, 0.3) + noise((len(times), 2), seed, 0.02)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people with a clip of each way; a blink in every other clip."""
    folder = tmp_path_factory.mktemp("eyes")
    tasks = {"emotion": {"space": {"name": "synthetic4.v1", "kind": "classes", "names": list(WAYS)}, "level": "video"}}
    tasks["emotion"]["column"] = "emotion"
    about = {"name": "eyes", "licence": "CC0-1.0", "protocol": "made up", "root": ".", "tasks": tasks}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(about | {"subject_disjoint": True}))
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["clip_id", "subject", "group", "start", "end", "split", "fold", "emotion", *ENCODERS])
        for person in range(10):
            for way, name in enumerate(WAYS):
                clip = f"p{person}_{way}"
                shares, pupils = eyes(way, 10 * person + way)
                lost = np.zeros(len(shares), bool)
                lost[200:220] = (person + way) % 2 == 0
                lines = ["time_s,gaze_x,gaze_y,pupil_left,pupil_right"]
                for k, (point, pupil) in enumerate(zip(shares, pupils, strict=True)):
                    cells = ",,," if lost[k] else ",".join(f"{v:.6f}" for v in (*point, *pupil))
                    lines.append(f"{k / RATE:.5f},{cells}")
                (folder / f"{clip}.csv").write_text("\n".join(lines) + "\n")
                split = "train" if person < 7 else "val" if person < 8 else "test"
                rows.writerow([clip, f"p{person}", "", 0, SECONDS, split, 0, name, *[f"{clip}.csv"] * len(ENCODERS)])
    return folder / "manifest.csv"


def config(path: Path, corpus: Path, names: list[str], epochs: int) -> Path:
    made = {n: {"class_path": f"mer.encoders.{ENCODERS[n][0]}", "init_args": ENCODERS[n][1]} for n in names}
    data = {
        "seed_everything": 0,
        "model": {"encoders": made, "lr": 5e-3},
        "data": {"manifest": str(corpus), "keep_in_memory": True, "batch_size": 8},
        "trainer": {"max_epochs": epochs, "enable_progress_bar": False, "accelerator": "cpu"},
    }
    data["model"]["fusion"] = {"class_path": "mer.fusion.AttentionPool", "init_args": {"dim": 16}}
    path.write_text(yaml.safe_dump(data))
    return path


def test_all_of_them_train_from_one_yaml(corpus: Path, tmp_path: Path) -> None:
    made = config(tmp_path / "all.yaml", corpus, list(ENCODERS), 1)
    assert tiny.mer("fit", "--config", made, "--out", tmp_path / "run") == 0
    assert set(checkpoint.load(tmp_path / "run" / "model.safetensors")[0].encoders) == set(ENCODERS)


def batch(folder: Path, people: range, spec: InputSpec) -> tuple[Sampled, torch.Tensor]:
    """Clips of some people, as the encoder wants them, and their ways."""
    streams = [load(folder, f"p{p}_{w}.csv", spec, 0.0, SECONDS) for p in people for w in range(len(WAYS))]
    size = max(len(s) for s in streams)
    values, spans = torch.zeros(len(streams), size, *spec.item_shape()), torch.zeros(len(streams), size, 2)
    mask = torch.zeros(len(streams), size, dtype=torch.bool)
    for row, s in enumerate(streams):
        values[row, : len(s)], spans[row, : len(s)] = torch.from_numpy(s.values), torch.from_numpy(s.spans)
        mask[row, : len(s)] = True
    return Sampled(values, mask, spans), torch.arange(len(WAYS)).repeat(len(people))


@pytest.mark.parametrize("name", ENCODERS)
def test_each_learns_what_eyes_do_and_knows_it_of_other_people(corpus: Path, name: str) -> None:
    torch.manual_seed(0)
    class_name, arguments = ENCODERS[name]
    encoder: Encoder = getattr(encoders, class_name)(**arguments)
    head = torch.nn.Linear(encoder.dim, len(WAYS))
    seen, way = batch(corpus.parent, range(6), encoder.spec)
    encoder.calibrate([seen])
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(100 if name == "gaze" else 20):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(encoder(seen).mean()), way).backward()
        optimiser.step()
    new, wanted = batch(corpus.parent, range(6, 10), encoder.eval().spec)
    with torch.no_grad():
        answer = head(encoder(new).mean()).argmax(1)
    if name == "statistics":  # where the eyes rest is not among them
        answer, wanted = answer.clamp(min=1), wanted.clamp(min=1)
    assert (answer == wanted).float().mean() >= 0.8  # chance is 0.25
