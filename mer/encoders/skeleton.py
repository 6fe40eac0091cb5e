"""Skeletons to tokens: 2S-AGCN or AAGCN, one network per stream of joints, bones and their motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mer import skeletons
from mer.encoders import poses, weights
from mer.encoders.agcn import AGCN, Variant, mean_over_time
from mer.encoders.base import Encoder
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens


class SkeletonGCN(Encoder):
    """Adaptive graph convolutions over the joints and the frames of one person; see `mer.encoders.agcn` for the papers.

    Args:
        layout: joints and their order, see `mer.skeletons`.
        variant: `agcn`, the network of 2s-AGCN, or `aagcn`, its successor. What mmaction2 and pyskl call 2s-AGCN is
            `aagcn` with `attention: false`.
        attention: of `aagcn`: over joints, time and channels.
        streams: of `joint`, `bone`, `joint_motion`, `bone_motion`.
        join: `concat` or `sum` of what one network per stream gives, as published; `early`: one network that sees all
            streams as channels.
        tokens: `time`: one per `stride` frames, the mean over joints; `joint`: one per joint, the mean over time; `both`: the
            joints, then time.
        channels: `xy` or `xyc` of 2-D skeletons, `xyz` or `xyzc` of 3-D ones (c is the confidence); None for `xyc` or `xyz`,
            as published.
        blocks: (width, stride over time) of each unit; None for the ten published ones, which make one token of 4 frames.
        gain: first value of the batch normalisation behind each graph convolution: 1e-6 as published, 0.3 where
            training is short.
        people: bodies that a published network expects. A clip has one; the others are zeros, as the authors fill them,
            and count in the mean over people.
        normalise, picture: units of the coordinates, see `mer.encoders.poses.normalised`.
        rate: skeletons per second; None takes each frame of the file once.
        backend: `file`, or what finds skeletons in a video: `mediapipe`, `mediapipe-hands`.
        frames: what the network sees of a clip: None its frames, else so many.
        fit: how a clip comes to `frames`: `resample` in time; `loop`: repeated from its start, or `pad`: followed by zeros,
            until it has so many (longer clips stay whole). Repetitions and zeros give no token.
        augment: strength of the training variants (turned, stretched, displaced joints; with `resample`, also a random
            80 to 100 % of the clip); 0 switches them off.
        mirror: exchange left and right in half of the training clips. Not where the side means something.
        window: seconds the predictor shows at once.

    Tokens: (B, T', dim) at rate / stride Hz; a token over time stands for the moments nearest to its centre. A token of a
    joint stands for the whole clip.

    Raises:
        UserError: an unknown layout or name, or settings that contradict each other.
    """

    network: nn.ModuleDict

    def __init__(
        self,
        layout: str,
        variant: Variant = "agcn",
        attention: bool = True,
        streams: Sequence[poses.Stream] = ("joint", "bone"),
        join: Literal["concat", "sum", "early"] = "concat",
        tokens: Literal["time", "joint", "both"] = "time",
        channels: Literal["xy", "xyc", "xyz", "xyzc"] | None = None,
        blocks: Sequence[tuple[int, int]] | None = None,
        gain: float = 1e-6,
        people: int = 1,
        normalise: poses.Units = "body",
        picture: tuple[int, int] | None = None,
        rate: float | None = None,
        backend: Literal["file", "mediapipe", "mediapipe-hands"] = "file",
        frames: int | None = None,
        fit: Literal["resample", "loop", "pad"] = "resample",
        augment: float = 1.0,
        mirror: bool = False,
        window: float | None = 3.0,
    ):
        super().__init__()
        for name, value, choices in (
            ("variant", variant, ("agcn", "aagcn")),
            ("join", join, ("concat", "sum", "early")),
            ("tokens", tokens, ("time", "joint", "both")),
            ("normalise", normalise, get_args(poses.Units)),
            ("fit", fit, ("resample", "loop", "pad")),
            *(("streams", stream, get_args(poses.Stream)) for stream in streams or ("none",)),
        ):
            if value not in choices:
                raise UserError(f"SkeletonGCN: {name} {value!r} is unknown", f"Use {', '.join(choices)}")
        if people < 1 or (rate is not None and rate <= 0) or (frames is not None and frames < 1):
            raise UserError(
                f"SkeletonGCN: {people} people, rate {rate}, {frames} frames", "Use numbers above 0, or null"
            )
        units = ((4, 1),) if blocks is None else blocks
        if len(set(streams)) < len(streams) or not units or any(width < 4 or stride < 1 for width, stride in units):
            raise UserError(
                f"SkeletonGCN: streams {', '.join(streams)}, blocks {blocks}",
                "Name each stream once, and at least one block of a width from 4 and a stride from 1",
            )
        skeleton = skeletons.layout(layout)
        poses.check(normalise, skeleton, picture)
        axes = "xyz" if skeleton.depth else "xy"
        channels = channels or ("xyz" if skeleton.depth else "xyc")
        if channels.removesuffix("c") != axes:
            raise UserError(f"skeletons of {layout!r} have no channels {channels!r}", f"Use {axes} or {axes}c")
        self.spec = InputSpec("pose", rate=rate, backend=backend, layout=layout, window=window)
        self.skeleton, self.variant, self.attention, self.people = skeleton, variant, attention, people
        self.streams, self.join, self.kind, self.score = tuple(streams), join, tokens, channels.endswith("c")
        self.units, self.picture, self.frames, self.fit = normalise, picture, frames, fit
        self.augment, self.mirror = augment, mirror
        sees = {"early": self.streams} if join == "early" else {name: (name,) for name in self.streams}
        self.network = nn.ModuleDict(
            {
                name: AGCN(skeleton, len(channels) * len(several), people, None, blocks, variant, attention, gain)
                for name, several in sees.items()
            }
        )
        one = self._networks[0]
        self.stride = one.stride
        self.dim = one.dim * (len(self.network) if join == "concat" else 1)
        timed = rate is not None and frames is None and tokens == "time"
        self.output_rate = rate / self.stride if timed and rate is not None else None

    def forward(self, inputs: Sampled) -> Tokens:
        here = inputs.present
        if not bool(here.any()):
            return self._nothing(inputs)
        with torch.autocast(inputs.values.device.type, enabled=False):  # half precision loses millimetres
            streams, shown, mask, spans = self._seen(inputs, here)
        frames, joints = [], []
        padding = None if bool(shown.all()) else shown
        for network, values in zip(self._networks, streams, strict=True):
            others = values.new_zeros(*values.shape, self.people - 1)
            maps, real = network.maps(torch.cat([values[..., None], others], -1).permute(0, 3, 1, 2, 4), padding)
            maps = maps.mean(1)  # over people
            if self.kind != "joint":
                frames.append(maps.mean(2))
            if self.kind != "time":
                joints.append(mean_over_time(maps, real))
        return self._tokens(inputs, frames, joints, mask, spans)

    def _seen(self, inputs: Sampled, here: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Of the clips that there are: what each network sees, which frames of that are shown, which are real, their spans."""
        seen = inputs.zeroed()[here]
        places, sure, mask, spans = seen[..., :-1], seen[..., -1], inputs.mask[here], inputs.spans[here]
        places = poses.normalised(places, sure, mask, self.units, self.skeleton, self.picture)
        shown = mask  # to the network: what is real, and what fills up
        if self.frames is not None and self.fit == "resample":
            places, sure, spans = poses.resampled(places, sure, mask, spans, self.frames, self._part(places))
            mask = shown = torch.ones(sure.shape[:2], dtype=torch.bool, device=sure.device)
        elif self.frames is not None:
            places, sure, shown = poses.prolonged(places, sure, mask, self.frames, self.fit == "loop")
        if self.training and self.augment:
            upright = 2 if self.units in ("ntu", "pyskl") else 1
            places, sure = poses.varied(places, sure, self.augment, upright, self.skeleton if self.mirror else None)
        streams = [poses.stream(n, places, sure, shown, self.skeleton, self.score) for n in self.streams]
        return [torch.cat(streams, -1)] if self.join == "early" else streams, shown, mask, spans

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        names = list(self.network)
        if part is None and len(names) > 1:
            raise UserError(
                f"{path}: which of the networks {', '.join(names)} is it for?",
                f"Say so in encoder_weights, e.g. skeleton.{names[0]}",
            )
        name = names[0] if part is None else part
        if name not in names:
            raise UserError(f"{path}: SkeletonGCN has no network {name!r} here", f"It has {', '.join(names)}")
        network = self.network[name]
        assert isinstance(network, AGCN)
        self._recognise(path, network)
        return weights.load(network, path, self.tables())

    def tables(self) -> Sequence[weights.KeyTable]:
        named = [(rf"^l{i + 1}\.", f"gcn.{i}.") for i in range(self._networks[0].depth)]
        inside = ((r"\.gcn1\.PA$", ".gcn.A"), (r"\.gcn1\.", ".gcn."), (r"\.tcn1\.", ".tcn."))
        classifier = "the classifier of its corpus"
        return (
            weights.KeyTable("2s-AGCN", unused=((r"^fc\.", classifier),)),
            weights.KeyTable(
                "mmaction2",
                (*named, *inside, (r"^", "backbone.")),
                ((r"^cls_head\.", classifier), (r"^backbone\.A$", "the graph that its learned graphs began with")),
            ),
        )

    def _recognise(self, path: Path, network: AGCN) -> None:
        """Say what a file of a related network, or of other skeletons, is; what is still wrong then, `load` names."""
        content = weights.tensors(path)

        def one(*ends: str) -> Tensor | None:
            return next((value for key, value in content.items() if key.endswith(ends)), None)

        graph, norm = one("l1.gcn1.PA", "gcn.0.gcn.A"), one("data_bn.weight")
        first = one("l1.gcn1.conv_a.0.weight", "gcn.0.gcn.conv_a.0.weight")
        if graph is None or first is None or norm is None:
            return
        variant: Variant = "aagcn" if any(k.endswith(".alpha") for k in content) else "agcn"
        attention = any(".conv_sa." in k for k in content)
        if variant != self.variant or (variant == "aagcn" and attention != self.attention):
            name = {"agcn": "2s-AGCN", "aagcn": f"AAGCN {'with' if attention else 'without'} attention"}[variant]
            also = "" if attention or variant == "agcn" else ", which mmaction2 and pyskl call 2s-AGCN"
            remedy = f"Use variant: {variant}" + (
                f", attention: {str(attention).lower()}" if variant == "aagcn" else ""
            )
            raise UserError(f"{path}: a file of {name}{also}", remedy)
        joints, channels = graph.shape[-1], first.shape[1]
        people = norm.numel() // (joints * channels)
        for what, theirs, ours, argument in (
            ("joints", joints, network.joints, "layout"),
            ("channels of a joint", channels, network.channels, "channels, or join: early"),
            ("people at once", people, network.people, "people"),
        ):
            if theirs != ours:
                raise UserError(f"{path}: {what}: {theirs} in the file, {ours} here", f"Change {argument}")

    # -- Inside --------------------------------------------------------------------------------------------------------

    @property
    def _networks(self) -> list[AGCN]:
        return [network for network in self.network.values() if isinstance(network, AGCN)]

    def _part(self, places: Tensor) -> Tensor | None:
        """(B, 2): in training, which 80 to 100 % of a clip are shown."""
        if not (self.training and self.augment):
            return None
        length = 1 - 0.2 * min(self.augment, 1.0) * torch.rand(len(places), device=places.device)
        begin = torch.rand(len(places), device=places.device) * (1 - length)
        return torch.stack([begin, begin + length], 1)

    def _tokens(
        self, inputs: Sampled, frames: list[Tensor], joints: list[Tensor], mask: Tensor, spans: Tensor
    ) -> Tokens:
        """Tokens of the clips that there are, at their places in the batch."""
        values, masks, stretches = [], [], []
        last = mask.sum(1) - 1
        begin, end = spans[:, 0, 0], spans[:, :, 1].gather(1, last[:, None])[:, 0]
        if joints:
            values.append(self._joined(joints))
            masks.append(torch.ones(values[0].shape[:2], dtype=torch.bool, device=mask.device))
            stretches.append(torch.stack([begin, end], 1)[:, None].expand(-1, self.skeleton.size, 2))
        if frames:
            size = -(-mask.shape[1] // self.stride)
            values.append(self._joined(frames)[:, :size])
            masks.append(mask[:, :: self.stride])
            # The convolutions centre the token i on the frame i * stride; neighbours share the time between them.
            middle = spans.mean(2)[:, :: self.stride]
            between = (middle[:, 1:] + middle[:, :-1]) / 2
            start = torch.cat([begin[:, None], between], 1)
            stop = torch.cat([between, end[:, None]], 1)
            stop = torch.where(
                torch.arange(size, device=mask.device) == (last // self.stride)[:, None], end[:, None], stop
            )
            stretches.append(torch.stack([start, stop], 2))
        here = inputs.present
        found = Tokens(
            torch.cat(values, 1) * torch.cat(masks, 1)[..., None], torch.cat(masks, 1), torch.cat(stretches, 1)
        )
        if bool(here.all()):
            return found
        whole = Tokens(
            found.values.new_zeros(len(here), *found.values.shape[1:]),
            torch.zeros((len(here), found.mask.shape[1]), dtype=torch.bool, device=mask.device),
            found.spans.new_zeros(len(here), *found.spans.shape[1:]),
        )
        rows = torch.nonzero(here)[:, 0]
        return Tokens(
            whole.values.index_copy(0, rows, found.values),
            whole.mask.index_copy(0, rows, found.mask),
            whole.spans.index_copy(0, rows, found.spans),
        )

    def _joined(self, streams: list[Tensor]) -> Tensor:
        return torch.cat(streams, -1) if self.join == "concat" else torch.stack(streams).sum(0)

    def _nothing(self, inputs: Sampled) -> Tokens:
        """One masked token per clip; in training the parameters stay in the graph, as DDP wants."""
        values = inputs.values.new_zeros((len(inputs), 1, self.dim), dtype=torch.float32)
        values = self.in_graph(values)
        return Tokens(values, torch.zeros_like(inputs.mask[:, :1]), inputs.spans[:, :1])
