"""Tables that people keep in spreadsheets: the rows of a CSV, TSV or .xlsx, whatever its encoding and delimiter."""

from __future__ import annotations

import csv
import io
import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mer.errors import UserError

# Of an .xlsx, unpacked. A sheet of 137 joints over an interview of twenty minutes has 120 MB; a bomb has gigabytes.
MOST_BYTES = 2**31
_DELIMITERS = "\t;,"
_HIGH = re.compile(rb"[\x80-\xff]+")


def rows(path: Path) -> Iterator[list[str]]:
    """Rows of the first sheet, cells as text; empty rows are left out. Numbers come as they would be written.

    Raises:
        UserError: missing, damaged, or larger than `MOST_BYTES`.
    """
    for row in values(path):
        yield [_text(cell) for cell in row]


def values(path: Path, blank: bool = False) -> Iterator[Sequence[Any]]:
    """Rows of the first sheet, cells as they are stored: text from CSV; text, numbers, times and None from .xlsx.

    Args:
        path: the file.
        blank: give empty rows, too, where the number of a row says something.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", "Check the path")
    yield from _workbook(path, blank) if path.suffix.lower() in (".xlsx", ".xlsm") else _delimited(path, blank)


def records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows below a header as (number of the row, cell by column name stripped of blanks).

    Raises:
        UserError: as `rows`; a name stands twice, or a row is longer than the header.
    """
    every = enumerate(values(path, blank=True), start=1)
    numbered = (
        (number, [_text(cell) for cell in row]) for number, row in every if any(c not in (None, "") for c in row)
    )
    _, header = next(numbered, (0, []))
    names = [name.strip() for name in header]
    if repeated := [n for n in names if n and names.count(n) > 1]:
        raise UserError(f"{path}: column {repeated[0]!r} stands twice", "Keep one of them")
    for number, cells in numbered:
        if any(cells[len(names) :]):
            raise UserError(f"{path}, row {number}: more cells than the header", "Quote cells that contain a comma")
        padded = itertools.chain(cells, itertools.repeat(""))
        yield number, {name: cell.strip() for name, cell in zip(names, padded, strict=False) if name}


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in that of Chinese or of Western Windows.

    Raises:
        UserError: it cannot be opened, or holds a NUL, as no text does.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "Check the path") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise UserError(f"{path}: not a text file", "Save it as text in UTF-8")
    for encoding in ("utf-8-sig", "cp1252" if _western(raw) else "gb18030"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return raw.decode("latin-1")


def _western(raw: bytes) -> bool:
    r"""Whether letters beyond ASCII stand alone (`J\xfcrgen`); in Chinese they come in pairs, but for rare characters."""
    odd = [len(run[0]) % 2 for run in _HIGH.finditer(raw)]
    return 2 * sum(odd) >= len(odd)


def _delimited(path: Path, blank: bool) -> Iterator[Sequence[str]]:
    text = read_text(path)
    first = text.lstrip("\n\r").partition("\n")[0].rstrip("\r")
    delimiter = max(_DELIMITERS, key=first.count)
    told = re.fullmatch(r"sep=(.)", first, re.IGNORECASE)  # a line for Excel
    if told:
        delimiter = told[1]
        text = text.replace(first, "", 1)
    try:
        # Not `splitlines`, which takes characters within cells for the end of a line.
        yield from (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if blank or any(row))
    except csv.Error as error:
        raise UserError(f"{path}: not a readable table ({error})", "Save it as comma-separated UTF-8") from None


def _workbook(path: Path, blank: bool) -> Iterator[Sequence[Any]]:
    import openpyxl  # a fifth of a second, which nobody else should wait for

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > MOST_BYTES:
                raise UserError(f"{path}: unpacks to more than {MOST_BYTES >> 30} GiB", "Save the table as CSV")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except UserError:
        raise
    except Exception as error:  # openpyxl raises whatever XML and zip raise
        raise UserError(f"{path}: not a readable .xlsx ({error})", "Save it again, or as CSV") from None
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some writers state a size that is not the sheet's
        yield from (row for row in sheet.iter_rows(values_only=True) if blank or any(c is not None for c in row))
    except Exception as error:
        raise UserError(
            f"{path}: damaged .xlsx ({type(error).__name__}: {error})", "Save it again, or as CSV"
        ) from None
    finally:
        book.close()


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def number(cell: str) -> float:
    """A number with a decimal point or comma; NaN where the cell is empty.

    Raises:
        ValueError: it is no number.
    """
    cell = cell.strip()
    if not cell:
        return float("nan")
    return float(cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell)


def write_workbook(path: Path, table: Sequence[Sequence[Any]]) -> None:
    """Write an .xlsx of one sheet."""
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    for row in table:
        sheet.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
