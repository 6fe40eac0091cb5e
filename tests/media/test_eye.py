"""Eyes and head from a face mesh: signs and units on made faces, and MediaPipe itself where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media import eye, head, video
from mer.media.eye import COLUMNS, EyesInVideo
from mer.media.frame import Frame
from mer.media.mesh import Mesh
from mer.media.sampling import EveryFrame, Ticks
from mer.spec import InputSpec

WIDTH, HEIGHT = 640, 480


def spec(*columns: str) -> InputSpec:
    return InputSpec(kind="eye", backend="mediapipe", columns=columns)


def face(
    yaw: float = 0, pitch: float = 0, roll: float = 0, at: tuple[float, float] = (0, 0), far: float = 60
) -> np.ndarray:
    """(478, 3) landmarks of the canonical face, turned, in the picture of the assumed camera."""
    model = np.zeros((478, 3))
    model[list(head.CANONICAL)] = head.MODEL
    # Lids 0.8 cm apart, irises in the middle of their eyes.
    for iris, (a, b), lids in zip(eye.IRIS, eye.CORNERS, eye.LIDS, strict=True):
        model[iris] = (model[a] + model[b]) / 2
        for place, (upper, lower) in zip((1 / 3, 2 / 3), lids, strict=True):
            middle = model[a] + place * (model[b] - model[a])
            model[upper], model[lower] = np.subtract(middle, [0, 0.4, 0]), np.add(middle, [0, 0.4, 0])
    seen = np.add(model @ head.turned(yaw, pitch, roll).T, [*at, far])
    flat = seen @ head.camera(WIDTH, HEIGHT).T
    return np.concatenate([flat[:, :2] / flat[:, 2:], (seen[:, 2:] - far) * WIDTH / far], 1)


def of(points: np.ndarray, *columns: str) -> list[float]:
    row = eye.measure(points, WIDTH, HEIGHT, columns)
    assert row is not None
    return row.tolist()


@pytest.mark.parametrize("yaw", [-50, -20, 0, 30])
@pytest.mark.parametrize("pitch", [-25, 0, 20])
@pytest.mark.parametrize("roll", [-30, 0, 15])
@pytest.mark.parametrize("at", [(0, 0), (15, -8)])
def test_a_turned_head_is_read_back(yaw: float, pitch: float, roll: float, at: tuple[float, float]) -> None:
    assert of(face(yaw, pitch, roll, at), "yaw", "pitch", "roll") == pytest.approx([yaw, pitch, roll], abs=0.05)


def test_signs_of_the_head() -> None:
    straight, nose, middle = face(), 4, 168
    right = face(yaw=20)
    assert right[nose, 0] - right[middle, 0] > straight[nose, 0] - straight[middle, 0] + 5
    up = face(pitch=20)
    assert up[nose, 1] - up[middle, 1] < straight[nose, 1] - straight[middle, 1] - 5
    leaning = face(roll=20)
    assert leaning[10, 0] > leaning[nose, 0] + 5  # the hairline to the right of the nose


def test_a_little_noise_turns_the_head_a_little() -> None:
    points = face(20, -10, 5)
    points[:, :2] += np.random.default_rng(0).normal(0, 0.5, (478, 2))
    assert of(points, "yaw", "pitch", "roll") == pytest.approx([20, -10, 5], abs=3)


def test_the_iris_in_the_middle_looks_ahead() -> None:
    assert of(face(), "gaze_x", "gaze_y") == pytest.approx([0, 0], abs=0.02)


def test_the_iris_moves_right_and_down() -> None:
    points = face()
    wide = np.linalg.norm(points[133, :2] - points[33, :2])
    for iris in eye.IRIS:
        points[iris, :2] += [0.2 * wide, 0.1 * wide]
    assert of(points, "gaze_y", "gaze_x") == pytest.approx([0.1, 0.2], abs=0.02)


def test_openness_by_the_side_of_the_picture() -> None:
    points = face()
    both = of(points, "openness_left", "openness_right")
    assert both == pytest.approx([0.8 / 2.66] * 2, rel=0.05)
    for upper, lower in eye.LIDS[0]:
        points[upper] = points[lower]  # the eye at the left of the picture is shut
    assert of(points, "openness_left", "openness_right") == pytest.approx([0, both[1]], abs=1e-6)


@pytest.mark.parametrize("yaw", [-60, 0, 60])
def test_a_turned_head_does_not_open_its_eyes(yaw: float) -> None:
    assert of(face(yaw), "openness_left", "openness_right") == pytest.approx([0.8 / 2.66] * 2, rel=0.15)


class Finds:
    """Stands for the mesh: frame k has the faces that are listed for it."""

    faces: list[list[Mesh]]

    def __init__(self, confidence: float, smallest: float):
        pass

    def find(self, frame: Frame) -> list[Mesh]:
        return self.faces[frame.index]


def test_the_largest_face_counts_and_none_is_no_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eye, "FaceMesh", Finds)
    near, far = Mesh(face(yaw=20, far=50), 0.6), Mesh(face(yaw=-20, far=120), 0.9)
    Finds.faces = [[far, near], [], [far]]
    view = EyesInVideo(EveryFrame(0, None), spec("yaw", "gaze_x"))
    for k in range(3):
        view.see(Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), k, k / 25, (k + 1) / 25))
    stream = view.result()
    assert stream.values.shape == (2, 2) and stream.values.dtype == np.float32
    assert stream.values[:, 0].tolist() == pytest.approx([20, -20], abs=0.1)
    np.testing.assert_allclose(stream.spans[:, 0], [0, 2 / 25], atol=1e-6)


def test_nobody_is_an_empty_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eye, "FaceMesh", Finds)
    Finds.faces = [[]]
    view = EyesInVideo(EveryFrame(0, None), spec(*COLUMNS))
    view.see(Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 0, 0.0, 0.04))
    assert view.result().values.shape == (0, 7)


def test_unknown_columns_are_told_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown eye columns pupil_left\. .*gaze_x, gaze_y"):
        EyesInVideo(EveryFrame(0, None), spec("yaw", "pupil_left"))
    with pytest.raises(UserError, match="without columns"):
        eye.identity(spec())
    with pytest.raises(UserError, match="unknown backend None"):
        eye.identity(InputSpec(kind="eye", columns=("yaw",)))


@pytest.mark.mediapipe
@pytest.mark.real
def test_a_speaker_faces_the_camera_and_blinks(real_data: Path) -> None:
    pytest.importorskip("mediapipe")
    path = real_data / "video_samples/grid/bbaf2n.mpg"
    view = EyesInVideo(Ticks(25, 0, 3), spec("yaw", "pitch", "roll", "openness_left", "openness_right"))
    for frame in video.frames(path, 0, 3):
        view.see(frame)
    values = view.result().values
    assert len(values) > 70
    assert (np.abs(np.median(values[:, :3], axis=0)) < 15).all()
    eyes = values[:, 3:]
    assert (np.median(eyes, axis=0) > 0.2).all() and (eyes.min(0) < 0.15).all()  # open, and shut near 1.8 s
