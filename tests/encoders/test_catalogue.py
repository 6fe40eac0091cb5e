"""Every entry of the catalogue names an encoder that takes its file, and a file in its place is found by the entry's name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from mer.checkpoint import load_encoder
from mer.encoders import Encoder, catalogue, weights
from mer.encoders.catalogue import CATALOGUE, Published
from mer.weights_command import built, config

TOKENIZER = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MER_WEIGHTS: a folder with the tokenizers of the text networks, and nothing else."""
    for entry in CATALOGUE.values():
        if "tokenizer.json" in entry.files:
            for name in (*entry.files, entry.one_of[0]):
                place = tmp_path / entry.name / name
                place.parent.mkdir(exist_ok=True)
                place.write_text(json.dumps(TOKENIZER))
    monkeypatch.setenv("MER_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_says_what_it_is(name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.name == name == name.strip()
    assert re.match(r"https://[^/]+/", entry.page)
    assert entry.source is None or re.fullmatch(r"https://[^?#]+/", entry.source), "a folder"
    assert entry.licence and entry.about and entry.files
    assert all(re.fullmatch("[0-9a-f]{8,64}", digest) for digest in entry.sha256.values())
    assert set(entry.sha256) <= {*entry.files, *entry.one_of}
    assert all(Path(file).name == file for file in (*entry.files, *entry.one_of))


def test_no_two_entries_share_a_place(tmp_path: Path) -> None:
    places = [entry.place(tmp_path) for entry in CATALOGUE.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", CATALOGUE)
def test_its_encoder_is_built_and_takes_files(name: str, mirror: Path) -> None:
    entry = CATALOGUE[name]
    encoder = built(entry)
    assert sum(p.numel() for p in encoder.parameters() if not p.is_meta) < 100_000
    assert encoder.tables() or type(encoder).load_published is not Encoder.load_published
    assert type(encoder).__name__ == entry.encoder.rpartition(".")[2], "its short class path is the public one"
    model = yaml.safe_load("\n".join(list(config(entry, "x"))[2:]))["model"]
    assert model["encoder_weights"] == {f"x.{entry.part}" if entry.part else "x": name}
    assert model["encoders"]["x"].get("init_args", {}) == entry.init_args
    if entry.part:
        assert [name for name, _ in encoder.network.named_children()] == [entry.part], (
            "what show prints leaves no network random"
        )


def filled(encoder: Encoder, seed: int) -> Encoder:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in encoder.network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return encoder


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


_SPEECH = {"model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 16, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8,
           "num_conv_pos_embedding_groups": 2}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "mae-face": {"size": 32, "dim": 8, "depth": 1, "heads": 2},
    "audiomae": {"window": 0.32, "bands": 32, "dim": 8, "depth": 1, "heads": 2},
    "hubert-base-ls960": {"config": _SPEECH},
}


@pytest.mark.parametrize("name", TINY)
def test_a_file_in_its_place_is_found_by_name_and_loaded(
    name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: Published = replace(CATALOGUE[name], init_args=TINY[name])
    monkeypatch.setitem(CATALOGUE, name, small)

    def made() -> Encoder:
        module, _, cls = small.encoder.rpartition(".")
        return getattr(__import__(module, fromlist=[cls]), cls)(**small.init_args)

    theirs = filled(made(), 1)
    content = weights.renamed(theirs.network.state_dict(), theirs.tables()[0])
    place = small.place(mirror)
    if small.single:
        torch.save({"model": content}, place)
    else:
        place.mkdir()
        (place / "config.json").write_text(json.dumps(small.init_args["config"]))
        save_file({key: value.contiguous() for key, value in content.items()}, place / "model.safetensors")
    assert catalogue.locate(name) == place
    ours = filled(made(), 2)
    assert not same(ours, theirs)
    load_encoder(Path(name), "x", ours)
    assert same(ours, theirs)
