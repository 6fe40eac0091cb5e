"""A Slurm cluster of one virtual node on this machine, for the tests of this folder only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

# No cgroups, no accounting, no MPI: nothing of the machine is touched. More CPUs, memory and "GPUs" than there are cost
# nothing, and let the template ask for what it asks for.
CONFIG = """
ClusterName=mer
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:4
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    why = f"no {missing[0]} here: apt-get install --no-install-recommends slurm-wlm munge" if missing else ""
    if not why and os.geteuid() != 0:
        why = "a private Slurm cluster is started as root only (in a container)"
    for item in items:
        if why and "slurm" in item.keywords and item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason=why))


@dataclass(frozen=True)
class Job:
    """What Slurm says about a job."""

    number: str
    run: Callable[..., str]

    def __getitem__(self, key: str) -> str:
        """A field of `scontrol show job`, e.g. JobState or Restarts."""
        text = self.run("scontrol", "show", "job", self.number, "--oneliner")
        return next(f for f in text.split() if f.startswith(key + "=")).partition("=")[2]

    def wait(self, reached: Callable[[], object], what: str, seconds: float = 240) -> None:
        """Poll until `reached` is true."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, f"job {self.number} ({self['JobState']}): {what} did not come in {seconds} s"
            time.sleep(0.3)

    def wait_until_over(self, seconds: float = 240) -> None:
        self.wait(lambda: self["JobState"] in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"), "its end", seconds)


@dataclass(frozen=True)
class Cluster:
    """The running cluster; its clients find it through `environment`."""

    environment: dict[str, str]

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        environment = {**self.environment, **variables}
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def submit(self, *arguments: str, cwd: Path) -> Job:
        """`sbatch ARGUMENTS`, without waiting (`sbatch --wait` polls at ever longer intervals)."""
        # Lightning would take a port from the job's number, which is 1 in every cluster of this kind on this machine.
        port = str(_free_ports(1)[0])
        number = self.run("sbatch", "--parsable", *arguments, cwd=cwd, MASTER_PORT=port).strip().partition(";")[0]
        return Job(number, self.run)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """munged, slurmctld and slurmd on the loopback interface, with all their state in one folder."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700)
    host = socket.gethostname().partition(".")[0]
    controller_port, node_port = _free_ports(2)
    config = CONFIG.format(folder=folder, host=host, controller_port=controller_port, node_port=node_port)
    (folder / "slurm.conf").write_text(config)
    for number in range(4):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "MER_"))}
    environment |= {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),  # mer, and witness.py
        "VENV": sys.prefix,
        "OMP_NUM_THREADS": "1",
    }
    cluster = Cluster(environment)
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    try:
        cluster.run("munged", "--force", *(f"--{k}={folder / 'munge' / v}" for k, v in munge.items()))
        cluster.run("slurmctld", "-c")
        cluster.run("slurmd")
        end = time.monotonic() + 60
        while cluster.run("sinfo", "-h", "-o", "%T").strip() != "idle":
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield cluster
    finally:
        subprocess.run(["scancel", "--full", "--user=root"], env=environment, capture_output=True, timeout=30)
        _wait_for_no_jobs(environment)
        for pid_file in (folder / "slurmd.pid", folder / "slurmctld.pid", folder / "munge" / "pid"):
            _stop(pid_file)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_for_no_jobs(environment: dict[str, str]) -> None:
    """Job steps outlive the daemons that started them; let them end first."""
    for _ in range(60):
        left = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, timeout=30)
        if not left.stdout.strip():
            return
        time.sleep(0.5)


def _stop(pid_file: Path) -> None:
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, 15)
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
