"""A manifest is checked when it is read: every mistake names the file, the line and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mer.datasets.manifest import Corpus, Manifest, read_frame_labels, write_manifest
from mer.errors import UserError
from mer.labels import LabelSpace, Task

CORPUS = """
name: tiny
licence: CC0-1.0
subject_disjoint: true
protocol: by hand
root: media
tasks:
  emotion: {space: {name: mood.v1, names: [sad, glad]}}
  pain: {space: {name: pain.v1, kind: continuous, names: [pain]}, level: frame, column: vas}
"""
HEADER = "clip_id,subject,group,start,end,split,fold,emotion,frame_labels,video,note"
ROW = "a,p1,g1,0.5,2.5,train,0,glad,a.csv,a.mp4,hm"


def manifest(folder: Path, *rows: str, header: str = HEADER, corpus: str | None = CORPUS) -> Path:
    if corpus is not None:
        (folder / "corpus.yaml").write_text(corpus, encoding="utf-8")
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        Manifest.read(path)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_row_becomes_a_clip(tmp_path: Path) -> None:
    read = Manifest.read(manifest(tmp_path, ROW, "b,,,,,,,,,,"))
    clip, bare = read.clips
    assert (clip.clip_id, clip.subject, clip.group, clip.start, clip.end) == ("a", "p1", "g1", 0.5, 2.5)
    assert (clip.split, clip.fold, clip.labels, clip.frame_labels, clip.row) == (
        "train",
        "0",
        {"emotion": [1.0]},
        "a.csv",
        2,
    )
    assert (bare.start, bare.end, bare.labels) == (0.0, None, {"emotion": None})
    assert read.reference(clip, "video") == "a.mp4"
    assert read.reference(bare, "video") is None
    assert read.corpus.root == (tmp_path / "media").resolve()
    assert read.corpus.tasks["pain"].column == "vas"


def test_optional_columns_may_be_left_out(tmp_path: Path) -> None:
    clip = Manifest.read(manifest(tmp_path, "a,glad,,a.mp4", header="clip_id,emotion,frame_labels,video")).clips[0]
    assert (clip.subject, clip.start, clip.end, clip.split, clip.fold) == ("", 0.0, None, "", "")


def test_what_a_spreadsheet_writes_is_read(tmp_path: Path) -> None:
    path = manifest(tmp_path, ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Manifest.read(path).clips[0].clip_id == "a"


def test_folds_stand_in_natural_order(tmp_path: Path) -> None:
    rows = [f"c{i},,,,,,{fold},,,," for i, fold in enumerate(["10", "2", "x", "", "2"])]
    assert Manifest.read(manifest(tmp_path, *rows)).folds == ["2", "10", "x"]


def test_a_column_that_no_modality_has_is_named_with_those_there_are(tmp_path: Path) -> None:
    read = Manifest.read(manifest(tmp_path, ROW))
    with pytest.raises(UserError, match=r"no column 'audio'.*video, note"):
        read.reference(read.clips[0], "audio")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "b,p,g,0,1,train,0,joyful,,b.mp4,",
            "line 3, column 'emotion': label 'joyful' is not in the label space mood.v1",
        ),
        ("b,p,g,zero,1,train,0,sad,,b.mp4,", "line 3: start 'zero' is not a number of seconds"),
        ("b,p,g,-1,1,train,0,sad,,b.mp4,", "line 3: start '-1'"),
        ("b,p,g,0,nan,train,0,sad,,b.mp4,", "line 3: end 'nan'"),
        ("b,p,g,2,2,train,0,sad,,b.mp4,", "line 3: end 2 is not after start 2"),
        ("b,p,g,0,1,training,0,sad,,b.mp4,", "line 3: split 'training' is unknown"),
        ("b,p,g,0,1,train,0,sad,,b.mp4", "line 3: the row has more or fewer cells"),
        ("b,p,g,0,1,train,0,sad,,b.mp4,,", "line 3: the row has more or fewer cells"),
        (" ,p,g,0,1,train,0,sad,,b.mp4,", "line 3: clip_id is empty"),
        ("a,p,g,0,1,train,0,sad,,b.mp4,", "line 3: clip_id 'a' was already used on line 2"),
    ],
)
def test_a_mistake_in_a_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = manifest(tmp_path, ROW, row)
    refused(path, str(path), message)


def test_the_line_is_the_one_an_editor_shows(tmp_path: Path) -> None:
    refused(manifest(tmp_path, ROW, "", "", "b,,,,,,,joyful,,,"), "line 5")
    refused(manifest(tmp_path, ROW.replace("hm", '"two\nlines"'), "b,,,,,,,joyful,,,"), "line 4")


@pytest.mark.parametrize("column", ["clip_id", "emotion", "frame_labels"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    refused(manifest(tmp_path, ROW, header=HEADER.replace(column, "other")), f"column '{column}' is missing")


def test_a_repeated_column_is_named(tmp_path: Path) -> None:
    refused(manifest(tmp_path, ROW, header=HEADER.replace("note", "video")), "column 'video' stands twice")


def test_files_that_are_missing_empty_or_no_text_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "gone.csv", "gone.csv: no such manifest")
    refused(manifest(tmp_path), "the manifest has no rows")
    path = manifest(tmp_path, ROW)
    path.write_bytes(b"")
    refused(path, "column 'clip_id' is missing")
    path.write_bytes(HEADER.encode() + b"\nM\xfcller,,,,,,,,,,\n")
    refused(path, "not a readable CSV")


def test_a_manifest_without_its_corpus_file_is_refused(tmp_path: Path) -> None:
    refused(manifest(tmp_path, ROW, corpus=None), "corpus.yaml: no such file")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: tiny", "", "'name' or 'tasks' is missing"),
        ("tasks:", "jobs:", "'name' or 'tasks' is missing"),
        ("subject_disjoint: true", "subject_disjoint: maybe", "subject_disjoint is 'maybe'"),
        ("level: frame", "level: word", "unknown level 'word'"),
        ("kind: continuous", "kind: ordinal", "unknown kind 'ordinal'"),
        ("names: [sad, glad]", "names: [sad, sad]", "empty or repeated names"),
        ("names: [sad, glad]", "names: sad", "a label space needs 'name' and 'names'"),
        ("emotion: {space: {name: mood.v1, names: [sad, glad]}}", "emotion: mood.v1", "task 'emotion' needs a 'space'"),
        ("name: tiny", "name: [tiny", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_corpus_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    refused(manifest(tmp_path, ROW, corpus=CORPUS.replace(old, new)), message)


def test_a_corpus_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for text in ("", "- a\n", "tiny\n"):
        refused(manifest(tmp_path, ROW, corpus=text), "'name' or 'tasks' is missing")


def test_keys_left_empty_are_as_if_left_out(tmp_path: Path) -> None:
    text = CORPUS.replace("by hand", "").replace("CC0-1.0", "").replace("root: media", "root:")
    corpus = Manifest.read(manifest(tmp_path, ROW, corpus=text)).corpus
    assert (corpus.protocol, corpus.licence, corpus.root) == ("", "", tmp_path.resolve())


@pytest.mark.parametrize("disjoint", ["true", "false", "unknown"])
def test_a_corpus_survives_its_file(tmp_path: Path, disjoint: str) -> None:
    task = Task("emotion", LabelSpace("mood.v1", ("sad", "glad")))
    corpus = Corpus("tiny", tmp_path.resolve() / "media", {"emotion": task}, disjoint, "by hand", "CC0-1.0")  # type: ignore[arg-type]
    corpus.write(tmp_path / "corpus.yaml")
    assert Corpus.read(tmp_path / "corpus.yaml") == corpus
    assert yaml.safe_load((tmp_path / "corpus.yaml").read_text())["root"] == "media", "the folder can be moved"
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.yaml"]


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    manifest(tmp_path)
    row = dict.fromkeys(HEADER.split(","), "") | {"clip_id": "ä, b", "note": 'say "hm"\nthen'}
    write_manifest(tmp_path / "manifest.csv", HEADER.split(","), [row])
    clip = Manifest.read(tmp_path / "manifest.csv").clips[0]
    assert (clip.clip_id, clip.cells["note"]) == ("ä, b", 'say "hm"\nthen')


PAIN = {"pain": Task("pain", LabelSpace("pain.v1", ("pain",), "continuous"), "frame", "vas")}


def test_frame_labels_are_times_and_values(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("time,vas,other\n0.1,1,x\n0.2,,x\n0.5,3.5,x\n")
    assert read_frame_labels(path, PAIN) == ([0.1, 0.2, 0.5], {"pain": [[1.0], None, [3.5]]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time\n0.1\n", "column 'vas' is missing"),
        ("", "column 'time' is missing"),
        ("time,vas\n0.1,1\n0.1,2\n", "line 3: time is missing or does not rise"),
        ("time,vas\n,1\n", "line 2: time is missing"),
        ("time,vas\nsoon,1\n", "line 2: time 'soon' is not a number"),
        ("time,vas\n0.1,much\n", "line 2, column 'vas': 'much' is not 1 finite number"),
        ("time,vas\n0.1,1\n0.2\n", "line 3: the row has more or fewer cells"),
        ("time,vas\n0.1,1,2\n", "line 2: the row has more or fewer cells"),
        ("time,vas\n0.1,\udcff\n", "not a readable CSV"),
    ],
)
def test_a_mistake_in_frame_labels_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        read_frame_labels(path, PAIN)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_missing_frame_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_frame_labels(tmp_path / "f.csv", PAIN)
