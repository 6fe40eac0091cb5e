"""The synthetic corpus is real media, is the same every time, and hides its label from either modality alone."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from media_files import load

from mer.datasets import synthetic
from mer.datasets.synthetic import SyntheticClip, agreement_of, emotion_of, generate, plan, write_clip
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media import audio
from mer.media.probe import probe

SIZE = {"subjects": 6, "clips_per_subject": 8, "folds": 3, "seconds": 1.0}
RATE = 16000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    generate(out, **SIZE, progress=False)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def clips() -> list[SyntheticClip]:
    return plan(**SIZE)  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_clip_has_picture_and_sound_of_equal_length(corpus: Path) -> None:
    for row in rows(corpus / "manifest.csv"):
        end = float(row["end"])
        info = probe(corpus / row["video"])
        assert info.has_video and info.has_audio and info.duration == pytest.approx(end, abs=0.01)
        frames, spans = load(corpus / row["video"], 10, (64, 64))
        sound = audio.load(corpus / row["audio"], RATE)
        assert frames.shape == (10, 3, 64, 64) and spans[-1, 1] == pytest.approx(end)
        assert 0 <= len(sound) / RATE - end <= 1024 / RATE  # one AAC frame
        assert 0.05 < np.abs(sound).max() <= 1


def test_sound_and_picture_change_cue_at_the_same_time(tmp_path: Path) -> None:
    cue = [True, False]
    assert write_clip(tmp_path / "a.mp4", smiles=cue, rising=cue, segment=1.0, subject_seed=3, clip_seed=4) == 2.0
    frames, _ = load(tmp_path / "a.mp4", 10, (64, 64))
    motion = np.abs(np.diff(frames[:, :, 36:56, 16:48].astype(float), axis=0)).mean((1, 2, 3))
    assert np.argmax(motion) in (8, 9, 10)
    sound = audio.load(tmp_path / "a.mp4", RATE)
    assert glide(sound[:RATE]) > 0 > glide(sound[RATE : 2 * RATE])


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    small = {"subjects": 3, "clips_per_subject": 4, "folds": 3, "seconds": 0.5, "progress": False}
    generate(tmp_path / "a", **small, seed=1)  # type: ignore[arg-type]
    generate(tmp_path / "b", **small, seed=1)  # type: ignore[arg-type]
    generate(tmp_path / "c", **small, seed=2)  # type: ignore[arg-type]
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_finished_output_is_reused_and_unfinished_output_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"subjects": 3, "clips_per_subject": 4, "folds": 3, "seconds": 0.5, "progress": False}
    written: list[Path] = []

    def counted(path: Path, **arguments: object) -> float:
        written.append(path)
        path.write_bytes(b"clip")
        return 0.5

    monkeypatch.setattr(synthetic, "write_clip", counted)
    everything = 3 * 4 + 1  # and the interview
    generate(tmp_path, **small)  # type: ignore[arg-type]
    assert len(written) == everything
    generate(tmp_path, **small)  # type: ignore[arg-type]
    assert len(written) == everything
    (tmp_path / "manifest.csv").unlink()
    generate(tmp_path, **small)  # type: ignore[arg-type]
    assert len(written) == 2 * everything
    written[0].unlink()
    generate(tmp_path, **small)  # type: ignore[arg-type]
    assert len(written) == 3 * everything
    generate(tmp_path, **small, seed=5)  # type: ignore[arg-type]
    assert len(written) == 4 * everything


def test_another_corpus_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "corpus.yaml").write_text("name: precious\n")
    with pytest.raises(UserError, match="empty folder"):
        generate(tmp_path, progress=False)
    assert (tmp_path / "corpus.yaml").read_text() == "name: precious\n"


@pytest.mark.parametrize(
    "wrong", [{"clips_per_subject": 6}, {"clips_per_subject": 0}, {"subjects": 2}, {"folds": 25}, {"seconds": 0.1}]
)
def test_impossible_sizes_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        generate(tmp_path, **wrong, progress=False)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame_level", [False, True])
def test_every_subject_shows_each_pair_of_cues_equally_often_in_each_segment(frame_level: bool) -> None:
    clips = plan(subjects=5, clips_per_subject=8, frame_level=frame_level)
    for subject in {clip.subject for clip in clips}:
        own = [clip for clip in clips if clip.subject == subject]
        for segment in range(1 + frame_level):
            pairs = Counter((clip.smiles[segment], clip.rising[segment]) for clip in own)
            assert pairs == {(s, r): 2 for s in (False, True) for r in (False, True)}


def test_the_agreement_is_the_exclusive_or() -> None:
    assert agreement_of(True, True) == agreement_of(False, False) == "congruent"
    assert agreement_of(True, False) == agreement_of(False, True) == "ambivalent"


def test_the_emotion_is_the_pair_of_cues() -> None:
    assert len({emotion_of(s, r) for s in (True, False) for r in (True, False)}) == 4


def test_splits_and_folds_share_no_subject(corpus: Path) -> None:
    table = rows(corpus / "manifest.csv")
    for column in ("split", "fold"):
        assert len({(row["subject"], row[column]) for row in table}) == SIZE["subjects"]
    splits = {row["subject"]: row["split"] for row in table}
    assert Counter(splits.values()) == {"train": 4, "val": 1, "test": 1}
    assert list(splits.values()) == ["train"] * 4 + ["val", "test"]
    assert Counter(clip.split for clip in plan(clips_per_subject=4)) == {"train": 60, "val": 12, "test": 24}


def test_the_manifest_says_what_was_planned(corpus: Path, clips: list[SyntheticClip]) -> None:
    table = rows(corpus / "manifest.csv")
    names = "clip_id,subject,group,start,end,split,fold,emotion,agreement,video,audio"
    assert ",".join(table[0]) == names
    assert [(r["clip_id"], r["emotion"], r["video"]) for r in table] == [
        (c.clip_id, c.labels[0], c.file) for c in clips
    ]
    assert {(r["group"], r["start"], r["end"]) for r in table} == {("", "0", "1")}
    description = yaml.safe_load((corpus / "corpus.yaml").read_text())
    task = Task.from_dict("emotion", description["tasks"]["emotion"], "corpus.yaml")
    assert task.space == SPACES["synthetic4.v1"] and task.level == "video"
    assert description["subject_disjoint"] is True


def test_the_interview_is_long_and_switches(corpus: Path) -> None:
    assert probe(corpus / "interview.mp4").duration == pytest.approx(12, abs=0.01)
    truth = rows(corpus / "interview_truth.csv")
    assert [float(r["start"]) for r in truth] == [0, 3, 6, 9] and truth[-1]["end"] == "12"
    assert sorted(r["label"] for r in truth) == sorted(SPACES["synthetic4.v1"].names)


def test_frame_labels_follow_the_halves(tmp_path: Path) -> None:
    size = {"subjects": 3, "clips_per_subject": 4, "folds": 1, "seconds": 2.0, "frame_level": True}
    generate(tmp_path, **size, progress=False)  # type: ignore[arg-type]
    clips = plan(**size)  # type: ignore[arg-type]
    changing = 0
    for clip, row in zip(clips, rows(tmp_path / "manifest.csv"), strict=True):
        labels = rows(tmp_path / row["frame_labels"])
        assert [float(r["time"]) for r in labels] == pytest.approx(np.arange(10) / 5 + 0.1)
        assert [r["emotion_frame"] for r in labels] == [clip.labels[0]] * 5 + [clip.labels[1]] * 5
        assert row["emotion"] == clip.labels[0] and row["end"] == "2"
        changing += clip.labels[0] != clip.labels[1]
    assert 0 < changing < len(clips)
    tasks = yaml.safe_load((tmp_path / "corpus.yaml").read_text())["tasks"]
    assert tasks["emotion_frame"]["level"] == "frame"


# --- What a simple listener and a simple onlooker can tell about people they have not met ------------------------------


def mouth(corpus: Path, clip: SyntheticClip) -> np.ndarray:
    """Mean lower half of the picture, (3 * 32 * 64,)."""
    frames, _ = load(corpus / clip.file, 5, (64, 64))
    return frames[:, :, 32:].mean(0).ravel()


def glide(sound: np.ndarray) -> float:
    """Median change of pitch in octaves per 16 ms, by autocorrelation."""
    window, hop = 512, 256
    taper = np.hanning(window)
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
    power = np.square(frames).mean(1)
    loud = np.concatenate([frames[power > 0.1 * power.max()] * taper, taper[None]])
    correlation = np.fft.irfft(np.square(np.abs(np.fft.rfft(loud, 2 * window))))[:, :window]
    correlation = correlation[:-1] / correlation[-1].clip(0.5)  # the taper's own share, after Boersma (1993)
    lags = np.arange(RATE // 370, RATE // 70)
    octaves = -np.log2(lags[correlation[:, lags].argmax(1)])
    steps = np.diff(octaves)
    return float(np.median(steps[np.abs(steps) < 0.3]))


def unseen_accuracy(features: np.ndarray, answers: np.ndarray, subjects: np.ndarray) -> float:
    """Nearest class centroid, leaving one subject out at a time; each subject's own mean is taken away first."""
    features = features.astype(np.float64)
    for s in np.unique(subjects):
        features[subjects == s] -= features[subjects == s].mean(0)
    right = 0
    for s in np.unique(subjects):
        seen, new = subjects != s, subjects == s
        centroids = np.stack([features[seen & (answers == a)].mean(0) for a in (False, True)])
        distance = np.square(features[new][:, None] - centroids).sum(-1)
        right += int((distance.argmin(1) == answers[new]).sum())
    return right / len(answers)


def test_each_cue_shows_in_its_own_modality_and_the_label_in_neither(corpus: Path, clips: list[SyntheticClip]) -> None:
    subjects = np.array([clip.subject for clip in clips])
    smiles = np.array([clip.smiles[0] for clip in clips])
    rising = np.array([clip.rising[0] for clip in clips])
    seen = np.stack([mouth(corpus, clip) for clip in clips])
    heard = np.array([[glide(audio.load(corpus / clip.file, RATE))] for clip in clips])
    scores = {
        (name, target): unseen_accuracy(features, answers, subjects)
        for name, features in (("face", seen), ("voice", heard))
        for target, answers in (("smile", smiles), ("rising", rising), ("label", smiles != rising))
    }
    assert scores["face", "smile"] > 0.9 and scores["voice", "rising"] > 0.9
    for blind in (("face", "rising"), ("voice", "smile"), ("face", "label"), ("voice", "label")):
        assert scores[blind] < 0.7, blind  # 48 clips: chance is 0.5 with a standard error of 0.07
