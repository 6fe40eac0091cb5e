"""A folder of numbered pictures is read like a video without sound."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import RATE, grey, tone, write
from tiny import config, mer, one_line

from mer.analysis.look import look
from mer.datasets import store_key
from mer.datasets.frame_cache import FrameCache
from mer.datasets.manifest import Manifest
from mer.errors import UserError
from mer.media import video
from mer.media.detectors.precomputed import file_of
from mer.media.folder import result_names
from mer.media.guard import PATIENCE, Child, examined, guarded
from mer.media.pictures import plain, write_times
from mer.media.prepare import prepare
from mer.media.probe import length, probe
from mer.spec import Face, InputSpec

DENSE = InputSpec("video", size=(8, 8))
SPECS = {
    "dense": DENSE,
    "ticks": InputSpec("video", rate=5, size=(8, 8)),
    "few": InputSpec("video", size=(8, 8), segments=4),
    "flow": InputSpec("flow", rate=10, size=(32, 32)),
    "taylor": InputSpec("taylor", rate=10, size=(32, 32)),
    "face": InputSpec("video", rate=10, size=(32, 32), crop="face", face=Face("precomputed", file="boxes.csv")),
}


def level(number: int) -> int:
    """Gray of the picture of that number."""
    return 20 + number % 100 * 2


def folder(path: Path, numbers: list[int], name: str = "frame-{}.jpg", size: int = 48) -> Path:
    """Plain pictures whose gray level tells their number."""
    path.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        assert cv2.imwrite(str(path / name.format(number)), np.full((size, size, 3), level(number), np.uint8))
    return path


def numbers(values: np.ndarray) -> list[int]:
    """Which pictures those are, (N, 3, H, W)."""
    return [round((float(v.mean()) - 20) / 2) for v in values]


def shown(path: Path, start: float = 0.0, end: float | None = None) -> list[tuple[float, float, int]]:
    return [(round(f.time, 6), round(f.until, 6), numbers(f.rgb()[None])[0]) for f in video.frames(path, start, end)]


class TestOrder:
    def test_frame_10_comes_after_frame_9(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", list(range(13)))
        assert [n for _, _, n in shown(tmp_path / "a#25")] == list(range(13))

    def test_of_a_name_with_several_numbers_the_last_one_counts(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [9, 10, 11], "clip2024_take3_{}_face.png")
        assert [n for _, _, n in shown(tmp_path / "a#25")] == [9, 10, 11]

    def test_png_jpg_and_jpeg_lie_side_by_side_and_a_suffix_may_lie(self, tmp_path: Path) -> None:
        for number, suffix in enumerate(["png", "jpg", "JPEG"]):
            file = folder(tmp_path / "a", [number], "{}." + suffix.lower()) / f"{number}.{suffix.lower()}"
            file.rename(file.with_suffix(f".{suffix}"))
        (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "0.jpg")
        assert [n for _, _, n in shown(tmp_path / "a#2")] == [0, 1, 2]

    def test_what_is_no_picture_is_not_looked_at(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1, 2])
        for name in ("._frame-1.jpg", ".hidden.jpg", "Thumbs.db", "readme.txt"):
            (tmp_path / "a" / name).write_text("x")
        assert len(shown(tmp_path / "a#25")) == 2


class TestTime:
    def test_the_smallest_number_is_shown_at_0_s(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [7, 8])
        assert shown(tmp_path / "a#25") == [(0.0, 0.04, 7), (0.04, 0.08, 8)]
        assert shown(tmp_path / "a#29.97")[1][0] == pytest.approx(1 / 29.97, abs=1e-6)

    def test_the_number_of_0_s_may_be_said(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [3, 4])
        assert shown(tmp_path / "a#10@1") == [(0.2, 0.3, 3), (0.3, 0.4, 4)]
        assert video.presentation_times(tmp_path / "a#10@1").tolist() == pytest.approx([0.2, 0.3])

    def test_a_missing_number_is_a_moment_without_picture(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1, 2, 6, 7])
        assert shown(tmp_path / "a#10@1") == [(0.0, 0.1, 1), (0.1, 0.2, 2), (0.5, 0.6, 6), (0.6, 0.7, 7)]
        ticks = prepare(tmp_path, "a#10@1", InputSpec("video", rate=10, size=(8, 8)))
        assert numbers(ticks.values[0].numpy()) == [1, 2, 6, 7]
        np.testing.assert_allclose(ticks.spans[0, :, 0], [0.0, 0.1, 0.5, 0.6], atol=1e-6)

    def test_before_the_first_picture_there_is_none(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [5, 6])
        ticks = prepare(tmp_path, "a#10@1", InputSpec("video", rate=10, size=(8, 8)))
        np.testing.assert_allclose(ticks.spans[0, :, 0], [0.4, 0.5], atol=1e-6)
        assert [f.index for f in video.frames_at(tmp_path / "a#10@1", [0.0, 0.41, 0.45, 0.5, 3.0])] == [4, 5]

    def test_a_coarser_rate_takes_what_is_shown_at_the_middle_of_its_ticks(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [0, 1, 2, 3, 9, 10, 11])
        ticks = prepare(tmp_path, "a#20", InputSpec("video", rate=5, size=(8, 8)))
        assert numbers(ticks.values[0].numpy()) == [2, 10]  # middles 0.1 s and 0.5 s; 0.3 s shows nothing
        np.testing.assert_allclose(ticks.spans[0, :, 0], [0.0, 0.4], atol=1e-6)

    def test_a_stretch_is_half_open(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", list(range(10)))
        assert [n for _, _, n in shown(tmp_path / "a#10", 0.2, 0.5)] == [2, 3, 4]
        assert [n for _, _, n in shown(tmp_path / "a#10", 0.25, 0.41)] == [2, 3, 4]
        with pytest.raises(UserError, match="no frame could be decoded between 3 s"):
            prepare(tmp_path, "a#10", DENSE, 3.0, 4.0)

    def test_segments_take_the_middle_of_equal_parts(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", list(range(1, 78)))
        few = prepare(tmp_path, "a#25", InputSpec("video", size=(8, 8), segments=16))
        assert numbers(few.values[0].numpy()) == [1 + int(2.40625 + 4.8125 * k) for k in range(16)]

    def test_segments_repeat_pictures_of_a_clip_of_11(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", list(range(1, 12)))
        few = prepare(tmp_path, "a#25", InputSpec("video", size=(8, 8), segments=16))
        taken = numbers(few.values[0].numpy())
        assert len(taken) == 16
        assert taken == sorted(taken)
        assert set(taken) <= set(range(1, 12))

    def test_probe_and_length(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1, 2, 5])
        info = probe(tmp_path / "a#10")
        assert (info.has_video, info.has_audio, info.fps, info.duration) == (True, False, 10.0, 0.5)
        assert length(tmp_path / "a#10") == 0.5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("like")
    y, x = np.mgrid[:64, :64]
    waves = [128 + 60 * np.sin((x - 2 * k) / 6) * np.cos(y / 7) for k in range(20)]
    film = np.stack([np.repeat(w.astype(np.uint8)[..., None], 3, axis=2) for w in waves])
    write(root / "clip.mp4", film, tone(0.8))
    (root / "boxes.csv").write_text("frame,x0,y0,x1,y1\n" + "".join(f"{k},8,8,56,56\n" for k in range(20)))
    (root / "clip").mkdir()
    for frame in video.frames(root / "clip.mp4"):
        cv2.imwrite(str(root / "clip" / f"{frame.index + 1}.png"), frame.rgb()[..., ::-1])
    return root


class TestTable:
    """Pictures with a table of their times: those of a video of variable rate."""

    def timed(self, path: Path, numbers: list[int], times: list[float]) -> str:
        write_times(path / "t" / "a.csv", range(len(times)), times)
        folder(path / "a", numbers)
        return "a#times=../t/a.csv"

    def test_each_number_is_shown_at_its_time_until_the_next(self, tmp_path: Path) -> None:
        name = self.timed(tmp_path, [0, 1, 3], [0.1, 0.2, 0.6, 0.7, 1.5])
        assert shown(tmp_path / name) == [(0.1, 0.2, 0), (0.2, 0.6, 1), (0.7, 1.5, 3)]
        assert video.presentation_times(tmp_path / name).tolist() == [0.1, 0.2, 0.7]
        found = [f.index for f in video.frames_at(tmp_path / name, [0.0, 0.1, 0.59, 0.65, 1.4, 1.6])]
        assert found == [0, 1, 3]
        for nothing in (0.05, 0.65, 1.6):  # before, in the gap, behind
            assert list(video.frames_at(tmp_path / name, [nothing])) == []
        assert length(tmp_path / name) == probe(tmp_path / name).duration == 1.5
        assert [n for _, _, n in shown(tmp_path / name, 0.3, 0.7)] == [1]

    def test_ticks_and_segments_have_these_times(self, tmp_path: Path) -> None:
        name = self.timed(tmp_path, [0, 1, 3], [0.0, 0.1, 0.6, 0.7, 1.0])
        ticks = prepare(tmp_path, name, InputSpec("video", rate=5, size=(8, 8)))
        assert numbers(ticks.values[0].numpy()) == [1, 1, 1, 3, 3]  # middles 0.1, 0.3, ... 0.9
        few = prepare(tmp_path, name, InputSpec("video", segments=3, size=(8, 8)))
        assert (float(few.spans[0, 0, 0]), float(few.spans[0, -1, 1])) == (0.0, 1.0)

    def test_caches_know_when_the_table_changes(self, tmp_path: Path) -> None:
        name = self.timed(tmp_path, [0, 1], [0.0, 0.1])
        then, kept = store_key.sources(tmp_path, name, DENSE), FrameCache(tmp_path / "cache", DENSE)
        got = prepare(tmp_path, name, DENSE)
        kept.put(tmp_path / name, 0.0, None, got.values[0], got.spans[0])
        assert kept.get(tmp_path / name, 0.0, None) is not None and store_key.stale(tmp_path, then) is None
        write_times(tmp_path / "t" / "a.csv", range(2), [0.0, 0.2])
        os.utime(tmp_path / "t" / "a.csv", ns=(5, 2**62))
        assert kept.get(tmp_path / name, 0.0, None) is None and store_key.stale(tmp_path, then) == name

    def test_a_manifest_names_a_table_beside_it(self, tmp_path: Path) -> None:
        root, out = tmp_path / "root", tmp_path / "there" / "out"
        folder(root / "deep" / "a", [0, 1])
        write_times(out / "t.csv", range(2), [0.0, 0.5])
        (out / "corpus.yaml").write_text(f"name: x\nroot: {root}\ntasks: {{}}\n")
        (out / "manifest.csv").write_text("clip_id,faces\n1,deep/a#times=@/t.csv\n")
        manifest = Manifest.read(out / "manifest.csv")
        reference = manifest.reference(manifest.clips[0], "faces")
        assert reference == "deep/a#times=../../../there/out/t.csv"
        assert video.presentation_times(root / reference).tolist() == [0.0, 0.5]
        found = guarded(root, {"faces": reference}, {"faces": DENSE})
        assert not isinstance(found["faces"], UserError)

    @pytest.mark.parametrize(
        "text", ["", "number,time\n", "a,b\n1,2\n", "number,time\n0,0\n1,0\n", "number,time\n1,0\n0,1\n",
                 "number,time\n0,-1\n", "number,time\n0,nan\n", "number,time\n0,1,2\n", "\0"],
    )  # fmt: skip
    def test_a_table_that_is_none_is_one_line(self, tmp_path: Path, text: str) -> None:
        folder(tmp_path / "a", [0, 1])
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(UserError, match=r"t\.csv") as caught:
            prepare(tmp_path, "a#times=../t.csv", DENSE)
        assert "\n" not in str(caught.value)

    def test_a_picture_without_time_and_a_table_that_is_missing(self, tmp_path: Path) -> None:
        name = self.timed(tmp_path, [0, 1, 7], [0.0, 0.1])
        with pytest.raises(UserError, match=r"a\.csv: no time of number 7, which .*frame-7\.jpg has"):
            prepare(tmp_path, name, DENSE)
        with pytest.raises(UserError, match=r"gone\.csv: no such file \(times of the pictures of"):
            prepare(tmp_path, "a#times=../gone.csv", DENSE)


class TestLikeAVideo:
    """The pictures of a video, written out one by one, are that video to every kind of input."""

    @pytest.mark.parametrize("kind", list(SPECS))
    def test_of_every_kind(self, root: Path, kind: str) -> None:
        film, folder_ = prepare(root, "clip.mp4", SPECS[kind]), prepare(root, "clip#25@1", SPECS[kind])
        np.testing.assert_allclose(folder_.spans, film.spans, atol=1e-4)
        assert folder_.values.shape == film.values.shape
        if film.values.dtype.is_floating_point:
            assert (folder_.values - film.values).abs().mean() < 0.05
        else:
            assert (folder_.values.int() - film.values.int()).abs().max() <= 4

    def test_sound_of_one_file_and_faces_of_a_folder_are_read_together(self, root: Path) -> None:
        specs = {"faces": SPECS["ticks"], "audio": InputSpec("audio", rate=RATE)}
        found = guarded(root, {"faces": "clip#25", "audio": "clip.mp4"}, specs, seed=3)
        assert not [e for e in found.values() if isinstance(e, UserError)]

    def test_the_child_gives_what_reading_here_gives(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        specs = {m: SPECS[m] for m in ("dense", "few")}
        child = Child()
        there = child.read(root, dict.fromkeys(specs, "clip#25"), specs, 0.1, 0.7, 5, 20.0)
        monkeypatch.setenv(PATIENCE, "0")
        here = guarded(root, dict.fromkeys(specs, "clip#25"), specs, 0.1, 0.7, 5)
        for modality in specs:
            assert np.array_equal(there[modality].values, here[modality].values)  # type: ignore[union-attr]
        found = child.examine(root / "clip#25", True, 20.0)
        child.close()
        assert found.length == pytest.approx(0.8)
        assert len(found.times) == 20
        assert examined(root / "clip#25").info.has_audio is False

    def test_mer_look_sees_it(self, root: Path) -> None:
        seen = look(root / "clip#25", Face(), skeleton=None)
        assert len(seen.shown) == 8
        assert seen.wave == "no sound in the file"


class TestCaches:
    def test_the_frame_cache_keeps_them_until_a_picture_changes(self, tmp_path: Path) -> None:
        place = folder(tmp_path / "a", [1, 2, 3])
        cache = FrameCache(tmp_path / "cache", DENSE)
        got = prepare(tmp_path, "a#25", DENSE)
        cache.put(tmp_path / "a#25", 0.0, None, got.values[0], got.spans[0])
        kept = cache.get(tmp_path / "a#25", 0.0, None)
        assert kept is not None
        assert np.array_equal(kept.take([0, 1, 2]), got.values[0])
        assert cache.get(tmp_path / "a#10", 0.0, None) is None
        folder(place, [2], size=50)
        os.utime(place / "frame-2.jpg", ns=(5, 2**62))
        assert cache.get(tmp_path / "a#25", 0.0, None) is None

    def test_the_feature_store_knows_a_folder_by_its_names_and_sizes(self, tmp_path: Path) -> None:
        place = folder(tmp_path / "a", [1, 2, 3])
        then = store_key.sources(tmp_path, "a#25", DENSE)
        assert [s.name for s in then] == ["a#25"]
        assert then[0].size == sum(p.stat().st_size for p in place.iterdir())
        assert store_key.stale(tmp_path, then) is None
        os.utime(place / "frame-1.jpg", ns=(5, 5))  # copied: another time, the same content
        assert store_key.stale(tmp_path, then) is None
        folder(place, [4])
        assert store_key.stale(tmp_path, then) == "a#25"

    def test_a_file_of_faces_is_named_after_the_folder(self, tmp_path: Path) -> None:
        face = Face("precomputed", file="boxes/{stem}.csv")
        assert file_of(face, tmp_path / "00001#29.97@1", tmp_path) == tmp_path / "boxes" / "00001.csv"
        spec = InputSpec("video", size=(8, 8), crop="face", face=face)
        assert store_key.source_names("faces/00001#25", spec) == ["faces/00001#25", "boxes/00001.csv"]

    def test_results_are_named_after_the_folder(self) -> None:
        assert result_names([Path("f/00001#29.97"), Path("f/00002#25@1")]) == ["00001", "00002"]
        assert plain(Path("f/clip.mp4")) == Path("f/clip.mp4")


class TestMistakes:
    def fails(self, reference: str, root: Path, *words: str, spec: InputSpec = DENSE) -> None:
        with pytest.raises(UserError) as caught:
            prepare(root, reference, spec)
        line = str(caught.value)
        assert "\n" not in line
        for word in words:
            assert word in line, line

    def test_a_broken_picture_is_named(self, tmp_path: Path) -> None:
        for number, (content, why) in enumerate(
            [(b"no picture at all", "neither JPEG nor PNG"), (b"", "empty"), (b"\xff\xd8abc", ""), (b"\x89PNG", "")]
        ):
            place = folder(tmp_path / f"{number}", [1, 2, 3])
            (place / "frame-2.jpg").write_bytes(content)
            self.fails(f"{number}#25", tmp_path, "frame-2.jpg: not readable as a picture", why, "Extract it again")

    def test_a_picture_that_breaks_off_is_not_taken_for_a_gray_one(self, tmp_path: Path) -> None:
        place = folder(tmp_path / "a", [1])
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(place / "frame-2.jpg"), noise)
        whole = (place / "frame-2.jpg").read_bytes()
        assert len(prepare(tmp_path, "a#25", DENSE).spans[0]) == 2
        (place / "frame-2.jpg").write_bytes(whole[: len(whole) // 2])
        self.fails("a#25", tmp_path, "frame-2.jpg", "it breaks off")

    def test_two_pictures_of_one_number(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1, 2])
        folder(tmp_path / "a", [2], "frame-00{}.jpg")
        self.fails("a#25", tmp_path, "frame-002.jpg and frame-2.jpg have the same number 2")

    def test_a_picture_without_number(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1])
        folder(tmp_path / "a", [1], "cover.jpg")
        self.fails("a#25", tmp_path, "cover.jpg", "Number the pictures")

    def test_a_number_before_that_of_0_s(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [0, 1])
        self.fails("a#25@1", tmp_path, "frame-0.jpg", "#25@0")

    def test_a_folder_that_is_missing_or_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        self.fails("gone#25", tmp_path, "gone: no such folder")
        self.fails("empty#25", tmp_path, "no picture in this folder")
        self.fails("empty#0", tmp_path, "0 pictures per second")

    def test_a_folder_without_its_rate(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1])
        self.fails("a", tmp_path, "a folder", "#25")

    def test_sound_of_a_folder(self, tmp_path: Path) -> None:
        folder(tmp_path / "a", [1])
        self.fails("a#25", tmp_path, "no sound", spec=InputSpec("audio", rate=RATE))

    def test_a_file_may_be_called_anything(self, tmp_path: Path) -> None:
        write(tmp_path / "clip.mp4", grey(5))
        (tmp_path / "clip.mp4").rename(tmp_path / "clip#25")
        assert prepare(tmp_path, "clip#25", DENSE).values.shape[1] == 5


def test_faces_of_a_folder_are_predicted_and_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    assert mer("prepare", "synthetic", "--out", data, "--subjects", 4) == 0
    manifest = (data / "manifest.csv").read_text().splitlines()
    column = manifest[0].split(",").index("video")
    rows = [line.split(",") for line in manifest[1:]]
    for row in rows:
        film = data / row[column]
        place = data / "faces" / film.stem
        place.mkdir(parents=True)
        for frame in video.frames(film):
            cv2.imwrite(str(place / f"{frame.index}.jpg"), frame.rgb()[..., ::-1])
        row[column] = f"faces/{film.stem}#{probe(film).fps:g}"
    (data / "manifest.csv").write_text("\n".join([manifest[0], *(",".join(r) for r in rows)]) + "\n")
    settings = config(tmp_path / "config.yaml", data)
    assert mer("extract", "--config", settings, "--manifest", data / "manifest.csv", "--store", tmp_path / "store") == 0
    assert mer("fit", "--config", settings, "--out", run) == 0
    clip, model = data / rows[0][column], run / "model.safetensors"
    sound = data / rows[0][manifest[0].split(",").index("audio")]
    assert mer("predict", clip, "--checkpoint", model, "--out", tmp_path / "p") == 0
    assert (tmp_path / "p" / f"{plain(clip).name}.json").exists()
    assert mer("predict", sound, "--checkpoint", model, "--out", tmp_path / "q", "--input", f"video={clip}") == 0
    capsys.readouterr()
    assert mer("predict", plain(clip), "--checkpoint", model, "--out", tmp_path / "r") == 2
    assert "FOLDER#25" in one_line(capsys.readouterr().err)
