"""The TCN and the transformer over samples: losses are told, people's pupils may be centred, order is heard."""

from __future__ import annotations

import pytest
import torch

from encoders.scanpath import scanpath
from mer.encoders import EyeTCN, EyeTransformer
from mer.encoders.eye_stem import EyeSequence
from mer.errors import UserError
from mer.tokens import Sampled

COLUMNS = ("gaze_x", "gaze_y", "pupil_left", "pupil_right")


def recording(seconds: float = 4.0, seed: int = 0, rate: float = 60.0) -> Sampled:
    values = scanpath((*COLUMNS, "valid"), round(seconds * rate), rate, torch.Generator().manual_seed(seed))
    begin = torch.arange(len(values)) / rate
    spans = torch.stack([begin, begin + 1 / rate], 1)
    return Sampled(values[None], torch.ones(1, len(values), dtype=torch.bool), spans[None])


def changed(inputs: Sampled, values: torch.Tensor) -> Sampled:
    return Sampled(values, inputs.mask, inputs.spans)


def test_channels_are_what_they_say() -> None:
    encoder = EyeTCN(channels=(), blocks=0, dim=8)
    inputs = recording()
    inputs.values[0, :, -1] = 1
    inputs.values[0, 30:33] = inputs.values[0, 90:120] = 0  # 50 ms are bridged, half a second is not
    encoder.mean.fill_(1.0)
    encoder.std.fill_(2.0)
    channels = encoder._channels(inputs)[0]
    seen = channels[:, 8:12] == 1
    assert not seen[30:33].any() and not seen[90:120].any() and seen[33:90].all()
    standard = ((inputs.values[0, :, :4] - 1) / 2).clamp(-5, 5)
    torch.testing.assert_close(channels[33:90, :4], standard[33:90])
    torch.testing.assert_close(channels[31, :4], (standard[29] + standard[33]) / 2)
    assert (channels[90:120, :8] == 0).sum() >= 8 * 30 - 8  # the step that leads there is known on one side
    torch.testing.assert_close(channels[40:80, 4:8], standard[41:81] - standard[39:79])
    since = channels[:, 12].expm1()
    torch.testing.assert_close(
        since[[60, 100, 119, 120, 121]], torch.tensor([1, 11, 30, 31, 1]) / 60, atol=1e-4, rtol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("make", [EyeTCN, EyeTransformer])
def test_centred_pupils_forget_the_person_and_keep_the_change(make: type[EyeSequence]) -> None:
    torch.manual_seed(0)
    inputs = recording()
    wider = inputs.values.clone()
    wider[..., 2:4] += 1.5 * (inputs.values[..., -1:] > 0)
    plain = make(dim=16, channels=(8, 8)).eval()  # type: ignore[call-arg]
    centred = make(dim=16, channels=(8, 8), centred=COLUMNS[2:]).eval()  # type: ignore[call-arg]
    assert not torch.allclose(plain(changed(inputs, wider)).values, plain(inputs).values, atol=1e-3)
    torch.testing.assert_close(centred(changed(inputs, wider)).values, centred(inputs).values, atol=1e-4, rtol=1e-4)
    dilated = inputs.values.clone()
    dilated[:, 120:, 2:4] *= 1.3
    assert not torch.allclose(centred(changed(inputs, dilated)).values, centred(inputs).values, atol=1e-3)


@torch.no_grad()
def test_a_lost_eye_is_not_an_eye_at_the_mean() -> None:
    torch.manual_seed(0)
    encoder = EyeTransformer(dim=16, channels=(8,)).eval()
    inputs = recording()
    encoder.calibrate([inputs])
    gone, mean = inputs.values.clone(), inputs.values.clone()
    gone[:, 60:120] = 0
    mean[:, 60:120] = torch.cat([encoder.mean, torch.ones(1)])
    a, b = (encoder(changed(inputs, v)).values[:, 32:58] for v in (gone, mean))
    assert (a - b).norm() > 0.1 * b.norm()


@torch.no_grad()
def test_the_tcn_sees_as_far_as_its_dilations() -> None:
    """Kernel 3, dilations 1 and 2: three tokens to either side, and one more that the stem takes in."""
    torch.manual_seed(0)
    encoder = EyeTCN(dim=8, channels=(8,), blocks=2, kernel=3).eval()
    inputs = recording()
    inputs.values[..., -1] = 1
    struck = inputs.values.clone()
    struck[0, 120] += 1.0
    change = (encoder(changed(inputs, struck)).values - encoder(inputs).values)[0].norm(dim=1)
    reach = torch.nonzero(change).flatten()
    assert 60 - 4 <= reach.min() <= 60 - 3 and 60 + 3 <= reach.max() <= 60 + 4


def test_arguments_that_make_no_sense() -> None:
    for call, says in [
        (lambda: EyeTCN(kernel=4), "odd kernel"),
        (lambda: EyeTCN(dim=15), "even dim"),
        (lambda: EyeTransformer(centred=("openness_left",)), "centred column 'openness_left' is not among"),
    ]:
        with pytest.raises(UserError, match=says):
            call()
