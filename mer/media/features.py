"""Cached feature arrays: `file`, `file#key` or `file#key[row]` in .npy and .npz files, never unpickled."""

from __future__ import annotations

import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from mer.errors import UserError

_REFERENCE = re.compile(r"^(?P<file>.+?)(?:#(?P<key>[^#\[\]]+)(?:\[(?P<row>\d+)\])?)?$", re.DOTALL)


def split_reference(reference: str) -> tuple[str, str | None, int | None]:
    """`file#key[row]` into its parts; key and row are None where not given."""
    match = _REFERENCE.match(reference)
    assert match is not None
    row = match["row"]
    return match["file"], match["key"], None if row is None else int(row)


def load(root: Path, reference: str, width: int | None) -> np.ndarray:
    """Rows of a cached feature.

    Args:
        root: folder that relative names are resolved against.
        reference: `file`, `file#key` or `file#key[row]`.
        width: columns that the encoder expects, None for any.

    Returns:
        float32 (T, width); a single vector has T = 1.

    Raises:
        UserError: file, key or row does not exist, the array is not numeric, or its width differs, or a value is not finite.
    """
    name, key, row = split_reference(reference)
    path = root / name
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check the path, or 'root' in corpus.yaml")
    array = _array(path, key, path.stat().st_mtime_ns)
    if row is not None:
        count = len(array) if array.ndim else 0
        if row >= count:
            raise UserError(f"{path}#{key}: row {row} of {count}, counted from 0", "Prepare the corpus again")
        array = array[row]
    rows = np.atleast_2d(np.asarray(array, np.float32))
    if rows.ndim != 2 or not rows.size:
        raise UserError(f"{root / reference}: shape {rows.shape} is not (T, width)", "Store one row per time step")
    if width is not None and rows.shape[1] != width:
        raise UserError(
            f"{root / reference}: {rows.shape[1]} columns where the encoder expects {width}",
            "Set the encoder's width to the number of columns",
        )
    broken = int((~np.isfinite(rows)).sum())
    if broken:
        raise UserError(
            f"{root / reference}: {broken} of {rows.size} values are NaN or infinite",
            "Repair the extraction; a silent 0 would be wrong",
        )
    return rows


@lru_cache(maxsize=32)
def _array(path: Path, key: str | None, changed: int) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array = loaded
        else:
            with loaded:
                keys = list(loaded.keys())
                if key is None and len(keys) == 1:
                    key = keys[0]
                if key not in keys:
                    raise UserError(f"{path}: no array {key!r}", f"It holds {', '.join(keys)}; write file#key")
                array = loaded[key]
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        message = f"{path}: not a readable .npy or .npz ({error})"
        raise UserError(message, "Write it again without pickled objects") from None
    if array.dtype.kind not in "fiub":
        raise UserError(f"{path}#{key}: dtype {array.dtype} is not numeric", "Store numbers")
    return array
