"""Training augmentations of frames that every encoder of pictures shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augmented(frames: Tensor, strength: float) -> Tensor:
    """Mirror, light and colour, and a shift and zoom of up to 10 %: one draw per clip (B, N, 3, H, W).

    Args:
        frames: normalised, float.
        strength: 1 for what is said above; 0 leaves only the mirror.
    """
    batch, count = frames.shape[:2]

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(batch, *shape, device=frames.device) - 1) * strength

    frames = frames * (1 + 0.2 * uniform(1, 1, 1, 1)) + 0.2 * uniform(1, 1, 1, 1) + 0.1 * uniform(1, 3, 1, 1)
    mirror = (torch.rand(batch, device=frames.device) < 0.5).float() * -2 + 1
    zoom = 1 + 0.1 * uniform()
    zero = torch.zeros_like(zoom)
    rows = [torch.stack([mirror * zoom, zero, 0.1 * uniform()], 1), torch.stack([zero, zoom, 0.1 * uniform()], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [batch, 1, *frames.shape[-2:]], align_corners=False)
    flat = F.grid_sample(frames.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    return flat.unflatten(1, (count, 3))
