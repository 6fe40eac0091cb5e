"""Spans by sample, windows of long clips, and fewer tokens a second."""

from __future__ import annotations

import torch

from mer.encoders.sound import joined, longest, pooled, tiled, windows
from mer.tokens import Sampled, Tokens


def waves(lengths: list[int], size: int) -> Sampled:
    mask = torch.arange(size)[None] < torch.tensor(lengths)[:, None]
    begin = torch.arange(size) * 0.5 + 10
    spans = torch.stack([begin, begin + 0.5], 1).expand(len(lengths), size, 2)
    return Sampled(torch.where(mask, 1.0, torch.nan), mask, spans)


def test_waves_lose_the_padding_they_share_and_hold_no_garbage() -> None:
    assert longest(waves([3, 2], 9), 1).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert longest(waves([3, 2], 9), 5).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert longest(waves([0], 4), 1).tolist() == [[0]]


def test_tokens_tile_each_clip_to_its_end() -> None:
    spans, mask = tiled(waves([7, 3, 0], 8), torch.tensor([0, 2, 5]), torch.tensor([3, 1, 0]))
    assert mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert spans[0].tolist() == [[10, 11], [11, 12.5], [12.5, 13.5]]
    assert spans[1].tolist() == [[10, 11.5], [0, 0], [0, 0]]
    assert not spans[2].any()


def test_windows_come_back_where_they_were_cut_from() -> None:
    rows = torch.arange(1, 11.0).view(2, 5) * torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    pieces, where = windows(rows, torch.tensor([5, 2]), 2)
    assert pieces.tolist() == [[1, 2], [3, 4], [5, 0], [6, 7]]
    assert where.tolist() == [[True] * 3, [True, False, False]]
    assert joined(pieces[..., None], where)[..., 0].tolist() == [[1, 2, 3, 4, 5, 0], [6, 7, 0, 0, 0, 0]]


def test_a_last_group_is_divided_by_what_is_in_it() -> None:
    mask = torch.tensor([[True] * 5, [True, False, False, False, False]])
    values = torch.where(mask, torch.tensor([1.0, 3, 5, 7, 9]), torch.nan)[..., None]
    begin = torch.arange(5.0)
    tokens = pooled(Tokens(values, mask, torch.stack([begin, begin + 1], 1).expand(2, 5, 2)), 2)
    assert tokens.values[..., 0].tolist() == [[2, 6, 9], [1, 0, 0]]
    assert tokens.mask.tolist() == [[True] * 3, [True, False, False]]
    assert tokens.spans.tolist() == [[[0, 2], [2, 4], [4, 5]], [[0, 1], [0, 0], [0, 0]]]
