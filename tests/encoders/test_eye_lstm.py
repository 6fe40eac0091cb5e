"""EMERT's recurrent streams: the published layout, every step a token, nothing before an event knows of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from encoders.scanpath import scanpath
from mer.encoders import EyeLSTM
from mer.encoders.eye_lstm import TOBII
from mer.errors import UserError
from mer.tokens import Sampled


def rows(values: Tensor, rate: float = 60.0) -> Sampled:
    begin = 5 + torch.arange(values.shape[1]) / rate
    spans = torch.stack([begin, begin + 1 / rate], 1).expand(len(values), -1, 2)
    return Sampled(values, torch.ones(values.shape[:2], dtype=torch.bool), spans)


def emert(dim: int = 64) -> dict[str, Tensor]:
    """The keys of a whole EMERT file (the one with a head of four layers); shapes of the rest do not matter here."""
    rest = [
        "subnet.f_extractor.conv1.weight",
        "subnet.f_extractor.fc.bias",
        "subnet.classifier.weight",
        "proj_v1.weight",
    ]
    rest += [f"specific_projection_{m}.0.weight" for m in "val"] + ["invariant_projection.0.bias"]
    rest += ["distriminator.0.weight", "transformer.pos_embedding_s", "cls_head.0.weight", "cls_head_in.0.bias"]
    rest += ["transformer.CrossTransformerEncoder.layers.1.1.fn.net.3.bias"]
    state = {key: torch.zeros(1) for key in rest}
    torch.manual_seed(1)
    for stream, width in (("e_lstm", 39), ("v_lstm", 2)):
        for key, value in torch.nn.LSTM(width, 128, 3).state_dict().items():
            state[f"subnet.{stream}.{key}"] = value.detach().clone()
    return state


@pytest.mark.parametrize(("stream", "part", "width"), [("eye", "e_lstm", 39), ("gaze", "v_lstm", 2)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_published_file_fills_the_stream_that_was_asked_for(
    tmp_path: Path, stream: str, part: str, width: int, wrapped: bool
) -> None:
    state = emert()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, tmp_path / "e.pth")
    encoder = EyeLSTM(None, width, stream=stream).eval()  # type: ignore[arg-type]
    report = encoder.load_published(tmp_path / "e.pth")
    assert report.loaded == 12
    x = torch.randn(2, 32, width)
    theirs = torch.nn.LSTM(width, 128, 3, batch_first=True)
    theirs.load_state_dict({k.removeprefix(f"subnet.{part}."): v for k, v in state.items() if part in k})
    torch.testing.assert_close(encoder(rows(x)).values, theirs(x)[0])


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("subnet.e_lstm.bias_hh_l1", None, r"the key 'subnet.e_lstm.bias_hh_l1' .* is missing"),
        ("subnet.e_lstm.weight_ih_l3", torch.zeros(1), "the key 'subnet.e_lstm.weight_ih_l3' is extra"),
        ("subnet.e_lstm.weight_ih_l0", torch.zeros(512, 40), r"\(512, 40\) instead of \(512, 39\)"),
    ],
)
def test_another_layout_is_refused_and_the_key_named(tmp_path: Path, key: str, value: Tensor | None, says: str) -> None:
    state = {k: v for k, v in (emert() | {key: value}).items() if v is not None}
    torch.save(state, tmp_path / "e.pth")
    with pytest.raises(UserError, match=says):
        EyeLSTM(None, 39, stream="eye").load_published(tmp_path / "e.pth")


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        eye, gaze = EyeLSTM("tobii", stream="eye"), EyeLSTM()
    assert eye.spec.columns == (*TOBII, "valid") and len(TOBII) == 39
    assert sum(p.numel() for p in eye.parameters()) == 4 * 128 * (39 + 5 * 128) + 3 * 2 * 4 * 128
    assert sum(p.numel() for p in gaze.parameters()) == 4 * 128 * (2 + 5 * 128) + 3 * 2 * 4 * 128


@torch.no_grad()
def test_an_event_shows_at_once_and_never_before() -> None:
    torch.manual_seed(0)
    encoder = EyeLSTM(None, 5, 60.0, hidden=16).eval()
    quiet = torch.randn(1, 120, 5)
    struck = quiet.clone()
    struck[0, 60] += 3.0
    change = (encoder(rows(struck)).values - encoder(rows(quiet)).values)[0].norm(dim=1)
    assert (change[:60] == 0).all()
    assert change[60] > 0.3 * change.max() > 0


@torch.no_grad()
@pytest.mark.parametrize("count", [7, 8, 9, 21, 64])
def test_steps_are_the_middles_of_equal_parts_and_stand_for_them(count: int) -> None:
    encoder = EyeLSTM(None, 2, steps=8, hidden=4, layers=1).eval()
    place = torch.arange(count, dtype=torch.float32)
    x, mask, spans = encoder._parts(
        place[None, :, None].expand(1, count, 2), *(lambda s: (s.mask, s.spans))(rows(torch.zeros(1, count, 2))), 8
    )
    parts = [p.float() for p in torch.tensor_split(place, min(8, count))]  # the first parts get one more
    assert x[0, :, 0].tolist() == [float(p[(len(p) - 1) // 2]) for p in parts]
    edges = torch.tensor([[float(p[0]), float(p[-1]) + 1] for p in parts])
    torch.testing.assert_close(spans[0], 5 + edges / 60, atol=1e-5, rtol=0)
    assert mask.all()


def test_in_training_a_step_is_any_sample_of_its_part() -> None:
    encoder = EyeLSTM(None, 1, steps=4, hidden=4, layers=1).train()
    given = rows(torch.arange(20.0)[None, :, None])
    drawn = torch.stack([encoder._parts(given.values, given.mask, given.spans, 4)[0][0, :, 0] for _ in range(200)])
    for part in range(4):
        assert set(drawn[:, part].tolist()) == set(map(float, range(5 * part, 5 * part + 5)))


def test_eye_and_gaze_draw_the_same_samples_in_every_step_of_a_training() -> None:
    torch.manual_seed(3)
    eye, gaze = EyeLSTM(None, 3, steps=4, hidden=4, layers=1), EyeLSTM(None, 1, steps=4, hidden=8, layers=2)
    moments = torch.arange(20.0)[None, :, None].expand(3, 20, 1)
    seen = []
    for _ in range(20):
        batch = rows(moments.expand(3, 20, 3)), rows(moments)
        both = [
            e.train()._parts(b.values, b.mask, b.spans, 4)[0][..., 0] for e, b in zip((eye, gaze), batch, strict=True)
        ]
        torch.rand(5)  # what else draws, say dropout, is in nobody's way
        torch.testing.assert_close(both[0], both[1], rtol=0, atol=0)
        seen.append(both[0])
    drawn = torch.stack(seen)
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 20, "every step draws anew"
    assert (drawn[:, 0] != drawn[:, 1]).any(), "every clip draws for itself"
    torch.manual_seed(4)
    other = EyeLSTM(None, 1, steps=4, hidden=4, layers=1).train()
    assert (other._parts(*((b := rows(moments)).values, b.mask, b.spans), 4)[0][..., 0] != seen[0]).any()


@torch.no_grad()
def test_what_was_lost_is_a_line_between_what_was_seen() -> None:
    torch.manual_seed(0)
    encoder = EyeLSTM(hidden=8).eval()
    whole = torch.cat([torch.linspace(100, 900, 30)[None, :, None].expand(1, 30, 2), torch.ones(1, 30, 1)], 2)
    holes = whole.clone()
    holes[0, 5:15] = 0
    torch.testing.assert_close(encoder(rows(holes)).values, encoder(rows(whole)).values)


@torch.no_grad()
def test_standardised_on_request() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = rows(torch.stack([scanpath(("gaze_x", "gaze_y", "valid"), 60, 60.0, generator) for _ in range(3)]))
    raw, standard = EyeLSTM(hidden=4), EyeLSTM(hidden=4, standardise=True)
    for encoder in (raw, standard):
        encoder.calibrate([batch])
    assert (raw.mean == 0).all() and (raw.std == 1).all()
    assert (standard.mean - 0.5).abs().max() < 0.2


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="either columns or a cached feature"):
        EyeLSTM(width=3)
    with pytest.raises(UserError, match="either columns or a cached feature"):
        EyeLSTM(None)
    with pytest.raises(UserError, match="stream 'pupil'"):
        EyeLSTM(stream="pupil")  # type: ignore[arg-type]
