"""Which frames are taken: fixed rates, all of them, or a fixed number from equal parts of the clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import write

from mer.errors import UserError
from mer.media.pick import pick
from mer.media.prepare import prepare, prepare_all
from mer.media.sampling import Place, choose
from mer.spec import Face, InputSpec

TIMES = np.arange(100) / 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds; frame k has the grey level 20 + 4 k."""
    pictures = np.repeat(np.arange(20, 220, 4, dtype=np.uint8), 32 * 32 * 3).reshape(50, 32, 32, 3)
    return write(tmp_path_factory.mktemp("sampling") / "clip.mp4", pictures)


class TestChoose:
    def test_16_x_1_takes_the_middle_of_each_part(self) -> None:
        index, spans = choose(TIMES, 4.0, segments=16)
        assert index.tolist() == [int((k + 0.5) * 100 / 16) for k in range(16)]
        np.testing.assert_allclose(spans[:, 0], np.arange(16) * 0.25)
        np.testing.assert_allclose(spans[:, 1], np.arange(1, 17) * 0.25)

    def test_8_x_2_takes_two_neighbours_from_each_part(self) -> None:
        index, _ = choose(TIMES, 4.0, segments=8, duration=2)
        assert len(index) == 16
        assert (np.diff(index)[::2] == 1).all()

    def test_dense_16_x_4_is_one_stretch_in_the_middle(self) -> None:
        index, spans = choose(TIMES, 4.0, segments=1, duration=16, stride=4)
        assert (np.diff(index) == 4).all()
        assert index[0] == (100 - 61 + 1) // 2
        np.testing.assert_allclose(spans[:, 1] - spans[:, 0], 4 / 25)

    def test_training_draws_a_place_in_each_part(self) -> None:
        drawn = [choose(TIMES, 4.0, 16, draw=np.random.default_rng(seed))[0] for seed in range(200)]
        edges = np.arange(17) * 100 / 16
        assert (np.stack(drawn) >= np.floor(edges[:-1])).all(), "each frame lies in its own part"
        assert (np.stack(drawn) <= np.floor(edges[1:])).all()
        assert len({tuple(d) for d in drawn}) > 190
        assert (drawn[3] == choose(TIMES, 4.0, 16, draw=np.random.default_rng(3))[0]).all()

    def test_tsn_of_77_frames(self) -> None:
        index, _ = choose(np.arange(77) / 25, 77 / 25, segments=16)
        assert index.tolist() == [int(2.40625 + 4.8125 * k) for k in range(16)]

    @pytest.mark.parametrize(("segments", "duration"), [(16, 1), (8, 2)])
    def test_the_middles_are_those_of_tsn(self, segments: int, duration: int) -> None:
        """Former-DFER, DFER-CLIP, MMA-DFER: tick = (n - d + 1) / S, offset = int(tick / 2 + tick * k)."""
        for count in range(segments + duration, 700):
            index, _ = choose(np.arange(count) / 25, count / 25, segments, duration)
            tick = (count - duration + 1) / segments
            first = [int(tick / 2 + tick * k) for k in range(segments)]
            assert index.tolist() == sorted(f + d for f in first for d in range(duration)), count

    def test_a_clip_that_is_too_short_repeats_evenly_where_tsn_repeats_its_last_frame(self) -> None:
        index, _ = choose(np.arange(11) / 25, 11 / 25, segments=16)
        tsn = [*range(11), *[10] * 5]
        assert index.tolist() == [int((k + 0.5) * 11 / 16) for k in range(16)] != tsn

    def test_training_reaches_the_frames_that_tsn_leaves_out(self) -> None:
        """TSN: L = (n - d + 1) // S = 4, offset = k * L + U{0..L-1}, so that of 77 frames the last 13 are never seen."""
        drawn = [choose(np.arange(77) / 25, 77 / 25, 16, draw=np.random.default_rng(seed))[0] for seed in range(300)]
        assert np.stack(drawn).max() == 76
        assert np.stack(drawn).min() == 0

    def test_dense_views_at_the_ends_are_those_of_mae_dfer(self) -> None:
        """2 views: the first and the last 16 of every fourth frame."""
        for count in (70, 77, 99, 100, 101):
            fourth = list(range(0, count, 4))
            one, two = (choose(np.arange(count) / 25, count / 25, 1, 16, 4, Place(k, 2))[0].tolist() for k in range(2))
            assert (one, two) == (fourth[:16], fourth[-16:])
        three = [choose(TIMES, 4.0, 1, 16, 4, Place(k, 3))[0][0] for k in range(3)]
        assert three == [0, 16, 36], "int(linspace(0, 25 - 16, 3)) * 4"
        assert choose(TIMES, 4.0, 1, 16, 4, Place(0, 1))[0].tolist() == choose(TIMES, 4.0, 1, 16, 4)[0].tolist()

    def test_dense_views_in_the_middles_are_those_of_mmaction2(self) -> None:
        first = [choose(TIMES, 4.0, 1, 32, 2, Place(k, 4, ends=False))[0][0] for k in range(4)]
        assert first == [int((k + 0.5) * (100 - 63 + 1) / 4) for k in range(4)]

    def test_views_of_segments_lie_between_each_other(self) -> None:
        views = [choose(TIMES, 4.0, 10, draw=Place(k, 5))[0] for k in range(5)]
        assert np.sort(np.concatenate(views)).tolist() == list(range(1, 100, 2))

    def test_views_of_a_clip_that_is_too_short_are_the_same(self) -> None:
        views = {tuple(choose(TIMES[:20], 0.8, 1, 16, 4, Place(k, 2))[0]) for k in range(2)}
        assert len(views) == 1

    @given(
        st.integers(1, 60),
        st.integers(1, 20),
        st.integers(1, 8),
        st.integers(1, 5),
        st.one_of(st.none(), st.integers(0, 9), st.builds(Place, st.integers(0, 2), st.just(3), st.booleans())),
    )
    def test_any_clip_gives_as_many_frames_as_asked(self, count, segments, duration, stride, seed) -> None:
        times = 3.0 + np.cumsum(np.full(count, 0.04))
        draw = np.random.default_rng(seed) if isinstance(seed, int) else seed
        index, spans = choose(times, times[-1] + 0.04, segments, duration, stride, draw)
        assert len(index) == len(spans) == segments * duration
        assert (np.diff(index) >= 0).all()
        assert index.min() >= 0
        assert index.max() < count
        assert (spans[:, 1] > spans[:, 0]).all()
        assert spans.min() >= times[0] - 1e-9
        assert spans.max() <= times[-1] + 0.04 + 1e-9


class TestOfAFile:
    def shown(self, clip: Path, spec: InputSpec, start: float = 0.0, end: float | None = None) -> list[int]:
        values = prepare(clip.parent, clip.name, spec, start, end).values[0].float()
        return ((values.mean((1, 2, 3)) - 20) / 4).round().int().tolist()

    def test_the_frames_are_those_chosen(self, clip: Path) -> None:
        spec = InputSpec("video", size=(32, 32), segments=8, duration=2)
        assert self.shown(clip, spec) == choose(np.arange(50) / 25, 2.0, 8, 2)[0].tolist()

    def test_of_a_stretch(self, clip: Path) -> None:
        spec = InputSpec("video", size=(32, 32), segments=4)
        assert self.shown(clip, spec, 0.4, 0.8) == [11, 13, 16, 18]

    def test_views_come_through_the_decoding_process(self, clip: Path) -> None:
        spec = InputSpec("video", size=(32, 32), segments=1, duration=4, stride=4)
        for view in range(3):
            place = Place(view, 3)
            found = prepare_all(clip.parent, {"v": clip.name}, {"v": spec}, seed=place)["v"]
            assert not isinstance(found, UserError)
            shown = ((found.values[0].float().mean((1, 2, 3)) - 20) / 4).round().int().tolist()
            assert shown == choose(np.arange(50) / 25, 2.0, 1, 4, 4, place)[0].tolist()
            later = pick(prepare(clip.parent, clip.name, spec.dense()), spec, place)
            assert (found.values == later.values).all()

    @pytest.mark.parametrize("upright", [False, True])
    def test_crops_lie_along_the_longer_side(self, upright: bool, tmp_path: Path) -> None:
        shade = np.linspace(0, 240, 96)[None, :, None].repeat(32, 0).repeat(3, 2).astype(np.uint8)
        picture = shade.transpose(1, 0, 2) if upright else shade
        write(tmp_path / "wide.mp4", np.stack([picture] * 5))
        mean = {}
        for crop in ("left", "center", "right"):
            values = prepare(tmp_path, "wide.mp4", InputSpec("video", size=(32, 32), crop=crop)).values
            assert values.shape[-3:] == (3, 32, 32)
            mean[crop] = float(values.float().mean())
        assert mean == pytest.approx({"left": 40, "center": 120, "right": 200}, abs=5)

    def test_every_frame_once_without_rate(self, clip: Path) -> None:
        spec = InputSpec("video", size=(32, 32))
        assert self.shown(clip, spec) == list(range(50))
        spans = prepare(clip.parent, clip.name, spec).spans[0].numpy()
        np.testing.assert_allclose(spans[:, 0], np.arange(50) / 25, atol=1e-6)
        np.testing.assert_allclose(spans[1:, 0], spans[:-1, 1], atol=1e-6)

    @pytest.mark.parametrize("spec", [InputSpec("video", size=(16, 16), segments=6),
                                      InputSpec("video", size=(16, 16), segments=1, duration=8, stride=2),
                                      InputSpec("flow", size=(16, 16), segments=4, backend="farneback"),
                                      InputSpec("taylor", size=(16, 16), segments=4, duration=2)])  # fmt: skip
    def test_choosing_later_gives_the_same(self, clip: Path, spec: InputSpec) -> None:
        for stretch in ((0.0, None), (0.5, 1.5), (0.4, 1.6)):  # 0.5 s lies within a frame
            direct = prepare(clip.parent, clip.name, spec, *stretch)
            later = pick(prepare(clip.parent, clip.name, spec.dense(), *stretch), spec)
            assert (direct.values == later.values).all()
            np.testing.assert_allclose(direct.spans.numpy(), later.spans.numpy(), atol=1e-5)


class TestSpec:
    @pytest.mark.parametrize(
        "spec",
        [
            InputSpec("audio", rate=16000, trim=30.0),
            InputSpec("video", size=(112, 112), segments=16, crop="face", face=Face(align="arcface"), mean=(0.5,) * 3),
            InputSpec("eye", rate=60, backend="file", columns=("x", "y")),
        ],
    )
    def test_plain_and_back(self, spec: InputSpec) -> None:
        assert InputSpec.from_dict(spec.to_dict()) == spec

    @pytest.mark.parametrize("wrong", [{"segments": 4, "rate": 5.0}, {"segments": 0}, {"stride": 0}, {"crop": "face"}])
    def test_what_makes_no_sense_is_refused(self, wrong: dict) -> None:
        with pytest.raises(UserError):
            InputSpec("video", size=(8, 8), **wrong)

    @pytest.mark.parametrize(
        "wrong",
        [{"detector": "magic"}, {"align": "none"}, {"detector": "precomputed"}, {"every": 0}, {"aligned": True}],
    )
    def test_faces_that_make_no_sense_are_refused(self, wrong: dict) -> None:
        with pytest.raises(UserError):
            Face.from_dict(wrong)

    def test_the_shape_of_a_skeleton(self) -> None:
        assert InputSpec("pose", rate=25, backend="file", layout="imigue22").item_shape() == (22, 3)
        assert InputSpec("pose", rate=30, backend="file", layout="ntu25").item_shape() == (25, 4)
