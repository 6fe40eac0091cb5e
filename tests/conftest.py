"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
import torch

torch.set_num_threads(1)  # small tensors: threads only get in each other's way


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings, which are not shipped."""
    folder = os.environ.get("MER_REAL_DATA", "")
    if not Path(folder).is_dir() or not folder:
        pytest.skip("MER_REAL_DATA does not name a folder of real recordings")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of six people with four clips of one second each. Tests only read it."""
    from mer.datasets.synthetic import generate

    out = tmp_path_factory.mktemp("tiny") / "corpus"
    generate(out, **tiny.CORPUS, progress=False)
    return out


@pytest.fixture(scope="session")
def tiny_config(tiny_corpus: Path) -> Path:
    """A config that trains on it for one epoch."""
    return tiny.config(tiny_corpus.parent / "tiny.yaml", tiny_corpus)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of voice and face, untrained."""
    from mer import checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    checkpoint.save(path, tiny.model(), {"corpus": "synthetic"})
    return path
