"""A made-up download of iMiGUE: the full data set (`write`), or the archives of the MiGA challenge (`write_miga`).

Planted traps: numbers of videos with gaps, 85 and 86, which the two protocols have the other way round, and 348, which the
challenge leaves out; a clip without sound; an interview that is longer than the others; frames in which OpenPose failed and
frames without the person; raw class 99; hidden classes of the challenge's test videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer.datasets.corpora.imigue_ids import (
    EMOTION_TEST,
    EMOTION_TRAIN,
    MIGA_ABSENT,
    MIGA_TEST,
    MIGA_VALIDATION,
    OFFICIAL_TEST,
    TEST_SUBJECTS,
    TRAIN_SUBJECTS,
)
from mer.datasets.twins import studio
from mer.datasets.twins.studio import Scene
from mer.media.table import write_workbook
from mer.skeletons import layout

RATE = 25
SIZE = (72, 128)  # height, width
FACE = 44  # side of the square with the face, at the top in the middle
GESTURES = (99, 31, 29, 20)  # raw classes, the commonest
LEAST, LONG = 100, 300  # frames of an interview, and of the first one
# Where the 12 joints of body and head stand, as shares of width and height; sides are the person's.
_BODY = {
    "nose": (0.5, 0.36), "neck": (0.5, 0.66), "right_shoulder": (0.36, 0.7), "right_elbow": (0.28, 0.85),
    "right_wrist": (0.3, 0.95), "left_shoulder": (0.64, 0.7), "left_elbow": (0.72, 0.85), "left_wrist": (0.7, 0.95),
    "right_eye": (0.44, 0.28), "left_eye": (0.56, 0.28), "right_ear": (0.38, 0.32), "left_ear": (0.62, 0.32),
}  # fmt: skip


@dataclass(frozen=True)
class Interview:
    """One video: its number, whom it shows, whether the match was won, and its clips (raw class, first and last frame)."""

    video: int
    subject: int
    won: bool
    frames: int
    clips: tuple[tuple[int, int, int], ...]
    sound: bool = True


def interviews(count: int, seed: int) -> list[Interview]:
    """Two interviews for each of so many people, of whom one in three is a test subject; one person gives a third."""
    training, tested = sorted(TRAIN_SUBJECTS), sorted(TEST_SUBJECTS)
    # Per side of the gesture split and part of the emotion split the videos to take, the traps first.
    pools = {
        (side, part): sorted(found, key=lambda v: (v not in (7, 85, 86), v in MIGA_VALIDATION, v))
        for side, whole in (("train", {*range(1, 454)} - OFFICIAL_TEST), ("test", OFFICIAL_TEST))
        for part, ids in (("train", EMOTION_TRAIN), ("test", EMOTION_TEST))
        for found in ((whole & ids) - MIGA_ABSENT,)
    }
    made: list[Interview] = []
    for person in range(count):
        side = "test" if person % 3 == 2 else "train"
        subject = (tested if side == "test" else training)[person // 3 if side == "test" else person - person // 3]
        for take, part in enumerate(("train", "test")):
            video = pools[side, part].pop(0)
            won = video in MIGA_VALIDATION or (person + take) % 2 == 0
            made.append(_interview(video, subject, won, len(made), seed))
        if person == 1:
            made.append(_interview(348, subject, True, len(made), seed))
    return made


def _interview(video: int, subject: int, won: bool, place: int, seed: int) -> Interview:
    frames = LONG if place == 0 else LEAST
    random = np.random.default_rng([seed, video])
    clips: list[tuple[int, int, int]] = []
    first = int(random.integers(0, 4)) * (place > 0)
    while first + 24 < frames and len(clips) < 4:
        last = first + int(random.integers(20, 27))
        clips.append((GESTURES[(place + len(clips)) % len(GESTURES)], first, min(last, frames - 1)))
        first = last + int(random.integers(1, 8))
    return Interview(video, subject, won, frames, tuple(clips), sound=place != 2)


def write(out: Path, count: int, seed: int) -> None:
    """The full data set as handed out: one file of labels, an mp4 and a spreadsheet per video."""
    made = interviews(count, seed)
    rows = [
        f"{it.video},{it.subject},{'Win' if it.won else 'Lose'},{raw},{first},{last}"
        for it in made
        for raw, first, last in it.clips
    ]
    header = "video_id,subject_id,win_or_lose,class,start_frame,end_frame"
    studio.write_lines(out / "Label/labels_20200831.csv", [header, *rows])
    for it in made:
        name = f"{it.video:04d}"
        if it.video in MIGA_TEST:
            folder = "iMiGUE_RGB_Phase2/imigue_rgb_test"
        else:
            folder = f"iMiGUE_RGB_Phase1/imigue_rgb_{'validate' if it.video in MIGA_VALIDATION else 'train'}"
        _film(out / folder / name / f"{name}.mp4", it, seed)
        write_workbook(out / f"mg_skeleton_only/{name}/{name}_2.xlsx", _sheet(skeletons(it, seed)))


def write_miga(out: Path, count: int, seed: int) -> None:
    """The same interviews as the archives of MiGA 2025 have them."""
    outcomes: dict[str, list[str]] = {"train": ["video_id,label"], "validation": ["video_id,label"]}
    for it in interviews(count, seed):
        if it.video in MIGA_ABSENT:
            continue
        name, tested = f"{it.video:04d}", it.video in MIGA_TEST
        part = "test" if tested else "validation" if it.video in MIGA_VALIDATION else "train"
        if tested:
            film, poses = "imigue_rgb_phase2", "imigue_data_phase2/imigue_skeleton_test"
        else:
            outcomes[part].append(f"{name},{'Win' if it.won else 'Lose'}")
            film = f"imigue_rgb_phase1/{part}_data"
            poses = f"imigue_data_phase1/datasets/imigue_skeleton_{'train' if part == 'train' else 'validate'}"
        points = skeletons(it, seed)
        _film(out / film / name / f"{name}.mp4", it, seed)
        clips = [f"{0 if tested else raw},{first},{last}" for raw, first, last in it.clips]
        studio.write_lines(out / poses / name / f"{name}_label.csv", clips)
        write_workbook(out / poses / name / f"{name}_openpose.xlsx", _sheet(points))
        chosen = [layout("openpose137").joints.index(joint) for joint in layout("imigue35").joints]
        for suffix, part_of in (("light_hand", points[:, chosen]), ("light", points[:, :25])):
            flat = part_of.reshape(len(points), -1)
            lines = [",".join([str(k), *(f"{v:g}" for v in row)]) for k, row in enumerate(flat)]
            studio.write_lines(out / poses / name / f"{name}_{suffix}.csv", lines)
    for part, lines in outcomes.items():
        studio.write_lines(out / f"{part}_label.csv", lines)


def _scene(it: Interview, raw: int, seed: int) -> Scene:
    return Scene(GESTURES.index(raw), len(GESTURES), it.subject, it.video, seed)


def _mood(it: Interview, seed: int) -> Scene:
    return Scene(int(it.won), 2, it.subject, it.video, seed)


def _film(path: Path, it: Interview, seed: int) -> None:
    """The room in the light of the gesture, the face as the match went; the voice, too."""
    height, width = SIZE
    room = np.full((it.frames, height, width, 3), 90, np.uint8)
    for raw, first, last in it.clips:
        room[first : last + 1] = studio.pictures(_scene(it, raw, seed), last + 1 - first, SIZE, RATE)
    left = (width - FACE) // 2
    room[:, 2 : 2 + FACE, left : left + FACE] = studio.pictures(_mood(it, seed), it.frames, (FACE, FACE), RATE)
    studio.film(path, room, studio.sound(_mood(it, seed), it.frames / RATE) if it.sound else None, RATE)


def skeletons(it: Interview, seed: int) -> np.ndarray:
    """(frames, 137, 3) as OpenPose writes them: joints swing as the gesture says; some frames are all zero."""
    whole = layout("openpose137")
    random = np.random.default_rng([seed, it.video, 5])
    extent = np.array([SIZE[1], SIZE[0]])
    motion = random.normal(0, 0.2, (it.frames, len(_BODY), 2))
    arms = [i for i, joint in enumerate(_BODY) if joint.endswith(("wrist", "elbow"))]
    for raw, first, last in it.clips:
        # Both hands rise as far, and shake as fast, as the class says: a mirrored gesture is the same gesture.
        place, times = _scene(it, raw, seed).place, np.arange(last + 1 - first) / RATE
        shake = 3 * np.sin(2 * np.pi * (1 + 3 * place) * times + random.uniform(0, 6))
        motion[first : last + 1, arms, 1] += (shake - 0.55 * SIZE[0] * place)[:, None]
    points = np.zeros((it.frames, whole.size, 3), np.float32)
    points[..., 2] = random.uniform(0.5, 0.95, (it.frames, whole.size))
    for number, (joint, spot) in enumerate(_BODY.items()):
        points[:, whole.joints.index(joint), :2] = np.array(spot) * extent + motion[:, number]
    for side in ("left", "right"):
        wrist = points[:, whole.joints.index(f"{side}_wrist"), :2]
        root = whole.joints.index(f"{side}_hand_wrist")
        points[:, root, :2] = wrist
        for finger in range(5):
            tip = wrist + np.array((2 * finger - 4, 5)) + random.normal(0, 0.3, (it.frames, 2))
            for bone in range(1, 5):
                points[:, root + 4 * finger + bone, :2] = wrist + (tip - wrist) * bone / 4
    points[:, 25:95, :2] = _face_points() + random.normal(0, 0.2, (it.frames, 1, 2))
    # The legs are behind a table, and OpenPose failed in some frames; in the last ones, nobody is there.
    hidden = [i for i, joint in enumerate(whole.joints[:25]) if joint.endswith(("hip", "knee", "ankle", "toe", "heel"))]
    points[:, hidden] = 0
    points[random.choice(it.frames, it.frames // 20, replace=False)] = 0
    points[-3:] = 0
    return np.round(points, 3)


def _face_points() -> np.ndarray:
    """(70, 2) pixels of a face in the square that shows it: jaw, brows, nose, eyes, mouth, pupils."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.35 * np.cos(angle), 0.5 + 0.42 * np.sin(angle)], 1)
    brows = [(x, 0.3) for x in (*np.linspace(0.22, 0.42, 5), *np.linspace(0.58, 0.78, 5))]
    nose = [(0.5, y) for y in np.linspace(0.38, 0.56, 4)] + [(x, 0.6) for x in np.linspace(0.43, 0.57, 5)]
    ring = [(np.cos(a), np.sin(a)) for a in np.arange(6) * np.pi / 3 + np.pi]
    eyes = [(centre + 0.06 * x, 0.4 + 0.03 * y) for centre in (0.33, 0.67) for x, y in ring]
    mouth = [
        (0.5 + width * np.cos(a), 0.75 + 0.06 * np.sin(a))
        for width, size in ((0.17, 12), (0.12, 8))
        for a in np.pi + np.arange(size) * 2 * np.pi / size
    ]
    pupils = [(0.33, 0.4), (0.67, 0.4)]
    shares = np.array([*jaw, *brows, *nose, *eyes, *mouth, *pupils])
    return shares * FACE + [(SIZE[1] - FACE) // 2, 2]


def _sheet(points: np.ndarray) -> list[list[float]]:
    """Rows of 411 numbers."""
    return np.round(points.reshape(len(points), -1).astype(float), 3).tolist()
