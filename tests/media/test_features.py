"""Cached features are read from `file`, `file#key` and `file#key[row]`, and every mistake has a name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media import features


@pytest.fixture
def root(tmp_path: Path) -> Path:
    np.save(tmp_path / "sequence.npy", np.arange(12, dtype=np.float64).reshape(4, 3))
    np.save(tmp_path / "vector.npy", np.arange(3))
    np.save(tmp_path / "number.npy", np.float32(7))
    np.savez(tmp_path / "one.npz", only=np.ones((2, 3)))
    np.savez(tmp_path / "many.npz", au=np.arange(6).reshape(2, 3), pose=np.zeros((2, 5, 3)), name=np.array(["a", "b"]))
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "shape"),
    [
        ("sequence.npy", (4, 3)),
        ("vector.npy", (1, 3)),
        ("number.npy", (1, 1)),
        ("one.npz", (2, 3)),
        ("one.npz#only", (2, 3)),
        ("many.npz#au", (2, 3)),
        ("many.npz#au[1]", (1, 3)),
        ("many.npz#pose[1]", (5, 3)),
    ],
)
def test_a_reference_gives_float_rows(root: Path, reference: str, shape: tuple[int, int]) -> None:
    rows = features.load(root, reference, None)
    assert rows.shape == shape
    assert rows.dtype == np.float32


def test_a_row_is_counted_from_zero(root: Path) -> None:
    np.testing.assert_array_equal(features.load(root, "many.npz#au[1]", 3), [[3, 4, 5]])


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a/b.npy", ("a/b.npy", None, None)),
        ("b.npz#k", ("b.npz", "k", None)),
        ("b.npz#k[12]", ("b.npz", "k", 12)),
        ("odd#name.npz#k[0]", ("odd#name.npz", "k", 0)),
        ("two\nlines.npy", ("two\nlines.npy", None, None)),
    ],
)
def test_a_reference_splits_into_file_key_and_row(reference: str, parts: tuple[str, str | None, int | None]) -> None:
    assert features.split_reference(reference) == parts


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gone.npy", r"gone\.npy: no such file"),
        ("many.npz#mfcc", "no array 'mfcc'. It holds au, pose, name"),
        ("many.npz", "no array None. It holds au, pose, name"),
        ("many.npz#au[2]", "row 2 of 2"),
        ("number.npy#x[0]", "row 0 of 0"),
        ("many.npz#pose", "not \\(T, width\\)"),
        ("many.npz#name", "not numeric"),
    ],
)
def test_a_wrong_reference_is_named(root: Path, reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        features.load(root, reference, None)


def test_a_width_other_than_the_encoders_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"sequence\.npy: 3 columns where the encoder expects 5"):
        features.load(root, "sequence.npy", 5)


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(UserError, match="not \\(T, width\\)"):
        features.load(tmp_path, "none.npy", 3)


def test_pickled_objects_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    for name in ("objects.npy", "objects.npz#x"):
        with pytest.raises(UserError, match="not a readable"):
            features.load(tmp_path, name, None)


def test_damaged_files_are_named(root: Path) -> None:
    np.savez_compressed(root / "packed.npz", x=np.random.default_rng(0).normal(size=(500, 20)))
    whole = (root / "packed.npz").read_bytes()
    hole = bytearray(whole)
    hole[1000:1400] = bytes(400)
    for name, data in (
        ("half.npz", whole[:2000]),
        ("hole.npz", bytes(hole)),
        ("zero.npy", b""),
        ("text.npy", b"hello"),
    ):
        (root / name).write_bytes(data)
        with pytest.raises(UserError, match="not a readable"):
            features.load(root, name, None)


def test_a_file_written_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for value in (1.0, 2.0):
        np.save(path, np.full((2, 2), value))
        os.utime(path, ns=(time.time_ns(), int(value) * 10**9))
        assert features.load(tmp_path, "a.npy", 2).max() == value
