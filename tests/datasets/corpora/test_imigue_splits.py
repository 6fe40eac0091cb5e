"""The parts of iMiGUE are those of the published lists, and folds keep people together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny import prepared

from mer.datasets.corpora import imigue, imigue_ids
from mer.datasets.corpora.folds import grouped_folds
from mer.datasets.corpora.imigue_ids import part
from mer.datasets.manifest import Manifest
from mer.errors import UserError

# Clips of each class in the 13,670 of training and validation, by index; and in the 12,893 of training alone.
BOTH = (
    10, 418, 39, 207, 80, 23, 64, 858, 87, 3, 302, 154, 97, 41, 28, 27, 322, 83, 2, 942, 170, 373, 657, 700, 11, 287, 87, 60,
    1237, 6, 2272, 4023,
)  # fmt: skip
TRAIN = (
    10, 393, 38, 199, 80, 23, 57, 824, 80, 3, 284, 137, 97, 41, 26, 24, 304, 82, 1, 887, 157, 360, 656, 690, 11, 280, 84, 60,
    1155, 6, 2079, 3765,
)  # fmt: skip


def test_the_subjects_of_the_protocol() -> None:
    train, test = imigue_ids.TRAIN_SUBJECTS, imigue_ids.TEST_SUBJECTS
    assert (len(train), len(test)) == (37, 35)
    assert train | test == set(range(1, 73)) and not train & test


def test_the_videos_of_the_emotion_protocol() -> None:
    train, test = imigue_ids.EMOTION_TRAIN, imigue_ids.EMOTION_TEST
    assert (len(train), len(test), len(train & test)) == (102, 100, 0)
    # As many as are known to be of subjects who train gestures: 64 and 67.
    assert len(train - imigue_ids.OFFICIAL_TEST) == 64 and len(test - imigue_ids.OFFICIAL_TEST) == 67


def test_the_videos_of_the_challenge() -> None:
    test, validation = imigue_ids.MIGA_TEST, imigue_ids.MIGA_VALIDATION
    assert (len(test), len(validation), len(imigue_ids.MIGA_ABSENT)) == (104, 10, 4)
    assert not test & validation and not imigue_ids.MIGA_ABSENT & (test | validation)
    assert {218, 319, 347, 348} == imigue_ids.MIGA_ABSENT
    assert len(imigue_ids.OFFICIAL_TEST) == 104


def test_85_and_86_change_places() -> None:
    tester, trainer = min(imigue_ids.TEST_SUBJECTS), min(imigue_ids.TRAIN_SUBJECTS)
    assert part("gesture", "official", 86, tester) == "test" and part("gesture", "miga", 86, tester) == "train"
    assert part("gesture", "official", 85, trainer) == "train" and part("gesture", "miga", 85, trainer) == "test"
    assert part("gesture", "official", 86, None) == "test" and part("gesture", "official", 85, None) == "train"


def test_what_a_protocol_leaves_out() -> None:
    assert part("gesture", "official", 348, 2) == "train" and part("gesture", "miga", 348, 2) is None
    assert part("emotion", "official", 2, 2) is None and part("emotion", "miga", 2, 2) == "val"
    assert part("gesture", "none", 348, None) == ""
    assert part("gesture", "official", 2, 73) is None and part("gesture", "official", 454, None) is None
    assert part("gesture", "miga", 454, None) is None


def test_folds_share_no_group_and_every_class_is_spread() -> None:
    units = [
        (f"person {k}", label) for k in range(20) for label in ("won", *["lost"] * (k % 3), *["rare"] * (k % 4 == 0))
    ]
    fold_of = grouped_folds(units, 5)
    assert set(fold_of.values()) == set(range(5)) and len(fold_of) == 20
    counts = Counter((fold_of[group], label) for group, label in units)
    assert {counts[k, "won"] for k in range(5)} == {4}
    assert {counts[k, "rare"] for k in range(5)} == {1}
    assert grouped_folds(units[::-1], 5) == fold_of, "the order of the rows decides nothing"


def test_more_folds_than_people_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 folds of 2 people or videos\. Choose from 2 to 2 folds"):
        grouped_folds([("a", "x"), ("b", "x")], 3)
    with pytest.raises(UserError, match="add people"):
        grouped_folds([("a", "x")], 2)


@pytest.mark.real
def test_the_real_list_has_the_published_counts(real_data: Path, tmp_path: Path) -> None:
    count, left_out = prepared(imigue, real_data / "annotations" / "micro_gesture", tmp_path / "out")
    assert (count, left_out) == (13670, {})
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    splits = Counter(clip.split for clip in manifest.clips)
    assert splits == {"train": 12893, "val": 777}
    videos = {split: {int(c.group) for c in manifest.clips if c.split == split} for split in splits}
    assert len(videos["train"]) == 241 and videos["val"] == imigue_ids.MIGA_VALIDATION
    assert 86 in videos["train"] and not videos["train"] & (imigue_ids.MIGA_TEST | imigue_ids.MIGA_ABSENT)
    everything = videos["train"] | videos["val"] | imigue_ids.MIGA_TEST | imigue_ids.MIGA_ABSENT
    assert len(everything) == 359 and max(everything) == imigue_ids.LAST
    assert everything >= imigue_ids.EMOTION_TRAIN | imigue_ids.EMOTION_TEST
    for wanted, chosen in ((BOTH, {"train", "val"}), (TRAIN, {"train"})):
        labels = Counter(int(c.labels["gesture"][0]) for c in manifest.clips if c.split in chosen)  # type: ignore[index]
        assert tuple(labels[k] for k in range(32)) == wanted
    folds = {c.fold for c in manifest.clips}
    assert folds == {"0", "1", "2", "3", "4"}
    assert len({(c.group, c.fold) for c in manifest.clips}) == 251
