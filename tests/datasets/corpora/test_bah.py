"""BAH becomes a manifest: from the released tree, ABAW-8, the baseline's tree and bare lists, whatever their traps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny import mer, one_line, prepared

from mer.datasets.corpora import bah
from mer.datasets.manifest import Clip, Manifest, read_frame_labels
from mer.datasets.protocol import split_clips
from mer.datasets.twins import bah as twin
from mer.encoders import FeatureEncoder
from mer.errors import UserError
from mer.media import text, video
from mer.media.prepare import prepare
from mer.spec import InputSpec

PEOPLE = 6
QUIET = "90001_Question_1_2024-11-01_14-46-11_Video"  # says nothing
NAMED = "90001_Question_2_2024-11-02_14-46-11_Video-DESKTOP-NQ55E0P"
VARIABLE = "90001_Question_3_2024-11-03_14-46-11_Video"
GAPS = "90001_Question_4_2024-11-04_14-46-11_Video"
SILENT = "90001_Question_5_2024-11-05_14-46-11_Video"
SHORT = "90001_Question_6_2024-11-06_14-46-11_Video"  # has fewer faces than frames
FACELESS = "90002_Question_6_2024-11-06_14-46-11_Video"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released tree; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("bah") / "data"
    twin.write(root, PEOPLE, 0)
    return root


@pytest.fixture(scope="module")
def manifest(released: Path) -> Manifest:
    """Of the released tree at frame level."""
    out = released.parent / "out"
    assert prepared(bah, released, out, False, "--level", "frame", "--personalise", "all") == (42, {})
    return Manifest.read(out / "manifest.csv")


@pytest.fixture
def copy(released: Path, tmp_path: Path) -> Path:
    """Without the many pictures of faces."""
    return shutil.copytree(released, tmp_path / "data", ignore=shutil.ignore_patterns("cropped*"))


def clips(out: Path) -> dict[str, Clip]:
    return {c.clip_id: c for c in Manifest.read(out / "manifest.csv").clips}


def clip(manifest: Manifest, name: str) -> Clip:
    return next(c for c in manifest.clips if c.clip_id == name)


def notes(out: Path) -> str:
    return "\n".join(json.loads((out / "prepared.json").read_text())["notes"])


def lists(root: Path, name: str = "split", **lines: list[str]) -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    for split, content in lines.items():
        (root / name / f"{split}.txt").write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return root


def video_of(person: int, question: int = 1, blank: str = "_") -> str:
    return f"Videos/{person}/Visite_1/{person}_Question_{question}_2024-11-01{blank}14-46-11_Video.mp4"


# -- the released tree --------------------------------------------------------------------------------------------------


def test_each_video_is_a_clip_with_what_belongs_to_it(manifest: Manifest) -> None:
    shown = clip(manifest, NAMED)
    assert (shown.subject, shown.split, shown.labels["ah"]) == ("90001", "train", [0.0])
    assert (shown.start, shown.end) == (0, pytest.approx(1.5, abs=0.05))
    assert shown.cells["video"] == shown.cells["audio"] == f"Videos/90001/Visite_1/{NAMED}.mp4"
    assert shown.cells["faces"] == f"cropped-aligned-faces/Videos/90001/Visite_1/{NAMED}.mp4#24@0"
    assert (shown.cells["question_id"], shown.cells["attitude"]) == ("2", "positive")
    present = clip(manifest, GAPS)
    assert present.labels["ah"] == [1.0] and present.cells["segments"] == "0.375-1.125"
    assert json.loads(present.cells["cues"])[0] == {
        "audio": ["Pause", "Slow"],
        "facial": ["Gaze"],
        "inconsistencies": ["FL"],
    }
    assert (present.cells["annotator"], present.cells["certainty"]) == ("MGG", "1")
    assert (present.cells["age"], present.cells["gender"]) == ("30", "Male")
    assert (present.cells["consent_challenges"], present.cells["consent_publications"]) == ("yes", "yes")


def test_splits_are_the_lists_and_share_no_participant(manifest: Manifest) -> None:
    split = split_clips(manifest, None, 0.0, 0)
    assert split.stamp == "" and manifest.corpus.subject_disjoint == "true"
    people = [{c.subject for c in part} for part in (split.train, split.val, split.test)]
    assert [len(p) for p in people] == [3, 1, 2]


def test_names_spelled_otherwise_on_the_disk_are_found(manifest: Manifest) -> None:
    """Person 90002 has blanks on the disk and underscores in the lists; person 90004 a folder `Visite 1`."""
    spelled = clip(manifest, "90002_Question_1_2024-11-01_14-46-11_Video")
    assert " " in spelled.cells["video"] and " " in spelled.cells["faces"]
    assert spelled.cells["video_id"] == "Videos/90002/Visite_1/90002_Question_1_2024-11-01_14-46-11_Video.mp4"
    visit = clip(manifest, "90004_Question_2_2024-11-02_14-46-11_Video")
    assert visit.cells["video_id"].startswith("Videos/90004/Visite 1/") and visit.cells["text"]


def test_faces_are_read_in_order_of_their_numbers(manifest: Manifest) -> None:
    shown = clip(manifest, NAMED)
    times = video.presentation_times(manifest.corpus.root / shown.cells["faces"])
    np.testing.assert_allclose(times, np.arange(36) / 24)


def test_faces_of_a_variable_rate_are_shown_when_their_frames_are(manifest: Manifest) -> None:
    shown = clip(manifest, VARIABLE)
    reference = str(manifest.reference(shown, "faces"))
    assert shown.cells["faces"].endswith(f"{VARIABLE}.mp4#times=@/times/{VARIABLE}.csv")
    film = video.presentation_times(manifest.corpus.root / shown.cells["video"])
    np.testing.assert_allclose(video.presentation_times(manifest.corpus.root / reference), film, atol=1e-6)
    spec = InputSpec("video", rate=8, size=(8, 8))
    there, here = (prepare(manifest.corpus.root, r, spec) for r in (shown.cells["video"], reference))
    np.testing.assert_allclose(here.spans, there.spans, atol=1e-4)
    assert (here.values.int() - there.values.int()).abs().float().mean() < 4
    personal = Manifest.read(manifest.path.parent / "personal" / "90005" / "manifest.csv")
    moved = str(personal.reference(clip(personal, VARIABLE), "faces"))
    np.testing.assert_allclose(video.presentation_times(personal.corpus.root / moved), film, atol=1e-6)


def test_missing_faces_are_moments_without_and_a_missing_folder_is_no_modality(manifest: Manifest) -> None:
    gaps = video.presentation_times(manifest.corpus.root / clip(manifest, GAPS).cells["faces"])
    np.testing.assert_allclose(gaps[:5], np.array([1, 2, 3, 4, 8]) / 24)
    faceless = clip(manifest, FACELESS)
    assert faceless.cells["faces"] == "" and faceless.cells["video"] and faceless.frame_labels


def test_labels_of_frames_follow_the_names_of_frames_and_the_times_of_the_video(manifest: Manifest) -> None:
    tasks = {"ah_frame": manifest.corpus.tasks["ah_frame"]}
    for name in (SHORT, GAPS, VARIABLE):
        one = clip(manifest, name)
        times, labels = read_frame_labels(manifest.corpus.root / manifest.resolve(one.frame_labels), tasks)
        shown = video.presentation_times(manifest.corpus.root / one.cells["video"])
        np.testing.assert_allclose(times, shown, atol=1e-5)
        present = [k for k, label in enumerate(labels["ah_frame"]) if label == [1.0]]
        assert present == (list(range(9, 28)) if one.labels["ah"] == [1.0] else [])
    assert times[-1] > 36 / 24  # the last is the one whose camera slowed down


def test_without_the_video_frames_come_at_a_stated_rate(released: Path, copy: Path, tmp_path: Path) -> None:
    folder = Path("cropped-aligned-faces", "Videos", "90001", "Visite_1", f"{GAPS}.mp4")
    shutil.copytree(released / folder, copy / folder)
    (copy / "Videos" / "90001" / "Visite_1" / f"{GAPS}.mp4").unlink()
    prepared(bah, copy, tmp_path / "out", False, "--level", "frame", "--fps", "30")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    shown = clip(manifest, GAPS)
    assert (shown.cells["video"], shown.cells["audio"]) == ("", "") and shown.cells["faces"].endswith(".mp4#30@0")
    times, _ = read_frame_labels(
        manifest.corpus.root / manifest.resolve(shown.frame_labels), {"ah_frame": manifest.corpus.tasks["ah_frame"]}
    )
    np.testing.assert_allclose(times, np.arange(36) / 30, atol=1e-5)
    assert f"listed, but no video: 1 (first {GAPS})" in notes(tmp_path / "out")
    assert "30 per second assumed: 1" in notes(tmp_path / "out")


def test_what_is_not_even_is_said(manifest: Manifest) -> None:
    told = notes(manifest.path.parent)
    for note in (
        f"as the video has no constant rate: 1 (first {VARIABLE})",
        f"no sound: 1 (first {SILENT})",
        f"empty transcript: 1 (first {QUIET})",
    ):
        assert note in told
    assert f"more or fewer pictures of faces than labels: 2 (first {GAPS})" in told
    assert f"no pictures of faces: 1 (first {FACELESS})" in told
    assert "train 21 videos of 3" in told


def test_a_clip_without_sound_has_no_audio(manifest: Manifest) -> None:
    assert (clip(manifest, SILENT).cells["audio"], bool(clip(manifest, SILENT).cells["video"])) == ("", True)


def test_words_come_with_times_that_rise(manifest: Manifest) -> None:
    shown = clip(manifest, NAMED)
    heard = text.load(
        manifest.corpus.root, str(manifest.reference(shown, "text")), InputSpec("text", width=16), 0.0, shown.end
    )
    assert len(heard.values) == 9
    np.testing.assert_allclose(heard.spans[::3], [[0, 0.6], [0.6, 1.3], [1.3, 1.5]], atol=1e-3)
    open_end = clip(manifest, VARIABLE)  # whose last end is not known
    heard = text.load(manifest.corpus.root, str(manifest.reference(open_end, "text")), InputSpec("text", width=16))
    assert float(heard.spans[-1, 1]) == pytest.approx(open_end.end, abs=1e-3)
    assert clip(manifest, QUIET).cells["text"] == ""


def test_the_question_is_a_one_hot_vector(manifest: Manifest) -> None:
    spec = FeatureEncoder(7).spec
    for shown in manifest.clips[:7]:
        row = prepare(manifest.corpus.root, str(manifest.reference(shown, "question")), spec, shown.start, shown.end)
        assert row.values[0, 0].tolist() == np.eye(7)[int(shown.cells["question_id"]) - 1].tolist()


def test_video_level_writes_no_labels_of_frames(released: Path, tmp_path: Path) -> None:
    prepared(bah, released, tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert set(manifest.corpus.tasks) == {"ah"} and "frame_labels" not in manifest.columns
    assert not (tmp_path / "out" / "frames").exists()


def test_the_root_may_be_the_folder_above(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy, tmp_path / "zip" / "data")
    assert prepared(bah, tmp_path / "zip", tmp_path / "out") == (42, {})
    assert clips(tmp_path / "out")[GAPS].cells["video"].startswith("data/Videos/90001/")


def test_consent_is_kept_to(released: Path, tmp_path: Path) -> None:
    assert prepared(bah, released, tmp_path / "out", False, "--consent", "publications") == (35, {})
    assert "90006" not in {c.subject for c in clips(tmp_path / "out").values()}
    assert "7 videos of 1 participants without consent to publications are left out" in notes(tmp_path / "out")
    assert prepared(bah, released, tmp_path / "all", False, "--consent", "challenges") == (42, {})


def test_consent_that_nobody_recorded_is_not_assumed(copy: Path, tmp_path: Path) -> None:
    (copy / "meta_data.yml").unlink()
    with pytest.raises(UserError, match=r"--consent challenges without meta_data.yml"):
        prepared(bah, copy, tmp_path / "out", False, "--consent", "challenges")
    (copy / "meta_data.yml").write_text("'90001': {Use in challenges: Yes, Age: 40}\n")
    assert prepared(bah, copy, tmp_path / "out", False, "--consent", "challenges")[0] == 7


def test_each_target_has_a_manifest_of_its_own(manifest: Manifest) -> None:
    folder = manifest.path.parent / "personal"
    assert (folder / "targets.csv").read_text().splitlines()[1:] == [
        f"{pid},personal/{pid}/manifest.csv,7,3,4" for pid in ("90005", "90006")
    ]
    one = Manifest.read(folder / "90005" / "manifest.csv")
    split = split_clips(one, None, 0.0, 0)
    assert {c.subject for c in split.test} == {"90005"} and {c.subject for c in split.train} == {
        "90001",
        "90002",
        "90003",
    }
    assert {c.cells["domain"] for c in split.test} == {"target"} and {c.cells["domain"] for c in split.train} == {
        "source"
    }
    assert {c.subject for c in one.clips} == {"90001", "90002", "90003", "90004", "90005"}
    shown = clip(one, NAMED)
    assert (one.corpus.root / str(one.reference(shown, "text"))).is_file()
    assert (one.corpus.root / one.resolve(shown.frame_labels)).is_file()


def test_a_target_of_the_training_split_is_not_trained_on(released: Path, tmp_path: Path) -> None:
    prepared(bah, released, tmp_path / "out", False, "--personalise", "90002")
    one = Manifest.read(tmp_path / "out" / "personal" / "90002" / "manifest.csv")
    assert {c.subject for c in one.clips if c.split == "test"} == {"90002"}
    assert {c.subject for c in one.clips if c.split == "train"} == {"90001", "90003"}
    with pytest.raises(UserError, match="--personalise 12: no such participant"):
        prepared(bah, released, tmp_path / "out", False, "--personalise", "12")


# -- contradictions -----------------------------------------------------------------------------------------------------


def test_lists_and_annotations_must_agree_on_a_label(copy: Path, tmp_path: Path) -> None:
    path = copy / "split" / "train.txt"
    path.write_text(path.read_text().replace(f"{NAMED}.mp4,0", f"{NAMED}.mp4,1"))
    with pytest.raises(
        UserError, match=rf"train.txt, line 2: {NAMED} has label 1, but 0 in .*transcript.yaml"
    ) as caught:
        prepared(bah, copy, tmp_path / "out")
    assert "--skip-errors" in str(caught.value)
    count, left_out = prepared(bah, copy, tmp_path / "out", skip_errors=True)
    assert count == 41 and list(left_out) == [NAMED]


def test_frame_lists_and_annotations_must_agree_on_frames(copy: Path, tmp_path: Path) -> None:
    path = copy / "split-frames" / "train.txt"
    path.write_text(path.read_text().replace("frame-7.jpg,0", "frame-7.jpg,1", 1))
    with pytest.raises(UserError, match="frames are labelled differently"):
        prepared(bah, copy, tmp_path / "out", False, "--level", "frame")


def test_frame_lists_alone_label_frames_with_either_prefix(copy: Path, tmp_path: Path) -> None:
    (copy / "video_annotation_transcript.yaml").unlink()
    for path in (copy / "split-frames").iterdir():
        path.write_text("".join(sorted(path.read_text().replace("Videos/", "").splitlines(keepends=True))))
    prepared(bah, copy, tmp_path / "out", False, "--level", "frame")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    shown = clip(manifest, GAPS)
    _, labels = read_frame_labels(
        manifest.corpus.root / manifest.resolve(shown.frame_labels), {"ah_frame": manifest.corpus.tasks["ah_frame"]}
    )
    assert [k for k, label in enumerate(labels["ah_frame"]) if label == [1.0]] == list(range(9, 28))


def test_classes_numbered_otherwise_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "class_id.yaml").write_text("With A-H: 0\nNo A-H: 1")
    with pytest.raises(UserError, match=r"class_id.yaml: not 'With A-H: 1'"):
        prepared(bah, copy, tmp_path / "out")


def test_a_video_that_cannot_be_read_stops_or_is_listed(copy: Path, tmp_path: Path) -> None:
    (copy / "Videos" / "90001" / "Visite_1" / f"{GAPS}.mp4").write_bytes(b"junk")
    with pytest.raises(UserError, match=rf"{GAPS}.mp4: not readable .* or pass --skip-errors"):
        prepared(bah, copy, tmp_path / "out")
    count, left_out = prepared(bah, copy, tmp_path / "out", skip_errors=True)
    assert count == 41 and list(left_out) == [GAPS]


# -- lists --------------------------------------------------------------------------------------------------------------


def test_a_transcript_keeps_its_commas_and_may_be_empty(tmp_path: Path) -> None:
    lines = [f"{video_of(1)},1,Well, yes, I mean, no", f"{video_of(2)},0,", f"{video_of(3)},0"]
    root = lists(tmp_path / "data", train=lines)
    prepared(bah, root, tmp_path / "out")
    found = clips(tmp_path / "out")
    assert [c.labels["ah"] for c in found.values()] == [[1.0], [0.0], [0.0]]
    said = [c.cells["text"] for c in found.values()]
    assert said[1:] == ["", ""]
    written = json.loads((tmp_path / "out" / said[0].removeprefix("@/")).read_text())
    assert written["segments"] == [{"text": "Well, yes, I mean, no", "start": None, "end": None}]


def test_a_list_that_a_spreadsheet_quoted_is_the_same_list(copy: Path, tmp_path: Path) -> None:
    prepared(bah, copy, tmp_path / "a")
    for path in (copy / "split").iterdir():
        rows = [line.split(",", 2) for line in path.read_text().splitlines()]
        path.write_text("\ufeff" + "".join(",".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows))
    prepared(bah, copy, tmp_path / "b")
    assert clips(tmp_path / "a") == clips(tmp_path / "b")


def test_a_file_of_annotations_that_breaks_off_is_noticed(copy: Path, tmp_path: Path) -> None:
    path = copy / "video_annotation_transcript.yaml"
    whole = path.read_text()
    path.write_text(whole[: whole.index("Videos/90004/Visite 1")])
    prepared(bah, copy, tmp_path / "out")
    assert "listed, but not annotated: 21 (first 90004_Question_1" in notes(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ["holiday.mp4,1,so"]}, "neither split lists"),
        ({"train": [f"{video_of(1)},2,so"]}, "train.txt, line 1: label '2'"),
        ({"train": [video_of(1)]}, "train.txt, line 1: label ''"),
        ({"train": [f"{video_of(1)},1,a", "so it goes on"]}, "train.txt, line 2: 'so it goes on' is no video"),
        (
            {"train": [f"{video_of(1)},1,a", f"{video_of(1, blank=' ')},1,a"]},
            "line 2: this video stands already in .*line 1",
        ),
        (
            {"train": [f"{video_of(1)},1,a"], "test": [f"{video_of(1)},1,a"]},
            "test.txt, line 1: this video stands already",
        ),
        (
            {"train": [f"{video_of(1)},1,a"], "test": [f"{video_of(1, 2)},1,a"]},
            "test.txt, line 1: participant 1 is in test here and in train elsewhere",
        ),
        (
            {"train": [f"{video_of(1)},1,a"], "test": [f"{video_of(n)},0,a" for n in range(2, 30)]},
            "test.txt: all of its 28 labels are 0, as in the challenge's private list",
        ),
    ],
)
def test_lists_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(bah, lists(tmp_path / "data", **changes), tmp_path / "out")


def test_the_private_list_has_no_labels(tmp_path: Path) -> None:
    root = lists(tmp_path / "data", test=[f"{video_of(n, blank=' ')},0,Well, so" for n in range(1, 4)])
    prepared(bah, root, tmp_path / "out")
    found = clips(tmp_path / "out")
    assert [c.labels["ah"] for c in found.values()] == [None] * 3
    assert {c.split for c in found.values()} == {"test"}
    assert [c.cells["video_id"] for c in found.values()] == [video_of(n, blank=" ") for n in range(1, 4)]


def test_of_two_sets_of_lists_one_is_chosen(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "split", copy / "folds" / "split-0")
    assert prepared(bah, copy, tmp_path / "out") == (42, {})
    lines = (copy / "split" / "train.txt").read_text().splitlines()
    lists(copy, "folds/split-0", train=lines[:7])
    with pytest.raises(UserError, match=r"hold different lists of videos. Choose one with --splits"):
        prepared(bah, copy, tmp_path / "out")
    prepared(bah, copy, tmp_path / "out", False, "--splits", str(copy / "folds"))
    assert "in no list, and so in no split: 14" in notes(tmp_path / "out")
    assert {c.subject for c in clips(tmp_path / "out").values() if c.split == "train"} == {"90001"}


def test_any_version_is_taken_and_told_by_its_counts(tmp_path: Path) -> None:
    sizes = {"train": (778, 195), "val": (124, 30), "test": (525, 75)}
    lines: dict[str, list[str]] = {}
    for base, (split, (videos, people)) in enumerate(sizes.items()):
        of = [(1000 * (base + 1) + n % people, 1 + n // people) for n in range(videos)]
        lines[split] = [f"{video_of(person, question)},{question % 2},so" for person, question in of]
    count, _ = prepared(bah, lists(tmp_path / "data", **lines), tmp_path / "out")
    assert count == 1427
    assert "v300: train 778 videos of 195" in notes(tmp_path / "out")


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="neither split lists nor annotations of BAH"):
        prepared(bah, tmp_path, tmp_path / "out")
    assert mer("prepare", "bah", "--root", tmp_path, "--out", tmp_path / "out") != 0
    assert "neither split lists" in one_line(capsys.readouterr().err)


# -- other layouts ------------------------------------------------------------------------------------------------------


def test_abaw8_names_have_blanks_and_its_folders_name_the_split(tmp_path: Path) -> None:
    twin.write_abaw8(tmp_path / "abaw", 3, 0)
    assert prepared(bah, tmp_path / "abaw", tmp_path / "out", False, "--level", "frame") == (21, {})
    found = clips(tmp_path / "out")
    assert " " in found[GAPS].cells["video"] and found[GAPS].cells["segments"] == "0.375-1.125"
    assert (found[GAPS].cells["faces"], found[GAPS].cells["text"], found[GAPS].split) == ("", "", "train")
    assert {c.split for c in found.values()} == {"train", "val", "test"}
    assert found[GAPS].frame_labels and "folders of ABAW-8" in notes(tmp_path / "out")


def test_abaw8_without_named_folders_takes_lists_from_elsewhere(tmp_path: Path, released: Path) -> None:
    twin.write_abaw8(tmp_path / "abaw", 1, 0)
    root = tmp_path / "plain"
    shutil.move(tmp_path / "abaw" / "BAH-train-8th-ABAW" / "ABAW-8th-BAH-train-data", root)
    prepared(bah, root, tmp_path / "out")
    assert {c.split for c in clips(tmp_path / "out").values()} == {""} and "--splits" in notes(tmp_path / "out")
    prepared(bah, root, tmp_path / "out", False, "--splits", str(released / "split"))
    assert clips(tmp_path / "out")[GAPS].split == "train"


def test_the_baseline_keeps_faces_and_features_by_video(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lists(
        root / "dataset-splits" / "video-level" / "BAH_DB",
        "split-0",
        train=[f"{video_of(1)},1,so"],
        test=[f"{video_of(2)},0,no"],
    )
    for person in (1, 2):
        faces = root / "BAH_DB" / "cropped_aligned" / video_of(person)
        faces.mkdir(parents=True)
        for k in (0, 2, 10):
            (faces / f"frame-{k}.jpg").write_bytes(b"")
    features = root / "features" / "compacted_48" / video_of(1)
    features.mkdir(parents=True)
    np.save(features / "vggish.npy", np.zeros((3, 128), np.float32))
    np.save(features / "EXPR_continuous_label.npy", np.array([0, 1, 1], np.float32))
    prepared(bah, root, tmp_path / "out", False, "--level", "frame")
    first, second = clips(tmp_path / "out").values()
    assert first.cells["faces"] == f"BAH_DB/cropped_aligned/{video_of(1)}#24@0"
    assert first.cells["vggish"] == f"features/compacted_48/{video_of(1)}/vggish.npy" and not second.cells["vggish"]
    rows = (tmp_path / "out" / first.frame_labels.removeprefix("@/")).read_text().splitlines()
    assert rows == ["time,ah_frame", "0.000000,absent", "0.041667,present", "0.083333,present"]
    assert second.frame_labels == "" and "24 per second assumed: 2" in notes(tmp_path / "out")


@pytest.mark.parametrize("content", [["a"], {"90001": 3}, {"90001": {"Use in challenges": "perhaps"}}])
def test_participants_of_another_shape_are_refused(copy: Path, tmp_path: Path, content: Any) -> None:
    (copy / "meta_data.yml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"meta_data.yml"):
        prepared(bah, copy, tmp_path / "out")


# -- the real lists -----------------------------------------------------------------------------------------------------

GOLDEN = {"train": (616, 143, 276, 340), "val": (110, 25, 51, 59), "test": (392, 56, 153, 239)}
QUESTIONS = {1: (31, 140), 2: (49, 79), 3: (44, 76), 4: (72, 76), 5: (42, 84), 6: (33, 83), 7: (69, 78)}


@pytest.mark.real
def test_the_real_lists_have_the_published_counts(real_data: Path, tmp_path: Path) -> None:
    prepared(bah, real_data / "annotations" / "bah", tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    for split, counts in GOLDEN.items():
        mine = [c for c in manifest.clips if c.split == split]
        labels = [c.labels["ah"] for c in mine]
        assert (len(mine), len({c.subject for c in mine}), labels.count([0.0]), labels.count([1.0])) == counts
    assert split_clips(manifest, None, 0.0, 0).stamp == ""
    assert "v224" in notes(tmp_path / "out")
    train = [c for c in manifest.clips if c.split == "train"]
    for question, (present, count) in QUESTIONS.items():
        labels = [c.labels["ah"] for c in train if c.cells["question_id"] == str(question)]
        assert (labels.count([1.0]), len(labels)) == (present, count)


@pytest.mark.real
def test_the_real_lists_spell_names_in_both_ways(real_data: Path) -> None:
    folder = real_data / "annotations" / "bah"
    assert " " in (folder / "split0_val.csv").read_text().splitlines()[1]
    assert " " not in (folder / "split0_train.csv").read_text().splitlines()[1]
