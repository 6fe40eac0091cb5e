"""A text encoder as a user has it: transcripts, a manifest, a YAML; and a checkpoint that needs nothing beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tiny
import yaml

from encoders import letters
from mer import checkpoint
from mer.encoders import TextEncoder
from mer.labels import SPACES
from mer.media.prepare import prepare

WAYS = SPACES["synthetic4.v1"].names


def write_corpus(folder: Path) -> None:
    """Into the folder: six people who name what they feel; the first of them once says nothing."""
    space = {"name": "synthetic4.v1", "kind": "classes", "names": list(WAYS)}
    tasks = {"emotion": {"space": space, "level": "video", "column": "emotion"}}
    about = {"name": "words", "licence": "CC0-1.0", "protocol": "made up", "root": ".", "tasks": tasks}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(about | {"subject_disjoint": True}))
    rows = ["clip_id,subject,group,start,end,split,fold,emotion,text"]
    for person in range(6):
        for way, name in enumerate(WAYS):
            clip = f"p{person}_{way}"
            said = "" if (person, way) == (0, 1) else f"1\n00:00:00,200 --> 00:00:01,000\nso {name}\n"
            (folder / f"{clip}.srt").write_text(said)
            split = "train" if person < 4 else "val" if person < 5 else "test"
            rows.append(f"{clip},p{person},,0,2,{split},0,{name},{clip}.srt")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_it_trains_from_yaml_and_the_checkpoint_holds_the_tokenizer(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "tokenizer.json").write_text(letters.tokenizer().to_str())
    (weights / "config.json").write_text(json.dumps(letters.tiny().init_args["config"]))
    arguments = {"tokenizer": str(weights), "config": str(weights), "layers": 1, "width": 16}
    made = {"text": {"class_path": "mer.encoders.TextEncoder", "init_args": arguments}}
    config = tiny.config(tmp_path / "text.yaml", tmp_path, **{"model.encoders": made})
    assert tiny.mer("fit", "--config", config, "--out", tmp_path / "run") == 0

    shutil.rmtree(weights)
    encoder = checkpoint.load(tmp_path / "run" / "model.safetensors")[0].encoders["text"].eval()
    assert isinstance(encoder, TextEncoder)
    tokens = encoder(prepare(tmp_path, "p1_3.srt", encoder.spec, 0.0, 2.0))
    assert tokens.mask.sum() == 2
    assert not encoder(prepare(tmp_path, "p0_1.srt", encoder.spec, 0.0, 2.0)).mask.any()
