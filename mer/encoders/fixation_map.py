"""Where the eyes rested, as a picture: fixation maps through patches and a small transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mer.attention import SelfAttention
from mer.encoders.base import Encoder
from mer.encoders.eye_recording import EyeReader, Recording, stacked, tiles
from mer.errors import UserError
from mer.media.gaze_events import Label
from mer.media.screen import Screen
from mer.tokens import Sampled, Tokens


class FixationMap(Encoder):
    """Heat maps of fixations and pursuits per window of time, cut into patches, self-attention over the patches of a map.

    A map is a sum of Gaussians at the places that the eyes held on to, each weighted by the seconds it was held within the
    window, and sums to 1. A window without any has a map of zeros; how much of the window was held at all is told to every
    patch, so that an empty map is known as such. The network sees log(1 + map / its mean), as peaks are hundreds of means
    (our choice). Pursuits enter with the middle of their path.

    Args:
        screen: `{width_cm, height_cm, distance_cm, unit: px | norm, width_px, height_px}`, see `mer.media.screen`.
        gaze: names of the columns of the gaze point.
        rate: samples per second; None takes every sample of the file.
        length: seconds of a window.
        size: height and width of a map.
        patch: height and width of a patch.
        sigma: degrees, of the Gaussians; about what the fovea covers.
        tokens: `window` is the mean over a map's patches, `patch` is every patch.
        dim: width of the tokens.
        layers, heads: of the self-attention over patches.
        dropout: in the attention.
        detection: settings of `mer.media.gaze_events.Detection` that differ from the defaults.
        window: seconds the predictor shows at once.

    Tokens: (B, W, dim) at 1 / length Hz; or (B, W * patches, dim), the patches of a window, row by row, sharing its span.
    """

    def __init__(
        self,
        screen: Mapping[str, Any],
        gaze: Sequence[str] = ("gaze_x", "gaze_y"),
        rate: float | None = None,
        length: float = 2.0,
        size: int = 64,
        patch: int = 16,
        sigma: float = 1.0,
        tokens: Literal["window", "patch"] = "window",
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        detection: Mapping[str, Any] | None = None,
        window: float | None = 8.0,
    ):
        super().__init__()
        if size < 1 or patch < 1 or size % patch or length <= 0 or sigma <= 0 or dim < 1:
            raise UserError(
                f"FixationMap: size {size}, patch {patch}, length {length:g}, sigma {sigma:g}, dim {dim}",
                "Use positive sizes, and a size that patch divides",
            )
        if tokens not in ("window", "patch"):
            raise UserError(f"FixationMap has no tokens {tokens!r}", "Use window or patch")
        self.reader = EyeReader(screen, gaze, (), rate, detection, window)
        self.spec, self.dim, self.tokens = self.reader.spec, dim, tokens
        self.length, self.size, self.patch, self.sigma = length, size, patch, sigma
        self.output_rate = 1 / length
        self.embed = nn.Conv2d(1, dim, patch, stride=patch)
        self.held = nn.Linear(1, dim)
        self.position = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, dim))
        self.layers = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: Sampled) -> Tokens:
        maps, held, mask, spans = self.maps(inputs)
        patches = len(self.position) if self.tokens == "patch" else 1
        values = self.position.new_zeros((*mask.shape, patches, self.dim))
        if bool(mask.any()):
            encoded = self._encoded(maps[mask], held[mask])
            values = values.to(encoded.dtype).index_put((mask,), encoded)
        else:
            values = self.in_graph(values)
        again = {"repeats": patches, "dim": 1}
        return Tokens(values.flatten(1, 2), mask.repeat_interleave(**again), spans.repeat_interleave(**again))

    def maps(self, inputs: Sampled) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps (B, W, size, size), the share of each window that the eyes held on to anything (B, W), mask and spans."""
        clips = [None if r is None else self._of_clip(r) for r in self.reader.recordings(inputs)]
        shapes = ((self.size, self.size), (), (2,))
        (maps, held, spans), mask = stacked(clips, shapes, inputs.spans.device)
        return maps, held, mask, spans

    def _encoded(self, maps: Tensor, held: Tensor) -> Tensor:
        """(M, size, size) and (M,) to (M, patches or 1, dim)."""
        x = torch.log1p(maps * self.size**2)[:, None]
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position + self.held(held[:, None])[:, None]
        every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x = layer(x, every)
        x = self.norm(x)
        return x if self.tokens == "patch" else x.mean(1, keepdim=True)

    def _of_clip(self, clip: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(W, size, size), (W,) and (W, 2)."""
        windows = tiles(float(clip.spans[0, 0]), float(clip.spans[-1, 1]), self.length)
        found = self.reader.events(clip).of(Label.FIXATION, Label.PURSUIT)
        shared = np.minimum(found.end, windows[:, 1:]) - np.maximum(found.start, windows[:, :1])
        seconds = np.maximum(shared, 0)  # (W, events)
        places = self.reader.screen.looked_at(found.centre)
        maps = heat_maps(places, seconds, self.size, self.reader.screen, self.sigma)
        return maps, seconds.sum(1) / (windows[:, 1] - windows[:, 0]), windows


def heat_maps(places: np.ndarray, seconds: np.ndarray, size: int, screen: Screen, sigma: float) -> np.ndarray:
    """Sums of Gaussians, each map summing to 1; zeros where nothing on the screen was looked at.

    Args:
        places: (M, 2) in shares of the screen.
        seconds: (W, M) how long each counts in each window.
        size: height and width of a map, whatever the shape of the screen.
        sigma: degrees.

    Returns:
        (W, size, size), rows from the top.
    """
    reach = math.tan(math.radians(sigma)) * screen.distance_cm
    grid = (np.arange(size) + 0.5) / size
    # No narrower than half a pixel, or a small place between two pixels would vanish.
    x, y = (
        np.exp(-0.5 * ((grid - places[:, [axis]]) / max(reach / whole, 0.5 / size)) ** 2)
        for axis, whole in enumerate((screen.width_cm, screen.height_cm))
    )
    # Each place weighs the same however much of its Gaussian lies on the screen, unless almost nothing does.
    volume = y.sum(1) * x.sum(1)
    weights = seconds * (volume > 1e-3) / np.maximum(volume, 1e-3)
    maps = np.einsum("wm,my,mx->wyx", weights, y, x)
    total = maps.sum((1, 2), keepdims=True)
    return np.where(total > 0, maps / np.where(total > 0, total, 1), 0.0)
