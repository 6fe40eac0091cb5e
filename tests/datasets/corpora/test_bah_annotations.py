"""The large annotation file: read once, whatever its style, in little memory, and kept without pickle."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mer.datasets.corpora import bah_annotations
from mer.datasets.corpora.bah_annotations import parse, read
from mer.errors import UserError

A = "Videos/82553/Visite_1/82553_Question_1_2024-08-22_12-11-55_Video.mp4"
B = "Videos/82567/Visite_1/82567_Question_4_2024-10-02 15-46-17_Video.mp4"
KEY_A, KEY_B = "82553_Question_1_2024-08-22_12-11-55_Video", "82567_Question_4_2024-10-02_15-46-17_Video"


def annotated(name: str, frames: int = 12, **changes: Any) -> dict[str, Any]:
    cue = {"audio": ["Pause", "Slow"], "body": None, "facial": "Gaze", "inconsistencies": None, "language": None}
    return {
        "all_cues": [cue, dict.fromkeys(cue)],
        "annotator_id": "MGG",
        "certainty_ah": [1, 2],
        "fr_detailed_ah": [[3, 5], [9, 10]],
        "frame_annotation": [[f"{name}/frame-{k}.jpg", int(3 <= k <= 5)] for k in range(frames)],
        "global_ah": 1,
        "time_detailed_ah": [["00:01:02.125", "00:01:03.000"], [70, 71.5]],
        "transcript": {
            "chunks": [{"language": "english", "text": " so, yes", "timestamp": (0.0, 2.0)}],
            "text": "so, yes",
        },
    } | changes


def write(path: Path, content: object, **style: Any) -> Path:
    path.write_text(yaml.dump(content, **style), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "video_annotation_transcript.yaml", {A: annotated(A), B: annotated(B, 5)})


def check(found: dict[str, bah_annotations.Annotation]) -> None:
    assert list(found) == [KEY_A, KEY_B]
    first = found[KEY_A]
    assert (first.present, first.annotator, first.certainty, first.spelling) == (1, "MGG", ("1", "2"), A)
    assert first.segments == ((62.125, 63.0), (70.0, 71.5))
    assert first.cues == ({"audio": ["Pause", "Slow"], "facial": ["Gaze"]}, {})
    assert [(c.text, c.start, c.end) for c in first.chunks] == [("so, yes", 0.0, 2.0)]
    assert first.frames is not None and found[KEY_B].frames is not None
    assert first.frames.number.tolist() == list(range(12))
    assert np.flatnonzero(first.frames.present).tolist() == [3, 4, 5]
    assert len(found[KEY_B].frames.number) == 5


@pytest.mark.parametrize(
    "style",
    [{}, {"default_flow_style": True}, {"default_style": '"'}, {"width": 40}, {"indent": 6}, {"line_break": "\r\n"}],
    ids=str,
)
def test_every_style_of_yaml_says_the_same(tmp_path: Path, style: dict[str, Any]) -> None:
    path = tmp_path / "annotation.yml"
    path.write_bytes(yaml.dump({A: annotated(A), B: annotated(B, 5)}, **style).encode())
    check(parse(path))


def test_frames_do_not_go_through_the_parser(file: Path) -> None:
    rest, frames = bah_annotations._without_frames(file.read_bytes(), file)
    assert set(frames) == {KEY_A, KEY_B}
    assert b"frame-" not in rest and b"global_ah" in rest


def test_anchors_between_videos_are_followed(tmp_path: Path) -> None:
    shared = annotated(A)["all_cues"]
    path = write(tmp_path / "annotation.yml", {A: annotated(A, all_cues=shared), B: annotated(B, 5, all_cues=shared)})
    assert "*id001" in path.read_text()
    check(parse(path))


def test_frames_are_ordered_by_number_whatever_their_order(tmp_path: Path) -> None:
    frames = [[f"{A}/frame-{k}.jpg", k % 2] for k in sorted(range(12), key=str)]
    found = parse(write(tmp_path / "a.yml", {A: annotated(A, frame_annotation=frames)}))[KEY_A].frames
    assert found is not None
    assert found.number.tolist() == list(range(12)) and found.present.tolist() == [0, 1] * 6


def test_it_is_parsed_once_and_again_when_it_changed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = tmp_path / "kept.npz"
    check(read(file, keep))
    monkeypatch.setattr(bah_annotations, "parse", lambda path: pytest.fail("parsed twice"))
    check(read(file, keep))
    with np.load(keep, allow_pickle=False) as arrays:
        assert all(array.dtype.kind != "O" for array in arrays.values())
    monkeypatch.undo()
    state = file.stat()
    write(file, {A: annotated(A, global_ah=0, fr_detailed_ah=[], time_detailed_ah=[])})
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert read(file, keep)[KEY_A].present == 0
    keep.write_bytes(b"junk")
    assert list(read(file, keep)) == [KEY_A]


def test_a_file_of_megabytes_takes_a_moment(tmp_path: Path) -> None:
    import time

    block = yaml.dump({"V": annotated("V", 640)})
    names = [A.replace("82553", str(90000 + i)) for i in range(100)]
    path = tmp_path / "video_annotation_transcript.yaml"
    path.write_text("".join(block.replace("V/frame", f"{n}/frame").replace("V:", f"{n}:", 1) for n in names))
    assert path.stat().st_size > 5e6
    begin = time.perf_counter()
    assert sum(len(a.frames.number) for a in parse(path).values() if a.frames) == 64000
    assert time.perf_counter() - begin < 5  # a tenth of a second where nothing else runs; the parser alone takes two


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({A: annotated(A, global_ah=2)}, "global_ah is '2'"),
        ({A: annotated(A, global_ah=True)}, "global_ah is 'True'"),
        ({A: annotated(A, time_detailed_ah=[["soon", 3]])}, "could not convert string"),
        ({A: annotated(A, all_cues=[{"audio": [["deep"]]}])}, "a cue is a word"),
        ({A: annotated(A), A.replace("08-22_", "08-22 "): annotated(A)}, "two lists of frames of"),
        ({A: annotated(A, frame_annotation=[]), A[7:]: annotated(A, frame_annotation=[])}, "the same video as"),
        ({A: annotated(B)}, "stand under another video"),
        ({A: annotated(A, frame_annotation=[[f"{A}/frame-1.jpg", 0], [f"{A}/frame-1.jpg", 1]])}, "labels 0 and 1"),
        ({A: annotated(A, frame_annotation=[[f"{B}/frame-1.jpg", "x"]])}, "frame_annotation holds"),
        ({A: ["no", "fields"]}, "no mapping of fields"),
        ({"holiday.mp4": {}}, "'holiday.mp4' is no video of BAH"),
        (["no", "videos"], "no video by name"),
    ],
)
def test_contradictions_name_the_file_and_the_video(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path / "annotation.yml", content)
    with pytest.raises(UserError, match=message) as caught:
        parse(path)
    assert "annotation.yml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 2000,
        f"{A}: !!python/object/apply:os.system [ls]\n",
        f"{A}:\n  global_ah: 1\n {B}: [\n",
        "\x00\x01",
        "",
        f"{A}: *nobody\n",
    ],
)
def test_a_file_that_means_harm_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "annotation.yml"
    path.write_text(textwrap.dedent(text))
    with pytest.raises(UserError):
        parse(path)
