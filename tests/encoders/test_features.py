"""Cached features are scaled by the training rows: to a deviation of 1, or to the range that they had."""

from __future__ import annotations

import pytest
import torch

from mer.encoders import FeatureEncoder
from mer.errors import UserError
from mer.tokens import Sampled


def rows(values: list[list[float]]) -> Sampled:
    size = len(values)
    spans = torch.stack([torch.arange(size), torch.arange(1, size + 1)], 1).float()[None]
    return Sampled(torch.tensor([values]), torch.ones(1, size, dtype=torch.bool), spans)


def test_a_range_runs_from_0_to_1_over_all_training_rows_and_a_constant_column_is_0() -> None:
    encoder = FeatureEncoder(3, scale="range")
    encoder.calibrate([rows([[2.0, -1.0, 7.0], [3.0, 0.0, 7.0]]), rows([[4.0, 1.0, 7.0]])])
    scaled = (torch.tensor([[2.0, 0.0, 7.0], [4.0, 1.0, 7.0]]) - encoder.mean) / encoder.std
    assert scaled.tolist() == [[0, 0.5, 0], [1, 1, 0]]


def test_a_range_of_no_rows_changes_nothing() -> None:
    encoder = FeatureEncoder(2, scale="range")
    encoder.calibrate([])
    assert (encoder.mean.tolist(), encoder.std.tolist()) == ([0, 0], [1, 1])


def test_the_scale_is_part_of_the_description_and_another_word_is_refused() -> None:
    assert FeatureEncoder(2, scale="range").describe()["init_args"]["scale"] == "range"
    with pytest.raises(UserError, match=r"scale is 'minmax'. Use deviation or range"):
        FeatureEncoder(2, scale="minmax")  # type: ignore[arg-type]
