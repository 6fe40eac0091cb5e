"""A twin of CREMA-D: AudioWAV, VideoFlash, the raters' table with ties, the actors, and a name that ends in a single X."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mer.datasets.corpora.crema_d import INTENDED
from mer.datasets.twins import studio

SECONDS = 1.2
SENTENCES = ("DFA", "IEO")


def write(out: Path, count: int, seed: int) -> None:
    """Actors 1001 and following; a clip of the first has no film, and raters agree with the actor but for some ties."""
    votes, actors = [], []
    for actor in range(1001, 1001 + count):
        actors.append([actor, 20 + actor % 40, "Male" if actor % 2 else "Female", "Unknown", "Not Hispanic"])
        for number, code in enumerate(INTENDED):
            for take, sentence in enumerate(SENTENCES[: 1 + (number % 3 == 0)]):
                scene = studio.Scene(number, len(INTENDED), actor, take, seed)
                level = "XX" if sentence == "DFA" else "HI"
                if (actor, number) == (1002, 5):
                    level = "X"
                name = f"{actor}_{sentence}_{code}_{level}"
                wave = studio.sound(scene, SECONDS)
                studio.record(out / "AudioWAV" / f"{name}.wav", wave)
                if (actor, number, take) != (1001, 0, 0):
                    film(out / "VideoFlash" / f"{name}.flv", scene, wave)
                letter = code[0]
                tie = f"{letter}:N" if number == 1 else letter
                votes.append([name, letter, "50", tie, "30:51" if ":" in tie else "30", letter, "70.5"])
    columns = ["FileName", "VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel", "MultiModalVote", "MultiModalLevel"]
    numbered = [[str(n), *row] for n, row in enumerate(votes, start=1)]
    table(out / "processedResults" / "summaryTable.csv", ["", *columns], numbered)
    table(out / "VideoDemographics.csv", ["ActorID", "Age", "Sex", "Race", "Ethnicity"], actors)


def film(path: Path, scene: studio.Scene, wave: object) -> None:
    """Flash Video: the container of the corpus, with a codec that FFmpeg writes."""
    import av
    import numpy as np

    shown = studio.pictures(scene, 30, (72, 96))
    made = path.with_suffix(".mp4")
    studio.film(made, shown, np.asarray(wave))
    with av.open(str(made)) as source, av.open(str(path), "w", format="flv") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    made.unlink()


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV with quotes around text, as R does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerows([header, *rows])
