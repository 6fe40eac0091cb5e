"""From fused vectors to logits or shares: one head per task, the same for a whole clip and for each moment of it."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mer.configured import Configured


class MLPHead(Configured, nn.Module):
    """Two-layer perceptron, the default head.

    Args:
        dim: width of the fused vectors (filled in by `EmotionModel`).
        outputs: number of classes or dimensions (filled in from the label space).
        hidden: width of the hidden layer; None for `dim`.
        dropout: on the hidden layer.
    """

    def __init__(self, dim: int, outputs: int, hidden: int | None = None, dropout: float = 0.2):
        super().__init__()
        hidden = hidden or dim
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to logits (..., outputs)."""
        return self.layers(x)


class ShareHead(MLPHead):
    """The default head, and a softmax: what comes out are shares of a whole, as annotators' votes are.

    For continuous tasks alone; `mer.losses.SoftCrossEntropy` goes with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to shares (..., outputs), float32."""
        return super().forward(x).float().softmax(dim=-1)


class TaperingHead(Configured, nn.Module):
    """Linear layers that narrow towards the outputs, leaky ReLUs between them: the head of EMERT for valence and arousal.

    Args:
        dim: width of the fused vectors (filled in by `EmotionModel`).
        outputs: number of classes or dimensions (filled in from the label space).
        widths: of the hidden layers.
    """

    def __init__(self, dim: int, outputs: int, widths: tuple[int, ...] = (32, 16, 8)):
        super().__init__()
        sizes = (dim, *widths, outputs)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(sizes):
            layers += [nn.Linear(inside, outside), nn.LeakyReLU(0.01)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to logits (..., outputs)."""
        return self.layers(x)


class LinearHead(Configured, nn.Module):
    """One linear layer, for probing."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.layer = nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to logits (..., outputs)."""
        return self.layer(x)
