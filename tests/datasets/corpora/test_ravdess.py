"""RAVDESS becomes a manifest from the official download and from the packaged form, with the published folds."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from media_files import grey, tone, write
from tiny import mer, one_line, prepared

from mer.datasets.corpora import ravdess
from mer.datasets.manifest import Manifest
from mer.datasets.protocol import split_clips
from mer.errors import UserError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("w") / "a.wav", wave=tone(0.5), audio_codec="pcm_s16le").read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("f") / "a.mp4", grey(30), tone(1.2)).read_bytes()


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("m") / "a.mp4", grey(30)).read_bytes()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def official(tmp_path: Path, wave: bytes, film: bytes, mute: bytes) -> Path:
    """What one has after unpacking the official archives side by side."""
    root = tmp_path / "RAVDESS"
    put(root / "Audio_Speech_Actors_01-24" / "Actor_01" / "03-01-01-01-01-01-01.wav", wave)  # sound alone
    put(root / "Audio_Speech_Actors_01-24" / "Actor_02" / "03-01-05-02-02-01-02.wav", wave)  # sound and film
    put(root / "Actor_02" / "01-01-05-02-02-01-02.mp4", film)
    put(root / "Actor_02" / "02-01-05-02-02-01-02.mp4", mute)
    put(root / "Actor_24" / "01-01-08-01-01-02-24.mp4", film)  # film alone
    put(root / "Actor_24" / "02-01-03-01-01-02-24.mp4", mute)  # picture alone
    put(root / "Audio_Song_Actors_01-24" / "Actor_01" / "03-02-01-01-01-01-01.wav", wave)
    put(root / "Actor_01" / "01-02-04-01-01-01-01.mp4", film)
    put(root / "Actor_01" / "readme.wav", wave)
    put(root / "Actor_01" / ".DS_Store", b"")
    return root


@pytest.fixture
def packaged(tmp_path: Path, wave: bytes, film: bytes) -> Path:
    """The form with clips.csv, cached action units and a few films."""
    root = tmp_path / "packaged"
    names = ["03-01-01-01-01-01-01", "03-01-05-02-02-01-02", "03-01-08-01-01-02-24"]
    rows = []
    for name in names:
        emotion, actor = int(name.split("-")[2]), int(name[-2:])
        put(root / "audio16k" / f"Actor_{actor:02d}" / f"{name}.wav", wave)
        rows.append(
            {
                "clip": name,
                "audio": f"audio16k/Actor_{actor:02d}/{name}.wav",
                "actor": actor,
                "emotion": EMOTIONS[emotion - 1],
            }
        )
    put(root / "av" / "01-01-01-01-01-01-01.mp4", film)
    table(root / "clips.csv", rows)
    (root / "features").mkdir()
    known = np.array([f"01{name[2:]}" for name in (names[2], names[0])])
    np.savez(root / ravdess.FEATURES, name=known, **{ravdess.AU_ARRAY: np.zeros((2, 35), np.float32)})
    return root


def table(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def manifest_of(root: Path, out: Path) -> Manifest:
    prepared(ravdess, root, out)
    return Manifest.read(out / "manifest.csv")


class TestOfficialDownload:
    def test_each_performance_is_one_row_with_its_media(self, official: Path, tmp_path: Path) -> None:
        clips = {c.clip_id: c for c in manifest_of(official, tmp_path / "out").clips}
        audio = "Audio_Speech_Actors_01-24"
        assert {name: (c.cells["audio"], c.cells["video"]) for name, c in clips.items()} == {
            "01-01-01-01-01-01-01": (f"{audio}/Actor_01/03-01-01-01-01-01-01.wav", ""),
            "01-01-05-02-02-01-02": (f"{audio}/Actor_02/03-01-05-02-02-01-02.wav", "Actor_02/01-01-05-02-02-01-02.mp4"),
            "01-01-08-01-01-02-24": ("Actor_24/01-01-08-01-01-02-24.mp4",) * 2,
            "01-01-03-01-01-02-24": ("", "Actor_24/02-01-03-01-01-02-24.mp4"),
        }

    def test_song_is_left_out(self, official: Path, tmp_path: Path) -> None:
        assert prepared(ravdess, official, tmp_path / "out") == (4, {})
        assert "-02-0" not in "".join(c.clip_id[2:5] for c in Manifest.read(tmp_path / "out" / "manifest.csv").clips)

    def test_the_name_says_what_a_file_shows(self, official: Path, tmp_path: Path) -> None:
        manifest = manifest_of(official, tmp_path / "out")
        clip = next(c for c in manifest.clips if c.clip_id == "01-01-05-02-02-01-02")
        assert (clip.subject, clip.fold, clip.split) == ("02", "0", "")
        assert clip.labels["emotion"] == [float(EMOTIONS.index("angry"))]
        assert {k: clip.cells[k] for k in ("gender", "intensity", "statement", "repetition")} == {
            "gender": "female", "intensity": "strong", "statement": "2", "repetition": "1",
        }  # fmt: skip
        assert (clip.start, clip.end) == (0.0, pytest.approx(1.2, abs=0.1))

    def test_the_corpus_declares_licence_protocol_and_that_people_are_apart(
        self, official: Path, tmp_path: Path
    ) -> None:
        corpus = manifest_of(official, tmp_path / "out").corpus
        assert corpus.subject_disjoint == "true"
        assert "NC" in corpus.licence
        assert "folds" in corpus.protocol
        assert corpus.root == official.resolve()
        assert corpus.tasks["emotion"].space.names == EMOTIONS


class TestPackagedForm:
    def test_sound_film_and_action_units_of_a_performance_belong_together(self, packaged: Path, tmp_path: Path) -> None:
        clips = {c.clip_id: c.cells for c in manifest_of(packaged, tmp_path / "out").clips}
        au = "features/ravdess_clip_features.npz#au_openface_mean_a"
        assert {name: (c["audio"][-24:], c["video"], c["au"]) for name, c in clips.items()} == {
            "01-01-01-01-01-01-01": ("03-01-01-01-01-01-01.wav", "av/01-01-01-01-01-01-01.mp4", f"{au}[1]"),
            "01-01-05-02-02-01-02": ("03-01-05-02-02-01-02.wav", "", ""),
            "01-01-08-01-01-02-24": ("03-01-08-01-01-02-24.wav", "", f"{au}[0]"),
        }

    @pytest.mark.parametrize(
        ("column", "value", "named"),
        [
            ("emotion", "happy", "contradicts"),
            ("actor", 5, "contradicts"),
            ("actor", "two", "actor"),
            ("clip", "a", "'a'"),
            ("audio", "../a.wav", "leads out of the root"),
            ("audio", "", "audio missing"),
        ],
    )
    def test_a_row_that_contradicts_its_name_is_named_with_its_line(
        self, column: str, value: object, named: str, packaged: Path, tmp_path: Path
    ) -> None:
        with (packaged / "clips.csv").open(newline="", encoding="utf-8") as stream:
            rows: list[dict[str, object]] = [dict(row) for row in csv.DictReader(stream)]
        rows[1][column] = value
        table(packaged / "clips.csv", rows)
        with pytest.raises(UserError, match=rf"clips\.csv, row 3: .*{named}"):
            prepared(ravdess, packaged, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_missing_column_is_named(self, packaged: Path, tmp_path: Path) -> None:
        text = (packaged / "clips.csv").read_text(encoding="utf-8")
        (packaged / "clips.csv").write_text(text.replace("emotion", "feeling"), encoding="utf-8")
        with pytest.raises(UserError, match="emotion"):
            prepared(ravdess, packaged, tmp_path / "out")

    def test_a_damaged_feature_file_is_named(self, packaged: Path, tmp_path: Path) -> None:
        (packaged / ravdess.FEATURES).write_bytes(b"not an archive")
        with pytest.raises(UserError, match="ravdess_clip_features"):
            prepared(ravdess, packaged, tmp_path / "out")


class TestMistakes:
    def test_a_folder_with_something_else(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "holiday.mp4").write_bytes(b"")
        assert mer("prepare", "ravdess", "--root", tmp_path, "--out", tmp_path / "out") == 2
        line = one_line(capsys.readouterr().err)
        assert str(tmp_path) in line
        assert "Audio_Speech_Actors_01-24.zip" in line

    def test_no_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert mer("prepare", "ravdess", "--root", tmp_path / "none", "--out", tmp_path / "out") == 2
        assert "none" in one_line(capsys.readouterr().err)
        assert mer("prepare", "ravdess", "--out", tmp_path / "out") == 2
        assert "--root" in one_line(capsys.readouterr().err)

    def test_an_actor_that_does_not_exist(self, official: Path, tmp_path: Path, wave: bytes) -> None:
        put(official / "Actor_25" / "03-01-01-01-01-01-25.wav", wave)
        with pytest.raises(UserError, match=r"actor 25 of .*1 to 24"):
            prepared(ravdess, official, tmp_path / "out")

    def test_a_damaged_recording_is_named(self, official: Path, tmp_path: Path) -> None:
        put(official / "Actor_03" / "03-01-01-01-01-01-03.wav", b"")
        with pytest.raises(UserError, match=r"03-01-01-01-01-01-03\.wav.*0 bytes"):
            prepared(ravdess, official, tmp_path / "out")

    def test_the_command_says_where_the_manifest_is(
        self, official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert mer("prepare", "ravdess", "--root", official, "--out", tmp_path / "out") == 0
        assert f"{tmp_path / 'out' / 'manifest.csv'}: 4 clips" in capsys.readouterr().out


def test_the_folds_are_the_published_ones() -> None:
    """Luna-Jiménez et al. 2022, table of the subject-wise folds."""
    assert ravdess.FOLDS == {
        0: (2, 5, 14, 15, 16),
        1: (3, 6, 7, 13, 18),
        2: (10, 11, 12, 19, 20),
        3: (8, 17, 21, 23, 24),
        4: (1, 4, 9, 22),
    }
    actors = [actor for fold in ravdess.FOLDS.values() for actor in fold]
    assert sorted(actors) == list(range(1, 25))


@pytest.mark.parametrize(
    ("stem", "what"),
    [
        ("03-01-06-02-01-02-11", (5, "strong", "1", "2", 11)),
        ("01-01-01-01-02-01-24", (0, "normal", "2", "1", 24)),
    ],
)
def test_a_name_is_read_field_by_field(stem: str, what: tuple[object, ...]) -> None:
    parsed = ravdess.Performance.from_name(stem)
    assert parsed is not None
    p, modality = parsed
    assert (p.emotion, p.intensity, p.statement, p.repetition, p.actor) == what
    assert modality == stem[:2]
    assert p.name == f"01-{stem[3:]}"


@pytest.mark.parametrize(
    "stem", ["03-02-01-01-01-01-01", "04-01-01-01-01-01-01", "03-01-09-01-01-01-01", "03-01-01-01-01-01", ""]
)
def test_a_name_that_is_no_speech_recording_is_passed_over(stem: str) -> None:
    assert ravdess.Performance.from_name(stem) is None


@pytest.mark.real
def test_the_packaged_recordings(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "ravdess"
    if not (root / "clips.csv").is_file():
        pytest.skip("MER_REAL_DATA holds no ravdess")
    manifest = manifest_of(root, tmp_path / "out")
    clips = manifest.clips
    assert len(clips) == 1140
    assert Counter(c.fold for c in clips) == {"0": 300, "1": 300, "2": 300, "4": 240}
    assert set(Counter(c.subject for c in clips).values()) == {60}
    assert len({c.subject for c in clips}) == 19
    labels = Counter(EMOTIONS[int(c.labels["emotion"][0])] for c in clips if c.labels["emotion"])
    assert labels == {name: 76 if name == "neutral" else 152 for name in EMOTIONS}
    assert all(c.cells["au"] and c.cells["audio"] for c in clips)
    assert sum(bool(c.cells["video"]) for c in clips) == 4
    assert all(2 < (c.end or 0) < 7 for c in clips)
    for fold in ("0", "1", "2", "4"):
        split = split_clips(manifest, fold, 0.0, 0)
        assert not {c.subject for c in split.train} & {c.subject for c in split.test}
        assert len(split.train) + len(split.test) == 1140
