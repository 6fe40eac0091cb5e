"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: threads only get in each other's way


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings, which are not shipped."""
    folder = os.environ.get("MER_REAL_DATA", "")
    if not Path(folder).is_dir() or not folder:
        pytest.skip("MER_REAL_DATA does not name a folder of real recordings")
    return Path(folder)
