"""MViTv2 that looks at optical flow (u, v, strain) in the place of colours."""

from __future__ import annotations

from typing import Any, Literal

from mer.encoders.flow import motion, moved
from mer.encoders.mvit import MViTv2
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

PIXEL = 0.45  # twice the deviation of pixels that Kinetics weights know: [-1, 1] becomes as wide as their [0, 1] was


class FlowMViT(MViTv2):
    """MViTv2-S over consecutive windows of 16 flow fields; takes the same published weights as `MViTv2`.

    The scale of the fields is fixed, see `mer.encoders.flow.motion`, and made as wide as that of pictures, since what can be
    loaded was trained on those. That choice is ours.

    Args:
        tokens: `cls`, `temporal`, `patch` or `all`, see `MViTv2`.
        rate: flow fields per second; None takes each frame of the file.
        augment: strength of the training augmentations, see `FlowNet`; 0 switches them off.
        backend: what computes the flow, see `InputSpec.backend`.
        size, frames, drop_path, checkpointing, frozen_blocks, width, depths, heads, kv_stride: see `MViTv2`.
        crop, face: see `InputSpec`.

    Tokens: (B, T, dim), dim 768; `temporal` at rate / 2 Hz.
    """

    def __init__(
        self,
        tokens: Literal["cls", "patch", "temporal", "all"] = "temporal",
        rate: float | None = 7.5,
        size: int = 224,
        frames: int = 16,
        drop_path: float = 0.2,
        checkpointing: bool = False,
        frozen_blocks: int = 0,
        augment: float = 1.0,
        backend: Literal["dis", "farneback", "tvl1"] = "dis",
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
        width: int = 96,
        depths: tuple[int, ...] = (1, 2, 11, 2),
        heads: int = 1,
        kv_stride: int = 8,
    ):
        super().__init__(
            tokens,
            rate,
            size=size,
            frames=frames,
            drop_path=drop_path,
            checkpointing=checkpointing,
            frozen_blocks=frozen_blocks,
            augment=0.0,  # that one changes colours
            width=width,
            depths=depths,
            heads=heads,
            kv_stride=kv_stride,
        )
        self.movement = augment
        self.spec = InputSpec(
            "flow",
            rate=rate,
            size=(size, size),
            window=frames / rate if rate else None,
            backend=backend,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )

    def forward(self, inputs: Sampled) -> Tokens:
        fields = motion(inputs) / PIXEL
        if self.training and self.movement:
            fields = moved(fields, self.movement)
        return super().forward(Sampled(fields, inputs.mask, inputs.spans))
