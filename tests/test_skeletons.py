"""Skeleton layouts are what the references say, and changing between them invents nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mer.errors import UserError
from mer.skeletons import DERIVED, LAYOUTS, Layout, convert, correspondence, layout

SIZES = {
    "openpose137": 137, "openpose25": 25, "openpose18": 18, "imigue22": 22, "imigue35": 35, "imigue36": 36,
    "coco17": 17, "coco133": 133, "h36m17": 17, "ntu25": 25, "kinect20": 20, "mediapipe33": 33, "hand21": 21,
    "mediapipe75": 75,
}  # fmt: skip
RINGED = {"mediapipe33", "mediapipe75"}
every_layout = pytest.mark.parametrize("it", LAYOUTS.values(), ids=list(LAYOUTS))


def pairs(*numbers: int) -> set[tuple[int, int]]:
    return set(zip(numbers[::2], numbers[1::2], strict=True))


def reaches_all(edges: set[tuple[int, int]], start: int, count: int) -> bool:
    seen = {start}
    for _ in range(count):
        seen |= {a for a, b in edges if b in seen} | {b for a, b in edges if a in seen}
    return len(seen) == count


def test_all_layouts_are_there() -> None:
    assert {name: it.size for name, it in LAYOUTS.items()} == SIZES


@every_layout
def test_joints_have_names_of_their_own(it: Layout) -> None:
    assert len(set(it.joints)) == it.size


@every_layout
def test_the_graph_hangs_together(it: Layout) -> None:
    assert reaches_all(set(it.edges), it.centre, it.size)
    assert len(set(it.edges)) == len(it.edges)
    if it.name not in RINGED:
        assert len(it.edges) == it.size - 1
        assert sorted(child for child, _ in it.edges) == [v for v in range(it.size) if v != it.centre]


@every_layout
def test_every_joint_has_one_bone_and_bones_are_a_tree(it: Layout) -> None:
    assert [child for child, _ in it.bones] == list(range(it.size))
    roots = [child for child, parent in it.bones if child == parent]
    assert len(roots) == 1
    assert reaches_all(set(it.bones), roots[0], it.size)
    assert it.parents().tolist() == [parent for _, parent in it.bones]


@every_layout
def test_mirroring_twice_is_nothing(it: Layout) -> None:
    mirror = it.mirror()
    assert mirror[mirror].tolist() == list(range(it.size))
    sided = [v for v, n in enumerate(it.joints) if n.startswith(("left_", "right_"))]
    assert all(mirror[v] != v for v in sided)


@every_layout
def test_a_mirrored_skeleton_has_the_same_bones(it: Layout) -> None:
    mirror = it.mirror()
    assert {(mirror[a], mirror[b]) for a, b in it.bones} == set(it.bones)


def test_edges_are_the_references() -> None:
    ntu = pairs(
        1, 2, 2, 21, 3, 21, 4, 3, 5, 21, 6, 5, 7, 6, 8, 7, 9, 21, 10, 9, 11, 10, 12, 11, 13, 1, 14, 13, 15, 14, 16, 15,
        17, 1, 18, 17, 19, 18, 20, 19, 22, 23, 23, 8, 24, 25, 25, 12,
    )  # fmt: skip
    assert {(a + 1, b + 1) for a, b in layout("ntu25").edges} == ntu
    assert {(a + 1, b + 1) for a, b in layout("ntu25").bones} == ntu | {(21, 21)}
    kinect = pairs(
        1, 2, 2, 3, 3, 4, 2, 5, 5, 6, 6, 7, 7, 8, 2, 9, 9, 10, 10, 11, 11, 12, 4, 13, 13, 14, 14, 15, 15, 16, 4, 17,
        17, 18, 18, 19, 19, 20,
    )  # fmt: skip
    assert {frozenset((a + 1, b + 1)) for a, b in layout("kinect20").edges} == {frozenset(p) for p in kinect}
    assert set(layout("openpose18").edges) == pairs(
        4, 3, 3, 2, 7, 6, 6, 5, 13, 12, 12, 11, 10, 9, 9, 8, 11, 5, 8, 2, 5, 1, 2, 1, 0, 1, 15, 0, 14, 0, 17, 15, 16, 14
    )
    assert dict(layout("openpose18").bones)[1] == 0 and layout("openpose18").centre == 1
    assert set(layout("coco17").edges) == pairs(
        15, 13, 13, 11, 16, 14, 14, 12, 11, 5, 12, 6, 9, 7, 7, 5, 10, 8, 8, 6, 5, 0, 6, 0, 1, 0, 3, 1, 2, 0, 4, 2
    )
    assert dict(layout("coco17").bones)[11] == 0
    assert set(layout("imigue22").edges) == pairs(
        0, 1, 2, 1, 3, 2, 4, 3, 5, 1, 6, 5, 7, 6, 8, 0, 10, 8, 9, 0, 11, 9
    ) | {(i, 7) for i in range(12, 17)} | {(i, 4) for i in range(17, 22)}  # fmt: skip
    h36m = pairs(
        0, 1, 1, 2, 2, 3, 0, 4, 4, 5, 5, 6, 0, 7, 7, 8, 8, 9, 9, 10, 8, 11, 11, 12, 12, 13, 8, 14, 14, 15, 15, 16
    )
    assert {(b, a) for a, b in layout("h36m17").edges} == h36m
    assert set(layout("hand21").edges) == {(i, i - 1) for i in range(1, 21)} - pairs(5, 4, 9, 8, 13, 12, 17, 16) | {
        (i, 0) for i in (5, 9, 13, 17)
    }


def test_mediapipe_has_its_35_links_and_four_of_ours() -> None:
    theirs = pairs(
        0, 1, 0, 4, 1, 2, 2, 3, 3, 7, 4, 5, 5, 6, 6, 8, 9, 10, 11, 12, 11, 13, 11, 23, 12, 14, 12, 24, 13, 15, 14, 16,
        15, 17, 15, 19, 15, 21, 16, 18, 16, 20, 16, 22, 17, 19, 18, 20, 23, 24, 23, 25, 24, 26, 25, 27, 26, 28, 27, 29,
        27, 31, 28, 30, 28, 32, 29, 31, 30, 32,
    )  # fmt: skip
    assert len(theirs) == 35
    assert {(b, a) for a, b in layout("mediapipe33").edges} == theirs | pairs(0, 11, 0, 12, 0, 9, 0, 10)


def test_mirror_pairs_are_the_references() -> None:
    assert set(layout("imigue22").flip) == pairs(2, 5, 3, 6, 4, 7, 8, 9, 10, 11) | {(i, i + 5) for i in range(12, 17)}
    assert {(a + 1, b + 1) for a, b in layout("kinect20").flip} == {(a, a + 4) for a in (5, 6, 7, 8, 13, 14, 15, 16)}
    assert set(layout("h36m17").flip) == pairs(1, 4, 2, 5, 3, 6, 11, 14, 12, 15, 13, 16)
    left = [17, 8, 10, 12, 13, 20, 2, 3, 4, 30, 31, 32, 33, 34, 35]
    right = [18, 9, 11, 16, 15, 22, 5, 6, 7, 24, 25, 26, 27, 28, 29]
    assert {frozenset(p) for p in layout("imigue36").flip} == {frozenset(p) for p in zip(left, right, strict=True)}
    assert layout("hand21").flip == ()


def test_parts_of_openpose_lie_where_it_writes_them() -> None:
    joints = layout("openpose137").joints
    assert joints[:25] == layout("openpose25").joints
    assert (joints[25], joints[94], joints[95], joints[116]) == (
        "face_0", "face_69", "left_hand_wrist", "right_hand_wrist"
    )  # fmt: skip
    chosen = [*range(8), *range(15, 19), 27, 29, 33, 37, 39, 44, 49, 52, 73, 76, 79, 82]
    chosen += [95, 99, 103, 107, 111, 115, 116, 120, 124, 128, 132, 136]
    assert layout("imigue36").joints == tuple(joints[i] for i in chosen)
    assert layout("imigue35").joints[:25] == joints[:25]
    assert (
        layout("imigue22").joints
        == layout("imigue35").joints[:8] + layout("imigue35").joints[15:19] + (layout("imigue35").joints[25:])
    )


def skeletons(it: Layout, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(10, 90, (4, it.size, 2)), rng.uniform(0.1, 1, (4, it.size, 1))], -1)


def test_joints_of_one_name_are_copied() -> None:
    source, target = layout("openpose137"), layout("imigue36")
    points = skeletons(source)
    out = convert(points, source, target)
    for w, name in enumerate(target.joints):
        assert (out[:, w] == points[:, source.joints.index(name)]).all()


def test_a_joint_between_two_is_their_mean_and_as_sure_as_the_less_sure() -> None:
    source, target = layout("coco17"), layout("openpose25")
    points = skeletons(source)
    points[2, 5] = 0  # a shoulder that was not seen
    out = convert(points, source, target)
    np.testing.assert_allclose(out[0, 1, :2], points[0, [5, 6], :2].mean(0))
    np.testing.assert_allclose(out[0, 8, :2], points[0, [11, 12], :2].mean(0))
    assert out[0, 1, 2] == points[0, [5, 6], 2].min()
    assert (out[2, 1] == 0).all()


def test_what_the_source_lacks_is_zero() -> None:
    out = convert(skeletons(layout("coco17")), layout("coco17"), layout("openpose25"))
    assert (out[:, 19:] == 0).all()
    assert (out[:, :19, 2] > 0).all()


def test_depth_is_carried_along() -> None:
    points = np.random.default_rng(1).uniform(0.5, 1, (2, 3, 20, 4)).astype(np.float32)
    out = convert(points, layout("kinect20"), layout("ntu25"))
    assert out.shape == (2, 3, 25, 4) and out.dtype == np.float32
    assert (
        out[..., 20, :] == points[..., 1, :]
    ).all()  # Kinect v1's shoulder centre is Kinect v2's spine at the shoulder
    assert (out[..., 2, :] == 0).all()  # and it has no neck above that


@every_layout
def test_to_itself_and_mirrored_conversion_is_conversion_mirrored(it: Layout) -> None:
    points = skeletons(it)
    assert (convert(points, it, it) == points).all()
    for target in LAYOUTS.values():
        if not any(correspondence(it, target)):
            continue
        straight = convert(points, it, target)[:, target.mirror()]
        np.testing.assert_allclose(convert(points[:, it.mirror()], it, target), straight)


def test_derivations_name_joints_that_exist() -> None:
    known = {joint for it in LAYOUTS.values() for joint in it.joints}
    assert set(DERIVED) <= known
    assert {n for choices in DERIVED.values() for choice in choices for n in choice} <= known


def test_mistakes_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match=r"unknown skeleton layout 'coco18'.*coco17"):
        layout("coco18")
    with pytest.raises(UserError, match="20 joints"):
        convert(np.zeros((3, 25, 4)), layout("kinect20"), layout("ntu25"))
    with pytest.raises(UserError, match="no joint in common"):
        convert(np.zeros((3, 21, 3)), layout("hand21"), layout("coco17"))
