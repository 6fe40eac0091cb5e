"""DFEW: 16,372 clips of films, seven emotions, five folds. Jiang et al., ACM Multimedia 2020; for research, by agreement.

11,697 clips have a single label, and those are in the published lists. Every clip is tested once, in the fold whose test list
holds it; who is seen is not known, so folds may share people. Layouts, told apart by their files:

- the official download: `EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv` (labels 1 to 7), faces in
  `Clip/clip_224x224/<00001>/`, videos in `raw/<1>.mp4`, sound in `raw_wav/<1>.wav`, both without zeros;
- the lists of other repositories beside the same media: `DFEW_set_1_test.txt` (path, pictures, label), `split01/test.csv`,
  `test_set_1.csv`; their labels begin with 0, which must be said with `--labels-from 0`;
- the packaged lists: `set1_test.csv` with `clip,frames,label`, labels from 0, no media.

With `annotation.xlsx` (or .csv), where ten people have voted, a second task `emotion_votes` holds the share of each of the
seven among the votes for one of them: `mer.heads.ShareHead` and `mer.losses.SoftCrossEntropy` go with it.

`clip_224x224_16f` holds 16 pictures drawn from each whole clip. They have no rate, and every fourth of them is not what "every
fourth picture" means, so they are never `faces`; they stand in the column `faces16`, for encoders that take 16 segments.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from mer.datasets.corpora import clip_lists
from mer.datasets.corpora.clip_lists import ClipList, Known, Media, Part, Survey
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media import table

SPACE, VOTES = SPACES["dfew7.v1"], SPACES["dfew_votes7.v1"]
FOLDS, CLIPS = 5, 11697
FACES, ALIGNED = ("clip_224x224", "jpg_256", "single_label/data"), ("clip_224x224_16f", "jpg_224_16f")
RAW, SOUND = ("raw", "original", "videos"), ("raw_wav", "wav", "audio")
_LISTS = (r"EmoLabel_DataSplit/.*/set_#\.csv$", r"EmoLabel_DataSplit/")
_VOTE = re.compile(r"^(\d)?[ _]*(happ|sad|neutral|ang|surpris|disgust|fear)", re.IGNORECASE)


def options(parser: argparse._ArgumentGroup) -> None:
    """What only this reader asks."""
    parser.add_argument("--labels-from", type=int, choices=(0, 1), help="number that stands for 'happy' in the lists")
    media_options(parser)


def media_options(parser: argparse._ArgumentGroup) -> None:
    """Where lists and media lie, for the readers of this family."""
    parser.add_argument("--lists", type=Path, help="folder of the lists, where it is not below --root")
    parser.add_argument("--faces", type=Path, help="folder of the clips' pictures, relative to --root")
    parser.add_argument("--fps", type=float, help="pictures per second (default: what the videos say, else 25)")


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: there are no lists, they contradict each other, or their first label is not known.
    """
    survey = Survey.of(request.root)
    found = clip_lists.find_lists(survey, _LISTS, request.options.lists, folds=True)
    lists = {key: clip_lists.read_list(file, clip_lists.numbered) for key, file in found.items()}
    base = first_label(lists, request.options.labels_from)
    known = clip_lists.of_folds(lists, lambda line: SPACE.decode(line.label, base, line.where), FOLDS)
    media = media_of(request, survey, known, FACES, RAW, SOUND)
    rows, left_out, notes, facts = described(request, known, media)
    if len(known) != CLIPS:
        notes.append(f"The published lists have {CLIPS} clips, these have {len(known)}")
    facts["labels_from"] = base
    for row in rows:
        if "faces" in row:
            row["flow"] = row["faces"]  # for an encoder of motion beside one of pictures
    _sixteen(request, survey, known, rows, notes)
    tasks = {"emotion": Task("emotion", SPACE)}
    votes = _votes(survey, known)
    if votes:
        tasks["emotion_votes"] = Task("emotion_votes", VOTES)
        for row in rows:
            row["emotion_votes"] = votes.get(str(row["clip_id"]), "")
        notes.append(f"Votes of the annotators: {sum(1 for row in rows if row['emotion_votes'])} clips")
    corpus = Corpus(
        "dfew",
        request.root.resolve(),
        tasks,
        protocol="DFEW, single-labelled clips, five folds",
        licence="research only, by agreement with the authors",
    )
    return Prepared(corpus, rows, left_out, notes, facts)


def first_label(lists: Mapping[tuple[str, Part], ClipList], said: int | None) -> int:
    """The number that stands for the first class.

    Labels up to 7 without a 0 begin with 1; packaged lists (`clip,frames,label`) begin with 0. Anything else must be said: the
    official lists and copies of them that begin with 0 have one header.

    Raises:
        UserError: it is not said, or a list has both 0 and 7.
    """
    codes: set[int] = set()
    for one in lists.values():
        codes |= one.codes
        if {0, 7} <= one.codes:
            raise UserError(f"{one.file}: labels 0 and 7, and there are seven classes", "Restore the file")
    first = next(iter(lists.values()))
    if {0, 7} <= codes:
        mixed = next(one for one in lists.values() if 7 in one.codes)
        raise UserError(f"{mixed.file}: label 7, where other lists have 0", "Take all lists from one place")
    if said is not None:
        return said
    if all(one.header == ("clip", "frames", "label") for one in lists.values()) and 7 not in codes:
        return 0
    if 7 in codes:
        return 1
    least, most = min(codes, default=0), max(codes, default=0)
    raise UserError(
        f"{first.file}: labels from {least} to {most}, and the official ones are 1 to 7",
        "Say what stands for 'happy': --labels-from 0 for copies that count from 0, --labels-from 1 for the official count",
    )


def media_of(
    request: Request,
    survey: Survey,
    known: Mapping[str, Known],
    faces: tuple[str, ...],
    raw: tuple[str, ...],
    sound: tuple[str, ...],
) -> Media:
    """Pictures, videos and sound of the clips.

    Raises:
        UserError: the folder that was chosen holds 16 pictures per clip.
    """
    root, chosen, media = request.root, request.options.faces, Media()
    folder = survey.folder(faces, chosen)
    if folder is not None and folder.name in ALIGNED:
        raise UserError(
            f"{folder}: 16 pictures drawn from each clip, which have no rate",
            f"Name the folder of all pictures ({faces[0]}) with --faces; these go into the column faces16 by themselves",
        )
    if folder is not None:
        media.faces = clip_lists.pictures_of(root, folder, known)
    if (videos := survey.folder(raw)) is not None:
        media.videos = clip_lists.files_of(root, videos, (".mp4", ".avi", ".mkv"))
    if (sounds := survey.folder(sound)) is not None:
        media.sounds = clip_lists.files_of(root, sounds, (".wav", ".flac"))
    # Headers are asked only where nothing else tells the rate of the pictures or whether there is sound.
    if media.videos and (request.options.fps is None or not media.sounds):
        clip_lists.ask_videos(root, media, known)
    if media.broken and not request.skip_errors:
        why = next(iter(media.broken.values()))
        raise UserError(why, "Download it again, or pass --skip-errors to do without such videos")
    return media


def described(
    request: Request, known: Mapping[str, Known], media: Media
) -> tuple[list[dict[str, object]], dict[str, str], list[str], dict[str, object]]:
    """Rows, clips that were left out, notes and facts."""
    rows: list[dict[str, object]] = []
    left_out: dict[str, str] = {}
    fps, some, first = request.options.fps, bool(media.faces or media.videos or media.sounds), media.first
    if fps is not None and not 0 < fps < 1000:
        raise UserError(f"--fps {fps:g}", "Give pictures per second, e.g. 25")
    for clip, one in known.items():
        cells = media.cells(clip, fps, first)
        if some and not cells:
            left_out[clip] = f"no pictures, no video and no sound of it below {request.root}"
            continue
        frames = media.faces[clip].count if clip in media.faces else one.line.frames
        rows.append({"clip_id": clip, "fold": one.place, "emotion": one.label, **cells, "frames": frames or ""})
    notes, facts = clip_lists.card(known, media)
    if some:
        notes += clip_lists.heard(known, rows, facts)
    else:
        notes.append("Lists alone: no pictures, videos or sound below the root")
    if media.faces:
        unasked = sum(1 for clip in media.faces if clip not in media.info or not media.info[clip].fps)
        if fps is None and unasked:
            notes.append(
                f"{unasked} folder(s) of pictures were declared to have {clip_lists.FPS:g} a second (no video says it);"
                " --fps declares another rate"
            )
        facts["first_number"] = first
        if (doubt := clip_lists.not_faces(request.root, media)) is not None:
            notes.append(doubt)
    return rows, left_out, notes, facts


def _sixteen(
    request: Request, survey: Survey, known: Mapping[str, Known], rows: list[dict[str, object]], notes: list[str]
) -> None:
    """The column of 16 pictures per clip, where they are there."""
    folder = survey.folder(ALIGNED)
    if folder is None:
        return
    found = clip_lists.pictures_of(request.root, folder, known)
    for row in rows:
        clip = str(row["clip_id"])
        if clip in found:
            row["faces16"] = f"{found[clip].path}#{clip_lists.SHORT}"
    notes.append(
        f"{folder.name}: 16 pictures drawn from each clip, in the column faces16; their seconds are not those of the clip, so"
        " they are for encoders with 16 segments alone, without sound beside them"
    )


def _votes(survey: Survey, known: Mapping[str, Known]) -> dict[str, str]:
    """Per clip the share of each class among the votes for the seven, as manifest cells; empty where there is no such table.

    Raises:
        UserError: its columns are in another order than their numbers say, or its label contradicts the lists.
    """
    names = [n for n in survey.files if re.search(r"(^|/)annotations?\.(xlsx|csv)$", n, re.IGNORECASE)]
    if not names:
        return {}
    path = survey.root / names[0]
    votes: dict[str, str] = {}
    columns: list[str] = []
    for number, row in table.records(path):
        where = f"{path}, row {number}"
        columns = columns or _columns(path, row)
        clip = clip_lists.numbered(row.get("order") or row.get("video_name") or "")
        if clip not in known:
            continue
        said = row.get("annotation") or row.get("label") or ""
        if said.isdecimal() and said != "0" and SPACE.decode(said, 1, where) != known[clip].label:
            raise UserError(
                f"{where}: clip {clip} is {SPACE.names[int(said) - 1]}, and {known[clip].label} in"
                f" {known[clip].line.where}",
                "Restore the tables; if the lists count from 0, pass --labels-from 0",
            )
        try:
            counts = [table.number(row[column]) for column in columns]
        except ValueError:
            counts = [float("nan")]
        if not all(0 <= count < 1000 for count in counts):
            raise UserError(f"{where}: votes {[row[c] for c in columns]} are not counts", "Restore the table")
        if sum(counts):
            votes[clip] = ";".join(f"{count / sum(counts):.4g}" for count in counts)
    return votes


def _columns(path: Path, row: Mapping[str, str]) -> list[str]:
    """The seven columns in order of the classes."""
    found: dict[int, str] = {}
    for column in row:
        match = _VOTE.match(column)
        if match is None:
            continue
        place = next(k for k, name in enumerate(SPACE.names) if name.startswith(match[2].lower()[:3]))
        if match[1] is not None and int(match[1]) != place + 1:
            raise UserError(
                f"{path}: column {column!r}, and {SPACE.names[place]} is number {place + 1}", "Restore the table"
            )
        found[place] = column
    if len(found) != len(SPACE) or not {"order", "video_name"} & set(row):
        raise UserError(
            f"{path}: columns {', '.join(row)}", "The table of votes has 'order' and 1happy, 2sad, ..., 7fear"
        )
    return [found[k] for k in range(len(SPACE))]
