"""EMER's label tables. How `EMER_label.xlsx` names its columns is not published, so names are looked up in `QUANTITIES`.

Three shapes are read: a column per quantity and side (`ER_Valence`), also with a second line of headings below groups ER and
FER; two rows per sample with a column that says which (`Label Type`: `ER label`, `FER label`), as the authors' page shows
them; and one unnamed side (`new_label.xlsx` of the released code), which the option `labels` names.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer.errors import UserError
from mer.label_maps import sign_of_valence
from mer.labels import SPACES, LabelSpace
from mer.media import table

EMOTIONS, POLARITIES = SPACES["emer7.v1"], SPACES["emer3.v1"]

# How headings are spelled: lower case, words and numbers apart, without the side. Add what your table has, or name a column
# with --label-column.
IDS = (
    "id", "sample", "sample id", "sample name", "name", "video", "video id", "video name", "clip", "clip id", "file",
    "file name", "filename", "sequence",
)  # fmt: skip
QUANTITIES = {
    "7": (
        "7 class", "7 classes", "7 cls", "7 emotion", "seven class", "class 7", "emotion 7", "emotion", "emotion label",
        "emotion class", "emotion category", "category", "discrete emotion", "class", "label", "7 class label",
    ),
    "3": (
        "3 class", "3 classes", "3 cls", "3 emotion", "three class", "class 3", "emotion 3", "polarity", "sentiment",
        "3 class label",
    ),
    "valence": ("valence", "v"),
    "arousal": ("arousal", "a"),
    "intensity": ("intensity", "i", "emotion intensity", "expression intensity"),
}  # fmt: skip
SIDES = {
    "er": ("er", "er label", "emotion recognition", "genuine emotion"),
    "fer": ("fer", "fer label", "facial expression recognition", "facial expression", "expression"),
}
KINDS = ("label type", "type", "label kind", "kind", "task")
NAMES = {
    **{name: name for name in EMOTIONS.names},
    **{"happy": "happiness", "sad": "sadness", "fearful": "fear", "surprised": "surprise", "disgusted": "disgust"},
    **{"angry": "anger"},
}
POLES = {**{name: name for name in POLARITIES.names}, "pos": "positive", "neg": "negative", "neu": "neutral"}
BLANK = {"", "-", "–", "—", "/", "nan", "none", "null", "n/a", "na"}
_CODE = re.compile(r"-?\d{1,9}(\.0*)?", re.ASCII)  # 1.0 where a column of whole numbers has gaps
LIMITS = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "intensity": (0.0, 3.0)}

Place = tuple[str, str]  # side and quantity: ("er", "7")


@dataclass(frozen=True)
class Reading:
    """What the user says about a table.

    Attributes:
        side: `er` or `fer`: what columns without a side are.
        emotions, poles: names in order of their codes, where the table has numbers; empty where nothing was said.
        base: the code of the first of them, where the codes of the table do not prove it.
        columns: heading per column of the manifest (`er7`, `er3`, `er_valence`, `fer_intensity`, `id` ...).
    """

    side: str = ""
    emotions: tuple[str, ...] = ()
    poles: tuple[str, ...] = ()
    base: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Reading:
        """From the options of the command.

        Raises:
            UserError: an order that does not name every class once, or a column that is no COLUMN=HEADING.
        """
        columns = dict(str(pair).partition("=")[::2] for pair in getattr(options, "label_column", None) or ())
        known = {"id", *(_column(place) for place in _places())}
        if unknown := [f"{c}={h}" for c, h in columns.items() if c not in known or not h]:
            raise UserError(
                f"--label-column {unknown[0]}", f"Write COLUMN=HEADING; columns are {', '.join(sorted(known))}"
            )
        return cls(
            getattr(options, "labels", None) or "",
            _order(getattr(options, "emotion_order", None), "--emotion-order", EMOTIONS, NAMES),
            _order(getattr(options, "polarity_order", None), "--polarity-order", POLARITIES, POLES),
            getattr(options, "emotion_base", None),
            columns,
        )


@dataclass
class Labels:
    """What a table says.

    Attributes:
        cells: per sample name the manifest's label cells; what is not labelled is empty.
        rows: per sample name its row, for messages.
        notes: for the user.
    """

    cells: dict[str, dict[str, str]]
    rows: dict[str, int]
    notes: list[str]


def options(parser: argparse._ArgumentGroup) -> None:
    """The options that `Reading.of` reads."""
    readme = ",".join(EMOTIONS.names)
    parser.add_argument("--labels", choices=["er", "fer"], help="what a label table of one side shows (new_label.xlsx)")
    parser.add_argument(
        "--emotion-order", metavar="NAMES", help=f"the seven emotions in order of their codes; README order: {readme}"
    )
    parser.add_argument(
        "--emotion-base", type=int, choices=[0, 1], help="code of the first one, where no code proves it"
    )
    parser.add_argument(
        "--polarity-order",
        metavar="NAMES",
        help="the three classes in order of their codes, e.g. positive,negative,neutral",
    )
    parser.add_argument(
        "--label-column", action="append", metavar="COLUMN=HEADING", help="a heading that is not recognised: er7='Felt'"
    )


def read(path: Path, reading: Reading) -> Labels:
    """Labels of all samples.

    Raises:
        UserError: columns are missing or of an unknown side, codes whose order was not said, a label or number out of
            range, a sample twice.
    """
    rows = list(table.rows(path))
    if not rows:
        raise UserError(f"{path}: an empty table", "Restore the file")
    headings, first = _headings(rows)
    columns = _Columns.find(path, headings, reading)
    found = _cells(path, rows, first, columns, reading)
    coding = {
        "7": _Coding(path, EMOTIONS, NAMES, reading.emotions, "--emotion-order", reading.base),
        "3": _Coding(path, POLARITIES, POLES, reading.poles, "--polarity-order", None),
    }
    for sample in found.values():
        for (_, quantity), cell in sample.values.items():
            if quantity in coding:
                coding[quantity].see(cell)
    labels = Labels({}, {name: sample.row for name, sample in found.items()}, [])
    differ = derived = 0
    for name, sample in found.items():
        cells, sign = _labelled(path, sample, coding)
        labels.cells[name] = cells
        differ += sign.differ
        derived += sign.derived
    if derived:
        labels.notes.append(f"{derived} three-class label(s) are the sign of valence, as the table has none")
    if differ:
        labels.notes.append(f"{differ} three-class label(s) are not the sign of valence; the table's own were taken")
    return labels


# -- Columns -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Where what stands: `kind` is the column that tells ER rows from FER rows, -1 where there is none."""

    id: int
    kind: int
    places: dict[Place, int]

    @classmethod
    def find(cls, path: Path, headings: Sequence[str], reading: Reading) -> _Columns:
        plain = [_plain(h) for h in headings]
        chosen: dict[str, int] = {}
        for column, heading in reading.columns.items():
            if _plain(heading) not in plain:
                raise UserError(f"{path}: no column {heading!r} ({column})", f"It has {', '.join(headings)}")
            chosen[column] = plain.index(_plain(heading))
        identity = chosen.get("id", next((i for i, name in enumerate(plain) if name in IDS), -1))
        kind = next((i for i, name in enumerate(plain) if name in KINDS and i != identity), -1)
        sided: dict[Place, int] = {}
        plainly: dict[str, int] = {}

        def keep(found: dict[Any, int], key: Any, column: str, i: int) -> None:
            if (before := found.setdefault(key, i)) != i and column not in chosen:
                raise UserError(
                    f"{path}: columns {headings[before]!r} and {headings[i]!r} may both be {column}",
                    f"Say which, e.g. --label-column {column}={headings[before]!r}",
                )

        for i, name in enumerate(plain):
            if i in (identity, kind) or i in chosen.values():
                continue
            side, quantity = _place(name)
            if quantity and (side or quantity == "intensity"):
                keep(sided, (side or "fer", quantity), _column((side or "fer", quantity)), i)
            elif quantity:
                keep(plainly, quantity, _column((reading.side or "er", quantity)), i)
        places = sided | {place: chosen[_column(place)] for place in _places() if _column(place) in chosen}
        if kind >= 0 and plainly:
            places = {("", quantity): i for quantity, i in plainly.items()} | places
        elif plainly and not any(quantity != "intensity" for _, quantity in places):
            if not reading.side:
                raise UserError(
                    f"{path}: columns {', '.join(headings[i] for i in plainly.values())} do not say whether they label the"
                    " emotion felt (ER) or the facial expression (FER)",
                    "Pass --labels er or --labels fer",
                )
            places |= {(reading.side, quantity): i for quantity, i in plainly.items()}
        if identity < 0 or not places:
            looked = "; ".join(f"{q}: {', '.join(names[:4])} ..." for q, names in QUANTITIES.items())
            raise UserError(
                f"{path}: no column of {'sample names' if identity < 0 else 'labels'} among {', '.join(headings)}; looked for"
                f" {', '.join(IDS[:6])} ...; {looked}, each with ER or FER before or behind it",
                "Name the columns, e.g. --label-column id=HEADING --label-column er7=HEADING",
            )
        return cls(identity, kind, places)


def _headings(rows: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """Names of the columns and the index of the first row of labels; groups above the names are put before them."""
    top = [cell.strip() for cell in rows[0]]
    if len(rows) > 1:
        below = [cell.strip() for cell in rows[1]] + [""] * (len(top) - len(rows[1]))
        named = [cell for cell in below if cell]
        plain = [_plain(cell) for cell in top]
        identity = next((i for i, name in enumerate(plain) if name in IDS), -1)
        if identity >= 0 and not below[identity] and named and all(_place(_plain(cell))[1] for cell in named):
            group, joined = "", []
            for i, cell in enumerate(below):
                group = top[i] if i < len(top) and top[i] else group
                joined.append(f"{group} {cell}".strip() if cell else (top[i] if i < len(top) else ""))
            return joined, 2
    return top, 1


def _plain(heading: str) -> str:
    return " ".join(re.findall(r"[a-z]+|\d+", heading.lower()))


def _place(name: str) -> Place:
    """Side and quantity of a plain heading; empty where it says none."""
    for quantity, spellings in QUANTITIES.items():
        if name in spellings:
            return "", quantity
    found = [
        (len(spelling), side, rest)
        for side, spellings in SIDES.items()
        for spelling in spellings
        for rest in _without(name, spelling)
    ]
    for _, side, rest in sorted(found, reverse=True):
        if not rest:
            return side, "7"
        for quantity, spellings in QUANTITIES.items():
            if rest in spellings:
                return side, quantity
    return "", ""


def _without(name: str, side: str) -> list[str]:
    if name == side:
        return [""]
    before = [name[len(side) + 1 :]] if name.startswith(f"{side} ") else []
    return before + ([name[: -len(side) - 1]] if name.endswith(f" {side}") else [])


def _places() -> list[Place]:
    return [(side, q) for side in SIDES for q in QUANTITIES if q != "intensity" or side == "fer"]


def _column(place: Place) -> str:
    side, quantity = place
    return f"{side}{quantity}" if quantity in "73" else f"{side}_{quantity}"


# -- Cells -------------------------------------------------------------------------------------------------------------


@dataclass
class _Sample:
    """Cells of one sample that are not blank."""

    row: int
    values: dict[Place, str] = field(default_factory=dict)


def _cells(
    path: Path, rows: Sequence[Sequence[str]], first: int, columns: _Columns, reading: Reading
) -> dict[str, _Sample]:
    found: dict[str, _Sample] = {}
    seen: dict[tuple[str, str], int] = {}
    last = ""
    for number, row in enumerate(rows[first:], start=first + 1):
        cells = [cell.strip() for cell in row] + [""] * 64
        name, side = cells[columns.id], ""
        if columns.kind >= 0:
            name = last = name or last  # the cell of a name is merged over its two rows
            word = _plain(cells[columns.kind])
            side = next((s for s, spellings in SIDES.items() if word in spellings), "")
            if not side:
                raise UserError(
                    f"{path}, row {number}: {cells[columns.kind]!r} is neither ER nor FER", "Correct the cell"
                )
        if not name:
            raise UserError(f"{path}, row {number}: no sample name", "Fill it in, or remove the row")
        if (name, side) in seen:
            raise UserError(
                f"{path}, row {number}: {name!r} was labelled in row {seen[name, side]}", "Keep one of them"
            )
        seen[name, side] = number
        sample = found.setdefault(name, _Sample(number))
        for (own, quantity), i in columns.places.items():
            # Where rows have a side, the only intensity is that of the expression; ER rows have a dash.
            if cells[i].lower() not in BLANK and not (side == "er" and quantity == "intensity"):
                sample.values[own or side, quantity] = cells[i]
    return found


class _Coding:
    """Class names from names or codes.

    Args:
        names: what a cell may say.
        order: classes in order of their codes; empty where the user has not said it.
        option: that says it.
        base: code of the first; None where the codes that occur must prove it.
    """

    def __init__(
        self,
        path: Path,
        space: LabelSpace,
        names: Mapping[str, str],
        order: Sequence[str],
        option: str,
        base: int | None,
    ):
        self.path, self.space, self.names, self.order, self.option, self.base = path, space, names, order, option, base
        self.codes: set[int] = set()

    def see(self, cell: str) -> None:
        """Note a code that occurs."""
        if _CODE.fullmatch(cell):
            self.codes.add(int(float(cell)))

    def name(self, cell: str, where: str) -> str:
        """The class of a cell."""
        if not _CODE.fullmatch(cell):
            known = self.names.get(cell.lower())
            if known is None:
                raise UserError(f"{where}: {cell!r} is not one of {', '.join(self.space.names)}", "Correct the label")
            return known
        if self.space is POLARITIES and -1 in self.codes and self.codes <= {-1, 0, 1}:
            return sign_of_valence(float(cell))
        if not self.order:
            raise UserError(
                f"{where}: the code {cell}, and which order the codes have is published nowhere",
                f"Pass {self.option} with the names in order of their codes; the order of the README is"
                f" {','.join(self.space.names)}",
            )
        return LabelSpace(self.space.name, tuple(self.order)).decode(str(int(float(cell))), self._base(where), where)

    def _base(self, where: str) -> int:
        """0 or 1: a code that only one of them has proves it."""
        proved = {base for base, code in ((0, 0), (1, len(self.order))) if code in self.codes}
        if len(proved) == 2:
            raise UserError(
                f"{self.path}: codes 0 and {len(self.order)} both occur, so there are more than {len(self.order)} classes",
                "Correct the labels",
            )
        if proved and self.base is not None and self.base not in proved:
            raise UserError(
                f"{self.path}: the codes {', '.join(map(str, sorted(self.codes)))} do not begin with {self.base}",
                "Correct --emotion-base",
            )
        if not proved and self.base is None:
            raise UserError(
                f"{where}: neither code 0 nor code {len(self.order)} occurs, so the first class may be 0 or 1",
                "Pass --emotion-base 0 or 1" if self.space is EMOTIONS else "Write names in place of the codes",
            )
        return next(iter(proved), self.base or 0)


@dataclass(frozen=True)
class _Sign:
    """How many three-class labels of a sample were derived from the sign of valence, or are not that sign."""

    derived: int
    differ: int


def _labelled(path: Path, sample: _Sample, coding: Mapping[str, _Coding]) -> tuple[dict[str, str], _Sign]:
    cells: dict[str, str] = {}
    derived = differ = 0
    for side in SIDES:
        where = f"{path}, row {sample.row}, {side.upper()}"
        own = {quantity: cell for (s, quantity), cell in sample.values.items() if s == side}
        number = {q: _number(own[q], q, where) for q in LIMITS if q in own}
        cells[f"{side}7"] = coding["7"].name(own["7"], where) if "7" in own else ""
        three = coding["3"].name(own["3"], where) if "3" in own else ""
        sign = sign_of_valence(number["valence"]) if "valence" in number else ""  # never from the seven: see emer.py
        derived += bool(sign and not three)
        differ += bool(sign and three and sign != three)
        cells[f"{side}3"] = three or sign
        both = "valence" in number and "arousal" in number
        cells[f"{side}_va"] = f"{number['valence']:g};{number['arousal']:g}" if both else ""
        if side == "fer":
            cells["fer_intensity"] = f"{number['intensity']:g}" if "intensity" in number else ""
    return cells, _Sign(derived, differ)


def _number(cell: str, quantity: str, where: str) -> float:
    low, high = LIMITS[quantity]
    try:
        value = table.number(cell)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UserError(f"{where}: {quantity} {cell!r} is no number from {low:g} to {high:g}", "Correct the cell")
    return value


def _order(text: str | None, option: str, space: LabelSpace, names: Mapping[str, str]) -> tuple[str, ...]:
    if not text:
        return ()
    order = tuple(names.get(part.strip().lower(), part.strip()) for part in text.split(","))
    if sorted(order) != sorted(space.names):
        raise UserError(f"{option} {text}", f"Name each of {', '.join(space.names)} once, divided by commas")
    return order
