"""A twin of FERV39k: faces by scene and emotion, lists in the order of S2D and, elsewhere, in that of DFER-CLIP with counts.

Planted: pictures whose numbers have no zeros; the same number in every scene; a clip of five pictures.
"""

from __future__ import annotations

from pathlib import Path

from mer.datasets.corpora.ferv39k import SPACE
from mer.datasets.twins import studio
from mer.labels import SPACES

SIZE, FRAMES, SHORT = (64, 64), 20, 5
SCENES = ("Action", "DailyLife", "War")
OTHERS = "lists_of_others"


def write(out: Path, count: int, seed: int) -> None:
    """Every person shows each of the seven emotions once; the last third of them is the test.

    Args:
        out: folder.
        count: people, at least two.
        seed: of what is made up.
    """
    classes, other = SPACE.names, SPACES["ferv39k7_s2d.v1"].names
    count = max(2, count)
    lists: dict[str, list[tuple[str, int, int]]] = {"train": [], "test": []}
    for person in range(count):
        for label, name in enumerate(classes):
            scene = studio.Scene(label, len(classes), person, 0, seed)
            frames = SHORT if person == 0 and label == 0 else FRAMES
            clip = f"{SCENES[person % len(SCENES)]}/{name.capitalize()}/{person // len(SCENES):04d}"
            shown = studio.pictures(scene, frames, SIZE)
            studio.frames(out / "2_ClipsforFaceCrop" / clip, shown, lambda k: f"{k}.jpg")
            part = "test" if person >= count - max(1, count // 3) else "train"
            lists[part].append((clip, frames, label))
    for part, clips in lists.items():
        s2d = [f"{clip},{other.index(classes[label])}" for clip, _, label in clips]
        studio.write_lines(out / "Annotation" / f"{part}.csv", ["path,id", *s2d])
        lines = [f"/data/2_ClipsforFaceCrop/{clip} {frames} {label}" for clip, frames, label in clips]
        studio.write_lines(out / OTHERS / f"{part}_All.txt", lines)
