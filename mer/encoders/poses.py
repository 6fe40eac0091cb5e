"""Skeletons before a network sees them: units, clocks, streams (joints, bones, motion), variants for training.

Everywhere `places` (B, T, V, 2 or 3) are coordinates, `sure` (B, T, V) is their confidence, 0 where a joint was not seen,
and `mask` (B, T) says which frames are real, padding on the right only. A joint that was not seen is masked after centring:
before, its (0, 0) would become a place of its own, and the joint would jump there and back.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mer.errors import UserError
from mer.skeletons import Layout

Units = Literal["none", "body", "ntu", "pyskl", "kinetics", "picture"]
Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]

# How a body is measured, the first way that a clip allows: the middle of these joints is the origin, and from the middle of
# those to the middle of the last it is one long.
_RULERS = (
    (("mid_hip",), ("mid_hip",), ("neck",)),
    (("left_hip", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")),
    (("neck",), ("left_shoulder",), ("right_shoulder",)),
    (("left_shoulder", "right_shoulder"), ("left_shoulder",), ("right_shoulder",)),
    (("wrist",), ("wrist",), ("middle_mcp",)),
)
_NTU = ("spine", "mid_hip", "right_shoulder", "left_shoulder")
_TURN = (0.25, 0.6, 0.15)  # radians: nodding, turning round, leaning to a side


def check(units: Units, layout: Layout, picture: tuple[int, int] | None) -> None:
    """Whether skeletons of this layout can be brought to these units.

    Raises:
        UserError: they cannot.
    """
    if units in ("ntu", "pyskl") and not (layout.depth and set(_NTU) <= set(layout.joints)):
        raise UserError(
            f"normalise {units!r} wants 3-D skeletons with {', '.join(_NTU)}; {layout.name!r} has others",
            "Use normalise: body",
        )
    if units in ("kinetics", "picture") and (layout.depth or picture is None):
        raise UserError(
            f"normalise {units!r} wants 2-D skeletons in pixels, and 'picture', the height and width of the video",
            "Give both, or use normalise: body",
        )


def normalised(
    places: Tensor, sure: Tensor, mask: Tensor, units: Units, layout: Layout, picture: tuple[int, int] | None = None
) -> Tensor:
    """Coordinates in other units; 0 where a joint was not seen.

    Args:
        places, sure, mask: see above.
        units: `none`: as they are. `body` (ours): the middle of the hips, in the first frame that shows hips and shoulders, is
            the origin, and the torso there is 1 long; without hips, the neck and the width of the shoulders. `ntu`: the spine
            of each frame is the origin; in the first frame the spine points upwards along z and the shoulders lie along x;
            metres; as the authors of 2s-AGCN prepare NTU RGB+D. `pyskl`: the same, but the spine of the first frame is
            the origin of all, as pyskl and mmaction2 have it. `kinetics`: pixels to [-0.5, 0.5], y upwards, as the authors
            prepare Kinetics. `picture`: pixels to [-1, 1], y downwards, as pyskl and mmaction2 prepare 2-D skeletons.
        layout: of the joints.
        picture: height and width in pixels, of the last two.
    """
    seen = (sure > 0)[..., None]
    places = torch.where(seen, places, torch.zeros((), dtype=places.dtype, device=places.device))  # it may be no number
    if units == "body":
        origin, length = _measured(places, sure, mask, layout)
        places = (places - origin[:, None, None]) / length[:, None, None, None]
    elif units in ("ntu", "pyskl"):
        spine, hip, right, left = (layout.joints.index(name) for name in _NTU)
        origin = places if units == "ntu" else places[:, :1]
        places = (places - origin[:, :, spine, None]) * seen
        places = _turned(places, places[:, 0, spine] - places[:, 0, hip], (0.0, 0.0, 1.0))
        places = _turned(places, places[:, 0, right] - places[:, 0, left], (1.0, 0.0, 0.0))
    elif units in ("kinetics", "picture"):
        assert picture is not None
        size = places.new_tensor((picture[1], picture[0]))
        places = (places / size - 0.5) * places.new_tensor((1.0, -1.0) if units == "kinetics" else (2.0, 2.0))
    return places * seen


def resampled(
    places: Tensor, sure: Tensor, mask: Tensor, spans: Tensor, frames: int, part: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """So many frames at equal distances, interpolated linearly in media time between the frames in which a joint was seen.

    Args:
        places, sure, mask: see above; each clip has a real frame.
        spans: (B, T, 2) seconds.
        frames: F.
        part: (B, 2), begin and end of what is shown as shares of the clip; None for all of it.

    Returns:
        places (B, F, V, .), sure (B, F, V), spans (B, F, 2).
    """
    last = mask.sum(1) - 1
    begin, end = spans[:, 0, 0], spans[:, :, 1].gather(1, last[:, None])[:, 0]
    if part is not None:
        begin, end = begin + part[:, 0] * (end - begin), begin + part[:, 1] * (end - begin)
    share = torch.linspace(0, 1, frames + 1, device=spans.device)
    edges = begin[:, None] + share * (end - begin)[:, None]
    wanted = (edges[:, 1:] + edges[:, :-1]) / 2
    had = spans.mean(2).masked_fill(~mask, math.inf)
    after = torch.searchsorted(had, wanted).clamp(max=last[:, None])
    before = (after - 1).clamp(min=0)
    t0, t1 = had.gather(1, before), had.gather(1, after)
    weight = ((wanted - t0) / (t1 - t0).clamp(min=1e-6)).clamp(0, 1)[..., None]
    rows = torch.arange(len(places), device=places.device)[:, None]
    near, far = sure[rows, before] * (1 - weight), sure[rows, after] * weight
    total = near + far
    moved = places[rows, before] * near[..., None] + places[rows, after] * far[..., None]
    return moved / total.clamp(min=1e-6)[..., None], total, torch.stack([edges[:, :-1], edges[:, 1:]], 2)


def prolonged(places: Tensor, sure: Tensor, mask: Tensor, frames: int, loop: bool) -> tuple[Tensor, Tensor, Tensor]:
    """At least so many frames: the clip again from its start (`loop`), or frames without a body. All of them count as real.

    Returns:
        places (B, max(T, F), V, .), sure, mask.
    """
    batch, size = mask.shape
    lengths = mask.sum(1, keepdim=True)
    index = torch.arange(max(size, frames), device=mask.device).expand(batch, -1)
    shown = index < lengths.clamp(min=frames)
    index = index % lengths.clamp(min=1) if loop else index
    there = (index < lengths) & shown
    rows, index = torch.arange(batch, device=mask.device)[:, None], index.clamp(max=size - 1)
    return places[rows, index] * there[..., None, None], sure[rows, index] * there[..., None], shown


def stream(name: Stream, places: Tensor, sure: Tensor, mask: Tensor, layout: Layout, score: bool) -> Tensor:
    """What one network sees, (B, T, V, C): coordinates, and with `score` the confidence.

    A bone is a joint less the other end of its bone, motion the next frame less this one (0 in the last); both are 0 where
    an end was not seen, and as sure as the mean of the two ends. (The script of 2s-AGCN subtracts the scores, too.)
    """
    if name.startswith("bone"):
        parents = torch.as_tensor(layout.parents(), device=places.device)
        places, sure = _less(places, sure, places[:, :, parents], sure[:, :, parents])
    if name.endswith("motion"):
        later = torch.cat([sure[:, 1:] * mask[:, 1:, None], torch.zeros_like(sure[:, :1])], 1)
        places, sure = _less(places.roll(-1, 1), later, places, sure)
    seen = (sure > 0)[..., None] & mask[..., None, None]
    values = torch.cat([places, sure[..., None]], -1) if score else places
    return torch.where(seen, values, torch.zeros((), dtype=values.dtype, device=values.device))


def varied(places: Tensor, sure: Tensor, strength: float, upright: int, mirror: Layout | None) -> tuple[Tensor, Tensor]:
    """Training variants, one draw per clip: turned about the axes, each axis stretched, joints displaced.

    Args:
        places, sure: see above.
        strength: 1 turns by up to 34 degrees about the vertical axis, 14 and 9 about the others (in 2-D: 9 in the plane),
            stretches by up to 15 %, and displaces joints by 1 % of the body's extent.
        upright: the vertical axis, 1 or 2.
        mirror: exchange left and right in half of the clips; None where the side means something.
    """
    seen = (sure > 0)[..., None]
    count = seen.sum((1, 2), keepdim=True).clamp(min=1)
    middle = (places * seen).sum((1, 2), keepdim=True) / count
    places = (places - middle) * seen
    batch, axes = len(places), places.shape[-1]
    extent = (places.square().sum((1, 2, 3), keepdim=True) / count).sqrt()

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(batch, *shape, device=places.device) - 1) * strength

    if mirror is not None:
        swap = torch.rand(batch, device=places.device)[:, None, None] < 0.5
        order = torch.as_tensor(mirror.mirror(), device=places.device)
        sign = places.new_tensor((-1.0, *(1.0,) * (axes - 1)))
        places = torch.where(swap[..., None], places[:, :, order] * sign, places)
        sure = torch.where(swap, sure[:, :, order], sure)
    # A flat skeleton is turned in space as well, and seen from the front again.
    nod, turn, lean = (uniform(3) * places.new_tensor(_TURN)).unbind(1)
    matrix = _rotation(nod, turn, lean) if upright == 1 else _rotation(nod, lean, turn)
    matrix = matrix[:, :axes, :axes] * (1 + 0.15 * uniform(1, axes))
    noise = 0.01 * strength * extent * torch.randn_like(places)
    return (torch.einsum("btvi,bij->btvj", places, matrix) + noise + middle) * (sure > 0)[..., None], sure


def _measured(places: Tensor, sure: Tensor, mask: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Origin (B, D) and length (B,) of each body, by the first ruler that the clip shows whole."""
    batch = len(places)
    rows = torch.arange(batch, device=places.device)
    there = (sure > 0) & mask[..., None]
    # Of a body that shows none of them: the middle and the extent of what there is.
    count = there.sum((1, 2)).clamp(min=1)[:, None]
    origin = (places * there[..., None]).sum((1, 2)) / count
    spread = (places - origin[:, None, None]).square() * there[..., None]
    length = (spread.sum((1, 2, 3)) / count[:, 0]).sqrt()
    for names in reversed(_RULERS):
        if not {name for group in names for name in group} <= set(layout.joints):
            continue
        middle, one, other = ([layout.joints.index(name) for name in group] for group in names)
        shown = there[..., middle + one + other].all(-1)
        first = places[rows, shown.float().argmax(1)]
        whole = shown.any(1)
        origin = torch.where(whole[:, None], first[:, middle].mean(1), origin)
        length = torch.where(whole, (first[:, one].mean(1) - first[:, other].mean(1)).norm(dim=1), length)
    return origin, torch.where(length > 1e-6, length, torch.ones_like(length))


def _turned(places: Tensor, vector: Tensor, onto: tuple[float, float, float]) -> Tensor:
    """Each clip turned the short way that takes `vector` (B, 3) onto an axis; as it is where they are opposite or it is 0."""
    axis = places.new_tensor(onto)
    unit = vector / vector.norm(dim=1, keepdim=True).clamp(min=1e-9)
    x, y, z = torch.linalg.cross(unit, axis.expand_as(unit)).unbind(1)
    cosine = unit @ axis
    o = torch.zeros_like(x)
    skew = torch.stack([torch.stack(row, 1) for row in ((o, -z, y), (z, o, -x), (-y, x, o))], 1)
    turn = (
        torch.eye(3, dtype=places.dtype, device=places.device)
        + skew
        + skew @ skew / (1 + cosine).clamp(min=1e-6)[:, None, None]
    )
    return torch.einsum("btvi,bji->btvj", places, turn)


def _less(a: Tensor, sure_a: Tensor, b: Tensor, sure_b: Tensor) -> tuple[Tensor, Tensor]:
    """a - b and its confidence, both 0 where either end was not seen."""
    both = (sure_a > 0) & (sure_b > 0)
    return (a - b) * both[..., None], (sure_a + sure_b) / 2 * both


def _rotation(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(B, 3, 3): turns about the x, then the y, then the z axis, by angles (B,) in radians."""
    one, o = torch.ones_like(x), torch.zeros_like(x)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    about_x = matrix((one, o, o), (o, x.cos(), -x.sin()), (o, x.sin(), x.cos()))
    about_y = matrix((y.cos(), o, y.sin()), (o, one, o), (-y.sin(), o, y.cos()))
    about_z = matrix((z.cos(), -z.sin(), o), (z.sin(), z.cos(), o), (o, o, one))
    return about_z @ about_y @ about_x
