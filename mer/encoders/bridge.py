"""What the bridges to other packages share: windows of a fixed number of elements, and feature maps made into tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mer.encoders.base import Encoder
from mer.encoders.measure import measure
from mer.encoders.windows import cut, spread
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

AT_ONCE = 8  # windows that go through a network together


class Bridge(Encoder):
    """A network of another package, over consecutive windows of a clip.

    Such networks know no masks, so that each window is seen full: the last one repeats its last element, and of its tokens
    those are kept that stand for something real.
    """

    def attach(self, spec: InputSpec, frames: int) -> None:
        """Called last in `__init__`, when `network` is built.

        Args:
            spec: of the input.
            frames: elements of a window.

        Raises:
            UserError: the network takes no such window.
        """
        if frames < 1:
            raise UserError(f"windows of {frames} frames", "Use 1 or more")
        self.spec, self.frames = spec, frames
        _, self.steps, self.dim = measure(self, self.encode, (1, frames, *spec.item_shape()))
        self.output_rate = spec.rate * self.steps / frames if spec.rate and frames % self.steps == 0 else None

    def encode(self, window: Tensor) -> Tensor:
        """Normalised windows (K, frames, ...) to tokens (K, steps, dim)."""
        raise TypeError(f"{type(self).__name__} does not implement encode")

    def prepared(self, window: Tensor) -> Tensor:
        """What `encode` takes of what the spec gives; pixels are normalised."""
        return self.normalised(window)

    def forward(self, inputs: Sampled) -> Tokens:
        windows = cut(inputs, self.frames)
        if len(windows.counts):
            parts = [self.encode(self.prepared(part)) for part in windows.values.split(AT_ONCE)]
            return spread(torch.cat(parts), windows, inputs)
        values = torch.zeros((0, self.steps, self.dim), device=inputs.values.device)
        values = self.in_graph(values)
        return spread(values, windows, inputs)


def in_time(answer: Any) -> Tensor:
    """What a video network answers, as (K, steps, dim): the mean over space.

    Args:
        answer: (K, C, T, H, W); (K, C), one token for the window; or a sequence of these, pathways that are brought to
            the coarsest time and joined (as the head of SlowFast joins them).

    Raises:
        ValueError: something else.
    """
    if isinstance(answer, Tensor) and answer.ndim == 5:
        return answer.mean((3, 4)).transpose(1, 2)
    if isinstance(answer, Tensor) and answer.ndim == 2:
        return answer[:, None]
    if isinstance(answer, Iterable) and not isinstance(answer, (Tensor, str)):
        paths = [in_time(path) for path in answer]
        steps = min(path.shape[1] for path in paths)
        coarse = [torch.nn.functional.adaptive_avg_pool1d(path.transpose(1, 2), steps) for path in paths]
        return torch.cat(coarse, dim=1).transpose(1, 2)
    raise ValueError(f"neither a feature map over time nor a vector: {getattr(answer, 'shape', type(answer))}")
