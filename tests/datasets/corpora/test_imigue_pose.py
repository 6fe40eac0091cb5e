"""The pose files of iMiGUE become arrays once, with each hand at its own wrist, and faces that need no detector."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer.datasets.corpora import imigue_pose
from mer.datasets.corpora.imigue_pose import Job, Pose, converted, settle
from mer.datasets.twins import imigue as twin
from mer.errors import UserError
from mer.media import skeleton_files
from mer.media.table import write_workbook
from mer.skeletons import convert, layout
from mer.spec import InputSpec

FRAMES = 12


def interview() -> np.ndarray:
    """(12, 137, 3) of the twin's first interview, without the frames at its end in which nobody is there."""
    points = twin.skeletons(twin.interviews(1, 0)[0], 0)
    return points[points[..., 2].any(1)][:FRAMES]


def workbook(path: Path, points: np.ndarray, **rows: list) -> Path:
    sheet = np.round(points.reshape(len(points), -1).astype(float), 3).tolist()
    for row, cells in rows.items():
        sheet[int(row[1:])] = cells
    write_workbook(path, sheet)
    return path


def job(folder: Path, source: Path, video: int = 1, joints: str = "openpose137") -> Job:
    faces = folder / f"faces/{video:04d}.csv" if source.suffix == ".xlsx" else None
    return Job(video, source, folder / f"skeletons/{video:04d}.npz", faces, joints)


def one(folder: Path, source: Path, said: imigue_pose.Side | None = None, **options: Any) -> Pose:
    (done,) = converted([job(folder, source, **options)], 1, said)
    if isinstance(done, Pose):
        return done
    raise done[1]


def array(pose: Pose) -> np.ndarray:
    with np.load(pose.job.skeleton) as arrays:
        return arrays["skeleton"]


def test_a_spreadsheet_becomes_an_array_that_encoders_read(tmp_path: Path) -> None:
    points = interview()
    pose = one(tmp_path, workbook(tmp_path / "0001_2.xlsx", points))
    assert (pose.frames, pose.failed, pose.first, pose.swapped) == (FRAMES, 0, "left", False)
    np.testing.assert_allclose(array(pose), points, atol=1e-3)
    spec = InputSpec("pose", rate=25, backend="file", layout="imigue22")
    stream = skeleton_files.load(tmp_path, "skeletons/0001.npz#skeleton", spec, 4 / 25, 9 / 25)
    np.testing.assert_allclose(
        stream.values, convert(points, layout("openpose137"), layout("imigue22"))[4:9], atol=1e-3
    )
    np.testing.assert_allclose(stream.spans[:, 0], np.arange(4, 9) / 25, atol=1e-6)


def test_frames_in_which_openpose_failed_take_their_time_and_show_nothing(tmp_path: Path) -> None:
    points = interview()
    points[3] = 0
    source = workbook(tmp_path / "0001_2.xlsx", points, r5=[None] * 411)  # as zeros, or as a row without anything
    pose = one(tmp_path, source)
    assert (pose.frames, pose.failed) == (FRAMES, 2)
    spec = InputSpec("pose", rate=25, backend="file", layout="openpose137")
    stream = skeleton_files.load(tmp_path, "skeletons/0001.npz#skeleton", spec)
    assert np.rint(stream.spans[:, 0] * 25).astype(int).tolist() == [k for k in range(FRAMES) if k not in (3, 5)]
    with pose.job.faces.open() as file:  # type: ignore[union-attr]
        assert [int(row["frame"]) for row in csv.DictReader(file)] == [k for k in range(FRAMES) if k not in (3, 5)]


@pytest.mark.parametrize(("cells", "message"), [([1.0] * 410, "410 cells, not 411"), (["x"] + [1.0] * 410, "'x'")])
def test_a_broken_row_is_named(tmp_path: Path, cells: list, message: str) -> None:
    source = workbook(tmp_path / "0001_2.xlsx", interview(), r2=cells)
    with pytest.raises(UserError, match=rf"0001_2\.xlsx, row 3: .*{message}"):
        one(tmp_path, source)


def test_hands_in_the_other_order_are_exchanged(tmp_path: Path) -> None:
    points = interview()
    crossed = imigue_pose.swap_hands(points, "openpose137")
    assert not np.allclose(crossed, points)
    pose = one(tmp_path, workbook(tmp_path / "0001_2.xlsx", crossed))
    assert pose.first == "right" and pose.swapped and pose.crossed < 0.5 * pose.straight
    np.testing.assert_allclose(array(pose), points, atol=1e-3)
    assert settle([pose], None) == ("right", [])


def test_the_35_points_are_decided_alike(tmp_path: Path) -> None:
    small = convert(interview(), layout("openpose137"), layout("imigue35"))
    crossed = imigue_pose.swap_hands(small, "imigue35")
    for name, header in (("0001_light_hand.csv", False), ("0002_light_hand.csv", True)):
        rows = [[k, *row] for k, row in enumerate(crossed.reshape(FRAMES, -1).tolist())]
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([["", *range(105)], *rows] if header else rows)
        pose = one(tmp_path / name[:4], tmp_path / name)
        assert pose.frames == FRAMES and pose.first == "right"
        np.testing.assert_allclose(array(pose), small, atol=1e-4)


def folded(points: np.ndarray) -> np.ndarray:
    """Both wrists, and all fingers, at one place."""
    points = points.copy()
    points[:, 7, :2] = points[:, 4, :2]
    points[:, 95:116, :2] = points[:, 116:137, :2]
    return points


def test_an_ambiguous_file_follows_the_others_and_alone_it_is_an_error(tmp_path: Path) -> None:
    points = interview()
    crossed = imigue_pose.swap_hands(points, "openpose137")
    clear = one(tmp_path, workbook(tmp_path / "0001_2.xlsx", crossed))
    unclear = one(tmp_path, workbook(tmp_path / "0002_2.xlsx", folded(points)), video=2)
    assert unclear.first is None and not unclear.swapped
    side, notes = settle([clear, unclear], None)
    assert side == "right" and "1 pose file(s) do not tell" in notes[0]
    expected = imigue_pose.swap_hands(np.round(folded(points), 3), "openpose137")
    np.testing.assert_allclose(array(unclear), expected, atol=1e-3)
    with pytest.raises(UserError, match=r"0002_2\.xlsx: finger tips lie .*--first-hand"):
        settle([unclear], None)
    assert settle([unclear], "left")[0] == "left"


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    points = interview()
    crossed = imigue_pose.swap_hands(points, "openpose137")
    poses = [
        one(tmp_path, workbook(tmp_path / f"000{k}_2.xlsx", it), video=k)
        for k, it in enumerate((points, points, crossed))
    ]
    with pytest.raises(UserError, match=r"0002_2\.xlsx: the hand that comes first lies at the right wrist"):
        settle(poses, None)


def test_what_is_converted_stays_until_its_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = workbook(tmp_path / "0001_2.xlsx", interview())
    first = one(tmp_path, source)
    read = imigue_pose.read
    monkeypatch.setattr(imigue_pose, "read", lambda path: pytest.fail("read again"))
    assert one(tmp_path, source) == first
    monkeypatch.setattr(imigue_pose, "read", read)
    first.job.skeleton.write_bytes(first.job.skeleton.read_bytes()[:3000])
    assert one(tmp_path, source) == first, "a damaged array is made again"
    workbook(source, interview()[:7])
    assert one(tmp_path, source).frames == 7
    assert array(one(tmp_path, source, joints="imigue36")).shape == (7, 36, 3)


def test_a_process_that_is_killed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(ThreadPoolExecutor):
        def __init__(self, workers: int, context: object):
            super().__init__(workers)

        def map(self, *_: Any) -> Any:
            raise BrokenProcessPool("killed")

    monkeypatch.setattr(imigue_pose, "ProcessPoolExecutor", Killed)
    jobs = [job(tmp_path, tmp_path / f"000{k}_2.xlsx", k) for k in (1, 2)]
    with pytest.raises(UserError, match=r"ended from outside.*--workers 1"):
        list(converted(jobs, 2, None))


def test_faces_are_the_points_of_the_face(tmp_path: Path) -> None:
    points = interview()
    points[1, 25 + 36 : 25 + 42] = 0  # one eye was not seen
    points[2, 25 + 30] = 0  # the nose
    pose = one(tmp_path, workbook(tmp_path / "0001_2.xlsx", points))
    with pose.job.faces.open() as file:  # type: ignore[union-attr]
        rows = {int(row["frame"]): row for row in csv.DictReader(file)}
    assert 1 not in rows and rows[2]["nx"] == "" and len(rows) == FRAMES - 1
    face = points[0, 25:]
    np.testing.assert_allclose(float(rows[0]["lx"]), face[36:42, 0].mean(), atol=0.01)
    np.testing.assert_allclose(float(rows[0]["mry"]), face[54, 1], atol=0.01)
    assert float(rows[0]["lx"]) < float(rows[0]["nx"]) < float(rows[0]["rx"])
    assert float(rows[0]["y0"]) < face[:68, 1].min() and float(rows[0]["x0"]) == pytest.approx(
        face[:68, 0].min(), abs=0.01
    )


def test_arrays_of_the_kit(tmp_path: Path) -> None:
    small = convert(interview(), layout("openpose137"), layout("imigue22"))
    clips = np.zeros((2, 3, 90, 22, 1), np.float32)
    clips[0, :, :FRAMES, :, 0] = small.transpose(2, 0, 1)
    clips[1, :, :5, :, 0] = small[:5].transpose(2, 0, 1)
    np.save(tmp_path / "train_data.npy", clips)
    lengths, side = imigue_pose.kit_sequences(tmp_path / "train_data.npy", tmp_path / "a.npz", None)
    assert (lengths, side) == ([FRAMES, 5], "left")
    stream = skeleton_files.load(
        tmp_path, "a.npz#skeleton[1]", InputSpec("pose", rate=25, backend="file", layout="imigue22")
    )
    np.testing.assert_allclose(stream.values, small[:5], atol=1e-4)
    np.save(tmp_path / "b.npy", clips[..., 0])
    with pytest.raises(UserError, match=r"shape .* is not \(N, 3, frames, 22, 1\)"):
        imigue_pose.kit_sequences(tmp_path / "b.npy", tmp_path / "b.npz", None)
