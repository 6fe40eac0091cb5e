"""Skeleton layouts as data: joints, edges, bones, mirror pairs; and the change from one layout to another.

One vocabulary of joint names for all layouts (`left` is the person's left), so that equal names mean the same joint:
`neck` is the point between the shoulders (Kinect's shoulder centre, Human3.6M's thorax), `mid_hip` the one between the
hips, `left_hand_wrist` the root of a 21-point hand, `face_0` to `face_67` the 68 iBUG points. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mer.errors import UserError

Edge = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """The joints of a skeleton, in order, and how they hang together.

    Attributes:
        name: what `InputSpec.layout` says.
        joints: V unique names.
        edges: (child, parent), inward, towards `centre`; the graph. Each joint but the centre is one child, except in
            `mediapipe33` and `mediapipe75`, whose graph has circles.
        bones: (child, parent), one for every joint; the bone of a root is (root, root), a zero vector.
        centre: the joint that the graph is rooted at.
        flip: pairs that change places when the picture is mirrored; what is in no pair stays.
        depth: coordinates are 3-D (x, y, z) by the nature of the sensor.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[Edge, ...]
    bones: tuple[Edge, ...]
    centre: int
    flip: tuple[Edge, ...]
    depth: bool = False

    @property
    def size(self) -> int:
        """V, the number of joints."""
        return len(self.joints)

    def parents(self) -> np.ndarray:
        """(V,) int: the joint at the other end of each joint's bone."""
        ends = dict(self.bones)
        return np.array([ends[v] for v in range(self.size)])

    def mirror(self) -> np.ndarray:
        """(V,) int: which joint takes each place in a mirrored picture; the caller negates x."""
        order = np.arange(self.size)
        for left, right in self.flip:
            order[[left, right]] = right, left
        return order


def layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UserError: there is none.
    """
    if name not in LAYOUTS:
        raise UserError(f"unknown skeleton layout {name!r}", f"Use one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def convert(points: np.ndarray, source: Layout, target: Layout) -> np.ndarray:
    """Skeletons in another layout.

    A joint of the same name is copied. Else it is the mean of the joints in `DERIVED`, and its confidence is the least
    of theirs. What the source cannot give has coordinates 0 and confidence 0.

    Args:
        points: (..., V, C), the last channel is the confidence.
        source, target: with V and W joints.

    Returns:
        (..., W, C) of the dtype of `points`.

    Raises:
        UserError: V differs from the layout, or the two have no joint in common.
    """
    if points.ndim < 2 or points.shape[-2] != source.size:
        raise UserError(
            f"skeletons of shape {points.shape} where layout {source.name!r} has {source.size} joints",
            "Declare the layout that the points have",
        )
    if source == target:
        return points
    parents = correspondence(source, target)
    if not any(parents):
        raise UserError(
            f"skeleton layouts {source.name!r} and {target.name!r} have no joint in common", "Choose another layout"
        )
    out = np.zeros((*points.shape[:-2], target.size, points.shape[-1]), points.dtype)
    for joint, whence in enumerate(parents):
        if len(whence) == 1:
            out[..., joint, :] = points[..., whence[0], :]
        elif whence:
            several = points[..., whence, :]
            confidence = several[..., -1].min(-1)
            # A parent that was not seen has no place, and then neither has what lies between.
            out[..., joint, :-1] = np.where(confidence[..., None] > 0, several[..., :-1].mean(-2), 0)
            out[..., joint, -1] = confidence
    return out


@lru_cache(maxsize=64)
def correspondence(source: Layout, target: Layout) -> tuple[tuple[int, ...], ...]:
    """Per joint of the target: the joints of the source whose mean it is; empty where the source has nothing."""
    index = {name: i for i, name in enumerate(source.joints)}
    found = []
    for name in target.joints:
        choices = ((name,), *DERIVED.get(name, ()))
        first = next((c for c in choices if all(n in index for n in c)), ())
        found.append(tuple(index[n] for n in first))
    return tuple(found)


# -- Names -------------------------------------------------------------------------------------------------------------

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_HAND = (
    *("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip"),
    *(f"{finger}_{part}" for finger in _FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
)
_LEFT_HAND = tuple(f"left_hand_{n}" for n in _HAND)
_RIGHT_HAND = tuple(f"right_hand_{n}" for n in _HAND)
_FACE = tuple(f"face_{i}" for i in range(70))  # iBUG 68 from the person's right jaw on, then the right and left pupil


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_OPENPOSE_ARMS = _words("nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist")
_OPENPOSE_FACE = _words("right_eye left_eye right_ear left_ear")
_BODY_25 = (
    _OPENPOSE_ARMS
    + _words("mid_hip right_hip right_knee right_ankle left_hip left_knee left_ankle")
    + _OPENPOSE_FACE
    + _words("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
)
_COCO_17 = _words(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist"
    " right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_MEDIAPIPE_33 = _words(
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear"
    " left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
    " left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee"
    " left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index"
)
# iMiGUE's own files name sides as the viewer sees them; the order is that of BODY_25, so these are the person's sides.
_TIPS = tuple(f"{side}_hand_{finger}_tip" for side in ("left", "right") for finger in _FINGERS)

# -- Where a joint that a layout lacks comes from: alternatives in order, each the joints whose mean it is ---------------

DERIVED: dict[str, tuple[tuple[str, ...], ...]] = {
    "neck": (("left_shoulder", "right_shoulder"),),
    "mid_hip": (("left_hip", "right_hip"),),
    "spine": (("neck", "mid_hip"), ("left_shoulder", "right_shoulder", "left_hip", "right_hip")),
    "nose": (("face_30",), ("neck_nose",)),
    "neck_nose": (("nose",), ("upper_neck",)),  # Human3.6M's 9 lies between the two; as MMPose, from the nose
    "head": (("left_ear", "right_ear"), ("left_eye", "right_eye"), ("nose",), ("head_top",)),
    "head_top": (("left_eye", "right_eye"), ("head",)),  # as MMPose: the nearest thing that a 2-D estimator sees
}


def _both_sides(name: str, *choices: tuple[str, ...]) -> None:
    for side in ("left", "right"):
        DERIVED[f"{side}_{name}"] = tuple(tuple(f"{side}_{n}" for n in choice) for choice in choices)


_both_sides("wrist", ("hand_wrist",))
_both_sides("hand_wrist", ("wrist",))
# Kinect's hand is the palm, MediaPipe's body knows three knuckles of each hand.
_both_sides("palm", ("hand_index_mcp", "hand_pinky_mcp"), ("index", "pinky"))
_both_sides("index", ("hand_index_mcp",))
_both_sides("pinky", ("hand_pinky_mcp",))
_both_sides("thumb", ("hand_thumb_ip",))
_both_sides("hand_index_mcp", ("index",))
_both_sides("hand_pinky_mcp", ("pinky",))
_both_sides("hand_thumb_ip", ("thumb",))
_both_sides("fingertip", ("hand_middle_tip",))
_both_sides("hand_middle_tip", ("fingertip",))
_both_sides("thumbtip", ("hand_thumb_tip",))
_both_sides("hand_thumb_tip", ("thumbtip",))
_both_sides("big_toe", ("foot_index",), ("foot",))
_both_sides("foot_index", ("big_toe",), ("foot",))
_both_sides("foot", ("big_toe",), ("foot_index",))
DERIVED |= {
    "left_eye_inner": (("face_42",),), "left_eye_outer": (("face_45",),), "left_mouth": (("face_54",),),
    "right_eye_inner": (("face_39",),), "right_eye_outer": (("face_36",),), "right_mouth": (("face_48",),),
    "face_42": (("left_eye_inner",),), "face_45": (("left_eye_outer",),), "face_54": (("left_mouth",),),
    "face_39": (("right_eye_inner",),), "face_36": (("right_eye_outer",),), "face_48": (("right_mouth",),),
    "face_30": (("nose",),), "face_68": (("right_eye",),), "face_69": (("left_eye",),),
    "left_eye": (("face_69",), ("face_42", "face_45"), ("left_eye_inner", "left_eye_outer")),
    "right_eye": (("face_68",), ("face_39", "face_36"), ("right_eye_inner", "right_eye_outer")),
}  # fmt: skip

# -- Edges, child-parent ------------------------------------------------------------------------------------------------


def _edges(text: str) -> tuple[Edge, ...]:
    pairs = (pair.split("-") for pair in text.split())
    return tuple((int(child), int(parent)) for child, parent in pairs)


def _shift(edges: tuple[Edge, ...], by: int) -> tuple[Edge, ...]:
    return tuple((child + by, parent + by) for child, parent in edges)


_HAND_EDGES = tuple((i, 0 if i % 4 == 1 else i - 1) for i in range(1, 21))
# A tree over the 68 points from the nose tip (30), mirror-symmetric; OpenPose draws contours instead. Our choice.
_FACE_EDGES = _edges(
    "29-30 28-29 27-28 33-30 32-33 31-32 34-33 35-34 "
    "21-27 20-21 19-20 18-19 17-18 22-27 23-22 24-23 25-24 26-25 "
    "39-27 38-39 37-38 36-37 40-39 41-40 "
    "42-27 43-42 44-43 45-44 47-42 46-47 "
    "51-33 50-51 49-50 48-49 52-51 53-52 54-53 "
    "62-51 61-62 60-61 63-62 64-63 66-62 67-66 65-66 "
    "57-66 58-57 59-58 56-57 55-56 "
    "8-57 7-8 6-7 5-6 4-5 3-4 2-3 1-2 0-1 "
    "9-8 10-9 11-10 12-11 13-12 14-13 15-14 16-15"
)
_FACE_FLIP = {i: 16 - i for i in range(17)} | {17 + i: 26 - i for i in range(10)} | {31 + i: 35 - i for i in range(5)}
for _a, _b in (
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53), (50, 52), (55, 59), (56, 58),
    (60, 64), (61, 63), (65, 67), (68, 69),
):  # fmt: skip
    _FACE_FLIP |= {_a: _b, _b: _a}

_BODY_25_EDGES = _edges(
    "0-1 2-1 3-2 4-3 5-1 6-5 7-6 8-1 9-8 10-9 11-10 12-8 13-12 "
    "14-13 15-0 16-0 17-15 18-16 19-14 20-19 21-14 22-11 23-22 24-11"
)
_COCO_17_EDGES = _edges("15-13 13-11 16-14 14-12 11-5 12-6 9-7 7-5 10-8 8-6 5-0 6-0 1-0 3-1 2-0 4-2")
# MediaPipe's 35 links, the last row ours: without it face, mouth and body are three pieces. Away from the nose each link
# points inward; between two joints equally far from it, from the higher number to the lower.
_MEDIAPIPE_33_EDGES = _edges(
    "1-0 4-0 2-1 3-2 7-3 5-4 6-5 8-6 10-9 12-11 13-11 23-11 14-12 "
    "24-12 15-13 16-14 17-15 19-15 21-15 18-16 20-16 22-16 19-17 20-18 "
    "24-23 25-23 26-24 27-25 28-26 29-27 31-27 30-28 32-28 31-29 32-30 "
    "11-0 12-0 9-0 10-0"
)
_MEDIAPIPE_33_RINGS = {(10, 9), (12, 11), (19, 17), (20, 18), (24, 23), (31, 29), (32, 30)}
_NTU_25_EDGES = tuple(
    (child - 1, parent - 1)
    for child, parent in (
        (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11),
        (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8), (24, 25),
        (25, 12),
    )
)  # fmt: skip


def _make(
    name: str,
    joints: tuple[str, ...],
    edges: tuple[Edge, ...],
    centre: int,
    bones: tuple[Edge, ...] | None = None,
    depth: bool = False,
) -> Layout:
    """Mirror pairs follow from the names; bones are the edges and the centre's own unless a reference says otherwise."""
    index = {joint: i for i, joint in enumerate(joints)}
    flip = tuple((i, index[_mirrored(joint)]) for i, joint in enumerate(joints) if i < index[_mirrored(joint)])
    bones = tuple(sorted((*edges, (centre, centre)) if bones is None else bones))
    return Layout(name, joints, edges, bones, centre, flip, depth)


def _mirrored(joint: str) -> str:
    side, _, rest = joint.partition("_")
    if side == "face":
        return f"face_{_FACE_FLIP.get(int(rest), int(rest))}"  # the midline stays
    other = {"left": "right", "right": "left"}.get(side)
    return f"{other}_{rest}" if other else joint


_FACE_70_EDGES = (*_FACE_EDGES, (68, 39), (69, 42))
_MEDIAPIPE_33_BONES = tuple(e for e in _MEDIAPIPE_33_EDGES if e not in _MEDIAPIPE_33_RINGS)
_MEDIAPIPE_HANDS = ((33, 15), *_shift(_HAND_EDGES, 33), (54, 16), *_shift(_HAND_EDGES, 54))

LAYOUTS: dict[str, Layout] = {
    made.name: made
    for made in (
        # OpenPose with face and hands: 25 + 70 + left 21 + right 21.
        _make(
            "openpose137",
            _BODY_25 + _FACE + _LEFT_HAND + _RIGHT_HAND,
            (
                *(*_BODY_25_EDGES, (25 + 30, 0), *_shift(_FACE_70_EDGES, 25)),
                *((95, 7), *_shift(_HAND_EDGES, 95), (116, 4), *_shift(_HAND_EDGES, 116)),
            ),
            centre=1,
        ),
        _make("openpose25", _BODY_25, _BODY_25_EDGES, centre=1),
        # Kinetics-skeleton; its bones root at the nose while the graph roots at the neck (Shi et al., CVPR 2019).
        _make(
            "openpose18",
            _OPENPOSE_ARMS + _words("right_hip right_knee right_ankle left_hip left_knee left_ankle") + _OPENPOSE_FACE,
            _edges("4-3 3-2 7-6 6-5 13-12 12-11 10-9 9-8 11-5 8-2 5-1 2-1 0-1 15-0 14-0 17-15 16-14"),
            centre=1,
            bones=_edges("0-0 1-0 2-1 3-2 4-3 5-1 6-5 7-6 8-2 9-8 10-9 11-5 12-11 13-12 14-0 15-0 16-14 17-15"),
        ),
        # The 22 joints of the MiGA challenge. Its kit mixes edges counted from 1 with joints counted from 0; these do not.
        _make(
            "imigue22",
            _OPENPOSE_ARMS + _OPENPOSE_FACE + _TIPS,
            _edges("0-1 2-1 3-2 4-3 5-1 6-5 7-6 8-0 10-8 9-0 11-9 12-7 13-7 14-7 15-7 16-7 17-4 18-4 19-4 20-4 21-4"),
            centre=1,
        ),
        # Columns of <id>_light_hand.csv: BODY_25 and ten finger tips.
        _make(
            "imigue35",
            _BODY_25 + _TIPS,
            (*_BODY_25_EDGES, *((i, 7) for i in range(25, 30)), *((i, 4) for i in range(30, 35))),
            centre=1,
        ),
        # MM-Gesture's choice of the 137: 0-7, 15-18, 12 points of the face, wrist and tips of each hand. Edges are ours.
        _make(
            "imigue36",
            _OPENPOSE_ARMS
            + _OPENPOSE_FACE
            + tuple(f"face_{i}" for i in (2, 4, 8, 12, 14, 19, 24, 27, 48, 51, 54, 57))
            + ("left_hand_wrist", *_TIPS[:5], "right_hand_wrist", *_TIPS[5:]),
            _edges(
                "0-1 2-1 3-2 4-3 5-1 6-5 7-6 8-0 10-8 9-0 11-9 "
                "19-0 17-19 18-19 21-0 20-21 22-21 23-21 "
                "14-23 13-14 12-13 15-14 16-15 "
                "24-7 25-24 26-24 27-24 28-24 29-24 "
                "30-4 31-30 32-30 33-30 34-30 35-30"
            ),
            centre=1,
        ),
        _make(
            "coco17",
            _COCO_17,
            _COCO_17_EDGES,
            centre=0,
            bones=_edges("0-0 1-0 2-0 3-1 4-2 5-0 6-0 7-5 8-6 9-7 10-8 11-0 12-0 13-11 14-12 15-13 16-14"),
        ),
        # COCO-WholeBody (Jin et al., ECCV 2020): 17 + feet 6 + face 68 + left hand 21 + right hand 21. Edges are ours.
        _make(
            "coco133",
            _COCO_17
            + _words("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
            + _FACE[:68]
            + _LEFT_HAND
            + _RIGHT_HAND,
            (
                *(*_COCO_17_EDGES, *_edges("17-15 18-17 19-15 20-16 21-20 22-16"), (23 + 30, 0)),
                *(*_shift(_FACE_EDGES, 23), (91, 9), *_shift(_HAND_EDGES, 91), (112, 10), *_shift(_HAND_EDGES, 112)),
            ),
            centre=0,
        ),
        # Human3.6M, in the order of the common 2-D to 3-D lifters. 8 is called thorax there, 9 neck or nose.
        _make(
            "h36m17",
            _words(
                "mid_hip right_hip right_knee right_ankle left_hip left_knee left_ankle spine neck neck_nose head_top"
                " left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"
            ),
            _edges("1-0 2-1 3-2 4-0 5-4 6-5 7-0 8-7 9-8 10-9 11-8 12-11 13-12 14-8 15-14 16-15"),
            centre=0,
        ),
        # NTU RGB+D, Kinect v2. 0 is called base of the spine there, 20 spine, 2 neck.
        _make(
            "ntu25",
            _words(
                "mid_hip spine upper_neck head left_shoulder left_elbow left_wrist left_palm right_shoulder right_elbow"
                " right_wrist right_palm left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle"
                " right_foot neck left_fingertip left_thumbtip right_fingertip right_thumbtip"
            ),
            _NTU_25_EDGES,
            centre=20,
            depth=True,
        ),
        # UTD-MHAD, Kinect v1: metres, y up.
        _make(
            "kinect20",
            _words(
                "head neck spine mid_hip left_shoulder left_elbow left_wrist left_palm right_shoulder right_elbow"
                " right_wrist right_palm left_hip left_knee left_ankle left_foot right_hip right_knee right_ankle"
                " right_foot"
            ),
            _edges("0-1 1-2 3-2 4-1 5-4 6-5 7-6 8-1 9-8 10-9 11-10 12-3 13-12 14-13 15-14 16-3 17-16 18-17 19-18"),
            centre=2,
            depth=True,
        ),
        _make("mediapipe33", _MEDIAPIPE_33, _MEDIAPIPE_33_EDGES, 0, (*_MEDIAPIPE_33_BONES, (0, 0))),
        # One hand, of which side nobody says.
        _make("hand21", _HAND, _HAND_EDGES, centre=0),
        # MediaPipe's body, left hand, right hand.
        _make(
            "mediapipe75",
            _MEDIAPIPE_33 + _LEFT_HAND + _RIGHT_HAND,
            (*_MEDIAPIPE_33_EDGES, *_MEDIAPIPE_HANDS),
            centre=0,
            bones=(*_MEDIAPIPE_33_BONES, (0, 0), *_MEDIAPIPE_HANDS),
        ),
    )
}
