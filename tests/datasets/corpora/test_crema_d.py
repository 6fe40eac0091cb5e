"""CREMA-D becomes a manifest from the repository and from its tables alone; four labels, folds by actor."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import crema_d
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import split_clips
from mer.errors import UserError

HEADER = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"'
VOTES = (
    '"1","1001_IEO_SAD_HI","N","60.14","A:F","30.67:51.00","N","63.5"',
    '"2","1001_DFA_ANG_XX","A","50","A","51","D","52"',
    '"3","1040_ITH_SAD_X","S","50","S","51","S","52"',
)


def put(path: Path, content: bytes | str = b"sound") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A part of the repository."""
    root = tmp_path / "CREMA-D"
    for name in ("1001_IEO_SAD_HI", "1001_DFA_ANG_XX", "1040_ITH_SAD_X"):
        put(root / "AudioWAV" / f"{name}.wav")
        put(root / "AudioMP3" / f"{name}.mp3")
    put(root / "VideoFlash" / "1001_DFA_ANG_XX.flv")
    put(root / "VideoFlash" / "1002_DFA_HAP_XX.flv")
    put(root / "processedResults" / "summaryTable.csv", "\n".join([HEADER, *VOTES]))
    put(root / "VideoDemographics.csv", '"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n1040,30,"Male"\n')
    return root


def clips(root: Path, out: Path, *options: str) -> dict[str, Clip]:
    prepared(crema_d, root, out, False, *options)
    return {clip.clip_id: clip for clip in Manifest.read(out / "manifest.csv").clips}


def test_sound_and_film_of_a_clip_are_one_row(root: Path, tmp_path: Path) -> None:
    found = clips(root, tmp_path / "out")
    assert {name: (c.cells["audio"], c.cells["video"]) for name, c in found.items()} == {
        "1001_DFA_ANG_XX": ("AudioWAV/1001_DFA_ANG_XX.wav", "VideoFlash/1001_DFA_ANG_XX.flv"),
        "1001_IEO_SAD_HI": ("AudioWAV/1001_IEO_SAD_HI.wav", ""),
        "1002_DFA_HAP_XX": ("VideoFlash/1002_DFA_HAP_XX.flv",) * 2,
        "1040_ITH_SAD_X": ("AudioWAV/1040_ITH_SAD_X.wav", ""),
    }
    clip = found["1001_IEO_SAD_HI"]
    assert (clip.subject, clip.cells["sentence"], clip.cells["intensity"], clip.cells["sex"]) == (
        "1001",
        "IEO",
        "HI",
        "male",
    )


def test_the_name_with_a_single_x_is_a_clip_of_unstated_intensity(root: Path, tmp_path: Path) -> None:
    assert clips(root, tmp_path / "out")["1040_ITH_SAD_X"].cells["intensity"] == "XX"


def test_the_intended_emotion_is_the_label_and_votes_stand_beside_it(root: Path, tmp_path: Path) -> None:
    clip = clips(root, tmp_path / "out")["1001_DFA_ANG_XX"]
    assert clip.labels["emotion"] == [0.0]
    assert [clip.cells[c] for c in ("intended", "voice", "face", "both")] == ["anger", "anger", "anger", "disgust"]


def test_what_raters_said_can_be_the_label_and_a_tie_is_none(root: Path, tmp_path: Path) -> None:
    found = clips(root, tmp_path / "out", "--label", "face")
    assert found["1001_IEO_SAD_HI"].labels["emotion"] is None  # A:F
    assert found["1001_DFA_ANG_XX"].labels["emotion"] == [0.0]
    assert found["1002_DFA_HAP_XX"].labels["emotion"] is None  # not rated
    assert clips(root, tmp_path / "both", "--label", "both")["1001_DFA_ANG_XX"].labels["emotion"] == [1.0]


def test_an_actor_is_in_one_fold_only(root: Path, tmp_path: Path) -> None:
    found = clips(root, tmp_path / "out")
    assert found["1001_DFA_ANG_XX"].fold == found["1001_IEO_SAD_HI"].fold != found["1040_ITH_SAD_X"].fold
    assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.subject_disjoint == "true"
    assert not any(clip.split for clip in found.values())


def test_speaker_splits_fill_the_split_and_must_name_every_actor(root: Path, tmp_path: Path) -> None:
    splits = put(root / "x_speaker_splits.json", json.dumps({"train": [1001], "dev": [1002], "test": [1040]}))
    clips(root, tmp_path / "out")
    split = split_clips(Manifest.read(tmp_path / "out" / "manifest.csv"), None, 0, 0)
    assert [{c.subject for c in part} for part in (split.train, split.val, split.test)] == [
        {"1001"},
        {"1002"},
        {"1040"},
    ]
    put(splits, json.dumps({"train": [1001], "dev": [], "test": [1040]}))
    with pytest.raises(UserError, match="do not name actor 1002"):
        prepared(crema_d, root, tmp_path / "out")
    put(splits, json.dumps({"train": [1001, 1040], "dev": [1002], "test": [1040]}))
    with pytest.raises(UserError, match="actor 1040 is in train and in test"):
        prepared(crema_d, root, tmp_path / "out")
    put(splits, json.dumps({"test": [1001], "dev": [1002], "train": [1040]}))
    with pytest.raises(UserError, match="not lists of actors under train, dev and test"):
        prepared(crema_d, root, tmp_path / "out")


def test_tables_alone_give_every_rated_clip_without_media(root: Path, tmp_path: Path) -> None:
    table = root / "processedResults" / "summaryTable.csv"
    put(tmp_path / "tables" / "summaryTable.csv.gz", gzip.compress(table.read_bytes()))
    found = clips(tmp_path / "tables", tmp_path / "out")
    assert list(found) == ["1001_DFA_ANG_XX", "1001_IEO_SAD_HI", "1040_ITH_SAD_X"]
    assert "no recordings" in (tmp_path / "out" / "prepared.json").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '"4","1001_DFA_JOY_XX","A","1","A","1","A","1"',
            r"summaryTable.csv, line 5: '1001_DFA_JOY_XX' is no CREMA-D name",
        ),
        ('"4","1001_DFA_ANG_XX","A","1","A","1","A","1"', r"line 5: 1001_DFA_ANG_XX stands here for the second time"),
        (
            '"4","1002_DFA_ANG_XX","A","1","B","1","A","1"',
            r"line 5, column FaceVote: 'B' is not one of A, D, F, H, N, S",
        ),
    ],
)
def test_a_wrong_line_of_the_table_is_named(root: Path, tmp_path: Path, line: str, message: str) -> None:
    put(root / "processedResults" / "summaryTable.csv", "\n".join([HEADER, *VOTES, line]))
    with pytest.raises(UserError, match=message):
        prepared(crema_d, root, tmp_path / "out")


def test_a_damaged_archive_of_the_table_is_named(root: Path, tmp_path: Path) -> None:
    table = root / "processedResults" / "summaryTable.csv"
    packed = bytearray(gzip.compress(table.read_bytes() * 20))
    packed[20:40] = bytes(20)
    put(tmp_path / "tables" / "summaryTable.csv.gz", bytes(packed))
    with pytest.raises(UserError, match=r"summaryTable.csv.gz: not a readable table"):
        prepared(crema_d, tmp_path / "tables", tmp_path / "out")


def test_folds_without_the_actors_are_said_to_differ(root: Path, tmp_path: Path) -> None:
    (root / "VideoDemographics.csv").unlink()
    clips(root, tmp_path / "out")
    assert "folds are not balanced by sex" in (tmp_path / "out" / "prepared.json").read_text()


def test_a_clone_without_its_media_says_how_to_get_them(root: Path, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for path in (root / "AudioWAV").iterdir():
        path.write_bytes(pointer)
    with pytest.raises(UserError, match=r"placeholder of git-lfs.*git lfs pull"):
        prepared(crema_d, root, tmp_path / "out")


def test_other_folders_and_a_missing_table_are_refused(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        mer(
            "prepare",
            "crema_d",
            "--root",
            tmp_path / "CREMA-D" / "AudioWAV",
            "--out",
            tmp_path / "o",
            "--label",
            "both",
        )
        == 2
    )
    assert "--label intended" in one_line(capsys.readouterr().err)
    (tmp_path / "empty").mkdir()
    assert mer("prepare", "crema_d", "--root", tmp_path / "empty", "--out", tmp_path / "o") == 2
    assert "no CREMA-D recordings" in one_line(capsys.readouterr().err)


def test_the_twin_has_every_emotion_in_every_fold(tmp_path: Path) -> None:
    assert mer("prepare", "crema_d", "--synthetic", 5, "--out", tmp_path / "twin") == 0
    found = clips(tmp_path / "twin", tmp_path / "out")
    assert Counter(fold for fold, _ in {(c.fold, c.cells["intended"]) for c in found.values()}) == dict.fromkeys(
        "01234", 6
    )
    assert "1002_DFA_SAD_X" in found and found["1001_DFA_ANG_XX"].cells["video"] == ""
    assert found["1001_DFA_DIS_XX"].cells["face"] == ""


@pytest.mark.real
def test_the_real_tables(real_data: Path, tmp_path: Path) -> None:
    found = clips(real_data / "annotations" / "crema_d", tmp_path / "out", "--label", "both")
    assert len(found) == 7442 and len({c.subject for c in found.values()}) == 91
    assert {label: sum(not c.cells[label] for c in found.values()) for label in crema_d.LABELS} == {
        "voice": 644, "face": 470, "both": 420,
    }  # fmt: skip
    people = Counter(split for split, _ in {(c.split, c.subject) for c in found.values()})
    assert people == {"train": 56, "val": 17, "test": 18}
    per_fold = Counter(fold for fold, _ in {(c.fold, c.subject) for c in found.values()})
    assert set(per_fold.values()) == {18, 19}
    assert Counter(c.cells["intended"] for c in found.values())["neutral"] == 1087
