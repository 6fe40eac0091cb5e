"""Which fold a sample of EMER belongs to by the split file, whose format is not published, and who is in several folds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mer.errors import UserError
from mer.media.table import read_text

_SET = re.compile(r"^(?:set|fold|split|group)[ _-]*(\d+)$", re.IGNORECASE)
_PART = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_PART |= {"test": "test", "testing": "test"}
_FORMS = (
    "a line is read as 'ID set1' (also with tab, comma or semicolon, and 'ID 1'), 'set1: ID, ID', a heading 'set1' with IDs"
    " below it, or a path '.../set1/ID'; 'train', 'val' and 'test' stand for a set, too"
)


def read_sets(path: Path, known: Callable[[str], str | None]) -> dict[str, str]:
    """Per sample the number of its fold, or train, val or test.

    Args:
        path: the split file.
        known: gives the sample that a name in the file means, None where there is no such sample.

    Raises:
        UserError: naming the line: it says no set, names no sample, or puts a sample into a second set.
    """
    sets: dict[str, str] = {}
    where: dict[str, int] = {}
    heading = ""
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        if own := _set(text.strip("[]():： ")):
            heading = own
            continue
        names, own = _line(text, known, heading)
        if not own:
            raise UserError(f"{path}, line {line}: {text[:80]!r} does not say a set", f"Rewrite the file: {_FORMS}")
        for name in names:
            sample = known(name)
            if sample is None:
                continue  # labelled nowhere and shown nowhere; the caller counts them
            if sets.setdefault(sample, own) != own:
                raise UserError(
                    f"{path}, line {line}: {name!r} is in set {own} and, by line {where[sample]}, in set {sets[sample]}",
                    "Keep one of them",
                )
            where.setdefault(sample, line)
    if not sets:
        raise UserError(f"{path}: none of its names is a sample of the corpus", f"Check the file; {_FORMS}")
    return sets


def _set(word: str) -> str:
    """The number of a set, or a part; empty where the word is neither."""
    match = _SET.match(word.strip())
    return str(int(match[1])) if match else _PART.get(word.strip().lower(), "")


def _line(text: str, known: Callable[[str], str | None], heading: str) -> tuple[list[str], str]:
    """Names of a line and their set; the set is empty where the line does not say one."""
    head, colon, tail = text.replace("：", ":").partition(":")
    if colon and (own := _set(head)):
        return _names(tail, known), own
    parts = [part for part in re.split(r"[\\/]", text) if part.strip()]
    if len(parts) > 1 and (found := [s for part in parts[:-1] if (s := _set(part))]):
        name = parts[-1].strip()
        return [name if known(name) is not None else Path(name).stem], found[-1]
    words = [word for word in re.split(r"[\t,;]", text) if word.strip()]
    words = words if len(words) > 1 else text.split()
    first, last = words[0].strip(), words[-1].strip()
    if len(words) > 1 and (own := _set(last)):
        return [_head(text, last)], own
    if len(words) > 1 and (own := _set(first)):
        return [text[text.index(first) + len(first) :].strip("\t,; ")], own
    if len(words) > 1 and last.isdecimal() and not heading:
        name = _head(text, last)
        return ([name], str(int(last))) if known(name) is not None else ([], "")
    return _names(text, known), heading


def _head(text: str, last: str) -> str:
    return text[: text.rindex(last)].strip("\t,; ")


def _names(text: str, known: Callable[[str], str | None]) -> list[str]:
    """Names of a list; blanks divide it where there is nothing else, and the whole is not a name with a blank itself."""
    if re.search(r"[\t,;]", text):
        return [part.strip().strip("'\"") for part in re.split(r"[\t,;]", text) if part.strip()]
    whole = text.strip()
    words = whole.split()
    if len(words) > 1 and known(whole) is not None and known(words[1]) is None:
        return [whole]
    return words


def shared(fold_of: Mapping[str, str], subject_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Subjects that occur in more than one fold, and those folds.

    Args:
        fold_of, subject_of: per sample; samples without a fold or a subject do not count.
    """
    folds: dict[str, set[str]] = {}
    for sample, fold in fold_of.items():
        if fold and subject_of.get(sample):
            folds.setdefault(subject_of[sample], set()).add(fold)
    several = {subject: sorted(found, key=natural) for subject, found in folds.items() if len(found) > 1}
    return dict(sorted(several.items(), key=lambda item: natural(item[0])))


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Key that sorts 2 before 10."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.findall(r"\d+|\D+", text))
