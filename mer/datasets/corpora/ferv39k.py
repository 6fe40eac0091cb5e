"""FERV39k: 38,935 clips of 22 scenes, seven emotions. Wang et al., CVPR 2022; for research, by agreement.

One split: 31,088 clips train, 7,847 test. Who is seen is not known, so both may show the same people. A clip is a folder of
faces `2_ClipsforFaceCrop/<Scene>/<Emotion>/<id>/`; there is no sound. Lists of all kinds name that path: its folder says the
emotion, and the number beside it which of two orders a list has: that of DFEW, or the alphabetical one of S2D (`path,id`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from mer.datasets.corpora import clip_lists, dfew
from mer.datasets.corpora.clip_lists import ClipList, Line, Media, Part, Survey
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task

SPACE = SPACES["ferv39k7.v1"]
ORDERS = ("ferv39k7.v1", "ferv39k7_s2d.v1")
TRAIN, TEST = 31088, 7847
FACES = ("2_ClipsforFaceCrop", "Face", "faces")
_LISTS = (r"(?i)annotation/\*\.csv$", r"^\*\.csv")


def options(parser: argparse._ArgumentGroup) -> None:
    """What only this reader asks."""
    dfew.media_options(parser)


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: there are no lists, they contradict each other, or a number contradicts its path.
    """
    survey = Survey.of(request.root)
    found = clip_lists.find_lists(survey, _LISTS, request.options.lists, folds=False)
    lists = {key: clip_lists.read_list(file, scene) for key, file in found.items()}
    decode, order = decoder(lists)
    known = clip_lists.of_parts(lists, decode)
    folder, media = survey.folder(FACES, request.options.faces), Media()
    if folder is not None:
        media.faces = clip_lists.pictures_of(request.root, folder, known, flat=False)
    rows, left_out, notes, facts = dfew.described(request, known, media)
    for row in rows:
        row["split"] = row.pop("fold")
        row["scene"] = str(row["clip_id"]).partition("/")[0]
    sizes = {part: sum(one.place == part for one in known.values()) for part in ("train", "test")}
    if sizes != {"train": TRAIN, "test": TEST}:
        notes.append(
            f"The published lists have {TRAIN} and {TEST} clips, these have {sizes['train']} and {sizes['test']}"
        )
    facts["label_order"] = order
    corpus = Corpus(
        "ferv39k",
        request.root.resolve(),
        {"emotion": Task("emotion", SPACE)},
        protocol="FERV39k, its one split",
        licence="research only, by agreement with the authors",
    )
    return Prepared(corpus, rows, left_out, notes, facts)


def scene(name: str) -> str:
    """`.../Action/Happy/0267` is the clip Action/Happy/0267."""
    return "/".join(name.replace("\\", "/").strip("/").split("/")[-3:])


def decoder(lists: Mapping[tuple[str, Part], ClipList]) -> tuple[Callable[[Line], str], str]:
    """What gives the class that a clip's folder says, and the order that fits the numbers of all lists.

    Raises:
        UserError: a line fits neither, or its order is not that of the lines before.
    """
    fitting, before = set(ORDERS), Path()
    for one in lists.values():
        for line in one.lines:
            name = _folder(line)
            fits = {o for o in fitting if _code(line, SPACES[o].names.index(name))}
            if not fits:
                seen = f", and the lists so far (such as {before}) have the order {' or '.join(sorted(fitting))}"
                raise UserError(
                    f"{line.where}: label {line.label} of {line.clip}, which is {name}{seen}",
                    "Restore the file; take all lists from one place",
                )
            fitting, before = fits, one.file
    return _folder, min(fitting)


def _folder(line: Line) -> str:
    parts = line.clip.split("/")
    if len(parts) != 3 or {".", ".."} & set(parts):
        raise UserError(f"{line.where}: {line.clip!r} is not Scene/Emotion/id", "Restore the file")
    return SPACE.names[SPACE.index(parts[1].lower(), line.where)]


def _code(line: Line, code: int) -> bool:
    """Whether a label is a number, or the name itself."""
    return line.label == str(code) or line.label.lower() == line.clip.split("/")[1].lower()
