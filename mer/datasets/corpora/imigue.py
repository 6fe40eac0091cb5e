"""iMiGUE: 18,499 micro-gestures in 359 interviews after tennis matches, won or lost. Liu et al., CVPR 2021; MiGA challenges
2023 to 2026. For research, on a signed agreement with the University of Oulu; not to be passed on.

Layouts are told apart by their files, at any depth:

- the full data set: `labels_20200831.csv` (gestures of all videos, who won, whom they show), an mp4 per video in a folder of
  its number, `0001_2.xlsx` with 137 points of OpenPose per frame;
- the archives of MiGA 2025: per video `0001_label.csv` (class, first and last frame), `0001_openpose.xlsx` or
  `0001_light_hand.csv`, `0001.mp4`; of the emotion track `train_label.csv` and `validation_label.csv`. Subjects are not told;
- lists of clips and labels: `sample,label` in a CSV, or lines `0004_0.mp4 31`, with or without a file per clip, or with the
  arrays `train_data.npy` (N, 3, 90, 22, 1) of the organisers' kit. Pickles are refused: opening one runs what is in it.

iMiGUE-3K is read where it has one of these layouts, with `--protocol none`.

Two tasks: `gesture`, a row per clip, 32 classes; `emotion`, a row per interview, `positive` (won) or `negative`. Two protocols:
`official`, the authors' (gestures: 37 subjects train, 35 test; emotion: 102 and 100 videos, people on both sides), and `miga`,
the challenge's 241, 10 and 104 videos, whose validation people are in training and whose validation videos are all won. So
`fold` has folds that share no person over all labelled videos but the test; these are what to validate by.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping

from mer.datasets.corpora import imigue_files
from mer.datasets.corpora.folds import grouped_folds
from mer.datasets.corpora.imigue_files import Media, leave_out
from mer.datasets.corpora.imigue_ids import PUBLISHED, Protocol, part
from mer.datasets.corpora.imigue_labels import Gesture, Labels
from mer.datasets.corpora.imigue_pose import RATE
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import Corpus, Disjoint
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media.probe import MediaInfo

FOLDS = 5
SLACK = 1.0  # seconds that a clip may reach over the end of its video

_TASKS = {
    "gesture": Task("gesture", SPACES["imigue32.v1"]),
    "emotion": Task("emotion", SPACES["imigue_emotion2.v1"]),
}


def options(parser: argparse._ArgumentGroup) -> None:
    """The reader's own flags."""
    parser.add_argument("--task", choices=list(_TASKS), default="gesture", help="clips, or whole interviews (gesture)")
    parser.add_argument("--protocol", choices=["official", "miga", "none"],
                        help="split (the full data set: official, the archives of the challenge: miga)")  # fmt: skip
    parser.add_argument("--folds", type=int, help=f"number of folds without a common person ({FOLDS})")
    parser.add_argument("--first-hand", choices=["left", "right"],
                        help="whose hand comes first in the pose files (default: measured)")  # fmt: skip
    parser.add_argument("--joints", choices=["openpose137", "imigue36", "imigue22"], default="openpose137",
                        help="points to keep of 137; fewer take less space (openpose137)")  # fmt: skip
    parser.add_argument("--no-skeletons", action="store_true", help="leave the pose files alone")
    parser.add_argument("--workers", type=int, help="processes that convert pose files (one per core, 8 at most)")
    parser.add_argument("--won", choices=["0", "1"], help="which number is a match won, where files have 0 and 1")
    parser.add_argument("--labels", choices=["index", "raw"], help="labels of a list: 0 to 31, or 1 to 31 and 99")
    parser.add_argument("--first-frame", type=int, choices=[0, 1], help="number of a video's first frame (0)")


def read(request: Request) -> Prepared:
    """The data set below a folder.

    Raises:
        UserError: the root has none of the layouts; files are damaged or contradict each other; an ambiguity wants an option.
    """
    chosen = request.options
    media = imigue_files.listing(request.root)
    labels, ready = imigue_files.labelled(request, media)
    protocol: Protocol = chosen.protocol or ("official" if labels.kind == "full" else "miga")
    if chosen.task == "emotion" and not labels.outcomes:
        raise UserError(
            f"{request.root}: no file says which matches were won",
            "Put labels_20200831.csv, or train_label.csv of the emotion track, there",
        )
    prepared = Prepared(_corpus(request, labels, protocol), [], notes=list(labels.notes), facts=dict(labels.facts))
    infos = imigue_files.probed(request, media, prepared)
    skeletons = ready or imigue_files.skeletons_of(request, media, prepared)
    rows = _gestures if chosen.task == "gesture" else _interviews
    prepared.rows = list(rows(request, labels, protocol, media, infos, skeletons, prepared))
    _fold(prepared, chosen.folds)
    _tell(prepared, labels, chosen.task, protocol)
    return prepared


def _corpus(request: Request, labels: Labels, protocol: Protocol) -> Corpus:
    task = request.options.task
    apart: Disjoint = "unknown"
    if labels.subjects and protocol != "none":
        apart = "true" if (task, protocol) == ("gesture", "official") else "false"
    about = {"official": "the authors' protocol", "miga": "split of the MiGA challenges", "none": "no split"}[protocol]
    return Corpus(
        "imigue",
        request.root.resolve(),
        {task: _TASKS[task]},
        subject_disjoint=apart,
        protocol=f"iMiGUE {task}, {about}",
        licence="research only, by agreement with the University of Oulu",
    )


# -- Rows --------------------------------------------------------------------------------------------------------------


def _gestures(
    request: Request,
    labels: Labels,
    protocol: Protocol,
    media: Media,
    infos: Mapping[int, MediaInfo],
    skeletons: Mapping[str, tuple[str, int]],
    prepared: Prepared,
) -> Iterator[dict[str, object]]:
    anything = bool(media.videos or media.clips or skeletons)
    without, unnamed = set[int](), set[int]()
    for gesture in labels.gestures:
        subject = labels.subjects.get(gesture.video)
        split = part("gesture", protocol, gesture.video, subject)
        if split is None:
            unnamed.add(gesture.video)
            continue
        if gesture.first is None or gesture.last is None:
            start, end, shown = "0", "", _of_clip(gesture, media, skeletons)
            if gesture.name in skeletons:
                end = f"{skeletons[gesture.name][1] / RATE:.2f}"
        else:
            start, end = f"{gesture.first / RATE:.2f}", f"{(gesture.last + 1) / RATE:.2f}"
            try:
                _check_within(gesture, infos)
            except UserError as error:
                leave_out(request, prepared, gesture.name, error)
                continue
            shown = _of_video(gesture.video, media, infos, skeletons, gesture.first)
        if anything and not any(shown.values()):
            without.add(gesture.video)
            continue
        name = "" if gesture.label is None else _TASKS["gesture"].space.names[gesture.label]
        yield {
            "clip_id": gesture.name,
            "subject": "" if subject is None else str(subject),
            "group": f"{gesture.video:04d}",
            "start": start,
            "end": end,
            "split": split,
            "gesture": name,
            **shown,
        }
    _tell_left(prepared, without, unnamed)


def _tell_left(prepared: Prepared, without: set[int], unnamed: set[int]) -> None:
    for videos, why in ((without, "have neither picture nor skeleton here"), (unnamed, "are in no part of this split")):
        if videos:
            some = ", ".join(f"{v:04d}" for v in sorted(videos)[:5])
            prepared.notes.append(
                f"{len(videos)} video(s) {why}, and are not in the manifest: {some}{' ...' if len(videos) > 5 else ''}"
            )


def _check_within(gesture: Gesture, infos: Mapping[int, MediaInfo]) -> None:
    info = infos.get(gesture.video)
    if info is None or not info.duration:
        return
    assert gesture.first is not None and gesture.last is not None
    if gesture.first / RATE >= info.duration or (gesture.last + 1) / RATE > info.duration + SLACK:
        raise UserError(
            f"{gesture.where}: frames {gesture.first} to {gesture.last}, and {info.path.name} ends after"
            f" {info.duration:.2f} s ({info.duration * RATE:.0f} frames)",
            "Restore the video or the label file",
        )


def _of_clip(gesture: Gesture, media: Media, skeletons: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Media of a clip that is a file of its own. Whether it has sound is not asked of each: no column promises it."""
    file = media.clips.get(gesture.file, "") or media.clips.get(f"{gesture.name}.mp4", "")
    shown = {"video": file, "face": file} if media.clips else {}
    return shown | ({"skeleton": skeletons.get(gesture.name, ("", 0))[0]} if skeletons else {})


def _of_video(
    video: int,
    media: Media,
    infos: Mapping[int, MediaInfo],
    skeletons: Mapping[str, tuple[str, int]],
    first: int = 0,
) -> dict[str, str]:
    """Media of an interview; `face` is the same picture once more, for an encoder of faces."""
    file = media.videos.get(video, "")
    shown = {}
    if media.videos:
        shown = {"video": file, "face": file, "audio": file if file and infos[video].has_audio else ""}
    if skeletons:
        reference, frames = skeletons.get(f"{video:04d}", ("", 0))
        shown["skeleton"] = reference if frames > first else ""
    return shown


def _interviews(
    request: Request,
    labels: Labels,
    protocol: Protocol,
    media: Media,
    infos: Mapping[int, MediaInfo],
    skeletons: Mapping[str, tuple[str, int]],
    prepared: Prepared,
) -> Iterator[dict[str, object]]:
    anything, without, unnamed = bool(media.videos or skeletons), set[int](), set[int]()
    known = {*labels.outcomes, *media.videos, *media.labels, *(gesture.video for gesture in labels.gestures)}
    for video in sorted(known):
        subject = labels.subjects.get(video)
        split = part("emotion", protocol, video, subject)
        if split is None:
            unnamed.add(video)
            continue
        shown = _of_video(video, media, infos, skeletons)
        if anything and not any(shown.values()):
            without.add(video)
            continue
        yield {
            "clip_id": f"{video:04d}",
            "subject": "" if subject is None else str(subject),
            "group": f"{video:04d}",
            "start": "0",
            "end": "",
            "split": split,
            "emotion": labels.outcomes.get(video, ""),
            **shown,
        }
    _tell_left(prepared, without, unnamed)


# -- Folds, and what must be known about the split -----------------------------------------------------------------------


def _fold(prepared: Prepared, wanted: int | None) -> None:
    """Fill in `fold` of every row that is not test."""
    task = next(iter(prepared.corpus.tasks))
    rows: list[dict[str, object]] = [row for row in prepared.rows if row["split"] != "test"]  # type: ignore[misc]
    groups = {str(row["subject"] or row["group"]) for row in rows}
    count = FOLDS if wanted is None else wanted
    if wanted is None and len(groups) < FOLDS:
        count = len(groups) if len(groups) > 1 else 0
        prepared.notes.append(f"{len(groups)} people or videos allow no {FOLDS} folds: there are {count or 'none'}")
        if not count:
            return
    units = [(str(row["subject"] or row["group"]), str(row[task])) for row in rows]
    fold_of = grouped_folds(units, count)
    for row, (group, _) in zip(rows, units, strict=True):
        row["fold"] = fold_of[group]


def _tell(prepared: Prepared, labels: Labels, task: str, protocol: Protocol) -> None:
    notes = prepared.notes
    counts = Counter(str(row["split"]) for row in prepared.rows)
    published = PUBLISHED.get((task, protocol), {})
    prepared.facts |= {"layout": labels.kind, "task": task, "protocol": protocol, "clips": dict(counts)}
    differing = [f"{counts[name]} of {size} {name}" for name, size in published.items() if counts[name] != size]
    if published:
        what = "clips" if task == "gesture" else "videos"
        notes.append(
            f"{what} differ from the published numbers: {', '.join(differing)}"
            if differing
            else f"{what} are as many as published: {', '.join(f'{n} {name}' for name, n in published.items())}"
        )
    people = {name: {r["subject"] for r in prepared.rows if r["split"] == name and r["subject"]} for name in counts}
    shared = (people.get("train", set()) | people.get("val", set())) & people.get("test", set())
    if labels.subjects:
        prepared.facts["subjects_in_train_and_test"] = len(shared)
    else:
        notes.append(
            "no file says whom a video shows: folds keep videos together, but one person may be in several of them; with"
            " labels_20200831.csv they are by person"
        )
    if shared:
        notes.append(f"{len(shared)} people are in training and in test: the split is not subject-disjoint")
    if protocol == "miga" and counts["val"]:
        notes.append(
            "the validation videos show people of the training videos, and all of them won: validate by 'fold' instead"
            " (mer crossval)"
        )
    if task == "emotion":
        tested = [row for row in prepared.rows if row["split"] == "test"]
        seen = [r for r in tested if part("gesture", "official", int(str(r["group"])), None) == "train"]
        prepared.facts["emotion_test_videos_with_gesture_training_labels"] = len(seen)
        if seen:
            notes.append(
                f"{len(seen)} of {len(tested)} test videos are training videos of the official gesture split: gesture labels,"
                " or a gesture model that was trained on them, leak into this test"
            )
