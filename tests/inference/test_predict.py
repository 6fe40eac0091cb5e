"""`mer predict` on the files people have: with and without sound or picture, damaged, oddly named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from media_files import grey, not_media, tone, write
from tiny import mer, one_line

import mer as package
from mer import checkpoint
from mer.datasets.datamodule import EmotionData
from mer.encoders import FeatureEncoder
from mer.evaluation import Scores
from mer.fusion import Concat
from mer.inference.predictor import Predictor
from mer.labels import LabelSpace, Task
from mer.media.video import presentation_times
from mer.model import EmotionModel
from mer.predictions import probabilities
from mer.runs import file_hash

CLASSES = list(tiny.EMOTION.space.names)
FPS = 25


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write(folder / "both.mp4", grey(50), tone(2.0))
    write(folder / "silent.mp4", grey(50))
    write(folder / "sound.wav", wave=tone(2.0), audio_codec="pcm_s16le")
    uneven = [0, 1, 2, 7, 8, 9, 20, 21, 30]
    write(folder / "uneven.mp4", grey(len(uneven)), tone(1.24), pts=uneven)
    not_media(folder)
    whole = (folder / "both.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def predict(tiny_checkpoint: Path, tmp_path: Path) -> Any:
    """Run the command into `tmp_path / "out"`."""

    def run(*arguments: object) -> int:
        return mer("predict", *arguments, "--checkpoint", tiny_checkpoint, "--out", tmp_path / "out")

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def answer(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def frames(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def chances(found: dict[str, Any], task: str = "emotion") -> np.ndarray:
    return np.array(list(found["tasks"][task]["probabilities"].values()))


class TestAClip:
    def test_its_json_names_every_number_and_where_it_comes_from(
        self, predict: Any, out: Path, media: Path, tiny_checkpoint: Path
    ) -> None:
        assert predict(media / "both.mp4") == 0
        found = answer(out / "both.json")
        assert (found["schema"], found["schema_version"]) == ("mer-prediction", 1)
        assert found["media"] == {
            "file": "both.mp4", "duration": pytest.approx(2.0, abs=0.1), "fps": 25.0, "has_video": True, "has_audio": True,
        }  # fmt: skip
        emotion = found["tasks"]["emotion"]
        assert emotion["labels"] == tiny.EMOTION.space.to_dict()
        assert list(emotion["probabilities"]) == CLASSES
        assert chances(found).sum() == pytest.approx(1, abs=1e-5)
        assert emotion["label"] == CLASSES[int(chances(found).argmax())]
        assert emotion["confidence"] == max(emotion["probabilities"].values())
        assert found["modalities_used"] == ["video", "audio"]
        assert found["modalities_absent"] == {}
        assert sum(found["modality_weights"].values()) == pytest.approx(1, abs=1e-5)
        assert found["model"] == {"id": file_hash(tiny_checkpoint), "facts": {"corpus": "synthetic"}}
        assert found["versions"]["mer"] == package.__version__
        assert found["created"].endswith("+00:00")

    def test_its_table_has_a_row_for_every_displayed_frame_at_its_time(
        self, predict: Any, out: Path, media: Path
    ) -> None:
        assert predict(media / "both.mp4", media / "uneven.mp4") == 0
        for name in ("both", "uneven"):
            times = [float(row["time"]) for row in frames(out / f"{name}_frames.csv")]
            assert times == pytest.approx(presentation_times(media / f"{name}.mp4"), abs=1e-6)
        rows = frames(out / "uneven_frames.csv")
        assert [round(FPS * float(row["time"])) for row in rows] == [0, 1, 2, 7, 8, 9, 20, 21, 30]
        for row in rows:
            p = [float(row[f"p_{name}"]) for name in CLASSES]
            assert sum(p) == pytest.approx(1, abs=1e-4)
            assert row["label"] == CLASSES[int(np.argmax(p))]

    def test_its_picture_and_score_file_are_there(self, predict: Any, out: Path, media: Path) -> None:
        assert predict(media / "both.mp4") == 0
        assert (out / "both_timeline.png").read_bytes().startswith(b"\x89PNG")
        scores = Scores.read(out / "scores_emotion.csv")
        assert scores.clip_id == ["both"]
        assert (scores.target == -1).all()
        np.testing.assert_allclose(scores.probabilities[0], chances(answer(out / "both.json")), atol=1e-5)
        assert sorted(p.name for p in out.iterdir()) == [
            "both.json", "both_frames.csv", "both_timeline.png", "scores_emotion.csv",
        ]  # fmt: skip

    def test_without_sound_says_so(self, predict: Any, out: Path, media: Path) -> None:
        assert predict(media / "silent.mp4") == 0
        found = answer(out / "silent.json")
        assert (found["modalities_used"], found["modalities_absent"]) == (["video"], {"audio": "no sound in the file"})
        assert found["modality_weights"] == {"video": 1.0, "audio": 0.0}
        assert len(frames(out / "silent_frames.csv")) == 50

    def test_without_picture_gets_a_regular_clock(self, predict: Any, out: Path, media: Path) -> None:
        assert predict(media / "sound.wav") == 0
        found = answer(out / "sound.json")
        assert found["modalities_absent"] == {"video": "no picture in the file"}
        times = [float(row["time"]) for row in frames(out / "sound_frames.csv")]
        assert times == pytest.approx(np.arange(50) / 25)

    def test_a_stretch_of_it_is_read_between_start_and_end(self, predict: Any, out: Path, media: Path) -> None:
        assert predict(media / "both.mp4", "--start", 0.5, "--end", 1.5) == 0
        found = answer(out / "both.json")
        assert (found["start"], found["end"]) == (0.5, 1.5)
        rows = frames(out / "both_frames.csv")
        assert [int(row["frame"]) for row in rows] == list(range(13, 38)), "numbers of the frames in the file"
        assert all(0.5 <= float(row["time"]) < 1.5 for row in rows)

    @pytest.mark.parametrize(
        "name", ["two words.mp4", "Gefühl 感情.mp4", 'it\'s "quoted".mp4', "a.b.c.mp4", "-dash.mp4"]
    )
    def test_any_name_is_kept(self, name: str, predict: Any, out: Path, media: Path, tmp_path: Path) -> None:
        shutil.copy(media / "both.mp4", tmp_path / name)
        assert predict(tmp_path / name) == 0
        stem = name.removesuffix(".mp4")
        assert answer(out / f"{stem}.json")["media"]["file"] == name
        assert len(frames(out / f"{stem}_frames.csv")) == 50
        assert (out / f"{stem}_timeline.png").stat().st_size
        assert Scores.read(out / "scores_emotion.csv").clip_id == [stem]


class TestTheSameAnswerAsInTraining:
    @pytest.mark.parametrize("ends", [True, False], ids=["with ends", "without"])
    def test_probabilities_are_those_of_the_evaluation(
        self, ends: bool, tiny_corpus: Path, tiny_checkpoint: Path, tmp_path: Path
    ) -> None:
        """A padded batch from the data module, and one clip at a time from the predictor."""
        text = (tiny_corpus / "manifest.csv").read_text(encoding="utf-8")
        (tmp_path / "manifest.csv").write_text(text if ends else text.replace(",0,1,", ",0,,"), encoding="utf-8")
        yaml = (tiny_corpus / "corpus.yaml").read_text(encoding="utf-8").replace("root: .", f"root: {tiny_corpus}")
        (tmp_path / "corpus.yaml").write_text(yaml, encoding="utf-8")
        model, _ = checkpoint.load(tiny_checkpoint)
        data = EmotionData(str(tmp_path / "manifest.csv"), specs=model.specs, tasks_used=["emotion"])
        data.setup("test")
        (batch,) = data.test_dataloader()
        with torch.no_grad():
            expected = probabilities(model(batch.inputs).logits["emotion"], tiny.EMOTION.space).numpy()
        predictor = Predictor(tiny_checkpoint, device="cpu")
        clips = {clip.clip_id: clip for clip in data.split.test}
        found = [
            predictor.read(tiny_corpus / clips[c].cells["video"], end=1.0 if ends else None).probabilities["emotion"]
            for c in batch.clip_ids
        ]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 1e-3, "the answers differ from clip to clip"

    def test_a_clip_of_minutes_is_the_mean_over_its_windows(
        self, media: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predictor = Predictor(tiny_checkpoint, device="cpu", window=0.5, step=0.5)
        whole = predictor.read(media / "both.mp4", end=2.0)
        monkeypatch.setattr("mer.inference.predictor.WHOLE_CLIP", 1.0)
        long = predictor.read(media / "both.mp4", end=2.0)
        parts = [predictor.read(media / "both.mp4", s, s + 0.5).probabilities["emotion"] for s in (0.0, 0.5, 1.0, 1.5)]
        assert (whole.how, long.how) == ("whole clip", "mean over windows")
        np.testing.assert_allclose(long.probabilities["emotion"], np.mean(parts, axis=0), atol=0.02)

    def test_windows_without_the_modality_that_a_task_reads_do_not_count_for_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "half.mp4", grey(50), tone(0.9))
        write(tmp_path / "silent.mp4", grey(50))
        tasks = {name: Task(name, tiny.EMOTION.space) for name in ("emotion", "of_voice")}
        checkpoint.save(tmp_path / "model.safetensors", tiny.model(tasks, reads={"of_voice": "audio"}), {})
        predictor = Predictor(tmp_path / "model.safetensors", device="cpu", window=0.5, step=0.5)
        parts = [predictor.read(tmp_path / "half.mp4", s, s + 0.5).probabilities["of_voice"] for s in (0.0, 0.5)]
        monkeypatch.setattr("mer.inference.predictor.WHOLE_CLIP", 1.0)
        half = predictor.read(tmp_path / "half.mp4", end=2.0)
        np.testing.assert_allclose(half.probabilities["of_voice"], np.mean(parts, axis=0), atol=0.02)
        assert np.ptp(np.mean(parts, axis=0)) > 0.05, "far from even"
        curve = half.timelines["of_voice"]
        assert np.isnan(curve.probabilities[curve.times > 1.6]).all()
        assert np.isfinite(half.timelines["emotion"].probabilities).all()
        silent = predictor.read(tmp_path / "silent.mp4", end=2.0)
        np.testing.assert_allclose(silent.probabilities["of_voice"], 0.25)
        assert (
            mer("predict", tmp_path / "silent.mp4", "--checkpoint", tmp_path / "model.safetensors", "--out", tmp_path)
            == 0
        )


class TestOtherModels:
    def predictor_for(self, folder: Path, model: EmotionModel) -> Path:
        path = folder / "other.safetensors"
        checkpoint.save(path, model, {})
        return path

    def test_every_task_has_files_of_its_own_named_after_it(self, media: Path, tmp_path: Path) -> None:
        tasks = {
            "emotion": tiny.EMOTION,
            "cues": Task("cues", LabelSpace("cues.v1", ("smile", "rising"), "multilabel")),
            "valence": Task("valence", LabelSpace("v.v1", ("valence",), "continuous"), "frame"),
        }
        path = self.predictor_for(tmp_path, tiny.model(tasks))
        assert mer("predict", media / "both.mp4", "--checkpoint", path, "--out", tmp_path / "out") == 0
        found = answer(tmp_path / "out" / "both.json")["tasks"]
        assert set(found["cues"]["probabilities"]) == {"smile", "rising"}
        assert found["valence"]["level"] == "frame"
        assert "probabilities" not in found["valence"]
        assert len(frames(tmp_path / "out" / "both_valence_frames.csv")) == 50
        assert "v_valence" in frames(tmp_path / "out" / "both_valence_frames.csv")[0]
        for task in tasks:
            assert (tmp_path / "out" / f"both_{task}_timeline.png").exists()

    def test_cached_features_are_handed_in(
        self, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        encoders = {**tiny.encoders(), "au": FeatureEncoder(3, dim=4, hidden=4)}
        path = self.predictor_for(tmp_path, EmotionModel(encoders, lambda d: Concat(d, 8), {"emotion": tiny.EMOTION}))
        np.savez(tmp_path / "au.npz", x=np.ones((2, 3), np.float32), y=np.ones((1, 5), np.float32))
        base = ("predict", media / "both.mp4", "--checkpoint", path, "--out", tmp_path / "out")
        assert mer(*base) == 0
        assert "--input au=FILE" in answer(tmp_path / "out" / "both.json")["modalities_absent"]["au"]
        assert mer(*base, "--input", f"au={tmp_path}/au.npz#x[1]") == 0
        assert answer(tmp_path / "out" / "both.json")["modalities_absent"] == {}
        for wrong, named in (
            ("eyes=a.npz", "'eyes'"),
            ("au", "MODALITY=FILE"),
            (f"au={tmp_path}/au.npz#y[0]", "5 columns"),
        ):
            capsys.readouterr()
            assert mer(*base, "--input", wrong) == 2
            assert named in one_line(capsys.readouterr().err)

    def test_a_model_that_reads_sound_alone_says_why_it_cannot_read_a_silent_clip(
        self, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        voice = {"audio": tiny.encoders()["audio"]}
        path = self.predictor_for(tmp_path, EmotionModel(voice, lambda d: Concat(d, 8), {"emotion": tiny.EMOTION}))
        assert mer("predict", media / "silent.mp4", "--checkpoint", path, "--out", tmp_path / "out") == 2
        line = one_line(capsys.readouterr().err)
        assert "silent.mp4" in line
        assert "no sound" in line

    def test_a_model_that_learnt_nothing_finite_is_refused(
        self, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tiny.model()
        torch.nn.init.constant_(broken.heads["emotion"].layers[3].bias, float("nan"))
        path = self.predictor_for(tmp_path, broken)
        assert mer("predict", media / "both.mp4", "--checkpoint", path, "--out", tmp_path / "out") == 2
        assert "not finite" in one_line(capsys.readouterr().err)


class TestSeveralClips:
    def test_a_folder_is_searched_for_media(self, predict: Any, out: Path, media: Path, tmp_path: Path) -> None:
        folder = tmp_path / "clips"
        (folder / "deep").mkdir(parents=True)
        shutil.copy(media / "both.mp4", folder / "a.MP4")
        shutil.copy(media / "sound.wav", folder / "deep" / "b.wav")
        (folder / "notes.txt").write_text("no clip")
        assert predict(folder) == 0
        assert sorted(p.name for p in out.glob("*.json")) == ["a.json", "b.json"]

    def test_clips_of_the_same_name_do_not_overwrite_each_other(
        self, predict: Any, out: Path, media: Path, tmp_path: Path
    ) -> None:
        paths = [tmp_path / folder / "a.mp4" for folder in "xy"] + [
            tmp_path / "z" / "a-2.mp4",
            tmp_path / "x" / "a.wav",
        ]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            shutil.copy(media / ("sound.wav" if path.suffix == ".wav" else "both.mp4"), path)
        assert predict(*paths) == 0
        assert len(list(out.glob("*.json"))) == 4
        assert len(set(Scores.read(out / "scores_emotion.csv").clip_id)) == 4

    def test_bad_files_are_listed_and_leave_the_others_intact(
        self, predict: Any, out: Path, media: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = [media / f"{name}.mp4" for name in ("text", "empty", "missing", "cut")]
        assert predict(bad[0], media / "both.mp4", *bad[1:], media / "sound.wav", "--skip-errors") == 1
        error = capsys.readouterr().err
        assert "4 clip(s) could not be read:" in error
        assert all(f"  {path}: " in error for path in bad)
        assert "Traceback" not in error
        assert sorted(p.name for p in out.glob("*.json")) == ["both.json", "sound.json"]
        assert Scores.read(out / "scores_emotion.csv").clip_id == ["both", "sound"]

    def test_nothing_but_bad_files_leaves_nothing_behind(self, predict: Any, out: Path, media: Path) -> None:
        assert predict(media / "text.mp4", "--skip-errors") == 1
        assert not out.exists()


class TestMistakes:
    """One line that names the file or option; exit status 2."""

    def line(self, capsys: pytest.CaptureFixture[str], *named: str) -> None:
        text = one_line(capsys.readouterr().err)
        assert all(name in text for name in named), text

    @pytest.mark.parametrize("name", ["text", "empty", "missing", "cut"])
    def test_a_file_that_cannot_be_read(
        self, name: str, predict: Any, out: Path, media: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert predict(media / f"{name}.mp4") == 2
        self.line(capsys, f"{name}.mp4")
        assert not out.exists()

    def test_no_checkpoint(self, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert mer("predict", media / "both.mp4", "--out", tmp_path / "out") == 2
        self.line(capsys, "--checkpoint", "mer quickstart")
        assert mer("predict", media / "both.mp4", "--out", tmp_path, "--checkpoint", tmp_path / "none.safetensors") == 2
        self.line(capsys, "none.safetensors")

    def test_a_checkpoint_with_a_foreign_class(
        self, media: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = tiny_checkpoint.read_bytes().replace(b"mer.encoders.frames.FrameCNN", b"lab_nets.wide.frames.FrameNN")
        (tmp_path / "foreign.safetensors").write_bytes(data)
        foreign = ("--checkpoint", tmp_path / "foreign.safetensors", "--out", tmp_path / "out")
        assert mer("predict", media / "both.mp4", *foreign) == 2
        self.line(capsys, "foreign.safetensors", "lab_nets.wide.frames.FrameNN", "--allow-module")
        assert mer("predict", media / "both.mp4", *foreign, "--allow-module", "lab_nets") == 2
        self.line(capsys, "lab_nets.wide.frames.FrameNN", "cannot be imported")

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("--start", 1.0, "--end", 1.0), ["--start"]),
            (("--start", -1), ["--start"]),
            (("--start", 100), ["both.mp4"]),
            (("--device", "abacus"), ["abacus"]),
            (("--window", 0.1, "--step", 0), ["0 < step"]),
            (("--window", -1), ["window"]),
        ],
    )  # fmt: skip
    def test_options_that_make_no_sense(
        self,
        arguments: Sequence[object],
        named: list[str],
        predict: Any,
        media: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert predict(media / "both.mp4", *arguments) == 2
        self.line(capsys, *named)

    def test_a_folder_without_clips(self, predict: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty").mkdir()
        assert predict(tmp_path / "empty") == 2
        self.line(capsys, "empty", "no video or sound file")

    def test_results_into_a_file(
        self, predict: Any, out: Path, media: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out.write_text("already here")
        assert predict(media / "both.mp4") == 2
        self.line(capsys, str(out))
        assert out.read_text() == "already here"


@pytest.mark.real
def test_real_talking_clips_are_read_frame_by_frame(
    predict: Any, out: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = sorted((real_data / "ravdess" / "av").glob("*.mp4"))
    if not clips:
        pytest.skip("MER_REAL_DATA holds no ravdess/av")
    assert predict(*clips) == 0
    for clip in clips:
        assert answer(out / f"{clip.stem}.json")["modalities_used"] == ["video", "audio"]
        times = [float(row["time"]) for row in frames(out / f"{clip.stem}_frames.csv")]
        assert times == pytest.approx(presentation_times(clip), abs=1e-6)
