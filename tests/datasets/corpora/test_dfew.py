"""DFEW becomes a manifest from the official download, from other repositories' lists, and from the packaged ones."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import clip_lists, dfew
from mer.datasets.manifest import Manifest
from mer.datasets.twins import dfew as twin
from mer.errors import UserError
from mer.labels import SPACES
from mer.media import table
from mer.media.pictures import picture_folder
from mer.media.prepare import prepare
from mer.media.probe import probe
from mer.spec import InputSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dfew") / "download"
    twin.write(root, 2, 3)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(made, tmp_path / "download"))


def read(root: Path, out: Path, *options: str, skip_errors: bool = False) -> Manifest:
    prepared(dfew, root, out, skip_errors, *options)
    return Manifest.read(out / "manifest.csv")


def fails(root: Path, out: Path, *words: str, options: tuple[str, ...] = ()) -> None:
    with pytest.raises(UserError) as caught:
        prepared(dfew, root, out, False, *options)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def official(root: Path, part: str, fold: int) -> Path:
    return root / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{fold}.csv"


def notes(out: Path) -> str:
    return " ".join(json.loads((out / "prepared.json").read_text())["notes"])


class TestOfficial:
    def test_every_clip_once_in_the_fold_that_tests_it(self, root: Path, tmp_path: Path) -> None:
        manifest = read(root, tmp_path)
        assert len(manifest.clips) == 14
        assert manifest.folds == ["1", "2", "3", "4", "5"]
        for clip in manifest.clips:
            rows = dict(line.split(",") for line in official(root, "test", int(clip.fold)).read_text().split()[1:])
            assert clip.labels["emotion"] == [float(rows[clip.clip_id]) - 1]
        assert manifest.corpus.subject_disjoint == "unknown"

    def test_media_whose_names_have_no_zeros(self, root: Path, tmp_path: Path) -> None:
        clip = read(root, tmp_path).clips[1]
        assert clip.clip_id == "00002"
        assert clip.cells["faces"] == "Clip/clip_224x224/00002#25@1"
        assert (clip.cells["video"], clip.cells["audio"]) == ("raw/2.mp4", "raw_wav/2.wav")

    def test_lists_that_a_spreadsheet_saved(self, root: Path, tmp_path: Path) -> None:
        """With a byte order mark, semicolons, quotes, and line ends of Windows."""
        right = read(root, tmp_path / "a")
        for file in root.rglob("set_*.csv"):
            lines = ['"' + line.replace(",", '";"') + '"\r\n' for line in file.read_text().split()]
            file.write_bytes(("\ufeff" + "".join(lines)).encode())
        assert [(c.clip_id, c.labels) for c in read(root, tmp_path / "b").clips] == [
            (c.clip_id, c.labels) for c in right.clips
        ]

    def test_numbers_that_lost_their_zeros_in_a_table(self, root: Path, tmp_path: Path) -> None:
        for file in root.rglob("set_*.csv"):
            lines = file.read_text().split()
            file.write_text("\n".join([lines[0], *(line.lstrip("0") for line in lines[1:])]))
        assert read(root, tmp_path).clips[0].clip_id == "00001"

    def test_pictures_are_in_order_of_their_numbers(self, root: Path, tmp_path: Path) -> None:
        manifest = read(root, tmp_path)
        clip = next(c for c in manifest.clips if (root / str(c.cells["faces"]).partition("#")[0] / "10.jpg").exists())
        folder = picture_folder(root / clip.cells["faces"])
        assert folder is not None
        numbers = [int(name.partition(".")[0]) for name in folder.names]
        assert numbers == sorted(numbers)
        assert 9 in numbers

    def test_the_first_faces_of_a_clip_may_be_missing(self, root: Path, tmp_path: Path) -> None:
        clip = read(root, tmp_path).clips[twin.LATE]
        times = prepare(root, clip.cells["faces"], InputSpec("video", rate=25, size=(8, 8))).spans[0, :, 0]
        assert times[0] == pytest.approx(3 / 25)

    def test_a_gap_in_the_numbers_is_a_gap_in_time(self, root: Path, tmp_path: Path) -> None:
        clip = read(root, tmp_path).clips[twin.GAP]
        times = prepare(root, clip.cells["faces"], InputSpec("video", rate=25, size=(8, 8))).spans[0, :, 0]
        assert np.diff(times).max() == pytest.approx(7 / 25, abs=1e-4)

    def test_a_clip_of_11_pictures_gives_16_segments(self, root: Path, tmp_path: Path) -> None:
        clip = read(root, tmp_path).clips[twin.SHORT]
        assert clip.cells["frames"] == "11"
        assert prepare(root, clip.cells["faces"], InputSpec("video", size=(8, 8), segments=16)).mask.shape == (1, 16)
        assert "1 clip(s) have fewer than 16" in notes(tmp_path)

    def test_the_rate_is_that_of_the_video(self, root: Path, tmp_path: Path) -> None:
        clip = read(root, tmp_path).clips[twin.VFR]
        fps = probe(root / clip.cells["video"]).fps
        assert fps is not None and fps < 20
        assert clip.cells["faces"].endswith(f"#{fps:.6g}@1")
        assert "declared" not in notes(tmp_path)

    def test_a_rate_may_be_declared_and_is_where_no_video_says_it(self, root: Path, tmp_path: Path) -> None:
        assert read(root, tmp_path / "a", "--fps", "29.97").clips[0].cells["faces"].endswith("#29.97@1")
        shutil.rmtree(root / "raw")
        assert read(root, tmp_path / "b").clips[0].cells["faces"].endswith("#25@1")
        assert "declared to have 25 a second" in notes(tmp_path / "b")

    def test_a_clip_without_sound_has_no_audio(self, root: Path, tmp_path: Path) -> None:
        manifest = read(root, tmp_path / "a")
        assert [c.clip_id for c in manifest.clips if not c.cells["audio"]] == [manifest.clips[twin.SILENT].clip_id]
        assert "1 clip(s) have no sound" in notes(tmp_path / "a")
        shutil.rmtree(root / "raw_wav")  # then the videos say it
        assert [bool(c.cells["audio"]) for c in read(root, tmp_path / "b").clips] == [
            bool(c.cells["audio"]) for c in manifest.clips
        ]

    def test_votes_are_shares_in_order_of_the_classes(self, root: Path, tmp_path: Path) -> None:
        manifest = read(root, tmp_path)
        assert list(manifest.corpus.tasks) == ["emotion", "emotion_votes"]
        for clip in manifest.clips:
            votes, label = clip.labels["emotion_votes"], clip.labels["emotion"]
            assert votes is not None and label is not None
            assert len(votes) == 7 and sum(votes) == pytest.approx(1, abs=1e-3)
            assert votes[int(label[0])] >= 0.7

    def test_16_pictures_are_never_faces(self, root: Path, tmp_path: Path) -> None:
        assert read(root, tmp_path / "a").clips[0].cells["faces16"] == "Clip/clip_224x224_16f/00001#16"
        assert "16 segments alone" in notes(tmp_path / "a")
        fails(root, tmp_path / "b", "16 pictures drawn from each clip", options=("--faces", "Clip/clip_224x224_16f"))
        shutil.rmtree(root / "Clip" / "clip_224x224")
        assert "faces" not in read(root, tmp_path / "c").columns

    def test_whole_frames_in_place_of_faces_are_noticed(self, root: Path, tmp_path: Path) -> None:
        import cv2

        for file in (root / "Clip" / "clip_224x224").rglob("*.jpg"):
            cv2.imwrite(str(file), np.zeros((60, 100, 3), np.uint8))
        read(root, tmp_path)
        assert "are 100 x 60" in notes(tmp_path)


class TestBase:
    def copy(self, root: Path, change: int) -> None:
        """Lists as S2D has them: the same header, labels less one."""
        for file in root.rglob("set_*.csv"):
            lines = [line.split(",") for line in file.read_text().split()]
            file.unlink()
            text = "\n".join(",".join([lines[0][k] for k in (0, 1)]) if n == 0 else f"{r[0]},{int(r[1]) + change}"
                             for n, r in enumerate(lines))  # fmt: skip
            part = "train" if "train" in file.parent.name else "test"
            file.with_name(f"{part}_{file.name}").write_text(text)
        (root / "annotation.xlsx").unlink()

    def test_copies_that_count_from_0_need_the_flag(self, root: Path, tmp_path: Path) -> None:
        right = read(root, tmp_path / "a")
        self.copy(root, -1)
        fails(root, tmp_path / "b", "labels from 0 to 6", "--labels-from 0")
        copied = read(root, tmp_path / "c", "--labels-from", "0")
        assert [c.labels["emotion"] for c in copied.clips] == [c.labels["emotion"] for c in right.clips]
        fails(root, tmp_path / "d", "label '0' is not a number from 1 to 7", options=("--labels-from", "1"))

    def test_a_7_proves_that_1_is_the_first(self, root: Path, tmp_path: Path) -> None:
        fails(root, tmp_path, "label '7' is not a number from 0 to 6", options=("--labels-from", "0"))

    def test_0_and_7_in_one_file_are_refused(self, root: Path, tmp_path: Path) -> None:
        file = official(root, "train", 2)
        lines = file.read_text().split()
        file.write_text("\n".join([*lines[:1], lines[1][:5] + ",0", lines[2][:5] + ",7", *lines[3:]]))
        fails(root, tmp_path, str(file), "labels 0 and 7")

    def test_0_in_one_file_and_7_in_another_are_refused(self, root: Path, tmp_path: Path) -> None:
        for file in (root / "EmoLabel_DataSplit").rglob("set_1.csv"):
            lines = [line.split(",") for line in file.read_text().split()]
            file.write_text("\n".join([",".join(lines[0]), *(f"{a},{int(b) - 1}" for a, b in lines[1:])]))
        fails(root, tmp_path, "label 7, where other lists have 0")

    def test_neither_0_nor_7_says_nothing(self) -> None:
        one = clip_lists.ClipList(
            Path("a"), ("video_name", "label"), (clip_lists.Line("1", "3", None, (), Path("a"), 2),)
        )
        with pytest.raises(UserError, match="--labels-from"):
            dfew.first_label({("1", "test"): one}, None)


class TestLists:
    def test_lists_of_other_repositories_beside_the_same_media(self, root: Path, tmp_path: Path) -> None:
        right = read(root, tmp_path / "a")
        others = str(root / twin.OTHERS)
        fails(root, tmp_path / "b", "--labels-from", options=("--lists", others))
        read_ = read(root, tmp_path / "c", "--lists", others, "--labels-from", "0")
        assert [(c.clip_id, c.fold, c.labels["emotion"], c.cells["faces"]) for c in read_.clips] == [
            (c.clip_id, c.fold, c.labels["emotion"], c.cells["faces"]) for c in right.clips
        ]

    def test_a_count_that_is_wrong_in_the_list_is_said_once(self, root: Path, tmp_path: Path) -> None:
        manifest = read(root, tmp_path, "--lists", str(root / twin.OTHERS), "--labels-from", "0")
        assert "1 of 14 clips have another number of pictures on disk than in the list" in notes(tmp_path)
        assert manifest.clips[-1].cells["frames"] == "25"  # on disk

    def test_the_lists_of_mae_dfer(self, root: Path, tmp_path: Path) -> None:
        folder = tmp_path / "org"
        for fold in range(1, 6):
            for part in ("train", "test"):
                lines = official(root, part, fold).read_text().split()[1:]
                rows = [f"/data sets/jpg_256/{a} {int(b) - 1}" for a, b in (line.split(",") for line in lines)]
                file = folder / f"split0{fold}" / f"{part}.csv"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\n".join(rows))
                if part == "test":
                    shutil.copy(file, file.with_name("val.csv"))
        assert len(read(root, tmp_path / "a", "--lists", str(folder), "--labels-from", "0").clips) == 14

    def test_lists_with_sound_between_path_and_label(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("/x/jpg/00001 /x/raw_wav/1.wav 4\n/x/jpg/00002 /x/raw_wav/2.wav 0\n")
        read_ = clip_lists.read_list(tmp_path / "a.csv", clip_lists.numbered)
        assert [(line.clip, line.label, line.frames) for line in read_.lines] == [
            ("00001", "4", None), ("00002", "0", None),
        ]  # fmt: skip

    def test_a_clip_in_two_test_lists(self, root: Path, tmp_path: Path) -> None:
        with official(root, "test", 2).open("a") as file:
            file.write("00001,1\n")
        fails(root, tmp_path, "set_2.csv, line", "00001 was already tested in", "set_1.csv, line 2")

    def test_a_clip_in_training_and_test(self, root: Path, tmp_path: Path) -> None:
        with official(root, "train", 1).open("a") as file:
            file.write("00001,1\n")
        fails(root, tmp_path, "train(single-labeled)/set_1.csv, line", "clip 00001 stands in", "test(single-labeled)")

    def test_a_clip_that_nobody_tests(self, root: Path, tmp_path: Path) -> None:
        with official(root, "train", 1).open("a") as file:
            file.write("00099,1\n")
        fails(root, tmp_path, "clip 00099 is in no test list")

    def test_a_clip_that_is_missing_in_training(self, root: Path, tmp_path: Path) -> None:
        file = official(root, "train", 1)
        file.write_text("\n".join(file.read_text().split()[:-1]))
        fails(root, tmp_path, "1 clip(s) of the other folds are missing")

    def test_two_labels_of_one_clip(self, root: Path, tmp_path: Path) -> None:
        file = official(root, "train", 1)
        lines = file.read_text().split()
        lines[1] = f"{lines[1].split(',')[0]},{int(lines[1].split(',')[1]) % 7 + 1}"
        file.write_text("\n".join(lines))
        fails(root, tmp_path, "set_1.csv, line 2", "and")

    def test_a_fold_that_is_missing(self, root: Path, tmp_path: Path) -> None:
        official(root, "test", 3).unlink()
        fails(root, tmp_path, "test lists of the folds 1, 2, 4, 5")

    def test_votes_that_contradict_the_lists(self, root: Path, tmp_path: Path) -> None:
        rows = [list(row) for row in table.values(root / "annotation.xlsx")]
        rows[1][-1] = rows[1][-1] % 7 + 1
        table.write_workbook(root / "annotation.xlsx", rows)
        fails(root, tmp_path, "annotation.xlsx, row 2", "clip 00001 is")

    def test_a_table_of_votes_in_another_order(self, root: Path, tmp_path: Path) -> None:
        rows = [list(row) for row in table.values(root / "annotation.xlsx")]
        rows[0][:2] = ["2happy", "1sad"]
        table.write_workbook(root / "annotation.xlsx", rows)
        fails(root, tmp_path, "column '2happy'", "happy is number 1")

    @pytest.mark.parametrize("text", ["", "only one cell\n", "a,b,label\n1,2\n", "x\0y"])
    def test_a_damaged_list_is_one_line(self, root: Path, tmp_path: Path, text: str) -> None:
        official(root, "test", 1).write_text(text)
        fails(root, tmp_path, "set_1.csv")

    def test_no_lists(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert mer("prepare", "dfew", "--root", tmp_path, "--out", tmp_path / "out") == 2
        assert "no lists of clips" in one_line(capsys.readouterr().err)


class TestMedia:
    def test_a_clip_of_which_nothing_is_there_is_left_out_and_listed(self, root: Path, tmp_path: Path) -> None:
        shutil.rmtree(root / "Clip" / "clip_224x224" / "00001")
        (root / "raw" / "1.mp4").unlink()
        (root / "raw_wav" / "1.wav").unlink()
        count, left_out = prepared(dfew, root, tmp_path)
        assert count == 13
        assert list(left_out) == ["00001"]
        assert "1 clip(s) have no faces, the first is 00001" in notes(tmp_path)

    def test_a_broken_video_costs_the_video(self, root: Path, tmp_path: Path) -> None:
        (root / "raw" / "2.mp4").write_bytes(b"nothing")
        fails(root, tmp_path / "a", "raw/2.mp4", "--skip-errors")
        clip = read(root, tmp_path / "b", skip_errors=True).clips[1]
        assert clip.cells["video"] == ""
        assert clip.cells["faces"].endswith("00002#25@1")

    def test_folders_are_listed_and_files_not_looked_at(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a declared rate and sound files, a clip costs one listing."""
        looked: list[object] = []
        real = os.stat
        monkeypatch.setattr(os, "stat", lambda path, *a, **k: (looked.append(path), real(path, *a, **k))[1])
        survey = clip_lists.Survey.of(root)
        found = clip_lists.pictures_of(root, root / "Clip" / "clip_224x224", ["00001", "00002"])
        assert len(found) == 2
        assert not [p for p in looked if str(p).endswith((".jpg", ".mp4"))]
        assert not [f for f in survey.files if f.endswith(".jpg")]

    def test_two_folders_of_one_clip(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root / "Clip" / "clip_224x224" / "00002", root / "Clip" / "clip_224x224" / "2")
        fails(root, tmp_path, "both of clip 00002")

    def test_two_videos_of_one_clip(self, root: Path, tmp_path: Path) -> None:
        shutil.copy(root / "raw" / "2.mp4", root / "raw" / "00002.mp4")
        fails(root, tmp_path, "both of clip 00002")


@pytest.mark.real
def test_the_published_lists(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "annotations" / "dfew"
    manifest = read(root, tmp_path)
    assert Counter(c.fold for c in manifest.clips) == {"1": 2341, "2": 2341, "3": 2340, "4": 2339, "5": 2336}
    assert len(manifest.clips) == 11697
    names = SPACES["dfew7.v1"].names
    counts = Counter(c.labels["emotion"][0] for c in manifest.clips if c.labels["emotion"])
    assert [counts[k] for k in range(7)] == [2445, 1894, 2669, 2173, 1469, 145, 902]
    first = Counter(c.labels["emotion"][0] for c in manifest.clips if c.fold == "1" and c.labels["emotion"])
    assert [first[k] for k in range(7)] == [489, 379, 534, 435, 294, 29, 181]
    assert names[0] == "happy"
    frames = [int(c.cells["frames"]) for c in manifest.clips]
    assert (min(frames), max(frames), sum(f < 16 for f in frames)) == (11, 847, 14)
    assert np.mean(frames) == pytest.approx(77.09, abs=0.005)
