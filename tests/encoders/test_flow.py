"""Flow keeps its scale on the way into a network, and padding stays out of it."""

from __future__ import annotations

import pytest
import torch

from encoders.test_contract import clip, padded, shaken
from mer.encoders import FlowNet
from mer.encoders.flow import motion, moved
from mer.errors import UserError
from mer.tokens import Sampled


def fields(values: torch.Tensor) -> Sampled:
    batch, count = values.shape[:2]
    return Sampled(values, torch.ones(batch, count, dtype=torch.bool), torch.zeros(batch, count, 2))


@pytest.mark.parametrize("size", [28, 112, 224])
def test_a_share_of_the_picture_is_the_same_number_at_any_size(size: int) -> None:
    field = torch.tensor([size / 112, -size / 56, 0.1]).view(1, 1, 3, 1, 1).expand(1, 1, 3, size, size)
    scaled = motion(fields(field)).mean((0, 1, 3, 4))
    torch.testing.assert_close(scaled, torch.tensor([0.1, -0.2, 0.2]))


def test_less_movement_is_less_in_the_network_and_too_much_is_clipped() -> None:
    field = torch.rand(1, 2, 3, 28, 28)
    torch.testing.assert_close(motion(fields(0.2 * field)), 0.2 * (field / torch.tensor([2.5, 2.5, 0.5]).view(3, 1, 1)))
    assert motion(fields(-1e6 * field)).min() == -1


def test_a_mirrored_clip_moves_the_other_way_and_all_of_it_is_as_much_faster() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 2, 3, 4, 6) - 0.5
    sign = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    kinds = []
    for before, after in zip(x, moved(x, 1.0), strict=True):
        as_it_was, turned = after / before, after / (before.flip(-1) * sign)
        ratio = as_it_was if as_it_was.std() < turned.std() else turned
        assert 0.8 <= float(ratio.mean()) <= 1.2
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
        kinds.append(ratio is turned)
    assert 16 < sum(kinds) < 48


def test_statistics_of_batch_normalisation_come_from_real_fields_only() -> None:
    copies = []
    for more in (0, 5):
        torch.manual_seed(0)
        encoder = FlowNet(16, size=16, channels=(4, 6), augment=0.0).train()
        encoder(padded([clip(encoder.spec, 6), clip(encoder.spec, 6, 1)], more))
        copies.append(encoder.state_dict())
    for name, value in copies[0].items():
        torch.testing.assert_close(copies[1][name], value)
        assert "running_mean" not in name or value.any()


def test_halved_time_doubles_the_spans() -> None:
    for halvings, count in ((0, 9), (1, 5), (2, 3)):
        encoder = shaken(FlowNet(16, rate=8.0, size=16, channels=(4, 6), halvings=halvings))
        tokens = encoder(clip(encoder.spec, 9))
        assert tokens.values.shape == (1, count, 16)
        assert encoder.output_rate == 8.0 / 2**halvings
    assert FlowNet(16, rate=None).output_rate is None


@pytest.mark.parametrize("settings", [{"size": 16}, {"halvings": 5}])
def test_sizes_that_leave_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="Leave two pixels"):
        FlowNet(**settings)


def test_it_learns_which_way_a_clip_moves() -> None:
    """Left or right, in a place that says nothing, among noise; the mirror of training would hide it."""
    torch.manual_seed(0)
    encoder = FlowNet(16, size=16, channels=(4, 8), layers=1, augment=0.0, dropout=0.0)
    head = torch.nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-2)

    def made() -> tuple[Sampled, torch.Tensor]:
        way = torch.randint(0, 2, (16,)).float()
        values = 0.1 * torch.randn(16, 6, 3, 16, 16)
        for row, place in enumerate(torch.randint(0, 10, (16, 2)).tolist()):
            values[row, 2:5, 0, place[0] : place[0] + 6, place[1] : place[1] + 6] += 2 * way[row] - 1
        return fields(values), way

    for _ in range(40):
        inputs, way = made()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(encoder(inputs).mean())[:, 0], way)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, way = made()
    with torch.no_grad():
        assert ((head(encoder.eval()(inputs).mean())[:, 0] > 0) == (way > 0)).float().mean() >= 0.9
