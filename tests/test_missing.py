"""A learned token stands in for an absent modality, through `EmotionModel`, for every fusion; it is nobody's evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import mer.fusion
from mer import checkpoint
from mer.encoders import Encoder, FeatureEncoder
from mer.errors import UserError
from mer.fusion import Fused, Fusion
from mer.labels import LabelSpace, Task
from mer.missing import LearnedMissing, hide
from mer.model import EmotionModel, Prediction
from mer.tokens import Sampled, Tokens

WIDTHS = {"words": 3, "voice": 4, "face": 5}
RATES = {"words": 2.0, "voice": 8.0, "face": 5.0}
MOOD = Task("mood", LabelSpace("mood.v1", ("sad", "glad")))
MOMENT = Task("moment", LabelSpace("mood.v1", ("sad", "glad")), "frame")
SHIPPED = {c.__name__: c for c in vars(mer.fusion).values() if isinstance(c, type) and issubclass(c, Fusion)}
OF_THREE = [n for n, c in SHIPPED.items() if n != "Fusion" and (c.max_modalities or 3) >= 3]


def encoders() -> dict[str, Encoder]:
    return {m: FeatureEncoder(w, RATES[m], dim=6, hidden=8, dropout=0.0) for m, w in WIDTHS.items()}


def model(fusion: str = "AttentionPool", **options: Any) -> EmotionModel:
    torch.manual_seed(0)
    options.setdefault("missing", "learned")
    options.setdefault("tasks", {"mood": MOOD})
    made = EmotionModel(encoders(), lambda dims: SHIPPED[fusion](dims, dim=12), **options)  # type: ignore[call-arg]
    with torch.no_grad():  # gates that start at 0 would hide what lies behind them
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return made.eval()


def inputs(here: dict[str, list[bool]] | None = None, more: int = 0) -> dict[str, Sampled]:
    """Clips of two seconds that begin at 1 s; `here` says per clip which modalities there are."""
    size = len(next(iter(here.values()))) if here else 2
    made = {}
    for number, (m, width) in enumerate(WIDTHS.items()):
        count = round(2 * RATES[m])
        values = torch.full((size, count + more, width), float("nan"))
        values[:, :count] = torch.randn(size, count, width, generator=torch.Generator().manual_seed(number))
        begin = 1 + torch.arange(count + more) / RATES[m]
        spans = torch.stack([begin, begin + 1 / RATES[m]], 1).expand(size, -1, -1).clone()
        mask = torch.tensor((here or {}).get(m, [True] * size))[:, None] & (torch.arange(count + more) < count)
        made[m] = Sampled(values, mask, spans)
    return made


def subsets() -> Iterator[dict[str, list[bool]]]:
    """A clip that has all, and one that has some, for every way to have some."""
    for size in (1, 2, 3):
        for some in combinations(WIDTHS, size):
            yield {m: [True, m in some] for m in WIDTHS}


def answers(prediction: Prediction) -> dict[str, Tensor]:
    frames = {t: f.zeroed() for t, f in prediction.frames.items()}
    return {**prediction.logits, **frames, "pooled": prediction.fused.pooled}


@pytest.mark.parametrize("fusion", OF_THREE)
@pytest.mark.parametrize("missing", ["masked", "learned"])
def test_an_absent_modality_gets_no_gradient_and_no_weight(fusion: str, missing: Any) -> None:
    net = model(fusion, missing=missing, unimodal_heads=True)
    for here in subsets():
        clips = inputs(here)
        for sampled in clips.values():
            sampled.values.requires_grad_()
        prediction = net(clips)
        (prediction.logits["mood"][1] * torch.tensor([1.0, -0.5])).sum().backward()
        weights = prediction.fused.modality_weights
        for m in WIDTHS:
            gradient = clips[m].values.grad
            there = here[m][1]
            assert prediction.seen[m].tolist() == here[m]
            assert (gradient is not None and bool(gradient[1].any())) is there, m
            assert bool(prediction.fused.unimodal[m][1].any()) is there
            if weights is not None:
                assert there or weights[m][1] == 0
        if weights is not None:
            torch.testing.assert_close(torch.stack(list(weights.values())).sum(0), torch.ones(2))


@pytest.mark.parametrize("fusion", OF_THREE)
def test_a_stand_in_is_trained_by_the_clips_that_lack_the_modality_and_by_no_other(fusion: str) -> None:
    net = model(fusion)
    assert net.missing is not None
    reached = set()
    for here in subsets():
        net.zero_grad()
        net(inputs(here)).logits["mood"][:, 0].sum().backward()
        assert [n for n, p in net.missing.named_parameters() if p.grad is None] == [], "DDP waits for every parameter"
        moved = {m for m in WIDTHS if net.missing.token[m].grad.any()}  # type: ignore[union-attr]
        assert moved <= {m for m in WIDTHS if not here[m][1]}
        reached |= moved
    assert reached == set(WIDTHS)


@torch.no_grad()
@pytest.mark.parametrize("fusion", OF_THREE)
def test_a_clip_that_has_all_or_nothing_is_answered_as_without_the_option(fusion: str) -> None:
    clips = inputs({m: [True, False] for m in WIDTHS})
    learned, masked = model(fusion), model(fusion, missing="masked")
    masked.load_state_dict({k: v for k, v in learned.state_dict().items() if not k.startswith("missing")})
    for name, value in answers(learned(clips)).items():
        torch.testing.assert_close(value, answers(masked(clips))[name], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_clip_that_lacks_something_is_answered_otherwise_and_its_clock_stays() -> None:
    clips = inputs({"words": [True], "voice": [False], "face": [True]})
    tasks = {"mood": MOOD, "moment": MOMENT}
    learned, masked = model(tasks=tasks), model(tasks=tasks, missing="masked")
    masked.load_state_dict({k: v for k, v in learned.state_dict().items() if not k.startswith("missing")})
    one, other = learned(clips), masked(clips)
    assert not torch.equal(one.logits["mood"], other.logits["mood"])
    assert not torch.equal(one.frames["moment"].values, other.frames["moment"].values)
    torch.testing.assert_close(one.frames["moment"].spans, other.frames["moment"].spans)


@torch.no_grad()
def test_a_stand_in_is_one_token_over_the_time_of_what_is_there() -> None:
    streams = {
        "a": Tokens(torch.full((3, 2, 4), float("nan")), torch.zeros(3, 2, dtype=torch.bool), torch.zeros(3, 2, 2)),
        "b": Tokens(
            torch.ones(3, 2, 2),
            torch.tensor([[True, True], [True, False], [False, False]]),
            torch.tensor([[[1.0, 2.0], [2.0, 3.5]]]).repeat(3, 1, 1),
        ),
    }
    stand_in = LearnedMissing({"a": 4, "b": 2})
    filled = stand_in(streams)
    assert filled["a"].mask.tolist() == [[True, False], [True, False], [False, False]]
    assert filled["a"].spans[:2, 0].tolist() == [[1.0, 3.5], [1.0, 2.0]]
    assert filled["a"].spans.dtype == torch.float32
    torch.testing.assert_close(filled["a"].values[:2, 0], stand_in.token["a"].expand(2, 4))
    assert torch.equal(filled["b"].mask, streams["b"].mask)
    half = stand_in({m: t.to(torch.bfloat16) for m, t in streams.items()})
    assert (half["a"].values.dtype, half["a"].spans.dtype) == (torch.bfloat16, torch.float32)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing() -> None:
    here = {"words": [True, False, True], "voice": [False, True, True], "face": [False, False, True]}
    net = model("CrossAttention")
    tight, loose = net(inputs(here)), net(inputs(here, more=4))
    torch.testing.assert_close(tight.logits["mood"], loose.logits["mood"], atol=1e-5, rtol=1e-5)
    for row in range(3):
        alone = {
            m: Sampled(s.values[row, None], s.mask[row, None], s.spans[row, None]) for m, s in inputs(here).items()
        }
        torch.testing.assert_close(net(alone).logits["mood"][0], tight.logits["mood"][row], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tokens_that_were_kept_do_as_well() -> None:
    net, clips = model(), inputs({"words": [True, True], "voice": [True, False], "face": [False, True]})
    kept = net(net.tokens(clips))
    torch.testing.assert_close(kept.logits["mood"], net(clips).logits["mood"])
    assert kept.seen["voice"].tolist() == [True, False]


def test_what_modality_dropout_hides_is_stood_in_for() -> None:
    net = model(modality_dropout=0.9).train()
    net(inputs()).logits["mood"][:, 0].sum().backward()
    assert net.missing is not None
    assert any(bool(p.grad.any()) for p in net.missing.parameters())  # type: ignore[union-attr]


def test_in_bfloat16_it_stays_finite() -> None:
    net = model(tasks={"mood": MOOD, "moment": MOMENT}).train()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = net(inputs({"words": [True, False], "voice": [True, False], "face": [False, False]}))
        loss = prediction.logits["mood"].float().sum() + prediction.frames["moment"].values.float().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_where_a_stand_in_had_all_the_weight_the_present_share_it() -> None:
    weights = {"a": torch.tensor([1.0, 0.5]), "b": torch.tensor([0.0, 0.25]), "c": torch.tensor([0.0, 0.25])}
    seen = {"a": torch.tensor([False, False]), "b": torch.tensor([True, True]), "c": torch.tensor([True, False])}
    shown = hide(Fused(torch.zeros(2, 1), modality_weights=weights), seen).modality_weights
    assert {m: w.tolist() for m, w in (shown or {}).items()} == {"a": [0, 0], "b": [0.5, 1], "c": [0.5, 0]}


def test_a_checkpoint_keeps_the_option_and_an_old_one_has_none(tmp_path: Path) -> None:
    clips = inputs({"words": [True, False], "voice": [False, True], "face": [True, True]})
    for missing in ("learned", "masked"):
        net = model(missing=missing)
        checkpoint.save(tmp_path / "m.safetensors", net, {})
        loaded, _ = checkpoint.load(tmp_path / "m.safetensors")
        assert loaded.describe() == net.describe()
        assert loaded.describe()["missing"] == missing
        assert torch.equal(loaded(clips).logits["mood"], net(clips).logits["mood"])
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        description = json.loads(file.metadata()["mer"])
    for change in ({}, {"missing": 3}, {"missing": "filled"}):
        told = {k: v for k, v in description["model"].items() if k not in ("missing", "reads")} | change
        metadata = {"mer": json.dumps(description | {"model": told})}
        save_file(load_file(tmp_path / "m.safetensors"), tmp_path / "old.safetensors", metadata=metadata)
        if change:
            with pytest.raises(UserError, match=r"old\.safetensors: model\.missing is"):
                checkpoint.load(tmp_path / "old.safetensors")
        else:
            assert checkpoint.load(tmp_path / "old.safetensors")[0].describe() == net.describe()


def test_another_word_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.missing is 'zero'. Use masked or learned"):
        model(missing="zero")
