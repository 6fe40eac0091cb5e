"""ResNet over single frames, in the layout of torchvision's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders.augment import augmented
from mer.encoders.base import Encoder
from mer.encoders.images import AT_ONCE
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

DEPTHS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # blocks of the four stages
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_HEAD = ((r"^fc\.", "the classifier of ImageNet"),)
_COUNTER = ((r"num_batches_tracked$", "older files have no counter of batches"),)
_EMERT = (
    (r"^subnet\.f_extractor\.fc\.", "a classifier that nothing reads"),
    (
        r"^(subnet\.([ev]_lstm|classifier)\.|proj_v1\.|specific_projection_[val]\.|invariant_projection\.|distriminator\.|"
        r"transformer\.|cls_head(_e|_in)?\.)",
        "other parts of EMERT",
    ),
)


class ResNet(Encoder):
    """ResNet-18, -34 or -50 and global average pooling over single frames, faces or whole pictures; no classifier.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016; of 50 layers as torchvision has it, with the stride in
    the 3x3 convolution. Frames do not see each other but through batch normalisation in training: real frames alone pass
    through the network. The face stream of EMERT is `segments: 8, size: 112, bgr: true, normalise: false, augment: 0`,
    from ImageNet's weights (`resnet18-5c106cde`).

    Args:
        depth: 18, 34 or 50.
        rate: frames per second taken from the video; None takes each frame once.
        segments: in place of a rate so many frames of the whole clip, however long it is; see `InputSpec`.
        size: height and width in pixels.
        bgr: channels go in as blue, green, red.
        normalise: take out the mean and deviation of ImageNet; without it pixels are in [0, 1].
        augment: strength of the training augmentations, see `FrameCNN`; 0 switches them off.
        window: seconds the predictor shows at once.
        crop: `center`, `none` or `face`, see `InputSpec.crop`.
        face: of crop `face`: how faces are found, see `mer.spec.Face`.
        width: channels of the first stage; 64 in every published file.

    Tokens: one per frame, (B, T, 8 * width), of 50 layers (B, T, 32 * width), at `rate` Hz or `segments` in all.
    """

    network: ResNetNetwork

    def __init__(
        self,
        depth: Literal[18, 34, 50] = 18,
        rate: float | None = 4.0,
        segments: int | None = None,
        size: int = 224,
        bgr: bool = False,
        normalise: bool = True,
        augment: float = 1.0,
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
        width: int = 64,
    ):
        super().__init__()
        if depth not in DEPTHS or width < 1 or size < 1:
            raise UserError(
                f"ResNet of depth {depth}, width {width}, size {size}",
                f"The depths are {', '.join(map(str, DEPTHS))}; width and size are at least 1",
            )
        rate = None if segments else rate
        self.spec = InputSpec(
            "video",
            rate=rate,
            segments=segments,
            size=(size, size),
            mean=_MEAN if normalise else None,
            std=_STD if normalise else None,
            window=window,
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.bgr, self.augment, self.output_rate = bgr, augment, rate
        self.network = ResNetNetwork(depth, width)
        self.dim = self.network.dim

    def forward(self, inputs: Sampled) -> Tokens:
        values = torch.zeros((*inputs.mask.shape, self.dim), device=inputs.values.device)
        if bool(inputs.mask.any()):
            frames = self._frames(inputs)
            # Batch statistics are of the whole batch; without them, parts need less memory.
            parts = (frames,) if self.training else frames.split(AT_ONCE)
            encoded = torch.cat([self.network(part) for part in parts])
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        return Tokens(values, inputs.mask, inputs.spans)

    def tables(self) -> Sequence[KeyTable]:
        remedies = ((r"", "Give the encoder the depth of the file"),)
        return (
            KeyTable("torchvision", unused=_HEAD, absent=_COUNTER, remedies=remedies),
            KeyTable("EMERT, face stream", ((r"^", "subnet.f_extractor."),), unused=_EMERT, remedies=remedies),
        )

    def _frames(self, inputs: Sampled) -> Tensor:
        """The real frames (K, 3, H, W), as the network wants them."""
        frames = inputs.values
        if self.training and self.augment:
            # The augmentations are made for [-1, 1].
            half = torch.where(inputs.mask[:, :, None, None, None], frames.float() / 127.5 - 1, 0.0)
            frames = (augmented(half, self.augment) + 1) * 127.5
        frames = self.normalised(frames[inputs.mask])
        return frames.flip(1) if self.bgr else frames


class ResNetNetwork(nn.Module):
    """The network up to the pooling, in the layout of torchvision's files.

    Args:
        depth: 18, 34 or 50.
        width: channels of the first stage.

    Attributes:
        dim: channels of the last stage.
    """

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inside, expansion = width, 4 if depth >= 50 else 1
        for stage, blocks in enumerate(DEPTHS[depth]):
            channels, layers = width << stage, []
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(_Block(inside, channels, expansion, stride))
                inside = channels * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.dim = inside
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(K, 3, H, W) to (K, dim)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean((2, 3))


class _Block(nn.Module):
    """Two 3x3 convolutions, or with an expansion 1x1, 3x3, 1x1, beside a short cut."""

    def __init__(self, inside: int, channels: int, expansion: int, stride: int):
        super().__init__()
        outside = channels * expansion
        sizes = (3, 3) if expansion == 1 else (1, 3, 1)
        widths = (inside, *[channels] * (len(sizes) - 1), outside)
        self.count = len(sizes)
        for i, size in enumerate(sizes):
            # The first 3x3 has the stride.
            step = stride if i == sizes.index(3) else 1
            conv = nn.Conv2d(widths[i], widths[i + 1], size, stride=step, padding=size // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))
