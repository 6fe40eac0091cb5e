"""Tokens know their place in media time, and nothing reads a padded value."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens, align, at_times, pool_time, regular_clock, stack_samples

NAN = float("nan")


def steady(count: int, rate: float, start: float = 0.0) -> torch.Tensor:
    begin = start + torch.arange(count) / rate
    return torch.stack([begin, begin + 1 / rate], dim=1)


def stream(*rows: list[float], rate: float = 10.0, start: float = 0.0) -> Tokens:
    """Scalar tokens, one row per sample, padded with NaN in values and garbage in spans."""
    size = max(1, max(len(r) for r in rows))
    values, spans = torch.full((len(rows), size, 1), NAN), torch.full((len(rows), size, 2), -77.0)
    mask = torch.zeros(len(rows), size, dtype=torch.bool)
    for i, row in enumerate(rows):
        values[i, : len(row), 0], spans[i, : len(row)] = torch.tensor(row), steady(len(row), rate, start)
        mask[i, : len(row)] = True
    return Tokens(values, mask, spans)


class TestShapes:
    def test_values_mask_and_spans_must_agree(self) -> None:
        values, mask, spans = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3, 2)
        Tokens(values, mask, spans)
        for wrong in [
            (values, mask.float(), spans),
            (values[:, :2], mask, spans),
            (values, mask, spans[..., :1]),
            (values[..., 0], mask, spans),
            (values, mask[0], spans),
            (values[:, :0], mask[:, :0], spans[:, :0]),
        ]:
            with pytest.raises(ValueError):
                Tokens(*wrong)

    def test_a_waveform_needs_no_third_axis(self) -> None:
        assert len(Sampled(torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5, 2))) == 2

    def test_a_cast_reaches_the_values_and_never_the_spans(self) -> None:
        tokens = stream([1.0, 2.0]).to(torch.bfloat16)
        assert isinstance(tokens, Tokens)
        assert (tokens.values.dtype, tokens.spans.dtype) == (torch.bfloat16, torch.float32)
        double = Tokens(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2).double())
        assert double.spans.dtype == torch.float32

    def test_times_are_the_midpoints_of_the_spans(self) -> None:
        torch.testing.assert_close(stream([1.0, 2.0]).times, torch.tensor([[0.05, 0.15]]))

    def test_lengths_presence_and_mean_count_real_tokens_only(self) -> None:
        tokens = stream([1.0, 2.0, 3.0], [5.0], [])
        assert tokens.lengths.tolist() == [3, 1, 0]
        assert tokens.present.tolist() == [True, True, False]
        assert tokens.mean().tolist() == [[2.0], [5.0], [0.0]]
        assert tokens.zeroed()[..., 0].tolist() == [[1, 2, 3], [5, 0, 0], [0, 0, 0]]

    def test_keep_makes_a_modality_absent_for_some_samples(self) -> None:
        assert stream([1.0], [2.0]).keep(torch.tensor([True, False])).present.tolist() == [True, False]


class TestInputSpec:
    def test_a_spec_is_plain_json(self) -> None:
        spec = InputSpec("video", rate=8.0, size=(64, 48), mean=(0.5,) * 3, std=(0.5,) * 3, window=3.0)
        data = json.loads(json.dumps(spec.to_dict()))
        assert InputSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}) == spec

    @pytest.mark.parametrize(
        ("spec", "shape"),
        [
            (InputSpec("audio", rate=16000), ()),
            (InputSpec("video", rate=8, size=(64, 48)), (3, 64, 48)),
            (InputSpec("features", width=35), (35,)),
        ],
    )
    def test_an_element_has_the_declared_shape(self, spec: InputSpec, shape: tuple[int, ...]) -> None:
        assert spec.item_shape() == shape
        absent = stack_samples([None, None], spec)
        assert absent.values.shape == (2, 1, *shape)
        assert not absent.mask.any()


class TestStacking:
    def test_clips_of_different_length_are_padded_on_the_right(self) -> None:
        a, b = stream([1.0, 2.0, 3.0]), stream([4.0])
        batch = stack_samples([Sampled(t.values, t.mask, t.spans) for t in (a, b)] + [None], InputSpec("audio"))
        assert batch.mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
        assert batch.zeroed()[..., 0].tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
        torch.testing.assert_close(batch.spans[0], a.spans[0])

    def test_frames_stay_bytes(self) -> None:
        frame = Sampled(
            torch.ones(1, 1, 3, 4, 4, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2)
        )
        assert stack_samples([None, frame], InputSpec("video", rate=1, size=(4, 4))).values.dtype == torch.uint8

    @pytest.mark.parametrize("counts", [(2, 2), (2, 3)])
    def test_gradients_go_through_with_and_without_padding(self, counts: tuple[int, int]) -> None:
        clips = [stream([float(n)] * n) for n in counts]
        given = [Sampled(t.values.requires_grad_(), t.mask, t.spans) for t in clips]
        stack_samples(given, InputSpec("audio")).values[:, 0].sum().backward()
        assert [float(s.values.grad[0, 0].sum()) for s in given if s.values.grad is not None] == [
            s.values.shape[2] for s in given
        ]

    def test_clips_of_one_length_are_stacked_as_others_are(self) -> None:
        clips = [
            Sampled(torch.rand(1, 3, 2), torch.tensor([[True, n > 0, False]]), torch.rand(1, 3, 2)) for n in range(3)
        ]
        spec = InputSpec("features", rate=1.0, width=2)
        fast, padded = stack_samples(clips, spec), stack_samples([*clips, None], spec)
        for name in ("values", "mask", "spans"):
            assert torch.equal(getattr(fast, name), getattr(padded, name)[:3])
            assert torch.equal(getattr(fast, name)[1:2], getattr(clips[1], name))


class TestPooling:
    def test_a_group_spans_from_its_first_to_its_last_real_element(self) -> None:
        tokens = stream([0.0] * 5, [0.0] * 2)
        spans, mask = pool_time(tokens.spans, tokens.mask, 2)
        assert mask.tolist() == [[True, True, True], [True, False, False]]
        torch.testing.assert_close(spans[0], torch.tensor([[0.0, 0.2], [0.2, 0.4], [0.4, 0.5]]))
        torch.testing.assert_close(spans[1, 0], torch.tensor([0.0, 0.2]))

    @given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 20))
    @settings(max_examples=60, deadline=None)
    def test_padding_changes_neither_spans_nor_count_of_real_groups(self, size: int, stride: int, more: int) -> None:
        alone = stream([0.0] * size)
        padded = stream([0.0] * size, [0.0] * (size + more))
        spans, mask = pool_time(alone.spans, alone.mask, stride)
        wide, wide_mask = pool_time(padded.spans, padded.mask, stride)
        groups = spans.shape[1]
        assert groups == -(-size // stride)
        assert mask.all()
        assert wide_mask[0].sum() == groups
        torch.testing.assert_close(wide[0, :groups], spans[0])


class TestClock:
    def test_a_clock_covers_every_stream(self) -> None:
        spans, mask = regular_clock([stream([0.0] * 10), stream([0.0] * 10, start=0.55)], rate=5.0)
        assert mask.all()
        torch.testing.assert_close(spans[0, 0], torch.tensor([0.0, 0.2]))
        torch.testing.assert_close(spans[0, -1], torch.tensor([1.4, 1.55]))
        torch.testing.assert_close(spans[0, 1:, 0], spans[0, :-1, 1])

    def test_a_sample_has_the_clock_it_has_alone(self) -> None:
        spans, mask = regular_clock([stream([0.0] * 10, [0.0] * 33, [])], rate=5.0)
        alone, _ = regular_clock([stream([0.0] * 10)], rate=5.0)
        assert mask.sum(1).tolist() == [5, 17, 0]
        torch.testing.assert_close(spans[0, :5], alone[0])

    def test_a_long_video_gets_longer_ticks_instead_of_more(self) -> None:
        long = Tokens(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[[0.0, 1000.0]]]))
        spans, mask = regular_clock([long], rate=10.0, max_ticks=100)
        assert mask.sum() == 100
        torch.testing.assert_close(spans[0, -1], torch.tensor([990.0, 1000.0]))

    @given(st.floats(0.5, 30), st.integers(1, 60), st.floats(0, 100))
    @settings(max_examples=60, deadline=None)
    def test_a_clock_is_monotone_and_without_gaps(self, rate: float, count: int, start: float) -> None:
        spans, mask = regular_clock([stream([0.0] * count, [0.0], start=start)], rate)
        assert (spans[..., 1] >= spans[..., 0]).all()
        assert (spans[:, 1:, 0] >= spans[:, :-1, 0]).all()
        real = spans[0][mask[0]]
        torch.testing.assert_close(real[1:, 0], real[:-1, 1], atol=1e-4, rtol=0)
        assert float(real[-1, 1]) == pytest.approx(start + count / 10, abs=2e-3)


class TestAlignment:
    def test_a_tick_is_the_mean_of_what_overlaps_it(self) -> None:
        tokens = stream([1.0, 3.0, 5.0, 7.0])
        clock = torch.tensor([[[0.0, 0.2], [0.15, 0.35], [0.38, 0.9]]])
        on_clock = align(tokens, clock, torch.ones(1, 3, dtype=torch.bool))
        torch.testing.assert_close(on_clock.values[0, :, 0], torch.tensor([2.0, 0.25 * 3 + 0.5 * 5 + 0.25 * 7, 7.0]))

    def test_a_tick_that_nothing_overlaps_is_masked_zero(self) -> None:
        on_clock = align(stream([1.0], []), steady(4, 10.0).expand(2, 4, 2), torch.ones(2, 4, dtype=torch.bool))
        assert on_clock.mask.tolist() == [[True, False, False, False], [False] * 4]
        assert on_clock.values[..., 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]

    def test_streams_are_joined_by_time_and_never_by_index(self) -> None:
        early, late = stream([1.0] * 10), stream([2.0] * 10, start=0.5)
        spans, mask = regular_clock([early, late], 10.0)
        assert align(early, spans, mask).mask[0].tolist() == [True] * 10 + [False] * 5
        assert align(late, spans, mask).mask[0].tolist() == [False] * 5 + [True] * 10

    @pytest.mark.parametrize("garbage", [NAN, float("inf"), 1e30])
    def test_padding_may_hold_anything_in_values_and_spans(self, garbage: float) -> None:
        tokens = stream([1.0, 2.0], [3.0])
        tokens.values[1, 1], tokens.spans[1, 1] = garbage, garbage
        spans, mask = regular_clock([tokens], 10.0)
        on_clock = align(tokens, spans, mask)
        assert on_clock.values[..., 0].tolist() == [[1, 2], [3, 0]]
        assert torch.isfinite(spans).all()
        assert at_times(tokens, torch.tensor([[0.1], [9.0]]))[..., 0].tolist() == [[pytest.approx(1.5)], [3]]

    def test_tokens_on_their_own_clock_stay_as_they_are(self) -> None:
        tokens = stream([1.0, 3.0, 5.0])
        torch.testing.assert_close(align(tokens, tokens.spans, tokens.mask).values, tokens.values)


class TestReadingAtTimes:
    def test_values_are_linear_between_midpoints_and_constant_beyond(self) -> None:
        tokens = stream([0.0, 10.0, 30.0])
        times = torch.tensor([[-1.0, 0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 9.0]])
        expected = torch.tensor([0.0, 0.0, 0.0, 5.0, 10.0, 20.0, 30.0, 30.0])
        torch.testing.assert_close(at_times(tokens, times)[0, :, 0], expected, atol=1e-4, rtol=0)

    def test_a_shorter_sample_does_not_see_its_padding(self) -> None:
        values = at_times(stream([0.0, 10.0, 20.0], [4.0, 8.0], [5.0], []), torch.full((4, 1), 0.25))
        assert values[:, 0, 0].tolist() == pytest.approx([20.0, 8.0, 5.0, 0.0], abs=1e-4)

    def test_no_times_give_no_values(self) -> None:
        assert at_times(stream([1.0, 2.0]), torch.zeros(1, 0)).shape == (1, 0, 1)

    def test_gradients_reach_the_two_neighbours(self) -> None:
        tokens = stream([0.0, 0.0, 0.0])
        tokens.values.requires_grad_()
        at_times(tokens, torch.tensor([[0.0750]])).sum().backward()
        assert tokens.values.grad is not None
        assert tokens.values.grad[0, :, 0].tolist() == pytest.approx([0.75, 0.25, 0.0], abs=1e-4)


@pytest.mark.parametrize("length", [0.5, 1.0, 3.5], ids=["gaps", "end to end", "overlapping"])
def test_long_streams_are_aligned_alike(length: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the table of overlaps, whose size is tokens times ticks."""
    begin = torch.arange(300) / 10
    spans = torch.stack([begin, begin + 0.1 * length], 1).expand(2, -1, -1).clone()
    real = torch.ones(2, 300, dtype=torch.bool)
    real[1, 120:] = False
    spans[~real] = float("nan")
    values = torch.randn(2, 300, 4, generator=torch.Generator().manual_seed(0))
    values[~real] = float("inf")
    stream = Tokens(values.requires_grad_(), real, spans)
    clock, mask = regular_clock([stream], 3.0)
    found = []
    for most in (1 << 30, 0):
        monkeypatch.setattr("mer.tokens._DENSE", most)
        ticks = align(stream, clock, mask)
        (gradient,) = torch.autograd.grad((ticks.values * torch.arange(4)).sum(), stream.values)
        found.append((ticks, gradient))
    (dense, back), (long, long_back) = found
    assert torch.equal(dense.mask, long.mask)
    torch.testing.assert_close(long.values, dense.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(long_back[real], back[real], atol=1e-5, rtol=1e-5)
