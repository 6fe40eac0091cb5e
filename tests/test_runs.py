"""A run folder explains its result, and counts how often its test split was opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import mer
from mer import runs
from mer.runs import RunFolder, environment, file_hash, write_json, write_text


def test_a_new_folder_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.last is None
    assert not folder.path.exists(), "looking makes no folder"
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "last.ckpt").touch()
    assert folder.last == tmp_path / "run" / "checkpoints" / "last.ckpt"


def test_config_and_environment_are_recorded_beside_the_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.record("model: {}\n", {"seed": 3})
    assert (folder.path / "config.yaml").read_text(encoding="utf-8") == "model: {}\n"
    facts = json.loads((folder.path / "environment.json").read_text(encoding="utf-8"))
    assert facts["seed"] == 3
    assert facts["versions"]["mer"] == mer.__version__
    assert {"time", "command", "platform", "cpus", "git"} <= set(facts)


def test_every_opening_of_the_test_split_is_counted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert [folder.count_test_opening(command, {"fold": "1"}) for command in ("test", "crossval", "test")] == [1, 2, 3]
    lines = (folder.path / "test_openings.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["command"] for line in lines] == ["test", "crossval", "test"]
    assert all(json.loads(line)["fold"] == "1" and json.loads(line)["time"].endswith("+00:00") for line in lines)


def test_the_command_can_be_copied_back_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/mer", "predict", "my clip's.mp4"])
    assert environment()["command"] == """mer predict 'my clip'"'"'s.mp4'"""


def test_a_package_outside_a_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.mer, "__file__", str(tmp_path / "site-packages" / "mer" / "__init__.py"))
    assert environment()["git"] is None


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_PACKAGES", ("torch", "no-such-package"))
    assert set(environment()["versions"]) == {"mer", "python", "torch"}


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (3 << 20))
    (tmp_path / "b").write_bytes(b"x" * (3 << 20))
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") == hashlib.sha256(b"x" * (3 << 20)).hexdigest()[:16]


class TestWriting:
    def test_folders_are_made_and_letters_kept(self, tmp_path: Path) -> None:
        write_json(tmp_path / "new" / "folder" / "a.json", {"Gefühl": [1, None]})
        text = (tmp_path / "new" / "folder" / "a.json").read_text(encoding="utf-8")
        assert json.loads(text) == {"Gefühl": [1, None]}
        assert "Gefühl" in text
        assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["a.json"]

    def test_what_cannot_be_written_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_text(path, "old")
        with pytest.raises(TypeError):
            write_json(path, {"a": object()})
        with pytest.raises(UnicodeEncodeError):
            write_text(path, "half \ud800")
        assert path.read_text(encoding="utf-8") == "old"
