"""BAH: ambivalence and hesitancy of 300 participants before a webcam, seven questions each.

González-González et al., ICLR 2026 (arXiv 2505.19328). Research only, under an EULA that a member of a faculty signs; the
released version may not be used in challenges, whose data are given separately. Four layouts are told apart by their files:

- the released and the challenge's tree: `Videos/`, `cropped-aligned-faces/`, `transcription/`, `split/`, `split-frames/`,
  `video_annotation_transcript.yaml`, `meta_data.yml`;
- ABAW-8: `annotation.yml`, `videos/`; the split stands in the names of its folders (`BAH-train-8th-ABAW`) or in lists;
- the baseline's tree: lists in `split-0/`, `cropped_aligned/`, perhaps `features/compacted_48/`;
- lists alone: `split0_train.csv`, `split0_val.csv`, `split0_test.csv` with `video,label`.

`split` is the lists'; no participant is in two of them. Any lists will do: those of the first 224 participants, which the
authors' repositories hold, and those of all 300. A test list by itself, without a training list and with 0 for every label, is
the challenge's private one: its rows have no label. A clip's name is its file's without blanks; `video_id` is the spelling of
the list, which a challenge's answer repeats.

Times: `frame-<k>.jpg` and its label are at the presentation time of frame k of the video (`times/` holds those that no constant
rate describes), or at k / fps where the video is not there. A picture that is missing is a moment without a face (the authors'
baseline shows the one before it again); a clip without any has no such modality. The recogniser's times begin anew about
every 30 s; `transcripts/` holds them on one clock.

The question is a strong prior (of question 4, 95 % are present in training; of question 1, 22 %) and stands in the file's name.
`question` is a reference to its one-hot vector, for an encoder that is told it, or for the baseline that knows nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mer.datasets.corpora import (
    bah_frames,
    bah_lists,
    bah_participants,
    bah_personal,
    bah_transcripts,
    bah_tree,
    bah_videos,
)
from mer.datasets.corpora.bah_annotations import FrameLabels
from mer.datasets.corpora.bah_names import QUESTIONS
from mer.datasets.corpora.bah_participants import Participant
from mer.datasets.corpora.bah_videos import Video
from mer.datasets.corpora.reading import Prepared, Request
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.files import draft_of
from mer.labels import SPACES, Task
from mer.media.pictures import TIMES, write_times
from mer.media.probe import probe
from mer.media.video import presentation_times

SPACE = SPACES["bah2.v1"]
FRAME_TASK = "ah_frame"
QUESTION_FILE = "questions.npz"


def options(parser: Any) -> None:
    """Flags of `mer prepare bah`."""
    parser.add_argument(
        "--level",
        choices=("video", "frame"),
        default="video",
        help="frame: labels of single frames, too (task ah_frame)",
    )
    parser.add_argument(
        "--personalise", metavar="PID", help="a manifest with one participant as test, or 'all' of the test split"
    )
    parser.add_argument(
        "--consent", choices=bah_participants.CONSENTS, help="only participants who consented to be used there"
    )
    parser.add_argument(
        "--splits", type=Path, help="folder of train.txt, val.txt, test.txt, where there are several or none"
    )
    parser.add_argument(
        "--fps", type=float, help=f"frames per second where a video is not there to tell (default {bah_frames.FPS:g})"
    )


@dataclass
class Found:
    """What reading came upon, counted for the notes."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def __call__(self, what: str, key: str) -> None:
        self.counts[what] += 1
        self.first.setdefault(what, key)

    def notes(self) -> list[str]:
        return [f"{what}: {count} (first {self.first[what]})" for what, count in self.counts.items()]


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: nothing of BAH is there, a file is damaged, or two files contradict each other.
    """
    root, flags = request.root, request.options
    if flags.fps is not None and not 1 <= flags.fps <= 240:
        raise UserError(f"--fps {flags.fps:g}", "Give frames per second, e.g. 24")
    tree = bah_tree.look(root)
    bah_tree.known(tree, root)
    listed = bah_lists.of_videos(bah_videos.chosen_lists(tree, flags.splits))
    videos = bah_videos.gather(request, tree, listed)
    if not videos:
        raise UserError(
            f"{root}: neither split lists nor annotations of BAH",
            "Give the folder that holds split/ and Videos/, annotation.yml, or split0_train.csv",
        )
    notes = [bah_lists.version(listed)] if listed else ["no split lists: give them with --splits"]
    if any(v.split and not v.listed for v in videos):
        notes = ["splits are those that the folders of ABAW-8 name"]
    people = bah_participants.read(tree.participants)
    if flags.consent:
        videos, note = bah_videos.consenting(videos, people, flags.consent, root)
        notes.append(note)
    bah_videos.check_disjoint(videos)
    prepared = _rows(request, videos, people)
    prepared.notes[:0] = [*notes, *_shares(prepared)]
    if flags.personalise:
        count = bah_personal.write(prepared, request.out, flags.personalise)
        prepared.notes.append(f"{count} target(s) in {bah_personal.FOLDER}/targets.csv, a manifest each")
    return prepared


def _rows(request: Request, videos: list[Video], people: Mapping[str, Participant]) -> Prepared:
    at_frames = request.options.level == "frame"
    tasks = {"ah": Task("ah", SPACE)}
    if at_frames:
        tasks[FRAME_TASK] = Task(FRAME_TASK, SPACE, "frame")
    questions, question_reference = request.beside(QUESTION_FILE)
    with draft_of(questions) as draft, draft.open("wb") as file:
        np.savez(file, one_hot=np.eye(len(QUESTIONS), dtype=np.uint8))
    found, left_out, rows = Found(), dict[str, str](), []
    has_films = any(v.film for v in videos)
    has_faces = any(v.faces for v in videos)
    has_annotations = any(v.annotation is not None for v in videos)
    for video in tqdm(videos, "bah", leave=False):
        try:
            row = _row(request, video, found)
        except UserError as error:
            if not request.skip_errors:
                raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
            left_out[video.name.key] = str(error)
            continue
        row["question"] = f"{question_reference}#one_hot[{video.name.question - 1}]"
        person = people.get(video.name.person)
        rows.append(row | (person.told if person else {}))
        if has_films and not video.film:
            found("listed, but no video", video.name.key)
        if has_faces and not row["faces"]:
            found("no pictures of faces", video.name.key)
        if has_annotations and video.annotation is None:
            found("listed, but not annotated", video.name.key)
        if not row["split"]:
            found("in no list, and so in no split", video.name.key)
    corpus = Corpus(
        "bah",
        request.root.resolve(),
        tasks,
        subject_disjoint="true",
        protocol=f"BAH, official split by participant, {request.options.level} level",
        licence="BAH EULA: research only",
    )
    facts = {"counts": dict(found.counts), "annotations": sum(v.annotation is not None for v in videos)}
    return Prepared(corpus, rows, left_out, found.notes(), facts)


def _row(request: Request, video: Video, found: Found) -> dict[str, object]:
    """One row, with what is written for it: its transcript and its labels of frames."""
    root, key, annotation = request.root, video.name.key, video.annotation
    present = video.present()
    info = probe(root / video.film) if video.film else None
    timed = video.faces or request.options.level == "frame"
    shown = presentation_times(root / video.film) if info and info.has_video and timed else None
    numbers = bah_tree.faces(root, video.faces) if video.faces else []
    fps = _rate(request, video, shown, found)
    duration = info.duration if info and info.duration else (numbers[-1] + 1) / fps if numbers else None
    row: dict[str, object] = {
        "clip_id": key,
        "subject": video.name.person,
        "start": "0",
        "end": f"{info.duration:.6f}" if info and info.duration else "",
        "split": video.split,
        "ah": "" if present is None else SPACE.names[present],
        "video": video.film if info and info.has_video else "",
        "audio": video.film if info and info.has_audio else "",
        "faces": _faces(request, video, numbers, shown, fps, found) if numbers else "",
        "text": _text(request, video, duration, found),
        "question": "",
        "question_id": video.name.question,
        "attitude": QUESTIONS[video.name.question - 1],
        "video_id": video.spelling,
        "segments": ";".join(f"{a:g}-{b:g}" for a, b in annotation.segments) if annotation else "",
        "cues": _json(annotation.cues) if annotation and any(annotation.cues) else "",
        "annotator": annotation.annotator if annotation else "",
        "certainty": ";".join(annotation.certainty) if annotation else "",
    }
    if info and not info.has_audio:
        found("no sound", key)
    for name in ("vggish", "bert") if video.features else ():
        if (root / video.features / f"{name}.npy").is_file():
            row[name] = f"{video.features}/{name}.npy"
    if request.options.level == "frame":
        row["frame_labels"] = _frame_labels(request, video, numbers, shown, fps, found)
    return row


def _faces(
    request: Request, video: Video, numbers: list[int], shown: np.ndarray | None, fps: float, found: Found
) -> str:
    """Reference to the pictures of faces, with their rate, or with their times where no rate describes them."""
    if bah_frames.is_even(shown, fps):
        return f"{video.faces}#{fps:.6g}@0"
    found("faces with times of their own, as the video has no constant rate", video.name.key)
    path, reference = request.beside(f"times/{video.name.key}.csv")
    every = np.arange(max(len(shown) if shown is not None else 0, numbers[-1] + 1))
    write_times(path, every, bah_frames.moments(every, shown, fps))
    return f"{video.faces}{TIMES}{reference}"


def _rate(request: Request, video: Video, shown: np.ndarray | None, found: Found) -> float:
    """Frames per second: of the video where it is there, else what is said or usual."""
    rate = bah_frames.mean_rate(shown) if shown is not None else None
    if rate:
        return rate
    given: float = request.options.fps or bah_frames.FPS
    if video.faces:
        found(
            f"no video to tell the rate of the pictures of faces, {given:g} per second assumed",
            video.name.key,
        )
    return given


def _text(request: Request, video: Video, duration: float | None, found: Found) -> str:
    """Reference to the transcript, mended; empty where nothing is said."""
    key, chunks, text = video.name.key, tuple[bah_transcripts.Chunk, ...](), ""
    if video.transcript:
        chunks, text = bah_transcripts.read(request.root / video.transcript)
    if not chunks and video.annotation:
        chunks, text = video.annotation.chunks, text or video.annotation.text
    if not text.strip() and video.listed:
        text = video.listed.transcript
    path, reference = request.beside(f"transcripts/{key}.json")
    mended = bah_transcripts.monotone(chunks, duration)
    if any(m.start != c.start for m, c in zip(mended, chunks, strict=True)):
        found("transcript counted from 0 again, and was mended", key)
    if duration is not None and mended and (mended[-1].start or 0.0) >= duration:
        found("transcript reaches beyond its video", key)
    if bah_transcripts.write(path, chunks, text, duration):
        return reference
    if video.transcript or (video.listed and video.annotation):
        found("empty transcript", key)
    return ""


def _frame_labels(
    request: Request, video: Video, faces: list[int], shown: np.ndarray | None, fps: float, found: Found
) -> str:
    """Reference to labels of frames, which follow the pictures of faces; empty where there are none."""
    key = video.name.key
    labels = video.annotation.frames if video.annotation else None
    if labels is not None and video.frame_list is not None and not bah_lists.same(labels, video.frame_list):
        raise UserError(
            f"{key}: frames are labelled differently in the list of frames and the annotations", "Take one version"
        )
    labels = labels or video.frame_list or _continuous(request.root, video)
    if labels is None or not len(labels.number):
        found("no labels of frames", key)
        return ""
    if faces and len(faces) != len(labels.number):
        found("more or fewer pictures of faces than labels", key)
    if shown is not None and len(shown) != len(labels.number):
        found("more or fewer frames of the video than labels", key)
    times = bah_frames.moments(labels.number, shown, fps)
    path, reference = request.beside(f"frames/{key}.csv")
    bah_frames.write(path, FRAME_TASK, labels, times, SPACE)
    return reference


def _continuous(root: Path, video: Video) -> FrameLabels | None:
    """The baseline's own file of labels, one per frame."""
    path = root / video.features / "EXPR_continuous_label.npy"
    if not video.features or not path.is_file():
        return None
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable .npy ({error})", "Make it again") from None
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise UserError(f"{path}: labels other than 0 and 1", "Make it again")
    return FrameLabels(np.arange(len(labels), dtype=np.int32), labels.astype(np.uint8))


def _json(cues: tuple[dict[str, list[str]], ...]) -> str:
    return json.dumps(cues, ensure_ascii=False, separators=(",", ":"))


def _shares(prepared: Prepared) -> list[str]:
    """One note with the share of clips in which it is present: training and test differ."""
    told = []
    for split in ("train", "val", "test"):
        labels = [row["ah"] for row in prepared.rows if row["split"] == split and row["ah"]]
        if labels:
            told.append(f"{split} {labels.count('present') / len(labels):.1%}")
    return [f"present in {', '.join(told)} of the clips"] if told else []
