"""The `mer` command: quick to answer, one line for a user's mistake, never a traceback."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

import mer
from mer import cli
from mer.errors import UserError, need_extra

ROOT = Path(mer.__file__).parent.parent
HEAVY = ("torch", "pytorch_lightning", "lightning_fabric", "numpy", "scipy", "matplotlib", "av", "jsonargparse", "yaml")


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A Python process that finds the `mer` under test."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )


class TestHelp:
    def test_it_comes_within_a_second(self) -> None:
        times = []
        for _ in range(3):  # the quickest counts: other jobs run on this machine, too
            begun = time.monotonic()
            done = run("-m", "mer", "--help")
            times.append(time.monotonic() - begun)
            assert done.returncode == 0, done.stderr
        assert min(times) < 1.0

    def test_it_imports_nothing_heavy(self) -> None:
        code = f"import sys, mer.cli; mer.cli.main(['--help']); print([m for m in {HEAVY!r} if m in sys.modules])"
        assert run("-c", code).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("asked", [[], ["--help"], ["-h"], ["help"]])
    def test_it_names_every_command(self, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert tiny.mer(*asked) == 0
        lines = capsys.readouterr().out.splitlines()
        listed = [line.split()[0] for line in lines if line.startswith("  ")]
        assert sorted(listed) == sorted(cli.COMMANDS)
        assert all(len(line) <= 100 for line in lines)

    @pytest.mark.parametrize("command", cli.COMMANDS)
    def test_every_command_explains_itself(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert tiny.mer(command, "--help") == 0
        assert f"mer {command}" in capsys.readouterr().out

    @pytest.mark.parametrize("command", ["evaluate", "compare", "prepare"])
    def test_light_commands_import_no_torch(self, command: str) -> None:
        module = cli.COMMANDS[command][0].partition(":")[0]
        code = f"import sys, {module}; print([m for m in ('torch', 'pytorch_lightning') if m in sys.modules])"
        assert run("-c", code).stdout.strip() == "[]"


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.mer("--version") == tiny.mer("-V") == 0
    assert capsys.readouterr().out == 2 * f"mer {mer.__version__}\n"


class TestMistakes:
    def test_an_unknown_command_is_named_with_the_known_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert tiny.mer("trian") == 2
        line = tiny.one_line(capsys.readouterr().err)
        assert "'trian'" in line
        assert all(name in line for name in cli.COMMANDS)

    def test_a_mistake_is_one_line_on_stderr_and_no_traceback(self, tmp_path: Path) -> None:
        done = run("-m", "mer", "evaluate", str(tmp_path / "none.csv"))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("mer evaluate: ")
        assert str(tmp_path / "none.csv") in done.stderr

    def test_the_line_has_problem_and_remedy_whatever_a_library_put_into_it(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(argv: list[str]) -> int:
            raise UserError("a.csv, line 3:\n  two\n\tlines", "Mend it.")

        monkeypatch.setattr(importlib.import_module("mer.evaluation.evaluate"), "main", fail)
        assert tiny.mer("evaluate") == 2
        assert capsys.readouterr().err == "mer evaluate: a.csv, line 3: two lines. Mend it.\n"

    def test_a_programmer_s_mistake_keeps_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.import_module("mer.evaluation.evaluate"), "main", lambda argv: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tiny.mer("evaluate")

    def test_a_missing_option_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert tiny.mer("predict", "clip.mp4") == 2
        assert "--out" in tiny.one_line(capsys.readouterr().err.splitlines()[-1])

    def test_a_missing_package_is_named_with_its_extra(self) -> None:
        assert "pip install -c constraints.txt -e '.[wandb]'" in str(need_extra("wandb", "wandb"))


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("mer.evaluation.evaluate"), "main", interrupted)
    assert tiny.mer("evaluate") == 130
    assert "the same command goes on" in tiny.one_line(capsys.readouterr().err)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"'{sys.executable}' -c \"import mer.cli; mer.cli.main(['--help'])\" | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_training_mends_a_torchvision_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    mended: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "torchvision" else None)
    monkeypatch.setattr("mer.encoders.foreign.mend", lambda: mended.append("torchvision"))
    monkeypatch.setitem(cli.COMMANDS, "fit", ("mer.errors:str", ""))
    monkeypatch.setattr("mer.errors.str", lambda argv: 0, raising=False)
    assert cli.main(["fit"]) == 0
    assert mended == ["torchvision"]
