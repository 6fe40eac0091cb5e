"""A twin of RAVDESS: the sound archive and those of the films unpacked side by side, with a song, a readme and a hidden file.

The official download has no action units; they are added where the packaged form keeps them, for the configs that read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mer.datasets.corpora.ravdess import AU_ARRAY, FEATURES, FOLDS
from mer.datasets.twins import studio

SECONDS = 1.2
SHOWN = (0, 2, 3, 4)  # of the eight emotions: neutral, happy, sad, angry


def write(out: Path, count: int, seed: int) -> None:
    """Actors are taken from the folds in turn, so that five fill them all. Films go without sound (02-) for one clip each.

    Args:
        out: folder.
        count: actors, 24 at most.
    """
    places = [(place, actor) for fold in FOLDS.values() for place, actor in enumerate(fold)]
    actors = [actor for _, actor in sorted(places, key=lambda pair: pair[0])][:count]
    names, units = [], []
    for actor in sorted(actors):
        for number, emotion in enumerate(SHOWN):
            for take in (1, 2):
                scene = studio.Scene(number, len(SHOWN), actor, take, seed)
                rest = f"01-{emotion + 1:02d}-01-01-{take:02d}-{actor:02d}"
                wave = studio.sound(scene, SECONDS)
                sound = out / "Audio_Speech_Actors_01-24" / f"Actor_{actor:02d}" / f"03-{rest}.wav"
                studio.record(sound, wave)
                if take == 1:  # the films of the second takes were not unpacked
                    shown = studio.pictures(scene, 30, (72, 128))
                    folder = out / f"Video_Speech_Actor_{actor:02d}" / f"Actor_{actor:02d}"
                    studio.film(folder / f"01-{rest}.mp4", shown, wave)
                    if emotion == 0:
                        studio.film(folder / f"02-{rest}.mp4", shown)
                names.append(f"01-{rest}")
                units.append(np.eye(35)[number * 8] * 2 + scene.random(5).normal(0, 0.3, 35))
    song = out / "Audio_Song_Actors_01-24" / f"Actor_{actors[0]:02d}" / f"03-02-05-01-01-01-{actors[0]:02d}.wav"
    studio.record(song, studio.sound(studio.Scene(0, 1, actors[0], 9, seed), SECONDS))
    studio.write_lines(out / "README.txt", ["This is no recording."])
    (out / ".DS_Store").write_bytes(b"\0")
    (out / FEATURES).parent.mkdir(parents=True)
    arrays: dict[str, Any] = {"name": np.array(names), AU_ARRAY: np.array(units, np.float32)}
    np.savez(out / FEATURES, **arrays)
