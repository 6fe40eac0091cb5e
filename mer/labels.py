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

    def decode(self, cell: str, base: int, where: str) -> str:
        """Name of the class that a list gives as a whole number, of which `base` stands for the first.

        Raises:
            UserError: it is no whole number, or stands for no class; `where` (file and row) is named.
        """
        text = cell.strip()
        code = int(text) - base if text.isascii() and text.isdecimal() else -1
        if not 0 <= code < len(self):
            raise UserError(
                f"{where}: label {cell!r} is not a number from {base} to {base + len(self) - 1}, as {self.name} has it"
                f" where {base} is {self.names[0]}",
                "Correct the label, or say with which number the labels of this file begin",
            )
        return self.names[code]

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


_IMIGUE = (
    "Turtle neck", "Bulging face, deep breath", "Touching hat", "Touching or scratching head",
    "Touching or scratching forehead", "Covering face", "Rubbing eyes", "Touching or scratching facial parts",
    "Touching ears", "Biting nails", "Touching jaw", "Touching or scratching neck", "Playing or adjusting hair",
    "Buckle button, pulling shirt collar, adjusting tie", "Touching or covering suprasternal notch", "Scratching back",
    "Folding arms", "Dustoffing clothes", "Putting arms behind body", "Moving torso", "Sitting straightly",
    "Scratching or touching arms", "Rubbing or holding hands", "Crossing fingers", "Minaret gesture",
    "Playing or manipulating objects", "Hold back arms", "Head up", "Pressing lips", "Arms akimbo", "Shaking shoulders",
    "Illustrative body language",
)  # fmt: skip
_UTD_MHAD = (
    "swipe_left swipe_right wave clap throw arm_cross basketball_shoot draw_x draw_circle_cw draw_circle_ccw draw_triangle"
    " bowling boxing baseball_swing tennis_swing arm_curl tennis_serve push knock catch pickup_throw jog walk sit2stand"
    " stand2sit lunge squat"
)
_MAFW = "happiness sadness neutral anger surprise disgust fear contempt anxiety helplessness disappointment"
_COMPOUND = (
    "fearfully surprised,happily surprised,sadly surprised,disgustedly surprised,angrily surprised"
    ",sadly fearful,sadly angry"
)


def _classes(name: str, names: str) -> LabelSpace:
    return LabelSpace(name, tuple(names.split()))


# Where several orders of the same classes are in use, each has a name of its own; `mer.label_maps` goes from one to another.
SPACES: dict[str, LabelSpace] = {
    space.name: space
    for space in (
        # Meeting points for several corpora: alphabetical, neutral last.
        _classes("basic6.v1", "anger disgust fear happiness sadness surprise"),
        _classes("basic7.v1", "anger disgust fear happiness sadness surprise neutral"),
        _classes("basic8.v1", "anger contempt disgust fear happiness sadness surprise neutral"),
        _classes("valence3.v1", "negative neutral positive"),
        LabelSpace("va.v1", ("valence", "arousal"), "continuous"),
        # RAVDESS file-name codes 01 to 08, minus one.
        _classes("ravdess8.v1", "neutral calm happy sad angry fearful disgust surprised"),
        # UTD-MHAD file names a1 to a27, minus one.
        _classes("utd_mhad27.v1", _UTD_MHAD),
        # iMiGUE: raw class 1 to 31 minus one, raw 99 is 31. Of the interview: the match was lost or won.
        LabelSpace("imigue32.v1", _IMIGUE),
        _classes("imigue_emotion2.v1", "negative positive"),
        # EMER: the order of its README. Intensity is of the facial expression, 0 to 3.
        _classes("emer7.v1", "happiness sadness fear surprise disgust anger neutral"),
        _classes("emer3.v1", "positive negative neutral"),
        LabelSpace("emer_va.v1", ("valence", "arousal"), "continuous"),
        LabelSpace("emer_intensity.v1", ("intensity",), "continuous"),
        # BAH: ambivalence or hesitancy.
        _classes("bah2.v1", "absent present"),
        # DFEW: official code 1 to 7, minus one.
        _classes("dfew7.v1", "happy sad neutral angry surprise disgust fear"),
        # Shares of the annotators' votes.
        LabelSpace("dfew_votes7.v1", ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"), "continuous"),
        # MAFW as MMA-DFER and DFER-CLIP number it, as MAE-DFER and HiCMAE do, and as S2D does.
        _classes("mafw11.v1", _MAFW),
        _classes(
            "mafw11_mae.v1",
            "anger disgust fear happiness neutral sadness surprise contempt anxiety helplessness disappointment",
        ),
        _classes(
            "mafw11_s2d.v1",
            "anger anxiety contempt disappointment disgust fear happiness helplessness neutral sadness surprise",
        ),
        # Clips of MAFW in which several emotions are seen at once.
        LabelSpace(
            "mafw11_compound.v1",
            tuple(_MAFW.split()),
            "multilabel",
        ),
        # FERV39k as Former-DFER, DFER-CLIP and MAE-DFER number it, and as S2D does.
        _classes("ferv39k7.v1", "happy sad neutral angry surprise disgust fear"),
        _classes("ferv39k7_s2d.v1", "angry disgust fear happy neutral sad surprise"),
        _classes("crema_d6.v1", "anger disgust fear happiness neutral sadness"),
        _classes("emodb7.v1", "anger boredom disgust fear happiness neutral sadness"),
        _classes("emodb4.v1", "anger happiness neutral sadness"),
        _classes("mosi2.v1", "negative positive"),
        LabelSpace("mosi_score.v1", ("sentiment",), "continuous"),  # -3 to 3
        _classes("mmmo2.v1", "negative positive"),
        LabelSpace("mmmo_score.v1", ("sentiment",), "continuous"),  # 1 to 5
        _classes("meld7.v1", "anger disgust fear joy neutral sadness surprise"),
        _classes("meld3.v1", "negative neutral positive"),
        _classes("eye_ier5.v1", "control npc noise arithmetic_second_task combined"),
        # Orders of published networks and of challenges.
        _classes("affectnet8.v1", "neutral happiness sadness surprise fear disgust anger contempt"),
        _classes("affectnet7.v1", "neutral happiness sadness surprise fear disgust anger"),  # OpenFace 3, MotivNet
        _classes("emotieff8.v1", "anger contempt disgust fear happiness neutral sadness surprise"),
        _classes("emotieff7.v1", "anger disgust fear happiness neutral sadness surprise"),
        _classes("aff_wild8.v1", "neutral anger disgust fear happiness sadness surprise other"),
        _classes("aff_wild7.v1", "neutral anger disgust fear happiness sadness surprise"),
        _classes("raf_db7.v1", "surprise fear disgust happiness sadness anger neutral"),  # SwinFace and CluP, too
        _classes("fer2013_7.v1", "angry disgust fear happy sad surprise neutral"),
        _classes("gimefive6.v1", "happiness surprise sadness anger disgust fear"),
        _classes("resemotenet7.v1", "happy surprise sad anger disgust fear neutral"),
        _classes("mer2023_6.v1", "neutral angry happy sad worried surprise"),
        LabelSpace("compound7.v1", tuple(_COMPOUND.split(","))),  # C-EXPR-DB
        LabelSpace("compound8.v1", (*_COMPOUND.split(","), "other")),
        # The synthetic corpus: the face gives one half of the emotion, the voice the other ...
        _classes("synthetic4.v1", "joyful relieved alarmed sad"),
        # ... and whether the two agree is their exclusive-or, of which neither alone knows anything.
        _classes("synthetic_xor.v1", "congruent ambivalent"),
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
