"""Windows cover a recording without gaps, and their answers blend into one curve over time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.errors import UserError
from mer.inference.windows import SlidingWindow


class TestCover:
    @pytest.mark.parametrize("end", [0.5, 2.0])
    def test_one_window_where_there_is_room_for_no_more(self, end: float) -> None:
        assert SlidingWindow(2.0, 0.5).over(0.0, end) == [(0.0, end)]

    def test_windows_follow_each_other_by_the_step_and_the_last_one_ends_with_the_recording(self) -> None:
        assert SlidingWindow(2.0, 0.5).over(1.0, 4.25) == [(1.0, 3.0), (1.5, 3.5), (2.0, 4.0), (2.25, 4.25)]

    def test_a_length_that_fits_exactly_gets_no_window_twice(self) -> None:
        windows = SlidingWindow(1.0, 0.1).over(0.0, 1.3)
        np.testing.assert_allclose(windows, [(0.0, 1.0), (0.1, 1.1), (0.2, 1.2), (0.3, 1.3)])

    @given(duration=st.floats(0.1, 10), share=st.floats(0.05, 1), start=st.floats(0, 1000), length=st.floats(0.05, 100))
    def test_every_moment_lies_in_a_window_and_no_window_reaches_beyond(
        self, duration: float, share: float, start: float, length: float
    ) -> None:
        windows = SlidingWindow(duration, share * duration).over(start, start + length)
        assert windows[0][0] == start
        assert windows[-1][1] == pytest.approx(start + length)
        for (first, stop), (later, _) in pairwise(windows):
            assert first < later <= stop + 1e-6
        if len(windows) > 1:
            assert {round(stop - first, 6) for first, stop in windows} == {round(duration, 6)}

    @pytest.mark.parametrize(("duration", "step"), [(1.0, 0.0), (1.0, 1.5), (0.0, 0.0), (-1.0, -1.0), (1.0, -0.5)])
    def test_windows_with_gaps_are_refused(self, duration: float, step: float) -> None:
        with pytest.raises(UserError, match="leave gaps"):
            SlidingWindow(duration, step)


class TestBlend:
    WINDOW = SlidingWindow(2.0, 1.0)

    def blend(self, values: object, times: object, end: float = 4.0) -> np.ndarray:
        windows = self.WINDOW.over(0.0, end)
        return self.WINDOW.blend(windows, np.asarray(values, float), np.asarray(times, float))

    def test_equal_answers_stay_as_they_are(self) -> None:
        times = np.linspace(0, 4, 41)
        np.testing.assert_allclose(self.blend([[0.3, 0.7]] * 3, times), np.tile([0.3, 0.7], (41, 1)))

    def test_the_nearer_window_has_the_greater_say(self) -> None:
        curve = self.blend([[0.0], [1.0], [0.0]], [0.0, 1.25, 1.5, 2.0, 2.5, 4.0])[:, 0]
        assert curve[[0, 5]].tolist() == [0, 0]
        assert 0 < curve[1] < curve[2] == pytest.approx(0.5)
        assert curve[3] == pytest.approx(1.05 / 1.15)
        assert curve[4] == pytest.approx(curve[2])

    def test_probabilities_stay_probabilities(self) -> None:
        values = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
        np.testing.assert_allclose(self.blend(values, np.linspace(0, 4, 33)).sum(1), 1)

    def test_a_window_with_nothing_to_say_is_left_out(self) -> None:
        curve = self.blend([[0.2], [np.nan], [0.8]], [0.5, 1.5, 2.5, 3.5])[:, 0]
        assert curve.tolist() == pytest.approx([0.2, 0.2, 0.8, 0.8])

    def test_where_no_window_says_anything_there_is_no_number(self) -> None:
        curve = self.blend([[0.2], [np.nan], [np.nan]], [1.0, 2.5, 3.5])
        assert np.isnan(curve[:, 0]).tolist() == [False, True, True]
        assert np.isnan(self.blend([[np.nan]] * 3, [1.0, 2.0])).all()

    def test_no_moment_gives_no_row(self) -> None:
        assert self.blend([[0.2]] * 3, []).shape == (0, 1)
