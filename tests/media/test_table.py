"""Tables come out as rows of text, whatever wrote them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mer.errors import UserError
from mer.media import table

ROWS = [["ID", "Valence", "Note"], ["3_film_happy", "-0.25", "a, b"], ["12", "1", "厌恶"]]


def written(path: Path, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    quoted = [delimiter.join(f'"{c}"' if "," in c else c for c in row) for row in ROWS]
    path.write_bytes(("\r\n".join(quoted) + "\r\n\r\n").encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_text_of_any_encoding_and_delimiter(tmp_path: Path, encoding: str, delimiter: str) -> None:
    assert list(table.rows(written(tmp_path / "a.csv", encoding, delimiter))) == ROWS


@pytest.mark.parametrize("text", ["Jürgen", "Käthe;süß", "und so weiter…", "„Größe“ 5 €"])
def test_german_windows_is_not_taken_for_chinese(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode("cp1252"))
    assert table.read_text(tmp_path / "a.txt") == text


def test_a_line_for_excel_names_the_delimiter_and_is_a_row_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"sep=;\r\na;b\r\n1,5;2\r\n")
    assert list(table.records(tmp_path / "a.csv")) == [(3, {"a": "1,5", "b": "2"})]


def test_only_line_ends_end_a_row(tmp_path: Path) -> None:
    content = 'a,b\n1,x\u2028y\x0bz\n2,"two\nlines"\n'
    (tmp_path / "a.csv").write_text(content)
    assert list(table.rows(tmp_path / "a.csv")) == [["a", "b"], ["1", "x\u2028y\x0bz"], ["2", "two\nlines"]]


def test_empty_rows_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\na\n1\n\n\n2\n")
    assert [number for number, _ in table.records(tmp_path / "a.csv")] == [3, 6]
    table.write_workbook(tmp_path / "a.xlsx", [["a"], [1], [None], [2]])
    assert [number for number, _ in table.records(tmp_path / "a.xlsx")] == [2, 4]


def test_a_workbook_gives_its_first_sheet(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    table.write_workbook(
        path, [["ID", "Valence", "Note"], ["3_film_happy", -0.25, "a, b"], [12, 1.0, "厌恶"], [None] * 3]
    )
    assert list(table.rows(path)) == ROWS


def test_records_are_named_by_the_header_and_numbered_by_row(tmp_path: Path) -> None:
    found = list(table.records(written(tmp_path / "a.csv")))
    assert found[1] == (3, {"ID": "12", "Valence": "1", "Note": "厌恶"})
    (tmp_path / "b.csv").write_text("a,b\n1\n1,2,3\n")
    with pytest.raises(UserError, match=r"b\.csv, row 3: more cells"):
        list(table.records(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text("a,a\n1,2\n")
    with pytest.raises(UserError, match="'a' stands twice"):
        list(table.records(tmp_path / "c.csv"))


@pytest.mark.parametrize("content", [b"junk", b"PK\x03\x04junk", b""])
def test_a_damaged_workbook_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.xlsx: not a readable"):
        list(table.rows(tmp_path / "a.xlsx"))


def test_a_bomb_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "0" * 10_000)
    with pytest.raises(UserError, match="unpacks to more than"):
        list(table.rows(tmp_path / "a.xlsx"))


def test_a_picture_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\0\0")
    with pytest.raises(UserError, match="not a text file"):
        list(table.rows(tmp_path / "a.csv"))
    with pytest.raises(UserError, match="no such file"):
        list(table.rows(tmp_path / "b.csv"))


def test_decimal_commas() -> None:
    assert [table.number(cell) for cell in ("1,5", " 1.5", "-2", "1e3")] == [1.5, 1.5, -2, 1000]
    assert table.number("") != table.number("")
    with pytest.raises(ValueError):
        table.number("1,234,5")
