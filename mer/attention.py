"""Attention that honours masks: padded keys get no weight, and an all-masked row gives 0 instead of NaN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.errors import UserError


def at_least_float32(x: Tensor) -> Tensor:
    """As it is in float32 or float64, in float32 where it is shorter."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the True positions of `mask`; all-False slices are 0. Computed in float32 at least."""
    scores = at_least_float32(scores).masked_fill(~mask, -1e30)
    return F.softmax(scores, dim=dim) * mask


class SelfAttention(nn.Module):
    """Pre-norm transformer layer (self-attention, then MLP) over masked tokens.

    Args:
        dim: token width.
        heads: attention heads.
        dropout: on both residual branches.
        expansion: width of the MLP over `dim`.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1, expansion: int = 2):
        super().__init__()
        _divides(dim, heads)
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) bool to (B, T, D)."""
        batch, size, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, size, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        # A row without any real key attends to everything (a finite number), and is set to 0 below.
        visible = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=self.dropout if self.training else 0.0)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(batch, size, dim)), self.dropout, self.training)
        x = x + F.dropout(self.mlp(self.norm2(x)), self.dropout, self.training)
        return x * mask[..., None].to(x.dtype)


class CrossAttention(nn.Module):
    """Pre-norm transformer layer in which tokens ask others (attention), then an MLP.

    Where there is nobody to ask, the attention adds nothing.

    Args:
        dim: token width of both.
        heads: attention heads.
        dropout: on both residual branches.
        expansion: width of the MLP over `dim`; 0 leaves the MLP out.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1, expansion: int = 2):
        super().__init__()
        _divides(dim, heads)
        self.heads, self.dropout = heads, dropout
        self.norm_q, self.norm_kv = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp: nn.Sequential | None = None
        if expansion:
            self.mlp = nn.Sequential(
                nn.LayerNorm(dim),
                nn.Linear(dim, expansion * dim),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(expansion * dim, dim),
            )

    def forward(self, x: Tensor, mask: Tensor, others: Tensor, others_mask: Tensor) -> Tensor:
        """(B, T, D) with (B, T) bool ask (B, S, D) with (B, S) bool; gives (B, T, D)."""
        batch, size, dim = x.shape
        q = self.q(self.norm_q(x)).view(batch, size, self.heads, -1).transpose(1, 2)
        k, v = self.kv(self.norm_kv(others)).view(batch, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        answered = others_mask.any(1)[:, None, None]
        visible = (others_mask | ~others_mask.any(1, keepdim=True))[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=self.dropout if self.training else 0.0)
        y = self.out(y.transpose(1, 2).reshape(batch, size, dim)) * answered.to(x.dtype)
        x = x + F.dropout(y, self.dropout, self.training)
        if self.mlp is not None:
            x = x + F.dropout(self.mlp(x), self.dropout, self.training)
        return x * mask[..., None].to(x.dtype)


class StatisticsPool(nn.Module):
    """Attentive statistics: per head a weighted mean and standard deviation over the real tokens, projected to `dim`.

    Okabe, Koshinaka, Shinoda: Attentive Statistics Pooling for Deep Speaker Embedding, Interspeech 2018. The plain
    masked mean is added as a first "head", so that pooling starts from something sensible.
    """

    def __init__(self, dim: int, heads: int = 4):
        super().__init__()
        _divides(dim, heads)
        self.heads = heads
        # No bias on the scores: a softmax over time does not see what is added to all of them.
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, heads, bias=False))
        self.out = nn.Linear(3 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) bool to (B, D); 0 where nothing is real."""
        x = torch.where(mask[..., None], x, torch.zeros((), dtype=x.dtype, device=x.device))
        weight = masked_softmax(self.score(x), mask[..., None], dim=1).to(x.dtype)  # (B, T, heads)
        split = x.unflatten(2, (self.heads, -1))
        mean = torch.einsum("bth,bthd->bhd", weight, split)
        square = torch.einsum("bth,bthd->bhd", weight, split.square())
        deviation = (square - mean.square()).float().clamp(min=1e-5).sqrt().to(x.dtype)
        plain = x.sum(1) / mask.sum(1).clamp(min=1)[:, None].to(x.dtype)
        pooled = self.out(torch.cat([plain, mean.flatten(1), deviation.flatten(1)], dim=1))
        return pooled * mask.any(1, keepdim=True).to(x.dtype)


def _divides(dim: int, heads: int) -> None:
    if dim % heads:
        raise UserError(f"dim {dim} cannot be shared by {heads} attention heads", "Use a dim that heads divides")
