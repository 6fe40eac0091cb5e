"""MMA-DFER: two frozen vision transformers, one for faces and one for sound, that exchange after every block.

Chumachenko, Iosifidis, Gabbouj: MMA-DFER: MultiModal Adaptation of unimodal models for Dynamic Facial Expression
Recognition in-the-wild, CVPR workshops 2024 (arXiv 2404.09010).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders import weights
from mer.encoders.augment import augmented
from mer.encoders.base import JointEncoder
from mer.encoders.mae import Spectrogram
from mer.encoders.vit import BESIDES, VisionTransformer, position_fit
from mer.errors import UserError
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens

# Within the two transformers these parts of a name train; outside of them everything does.
ADAPTED = ("learnable_prompts", "pos_embed", "audio_proj", "temporal", "gate")
# Outputs of the heads that the transformers were built with and that nothing reads.
IMAGE_OUTPUTS, AUDIO_OUTPUTS = 12, 1000
PARTS = {"image": "image_encoder", "audio": "audio_model"}


class MMADFER(JointEncoder):
    """16 faces of a clip and the first 5 s of its sound, encoded together.

    Both transformers see prompts besides their patches. After every block both streams pass a bottleneck, each receives the
    mean of the other's, and a gate that starts at 0 says how much of the outcome is added. Time enters through that
    mean and through one transformer layer over the 16 frames. The transformers' own weights are frozen (their stochastic
    depth is not, as published); prompts, positions, bottlenecks, gates and what comes after train: 7.6 of 179 M
    parameters. A clip takes 308 GMACs, 17 passes of a ViT-B.

    Weights: the published file holds all of it; without one, `part` `image` takes MAE-Face's file and `audio` AudioMAE's.
    A part that the chosen tokens do not depend on (the classifier; with `frames`, the layer over time, too) does not train.

    A clip without sound, or without faces, keeps what is there: the mean of the missing stream and its class token are 0, and
    sound alone stands for all frames. The paper has no such case (its code shows a constant spectrogram); this is our choice.

    Args:
        tokens: `frames` gives a token per frame, faces and sound together, before the layer over time; `clip` that
            layer's class token, one for the whole clip.
        classes: outputs of the published classifier, which `logits` asks: 7 for DFEW, 11 for MAFW.
        video, audio: columns of the manifest.
        rate: of the sound, samples per second. Published features were made at the file's own rate, which the mel filters
            follow: give that rate where all files have it (and 16000 for a new model, as AudioMAE was trained).
        crop, face: see `InputSpec`; DFEW's clips of faces want crop `none`.
        window: seconds the predictor shows at once.
        drop_path: rate of stochastic depth in the last blocks.
        checkpointing: in training, compute blocks again in the backward pass instead of keeping what is in them.
        augment: strength of the training augmentations of the faces, see `FrameCNN`; 0 switches them off. The authors have
            brightness by up to half, a random crop, the mirror image.
        frames: faces of a clip, evenly spread.
        heard: frames of the spectrogram, 10 ms each, from the clip's beginning.
        size: height and width of a face in pixels.
        dim, depth, heads, patch, bands: of the transformers and of the spectrogram.
        prompts, steps: prompts that are added to at each of so many steps, which are spaced equally over the blocks; a stream
            has `prompts * steps` of them.
        bottleneck: width of the exchange.
        width, time_heads: of the layer over the frames.

    Tokens: (B, frames, width) with the spans of the frames, or (B, 1, width).

    Raises:
        UserError: sizes that do not fit each other; more faces than `frames`.
    """

    network: MMADFERNetwork

    def __init__(
        self,
        tokens: Literal["frames", "clip"] = "frames",
        classes: int = 7,
        video: str = "video",
        audio: str = "audio",
        rate: float = 16000.0,
        crop: Literal["center", "none", "face"] = "face",
        face: dict[str, Any] | None = None,
        window: float | None = 5.12,
        drop_path: float = 0.1,
        checkpointing: bool = False,
        augment: float = 1.0,
        frames: int = 16,
        heard: int = 512,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
        bands: int = 128,
        prompts: int = 3,
        steps: int = 2,
        bottleneck: int = 128,
        width: int = 512,
        time_heads: int = 8,
    ):
        super().__init__()
        if min(frames, patch, heard, bands, classes, bottleneck, time_heads) < 1:
            raise UserError(
                f"MMADFER with {frames} frames, a spectrogram of {heard}x{bands} in patches of {patch}, {classes} classes, a "
                f"bottleneck of {bottleneck}, {time_heads} heads over time",
                "Use at least 1 of each",
            )
        if tokens not in ("frames", "clip") or video == audio or bands % patch or heard % patch:
            raise UserError(
                f"MMADFER with tokens {tokens!r}, columns {video!r} and {audio!r}, a spectrogram of {heard}x{bands} in "
                f"patches of {patch}",
                "Use frames or clip, two columns, and a patch that divides the spectrogram",
            )
        found = Face.from_dict(face or {}) if crop == "face" else None
        self.video, self.audio = video, audio
        self.specs = {
            video: InputSpec("video", segments=frames, size=(size, size), crop=crop, face=found, window=window),
            audio: InputSpec("audio", rate=rate, window=window),
        }
        self.tokens, self.frames, self.heard, self.augment, self.dim = tokens, frames, heard, augment, width
        self.front = Spectrogram(rate, bands)
        shape = Shape(dim, depth, heads, patch, prompts, steps, bottleneck, drop_path, checkpointing)
        self.network = MMADFERNetwork(shape, (size, size), (heard, bands), frames, classes, width, time_heads)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(trains(name) and self._used(name))

    def _used(self, name: str) -> bool:
        """Whether the tokens depend on a parameter of the network."""
        if self.tokens == "frames" and name.startswith("temporal_net."):
            return False
        return not name.startswith("our_classifier.") and ".fn.norm2." not in name

    def tables(self) -> Sequence[weights.KeyTable]:
        # A gate is one number, whether saved as () or (1,).
        remedies = (
            (r"^our_classifier\.", "Give the encoder the file's number of classes: 7 for DFEW, classes: 11 for MAFW"),
        )
        return (weights.KeyTable("mma-dfer", fits=((r"all_gate\.", _number),), remedies=remedies),)

    def strangers(self) -> Sequence[weights.Stranger]:
        remedy = (
            "It fills one of the two transformers: name the part, as in {encoder.image: FILE} or {encoder.audio: FILE}"
        )
        return (weights.Stranger(r"^(decoder|blocks)", remedy),)

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        """Fill the network from a published file, strictly; see `mer.encoders.weights.load`.

        Args:
            path: MMA-DFER's own file; with a part, MAE-Face's or AudioMAE's.
            part: `image` or `audio`; what this network adds to that transformer stays as it is.

        Raises:
            UserError: no such file, another network's, no such part.
        """
        if part is None:
            return super().load_published(path)
        if part not in PARTS:
            raise UserError(f"MMADFER has no part {part!r}", f"The parts are {' and '.join(PARTS)}")
        transformer = self.network.get_submodule(PARTS[part])
        assert isinstance(transformer, PromptedTransformer)
        pattern, fit = position_fit(transformer.grid, transformer.grid[1] if part == "audio" else None)
        # The file has no rows for prompts, ours stay.
        own = transformer.pos_embed.detach()[:, 1 + math.prod(transformer.grid) :]

        def with_prompts(value: Tensor, shape: torch.Size) -> Tensor:
            value = fit(value, shape)
            return torch.cat([value, own.to(value)], dim=1) if value.shape[2:] == own.shape[2:] else value

        table = weights.KeyTable(PARTS[part], unused=BESIDES, fits=((pattern, with_prompts),))
        joint = weights.Stranger(
            r"^(image_encoder|audio_model)\.", "It is MMA-DFER's own: load it without naming a part"
        )
        return weights.load(_backbone(transformer), path, (table,), (joint,))

    def forward(self, inputs: Mapping[str, Sampled]) -> Tokens:  # type: ignore[override]
        """Encode a batch: `Sampled` of both columns, an absent one with an all-False mask."""
        x, mask, spans = self._joint(inputs)
        if self.tokens == "frames":
            return Tokens(x, mask, spans)
        some = mask.any(1, keepdim=True)
        ends = torch.stack([spans[:, 0, 0], spans[..., 1].masked_fill(~mask, 0.0).amax(1)], dim=1)
        return Tokens((self.network.temporal_net(x, mask) * some)[:, None], some, ends[:, None])

    def logits(self, inputs: Mapping[str, Sampled]) -> Tensor:
        """(B, classes) of the published classifier; for a clip that has neither stream they mean nothing."""
        x, mask, _ = self._joint(inputs)
        logits: Tensor = self.network.our_classifier(self.network.temporal_net(x, mask))
        return logits

    def _joint(self, inputs: Mapping[str, Sampled]) -> tuple[Tensor, Tensor, Tensor]:
        """Frames with faces and sound together: (B, frames, width), their mask and spans."""
        video, audio = self._sixteen(inputs[self.video]), inputs[self.audio]
        image, sound = self.network.encode(
            self._pictures(video),
            video.mask,
            self.front(audio, self.heard)[audio.present, None],
            audio.present,
        )
        mask, spans = video.mask, video.spans
        only = audio.present & ~video.present  # sound stands for frames that share the time it was heard for
        index = torch.arange(self.frames + 1, device=mask.device) / self.frames
        limit = (self.heard - 1) * self.front.shift + self.front.size
        last = audio.lengths.clamp(1, min(limit, audio.mask.shape[1])) - 1
        begin, end = audio.spans[:, :1, 0], audio.spans[..., 1].gather(1, last[:, None])
        edges = begin + (end - begin) * index
        spans = torch.where(only[:, None, None], torch.stack([edges[:, :-1], edges[:, 1:]], dim=2), spans)
        mask = mask | only[:, None]
        x = self.network.vision_proj(image + sound[:, None]) * mask[..., None]
        return x, mask, spans

    def _pictures(self, video: Sampled) -> Tensor:
        """Real frames, in [0, 1]: no mean and deviation, as published."""
        if self.training and self.augment:
            # The augmentations are made for [-1, 1].
            return (augmented(video.zeroed().float() / 127.5 - 1, self.augment)[video.mask] + 1) / 2
        return video.values[video.mask].float() / 255.0

    def _sixteen(self, video: Sampled) -> Sampled:
        """Exactly `frames` columns, whatever the padding."""
        if int(video.lengths.max()) > self.frames:
            raise UserError(
                f"MMADFER takes {self.frames} frames of a clip and got {int(video.lengths.max())}",
                "Prepare the clip as its specs say, or give it more 'frames'",
            )
        more = max(0, self.frames - video.mask.shape[1])
        values = F.pad(video.values, (0, 0) * (video.values.ndim - 2) + (0, more))[:, : self.frames]
        mask, spans = F.pad(video.mask, (0, more)), F.pad(video.spans, (0, 0, 0, more))
        return Sampled(values, mask[:, : self.frames], spans[:, : self.frames])


def trains(name: str) -> bool:
    """Whether the published training moves a parameter of `MMADFERNetwork`."""
    inside = name.startswith(tuple(f"{part}." for part in PARTS.values()))
    return not inside or any(word in name for word in ADAPTED)


@dataclass(frozen=True)
class Shape:
    """Sizes that the two transformers share; see `MMADFER`."""

    dim: int
    depth: int
    heads: int
    patch: int
    prompts: int
    steps: int
    bottleneck: int
    drop_path: float
    checkpointing: bool


class MMADFERNetwork(nn.Module):
    """The published network, in the layout of its file.

    Args:
        shape: of both transformers.
        image: height and width of a picture.
        sound: frames and bands of a spectrogram.
        frames: pictures of a clip.
        classes: outputs.
        width, heads: of the layer over the frames.

    Raises:
        UserError: sizes that do not fit each other.
    """

    def __init__(
        self,
        shape: Shape,
        image: tuple[int, int],
        sound: tuple[int, int],
        frames: int,
        classes: int,
        width: int,
        heads: int,
    ):
        super().__init__()
        self.temporal_net = TemporalHead(width, frames, heads)
        self.our_classifier = nn.Linear(width, classes)
        self.vision_proj = nn.Linear(shape.dim, width)
        self.image_encoder = FaceTransformer(shape, image, 3, IMAGE_OUTPUTS)
        self.audio_model = PromptedTransformer(shape, sound, 1, AUDIO_OUTPUTS)

    def encode(self, pictures: Tensor, shown: Tensor, spectrograms: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Class tokens of the frames and sounds that are there; 0 in the place of those that are not.

        Args:
            pictures: (M, 3, H, W) in [0, 1], the real frames of all clips.
            shown: (B, N) bool, M of them True: where they belong.
            spectrograms: (K, 1, frames, bands), the real sounds.
            heard: (B,) bool, K of them True.

        Returns:
            (B, N, dim) and (B, dim).
        """
        faces, sounds = self.image_encoder, self.audio_model
        clip, count = shown.nonzero()[:, 0], shown.sum(1, keepdim=True).clamp(min=1)
        image, audio = faces.embed(pictures), sounds.embed(spectrograms)
        for i in range(len(faces.blocks)):
            image, audio = faces.block(i, image), sounds.block(i, audio)
            v, a = faces.temporal_pre_norm[i](faces.temporal_pre[i](image)), faces.audio_proj_pre[i](audio)
            to_image, to_audio = _placed(a.mean(1), heard), _placed(v.mean(1), shown).sum(1) / count
            image = faces.receive(i, image, v + to_image[clip][:, None])
            audio = sounds.receive(i, audio, a + to_audio[heard][:, None])
        return _placed(faces.norm(image)[:, 0], shown), _placed(sounds.norm(audio)[:, 0], heard)


class PromptedTransformer(VisionTransformer):
    """A vision transformer with prompts behind its patches, gates, and the way back from the bottleneck."""

    def __init__(self, shape: Shape, size: tuple[int, int], channels: int, outputs: int):
        super().__init__(
            size,
            shape.patch,
            channels,
            shape.dim,
            shape.depth,
            shape.heads,
            outputs=outputs,
            drop_path=shape.drop_path,
            checkpointing=shape.checkpointing,
        )
        if shape.prompts < 1 or shape.steps < 1 or shape.depth % shape.steps or shape.depth < 2 * shape.steps:
            raise UserError(
                f"MMADFER with {shape.prompts} prompts in {shape.steps} steps over {shape.depth} blocks",
                "Use at least one of each, and two blocks or more to a step",
            )
        dim, prompts = shape.dim, shape.prompts * shape.steps
        self.prompts, self.every = shape.prompts, shape.depth // shape.steps
        self.pos_embed = nn.Parameter(torch.cat([self.pos_embed.detach(), torch.randn(1, prompts, dim)], dim=1))
        self.learnable_prompts_init = nn.Parameter(torch.randn(prompts, dim) * dim**-0.5)
        # The paper does not say how these begin; as the others do is our choice.
        self.learnable_prompts_progr = nn.ParameterList(
            torch.randn(shape.prompts, dim) * dim**-0.5 for _ in range(shape.steps)
        )
        self.temporal_att_post = nn.ModuleList(
            nn.Sequential(nn.Linear(shape.bottleneck, dim), nn.GELU()) for _ in range(shape.depth)
        )
        self.all_gate = nn.ParameterList(torch.zeros(1) for _ in range(shape.depth))

    def embed(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) of the size it was built for to (B, 1 + patches + prompts, dim)."""
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        lead, prompts = (x.expand(len(patches), -1, -1) for x in (self.cls_token, self.learnable_prompts_init[None]))
        return torch.cat([lead, patches, prompts], dim=1) + self.pos_embed

    def block(self, index: int, x: Tensor, seen: Tensor | None = None) -> Tensor:
        # Where nobody in the batch has this stream: whatever trains gets a gradient of 0 from an empty batch, as DDP wants
        # one, but not every attention kernel takes it.
        return super().block(index, x, seen) if len(x) else x

    def receive(self, index: int, x: Tensor, mixed: Tensor) -> Tensor:
        """After block `index`: add what came through the bottleneck, and, where a step begins, this step's prompts.

        Args:
            x: (B, tokens, dim).
            mixed: (B, tokens, bottleneck): the stream itself and the mean of the other.
        """
        x = x + torch.tanh(self.all_gate[index]) * self.temporal_att_post[index](mixed)
        if index % self.every:
            return x
        step = index // self.every
        behind = (len(self.learnable_prompts_progr) - step - 1) * self.prompts
        return x + F.pad(self.learnable_prompts_progr[step], (0, 0, x.shape[1] - behind - self.prompts, behind))


class FaceTransformer(PromptedTransformer):
    """The stream of faces, which also holds both streams' ways into the bottleneck."""

    def __init__(self, shape: Shape, size: tuple[int, int], channels: int, outputs: int):
        super().__init__(shape, size, channels, outputs)
        dim, narrow = shape.dim, shape.bottleneck
        blocks = range(shape.depth)
        self.audio_proj_pre = nn.ModuleList(nn.Sequential(nn.Linear(dim, narrow), nn.LayerNorm(narrow)) for _ in blocks)
        self.temporal_pre = nn.ModuleList(nn.Linear(dim, narrow) for _ in blocks)
        self.temporal_pre_norm = nn.ModuleList(nn.LayerNorm(narrow) for _ in blocks)


class TemporalHead(nn.Module):
    """A class token and the frames through one pre-norm transformer layer without dropout.

    Args:
        width: of the tokens.
        frames: most frames of a clip.
        heads: of the attention.
    """

    def __init__(self, width: int, frames: int, heads: int):
        super().__init__()
        if width % heads:
            raise UserError(f"a width of {width} cannot be shared by {heads} heads", "Use a width that they divide")
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.randn(1, frames + 1, width))
        layer = nn.ModuleList([_Residual(width, _TimeAttention(width, heads)), _Residual(width, _TimeMLP(width))])
        self.temporal_transformer = nn.ModuleDict({"layers": nn.ModuleList([layer])})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, width) and (B, N) bool to the class token (B, width)."""
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        x, seen = x + self.pos_embedding[:, : x.shape[1]], F.pad(mask, (1, 0), value=True)
        for residual in self.temporal_transformer.get_submodule("layers.0").children():
            x = residual(x, seen)
        return x[:, 0]


class _Residual(nn.Module):
    def __init__(self, width: int, inner: nn.Module):
        super().__init__()
        # norm2 is in the published file and was never used.
        self.fn = nn.ModuleDict({"norm": nn.LayerNorm(width), "norm2": nn.LayerNorm(width), "fn": inner})

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        out: Tensor = x + self.fn["fn"](self.fn["norm"](x), seen)
        return out


class _TimeAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (self.to_q(x), *self.to_kv(x).chunk(2, dim=2))
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
        out: Tensor = self.to_out(y.transpose(1, 2).flatten(2))
        return out


class _TimeMLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        # Places 2 and 4 were dropout of rate 0; the second linear layer keeps its number.
        self.net = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Identity(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def _placed(values: Tensor, where: Tensor) -> Tensor:
    """(M, D) to (..., D): each row where a True of `where` (...) is, in order, and 0 elsewhere."""
    return values.new_zeros((*where.shape, values.shape[-1])).index_put((where,), values)


def _number(value: Tensor, shape: torch.Size) -> Tensor:
    return value.reshape(shape) if value.numel() == 1 else value


def _backbone(transformer: VisionTransformer) -> nn.Module:
    """The parts that the transformer's own file fills, sharing its tensors."""
    part = nn.Module()
    for name in ("cls_token", "pos_embed", "patch_embed", "blocks", "norm"):
        setattr(part, name, getattr(transformer, name))
    return part
