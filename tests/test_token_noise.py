"""`model.token_noise`: in training the tokens of an encoder are shifted, each clip by its own amount; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from mer import checkpoint
from mer.errors import UserError
from mer.model import EmotionModel, noisy
from mer.tokens import Tokens


def tokens(lengths: tuple[int, ...] = (5, 2, 0), dim: int = 8) -> Tokens:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    spans = torch.arange(2.0 * mask.numel()).view(*mask.shape, 2)
    return Tokens(torch.randn(*mask.shape, dim) * mask[..., None], mask, spans)


def test_all_tokens_of_a_clip_move_alike_and_clips_apart() -> None:
    torch.manual_seed(0)
    given = tokens((400, 400), dim=500)
    moved = noisy(given, 1.5)
    shift = moved.values - given.values
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)
    assert not torch.allclose(shift[0, 0], shift[1, 0])
    assert float(shift[:, 0].std()) == pytest.approx(1.5, rel=0.1)


def test_padding_and_absent_clips_stay_as_they_are() -> None:
    given = tokens()
    moved = noisy(given, 2.0)
    assert torch.equal(moved.values[~given.mask], given.values[~given.mask])
    assert moved.mask is given.mask and moved.spans is given.spans


def test_it_is_there_in_training_alone_and_on_the_named_encoder_alone() -> None:
    seen: list[dict[str, Tokens]] = []
    model = tiny.model(token_noise={"audio": 1.0})
    model.fusion.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    given = {"audio": tokens(), "video": tokens()}  # as from a feature store
    model(given)
    assert torch.equal(seen[-1]["audio"].values, given["audio"].values)
    model.train()
    model(given)
    assert torch.equal(seen[-1]["video"].values, given["video"].values)
    first = seen[-1]["audio"].values
    assert not torch.equal(first, given["audio"].values)
    model(given)
    assert not torch.equal(seen[-1]["audio"].values, first), "every step draws anew"


def test_a_checkpoint_does_not_store_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model.safetensors", tiny.model(token_noise={"audio": 1.0}), {})
    assert not checkpoint.load(tmp_path / "model.safetensors")[0].token_noise


@pytest.mark.parametrize(
    ("noise", "message"),
    [({"smell": 1.0}, "unknown encoder 'smell'"), ({"audio": -1.0}, "is -1"), ({"audio": float("nan")}, "is nan")],
)
def test_mistakes_are_named(noise: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EmotionModel(tiny.encoders(), lambda d: tiny.AttentionPool(d, 8), {"emotion": tiny.EMOTION}, token_noise=noise)
