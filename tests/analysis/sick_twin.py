"""A small corpus of every modality: sound as it should be, or with one fault of each kind that `mer doctor` looks for."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from mer.datasets.manifest import Corpus, write_manifest
from mer.datasets.twins.studio import Scene, film, frames, gaze, pictures, record, skeleton, sound, words, write_lines
from mer.labels import LabelSpace, Task

CLASSES = ("calm", "glad", "cross")
SPACE = LabelSpace("twin3.v1", CLASSES)
LEVEL = LabelSpace("twin_level.v1", ("level",), "continuous")
PEOPLE, TAKES = 6, 6
FPS, SECONDS = 25.0, 1.0
SPLIT = {0: "train", 1: "train", 2: "train", 3: "val", 4: "test", 5: "test"}
WIDTH = 4


@dataclass
class Twin:
    """A corpus in the making.

    Attributes:
        root: its folder; the manifest lies there, too.
        rows: one per clip, by clip_id.
        planted: clip_id by the code of the finding that must name it.
    """

    root: Path
    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    planted: dict[str, str] = field(default_factory=dict)
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, WIDTH), np.float32))
    disjoint: str = "true"

    def write(self) -> Path:
        """Write features, manifest and corpus.yaml; the manifest's path."""
        np.savez(self.root / "features.npz", rows=self.features)
        tasks = {"emotion": Task("emotion", SPACE), "level": Task("level", LEVEL, "frame")}
        Corpus("twin", self.root, tasks, self.disjoint).write(self.root / "corpus.yaml")  # type: ignore[arg-type]
        columns = list(dict.fromkeys(c for row in self.rows.values() for c in row))
        write_manifest(self.root / "manifest.csv", columns, self.rows.values())
        return self.root / "manifest.csv"

    def line(self, clip_id: str) -> int:
        """Of the manifest."""
        return list(self.rows).index(clip_id) + 2


def name_of(person: int, take: int) -> str:
    return f"p{person}_t{take}"


def healthy(root: Path) -> Twin:
    """Six people in three splits, two clips of each of three classes; nothing is wrong with it."""
    twin = Twin(root)
    generator = np.random.default_rng(0)
    twin.features = generator.standard_normal((PEOPLE * TAKES, WIDTH)).astype(np.float32)
    for person in range(PEOPLE):
        for take in range(TAKES):
            shoot(twin, person, take)
    return twin


def shoot(twin: Twin, person: int, take: int) -> str:
    """Record one clip with all its files, and add its row."""
    clip_id, scene = name_of(person, take), Scene(take % len(CLASSES), len(CLASSES), person, take)
    moving(twin.root / f"video/{clip_id}.mp4", scene)
    record(twin.root / f"audio/{clip_id}.wav", spoken(scene))
    write_lines(twin.root / f"text/{clip_id}.txt", [" ".join(words(scene))])
    bodies(twin.root / f"body/{clip_id}.npz", scene)
    looks(twin.root / f"gaze/{clip_id}.csv", scene)
    levels(twin.root / f"frames/{clip_id}.csv", np.arange(5) / 5)
    if take == 0:
        frames(twin.root / f"faces/{clip_id}", pictures(scene, 12), lambda k: f"{k + 1}.jpg")
    twin.rows[clip_id] = {
        "clip_id": clip_id, "subject": f"s{person}", "group": f"g{person}_{take}", "start": "", "end": "",
        "split": SPLIT.get(person, "test"), "emotion": CLASSES[scene.label], "frame_labels": f"frames/{clip_id}.csv",
        "video": f"video/{clip_id}.mp4", "audio": f"audio/{clip_id}.wav", "transcript": f"text/{clip_id}.txt",
        "rows": f"features.npz#rows[{person * TAKES + take}]" if person < PEOPLE else "",
        "skeleton": f"body/{clip_id}.npz", "gaze": f"gaze/{clip_id}.csv",
        "faces": f"faces/{clip_id}#12@1" if take == 0 else "", "note": "no file, only words",
    }  # fmt: skip
    return clip_id


def moving(path: Path, scene: Scene, **changes: object) -> None:
    """A film of one second that really moves: the picture is dragged along a path of the scene's own."""
    shown = pictures(scene, round(SECONDS * FPS))
    random = scene.random(9)
    drag = np.cumsum(random.normal(0, 3, (len(shown), 2)), axis=0).round().astype(int)
    shown = np.stack([np.roll(p, tuple(d), axis=(0, 1)) for p, d in zip(shown, drag, strict=True)])
    options = {"wave": spoken(scene), "fps": FPS} | changes
    film(path, options.pop("shown", shown), **options)  # type: ignore[arg-type]


def spoken(scene: Scene, seconds: float = SECONDS) -> np.ndarray:
    """The scene's hum under something like speech: tones from 250 to 3300 Hz that swell and fade at times of their own."""
    random, wave = scene.random(8), 0.1 * sound(scene, seconds)
    times = np.arange(len(wave)) / 16000
    knots = np.linspace(0, seconds, max(round(16 * seconds), 2))
    for pitch in np.geomspace(250, 3300, 18):
        wave += (
            0.05 * np.interp(times, knots, random.uniform(0, 1, len(knots)) ** 2) * np.sin(2 * np.pi * pitch * times)
        )
    return wave.astype(np.float32)


def bodies(path: Path, scene: Scene, lost: int = 0) -> None:
    points = skeleton(scene, 25, "openpose25")
    points[:lost] = 0
    path.parent.mkdir(exist_ok=True)
    np.savez(path, body=points, layout="openpose25")


def looks(path: Path, scene: Scene, lost: int = 0) -> None:
    samples = gaze(scene, 60)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t_s", "gaze_x", "gaze_y"])
        for k, (x, y, *_) in enumerate(samples):
            writer.writerow([f"{k / 60:.4f}", *(["", ""] if k < lost else [f"{x:.1f}", f"{y:.1f}"])])


def levels(path: Path, times: np.ndarray, label: str = "0.5") -> None:
    write_lines(path, ["time,level", *(f"{t:.3f},{label}" for t in times)])


# -- faults -------------------------------------------------------------------------------------------------------------


def sick(root: Path) -> Twin:
    """The healthy twin with a fault of each kind, each in a clip of its own where that is possible."""
    twin = healthy(root)
    for plant in (_files, _sounds, _videos, _numbers, _labels, _sharing):
        plant(twin)
    return twin


def _files(twin: Twin) -> None:
    (twin.root / "video/p0_t1.mp4").unlink()
    twin.planted["media.missing"] = "p0_t1"
    (twin.root / "video/p0_t2.mp4").write_bytes(b"this is no film" * 50)
    twin.planted["media.unreadable"] = "p0_t2"
    path = twin.root / "audio/p0_t3.wav"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    twin.planted["media.truncated"] = "p0_t3"
    shutil.copy(twin.root / "audio/p1_t0.wav", twin.root / "audio/nobody.wav")
    tail = np.random.default_rng(5).normal(0, 0.1, 8000).astype(np.float32)
    record(twin.root / "audio/nobody.wav", tail)
    twin.rows["bare"] = {"clip_id": "bare", "subject": "s0", "split": "train", "emotion": "calm"}
    twin.planted["rows.no_file"] = "bare"


def _sounds(twin: Twin) -> None:
    scene = Scene(0, 3, 0, 4)
    moving(twin.root / "video/p0_t4.mp4", scene, wave=None)
    twin.rows["p0_t4"]["audio"] = "video/p0_t4.mp4"
    twin.planted["media.no_sound"] = "p0_t4"
    record(twin.root / "audio/p0_t5.wav", np.zeros(16000, np.float32))
    twin.planted["media.silent"] = "p0_t5"
    record(twin.root / "audio/p1_t0.wav", np.full(16000, 0.25, np.float32))
    twin.planted["media.constant"] = "p1_t0"
    record(twin.root / "audio/p1_t1.wav", np.clip(30 * spoken(Scene(1, 3, 1, 1)), -1, 1))
    twin.planted["media.clipping"] = "p1_t1"
    record(twin.root / "audio/p1_t2.wav", spoken(Scene(2, 3, 1, 2)))
    twin.rows["p1_t2"]["video"] = "audio/p1_t2_copy.wav"
    record(twin.root / "audio/p1_t2_copy.wav", spoken(Scene(2, 3, 1, 2)))
    twin.planted["media.no_picture"] = "p1_t2"


def _videos(twin: Twin) -> None:
    def path(clip_id: str) -> Path:
        return twin.root / f"video/{clip_id}.mp4"

    uneven = np.cumsum(np.where(np.arange(25) % 3 == 0, 0.08, 0.03))
    moving(path("p1_t3"), Scene(0, 3, 1, 3), times=uneven.tolist())
    twin.planted["media.vfr"] = "p1_t3"
    gap = np.arange(25) / FPS + np.where(np.arange(25) > 11, 0.6, 0.0)
    moving(path("p1_t4"), Scene(1, 3, 1, 4), times=gap.tolist())
    twin.planted["media.gaps"] = "p1_t4"
    moving(path("p1_t5"), Scene(2, 3, 1, 5), fps=10.0)
    twin.planted["media.fps"] = "p1_t5"
    twin.rows["p2_t0"] |= {"start": "7.5", "end": "8.5"}
    twin.planted["media.start_beyond"] = "p2_t0"
    twin.rows["p2_t1"] |= {"end": "3.5"}
    twin.planted["media.end_beyond"] = "p2_t1"
    moving(path("p2_t2"), Scene(2, 3, 2, 2), shown=pictures(Scene(2, 3, 2, 2), 4))
    twin.planted["media.short"] = "p2_t2"
    moving(path("p2_t3"), Scene(0, 3, 2, 3), shown=np.full((25, 96, 96, 3), 40, np.uint8))
    twin.planted["media.blank"] = "p2_t3"
    moving(path("p2_t4"), Scene(1, 3, 2, 4), shown=np.repeat(pictures(Scene(1, 3, 2, 4), 1), 25, axis=0))
    twin.planted["media.still"] = "p2_t4"
    moving(path("p2_t5"), Scene(2, 3, 2, 5), shown=pictures(Scene(2, 3, 2, 5), 25, (256, 256)))
    twin.planted["media.size"] = "p2_t5"
    long = twin.root / "video/p3_t1.mkv"
    moving(long, Scene(1, 3, 3, 1))
    long.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    twin.rows["p3_t1"]["video"] = "video/p3_t1.mkv"
    twin.planted["media.truncated.video"] = "p3_t1"


def _numbers(twin: Twin) -> None:
    root = twin.root
    twin.features[3 * TAKES + 2, 1] = np.nan
    twin.planted["features.nan"] = "p3_t2"
    np.save(root / "wide.npy", np.ones((2, WIDTH + 3), np.float32) * np.arange(2)[:, None])
    twin.rows["p3_t3"]["rows"] = "wide.npy"
    twin.planted["features.width"] = "p3_t3"
    twin.features[3 * TAKES + 4] = 0
    twin.planted["features.constant"] = "p3_t4"
    np.savez(root / "pickled.npz", rows=np.array([{}], dtype=object))
    twin.rows["p3_t5"]["rows"] = "pickled.npz"
    twin.planted["features.unreadable"] = "p3_t5"
    write_lines(root / "text/p3_t2.txt", ["  "])
    twin.planted["text.empty"] = "p3_t2"
    (root / "text/p3_t3.txt").write_bytes(b"\0\1\2" * 40)
    twin.planted["text.unreadable"] = "p3_t3"
    bodies(root / "body/p3_t2.npz", Scene(2, 3, 3, 2), lost=18)
    twin.planted["skeleton.lost"] = "p3_t2"
    (root / "body/p3_t3.npz").write_bytes(b"nothing")
    twin.planted["skeleton.unreadable"] = "p3_t3"
    looks(root / "gaze/p3_t2.csv", Scene(2, 3, 3, 2), lost=45)
    twin.planted["gaze.lost"] = "p3_t2"
    write_lines(root / "gaze/p3_t3.csv", ["who,knows", "1,2"])
    twin.planted["gaze.unreadable"] = "p3_t3"


def _labels(twin: Twin) -> None:
    root = twin.root
    levels(root / "frames/p2_t0.csv", 3 + np.arange(5) / 5)
    levels(root / "frames/p3_t4.csv", 40 + np.arange(5) / 5)
    twin.planted["labels.frame_times"] = "p3_t4"
    write_lines(root / "frames/p3_t5.csv", ["time,mood", "0,1"])
    twin.planted["labels.frame_unreadable"] = "p3_t5"
    levels(root / "frames/p3_t2.csv", np.arange(5) / 5, "")
    twin.planted["labels.frame_empty"] = "p3_t2"
    twin.rows["p3_t3"]["frame_labels"] = ""
    twin.planted["labels.frame_none"] = "p3_t3"
    twin.rows["p0_t0"]["emotion"] = ""
    twin.planted["labels.unlabelled.emotion.train"] = "p0_t0"
    for clip_id, row in twin.rows.items():  # `cross` is scored and never trained
        if row["split"] == "train" and row["emotion"] == "cross":
            twin.rows[clip_id]["emotion"] = "glad"


def _sharing(twin: Twin) -> None:
    """People, recordings and copies on both sides."""
    twin.rows["p4_t0"]["subject"] = "s1"
    twin.planted["leak.subject"] = "p4_t0"
    twin.rows["p4_t1"]["group"] = "g1_1"
    twin.planted["leak.group"] = "p4_t1"
    twin.rows["p4_t2"] |= {"audio": "audio/p2_t2.wav", "end": "0.9"}
    twin.planted["leak.stretch"] = "p4_t2"
    for kind, suffix in (("audio", "wav"), ("video", "mp4")):
        shutil.copy(twin.root / f"{kind}/p3_t0.{suffix}", twin.root / f"{kind}/p4_t3.{suffix}")
    twin.planted["leak.copy"] = "p4_t3"
    coded(twin.root / "audio/p1_t4.wav", twin.root / "audio/p4_t4.m4a")
    twin.rows["p4_t4"]["audio"] = "audio/p4_t4.m4a"
    twin.planted["leak.alike"] = "p4_t4"
    smaller(twin.root / "video/p1_t0.mp4", twin.root / "video/p4_t5.mp4")
    twin.planted["leak.alike.video"] = "p4_t5"
    twin.features[5 * TAKES] = twin.features[2 * TAKES + 1]
    twin.planted["leak.copy.rows"] = "p5_t0"
    shutil.copy(twin.root / "audio/p5_t1.wav", twin.root / "audio/p5_t2.wav")
    twin.planted["duplicate.copy"] = "p5_t2"  # and p5_t1 has another label
    twin.planted["labels.conflict"] = "p5_t2"
    twin.rows["p5_t4"]["audio"] = twin.rows["p5_t3"]["audio"]
    twin.planted["duplicate.stretch"] = "p5_t4"
    coded(twin.root / "audio/p4_t0.wav", twin.root / "audio/p5_t5.m4a")
    twin.rows["p5_t5"]["audio"] = "audio/p5_t5.m4a"
    twin.planted["duplicate.alike"] = "p5_t5"


def coded(source: Path, path: Path) -> None:
    """The same sound as AAC, half as loud."""
    from mer.media import audio

    wave = 0.5 * audio.load(source, 16000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def smaller(source: Path, path: Path) -> None:
    """The same film at two thirds of the size, coded badly, without its sound."""
    from mer.media import video

    shown = np.stack([f.picture((64, 64), "none").transpose(1, 2, 0) for f in video.frames(source)])
    film(path, np.clip(0.9 * shown + 10, 0, 255).astype(np.uint8), None, FPS)
