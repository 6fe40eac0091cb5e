"""Masked autoencoders' vision transformers: MAE-Face over pictures of faces, AudioMAE over sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders import weights
from mer.encoders.augment import augmented
from mer.encoders.base import Encoder
from mer.encoders.vit import BESIDES, VisionTransformer, position_fit
from mer.errors import UserError
from mer.media.kaldi import filterbank, frame_count, frame_sizes, log_fbank
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Mean and deviation of a log-mel over AudioSet; the deviation is taken twice, after AST (Gong et al., Interspeech 2021).
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974
FRAMES_PER_SECOND = 100
AT_ONCE = 64  # pictures that go through a network together; more costs memory and wins nothing
JOINT_FILE = weights.Stranger(
    r"^(image_encoder|audio_model)\.", "It is MMA-DFER's: use mer.encoders.MMADFER, which holds this network"
)


class MAEFace(Encoder):
    """ViT-B/16 trained to restore masked faces (Ma et al., arXiv 2210.15878; CVPR workshops 2023), frame by frame.

    Frames do not see each other: real frames alone pass through the network. 86 M parameters, 17 GMACs a face.

    Args:
        tokens: `cls` gives the class token, one per frame; `mean` the mean of the patches' tokens, one per frame; `patches`
            each patch's token, row by row, all with the frame's span.
        rate: frames per second taken from the video.
        crop, face: see `InputSpec`; frames that are faces already want crop `none`.
        mean, std: of a pixel in [0, 1]. The authors name none; ImageNet's are those of the autoencoder that it follows
            (He et al., CVPR 2022). MMA-DFER feeds the same weights with 0 and 1.
        window: seconds the predictor shows at once.
        frozen: first blocks that do not train, and the patches and positions with them; all of them freezes the network.
        drop_path: rate of stochastic depth in the last block; it falls linearly to 0 in the first one.
        checkpointing: in training, compute blocks again in the backward pass instead of keeping what is in them.
        augment: strength of the training augmentations, see `FrameCNN`; 0 switches them off.
        size: height and width in pixels; positions of a file for another size are resized.
        dim, depth, heads, patch: of the transformer.

    Tokens: (B, T, dim) at `rate` Hz; with `patches` (B, T * (size / patch)^2, dim).

    Raises:
        UserError: sizes that do not fit each other.
    """

    network: VisionTransformer

    def __init__(
        self,
        tokens: Literal["cls", "mean", "patches"] = "cls",
        rate: float = 4.0,
        crop: Literal["center", "none", "face"] = "face",
        face: dict[str, Any] | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        window: float | None = 4.0,
        frozen: int = 0,
        drop_path: float = 0.1,
        checkpointing: bool = False,
        augment: float = 1.0,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
    ):
        super().__init__()
        if tokens not in ("cls", "mean", "patches") or rate <= 0:
            raise UserError(
                f"MAEFace with tokens {tokens!r} at {rate:g} Hz", "Use cls, mean or patches, a rate above 0"
            )
        self.spec = InputSpec(
            "video",
            rate=rate,
            size=(size, size),
            mean=tuple(mean),
            std=tuple(std),
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
            window=window,
        )
        self.tokens, self.augment, self.dim, self.output_rate = tokens, augment, dim, rate
        self.network = VisionTransformer(
            (size, size), patch, 3, dim, depth, heads, drop_path=drop_path, checkpointing=checkpointing
        )
        self.network.freeze(frozen)

    def tables(self) -> Sequence[weights.KeyTable]:
        return (weights.KeyTable("mae", unused=BESIDES, fits=(position_fit(self.network.grid),)),)

    def strangers(self) -> Sequence[weights.Stranger]:
        return (JOINT_FILE,)

    def forward(self, inputs: Sampled) -> Tokens:
        per_frame = math.prod(self.network.grid) if self.tokens == "patches" else 1
        values = inputs.values.new_zeros((*inputs.mask.shape, per_frame, self.dim), dtype=torch.float32)
        if bool(inputs.mask.any()):
            frames = self.pixels(inputs)
            if self.training and self.augment:
                frames = augmented(frames, self.augment)
            encoded = torch.cat([self._pick(self.network(some)) for some in frames[inputs.mask].split(AT_ONCE)])
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        spans, mask = (x.repeat_interleave(per_frame, dim=1) for x in (inputs.spans, inputs.mask))
        return Tokens(values.flatten(1, 2), mask, spans)

    def _pick(self, x: Tensor) -> Tensor:
        """(M, 1 + patches, dim) to what is kept of it, (M, tokens per frame, dim)."""
        if self.tokens == "cls":
            return x[:, :1]
        return x[:, 1:] if self.tokens == "patches" else x[:, 1:].mean(1, keepdim=True)


class AudioMAE(Encoder):
    """ViT-B/16 trained to restore masked log-mel spectrograms (Huang et al., NeurIPS 2022).

    A spectrogram of 100 frames a second is cut into patches of 16 frames by 16 bands. Clips longer than `window` pass in
    pieces of that length; a shorter one uses the first positions and attends to its own patches alone, so that padding
    changes nothing. A window of sound gives exactly what the published network gives.

    The sound is taken at `rate` and mixed to one channel; published features were often made at the file's own rate, from
    its first channel. Filters follow the rate, so that `rate: 44100` gives a corpus of such files those features, and the
    published weights were trained at 16 kHz.

    Args:
        tokens: `time` gives the mean over frequency of the patches of one moment, 160 ms each; `cls` the class token, one
            per window.
        window: seconds the network sees at once, and the predictor shows; 10.24 as published. Positions of a file for
            another length are resized.
        fill: show a clip that is shorter than the window the silence behind it, as published. Padding changes nothing
            even so, as every clip is then filled to the window.
        rate: samples per second.
        frozen, drop_path, checkpointing: see `MAEFace`.
        bands: mel bands.
        dim, depth, heads, patch: of the transformer.

    Tokens: (B, T, dim) at 6.25 Hz, or at 1 / window Hz with `cls`. A frame is 25 ms of sound: a token also hears
    the first 15 ms after its span, and what does not fill a frame at the end of a clip belongs to the last token.

    Raises:
        UserError: sizes that do not fit each other.
    """

    network: SpectrogramTransformer

    def __init__(
        self,
        tokens: Literal["time", "cls"] = "time",
        window: float = 10.24,
        fill: bool = False,
        rate: float = 16000.0,
        frozen: int = 0,
        drop_path: float = 0.1,
        checkpointing: bool = False,
        bands: int = 128,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
    ):
        super().__init__()
        rows = round(window * FRAMES_PER_SECOND / max(patch, 1))
        if tokens not in ("time", "cls") or patch < 1 or rows < 1 or bands % patch:
            raise UserError(
                f"AudioMAE with tokens {tokens!r}, {window:g} s at {rate:g} Hz, {bands} bands in patches of {patch}",
                "Use time or cls, a window of at least one patch, and a patch that divides the bands",
            )
        self.spec = InputSpec("audio", rate=rate, window=window)
        self.tokens, self.fill, self.dim, self.rows = tokens, fill, dim, rows
        self.front = Spectrogram(rate, bands)
        self.step = self.front.shift * patch  # samples that one row of patches stands for
        self.output_rate = rate / self.step if tokens == "time" else None
        self.network = SpectrogramTransformer(
            (rows * patch, bands), patch, 1, dim, depth, heads, drop_path=drop_path, checkpointing=checkpointing
        )
        self.network.freeze(frozen)

    def tables(self) -> Sequence[weights.KeyTable]:
        grid = self.network.grid
        return (weights.KeyTable("audiomae", unused=BESIDES, fits=(position_fit(grid, columns=grid[1]),)),)

    def strangers(self) -> Sequence[weights.Stranger]:
        return (JOINT_FILE,)

    def forward(self, inputs: Sampled) -> Tokens:
        patch, columns = self.step // self.front.shift, self.network.grid[1]
        rows = -(-self.front.count(inputs) // patch)  # (B,) of patches, 0 for an absent modality
        longest = max(int(rows.max()), 1)
        size = self.rows if self.fill else min(self.rows, longest)  # rows of a window
        windows = -(-longest // size)
        heard = (torch.arange(windows * size, device=rows.device) < rows[:, None]).view(-1, size)
        real = heard.any(1)  # (B * windows)
        each = 1 if self.tokens == "cls" else size  # tokens of a window
        values = inputs.values.new_zeros((len(heard), each, self.dim), dtype=torch.float32)
        if bool(real.any()):
            pictures = self.front(inputs, windows * size * patch).view(len(heard), 1, size * patch, -1)[real]
            seen = (heard[real] | self.fill).repeat_interleave(columns, dim=1)
            kept = torch.cat(
                [
                    self._pick(self.network(some, None if bool(keys.all()) else keys))
                    for some, keys in zip(pictures.split(AT_ONCE), seen.split(AT_ONCE), strict=True)
                ]
            )
            values = values.to(kept.dtype).index_put((real,), kept)
        else:
            values = self.in_graph(values)
        values = values.view(len(inputs), -1, self.dim)
        if self.tokens == "cls":
            counts, step = -(-rows // self.rows), self.step * self.rows
        else:
            counts, step = rows, self.step
        spans, mask = groups(inputs, step, counts)
        return Tokens(values[:, : mask.shape[1]] * mask[..., None], mask, spans)

    def _pick(self, x: Tensor) -> Tensor:
        """(M, 1 + patches, dim) to what is kept of it, (M, tokens per window, dim)."""
        if self.tokens == "cls":
            return x[:, :1]
        return x[:, 1:].unflatten(1, (-1, self.network.grid[1])).mean(2)


class SpectrogramTransformer(VisionTransformer):
    """A vision transformer whose picture is as long as the sound: a shorter one uses the first rows of positions."""

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, 1 + rows * columns, dim), rows at most those of the grid it was built for."""
        return self.pos_embed[:, : 1 + math.prod(grid)]


class Spectrogram(nn.Module):
    """What AudioMAE hears: Kaldi's log-mel filterbank, normalised with AudioSet's statistics.

    Published loaders first take away the mean of the clip; here each frame loses its own, which makes that void.

    Args:
        rate: samples per second.
        bands: mel bands.

    Raises:
        UserError: a rate below 400 Hz, of which no frame has anything to show.
    """

    filters: Tensor

    def __init__(self, rate: float, bands: int = 128):
        super().__init__()
        if rate < 4 * FRAMES_PER_SECOND:
            raise UserError(f"a spectrogram of sound at {rate:g} Hz", "Use the rate of the files, or 16000")
        self.rate = rate
        self.size, self.shift, _ = frame_sizes(rate)
        self.register_buffer("filters", filterbank(bands, rate), persistent=False)

    def count(self, inputs: Sampled) -> Tensor:
        """(B,) frames of each clip; one of a clip that is shorter than a frame, 0 of an absent one."""
        return torch.maximum(frame_count(inputs.lengths, self.rate), inputs.present.long())

    def forward(self, inputs: Sampled, frames: int) -> Tensor:
        """The first `frames` frames of each clip, (B, frames, bands); what it lacks of them is 0 before normalisation."""
        with torch.autocast(inputs.values.device.type, enabled=False):
            wave = inputs.zeroed()[:, : (frames - 1) * self.shift + self.size]
            mel = log_fbank(wave, self.filters, self.rate)
            mel = F.pad(mel, (0, 0, 0, frames - mel.shape[1]))
            real = torch.arange(frames, device=mel.device) < self.count(inputs)[:, None]
            return (mel * real[..., None] - AUDIOSET_MEAN) / (2 * AUDIOSET_STD)


def groups(inputs: Sampled, step: int, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Spans (B, K, 2) and mask (B, K) of groups of `step` elements; a clip's last one goes on to its last element.

    Args:
        inputs: elements with their spans.
        step: elements in a group.
        counts: (B,) groups of each clip.
    """
    index = torch.arange(max(int(counts.max()), 1), device=counts.device)
    lengths = inputs.lengths[:, None]
    last = torch.where(index == counts[:, None] - 1, lengths, (index + 1) * step).clamp(1, inputs.mask.shape[1]) - 1
    first = (index * step).clamp(max=inputs.mask.shape[1] - 1).expand_as(last)
    spans = torch.stack([inputs.spans[..., 0].gather(1, first), inputs.spans[..., 1].gather(1, last)], dim=2)
    return spans, index < counts[:, None]
