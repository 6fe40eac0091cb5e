"""SwinFace: one Swin transformer for identity, expression, age and attributes of a face (Qin et al., TCSVT 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders import weights
from mer.encoders.augment import augmented
from mer.encoders.base import Encoder
from mer.encoders.stochastic_depth import thinned
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

AT_ONCE = 64  # faces that go through the network together outside of training; more costs memory and wins nothing
EXPRESSIONS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Anger", "Neutral")

# What each of the eleven branches tells, in the published file's order of branches and outputs. The names are ours.
BRANCHES: dict[str, tuple[str, ...]] = {
    "gender": ("gender",),
    "age": ("age", "young"),
    "expression": ("expression", "smiling"),
    "face": ("attractive", "blurry", "chubby", "heavy_makeup", "oval_face", "pale_skin"),
    "hair": (
        *("bald", "bangs", "black_hair", "blond_hair", "brown_hair", "gray_hair"),
        *("receding_hairline", "straight_hair", "wavy_hair", "wearing_hat"),
    ),
    "eyes": ("arched_eyebrows", "bags_under_eyes", "bushy_eyebrows", "eyeglasses", "narrow_eyes"),
    "nose": ("big_nose", "pointy_nose"),
    "cheeks": ("high_cheekbones", "rosy_cheeks", "wearing_earrings", "sideburns"),
    "mouth": ("five_oclock_shadow", "big_lips", "mouth_slightly_open", "mustache", "wearing_lipstick", "no_beard"),
    "chin": ("double_chin", "goatee"),
    "neck": ("wearing_necklace", "wearing_necktie"),
}
OUTPUTS = tuple(output for outputs in BRANCHES.values() for output in outputs)

_NUMBERED = (
    *((rf"^(fam|tss)\.{name}\.", rf"\1.nets.{index}.") for index, name in enumerate(BRANCHES)),
    *((rf"^om\.{name}\.", f"om.output_fcs.{index}.") for index, name in enumerate(OUTPUTS)),
    (r"^(fam\.nets\.\d+)\.convs\.", r"\1.conv.convs."),
    (r"^(fam\.nets\.\d+)\.gate\.0\.", r"\1.channel_attention.mlp.1."),
    (r"^(fam\.nets\.\d+)\.gate\.2\.", r"\1.channel_attention.mlp.3."),
)
TABLES = tuple(
    weights.KeyTable(
        name,
        pairs=(*_NUMBERED, (r"^(backbone|fam|tss|om)\.", rf"state_dict_\1.{module}")),
        unused=(
            (r"^state_dict_softmax_fc\b", "the identities that were trained on"),
            (r"^state_(optimizer|lr_scheduler)\.", "state of the training"),
        ),
    )
    for name, module in (("swinface", ""), ("swinface saved from parallel modules", "module."))
)


def classes(output: str) -> tuple[str, ...]:
    """Names of an output's numbers, in order. `age` is one number as the network gives it; all others are logits."""
    named = {"gender": ("female", "male"), "age": ("age",), "expression": EXPRESSIONS}
    return named.get(output, ("no", "yes"))


class SwinFace(Encoder):
    """A Swin transformer over single faces, with those of its branches (expression, age, attributes) that are wanted.

    Frames do not see each other: real ones alone pass through the network. In the published size (Swin-T with patches of
    2 pixels) a face costs 4.5 GMACs, so that a few faces a second are what a CPU can do. What the tokens do not depend on
    (the outputs, further branches, the identity layers unless tokens are `id`) does not train.

    Args:
        tokens: `expr`: the features that the expression is read from, one token per face. `id`: the embedding that people
            are recognised by, one per face. `grid`: the last feature map, a token per place, in rows, each with the span
            of its face.
        local: of `grid`: put the maps of the earlier stages, pooled, before the last one's channels.
        branches: names from `BRANCHES` to build; `expr` needs `expression`. A file of weights is checked whole in any case.
        rate: faces per second taken from the video.
        face: how faces are found, see `mer.spec.Face`; aligned to ArcFace's template unless `align` says otherwise.
        window: seconds the predictor shows at once.
        augment: strength of the training augmentations, see `FrameCNN`; 0 switches them off.
        drop_path: rate of stochastic depth in the last block; it grows linearly from 0 in the first one.
        size: height and width in pixels.
        embed, depths, heads: of the transformer: width of its first stage, blocks and attention heads per stage.
        patch, area: side of a patch in pixels, side of an attention window in patches.
        width: of the branches' features and of the embedding.

    Tokens: (B, T, D), `rate` faces a second where the face is seen; `expr` and `id` D = 512; `grid` 49 per face with
    D = 768, or 2112 with `local`.

    Raises:
        UserError: an unknown branch, or sizes that do not fit each other.
    """

    network: SwinFaceNetwork

    def __init__(
        self,
        tokens: Literal["expr", "id", "grid"] = "expr",
        local: bool = False,
        branches: tuple[str, ...] = ("expression",),
        rate: float = 5.0,
        face: dict[str, Any] | None = None,
        window: float | None = 4.0,
        augment: float = 1.0,
        drop_path: float = 0.1,
        size: int = 112,
        embed: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        patch: int = 2,
        area: int = 7,
        width: int = 512,
    ):
        super().__init__()
        if tokens not in ("expr", "id", "grid") or rate <= 0:
            raise UserError(f"SwinFace: tokens {tokens!r} at {rate:g} Hz", "Use expr, id or grid, and a rate above 0")
        if tokens == "expr" and "expression" not in branches:
            raise UserError("SwinFace: tokens 'expr' without the branch 'expression'", "Name it in branches")
        half = (0.5, 0.5, 0.5)
        self.spec = InputSpec(
            "video",
            rate=rate,
            size=(size, size),
            mean=half,
            std=half,
            crop="face",
            face=Face.from_dict({"align": "arcface", **(face or {})}),
            window=window,
        )
        self.sizes = (size, embed, depths, heads, patch, area, width)
        self.network = SwinFaceNetwork(*self.sizes, drop_path=drop_path, branches=branches)
        self.tokens, self.local, self.augment, self.output_rate = tokens, local, augment, rate
        dims = self.network.backbone.dims
        self.dim = width if tokens != "grid" else sum(dims) if local else dims[-1]
        self.places = self.network.backbone.side**2 if tokens == "grid" else 1
        self.network.requires_grad_(False)
        for part in self._needed():
            part.requires_grad_(True)

    def _needed(self) -> list[nn.Module]:
        """What the tokens depend on."""
        network, backbone = self.network, self.network.backbone
        parts: dict[str, list[nn.Module]] = {"grid": [], "id": [backbone.norm, backbone.feature]}
        if self.tokens == "expr":
            parts["expr"] = [network.fam["expression"], network.tss["expression"]]
        return [backbone.patch_embed, backbone.layers, *parts[self.tokens]]

    def tables(self) -> Sequence[weights.KeyTable]:
        return TABLES

    def whole(self) -> SwinFaceNetwork:
        with torch.device("meta"):
            return SwinFaceNetwork(*self.sizes)

    def forward(self, inputs: Sampled) -> Tokens:
        values = self._each(inputs, self._encode, (self.places, self.dim))
        if self.training and not bool(inputs.mask.any()):  # the parameters stay in the graph, as DDP wants
            values = self.in_graph(values)
        mask, spans = (x.repeat_interleave(self.places, dim=1) for x in (inputs.mask, inputs.spans))
        return Tokens(values.flatten(1, 2), mask, spans)

    def outputs(self, inputs: Sampled) -> dict[str, Tensor]:
        """What the built branches say: by name (of `OUTPUTS`) (B, N, numbers) in the order of `classes`, 0 where padded.

        The last layers of the branches do not train along when the rest is fine-tuned.
        """
        names = [output for branch in self.network.branches for output in BRANCHES[branch]]
        sizes = [len(classes(name)) for name in names]
        joined = self._each(inputs, lambda faces: torch.cat(list(self.network(faces).values()), dim=1), (sum(sizes),))
        return dict(zip(names, joined.split(sizes, dim=2), strict=True))

    def probabilities(self, inputs: Sampled) -> Tensor:
        """(B, N, 7) float32 probabilities of `EXPRESSIONS`, 0 where padded.

        Raises:
            UserError: the branch `expression` was not built.
        """
        if "expression" not in self.network.branches:
            raise UserError("SwinFace was built without the branch 'expression'", "Name it in branches")
        return self.outputs(inputs)["expression"].float().softmax(2) * inputs.mask[..., None]

    def _encode(self, faces: Tensor) -> Tensor:
        """(n, 3, H, W) to (n, places, dim)."""
        maps = self.network.backbone(faces)
        if self.tokens == "expr":
            return self.network.features("expression", maps)[:, None]
        if self.tokens == "id":
            return self.network.backbone.identity(maps[-1])[:, None]
        return torch.cat(maps, dim=2) if self.local else maps[-1]

    def _each(self, inputs: Sampled, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
        """(B, N, *shape): what a function of faces (n, 3, H, W) makes of the real ones; 0 where padded."""
        values = torch.zeros(*inputs.mask.shape, *shape, device=inputs.values.device)
        if bool(inputs.mask.any()):
            frames = self.pixels(inputs)
            if self.training and self.augment:
                frames = augmented(frames, self.augment)
            real = frames[inputs.mask]
            # In training, batch normalisation takes its statistics of all faces.
            made = torch.cat([function(some) for some in ([real] if self.training else real.split(AT_ONCE))])
            values = values.to(made.dtype).index_put((inputs.mask,), made)
        return values


class SwinFaceNetwork(nn.Module):
    """The published network: a backbone, and per branch a part that selects features (`fam`), one that refines them (`tss`)
    and one layer per output (`om`). What belongs to other branches is not built.
    """

    def __init__(
        self,
        size: int = 112,
        embed: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        patch: int = 2,
        area: int = 7,
        width: int = 512,
        drop_path: float = 0.0,
        branches: Iterable[str] = tuple(BRANCHES),
    ):
        super().__init__()
        self.branches = tuple(branches)
        if unknown := [name for name in self.branches if name not in BRANCHES]:
            raise UserError(f"SwinFace has no branch {unknown[0]!r}", f"It has {', '.join(BRANCHES)}")
        self.backbone = Backbone(size, embed, depths, heads, patch, area, width, drop_path)
        self.fam = nn.ModuleDict({name: Selection(self.backbone.dims, width) for name in self.branches})
        self.tss = nn.ModuleDict({name: Refinement(width) for name in self.branches})
        outputs = [output for name in self.branches for output in BRANCHES[name]]
        self.om = nn.ModuleDict({output: nn.Linear(width, len(classes(output))) for output in outputs})

    def features(self, branch: str, maps: Sequence[Tensor]) -> Tensor:
        """(n, width) of a branch, from the maps of the backbone."""
        return self.tss[branch](self.fam[branch](maps))

    def forward(self, faces: Tensor) -> dict[str, Tensor]:
        """(n, 3, H, W) in [-1, 1] to the outputs of all built branches: by name (n, numbers)."""
        maps = self.backbone(faces)
        features = {name: self.features(name, maps) for name in self.branches}
        return {output: self.om[output](x) for name, x in features.items() for output in BRANCHES[name]}


class Backbone(nn.Module):
    """Swin transformer (Liu et al., ICCV 2021) that shows the maps of all its stages.

    Attributes:
        dims: channels of the maps it gives: one per stage but the last, taken after the merging that follows it and pooled
            to the last grid, and the last stage's.
        side: of the last grid.
    """

    def __init__(
        self,
        size: int,
        embed: int,
        depths: Sequence[int],
        heads: Sequence[int],
        patch: int,
        area: int,
        width: int,
        drop_path: float,
    ):
        super().__init__()
        stages = len(depths)
        if min((patch, area, embed, width, stages, *depths, *heads)) < 1 or not 0 <= drop_path < 1:
            raise UserError(
                f"SwinFace: patches of {patch}, windows of {area}, widths {embed} and {width}, depths {tuple(depths)}, heads "
                f"{tuple(heads)}, drop_path {drop_path:g}",
                "Use sizes of at least 1, and drop_path below 1",
            )
        self.side = size // patch >> (stages - 1)
        if (
            len(heads) != stages
            or self.side < area
            or self.side % area
            or size % (patch << (stages - 1))
            or any((embed << stage) % count for stage, count in enumerate(heads))
        ):
            raise UserError(
                f"SwinFace: {size} pixels in patches of {patch}, windows of {area}, {stages} stages from width {embed} on",
                "The last stage's grid must divide into windows, and each width by the heads of its stage",
            )
        self.patch_embed = _Patches(embed, patch)
        rates = [drop_path * block / max(1, sum(depths) - 1) for block in range(sum(depths))]
        self.layers = nn.ModuleList()
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            grid = size // patch >> stage
            own = [rates.pop(0) for _ in range(depth)]
            self.layers.append(_Stage(embed << stage, grid, own, count, area, merge=stage < stages - 1))
        dim = embed << (stages - 1)
        self.dims = (*(embed << stage for stage in range(1, stages)), dim)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, width)  # stands in the published file; nothing passes through it
        self.feature = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            _BatchNorm(dim),
            nn.Linear(dim, width, bias=False),
            _BatchNorm(width),
        )
        self.apply(_initialise)

    def forward(self, faces: Tensor) -> list[Tensor]:
        """(n, 3, H, W) to the maps (n, side * side, channels), places in rows."""
        x = self.patch_embed(faces)
        maps = []
        for stage in self.layers:
            x = stage(x)
            grid = int(x.shape[1] ** 0.5)
            picture = x.transpose(1, 2).unflatten(2, (grid, grid))  # channels last in memory
            step = grid // self.side
            maps.append(x if step == 1 else F.avg_pool2d(picture, step).flatten(2).transpose(1, 2))
        return maps

    def identity(self, last: Tensor) -> Tensor:
        """(n, width) embedding from the last map."""
        return self.feature(self.norm(last).mean(1))


class _Patches(nn.Module):
    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, faces: Tensor) -> Tensor:
        return self.norm(self.proj(faces).flatten(2).transpose(1, 2))


class _Stage(nn.Module):
    """Blocks on one grid. Within, places are in the order of the windows, so that a window is a plain view."""

    windows: Tensor
    rows: Tensor

    def __init__(self, dim: int, grid: int, rates: Sequence[float], heads: int, area: int, merge: bool):
        super().__init__()
        shift = area // 2 if grid > area else 0
        self.blocks = nn.ModuleList(
            _Block(dim, grid, heads, area, shift * (index % 2), rate) for index, rate in enumerate(rates)
        )
        self.register_buffer("windows", _in_windows(grid, area), persistent=False)
        self.register_buffer("rows", self.windows.argsort(), persistent=False)
        self.downsample = _Merging(dim, grid) if merge else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, places, dim) to the same, or to a quarter of the places with twice the width; both in rows."""
        x = x.index_select(1, self.windows)
        for block in self.blocks:
            x = block(x)
        return self.downsample(x.index_select(1, self.rows))


class _Merging(nn.Module):
    """Four neighbours into one place of twice the width."""

    def __init__(self, dim: int, grid: int):
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        half = self.grid // 2
        x = x.view(len(x), half, 2, half, 2, -1).permute(0, 1, 3, 4, 2, 5)  # the lower neighbour before the right one
        return self.reduction(self.norm(x.reshape(len(x), half * half, -1)))


class _Block(nn.Module):
    """Attention within windows, which half of the blocks shift, and an MLP."""

    attn_mask: Tensor
    there: Tensor
    back: Tensor

    def __init__(self, dim: int, grid: int, heads: int, area: int, shift: int, drop_path: float):
        super().__init__()
        self.shift, self.drop_path = shift, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = _Attention(dim, heads, area)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        if shift:
            unshifted = _in_windows(grid, area)
            self.register_buffer("there", unshifted.argsort()[_in_windows(grid, area, shift)], persistent=False)
            self.register_buffer("back", self.there.argsort(), persistent=False)
            # A shifted window at the edge holds parts of the picture that are not neighbours.
            part = torch.tensor([int(place >= grid - area) + int(place >= grid - shift) for place in range(grid)])
            parts = (3 * part[:, None] + part).flatten()[unshifted].view(-1, area * area)
            self.register_buffer("attn_mask", (parts[:, None] != parts[:, :, None]) * -100.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.shift:
            y = self.attn(y.index_select(1, self.there), self.attn_mask).index_select(1, self.back)
        else:
            y = self.attn(y)
        x = x + self._kept(y)
        return x + self._kept(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))

    def _kept(self, branch: Tensor) -> Tensor:
        return thinned(branch, self.drop_path, self.training)


class _Attention(nn.Module):
    """Self-attention within windows, with a learnt bias per head and relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, area: int):
        super().__init__()
        self.heads, self.places = heads, area * area
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * area - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        row, column = (places.flatten() for places in torch.meshgrid(*[torch.arange(area)] * 2, indexing="ij"))
        down, right = (places[:, None] - places + area - 1 for places in (row, column))
        self.register_buffer("relative_position_index", down * (2 * area - 1) + right)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, windows * places, dim), and a mask (windows, places, places) to add to the scores."""
        index = self.relative_position_index
        bias = self.relative_position_bias_table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(x), 1, 1, 1)
        # (n * windows, heads, places, dim / heads) each
        q, k, v = self.qkv(x).view(-1, self.places, 3, self.heads, x.shape[2] // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(y.transpose(1, 2).reshape(x.shape))


class Selection(nn.Module):
    """What of the maps matters to one branch: a convolution per map, channel attention (Woo et al., CBAM, ECCV 2018), the
    maximum over places. The paper's multi-level channel attention.
    """

    def __init__(self, dims: Sequence[int], width: int):
        super().__init__()
        shares = [round(width * dim / sum(dims)) for dim in dims[:-1]]
        shares.append(width - sum(shares))
        self.convs = nn.ModuleList(
            nn.Conv2d(dim, share, 3, padding=1, bias=False) for dim, share in zip(dims, shares, strict=True)
        )
        hidden = max(1, width // 16)
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norm = _BatchNorm(width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (n, side * side, channels) to (n, width)."""
        side = int(maps[0].shape[1] ** 0.5)
        pictures = (x.transpose(1, 2).unflatten(2, (side, side)) for x in maps)  # channels last in memory
        x = torch.cat([conv(picture) for conv, picture in zip(self.convs, pictures, strict=True)], dim=1)
        mean, largest = x.mean((2, 3)), x.amax((2, 3))
        weight = torch.sigmoid(self.gate(mean) + self.gate(largest))
        # Published are weighting, ReLU, maximum; as no weight is negative, the maximum may come first.
        return self.norm(F.relu(largest * weight))


class Refinement(nn.Module):
    """Two layers of one branch's own: the paper's task-specific subnet."""

    def __init__(self, width: int):
        super().__init__()
        layers = [[nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5)] for _ in range(2)]
        self.feature = nn.Sequential(*layers[0], *layers[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.feature(x)


class _BatchNorm(nn.BatchNorm1d):
    """A training batch that is one face has no variance; for it, the statistics of earlier batches are taken."""

    def __init__(self, dim: int):
        super().__init__(dim, eps=2e-5)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _in_windows(grid: int, area: int, shift: int = 0) -> Tensor:
    """Places of a grid, numbered in rows, in the order of its windows; with a shift, of windows so far down and right."""
    places = torch.arange(grid * grid).view(grid, grid).roll((-shift, -shift), (0, 1))
    return places.view(grid // area, area, grid // area, area).transpose(1, 2).flatten()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
