"""Views of evaluation: a clip seen several times (windows, temporal clips, crops, mirrored), its answers averaged to one.

data:
  views:
    class_path: mer.datasets.views.Views
    init_args: {windows: {seconds: 10, hop: 5}, crops: 3, flip: true}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mer.errors import UserError
from mer.media.sampling import Place
from mer.skeletons import layout
from mer.spec import InputSpec
from mer.tokens import Sampled

Average = Literal["probabilities", "logits"]
Crop = Literal["left", "center", "right"]

_CROPS: dict[int, tuple[Crop, ...]] = {1: ("center",), 2: ("left", "right"), 3: ("left", "center", "right")}
_PICTURES = ("video", "flow", "taylor")


@dataclass(frozen=True)
class Windows:
    """Windows of equal length over a stretch of time.

    Attributes:
        seconds: length of a window.
        hop: seconds from one window to the next; None is `seconds`.
    """

    seconds: float
    hop: float | None = None

    def __post_init__(self) -> None:
        step = self.seconds if self.hop is None else self.hop
        if not 0 < step <= self.seconds < math.inf:
            raise UserError(f"windows of {self.seconds:g} s every {step:g} s leave gaps", "Use 0 < hop <= seconds")

    def over(self, start: float, end: float) -> list[tuple[float, float]]:
        """Windows that cover [start, end); the last one ends at `end`. One shorter window where there is no room for two."""
        step = self.seconds if self.hop is None else self.hop
        more = math.ceil((end - start - self.seconds) / step - 1e-9)
        if more <= 0:
            return [(start, end)]
        firsts = [start + step * k for k in range(more)]
        return [*((first, first + self.seconds) for first in firsts), (end - self.seconds, end)]


@dataclass(frozen=True)
class View:
    """One way to look at a clip.

    Attributes:
        window: seconds that are shown; None is all of the clip.
        last: the window ends with the clip.
        place: which of several choices of a fixed number of frames; None takes the middles.
        crop: which part of the pictures.
        flip: mirrored.
    """

    window: tuple[float, float] | None = None
    last: bool = True
    place: Place | None = None
    crop: Crop = "center"
    flip: bool = False


WHOLE = View()


class Views:
    """Every clip is seen in windows x clips x crops x flip ways.

    Args:
        windows: stretches of time; None sees a clip whole.
        clips: choices of a fixed number of frames (`InputSpec.segments`). Of a dense clip they lie where `places` says; of
            several segments, view k takes the place (k + 1/2) / clips in each.
        places: `ends` (the first dense clip begins with the video and the last one ends with it: VideoMAE, MAE-DFER) or
            `middles` (each in the middle of an equal share: Video Swin in MMAction2).
        crops: 1 the centred crop, 2 both ends of the longer side, 3 all of them. Of encoders whose input is cropped at the
            `center`; faces, and whole pictures that are squeezed, stay as they are.
        flip: mirrored, too: pictures, optical flow and skeletons; gaze, rows, sound and words are left as they are.
        average: of the `probabilities` of the views of a clip, or of their `logits`. Values of a continuous task are
            averaged in both cases.

    The averages are one row per clip in metrics and score file; of a task at frame level, one row per labelled moment, averaged
    over the windows that show it. A view that shows nothing (no face in a window) counts only where no view of its clip
    shows anything. The logged loss is the mean over views. Media are decoded window by
    window, as if each were a clip (so the target face is chosen in each anew); tokens of a feature store and rows of files
    are cut, and tokens have then seen beyond the window's edge.
    """

    def __init__(
        self,
        windows: Windows | None = None,
        clips: int = 1,
        places: Literal["ends", "middles"] = "ends",
        crops: int = 1,
        flip: bool = False,
        average: Average = "probabilities",
    ):
        if clips < 1 or crops not in _CROPS:
            raise UserError(
                f"data.views: clips is {clips}, crops is {crops}", "Use at least 1 clip, and 1, 2 or 3 crops"
            )
        for name, value, choices in (
            ("places", places, ("ends", "middles")), ("average", average, ("probabilities", "logits"))
        ):  # fmt: skip
            if value not in choices:
                raise UserError(f"data.views: {name} is {value!r}", f"Use {' or '.join(choices)}")
        self.windows, self.clips, self.places, self.crops, self.flip = windows, clips, places, crops, flip
        self.average: Average = average

    def of(self, start: float, end: float | None) -> list[View]:
        """The views of a stretch, in order of time; `end` is not needed without windows."""
        spans: list[tuple[float, float] | None] = [None]
        if self.windows is not None:
            assert end is not None
            spans = [*self.windows.over(start, end)]
        several = [Place(k, self.clips, self.places == "ends") for k in range(self.clips)] if self.clips > 1 else [None]
        return [
            View(span, number == len(spans) - 1, place, crop, flip)
            for number, span in enumerate(spans)
            for place in several
            for crop in _CROPS[self.crops]
            for flip in ((False, True) if self.flip else (False,))
        ]

    def check(self, specs: Mapping[str, InputSpec]) -> None:
        """Refuse views that would all be the same.

        Args:
            specs: of what is read from media; tokens of a feature store can be cut into windows and no more.
        """
        for name, wanted, able in (
            ("clips", self.clips > 1, any(s.sampled_by_count and not s.from_file for s in specs.values())),
            ("crops", self.crops > 1, any(s.kind in _PICTURES and s.crop == "center" for s in specs.values())),
            ("flip", self.flip, any(s.kind in (*_PICTURES, "pose") for s in specs.values())),
        ):
            if wanted and not able:
                what = {
                    "clips": "takes a fixed number of frames (segments)",
                    "crops": "cuts its pictures at the centre",
                    "flip": "looks at pictures or skeletons",
                }[name]
                raise UserError(
                    f"data.views: {name} is {getattr(self, name)}, but no encoder that reads media {what}",
                    f"Leave {name} out, or data.store",
                )


def cropped(specs: Mapping[str, InputSpec], crop: Crop) -> dict[str, InputSpec]:
    """The specs of a view: what is cut at the centre is cut there instead."""
    return {m: replace(s, crop=crop) if s.kind in _PICTURES and s.crop == "center" else s for m, s in specs.items()}


def mirrored(sampled: Sampled, spec: InputSpec) -> Sampled:
    """What would have been prepared from mirrored pictures: video and Taylor frames, flow (u changes its sign), skeletons (x
    about the mean of the joints that were seen, left and right joints exchanged); anything else as it is.
    """
    if spec.kind == "pose":
        return replace(sampled, values=_other_side(sampled.values, spec))
    if spec.kind not in _PICTURES:
        return sampled
    values = sampled.values.flip(-1)
    if spec.kind == "flow":
        values[:, :, 0] *= -1
    return replace(sampled, values=values)


def _other_side(joints: Tensor, spec: InputSpec) -> Tensor:
    """(1, N, V, C) skeletons, mirrored; a joint that was not seen (confidence 0) keeps its coordinates."""
    assert spec.layout is not None
    seen = joints[..., -1] > 0
    x = joints[..., 0]
    axis = x[seen].mean() if bool(seen.any()) else torch.zeros(())
    turned = joints.clone()
    turned[..., 0] = torch.where(seen, 2 * axis - x, x)
    return turned[:, :, torch.from_numpy(layout(spec.layout).mirror())]
