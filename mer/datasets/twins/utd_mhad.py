"""A twin of UTD-MHAD: `Skeleton/aX_sY_tZ_skeleton.mat`, `Inertial/..._inertial.mat`, `RGB/..._color.avi`; five of 27 actions.

People 1, 3, 5 and 7 are the training, 2, 4, 6 and 8 the test. In one sequence of each person nobody is seen for some frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer.datasets.twins import studio

ACTIONS = (1, 6, 14, 22, 27)
TRIALS = 2
METRES = 400.0  # pixels in one


def write(out: Path, count: int, seed: int) -> None:
    """Args:
    out: folder.
    count: people, 8 at most.
    """
    from scipy.io import savemat  # a tenth of a second

    folder = out / "Skeleton"
    folder.mkdir(parents=True)
    for person in range(1, min(count, 8) + 1):
        for number, action in enumerate(ACTIONS):
            for trial in range(1, TRIALS + 1):
                scene = studio.Scene(number, len(ACTIONS), person, trial, seed)
                frames = 36 + int(scene.random(6).integers(20))
                points = studio.skeleton(scene, frames, "kinect20", 30.0)
                depth = 2.5 + 0.05 * scene.random(7).standard_normal((frames, points.shape[1], 1))
                body = np.concatenate([points[..., :2] / METRES - (1.6, 0.9), depth], axis=2)
                if number == 0 and trial == 1:
                    body[10:14] = 0  # nobody is seen
                name = f"a{action}_s{person}_t{trial}"
                savemat(folder / f"{name}_skeleton.mat", {"d_skel": body.transpose(1, 2, 0)})
                if trial == 1:
                    studio.film(
                        out / "RGB" / f"{name}_color.avi", studio.pictures(scene, frames, (64, 84), 30.0), fps=30.0
                    )
                inertial = scene.random(8).standard_normal((frames * 5 // 3, 6))
                (out / "Inertial").mkdir(exist_ok=True)
                savemat(out / "Inertial" / f"{name}_inertial.mat", {"d_iner": inertial})
