"""A twin of CMU-MOSI: the tree of recordings with MMSA's label.csv, or with `write_features` the packaged features.

Planted: ids that begin with '-' and hold '_', commas in transcripts, sentiments of exactly 0, an utterance without a wav.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from mer.datasets.corpora.mosi import FILES
from mer.datasets.twins import studio

SECONDS = 1.2
UTTERANCES = 6
SCORES = (-2.4, 1.8, -0.6, 2.2, 0.0, -1.4, 0.8)
WIDTHS = {"text": 100, "audio": 73, "video": 100}


def _id(person: int) -> str:
    return ("-3g_", "_dI-", "Bf", "jU")[person % 4] + f"{person:03d}"


def _mode(person: int, count: int) -> str:
    share = person / count
    return "train" if share < 0.6 else "valid" if share < 0.8 else "test"


def write(out: Path, count: int, seed: int) -> None:
    """Reviews of `count` people in the order train, valid, test; and the features in the folder `features`."""
    raw, lines = out / "Raw", []
    for person in range(count):
        video, spoken = _id(person), []
        for clip in range(1, UTTERANCES + 1):
            score = SCORES[(person + clip) % len(SCORES)]
            scene = studio.Scene(int(score > 0), 2, person, clip, seed)
            name, wave = f"{video}_{clip}", studio.sound(scene, SECONDS)
            studio.film(raw / "Video" / "Segmented" / f"{name}.mp4", studio.pictures(scene, 30), wave)
            if (person, clip) != (0, 1):
                studio.record(raw / "Audio" / "WAV_16000" / "Segmented" / f"{name}.wav", wave)
            words = studio.words(scene)
            text = f"{' '.join(words[:2])}, {' '.join(words[2:])}"
            spoken.append(f"{clip}_DELIM_{text.upper()}")
            sentiment = "Neutral" if score == 0 else "Positive" if score > 0 else "Negative"
            lines.append([video, str(clip), text, str(score), sentiment, _mode(person, count)])
        studio.write_lines(raw / "Transcript" / "Segmented" / f"{video}.annotprocessed", spoken)
    with (out / "label.csv").open("w", newline="", encoding="utf-8") as stream:
        header = ["video_id", "clip_id", "text", "label", "annotation", "mode"]
        csv.writer(stream, lineterminator="\n").writerows([header, *lines])
    write_features(out / "features", count, seed)


def write_features(out: Path, count: int, seed: int) -> None:
    """The packaged form: the last fifth of the people, one at least, in test_dev.npz."""
    out.mkdir(parents=True, exist_ok=True)
    held = max(1, count // 5)
    for name, people in ((FILES["train"], range(count - held)), (FILES["test"], range(count - held, count))):
        rows: dict[str, list[object]] = {
            key: [] for key in (*WIDTHS, "label", "video_id", "position", "transcript", "utt")
        }
        for person in people:
            for position in range(1, UTTERANCES + 1):
                label = (person + position) % 2
                scene = studio.Scene(label, 2, person, position, seed)
                for place, (key, width) in enumerate(WIDTHS.items()):
                    noise = scene.random(10 + place).normal(0, 1, width)
                    noise[:8] += 1.5 * (2 * label - 1)
                    rows[key].append(noise.astype(np.float32))
                rows["label"].append(label)
                rows["video_id"].append(_id(person))
                rows["position"].append(position)
                rows["transcript"].append(" ".join(studio.words(scene)).upper())
                rows["utt"].append(f"{_id(person)}_{position}")
        arrays = {key: np.array(values) for key, values in rows.items()}
        np.savez(
            out / name, text=arrays["text"], audio=arrays["audio"], video=arrays["video"], label=arrays["label"],
            video_id=arrays["video_id"], position=arrays["position"], transcript=arrays["transcript"], utt=arrays["utt"],
        )  # fmt: skip
