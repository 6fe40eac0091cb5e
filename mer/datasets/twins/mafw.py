"""A twin of MAFW: lists by name with and without captions, lists of clips with several emotions, S2D's numbers.

Planted: captions in the encoding of Chinese Windows, with commas; pictures whose numbers have no zeros and begin with 0; one
clip without sound; labels in capitals.
"""

from __future__ import annotations

from pathlib import Path

from mer.datasets.corpora.mafw import FOLDS, SPACE
from mer.datasets.twins import studio
from mer.labels import SPACES

SIZE, FRAMES, SILENT = (64, 64), 20, 3
S2D = "of_s2d"


def write(out: Path, count: int, seed: int) -> None:
    """Two thirds of the people show each of the eleven emotions once.

    Args:
        out: folder.
        count: people.
        seed: of what is made up.
    """
    names, other = SPACE.names, SPACES["mafw11_s2d.v1"].names
    people = max(2, round(count * 2 / 3))
    labels = [(k + k // len(names)) % len(names) for k in range(people * len(names))]
    for place, label in enumerate(labels):
        scene = studio.Scene(label, len(names), place // len(names), place, seed)
        shown, wave = studio.pictures(scene, FRAMES, SIZE), studio.sound(scene, FRAMES / 25)
        clip = f"{place + 1:05d}"
        studio.frames(out / "data" / "frames" / clip, shown, lambda k: f"{k}.jpg")
        studio.film(out / "data" / "clips" / f"{clip}.mp4", shown, None if place == SILENT else wave)
        if place != SILENT:
            studio.record(out / "data" / "audio_16k" / f"{clip}.wav", wave)
    lists = out / "Train & Test Set"
    for fold in range(1, FOLDS + 1):
        for part in ("train", "test"):
            rows = [k for k in range(len(labels)) if (k % FOLDS + 1 == fold) == (part == "test")]
            said = {k: names[labels[k]].capitalize() if k % 7 == 0 else names[labels[k]] for k in rows}
            plain = [f"{k + 1:05d}.mp4 {said[k]}" for k in rows]
            studio.write_lines(lists / "single" / "no_caption" / f"set_{fold}" / f"{part}.txt", plain)
            captions = b"".join(_captioned(k, said[k]) for k in rows)
            file = lists / "single" / "with_caption" / f"set_{fold}" / f"{part}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(captions)
            several = [f"{k + 1:05d}.mp4 {said[k].lower() if k % 3 else _pair(labels[k])}" for k in rows]
            studio.write_lines(lists / "compound" / "no_caption" / f"set_{fold}" / f"{part}.txt", several)
            numbers = [f"{k + 1:05d},{other.index(names[labels[k]])}" for k in rows]
            studio.write_lines(out / S2D / f"set_{fold}" / f"{part}.csv", ["video_name,labels", *numbers])


def _captioned(place: int, label: str) -> bytes:
    """A line; every third one in the encoding of Chinese Windows."""
    chinese = f"第{place + 1}位，看着对方，皱眉。"
    line = f"{place + 1:05d}.mp4\t{label}\t{chinese}\tA person looks at the other, speaks, and frowns.\n"
    return line.encode("gbk" if place % 3 == 0 else "utf-8")


def _pair(label: int) -> str:
    """Two emotions."""
    names = SPACE.names
    return "_".join(names[k] for k in sorted({label, (label + 4) % len(names)}))
