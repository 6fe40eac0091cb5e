"""CAN: co-attention weights over all features of all modalities at every moment."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mer.fusion.clocked import ClockedFusion


class CAN(ClockedFusion):
    """softmax(Linear([x_1 .. x_M])) * [x_1 .. x_M], then Linear, norm, leaky ReLU, Linear, at each tick.

    One of BAH's baselines (arXiv 2505.19328). Ours: the softmax leaves out absent modalities and is scaled by the
    number of features (else each of 384 features is multiplied by about 1/384), a layer norm stands for the batch norm,
    which saw padded moments, and attention pooling gives the vector of a clip.

    Args:
        dims: token width of each modality (filled in by `EmotionModel`).
        dim: width of the fused vectors and of each modality.
        channels: of the TCN before `dim`; null for none.
        kernel: of the TCN.
        heads: attention heads of the pooling over time.
        dropout: in the TCN; the baseline has 0.2.
        clock_rate: ticks per second.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: int = 128,
        channels: list[int] | None = None,
        kernel: int = 5,
        heads: int = 4,
        dropout: float = 0.2,
        clock_rate: float = 5.0,
    ):
        super().__init__(dims, dim, channels, kernel, heads, dropout, clock_rate)
        size = len(dims) * dim
        self.attend = nn.Linear(size, size)
        self.mix = nn.Sequential(nn.Linear(size, dim), nn.LayerNorm(dim), nn.LeakyReLU(), nn.Linear(dim, dim))

    def meet(self, ticks: Tensor, there: Tensor, mask: Tensor) -> Tensor:
        features = ticks.flatten(2)
        open_ = there[..., None].expand_as(ticks).flatten(2)
        scores = self.attend(features).float().masked_fill(~open_, -1e30)
        weights = scores.softmax(-1) * open_ * open_.sum(-1, keepdim=True)
        return self.mix(weights.to(features.dtype) * features)
