"""Every shipped config parses, builds its model, and names what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny import mer

from mer.datasets.manifest import Corpus, write_manifest
from mer.experiments import training
from mer.labels import SPACES, Task
from mer.shipped import shipped

CONFIGS = sorted(p for p in shipped("configs").rglob("*.yaml") if p.name not in ("tiny.yaml", "fusions.yaml"))


def tasks(**spaces: str) -> list[Task]:
    """Tasks by name with their label spaces; those whose name ends in `frame` are at frame level."""
    return [Task(n, SPACES[s], "frame" if n.endswith("frame") else "video") for n, s in spaces.items()]


TASKS = {
    "emer": tasks(
        **dict.fromkeys(("er7", "fer7"), "emer7.v1"),
        **dict.fromkeys(("er3", "fer3"), "emer3.v1"),
        **dict.fromkeys(("er_va", "fer_va"), "emer_va.v1"),
        fer_intensity="emer_intensity.v1",
    ),
    "eye_ier": tasks(condition="eye_ier5.v1"),
    "mafw": tasks(emotion="mafw11.v1"),
    "ferv39k": tasks(emotion="ferv39k7.v1"),
    "dfew": tasks(emotion="dfew7.v1"),
    "bah": tasks(ah="bah2.v1", ah_frame="bah2.v1"),
    "imigue": tasks(gesture="imigue32.v1", emotion="imigue_emotion2.v1"),
    "compare": tasks(emotion="ravdess8.v1", agreement="synthetic_xor.v1", sentiment="mosi2.v1"),
    "crema_d": tasks(emotion="crema_d6.v1"),
    "emodb": tasks(emotion="emodb4.v1"),
    "folder": tasks(label="basic7.v1"),
    "meld": tasks(emotion="meld7.v1", sentiment="meld3.v1"),
    "mmmo": tasks(sentiment="mmmo2.v1", score="mmmo_score.v1"),
    "mosi": tasks(sentiment="mosi2.v1"),
    "quickstart": tasks(emotion="synthetic4.v1"),
    "ravdess": tasks(emotion="ravdess8.v1"),
    "utd_mhad": tasks(action="utd_mhad27.v1"),
}


def corpus_of(config: Path) -> str:
    return config.stem if config.parent == shipped("configs") else config.parent.name


@pytest.fixture
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Rows of the right columns, without media."""
    config: Path = request.getfixturevalue("config")
    given = {task.name: task for task in TASKS[corpus_of(config)]}
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    Corpus("tiny", tmp_path, given, "true").write(tmp_path / "corpus.yaml")
    columns = [c for e in content["model"]["encoders"].values() for c in e.get("init_args", {}).get("columns", [])]
    arguments = [e.get("init_args", {}) for e in content["model"]["encoders"].values()]
    joint = [a[n] for a in arguments for n in ("video", "audio") if isinstance(a.get(n), str)]  # its columns
    modalities = [*content["model"]["encoders"], *columns, *joint]
    rows = [
        {
            "clip_id": f"c{i}",
            "subject": f"s{i}",
            "split": split,
            "fold": i,
            "frame_labels": "",
            **{
                n: task.space.names[0]
                for n, task in given.items()
                if task.level == "video" and task.space.kind == "classes"
            },
            **{n: ";".join("0" * len(t.space)) for n, t in given.items() if t.space.kind == "continuous"},
            **dict.fromkeys(modalities, "x"),
        }
        for i, split in enumerate(("train", "train", "val", "test"))
    ]
    write_manifest(tmp_path / "manifest.csv", list(rows[0]), rows)
    return tmp_path / "manifest.csv"


@pytest.fixture(params=CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def config(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_some() -> None:
    assert {corpus_of(path) for path in CONFIGS} >= {"quickstart", "ravdess", "utd_mhad"}


def test_it_parses(config: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("fit", "--config", config, "--data.manifest", manifest, "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["manifest"] == str(manifest)


def test_its_model_and_trainer_are_built(config: Path, manifest: Path, tmp_path: Path) -> None:
    tiny = ["--overlay", str(shipped("configs") / "tiny.yaml")]  # published weights are not at hand
    options = ["--data.manifest", str(manifest), "--out", str(tmp_path / "run"), "--trainer.accelerator", "cpu", *tiny]
    options += ["--model.encoder_weights", "null"]  # which are fetched, or put in place by hand
    options += ["--data.store", "null"]  # which mer extract fills
    run = training.parse(["--config", str(config), *options], "fit")
    assert sum(p.numel() for p in run.task.model.parameters()) > 1000
    assert set(run.task.model.specs) <= set(run.data.manifest.columns)
    assert run.trainer.max_epochs


def test_it_says_what_it_is_and_names_no_machine(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    assert text.startswith("# ")
    manifest = Path(yaml.safe_load(text)["data"]["manifest"])
    assert not manifest.is_absolute()
