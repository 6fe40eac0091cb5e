"""Our networks against the packages that others load the same weights with. `run.sh` makes the environment and starts it.

Every network of theirs is filled with numbers, saved as that project saves it, and loaded by our encoder through its key
table; then both see the same input. Compared in float64, where nothing but a difference between the two networks is left; the
spectrograms in float32, as they are made.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders.golden import fill, noise
from torch import Tensor, nn

from mer.encoders import foreign, weights
from mer.encoders.agcn import AGCN
from mer.encoders.images import ImageTransformer
from mer.encoders.mvit import MViTv2
from mer.encoders.raft import RAFT
from mer.encoders.skeleton import SkeletonGCN
from mer.encoders.swinface import SwinFaceNetwork
from mer.encoders.vit import BESIDES, VisionTransformer
from mer.errors import UserError
from mer.media.spectrum import log_mel, mel_filterbank, mfcc
from mer.skeletons import layout


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: of ours.
        oracle: whose numbers count.
        ours, theirs: of equal shape.
        tolerance: greatest difference.
    """

    what: str
    oracle: str
    ours: Tensor
    theirs: Tensor
    tolerance: float = 1e-5


def picture(*shape: int) -> Tensor:
    return torch.from_numpy(noise("input", shape))


def filled(theirs: nn.Module) -> nn.Module:
    """With numbers that are exact in float32, as they go through a file."""
    theirs.eval()
    fill(theirs)
    return theirs


def saved(content: Any) -> Path:
    """A file as the project saves it, in a folder that goes with the process."""
    path = Path(FOLDER.name, f"{time.monotonic_ns()}.pth")
    torch.save(content, path)
    return path


def mvit_of_torchvision() -> Iterator[Row]:
    theirs: Any = filled(foreign.torchvision().models.video.mvit_v2_s())
    encoder = MViTv2().eval()
    encoder.load_published(saved(theirs.state_dict()))
    theirs.double(), encoder.double()
    clip = picture(1, 3, 16, 224, 224)
    normed: list[Tensor] = []
    theirs.norm.register_forward_hook(lambda module, given, answer: normed.append(answer))
    logits = theirs(clip)
    tokens = encoder.network(clip)[0]
    yield Row("MViTv2-S, tokens 16 x 224 x 224", "torchvision", tokens, normed[0])
    yield Row("MViTv2-S, logits", "torchvision", theirs.head(tokens[:, 0]), logits)


def mvit_of_mmaction() -> Iterator[Row]:
    theirs = filled(mmaction({"type": "MViT", "arch": "small"}))
    head = {"cls_head.fc_cls.weight": torch.zeros(400, 768), "cls_head.fc_cls.bias": torch.zeros(400)}
    state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    encoder = MViTv2().eval()
    encoder.load_published(saved({"state_dict": state | head, "meta": {"epoch": 1}}))
    theirs.double(), encoder.double()
    for frames, size in ((16, 224), (8, 160), (32, 192)):
        clip = picture(1, 3, frames, size, size)
        patches, cls = theirs(clip)[-1]
        expected = torch.cat([cls[:, None], patches.flatten(2).transpose(1, 2)], 1)
        yield Row(f"MViTv2-S, tokens {frames} x {size} x {size}", "mmaction2", encoder.network(clip)[0], expected)


def aagcn_of_mmaction() -> Iterator[Row]:
    for attention in (False, True):
        graph = {"layout": "nturgb+d", "mode": "spatial"}
        theirs = filled(mmaction({"type": "AAGCN", "graph_cfg": graph, "gcn_attention": attention}))
        ours = AGCN(layout("ntu25"), people=2, variant="aagcn", attention=attention).eval()
        state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
        table = next(t for t in SkeletonGCN("ntu25").tables() if t.name == "mmaction2")
        weights.load(ours, saved({"state_dict": state, "meta": {}}), (table,))
        theirs.double(), ours.double()
        people = picture(2, 3, 64, 25, 2)  # N, C, T, V, M; theirs are N, M, T, V, C
        expected = theirs(people.permute(0, 4, 2, 3, 1)).permute(0, 1, 3, 4, 2)
        name = "with attention" if attention else "without attention (mmaction2's 2s-AGCN)"
        yield Row(f"AAGCN, last map, {name}", "mmaction2", ours.maps(people)[0], expected)


def swin_of_timm() -> Iterator[Row]:
    foreign.timm()
    from timm.models.swin_transformer import SwinTransformer

    theirs = SwinTransformer(
        img_size=112,
        patch_size=2,
        window_size=7,
        embed_dim=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        num_classes=0,
    ).eval()
    ours: Any = filled(SwinFaceNetwork(branches=()).backbone)
    renamed = {}
    for key, value in ours.state_dict().items():
        if "downsample" in key:  # ours merges behind a stage, as SwinFace's files do; timm before the next one
            stage = int(key.split(".")[1])
            key = key.replace(f"layers.{stage}", f"layers.{stage + 1}", 1)
        if not key.endswith(("attn_mask", "relative_position_index")) and not key.startswith(("head.", "feature.")):
            renamed[key] = value
    theirs.load_state_dict(renamed)
    theirs.double(), ours.double()
    merged: list[Tensor] = []
    for stage in theirs.layers[1:]:
        stage.downsample.register_forward_hook(lambda module, given, answer: merged.append(answer))
    last: list[Tensor] = []
    theirs.layers[-1].register_forward_hook(lambda module, given, answer: last.append(answer))
    faces = picture(2, 3, 112, 112)
    pooled = theirs(faces)
    maps = ours(faces)
    for stage, (mine, other) in enumerate(zip(maps, [*merged, last[0]], strict=True), 1):
        step = other.shape[1] // 7
        expected = nn.functional.avg_pool2d(other.permute(0, 3, 1, 2), step).flatten(2).transpose(1, 2)
        name = "last map" if stage == len(maps) else f"map {stage} after merging"
        yield Row(f"SwinFace backbone, {name}", "timm", mine, expected)
    yield Row("SwinFace backbone, mean of the normed map", "timm", ours.norm(maps[-1]).mean(1), pooled)


def vit_of_timm() -> Iterator[Row]:
    theirs: Any = filled(foreign.timm().create_model("vit_base_patch16_224", pretrained=False))
    ours = VisionTransformer().eval()
    weights.load(ours, saved({"model": theirs.state_dict()}), (weights.KeyTable("MAE", unused=BESIDES),))
    theirs.double(), ours.double()
    image = picture(2, 3, 224, 224)
    yield Row("ViT-B/16 of MAE-Face, tokens", "timm", ours(image), theirs.forward_features(image))


def dinov2_of_timm() -> Iterator[Row]:
    """timm keeps the layout of the authors' files, less the mask token."""
    for name, architecture in (
        ("vit_small_patch14_dinov2", "dinov2-small"),
        ("vit_small_patch14_reg4_dinov2", "dinov2-with-registers-small"),
    ):
        theirs: Any = filled(foreign.timm().create_model(name, pretrained=False, num_classes=0))
        content = theirs.state_dict() | {"mask_token": torch.zeros(1, 384)}
        if "reg_token" in content:  # timm gives its class token no position of its own
            content["register_tokens"] = content.pop("reg_token")
            content["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), content["pos_embed"]], 1)
        encoder = ImageTransformer(architecture, size=518, features="mean").eval()
        encoder.load_published(saved(content))
        theirs.double(), encoder.double()
        image = picture(1, 3, 518, 518)
        expected = theirs.forward_features(image)
        yield Row(f"{architecture}, tokens", "timm", encoder.network(image).last_hidden_state, expected)


def raft_of_torchvision() -> Iterator[Row]:
    flows = foreign.torchvision().models.optical_flow
    places = flows.raft.make_coords_grid  # makes float32 whatever the rest is
    flows.raft.make_coords_grid = lambda *size, **where: places(*size, **where).double()
    for large, make in ((False, flows.raft_small), (True, flows.raft_large)):
        theirs: Any = filled(make(weights=None))
        ours = RAFT(large).eval()
        weights.load(ours, saved(theirs.state_dict()), (weights.KeyTable("torchvision"),))
        theirs.double(), ours.double()
        pair = [torch.from_numpy(noise(key, (1, 3, 128, 136))) for key in ("first", "second")]
        name = "large" if large else "small"
        yield Row(
            f"RAFT-{name}, 12 updates, pixels", "torchvision", ours(*pair), theirs(*pair, num_flow_updates=12)[-1]
        )


def mel_of_librosa() -> Iterator[Row]:
    import librosa

    rate, hop, n_fft, bands = 16000, 200, 512, 64
    moments = np.arange(2 * rate) / rate
    sweep = 0.5 * np.sin(2 * np.pi * (200 + 900 * moments) * moments)
    wave = (sweep + 0.01 * np.random.default_rng(0).standard_normal(len(moments))).astype(np.float32)
    filters = mel_filterbank(bands, n_fft, rate, low=60.0)
    ours = log_mel(torch.from_numpy(wave)[None], torch.hann_window(n_fft), filters, n_fft, hop)[0]
    # A frame of ours stands in the middle of its hop, where librosa's stands at the beginning.
    before = (n_fft - hop) // 2
    around = np.pad(wave, (before, n_fft))
    power = librosa.feature.melspectrogram(
        y=around, sr=rate, n_fft=n_fft, hop_length=hop, n_mels=bands, fmin=60.0, center=False
    ).T[: len(ours)]
    theirs = np.log(power + 1e-8)
    yield Row("log-mel, 64 bands", "librosa", ours, torch.from_numpy(theirs), 1e-4)
    for lifter in (0, 22):
        expected = torch.from_numpy(librosa.feature.mfcc(S=theirs.T, n_mfcc=13, lifter=lifter).T.copy())
        yield Row(
            f"MFCC of the same, lifter {lifter}", "librosa", mfcc(torch.from_numpy(theirs), 13, lifter), expected, 1e-4
        )
    expected = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, fmin=60.0).T)
    yield Row("mel filterbank", "librosa", filters, expected)


def mmaction(config: dict[str, Any]) -> nn.Module:
    models = foreign.mmaction()
    with foreign.mmaction_scope():
        network: nn.Module = models.build(config)
    network.eval()
    return network


CHECKS: tuple[Callable[[], Iterator[Row]], ...] = (
    mvit_of_torchvision,
    mvit_of_mmaction,
    aagcn_of_mmaction,
    swin_of_timm,
    vit_of_timm,
    dinov2_of_timm,
    raft_of_torchvision,
    mel_of_librosa,
)
FOLDER = tempfile.TemporaryDirectory()


@torch.inference_mode()
def main() -> int:
    """Print the table; the number of failures."""
    failures = 0
    print(f"{'ours':<58} {'oracle':<12} {'difference':>10} {'scale':>9} {'tolerance':>9}")
    for check in CHECKS:
        try:
            for row in check():
                difference, scale = float((row.ours - row.theirs).abs().max()), float(row.theirs.abs().max())
                passed = row.ours.shape == row.theirs.shape and difference <= row.tolerance
                failures += not passed
                verdict = "PASS" if passed else "FAIL"
                print(
                    f"{row.what:<58} {row.oracle:<12} {difference:>10.1e} {scale:>9.3g} {row.tolerance:>9.0e} {verdict}",
                    flush=True,
                )
        except (UserError, ImportError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            failures += 1
            print(f"{check.__name__:<58} {' '.join(str(error).split())[:300]} FAIL", flush=True)
    return failures


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    sys.exit(min(main(), 1))
