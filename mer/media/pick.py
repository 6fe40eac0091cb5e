"""A fixed number of frames from a stretch of all of them, as `InputSpec.segments` asks."""

from __future__ import annotations

import numpy as np
import torch

from mer.media.sampling import Draw, chosen
from mer.spec import InputSpec
from mer.tokens import Sampled


def pick(sampled: Sampled, spec: InputSpec, seed: Draw = None) -> Sampled:
    """Choose the frames that preparing the same stretch with `spec` would have taken.

    Args:
        sampled: B = 1, prepared with `spec.dense()`, or a part of that; unchanged where `spec` wants no fixed number.
        spec: the encoder's declaration.
        seed: in training, of the random places; or one of several views; None takes the middles.

    Where a face was not seen, frames are chosen among those that show one.
    """
    if spec.segments is None or not bool(sampled.mask.any()):
        return sampled
    index, spans = chosen(sampled.spans[0, sampled.mask[0]].numpy(), spec, seed)
    values = sampled.values[:, torch.from_numpy(index)]
    mask = torch.ones((1, len(index)), dtype=torch.bool)
    return Sampled(values, mask, torch.from_numpy(spans.astype(np.float32))[None])
