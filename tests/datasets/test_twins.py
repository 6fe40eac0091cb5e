"""Each corpus's synthetic twin goes the whole way with each shipped config: prepare, fit, test, predict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tiny import mer

from mer.shipped import shipped


@dataclass(frozen=True)
class Way:
    """One config on one twin.

    Attributes:
        config: below configs/.
        people: of the twin.
        prepare: further options of `mer prepare`.
        fit: further options of `mer fit`, e.g. a fold where the corpus has no split.
        clip: glob below the twin of what `mer predict` reads, or the modality whose reference it is.
        inputs: modalities that `mer predict` takes by `--input`, from the first row of the test split.
    """

    config: str
    people: int = 6
    prepare: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()
    clip: str = "**/*.mp4"
    inputs: tuple[str, ...] = field(default=())
    beside: tuple[str, ...] = ()  # more of them: MODALITY=FILE beside the manifest, {stem} for the name of the clip

    @property
    def corpus(self) -> str:
        return self.config.partition("/")[0]


# One line per config.
WAYS: list[Way] = [
    Way("bah/video.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("faces", "text")),
    Way("bah/frame.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("faces", "text")),
    Way("bah/frame_lfan.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("faces", "text")),
    Way("bah/frame_can.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("faces", "text")),
    Way("bah/video_divergence.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("faces", "text")),
    Way("bah/question.yaml", prepare=("--level", "frame"), clip="Videos/*/*/*.mp4", inputs=("question",)),
    Way("emer/er7.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/er3.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/er_va.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/fer7.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/fer3.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/fer_va.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("emer/fer_intensity.yaml", clip="face video/*.mp4", inputs=("eye", "gaze")),
    Way("eye_ier/condition.yaml", clip="*.mp4", inputs=("eye",)),
    Way("imigue/gesture.yaml", fit=("--data.num_workers", "0"), clip="video", inputs=("skeleton",)),
    Way("imigue/gesture_skeleton.yaml", clip="video", inputs=("skeleton",)),
    Way("imigue/emotion.yaml", prepare=("--task", "emotion"), clip="video", beside=("face.faces=faces/{stem}.csv",)),
    Way("dfew/audio_faces.yaml", fit=("--data.fold", "1"), clip="raw/*.mp4", inputs=("faces",)),
    Way("dfew/de_iii.yaml", fit=("--data.fold", "1"), clip="raw/*.mp4", inputs=("faces", "flow")),
    Way("dfew/mma_dfer.yaml", fit=("--data.fold", "1"), clip="raw/*.mp4", inputs=("faces",)),
    Way("mafw/mma_dfer.yaml", fit=("--data.fold", "1"), clip="data/clips/*.mp4", inputs=("faces",)),
    Way("ferv39k/faces.yaml", clip="faces"),
    Way("ravdess/audio.yaml", fit=("--data.fold", "0")),
    Way("ravdess/au.yaml", fit=("--data.fold", "0"), inputs=("au",)),
    Way("ravdess/audio_au.yaml", fit=("--data.fold", "0"), inputs=("au",)),
    Way("utd_mhad/compact.yaml", clip="RGB/*.avi", inputs=("skeleton",)),
    Way("utd_mhad/full.yaml", clip="RGB/*.avi", inputs=("skeleton",)),
    Way("crema_d/audio_video.yaml", fit=("--data.fold", "0"), clip="VideoFlash/*.flv"),
    Way("emodb/audio.yaml", fit=("--data.fold", "3"), prepare=("--classes", "4"), clip="wav/*.wav"),
    Way("mosi/text.yaml", prepare=("--form", "features", "--level", "review"), inputs=("text",)),
    Way("mosi/all.yaml", prepare=("--form", "features"), inputs=("text", "audio", "video")),
    Way("mmmo/audio_video.yaml", inputs=("audio", "video")),
    Way("meld/text_audio.yaml", clip="audio", inputs=("text",)),
    Way(
        "folder/audio_video.yaml",
        prepare=("--label-level", "1", "--subject-regex", r"([^/]+) \(take", "--split", "60/20/20"),
    ),
]


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[object, ...], Path]:
    return {}


def twin_of(way: Way, twins: dict[tuple[object, ...], Path], factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The twin and its manifest, made once per corpus."""
    root_key, key = (way.corpus, way.people), (way.corpus, way.people, way.prepare)
    if root_key not in twins:
        twins[root_key] = factory.mktemp(way.corpus) / "download"
        assert mer("prepare", way.corpus, "--synthetic", way.people, "--out", twins[root_key]) == 0
    if key not in twins:
        out = factory.mktemp(way.corpus) / "data"
        assert mer("prepare", way.corpus, "--root", twins[root_key], "--out", out, *way.prepare) == 0
        twins[key] = out / "manifest.csv"
    return twins[root_key], twins[key]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*optimistic for new people")  # some protocols share people, and say so
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.config)
def test_from_download_to_prediction(
    way: Way, twins: dict[tuple[object, ...], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root, manifest = twin_of(way, twins, tmp_path_factory)
    run, tiny = tmp_path / "run", shipped("configs") / "tiny.yaml"
    told = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    config = shipped("configs") / way.config
    assert (
        mer("fit", "--config", config, "--data.manifest", manifest, "--out", run, "--overlay", tiny, *told, *way.fit)
        == 0
    )
    assert mer("test", "--config", run / "config.yaml") == 0
    tasks = yaml.safe_load((run / "config.yaml").read_text())["data"].get("tasks_used")
    scores = list(run.glob("scores_*.csv"))
    assert scores and (tasks is None or {s.stem.removeprefix("scores_") for s in scores} == set(tasks))

    from mer.datasets.manifest import Manifest

    read = Manifest.read(manifest)
    rows = [c for c in read.clips if all(read.reference(c, m) for m in way.inputs)]
    clip = next((c for c in rows if c.split == "test"), rows[0])
    given = [f"{m}={read.corpus.root / str(read.reference(clip, m))}" for m in way.inputs]
    shown: list[object] = [*sorted(root.glob(way.clip))[:1]] if way.clip else []
    if way.clip in read.columns:
        shown = [read.corpus.root / str(read.reference(clip, way.clip))]
    given += [text.format(stem=Path(str(shown[0])).stem).replace("=", f"={manifest.parent}/", 1) for text in way.beside]
    options = [part for text in given for part in ("--input", text)]
    out = tmp_path / "predicted"
    assert mer("predict", *shown, "--checkpoint", run / "model.safetensors", "--out", out, *options) == 0
    assert any(json.loads(p.read_text()) for p in out.glob("*.json"))


def test_every_config_has_its_way() -> None:
    configs = [p.relative_to(shipped("configs")) for p in shipped("configs").glob("*/*.yaml")]
    shipped_ones = {str(p) for p in configs if p.parts[0] != "compare"}
    assert {way.config for way in WAYS} == shipped_ones
