"""Names of BAH's videos: who answers which question, and which spellings mean one video.

The official files spell a name with blanks or underscores between date and time and in the folder of the visit, put `Videos/`
before it or not, and now and then add the name of a computer: `82620_Question_7_2024-11-05_14-58-50_Video-DESKTOP-X.mp4`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mer.errors import UserError

# What each of the seven questions is meant to elicit, in order.
QUESTIONS = ("neutral", "positive", "negative", "ambivalent", "willing", "resistant", "hesitant")

_NAME = re.compile(
    r"(?:^|/)(?P<stem>(?P<person>[A-Za-z0-9-]+)_Question_(?P<question>\d+)_[^/\"]*?)(?:\.mp4)?$", re.IGNORECASE
)
_FRAME = re.compile(r"(?:^|/)frame-(\d+)\.(?:jpe?g|png)$", re.IGNORECASE)
_FOLDER = re.compile(r"(?:^|/)(?P<person>[^/]+)/Visite[ _]?\d+/[^/]+$", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """What the name of a video says.

    Attributes:
        key: the file's name without blanks and ending; the same for all spellings, and so the clip's id.
        person: number of the participant.
        question: 1 to 7.
    """

    key: str
    person: str
    question: int


def name_of(path: str, where: str) -> Name:
    """The video that a path means; of a frame's path, the video it is of.

    Raises:
        UserError: it names no video of BAH, or the folder another participant than the file; `where` is named.
    """
    name = found(path)
    if name is None:
        raise UserError(
            f"{where}: {path[:120]!r} is no video of BAH, as in Videos/82725/Visite_1/82725_Question_1_..._Video.mp4",
            "Restore the file",
        )
    if not 1 <= name.question <= len(QUESTIONS):
        raise UserError(f"{where}: {name.key} answers question {name.question}", "BAH has questions 1 to 7")
    folder = _FOLDER.search(video_path(path).replace("\\", "/"))
    if folder and folder["person"] != name.person:
        raise UserError(f"{where}: {path!r} lies in the folder of participant {folder['person']}", "Restore the file")
    return name


def found(path: str) -> Name | None:
    """As `name_of`; None where the path does not look like one."""
    match = _NAME.search(re.sub(r"[\s_]+", "_", video_path(path).replace("\\", "/")))
    if match is None:
        return None
    return Name(match["stem"], match["person"], int(match["question"]))


def frame_number(path: str) -> int | None:
    """12 of `.../frame-12.jpg`. Numbers are not padded, so that names do not sort by time."""
    match = _FRAME.search(path)
    return int(match[1]) if match else None


def video_path(path: str) -> str:
    """A path without the frame behind it."""
    return _FRAME.sub("", path.strip()).rstrip("/")
