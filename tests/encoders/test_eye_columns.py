"""What was not seen is known as such, column by column, and short gaps are bridged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mer.encoders.eye_columns import EyeColumns, bridge, seen_statistics
from mer.encoders.eye_recording import tiles
from mer.errors import UserError
from mer.media.gaze_files import load
from mer.tokens import Sampled


def sampled(rows: list[list[float]], rate: float = 100.0, padding: int = 0) -> Sampled:
    values = torch.tensor([rows + [[float("nan")] * len(rows[0])] * padding])
    mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    mask[:, : len(rows)] = True
    begin = torch.arange(values.shape[1]) / rate
    return Sampled(values, mask, torch.stack([begin, begin + 1 / rate], 1)[None])


def test_values_are_missing_one_by_one_and_points_as_a_whole() -> None:
    columns = EyeColumns(("gaze_x", "gaze_y", "pupil_left"), 100.0)
    assert columns.spec.columns == ("gaze_x", "gaze_y", "pupil_left", "valid")
    values, there = columns.seen(
        sampled([[0, 0, 3, 1], [0, 7, 0, 0], [0, 0, 3, 0], [5, 0, 3, 0], [0, 0, 0, 0]], padding=1)
    )
    assert there[0].int().tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert values[0, 3].tolist() == [5, 0, 3]
    assert values.isfinite().all()


def test_a_proxy_from_video_has_no_marks_and_a_zero_is_a_value() -> None:
    columns = EyeColumns(("gaze_x", "yaw"), 30.0, backend="mediapipe")
    assert columns.spec.columns == ("gaze_x", "yaw")
    _, there = columns.seen(sampled([[0.0, 0.0], [1.0, 2.0]], padding=1))
    assert there[0].tolist() == [[True, True], [True, True], [False, False]]


def test_the_file_says_what_is_missing_and_the_encoder_hears_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = ["0,0.2,0.3,3.1,3.2,Valid,Valid", "8,0.2,0.3,3.1,,Valid,Invalid", "16,,,,,Invalid,Invalid"]
    heading = "time_ms,gaze_x,gaze_y,PupilLeft,PupilRight,ValidityLeft,ValidityRight"
    (tmp_path / "g.csv").write_text("\n".join([heading, *rows]))
    columns = EyeColumns(("gaze_x", "gaze_y", "pupil_left", "pupil_right"), None)
    stream = load(tmp_path, "g.csv", columns.spec)
    inputs = Sampled(
        torch.from_numpy(stream.values)[None], torch.ones(1, 3, dtype=torch.bool), torch.from_numpy(stream.spans)[None]
    )
    assert columns.seen(inputs)[1][0].int().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_columns_are_named_once() -> None:
    with pytest.raises(UserError, match="Name each column once"):
        EyeColumns(("gaze_x", "gaze_x"), None)
    with pytest.raises(UserError, match="eye columns gaze_x"):
        EyeColumns("gaze_x", None)  # whose letters no file has as columns
    with pytest.raises(UserError, match="at least one"):
        EyeColumns(("valid",), None)
    with pytest.raises(UserError, match="rate above 0"):
        EyeColumns(("gaze_x",), 0.0)


@pytest.mark.parametrize("hold", [False, True])
def test_short_gaps_are_lines_and_long_ones_stay(hold: bool) -> None:
    times = torch.tensor([[0.0, 0.01, 0.02, 0.05, 0.06, 0.07, 0.30, 0.31]])
    seen = torch.tensor([[0, 1, 0, 1, 0, 0, 1, 0]]).bool()[..., None]
    values = torch.where(seen, 10 * times[..., None], torch.zeros(()))
    filled, known = bridge(values, seen, times, 0.075, hold)
    wanted = [0.1 if hold else 0, 0.1, 0.2, 0.5, 0, 0, 3.0, 3.0 if hold else 0]
    torch.testing.assert_close(filled[0, :, 0], torch.tensor(wanted))
    assert known[0, :, 0].tolist() == [hold, True, True, True, False, False, True, hold]
    whole, _ = bridge(values, seen, times, float("inf"))
    torch.testing.assert_close(whole[0, 1:7, 0], 10 * times[0, 1:7])


def test_nothing_seen_is_bridged_to_nothing() -> None:
    filled, known = bridge(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2).bool(), torch.zeros(1, 4), 1.0, hold=True)
    assert not known.any() and (filled == 0).all()


def test_statistics_are_those_of_what_was_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    batches: list[tuple[Tensor, Tensor]] = [
        (torch.randn(2, n, 2, generator=generator) * 3 + 50, torch.rand(2, n, 2, generator=generator) < 0.7)
        for n in (200, 300)
    ]
    mean, std = seen_statistics(batches)
    for column in range(2):
        seen = torch.cat([values[..., column][there[..., column]] for values, there in batches])
        assert mean[column] == pytest.approx(float(seen.mean()), rel=1e-5)
        assert std[column] == pytest.approx(float(seen.std(unbiased=False)), rel=1e-4)
    assert [s.tolist() for s in seen_statistics([(torch.full((1, 3, 1), 4.0), torch.ones(1, 3, 1).bool())])] == [
        [4],
        [1],
    ]


def test_windows_tile_a_clip_and_the_last_is_what_is_left() -> None:
    np.testing.assert_allclose(tiles(5.0, 6.2, 0.5), [[5, 5.5], [5.5, 6], [6, 6.2]])
    np.testing.assert_allclose(tiles(5.0, 6.0, 0.5), [[5, 5.5], [5.5, 6]])
    np.testing.assert_allclose(tiles(5.0, 5.01, 0.5), [[5, 5.01]])
