"""MELD becomes a manifest: three tables, three folders of films, and every known fault of theirs."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from media_files import grey, tone, write
from tiny import mer, one_line, prepared

from mer.datasets.corpora import meld
from mer.datasets.manifest import Clip, Manifest
from mer.datasets.protocol import split_clips
from mer.errors import UserError
from mer.media.text import decoded, load
from mer.spec import InputSpec

HEADER = [
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
]
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
Row = tuple[str, str, str, int, int]  # what, who, emotion, dialogue, utterance


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("f") / "a.mp4", grey(30), tone(1.2)).read_bytes()


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("m") / "a.mp4", grey(30)).read_bytes()


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("e") / "a.mp4", grey(80), fps=1).read_bytes()


def table(root: Path, split: str, rows: list[Row], encoding: str = "utf-8", **changes: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for number, (what, who, emotion, dialogue, utterance) in enumerate(rows, start=1):
        sentiment = {"joy": "positive", "neutral": "neutral"}.get(emotion, "negative")
        times = ("00:16:16,059", changes.get("end", "00:16:21,731"))
        writer.writerow([number, what, who, emotion, sentiment, dialogue, utterance, 8, 21, *times])
    (root / f"{split}_sent_emo.csv").write_bytes(text.getvalue().encode(encoding))


def put(root: Path, split: str, name: str, content: bytes) -> None:
    path = root / FOLDERS[split] / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def root(tmp_path: Path, film: bytes) -> Path:
    root = tmp_path / "MELD.Raw"
    root.mkdir()
    table(
        root,
        "train",
        [("so, there", "Chandler", "neutral", 0, 0), ("Oh!", "Joey", "joy", 0, 1), ("No", "Ross", "anger", 7, 0)],
    )
    table(root, "dev", [("hey", "Ross", "neutral", 0, 0)])
    table(root, "test", [("why", "Chandler", "sadness", 0, 0)])
    for split, names in {
        "train": ("dia0_utt0", "dia0_utt1", "dia7_utt0"),
        "dev": ("dia0_utt0",),
        "test": ("dia0_utt0",),
    }.items():
        for name in names:
            put(root, split, name, film)
    return root


def clips(root: Path, out: Path, skip: bool = False) -> dict[str, Clip]:
    prepared(meld, root, out, skip)
    return {clip.clip_id: clip for clip in Manifest.read(out / "manifest.csv").clips}


def said(out: Path, clip_id: str) -> str:
    manifest = Manifest.read(out / "manifest.csv")
    reference = manifest.reference(next(c for c in manifest.clips if c.clip_id == clip_id), "text")
    assert reference is not None
    return " ".join(decoded(load(manifest.corpus.root, reference, InputSpec("text", width=48)).values))


def test_dialogues_of_the_same_number_in_different_splits_are_different_ones(root: Path, tmp_path: Path) -> None:
    found = clips(root, tmp_path / "out")
    assert {name: c.cells["video"] for name, c in found.items()} == {
        "train_dia0_utt0": "train_splits/dia0_utt0.mp4",
        "train_dia0_utt1": "train_splits/dia0_utt1.mp4",
        "train_dia7_utt0": "train_splits/dia7_utt0.mp4",
        "val_dia0_utt0": "dev_splits_complete/dia0_utt0.mp4",
        "test_dia0_utt0": "output_repeated_splits_test/dia0_utt0.mp4",
    }
    assert [c.group for c in found.values()] == ["train_dia0", "train_dia0", "train_dia7", "val_dia0", "test_dia0"]
    assert [said(tmp_path / "out", name) for name in found] == ["so, there", "Oh!", "No", "hey", "why"]


def test_labels_and_times_are_read(root: Path, tmp_path: Path) -> None:
    clip = clips(root, tmp_path / "out")["train_dia0_utt1"]
    assert (clip.cells["emotion"], clip.cells["sentiment"]) == ("joy", "positive")
    assert (clip.cells["episode_start"], clip.cells["episode_end"]) == ("976.059", "981.731")


def test_speakers_of_all_splits_are_the_same_and_every_result_says_so(root: Path, tmp_path: Path) -> None:
    clips(root, tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert manifest.corpus.subject_disjoint == "false"
    with pytest.warns(UserWarning, match="occur in training and test"):
        assert "1 subject(s)" in split_clips(manifest, None, 0, 0).stamp


@pytest.mark.parametrize("encoding", ["utf-8", "control", "cp1252", "mojibake"])
def test_typographic_quotes_come_out_right_whatever_the_encoding(root: Path, tmp_path: Path, encoding: str) -> None:
    words = "He\u2019s \u201clost\u201d it\u2026"
    if encoding == "control":
        words = words.encode("cp1252").decode("latin-1")
    elif encoding == "mojibake":
        words = "He\u2019s lost it".encode().decode("cp1252")
    table(root, "dev", [(words, "Ross", "neutral", 0, 0)], "cp1252" if encoding == "cp1252" else "utf-8")
    clips(root, tmp_path / "out")
    expected = "He\u2019s lost it" if encoding == "mojibake" else "He\u2019s \u201clost\u201d it\u2026"
    assert said(tmp_path / "out", "val_dia0_utt0") == expected


def test_known_faults_keep_their_words(root: Path, tmp_path: Path, mute: bytes, endless: bytes, film: bytes) -> None:
    table(root, "train", [("a", "Ross", "joy", 125, 3)])
    table(root, "dev", [("b", "Ross", "joy", 110, 7), ("c", "Ross", "joy", 0, 0)])
    table(root, "test", [("d", "Ross", "joy", 38, 4), ("e", "Ross", "joy", 220, 0), ("f", "Ross", "joy", 263, 7)])
    put(root, "train", "dia125_utt3", b"broken")
    put(root, "test", "dia38_utt4", endless)
    put(root, "test", "dia220_utt0", film)  # somebody has cut it anew
    put(root, "test", "dia263_utt7", mute)
    found = clips(root, tmp_path / "out")
    assert {name: (c.cells["video"][-15:], bool(c.cells["audio"])) for name, c in found.items()} == {
        "train_dia125_utt3": ("", False),
        "val_dia110_utt7": ("", False),
        "val_dia0_utt0": ("e/dia0_utt0.mp4", True),
        "test_dia38_utt4": ("", False),
        "test_dia220_utt0": ("dia220_utt0.mp4", True),
        "test_dia263_utt7": ("dia263_utt7.mp4", False),
    }
    assert said(tmp_path / "out", "train_dia125_utt3") == "a"
    assert "dia125_utt3 (broken)" in (tmp_path / "out" / "prepared.json").read_text()


def test_any_other_missing_film_stops_or_is_listed(root: Path, tmp_path: Path) -> None:
    (root / FOLDERS["train"] / "dia0_utt1.mp4").unlink()
    with pytest.raises(
        UserError, match=r"train_sent_emo.csv, line 3: dia0_utt1.mp4 is not in train_splits.*--skip-errors"
    ):
        prepared(meld, root, tmp_path / "out")
    assert len(clips(root, tmp_path / "out", skip=True)) == 4
    assert said(tmp_path / "out", "train_dia7_utt0") == "No"


def test_films_that_no_table_names_are_no_clips(root: Path, tmp_path: Path, film: bytes) -> None:
    for name in ("final_videos_testdia101_utt0", "dia108_utt2", "._dia0_utt0"):
        put(root, "test", name, film)
    assert len(clips(root, tmp_path / "out")) == 5
    assert "1 films in output_repeated_splits_test are in no table" in (tmp_path / "out" / "prepared.json").read_text()


def test_tables_alone_are_a_corpus_of_words(root: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (root / "train_sent_emo.csv").rename(tables / "train_sent_emo.csv")
    found = clips(tables, tmp_path / "out")
    assert len(found) == 3 and "video" not in next(iter(found.values())).cells
    notes = (tmp_path / "out" / "prepared.json").read_text()
    assert "words and no other media" in notes and "dev_sent_emo.csv is not there" in notes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("x", "Ross", "bored", 9, 0),
            r"train_sent_emo.csv, line 2, column Emotion: label 'bored' is not in the label space meld7.v1",
        ),
    ],
)
def test_a_wrong_row_is_named(root: Path, tmp_path: Path, row: Row, message: str, film: bytes) -> None:
    put(root, "train", "dia9_utt0", film)
    table(root, "train", [row])
    with pytest.raises(UserError, match=message):
        prepared(meld, root, tmp_path / "out")


def test_a_time_that_is_none_and_a_repeated_row_are_named(root: Path, tmp_path: Path) -> None:
    table(root, "dev", [("hey", "Ross", "neutral", 0, 0)], end="21.5")
    with pytest.raises(UserError, match=r"line 2: '21.5' is not a time such as 00:16:16,059"):
        prepared(meld, root, tmp_path / "out")
    table(root, "dev", [("hey", "Ross", "neutral", 0, 0)] * 2)
    with pytest.raises(UserError, match="line 3: dia0_utt0 stands here for the second time"):
        prepared(meld, root, tmp_path / "out")


def test_a_quote_that_is_never_closed_is_named(root: Path, tmp_path: Path) -> None:
    path = root / "dev_sent_emo.csv"
    path.write_text(path.read_text() + '7,"' + "x" * 200_000)
    with pytest.raises(UserError, match=r"dev_sent_emo.csv, line \d+: field larger"):
        prepared(meld, root, tmp_path / "out")


def test_an_utterance_that_ends_before_it_begins_is_counted(root: Path, tmp_path: Path) -> None:
    table(root, "dev", [("hey", "Ross", "neutral", 0, 0)], end="00:16:01,000")
    clips(root, tmp_path / "out")
    assert "'val': 1 utterances end before they begin" in (tmp_path / "out" / "prepared.json").read_text()


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "meld", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert "train_sent_emo.csv" in one_line(capsys.readouterr().err)


def test_the_twin_goes_through(tmp_path: Path) -> None:
    assert mer("prepare", "meld", "--synthetic", 3, "--out", tmp_path / "twin") == 0
    found = clips(tmp_path / "twin", tmp_path / "out")
    silent = {name for name, c in found.items() if not c.cells["audio"]}
    assert silent == {"train_dia125_utt3", "val_dia110_utt7", "test_dia38_utt4", "test_dia263_utt7"}
    assert set(Counter(c.split for c in found.values())) == {"train", "val", "test"}
    assert all(
        "\u2019" in said(tmp_path / "out", name) for name in ("train_dia0_utt0", "val_dia0_utt0", "test_dia0_utt0")
    )
