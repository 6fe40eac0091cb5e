"""Published files are read strictly, and nothing in them is executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mer.encoders.weights import KeyTable, Stranger, load, renamed, tensors
from mer.errors import UserError

TABLE = KeyTable(
    "theirs",
    pairs=((r"^0\.", "fc1."), (r"^2\.", "fc2.")),
    unused=((r"^head\.", "a classifier"),),
    absent=((r"^2\.bias", "they have none"),),
    fits=((r"^0\.bias", lambda value, shape: value.reshape(shape)),),
)
OTHER = KeyTable("another", pairs=((r"^", "x."),))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def published(**changes: Tensor | None) -> dict[str, Tensor]:
    content = renamed(network(1).state_dict(), TABLE) | {"head.weight": torch.zeros(5)}
    content["fc1.bias"] = content["fc1.bias"].reshape(1, 4)
    merged = content | {k.replace("__", "."): v for k, v in changes.items() if v is not None}
    return {k: v for k, v in merged.items() if k not in {n.replace("__", ".") for n, v in changes.items() if v is None}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.pth"


def same(network: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


class TestLoad:
    @pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"model": c, "epoch": 3}, lambda c: {"state_dict": c}])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_a_file_of_another_layout_fills_the_network(self, path: Path, wrap, prefix: str) -> None:  # type: ignore[no-untyped-def]
        torch.save(wrap({prefix + k: v for k, v in published().items()}), path)
        report = load(ours := network(), path, (OTHER, TABLE))
        assert same(ours, network(1))
        assert (report.table, report.loaded, report.unused) == ("theirs", 4, {"head.weight": "a classifier"})
        assert "1 unused" in str(report)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fc1__weight": None}, "the key 'fc1.weight' (here '0.weight') is missing"),
            ({"fc3__weight": torch.zeros(1)}, "the key 'fc3.weight' is extra"),
            ({"fc2__weight": torch.zeros(2, 5)}, "the key 'fc2.weight' has the shape (2, 5) instead of (2, 4)"),
        ],
    )
    def test_a_key_that_is_missing_extra_or_of_another_shape_is_named_and_nothing_changes(
        self, path: Path, changes: dict[str, Tensor | None], message: str
    ) -> None:
        torch.save(published(**changes), path)
        ours = network()
        with pytest.raises(UserError) as raised:
            load(ours, path, (TABLE,))
        assert message in str(raised.value)
        assert same(ours, network())

    def test_what_a_layout_may_lack_stays_as_it_was_built(self, path: Path) -> None:
        torch.save(published(fc2__bias=None), path)
        report = load(ours := network(), path, (TABLE,))
        assert report.absent == {"2.bias": "they have none"}
        assert torch.equal(ours[2].bias, network()[2].bias)
        assert torch.equal(ours[2].weight, network(1)[2].weight)

    def test_a_file_of_another_network_is_known_by_its_keys(self, path: Path) -> None:
        torch.save(published(alpha=torch.zeros(1)), path)
        with pytest.raises(UserError, match=r"another network, as the key 'alpha' shows\. Use the other"):
            load(network(), path, (TABLE,), (Stranger("alpha", "Use the other"),))

    def test_a_part_is_filled_from_a_file_that_is_checked_whole(self, path: Path) -> None:
        torch.save(published(), path)
        part = nn.Sequential(nn.Linear(3, 4))
        with torch.device("meta"):
            whole = network()
        report = load(part, path, (TABLE,), whole=whole)
        assert torch.equal(part[0].weight, network(1)[0].weight)
        assert report.unused["fc2.weight"] == "not built"
        torch.save(published(fc2__weight=None), path)
        with pytest.raises(UserError, match=r"'fc2.weight' .* is missing"):
            load(part, path, (TABLE,), whole=whole)


class TestTensors:
    def test_a_safetensors_file_and_the_folders_of_a_hub(self, tmp_path: Path) -> None:
        content = {"a.weight": torch.ones(2), "b.weight": torch.zeros(3)}
        save_file(content, tmp_path / "one.safetensors")
        assert tensors(tmp_path / "one.safetensors").keys() == content.keys()
        (tmp_path / "whole").mkdir()
        torch.save(content, tmp_path / "whole" / "pytorch_model.bin")
        assert tensors(tmp_path / "whole").keys() == content.keys()
        (tmp_path / "parts").mkdir()
        for name, key in (("1.safetensors", "a.weight"), ("2.safetensors", "b.weight")):
            save_file({key: content[key]}, tmp_path / "parts" / name)
        index = tmp_path / "parts" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a.weight": "1.safetensors", "b.weight": "2.safetensors"}}))
        assert tensors(tmp_path / "parts").keys() == content.keys()
        index.write_text(json.dumps({"weight_map": {"a.weight": "../one.safetensors"}}))
        with pytest.raises(UserError, match="outside its folder"):
            tensors(tmp_path / "parts")

    def test_a_file_that_holds_more_than_tensors_is_refused_and_not_run(self, path: Path) -> None:
        torch.save({"state_dict": published(), "recorder": Trap(path.with_name("sprung"))}, path)
        with pytest.raises(UserError, match=r"holds Python objects besides tensors.* mer weights convert"):
            tensors(path)
        assert not path.with_name("sprung").exists()

    @pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 and then nothing"])
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_a_broken_file_is_one_line(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable"):
            tensors(path)

    def test_what_is_not_there_or_empty_is_one_line(self, tmp_path: Path, path: Path) -> None:
        with pytest.raises(UserError, match="no such file of weights"):
            tensors(path)
        with pytest.raises(UserError, match="neither model"):
            tensors(tmp_path)
        torch.save({"epoch": 3}, path)
        with pytest.raises(UserError, match="no tensors in it"):
            tensors(path)


class Trap:
    """Makes a file when it is unpickled the careless way."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (self.path,)


def test_dictionaries_without_an_end_are_one_line(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    twice: dict[str, Any] = {}
    for _ in range(60):
        twice = {"a": twice, "b": twice}
    for content in (endless, twice):
        torch.save(content, tmp_path / "loop.pt")
        with pytest.raises(UserError, match="contain themselves, or far too many"):
            tensors(tmp_path / "loop.pt")
