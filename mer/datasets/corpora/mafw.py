"""MAFW: 10,045 clips of films and shows, eleven emotions. Liu et al., ACM Multimedia 2022; for research, by agreement.

9,172 clips have a single label, five folds; every clip is tested once, in the fold whose test list holds it. Who is seen is not
known, so folds may share people. Layouts, told apart by their files:

- the official download: lists `Train & Test Set/single/{no_caption,with_caption}/set_{1..5}/{train,test}.txt`, a line is
  `00025.mp4 anger`, or parted by tabs with a Chinese and an English caption (some in the encoding of Chinese Windows); videos
  in `data/clips/<00025>.mp4`, pictures in `data/frames/<00025>/`, sound (made with ffmpeg) in `data/audio_16k/<00025>.wav`;
- lists with numbers: `MAFW_set_1_test_faces.txt` (path, pictures, label), `split01/test.csv`, S2D's `video_name,labels`. Three
  orders of the classes are in use, and which one it is must be said with `--label-order`;
- the packaged lists: `set1_test.csv` with `clip,frames,label`, order `mafw11.v1`, no media.

21 clips have no sound. `--set compound` takes the lists of `compound/`, where some lines join several emotions
(`sadness_helplessness`): the task `emotions` then says which apply.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping

from mer.datasets.corpora import clip_lists, dfew
from mer.datasets.corpora.clip_lists import ClipList, Known, Line, Part, Survey
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, LabelSpace, Task

SPACE, COMPOUND = SPACES["mafw11.v1"], SPACES["mafw11_compound.v1"]
ORDERS = ("mafw11.v1", "mafw11_mae.v1", "mafw11_s2d.v1")
FOLDS, CLIPS = 5, 9172
# Of the published lists, in order of `mafw11.v1`.
COUNTS = (1242, 1470, 1138, 1390, 1072, 639, 625, 236, 916, 262, 182)
FACES, RAW, SOUND = ("clips_faces", "faces", "frames"), ("clips", "videos", "raw"), ("audio_16k", "audio", "wav")


def options(parser: argparse._ArgumentGroup) -> None:
    """What only this reader asks."""
    parser.add_argument("--label-order", choices=ORDERS, help="what the numbers of the lists stand for")
    parser.add_argument("--set", choices=("single", "compound"), default="single", help="which lists (single)")
    dfew.media_options(parser)


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: there are no lists, they contradict each other, or the order of their labels is not known.
    """
    survey, compound = Survey.of(request.root), request.options.set == "compound"
    which = "compound" if compound else "single"
    preferred = [rf"(^|/){which}/with_caption/.*\.txt$", rf"(^|/){which}/no_caption/.*\.txt$", rf"(^|/){which}/"]
    found = clip_lists.find_lists(survey, preferred, request.options.lists, folds=True)
    lists = {key: clip_lists.read_list(file, clip_lists.numbered) for key, file in found.items()}
    decode, order = _decoder(lists, request.options.label_order, compound)
    known = clip_lists.of_folds(lists, decode, FOLDS)
    if not compound:
        _check_counts(known, lists, order)
    media = dfew.media_of(request, survey, known, FACES, RAW, SOUND)
    rows, left_out, notes, facts = dfew.described(request, known, media)
    facts["label_order"] = order
    for row in rows:
        captions = known[str(row["clip_id"])].line.captions
        if captions:
            row["caption_zh"], row["caption"] = captions[0], captions[-1] if len(captions) > 1 else ""
        if compound:
            row["compound"] = row.pop("emotion")
            row["emotions"] = str(row["compound"]).replace("_", ";")
    task = Task("emotions", COMPOUND) if compound else Task("emotion", SPACE)
    if not compound and len(known) != CLIPS:
        notes.append(f"The published lists have {CLIPS} clips, these have {len(known)}")
    if compound:
        sets = len({one.label for one in known.values()})
        notes.append(f"{sets} sets of emotions; the published 43-way measure is of the column 'compound'")
    corpus = Corpus(
        "mafw",
        request.root.resolve(),
        {task.name: task},
        protocol=f"MAFW, {which} labels, five folds",
        licence="research only, by agreement with the authors",
    )
    return Prepared(corpus, rows, left_out, notes, facts)


def _decoder(
    lists: Mapping[tuple[str, Part], ClipList], said: str | None, compound: bool
) -> tuple[Callable[[Line], str], str]:
    """What makes a class name of a label, and the order that numbers have (`names` where there are no numbers).

    Raises:
        UserError: numbers, and their order is not said; numbers beside names.
    """
    coded = [one for one in lists.values() if one.codes]
    if not coded:
        return (_compound if compound else _name), "names"
    names = next((one for one in lists.values() if not one.codes), None)
    if names is not None:
        raise UserError(f"{coded[0].file}: numbers, and names in {names.file}", "Take all lists from one place")
    packaged = all(one.header == ("clip", "frames", "label") for one in lists.values())
    order = said or ("mafw11.v1" if packaged else None)
    if compound or order is None:
        raise UserError(
            f"{coded[0].file}: labels are numbers, which three orders are in use for",
            "Say which: --label-order mafw11.v1 (MMA-DFER, DFER-CLIP), mafw11_mae.v1 (MAE-DFER, HiCMAE) or mafw11_s2d.v1"
            if not compound
            else "Name the lists with names of emotions with --lists",
        )
    space = SPACES[order]
    return (lambda line: space.decode(line.label, 0, line.where)), order


def _name(line: Line) -> str:
    """A label that is a name, without case."""
    return SPACE.names[SPACE.index(line.label.lower(), line.where)]


def _compound(line: Line) -> str:
    """One or several names, joined by `_`."""
    return "_".join(COMPOUND.names[COMPOUND.index(part, line.where)] for part in line.label.lower().split("_"))


def _check_counts(known: Mapping[str, Known], lists: Mapping[tuple[str, Part], ClipList], order: str) -> None:
    """Whether the published lists have the published number of clips per class; another order of labels has not.

    Raises:
        UserError: they do not.
    """
    if len(known) != CLIPS:
        return
    counts = Counter(one.label for one in known.values())
    if tuple(counts[name] for name in SPACE.names) == COUNTS:
        return
    right = dict(zip(SPACE.names, COUNTS, strict=True))
    wrong = next(name for name in SPACE.names if counts[name] != right[name])
    fits = [name for name in ORDERS if order != "names" and _counts(counts, SPACES[order], SPACES[name]) == right]
    remedy = f"Pass --label-order {fits[0]}, which fits the published counts" if fits else "Restore the lists"
    raise UserError(
        f"{next(iter(lists.values())).file.parent}: {counts[wrong]} clips of {wrong}, and the published lists have"
        f" {right[wrong]}",
        remedy,
    )


def _counts(counts: Mapping[str, int], taken: LabelSpace, other: LabelSpace) -> dict[str, int]:
    """Counts per class had the numbers been read in another order."""
    return {other.names[code]: counts[name] for code, name in enumerate(taken.names)}
