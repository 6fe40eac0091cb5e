"""UTD-MHAD: 27 actions of 8 people before a Kinect v1, 4 times each. Chen, Jafari, Kehtarnavaz, ICIP 2015; free for research.

Two layouts are told apart by their files:

- the official download: `aX_sY_tZ_skeleton.mat`, anywhere below the root; action, subject and trial are in the name;
- the packaged form: `skeleton_inertial.npz` with the sequences end to end in `skeleton` (frames, 20, 3), their limits in
  `skeleton_offset`, and per sequence `name`, `label`, `subject` and `trial`.

`split` is the paper's cross-subject protocol: people of odd number train, people of even number are the test. It names no
validation part; `data.val_fraction: 0.25` sets one person of the training part aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mer.datasets.corpora.reading import Prepared, Request, arrays_of
from mer.datasets.manifest import Corpus
from mer.errors import UserError
from mer.labels import SPACES, Task
from mer.media import skeleton_files
from mer.spec import InputSpec

SPACE = SPACES["utd_mhad27.v1"]
RATE = 30.0  # skeletons per second
PACKAGE = "skeleton_inertial.npz"

_NAME = re.compile(r"^a(\d+)_s(\d+)_t(\d+)$")


@dataclass(frozen=True)
class Sequence:
    """One recorded action: its name, what that says, where its skeletons are and how many."""

    name: str
    action: int
    subject: int
    trial: int
    reference: str
    frames: int

    @classmethod
    def of(cls, where: str, name: str, reference: str, frames: int) -> Sequence:
        """From a name like a1_s2_t3.

        Raises:
            UserError: it is not one, or says what the corpus does not have.
        """
        match = _NAME.match(name)
        action, subject, trial = (int(n) for n in match.groups()) if match else (0, 0, 0)
        if not (1 <= action <= len(SPACE) and 1 <= subject <= 8 and 1 <= trial <= 4):
            raise UserError(
                f"{where}: {name!r} is not action 1-27, subject 1-8, trial 1-4, as in a1_s2_t3", "Restore the name"
            )
        return cls(name, action - 1, subject, trial, reference, frames)


def read(request: Request) -> Prepared:
    """The corpus below a folder.

    Raises:
        UserError: the root is neither layout; files are damaged or contradict their names.
    """
    root = request.root
    left_out: dict[str, str] = {}
    packaged = (root / PACKAGE).is_file()
    found = list(_packaged(root / PACKAGE)) if packaged else list(_official(root, request.skip_errors, left_out))
    if not found and not left_out:
        raise UserError(
            f"{root}: no UTD-MHAD skeletons (names like a1_s1_t1_skeleton.mat) and no {PACKAGE}",
            "Unpack Skeleton.zip there",
        )
    rows = [
        {
            "clip_id": s.name,
            "subject": f"{s.subject}",
            "start": "0",
            "end": f"{s.frames / RATE:.6f}",
            "split": "train" if s.subject % 2 else "test",
            "action": SPACE.names[s.action],
            "skeleton": s.reference,
            "trial": s.trial,
        }
        for s in sorted(found, key=lambda s: (s.action, s.subject, s.trial))
    ]
    corpus = Corpus(
        "utd_mhad",
        root.resolve(),
        {"action": Task("action", SPACE)},
        subject_disjoint="true",
        protocol="UTD-MHAD, cross-subject: odd subjects train, even subjects test",
        licence="free for research, see the authors' page",
    )
    return Prepared(corpus, rows, left_out)


def _official(root: Path, skip_errors: bool, left_out: dict[str, str]) -> Iterator[Sequence]:
    spec = InputSpec("pose", rate=RATE, backend="file", layout="kinect20")
    for path in tqdm(sorted(root.rglob("*_skeleton.mat")), "utd_mhad", leave=False):
        file = path.relative_to(root).as_posix()
        name = path.stem.removesuffix("_skeleton")
        try:
            # Frames in which nobody is seen give no element, but take their time.
            frames = round(float(skeleton_files.load(root, file, spec).spans[-1, 1]) * RATE)
        except UserError as error:
            if not skip_errors:
                raise UserError(error.problem, f"{error.remedy.rstrip('.')}, or pass --skip-errors") from None
            left_out[name] = str(error)
            continue
        yield Sequence.of(str(path), name, file, frames)


def _packaged(path: Path) -> Iterator[Sequence]:
    keys = ("name", "label", "subject", "trial", "action_names", "skeleton_offset")
    names, labels, subjects, trials, actions, offset = arrays_of(path, **dict.fromkeys(keys, 1))
    if (
        tuple(actions) != SPACE.names
        or not len(names) == len(labels) == len(subjects) == len(trials) == len(offset) - 1
    ):
        raise UserError(
            f"{path}: its actions are not those of UTD-MHAD, or its lists differ in length", "Restore the file"
        )
    for row, (name, label, subject, trial) in enumerate(zip(names, labels, subjects, trials, strict=True)):
        where = f"{path}, row {row}"
        frames = int(offset[row + 1] - offset[row])
        sequence = Sequence.of(where, str(name), f"{PACKAGE}#skeleton[{row}]", frames)
        if (sequence.action, sequence.subject, sequence.trial) != (label, subject, trial):
            raise UserError(f"{where}: action, subject or trial contradicts the name {name}", "Restore the file")
        if frames < 1:
            raise UserError(f"{where}: {name} has no frame", "Restore the file")
        yield sequence
