"""MAFW becomes a manifest from lists by name, and from numbers in an order that somebody has named."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from tiny import prepared

from mer.datasets.corpora import clip_lists, mafw
from mer.datasets.manifest import Manifest
from mer.datasets.twins import mafw as twin
from mer.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mafw") / "download"
    twin.write(root, 2, 3)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "download"))


def read(root: Path, out: Path, *options: str) -> Manifest:
    prepared(mafw, root, out, False, *options)
    return Manifest.read(out / "manifest.csv")


def labels(manifest: Manifest, task: str = "emotion") -> list[object]:
    return [c.labels[task] for c in manifest.clips]


def test_lists_by_name_whatever_their_case(root: Path, tmp_path: Path) -> None:
    manifest = read(root, tmp_path)
    assert len(manifest.clips) == 22
    assert manifest.folds == ["1", "2", "3", "4", "5"]
    assert Counter(str(label) for label in labels(manifest)).most_common()[-1][1] == 2
    clip = manifest.clips[0]
    assert clip.cells["faces"] == "data/frames/00001#25@0"
    assert clip.cells["video"] == "data/clips/00001.mp4"


def test_captions_in_either_encoding_with_their_commas(root: Path, tmp_path: Path) -> None:
    for clip in read(root, tmp_path).clips:
        assert clip.cells["caption"] == "A person looks at the other, speaks, and frowns."
        assert clip.cells["caption_zh"] == f"第{int(clip.clip_id)}位，看着对方，皱眉。"


def test_a_clip_without_sound(root: Path, tmp_path: Path) -> None:
    silent = [c.clip_id for c in read(root, tmp_path).clips if not c.cells["audio"]]
    assert silent == [f"{twin.SILENT + 1:05d}"]


def test_numbers_need_their_order(root: Path, tmp_path: Path) -> None:
    right = labels(read(root, tmp_path / "a"))
    lists = ("--lists", str(root / twin.S2D))
    with pytest.raises(UserError, match=r"--label-order mafw11\.v1"):
        read(root, tmp_path / "b", *lists)
    assert labels(read(root, tmp_path / "c", *lists, "--label-order", "mafw11_s2d.v1")) == right
    assert labels(read(root, tmp_path / "d", *lists, "--label-order", "mafw11_mae.v1")) != right


def test_clips_with_several_emotions(root: Path, tmp_path: Path) -> None:
    manifest = read(root, tmp_path, "--set", "compound")
    assert list(manifest.corpus.tasks) == ["emotions"]
    several = [c for c in manifest.clips if "_" in c.cells["compound"]]
    assert several
    for clip in manifest.clips:
        assert sum(clip.labels["emotions"] or ()) == clip.cells["compound"].count("_") + 1


def test_an_unknown_emotion_is_named_with_its_line(root: Path, tmp_path: Path) -> None:
    file = root / "Train & Test Set" / "single" / "with_caption" / "set_2" / "test.txt"
    file.write_bytes(file.read_bytes().replace(b"\tsadness\t", b"\tsad\t"))
    with pytest.raises(UserError, match=r"set_2/test.txt, line \d+: label 'sad'"):
        read(root, tmp_path)


def test_one_line_in_another_encoding_spoils_no_other(tmp_path: Path) -> None:
    lines = [f"0000{k}.mp4\tanger\t愤怒，{k}。\tHe, too.".encode(c) for k, c in enumerate(("utf-8", "gbk", "utf-8"))]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    captions = [line.captions[0] for line in clip_lists.read_list(tmp_path / "a.txt", clip_lists.numbered).lines]
    assert captions == [f"愤怒，{k}。" for k in range(3)]


@pytest.mark.real
def test_the_published_lists(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "annotations" / "mafw"
    manifest = read(root, tmp_path)
    assert len(manifest.clips) == 9172
    assert Counter(c.fold for c in manifest.clips) == {"1": 1839, "2": 1837, "3": 1833, "4": 1832, "5": 1831}
    counts = Counter(label[0] for c in manifest.clips if (label := c.labels["emotion"]))
    assert tuple(counts[k] for k in range(11)) == mafw.COUNTS


@pytest.mark.real
def test_the_published_lists_in_a_wrong_order_are_refused(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "annotations" / "mafw"
    with pytest.raises(UserError, match=r"Pass --label-order mafw11\.v1"):
        read(root, tmp_path, "--label-order", "mafw11_mae.v1")
