"""What encoders of several modalities hold, beside what `test_contract` asks of the others. A new one joins with one line."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from encoders.test_contract import check, clip, close, padded, probe_sum, shaken
from mer.configured import build
from mer.encoders import MMADFER
from mer.encoders.base import JointEncoder
from mer.spec import InputSpec
from mer.tokens import Sampled

tiny: Callable[..., MMADFER] = functools.partial(
    MMADFER,
    **{
        "size": 16,
        "patch": 8,
        "dim": 16,
        "depth": 4,
        "heads": 2,
        "frames": 4,
        "heard": 32,
        "bands": 16,
        "rate": 4000.0,
    },
    **{"bottleneck": 8, "width": 12, "time_heads": 2, "crop": "none"},
)
JOINT: dict[str, Callable[[], JointEncoder]] = {
    "MMA-DFER, frames": tiny,
    "MMA-DFER, clip": lambda: tiny("clip", video="face", audio="voice"),
}
Clips = dict[str, Sampled | None]


@pytest.fixture(params=JOINT)
def encoder(request: pytest.FixtureRequest) -> JointEncoder:
    torch.manual_seed(0)
    return shaken(JOINT[request.param]())  # type: ignore[return-value]


def count(spec: InputSpec, seconds: float) -> int:
    """Elements of a clip: all of a fixed number, or as many as fit."""
    return spec.segments * spec.duration if spec.segments else round(seconds * (spec.rate or 4.0))


def whole(encoder: JointEncoder, seconds: float, seed: int = 0) -> Clips:
    """A clip that has every modality."""
    return {m: clip(s, count(s, seconds), seed + i) for i, (m, s) in enumerate(encoder.specs.items())}


def some(encoder: JointEncoder) -> list[Clips]:
    """Clips of several lengths: with everything, each modality alone, and nothing."""
    alone = [{m: c if m == kept else None for m, c in whole(encoder, 0.6, 5).items()} for kept in encoder.specs]
    return [whole(encoder, 0.5), whole(encoder, 0.21, 3), *alone, dict.fromkeys(encoder.specs)]


def batch(encoder: JointEncoder, clips: Sequence[Clips], more: int = 0) -> dict[str, Sampled]:
    """Padded by `more` elements, with garbage wherever nothing is real."""
    inputs = {}
    for modality, spec in encoder.specs.items():
        here = torch.tensor([c[modality] is not None for c in clips])
        stacked = padded([c[modality] or clip(spec, 1) for c in clips], more)
        stacked = Sampled(stacked.values[:-1], stacked.mask[:-1], stacked.spans[:-1])
        stacked.values[~here] = 255 if spec.kind == "video" else float("nan")
        inputs[modality] = stacked.keep(here)
    return inputs


def rows(inputs: Mapping[str, Sampled], order: Sequence[int]) -> dict[str, Sampled]:
    return {m: Sampled(s.values[order], s.mask[order], s.spans[order]) for m, s in inputs.items()}


@torch.no_grad()
def test_a_padded_batch_gives_the_tokens_of_each_clip_alone(encoder: JointEncoder) -> None:
    clips = some(encoder)
    together = check(encoder(batch(encoder, clips, more=7)), encoder, len(clips))
    for row, c in enumerate(clips):
        alone = check(encoder(batch(encoder, [c])), encoder, 1)
        real = alone.mask[0]
        assert together.mask[row].sum() == real.sum()
        close(together.values[row][together.mask[row]], alone.values[0][real])
        close(together.spans[row][together.mask[row]], alone.spans[0][real])


@torch.no_grad()
def test_a_clip_has_tokens_as_long_as_it_has_any_modality(encoder: JointEncoder) -> None:
    clips = some(encoder)
    assert encoder(batch(encoder, clips)).present.tolist() == [True] * (len(clips) - 1) + [False]
    nothing = check(encoder(batch(encoder, [clips[-1], clips[-1]])), encoder, 2)
    assert not nothing.mask.any()


@torch.no_grad()
def test_every_modality_is_heard(encoder: JointEncoder) -> None:
    before, after = whole(encoder, 0.5), whole(encoder, 0.5, seed=40)
    values = encoder(batch(encoder, [before])).values
    for modality in encoder.specs:
        changed = encoder(batch(encoder, [before | {modality: after[modality]}])).values
        missing = encoder(batch(encoder, [before | {modality: None}])).values
        for other in (changed, missing):
            assert float((other - values).abs().max()) > 1e-3


@torch.no_grad()
def test_tokens_tile_the_stretch_that_is_there(encoder: JointEncoder) -> None:
    clips = some(encoder)[:-1]
    tokens = encoder(batch(encoder, clips, more=3))
    for row, c in enumerate(clips):
        spans, real = tokens.spans[row][tokens.mask[row]], [s for s in c.values() if s is not None]
        assert (spans[:, 1] > spans[:, 0]).all()
        close(spans[1:, 0], spans[:-1, 1])
        assert float(spans[0, 0]) == pytest.approx(min(float(s.spans[0, 0, 0]) for s in real), abs=1e-4)
        assert float(spans[-1, 1]) <= max(float(s.spans[0, -1, 1]) for s in real) + 1e-4


@torch.no_grad()
def test_permuting_the_batch_permutes_the_tokens(encoder: JointEncoder) -> None:
    inputs, order = batch(encoder, some(encoder), more=2), [3, 0, 4, 2, 1]
    straight, turned = encoder(inputs), encoder(rows(inputs, order))
    close(turned.values, straight.values[order])
    assert torch.equal(turned.mask, straight.mask[order])


@pytest.mark.parametrize("training", [False, True])
def test_no_gradient_crosses_clips(encoder: JointEncoder, training: bool) -> None:
    encoder.train(training)
    inputs = batch(encoder, [whole(encoder, 0.5), whole(encoder, 0.3, 3)])
    heard = {m: s for m, s in inputs.items() if s.values.is_floating_point()}
    for s in heard.values():
        s.values = torch.nan_to_num(s.values).requires_grad_()
    encoder(inputs).values[0].square().sum().backward()
    for s in heard.values():
        assert s.values.grad is not None
        assert s.values.grad[0].any()
        assert not s.values.grad[1].any()


@pytest.mark.parametrize("training", [False, True])
def test_gradients_reach_every_trainable_parameter_and_no_other(encoder: JointEncoder, training: bool) -> None:
    torch.manual_seed(0)
    encoder.train(training)
    probe_sum(encoder(batch(encoder, some(encoder), more=1))).backward()
    for name, p in encoder.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) == p.requires_grad, name
        assert p.grad is None or torch.isfinite(p.grad).all(), name


@pytest.mark.parametrize("which", range(2, 5))
def test_a_training_batch_without_a_modality_leaves_no_parameter_out_of_the_graph(
    encoder: JointEncoder, which: int
) -> None:
    """DistributedDataParallel waits for the gradient of every parameter."""
    clips = [some(encoder)[which]] * 2
    probe_sum(encoder.train()(batch(encoder, clips))).backward()
    assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@torch.no_grad()
def test_the_description_is_json_and_with_the_state_it_makes_the_same_encoder(encoder: JointEncoder) -> None:
    description = json.loads(json.dumps(encoder.describe()))
    copy = build(description, JointEncoder, ("mer.encoders",), (), "test").eval()
    assert (copy.specs, copy.dim, copy.describe()) == (encoder.specs, encoder.dim, description)
    copy.load_state_dict(encoder.state_dict())
    inputs = batch(encoder, some(encoder))
    close(copy(inputs).values, encoder(inputs).values)


@torch.no_grad()
def test_half_precision_stays_close(encoder: JointEncoder) -> None:
    inputs = batch(encoder, some(encoder))
    exact = encoder(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(inputs)
    assert half.spans.dtype == torch.float32
    assert torch.equal(half.mask, exact.mask)
    torch.testing.assert_close(half.values.float(), exact.values, atol=0.3, rtol=0.1)


def test_the_base_class_says_what_is_missing() -> None:
    class Unfinished(JointEncoder):
        pass

    with pytest.raises(TypeError, match="Unfinished does not implement forward"):
        Unfinished()({})
