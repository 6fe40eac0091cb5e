"""Made-up eye recordings for tests of encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def scanpath(columns: Sequence[str], count: int, rate: float, generator: torch.Generator) -> Tensor:
    """(count, columns): gaze rests at a new place on the screen every 0.3 s, pupils are near 3 mm; a tenth of it is lost.

    Points are shares of the screen. The last column is `valid`; what is lost is 0 in all columns.
    """
    place = (torch.arange(count) / rate / 0.3).long()
    values = 0.3 * torch.randn(count, len(columns), generator=generator) + 3.0
    for column, name in enumerate(columns):
        if name.startswith("gaze"):
            rests = 0.1 + 0.8 * torch.rand(int(place[-1]) + 1, generator=generator)
            values[:, column] = rests[place] + 0.001 * torch.randn(count, generator=generator)
    seen = torch.rand(count // 6 + 1, generator=generator).repeat_interleave(6)[:count] < 0.9
    values[:, -1] = 1.0
    return values * (seen | (torch.arange(count) == 0))[:, None]
