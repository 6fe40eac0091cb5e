"""Words come out of transcripts with the times that the files give them."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media.prepare import prepare
from mer.media.text import decoded, load, words
from mer.spec import InputSpec

SPEC = InputSpec("text", width=24)
SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello <i>there</i>\n\n2\n00:01:00,000 --> 00:01:01,000\n{\\an8}you\n"
VTT = (
    "WEBVTT\n\nNOTE said quietly\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.500 align:start\nHello <v Ann>there</v>\n\n"
    "first\n01:00.000 --> 01:01.000\nyou\n"
)
WHISPER = {"segments": [{"start": 1.0, "end": 2.5, "text": " Hello there"}, {"start": 60, "end": 61, "text": "you"}]}
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 61
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        intervals [1]:
            xmin = 0
            xmax = 61
            text = "HH"
    item [2]:
        class = "IntervalTier"
        name = "Words"
        intervals [1]:
            xmin = 0
            xmax = 1
            text = ""
        intervals [2]:
            xmin = 1.0
            xmax = 2.5
            text = "Hello there"
        intervals [3]:
            xmin = 60.0
            xmax = 61.0
            text = "you"
"""
SEGMENTS = {
    "a.srt": SRT,
    "a.vtt": VTT,
    "a.json": json.dumps(WHISPER),
    "b.json": json.dumps(
        {"chunks": [{"timestamp": [s["start"], s["end"]], "text": s["text"]} for s in WHISPER["segments"]]}
    ),
    "a.csv": "start,end,text\n1.0,2.5,Hello there\n0:01:00,0:01:01,you\n",
    "a.tsv": "Text\tStart_Time\tEnd_Time\nHello there\t1.0\t2.5\nyou\t60\t61\n",
    "a.TextGrid": TEXTGRID,
}


def read(folder: Path, name: str, content: str | bytes, *args: float | None, spec: InputSpec = SPEC):  # type: ignore[no-untyped-def]
    path = folder / name.partition("#")[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    stream = load(folder, name, spec, *args)
    return list(zip(decoded(stream.values), [tuple(s) for s in stream.spans.tolist()], strict=True))


@pytest.mark.parametrize("name", SEGMENTS)
def test_words_of_a_segment_share_its_time(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, name, SEGMENTS[name])
    assert found == [("Hello", (1.0, 2.5)), ("there", (1.0, 2.5)), ("you", (60.0, 61.0))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ctm", ";; made by hand\nrec 1 1.0 0.5 Hello 0.9\nrec 1 1.5 1.0 there\n"),
        ("a.csv", "word;start;end\nHello;1.0;1.5\nthere;1.5;2.5\n"),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.500\nHello <00:01.500><c>there</c>\n"),
        (
            "a.json",
            json.dumps(
                {"segments": [{"start": 1, "end": 2.5, "text": "Hello there", "words": [
                    {"word": " Hello", "start": 1.0, "end": 1.5}, {"word": " there", "start": 1.5, "end": 2.5}]}]}
            ),
        ),
    ],
)  # fmt: skip
def test_words_with_times_of_their_own_keep_them(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, name, content) == [("Hello", (1.0, 1.5)), ("there", (1.5, 2.5))]


def test_a_segment_one_word_of_which_has_no_time_is_taken_as_a_segment(tmp_path: Path) -> None:
    timed = [{"word": "in", "start": 1.0, "end": 1.1}, {"word": "1984"}]
    content = json.dumps([{"start": 1.0, "end": 2.0, "text": "in 1984", "words": timed}])
    assert read(tmp_path, "a.json", content) == [("in", (1.0, 2.0)), ("1984", (1.0, 2.0))]


def test_text_without_times_stands_for_the_clip(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "so it is", 2.0, 8.0) == [(w, (2.0, 8.0)) for w in ("so", "it", "is")]
    assert read(tmp_path, "a.txt", "so", 2.0) == [("so", (2.0, 3.0))]
    table = "clip,text\nx,good morning\ny,bye\n"
    assert read(tmp_path, "t.csv#text[1]", table, 0.0, 4.0) == [("bye", (0.0, 4.0))]


def test_a_word_belongs_to_the_stretch_that_its_middle_lies_in(tmp_path: Path) -> None:
    assert [w for w, _ in read(tmp_path, "a.srt", SRT, 0.0, 2.0)] == ["Hello", "there"]
    assert [w for w, _ in read(tmp_path, "a.srt", SRT, 1.8, 60.5)] == []
    assert [w for w, _ in read(tmp_path, "a.srt", SRT, 1.8)] == ["you"]


def test_a_stretch_where_nothing_is_said_is_an_absent_modality(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(SRT)
    assert not prepare(tmp_path, "a.srt", SPEC, 10.0, 20.0).present.any()
    spoken = prepare(tmp_path, "a.srt", SPEC)
    assert spoken.values.shape == (1, 3, 24)
    assert spoken.values.numpy().dtype == np.uint8


def test_a_last_segment_without_an_end_reaches_to_that_of_the_stretch(tmp_path: Path) -> None:
    """The pipeline of transformers leaves it open where the sound stops within a sentence."""
    content = json.dumps({"chunks": [{"timestamp": [1.0, None], "text": "so it"}]})
    assert read(tmp_path, "a.json", content, 0.0, 4.0) == [("so", (1.0, 4.0)), ("it", (1.0, 4.0))]
    assert read(tmp_path, "a.json", content) == [("so", (1.0, 2.0)), ("it", (1.0, 2.0))]


def test_milliseconds_are_said_by_the_headings(tmp_path: Path) -> None:
    assert read(tmp_path, "a.tsv", "start_ms\tend_ms\ttext\n1000\t2500\tHello\n") == [("Hello", (1.0, 2.5))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n" + "<" * 200_000),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n" + "{\\" * 100_000),
        ("a.TextGrid", 'item [1]:\nxmin = 1\nxmax = 2\ntext = "' + "x" * 2_000_000 + '"'),
    ],
)
def test_time_and_memory_grow_with_the_file_and_not_faster(tmp_path: Path, name: str, content: str) -> None:
    tracemalloc.start()
    begun = time.process_time()
    try:
        assert len(read(tmp_path, name, content)) == 1
        assert time.process_time() - begun < 5  # by the square: half a minute
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content) + (1 << 20)
    finally:
        tracemalloc.stop()


def test_writing_without_spaces_is_cut_into_characters(tmp_path: Path) -> None:
    assert words("我今天很happy。 ok 감사 합니다") == [*"我今天很", "happy", "。", "ok", "감사", "합니다"]
    assert read(tmp_path, "a.txt", "你好".encode("utf-16"), 0.0, 1.0) == [("你", (0.0, 1.0)), ("好", (0.0, 1.0))]


def test_a_word_is_cut_between_characters(tmp_path: Path) -> None:
    narrow = InputSpec("text", width=4)
    assert [w for w, _ in read(tmp_path, "a.txt", "größer abcdef", 0.0, 1.0, spec=narrow)] == ["grö", "abcd"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", "x", "not a kind of text file"),
        ("a.json", "{", r"not a readable \.json"),
        ("a.json", '{"text": "x"}', "no list of segments"),
        ("a.csv", "a,b\n1,2\n", "headings a, b"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "start,end,text\n1,2,Hello, world\n", "line 2: 4 cells under 3 headings"),
        ("t.csv#text[0]", "text\nHello, world\n", "line 2: 2 cells under 1 headings"),
        ("a.csv", "start,end,text\n1,2,so\n3\n", "could not convert"),
        ("a.tsv", "start\tend\ttext\n1000\t2500\tHello\n", "Whisper counts milliseconds"),
        ("a.json", json.dumps([{"start": 1, "end": 10**400, "text": "a"}]), "too large"),
        ("a.srt", "1\n00:xx --> 00:02\nHello\n", "is not a pair of times"),
        ("a.TextGrid", "nothing", "no tiers"),
        ("a.ctm", "one two\n", r"not a readable \.ctm"),
        ("a.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("t.csv#words[0]", "clip,text\nx,hi\n", "no column 'words'"),
        ("t.csv#text[3]", "clip,text\nx,hi\n", "row 3 of 1"),
        ("t.csv#text", "clip,text\nx,hi\n", "no row"),
        ("t.srt#text[0]", SRT, "only tables have columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, content)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path, "a.srt", SPEC)
