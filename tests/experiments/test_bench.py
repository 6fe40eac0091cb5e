"""`mer bench media`: the parts that take seconds, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer.cli import main
from mer.experiments import bench_cache, bench_data, bench_media
from mer.experiments.bench import table
from mer.experiments.bench_media import Row


def test_a_cached_sample_is_cheaper_than_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cache, "REPEATS", 4)
    monkeypatch.setitem(bench_media.FILES, "224", (224, 224, 120, 1))
    monkeypatch.setitem(bench_media.FILES, "720p", (240, 320, 120, 1))
    ratios = {(row.name, row.what): row.ratio for row in bench_cache.cache_rows(tmp_path)}
    assert len(ratios) == 8
    assert all(ratio > 1 for (_, what), ratio in ratios.items() if "raw" in what)


def test_the_table_has_a_block_per_job() -> None:
    rows = [Row("job", "one", 1.5, "s", None), Row("job", "two", 3.0, "s", 2.0), Row("next", "one", 1.0, "s", None)]
    lines = [line.split() for line in table(rows).splitlines() if line]
    assert lines == [["job"], ["one", "1.5", "s"], ["two", "3", "s", "2.00", "x"], ["next"], ["one", "1", "s"]]


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["bench", "media", "--part", "cache", "--folder", str(tmp_path / "file")]) == 2
    assert "--folder" in capsys.readouterr().err


def test_the_loader_and_the_long_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_data, "CLIPS", 130)
    monkeypatch.setattr(bench_data, "LONG", 300)
    for _ in range(2):  # the second time finds everything written
        assert main(["bench", "data", "--folder", str(tmp_path / "kept")]) == 0
        printed = capsys.readouterr().out
        assert printed.count("clips/s") == 4
        assert "a manifest of 300 clips" in printed
        assert "MiB" in printed
