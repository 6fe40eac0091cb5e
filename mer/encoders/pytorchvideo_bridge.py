"""Video networks of pytorchvideo by the names of its hub: a bridge to a package that is installed apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.encoders import foreign
from mer.encoders.bridge import Bridge, in_time
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.spec import Face, InputSpec

_PYRAMIDS = ("c2d_r50", "i3d_r50", "slow_r50", "x3d_xs", "x3d_s", "x3d_m", "x3d_l", "csn_r101", "r2plus1d_r50")
_TWO_PATHWAYS = ("slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50")
_TRANSFORMERS = ("mvit_base_16x4", "mvit_base_32x3")
NETWORKS = (*_PYRAMIDS, *_TWO_PATHWAYS, *_TRANSFORMERS)
_HEADS = ("ResNetBasicHead", "PoolConcatPathway")  # what stands behind the last feature map


class PyTorchVideo(Bridge):
    """A network of pytorchvideo 0.1.5: C2D, I3D, Slow, SlowFast, X3D, CSN, R(2+1)D or MViT (its first version).

    The package is the extra `pytorchvideo`, and is imported when an encoder is built. It runs without torchvision, which only
    its detection heads need.

    Args:
        network: name in its hub, one of `NETWORKS`; built without weights.
        arguments: plain values that override what the hub builds it with, e.g. `{input_clip_length: 8}`.
        frames: frames of a window; a multiple of 4 for SlowFast, whose slow pathway sees every fourth.
        tokens: `temporal`, the mean over space at each time step of the last feature map; `cls`, MViT's class token (one
            per window).
        rate: frames per second.
        size: height and width of a frame in pixels.
        mean, std: per channel, of pixels in [0, 1]; what the package's own files were trained with by default.
        window: seconds the predictor shows at once.
        crop, face: see `InputSpec`.

    Tokens: (B, T, dim), as many per window of `frames` as the last feature map has time steps.
    """

    def __init__(
        self,
        network: str,
        arguments: dict[str, Any] | None = None,
        frames: int = 16,
        tokens: Literal["temporal", "cls"] = "temporal",
        rate: float = 7.5,
        size: int = 224,
        mean: tuple[float, ...] = (0.45, 0.45, 0.45),
        std: tuple[float, ...] = (0.225, 0.225, 0.225),
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        if tokens not in (("temporal", "cls") if network in _TRANSFORMERS else ("temporal",)):
            raise UserError(f"{network!r} has no tokens {tokens!r}", "Use temporal")
        if network in _TWO_PATHWAYS and frames % 4:
            raise UserError(f"{network!r} with windows of {frames} frames", "Use a multiple of 4")
        self.kind, self.tokens = network, tokens
        self.network = built(network, arguments or {})
        spec = InputSpec(
            "video",
            rate=rate,
            size=(size, size),
            mean=tuple(mean),
            std=tuple(std),
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.attach(spec, frames)

    def encode(self, window: Tensor) -> Tensor:
        clip = window.transpose(1, 2)  # (K, 3, F, H, W)
        if self.kind in _TWO_PATHWAYS:
            frames = clip.shape[2]
            slow = torch.linspace(0, frames - 1, frames // 4, device=clip.device).long()
            return in_time(self.network([clip[:, :, slow], clip]))
        answer = self.network(clip)
        if self.kind not in _TRANSFORMERS:
            return in_time(answer)
        if self.tokens == "cls":
            return answer[:, :1]
        grid: Any = self.network.cls_positional_encoding  # pooling leaves its time as it is
        return answer[:, int(grid.cls_embed_on) :].unflatten(1, (grid.patch_embed_shape[0], -1)).mean(2)

    def tables(self) -> Sequence[KeyTable]:
        head = rf"^blocks\.({'|'.join(str(n) for n in range(self.whole_blocks - 2, self.whole_blocks))})\."
        unused = r"^head\." if self.kind in _TRANSFORMERS else head
        return (KeyTable("pytorchvideo", unused=((unused, "a classifier"),)),)

    @property
    def whole_blocks(self) -> int:
        """Blocks of the network with its head; a head holds one of them, with the joining of pathways two."""
        blocks = self.network.blocks
        assert isinstance(blocks, nn.ModuleList)
        return len(blocks) + (2 if self.kind in _TWO_PATHWAYS else 1)


def built(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A network of pytorchvideo's hub without its head, with random weights.

    Raises:
        UserError: the package is absent or broken, the name is none of `NETWORKS`, or the network refuses its arguments.
    """
    if name not in NETWORKS:
        raise UserError(f"PyTorchVideo has no network {name!r}", f"Use one of {', '.join(NETWORKS)}")
    if wrong := [key for key in arguments if key in ("pretrained", "progress") or key.startswith("checkpoint")]:
        raise UserError(
            f"PyTorchVideo with the argument {wrong[0]!r}", "Leave it out; weights come from encoder_weights"
        )
    hub = foreign.pytorchvideo()
    if name in _TRANSFORMERS:
        arguments = {**arguments, "head": None}
    try:
        network: nn.Module = getattr(hub, name)(pretrained=False, progress=False, **_tuples(arguments))
    except Exception as error:  # each constructor checks its arguments in its own way
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"pytorchvideo's {name} refuses its arguments ({type(error).__name__}: {reason})", "Correct them"
        ) from None
    if name not in _TRANSFORMERS:
        blocks = list(network.blocks)  # type: ignore[arg-type]
        while type(blocks[-1]).__name__ in _HEADS:
            blocks.pop()
        network.blocks = nn.ModuleList(blocks)
    return network


def _tuples(value: Any) -> Any:
    """Lists of a config as the tuples that the constructors want; nothing but plain values passes."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(inner) for inner in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(f"PyTorchVideo with a {type(value).__name__} among its arguments", "Use plain values")
