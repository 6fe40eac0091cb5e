"""The skeleton view: what it takes, which hand is whose, and MediaPipe itself where it is installed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media import pose, video
from mer.media.frame import Frame
from mer.media.pose import Skeletons, whose
from mer.media.sampling import EveryFrame, Ticks
from mer.skeletons import layout
from mer.spec import InputSpec


def spec(backend: str = "mediapipe", to: str | None = None, rate: float | None = 25.0) -> InputSpec:
    return InputSpec(kind="pose", backend=backend, layout=to, rate=rate)


def frames(count: int, rate: float = 25.0) -> list[Frame]:
    return [Frame(np.full((8, 8, 3), k, np.uint8), k, k / rate, (k + 1) / rate) for k in range(count)]


class Sees:
    """Stands for MediaPipe: a body in every picture but the dark ones."""

    closed = 0

    def __init__(self, hands: bool, alone: bool):
        self.joints, self.alone, self.looked = 75 if hands else 33, alone, 0

    def find(self, rgb: np.ndarray) -> np.ndarray | None:
        self.looked += 1
        level = int(rgb[0, 0, 0])
        return None if level % 3 == 0 else np.full((self.joints, 3), level, np.float32)

    def close(self) -> None:
        Sees.closed += 1


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose, "Finder", Sees)


@pytest.mark.usefixtures("seeing")
def test_frames_without_a_person_give_no_element() -> None:
    view = Skeletons(EveryFrame(0, None), spec(rate=None))
    for frame in frames(6):
        view.see(frame)
    stream = view.result()
    assert stream.values.shape == (4, 33, 3) and stream.values.dtype == np.float32
    assert stream.values[:, 0, 0].tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(stream.spans[:, 0], np.array([1, 2, 4, 5]) / 25, atol=1e-6)


@pytest.mark.usefixtures("seeing")
def test_a_frame_that_stands_for_several_ticks_is_looked_at_once() -> None:
    view = Skeletons(Ticks(50, 0, None), spec(rate=50))
    for frame in frames(3):
        view.see(frame)
    assert len(view.result()) == 4
    assert isinstance(view._finder, Sees) and view._finder.looked == 3


@pytest.mark.usefixtures("seeing")
def test_nobody_at_all_is_an_empty_stream_of_the_wanted_layout() -> None:
    view = Skeletons(EveryFrame(0, None), spec(to="imigue22", backend="mediapipe-hands"))
    view.see(frames(1)[0])
    before = Sees.closed
    stream = view.result()
    assert stream.values.shape == (0, 22, 3) and stream.spans.shape == (0, 2)
    assert Sees.closed == before + 1


def test_pictures_far_apart_are_looked_at_alone() -> None:
    assert "followed" in pose.identity(spec(rate=10))
    assert "each alone" in pose.identity(spec(rate=5))
    assert "each alone" in pose.identity(InputSpec(kind="pose", backend="mediapipe", segments=8))


def test_what_cannot_be_is_said_at_once() -> None:
    with pytest.raises(UserError, match=r"unknown backend 'openpose'.*mediapipe-hands"):
        Skeletons(EveryFrame(0, None), spec(backend="openpose"))
    with pytest.raises(UserError, match="unknown skeleton layout"):
        Skeletons(EveryFrame(0, None), spec(to="body"))
    with pytest.raises(UserError, match="no joint in common"):
        Skeletons(EveryFrame(0, None), spec(to="hand21"))


def test_a_layout_in_space_is_refused() -> None:
    with pytest.raises(UserError, match="3-D"):
        Skeletons(EveryFrame(0, None), spec(to="ntu25"))


def test_without_mediapipe_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    view = Skeletons(EveryFrame(0, None), spec())
    with pytest.raises(UserError, match=r"'mediapipe'.*\[mediapipe\]"):
        view.see(frames(1)[0])


# -- Hands -------------------------------------------------------------------------------------------------------------


def hand(x: float, y: float = 0.0, length: float = 10.0) -> np.ndarray:
    points = np.zeros((21, 3), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = x, y, 0.9
    points[9, 1] += length
    return points


def test_a_hand_goes_to_the_nearer_wrist() -> None:
    left, right = whose([hand(0), hand(100)], [False, True], np.array([98.0, 0]), np.array([3.0, 0]))
    assert left[0, 0] == 100 and right[0, 0] == 0  # whatever they look like: the wrists are far apart


def test_where_the_wrists_meet_the_look_of_the_hand_decides() -> None:
    wrists = np.array([1.0, 0]), np.array([4.0, 0])
    left, right = whose([hand(2)], [False], *wrists)
    assert not left.any() and right[0, 0] == 2
    left, right = whose([hand(2)], [True], *wrists)
    assert left[0, 0] == 2 and not right.any()


def test_other_peoples_hands_are_left_out() -> None:
    left, right = whose([hand(50), hand(1)], [True, True], np.array([0.0, 0]), np.array([200.0, 0]))
    assert left[0, 0] == 1 and not right.any()


def test_each_wrist_has_one_hand() -> None:
    left, right = whose([hand(1), hand(2)], [True, True], np.array([0.0, 0]), np.array([12.0, 0]))
    assert left[0, 0] == 1 and right[0, 0] == 2


# -- MediaPipe ---------------------------------------------------------------------------------------------------------


def seen(path: Path, wanted: InputSpec, end: float) -> np.ndarray:
    assert wanted.rate is not None
    view = Skeletons(Ticks(wanted.rate, 0, end), wanted)
    for frame in video.frames(path, 0, end):
        view.see(frame)
    return view.result().values


@pytest.mark.mediapipe
@pytest.mark.real
def test_a_talking_head_has_its_shoulders_below_its_eyes(real_data: Path) -> None:
    pytest.importorskip("mediapipe")
    it = layout("coco17")
    values = seen(real_data / "video_samples/grid/bbaf2n.mpg", spec(to="coco17", rate=10), 1.0)
    assert values.shape == (10, 17, 3)
    assert ((values[..., 2] >= 0) & (values[..., 2] <= 1)).all()
    joint = {name: values[:, i, :2] for i, name in enumerate(it.joints)}
    assert (joint["right_eye"][:, 0] < joint["nose"][:, 0]).all()  # the person's right is at the left of the picture
    assert (joint["left_eye"][:, 0] > joint["nose"][:, 0]).all()
    assert (joint["left_shoulder"][:, 1] > joint["nose"][:, 1]).all()
    assert (joint["nose"] > 0).all() and (joint["nose"] < [360, 288]).all()  # pixels


@pytest.mark.mediapipe
@pytest.mark.real
def test_the_same_stretch_gives_the_same_skeletons(real_data: Path) -> None:
    pytest.importorskip("mediapipe")
    path = real_data / "video_samples/pyfeat/single_face.mp4"
    np.testing.assert_array_equal(seen(path, spec(rate=10), 1.0), seen(path, spec(rate=10), 1.0))


@pytest.mark.mediapipe
@pytest.mark.real
def test_a_hand_before_the_face_is_a_right_hand_all_along(real_data: Path) -> None:
    pytest.importorskip("mediapipe")
    values = seen(real_data / "video_samples/mmaction2/test.avi", spec("mediapipe-hands", rate=10), 6.0)
    sure = values[..., 2].max(-1) > 0
    assert sure.all()
    right, left = (values[:, 54:, 2] > 0).any(1), (values[:, 33:54, 2] > 0).any(1)
    assert right.mean() > 0.9 and left.mean() < 0.1
