"""The contract every encoder holds. A new encoder joins with one line in `ENCODERS`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from encoders import letters
from mer.configured import build
from mer.encoders import Encoder, FeatureEncoder, FrameCNN, MelNet, SwinFace
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

SMALL_SWIN: dict[str, Any] = {"size": 16, "embed": 8, "depths": (2, 1), "heads": (1, 2), "area": 4, "width": 16}
# name: (the encoder, the same without layers that look across the whole clip)
ENCODERS: dict[str, tuple[Callable[[], Encoder], Callable[[], Encoder]]] = {
    "features": (lambda: FeatureEncoder(5, 10.0, 16, 24, layers=2), lambda: FeatureEncoder(5, 10.0, 16, 24)),
    "vectors": (lambda: FeatureEncoder(5, dim=16, noise=0.1), lambda: FeatureEncoder(5, dim=16)),
    "frames": (lambda: FrameCNN(16, size=24, channels=(6, 8)), lambda: FrameCNN(16, size=24, channels=(6, 8))),
    "mel": (lambda: MelNet(16, channels=(6, 8, 8, 10)), lambda: MelNet(16, channels=(6, 8, 8, 10), layers=0)),
    "text": (lambda: letters.tiny("word"), lambda: letters.tiny("word", layers=0)),
    "text, segments": (lambda: letters.tiny("segment"), lambda: letters.tiny("segment", layers=0)),
    "mel, fine": (lambda: MelNet(16, channels=(6, 8), halvings=2, layers=2, trim=None), lambda: MelNet(16, layers=0)),
    "swinface": (lambda: SwinFace(**SMALL_SWIN), lambda: SwinFace(**SMALL_SWIN)),
    "swinface, identity": (lambda: SwinFace("id", **SMALL_SWIN), lambda: SwinFace("id", **SMALL_SWIN)),
    "swinface, grid": (lambda: SwinFace("grid", True, **SMALL_SWIN), lambda: SwinFace(**SMALL_SWIN)),
}
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
def test_spans_tile_the_clip_in_media_time(encoder: Encoder) -> None:
    inputs = clip(encoder.spec, elements(encoder.spec, 1.37))
    tokens = check(encoder(inputs), encoder, 1)
    spans = tokens.spans[0]
    assert (spans[:, 1] > spans[:, 0]).all()
    assert (spans[1:, 0] >= spans[:-1, 0] - 1e-5).all()
    spans = torch.unique(spans, dim=0)  # tokens of one moment (say, joints) share it
    close(spans[1:, 0], spans[:-1, 1])
    close(torch.stack([spans[0, 0], spans[-1, 1]]), torch.stack([inputs.spans[0, 0, 0], inputs.spans[0, -1, 1]]))
    if encoder.output_rate:  # the first and the last token also stand for what no other token covers
        close(spans[1:-1].diff(dim=1), torch.full((max(0, len(spans) - 2), 1), 1 / encoder.output_rate))


@torch.no_grad()
def test_one_element_of_input_gives_tokens_of_its_moment(encoder: Encoder) -> None:
    inputs = clip(encoder.spec, 1)
    tokens = check(encoder(inputs), encoder, 1)
    assert tokens.mask.all()
    close(tokens.spans, inputs.spans.expand_as(tokens.spans))


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
