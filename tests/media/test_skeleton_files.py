"""Skeletons from files: every layout lands where it belongs, and what cannot be known is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from mer.errors import UserError
from mer.media.skeleton_files import load
from mer.skeletons import layout
from mer.spec import InputSpec


def spec(rate: float | None = 25.0, to: str | None = None) -> InputSpec:
    return InputSpec(kind="pose", backend="file", rate=rate, layout=to)


def body(joints: int, x: float = 100.0, size: float = 50.0, sure: float = 0.9, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([x + rng.uniform(0, size, (joints, 2)), np.full((joints, 1), sure)], 1)


def openpose(folder: Path, frames: dict[int, list[dict[str, Any]]]) -> None:
    folder.mkdir()
    for number, people in frames.items():
        (folder / f"clip_{number:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))


def person(points: np.ndarray, **parts: np.ndarray) -> dict[str, Any]:
    flat = {"pose_keypoints_2d": points.reshape(-1).tolist(), "face_keypoints_2d": []}
    return flat | {name: part.reshape(-1).tolist() for name, part in parts.items()}


# -- OpenPose ----------------------------------------------------------------------------------------------------------


def test_openpose_body_25(tmp_path: Path) -> None:
    points = body(25)
    points[8] = 0
    openpose(tmp_path / "op", {k: [person(np.add(points, [k, 0, 0]))] for k in range(4)})
    stream = load(tmp_path, "op", spec())
    assert stream.values.shape == (4, 25, 3)
    np.testing.assert_allclose(stream.values[2, :8], np.add(points, [2, 0, 0])[:8], rtol=1e-6)
    np.testing.assert_allclose(stream.spans[:, 0], np.arange(4) / 25, atol=1e-6)


def test_openpose_with_face_and_hands_is_137(tmp_path: Path) -> None:
    parts = {
        "face_keypoints_2d": body(70, 300), "hand_left_keypoints_2d": body(21, 400), "hand_right_keypoints_2d": body(21, 500)
    }  # fmt: skip
    openpose(tmp_path / "op", {0: [person(body(25), **parts)], 1: [person(body(25))]})
    stream = load(tmp_path, "op", spec())
    assert stream.values.shape == (2, 137, 3)
    assert (stream.values[0, 95:116, 0] >= 400).all() and (stream.values[0, 116:, 0] >= 500).all()
    assert (stream.values[1, 25:] == 0).all()
    tips = load(tmp_path, "op", spec(to="imigue22")).values
    assert (tips[0, 12:17, 0] >= 400).all() and (tips[0, 12:17, 0] < 500).all()


def test_openpose_coco_18(tmp_path: Path) -> None:
    openpose(tmp_path / "op", {0: [person(body(18))]})
    assert load(tmp_path, "op", spec(to="coco17")).values.shape == (1, 17, 3)


def test_one_person_is_followed_through_a_crowd(tmp_path: Path) -> None:
    frames = {}
    for k in range(20):
        main, passer = person(body(25, 100 + 2 * k, 80)), person(body(25, 600 - 15 * k, 30, sure=0.5))
        frames[k] = [passer, main] if k % 3 else [main, passer]
    frames[7] = [frames[7][0]]  # the main person is lost for one frame
    openpose(tmp_path / "op", frames)
    stream = load(tmp_path, "op", spec())
    assert len(stream) == 19
    assert np.diff(stream.values[:, 0, 0]).max() < 5
    assert (stream.values[..., 2] > 0.8).all()


def test_frames_without_anybody_give_no_element(tmp_path: Path) -> None:
    openpose(tmp_path / "op", {0: [], 1: [person(body(25))], 2: [person(np.zeros((25, 3)))], 3: []})
    stream = load(tmp_path, "op", spec())
    np.testing.assert_allclose(stream.spans, [[1 / 25, 2 / 25]], atol=1e-6)
    openpose(tmp_path / "empty", {0: [], 1: []})
    assert load(tmp_path, "empty", spec(to="coco17")).values.shape == (0, 17, 3)


def test_a_stretch_is_cut_out(tmp_path: Path) -> None:
    openpose(tmp_path / "op", {k: [person(np.add(body(25), [k, 0, 0]))] for k in range(50)})
    stream = load(tmp_path, "op", spec(), start=0.4, end=0.8)
    np.testing.assert_allclose(stream.spans[[0, -1]], [[0.4, 0.44], [0.76, 0.8]], atol=1e-6)
    assert stream.values[0, 0, 0] == pytest.approx(body(25)[0, 0] + 10)
    with pytest.raises(UserError, match="hold nothing from 3 s"):
        load(tmp_path, "op", spec(), start=3.0)


def test_without_a_rate_the_frames_divide_the_clip(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", pose=np.ones((10, 17, 2)), layout="coco17")
    stream = load(tmp_path, "clip.npz", spec(rate=None), start=2.0, end=4.0)
    np.testing.assert_allclose(stream.spans[[0, -1]], [[2.0, 2.2], [3.8, 4.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not readable JSON"),
        ("[]", "no list 'people'"),
        (
            json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 75, "face_keypoints_2d": [1, 2]}]}),
            "2 numbers in 'face",
        ),
        (json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 33}]}), "11 joints is of no layout"),
    ],
)
def test_a_bad_frame_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "op").mkdir()
    (tmp_path / "op/clip_000000000000_keypoints.json").write_text(text)
    with pytest.raises(UserError, match=says):
        load(tmp_path, "op", spec())


def test_a_folder_without_frames_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "op").mkdir()
    with pytest.raises(UserError, match=r"no \.json in it"):
        load(tmp_path, "op", spec())
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path, "nowhere", spec())
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(UserError, match="not a kind of skeleton file"):
        load(tmp_path, "table.xlsx", spec())


# -- COCO and MMPose ---------------------------------------------------------------------------------------------------


def test_coco_results(tmp_path: Path) -> None:
    entries = [{"image_id": k, "keypoints": body(17).reshape(-1).tolist(), "score": 0.9} for k in (0, 2)]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    stream = load(tmp_path, "r.json", spec(to="openpose18"))
    assert stream.values.shape == (2, 18, 3)
    np.testing.assert_allclose(stream.spans[:, 0], [0, 0.08], atol=1e-6)


def test_coco_annotations_say_which_joints_are_there(tmp_path: Path) -> None:
    points = body(17)
    points[:, 2] = 2
    points[3] = 0
    content = {
        "images": [{"id": 7, "file_name": "clip/000004.jpg"}],
        "annotations": [{"image_id": 7, "keypoints": points.reshape(-1).tolist()}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    stream = load(tmp_path, "a.json", spec())
    assert stream.values[0, :, 2].tolist() == [1, 1, 1, 0] + [1] * 13
    assert stream.spans[0, 0] == pytest.approx(4 / 25)


def test_mmpose_predictions_whole_body(tmp_path: Path) -> None:
    points = body(133)
    instance = {"keypoints": points[:, :2].tolist(), "keypoint_scores": points[:, 2].tolist()}
    frames = [{"frame_id": k, "instances": [instance]} for k in (1, 2)]
    (tmp_path / "m.json").write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    stream = load(tmp_path, "m.json", spec())
    assert stream.values.shape == (2, 133, 3) and stream.spans[0, 0] == 0  # the demo script counts from 1
    (tmp_path / "i.json").write_text(json.dumps([{"frame_id": 0, "instances": [instance]}]))
    assert load(tmp_path, "i.json", spec()).spans[0, 0] == 0


def test_lifted_poses_must_say_their_layout(tmp_path: Path) -> None:
    instance = {"keypoints": np.ones((17, 3)).tolist(), "keypoint_scores": [1.0] * 17}
    (tmp_path / "lifted.json").write_text(json.dumps([{"instances": [instance]}]))
    with pytest.raises(UserError, match=r"17 joints fits coco17 and h36m17.*Declare it"):
        load(tmp_path, "lifted.json", spec())
    assert load(tmp_path, "lifted.json#h36m17", spec()).values.shape == (1, 17, 4)


# -- Tables ------------------------------------------------------------------------------------------------------------


def light_hand(path: Path, crossed: bool, together: bool = False) -> np.ndarray:
    points = np.tile(body(35, 500), (6, 1, 1))
    points[:, 7, :2], points[:, 4, :2] = (800, 400), (200, 400)
    first, second = ((200, 400), (800, 400)) if crossed else ((800, 400), (200, 400))
    points[:, 25:30, :2] = np.add(first, [[5, i] for i in range(5)])
    points[:, 30:35, :2] = np.add(second, [[5, i] for i in range(5)])
    if together:
        points[:, 25:, :2] = 500
    rows = np.concatenate([np.arange(6)[:, None], points.reshape(6, -1)], 1)
    path.write_text("\n".join(",".join(f"{v:.4f}" for v in row) for row in rows))
    return points


@pytest.mark.parametrize("crossed", [False, True])
def test_imigue_finger_tips_hang_on_their_own_hand(tmp_path: Path, crossed: bool) -> None:
    light_hand(tmp_path / "0001_light_hand.csv", crossed)
    values = load(tmp_path, "0001_light_hand.csv", spec(to="imigue22")).values
    assert values.shape == (6, 22, 3)
    assert (np.abs(values[:, 12:17, 0] - values[:, 7:8, 0]) < 20).all()
    assert (np.abs(values[:, 17:22, 0] - values[:, 4:5, 0]) < 20).all()


def test_tips_that_fit_both_hands_are_asked_about(tmp_path: Path) -> None:
    points = light_hand(tmp_path / "x.csv", crossed=True, together=True)
    with pytest.raises(UserError, match=r"finger tips.*#imigue35"):
        load(tmp_path, "x.csv", spec())
    np.testing.assert_allclose(load(tmp_path, "x.csv#imigue35", spec()).values, points, atol=1e-3)


def test_a_bad_row_of_a_table_is_named(tmp_path: Path) -> None:
    good = ",".join(["1"] * 106)
    (tmp_path / "a.csv").write_text(f"{good}\n{good},9\n")
    with pytest.raises(UserError, match=r"row 2: 107 cells instead of 106"):
        load(tmp_path, "a.csv", spec())
    (tmp_path / "b.csv").write_text("\n".join([good, good.replace("1", "x", 1)]))
    with pytest.raises(UserError, match=r"row 2: .*'x'"):
        load(tmp_path, "b.csv", spec())
    (tmp_path / "c.csv").write_text(",".join(["0.5"] * 75))
    with pytest.raises(UserError, match="25 joints fits openpose25 and ntu25"):
        load(tmp_path, "c.csv", spec())
    assert load(tmp_path, "c.csv#openpose25", spec()).values.shape == (1, 25, 3)


@pytest.mark.parametrize("style", ["numbered", "from one", "named"])
def test_mediapipe_landmarks_one_row_per_frame(tmp_path: Path, style: str) -> None:
    names = {
        "numbered": [str(i) for i in range(33)], "from one": [str(i + 1) for i in range(33)],
        "named": [f"{n.upper()}_" for n in layout("mediapipe33").joints],
    }[style]  # fmt: skip
    axes = [f"{n}{a}" if style == "named" else f"{a}{n}" for n in names for a in ("x", "y", "z", "visibility")]
    row = [v for i in range(33) for v in (0.01 * i + 0.1, 0.5, -0.2, 0.9)]
    (tmp_path / "mp.csv").write_text(",".join(["frame", *axes]) + "\n" + ",".join(map(str, [3, *row])))
    stream = load(tmp_path, "mp.csv", spec())
    np.testing.assert_allclose(stream.values[0, :, 0], 0.01 * np.arange(33) + 0.1, rtol=1e-5)
    assert (stream.values[0, :, 2] == np.float32(0.9)).all()
    assert stream.spans[0, 0] == pytest.approx(3 / 25)


def test_mediapipe_landmarks_one_row_per_joint(tmp_path: Path) -> None:
    rows = [f"{t},{j},{j + 1},{t + 1},0,0.8" for t in (0, 2) for j in range(33)]
    (tmp_path / "mp.csv").write_text("\n".join(["frame,landmark,x,y,z,visibility", *rows]))
    stream = load(tmp_path, "mp.csv", spec())
    assert stream.values.shape == (2, 33, 3)
    assert stream.values[1, 32].tolist() == pytest.approx([33, 3, 0.8])


# -- Kinect ------------------------------------------------------------------------------------------------------------


def ntu(frames: list[dict[str, np.ndarray]], state: int = 2) -> str:
    lines = [str(len(frames))]
    for people in frames:
        lines.append(str(len(people)))
        for who, points in people.items():
            lines += [f"{who} 0 1 1 1 1 0 0.1 0.2 2", "25"]
            lines += [" ".join(f"{v:.5f}" for v in p) + " 0 0 0 0 0 0 0 0 " + str(state) for p in points]
    return "\n".join(lines)


def test_ntu_keeps_the_person_who_is_there_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    main, other = rng.uniform(1, 2, (5, 25, 3)), rng.uniform(3, 4, (25, 3))
    frames = [{"72057594037931101": main[t]} | ({"72057594037931368": other} if t == 2 else {}) for t in range(5)]
    (tmp_path / "S001.skeleton").write_text(ntu(frames))
    stream = load(tmp_path, "S001.skeleton", spec(rate=30))
    assert stream.values.shape == (5, 25, 4)
    np.testing.assert_allclose(stream.values[..., :3], main, atol=1e-4)
    assert (stream.values[..., 3] == 1).all()


def test_ntu_cut_off(tmp_path: Path) -> None:
    text = ntu([{"1": np.ones((25, 3))}] * 3, state=1)
    (tmp_path / "whole.skeleton").write_text(text)
    assert (load(tmp_path, "whole.skeleton", spec(rate=30)).values[..., 3] == 0.5).all()
    (tmp_path / "cut.skeleton").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"ends within frame 1|frame 1: "):
        load(tmp_path, "cut.skeleton", spec(rate=30))


def test_utd_mhad_matlab(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3, 7))
    savemat(tmp_path / "a1_s1_t1_skeleton.mat", {"d_skel": points})
    stream = load(tmp_path, "a1_s1_t1_skeleton.mat", spec(rate=30))
    np.testing.assert_allclose(stream.values[..., :3], points.transpose(2, 0, 1), rtol=1e-6)
    savemat(tmp_path / "iner.mat", {"d_iner": np.ones((5, 6))})
    with pytest.raises(UserError, match="no array 'd_skel'"):
        load(tmp_path, "iner.mat", spec())
    (tmp_path / "bad.mat").write_bytes(b"no")
    with pytest.raises(UserError, match=r"not a readable \.mat"):
        load(tmp_path, "bad.mat", spec())


# -- Arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_by_number_of_joints_or_declared(tmp_path: Path) -> None:
    points = np.tile(body(22)[None], (4, 1, 1))
    np.save(tmp_path / "a.npy", points)
    assert load(tmp_path, "a.npy", spec()).values.shape == (4, 22, 3)
    np.save(tmp_path / "b.npy", points[:, :17])
    with pytest.raises(UserError, match="coco17 and h36m17"):
        load(tmp_path, "b.npy", spec())
    assert load(tmp_path, "b.npy#coco17", spec(to="h36m17")).values.shape == (4, 17, 3)
    with pytest.raises(UserError, match=r"3 channels.*#h36m17:channels"):
        load(tmp_path, "b.npy#h36m17", spec())
    assert load(tmp_path, "b.npy#h36m17:xyz", spec()).values.shape == (4, 17, 4)
    with pytest.raises(UserError, match="17 joints, and 'coco133' has 133"):
        load(tmp_path, "b.npy#coco133", spec())


def test_missing_joints_have_no_confidence_and_no_nan(tmp_path: Path) -> None:
    points = body(20)[None].repeat(3, 0)
    points[0, 4], points[1, 5, 0], points[2] = 0, np.nan, np.nan
    np.save(tmp_path / "a.npy", points)
    values = load(tmp_path, "a.npy", spec()).values
    assert values.shape == (2, 20, 4) and np.isfinite(values).all()
    assert values[0, 4].tolist() == [0] * 4 and values[1, 5].tolist() == [0] * 4
    assert (values[..., 3] == 0).sum() == 2


def test_a_third_channel_that_is_no_confidence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 22, 3), 3.0))
    with pytest.raises(UserError, match=r"confidence from 3 to 3.*:xyz"):
        load(tmp_path, "a.npy", spec())


@pytest.mark.parametrize(
    ("declared", "to", "says"), [("coco17:xyc", "ntu25", "are 2-D"), ("h36m17:xyz", "coco17", "are 3-D")]
)
def test_flat_and_deep_skeletons_do_not_take_each_others_place(
    tmp_path: Path, declared: str, to: str, says: str
) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).uniform(0.1, 1, (4, 17, 3)))
    with pytest.raises(UserError, match=says):
        load(tmp_path, f"a.npy#{declared}", spec(to=to))


def test_sequences_end_to_end_are_cut_by_their_offset(tmp_path: Path) -> None:
    skeleton = np.random.default_rng(0).normal(size=(9, 20, 3))
    np.savez(tmp_path / "all.npz", skeleton=skeleton, skeleton_offset=[0, 4, 9], inertial=np.ones((3, 6)))
    stream = load(tmp_path, "all.npz#skeleton[1]", spec(rate=30))
    np.testing.assert_allclose(stream.values[..., :3], skeleton[4:], rtol=1e-6)
    assert load(tmp_path, "all.npz#skeleton[0]#kinect20", spec(rate=30, to="ntu25")).values.shape == (4, 25, 4)
    with pytest.raises(UserError, match="row 2 of 2"):
        load(tmp_path, "all.npz#skeleton[2]", spec())
    with pytest.raises(UserError, match=r"no array None|write file#key"):
        load(tmp_path, "all.npz", spec())


def test_of_several_people_the_one_who_is_seen_best(tmp_path: Path) -> None:
    people = np.stack([np.tile(body(25, 100, sure=s), (6, 1, 1)) for s in (0.3, 0.9)], 1)
    np.savez(tmp_path / "a.npz", pose=people, layout="openpose25", channels="xyc")
    assert (load(tmp_path, "a.npz", spec()).values[..., 2] == np.float32(0.9)).all()


def test_arrays_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "flat.npy", np.ones((4, 44)))
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, says in [
        ("bad.npz", "not a readable"), ("flat.npy", r"shape \(4, 44\)"), ("text.npy", "not numeric"),
        ("object.npy", "without pickled objects"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=says):
            load(tmp_path, name, spec())


@pytest.mark.real
@pytest.mark.parametrize("name", ["a1_s1_t1", "a9_s2_t3", "a27_s7_t4"])
def test_utd_mhad_matlab_and_array_agree(real_data: Path, name: str) -> None:
    root = real_data / "utd_mhad"
    row = int(np.flatnonzero(np.load(root / "skeleton_inertial.npz")["name"] == name)[0])
    raw = load(root, f"raw_samples/{name}_skeleton.mat", spec(rate=30))
    packed = load(root, f"skeleton_inertial.npz#skeleton[{row}]", spec(rate=30))
    assert len(raw) > 30
    np.testing.assert_allclose(raw.values, packed.values, atol=1e-6)
    assert (raw.spans == packed.spans).all()
