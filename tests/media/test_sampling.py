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
from mer.media.prepare import prepare
from mer.media.sampling import choose
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

    @given(
        st.integers(1, 60),
        st.integers(1, 20),
        st.integers(1, 8),
        st.integers(1, 5),
        st.one_of(st.none(), st.integers(0, 9)),
    )
    def test_any_clip_gives_as_many_frames_as_asked(self, count, segments, duration, stride, seed) -> None:
        times = 3.0 + np.cumsum(np.full(count, 0.04))
        draw = None if seed is None else np.random.default_rng(seed)
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
        direct = prepare(clip.parent, clip.name, spec)
        later = pick(prepare(clip.parent, clip.name, spec.dense()), spec)
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
