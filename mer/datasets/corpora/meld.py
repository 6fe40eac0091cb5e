"""MELD: 13,708 utterances of dialogues from a television series. Poria et al., ACL 2019; GPL-3.0, the films are the
broadcaster's.

The official download: `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`, and per split a folder of films
`dia0_utt0.mp4`: `train_splits`, `dev_splits_complete`, `output_repeated_splits_test`, all anywhere below the root. With the
tables alone, the manifest has words and no other media.

What is known of the films is handled: numbers of dialogues begin anew in each split; in train `dia125_utt3` is broken, in dev
`dia110_utt7` is missing, in test `dia38_utt4` and `dia220_utt0` were cut wrongly and last minutes, `dia263_utt7` has no sound
(these five keep their words); films that no table names (`final_videos_test...` among them) are no clips. Tables are UTF-8
with control characters, or Windows-1252, where typographic quotes should be; the words are mended and written beside the
manifest.

`subject` is the speaker's name. The same six friends speak in all splits: a score says nothing about new people.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mer.datasets.corpora.reading import Prepared, Request, paths_below
from mer.datasets.manifest import Corpus, write_manifest
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.probe import probe

EMOTION, SENTIMENT = SPACES["meld7.v1"], SPACES["meld3.v1"]
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
LONGEST = 60.0  # seconds; an utterance lasts 3.6 on average


@dataclass(frozen=True)
class Part:
    """A split: its table, the folder of its films, and the films known to be faulty."""

    split: str
    table: str
    folder: str
    faulty: Mapping[str, str]


PARTS = (
    Part("train", "train_sent_emo.csv", "train_splits", {"dia125_utt3": "broken"}),
    Part("val", "dev_sent_emo.csv", "dev_splits_complete", {"dia110_utt7": "missing"}),
    Part(
        "test", "test_sent_emo.csv", "output_repeated_splits_test",
        {"dia38_utt4": "cut wrongly", "dia220_utt0": "cut wrongly", "dia263_utt7": "without sound"},
    ),
)  # fmt: skip
_FILM = re.compile(r"^dia\d+_utt\d+$")
_TIME = re.compile(r"^(\d+):(\d+):(\d+)[,.](\d+)$")
# C1 control characters, which stand where Windows-1252 has quotes and dashes. Five of them it does not have.
_MENDED = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: no table; a table that is not MELD's; a film that is missing.
    """
    root, rows, notes, left_out = request.root, list[dict[str, object]](), list[str](), dict[str, str]()
    tables, films = _files(root)
    if not tables:
        raise UserError(f"{root}: none of {', '.join(p.table for p in PARTS)}", "Unpack MELD.Raw.tar.gz there")
    for part in PARTS:
        if part.split not in tables:
            notes.append(f"{part.table} is not there: no rows of split '{part.split}'")
            continue
        rows += _part(request, part, root / tables[part.split], films[part.split], notes, left_out)
    counts = Counter(str(row["split"]) for row in rows)
    corpus = Corpus(
        "meld",
        root.resolve(),
        {"emotion": Task("emotion", EMOTION), "sentiment": Task("sentiment", SENTIMENT)},
        subject_disjoint="false",
        protocol="MELD, official splits (dialogues apart, speakers shared)",
        licence="GPL-3.0; the films belong to the broadcaster, for research only",
    )
    return Prepared(corpus, rows, left_out, notes, {"utterances": dict(counts)})


def _files(root: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Table of each split, and its films by name; a name such as dia0_utt0 occurs in every split."""
    tables: dict[str, str] = {}
    films: dict[str, dict[str, str]] = {part.split: {} for part in PARTS}
    for path in paths_below(root, (".csv", ".mp4")):
        *folders, file = path.split("/")
        for part in PARTS:
            if file == part.table:
                tables.setdefault(part.split, path)
            elif part.folder in folders and file.endswith(".mp4") and _FILM.match(file[:-4]):
                films[part.split].setdefault(file[:-4], path)
    return tables, films


def _part(
    request: Request, part: Part, table: Path, films: Mapping[str, str], notes: list[str], left_out: dict[str, str]
) -> Iterator[dict[str, object]]:
    said: dict[str, list[dict[str, str]]] = {}
    absent: list[str] = []
    seen: set[str] = set()
    backwards = 0
    for line, cells in _rows(table):
        where = f"{table}, line {line}"
        dialogue, name = _name(cells, where)
        if name in seen:
            raise UserError(f"{where}: {name} stands here for the second time", "Copy the table again")
        seen.add(name)
        media, why = _media(request.root, part, name, films)
        if why:
            absent.append(f"{name} ({why})")
        elif films and not media:
            problem, remedy = f"{where}: {name}.mp4 is not in {part.folder}", "Unpack the films again"
            if not request.skip_errors:
                raise UserError(problem, f"{remedy}, or pass --skip-errors")
            left_out[f"{part.split}_{name}"] = f"{problem}. {remedy}."
            continue
        lines = said.setdefault(dialogue, [])
        lines.append({"speaker": mended(cells["Speaker"]), "text": mended(cells["Utterance"]) or "-"})
        begin, end = (_seconds(cells.get(column) or "", where) for column in ("StartTime", "EndTime"))
        backwards += begin is not None and end is not None and end <= begin
        clip = f"{part.split}_{name}"
        yield {
            "clip_id": clip,
            "subject": lines[-1]["speaker"],
            "group": f"{part.split}_{dialogue}",
            "split": part.split,
            "emotion": EMOTION.names[EMOTION.index(cells["Emotion"].strip().lower(), f"{where}, column Emotion")],
            "sentiment": SENTIMENT.names[
                SENTIMENT.index(cells["Sentiment"].strip().lower(), f"{where}, column Sentiment")
            ],
            "text": f"{request.beside(_transcript(part, dialogue))[1]}#text[{len(lines) - 1}]",
            **media,
            "season": cells.get("Season") or "",
            "episode": cells.get("Episode") or "",
            "episode_start": "" if begin is None else f"{begin:.3f}",
            "episode_end": "" if end is None else f"{end:.3f}",
        }
    for dialogue, lines in said.items():
        path = request.beside(_transcript(part, dialogue))[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, ("speaker", "text"), lines)
    if not films:
        notes.append(f"{part.folder} is not there: '{part.split}' has words and no other media")
    elif absent:
        notes.append(f"'{part.split}': known faults of the films, their words are kept: {', '.join(absent)}")
    if extra := sorted(set(films) - seen):
        notes.append(f"{len(extra)} films in {part.folder} are in no table and are no clips, e.g. {extra[0]}.mp4")
    if backwards:
        notes.append(f"'{part.split}': {backwards} utterances end before they begin, by the times of the table")


def _transcript(part: Part, dialogue: str) -> str:
    return f"transcripts/{part.split}_{dialogue}.csv"


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # saved by a spreadsheet program
        text = raw.decode("cp1252", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: column(s) {', '.join(missing)} are missing", "Copy the original table")
    try:
        for row in reader:
            if None in row or any(row[column] is None for column in COLUMNS):
                raise UserError(f"{path}, line {reader.line_num}: more or fewer cells than the header", "Copy it again")
            yield reader.line_num, row
    except csv.Error as error:  # a quote that is never closed
        raise UserError(f"{path}, line {reader.line_num}: {error}", "Copy it again") from None


def _name(cells: Mapping[str, str], where: str) -> tuple[str, str]:
    dialogue, utterance = cells["Dialogue_ID"].strip(), cells["Utterance_ID"].strip()
    if not (dialogue.isdecimal() and utterance.isdecimal()):
        raise UserError(f"{where}: dialogue {dialogue!r}, utterance {utterance!r} are no numbers", "Copy it again")
    return f"dia{int(dialogue)}", f"dia{int(dialogue)}_utt{int(utterance)}"


def _media(root: Path, part: Part, name: str, films: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Film and sound of an utterance; where they are not to be used, why. Only the known ones are looked into."""
    path, fault = films.get(name), part.faulty.get(name)
    both = {} if path is None else {"video": path, "audio": path}
    if fault is None or not films:
        return both, ""
    if path is None:
        return {}, fault
    try:
        info = probe(root / path)
    except UserError:
        return {}, fault
    if not info.has_video or info.duration > LONGEST:
        return {}, fault
    return ({"video": path}, "without sound") if not info.has_audio else (both, "")  # somebody mended it


def mended(text: str) -> str:
    """Words with their quotes and dashes: control characters, and UTF-8 that was taken for Windows-1252, are undone."""
    if "\u00e2\u20ac" in text:
        with suppress(UnicodeError):  # only a part of it was mistaken
            text = text.encode("cp1252").decode("utf-8")
    return " ".join(text.translate(_MENDED).split())


def _seconds(cell: str, where: str) -> float | None:
    """`00:16:16,059` in seconds; None where the cell is empty."""
    if not cell.strip():
        return None
    match = _TIME.match(cell.strip())
    if match is None:
        raise UserError(f"{where}: {cell!r} is not a time such as 00:16:16,059", "Copy the original table")
    hours, minutes, seconds, rest = match.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(f"{seconds}.{rest}")
