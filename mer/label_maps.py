"""From one label space to another: by meaning where two corpora call it differently, by a named rule where classes are merged.

Nothing is merged silently. `happy`, `happiness` and `joy` are one emotion in three spellings; that calm counts as neutral, or
disgust as negative, is a decision, and has a name in `RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer.errors import UserError
from mer.labels import SPACES, LabelSpace

# Spellings of one meaning; what is not here means itself.
_SPELLINGS: dict[str, str] = {
    spelling: meaning
    for meaning, spellings in {
        "anger": "angry",
        "disgust": "disgusted",
        "fear": "fearful",
        "happiness": "happy joy joyful",
        "sadness": "sad",
        "surprise": "surprised",
        "anxiety": "anxious",
    }.items()
    for spelling in spellings.split()
}
_VALENCE = {
    "positive": "happiness",
    "negative": "anger contempt disgust fear sadness anxiety helplessness disappointment",
    "neutral": "neutral",
}


@dataclass(frozen=True)
class Rule:
    """A named decision which classes count as which.

    Attributes:
        name: what the config says.
        why: who does so, or what it means.
        merges: meaning of the source -> class of the target.
    """

    name: str
    why: str
    merges: Mapping[str, str]


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("calm_is_neutral", "RAVDESS to basic emotions, as most cross-corpus work does", {"calm": "neutral"}),
        Rule("contempt_is_other", "AffectNet to Aff-Wild2, as EmotiEffLib does", {"contempt": "other"}),
        Rule("worried_is_fear", "MER2023 to basic emotions", {"worried": "fear"}),
        Rule("anxiety_is_fear", "MAFW to basic emotions", {"anxiety": "fear"}),
        Rule(
            "valence_sign",
            "basic and MAFW classes to negative, neutral, positive; surprise has no sign and is left out",
            {emotion: sign for sign, emotions in _VALENCE.items() for emotion in emotions.split()},
        ),
    )
}


@dataclass(frozen=True)
class LabelMap:
    """Classes of one space in terms of another.

    Attributes:
        source, target: the spaces.
        to: per class of the source the index in the target, -1 where it has none there.
        rules: names of the decisions that were taken.
    """

    source: LabelSpace
    target: LabelSpace
    to: tuple[int, ...]
    rules: tuple[str, ...] = ()

    @classmethod
    def between(cls, source: LabelSpace, target: LabelSpace, rules: tuple[str, ...] = ()) -> LabelMap:
        """The map by meaning and by the rules that are named.

        Raises:
            UserError: an unknown rule; one of the two is no set of classes (a continuous space maps to itself alone); the
                two have nothing in common, or less than two classes of the target.
        """
        for name in rules:
            if name not in RULES:
                raise UserError(f"there is no rule {name!r} for labels", f"Use {', '.join(RULES)}")
        if source.kind != "classes" or target.kind != "classes":
            if source.names == target.names and source.kind == target.kind:
                return cls(source, target, tuple(range(len(source))), rules)
            raise UserError(
                f"label spaces {source.name} ({source.kind}) and {target.name} ({target.kind}) cannot be mapped",
                "Maps go between classes; of valence see mer.label_maps.sign_of_valence",
            )
        places = {meaning(name): i for i, name in enumerate(target.names)}
        merges = {of: to for name in rules for of, to in RULES[name].merges.items()}
        found = []
        for name in source.names:
            own = meaning(name)
            found.append(places.get(own, places.get(meaning(merges.get(own, "")), -1)))
        if len({i for i in found if i >= 0}) < min(2, len(target)):
            raise UserError(
                f"label spaces {source.name} ({', '.join(source.names)}) and {target.name} ({', '.join(target.names)})"
                " have less than two classes in common",
                f"Choose another target, or name a rule: {', '.join(RULES)}",
            )
        return cls(source, target, tuple(found), rules)

    @classmethod
    def of(cls, source: LabelSpace, wish: str) -> LabelMap:
        """The map to a known space by its name, with rules behind it: `basic7.v1` or `basic7.v1+calm_is_neutral`.

        `&crema_d6.v1` goes to what the two share, in the source's own words.

        Raises:
            UserError: there is no such space, or as `between`.
        """
        name, *rules = (part.strip() for part in wish.removeprefix("&").split("+"))
        if name not in SPACES:
            raise UserError(
                f"there is no label space {name!r}", f"Use {', '.join(SPACES)}, with +RULE where classes merge"
            )
        target = intersection(source, SPACES[name]) if wish.startswith("&") else SPACES[name]
        return cls.between(source, target, tuple(rules))

    def label(self, name: str) -> str:
        """A class of the source as one of the target; empty, that is unlabelled, where there is none."""
        place = self.to[self.source.names.index(name)]
        return self.target.names[place] if place >= 0 else ""

    def targets(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) classes of the source, -1 for unlabelled, as classes of the target."""
        return np.append(np.asarray(self.to, np.int64), -1)[index]

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, C) posteriors of the source as (N, K) of the target: sums over what is merged, scaled to 1 over what both have.

        A row all of whose probability lies elsewhere is uniform over the classes that the source has.
        """
        matrix = np.zeros((len(self.source), len(self.target)))
        for i, k in enumerate(self.to):
            if k >= 0:
                matrix[i, k] = 1.0
        summed = np.asarray(values, np.float64) @ matrix
        shared = matrix.any(axis=0)
        summed[summed.sum(axis=1) <= 0] = shared
        return summed / summed.sum(axis=1, keepdims=True)


def meaning(name: str) -> str:
    """What a class name means, whatever its spelling."""
    plain = name.strip().lower()
    return _SPELLINGS.get(plain, plain)


def order(source: LabelSpace, target: LabelSpace) -> list[int]:
    """For logits of a published checkpoint: `logits[..., order(theirs, ours)]` has our order.

    Raises:
        UserError: the two do not hold the same classes.
    """
    places = {meaning(name): i for i, name in enumerate(source.names)}
    wanted = [meaning(name) for name in target.names]
    if set(places) != set(wanted):
        raise UserError(
            f"label spaces {source.name} and {target.name} do not hold the same classes",
            "Use LabelMap.between, which says what is lost",
        )
    return [places[name] for name in wanted]


def intersection(first: LabelSpace, second: LabelSpace) -> LabelSpace:
    """What two spaces share, in the order and the words of the first: where a model of one corpus is scored on another.

    Raises:
        UserError: less than two classes.
    """
    LabelMap.between(first, second)
    shared = {meaning(name) for name in second.names}
    names = tuple(name for name in first.names if meaning(name) in shared)
    return first if names == first.names else LabelSpace(f"{first.name}&{second.name}", names)


def compound_from_basic(
    values: NDArray[np.float64], basic: LabelSpace, compound: LabelSpace = SPACES["compound7.v1"]
) -> NDArray[np.float64]:
    """Posteriors of compound expressions from those of basic ones: each is the mean of its two, then scaled to 1.

    As HSEmotion did in ABAW-6 (arXiv 2403.11590). `other` of `compound8.v1` gets nothing.

    Args:
        values: (N, C) of `basic`, which has at least anger, disgust, fear, happiness, sadness and surprise.

    Returns:
        (N, K) of `compound`.

    Raises:
        UserError: `basic` lacks an emotion.
    """
    stems = {
        "angrily": "anger",
        "disgustedly": "disgust",
        "fearfully": "fear",
        "happily": "happiness",
        "sadly": "sadness",
    }
    places = {meaning(name): i for i, name in enumerate(basic.names)}
    out = np.zeros((len(values), len(compound)))
    for k, name in enumerate(compound.names):
        if name == "other":
            continue
        how, _, what = name.partition(" ")
        pair = (stems[how], {"surprised": "surprise", "fearful": "fear", "angry": "anger"}[what])
        for emotion in pair:
            if emotion not in places:
                raise UserError(
                    f"{basic.name} has no {emotion}, of which {name!r} is made", "Use a space of basic emotions"
                )
            out[:, k] += 0.5 * np.asarray(values, np.float64)[:, places[emotion]]
    total = out.sum(axis=1, keepdims=True)
    return np.divide(out, total, out=np.full_like(out, 1 / len(compound)), where=total > 0)


def sign_of_valence(valence: float, dead: float = 0.0) -> str:
    """Class of `valence3.v1` by the sign; within `dead` of 0 it is neutral, NaN is unlabelled ('')."""
    if valence != valence:
        return ""
    return "neutral" if abs(valence) <= dead else "positive" if valence > 0 else "negative"
