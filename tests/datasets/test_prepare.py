"""What readers answer becomes three files; what they made themselves is found beside the manifest."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from tiny import mer, one_line

from mer.datasets.corpora.reading import Prepared, Request, files_below, paths_below
from mer.datasets.manifest import Corpus, Manifest
from mer.datasets.prepare import CORPORA
from mer.datasets.protocol import split_clips
from mer.errors import UserError
from mer.labels import SPACES, Task

EMOTION = Task("emotion", SPACES["emodb4.v1"])


def prepared(root: Path, rows: list[dict[str, object]]) -> Prepared:
    corpus = Corpus("c", root, {"emotion": EMOTION}, "true")
    return Prepared(corpus, rows, {"x": "broken"}, ["a note"], {"base": 1})


def row(clip_id: str, **more: object) -> dict[str, object]:
    return {"clip_id": clip_id, "subject": clip_id, "audio": f"{clip_id}.wav", "emotion": "anger", **more}


def test_rows_notes_and_facts_are_kept(tmp_path: Path) -> None:
    prepared(tmp_path, [row("a", split="train"), row("b", au="@/au.npz#au[0]")]).write(tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert manifest.columns == ("clip_id", "subject", "split", "emotion", "audio", "au")
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert (record["notes"], record["facts"], record["left_out"], record["clips"]) == (
        ["a note"], {"base": 1}, {"x": "broken"}, 2,
    )  # fmt: skip


def test_a_reference_may_lie_beside_the_manifest(tmp_path: Path) -> None:
    root, out = tmp_path / "download", tmp_path / "data" / "c"
    root.mkdir()
    prepared(root, [row("a", au="@/au.npz#au[0]")]).write(out)
    manifest = Manifest.read(out / "manifest.csv")
    reference = manifest.reference(manifest.clips[0], "au")
    assert reference is not None
    assert (manifest.corpus.root / reference.partition("#")[0]).resolve() == (out / "au.npz").resolve()
    assert reference.endswith("#au[0]")
    assert manifest.reference(manifest.clips[0], "audio") == "a.wav"


def test_an_empty_corpus_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing could be prepared"):
        prepared(tmp_path, []).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folds_leave_the_official_test_split_closed(tmp_path: Path) -> None:
    rows = [
        row("a", fold=0, split="train"),
        row("b", fold=1, split="train"),
        row("c", split="test"),
        row("d", split="val"),
    ]
    prepared(tmp_path, rows).write(tmp_path / "out")
    split = split_clips(Manifest.read(tmp_path / "out" / "manifest.csv"), "0", 0.0, 0)
    assert [c.clip_id for c in split.test] == ["a"]
    assert [c.clip_id for c in split.train] == ["b", "d"]


def test_labels_of_another_space(tmp_path: Path) -> None:
    prepared(tmp_path, [row("a", emotion="anger"), row("b", emotion="")]).write(tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv").mapped({"emotion": "dfew7.v1"})
    assert manifest.corpus.tasks["emotion"].space == SPACES["dfew7.v1"]
    assert [c.labels["emotion"] for c in manifest.clips] == [[3.0], None]
    with pytest.raises(UserError, match=r"data.label_spaces names 'mood'. The video-level tasks are emotion"):
        manifest.mapped({"mood": "dfew7.v1"})


def test_files_are_listed_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/1.wav", "a/2.WAV", "a/1.wav", "a/.hidden.wav", "0.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_below(tmp_path, (".wav",)) == {"1.wav": "a/1.wav", "2.WAV": "a/2.WAV"}


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_corpus_has_reader_twin_and_help(corpus: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert mer("prepare", corpus, "--help") == 0
    page = capsys.readouterr().out
    reader = importlib.import_module(f"mer.datasets.corpora.{corpus}")
    assert (reader.__doc__ or "?").strip() in page and "Exit status" in page
    assert mer("prepare", corpus, "--out", tmp_path / "out") == 2
    assert "--synthetic" in one_line(capsys.readouterr().err)
    assert mer("prepare", corpus, "--root", tmp_path / "none", "--out", tmp_path / "out") == 2
    assert "no such folder" in one_line(capsys.readouterr().err)
    (tmp_path / "empty").mkdir()
    assert mer("prepare", corpus, "--root", tmp_path / "empty", "--out", tmp_path / "out") == 2
    one_line(capsys.readouterr().err)
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_hidden_folders_are_not_listed(tmp_path: Path) -> None:
    for name in (".git/lfs/1.wav", "a/.cache/2.wav", "a/3.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(paths_below(tmp_path)) == ["a/3.wav"]


def test_what_was_left_out_is_said_where_nothing_is_left(tmp_path: Path) -> None:
    made = prepared(tmp_path, [])
    made.left_out.update({"x": "x.mp4: the file is empty. Copy it again."})
    with pytest.raises(UserError, match=r"recording\(s\) were left out, among them x: x.mp4: the file is empty"):
        made.write(tmp_path / "out")


def test_a_seed_is_not_negative(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "folder", "--synthetic", 1, "--seed", -1, "--out", tmp_path / "t") == 2
    assert "--seed -1. Give 0 or more" in one_line(capsys.readouterr().err)


def test_a_twin_is_not_written_over_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert mer("prepare", "ravdess", "--synthetic", 2, "--out", tmp_path) == 2
    assert "something here already" in one_line(capsys.readouterr().err)
    assert mer("prepare", "ravdess", "--synthetic", 0, "--out", tmp_path / "t") == 2
    assert "Give a number of people" in one_line(capsys.readouterr().err)


def test_the_root_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: a file, not a folder"):
        Request(tmp_path / "file", tmp_path).folder()
