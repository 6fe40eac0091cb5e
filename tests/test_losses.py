"""Every loss looks at labelled rows only, equals its textbook form, and never gives NaN for lack of labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mer.errors import UserError
from mer.heads import ShareHead
from mer.losses import (
    MSE,
    BinaryCrossEntropy,
    CCCLoss,
    CrossEntropy,
    Focal,
    LogitAdjusted,
    Loss,
    SmoothL1,
    SoftCrossEntropy,
    default_loss,
)

NAN = float("nan")
CLASSES = torch.tensor([0, 2, 1, 2, 0, 1])
NUMBERS = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


class OfShares(SoftCrossEntropy):
    """Behind the softmax of `ShareHead`, so that it takes logits like the others."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(logits.float().softmax(1), target)


LOSSES: list[tuple[Loss, torch.Tensor]] = [
    (CrossEntropy(), CLASSES),
    (CrossEntropy(label_smoothing=0.1, balanced=True), CLASSES),
    (Focal(), CLASSES),
    (LogitAdjusted(), CLASSES),
    (BinaryCrossEntropy(), (NUMBERS > 0).float()),
    (CCCLoss(), NUMBERS),
    (MSE(), NUMBERS),
    (SmoothL1(), NUMBERS),
    (OfShares(), NUMBERS.abs()),
]
each_loss = pytest.mark.parametrize(("loss", "target"), LOSSES, ids=lambda x: type(x).__name__)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


def unlabelled(target: torch.Tensor, rows: list[int]) -> torch.Tensor:
    target = target.clone()
    target[rows] = -1 if target.ndim == 1 else NAN
    return target


@each_loss
def test_unlabelled_rows_count_for_nothing(loss: Loss, target: torch.Tensor, logits: torch.Tensor) -> None:
    part = loss(logits, unlabelled(target, [0, 3]))
    rest = [1, 2, 4, 5]
    torch.testing.assert_close(part, loss(logits[rest], target[rest]))
    (gradient,) = torch.autograd.grad(part, logits)
    assert gradient[[0, 3]].abs().max() == 0
    assert gradient[rest].abs().min() > 0


@each_loss
def test_without_any_label_the_loss_is_zero_and_still_connected(
    loss: Loss, target: torch.Tensor, logits: torch.Tensor
) -> None:
    for rows in (logits, logits[:0]):
        value = loss(rows, unlabelled(target, list(range(6)))[: len(rows)])
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient.abs().max() == 0


@each_loss
def test_one_row_and_half_precision_give_a_finite_float(loss: Loss, target: torch.Tensor, logits: torch.Tensor) -> None:
    value = loss(logits[:1].to(torch.bfloat16), target[:1])
    assert value.dtype == torch.float32
    assert torch.isfinite(value)


@each_loss
def test_right_answers_cost_less_than_wrong_ones(loss: Loss, target: torch.Tensor, logits: torch.Tensor) -> None:
    if target.ndim == 1:
        right = 10.0 * F.one_hot(target, 3).float()
    else:
        right = target if loss.kinds == ("continuous",) else 20 * (target - 0.5)
    assert loss(right, target) < loss(-right, target)


def test_cross_entropy_is_torchs(logits: torch.Tensor) -> None:
    loss = CrossEntropy(label_smoothing=0.1, balanced=True, clip_weights=(0.1, 10.0))
    loss.fit([10, 20, 60], 90)
    weight = torch.tensor([3.0, 1.5, 0.5])
    torch.testing.assert_close(loss.weight, weight)
    expected = F.cross_entropy(logits, CLASSES, weight=weight, label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, CLASSES), expected)


def test_balanced_weights_are_limited_and_survive_an_empty_class() -> None:
    loss = CrossEntropy(balanced=True)
    loss.fit([1000, 10, 0], 1010)
    assert loss.weight.tolist() == [0.5, 2.0, 2.0]


def test_focal_without_exponent_is_cross_entropy_and_spares_what_is_right(logits: torch.Tensor) -> None:
    torch.testing.assert_close(Focal(gamma=0.0)(logits, CLASSES), F.cross_entropy(logits, CLASSES))
    p = logits.softmax(1)[range(6), CLASSES]
    torch.testing.assert_close(Focal(gamma=2.0)(logits, CLASSES), ((1 - p) ** 2 * -p.log()).mean())


def test_logit_adjustment_adds_the_log_prior(logits: torch.Tensor) -> None:
    loss = LogitAdjusted(tau=0.5)
    torch.testing.assert_close(loss(logits, CLASSES), F.cross_entropy(logits, CLASSES))
    loss.fit([1, 2, 7], 10)
    prior = 0.5 * torch.tensor([0.1, 0.2, 0.7]).log()
    torch.testing.assert_close(loss(logits, CLASSES), F.cross_entropy(logits + prior, CLASSES))


def test_binary_cross_entropy_is_torchs_with_weighted_positives(logits: torch.Tensor) -> None:
    target = (NUMBERS > 0).float()
    loss = BinaryCrossEntropy(balanced=True)
    loss.fit([25, 50, 1], 100)
    assert loss.weight.tolist() == [3.0, 1.0, 5.0]
    expected = F.binary_cross_entropy_with_logits(logits, target, pos_weight=loss.weight)
    torch.testing.assert_close(loss(logits, target), expected)


def test_concordance_is_lins() -> None:
    x, y = NUMBERS, NUMBERS * 2 + 1
    sx, sy = x.var(0, unbiased=False), y.var(0, unbiased=False)
    ccc = 2 * (sx * sy).sqrt() / (sx + sy + (x.mean(0) - y.mean(0)) ** 2)
    torch.testing.assert_close(CCCLoss(mse=0.0)(x, y), (1 - ccc).mean(), atol=1e-5, rtol=0)
    assert CCCLoss()(NUMBERS, NUMBERS).item() == pytest.approx(0, abs=1e-5)


def test_weights_are_not_part_of_a_checkpoint() -> None:
    loss = CrossEntropy(balanced=True, adjust=1.0)
    loss.fit([1, 2, 3], 6)
    assert not loss.state_dict()


def test_a_smoothing_outside_its_range_is_refused() -> None:
    for value in (-0.1, 1.0):
        with pytest.raises(UserError, match="label_smoothing"):
            CrossEntropy(label_smoothing=value)


def test_every_kind_of_task_has_a_loss_made_for_it() -> None:
    for kind in ("classes", "multilabel", "continuous"):
        assert kind in default_loss(kind).kinds  # type: ignore[arg-type]


class TestSoftCrossEntropy:
    def test_votes_of_one_mind_are_a_label(self, logits: torch.Tensor) -> None:
        votes = 10.0 * F.one_hot(CLASSES, 3)
        torch.testing.assert_close(OfShares()(logits, votes), F.cross_entropy(logits, CLASSES))

    def test_counts_and_shares_are_the_same(self, logits: torch.Tensor) -> None:
        votes = NUMBERS.abs()
        shares = votes / votes.sum(1, keepdim=True)
        torch.testing.assert_close(OfShares()(logits, votes), OfShares()(logits, shares))
        torch.testing.assert_close(OfShares()(logits, votes), F.cross_entropy(logits, shares))

    def test_it_is_least_where_the_softmax_is_the_shares(self) -> None:
        votes = torch.tensor([[6.0, 3.0, 1.0]])
        best = votes.log().requires_grad_()
        OfShares()(best, votes).backward()
        torch.testing.assert_close(best.grad, torch.zeros(1, 3), atol=1e-6, rtol=0)

    def test_a_row_without_votes_counts_for_nothing(self, logits: torch.Tensor) -> None:
        votes = NUMBERS.abs()
        fewer = votes.clone()
        fewer[2] = 0
        keep = torch.arange(6) != 2
        torch.testing.assert_close(OfShares()(logits, fewer), OfShares()(logits[keep], votes[keep]))

    def test_negative_votes_are_refused(self, logits: torch.Tensor) -> None:
        with pytest.raises(UserError, match="negative number of votes"):
            OfShares()(logits, -NUMBERS.abs() - 1)

    def test_logits_are_refused_and_the_head_is_named(self, logits: torch.Tensor) -> None:
        with pytest.raises(UserError, match=r"mer\.heads\.ShareHead"):
            SoftCrossEntropy()(logits, NUMBERS.abs())
        head = ShareHead(4, 3).eval()
        shares = head(torch.randn(6, 4, dtype=torch.float32))
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        assert torch.isfinite(SoftCrossEntropy()(shares, NUMBERS.abs()))


def test_smooth_l1_is_half_the_square_near_and_the_distance_far() -> None:
    logits, target = torch.tensor([[0.5], [3.0]]), torch.tensor([[0.0], [0.0]])
    assert float(SmoothL1()(logits, target)) == pytest.approx((0.125 + 2.5) / 2)
    assert float(SmoothL1(beta=4.0)(logits[1:], target[1:])) == pytest.approx(9 / 8)
    with pytest.raises(UserError, match="beta is 0"):
        SmoothL1(beta=0)
