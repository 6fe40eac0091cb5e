"""`mer bench encoders`: what is measured is what is said, on sizes that take no time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from mer import skeletons
from mer.encoders.agcn import AGCN
from mer.experiments import bench_encoders
from mer.experiments.bench_encoders import Cost, PlainAGCN, Run, Subject, measure, of, table


def linear(size: int = 64) -> tuple[nn.Module, Run]:
    module = nn.Linear(size, size, bias=False)
    x = torch.randn(32, size)
    return module, lambda: module(x)


def slower(module: nn.Module) -> Sequence[Run]:
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(3))

    def plain() -> torch.Tensor:
        time.sleep(0.02)
        return module(x)

    def best() -> torch.Tensor:
        time.sleep(0.01)
        return module(x)

    return [plain, best]


def test_parameters_and_multiplications_are_counted_and_the_best_form_counts() -> None:
    cost = measure(Subject("linear", "32 rows", linear, "sleep", slower), repeats=2)
    assert cost.parameters == 64 * 64
    assert cost.gmacs == pytest.approx(32 * 64 * 64 / 1e9)
    assert 0 < cost.error < 0.02
    assert cost.library_fp32 is not None and cost.library_bf16 is not None
    assert cost.fp32 < 10 < cost.library_bf16 < 20 <= cost.library_fp32
    assert cost.difference is not None and cost.difference > 0.1, "another input"


def test_memory_is_what_a_call_grew_by() -> None:
    def ours() -> tuple[nn.Module, Run]:
        def run() -> torch.Tensor:
            return torch.ones(50_000_000).sum()[None]

        return nn.Identity(), run

    memory = measure(Subject("memory", "", ours), repeats=1).memory
    assert memory is None or 190 < memory < 230


def test_a_library_that_is_absent_is_named() -> None:
    def absent(_: Any) -> Sequence[Run]:
        raise bench_encoders.UserError("this needs the package 'other'", "Install it")

    cost = measure(Subject("linear", "", linear, "other", absent), repeats=1)
    assert cost.library == "other: this needs the package 'other'"
    assert cost.library_fp32 is None
    assert "needs the package" in list(table([cost]))[1]


def test_attention_counts_its_products() -> None:
    def ours() -> tuple[nn.Module, Run]:
        x = torch.randn(1, 2, 16, 8)
        return nn.Identity(), lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x)

    assert measure(Subject("attention", "", ours), repeats=1).gmacs == pytest.approx(2 * 2 * 16 * 16 * 8 / 1e9)


@pytest.mark.parametrize(("name", "layout", "people"), [("NTU", "ntu25", 2), ("iMiGUE", "imigue22", 1)])
def test_the_plain_formulas_are_the_network(name: str, layout: str, people: int) -> None:
    torch.manual_seed(0)
    ours = AGCN(skeletons.layout(layout), people=people, classes=60, gain=0.3).double().eval()
    plain = PlainAGCN(skeletons.layout(layout), people, 60).double().eval()
    with torch.no_grad():
        for tensor in ours.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.02 * torch.rand(tensor.shape)
        plain.load_state_dict(ours.state_dict())
        x = torch.randn(1, 3, 9, ours.joints, people, dtype=torch.float64)
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours(x), plain(x, torch.channels_last), rtol=1e-6, atol=1e-6)


def test_the_table_is_aligned_and_holds_the_ratios() -> None:
    full = Cost("a", "b", 2_000_000, 1.0, 10.0, 5.0, 3.0, 1e-2, "lib", 20.0, 15.0, 1e-6)
    lines = list(table([full, Cost("longer name", "b", 1, 1.0, 10.0, 5.0, None, 1e-2, "none")]))
    assert lines[1].split()[-4:] == ["2.00", "3.00", "4.00", "1e-06"]
    assert lines[2].split()[-1] == "none"
    assert lines[0].index("library") == lines[1].index("lib") == lines[2].index("none")


def test_the_command_measures_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "costs.json"
    arguments = ("--only", "framecnn", "--repeats", "1", "--threads", "1", "--json", str(out))
    assert tiny.mer("bench", "encoders", *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("FrameCNN")
    (cost,) = json.loads(out.read_text())
    assert cost["parameters"] == sum(p.numel() for p in of("FrameCNN", 1)()[0].parameters())
    assert tiny.mer("bench", "encoders", "--only", "nothing") == 2
    assert "no encoder is named nothing" in tiny.one_line(capsys.readouterr().err.splitlines()[-1])
