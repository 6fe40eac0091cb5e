"""What people's folders are full of: a clear line, and a correct or partial result."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_files import RATE, grey, tone, write

from mer.errors import UserError
from mer.media.prepare import prepare_all
from mer.spec import InputSpec
from mer.tokens import Sampled

SPECS = {
    "video": InputSpec("video", rate=5, size=(32, 32)),
    "frames": InputSpec("video", size=(32, 32), segments=4),
    "audio": InputSpec("audio", rate=RATE),
}


def read(path: Path, start: float = 0.0, end: float | None = None) -> dict[str, Sampled | UserError]:
    return prepare_all(path.parent, dict.fromkeys(SPECS, path.name), SPECS, start, end)


def lines(found: dict[str, Sampled | UserError]) -> dict[str, str]:
    """The line of each modality that could not be read."""
    return {m: str(result) for m, result in found.items() if isinstance(result, UserError)}


def counts(found: dict[str, Sampled | UserError]) -> dict[str, int]:
    """Elements of each modality that could be read."""
    return {m: int(result.mask.sum()) for m, result in found.items() if isinstance(result, Sampled)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"Dear Sir, please find enclosed" * 99, "not readable as video or audio"),
        (b"\0" * 5000, "not readable"),
    ],
)
def test_files_that_are_no_media(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    found = lines(read(path))
    assert set(found) == set(SPECS)
    for line in found.values():
        assert says in line
        assert str(path) in line
        assert "\n" not in line


def test_a_missing_file_names_its_path(tmp_path: Path) -> None:
    assert all("no such file" in line and "gone.mp4" in line for line in lines(read(tmp_path / "gone.mp4")).values())


def test_a_download_that_stopped_half_way_gives_its_first_half(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", grey(100, 240, 320), tone(4.0))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = counts(read(cut))
    assert 3 <= found["video"] < 20
    assert found["frames"] == 4
    assert 0.2 * RATE < found["audio"] < 3.9 * RATE


def test_an_mp4_without_its_index_says_that_it_cannot_be_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", grey(100), tone(4.0))  # the index lies at the end
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = lines(read(cut))
    assert set(found) == set(SPECS)
    assert all("Convert or download it again" in line for line in found.values())


def test_sound_alone_and_picture_alone_are_read_for_what_they_are(tmp_path: Path) -> None:
    sound, picture = write(tmp_path / "sound.mp4", wave=tone(1.0)), write(tmp_path / "picture.mp4", grey(25))
    assert counts(read(sound)) == {"audio": pytest.approx(RATE, abs=RATE // 20)}
    assert all("no picture" in line for line in lines(read(sound)).values())
    assert counts(read(picture)) == {"video": 5, "frames": 4}
    assert "no sound" in lines(read(picture))["audio"]


def test_one_frame(tmp_path: Path) -> None:
    found = read(write(tmp_path / "one.mp4", grey(1)))
    assert counts(found) == {"video": 1, "frames": 4}
    assert (found["frames"].spans[0, :, 1] > found["frames"].spans[0, :, 0]).all()


def test_a_photograph_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(1)[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert counts(read(path)) == {"video": 1, "frames": 4}


def test_a_photograph_with_exif_data(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    plain = cv2.imencode(".jpg", grey(1)[0])[1].tobytes()
    upright = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x112, 3, 1, 1, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(upright) + 8) + b"Exif\0\0" + upright
    path.write_bytes(plain[:2] + exif + plain[2:])
    assert counts(read(path)) == {"video": 1, "frames": 4}


def test_frames_without_a_frame_rate(tmp_path: Path) -> None:
    """Raw H.264 has no times at all: frames are counted."""
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in grey(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    found = read(path)
    assert counts(found) == {"video": pytest.approx(10, abs=1), "frames": 4}


@pytest.mark.parametrize("shape", [(2160, 3840), (640, 360), (65, 49)], ids=["4K", "portrait", "odd"])
def test_pictures_of_any_shape(shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = *shape, "bgr0"
        for picture in grey(5, *shape):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    found = read(path)
    assert counts(found)["video"] == 5
    assert found["video"].values.shape == (1, 5, 3, 32, 32)


def test_sound_shorter_than_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", grey(100), tone(1.0))
    assert counts(read(path))["video"] == 20
    assert counts(read(path))["audio"] == pytest.approx(RATE, abs=RATE // 10)
    late = read(path, 2.0, 3.0)
    assert counts(late) == {"video": 5, "frames": 4}
    assert "no sound between 2 s and 3 s" in lines(late)["audio"]


@pytest.mark.parametrize(
    "name",
    [
        "日本語 ünï.mp4",
        "a b'c\"d.mp4",
        "$(touch pwned);&|.mp4",
        "-i.mp4",
        "concat:a|b.mp4",
        "%03d.mp4",
        "new\nline.mp4",
    ],
)
def test_names_are_names_and_nothing_else(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "plain.mp4", grey(25), tone(1.0)).rename(tmp_path / name)
    assert counts(read(path))["video"] == 5
    assert counts(prepare_all(Path(), dict.fromkeys(SPECS, name), SPECS))["video"] == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_a_playlist_does_not_open_other_files(tmp_path: Path) -> None:
    """A file that only points at others is refused: untrusted corpora must not reach the network or the disk."""
    write(tmp_path / "secret.mp4", grey(25))
    for name, text in {
        "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "spaced.mp4": " \nffconcat version 1.0\nfile secret.mp4\n",
        "frame%03d.png": "not a pattern",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / "frame001.png").write_bytes(b"")
        assert set(lines(read(tmp_path / name))) == set(SPECS), name


def test_a_stretch_that_is_not_there(tmp_path: Path) -> None:
    found = lines(read(write(tmp_path / "clip.mp4", grey(25), tone(1.0)), 5.0, 6.0))
    assert set(found) == set(SPECS)
    assert all("5 s" in line for line in found.values())


def test_broken_sound_leaves_the_picture_alone(tmp_path: Path) -> None:
    """The sound of an avi is overwritten with noise; its picture is intact."""
    path = write(tmp_path / "clip.mkv", grey(50), tone(2.0), audio_codec="flac")
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(container.streams.audio[0]) if p.size and p.pos]
    for place, size in places:
        data[place + 8 : place + size] = random.integers(0, 256, max(size - 8, 0), dtype=np.uint8).tobytes()
    path.write_bytes(data)
    assert counts(read(path))["video"] == 10
