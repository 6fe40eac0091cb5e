"""A recording read stretch by stretch gives what reading it whole gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from media_files import RATE, grey, tone, write

from mer.datasets.source import between
from mer.errors import UserError
from mer.inference.recording import Recording
from mer.media.guard import examined
from mer.media.pick import pick
from mer.media.prepare import prepare
from mer.spec import InputSpec

SPECS = {"face": InputSpec("video", rate=5, size=(16, 16)), "voice": InputSpec("audio", rate=RATE)}
COUNTED = InputSpec("video", size=(16, 16), segments=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of picture, sound for the first one and a half."""
    return write(tmp_path_factory.mktemp("recording") / "clip.mp4", grey(100), tone(1.5))


def recording(clip: Path, specs=SPECS, start: float = 0.0, end: float | None = None, **inputs: str) -> Recording:
    return Recording(clip, examined(clip), specs, start, end, inputs)


def test_stretches_are_parts_of_the_whole(clip: Path) -> None:
    whole = recording(clip).read(0.0, 4.0, []).whole
    late = recording(clip).read(1.0, 3.0, [(1.0, 2.0), (2.0, 3.0)])
    expected = between(whole["face"], 1.0, 3.0)
    assert (late.whole["face"].values == expected.values).all()
    torch.testing.assert_close(late.whole["face"].spans, expected.spans)
    assert [set(part) for part in late.parts] == [{"face", "voice"}, {"face"}], "there is no sound after 1.5 s"


def test_a_fixed_number_of_frames_is_chosen_in_each_window(clip: Path) -> None:
    stretch = recording(clip, {"face": COUNTED}).read(0.0, 4.0, [(0.0, 1.0), (0.5, 1.5)])
    assert (stretch.parts[0]["face"].values == prepare(clip.parent, clip.name, COUNTED, 0.0, 1.0).values).all()
    spans = stretch.parts[1]["face"].spans[0]
    assert spans.shape == (4, 2)
    assert float(spans.min()) >= 0.46
    assert float(spans.max()) <= 1.54
    assert stretch.whole["face"].mask.shape == (1, 4)
    assert (
        stretch.whole["face"].values == pick(prepare(clip.parent, clip.name, COUNTED.dense()), COUNTED).values
    ).all()


def test_what_was_found_nowhere_is_absent_and_says_why(tmp_path: Path) -> None:
    silent = recording(write(tmp_path / "silent.mp4", grey(25)))
    silent.read(0.0, 1.0, [])
    silent.finish()
    assert silent.used == ["face"]
    assert "no sound" in silent.absent["voice"]


def test_sound_that_ends_early_was_used_nevertheless(clip: Path) -> None:
    read = recording(clip)
    read.read(0.0, 2.0, [])
    read.read(2.0, 4.0, [])
    read.finish()
    assert read.used == ["face", "voice"]
    assert not read.absent


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", grey(25))
    with pytest.raises(UserError, match="nothing the model can read"):
        recording(silent, {"voice": SPECS["voice"]})


def test_another_file_can_stand_for_a_modality(clip: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.mp4", grey(100)[::-1])
    given = recording(clip, face=str(other)).read(0.0, 1.0, []).whole["face"]
    assert (given.values == prepare(tmp_path, "other.mp4", SPECS["face"], 0.0, 1.0).values).all()


def test_the_length_of_a_file_that_does_not_say(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", grey(50))
    raw = tmp_path / "clip.mpeg"
    write(raw, grey(50), video_codec="mpeg1video")
    assert recording(path, {"face": SPECS["face"]}).stop == pytest.approx(2.0)
    assert recording(raw, {"face": SPECS["face"]}).stop == pytest.approx(2.0, abs=0.1)
