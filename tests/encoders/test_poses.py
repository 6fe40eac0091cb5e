"""Units, clocks, streams and variants of skeletons mean what they say, and an unseen joint never becomes a place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mer.encoders import poses
from mer.errors import UserError
from mer.skeletons import Layout, layout

COCO, NTU = layout("coco17"), layout("ntu25")


def bodies(it: Layout, frames: int = 6, seed: int = 0, axes: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Two clips of moving bodies, all joints seen, the second two frames shorter."""
    rng = np.random.default_rng(seed)
    axes = axes or (3 if it.depth else 2)
    still = rng.normal(size=(2, 1, it.size, axes))
    places = torch.from_numpy(still + 0.1 * rng.normal(size=(2, frames, it.size, axes)).cumsum(1) + 5.0)
    mask = torch.arange(frames) < torch.tensor([[frames], [frames - 2]])
    return places, torch.ones(2, frames, it.size, dtype=torch.float64), mask


def joint(it: Layout, name: str) -> int:
    return it.joints.index(name)


class TestUnits:
    def test_a_body_is_centred_and_one_long_whatever_its_place_and_size(self) -> None:
        places, sure, mask = bodies(NTU)
        found = poses.normalised(places, sure, mask, "body", NTU)
        torch.testing.assert_close(poses.normalised(3 * places + 7, sure, mask, "body", NTU), found)
        hip, neck = found[:, 0, joint(NTU, "mid_hip")], found[:, 0, joint(NTU, "neck")]
        assert hip.abs().max() < 1e-9
        torch.testing.assert_close(neck.norm(dim=1), torch.ones(2, dtype=torch.float64))
        assert found[:, 1:, joint(NTU, "mid_hip")].abs().min() > 0  # it moves through the clip

    @pytest.mark.parametrize(
        "name", ["coco17", "imigue22", "openpose137", "mediapipe33", "h36m17", "hand21", "kinect20"]
    )
    def test_every_layout_has_a_ruler(self, name: str) -> None:
        it = layout(name)
        places, sure, mask = bodies(it)
        found = poses.normalised(places, sure, mask, "body", it)
        torch.testing.assert_close(poses.normalised(0.5 * places - 2, sure, mask, "body", it), found)

    def test_a_body_is_measured_in_the_first_frame_that_shows_it(self) -> None:
        places, sure, mask = bodies(COCO)
        expected = poses.normalised(places[:, 2:], sure[:, 2:], mask[:, 2:], "body", COCO)
        sure[:, :2, joint(COCO, "left_hip")] = 0
        places[:, :2, joint(COCO, "left_hip")] = 0
        found = poses.normalised(places, sure, mask, "body", COCO)
        torch.testing.assert_close(found[:, 2:], expected)
        assert (found[:, :2, joint(COCO, "left_hip")] == 0).all()

    def test_a_seated_body_is_measured_by_its_shoulders(self) -> None:
        places, sure, mask = bodies(COCO)
        for hidden in ("left_hip", "right_hip"):
            sure[:, :, joint(COCO, hidden)] = 0
        found = poses.normalised(places, sure, mask, "body", COCO)
        left, right = (found[:, 0, joint(COCO, f"{side}_shoulder")] for side in ("left", "right"))
        torch.testing.assert_close((left - right).norm(dim=1), torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close(left, -right)

    def test_padding_and_a_single_joint_do_no_harm(self) -> None:
        places, sure, mask = bodies(COCO)
        sure[1] = 0
        sure[1, 0, 3] = 1
        found = poses.normalised(places, sure, mask, "body", COCO)
        assert torch.isfinite(found).all()
        other = places.clone()
        other[~mask] = 1e6
        torch.testing.assert_close(poses.normalised(other, sure, mask, "body", COCO)[mask], found[mask])

    @pytest.mark.parametrize("units", ["ntu", "pyskl"])
    def test_ntu_stands_upright_and_faces_the_camera(self, units: poses.Units) -> None:
        places, sure, mask = bodies(NTU)
        found = poses.normalised(places, sure, mask, units, NTU)
        spine = found[:, :, joint(NTU, "spine")]
        assert spine[:, 0].abs().max() < 1e-9
        assert (spine[:, 1:].abs().max() < 1e-9) == (units == "ntu")  # there each frame is centred
        across = found[:, 0, joint(NTU, "right_shoulder")] - found[:, 0, joint(NTU, "left_shoulder")]
        torch.testing.assert_close(across[:, 0], across.norm(dim=1))
        # Rotations keep lengths; metres stay metres.
        bone = (places[:, :, 5] - places[:, :, 4]).norm(dim=2)
        torch.testing.assert_close((found[:, :, 5] - found[:, :, 4]).norm(dim=2), bone)

    def test_an_upright_body_is_only_turned_about_the_vertical(self) -> None:
        places, sure, mask = bodies(NTU)
        places[:, 0, joint(NTU, "mid_hip")] = torch.tensor([5.0, 5.0, 5.0], dtype=torch.float64)
        places[:, 0, joint(NTU, "spine")] = torch.tensor([5.0, 5.0, 7.0], dtype=torch.float64)
        for side, x in (("left", 4.0), ("right", 6.0)):
            places[:, 0, joint(NTU, f"{side}_shoulder")] = torch.tensor([x, 5.0, 8.0], dtype=torch.float64)
        found = poses.normalised(places, sure, mask, "pyskl", NTU)
        torch.testing.assert_close(found, places - places[:, :1, [joint(NTU, "spine")]])

    def test_unseen_joints_stay_at_zero_and_centre_nothing(self) -> None:
        places, sure, mask = bodies(NTU)
        expected = poses.normalised(places, sure, mask, "ntu", NTU)
        places[0, 2, joint(NTU, "spine")], sure[0, 2, joint(NTU, "spine")] = 0, 0
        places[0, 3, 7], sure[0, 3, 7] = 0, 0
        found = poses.normalised(places, sure, mask, "ntu", NTU)
        assert (found[0, 3, 7] == 0).all() and (found[0, 2, joint(NTU, "spine")] == 0).all()
        torch.testing.assert_close(found[0, 4:], expected[0, 4:])

    def test_pixels_of_a_picture(self) -> None:
        places = torch.tensor([[[[0.0, 0.0], [640.0, 480.0], [320.0, 120.0]]]])
        sure = torch.tensor([[[0.5, 1.0, 1.0]]])
        mask = torch.ones(1, 1, dtype=torch.bool)
        kinetics = poses.normalised(places, sure, mask, "kinetics", COCO, (480, 640))
        assert kinetics[0, 0].tolist() == [[-0.5, 0.5], [0.5, -0.5], [0.0, 0.25]]
        assert poses.normalised(places, sure, mask, "picture", COCO, (480, 640))[0, 0].tolist() == [
            [-1, -1],
            [1, 1],
            [0, -0.5],
        ]
        hidden = poses.normalised(places, sure * torch.tensor([0.0, 1, 1]), mask, "picture", COCO, (480, 640))
        assert hidden[0, 0, 0].tolist() == [0, 0]  # and not (-1, -1)

    def test_what_cannot_be_is_one_line(self) -> None:
        with pytest.raises(UserError, match="wants 3-D skeletons with spine"):
            poses.check("ntu", COCO, None)
        with pytest.raises(UserError, match="height and width of the video"):
            poses.check("kinetics", COCO, None)
        with pytest.raises(UserError, match="wants 2-D"):
            poses.check("picture", NTU, (4, 4))


class TestClocks:
    def spans(self, frames: int) -> Tensor:
        begin = 5.0 + torch.arange(frames) / 10
        return torch.stack([begin, begin + 0.1], 1).expand(2, -1, 2)

    def test_resampled_motion_is_where_it_was_at_that_time(self) -> None:
        _, sure, mask = bodies(COCO, 6)
        spans = self.spans(6)
        places = spans.mean(2).double()[..., None, None] * torch.ones(17, 2)  # moves at constant speed
        found, sureness, clock = poses.resampled(places, sure, mask, spans, 4)
        assert found.shape == (2, 4, 17, 2)
        torch.testing.assert_close(clock[:, 0, 0], torch.tensor([5.0, 5.0]))
        torch.testing.assert_close(clock[:, -1, 1], torch.tensor([5.6, 5.4]))
        inside = clock.mean(2).clamp(5.05, None).minimum(torch.tensor([[5.55], [5.35]]))
        torch.testing.assert_close(found[..., 0, 0], inside.double(), rtol=0, atol=1e-5)
        assert (sureness > 0.999).all()

    def test_as_many_frames_as_there_are_is_the_clip_itself(self) -> None:
        places, sure, mask = bodies(COCO, 6)
        found, _, clock = poses.resampled(places[:1], sure[:1], mask[:1], self.spans(6)[:1], 6)
        torch.testing.assert_close(found, places[:1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(clock, self.spans(6)[:1])

    def test_between_two_frames_an_unseen_joint_takes_its_place_from_the_other(self) -> None:
        places, sure, mask = bodies(COCO, 2)
        mask = torch.ones(2, 2, dtype=torch.bool)
        places[:, 1, 3], sure[:, 1, 3] = 0, 0
        places[:, :, 4], sure[:, :, 4] = 0, 0
        found, sureness, _ = poses.resampled(places, sure, mask, self.spans(2), 8)
        torch.testing.assert_close(found[:, :6, 3], places[:, :1, 3].expand(-1, 6, -1))
        assert (sureness[:, -1, 3] == 0).all() and (sureness[:, 0, 3] == 1).all()
        assert (found[:, :, 4] == 0).all() and (sureness[:, :, 4] == 0).all()

    def test_a_part_of_a_clip_has_the_time_of_that_part(self) -> None:
        places, sure, mask = bodies(COCO, 6)
        part = torch.tensor([[0.5, 1.0], [0.0, 0.5]])
        _, _, clock = poses.resampled(places, sure, mask, self.spans(6), 4, part)
        torch.testing.assert_close(clock[:, 0, 0], torch.tensor([5.3, 5.0]))
        torch.testing.assert_close(clock[:, -1, 1], torch.tensor([5.6, 5.2]))

    def test_one_frame_stands_still(self) -> None:
        places, sure, mask = bodies(COCO, 3)
        found, _, _ = poses.resampled(places[1:], sure[1:], mask[1:], self.spans(3)[1:], 5)  # one real frame
        torch.testing.assert_close(found, places[1:, :1].expand(-1, 5, -1, -1))

    def test_a_loop_begins_again_and_a_filled_clip_ends_in_zeros(self) -> None:
        places, sure, mask = bodies(COCO, 6)  # 6 and 4 frames
        looped, _, shown = poses.prolonged(places, sure, mask, 9, loop=True)
        assert shown.all() and shown.shape == (2, 9)
        torch.testing.assert_close(looped[1], places[1, [0, 1, 2, 3, 0, 1, 2, 3, 0]])
        filled, sureness, shown = poses.prolonged(places, sure, mask, 9, loop=False)
        assert shown.all()
        torch.testing.assert_close(filled[0, :6], places[0])
        assert (filled[1, 4:] == 0).all() and (sureness[1, 4:] == 0).all()

    def test_longer_clips_stay_whole(self) -> None:
        places, sure, mask = bodies(COCO, 6)
        for loop in (True, False):
            found, _, shown = poses.prolonged(places, sure, mask, 5, loop)
            assert shown.tolist() == [[True] * 6, [True] * 5 + [False]]
            torch.testing.assert_close(found[0], places[0])


class TestStreams:
    def test_joints_are_what_was_seen_and_its_confidence(self) -> None:
        places, sure, mask = bodies(COCO)
        sure[:, 1, 2] = 0
        sure[:, 3, 3] = 0.4
        found = poses.stream("joint", places, sure, mask, COCO, score=True)
        assert found.shape == (2, 6, 17, 3)
        assert (found[:, 1, 2] == 0).all()
        torch.testing.assert_close(found[:, 3, 3, :2], places[:, 3, 3])
        assert (found[:, 3, 3, 2] == 0.4).all()
        assert (found[~mask] == 0).all()
        assert poses.stream("joint", places, sure, mask, COCO, score=False).shape[-1] == 2

    def test_a_bone_points_from_its_parent_and_is_as_sure_as_both_on_average(self) -> None:
        places, sure, mask = bodies(COCO)
        elbow, shoulder, wrist = (joint(COCO, f"left_{n}") for n in ("elbow", "shoulder", "wrist"))
        sure[:, 0, elbow] = 0.5
        found = poses.stream("bone", places, sure, mask, COCO, score=True)
        torch.testing.assert_close(found[:, 0, elbow, :2], places[:, 0, elbow] - places[:, 0, shoulder])
        assert (found[:, 0, elbow, 2] == 0.75).all()
        assert (found[:, :, 0, :2] == 0).all()  # the root
        sure[:, 0, elbow] = 0
        found = poses.stream("bone", places, sure, mask, COCO, score=True)
        assert (found[:, 0, [elbow, wrist]] == 0).all()

    def test_motion_is_what_comes_next_and_the_last_real_frame_has_none(self) -> None:
        places, sure, mask = bodies(COCO)
        sure[0, 2, 5] = 0
        found = poses.stream("joint_motion", places, sure, mask, COCO, score=False)
        torch.testing.assert_close(found[1, 2], places[1, 3] - places[1, 2])
        assert (found[1, 3:] == 0).all() and (found[0, 5] == 0).all()
        assert (found[0, 1:3, 5] == 0).all() and (found[0, 3, 5] != 0).all()

    def test_motion_of_bones(self) -> None:
        places, sure, mask = bodies(COCO)
        bones = poses.stream("bone", places, sure, mask, COCO, score=False)
        found = poses.stream("bone_motion", places, sure, mask, COCO, score=False)
        torch.testing.assert_close(found[0, :5], bones[0, 1:] - bones[0, :5])


class TestVariants:
    def test_a_turned_body_keeps_its_shape_about(self) -> None:
        torch.manual_seed(0)
        places, sure, _ = bodies(NTU)
        found, _ = poses.varied(places, sure, 1.0, 1, None)
        assert not torch.allclose(found, places, atol=1e-2)
        torch.testing.assert_close(found.mean((1, 2)), places.mean((1, 2)), rtol=0, atol=0.05)
        before, after = ((p[:, :, :, None] - p[:, :, None]).norm(dim=-1) for p in (places, found))
        assert float((after / before.clamp(min=0.5))[before > 0.5].median()) == pytest.approx(1, abs=0.15)

    def test_every_clip_draws_for_itself_and_the_seed_decides(self) -> None:
        places, sure, _ = bodies(COCO)
        both = places[:1].expand(2, -1, -1, -1), sure
        torch.manual_seed(3)
        one, _ = poses.varied(*both, 1.0, 1, None)
        torch.manual_seed(3)
        again, _ = poses.varied(*both, 1.0, 1, None)
        assert torch.equal(one, again)
        assert not torch.allclose(one[0], one[1])

    def test_no_strength_changes_nothing(self) -> None:
        places, sure, _ = bodies(NTU)
        sure[:, 2, 4] = 0
        found, _ = poses.varied(places, sure, 0.0, 2, None)
        torch.testing.assert_close(found, places * (sure > 0)[..., None], rtol=1e-6, atol=1e-6)

    def test_the_vertical_axis_is_the_one_turned_about_most(self) -> None:
        torch.manual_seed(0)
        places = torch.zeros(400, 1, 25, 3)
        places[:, 0, 0], places[:, 0, 1] = torch.eye(3)[1], -torch.eye(3)[1]  # a stick along y
        sure = torch.zeros(400, 1, 25)
        sure[:, :, :2] = 1
        tilt = []
        for upright in (1, 2):
            found, _ = poses.varied(places, sure, 1.0, upright, None)
            stick = found[:, 0, 0] - found[:, 0, 1]
            tilt.append(float((stick[:, 1].abs() / stick.norm(dim=1)).acos().mean()))
        assert tilt[0] < math.radians(12) < tilt[1]  # about z, a stick along y swings by up to 34 degrees

    def test_a_mirrored_body_has_its_sides_exchanged(self) -> None:
        torch.manual_seed(0)
        places, sure, _ = bodies(COCO)
        places, sure = places[:1].expand(64, -1, -1, -1), sure[:1].expand(64, -1, -1).clone()
        sure[:, :, joint(COCO, "left_ear")] = 0
        found, sureness = poses.varied(places, sure, 1e-6, 1, COCO)
        swapped = sureness[:, 0, joint(COCO, "right_ear")] == 0
        assert 16 < int(swapped.sum()) < 48
        middle = (places * (sure > 0)[..., None]).sum((1, 2)) / (sure > 0).sum((1, 2))[:, None]
        left, right = joint(COCO, "left_wrist"), joint(COCO, "right_wrist")
        wrist = found[swapped][:, :, left]
        expected = places[swapped][:, :, right]
        torch.testing.assert_close(wrist[..., 1], expected[..., 1], rtol=0, atol=1e-3)
        torch.testing.assert_close(wrist[..., 0], 2 * middle[swapped][:, None, 0] - expected[..., 0], rtol=0, atol=1e-3)
        torch.testing.assert_close(found[~swapped][:, :, left], places[~swapped][:, :, left], rtol=0, atol=1e-3)
