"""The plain vision transformer (Dosovitskiy et al., ICLR 2021) in timm's key layout, which MAE and its kin are saved in."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer.encoders import weights
from mer.encoders.stochastic_depth import thinned
from mer.errors import UserError

EPS = 1e-6  # of its layer norms; PyTorch's default is 1e-5
# Everything that a masked autoencoder's file holds besides the encoder, and heads that somebody put on top.
BESIDES = (
    (r"^(decoder|mask_token)", "the decoder of the masked autoencoder"),
    (r"^(head|fc_norm)\.", "a head for another task"),
)


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, pre-norm transformer blocks, a last layer norm.

    Args:
        size: height and width that the positions are for; other sizes are taken, too.
        patch: side of a patch in pixels.
        channels: of the picture.
        dim: width of the tokens.
        depth, heads: blocks, and attention heads in each.
        expansion: width of the MLPs over `dim`.
        outputs: of the linear `head`, which `forward` leaves alone; 0 builds none.
        drop_path: rate of stochastic depth in the last block; it falls linearly to 0 in the first one.
        checkpointing: in training, compute each block again in the backward pass instead of keeping what is in it.

    Raises:
        UserError: a picture smaller than a patch, or heads that do not divide `dim`.
    """

    def __init__(
        self,
        size: tuple[int, int] = (224, 224),
        patch: int = 16,
        channels: int = 3,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        expansion: float = 4.0,
        outputs: int = 0,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        if min(patch, heads) < 1 or min(size) < patch or dim % heads or not 0 <= drop_path < 1:
            raise UserError(
                f"a vision transformer for {size[0]}x{size[1]} in patches of {patch}, {dim} wide, {heads} heads, "
                f"drop_path {drop_path:g}",
                "Use a size of at least one patch, heads that divide the width, and drop_path below 1",
            )
        self.grid, self.checkpointing = (size[0] // patch, size[1] // patch), checkpointing
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + math.prod(self.grid), dim))
        self.patch_embed = _Patches(channels, dim, patch)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(dim, heads, round(expansion * dim), rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        if outputs:
            self.head = nn.Linear(dim, outputs)
        for parameter in (self.cls_token, self.pos_embed, *(p for p in self.parameters() if p.ndim == 2)):
            nn.init.normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Tensor:
        """Tokens after the last norm.

        Args:
            images: (B, channels, H, W).
            keys: (B, patches) bool: patches that may be seen, row by row of the picture; None is all of them.

        Returns:
            (B, 1 + patches, dim): the class token, then the patches.
        """
        x = self.embed(images)
        seen = None if keys is None else F.pad(keys, (1, 0), value=True)
        for index in range(len(self.blocks)):
            x = self.block(index, x, seen)
        normed: Tensor = self.norm(x)
        return normed

    def embed(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, 1 + patches, dim) with positions: what the first block sees."""
        patches = self.patch_embed.proj(images)
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        return x + self.positions((patches.shape[2], patches.shape[3]))

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + rows * columns, dim) for a picture of so many patches."""
        return resized(self.pos_embed, self.grid, grid)

    def block(self, index: int, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Run one block; `seen` (B, tokens) bool says which tokens may be attended to."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(self.blocks[index], x, seen, use_reentrant=False)
            return again
        out: Tensor = self.blocks[index](x, seen)
        return out

    def freeze(self, first: int) -> None:
        """Stop training the first so many blocks and what is below them, and their stochastic depth; with all blocks, the
        last norm as well.

        Raises:
            UserError: more blocks than there are.
        """
        if not 0 <= first <= len(self.blocks):
            raise UserError(
                f"{first} of {len(self.blocks)} blocks of a vision transformer frozen", "Use no more than there are"
            )
        if first:
            still = [self.patch_embed, *self.blocks[:first], *([self.norm] if first >= len(self.blocks) else [])]
            for parameter in (self.cls_token, self.pos_embed, *(p for m in still for p in m.parameters())):
                parameter.requires_grad_(False)
        for block in self.blocks[:first]:
            assert isinstance(block, Block)
            block.drop_path = 0.0


class Block(nn.Module):
    """Pre-norm self-attention and MLP, each skipped for a whole sample at the rate `drop_path` in training."""

    def __init__(self, dim: int, heads: int, hidden: int, drop_path: float = 0.0):
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = _Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = _MLP(dim, hidden)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = x + self._drop(self.attn(self.norm1(x), seen))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        return thinned(branch, self.drop_path, self.training)


class _Patches(nn.Module):
    def __init__(self, channels: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        batch, size, dim = x.shape
        q, k, v = self.qkv(x).view(batch, size, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if seen is None else seen[:, None, None, :])
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, size, dim))
        return out


class _MLP(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def resized(positions: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Positions for another grid of patches: bicubic, corners not aligned; the class token's stays.

    Args:
        positions: (1, 1 + rows * columns, dim).
        grid: its (rows, columns).
        wanted: rows and columns of the answer.
    """
    if grid == wanted:
        return positions
    first, rest = positions[:, :1], positions[:, 1:]
    with torch.autocast(positions.device.type, enabled=False):
        planes = rest.float().transpose(1, 2).unflatten(2, grid)
        planes = F.interpolate(planes, wanted, mode="bicubic", align_corners=False)
    return torch.cat([first, planes.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def position_fit(wanted: tuple[int, int], columns: int | None = None) -> tuple[str, weights.Fit]:
    """For a key table: a published `pos_embed` of another grid, resized.

    Args:
        wanted: (rows, columns) of our grid.
        columns: of the published grid; None where it is square.
    """

    def fit(value: Tensor, shape: torch.Size) -> Tensor:
        patches = value.shape[1] - 1 if value.ndim == 3 else 0
        width = columns or math.isqrt(max(patches, 0))
        if patches < 1 or patches % width or (columns is None and width**2 != patches):
            return value  # no such grid: its shape will be refused, by name
        return resized(value, (patches // width, width), wanted)

    return r"^pos_embed$", fit
