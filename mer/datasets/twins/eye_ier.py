"""A twin of the eye recordings under five loads: the original tables, half of them without marks of blinks.

What the tables between `P1_Control` and `P1_4_Combined` are called is made up but for their number. The corpus has no films;
one is added, because `mer predict` reads a film, and an eye recording as an input beside it.
"""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from mer.datasets.twins import studio
from mer.labels import SPACES

RATE, SECONDS = 88.0, 12.0
NAMES = ("Control", "1_NPC", "2_Noise", "3_Arithmetic", "4_Combined")


def write(out: Path, count: int, seed: int) -> None:
    """Five tables of each of `count` people; the load widens the pupils and slows the blinks."""
    out.mkdir(parents=True, exist_ok=True)
    for person in range(1, count + 1):
        for condition in range(len(SPACES["eye_ier5.v1"])):
            random = np.random.default_rng([seed, person, condition])
            _table(out, f"P{person}_{NAMES[condition]}", condition, random, person % 2 == 0)
    studio.film(out / "somebody.mp4", studio.pictures(studio.Scene(0, 5, seed=seed), 24, (32, 32), 2.0), None, 2.0)


def _table(out: Path, name: str, condition: int, random: np.random.Generator, blinks: bool) -> None:
    samples = round(RATE * SECONDS)
    steps = random.uniform(0.8, 1.2, samples) / RATE  # the camera's clock is not even
    steps[1] += 1.04  # and there is a pause behind the first sample
    times = np.cumsum(steps) - steps[0]
    pupil = (
        3.0
        + 0.4 * condition
        + 0.1 * np.sin(2 * np.pi * (0.2 + 0.2 * condition) * times)
        + random.normal(0, 0.02, samples)
    )
    openness = np.clip(random.normal(0.97, 0.02, samples), 0, 1)
    marks = [""] * samples
    at = 150
    while at + 20 < samples:
        openness[at : at + 12] = 0.05
        pupil[at : at + 12] = -1  # of a closed eye
        marks[at + 6] = f"{12 / RATE:.3f}"
        at += int(random.integers(60, 90)) + 60 * condition
    begin = datetime(2022, 12, 16, 12, 36)
    lines = []
    for k, second in enumerate(times):
        stamp = (begin + timedelta(seconds=float(second))).isoformat(" ", "microseconds")[:-2]
        values = f"{stamp};{openness[k]:.6g};{openness[k]:.6g};{pupil[k]:.6g};{pupil[k]:.6g}"
        lines.append(f"{k};{k};{values};{marks[k]}" if blinks else f"{k};{values};")
    if blinks:
        heading = ";frame;timestamp;openness_L;openness_R;pupil_diam_L;pupil_diam_R;blink"
    else:
        heading = "frame;Timestamp;openness_L;openness_R;pupil_diameter_L(mm);pupil_diameter_R(mm);"
    text = "".join(f"{line}\n" for line in (heading, *lines))
    packed = name.endswith("Control")
    path = out / f"{name}{'_blinks' if blinks else ''}.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if packed else text.encode())
