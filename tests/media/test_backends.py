"""Whatever the file, the frames are those that the ffmpeg program shows; a backend that cannot do that refuses."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media_files import grey, with_matrix, write

from media.hard_files import MORE, NINE, Reference, ffmpeg, more, moving, nine, programs, reference, words
from mer.errors import UserError
from mer.media import video
from mer.media.frame import Frame
from mer.media.identity import identity
from mer.spec import InputSpec

pytestmark = pytest.mark.skipif(not programs(), reason="no ffmpeg program: install the extra 'test'")

# What the optional backends must not touch, and the word that says why.
REFUSED = {
    "decord": {
        **{
            "open.mp4": "open groups",
            "edit.mp4": "open groups",
            "xvid.avi": "open groups",
            "broadcast.ts": "container",
        },
        **{"cut.mp4": "breaks off", "cut.mkv": "breaks off", "cut_pieces.mp4": "breaks off", "hevc.mp4": "open groups"},
        **{"hidden.webm": "without a picture", "bare.h264": "container", "part2.mp4": "open groups"},
        **{"moving.gif": "container", "alpha.mov": "bits per colour", "ten.mp4": "bits per colour"},
    },
    "torchcodec": {
        **{"edit.mp4": "edit list", "xvid.avi": "container", "broadcast.ts": "container", "cut.mp4": "breaks off"},
        **{"cut.mkv": "breaks off", "cut_pieces.mp4": "breaks off", "hidden.webm": "without a picture"},
        **{"bare.h264": "container", "part2.mp4": "no picture", "moving.gif": "container"},
        **{"alpha.mov": "bits per colour", "ten.mp4": "bits per colour"},
    },
}
OPTIONAL = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}"))
    for name in REFUSED
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hard")
    return nine(folder) | more(folder)


class Shown:
    """A sequence that was read: pictures, times and ends."""

    def __init__(self, frames: Iterator[Frame]):
        self.numbers, self.times, self.ends, self.pictures = [], [], [], []
        for frame in frames:
            self.numbers.append(frame.index)
            self.times.append(frame.time)
            self.ends.append(frame.until)
            self.pictures.append(frame.rgb())


@pytest.fixture(scope="module")
def read(files: dict[str, Path]) -> dict[str, Shown]:
    """Every file from the beginning, with PyAV."""
    return {name: Shown(video.frames(path, backend="pyav")) for name, path in files.items()}


@pytest.fixture(scope="module", params=programs(), ids=lambda path: Path(path).name)
def shown(request: pytest.FixtureRequest, files: dict[str, Path]) -> dict[str, Reference]:
    """Every file as an ffmpeg program shows it."""
    return {name: reference(request.param, path) for name, path in files.items()}


@pytest.fixture
def always_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "NEAR", 0.0)


@pytest.mark.parametrize("name", [*NINE, *MORE])
def test_frames_are_those_of_ffmpeg(name: str, read: dict[str, Shown], shown: dict[str, Reference]) -> None:
    ours, theirs = read[name], shown[name]
    assert len(ours.pictures) == len(theirs.frames)
    assert ours.numbers == list(range(len(theirs.frames)))
    error = np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in zip(ours.pictures, theirs.frames, strict=True)])
    if name == "scratched.mkv":  # versions conceal damage differently
        assert (error < 1).mean() > 0.7
        return
    assert error.max() < (1 if name == "ten.mp4" else 1e-9)
    for k in np.flatnonzero(error):  # where colours are converted in another way, it still is this frame and no other
        near = theirs.frames[max(0, k - 3) : k + 4]
        assert min(np.abs(ours.pictures[k].astype(np.int16) - other).mean() for other in near) == error[k]


@pytest.mark.parametrize("name", [*NINE, *MORE])
def test_times_are_those_of_ffmpeg(name: str, read: dict[str, Shown], shown: dict[str, Reference]) -> None:
    ours = np.array(read[name].times)
    if name != "bare.h264":  # ffmpeg gives times to a stream that has none in its own way
        np.testing.assert_allclose(ours, shown[name].times, atol=1e-3)
    assert (np.diff(ours) > 0).all()
    assert read[name].ends[:-1] == read[name].times[1:]
    assert read[name].ends[-1] > read[name].times[-1]


@pytest.mark.parametrize("name", [*NINE, *MORE])
def test_presentation_times_are_exactly_those_of_the_frames(
    name: str, files: dict[str, Path], read: dict[str, Shown]
) -> None:
    times = video.presentation_times(files[name])
    assert times.dtype == np.float64
    if name == "scratched.mkv":
        assert set(read[name].times) <= set(times)
    else:
        assert times.tolist() == read[name].times


def at_random_places(path: Path, whole: Shown, backend: str, count: int = 12) -> None:
    """Stretches from anywhere hold the same frames as the whole, with the same numbers and times."""
    rng = np.random.default_rng(1)
    exact = whole.times[len(whole.times) // 2]  # a start that falls on a frame's own time
    for start in [exact, whole.times[-1], *rng.uniform(whole.times[0], whole.ends[-1], count)]:
        part = Shown(video.frames(path, float(start), float(start) + 0.2, backend=backend))
        wanted = [
            k for k, (a, b) in enumerate(zip(whole.times, whole.ends, strict=True)) if b > start and a < start + 0.2
        ]
        assert [whole.times.index(time) for time in part.times] == wanted
        assert part.ends == pytest.approx([whole.ends[k] for k in wanted], abs=1e-9)
        assert part.numbers == [whole.numbers[k] for k in wanted]
        for k, picture in zip(wanted, part.pictures, strict=True):
            np.testing.assert_array_equal(picture, whole.pictures[k])


@pytest.mark.usefixtures("always_seek")
@pytest.mark.parametrize("name", [n for n in (*NINE, *MORE) if n != "scratched.mkv"])
def test_a_stretch_from_anywhere_holds_the_same_frames(
    name: str, files: dict[str, Path], read: dict[str, Shown]
) -> None:
    at_random_places(files[name], read[name], "pyav")


@pytest.mark.usefixtures("always_seek")
@pytest.mark.parametrize("name", ["closed.mp4", "open.mp4", "edit.mp4", "vfr.mp4", "vp8.webm", "turned.mp4", "cut.mp4"])
def test_a_late_start_does_not_decode_from_the_beginning(
    name: str, files: dict[str, Path], read: dict[str, Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_from_beginning", lambda path: pytest.fail("decoded from the beginning"))
    late = read[name].times[-2]
    assert [frame.index for frame in video.frames(files[name], late)] == read[name].numbers[-2:]


@pytest.mark.parametrize("name", [*NINE, *MORE])
def test_frames_at_some_moments_are_those_on_screen_then(
    name: str, files: dict[str, Path], read: dict[str, Shown]
) -> None:
    whole, rng = read[name], np.random.default_rng(2)
    for count in (1, 3, 16):
        moments = np.sort(rng.uniform(whole.times[0] - 0.1, whole.ends[-1], count))
        moments[-1] = whole.times[-1]
        moments = np.append(moments, whole.ends[-1] + 1)  # nothing is shown then
        wanted = sorted(
            {max(0, int(np.searchsorted(whole.times, moment, side="right")) - 1) for moment in moments[:-1]}
        )
        part = Shown(video.frames_at(files[name], moments.tolist()))
        assert part.times == [whole.times[k] for k in wanted]
        assert part.ends == pytest.approx([whole.ends[k] for k in wanted], abs=1e-9)
        for k, picture in zip(wanted, part.pictures, strict=True):
            np.testing.assert_array_equal(picture, whole.pictures[k])
        if name != "scratched.mkv":  # a picture that does not decode has a number all the same where one seeks
            assert part.numbers == wanted


def test_a_frame_is_given_once_where_its_successors_do_not_decode(
    files: dict[str, Path], read: dict[str, Shown]
) -> None:
    every = video.presentation_times(files["scratched.mkv"])
    part = Shown(video.frames_at(files["scratched.mkv"], every.tolist()))
    assert part.times == read["scratched.mkv"].times


def test_no_moment_no_frame(files: dict[str, Path]) -> None:
    assert list(video.frames_at(files["closed.mp4"], [])) == []
    assert list(video.frames_at(files["closed.mp4"], [100.0])) == []
    assert list(video.frames_at(files["xvid.avi"], [100.0])) == []


@pytest.mark.usefixtures("always_seek")
def test_a_key_picture_that_leads_astray_is_not_followed(
    files: dict[str, Path], read: dict[str, Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = video._ways
    monkeypatch.setattr(video, "_ways", lambda *about: [(key, place + 51_200) for key, place in ways(*about)])
    part = Shown(video.frames(files["closed.mp4"], 3.0, 3.2))
    assert part.numbers == [75, 76, 77, 78, 79]
    np.testing.assert_array_equal(part.pictures[0], read["closed.mp4"].pictures[75])
    assert [frame.index for frame in video.frames_at(files["closed.mp4"], [0.5, 3.0, 4.0])] == [12, 75, 100]


@pytest.mark.usefixtures("always_seek")
def test_behind_damage_in_the_middle_all_frames_come_again(files: dict[str, Path], read: dict[str, Shown]) -> None:
    whole = read["scratched.mkv"]
    assert whole.times[-1] == pytest.approx(3.96, abs=1e-3)
    assert len(whole.times) > 80
    part = Shown(video.frames(files["scratched.mkv"], 3.5))
    assert part.times == whole.times[-len(part.times) :]
    np.testing.assert_array_equal(part.pictures[-1], whole.pictures[-1])


def test_joined_broadcasts_go_on_in_time(files: dict[str, Path], tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    joined.write_bytes(files["broadcast.ts"].read_bytes() * 2)
    times = video.presentation_times(joined)
    assert len(times) == 400
    assert (np.diff(times) > 0).all()
    assert np.median(np.diff(times)) == pytest.approx(0.04)
    assert times[-1] == pytest.approx(16, abs=0.3)


def test_a_clock_rises_whatever_the_file_says() -> None:
    container = SimpleNamespace(start_time=None)
    stream = SimpleNamespace(average_rate=None, guessed_rate=Fraction(0), time_base=Fraction(1, 100))

    def times(*stamps: int | None) -> list[float]:
        clock = video.Clock(container, stream)
        return [clock.shown(0, SimpleNamespace(pts=stamp, duration=0)).time for stamp in stamps]

    assert times(None, None, None) == pytest.approx([0, 0.04, 0.08])
    assert times(10, None, 30) == pytest.approx([0.1, 0.14, 0.3])
    assert times(0, 8, 4, 12) == pytest.approx([0, 0.08, 0.081, 0.12])
    assert times(0, 5, 5, 10) == pytest.approx([0, 0.05, 0.051, 0.1])
    assert times(500, 504, 0, 4) == pytest.approx([5, 5.04, 5.08, 5.12])


@pytest.mark.parametrize("backend", OPTIONAL)
@pytest.mark.parametrize("name", [*NINE, *MORE])
def test_an_optional_backend_gives_the_same_frames_or_refuses(
    backend: str, name: str, files: dict[str, Path], read: dict[str, Shown]
) -> None:
    path, whole = files[name], read[name]
    if name in REFUSED[backend]:
        with pytest.raises(UserError, match=REFUSED[backend][name]) as caught:
            video.frames(path, backend=backend)
        assert str(path) in caught.value.problem
        assert backend in caught.value.problem
        assert "pyav" in caught.value.remedy
        return
    part = Shown(video.frames(path, backend=backend))
    assert part.numbers == whole.numbers
    assert part.times == whole.times
    for a, b in zip(part.pictures, whole.pictures, strict=True):
        np.testing.assert_array_equal(a, b)
    at_random_places(path, whole, backend, 6)


@pytest.mark.parametrize("backend", OPTIONAL)
def test_an_optional_backend_refuses_mirrored_pictures(backend: str, tmp_path: Path) -> None:
    path = with_matrix(write(tmp_path / "mirror.mp4", grey(3)), (-1, 0, 0, 1))
    with pytest.raises(UserError, match="mirrored"):
        video.frames(path, backend=backend)


@pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="no decord")
def test_decord_is_refused_where_it_gives_four_colours(tmp_path: Path) -> None:
    path = with_matrix(write(tmp_path / "turned.mp4", grey(3)), (0, 1, -1, 0))
    with pytest.raises(UserError, match="4 colours"):
        video.frames(path, backend="decord")


@pytest.mark.parametrize("backend", OPTIONAL)
def test_the_environment_chooses_the_backend(
    backend: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(video.BACKEND, backend)
    assert [frame.index for frame in video.frames(files["closed.mp4"], 2.0, 2.1)] == [50, 51, 52]
    with pytest.raises(UserError, match=f"{backend} does not read this file exactly"):
        video.frames(files["cut.mp4"])


def test_another_reader_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = InputSpec("video", rate=5, size=(32, 32))
    plain, sound = identity(spec), identity(InputSpec("audio", rate=16000))
    monkeypatch.setenv(video.BACKEND, "decord")
    assert "decord" in identity(spec)
    assert plain != identity(spec)
    assert sound == identity(InputSpec("audio", rate=16000))


def test_an_unknown_or_missing_backend_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no video backend 'opencv'"):
        video.frames(files["closed.mp4"], backend="opencv")
    for name in REFUSED:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.decoders", None)
        with pytest.raises(UserError, match=f"needs the package '{name}'") as caught:
            video.frames(files["closed.mp4"], backend=name)
        assert f"'.[{name}]'" in caught.value.remedy


SMALL = words("-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 100 -c:a aac -b:a 32k")
LONG = """
import json, re, sys, time
from pathlib import Path
import numpy as np
from mer.media import video
from mer.media.reading import read
from mer.spec import InputSpec

path, seconds = Path(sys.argv[1]), int(sys.argv[2])
windows, counts = [], []
for start in range(seconds):
    began = time.process_time()
    counts.append(sum(frame.rgb().shape == (48, 64, 3) for frame in video.frames(path, start, start + 1.0)))
    windows.append(time.process_time() - began)
marks = [time.process_time()]
for k, frame in enumerate(video.frames(path)):
    if k % 50 == 49:
        marks.append(time.process_time())
stream = read(path.parent, {"v": path.name}, {"v": InputSpec("video", rate=1.0, size=(64, 64))})["v"]
def flat(times):
    tenth = max(len(times) // 10, 5)
    return float(np.median(times[-tenth:]) / np.median(times[:tenth]))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # of this program alone
print(json.dumps({
    "rss": peak, "windows": flat(windows), "order": flat(np.diff(marks)),
    "read": len(stream), "fewest": min(counts), "most": max(counts), "median": float(np.median(windows)),
}))
"""


def long_file_is_read_flatly(folder: Path, minutes: int) -> None:
    """Windows by seeking, and passes in order, of a long file: memory stays low and time per frame does not grow."""
    ffmpeg(*moving(60, "64x48", 10), *SMALL, folder / "minute.mp4")
    path = folder / "long.mp4"
    ffmpeg("-stream_loop", str(minutes - 1), "-i", folder / "minute.mp4", "-c", "copy", path)
    done = subprocess.run([sys.executable, "-c", LONG, path, str(60 * minutes)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(said)
    assert said["rss"] < 1024
    assert said["windows"] < 4
    assert said["order"] < 3
    assert said["read"] == pytest.approx(60 * minutes, abs=2)
    assert said["fewest"] >= 9
    assert said["most"] <= 12


def test_two_minutes_are_read_flatly(tmp_path: Path) -> None:
    long_file_is_read_flatly(tmp_path, 2)


@pytest.mark.slow
def test_an_hour_is_read_flatly(tmp_path: Path) -> None:
    long_file_is_read_flatly(tmp_path, 60)
