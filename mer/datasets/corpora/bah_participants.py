"""BAH's participants: what `meta_data.yml` says of them, and what they consented to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer.datasets.corpora import bah_yaml
from mer.errors import UserError

CONSENTS = ("challenges", "publications")
# Column of the manifest: field of the file.
_FIELDS = {
    "age": "Age",
    "age_range": "Age range",
    "gender": "Gender",
    "ethnicity": "Ethnicity simplified",
    "ethnicity_full": "Ethnicity",
    "birth_country": "Birth country",
    "province": "Canada province",
    "student": "Is student",
}


@dataclass(frozen=True)
class Participant:
    """One of them.

    Attributes:
        told: columns of the manifest, empty where nothing is told.
        consents: of `CONSENTS` those that were given.
    """

    told: dict[str, str]
    consents: frozenset[str]


def read(paths: list[Path]) -> dict[str, Participant]:
    """Participants by number.

    Raises:
        UserError: a file is not readable, or a consent is neither yes nor no.
    """
    found: dict[str, Participant] = {}
    for path in paths:
        content = bah_yaml.load(path)
        if not isinstance(content, Mapping):
            raise UserError(f"{path}: no participant in it", "Restore the file")
        for number, fields in content.items():
            if not isinstance(fields, Mapping):
                raise UserError(f"{path}, {str(number)[:40]!r}: no fields", "Restore the file")
            where = f"{path}, participant {number}"
            answers = {consent: _answer(fields.get(f"Use in {consent}"), where) for consent in CONSENTS}
            told = {column: _told(fields.get(name)) for column, name in _FIELDS.items()}
            told |= {f"consent_{consent}": answer for consent, answer in answers.items()}
            found[str(number)] = Participant(told, frozenset(c for c, answer in answers.items() if answer == "yes"))
    return found


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, list | dict | tuple):
        return ""
    return str(value).strip()


def _answer(value: Any, where: str) -> str:
    answer = _told(value).lower()
    if answer not in ("yes", "no", ""):
        raise UserError(f"{where}: a consent is {answer!r}", "It is Yes or No")
    return answer
