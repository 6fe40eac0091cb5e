"""A twin of EMO-DB: the folder `wav` of names like 03a01Fa.wav, and beside it what else is in the download."""

from __future__ import annotations

from pathlib import Path

from mer.datasets.corpora.emodb import EMOTIONS, MEN, SPACE, WOMEN
from mer.datasets.twins import studio

SECONDS = 1.2


def write(out: Path, count: int, seed: int) -> None:
    """Speakers 03, 08, 09 ..., ten at most; boredom, disgust and fear are said by the first three alone."""
    for place, speaker in enumerate(sorted((*MEN, *WOMEN))[:count]):
        for number, (letter, emotion) in enumerate(EMOTIONS.items()):
            if emotion not in SPACE[4].names and place > 2:
                continue
            for take, sentence in enumerate(("a01", "b10")):
                scene = studio.Scene(number, len(EMOTIONS), speaker, take, seed)
                studio.record(
                    out / "wav" / f"{speaker:02d}{sentence}{letter}{'ab'[take]}.wav", studio.sound(scene, SECONDS)
                )
    studio.write_lines(out / "erklaerung.txt", ["Nobody said this."])
    studio.write_lines(out / "lablaut" / "03a01Fa.lablaut", ["signal 03a01Fa"])
