"""BAH's videos, each with its line of a list, its annotation, its faces and its transcript, by the key of its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer.datasets.corpora import bah_annotations, bah_lists, bah_tree
from mer.datasets.corpora.bah_annotations import Annotation, FrameLabels
from mer.datasets.corpora.bah_lists import Listed
from mer.datasets.corpora.bah_names import Name, name_of
from mer.datasets.corpora.bah_participants import Participant
from mer.datasets.corpora.reading import Request
from mer.errors import UserError
from mer.media.table import read_text


@dataclass
class Video:
    """One video and everything that is known of it.

    Attributes:
        name: what its name says.
        split: `train`, `val`, `test` or empty.
        listed, annotation, frame_list, told: its line of a list, its annotation, its labels in lists of frames, its label in
            `bah-video.csv`; None where it has none.
        film, faces, transcript, features: file and folders below the root; empty where there are none.
    """

    name: Name
    split: str
    listed: Listed | None
    annotation: Annotation | None
    frame_list: FrameLabels | None
    told: tuple[int, str] | None
    film: str
    faces: str
    transcript: str
    features: str

    @property
    def spelling(self) -> str:
        """Its path as the lists spell it, else as the annotations do."""
        return self.listed.spelling if self.listed else self.annotation.spelling if self.annotation else self.film

    def present(self) -> int | None:
        """Its label; None where nobody tells.

        Raises:
            UserError: two files tell different labels.
        """
        said = [
            (label, where)
            for label, where in (
                (self.listed.present, self.listed.where) if self.listed else (None, ""),
                (self.annotation.present, self.annotation.where) if self.annotation else (None, ""),
                self.told or (None, ""),
            )
            if label is not None
        ]
        for label, where in said[1:]:
            if label != said[0][0]:
                raise UserError(
                    f"{said[0][1]}: {self.name.key} has label {said[0][0]}, but {label} in {where}",
                    "Take lists and annotations of one version",
                )
        return said[0][0] if said else None


def chosen_lists(tree: bah_tree.Tree, wanted: Path | None) -> dict[str, Path]:
    """Per split the list of videos to use; none where there are none.

    Args:
        wanted: folder of lists, where the user names one.

    Raises:
        UserError: there are several that differ, or none in the folder that was named.
    """
    if wanted is None:
        return _only(tree.lists, "videos")
    named = bah_tree.look(wanted).lists if wanted.is_dir() else {}
    if len(named) != 1:
        raise UserError(f"--splits {wanted}: not one folder of train.txt, val.txt, test.txt", "Name that folder")
    return next(iter(named.values()))


def _only(found: Mapping[Path, dict[str, Path]], what: str) -> dict[str, Path]:
    if not found:
        return {}
    contents = {folder: {s: p.read_bytes() for s, p in files.items()} for folder, files in found.items()}
    first, *others = contents
    for other in others:
        if contents[other] != contents[first]:
            raise UserError(f"{first} and {other} hold different lists of {what}", "Choose one with --splits FOLDER")
    return found[first]


def gather(request: Request, tree: bah_tree.Tree, listed: Mapping[str, Listed]) -> list[Video]:
    """Every video that a list or an annotation names."""
    root = request.root
    annotations: dict[str, Annotation] = {}
    splits: dict[str, str] = {}
    for path in _of_each_folder(tree.annotations):
        keep, _ = request.beside(bah_annotations.keep_name(path))
        read = bah_annotations.read(path, keep)
        for key in read.keys() & annotations.keys():
            raise UserError(
                f"{read[key].where}: already annotated in {annotations[key].where}", "Remove one of the two"
            )
        annotations |= read
        splits |= dict.fromkeys(read, "" if listed else bah_tree.split_of(path, root))
    frames = bah_lists.of_frames(_only(tree.frame_lists, "frames")) if request.options.level == "frame" else {}
    told = _told(tree.labels)
    films, faces = bah_tree.media_of(tree.videos, root, ".mp4"), bah_tree.folders_of(tree.faces, root)
    transcripts, features = bah_tree.media_of(tree.transcripts, root, ".yml"), bah_tree.folders_of(tree.features, root)
    videos = []
    for key in dict.fromkeys([*listed, *sorted(annotations)]):
        line, annotation = listed.get(key), annotations.get(key)
        name = line.name if line else name_of(annotation.spelling, annotation.where)  # type: ignore[union-attr]
        videos.append(
            Video(
                name,
                line.split if line else splits[key],
                line,
                annotation,
                frames.get(key),
                told.get(key),
                films.get(key, ""),
                faces.get(key, ""),
                transcripts.get(key, ""),
                features.get(key, ""),
            )
        )
    return videos


def _of_each_folder(paths: list[Path]) -> list[Path]:
    """One annotation file per folder, the fullest kind."""
    best: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda p: bah_annotations.FILES.index(p.name)):
        best.setdefault(path.parent, path)
    return sorted(best.values())


def _told(paths: list[Path]) -> dict[str, tuple[int, str]]:
    """Labels of `bah-video.csv`, with file and line: a name and a class, with or without a header."""
    numbers = {"0": 0, "1": 1, "no a-h": 0, "with a-h": 1}
    found: dict[str, tuple[int, str]] = {}
    for path in paths:
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            cells = [cell.strip().strip('"') for cell in line.split(",")]
            if len(cells) < 2 or (number == 1 and "_Question_" not in line):
                continue
            where = f"{path}, line {number}"
            label = numbers.get(cells[1].lower())
            if label is None:
                raise UserError(f"{where}: class {cells[1][:40]!r}", "Restore the file; classes are 0 and 1")
            found[name_of(cells[0], where).key] = label, where
    return found


def consenting(
    videos: list[Video], people: Mapping[str, Participant], consent: str, root: Path
) -> tuple[list[Video], str]:
    """Videos of participants who consented, and how many are left out."""
    if not people:
        raise UserError(f"{root}: --consent {consent} without meta_data.yml", "Put it there, or leave --consent out")
    kept = [v for v in videos if v.name.person in people and consent in people[v.name.person].consents]
    if not kept:
        raise UserError(f"nobody consented to use in {consent}", "See meta_data.yml")
    gone = {v.name.person for v in videos} - {v.name.person for v in kept}
    return (
        kept,
        f"{len(videos) - len(kept)} videos of {len(gone)} participants without consent to {consent} are left out",
    )


def check_disjoint(videos: list[Video]) -> None:
    """Check that no participant is in two splits.

    Raises:
        UserError: one is.
    """
    of: dict[str, Video] = {}
    for video in videos:
        if video.split:
            first = of.setdefault(video.name.person, video)
            if first.split != video.split:
                where = video.listed.where if video.listed else video.spelling
                raise UserError(
                    f"{where}: participant {video.name.person} is in {video.split} here and in {first.split} elsewhere",
                    "Correct the lists; BAH's share no participant",
                )
