"""CMU-MOSI becomes a manifest from recordings with label.csv and from packaged features, by utterance or by review."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import mosi
from mer.datasets.manifest import Clip, Manifest, read_frame_labels
from mer.encoders import FeatureEncoder
from mer.errors import UserError
from mer.media.prepare import prepare
from mer.media.text import decoded, load
from mer.spec import InputSpec

HEADER = "video_id,clip_id,text,label,annotation,mode"
LINES = (
    '-3g_5yACwYnA,1,"well, I liked it",2.4,Positive,train',
    "-3g_5yACwYnA,2,it was so so,0.0,Neutral,train",
    "_dI--eQ6qVU,10,NO,-1.25,Negative,valid",
    "Bfr4_0,3,,1.0,Positive,test",
)


def put(path: Path, content: str = "media") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def official(root: Path) -> Path:
    for name in ("-3g_5yACwYnA_1", "-3g_5yACwYnA_2", "_dI--eQ6qVU_10", "Bfr4_0_3"):
        put(root / "Raw" / "Video" / "Segmented" / f"{name}.mp4")
        put(root / "Raw" / "Video" / "Full" / f"{name.rpartition('_')[0]}.mp4")
        if name != "Bfr4_0_3":
            put(root / "Raw" / "Audio" / "WAV_16000" / "Segmented" / f"{name}.wav")
    put(root / "Raw" / "Transcript" / "Segmented" / "Bfr4_0.annotprocessed", "1_DELIM_FIRST\n3_DELIM_LAST, AND LEAST\n")
    put(root / "label.csv", "\n".join([HEADER, *LINES]) + "\n")
    return root


def mmsa(root: Path) -> Path:
    for line in LINES:
        video, clip = line.split(",")[:2]
        put(root / "Raw" / video / f"{clip}.mp4")
    put(root / "Raw" / "label.csv", "\n".join([HEADER, *LINES]) + "\n")
    return root


def clips(root: Path, out: Path, *options: str, skip: bool = False) -> dict[str, Clip]:
    prepared(mosi, root, out, skip, *options)
    return {clip.clip_id: clip for clip in Manifest.read(out / "manifest.csv").clips}


def said(out: Path, clip_id: str) -> str:
    manifest = Manifest.read(out / "manifest.csv")
    reference = manifest.reference(next(c for c in manifest.clips if c.clip_id == clip_id), "text")
    assert reference is not None
    return " ".join(decoded(load(manifest.corpus.root, reference, InputSpec("text", width=48)).values))


class TestRecordings:
    def test_film_and_sound_of_an_utterance_whose_review_has_an_underscore(self, tmp_path: Path) -> None:
        found = clips(official(tmp_path / "mosi"), tmp_path / "out")
        films, sounds = "Raw/Video/Segmented", "Raw/Audio/WAV_16000/Segmented"
        assert {name: (c.cells["video"], c.cells["audio"]) for name, c in found.items()} == {
            "-3g_5yACwYnA_1": (f"{films}/-3g_5yACwYnA_1.mp4", f"{sounds}/-3g_5yACwYnA_1.wav"),
            "-3g_5yACwYnA_2": (f"{films}/-3g_5yACwYnA_2.mp4", f"{sounds}/-3g_5yACwYnA_2.wav"),
            "_dI--eQ6qVU_10": (f"{films}/_dI--eQ6qVU_10.mp4", f"{sounds}/_dI--eQ6qVU_10.wav"),
            "Bfr4_0_3": (f"{films}/Bfr4_0_3.mp4",) * 2,
        }
        assert found["-3g_5yACwYnA_1"].subject == found["-3g_5yACwYnA_1"].group == "-3g_5yACwYnA"

    def test_the_tree_with_a_folder_per_review(self, tmp_path: Path) -> None:
        found = clips(mmsa(tmp_path / "mosi"), tmp_path / "out")
        assert (
            found["-3g_5yACwYnA_2"].cells["video"] == found["-3g_5yACwYnA_2"].cells["audio"] == "Raw/-3g_5yACwYnA/2.mp4"
        )
        assert len(found) == 4

    def test_the_mode_is_the_split(self, tmp_path: Path) -> None:
        found = clips(official(tmp_path / "mosi"), tmp_path / "out")
        assert Counter(c.split for c in found.values()) == {"train": 2, "val": 1, "test": 1}

    def test_a_sentiment_of_zero_is_no_class_unless_asked(self, tmp_path: Path) -> None:
        root = official(tmp_path / "mosi")
        found = clips(root, tmp_path / "out")
        assert [c.labels["sentiment"] for c in found.values()] == [[1.0], None, [0.0], [1.0]]
        assert [c.labels["score"] for c in found.values()] == [[2.4], [0.0], [-1.25], [1.0]]
        assert clips(root, tmp_path / "out", "--zero", "positive")["-3g_5yACwYnA_2"].labels["sentiment"] == [1.0]

    def test_words_come_from_the_table_or_else_from_the_transcripts(self, tmp_path: Path) -> None:
        clips(official(tmp_path / "mosi"), tmp_path / "out")
        assert said(tmp_path / "out", "-3g_5yACwYnA_1") == "well, I liked it"
        assert said(tmp_path / "out", "-3g_5yACwYnA_2") == "it was so so"
        assert said(tmp_path / "out", "Bfr4_0_3") == "LAST, AND LEAST"

    def test_a_recording_that_is_missing_stops_or_is_listed(self, tmp_path: Path) -> None:
        root = official(tmp_path / "mosi")
        for path in root.rglob("_dI--eQ6qVU_10.*"):
            path.unlink()
        with pytest.raises(
            UserError, match=r"label.csv, row 4: there is no recording of _dI--eQ6qVU_10.*--skip-errors"
        ):
            prepared(mosi, root, tmp_path / "out")
        assert len(clips(root, tmp_path / "out", skip=True)) == 3

    def test_words_alone_are_a_corpus_of_words(self, tmp_path: Path) -> None:
        put(tmp_path / "mosi" / "label.csv", "\n".join([HEADER, *LINES[:3]]))
        assert len(clips(tmp_path / "mosi", tmp_path / "out")) == 3
        assert "no recordings" in (tmp_path / "out" / "prepared.json").read_text()

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("#NAME?,1,x,1.0,Positive,train", r"row 6: video_id '#NAME\?'.*formula"),
            ("a,b,x,1.0,Positive,train", "row 6: clip_id 'b' is no number"),
            ("a,1,x,4,Positive,train", "row 6: label '4' is not a sentiment"),
            ("a,1,x,1,Positive,dev", "row 6: mode 'dev'"),
            ("a,1,x,,Positive,train", "row 6: label missing"),
            (LINES[0], "row 6: -3g_5yACwYnA_1 stands here for the second time"),
        ],
    )
    def test_a_wrong_row_is_named(self, tmp_path: Path, line: str, message: str) -> None:
        put(tmp_path / "mosi" / "label.csv", "\n".join([HEADER, *LINES, line]))
        with pytest.raises(UserError, match=message):
            prepared(mosi, tmp_path / "mosi", tmp_path / "out")

    def test_reviews_need_features(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="--level utterance"):
            prepared(mosi, official(tmp_path / "mosi"), tmp_path / "out", False, "--level", "review")


def pack(root: Path, name: str = "train.npz", **changes: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "text": np.arange(15, dtype=np.float32).reshape(5, 3),
        "audio": np.arange(10, dtype=np.float32).reshape(5, 2),
        "video": np.arange(20, dtype=np.float32).reshape(5, 4),
        "label": np.array([0, 1, 1, 0, 1]),
        "video_id": np.array(["-a_b"] * 3 + ["c"] * 2),
        "position": np.array([1, 3, 2, 1, 2]),
    }
    np.savez(root / name, **{k: v for k, v in (content | changes).items() if v is not None})
    return root


class TestFeatures:
    def test_each_utterance_is_a_row(self, tmp_path: Path) -> None:
        found = clips(pack(tmp_path / "mosi"), tmp_path / "out")
        assert list(found) == ["-a_b_1", "-a_b_3", "-a_b_2", "c_1", "c_2"]
        clip = found["-a_b_3"]
        assert (clip.subject, clip.split, clip.labels["sentiment"]) == ("-a_b", "train", [1.0])
        assert clip.cells["audio"] == "train.npz#audio[1]"

    def test_the_part_of_the_test_is_the_test(self, tmp_path: Path) -> None:
        pack(pack(tmp_path / "mosi"), "test_dev.npz", video_id=np.array(["d"] * 5), position=np.arange(1, 6))
        assert Counter(c.split for c in clips(tmp_path / "mosi", tmp_path / "out").values()) == {"train": 5, "test": 5}

    def test_a_review_is_a_sequence_of_utterances_in_their_order_with_a_label_each(self, tmp_path: Path) -> None:
        found = clips(pack(tmp_path / "mosi"), tmp_path / "out", "--level", "review")
        manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
        clip = found["-a_b"]
        assert (clip.start, clip.end, list(found)) == (0, 3, ["-a_b", "c"])
        reference = manifest.reference(clip, "text")
        assert reference is not None
        sampled = prepare(manifest.corpus.root, reference, FeatureEncoder(3, rate=1.0).spec, clip.start, clip.end)
        assert sampled.values[0, :, 0].tolist() == [0, 6, 3]
        path = manifest.corpus.root / manifest.resolve(clip.frame_labels)
        times, labels = read_frame_labels(path, manifest.corpus.tasks)
        assert times == [0.5, 1.5, 2.5] and labels["sentiment"] == [[0.0], [1.0], [1.0]]
        for (begin, end), time in zip(sampled.spans[0].tolist(), times, strict=True):
            assert begin < time < end

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"label": None}, "not readable, or without text, audio, video, label"),
            ({"label": np.array([0, 1, 2, 0, 1])}, "row 2: label 2 is not 0 or 1"),
            ({"label": np.array([0, 1])}, "differ in length"),
            ({"position": np.array([1, 3, 3, 1, 2])}, "-a_b_3 stands twice"),
            ({"position": np.array([1, 3, 2.5, 1, 2])}, "position holds no whole numbers"),
            ({"video_id": np.array(["../x"] * 5)}, r"row 0: video_id '\.\./x' is no id of YouTube"),
            ({"text": np.float32(1)}, r"text has 0 dimension\(s\), not 2"),
        ],
    )
    @pytest.mark.parametrize("level", ["utterance", "review"])
    def test_a_file_that_contradicts_itself_is_refused(
        self, tmp_path: Path, changes: dict[str, Any], message: str, level: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            prepared(mosi, pack(tmp_path / "mosi", **changes), tmp_path / "out", False, "--level", level)

    def test_a_bit_that_fell_over_in_a_packed_file_is_one_line(self, tmp_path: Path) -> None:
        root = pack(tmp_path / "mosi")
        with np.load(root / "train.npz") as arrays:
            np.savez_compressed(
                root / "train.npz", **{k: np.tile(v, (50,) + (1,) * (v.ndim - 1)) for k, v in arrays.items()}
            )
        raw = bytearray((root / "train.npz").read_bytes())
        raw[60:90] = b"\xff" * 30
        (root / "train.npz").write_bytes(raw)
        with pytest.raises(UserError, match="not readable, or without"):
            prepared(mosi, root, tmp_path / "out")


def test_a_root_with_both_asks_which(tmp_path: Path) -> None:
    root = official(tmp_path / "mosi")
    pack(root / "features")
    with pytest.raises(UserError, match="--form recordings or --form features"):
        prepared(mosi, root, tmp_path / "out")
    assert "features/train.npz#text[0]" in clips(root, tmp_path / "out", "--form", "features")["-a_b_1"].cells["text"]
    assert len(clips(root, tmp_path / "out", "--form", "recordings")) == 4


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("prepare", "mosi", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert "label.csv" in one_line(capsys.readouterr().err)


def test_the_twin_goes_through_both_ways(tmp_path: Path) -> None:
    assert mer("prepare", "mosi", "--synthetic", 5, "--out", tmp_path / "twin") == 0
    found = clips(tmp_path / "twin", tmp_path / "out", "--form", "recordings")
    assert len(found) == 30 and {c.split for c in found.values()} == {"train", "val", "test"}
    assert found["-3g_000_1"].cells["audio"].endswith(".mp4") and found["-3g_000_2"].cells["audio"].endswith(".wav")
    assert None in [c.labels["sentiment"] for c in found.values()]
    assert len(clips(tmp_path / "twin", tmp_path / "out", "--form", "features", "--level", "review")) == 5


@pytest.mark.real
def test_the_real_features(real_data: Path, tmp_path: Path) -> None:
    found = clips(real_data / "mosi_bclstm", tmp_path / "out")
    assert Counter(c.split for c in found.values()) == {"train": 1447, "test": 328}
    assert Counter(c.cells["sentiment"] for c in found.values() if c.split == "train") == {
        "negative": 738,
        "positive": 709,
    }
    reviews = clips(real_data / "mosi_bclstm", tmp_path / "out", "--level", "review")
    assert Counter(c.split for c in reviews.values()) == {"train": 62, "test": 15}
    assert max(c.end or 0 for c in reviews.values() if c.split == "train") == 55
    assert not {c.subject for c in reviews.values() if c.split == "train"} & {
        c.subject for c in reviews.values() if c.split == "test"
    }
