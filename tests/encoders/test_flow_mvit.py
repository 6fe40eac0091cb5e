"""The video transformer on flow: the same weights, the right scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from encoders.test_contract import clip, padded
from mer.encoders import FlowMViT
from mer.encoders.flow import motion
from mer.encoders.mvit import MViT
from mer.tokens import Sampled

TINY: dict[str, Any] = {"size": 32, "frames": 4, "width": 8, "depths": (1, 1), "kv_stride": 2}


@torch.no_grad()
def test_it_takes_the_weights_of_videos_and_sees_fields_as_wide_as_pictures(tmp_path: Path) -> None:
    published = MViT(8, (1, 1), kv_stride=2, size=(4, 32, 32), head=5).eval()
    torch.save(published.state_dict(), tmp_path / "a.pth")
    encoder = FlowMViT("all", **TINY).eval()
    report = encoder.load_published(tmp_path / "a.pth")
    assert report.table == "torchvision"
    inputs = clip(encoder.spec, 4)
    tokens, _ = published((motion(inputs) / 0.45).transpose(1, 2))
    torch.testing.assert_close(encoder(inputs).values, tokens)


def test_training_mirrors_whole_clips_with_the_sign_of_u() -> None:
    torch.manual_seed(0)
    encoder = FlowMViT(drop_path=0.0, **TINY)
    one = clip(encoder.spec, 4)
    batch = padded([one] * 7, 0)
    assert not encoder.eval()(batch).values[:7].diff(dim=0).any()
    assert encoder.train()(batch).values[:7].diff(dim=0).any()
    still = Sampled(torch.zeros_like(one.values), one.mask, one.spans)
    torch.testing.assert_close(encoder(still).values, encoder.eval()(still).values)


def test_it_is_fed_flow_in_windows_of_its_length() -> None:
    with torch.device("meta"):
        encoder = FlowMViT()
    assert (encoder.spec.kind, encoder.spec.size, encoder.spec.mean) == ("flow", (224, 224), None)
    assert encoder.spec.window == 16 / 7.5
    assert sum(p.numel() for p in encoder.parameters()) == 34_537_744 - 768 * 400 - 400
