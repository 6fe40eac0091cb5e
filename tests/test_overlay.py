"""An overlay changes every place where a class stands, and nothing else; what it makes is in the resolved config."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml
from tiny import mer, one_line

from mer.datasets.extract import configured
from mer.datasets.synthetic import generate
from mer.experiments import training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    generate(out, progress=False, **tiny.CORPUS)
    return out


def overlay(path: Path, **content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def resolved(config: Path, *more: object) -> dict:
    return dict(yaml.safe_load(training.parse([str(a) for a in ("--config", config, *more)], "fit").config))


def test_settings_go_to_the_class_wherever_it_stands(corpus: Path, tmp_path: Path) -> None:
    config = tiny.config(tmp_path / "c.yaml", corpus)
    small = overlay(
        tmp_path / "o.yaml",
        **{"mer.encoders.MelNet": {"dim": 4}, "mer.fusion.AttentionPool": {"dim": 4}, "mer.fusion.Concat": {"dim": 2}},
        data={"batch_size": 3},
    )
    plain, laid = resolved(config), resolved(config, "--overlay", small)
    assert laid["model"]["encoders"]["audio"]["init_args"]["dim"] == 4
    assert laid["model"]["encoders"]["video"] == plain["model"]["encoders"]["video"]
    assert laid["model"]["fusion"]["init_args"]["dim"] == 4
    assert (plain["data"]["batch_size"], laid["data"]["batch_size"]) == (16, 3)
    assert "overlay" not in laid


def test_the_environment_names_one_for_a_session(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(tmp_path / "c.yaml", corpus)
    monkeypatch.setenv("MER_OVERLAY", str(overlay(tmp_path / "o.yaml", **{"mer.encoders.MelNet": {"dim": 4}})))
    assert resolved(config)["model"]["encoders"]["audio"]["init_args"]["dim"] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mer.encoders.Nothing": {"dim": 4}}, "mer.encoders.Nothing: there is no such class"),
        ({"mer.encoders.MelNet": {"width": 4}}, "width"),
        ({"data": {"batches": 4}}, "data.batches, which no config has"),
        ({"data": 4}, "not settings by class"),
    ],
)
def test_mistakes_are_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, object], message: str
) -> None:
    config = tiny.config(tmp_path / "c.yaml", corpus)
    assert mer("fit", "--config", config, "--overlay", overlay(tmp_path / "o.yaml", **content)) == 2
    assert message in one_line(capsys.readouterr().err)
    assert mer("fit", "--config", config, "--overlay", tmp_path / "none.yaml") == 2
    assert "none.yaml: not readable" in one_line(capsys.readouterr().err)


def test_an_extraction_takes_the_session_s_too(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config(tmp_path / "c.yaml", corpus)
    small = overlay(tmp_path / "o.yaml", **{"mer.encoders.MelNet": {"dim": 4}}, model={"encoder_weights": None})
    assert configured(config, warn=False)["audio"].dim == 8
    monkeypatch.setenv("MER_OVERLAY", str(small))
    assert configured(config, warn=False)["audio"].dim == 4
