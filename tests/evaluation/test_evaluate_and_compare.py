from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_scores import clustered, make_scores, make_values

from mer.errors import UserError
from mer.evaluation import Scores, compare, evaluate
from mer.labels import LabelSpace


def test_the_command_prints_the_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clustered(np.random.default_rng(0)).write(tmp_path / "s.csv")
    out = tmp_path / "out" / "s.json"
    assert evaluate.main([str(tmp_path / "s.csv"), "--json", str(out)]) == 0
    assert "over 20 subjects" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["file"] == str(tmp_path / "s.csv")
    assert result["metrics"]["uar"]["interval"]["units"] == 20


def test_groups_are_shown_from_five_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = make_scores([0, 1] * 10, [0, 1] * 9 + [0, 0], group=["women"] * 8 + ["men"] * 8 + ["x"] * 3 + [""])
    scores.write(tmp_path / "s.csv")
    evaluate.main([str(tmp_path / "s.csv"), "--by", "group", "--json", str(tmp_path / "o.json")])
    text = capsys.readouterr().out
    assert text.index("group men:") < text.index("group women:")
    assert "group x" not in text
    assert "2 group(s) with fewer than 5 labelled clips not shown" in text
    by = json.loads((tmp_path / "o.json").read_text())["by"]
    assert list(by["group"]) == ["men", "women"]
    assert by["hidden"] == 2
    with pytest.raises(UserError, match="no row has a fold"):
        evaluate.main([str(tmp_path / "s.csv"), "--by", "fold"])


def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str], a: Scores, b: Scores, *options: str) -> str:
    for name, scores in (("a.csv", a), ("b.csv", b)):
        scores.write(tmp_path / name)
    assert compare.main([str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), *options]) == 0
    return capsys.readouterr().out


def test_a_comparison_ends_in_a_plain_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (clustered(np.random.default_rng(1), shift=s) for s in (0.0, 0.25))
    text = compared(tmp_path, capsys, a, b)
    assert text.startswith("UAR, 95 % intervals over 20 subjects")
    assert "B is better than A by" in text
    assert "p = 0.0" in text or "p < 0.001" in text
    assert "No difference in WAR is shown" in compared(tmp_path, capsys, a, a, "--metric", "war")


def test_a_comparison_of_few_clips_concludes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = compared(tmp_path, capsys, make_scores([0, 1] * 4, [0] * 8), make_scores([0, 1] * 4, [1] * 8))
    assert "No conclusion: 8 clips are too few" in text


def test_a_comparison_over_clips_of_few_people_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    a, b = (make_scores([0, 1] * 20, rng.integers(2, size=40), subject=["x", "y"] * 20) for _ in range(2))
    assert "WARNING: clips of 2 known subjects are not independent" in compared(tmp_path, capsys, a, b)


def test_lower_errors_are_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    t, space = rng.normal(size=(50, 1)), LabelSpace("v.v1", ("valence",), "continuous")
    a, b = (make_values(space, t, t + size * rng.normal(size=t.shape)) for size in (0.2, 2.0))
    assert "A is better than B" in compared(tmp_path, capsys, a, b)
    assert "A is better than B" in compared(tmp_path, capsys, a, b, "--metric", "mae")


def test_mistakes_reach_the_caller_as_user_errors(tmp_path: Path) -> None:
    for command in (evaluate.main, compare.main):
        with pytest.raises(UserError, match="no such file"):
            command([str(tmp_path / "none.csv")] * (1 if command is evaluate.main else 2))


def test_the_package_names_its_modules_and_the_room_needs_no_torch() -> None:
    room = importlib.import_module("mer.evaluation")
    assert all(hasattr(room, name) for name in room.__all__)
    code = "import sys, mer.evaluation.evaluate, mer.evaluation.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
