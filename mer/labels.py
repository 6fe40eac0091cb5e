"""Label spaces: the names of the classes or dimensions of a task, in one stated order. No step guesses an order or a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mer.errors import UserError

TaskKind = Literal["classes", "multilabel", "continuous"]


@dataclass(frozen=True)
class LabelSpace:
    """An ordered, named and versioned set of labels.

    Attributes:
        name: what the order is called, with its version, e.g. `ravdess8.v1`.
        names: class names in order of their index, or dimension names of a continuous task.
        kind: `classes` (exactly one applies), `multilabel` (any number applies) or `continuous` (a number each).
    """

    name: str
    names: tuple[str, ...]
    kind: TaskKind = "classes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(n) for n in self.names))
        if self.kind not in ("classes", "multilabel", "continuous"):
            raise UserError(
                f"label space {self.name!r}: unknown kind {self.kind!r}", "Use classes, multilabel or continuous"
            )
        if len(set(self.names)) != len(self.names) or not all(n.strip() for n in self.names):
            raise UserError(f"label space {self.name!r} has empty or repeated names", "Give every label its own name")
        if len(self.names) < (2 if self.kind == "classes" else 1):
            raise UserError(f"label space {self.name!r} has too few names", "A class task needs at least two classes")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, label: str, where: str) -> int:
        """Index of a class name.

        Raises:
            UserError: the label is not in the space; `where` (file and row) is named.
        """
        try:
            return self.names.index(label)
        except ValueError:
            raise UserError(
                f"{where}: label {label!r} is not in the label space {self.name} ({', '.join(self.names)})",
                "Correct the label, or the classes in corpus.yaml; an empty cell means unlabelled",
            ) from None

    def parse(self, cell: str, where: str) -> list[float] | None:
        """A manifest cell as numbers: [class index], a 0/1 vector, or one number per dimension; None where empty.

        A `multilabel` cell lists the names that apply, separated by `;` (`-` for none of them); a `continuous` cell has
        one number per dimension, separated by `;`.
        """
        cell = cell.strip()
        if not cell:
            return None
        if self.kind == "classes":
            return [float(self.index(cell, where))]
        parts = [p.strip() for p in cell.split(";")]
        if self.kind == "multilabel":
            on = set() if parts == ["-"] else {self.index(p, where) for p in parts}
            return [float(i in on) for i in range(len(self))]
        try:
            numbers = [float(p) for p in parts]
        except ValueError:
            numbers = []
        if len(numbers) != len(self) or any(n != n or abs(n) == float("inf") for n in numbers):
            raise UserError(
                f"{where}: {cell!r} is not {len(self)} finite number(s) for {', '.join(self.names)}",
                "Write one number per dimension, separated by ';'",
            )
        return numbers

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "names": list(self.names)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> LabelSpace:
        """The inverse of `to_dict`, for corpus.yaml, checkpoints and score files; also takes the name of a known space."""
        known = SPACES.get(str(data.get("name", "")))
        names = data.get("names")
        if names is None and known is not None:
            return known
        if not isinstance(names, Sequence) or isinstance(names, str) or not data.get("name"):
            raise UserError(
                f"{where}: a label space needs 'name' and 'names'", "List the labels in order of their index"
            )
        space = cls(str(data["name"]), tuple(str(n) for n in names), data.get("kind", "classes"))
        if known is not None and space != known:
            raise UserError(
                f"{where}: {space.name} is a known label space, but its names or their order differ here",
                f"Use {', '.join(known.names)}, or give the space another name",
            )
        return space


_UTD_MHAD = (
    "swipe_left swipe_right wave clap throw arm_cross basketball_shoot draw_x draw_circle_cw draw_circle_ccw draw_triangle"
    " bowling boxing baseball_swing tennis_swing arm_curl tennis_serve push knock catch pickup_throw jog walk sit2stand"
    " stand2sit lunge squat"
)
SPACES: dict[str, LabelSpace] = {
    space.name: space
    for space in (
        # RAVDESS file-name codes 01 to 08, minus one.
        LabelSpace("ravdess8.v1", ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")),
        # UTD-MHAD file names a1 to a27, minus one.
        LabelSpace("utd_mhad27.v1", tuple(_UTD_MHAD.split())),
        # The synthetic corpus: the face gives one half of the emotion, the voice the other ...
        LabelSpace("synthetic4.v1", ("joyful", "relieved", "alarmed", "sad")),
        # ... and whether the two agree is their exclusive-or, of which neither alone knows anything.
        LabelSpace("synthetic_xor.v1", ("congruent", "ambivalent")),
    )
}


@dataclass(frozen=True)
class Task:
    """One thing to predict.

    Attributes:
        name: what the task is called in configs, scores and logs.
        space: its labels.
        level: `video` (one answer per clip) or `frame` (one per moment, labels in the clip's frame_labels file).
        column: manifest column (video level) or column of the frame_labels file; the name of the task by default.
    """

    name: str
    space: LabelSpace
    level: Literal["video", "frame"] = "video"
    column: str = ""

    def __post_init__(self) -> None:
        if self.level not in ("video", "frame"):
            raise UserError(f"task {self.name!r}: unknown level {self.level!r}", "Use video or frame")
        object.__setattr__(self, "column", self.column or self.name)

    def to_dict(self) -> dict[str, Any]:
        return {"space": self.space.to_dict(), "level": self.level, "column": self.column}

    @classmethod
    def from_dict(cls, name: str, data: Any, where: str) -> Task:
        if not isinstance(data, Mapping) or not isinstance(data.get("space"), Mapping):
            raise UserError(f"{where}: task {name!r} needs a 'space' with 'name' and 'names'", "Add the label space")
        space = LabelSpace.from_dict(data["space"], f"{where}, task {name!r}")
        return cls(name, space, data.get("level", "video"), str(data.get("column", "")))
