"""FERV39k becomes a manifest; the path of a clip proves which order the numbers of a list have."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny import prepared

from mer.datasets.corpora import ferv39k
from mer.datasets.manifest import Manifest
from mer.datasets.twins import ferv39k as twin
from mer.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ferv39k") / "download"
    twin.write(root, 3, 3)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "download"))


def read(root: Path, out: Path, *options: str) -> Manifest:
    prepared(ferv39k, root, out, False, *options)
    return Manifest.read(out / "manifest.csv")


def test_scenes_emotions_and_numbers(root: Path, tmp_path: Path) -> None:
    manifest = read(root, tmp_path)
    assert Counter(c.split for c in manifest.clips) == {"train": 14, "test": 7}
    clip = manifest.clips[0]
    assert clip.clip_id == "Action/Happy/0000"
    assert clip.cells["faces"] == "2_ClipsforFaceCrop/Action/Happy/0000#25@0"
    assert (clip.cells["scene"], clip.cells["frames"]) == ("Action", "5")
    for clip in manifest.clips:
        assert clip.labels["emotion"] == [float(ferv39k.SPACE.names.index(clip.clip_id.split("/")[1].lower()))]


def test_both_orders_of_numbers_give_the_same(root: Path, tmp_path: Path) -> None:
    ours = read(root, tmp_path / "a")
    other = read(root, tmp_path / "b", "--lists", str(root / twin.OTHERS))
    assert [c.labels for c in ours.clips] == [c.labels for c in other.clips]


def test_a_number_that_contradicts_its_path(root: Path, tmp_path: Path) -> None:
    file = root / "Annotation" / "train.csv"
    lines = file.read_text().split()
    lines[3] = lines[3].rpartition(",")[0] + ",2"
    file.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"train.csv, line 4: label 2 of Action/Neutral/0000, which is neutral"):
        read(root, tmp_path)


def test_a_path_that_leads_elsewhere(root: Path, tmp_path: Path) -> None:
    file = root / "Annotation" / "train.csv"
    file.write_text(file.read_text() + "../Happy/..,3\n")
    with pytest.raises(UserError, match=r"'\.\./Happy/\.\.' is not Scene/Emotion/id"):
        read(root, tmp_path)


def test_lists_of_two_orders(root: Path, tmp_path: Path) -> None:
    file = root / "Annotation" / "test.csv"
    lines = (root / twin.OTHERS / "test_All.txt").read_text().split("\n")[:-1]
    file.write_text("path,id\n" + "\n".join(f"{line.split()[0]},{line.split()[2]}" for line in lines))
    with pytest.raises(UserError, match="take all lists from one place"):
        read(root, tmp_path)


def test_a_clip_in_training_and_test(root: Path, tmp_path: Path) -> None:
    with (root / "Annotation" / "test.csv").open("a") as file:
        file.write("Action/Happy/0000,3\n")
    with pytest.raises(UserError, match="clip Action/Happy/0000 stands in"):
        read(root, tmp_path)


@pytest.mark.real
def test_the_published_lists_in_seconds(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "annotations" / "ferv39k"
    begun = time.monotonic()
    manifest = read(root, tmp_path)
    assert time.monotonic() - begun < 10
    for split, counts in (
        ("train", [5854, 5523, 7790, 5906, 2502, 1833, 1680]),
        ("test", [1473, 1393, 1958, 1487, 638, 467, 431]),
    ):
        found = Counter(label[0] for c in manifest.clips if c.split == split and (label := c.labels["emotion"]))
        assert [found[k] for k in range(7)] == counts
    assert len({c.cells["scene"] for c in manifest.clips}) == 22
