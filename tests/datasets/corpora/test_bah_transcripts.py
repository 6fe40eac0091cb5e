"""Whisper's times in BAH begin anew every 30 s; what is written for the encoders has one clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mer.datasets.corpora import bah_transcripts
from mer.datasets.corpora.bah_transcripts import Chunk, monotone
from mer.errors import UserError
from mer.media import text
from mer.spec import InputSpec


def chunks(*times: tuple[float | None, float | None]) -> list[Chunk]:
    return [Chunk(f"w{i}", *time) for i, time in enumerate(times)]


def spans(mended: list[Chunk]) -> list[tuple[float | None, float | None]]:
    return [(c.start, c.end) for c in mended]


def test_times_that_begin_anew_go_on_where_they_were() -> None:
    mended = monotone(chunks((0, 10), (12, 20), (25, 30), (0, 7), (8, 12)), 42.0)
    assert spans(mended) == [(0, 10), (12, 20), (25, 30), (30, 37), (38, 42)]


def test_they_begin_anew_more_than_once() -> None:
    mended = monotone(chunks((0, 29), (0, 28), (0, 4)), None)
    assert spans(mended) == [(0, 29), (29, 57), (57, 61)]


def test_a_start_little_below_the_end_before_is_an_overlap() -> None:
    assert spans(monotone(chunks((0, 5), (4.2, 8)), None)) == [(0, 5), (4.2, 8)]


def test_the_last_end_is_that_of_the_clip() -> None:
    assert spans(monotone(chunks((0, 5), (6, None)), 9.5)) == [(0, 5), (6, 9.5)]
    assert spans(monotone(chunks((0, 5), (6, None)), None)) == [(0, 5), (6, None)]


def test_an_end_that_is_missing_within_does_not_look_like_a_new_count() -> None:
    assert spans(monotone(chunks((25, None), (27, 29)), None)) == [(25, 27), (27, 29)]
    assert spans(monotone(chunks((25, None), (0, 4)), None)) == [(25, 30), (30, 34)]


def test_the_tuples_of_python_are_read_and_nothing_else_of_it(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text(
        "chunks:\n- language: english\n  text: ' Well, so'\n  timestamp: !!python/tuple\n  - 0.0\n  - null\ntext: Well, so\n"
    )
    assert bah_transcripts.read(file) == ((Chunk("Well, so", 0.0, None),), "Well, so")
    file.write_text("text: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match=r"a.yml: not readable as YAML .*os.getcwd"):
        bah_transcripts.read(file)
    file.write_text("chunks: [{text: so, timestamp: [soon, later]}]\n")
    with pytest.raises(UserError, match="'soon' is no time"):
        bah_transcripts.read(file)


def test_what_is_written_is_what_the_encoder_hears(tmp_path: Path) -> None:
    assert bah_transcripts.write(tmp_path / "t.json", chunks((0, 30), (0, None)), "", 40.0)
    heard = text.load(tmp_path, "t.json", InputSpec("text", width=8), 0.0, 40.0)
    assert text.decoded(heard.values) == ["w0", "w1"]
    assert heard.spans.tolist() == [[0, 30], [30, 40]]


def test_a_text_without_times_stands_for_the_clip_and_no_text_for_nothing(tmp_path: Path) -> None:
    assert bah_transcripts.write(tmp_path / "t.json", (), "Yes, well, no", None)
    heard = text.load(tmp_path, "t.json", InputSpec("text", width=8), 0.0, 6.0)
    assert heard.spans.tolist() == [[0, 6]] * 3
    assert not bah_transcripts.write(tmp_path / "none.json", (), "  ", 3.0)
    assert not (tmp_path / "none.json").exists()
    assert json.loads((tmp_path / "t.json").read_text())["segments"][0]["text"] == "Yes, well, no"
