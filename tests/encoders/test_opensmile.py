"""openSMILE's features come with their times and stay in memory; without the package the extra is named."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from encoders.test_contract import clip, padded
from mer.encoders import OpenSmile, opensmile
from mer.errors import UserError
from mer.tokens import Sampled

needed = pytest.mark.skipif(importlib.util.find_spec("opensmile") is None, reason="needs the extra opensmile")


def engine(level: str, wave: np.ndarray) -> np.ndarray:
    """What the package says itself, (T, columns)."""
    import opensmile as package

    smile = package.Smile(package.FeatureSet.eGeMAPSv02, getattr(package.FeatureLevel, level))
    rows: np.ndarray = smile.process_signal(wave, 16000).to_numpy()
    return rows


@needed
class TestFeatures:
    def test_functionals_are_those_of_the_package(self) -> None:
        inputs = clip(OpenSmile().spec, 16000)
        found = OpenSmile().features(inputs)
        assert found.values.shape == (1, 1, 88)
        np.testing.assert_allclose(found.values[0], engine("Functionals", inputs.values[0].numpy()), rtol=1e-5)
        torch.testing.assert_close(found.spans[0, 0], torch.tensor([5.0, 6.0]))

    def test_descriptors_are_those_of_the_package_each_in_the_middle_of_its_frame(self) -> None:
        inputs = clip(OpenSmile().spec, 16000)
        found = OpenSmile(level="lld").features(inputs)
        np.testing.assert_allclose(found.values[0], engine("LowLevelDescriptors", inputs.values[0].numpy()), rtol=1e-5)
        assert found.values.shape == (1, 96, 25)
        torch.testing.assert_close(found.spans[0, 50], torch.tensor([5.505, 5.515]))
        assert float(found.spans[0, -1, 1]) == pytest.approx(6.0)

    def test_a_click_is_loudest_in_the_row_whose_span_covers_it(self) -> None:
        encoder = OpenSmile(level="lld")
        inputs = clip(encoder.spec, 48000)
        inputs.values *= 0.1
        inputs.values[0, 32000 - 80 : 32000 + 80] = torch.sin(torch.arange(160) * 0.7)
        found = encoder.features(inputs)
        loudest = int(found.values[0, :, 0].argmax())
        assert found.spans[0, loudest, 0] <= 7.0 < found.spans[0, loudest, 1]

    def test_padding_is_not_heard_and_a_short_clip_gives_one_row_or_so(self) -> None:
        encoder = OpenSmile(level="lld")
        short, long = clip(encoder.spec, 100), clip(encoder.spec, 9000, 1)
        found = encoder.features(padded([short, long], 400))
        assert found.mask.sum(1).tolist() == [1, 52, 0]
        torch.testing.assert_close(found.values[1, :52], encoder.features(long).values[0])
        assert torch.isfinite(found.values).all()

    def test_the_engine_hears_each_clip_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encoder = OpenSmile()
        inputs = clip(encoder.spec, 5000, seed=17)
        first = encoder.features(inputs)
        monkeypatch.setattr(opensmile, "_engine", lambda *_: pytest.fail("asked again"))
        torch.testing.assert_close(encoder.features(inputs).values, first.values)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opensmile, "_KEPT", 1000)
        encoder = OpenSmile()
        for seed in range(5):
            encoder.features(clip(encoder.spec, 2000, seed))
        assert sum(rows.nbytes for rows in opensmile._kept.values()) <= 1000

    def test_a_clip_larger_than_the_memory_is_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opensmile, "_KEPT", 100)
        assert OpenSmile().features(clip(OpenSmile().spec, 2000, seed=23)).mask.all()

    @pytest.mark.parametrize("name", opensmile.WIDTHS)
    def test_widths_are_those_of_the_package(self, name: str) -> None:
        for column, level in enumerate(("functionals", "lld")):
            assert opensmile._engine(name, level).num_features == opensmile.WIDTHS[name][column]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(opensmile.importlib, "import_module", missing)
    opensmile._engine.cache_clear()
    absent = Sampled(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1, 2))
    assert not OpenSmile()(absent).mask.any()  # nothing to compute, nothing needed
    with pytest.raises(UserError, match=r"'opensmile', which is not installed.*extra 'opensmile'"):
        OpenSmile()(clip(OpenSmile().spec, 2001, seed=99))


def test_an_unknown_set_is_one_line() -> None:
    with pytest.raises(UserError, match="Use one of eGeMAPSv02"):
        OpenSmile("eGeMAPS")
    with pytest.raises(UserError, match="functionals or lld"):
        OpenSmile(level="frames")  # type: ignore[arg-type]
