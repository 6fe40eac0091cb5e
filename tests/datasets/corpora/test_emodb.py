"""EMO-DB becomes a manifest from the official download and from the packaged form; a fold is a speaker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import emodb
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import split_clips
from mer.errors import UserError

# What the letters of the names mean, in German: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
LETTERS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    root = tmp_path / "emodb"
    (root / "wav").mkdir(parents=True)
    for letter in LETTERS:
        (root / "wav" / f"03a01{letter}a.wav").write_bytes(b"sound")
    (root / "wav" / "16b10Wb.wav").write_bytes(b"sound")
    (root / "lablaut").mkdir()
    (root / "lablaut" / "03a01Fa.lablaut").write_text("x")
    return root


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    root = tmp_path / "packaged"
    root.mkdir()
    lines = ["file,speaker,gender,text,emotion,four_class,listener_recognised_pct,natural_pct,duration_s"]
    lines += ["audio16k/03a01Fa.flac,3,male,a01,happiness,True,90.0,75.0,1.8982"]
    lines += ["audio16k/16b10La.flac,16,female,b10,boredom,False,80.0,70.0,2.5"]
    (root / "clips.csv").write_text("\n".join(lines) + "\n")
    return root


def clips(root: Path, out: Path, *options: str) -> dict[str, Clip]:
    prepared(emodb, root, out, False, *options)
    return {clip.clip_id: clip for clip in Manifest.read(out / "manifest.csv").clips}


def test_the_letter_of_the_name_is_the_german_emotion(official: Path, tmp_path: Path) -> None:
    found = clips(official, tmp_path / "out")
    assert {name[5]: c.cells["emotion"] for name, c in found.items() if name.startswith("03")} == LETTERS
    clip = found["16b10Wb"]
    assert (clip.subject, clip.fold, clip.cells["gender"], clip.cells["sentence"]) == ("16", "16", "female", "b10")
    assert clip.cells["audio"] == "wav/16b10Wb.wav"


def test_four_classes_leave_the_others_out(official: Path, tmp_path: Path) -> None:
    found = clips(official, tmp_path / "out", "--classes", "4")
    assert {c.cells["emotion"] for c in found.values()} == {"anger", "happiness", "neutral", "sadness"}
    assert Manifest.read(tmp_path / "out" / "manifest.csv").corpus.tasks["emotion"].space.name == "emodb4.v1"
    assert found["16b10Wb"].labels["emotion"] == [0.0]


def test_a_fold_is_a_speaker(official: Path, tmp_path: Path) -> None:
    clips(official, tmp_path / "out")
    split = split_clips(Manifest.read(tmp_path / "out" / "manifest.csv"), "16", 0, 0)
    assert {c.subject for c in split.test} == {"16"} and {c.subject for c in split.train} == {"03"}


def test_the_packaged_form_brings_lengths_and_what_listeners_said(packaged: Path, tmp_path: Path) -> None:
    clip = clips(packaged, tmp_path / "out")["03a01Fa"]
    assert (clip.end, clip.cells["recognised_percent"], clip.subject, clip.fold) == (1.8982, "90.0", "03", "3")
    assert clip.cells["audio"] == "audio16k/03a01Fa.flac"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a01,happiness", "a01,anger", r"clips.csv, row 2: speaker or emotion contradicts the name 03a01Fa"),
        ("Fa.flac,3", "Fa.flac,8", r"row 2: speaker or emotion contradicts"),
        ("03a01Fa", "04a01Fa", r"row 2: '04a01Fa.flac' is not speaker"),
        ("03a01Fa", "03a01Xa", r"row 2: '03a01Xa.flac' is not speaker"),
        ("file,", "path,", r"row 2: file missing"),
        ("audio16k/03", "../03", r"row 2: '../03a01Fa.flac' leads out of the root"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    packaged: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    table = packaged / "clips.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        prepared(emodb, packaged, tmp_path / "out")


def test_a_strange_file_among_the_recordings_is_named(official: Path, tmp_path: Path) -> None:
    (official / "wav" / "99a01Fa.wav").write_bytes(b"sound")
    with pytest.raises(UserError, match=r"99a01Fa.wav.*not speaker \(03, 08 to 16\)"):
        prepared(emodb, official, tmp_path / "out")


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "emodb", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert "no EMO-DB recordings" in one_line(capsys.readouterr().err)


def test_the_twin_goes_through(tmp_path: Path) -> None:
    assert mer("prepare", "emodb", "--synthetic", 6, "--out", tmp_path / "twin") == 0
    found = clips(tmp_path / "twin", tmp_path / "out")
    assert {c.cells["emotion"] for c in found.values()} == set(LETTERS.values())
    assert {c.fold for c in found.values()} == {"3", "8", "9", "10", "11", "12"}


@pytest.mark.real
def test_the_real_utterances(real_data: Path, tmp_path: Path) -> None:
    found = clips(real_data / "emodb", tmp_path / "out")
    assert len(found) == 289 and len({c.subject for c in found.values()}) == 8
    assert Counter(c.cells["emotion"] for c in found.values()) == {
        "anger": 100, "neutral": 63, "happiness": 54, "sadness": 49, "boredom": 9, "disgust": 9, "fear": 5,
    }  # fmt: skip
    assert len(clips(real_data / "emodb", tmp_path / "four", "--classes", "4")) == 266
    assert (tmp_path / "out" / "prepared.json").read_text().count("--classes 4") == 3  # three emotions are rare
