"""Losses of a task. Every one takes what the head gives, looks at labelled rows only, and is 0 where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.errors import UserError
from mer.labels import TaskKind


class Loss(nn.Module):
    """Base of all losses.

    Attributes:
        kinds: the kinds of task it is made for.
        needs_counts: `fit` must be called with the class counts of the training rows.
    """

    kinds: tuple[TaskKind, ...] = ("classes",)
    needs_counts: bool = False

    def fit(self, counts: Sequence[float], rows: int) -> None:
        """Take the class counts of the training rows (`rows` labelled rows in all) into weights, before training."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss over the labelled rows.

        Args:
            logits: (B, C).
            target: (B,) int64 with -1 for unlabelled, or (B, C) float with NaN for unlabelled.

        Returns:
            scalar float32; 0, still connected to the logits, where no row is labelled.
        """
        labelled = target >= 0 if target.ndim == 1 else torch.isfinite(target).all(dim=1)
        if not bool(labelled.any()):
            return logits.float().sum() * 0.0
        return self.labelled(logits[labelled].float(), target[labelled])

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss over labelled rows. Subclasses implement this."""
        raise TypeError(f"{type(self).__name__} does not implement labelled")


class CrossEntropy(Loss):
    """Softmax cross-entropy.

    Args:
        label_smoothing: share of the target spread evenly over the classes.
        balanced: weigh classes by the inverse of their training frequency.
        clip_weights: balanced weights are limited to this range, so that a class of three clips does not rule the loss.
        focal: exponent of the focal factor (1 - p)^focal (Lin et al., ICCV 2017); 0 for plain cross-entropy.
        adjust: strength of logit adjustment by the log prior (Menon et al., ICLR 2021); 0 for none, 1 for the paper's.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        balanced: bool = False,
        clip_weights: tuple[float, float] = (0.5, 2.0),
        focal: float = 0.0,
        adjust: float = 0.0,
    ):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing {label_smoothing} is not in [0, 1)", "Use 0 to 0.2")
        self.smoothing, self.focal, self.adjust = label_smoothing, focal, adjust
        self.balanced, self.clip = balanced, clip_weights
        self.needs_counts = balanced or adjust != 0
        # Plain tensors, not buffers: weight averaging copies the module before `fit` gives them their length.
        self.weight = torch.ones(())
        self.log_prior = torch.zeros(())

    def fit(self, counts: Sequence[float], rows: int) -> None:
        count = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
        if self.balanced:
            self.weight = (count.mean() / count).clamp(*self.clip)
        if self.adjust:
            self.log_prior = self.adjust * (count / count.sum()).log()

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = F.log_softmax(logits + self.log_prior.to(logits.device), dim=1)
        goal = F.one_hot(target, logits.shape[1]).float()
        goal = goal * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        weight = self.weight.to(logits.device).expand(logits.shape[1])
        each = -goal * log_p * weight
        if self.focal:
            each = each * (1 - log_p.exp()).clamp(min=1e-6) ** self.focal
        return each.sum() / weight[target].sum()


class SoftCrossEntropy(Loss):
    """Cross-entropy against how many annotators chose each class (soft labels), as in Peterson et al., ICCV 2019.

    For a continuous task whose numbers are such counts, or shares: they are divided by their sum. It takes shares in place of
    logits, those of `mer.heads.ShareHead`: they stand in the score file, and CCC and errors compare shares with shares.
    Rows without any vote count as unlabelled.
    """

    kinds = ("continuous",)

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        if bool((target < 0).any()):
            raise UserError("SoftCrossEntropy got a negative number of votes", "Give counts or shares, 0 and above")
        if bool((logits < 0).any()) or bool(((logits.sum(1) - 1).abs() > 1e-3).any()):
            raise UserError(
                "SoftCrossEntropy got numbers that are no shares of a whole",
                "Give the task the head mer.heads.ShareHead under model.heads",
            )
        votes = target.sum(1, keepdim=True)
        each = -(target / votes.clamp(min=1e-12) * logits.clamp(min=1e-12).log()).sum(1)
        voted = votes[:, 0] > 0
        return (each * voted).sum() / voted.sum().clamp(min=1)


class Focal(CrossEntropy):
    """Focal loss (Lin et al., ICCV 2017): cross-entropy in which rows that are already right count little."""

    def __init__(self, gamma: float = 2.0, balanced: bool = False, clip_weights: tuple[float, float] = (0.5, 2.0)):
        super().__init__(balanced=balanced, clip_weights=clip_weights, focal=gamma)


class LogitAdjusted(CrossEntropy):
    """Logit-adjusted cross-entropy (Menon et al., ICLR 2021): rare classes get a larger margin."""

    def __init__(self, tau: float = 1.0, label_smoothing: float = 0.0):
        super().__init__(label_smoothing=label_smoothing, adjust=tau)


class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy for labels that do not exclude each other.

    Args:
        balanced: weigh positives by the ratio of negatives to positives, limited to `clip_weights`.
    """

    kinds = ("multilabel",)

    def __init__(self, balanced: bool = False, clip_weights: tuple[float, float] = (0.5, 5.0)):
        super().__init__()
        self.balanced, self.clip = balanced, clip_weights
        self.needs_counts = balanced
        self.weight = torch.ones(())

    def fit(self, counts: Sequence[float], rows: int) -> None:
        if self.balanced:
            positive = torch.tensor(counts, dtype=torch.float32)
            self.weight = ((rows - positive) / positive.clamp(min=1)).clamp(*self.clip)

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=self.weight.to(logits.device).expand(logits.shape[1])
        )


class CCCLoss(Loss):
    """1 - concordance correlation coefficient (Lin, Biometrics 1989) over the batch, mean over dimensions.

    Args:
        mse: weight of a mean squared error added to it; CCC alone says little about a batch of one or of equal targets.
    """

    kinds = ("continuous",)

    def __init__(self, mse: float = 0.1):
        super().__init__()
        self.mse = mse

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        mean_x, mean_y = logits.mean(0), target.mean(0)
        covariance = ((logits - mean_x) * (target - mean_y)).mean(0)
        spread = logits.var(0, unbiased=False) + target.var(0, unbiased=False) + (mean_x - mean_y).square()
        ccc = 2 * covariance / (spread + 1e-8)
        return (1 - ccc).mean() + self.mse * F.mse_loss(logits, target)


class MSE(Loss):
    """Mean squared error."""

    kinds = ("continuous",)

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(logits, target)


class SmoothL1(Loss):
    """Half the squared error below `beta`, the absolute error less half of `beta` above (Girshick, ICCV 2015).

    Args:
        beta: where the one becomes the other.
    """

    kinds = ("continuous",)

    def __init__(self, beta: float = 1.0):
        super().__init__()
        if not beta > 0:
            raise UserError(f"SmoothL1.beta is {beta:g}", "Use an error above 0")
        self.beta = beta

    def labelled(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(logits, target, beta=self.beta)


def default_loss(kind: TaskKind) -> Loss:
    """The loss of a task for which the config names none."""
    return {"classes": CrossEntropy, "multilabel": BinaryCrossEntropy, "continuous": CCCLoss}[kind]()
