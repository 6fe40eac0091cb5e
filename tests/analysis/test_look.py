"""`mer look`: a page per clip, whatever the clip lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import grey, not_media, tone, write

from mer.analysis.look import look
from mer.cli import main
from mer.media.video import presentation_times
from mer.spec import Face


def pages(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_page_for_each_clip_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = tmp_path / "clips"
    (clips / "again").mkdir(parents=True)
    write(clips / "both.mp4", grey(30), tone(1.2))
    write(clips / "silent.mp4", grey(30))
    write(clips / "sound.mp4", wave=tone(1.0))
    write(clips / "again" / "both.mp4", grey(1))
    assert main(["look", str(clips), "--out", str(tmp_path / "out")]) == 0
    assert pages(tmp_path / "out") == ["both-2_look.png", "both_look.png", "silent_look.png", "sound_look.png"]
    assert all((tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG" for name in pages(tmp_path / "out"))


def test_what_was_seen(tmp_path: Path) -> None:
    pictures = np.full((50, 120, 160, 3), 90, np.uint8)
    for k in range(50):
        pictures[k, 40:80, 10 + 2 * k : 50 + 2 * k] = np.random.default_rng(0).integers(0, 255, (40, 40, 1))
    seen = look(write(tmp_path / "clip.mp4", pictures, tone(2.0)), Face(), rate=12.5, skeleton=None)
    assert seen.end == pytest.approx(2.0, abs=0.1)
    assert [shown.time for shown in seen.shown] == sorted({s.time for s in seen.shown})
    assert set(np.round([s.time for s in seen.shown], 6)) <= set(np.round(presentation_times(tmp_path / "clip.mp4"), 6))
    assert len(seen.motion) >= 24
    assert seen.skeleton == "not asked for"
    assert not seen.path, "there is no face"
    assert len(seen.speech) <= 1


def test_flow_is_over_equal_times(tmp_path: Path) -> None:
    """Shown pictures are some of those that are looked at, at 25 frames per second and a rate of 5 every fifth."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 260, 1), np.uint8)
    pictures = np.repeat(np.stack([noise[:, 2 * k : 2 * k + 160] for k in range(50)]), 3, axis=3)  # 50 pixels a second
    seen = look(write(tmp_path / "clip.mp4", pictures), Face(), rate=5, skeleton=None)
    looked = [time for time, _ in seen.motion]
    assert np.diff(looked) == pytest.approx(0.2)
    assert {shown.time for shown in seen.shown} <= {0.08, *looked}
    assert np.median([speed for _, speed in seen.motion]) == pytest.approx(100, rel=0.15), "at twice the size"


@pytest.mark.parametrize("shape", [(2, 2), (1000, 16), (16, 1000)])
def test_pictures_of_any_shape(shape: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "strip.mp4", grey(10, *shape))
    assert main(["look", str(path), "--out", str(tmp_path / "out")]) == 0
    assert pages(tmp_path / "out") == ["strip_look.png"]


def test_bad_files_are_lines_among_good_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = not_media(tmp_path)
    good = write(tmp_path / "good.mp4", grey(10))
    assert main(["look", *map(str, bad.values()), str(good), "--out", str(tmp_path / "out")]) == 1
    assert pages(tmp_path / "out") == ["good_look.png"]
    shown = capsys.readouterr()
    assert all(path.name in shown.out + shown.err for path in bad.values())
    assert main(["look", str(bad["text"]), "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("wrong", [["--rate", "0"], ["--rate", "nan"]])
def test_a_rate_that_makes_no_sense(tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", str(write(tmp_path / "clip.mp4", grey(10))), *wrong]) == 2
    assert "--rate" in capsys.readouterr().err


def test_speech_by_a_network_that_is_not_installed_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    clip = write(tmp_path / "clip.mp4", wave=tone(1.0))
    assert main(["look", str(clip), "--speech", "silero", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "'vad'" in shown.out + shown.err
