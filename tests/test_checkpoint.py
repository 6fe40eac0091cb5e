"""A checkpoint gives back the model that was saved, and nothing in the file is trusted or executed."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mer.fusion
import mer.heads
from mer import checkpoint
from mer.encoders import Encoder, FeatureEncoder, FrameCNN, MelNet
from mer.encoders.weights import Report
from mer.errors import UserError
from mer.fusion import AttentionPool, Concat, Fusion
from mer.heads import LinearHead, MLPHead, ShareHead, TaperingHead
from mer.labels import LabelSpace, Task
from mer.model import EmotionModel, Prediction
from mer.spec import InputSpec
from mer.tokens import Sampled

TASKS = {
    "emotion": tiny.EMOTION,
    "cues": Task("cues", LabelSpace("cues.v1", ("smile", "rising"), "multilabel")),
    "valence": Task("valence", LabelSpace("v.v1", ("valence",), "continuous"), "frame"),
}
# Encoders of different kinds (the contract's tests build every one from its description); every shipped fusion and head.
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "FeatureEncoder": lambda: FeatureEncoder(5, 4.0, dim=8, hidden=12, layers=1, clip=3.0),
    "FrameCNN": lambda: FrameCNN(8, rate=4, size=16, channels=(4, 6), augment=0.5),
    "MelNet": lambda: MelNet(8, bands=16, channels=(4, 6), halvings=2, layers=1, window=1.5),
}
FUSIONS: dict[str, Callable[[Mapping[str, int]], Fusion]] = {
    "AttentionPool": lambda dims: AttentionPool(dims, 8, temperature=0.5, clock_rate=3.0),
    "Concat": lambda dims: Concat(dims, 8, clock_rate=4.0),
}
# The fusion contract builds every other one from its description.
HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "MLPHead": lambda dim, outputs: MLPHead(dim, outputs, hidden=5),
    "ShareHead": lambda dim, outputs: ShareHead(dim, outputs, hidden=5),
    "LinearHead": LinearHead,
    "TaperingHead": lambda dim, outputs: TaperingHead(dim, outputs, widths=(6, 5)),
}


def test_every_shipped_head_is_tried_here() -> None:
    assert {n for n, c in vars(mer.heads).items() if inspect.isclass(c) and n.endswith("Head")} == set(HEADS)


def sampled(spec: InputSpec, seed: int) -> Sampled:
    """Two clips, the second shorter."""
    generator = torch.Generator().manual_seed(seed)
    rate = spec.rate or 4.0
    count = round(1.2 * rate)
    values = torch.rand(2, count, *spec.item_shape(), generator=generator)
    if spec.kind == "video":
        values = (255 * values).to(torch.uint8)
    mask = torch.arange(count)[None] < torch.tensor([[count], [count // 2]])
    begin = torch.arange(count) / rate
    return Sampled(values, mask, torch.stack([begin, begin + 1 / rate], 1).expand(2, -1, -1).contiguous())


@torch.no_grad()
def answers(model: EmotionModel) -> dict[str, Tensor]:
    prediction: Prediction = model(
        {m: sampled(spec, seed) for seed, (m, spec) in enumerate(sorted(model.specs.items()))}
    )
    unimodal = {f"{t} {m}": v for t, by in prediction.unimodal.items() for m, v in by.items()}
    return {**prediction.logits, **{n: t.values for n, t in prediction.frames.items()}, **unimodal}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_loaded_model_answers_exactly_as_the_saved_one(encoder: str, fusion: str, head: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    encoders = {"one": ENCODERS[encoder](), "two": FeatureEncoder(3, dim=6, hidden=4)}
    heads = {name: HEADS[head] for name in TASKS}
    model = EmotionModel(encoders, FUSIONS[fusion], TASKS, heads, unimodal_heads=True, modality_dropout=0.25)
    with torch.no_grad():
        for tensor in model.state_dict().values():  # buffers too: calibration is a part of the model
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor)
    checkpoint.save(tmp_path / "m.safetensors", model.eval(), {"seed": 3})
    loaded, description = checkpoint.load(tmp_path / "m.safetensors")
    assert not loaded.training
    assert description["facts"] == {"seed": 3}
    assert loaded.describe() == model.describe()
    assert loaded.specs == model.specs
    assert loaded.tasks == model.tasks
    expected, found = answers(model), answers(loaded)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    checkpoint.save(path, tiny.model(), {})
    return path


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """The same file with another description or other tensors."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["mer"])
    tensors = load_file(path)
    change(description, tensors)
    save_file(tensors, path, metadata={"mer": json.dumps(description)})
    return path


def refusal(path: Path, *allowed: str) -> str:
    """The one line that says why the file is refused; it names the file."""
    with pytest.raises(UserError) as caught:
        checkpoint.load(path, allowed)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


class Trap:
    """Leaves a mark wherever it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


class TestNothingIsExecuted:
    @pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
    def test_a_pickle_is_refused_unopened(self, kind: str, tmp_path: Path) -> None:
        path, mark = tmp_path / "m.safetensors", tmp_path / "executed"
        if kind == "pickle":
            path.write_bytes(pickle.dumps({"model": Trap(mark)}))
        else:
            torch.save({"model": Trap(mark)}, path, _use_new_zipfile_serialization=kind == "torch")
        assert "not a checkpoint of mer" in refusal(path)
        assert not mark.exists()

    @pytest.mark.parametrize("part", ["encoders", "fusion", "heads"])
    def test_a_foreign_class_is_named_and_its_module_is_not_imported(
        self, part: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab(tmp_path, monkeypatch)

        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            place = description["model"][part]
            (place if part == "fusion" else next(iter(place.values())))["class_path"] = "some_lab.nets.Widened"

        line = refusal(forge(saved, change))
        assert "'some_lab.nets.Widened'" in line
        assert "--allow-module" in line
        assert "some_lab.nets" not in sys.modules
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize(
        "path", ["os.system", "subprocess.Popen", "mer.runs.RunFolder", "mer.encoders.base.nn.Linear"]
    )
    def test_what_is_no_encoder_is_refused_even_from_mer(self, path: str, saved: Path) -> None:
        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            description["model"]["encoders"]["audio"] = {"class_path": path, "init_args": {"args": "true"}}

        assert repr(path) in refusal(forge(saved, change))

    def test_an_allowed_module_is_let_in_and_no_other(
        self, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab(tmp_path, monkeypatch)

        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            description["model"]["encoders"]["video"]["class_path"] = "some_lab.nets.Widened"

        forge(saved, change)
        assert "Widened" in refusal(saved, "some_lab.networks", "some_other")
        model, _ = checkpoint.load(saved, ["some_lab.nets"])
        assert type(model.encoders["video"]).__module__ == "some_lab.nets"
        assert checkpoint.load(saved, ["some_lab"])[0].describe() == model.describe()


def lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody else: importing it leaves a mark."""
    (folder / "some_lab").mkdir()
    (folder / "some_lab" / "__init__.py").write_text("")
    source = f"""
        import pathlib
        from mer.encoders import FrameCNN
        pathlib.Path({str(folder / "executed")!r}).touch()
        class Widened(FrameCNN):
            pass
    """
    (folder / "some_lab" / "nets.py").write_text(inspect.cleandoc(source))
    monkeypatch.syspath_prepend(folder)
    for name in ("some_lab", "some_lab.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)


class TestWhatIsNotACheckpoint:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert "no such checkpoint" in refusal(tmp_path / "none.safetensors")
        assert "no such checkpoint" in refusal(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b"\x00" * 4096, b"{}" * 100])
    def test_any_other_file(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").write_bytes(content)
        assert "not a checkpoint of mer" in refusal(tmp_path / "m.safetensors")

    def test_half_a_file(self, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
        assert "not a checkpoint of mer" in refusal(saved)

    @pytest.mark.parametrize(
        "metadata", [None, {"format": "pt"}, {"mer": "{"}, {"mer": "[]"}, {"mer": '{"schema": 1}'}]
    )
    def test_safetensors_of_somebody_else(self, metadata: dict[str, str] | None, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
        assert "checkpoint of mer" in refusal(path)

    @pytest.mark.parametrize("schema", [checkpoint.SCHEMA + 1, 0, None, "1"])
    def test_another_schema_is_named_with_the_one_that_is_read(self, schema: object, saved: Path) -> None:
        line = refusal(forge(saved, lambda description, tensors: description.update(schema=schema)))
        assert f"schema {schema!r}" in line
        assert f"schema {checkpoint.SCHEMA}" in line

    @pytest.mark.parametrize("key", ["tasks", "encoders", "fusion", "heads", "modality_dropout"])
    @pytest.mark.parametrize("damage", ["gone", None, 3, "x", [], {"emotion": None}])
    def test_a_damaged_description(self, key: str, damage: object, saved: Path) -> None:
        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            description["model"].pop(key) if damage == "gone" else description["model"].update({key: damage})

        refusal(forge(saved, change))


class TestTensorsThatDoNotFit:
    KEY = "encoders.video.stem.0.weight"

    def test_a_missing_one_is_named(self, saved: Path) -> None:
        line = refusal(forge(saved, lambda description, tensors: tensors.pop(self.KEY)))
        assert f"{self.KEY!r} is missing" in line

    def test_one_too_many_is_named(self, saved: Path) -> None:
        line = refusal(forge(saved, lambda description, tensors: tensors.update(extra=torch.zeros(1))))
        assert "'extra' is not part of the model" in line

    def test_a_wrong_shape_is_named_with_both_shapes(self, saved: Path) -> None:
        line = refusal(forge(saved, lambda description, tensors: tensors.update({self.KEY: torch.zeros(4, 3, 5, 5)})))
        assert f"{self.KEY!r} has shape (4, 3, 5, 5) instead of (4, 3, 3, 3)" in line

    def test_a_description_of_another_width_is_noticed(self, saved: Path) -> None:
        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            description["model"]["encoders"]["video"]["init_args"]["dim"] = 16

        assert "instead of" in refusal(forge(saved, change))

    def test_arguments_that_a_class_refuses_are_named(self, saved: Path) -> None:
        def change(description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
            description["model"]["encoders"]["video"]["init_args"]["colour"] = "blue"

        assert "colour" in refusal(forge(saved, change))


class TestWriting:
    def test_an_interrupted_write_leaves_the_old_file(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = saved.read_bytes()

        def full_disk(tensors: object, path: Path, metadata: object) -> None:
            path.write_bytes(b"half")
            raise OSError("no space left on device")

        monkeypatch.setattr(checkpoint, "save_file", full_disk)
        with pytest.raises(UserError, match="no space"):
            checkpoint.save(saved, tiny.model(seed=1), {})
        assert saved.read_bytes() == before

    @pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
    def test_colleagues_may_read_it(self, saved: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        assert saved.stat().st_mode & 0o777 == 0o666 & ~umask

    def test_it_holds_no_width_twice_and_no_machine(self, saved: Path) -> None:
        text = json.dumps(checkpoint.describe(saved))
        assert "dims" not in text
        assert str(Path.home()) not in text


class Published(MelNet):
    """Has two networks with a file each."""

    def load_published(self, path: Path, part: str | None = None) -> Report:
        self.asked = (path.name, part)
        return Report("any", 0)


def test_the_weights_of_a_config_may_be_somebody_elses_and_may_name_a_part(tmp_path: Path) -> None:
    encoder = Published(8)
    checkpoint.load_encoders({"sound": encoder}, {"sound.joint": str(tmp_path / "joint.pt")})
    assert encoder.asked == ("joint.pt", "joint")
    with pytest.raises(UserError, match="MelNet has no part 'joint'"):
        checkpoint.load_encoders({"sound": MelNet(8)}, {"sound.joint": str(tmp_path / "joint.pt")})
    with pytest.raises(UserError, match="MelNet has no published weights"):
        checkpoint.load_encoders({"sound": MelNet(8)}, {"sound": str(tmp_path / "joint.pt")})
    with pytest.raises(UserError, match="names the unknown encoder 'noise'"):
        checkpoint.load_encoders({"sound": encoder}, {"noise": "joint.pt"})
