"""`slurm/train.sbatch` as shipped, on a real Slurm: several processes, and back again after the time limit's signal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from witness import seen, write_config

from mer import checkpoint
from slurm.conftest import ROOT, Cluster, Job

pytestmark = pytest.mark.slurm

TRAIN_CLIPS = 16  # of tiny_corpus; two processes with batches of two make four steps per epoch
TWO_PROCESSES = ("--ntasks-per-node=2", "--gpus-per-node=2", str(ROOT / "slurm" / "train.sbatch"))


def _log(folder: Path, job: Job) -> str:
    return (folder / f"mer-{job.number}.log").read_text()


def test_two_processes_train_one_model_on_disjoint_clips(cluster: Cluster, tiny_corpus: Path, tmp_path: Path) -> None:
    write_config(tmp_path / "two words.yaml", tiny_corpus, epochs=2)
    job = cluster.submit(*TWO_PROCESSES, "two words.yaml", "--out", "my run", cwd=tmp_path)
    job.wait_until_over()
    assert job["JobState"] == "COMPLETED", _log(tmp_path, job)

    run = tmp_path / "my run"
    assert checkpoint.describe(run / "model.safetensors")["facts"]["epochs"] == 2
    assert [path.name for path in run.glob("metrics*.csv")] == ["metrics.csv"]
    assert (run / "config.yaml").exists()
    assert (run / "environment.json").exists()
    assert _log(tmp_path, job).count("model: my run/model.safetensors") == 1
    first, second = seen(run, 0), seen(run, 1)
    for epoch in (0, 1):
        assert len(first[epoch]) == len(second[epoch]) == TRAIN_CLIPS // 2
        assert len({*first[epoch], *second[epoch]}) == TRAIN_CLIPS


def test_the_signal_of_the_time_limit_saves_requeues_and_resumes(
    cluster: Cluster, tiny_corpus: Path, tmp_path: Path
) -> None:
    epochs = 6
    write_config(tmp_path / "tiny.yaml", tiny_corpus, epochs, workers=1, pause=0.3)
    job = cluster.submit(*TWO_PROCESSES, "tiny.yaml", cwd=tmp_path)
    run = tmp_path / "runs" / f"slurm-{job.number}"  # without --out
    lines = run / "seen0.txt"
    job.wait(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 5, "the second epoch")
    cluster.run("scancel", "--signal=USR1", job.number)
    job.wait(lambda: job["Restarts"] == "1", "the requeue", 30)
    job.wait(lambda: job["JobState"] == "PENDING", "the end of the first part", 30)
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert not (run / "model.safetensors").exists()
    assert len(lines.read_text().splitlines()) < 4 * epochs

    time.sleep(2)  # a node does not start a job again in the second in which it has ended ("credential revoked")
    cluster.run("scontrol", "update", f"JobId={job.number}", "StartTime=now")
    job.wait_until_over()
    log = _log(tmp_path, job)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), log
    assert log.count("back into the queue") == 1
    assert log.count("going on from") == 1
    assert "Traceback" not in log
    assert checkpoint.describe(run / "model.safetensors")["facts"]["epochs"] == epochs
    first, second = seen(run, 0), seen(run, 1)
    for epoch in range(epochs):  # each clip once in each epoch, the interrupted one included
        assert len(first[epoch] + second[epoch]) == len({*first[epoch], *second[epoch]}) == TRAIN_CLIPS


def test_a_mistake_in_the_config_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(*TWO_PROCESSES, "nothing.yaml", cwd=tmp_path)
    job.wait_until_over()
    assert job["JobState"] == "FAILED"
    assert "nothing.yaml" in _log(tmp_path, job)
