"""The scripts of data_prep run their steps in order, pass options on, and leave what is there alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mer.shipped import shipped

# Stands for `mer`: writes down what it is asked, and leaves what the real one does.
MER = r"""#!/usr/bin/env bash
echo "$*" >> "$LOG"
command=$1
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2 ;; --config) config=$2 ;; --skip-errors) left=1 ;; esac
  shift
done
case $command in
prepare)
  [ -z "${BREAK:-}" ] || exit 2
  mkdir -p "$out" && echo clips > "$out/manifest.csv"
  exit "${left:-0}"
  ;;
fit) mkdir -p "$out" && echo weights > "$out/model.safetensors" ;;
test) echo '{}' > "$(dirname "$config")/test.json" ;;
esac
"""
TRAINED = ("meld", "mmmo", "mosi", "utd_mhad")
FOLDED = ("crema_d", "emodb", "ravdess")


def run(corpus: str, tmp_path: Path, *options: str, **variables: str) -> tuple[int, list[str]]:
    """Exit status of a script, and the commands that it gave."""
    fake, log, root = tmp_path / "bin" / "mer", tmp_path / "log", tmp_path / "my root"
    fake.parent.mkdir(exist_ok=True)
    root.mkdir(exist_ok=True)
    (root / "mmmo_test.npz").write_text("x")
    fake.write_text(MER)
    fake.chmod(0o755)
    log.write_text("")
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "LOG": str(log), **variables}
    script = [shipped("data_prep") / f"{corpus}.sh", root, tmp_path / "my work", *options]
    status = subprocess.run(["bash", *map(str, script)], env=environment, capture_output=True, check=False).returncode
    return status, log.read_text().splitlines()


@pytest.mark.parametrize("corpus", [*TRAINED, *FOLDED])
def test_steps_come_in_order_and_once(corpus: str, tmp_path: Path) -> None:
    status, said = run(corpus, tmp_path, "--trainer.max_epochs", "1", MER_OVERLAY="tiny.yaml")
    training = ["fit", "test"] if corpus in TRAINED else ["crossval"]
    assert status == 0 and [line.split()[0] for line in said] == ["prepare", *training]
    assert said[1].endswith("--trainer.max_epochs 1")
    assert f"--root {tmp_path / 'my root'}" in said[0]
    status, again = run(corpus, tmp_path, MER_OVERLAY="tiny.yaml")
    assert status == 0 and [line.split()[0] for line in again] == ([] if corpus in TRAINED else ["crossval"])


@pytest.mark.parametrize("corpus", ["meld", "utd_mhad", *FOLDED])
def test_recordings_that_are_left_out_do_not_stop_it(corpus: str, tmp_path: Path) -> None:
    status, said = run(corpus, tmp_path, PREPARE="--skip-errors", MER_OVERLAY="tiny.yaml")
    assert status == 0 and "--skip-errors" in said[0] and len(said) > 1


@pytest.mark.parametrize("corpus", [*TRAINED, *FOLDED])
def test_a_corpus_that_is_not_prepared_stops_it(corpus: str, tmp_path: Path) -> None:
    status, said = run(corpus, tmp_path, BREAK="1")
    assert status != 0 and len(said) == 1


def test_weights_are_fetched_for_the_real_encoders_only(tmp_path: Path) -> None:
    _, said = run("meld", tmp_path, MER_OVERLAY="")
    assert [line for line in said if line.startswith("weights")] == [
        "weights fetch roberta-base",
        "weights fetch hubert-base-ls960",
    ]


def test_mosi_takes_the_features_where_there_are_recordings_too(tmp_path: Path) -> None:
    assert "--form features --level review" in run("mosi", tmp_path)[1][0]
