"""Face crops from a file to the stream: whose, when, where, and what is said when it cannot be done."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import write

from mer.errors import UserError
from mer.media import detectors, video
from mer.media.align import TEMPLATE
from mer.media.detectors import haar
from mer.media.face import FaceFollower
from mer.media.frame import Frame
from mer.media.reading import read
from mer.media.stream import Stream
from mer.spec import Face, InputSpec

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


def clip(folder: Path, shown: dict[str, tuple[range, int]], count: int = 25) -> tuple[Path, list[dict]]:
    """A video at 25 fps in which coloured squares stand in for faces, and the rows that say where.

    Args:
        shown: per colour the frames in which it is there, and its side; they stand at x 20, 120 and 220.
    """
    pictures = np.full((count, 160, 320, 3), 90, np.uint8)
    rows = []
    for k in range(count):
        for place, (name, (frames, side)) in enumerate(shown.items()):
            if k in frames:
                x = 20 + 100 * place
                pictures[k, 40 : 40 + side, x : x + side] = COLOURS[name]
                rows.append({"frame": k, "x0": x, "y0": 40, "x1": x + side, "y1": 40 + side})
    return write(folder / "clip.mp4", pictures), rows


def table(folder: Path, rows: list[dict], name: str = "clip.csv") -> Path:
    (folder / name).write_text(
        ",".join(rows[0]) + "\n" + "".join(",".join(f"{v}" for v in row.values()) + "\n" for row in rows)
    )
    return folder / name


def crops(path: Path, rate: float | None = None, segments: int | None = None, **face) -> Stream:
    settings = {"detector": "precomputed", "file": "{stem}.csv", "margin": 0.0} | face
    spec = InputSpec("video", rate=rate, segments=segments, size=(32, 32), crop="face", face=Face(**settings))
    stream = read(path.parent, {"face": path.name}, {"face": spec})["face"]
    if isinstance(stream, UserError):
        raise stream
    return stream


def colours(stream: Stream) -> list[str]:
    """The colour in the middle of each crop."""
    middle = stream.values[:, :, 12:20, 12:20].mean((2, 3))
    return [min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - m).sum()) for m in middle]


def test_frames_without_the_face_give_no_element(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(10, 20), 60)})
    table(tmp_path, rows)
    stream = crops(path)
    assert stream.values.shape == (10, 3, 32, 32)
    assert stream.values.dtype == np.uint8
    np.testing.assert_allclose(stream.spans[[0, -1]], [[0.4, 0.44], [0.76, 0.8]], atol=1e-4)
    assert set(colours(stream)) == {"red"}


def test_a_gap_shorter_than_hold_is_bridged_and_a_longer_one_is_not(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 60)})
    table(tmp_path, [row for row in rows if row["frame"] not in range(8, 14)])
    assert len(crops(path, hold=0.4)) == 25
    assert len(crops(path, hold=0.1)) == 19


def test_a_clip_without_a_face_gives_nothing(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 60)})
    table(tmp_path, [row | {"score": 0.2} for row in rows])
    stream = crops(path, confidence=0.5)
    assert stream.values.shape == (0, 3, 32, 32)
    assert stream.spans.shape == (0, 2)


def test_the_target_is_the_largest_the_most_central_or_everybody(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 80), "green": (range(25), 50), "blue": (range(5, 25), 40)})
    table(tmp_path, rows)
    assert set(colours(crops(path, target="largest"))) == {"red"}
    assert set(colours(crops(path, target="central"))) == {"green"}
    everybody = crops(path, target="all")
    assert colours(everybody)[:4] == ["red", "green"] * 2
    assert colours(everybody)[-3:] == ["red", "green", "blue"]
    assert len(everybody) == 70
    assert (np.diff(everybody.spans[:, 0]) >= 0).all()


def test_a_false_face_of_one_picture_is_nobodys(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 40), "green": (range(7, 8), 100)})
    table(tmp_path, rows)
    assert set(colours(crops(path, target="largest"))) == {"red"}
    assert set(colours(crops(path, target="all"))) == {"red"}
    table(tmp_path, [row for row in rows if row["x0"] == 120])
    assert len(crops(path)) == 0, "one picture in 25 is not enough to be there"


def scenes(folder: Path, lengths: list[int]) -> tuple[Path, list[dict]]:
    """Scenes with backgrounds of their own, so many frames each, with a face of 60, 61, ... pixels at the same place."""
    pictures, rows = [], []
    for scene, length in enumerate(lengths):
        ground = np.random.default_rng(scene).integers(0, 255, (20, 40, 3)).astype(np.uint8)
        picture = ground.repeat(8, 0).repeat(8, 1) // 2
        picture[:, :, scene % 3] //= 4
        rows += [
            {"frame": len(pictures) + k, "x0": 20, "y0": 40, "x1": 80 + scene, "y1": 100 + scene} for k in range(length)
        ]
        pictures += [picture] * length
    return write(folder / "clip.mp4", np.stack(pictures)), rows


def test_a_cut_ends_the_track_and_the_longest_scene_wins(tmp_path: Path) -> None:
    path, rows = scenes(tmp_path, [6, 12, 8])
    table(tmp_path, rows)
    stream = crops(path, target="largest")
    np.testing.assert_allclose(stream.spans[[0, -1], [0, 1]], [6 / 25, 18 / 25], atol=1e-4)
    assert len(crops(path, target="all")) == 26


def test_a_face_is_real_by_its_share_of_its_own_scene_however_long_the_film(tmp_path: Path) -> None:
    path, rows = scenes(tmp_path, [4] * 30)
    table(tmp_path, rows)
    assert len(crops(path, target="all")) == 120
    assert len(crops(path, target="largest")) == 4


def test_looking_at_every_third_picture_holds_the_box_between(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 60)})
    table(tmp_path, [row for row in rows if row["frame"] % 3 == 0])
    assert len(crops(path, every=3, hold=0.0)) == 25


def test_a_fixed_number_of_crops_however_short_the_clip(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(4), 60)}, count=4)
    table(tmp_path, rows)
    assert len(crops(path, segments=16)) == 16


def test_the_order_of_rows_and_the_format_do_not_matter(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 60), "green": (range(25), 50)})
    table(tmp_path, rows)
    expected = crops(path)
    (tmp_path / "clip.json").write_text(json.dumps(rows[::-1]))
    np.savez(tmp_path / "clip.npz", **{name: [row[name] for row in rows] for name in rows[0]})
    timed = [{"time": row["frame"] / 25 + 0.015} | {n: v for n, v in row.items() if n != "frame"} for row in rows]
    table(tmp_path, timed, "clip.timed.csv")
    for file in ("{stem}.json", "{stem}.npz", "{stem}.timed.csv"):
        np.testing.assert_array_equal(crops(path, file=file).values, expected.values)


def openface(folder: Path, rows: list[dict], name: str) -> None:
    """A file as FeatureExtraction writes it: blanks before the names, frames from 1, the template as landmarks."""
    header = "frame, face_id, timestamp, confidence, success, " + ", ".join(f"{a}_{i}" for a in "xy" for i in range(68))
    lines = [header]
    for row in rows:
        side = row["x1"] - row["x0"]
        five = TEMPLATE / 112 * side + [row["x0"], row["y0"]]
        points = np.tile(five.mean(0), (68, 1))
        points[36:42], points[42:48], points[30], points[48], points[54] = five
        numbers = ", ".join(f"{v:.2f}" for v in points.T.reshape(-1))
        k = row["frame"]
        lines.append(f"{k + 1}, 0, {k / 25:.3f}, 0.98, {int(k != 3)}, {numbers}")
    (folder / name).write_text("\n".join(lines) + "\n")


def test_openface_landmarks_are_put_on_the_template(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(25), 60)})
    openface(tmp_path, rows, "clip.csv")
    face = Face(detector="precomputed", file="{stem}.csv", align="arcface", hold=0.0)
    follower = FaceFollower(face, path, tmp_path)
    missed = []
    for frame in video.frames(path):
        looked = follower.look(frame)
        missed += [frame.index] * (not looked)
        for found in looked:
            matrix = follower.matrix(found, (112, 112))
            assert matrix is not None
            # Its landmarks are those of a crop of the square: the square's corners come to the crop's.
            corner = matrix @ [20, 40, 1], matrix @ [80, 100, 1]
            np.testing.assert_allclose(corner, [[0, 0], [112, 112]], atol=0.1)
    assert missed == [3], "success is 0 there"
    assert len(crops(path, align="arcface", hold=0.0)) == 24


def test_faces_of_a_file_stay_in_time_when_the_stretch_begins_late(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(12), 60), "green": (range(12, 25), 60)})
    table(tmp_path, rows)
    spec = InputSpec(
        "video", size=(32, 32), crop="face", face=Face(detector="precomputed", file="{stem}.csv", margin=0)
    )
    stream = read(tmp_path, {"face": path.name}, {"face": spec}, start=0.48)["face"]
    assert isinstance(stream, Stream)
    assert set(colours(stream)) == {"green"}
    assert len(stream) == 13


@pytest.mark.parametrize(
    ("change", "face", "says"),
    [
        (None, {"file": "nowhere/{stem}.csv"}, r"nowhere/clip\.csv: not found"),
        (None, {"file": "{subject}.csv"}, "{stem} and {name} only"),
        (None, {"file": "{stem.__class__}.csv"}, "{stem} and {name} only"),
        (None, {"file": "{stem:>999999999999}.csv"}, "{stem} and {name} only"),
        (None, {"file": "{stem.csv"}, "{stem} and {name} only"),
        (None, {"align": "arcface"}, r"align 'arcface' needs points, and there are none"),
        (lambda row: {n: v for n, v in row.items() if n != "y1"}, {}, "missing columns y1; there are frame, x0"),
        (lambda row: {n: v for n, v in row.items() if n != "frame"}, {}, r"missing columns frame \(or time\)"),
        (lambda row: row | {"x0": "left"}, {}, "cannot be read as faces"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, change, face: dict, says: str) -> None:
    path, rows = clip(tmp_path, {"red": (range(3), 60)}, count=3)
    table(tmp_path, [change(row) for row in rows] if change else rows)
    with pytest.raises(UserError, match=says):
        crops(path, **face)


def test_boxes_that_are_none_are_no_faces(tmp_path: Path) -> None:
    path, rows = clip(tmp_path, {"red": (range(3), 60)}, count=3)
    table(tmp_path, [row | {"x1": "inf", "y1": "inf"} for row in rows])
    assert len(crops(path)) == 0
    table(tmp_path, [row | {"x0": row["x1"], "x1": row["x0"]} for row in rows])
    assert len(crops(path)) == 0
    table(tmp_path, [row | {"x0": -1e7, "y0": -1e7, "x1": 1e7, "y1": 1e7} for row in rows])
    assert len(crops(path)) == 3, "as large as it is, it costs no more memory than the picture"


def test_opencv_5_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(UserError, match="opencv-python-headless<5"):
        detectors.detector(Face(), Path("a.mp4"), Path())


def test_identities_name_the_backend_its_version_and_what_changes_the_result() -> None:
    faces = [
        Face(),
        Face(align="arcface"),
        Face(confidence=0.4),
        Face(smallest=0.2),
        Face(detector="mediapipe"),
        Face(detector="precomputed", file="a/{stem}.csv"),
        Face(detector="precomputed", file="b/{stem}.csv"),
    ]
    names = [detectors.identity(face) for face in faces]
    assert len(set(names)) == len(names)
    assert cv2.__version__ in names[0]


def test_nobody_is_found_in_a_flat_picture_or_in_noise() -> None:
    detector = haar.Haar(Face(align="arcface"))
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    assert detector.find(Frame(noise, 0, 0.0, 0.04)) == []
    assert detector.find(Frame(np.zeros_like(noise), 1, 0.04, 0.08)) == []


TALKING = [
    "ravdess/av/01-01-01-01-01-01-01.mp4",
    "video_samples/grid/bbaf2n.mpg",
    "video_samples/grid/lbax4n.mpg",
    "video_samples/grid/lwbsza.mpg",
    "video_samples/pyfeat/WolfgangLanger_Pexels.mp4",
    "video_samples/pyfeat/single_face.mp4",
]


def share(path: Path, **face) -> float:
    """Of the clip's time in which there is a face, four looks a second."""
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    spec = InputSpec("video", rate=4, size=(112, 112), crop="face", face=Face(**face))
    whole = InputSpec("video", rate=4, size=(8, 8))
    streams = read(path.parent, {"f": path.name, "v": path.name}, {"f": spec, "v": whole})
    assert isinstance(streams["f"], Stream)
    assert isinstance(streams["v"], Stream)
    return len(streams["f"]) / len(streams["v"])


@pytest.mark.real
@pytest.mark.parametrize("name", TALKING)
def test_who_talks_to_the_camera_has_a_face_nearly_always(name: str, real_data: Path) -> None:
    assert share(real_data / name) > 0.9


@pytest.mark.real
def test_where_nobody_is_there_is_no_face(real_data: Path) -> None:
    pyfeat = real_data / "video_samples/pyfeat"
    assert share(pyfeat / "no_face.mp4") == 0
    assert share(real_data / "video_samples/mmaction2/test.mp4") == 0
    assert share(pyfeat / "face_noface.mov") == pytest.approx(2.4 / 6.5, abs=0.05), "the scene is cut after 2.4 s"
    assert share(pyfeat / "multi_face.jpg", target="all") >= 4


def ten_people(real_data: Path, folder: Path) -> Path:
    """Five people twice, side by side; one of them wears sunglasses and a cap."""
    five = cv2.imread(str(real_data / "video_samples/pyfeat/multi_face.jpg"))
    if five is None:
        pytest.skip("no multi_face.jpg")
    cv2.imwrite(str(folder / "ten.png"), np.hstack([five, five]))
    return folder / "ten.png"


@pytest.mark.real
def test_of_ten_people_haar_finds_the_eight_who_look_into_the_camera(real_data: Path, tmp_path: Path) -> None:
    assert 7 <= share(ten_people(real_data, tmp_path), target="all") <= 8


@pytest.mark.real
@pytest.mark.mediapipe
@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="mediapipe is not installed")
def test_of_ten_people_in_a_wide_picture_mediapipe_finds_most(real_data: Path, tmp_path: Path) -> None:
    """Its detectors see the picture at 192 pixels across, where these faces have ten; nobody is found twice."""
    assert 6 <= share(ten_people(real_data, tmp_path), detector="mediapipe", target="all") <= 10


@pytest.mark.real
def test_haar_eyes_come_to_the_templates_place(real_data: Path) -> None:
    assert share(real_data / "video_samples/grid/sbia1a.mpg", align="arcface") > 0.9


@pytest.mark.real
@pytest.mark.mediapipe
@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="mediapipe is not installed")
def test_mediapipe_sees_who_haar_misses(real_data: Path) -> None:
    for name in [*TALKING, "ravdess/av/01-01-07-02-02-02-06.mp4", "video_samples/mmaction2/test.avi"]:
        assert share(real_data / name, detector="mediapipe", align="arcface") > 0.9, name
    pyfeat = real_data / "video_samples/pyfeat"
    assert share(pyfeat / "no_face.mp4", detector="mediapipe") == 0
    assert share(pyfeat / "multi_face.jpg", detector="mediapipe", target="all") >= 5
