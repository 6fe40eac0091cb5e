"""The contract every encoder holds. A new encoder joins with one line in `ENCODERS`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mer.encoders
from encoders import letters, sounds
from encoders.scanpath import scanpath
from mer.configured import build
from mer.encoders import (
    AudioMAE,
    Encoder,
    EyeEvents,
    EyeLSTM,
    EyeStatistics,
    EyeTCN,
    EyeTransformer,
    FeatureEncoder,
    FixationMap,
    FlowMViT,
    FlowNet,
    FrameCNN,
    ImageTransformer,
    MAEFace,
    MelNet,
    MViTv2,
    RAFTFlow,
    ResNet,
    SkeletonGCN,
    STSTNet,
    SwinFace,
    VideoMAE,
)
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

SMALL_SWIN: dict[str, Any] = {"size": 16, "embed": 8, "depths": (2, 1), "heads": (1, 2), "area": 4, "width": 16}
# name: (the encoder, the same without layers that look across the whole clip)
ENCODERS: dict[str, tuple[Callable[[], Encoder], Callable[[], Encoder]]] = {
    "features": (lambda: FeatureEncoder(5, 10.0, 16, 24, layers=2), lambda: FeatureEncoder(5, 10.0, 16, 24)),
    "vectors": (lambda: FeatureEncoder(5, dim=16, noise=0.1), lambda: FeatureEncoder(5, dim=16)),
    "frames": (lambda: FrameCNN(16, size=24, channels=(6, 8)), lambda: FrameCNN(16, size=24, channels=(6, 8))),
    "frames, counted": (
        lambda: FrameCNN(16, size=24, channels=(6, 8), segments=8),
        lambda: FrameCNN(16, size=24, channels=(6, 8), segments=8),
    ),
    "mel": (lambda: MelNet(16, channels=(6, 8, 8, 10)), lambda: MelNet(16, channels=(6, 8, 8, 10), layers=0)),
    "text": (lambda: letters.tiny("word"), lambda: letters.tiny("word", layers=0)),
    "text, segments": (lambda: letters.tiny("segment"), lambda: letters.tiny("segment", layers=0)),
    "mel, fine": (lambda: MelNet(16, channels=(6, 8), halvings=2, layers=2, trim=None), lambda: MelNet(16, layers=0)),
    "swinface": (lambda: SwinFace(**SMALL_SWIN), lambda: SwinFace(**SMALL_SWIN)),
    "swinface, identity": (lambda: SwinFace("id", **SMALL_SWIN), lambda: SwinFace("id", **SMALL_SWIN)),
    "swinface, grid": (lambda: SwinFace("grid", True, **SMALL_SWIN), lambda: SwinFace(**SMALL_SWIN)),
}
resnet: Callable[..., ResNet] = functools.partial(ResNet, size=32, width=4)
ENCODERS |= {
    "resnet": (resnet, resnet),
    "resnet, as in EMERT": (
        lambda: resnet(segments=8, bgr=True, normalise=False),
        lambda: resnet(segments=8, bgr=True, normalise=False),
    ),
}
# One block of attention within a frame, over a tiny picture; sound in patches of 40 ms, windows of eight of them.
mae_face: Callable[..., MAEFace] = functools.partial(MAEFace, size=16, dim=16, depth=2, heads=2, patch=8, crop="none")
audio_mae: Callable[..., AudioMAE] = functools.partial(
    AudioMAE, window=0.32, rate=4000.0, bands=8, dim=16, depth=2, heads=2, patch=4
)
flow_net: Callable[..., FlowNet] = functools.partial(FlowNet, 16, size=16)
flow_mvit: Callable[..., FlowMViT] = functools.partial(
    FlowMViT, size=32, frames=4, drop_path=0.0, width=8, depths=(1, 1), kv_stride=2
)
mvit: Callable[..., MViTv2] = functools.partial(
    MViTv2, rate=8.0, size=32, frames=8, drop_path=0.0, width=8, depths=(1, 1), kv_stride=2
)
raft_flow: Callable[..., RAFTFlow] = functools.partial(
    RAFTFlow, updates=2, frame=32, size=16, dim=16, channels=(6, 8), levels=2, narrow=8
)
ENCODERS |= {
    "MAE-Face": (mae_face, mae_face),
    "MAE-Face, patches": (lambda: mae_face("patches", frozen=1), lambda: mae_face("mean")),
    "AudioMAE": (audio_mae, lambda: audio_mae(depth=0)),
    "AudioMAE, filled": (lambda: audio_mae(fill=True, frozen=1), lambda: audio_mae(depth=0)),
    "AudioMAE, windows": (lambda: audio_mae("cls"), lambda: audio_mae("cls")),
    "MViTv2": (mvit, lambda: mvit(depths=())),
    "MViTv2, class token": (lambda: mvit("cls", checkpointing=True), lambda: mvit(depths=())),
    "MViTv2, patches": (lambda: mvit("patch", frozen_blocks=1), lambda: mvit(depths=())),
    "flow": (lambda: flow_net(channels=(6, 8)), lambda: flow_net(channels=(6, 8), layers=0)),
    "flow, every frame": (
        lambda: flow_net(rate=None, channels=(6, 8), halvings=0),
        lambda: flow_net(rate=None, channels=(16, 24), halvings=0, layers=0),
    ),
    "ststnet": (STSTNet, STSTNet),
    "flow, transformer": (flow_mvit, lambda: flow_mvit(depths=())),
    "flow, its classes": (lambda: flow_mvit("cls"), lambda: flow_mvit(depths=())),
    "flow by a network": (raft_flow, lambda: raft_flow(halvings=2, layers=0)),
}
ENCODERS |= sounds.ENCODERS
SCREEN = {"width_cm": 50.0, "height_cm": 30.0, "distance_cm": 60.0, "unit": "norm"}
eye_events: Callable[..., EyeEvents] = functools.partial(EyeEvents, SCREEN, rate=60.0, dim=16, hidden=16)
eye_statistics: Callable[..., EyeStatistics] = functools.partial(
    EyeStatistics, SCREEN, rate=60.0, length=0.5, hop=0.5, dim=16, hidden=16
)
fixation_map: Callable[..., FixationMap] = functools.partial(
    FixationMap, SCREEN, rate=60.0, length=0.5, size=16, patch=8, dim=16
)
ENCODERS |= {
    "eye, lstm": (lambda: EyeLSTM(rate=60.0, hidden=16), lambda: EyeLSTM(rate=60.0, hidden=16, layers=1)),
    "eye, lstm of steps": (lambda: EyeLSTM(rate=60.0, hidden=16, steps=8), lambda: EyeLSTM(rate=60.0, hidden=16)),
    "eye, lstm of rows": (lambda: EyeLSTM(None, 5, 10.0, "eye", 16), lambda: EyeLSTM(None, 5, 10.0, "eye", 16, 1)),
    "eye, tcn": (lambda: EyeTCN(dim=16, channels=(8, 8)), lambda: EyeTCN(dim=16, channels=(8, 8), blocks=0)),
    "eye, transformer": (
        lambda: EyeTransformer(dim=16, channels=(8, 8), centred=("pupil_left",)),
        lambda: EyeTransformer(dim=16, channels=(8, 8), layers=0),
    ),
    "eye, proxy from video": (
        lambda: EyeTransformer(("gaze_x", "yaw"), 30.0, 16, (8,), backend="mediapipe"),
        lambda: EyeTransformer(("gaze_x", "yaw"), 30.0, 16, (8,), layers=0, backend="mediapipe"),
    ),
    "eye, events": (eye_events, lambda: eye_events(layers=0)),
    "eye, statistics": (eye_statistics, lambda: eye_statistics(whole=False)),
    "eye, overlapping": (lambda: eye_statistics(length=1.5, smooth=True), lambda: eye_statistics(whole=False)),
    "eye, maps": (fixation_map, fixation_map),
    "eye, patches of maps": (lambda: fixation_map(tokens="patch"), fixation_map),
}
skeleton: Callable[..., SkeletonGCN] = functools.partial(
    SkeletonGCN, layout="coco17", blocks=((8, 1), (12, 2), (12, 2)), gain=1.0, rate=20.0
)
# One convolution over nine frames, of which neighbours share one.
glance: Callable[..., SkeletonGCN] = functools.partial(skeleton, blocks=((8, 8),))
ENCODERS |= {
    "skeleton": (skeleton, glance),
    "skeleton, sum": (
        lambda: skeleton(
            variant="aagcn", attention=False, join="sum", streams=("joint", "bone_motion"), normalise="none"
        ),
        lambda: glance(variant="aagcn", attention=False, join="sum", normalise="none"),
    ),
    "skeleton, attention": (lambda: skeleton(variant="aagcn", join="early", people=2), glance),
    "skeleton, joints": (lambda: skeleton(tokens="joint", normalise="none"), glance),
    "skeleton, both": (lambda: skeleton(tokens="both", streams=("bone",)), lambda: glance(streams=("bone",))),
    "skeleton, looped": (
        lambda: skeleton(layout="ntu25", normalise="ntu", frames=30, fit="loop", streams=("joint", "joint_motion")),
        lambda: glance(layout="ntu25", normalise="pyskl", frames=30, fit="loop"),
    ),
    "skeleton, filled up": (
        lambda: skeleton(frames=30, fit="pad", tokens="both", normalise="none"),
        lambda: glance(frames=30, fit="pad"),
    ),
    "skeleton, resampled": (lambda: skeleton(frames=16), lambda: glance(frames=60)),
}
images: Callable[..., ImageTransformer] = functools.partial(
    ImageTransformer,
    config={"model_type": "clip_vision_model", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"intermediate_size": 32, "image_size": 16, "patch_size": 8, "projection_dim": 12},
)
videomae: dict[str, Any] = {
    "model_type": "videomae",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
videomae |= {"intermediate_size": 32, "image_size": 16, "patch_size": 8, "num_frames": 8, "use_mean_pooling": False}
stem = videomae | {"num_hidden_layers": 0}
ENCODERS |= {
    "images": (images, images),
    "images, embedding": (lambda: images(features="embedding", rate=None), images),
    "images, patches": (lambda: images(features="patches", size=24), lambda: images(features="mean")),
    "VideoMAE": (lambda: VideoMAE(config=videomae), lambda: VideoMAE(config=stem, rate=8.0)),
    "VideoMAE, windows": (
        lambda: VideoMAE(config=videomae | {"use_mean_pooling": True}, tokens="pooled"),
        lambda: VideoMAE(config=stem, tokens="pooled", rate=8.0),
    ),
}
# Encoders that look back have no local version, and tokens of events lie where the events do. Their own tests ask for both.
REMEMBERING = {"eye, lstm", "eye, lstm of steps", "eye, lstm of rows"}
REMEMBERING |= {"opensmile, rows"}  # each is smoothed over its neighbours
FOLLOWING = {"eye, events"}
OVERLAPPING = {"MViTv2", "MViTv2, class token", "MViTv2, patches"}  # two tokens see every second frame
DIVIDING = {"skeleton, resampled"}  # so many tokens, however short the clip
START = 5.0  # clips begin in the middle of a video


def shaken(encoder: Encoder) -> Encoder:
    """With parameters and statistics that training could have left, so that no zero or one hides a mistake."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in encoder.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
        for name, buffer in encoder.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "mean"):
                buffer.normal_(0, 0.5, generator=generator)
            elif name.rpartition(".")[2] in ("running_var", "std"):
                buffer.uniform_(0.5, 2.0, generator=generator)
    return encoder.eval()


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return shaken(ENCODERS[request.param][0]())


def per_second(spec: InputSpec) -> float:
    """Elements a second of media: the rate, or a fixed number of them in two seconds, or any number."""
    return spec.rate or (spec.segments * spec.duration / 2.0 if spec.segments else 4.0)


def elements(spec: InputSpec, seconds: float) -> int:
    return max(1, round(seconds * per_second(spec)))


def clip(spec: InputSpec, count: int, seed: int = 0) -> Sampled:
    """One clip of `count` elements, all real."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, count, *spec.item_shape())
    if spec.kind == "video":
        values = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    elif spec.kind == "text":  # words of four letters
        values = torch.randint(ord("a"), ord("z"), shape, generator=generator, dtype=torch.uint8)
        values[..., 4:] = 0
    else:
        values = torch.randn(shape, generator=generator) * (0.1 if spec.kind == "audio" else 1.0)
    if spec.kind == "eye" and "valid" in spec.columns:
        values = scanpath(spec.columns, count, per_second(spec), generator)[None]
    if spec.kind == "pose":  # the last channel is the confidence; a tenth of the joints is not seen
        values[..., -1] = (torch.rand(values.shape[:-1], generator=generator) < 0.9).float()
        values *= values[..., -1:] > 0
    begin = START + torch.arange(count, dtype=torch.float64) / per_second(spec)
    spans = torch.stack([begin, begin + 1 / per_second(spec)], dim=1).float()
    return Sampled(values, torch.ones(1, count, dtype=torch.bool), spans[None])


def padded(clips: list[Sampled], more: int) -> Sampled:
    """Clips in one batch, a further absent one, and garbage wherever nothing is real."""
    size = max(c.mask.shape[1] for c in clips) + more
    first = clips[0].values
    garbage = 255 if first.dtype == torch.uint8 else float("nan")
    values = torch.full((len(clips) + 1, size, *first.shape[2:]), garbage, dtype=first.dtype)
    mask, spans = torch.zeros(len(clips) + 1, size, dtype=torch.bool), torch.full((len(clips) + 1, size, 2), -50.0)
    for row, c in enumerate(clips):
        count = c.mask.shape[1]
        values[row, :count], mask[row, :count], spans[row, :count] = c.values[0], True, c.spans[0]
    return Sampled(values, mask, spans)


def check(tokens: Tokens, encoder: Encoder, batch: int) -> Tokens:
    """What holds for every answer."""
    assert isinstance(tokens, Tokens)
    assert (len(tokens), tokens.dim) == (batch, encoder.dim)
    assert torch.isfinite(tokens.values).all()
    assert (tokens.values[~tokens.mask] == 0).all()
    assert (tokens.mask.int().diff(dim=1) <= 0).all(), "padding is on the right only"
    return tokens


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def probe_sum(tokens: Tokens) -> Tensor:
    """A scalar that every token enters with its own weight; a plain sum is constant behind a layer norm."""
    weight = torch.randn(tokens.values.shape, generator=torch.Generator().manual_seed(3))
    return (tokens.values * weight).sum()


@torch.no_grad()
def test_a_padded_batch_gives_the_tokens_of_each_clip_alone(encoder: Encoder) -> None:
    if encoder.batch_by_length:
        pytest.skip("declares batch_by_length: its clips are never padded")
    counts = [elements(encoder.spec, s) for s in (2.0, 0.73, 1.31)]
    clips = [clip(encoder.spec, n, seed) for seed, n in enumerate(counts)]
    batch = check(encoder(padded(clips, more=elements(encoder.spec, 0.7))), encoder, 4)
    for row, c in enumerate(clips):
        alone = check(encoder(c), encoder, 1)
        assert alone.mask.all()
        real = batch.mask[row]
        assert real.sum() == alone.mask.shape[1]
        close(batch.values[row][real], alone.values[0])
        close(batch.spans[row][real], alone.spans[0])


@torch.no_grad()
def test_an_absent_modality_gives_masked_finite_zeros(encoder: Encoder) -> None:
    spec = encoder.spec
    absent = Sampled(torch.zeros(2, 1, *spec.item_shape()), torch.zeros(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2))
    tokens = check(encoder(absent), encoder, 2)
    assert not tokens.mask.any()
    beside = check(encoder(padded([clip(spec, elements(spec, 1.0))], 0)), encoder, 2)
    assert beside.present.tolist() == [True, False]


@torch.no_grad()
def test_spans_tile_the_clip_in_media_time(encoder: Encoder, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["encoder"] in FOLLOWING:
        pytest.skip("one token per event, and nothing between events")
    inputs = clip(encoder.spec, elements(encoder.spec, 1.37))
    tokens = check(encoder(inputs), encoder, 1)
    spans = tokens.spans[0]
    assert (spans[:, 1] > spans[:, 0]).all()
    assert (spans[1:, 0] >= spans[:-1, 0] - 1e-5).all()
    spans = torch.unique(spans, dim=0)  # tokens of one moment (say, joints) share it
    if len(spans) > 1:  # beside tokens of parts there may be some of the whole clip
        spans = spans[spans.diff(dim=1)[:, 0] < spans.max() - spans.min() - 1e-4]
    close(spans[1:, 0], spans[:-1, 1])
    close(torch.stack([spans[0, 0], spans[-1, 1]]), torch.stack([inputs.spans[0, 0, 0], inputs.spans[0, -1, 1]]))
    if encoder.output_rate:  # the first and the last token also stand for what no other token covers
        close(spans[1:-1].diff(dim=1), torch.full((max(0, len(spans) - 2), 1), 1 / encoder.output_rate))


@torch.no_grad()
def test_one_element_of_input_gives_tokens_of_its_moment(encoder: Encoder, request: pytest.FixtureRequest) -> None:
    inputs = clip(encoder.spec, 1)
    tokens = check(encoder(inputs), encoder, 1)
    assert tokens.mask.all()
    spans = tokens.spans
    if request.node.callspec.params["encoder"] in DIVIDING:
        spans = torch.stack([spans[:, :1, 0], spans[:, -1:, 1]], 2)
    close(spans, inputs.spans.expand_as(spans))


@torch.no_grad()
def test_the_state_makes_another_copy_equal(encoder: Encoder) -> None:
    inputs = clip(encoder.spec, elements(encoder.spec, 0.6))
    copy = build(encoder.describe(), Encoder, ("mer.encoders",), (), "test").eval()
    copy.load_state_dict(encoder.state_dict())
    close(copy(inputs).values, encoder(inputs).values)


@torch.no_grad()
def test_the_description_is_json_and_builds_the_same_encoder(encoder: Encoder) -> None:
    description = json.loads(json.dumps(encoder.describe()))
    inputs = clip(encoder.spec, elements(encoder.spec, 0.6))
    answers = []
    for _ in range(2):
        torch.manual_seed(11)
        copy = build(description, Encoder, ("mer.encoders",), (), "test").eval()
        assert (copy.spec, copy.dim, copy.output_rate) == (encoder.spec, encoder.dim, encoder.output_rate)
        assert copy.describe() == description
        answers.append(copy(inputs).values)
    close(*answers)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_reach_every_trainable_parameter(encoder: Encoder, training: bool) -> None:
    torch.manual_seed(0)
    encoder.train(training)
    clips = [clip(encoder.spec, elements(encoder.spec, s), seed) for seed, s in enumerate((1.0, 0.6))]
    probe_sum(encoder(padded(clips, 1))).backward()
    without = [n for n, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_a_training_batch_without_the_modality_leaves_no_parameter_out_of_the_graph(encoder: Encoder) -> None:
    """DistributedDataParallel waits for the gradient of every parameter."""
    spec = encoder.train().spec
    absent = Sampled(torch.zeros(2, 1, *spec.item_shape()), torch.zeros(2, 1, dtype=torch.bool), torch.zeros(2, 1, 2))
    probe_sum(encoder(absent)).backward()
    assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(not p.grad.any() for p in encoder.parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("moment", [1.0, 2.0])
def test_an_event_shows_in_the_token_whose_span_covers_it(name: str, moment: float) -> None:
    """A click, a flash, an odd row. Random weights may favour a neighbour, so that several networks are asked."""
    if name in REMEMBERING | FOLLOWING | OVERLAPPING:
        pytest.skip("its own tests ask where an event shows")
    changes = []
    for seed in range(8):
        torch.manual_seed(seed)
        local = shaken(ENCODERS[name][1]())
        spec = local.spec
        quiet = clip(spec, elements(spec, 3.0), seed)
        spans = local(quiet).spans[0] - START
        covering = int(torch.nonzero((spans[:, 0] <= moment + 1e-3) & (spans[:, 1] > moment + 1e-3))[0])
        event = float(spans[covering].mean())
        distance = (quiet.spans[0].mean(1) - START - event).abs()
        struck = distance <= max(0.01, float(distance.min()))
        values = quiet.values.clone()
        if spec.kind == "audio":
            values[0, struck] = torch.sin(torch.arange(int(struck.sum())) * 0.7)
        elif spec.kind == "text":
            values[0, struck, :4] = ord("z")
        else:
            values[0, struck] = 255 if spec.kind == "video" else 3.0
        changes.append((local(Sampled(values, quiet.mask, quiet.spans)).values - local(quiet).values)[0].norm(dim=1))
    change = torch.stack(changes).mean(0)
    length = float(spans[covering, 1] - spans[covering, 0])
    assert int(change.argmax()) == covering
    assert float((change**2 * spans.mean(1)).sum() / (change**2).sum()) == pytest.approx(event, abs=length / 4)
    # Before the receptive field of the neighbours, only what a clip's own mean moves (some encoders subtract it).
    assert (change[: max(0, covering - 2)] < 0.1 * change[covering]).all()


@torch.no_grad()
def test_half_precision_stays_close(encoder: Encoder) -> None:
    inputs = clip(encoder.spec, elements(encoder.spec, 1.0))
    exact = encoder(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(inputs)
    assert half.spans.dtype == torch.float32
    assert torch.isfinite(half.values).all()
    torch.testing.assert_close(half.values.float(), exact.values, atol=0.3, rtol=0.1)


@torch.no_grad()
def test_calibration_takes_statistics_of_real_elements_only(encoder: Encoder) -> None:
    clips = [clip(encoder.spec, elements(encoder.spec, s), seed) for seed, s in enumerate((1.0, 0.5))]
    encoder.calibrate(iter(clips))
    alone = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.calibrate(iter([padded(clips, 3)]))
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, alone[name], atol=1e-4, rtol=1e-4, msg=name)


def test_the_base_class_says_what_is_missing() -> None:
    class Unfinished(Encoder):
        pass

    with pytest.raises(TypeError, match="Unfinished does not implement forward"):
        Unfinished()(clip(InputSpec("audio", rate=10.0), 3))


def test_pixels_are_normalised_and_zero_where_padded() -> None:
    encoder = FrameCNN(8, size=4, channels=(4,))
    batch = padded([clip(encoder.spec, 2)], 1)
    pixels = encoder.pixels(batch)
    close(pixels[0, :2], batch.values[0, :2].float() / 127.5 - 1)
    assert (pixels[0, 2:] == 0).all()
    assert isinstance(encoder, nn.Module)


# Beside the contract as it stands here: several columns at once; packages that are not in every environment.
ELSEWHERE = {"MMADFER": "test_joint_contract", "OpenSmile": "sounds"} | dict.fromkeys(
    ("MMAction", "PyTorchVideo", "TimmFrames"), "test_bridges"
)


def test_every_shipped_encoder_is_held_to_it() -> None:
    tried = {type(make()).__name__ for make, _ in ENCODERS.values()}
    assert set(mer.encoders.__all__) - {"Encoder"} - set(ELSEWHERE) <= tried
