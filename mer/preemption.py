"""Pre-emption on a cluster: save, go back into the queue, and go on from there.

SLURM sends SIGUSR1 (`sbatch --signal`) some time before it ends a job, to every process of it, perhaps while Python still
imports. `mer` notes the signal from its first line on, and `mer.callbacks.Preemption` acts on it between two batches, when
all processes do. Lightning's own handler, which stands back where it finds another one, saves from within the signal: there
each process may be in the middle of another collective operation, or of an optimiser's step.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from types import FrameType

from mer.errors import UserError

_SIGNAL = getattr(signal, "SIGUSR1", None)  # absent on Windows
_noted: list[int] = []


class TimeIsUp(BaseException):
    """Training is saved and should end so that the job can be requeued. Not an error, so nobody catches it as one."""


def remember_signals() -> None:
    """Install the noting handler, inside SLURM jobs only and where nobody else listens."""
    if _SIGNAL is not None and "SLURM_JOB_ID" in os.environ and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
        signal.signal(_SIGNAL, _note)
        # Python puts the default back, which kills, before it ends; a job that is finished should not fail in that moment.
        atexit.register(signal.signal, _SIGNAL, signal.SIG_IGN)


def watching() -> bool:
    """Whether the handler is in place."""
    return _SIGNAL is not None and signal.getsignal(_SIGNAL) is _note


def noted() -> bool:
    """Whether the signal has come."""
    return bool(_noted)


def forget() -> None:
    """Wait for the next signal."""
    _noted.clear()


def requeue() -> None:
    """Put this job (or this task of an array) back into the queue. SLURM terminates all its processes at once.

    Raises:
        UserError: SLURM refuses.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:  # not on PATH, as in some containers
        reason = str(error)
    if reason or done.returncode:
        raise UserError(
            f"saved, but job {job} cannot be put back into the queue: {reason}",
            "Submit the same command with the same --out again; it goes on where it stopped",
        )


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
