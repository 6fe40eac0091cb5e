"""EMER becomes a manifest from the release and from the layout of the released code; nothing is in a name but who it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import mer, one_line, prepared
from torch import nn

from mer.datasets.corpora import emer
from mer.datasets.manifest import Manifest
from mer.datasets.protocol import split_clips
from mer.datasets.twins import emer as twin
from mer.datasets.twins import studio
from mer.encoders import EyeLSTM, FrameCNN
from mer.errors import UserError
from mer.media.prepare import prepare
from mer.media.table import write_workbook

README = ",".join(twin.EMOTIONS)
RELEASED = ("--labels", "fer", "--emotion-order", README, "--validity", "one")
CLIPS = ("1_film_happy", "1_sport_sad", "2_film_fear")


def ramp(count: int, size: int = 32) -> np.ndarray:
    """(count, size, size, 3) pictures that grow brighter."""
    level = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (count, size, size, 3)).copy()


def eyes(seconds: float = 1.2) -> list[list[Any]]:
    """A small export: clock, gaze, pupils."""
    headings = [
        "Recording timestamp [ms]",
        "Gaze point X [DACS px]",
        "Gaze point Y [DACS px]",
        "Pupil diameter left [mm]",
    ]
    return [headings, *([9000 + k * 10, float(k), 500.0, 3.0] for k in range(round(seconds * 100)))]


def release(
    root: Path,
    clips: tuple[str, ...] = CLIPS,
    sets: str | None = "{name} set{number}",
    frames: int = 30,
    video: bool = True,
    labels: list[list[Any]] | None = None,
    tracked: bool = True,
) -> Path:
    """The current release, written by hand."""
    table = labels or [["ID", "ER 7-class", "ER Valence", "ER Arousal"], *([name, "Neutral", 0, 0] for name in clips)]
    write_workbook(root / "EMER_label.xlsx", table)
    for name in clips:
        studio.frames(root / "face_light_align images_3d" / name, ramp(frames), lambda k: f"{k + 1}.jpg")
        if tracked:
            write_workbook(root / "eye_movement data" / f"{name}.xlsx", eyes())
        if video:
            studio.film(root / "face video" / f"{name}.mp4", ramp(30), None, 25.0)
    if sets is not None:
        lines = [sets.format(name=name, number=k % 5 + 1) for k, name in enumerate(clips)]
        studio.write_lines(root / "emer_set.txt", lines)
    return root


def manifest_of(root: Path, out: Path, *options: str) -> Manifest:
    prepared(emer, root, out, False, *options)
    return Manifest.read(out / "manifest.csv")


def notes(out: Path) -> list[str]:
    found: list[str] = json.loads((out / "prepared.json").read_text(encoding="utf-8"))["notes"]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The twin and what becomes of it."""
    base = tmp_path_factory.mktemp("emer")
    twin.write(base / "root", 3, 0)
    prepared(emer, base / "root", base / "out")
    return base / "root", base / "out"


# -- The release -------------------------------------------------------------------------------------------------------


def test_each_sample_is_a_clip_with_both_kinds_of_labels(made: tuple[Path, Path]) -> None:
    manifest = Manifest.read(made[1] / "manifest.csv")
    assert len(manifest.clips) == 21 and {c.subject for c in manifest.clips} == {"1", "2", "3"}
    assert list(manifest.corpus.tasks) == ["er7", "fer7", "er3", "fer3", "er_va", "fer_va", "fer_intensity"]
    clips = {clip.clip_id: clip for clip in manifest.clips}
    for expected in (twin.Clip(person, take, 0) for person in range(3) for take in range(7)):
        clip = clips[expected.name]
        assert clip.labels["er7"] == [expected.er] and clip.labels["er_va"] == list(expected.values(expected.er))
        assert clip.fold == str(expected.person + 1) and clip.end == pytest.approx(1.2)
        if clip.labels["fer7"] is not None:
            assert clip.labels["fer7"] == [expected.fer] and clip.labels["fer_intensity"] == [expected.intensity]


def test_the_target_in_a_name_is_no_label(made: tuple[Path, Path]) -> None:
    manifest = Manifest.read(made[1] / "manifest.csv")
    meant = {twin.EMOTIONS[twin.TARGETS.index(c.clip_id.split("_")[2])] == c.cells["er7"] for c in manifest.clips}
    assert meant == {True, False}


def test_a_label_that_is_missing_is_empty(made: tuple[Path, Path]) -> None:
    clips = [c for c in Manifest.read(made[1] / "manifest.csv").clips if c.labels["fer7"] is None]
    assert len(clips) == 1 and clips[0].labels["er7"] is not None
    assert all(clips[0].labels[t] is None for t in ("fer3", "fer_va", "fer_intensity"))


def test_a_neutral_class_of_negative_valence_is_negative(made: tuple[Path, Path]) -> None:
    rows = [
        c for c in Manifest.read(made[1] / "manifest.csv").clips if c.cells["er7"] == "neutral" and c.subject == "1"
    ]
    assert [(c.cells["er_va"], c.cells["er3"]) for c in rows] == [("-0.5;0", "negative")]


@pytest.mark.parametrize(
    ("folder", "video", "label"),
    [
        ("3_film_happy", "3_film_happy", "3_film_happy"), ("3_film_happy Happy", "3_film_happy", "3_film_happy"),
        ("3_film_happy", "3_film_happy Happy", "3_film_happy  happy"), ("01101", "01101", 1101),
        ("3_film_happy", "3_film_happy", "face/3_film_happy.mp4"),
    ],
)  # fmt: skip
def test_spellings_of_an_id_meet(tmp_path: Path, folder: str, video: str, label: object) -> None:
    root = release(tmp_path / "r", (), labels=[["ID", "ER 7-class"], [label, "Fear"]], sets=None)
    studio.frames(root / "face_light_align image" / folder, ramp(30), lambda k: f"{k + 1}.jpg")
    studio.film(root / "face video" / f"{video}.mp4", ramp(30), None, 25.0)
    (clip,) = manifest_of(root, tmp_path / "out").clips
    assert clip.clip_id == folder.split()[0] and clip.cells["er7"] == "fear"
    assert clip.subject == ("3" if folder.startswith("3") else "1101")
    assert clip.cells["face"] == f"face_light_align image/{folder}#25@1"
    assert clip.cells["face_video"] == f"face video/{video}.mp4"


def test_two_spellings_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = release(
        tmp_path / "r", ("3_film_happy", "3_film_happy Happy"), labels=[["ID", "ER 7-class"], ["3_film_happy", "Fear"]]
    )
    with pytest.raises(UserError, match="'3_film_happy Happy' and '3_film_happy' are one ID"):
        manifest_of(root, tmp_path / "out")
    twice = [["ID", "ER 7-class"], ["01101", "Fear"], ["1101", "Fear"]]
    with pytest.raises(UserError, match=r"EMER_label.xlsx, row 3: '1101' and '01101' of row 2 are one ID"):
        manifest_of(release(tmp_path / "s", labels=twice), tmp_path / "out")


def test_what_has_no_label_is_listed_and_what_has_no_media_noted(tmp_path: Path) -> None:
    labels = [["ID", "ER 7-class"], ["1_film_happy", "Fear"], ["9_film_sad", "Fear"]]
    count, left_out = prepared(emer, release(tmp_path / "r", labels=labels), tmp_path / "out")
    assert count == 1 and list(left_out) == ["1_sport_sad", "2_film_fear"]
    assert "1 labelled sample(s) have neither pictures nor eye data: 9_film_sad" in notes(tmp_path / "out")


def test_a_broken_workbook_stops_or_is_listed(tmp_path: Path) -> None:
    root = release(tmp_path / "r")
    (root / "eye_movement data" / "1_sport_sad.xlsx").write_bytes(b"junk")
    (root / "eye_movement data" / "~$2_film_fear.xlsx").write_bytes(b"a lock of an open workbook")
    with pytest.raises(UserError, match=r"1_sport_sad.xlsx: not a readable .xlsx .* or pass --skip-errors"):
        prepared(emer, root, tmp_path / "out")
    count, left_out = prepared(emer, root, tmp_path / "out", True)
    assert count == 2 and list(left_out) == ["1_sport_sad"]


def test_what_computers_leave_behind_is_passed_over(tmp_path: Path) -> None:
    root = release(tmp_path / "r")
    for path in [p for p in root.rglob("*") if p.is_file()]:
        for mark in ("._", "~$"):
            path.with_name(mark + path.name).write_bytes(b"junk")
    assert prepared(emer, root, tmp_path / "out") == (3, {})


def test_of_two_label_tables_none_is_taken(tmp_path: Path) -> None:
    root = release(tmp_path / "r")
    studio.write_lines(root / "EMER_label.csv", ["ID,ER 7-class", "1_film_happy,Fear"])
    with pytest.raises(UserError, match=r"EMER_label.csv: .*EMER_label.xlsx says the same things"):
        prepared(emer, root, tmp_path / "out")


def test_another_folder_is_refused_and_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UserError, match=r"'eye_movement data', .* nor smead_cross .*; found holiday"):
        prepared(emer, tmp_path, tmp_path / "out")


def test_the_release_may_lie_one_folder_deeper(tmp_path: Path) -> None:
    release(tmp_path / "r" / "EMER")
    manifest = manifest_of(tmp_path / "r", tmp_path / "out")
    assert manifest.clips[0].cells["face"] == "EMER/face_light_align images_3d/1_film_happy#25@1"


# -- Folds -------------------------------------------------------------------------------------------------------------


def test_people_in_several_folds_are_counted_printed_and_stamped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin.write(tmp_path / "root", 2, 0, overlap=True)
    assert mer("prepare", "emer", "--root", tmp_path / "root", "--out", tmp_path / "out") == 0
    said = "1 of 2 subjects occur in more than one fold: 1 (folds 1, 2); scores are optimistic"
    assert said in capsys.readouterr().out and said in notes(tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert manifest.corpus.subject_disjoint == "false"
    with pytest.warns(UserWarning, match="1 subject"):
        assert "1 subject(s) occur in training and test" in split_clips(manifest, "1", 0.0, 0).stamp


def test_folds_that_share_nobody_are_said_to(made: tuple[Path, Path]) -> None:
    assert "no subject occurs in more than one fold (3 subjects)" in notes(made[1])
    assert Manifest.read(made[1] / "manifest.csv").corpus.subject_disjoint == "true"


def test_of_plain_numbers_nobody_knows_who_they_show(tmp_path: Path) -> None:
    root = release(tmp_path / "r", ("01101", "01102", "2_film_sad"))
    assert manifest_of(root, tmp_path / "out").corpus.subject_disjoint == "unknown"
    assert "2 ID(s) are plain numbers or have none, so who they show is not known: 01101, 01102" in notes(
        tmp_path / "out"
    )


def test_without_sets_people_are_divided_into_five_folds(tmp_path: Path) -> None:
    people = {person: 1 + person % 3 for person in range(1, 12)}
    clips = tuple(f"{person}_film_{take}" for person, count in people.items() for take in range(count))
    root = release(tmp_path / "r", clips, sets=None, frames=2, video=False, tracked=False)
    manifest = manifest_of(root, tmp_path / "out")
    where: dict[str, set[str]] = {}
    for clip in manifest.clips:
        where.setdefault(clip.subject, set()).add(clip.fold)
    assert all(len(folds) == 1 for folds in where.values()) and manifest.folds == ["1", "2", "3", "4", "5"]
    sizes = [sum(c.fold == fold for c in manifest.clips) for fold in manifest.folds]
    assert max(sizes) - min(sizes) <= 1
    assert "no split file: people were divided into 5 folds (ours)" in notes(tmp_path / "out")
    again = manifest_of(root, tmp_path / "again")
    assert [c.fold for c in again.clips] == [c.fold for c in manifest.clips]


def test_a_split_file_may_name_parts_and_miss_samples(tmp_path: Path) -> None:
    root = release(tmp_path / "r", sets=None)
    studio.write_lines(root / "emer_set.txt", ["1_film_happy train", "2_film_fear test"])
    manifest = manifest_of(root, tmp_path / "out")
    assert {c.clip_id: (c.split, c.fold) for c in manifest.clips} == {
        "1_film_happy": ("train", ""), "1_sport_sad": ("", ""), "2_film_fear": ("test", ""),
    }  # fmt: skip
    assert "1 sample(s) are in no set of emer_set.txt and so in no fold: 1_sport_sad" in notes(tmp_path / "out")


# -- Frames ------------------------------------------------------------------------------------------------------------


def test_frames_are_shown_in_order_of_their_numbers(tmp_path: Path) -> None:
    manifest = manifest_of(release(tmp_path / "r"), tmp_path / "out")
    clip = manifest.clips[0]
    spec = FrameCNN(8, segments=8, size=16, channels=(4,)).spec
    reference = manifest.reference(clip, "face")
    assert reference is not None
    seen = prepare(manifest.corpus.root, reference, spec, clip.start, clip.end)
    light = seen.values[0].float().mean((1, 2, 3))
    assert len(light) == 8 and (light.diff() > 5).all()  # 1, 10, 11 ... 2 would rise and fall
    np.testing.assert_allclose(seen.spans[0, :, 0], np.arange(8) * 0.15, atol=0.01)
    # The middle of each part, and the same one each time: nothing is drawn where a model is tested.
    np.testing.assert_allclose(light, 20 + 210 * (np.array([1, 5, 9, 13, 16, 20, 24, 28]) / 29), atol=6)
    assert torch.equal(prepare(manifest.corpus.root, reference, spec, clip.start, clip.end).values, seen.values)


@pytest.mark.parametrize(
    ("frames", "video", "tracked", "rate", "end", "note"),
    [
        (30, True, True, "25", 1.2, ""),
        (15, True, True, "12.5", 1.2, "of 3 clip(s) frames are more or fewer than the video's"),
        (30, False, True, "25", 1.2, "of 3 clip(s) the eye tracker's clock says how fast the frames are"),
        (60, False, True, "50", 1.2, "of 3 clip(s) the eye tracker's clock says how fast the frames are"),
        (30, False, False, "25", 1.2, "of 3 clip(s) nothing says how long they are; 25 frames a second were declared"),
    ],
)
def test_frames_get_the_clock_of_the_video_or_the_eyes_or_a_declared_one(
    tmp_path: Path, frames: int, video: bool, tracked: bool, rate: str, end: float, note: str
) -> None:
    root = release(tmp_path / "r", frames=frames, video=video, tracked=tracked)
    clip = manifest_of(root, tmp_path / "out").clips[0]
    assert clip.cells["face"].partition("#")[2] == f"{rate}@1" and clip.end == pytest.approx(end, abs=1e-3)
    assert any(said.startswith(note) for said in notes(tmp_path / "out"))
    assert note or not any("frames" in said for said in notes(tmp_path / "out"))


def test_a_face_that_is_lost_at_first_keeps_its_time(tmp_path: Path) -> None:
    root = release(tmp_path / "r")
    for number in range(1, 11):
        (root / "face_light_align images_3d" / "1_sport_sad" / f"{number}.jpg").unlink()
    manifest = manifest_of(root, tmp_path / "out")
    clip = next(c for c in manifest.clips if c.clip_id == "1_sport_sad")
    assert clip.cells["face"].endswith("1_sport_sad#25@1") and clip.end == pytest.approx(1.2)
    spec = FrameCNN(8, rate=25.0, size=16, channels=(4,)).spec
    seen = prepare(manifest.corpus.root, str(manifest.reference(clip, "face")), spec, clip.start, clip.end)
    assert float(seen.spans[0, 0, 0]) == pytest.approx(0.4)


def test_without_aligned_frames_the_face_is_the_video(tmp_path: Path) -> None:
    root = release(tmp_path / "r")
    for path in sorted((root / "face_light_align images_3d").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    clip = manifest_of(root, tmp_path / "out").clips[0]
    assert clip.cells["face"] == "face video/1_film_happy.mp4" and clip.end == pytest.approx(1.2)


# -- Eyes --------------------------------------------------------------------------------------------------------------


def test_eyes_and_gaze_lie_beside_the_manifest_and_begin_at_0(made: tuple[Path, Path]) -> None:
    manifest = Manifest.read(made[1] / "manifest.csv")
    assert sum(clip.cells["eye"] == "" for clip in manifest.clips) == 1
    assert "1 clip(s) have no eye data" in notes(made[1])
    for clip in manifest.clips:
        assert clip.cells["gaze"] == clip.cells["eye"]
        if (reference := manifest.reference(clip, "eye")) is not None:
            spec = EyeLSTM("tobii", stream="eye", steps=32).spec
            seen = prepare(manifest.corpus.root, reference, spec, clip.start, clip.end)
            assert seen.values.shape == (1, 144, 40) and seen.spans[0, 0, 0] == 0
            # Pixels, as the tracker wrote them; but not where it does not vouch for the eyes.
            lost = (torch.arange(144) >= 60) & (torch.arange(144) < 66)
            assert bool((seen.values[0, ~lost, 0] > 100).all()) and not bool(seen.values[0, lost, 0].any())


class Echo(nn.Module):
    """In place of a network: what goes in."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return x, None


def test_a_test_shows_the_middle_rows_and_the_same_ones_to_eye_and_gaze(made: tuple[Path, Path]) -> None:
    manifest = Manifest.read(made[1] / "manifest.csv")
    clip = manifest.clips[0]
    shown = {}
    for column, encoder in (("eye", EyeLSTM("tobii", stream="eye", steps=32)), ("gaze", EyeLSTM(steps=32))):
        encoder.network = Echo()  # type: ignore[assignment]
        inputs = prepare(
            manifest.corpus.root, str(manifest.reference(clip, column)), encoder.spec, clip.start, clip.end
        )
        first, again = (encoder.eval()(inputs) for _ in range(2))
        assert torch.equal(first.values, again.values)
        shown[column] = first
    assert torch.equal(shown["eye"].spans, shown["gaze"].spans)
    assert torch.equal(shown["eye"].values[..., :2], shown["gaze"].values)  # the same rows of the same recording
    # 144 rows in 32 parts: the first 16 have five rows, the others four.
    edges = np.cumsum([0, *[5] * 16, *[4] * 16])
    inputs = prepare(manifest.corpus.root, str(manifest.reference(clip, "gaze")), EyeLSTM().spec, clip.start, clip.end)
    middle = inputs.values[0, (edges[:-1] + edges[1:] - 1) // 2, :2]
    seen = middle[:, 0] > 0  # a loss is bridged by the encoder
    assert int(seen.sum()) == 31 and torch.equal(shown["gaze"].values[0][seen], middle[seen])


def test_workbooks_are_read_once(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer.media.gaze_files.of_rows", lambda *given: pytest.fail("read again"))
    count, _ = prepared(emer, *made)
    assert count == 21


def test_columns_that_lack_are_noted(tmp_path: Path) -> None:
    manifest_of(release(tmp_path / "r"), tmp_path / "out")
    assert any(
        n.startswith("3 eye recording(s) lack 36 of the 39 columns of a Tobii export (gaze_left_x")
        for n in notes(tmp_path / "out")
    )


# -- The released code's layout ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("smead")
    twin.write_released(root, 2, 0)
    return root


def test_folds_are_the_folders(released: Path, tmp_path: Path) -> None:
    manifest = manifest_of(released, tmp_path / "out", *RELEASED)
    assert len(manifest.clips) == 14 and {(c.subject, c.fold) for c in manifest.clips} == {("1", "1"), ("2", "2")}
    clips = {clip.clip_id: clip for clip in manifest.clips}
    for expected in (twin.Clip(person, take, 0) for person in range(2) for take in range(7)):
        clip = clips[expected.name]
        assert clip.labels["fer7"] == [expected.fer] and clip.labels["er7"] is None
        assert clip.cells["face"] == f"smead_cross/face/set{clip.fold}/{clip.clip_id}#25@0"
        assert clip.end == pytest.approx(1.2) and clip.cells["eye"]
    assert "14 eye recording(s) have no clock; their samples were spread over the clip" in notes(tmp_path / "out")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("--labels", r"new_label.xlsx: columns Emotion, Valence, Arousal do not say .* Pass --labels er"),
        ("--emotion-order", r"row 2, FER: the code 0, .* Pass --emotion-order"),
        ("--validity", r"1_film_neutral.xlsx: validity of the left eye is written as 0, 1.* Pass --validity"),
    ],
)
def test_what_the_tables_do_not_say_is_asked_for(released: Path, tmp_path: Path, missing: str, message: str) -> None:
    at = RELEASED.index(missing)
    with pytest.raises(UserError, match=message):
        manifest_of(released, tmp_path / "out", *RELEASED[:at], *RELEASED[at + 2 :])


def test_a_sample_in_two_sets_and_missing_files_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "smead_cross"
    for place in ("set1", "set2"):
        studio.frames(root / "face" / place / "3_film_happy", ramp(2), lambda k: f"{k}.jpg")
    (root / "eye").mkdir()
    with pytest.raises(UserError, match=r"smead_cross: no new_label.xlsx"):
        prepared(emer, tmp_path, tmp_path / "out")
    write_workbook(root / "new_label.xlsx", [["ID", "Emotion"], ["3_film_happy", "fear"]])
    with pytest.raises(UserError, match=r"set2/3_film_happy: this sample is in set1, too"):
        prepared(emer, tmp_path, tmp_path / "out", False, "--labels", "er")


def test_the_command(made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "emer", "--root", made[0], "--out", tmp_path / "out") == 0
    assert "21 clips" in capsys.readouterr().out
    assert mer("prepare", "emer", "--root", tmp_path, "--out", tmp_path / "out") != 0
    assert "neither the release of EMER" in one_line(capsys.readouterr().err)
