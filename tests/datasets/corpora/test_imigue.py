"""iMiGUE becomes manifests of clips and of interviews, from each of its layouts, with both splits."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import imigue
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import split_clips
from mer.datasets.source import beside
from mer.datasets.twins import imigue as twin
from mer.encoders import SkeletonGCN, SwinFace
from mer.errors import UserError
from mer.labels import SPACES
from mer.media.prepare import prepare

HEADER = "video_id,class,start_frame,end_frame,win_or_lose,subject_id"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The twin of three people in both layouts. Tests only read it."""
    folder = tmp_path_factory.mktemp("imigue")
    twin.write(folder / "full", 3, 0)
    twin.write_miga(folder / "miga", 3, 0)
    return SimpleNamespace(full=folder / "full", miga=folder / "miga", out=folder / "out")


def read(root: Path, out: Path, *options: str) -> Manifest:
    prepared(imigue, root, out, False, "--workers", "1", *options)
    return Manifest.read(out / "manifest.csv")


def told(out: Path) -> tuple[str, dict]:
    record = json.loads((out / "prepared.json").read_text())
    return "\n".join(record["notes"]), record["facts"]


def by_id(manifest: Manifest) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in manifest.clips}


def table(root: Path, *rows: str, name: str = "labels_20200831.csv", header: str = HEADER) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    return root


# -- The full data set -------------------------------------------------------------------------------------------------


def test_each_gesture_is_a_clip_of_its_interview(roots: SimpleNamespace) -> None:
    manifest = read(roots.full, roots.out)
    made = twin.interviews(3, 0)
    clips = by_id(manifest)
    assert len(clips) == sum(len(it.clips) for it in made)
    names = SPACES["imigue32.v1"].names
    for it in made:
        for number, (raw, first, last) in enumerate(it.clips):
            clip = clips[f"{it.video:04d}_{number}"]
            assert (clip.start, clip.end) == pytest.approx((first / 25, (last + 1) / 25))
            assert clip.labels["gesture"] == [31.0 if raw == 99 else raw - 1.0]
            assert (clip.subject, clip.group) == (str(it.subject), f"{it.video:04d}")
            assert clip.cells["gesture"] == names[31 if raw == 99 else raw - 1]
            assert clip.cells["video"].endswith(f"/{it.video:04d}.mp4") and clip.cells["face"] == clip.cells["video"]
            assert clip.cells["skeleton"] == f"@/skeletons/{it.video:04d}.npz#skeleton"
    assert any(raw == 99 for it in made for raw, _, _ in it.clips)


def test_a_video_without_sound_promises_none(roots: SimpleNamespace) -> None:
    manifest = read(roots.full, roots.out)
    silent = {f"{it.video:04d}" for it in twin.interviews(3, 0) if not it.sound}
    assert silent == {c.group for c in manifest.clips if not c.cells["audio"]}


def test_the_encoder_gets_the_frames_of_the_clip(roots: SimpleNamespace) -> None:
    manifest = read(roots.full, roots.out)
    spec = SkeletonGCN("imigue22", blocks=((4, 1),), rate=25.0).spec
    for it in twin.interviews(3, 0)[:2]:
        points = twin.skeletons(it, 0)[:, :12]
        clip = by_id(manifest)[f"{it.video:04d}_1"]
        _, first, last = it.clips[1]
        reference = manifest.reference(clip, "skeleton")
        assert reference is not None
        sampled = prepare(manifest.corpus.root, reference, spec, clip.start, clip.end)
        shown = points[first : last + 1]
        shown = shown[shown[..., 2].any(1)]  # those in which OpenPose did not fail
        np.testing.assert_allclose(sampled.values[0, :, :8].numpy(), shown[:, :8], atol=2e-3)
        assert float(sampled.spans[0, -1, 1]) <= clip.end + 1e-5  # type: ignore[operator]


def test_faces_are_cut_out_without_a_detector(roots: SimpleNamespace) -> None:
    manifest = read(roots.full, roots.out)
    face = {"detector": "precomputed", "file": "@/faces/{stem}.csv", "confidence": 0.3, "smallest": 0.05}
    spec = SwinFace(
        size=32, embed=4, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), area=2, width=8, rate=5.0, face=face
    ).spec
    clip = manifest.clips[0]
    reference = manifest.reference(clip, "face")
    assert reference is not None
    sampled = prepare(manifest.corpus.root, reference, beside(manifest, spec), clip.start, clip.end)
    assert bool(sampled.mask.any()) and sampled.values.shape[2:] == (3, 32, 32)
    assert spec.face is not None and spec.face.file == "@/faces/{stem}.csv", "keys hold what was declared"


def test_the_official_split_is_by_subject(roots: SimpleNamespace) -> None:
    manifest = read(roots.full, roots.out)
    split = split_clips(manifest, None, 0, 0)
    assert manifest.corpus.subject_disjoint == "true" and split.stamp == ""
    assert not {c.subject for c in split.train} & {c.subject for c in split.test} and split.train and split.test
    assert {"0086", "0348"} & {c.group for c in split.test} == {"0086"}
    for fold in manifest.folds:
        one = split_clips(manifest, fold, 0, 0)
        assert not {c.subject for c in one.train} & {c.subject for c in one.test}
        assert not any(c.split == "test" for c in (*one.train, *one.test))


def test_the_split_of_the_challenge_on_the_full_data_set(roots: SimpleNamespace, tmp_path: Path) -> None:
    manifest = read(roots.full, tmp_path, "--protocol", "miga", "--no-skeletons")
    split = {clip.group: clip.split for clip in manifest.clips}
    assert split["0086"] == "train" and split["0085"] == "test" and split["0007"] == "val" and "0348" not in split
    assert all(clip.labels["gesture"] for clip in manifest.clips), "who holds the labels may be scored"
    assert manifest.corpus.subject_disjoint == "false"
    notes, facts = told(tmp_path)
    assert "all of them won: validate by 'fold'" in notes and "the split is not subject-disjoint" in notes
    assert facts["subjects_in_train_and_test"] >= 1
    assert all(clip.fold for clip in manifest.clips if clip.split != "test")
    assert "skeleton" not in manifest.columns


def test_an_interview_is_a_row_of_the_emotion(roots: SimpleNamespace, tmp_path: Path) -> None:
    manifest = read(roots.full, tmp_path, "--task", "emotion", "--no-skeletons")
    made = {f"{it.video:04d}": it for it in twin.interviews(3, 0)}
    assert {c.clip_id for c in manifest.clips} == set(made) - {"0348"}
    for clip in manifest.clips:
        assert (clip.start, clip.end) == (0.0, None)
        assert clip.labels["emotion"] == [float(made[clip.clip_id].won)]
    assert {c.split for c in manifest.clips} == {"train", "test"}
    assert manifest.corpus.subject_disjoint == "false"
    notes, facts = told(tmp_path)
    assert "leak into this test" in notes and "people are in training and in test" in notes
    assert facts["emotion_test_videos_with_gesture_training_labels"] > 0


def test_what_was_decided_about_the_hands_is_kept(roots: SimpleNamespace) -> None:
    read(roots.full, roots.out)
    _, facts = told(roots.out)
    assert facts["hand_first_in_file"] == "left"
    assert facts["pixels_if_left_is_first"] < 0.3 * facts["pixels_if_right_is_first"]
    assert facts["frames_measured"] > 500


def test_the_published_numbers_are_compared(tmp_path: Path) -> None:
    read(table(tmp_path / "in", "2,1,0,24,Win,2", "54,99,0,24,Lose,1"), tmp_path / "out")
    assert "clips differ from the published numbers: 1 of 13936 train, 1 of 4563 test" in told(tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,32,0,24,Win,2", r"labels_20200831\.csv, row 3: class '32' is not 1 to 31 or 99"),
        ("2,0,0,24,Win,2", "class '0' is not 1 to 31 or 99"),
        ("2,33,0,24,Win,2", "class '33'"),
        ("2,3,9,8,Win,2", "row 3: frames 9 to 8"),
        ("2,3,-1,8,Win,2", "start_frame '-1' is not a whole number"),
        ("2,3,1.5,8,Win,2", "start_frame '1.5'"),
        ("2,nan,0,8,Win,2", "class 'nan' is not a whole number"),
        ("2,3,0,inf,Win,2", "end_frame 'inf' is not a whole number"),
        ("2,3,0,8,Draw,2", "'Draw' is not Win or Lose"),
        ("2,3,0,8,Lose,2", "row 3: outcome of video 2 is negative, and positive in an earlier row"),
        ("2,3,0,8,Win,4", "row 3: subject of video 2 is 4, and 2 in an earlier row"),
        ("2,3,0", "subject_id '' is not a whole number"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(table(tmp_path / "in", "2,1,0,24,Win,2", row), tmp_path / "out")


def test_columns_may_stand_in_any_order_but_must_be_there(tmp_path: Path) -> None:
    header = "subject_id,win_or_lose,end_frame,start_frame,class,video_id"
    manifest = read(table(tmp_path / "in", "2,Win,24,0,31,2", header=header), tmp_path / "out")
    assert manifest.clips[0].labels["gesture"] == [30.0] and manifest.clips[0].end == 1.0
    with pytest.raises(UserError, match=r"column\(s\) subject_id are missing"):
        read(table(tmp_path / "b", "2,1,0,24,Win", header=HEADER.removesuffix(",subject_id")), tmp_path / "out")


def test_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    (clip,) = read(table(tmp_path / "in", "2.0,31.0,0.0,24.0,Win,2.0"), tmp_path / "out").clips
    assert (clip.clip_id, clip.end, clip.labels["gesture"]) == ("0002_0", 1.0, [30.0])


def test_who_is_in_no_part_of_the_split_is_left_out_and_told(tmp_path: Path) -> None:
    root = table(tmp_path / "in", "2,1,0,24,Win,2", "3,1,0,24,Win,80", "700,1,0,24,Win,4")
    for protocol, missing in (("official", "0003"), ("miga", "0700")):
        manifest = read(root, tmp_path / "out", "--protocol", protocol)
        assert missing not in {c.group for c in manifest.clips} and len(manifest.clips) == 2
        assert (
            f"1 video(s) are in no part of this split, and are not in the manifest: {missing}"
            in told(tmp_path / "out")[0]
        )
    assert len(read(root, tmp_path / "out", "--protocol", "none").clips) == 3


def test_the_base_of_frames_is_proved_or_doubted(tmp_path: Path) -> None:
    read(table(tmp_path / "a", "2,1,0,24,Win,2"), tmp_path / "out")
    assert "counted from 0" not in told(tmp_path / "out")[0]
    read(table(tmp_path / "b", "2,1,5,24,Win,2"), tmp_path / "out")
    assert "nothing proves that frames are counted from 0" in told(tmp_path / "out")[0]
    manifest = read(tmp_path / "b", tmp_path / "out", "--first-frame", "1")
    assert (manifest.clips[0].start, manifest.clips[0].end) == (0.16, 0.96)
    with pytest.raises(UserError, match="frames -1 to 23"):
        read(tmp_path / "a", tmp_path / "out", "--first-frame", "1")


def test_a_clip_behind_the_end_of_its_video_is_refused(roots: SimpleNamespace, tmp_path: Path) -> None:
    root = table(tmp_path / "in", "86,1,0,24,Win,1", "86,2,90,400,Win,1")
    shutil.copytree(roots.full / "iMiGUE_RGB_Phase1", root / "films")
    with pytest.raises(UserError, match=r"row 3: frames 90 to 400, and 0086\.mp4 ends after 4\.0.*--skip-errors"):
        read(root, tmp_path / "out")
    count, left_out = prepared(imigue, root, tmp_path / "out", True)
    assert count == 1 and list(left_out) == ["0086_1"]
    assert "frames per second" not in told(tmp_path / "out")[0]


def test_a_broken_video_stops_or_is_listed(roots: SimpleNamespace, tmp_path: Path) -> None:
    root = table(tmp_path / "in", "86,1,0,24,Win,1", "7,2,0,24,Win,2")
    shutil.copytree(roots.full / "iMiGUE_RGB_Phase1", root / "films")
    next(root.rglob("0086.mp4")).write_bytes(b"junk")
    with pytest.raises(UserError, match=r"0086\.mp4: not readable.*--skip-errors"):
        read(root, tmp_path / "out")
    count, left_out = prepared(imigue, root, tmp_path / "out", True)
    assert count == 1 and list(left_out) == ["0086.mp4"]
    assert "1 video(s) have neither picture nor skeleton here" in told(tmp_path / "out")[0]


# -- The archives of the challenge --------------------------------------------------------------------------------------


def test_the_archives_give_the_same_clips_without_subjects(roots: SimpleNamespace, tmp_path: Path) -> None:
    manifest = read(roots.miga, tmp_path)
    full = by_id(read(roots.full, tmp_path / "full", "--protocol", "miga", "--no-skeletons"))
    assert {c.clip_id for c in manifest.clips} == set(full)
    for clip in manifest.clips:
        other = full[clip.clip_id]
        assert (clip.start, clip.end, clip.split, clip.subject) == (other.start, other.end, other.split, "")
        assert clip.labels["gesture"] == (None if clip.split == "test" else other.labels["gesture"])
    assert manifest.corpus.subject_disjoint == "unknown"
    assert all(len({c.fold for c in manifest.clips if c.group == g}) == 1 for g in {c.group for c in manifest.clips})
    notes, facts = told(tmp_path)
    assert "no file says whom a video shows" in notes and "classes of the test videos are withheld" in notes
    assert facts["layout"] == "miga" and facts["hand_first_in_file"] == "left"
    with np.load(tmp_path / "skeletons/0085.npz") as arrays:
        assert arrays["skeleton"].shape[1] == 137, "all points are taken where there is a file of fewer beside them"


def test_the_emotion_track(roots: SimpleNamespace, tmp_path: Path) -> None:
    manifest = read(roots.miga, tmp_path, "--task", "emotion", "--no-skeletons")
    won = {f"{it.video:04d}": float(it.won) for it in twin.interviews(3, 0)}
    for clip in manifest.clips:
        assert clip.labels["emotion"] == (None if clip.split == "test" else [won[clip.clip_id]])
    assert Counter(c.split for c in manifest.clips)["val"] >= 1


def test_numbers_for_who_won_are_asked_about(tmp_path: Path) -> None:
    root = table(tmp_path / "in", "0012,1", "0013,0", name="train_label.csv", header="video_id,label")
    with pytest.raises(UserError, match=r"train_label\.csv, row 2: '1' may be a match won or lost\. .*--won"):
        read(root, tmp_path / "out", "--task", "emotion")
    manifest = read(root, tmp_path / "out", "--task", "emotion", "--won", "0")
    assert [c.cells["emotion"] for c in manifest.clips] == ["negative", "positive"]


def test_a_video_that_was_won_and_lost_is_refused(tmp_path: Path) -> None:
    root = table(tmp_path / "in", "0012,Win", "0012,Lose", name="train_label.csv", header="Video_ID,Label,")
    with pytest.raises(UserError, match=r"row 3: outcome of video 12 is negative, and positive in an earlier row"):
        read(root, tmp_path / "out", "--task", "emotion")


def test_classes_of_the_challenge_are_checked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for text, message in (
        ("3,0,9\n12,5\n", "row 2: 2 cells"),
        ("3,0,9\nx,0,9\n", "class 'x'"),
        ("98,0,9\n", "class '98'"),
    ):
        (tmp_path / "in/0012_label.csv").write_text(text)
        with pytest.raises(UserError, match=rf"0012_label\.csv, row \d: .*{message}|{message}"):
            read(tmp_path / "in", tmp_path / "out")


def test_another_set_in_the_same_layout(tmp_path: Path) -> None:
    root = tmp_path / "3k"
    for video in (1203, 2044):
        (root / f"{video}").mkdir(parents=True)
        (root / f"{video}/{video}_label.csv").write_text("3,0,9\n99,12,30\n")
    manifest = read(root, tmp_path / "out", "--protocol", "none")
    assert [c.clip_id for c in manifest.clips] == ["1203_0", "1203_1", "2044_0", "2044_1"]
    assert {c.split for c in manifest.clips} == {""} and manifest.folds == ["0", "1"]


# -- Lists -------------------------------------------------------------------------------------------------------------


def test_a_list_of_clips_says_by_itself_how_labels_are_counted(tmp_path: Path) -> None:
    root = table(tmp_path / "a", "0187_0,0", "0012_1,31", "0001_0,30", name="x.csv", header="sample,label")
    manifest = read(root, tmp_path / "out")
    assert [c.labels["gesture"] for c in manifest.clips] == [[0.0], [31.0], [30.0]]
    assert [c.split for c in manifest.clips] == ["train", "train", "val"] and manifest.clips[0].end is None
    root = table(tmp_path / "b", "0187_0,1", "0012_1,99", name="x.csv", header="sample,label")
    assert [c.labels["gesture"] for c in read(root, tmp_path / "out").clips] == [[0.0], [31.0]]
    root = table(tmp_path / "c", "0187_0,1", "0012_1,31", name="x.csv", header="sample,label")
    with pytest.raises(UserError, match=r"neither 0 nor 99 occurs.*--labels index or --labels raw"):
        read(root, tmp_path / "out")
    assert [c.labels["gesture"] for c in read(root, tmp_path / "out", "--labels", "raw").clips] == [[0.0], [30.0]]
    root = table(tmp_path / "d", "0187_0,0", "0012_1,99", name="x.csv", header="sample,label")
    with pytest.raises(UserError, match="0 and 99 both occur"):
        read(root, tmp_path / "out")


def test_a_list_may_be_called_as_the_table_of_the_full_data_set(tmp_path: Path) -> None:
    root = table(tmp_path / "in", "0187_0,0", "0012_1,31", name="labels.csv", header="Sample,Label")
    assert [c.clip_id for c in read(root, tmp_path / "out").clips] == ["0187_0", "0012_1"]


def test_lines_of_a_clip_list_and_clips_that_were_cut_out(roots: SimpleNamespace, tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "clips").mkdir(parents=True)
    shutil.copy(next(roots.full.rglob("0086.mp4")), root / "clips/0004_0.mp4")
    (root / "iMiGUE_val_clips_list.txt").write_text("0004_0.mp4 31\n0004_1.mp4 0\n")
    (root / "iMiGUE_test_clips_list.txt").write_text("0054_0.mp4 5\n0054_1.mp4 5\n")
    manifest = read(root, tmp_path / "out")
    assert [(c.clip_id, c.split, c.cells["video"], c.labels["gesture"]) for c in manifest.clips] == [
        ("0004_0", "val", "clips/0004_0.mp4", [31.0])
    ], "clips without a file, and so without anything to see, are not rows"
    notes, _ = told(tmp_path / "out")
    assert "withheld" in notes and "neither picture nor skeleton" in notes


def test_a_clip_that_stands_twice_is_refused(tmp_path: Path) -> None:
    root = table(tmp_path / "a", "0187_0,0", "0187_0,1", name="x.csv", header="sample,label")
    with pytest.raises(UserError, match=r"row 3: 0187_0 stands in .*row 2, too"):
        read(root, tmp_path / "out")


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/train_label.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"train_label\.pkl: a pickle.*sample,label"):
        read(tmp_path / "in", tmp_path / "out")
    np.save(tmp_path / "in/train_data.npy", np.zeros((1, 3, 90, 22, 1), np.float32))
    with pytest.raises(UserError, match="a pickle"):
        read(tmp_path / "in", tmp_path / "out")


def test_the_arrays_of_the_kit_with_their_list(tmp_path: Path) -> None:
    points = twin.skeletons(twin.interviews(1, 0)[0], 0)[:10]
    from mer.skeletons import convert, layout

    small = convert(points, layout("openpose137"), layout("imigue22"))
    clips = np.zeros((2, 3, 90, 22, 1), np.float32)
    clips[:, :, :10, :, 0] = small.transpose(2, 0, 1)
    root = table(tmp_path / "in", "0012_0,0", "0012_4,3", name="train_label.csv", header="sample,label")
    np.save(root / "train_data.npy", clips)
    manifest = read(root, tmp_path / "out")
    assert [c.cells["skeleton"] for c in manifest.clips] == [f"@/skeletons/train.npz#skeleton[{k}]" for k in (0, 1)]
    reference = manifest.reference(manifest.clips[1], "skeleton")
    assert reference is not None and manifest.clips[1].end == 0.4
    spec = SkeletonGCN("imigue22", blocks=((4, 1),), rate=25.0).spec
    sampled = prepare(manifest.corpus.root, reference, spec, 0, 0.4)
    assert 0 < sampled.values.shape[1] <= 10
    table(root, "0012_0,0", name="train_label.csv", header="sample,label")
    with pytest.raises(UserError, match="1 rows for 2 clips"):
        read(root, tmp_path / "out")


# -- The command -------------------------------------------------------------------------------------------------------


def test_the_command(roots: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "imigue", "--root", roots.miga, "--out", tmp_path / "out", "--no-skeletons") == 0
    assert "clips differ from the published numbers" in capsys.readouterr().out
    assert mer("prepare", "imigue", "--root", tmp_path / "out", "--out", tmp_path / "b") != 0
    assert "neither labels_20200831.csv" in one_line(capsys.readouterr().err)
    assert mer("prepare", "imigue", "--root", roots.miga, "--out", tmp_path / "c", "--workers", "-1") != 0
    assert "--workers -1. Give at least 1." in one_line(capsys.readouterr().err)
