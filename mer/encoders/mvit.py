"""MViTv2 of video: the network in torchvision's key layout, and the encoder around it.

Li, Wu, Fan, Mangalam, Xiong, Malik, Feichtenhofer: MViTv2: Improved Multiscale Vision Transformers for Classification and
Detection, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer.encoders.augment import augmented
from mer.encoders.base import Encoder
from mer.encoders.stochastic_depth import survivors
from mer.encoders.weights import KeyTable, Stranger
from mer.encoders.windows import cut, spread
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

Grid = tuple[int, int, int]  # tokens along time, height, width
_AT_ONCE = 8  # windows that go through the network together: a long recording has more than fit into memory
_SCORES = 2**21  # attention scores that are made at once on a CPU: they should not leave its caches


class MViTv2(Encoder):
    """MViTv2-S (Li et al., CVPR 2022) over consecutive windows of 16 frames.

    A last window that is not full is seen as it is, with tables of positions that are interpolated to its length, so no
    frame is padded. What is published for Kinetics-400 saw 16 frames at 7.5 Hz, 224 x 224.

    Args:
        tokens: `cls`, one per window; `temporal`, one per 2 frames, the mean over their patches; `patch`, the patches (of
            224 x 224: 7 x 7 per 2 frames, in order of time, row, column); `all`, per window its class token, then its
            patches.
        rate: frames per second.
        segments, duration, stride: in place of a rate so many frames of the whole clip, however long it is; see `InputSpec`.
        size: height and width in pixels; any, as tables of positions are interpolated.
        frames: of a window; even.
        drop_path: of the last block in training, rising linearly from 0 at the first.
        checkpointing: compute each block once more in the backward pass instead of keeping what is inside it.
        frozen_blocks: so many blocks from the first, and the patch convolution before them, do not train.
        augment: strength of the training augmentations, see `FrameCNN`; 0 switches them off.
        crop, face: see `InputSpec`.
        width, depths, heads, kv_stride: of another network than the published one, see `MViT`.

    Tokens: (B, T, dim), dim 768; `temporal` at rate / 2 Hz. A patch stands for the time of its 2 frames, a class token for
    that of its window.

    Raises:
        UserError: unknown tokens, an odd number of frames, more frozen blocks than there are.
    """

    network: MViT

    def __init__(
        self,
        tokens: Literal["cls", "patch", "temporal", "all"] = "temporal",
        rate: float | None = 7.5,
        segments: int | None = None,
        duration: int = 1,
        stride: int = 1,
        size: int = 224,
        frames: int = 16,
        drop_path: float = 0.2,
        checkpointing: bool = False,
        frozen_blocks: int = 0,
        augment: float = 1.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
        width: int = 96,
        depths: tuple[int, ...] = (1, 2, 11, 2),
        heads: int = 1,
        kv_stride: int = 8,
    ):
        super().__init__()
        if tokens not in ("cls", "patch", "temporal", "all"):
            raise UserError(f"MViTv2 has no tokens {tokens!r}", "Use cls, patch, temporal or all")
        if frames < 2 or frames % 2 or not 0 <= frozen_blocks <= sum(depths):
            raise UserError(
                f"MViTv2: windows of {frames} frames, {frozen_blocks} of {sum(depths)} blocks frozen",
                "Use an even number of frames, and no more blocks than there are",
            )
        rate = None if segments else rate
        self.spec = InputSpec(
            "video",
            rate=rate,
            segments=segments,
            duration=duration,
            stride=stride,
            size=(size, size),
            mean=(0.45, 0.45, 0.45),
            std=(0.225, 0.225, 0.225),
            window=frames / rate if rate else None,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.tokens, self.frames, self.augment = tokens, frames, augment
        self.network = MViT(width, depths, heads, kv_stride, size=(frames, size, size), drop_path=drop_path)
        self.network.checkpointing = checkpointing
        self.network.freeze(frozen_blocks)
        self.dim = self.network.dim
        self.output_rate = (
            rate / {"temporal": 2, "cls": frames}[tokens] if rate and tokens in ("temporal", "cls") else None
        )
        if tokens == "cls" and depths:
            # The class token alone leaves the last block: nothing depends on where the patches are that ask there.
            for name, parameter in self.network.blocks[-1].named_parameters():
                if name.startswith(("attn.pool_q.pool.", "attn.rel_pos_")):
                    parameter.requires_grad_(False)

    def forward(self, inputs: Sampled) -> Tokens:
        if self.training and self.augment:
            inputs = Sampled(augmented(self.normalised(inputs.values), self.augment), inputs.mask, inputs.spans)
        windows = cut(inputs, self.frames)
        order, cls, patches = [], [], []
        for length in windows.counts.unique().tolist():  # full windows together, and each shorter length
            for chosen in (windows.counts == length).nonzero()[:, 0].split(_AT_ONCE):
                x = windows.values[chosen, :length]
                x = x if x.is_floating_point() else self.normalised(x)
                tokens, (steps, *_) = self.network(x.transpose(1, 2))
                slices = tokens[:, 1:].unflatten(1, (steps, -1))
                if self.tokens == "temporal":
                    slices = slices.mean(2, keepdim=True)
                order.append(chosen)
                cls.append(tokens[:, :1])
                patches.append(F.pad(slices, (0, 0, 0, 0, 0, self.frames // 2 - steps)))
        if not order:
            return self._nothing(inputs)
        back = torch.cat(order).argsort()
        streams = []
        if self.tokens in ("cls", "all"):
            streams.append(spread(torch.cat(cls)[back], windows, inputs))
        if self.tokens != "cls":
            slices = torch.cat(patches)[back]
            places = slices.shape[2]
            moments = spread(slices.flatten(2), windows, inputs)  # one for all patches of a time
            streams.append(
                Tokens(
                    moments.values.unflatten(2, (places, -1)).flatten(1, 2),
                    moments.mask.repeat_interleave(places, 1),
                    moments.spans.repeat_interleave(places, 1),
                )
            )
        return streams[0] if len(streams) == 1 else _in_order(*streams)

    def _nothing(self, inputs: Sampled) -> Tokens:
        """Of a batch in which no sample has the modality."""
        values = torch.zeros((len(inputs), 1, self.dim), device=inputs.values.device)
        values = self.in_graph(values)
        return Tokens(values, inputs.mask[:, :1], inputs.spans[:, :1])

    def tables(self) -> Sequence[KeyTable]:
        return _TABLES

    def strangers(self) -> Sequence[Stranger]:
        return _STRANGERS


def _in_order(cls: Tokens, patches: Tokens) -> Tokens:
    """Both streams as one: each class token before the patches of its window, padding at the end."""
    mask = torch.cat([cls.mask, patches.mask], 1)
    spans = torch.cat([cls.spans, patches.spans], 1)
    order = spans[..., 0].masked_fill(~mask, float("inf")).argsort(dim=1, stable=True)
    row = torch.arange(len(cls), device=order.device)[:, None]
    return Tokens(torch.cat([cls.values, patches.values], 1)[row, order], mask[row, order], spans[row, order])


class MViT(nn.Module):
    """Multiscale vision transformer with decomposed relative positions; as built by default, MViTv2-S 16x4.

    Blocks come in stages. The first block of each later stage doubles channels and heads and halves height and width of
    the queries; keys and values are pooled by `kv_stride` in the first stage and by half as much in each later one.
    The state dict has the keys of torchvision's `mvit_v2_s`. Under autocast the residual stream stays in float32, and
    everything else is computed in the lower precision.

    Args:
        width, heads: channels and attention heads of the first stage.
        depths: blocks per stage. (2, 3, 16, 3) with 32 frames makes MViTv2-B.
        kv_stride: by how much keys and values of the first stage are pooled along height and width; a power of two.
        in_channels: of the pictures.
        size: (frames, height, width) that the tables of relative positions are made for. Any other size is taken as well:
            the tables are then interpolated.
        drop_path: rate of the last block's residual branches in training, rising linearly from 0 at the first.
        head: number of classes of the published linear classifier on the class token; None builds none.

    Attributes:
        dim: width of the tokens.
        checkpointing: whether blocks are computed again in the backward pass instead of being remembered.
    """

    def __init__(
        self,
        width: int = 96,
        depths: Sequence[int] = (1, 2, 11, 2),
        heads: int = 1,
        kv_stride: int = 8,
        in_channels: int = 3,
        size: tuple[int, int, int] = (16, 224, 224),
        drop_path: float = 0.0,
        head: int | None = None,
    ):
        super().__init__()
        if heads < 1 or width % heads or kv_stride < 1 or kv_stride & (kv_stride - 1):
            raise UserError(
                f"MViT: width {width}, {heads} heads, kv_stride {kv_stride}",
                "Use a width that heads divides, and 1, 2, 4, 8 ... for kv_stride",
            )
        self.conv_proj = nn.Conv3d(in_channels, width, (3, 7, 7), (2, 4, 4), (1, 3, 3))
        self.pos_encoding = _ClassToken(width)
        grid: Grid = (_shrunk(size[0], 2), _shrunk(size[1], 4), _shrunk(size[2], 4))
        blocks: list[_Block] = []
        for stage, depth in enumerate(depths):
            for place in range(depth):
                step = 2 if stage and not place else 1
                rate = drop_path * len(blocks) / max(1, sum(depths) - 1)
                blocks.append(_Block(width, width * step, heads * step, grid, step, max(1, kv_stride >> stage), rate))
                width, heads = width * step, heads * step
                grid = (grid[0], _shrunk(grid[1], step), _shrunk(grid[2], step))
        self.blocks = nn.ModuleList(blocks)
        self.norm = _Norm(width)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, head)) if head else None
        self.dim = width
        self.checkpointing = False
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def freeze(self, blocks: int) -> None:
        """The first blocks and what is before them do not train, nor drop paths; 0 freezes nothing."""
        if blocks:
            self.conv_proj.requires_grad_(False)
            self.pos_encoding.requires_grad_(False)
        for block in self.blocks[:blocks]:
            assert isinstance(block, _Block)
            block.requires_grad_(False)
            block.drop_path = 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, in_channels, T, H, W) to tokens (B, 1 + T'H'W', dim), the class token first, and the grid (T', H', W')."""
        device = x.device.type
        half = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if half else self.norm.weight.dtype
        with torch.autocast(device, enabled=False):  # which would cast back and forth between all steps
            conv = self.conv_proj
            assert conv.bias is not None
            x = F.conv3d(x.to(dtype), conv.weight.to(dtype), conv.bias.to(dtype), (2, 4, 4), (1, 3, 3))
            batch, grid = len(x), (x.shape[2], x.shape[3], x.shape[4])
            # Row by row: the class tokens of all clips, then the patches of all clips, each one piece of memory. Together
            # they have the precision of the parameters.
            patches = x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])
            rows = torch.cat([self.pos_encoding.class_token.expand(batch, -1), patches])
            for block in self.blocks:
                if self.checkpointing and torch.is_grad_enabled():
                    rows, grid = checkpoint(block, rows, batch, grid, dtype, use_reentrant=False)
                else:
                    rows, grid = block(rows, batch, grid, dtype)
            rows = self.norm(rows)
        return torch.cat([rows[:batch, None], rows[batch:].unflatten(0, (batch, -1))], 1), grid


class _Linear(nn.Linear):
    """In the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class _Norm(nn.LayerNorm):
    """In the precision of its input."""

    def __init__(self, size: int):
        super().__init__(size, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class _ClassToken(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))


class _Pool(nn.Module):
    """Depthwise convolution, the same for all heads, then a norm; the class token has the norm alone."""

    def __init__(self, size: int, step: int):
        super().__init__()
        self.pool = nn.Conv3d(size, size, 3, (1, step, step), 1, groups=size, bias=False)
        self.norm_act = nn.Sequential(_Norm(size), nn.Identity())

    def forward(self, rows: Tensor, batch: int, grid: Grid) -> tuple[Tensor, Tensor]:
        """Rows as `MViT` has them to (B, 1, heads, size) and (B, T', H', W', heads, size)."""
        heads = rows.shape[1] // self.pool.in_channels
        x = rows[batch:].view(batch, *grid, -1).permute(0, 4, 1, 2, 3)  # channels come last in memory, and stay there
        weight = self.pool.weight.to(rows.dtype).repeat(heads, 1, 1, 1, 1)
        x = F.conv3d(x, weight, None, self.pool.stride, 1, groups=rows.shape[1]).permute(0, 2, 3, 4, 1)
        return self.norm_act(rows[:batch, None].unflatten(-1, (heads, -1))), self.norm_act(x.unflatten(-1, (heads, -1)))


class _Attention(nn.Module):
    """Attention between pooled queries, keys and values, with relative positions and the pooled queries added."""

    def __init__(self, inside: int, width: int, heads: int, grid: Grid, q_step: int, kv_step: int):
        super().__init__()
        size = width // heads
        self.qkv = _Linear(inside, 3 * width)
        self.project = nn.Sequential(_Linear(width, width), nn.Identity())
        self.pool_q, self.pool_k, self.pool_v = _Pool(size, q_step), _Pool(size, kv_step), _Pool(size, kv_step)
        queries, keys = ((grid[0], *(_shrunk(side, step) for side in grid[1:])) for step in (q_step, kv_step))
        self.rel_pos_t, self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(2 * max(pair) - 1, size), std=0.02))
            for pair in zip(queries, keys, strict=True)
        )

    def forward(self, rows: Tensor, batch: int, grid: Grid) -> tuple[Tensor, Grid]:
        weights, biases = self.qkv.weight.to(rows.dtype).chunk(3), self.qkv.bias.to(rows.dtype).chunk(3)
        (q_cls, q), (k_cls, k), (v_cls, v) = (
            pool(_product(rows, weight, bias), batch, grid)
            for pool, weight, bias in zip((self.pool_q, self.pool_k, self.pool_v), weights, biases, strict=True)
        )
        q_grid, k_grid = (q.shape[1], q.shape[2], q.shape[3]), (k.shape[1], k.shape[2], k.shape[3])
        k = torch.cat([k_cls, k.flatten(1, 3)], 1) * k.shape[-1] ** -0.5
        v = torch.cat([v_cls, v.flatten(1, 3)], 1)
        # The bias of a query for a key is a sum of three numbers, for the key's time, row and column. All that there are
        # stand behind the query, and behind the key a 1 at each of its three: their product, made in any case, adds them.
        bias = (
            torch.einsum(axes, q, _relative(table, queries, keys).to(q.dtype))
            for axes, table, queries, keys in zip(
                ("bthwnc,tkc->bthwnk", "bthwnc,hkc->bthwnk", "bthwnc,wkc->bthwnk"),
                (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w),
                q_grid,
                k_grid,
                strict=True,
            )
        )
        places = _places(k_grid, k)[None, :, None].expand(batch, -1, k.shape[2], -1)
        patches = _attend(torch.cat([q, *bias], -1).flatten(1, 3), torch.cat([k, places], -1), v) + q.flatten(1, 3)
        cls = _attend(q_cls, k, v)
        return self.project(torch.cat([cls.flatten(0, 1), patches.flatten(0, 1)]).flatten(1)), q_grid


class _Block(nn.Module):
    def __init__(self, inside: int, width: int, heads: int, grid: Grid, q_step: int, kv_step: int, drop_path: float):
        super().__init__()
        self.step, self.drop_path = q_step, drop_path
        self.norm1, self.norm2 = _Norm(inside), _Norm(width)
        self.attn = _Attention(inside, width, heads, grid, q_step, kv_step)
        self.mlp = nn.Sequential(_Linear(width, 4 * width), nn.GELU(), nn.Identity(), _Linear(4 * width, width))
        self.project = _Linear(inside, width) if inside != width else None

    def forward(self, rows: Tensor, batch: int, grid: Grid, dtype: torch.dtype) -> tuple[Tensor, Grid]:
        normed = self.norm1(rows).to(dtype)
        mixed, shrunk = self.attn(normed, batch, grid)
        skip = rows if self.project is None else self.project(normed).to(rows.dtype)
        if self.step > 1:
            patches = skip[batch:].view(batch * grid[0], grid[1], grid[2], -1).permute(0, 3, 1, 2)
            patches = F.max_pool2d(patches, self.step + 1, self.step, self.step // 2).permute(0, 2, 3, 1)
            skip = torch.cat([skip[:batch], patches.flatten(0, 2)])
        rows = skip + self._dropped(mixed, batch)
        return rows + self._dropped(self.mlp(self.norm2(rows).to(dtype)), batch), shrunk

    def _dropped(self, rows: Tensor, batch: int) -> Tensor:
        """Stochastic depth; here the rows of a clip do not stand together."""
        if not (self.training and self.drop_path):
            return rows
        kept = survivors(batch, self.drop_path, rows)[:, None]
        return rows * torch.cat([kept, kept.repeat_interleave((len(rows) - batch) // batch, 0)])


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer on rows (N, C)."""
    if x.is_cpu and x.dtype == torch.float32:
        # As a 1x1 convolution it is oneDNN's; `linear` is MKL's, which leaves half of an AMD processor unused.
        y = F.conv2d(x.view(1, len(x), 1, -1).permute(0, 3, 1, 2), weight[:, :, None, None], bias)
        return y.permute(0, 2, 3, 1).view(len(x), -1)
    return F.linear(x, weight, bias)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a scale: (B, queries, heads, D), (B, keys, heads, D), (B, keys, heads, C) to (B, queries, heads, C)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return (_in_parts(q, k, v) if q.is_cpu else _fused(q, k, v)).transpose(1, 2)


def _in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """For a CPU, whose fused kernel takes three times as long in bfloat16."""
    k = k.transpose(2, 3)
    queries = max(1, _SCORES // (k.shape[0] * k.shape[1] * k.shape[3]))
    return torch.cat([torch.softmax(part @ k, -1) @ v for part in q.split(queries, 2)], 2)


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """For a GPU, whose fused kernels want one width, a multiple of 8."""
    width = -(-q.shape[3] // 8) * 8
    q, k, padded = (F.pad(x, (0, width - x.shape[3])) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, padded, scale=1.0)[..., : v.shape[3]]


def _places(grid: Grid, like: Tensor) -> Tensor:
    """(1 + T H W, T + H + W): of each patch a 1 at its time, at its row and at its column; of the class token nothing."""
    index = torch.cartesian_prod(*(torch.arange(n, device=like.device) for n in grid)).unbind(1)
    ones = torch.cat(
        [torch.eye(n, dtype=like.dtype, device=like.device)[i] for n, i in zip(grid, index, strict=True)], 1
    )
    return F.pad(ones, (0, 0, 1, 0))


def _relative(table: Tensor, queries: int, keys: int) -> Tensor:
    """Rows of a table of relative positions for each query and key along one axis: (queries, keys, C)."""
    longest = max(queries, keys)
    table = _resized(table, 2 * longest - 1)
    query = torch.arange(queries, device=table.device)[:, None]
    key = keys - 1 - torch.arange(keys, device=table.device)
    return table[query * longest // queries + key * longest // keys]


def _resized(table: Tensor, length: int) -> Tensor:
    """A table of relative positions (n, C) for another number of them, by linear interpolation."""
    return table if len(table) == length else F.interpolate(table.T[None], size=length, mode="linear")[0].T


def _shrunk(length: int, step: int) -> int:
    """What a pooling kernel leaves that reaches one element (with `step` 4, three) over both ends."""
    return -(-length // step)


_RELATED: tuple[tuple[str, str], ...] = (  # what SlowFast and mmaction2 have in common
    (r"^pos_encoding\.class_token$", "cls_token"),
    (r"\.pool_([qkv])\.pool\.", r".pool_\1."),
    (r"\.pool_([qkv])\.norm_act\.0\.", r".norm_\1."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^(blocks\.\d+)\.project\.", r"\1.proj."),
    (r"\.attn\.project\.0\.", ".attn.proj."),
)
_FITS = (
    (r"^pos_encoding\.class_token$", lambda value, shape: value.flatten()),
    (r"\.rel_pos_[thw]$", lambda value, shape: _resized(value, shape[0]) if value.ndim == 2 else value),
)
_HEAD = "the classifier of its training set"
_TABLES = (
    KeyTable("torchvision", unused=((r"^head\.1\.", _HEAD),), fits=_FITS),
    KeyTable(
        "slowfast",
        (*_RELATED, (r"^conv_proj\.", "patch_embed.proj."), (r"^head\.1\.", "head.projection.")),
        unused=((r"^head\.projection\.", _HEAD),),
        fits=_FITS,
    ),
    KeyTable(
        "mmaction2",
        (
            *_RELATED,
            (r"^conv_proj\.", "patch_embed.projection."),
            (r"^norm\.", "norm3."),
            (r"^head\.1\.", "cls_head.fc_cls."),
            (r"^(?!cls_head)", "backbone."),
        ),
        unused=((r"^cls_head\.fc_cls\.", _HEAD),),
        fits=_FITS,
    ),
)
_STRANGERS = (
    Stranger(
        r"(^|\.)(cls_positional_encoding\.|pos_embed|pos_encoding\.(spatial|temporal|class)_pos)",
        "It has absolute positions, as MViT of version 1 has; choose a file of MViTv2",
    ),
    Stranger(
        r"^(backbone\.)?blocks\.(0|2|13)\.proj\.",
        "Its channels grow in the MLP, as in the MaskFeat variant; choose the MViTv2-S that was trained with labels",
    ),
    Stranger(r"^stages\.\d+\.blocks\.", "It is timm's network of pictures; choose an MViTv2 of video"),
)
