"""Somebody's own clips become a manifest: from a tree or from a table, with one good line for each mistake."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_files import grey, tone, write
from tiny import mer, one_line, prepared

from mer.datasets.corpora import folder
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import split_clips
from mer.errors import UserError
from mer.media.table import write_workbook


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    made = tmp_path_factory.mktemp("media")
    return {
        "film": write(made / "a.mp4", grey(10), tone(0.4)).read_bytes(),
        "mute": write(made / "b.mp4", grey(10)).read_bytes(),
        "wave": write(made / "c.wav", wave=tone(0.4), audio_codec="pcm_s16le").read_bytes(),
    }


def put(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def root(tmp_path: Path, media: dict[str, bytes]) -> Path:
    """Class folders, a person per name."""
    root = tmp_path / "my clips"
    for mood in ("glad", "sad"):
        for person in ("Anna B", "Bo", "Chi"):
            for take in (1, 2, 10):
                put(root / mood / f"{person}_{take}.mp4", media["film"])
    put(root / "Thumbs.db")
    put(root / "glad" / ".hidden.mp4")
    return root


def clips(root: Path, out: Path, *options: str, skip: bool = False) -> dict[str, Clip]:
    prepared(folder, root, out, skip, *options)
    return {clip.clip_id: clip for clip in Manifest.read(out / "manifest.csv").clips}


def notes(out: Path) -> str:
    return (out / "prepared.json").read_text()


def refuse(root: Path, tmp_path: Path, message: str, *options: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepared(folder, root, tmp_path / "out", False, *options)
    assert caught.value.remedy
    assert not (tmp_path / "out" / "manifest.csv").exists()


PEOPLE = ("--subject-regex", "([^/]+)_")


class TestATree:
    def test_without_options_nothing_is_guessed_and_the_note_says_what_to_add(self, root: Path, tmp_path: Path) -> None:
        found = clips(root, tmp_path / "out")
        assert len(found) == 18 and not any(c.subject for c in found.values())
        manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
        assert manifest.corpus.tasks == {} and manifest.corpus.subject_disjoint == "unknown"
        assert "--label-level 1" in notes(tmp_path / "out") and "no subjects" in notes(tmp_path / "out")

    def test_clips_come_in_the_order_of_their_numbers(self, root: Path, tmp_path: Path) -> None:
        assert list(clips(root, tmp_path / "out"))[:3] == ["glad/Anna B_1", "glad/Anna B_2", "glad/Anna B_10"]

    def test_a_folder_is_the_label_and_a_pattern_the_person(self, root: Path, tmp_path: Path) -> None:
        found = clips(root, tmp_path / "out", "--label-level", "1", *PEOPLE)
        clip = found["sad/Anna B_10"]
        assert (clip.subject, clip.labels["emotion"]) == ("Anna B", [1.0])
        assert clip.cells["video"] == clip.cells["audio"] == "sad/Anna B_10.mp4"
        assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.tasks["emotion"].space.names == ("glad", "sad")
        assert "glad 9, sad 9" in notes(tmp_path / "out")

    def test_folders_are_counted_from_either_end(self, tmp_path: Path, media: dict[str, bytes]) -> None:
        for person in ("p1", "p2"):
            for mood in ("glad", "sad"):
                put(tmp_path / "clips" / person / "day 1" / mood / "a.mp4", media["film"])
        options = ("--label-level", "-1", "--subject-level", "1")
        found = clips(tmp_path / "clips", tmp_path / "out", *options)
        assert found["p2/day 1/sad/a"].subject == "p2" and found["p2/day 1/sad/a"].cells["emotion"] == "sad"

    def test_the_order_of_classes_can_be_said_and_must_be_complete(self, root: Path, tmp_path: Path) -> None:
        clips(root, tmp_path / "out", "--label-level", "1", "--classes", "sad,glad,angry")
        assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.tasks["emotion"].space.names == (
            "sad",
            "glad",
            "angry",
        )
        refuse(
            root,
            tmp_path / "b",
            "label 'sad' is not among --classes glad,angry",
            "--label-level",
            "1",
            "--classes",
            "glad,angry",
        )

    def test_files_called_alike_are_one_clip(self, root: Path, tmp_path: Path, media: dict[str, bytes]) -> None:
        put(root / "glad" / "Bo_1.WAV", media["wave"])
        put(root / "glad" / "Bo_1.srt", "1\n00:00:00,000 --> 00:00:00,300\nhello, you\n")
        np.save(root / "glad" / "Bo_1_au.npy", np.zeros((3, 35)))
        clip = clips(root, tmp_path / "out", "--column", "au=_au.npy")["glad/Bo_1"]
        assert {m: clip.cells[m] for m in ("video", "audio", "text", "au")} == {
            "video": "glad/Bo_1.mp4", "audio": "glad/Bo_1.WAV", "text": "glad/Bo_1.srt", "au": "glad/Bo_1_au.npy",
        }  # fmt: skip

    def test_modalities_in_trees_of_their_own_join_by_name(self, tmp_path: Path, media: dict[str, bytes]) -> None:
        root = tmp_path / "clips"
        put(root / "films" / "glad" / "a.mp4", media["mute"])
        put(root / "films" / "sad" / "b.mp4", media["mute"])
        put(root / "words" / "a.txt", "hi")
        assert len(clips(root, tmp_path / "apart")) == 3
        found = clips(root, tmp_path / "out", "--join", "name", "--label-level", "2")
        assert {k: (c.cells["video"], c.cells["text"], c.cells["emotion"]) for k, c in found.items()} == {
            "a": ("films/glad/a.mp4", "words/a.txt", "glad"),
            "b": ("films/sad/b.mp4", "", "sad"),
        }

    def test_a_film_without_sound_has_no_sound(self, root: Path, tmp_path: Path, media: dict[str, bytes]) -> None:
        put(root / "glad" / "Bo_1.mp4", media["mute"])
        found = clips(root, tmp_path / "out")
        assert (found["glad/Bo_1"].cells["audio"], found["glad/Bo_2"].cells["audio"]) == ("", "glad/Bo_2.mp4")

    def test_a_broken_file_stops_or_is_listed(self, root: Path, tmp_path: Path) -> None:
        put(root / "sad" / "Bo_1.mp4", b"junk")
        refuse(root, tmp_path, r"sad/Bo_1.mp4: not readable.*or pass --skip-errors")
        assert len(clips(root, tmp_path / "out", skip=True)) == 17
        assert len(clips(root, tmp_path / "out", "--no-look")) == 18

    def test_what_mer_wrote_and_hidden_folders_are_no_clips(
        self, root: Path, tmp_path: Path, media: dict[str, bytes]
    ) -> None:
        put(root / ".git" / "a.mp4", media["film"])
        put(root / "data" / "transcripts" / "a.json", "{}")
        clips(root, root / "data")
        assert len(clips(root, root / "data")) == 18
        (root / "data" / "transcripts" / "a.json").unlink()
        assert len(clips(root, tmp_path / "out")) == 18

    def test_linked_folders_are_said(self, root: Path, tmp_path: Path) -> None:
        (root / "more").symlink_to(root / "sad", target_is_directory=True)
        assert len(clips(root, tmp_path / "out")) == 18
        assert "1 folders are links and were not looked into, e.g. more" in notes(tmp_path / "out")

    def test_words_alone_are_said(self, root: Path, tmp_path: Path) -> None:
        put(root / "README.txt", "how it was recorded")
        clips(root, tmp_path / "out")
        assert "1 clips are words alone, e.g. 'README'" in notes(tmp_path / "out")

    def test_a_folder_may_be_called_as_nothing_is_elsewhere(self, tmp_path: Path, media: dict[str, bytes]) -> None:
        for mood in ("-", "sad "):
            put(tmp_path / "clips" / mood / "a.mp4", media["film"])
        found = clips(tmp_path / "clips", tmp_path / "out", "--label-level", "1")
        assert [c.labels["emotion"] for c in found.values()] == [[0.0], [1.0]]
        assert found["sad /a"].cells["emotion"] == "sad"


class TestMistakesInATree:
    @pytest.mark.parametrize("name", [" sad/a.mp4", "sad/J\udcfcrgen.mp4", "sad/a\nb.mp4"])
    def test_a_name_that_no_table_can_hold(self, root: Path, tmp_path: Path, name: str) -> None:
        put(root / name)
        refuse(root, tmp_path, "begins with a blank, or has what is no character")

    def test_what_cannot_be_divided_is_known_before_files_are_opened(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(folder, "_looked", None)
        refuse(root, tmp_path, "3 people do not fill 4 parts", "--folds", "4", *PEOPLE)

    def test_classes_of_values(self, root: Path, tmp_path: Path) -> None:
        options = ("--label-regex", r"_(\d+)", "--label-kind", "continuous", "--classes", "1,2")
        refuse(root, tmp_path, "the labels are values", *options)
        refuse(root, tmp_path, "a name is empty or stands twice", "--label-level", "1", "--classes", "glad,,sad")

    def test_nothing_to_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        put(tmp_path / "clips" / "a.docx")
        put(tmp_path / "clips" / "b.docx")
        assert mer("prepare", "folder", "--root", tmp_path / "clips", "--out", tmp_path / "out") == 2
        line = one_line(capsys.readouterr().err)
        assert "2 .docx" in line and "--column" in line
        (tmp_path / "empty").mkdir()
        refuse(tmp_path / "empty", tmp_path, "no files at all")

    def test_a_level_that_a_file_does_not_have(self, root: Path, tmp_path: Path) -> None:
        refuse(
            root,
            tmp_path,
            r"--label-level 3, but 'glad/Anna B_1.mp4' lies 1 folder\(s\) below the root",
            "--label-level",
            "3",
        )
        refuse(root, tmp_path, "--subject-level 0", "--subject-level", "0")

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("(", "not a regular expression"),
            ("Anna", "0 groups in brackets"),
            ("(A)(n)", "2 groups in brackets"),
            ("(Zoe)", r"finds nothing in 'glad/Anna B_1.mp4'"),
        ],
    )
    def test_a_pattern_that_says_nothing(self, root: Path, tmp_path: Path, pattern: str, message: str) -> None:
        refuse(root, tmp_path, message, "--subject-regex", pattern)

    def test_both_a_level_and_a_pattern(self, root: Path, tmp_path: Path) -> None:
        refuse(root, tmp_path, "Use one of them", "--label-level", "1", "--label-regex", "(glad|sad)")

    def test_one_class_only(self, root: Path, tmp_path: Path) -> None:
        refuse(
            root.parent, tmp_path, "all labels are 'my clips', and there is nothing to tell apart", "--label-level", "1"
        )

    def test_classes_that_differ_in_capitals(self, root: Path, tmp_path: Path, media: dict[str, bytes]) -> None:
        put(root / "Glad" / "Bo_3.mp4", media["film"])
        refuse(root, tmp_path, "'Glad' and 'glad' differ in capitals", "--label-level", "1")

    def test_two_films_of_one_clip(self, root: Path, tmp_path: Path, media: dict[str, bytes]) -> None:
        put(root / "glad" / "Bo_1.avi", media["film"])
        refuse(root, tmp_path, r"Bo_1.mp4: the clip 'glad/Bo_1' has glad/Bo_1.avi for its video already")

    def test_a_number_sign_in_a_name(self, root: Path, tmp_path: Path, media: dict[str, bytes]) -> None:
        put(root / "glad" / "Bo #3.mp4", media["film"])
        refuse(root, tmp_path, "Bo #3.mp4: '#' in a name")

    def test_classes_without_labels(self, root: Path, tmp_path: Path) -> None:
        refuse(root, tmp_path, "no clip has a label", "--classes", "a,b")

    def test_a_column_that_is_none(self, root: Path, tmp_path: Path) -> None:
        refuse(root, tmp_path, "not NAME=ENDING", "--column", "au")
        refuse(root, tmp_path, "not NAME=ENDING", "--column", "split=.csv")


def table(root: Path, *lines: str, name: str = "clips.csv") -> Path:
    return put(root / name, "\n".join(lines) + "\n")


class TestATable:
    def test_it_is_taken_from_the_root_by_itself(self, root: Path, tmp_path: Path) -> None:
        table(
            root,
            "path,label,subject,age",
            "glad/Bo_1.mp4,glad,Bo,41",
            '"sad/Anna B_1.mp4",sad,Anna,',
            "sad/Chi_1.mp4,,Chi,",
        )
        found = clips(root, tmp_path / "out")
        assert {k: (c.subject, c.labels["emotion"], c.cells["age"]) for k, c in found.items()} == {
            "glad/Bo_1": ("Bo", [0.0], "41"), "sad/Anna B_1": ("Anna", [1.0], ""), "sad/Chi_1": ("Chi", None, ""),
        }  # fmt: skip
        assert "1 clips have no label" in notes(tmp_path / "out")

    def test_the_label_may_stand_in_a_column_of_its_name(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,emotion", "glad/Bo_1.mp4,glad", "sad/Bo_1.mp4,sad")
        assert [c.labels["emotion"] for c in clips(root, tmp_path / "out").values()] == [[0.0], [1.0]]

    def test_a_spreadsheet_with_a_column_per_modality(
        self, root: Path, tmp_path: Path, media: dict[str, bytes]
    ) -> None:
        put(root / "sound.wav", media["wave"])
        write_workbook(
            tmp_path / "mine.xlsx",
            [["video", "audio", "label"], ["glad/Bo_1.mp4", "sound.wav", "x"], ["sad\\Bo_1.mp4", "", "y"]],
        )
        found = clips(root, tmp_path / "out", "--table", str(tmp_path / "mine.xlsx"))
        assert [(c.cells["video"], c.cells["audio"]) for c in found.values()] == [
            ("glad/Bo_1.mp4", "sound.wav"),
            ("sad/Bo_1.mp4", "sad/Bo_1.mp4"),
        ]

    def test_absolute_paths_below_the_root_become_relative(self, root: Path, tmp_path: Path) -> None:
        table(root, "path", f"{root}/glad/Bo_1.mp4")
        assert clips(root, tmp_path / "out")["glad/Bo_1"].cells["video"] == "glad/Bo_1.mp4"

    def test_german_excel(self, tmp_path: Path, media: dict[str, bytes]) -> None:
        root = tmp_path / "clips"
        put(root / unicodedata.normalize("NFD", "Jürgen.mp4"), media["film"])  # as macOS writes it
        lines = ["Path;Label;Start;Subject", "Jürgen.mp4;0,5;0,25;Jürgen", ".\\x\\..\\Jürgen.mp4;1;0,125;Jürgen", ""]
        put(root / "clips.csv", "\r\n".join(lines).encode("cp1252"))
        found = [*clips(root, tmp_path / "out", "--label-kind", "continuous").values()]
        assert [(c.start, c.labels["emotion"], c.subject) for c in found] == [
            (0.25, [0.5], "Jürgen"), (0.125, [1.0], "Jürgen"),
        ]  # fmt: skip
        assert (root / found[0].cells["video"]).is_file()

    def test_several_stretches_of_a_file(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,start,end,label", "glad/Bo_1.mp4,0,0.2,a", "glad/Bo_1.mp4,0.2,,b")
        found = clips(root, tmp_path / "out")
        assert {k: (c.start, c.end) for k, c in found.items()} == {
            "glad/Bo_1@0-0.2": (0, 0.2),
            "glad/Bo_1@0.2-end": (0.2, None),
        }

    def test_numbers_are_classes_or_values_as_said(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,label", "glad/Bo_1.mp4,10", "glad/Bo_2.mp4,2")
        refuse(root, tmp_path, r"the labels are numbers \(2, 10\)")
        clips(root, tmp_path / "a", "--label-kind", "classes")
        assert Manifest.read(tmp_path / "a" / "manifest.csv").corpus.tasks["emotion"].space.names == ("2", "10")
        assert clips(root, tmp_path / "b", "--label-kind", "continuous")["glad/Bo_1"].labels["emotion"] == [10.0]

    def test_several_labels_a_clip(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,label", "glad/Bo_1.mp4,glad; calm", "glad/Bo_2.mp4,-")
        refuse(root, tmp_path, "--label-kind multilabel")
        found = clips(root, tmp_path / "out", "--label-kind", "multilabel")
        assert [c.labels["emotion"] for c in found.values()] == [[1.0, 1.0], [0.0, 0.0]]

    def test_a_person_on_both_sides_of_a_given_split_is_said(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,label,subject,split", "glad/Bo_1.mp4,a,Bo,train", "glad/Bo_2.mp4,b,Bo,test")
        clips(root, tmp_path / "out")
        assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.subject_disjoint == "false"
        assert "in several parts" in notes(tmp_path / "out")

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (("file,label", "glad/Bo_1.mp4,x"), "no column 'path', and none called video.*it has file, label"),
            (("path,label", ",x"), "row 2: no file. Fill in 'path'"),
            (("path", "glad"), "row 2: .*/glad is a folder. Write a row per file"),
            (
                ("path,video", "glad/Bo_1.mp4,sad/Bo_1.mp4"),
                "row 2: 'path' is 'glad/Bo_1.mp4', 'video' is 'sad/Bo_1.mp4'",
            ),
            (("path,Path", "a,b"), r"two columns differ in capitals only \(path, Path\)"),
            (("path", "glad/Bo_1.mp4", "", "x.mp4"), "row 4: .*x.mp4: no such file"),
            (("path,subject", "glad/Bo_1.mp4,Bo", "glad/Bo_2.mp4,bo"), "the subjects 'Bo' and 'bo' differ in capitals"),
            (("path", "glad/bo_1.mp4"), r"row 2: .*glad/bo_1.mp4: no such file; there is glad/Bo_1.mp4"),
            (("path", "../secret.mp4"), r"row 2: \.\./secret.mp4 leads out of"),
            (("path", "/etc/passwd"), "row 2: /etc/passwd lies outside"),
            (("path", "glad/Bo_1.mp4", "glad/Bo_1.mp4"), r"row 3: the clip 'glad/Bo_1' was there before \(.*row 2\)"),
            (("path,start", "glad/Bo_1.mp4,0:10"), "row 2: start is '0:10'. Write seconds"),
            (("path,start,end", "glad/Bo_1.mp4,3,2"), "row 2: end 2 is not after start 3"),
            (("path,split", "glad/Bo_1.mp4,dev"), "row 2: split 'dev'. Write train, val or test"),
            (("path,path", "a,b"), "column 'path' stands twice"),
            (("path,label", "glad/Bo_1.mp4,x,y"), "row 2: more cells than the header"),
            (("path,label,emotion", "glad/Bo_1.mp4,x,y"), "row 2: both 'label' and 'emotion'"),
            (("path",), "no rows below the header"),
            (("path", "Thumbs.db"), "'Thumbs.db' has no ending of a film"),
        ],
    )
    def test_a_mistake_is_named_with_its_row(
        self, root: Path, tmp_path: Path, lines: tuple[str, ...], message: str
    ) -> None:
        table(root, *lines)
        refuse(root, tmp_path, message)

    def test_a_table_that_is_not_there_or_has_no_paths(self, root: Path, tmp_path: Path) -> None:
        refuse(root, tmp_path, "no such file, here or in", "--table", "mine.csv")
        table(root, "clip,label", "a,b", name="mine.csv")
        refuse(
            root,
            tmp_path,
            "no column 'path', and none called video, audio, text, features; it has clip, label",
            "--table",
            "mine.csv",
        )

    def test_table_and_path_that_say_different_things(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,label", "glad/Bo_1.mp4,sad")
        refuse(root, tmp_path, "row 2: label 'sad' in the table, 'glad' in the path", "--label-level", "1")


class TestSplits:
    def test_parts_hold_whole_people_and_no_part_is_empty(self, root: Path, tmp_path: Path) -> None:
        found = clips(root, tmp_path / "out", "--label-level", "1", *PEOPLE, "--split", "70/15/15")
        assert Counter(c.split for c in found.values()) == {"train": 6, "val": 6, "test": 6}
        manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
        assert manifest.corpus.subject_disjoint == "true" and split_clips(manifest, None, 0, 0).stamp == ""

    def test_a_class_that_no_training_sees_is_said(self, root: Path, tmp_path: Path) -> None:
        people = ("--label-level", "1", "--subject-level", "1")
        clips(root, tmp_path / "out", *people, "--split", "50/50")
        assert "is in train: it will not be learned" in notes(tmp_path / "out")
        clips(root, tmp_path / "folds", *people, "--folds", "2")
        assert "only: it will not be learned where that one is the test" in notes(tmp_path / "folds")

    def test_the_same_command_divides_alike(self, root: Path, tmp_path: Path) -> None:
        options = (*PEOPLE, "--split", "60/40")
        first, second = (clips(root, tmp_path / name, *options) for name in ("a", "b"))
        assert {k: c.split for k, c in first.items()} == {k: c.split for k, c in second.items()}
        assert {c.split for c in first.values()} == {"train", "test"}

    def test_folds_of_people(self, root: Path, tmp_path: Path) -> None:
        found = clips(root, tmp_path / "out", *PEOPLE, "--folds", "3")
        assert len({(c.subject, c.fold) for c in found.values()}) == 3 == len({c.fold for c in found.values()})

    def test_shares_are_met_where_there_are_enough_people(self, tmp_path: Path) -> None:
        root = tmp_path / "clips"
        for person in range(40):
            for take in range(person % 4 + 1):
                put(root / f"p{person}" / f"{take}.mp4")
        found = clips(root, tmp_path / "out", "--subject-level", "1", "--split", "70/15/15", "--no-look")
        sizes = Counter(c.split for c in found.values())
        assert [abs(sizes[split] - goal) <= 2 for split, goal in (("train", 70), ("val", 15), ("test", 15))] == [
            True
        ] * 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--split", "70/15/15"), "the subject of the clip 'glad/Anna B_1' is not known.*--by clip"),
            (("--split", "70/15/16", *PEOPLE), "Write percent that make 100"),
            (("--split", "a/b", *PEOPLE), "Write percent that make 100"),
            (("--folds", "10", *PEOPLE), "3 people do not fill 10 parts. Ask for 3 at most"),
            (("--split", "/".join(["10"] * 10), *PEOPLE), "equal parts are --folds"),
            (("--folds", "1", *PEOPLE), "Give at least 2"),
            (("--folds", "3", "--split", "50/50", *PEOPLE), "--split and --folds together"),
        ],
    )
    def test_what_cannot_be_divided(self, root: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
        refuse(root, tmp_path, message, *options)

    def test_clips_can_be_divided_without_people_and_the_result_will_say_so(self, root: Path, tmp_path: Path) -> None:
        clips(root, tmp_path / "out", "--split", "50/50", "--by", "clip")
        assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.subject_disjoint == "unknown"
        clips(root, tmp_path / "known", "--split", "50/50", "--by", "clip", *PEOPLE)
        assert Manifest.read(tmp_path / "known" / "manifest.csv").corpus.subject_disjoint == "false"

    def test_a_split_of_the_table_is_not_overruled(self, root: Path, tmp_path: Path) -> None:
        table(root, "path,subject,split", "glad/Bo_1.mp4,Bo,train")
        refuse(root, tmp_path, "the table has a column 'split'", "--split", "50/50")


def test_the_twin_goes_through(tmp_path: Path) -> None:
    assert mer("prepare", "folder", "--synthetic", 3, "--out", tmp_path / "twin") == 0
    options = ("--label-level", "1", "--subject-regex", r"([^/]+) \(take", "--split", "60/20/20")
    found = clips(tmp_path / "twin", tmp_path / "out", *options)
    assert len(found) == 24 and {c.split for c in found.values()} == {"train", "val", "test"}
    assert found["angry/Anna 00 (take 1)"].cells["audio"] == ""
    assert found["calm/Anna 00 (take 1)"].cells["audio"].endswith(".wav")
    assert found["angry/Bo 01 (take 1)"].cells["video"].endswith(".MP4")


def test_twenty_thousand_rows_of_a_table_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, count = tmp_path / "clips", 20_000
    root.mkdir()
    names = [f"p{k % 500}/{k}.mp4" for k in range(count)]
    table(root, "path,label,subject", *(f"{name},{'ab'[k % 2]},{k % 500}" for k, name in enumerate(names)))
    monkeypatch.setattr(folder, "paths_below", lambda *_: iter(names))
    begin = time.process_time()
    assert len(clips(root, tmp_path / "out", "--no-look", "--split", "80/20")) == count
    assert (
        time.process_time() - begin < 8
    )  # a fifth of 100,000 rows, which may take 20 s; reading the manifest again is in it
