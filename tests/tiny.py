"""The smallest corpus, config and model that work: for tests that need some run or some checkpoint."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from mer.cli import main
from mer.datasets.corpora.reading import Request
from mer.encoders import Encoder, FrameCNN, MelNet
from mer.fusion import AttentionPool
from mer.labels import SPACES, Task
from mer.model import EmotionModel

EMOTION = Task("emotion", SPACES["synthetic4.v1"])
CORPUS: dict[str, Any] = {"subjects": 6, "clips_per_subject": 4, "folds": 3, "seconds": 1.0, "frame_level": True}

ENCODERS: dict[str, Any] = {
    "video": {
        "class_path": "mer.encoders.FrameCNN",
        "init_args": {"dim": 8, "rate": 4, "size": 16, "channels": [4, 4]},
    },
    "audio": {
        "class_path": "mer.encoders.MelNet",
        "init_args": {"dim": 8, "bands": 16, "channels": [4, 4], "halvings": 2},
    },
}


def encoders() -> dict[str, Encoder]:
    """The encoders of `config`, as objects."""
    return {
        "video": FrameCNN(8, rate=4, size=16, channels=(4, 4)),
        "audio": MelNet(8, bands=16, channels=(4, 4), halvings=2),
    }


def model(tasks: Mapping[str, Task] | None = None, seed: int = 0, **options: Any) -> EmotionModel:
    """A model as training could have left it: its answers differ from clip to clip."""
    torch.manual_seed(seed)
    made = EmotionModel(encoders(), lambda dims: AttentionPool(dims, 8), tasks or {"emotion": EMOTION}, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return made.eval()


def config(path: Path, corpus: Path, **changes: Any) -> Path:
    """Write a config for the corpus; `changes` replace keys, e.g. `**{"trainer.max_epochs": 2}`."""
    data: dict[str, Any] = {
        "model": {"encoders": ENCODERS, "fusion": {"class_path": "mer.fusion.AttentionPool", "init_args": {"dim": 8}}},
        "data": {"manifest": str(corpus / "manifest.csv"), "tasks_used": ["emotion"], "keep_in_memory": True},
        "trainer": {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"},
    }
    for key, value in changes.items():
        section, name = key.split(".")
        data[section][name] = value
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def mer(*arguments: object) -> int:
    """The `mer` command in this process; its exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:  # argparse and jsonargparse leave so
        return int(exit_.code or 0)


def one_line(text: str) -> str:
    """What stands on stderr after a user's mistake: one line, no traceback. Progress bars and advice are left out."""
    assert "Traceback" not in text
    lines = [line for line in re.split(r"[\r\n]", text) if line.startswith(("mer", "error"))]
    assert len(lines) == 1, text
    return lines[0]


def prepared(
    reader: ModuleType, root: Path, out: Path, skip_errors: bool = False, *options: str
) -> tuple[int, dict[str, str]]:
    """`mer prepare` by a reader: number of clips, and what was left out."""
    parser = argparse.ArgumentParser()
    if hasattr(reader, "options"):
        reader.options(parser.add_argument_group("corpus"))
    request = Request(Path(root), Path(out), skip_errors, parser.parse_args(list(options)))
    request.folder()
    found = reader.read(request)
    found.write(Path(out))
    return len(found.rows), found.left_out
