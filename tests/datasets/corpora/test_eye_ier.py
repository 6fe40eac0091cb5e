"""Eye recordings under five loads become a manifest from the original tables and from the packed arrays, people apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import mer, one_line, prepared

from mer.datasets.corpora import eye_ier
from mer.datasets.manifest import Manifest
from mer.datasets.protocol import split_clips
from mer.datasets.twins import eye_ier as twin
from mer.encoders import EyeTCN
from mer.errors import UserError
from mer.media.prepare import prepare


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eye_ier")
    twin.write(root / "raw", 3, 0)
    return root / "raw"


def pack(root: Path, **changes: object) -> Path:
    """Two people under five loads, ten samples each."""
    root.mkdir(exist_ok=True)
    data = np.concatenate(
        [np.column_stack([np.arange(10) / 88, *[np.full(10, 1.0 + k)] * 4, np.zeros(10)]) for k in range(10)]
    )
    content: dict[str, Any] = {
        "data": data.astype(np.float32),
        "columns": np.array(["t_s", "openness_L", "openness_R", "pupil_mm_L", "pupil_mm_R", "blink_s"]),
        "offset": np.arange(0, 101, 10),
        "condition": np.tile(np.arange(5), 2),
        "participant": np.repeat([7, 11], 5),
        "condition_names": np.array(eye_ier.SPACE.names),
    }
    kept: dict[str, Any] = {key: value for key, value in (content | changes).items() if value is not None}
    np.savez(root / eye_ier.PACKAGE, **kept)
    return root


def test_tables_with_semicolons_are_recordings(tables: Path, tmp_path: Path) -> None:
    count, left_out = prepared(eye_ier, tables, tmp_path / "out")
    assert (count, left_out) == (15, {})
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert [c.clip_id for c in manifest.clips[:5]] == [f"P1_{name}" for name in eye_ier.SPACE.names]
    first, second = manifest.clips[0], manifest.clips[6]
    assert (first.subject, first.cells["eye"], first.labels["condition"]) == ("1", "P1_Control.csv.gz", [0.0])
    assert (second.subject, second.cells["eye"], second.labels["condition"]) == ("2", "P2_1_NPC_blinks.csv", [1.0])
    for clip in (first, second):
        spec = EyeTCN(("openness_left", "pupil_left"), 30.0, 8, (4,)).spec
        seen = prepare(manifest.corpus.root, clip.cells["eye"], spec, clip.start, clip.end)
        assert float(seen.spans[0, -1, 1]) == pytest.approx(clip.end, abs=0.05)
        shut = (seen.values[0, :, 0] < 0.1) & (seen.values[0, :, 0] > 0)
        assert bool(shut.any()) and float(seen.values[0, :, 1].min()) == 0  # the -1 of a closed eye is no pupil


def test_of_two_tables_the_one_with_blinks_is_taken(tables: Path, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    for name in ("P2_4_Combined_blinks.csv", "P2_4_Combined.csv"):
        (root / name).write_bytes((tables / "P2_4_Combined_blinks.csv").read_bytes())
    prepared(eye_ier, root, tmp_path / "out")
    (clip,) = Manifest.read(tmp_path / "out" / "manifest.csv").clips
    assert clip.cells["eye"] == "P2_4_Combined_blinks.csv" and clip.fold == ""


def test_folds_share_nobody(tables: Path, tmp_path: Path) -> None:
    prepared(eye_ier, tables, tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert manifest.folds == ["0", "1", "2"] and manifest.corpus.subject_disjoint == "true"
    for fold in manifest.folds:
        split = split_clips(manifest, fold, 0.0, 0)
        assert split.stamp == "" and len(split.test) == 5
        assert {c.labels["condition"][0] for c in split.test if c.labels["condition"]} == {0, 1, 2, 3, 4}


def test_packed_arrays_are_rows_of_one_file(tmp_path: Path) -> None:
    count, _ = prepared(eye_ier, pack(tmp_path / "packed"), tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert count == 10 and {c.subject for c in manifest.clips} == {"7", "11"}
    last = manifest.clips[-1]
    assert (last.clip_id, last.cells["eye"], last.end) == (
        "P11_combined",
        "recordings.npz#data[9]",
        pytest.approx(10 / 88, abs=1e-3),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"participant": None}, "not readable, or without data, columns"),
        ({"condition_names": np.array(["a", "b", "c", "d", "e"])}, "conditions are not control, npc"),
        ({"participant": np.arange(3)}, "its lists do not fit each other"),
        ({"participant": np.array(["7", "11"] * 5)}, "do not fit"),
        ({"columns": np.array([])}, "do not fit"),
        ({"data": np.zeros(3, np.float32)}, "do not fit"),
        ({"offset": np.array([*range(0, 100, 10), 900])}, "do not fit"),
        ({"condition": np.zeros(10, int)}, r"row 1: person 7 under control twice"),
        ({"condition": np.array([0, 1, 2, 3, 9] * 2)}, r"row 4: 10 samples under condition 9"),
    ],
)
def test_a_package_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(eye_ier, pack(tmp_path / "packed", **changes), tmp_path / "out")


def test_bad_names_and_files(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "P2_3_Combined.csv").write_text("t_s;openness_L\n")
    with pytest.raises(UserError, match=r"condition 3 is 'arithmetic_second_task', not 'Combined'"):
        prepared(eye_ier, root, tmp_path / "out")
    (root / "P2_3_Combined.csv").rename(root / "P2_3_Sums.csv")
    with pytest.raises(UserError, match=r"P2_3_Sums.csv: no samples.* or pass --skip-errors"):
        prepared(eye_ier, root, tmp_path / "out")
    (root / "P1_Control.csv.gz").write_bytes((tables / "P1_Control.csv.gz").read_bytes())
    assert prepared(eye_ier, root, tmp_path / "out", True)[0] == 1
    assert mer("prepare", "eye_ier", "--root", tables.parent / "nothing", "--out", tmp_path / "out") != 0
    assert "no such folder" in one_line(capsys.readouterr().err)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no recordings.npz and no tables"):
        prepared(eye_ier, tmp_path / "empty", tmp_path / "out")


@pytest.mark.real
def test_the_real_recordings(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "eye_ier2023"
    assert prepared(eye_ier, root, tmp_path / "out") == (90, {})
    packed = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert len({c.subject for c in packed.clips}) == 18 and packed.folds == ["0", "1", "2", "3", "4", "5"]
    assert {
        sum(c.fold == f and c.cells["condition"] == n for c in packed.clips)
        for f in packed.folds
        for n in eye_ier.SPACE.names
    } == {3}
    assert prepared(eye_ier, root / "raw_samples", tmp_path / "raw") == (2, {})
    ends = {clip.clip_id: clip.end for clip in packed.clips}
    for clip in Manifest.read(tmp_path / "raw" / "manifest.csv").clips:
        assert clip.end == pytest.approx(ends[clip.clip_id], abs=1e-3) and "_blinks" in clip.cells["eye"]
