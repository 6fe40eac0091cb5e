"""Run folders: everything that explains a result lies beside it, and every opening of the test split is counted."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mer
from mer.files import write_text

_PACKAGES = ("torch", "numpy", "pytorch-lightning", "av", "safetensors", "jsonargparse")


@dataclass(frozen=True)
class RunFolder:
    """A folder with one run in it.

    Files: `config.yaml` (resolved), `environment.json`, `metrics.csv`, `checkpoints/`, `model.safetensors`,
    `scores_<task>.csv`, `test_openings.jsonl`.
    """

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path | None:
        """Lightning's newest checkpoint to resume from, None where there is none."""
        last = self.checkpoints / "last.ckpt"
        return last if last.is_file() else None

    def scores(self, task: str) -> Path:
        return self.path / f"scores_{task}.csv"

    def record(self, config: str, facts: Mapping[str, Any]) -> None:
        """Write the resolved config and the environment."""
        write_text(self.path / "config.yaml", config)
        write_json(self.path / "environment.json", {**environment(), **facts})

    def count_test_opening(self, command: str, facts: Mapping[str, Any]) -> int:
        """Note that the test split is opened now; returns how often it has been, this time included."""
        self.path.mkdir(parents=True, exist_ok=True)
        log = self.path / "test_openings.jsonl"
        entry = {"time": now(), "command": command, **facts}
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        return len(log.read_text(encoding="utf-8").splitlines())


def now() -> str:
    """This moment in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions, machine and command: what somebody needs who wants the same numbers."""
    versions = {"mer": mer.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "time": now(),
        "command": shlex.join(["mer", *sys.argv[1:]]),
        "versions": versions,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": _git_commit(),
    }


def _git_commit() -> str | None:
    """Commit of the checkout that mer runs from, with `+` where it has changes; None for an installed wheel."""
    root = Path(mer.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        asked = {"cwd": root, "capture_output": True, "text": True, "timeout": 10, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **asked).stdout.strip()  # type: ignore[call-overload]
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], **asked).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if dirty else "")


def file_hash(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file: the id of a model or a manifest in results."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    """NaN and infinity, which JSON lacks, as null."""
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
