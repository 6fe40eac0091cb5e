"""A small convolutional network over single frames: faces or whole pictures, one token each."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from mer.encoders.augment import augmented
from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens


class FrameCNN(Encoder):
    """Strided 3x3 convolutions with batch normalisation, average pooling over quarters of the picture, a linear layer.

    Frames do not see each other, so padding needs no care: real frames alone pass through the network.

    Args:
        dim: width of the tokens.
        rate: frames per second taken from the video.
        segments: in place of a rate so many frames of the whole clip, however long it is; see `InputSpec`.
        size: height and width in pixels.
        channels: output channels of the convolutions; each halves the picture.
        dropout: on the pooled channels.
        augment: strength of the training augmentations (mirror, brightness, contrast, colour, shift; the same for all
            frames of a clip); 0 switches them off.
        window: seconds the predictor shows at once.
        crop: `center`, `none` or `face`, see `InputSpec.crop`.
        face: of crop `face`: how faces are found, e.g. `{detector: mediapipe, align: arcface}`; see `mer.spec.Face`.

    Tokens: one per frame, (B, T, dim) at `rate` Hz or `segments` in all; with faces, one per frame that shows a face.
    """

    def __init__(
        self,
        dim: int = 128,
        rate: float = 8.0,
        size: int = 64,
        channels: tuple[int, ...] = (16, 32, 64, 96),
        dropout: float = 0.1,
        augment: float = 1.0,
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
        segments: int | None = None,
    ):
        super().__init__()
        if rate <= 0 or size >> len(channels) < 1:
            raise UserError(
                f"FrameCNN at {rate:g} Hz, {size} pixels halved {len(channels)} times", "Use a larger size or rate"
            )
        # mean and std put pixels into [-1, 1]
        half = (0.5, 0.5, 0.5)
        self.spec = InputSpec(
            "video",
            rate=None if segments else rate,
            segments=segments,
            size=(size, size),
            mean=half,
            std=half,
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.dim, self.output_rate, self.augment = dim, None if segments else rate, augment
        layers: list[nn.Module] = []
        for inside, outside in zip((3, *channels[:-1]), channels, strict=True):
            layers += [
                nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outside),
                nn.ReLU(inplace=True),
            ]
        self.stem = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(2)  # coarse place is kept: a mouth is not an eyebrow
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels[-1], dim), nn.LayerNorm(dim))

    def forward(self, inputs: Sampled) -> Tokens:
        frames = self.pixels(inputs)
        if self.training and self.augment:
            frames = augmented(frames, self.augment)
        values = frames.new_zeros((*inputs.mask.shape, self.dim))
        if bool(inputs.mask.any()):
            encoded = self.out(self.pool(self.stem(frames[inputs.mask])).flatten(1))
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        return Tokens(values, inputs.mask, inputs.spans)
