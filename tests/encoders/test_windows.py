"""A clip cut into windows and put together again is the clip."""

from __future__ import annotations

import pytest
import torch

from mer.encoders.windows import cut, spread
from mer.tokens import Sampled


def batch(*lengths: int) -> Sampled:
    """Clips of so many elements; element i of a clip is the number i, and lasts from i to i + 1 s."""
    size = max(*lengths, 1)
    place = torch.arange(size).float()
    mask = place < torch.tensor(lengths)[:, None]
    values = place.expand(len(lengths), -1)[..., None].masked_fill(~mask[..., None], float("nan"))
    return Sampled(values, mask, torch.stack([place, place + 1], 1).expand(len(lengths), -1, 2))


def test_windows_follow_each_other_and_the_last_one_repeats_its_last_element() -> None:
    windows = cut(batch(7, 0, 3), 3)
    assert windows.values[..., 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 6, 6], [0, 1, 2]]
    assert windows.counts.tolist() == [3, 3, 1, 3]
    assert windows.where.tolist() == [[True, True, True], [False, False, False], [True, False, False]]


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_tokens_of_windows_tile_the_clip_they_came_from(steps: int) -> None:
    inputs = batch(10, 4, 1, 0)
    windows = cut(inputs, 4)
    encoded = windows.values.unflatten(1, (steps, -1)).mean(2)  # each token the mean of the elements it stands for
    tokens = spread(encoded, windows, inputs)
    step = 4 // steps
    assert tokens.lengths.tolist() == [-(-10 // step), -(-4 // step), 1, 0]
    for row, length in enumerate((10, 4, 1)):
        spans = tokens.spans[row][tokens.mask[row]]
        assert spans[0, 0] == 0
        assert spans[-1, 1] == length
        assert torch.equal(spans[1:, 0], spans[:-1, 1])
        full = spans[:, 1] - spans[:, 0] == step  # the last one may stand for less, and repeats an element then
        assert torch.equal(tokens.values[row, : len(spans), 0][full], spans.mean(1)[full] - 0.5)
    assert (tokens.values[~tokens.mask] == 0).all()


def test_tokens_that_do_not_divide_a_window_evenly_have_the_nearest_elements() -> None:
    inputs = batch(5)
    tokens = spread(torch.ones(1, 3, 2), cut(inputs, 5), inputs)
    assert tokens.spans[0].tolist() == [[0, 1], [1, 3], [3, 5]]


def test_no_clip_at_all_gives_one_masked_token() -> None:
    inputs = batch(0, 0)
    windows = cut(inputs, 3)
    assert len(windows.values) == 0
    tokens = spread(torch.zeros(0, 2, 4), windows, inputs)
    assert tokens.values.shape == (2, 1, 4)
    assert not tokens.mask.any()
