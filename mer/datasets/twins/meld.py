"""A twin of MELD: three tables, three folders of films, and every known fault of them.

Planted: numbers of dialogues that begin anew in each split, a broken film (train dia125_utt3), a missing one (dev dia110_utt7),
a film without sound (test dia263_utt7), one cut wrongly (test dia38_utt4), films that no table names, commas and typographic
quotes as control characters in UTF-8 (train, test), in Windows-1252 (dev), times like 00:16:16,059, hidden files of another
system.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mer.datasets.corpora.meld import EMOTION, LONGEST, PARTS, Part
from mer.datasets.twins import studio

SECONDS = 1.2
SHOWN = ("neutral", "joy", "anger", "sadness")
SENTIMENT = {"neutral": "neutral", "joy": "positive", "anger": "negative", "sadness": "negative"}
HEADER = [
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
]
DIALOGUES = {
    "train": lambda count: [*range(count), 125],
    "val": lambda count: [0, 110],
    "test": lambda count: [0, 38, 263],
}
UTTERANCES = {125: 4, 110: 8, 38: 5, 263: 8}  # so many that the faulty one is among them
ENCODING = {"train": "utf-8", "val": "cp1252", "test": "utf-8"}


def write(out: Path, count: int, seed: int) -> None:
    """A dialogue per person in train, two in dev, three in test."""
    for place, part in enumerate(PARTS):
        rows: list[list[object]] = []
        for dialogue in DIALOGUES[part.split](count):
            for utterance in range(UTTERANCES.get(dialogue, 4)):
                rows.append(_utterance(out, part, place, dialogue, utterance, count, seed, len(rows) + 1))
        _table(out / part.table, rows, ENCODING[part.split])
        (out / part.folder / "._dia0_utt0.mp4").write_bytes(b"\0\5\26\7")
    extra = studio.Scene(0, len(SHOWN), 0, 99, seed)
    for name in ("final_videos_testdia0_utt0", "dia999_utt0"):
        studio.film(out / PARTS[2].folder / f"{name}.mp4", studio.pictures(extra, 25, (64, 112)))


def _utterance(
    out: Path, part: Part, place: int, dialogue: int, utterance: int, count: int, seed: int, number: int
) -> list[object]:
    emotion = SHOWN[(dialogue + utterance) % len(SHOWN)]
    speaker = utterance % max(2, count)
    scene = studio.Scene(
        EMOTION.names.index(emotion), len(EMOTION), speaker, 1000 * place + 10 * dialogue + utterance, seed
    )
    name = f"dia{dialogue}_utt{utterance}"
    path, fault = out / part.folder / f"{name}.mp4", part.faulty.get(name)
    wave = None if fault == "without sound" else studio.sound(scene, SECONDS)
    if fault == "broken":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\0\0\x20ftypisom and then nothing")
    elif fault == "cut wrongly":
        times = [k * (LONGEST + 40) / 20 for k in range(21)]
        studio.film(path, studio.pictures(scene, 21, (64, 112)), wave, times=times)
    elif fault != "missing":
        studio.film(path, studio.pictures(scene, 30, (64, 112)), wave)
    words = studio.words(scene)
    said = f"{words[0].title()}, it\u2019s {' '.join(words[1:])}!"
    begin, end = 16 * 60 + 16 + 4 * utterance, 16 * 60 + 18 + 4 * utterance
    return [
        number, said, f"Person {speaker}", emotion, SENTIMENT[emotion], dialogue, utterance, 1, 1 + dialogue % 9,
        *(f"00:{s // 60:02d}:{s % 60:02d},059" for s in (begin, end)),
    ]  # fmt: skip


def _table(path: Path, rows: list[list[object]], encoding: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    content = text.getvalue()
    if encoding == "utf-8":  # as published: the byte of Windows-1252 as a character of its own
        content = content.replace("\u2019", "\x92")
    path.write_bytes(content.encode(encoding))
