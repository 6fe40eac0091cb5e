"""Pre-emption on a cluster: a signal that comes before Lightning listens must not kill the job.

SLURM may send SIGUSR1 (sbatch --signal) while Python still imports. `mer` records it in its first line; the callback hands
the signal over once Lightning has its handler, which saves, requeues and lets the job come back where it stopped.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_SIGNAL = getattr(signal, "SIGUSR1", None)  # absent on Windows
_early: list[int] = []


def remember_signals() -> None:
    """Install the recording handler, inside SLURM jobs only and where nobody else listens."""
    if _SIGNAL is not None and "SLURM_JOB_ID" in os.environ and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
        signal.signal(_SIGNAL, _record)


def step_aside() -> None:
    """Give the signal back, so that Lightning (which respects any handler it finds) installs its own."""
    if _SIGNAL is not None and signal.getsignal(_SIGNAL) is _record:
        signal.signal(_SIGNAL, signal.SIG_DFL)


def replay() -> None:
    """Send what came early once more, now that somebody listens."""
    while _early:
        os.kill(os.getpid(), _early.pop())


def _record(number: int, frame: FrameType | None) -> None:
    _early.append(number)
