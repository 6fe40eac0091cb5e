"""The published EMERT models: their keys and sizes, the way to their files and back, and the formulas written a second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from tiny import mer, one_line
from torch import Tensor

from mer import checkpoint
from mer.configured import build
from mer.emert_reference import (
    COLUMNS,
    DEAD,
    ER7,
    FER7,
    POSITIONS,
    emert_reference_cls,
    emert_reference_intensity,
    emert_reference_reg,
    published,
    read,
    write,
)
from mer.encoders import Encoder, EyeLSTM, FeatureEncoder
from mer.errors import UserError
from mer.fusion import EMERT, Fusion
from mer.heads import LinearHead, MLPHead
from mer.labels import LabelSpace, Task
from mer.losses import SmoothL1
from mer.model import EmotionModel
from mer.shipped import shipped
from mer.tokens import Sampled

SEVEN = Task("seven", LabelSpace("seven.v1", tuple("abcdefg"), "continuous"))
MODELS: dict[str, Callable[[], EmotionModel]] = {
    "cls": emert_reference_cls,
    "reg": emert_reference_reg,
    "reg7": lambda: emert_reference_reg(SEVEN),
    "intensity": emert_reference_intensity,
}
# keys, and parameters with those that nobody uses: counted in the released code
COUNTS = {"reg7": (204, 12_768_233), "reg": (204, 12_768_179), "cls": (206, 12_625_209), "intensity": (200, 12_765_946)}
HEADS = {"cls": {"er7": "cls_head"}, "reg": {"valence": "cls_head"}, "reg7": {"seven": "cls_head"}}
HEADS |= {"intensity": {"fer7": "cls_head_e", "fer_intensity": "cls_head_in"}}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, seed: int = 0) -> EmotionModel:
    """With weights that training could have left, eyes scaled so that no gate is saturated."""
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.startswith("fusion."):
                value += 0.05 * torch.randn(value.shape, generator=generator)
            elif key.endswith("running_mean"):
                value.normal_(0, 0.1, generator=generator)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
    return model


def inputs(batch: int = 2, steps: int = 32) -> dict[str, Sampled]:
    generator = torch.Generator().manual_seed(3)
    values = {m: torch.randn(batch, steps, width + 1, generator=generator) for m, width in COLUMNS.items()}
    for x in values.values():
        x[..., -1] = 1.0  # of each row: it was seen
    values["face"] = torch.randint(0, 256, (batch, 8, 3, 112, 112), generator=generator, dtype=torch.uint8)
    found = {}
    for m, x in values.items():
        begin = torch.arange(x.shape[1]) / x.shape[1]
        spans = torch.stack([begin, begin + 1 / x.shape[1]], 1).expand(batch, -1, -1)
        found[m] = Sampled(x, torch.ones(x.shape[:2], dtype=torch.bool), spans)
    return found


def test_keys_and_parameters_are_those_of_the_released_code(name: str) -> None:
    state = published(MODELS[name]())
    parameters = sum(v.numel() for k, v in state.items() if "running_" not in k and "num_batches" not in k)
    assert (len(state), parameters) == COUNTS[name]
    assert sum(torch.Size(shape).numel() for shape in DEAD.values()) == 513_000 + 5_383
    width = 32 if name == "cls" else 64
    shapes = {
        "subnet.e_lstm.weight_ih_l0": (512, 39),
        "subnet.v_lstm.weight_ih_l0": (512, 2),
        "subnet.v_lstm.weight_ih_l2": (512, 128),
        "proj_v1.weight": (128, 512),
        "specific_projection_v.0.weight": (64, 128),
        "specific_projection_a.0.weight": (64, 128),
        "specific_projection_l.0.bias": (64,),
        "invariant_projection.0.weight": (64, 128),
        "distriminator.0.weight": (3, width),
        "transformer.pos_embedding_s": (1, 72, width),
        "transformer.pos_embedding_t": (1, 72, width),
        "transformer.CrossTransformerEncoder.layers.0.0.norm_q.weight": (width,),
        "transformer.CrossTransformerEncoder.layers.1.0.fn.to_q.weight": (512, width),
        "transformer.CrossTransformerEncoder.layers.1.0.fn.to_out.0.weight": (width, 512),
        "transformer.CrossTransformerEncoder.layers.0.1.norm.bias": (width,),
        "transformer.CrossTransformerEncoder.layers.0.1.fn.net.0.weight": (width, width),
        "transformer.CrossTransformerEncoder.layers.0.1.fn.net.3.weight": (width, width),
        "subnet.f_extractor.layer4.1.bn2.num_batches_tracked": (),
        "subnet.f_extractor.fc.weight": (1000, 512),
        "subnet.classifier.weight": (7, 768),
    }
    if name == "cls":
        shapes |= {"specific_projection_v.2.weight": (32, 64), "invariant_projection.2.weight": (32, 64)}
        shapes |= {"cls_head.0.weight": (7, 32)}
    elif name == "intensity":
        shapes |= {"cls_head_e.0.weight": (7, 64), "cls_head_in.0.weight": (1, 64)}
    else:
        shapes |= {"cls_head.2.weight": (16, 32), "cls_head.6.weight": (1 if name == "reg" else 7, 8)}
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_the_weights_of_the_losses_are_the_published_ones(name: str) -> None:
    fusion = MODELS[name]().fusion
    assert (fusion.invariant, fusion.specific) == ((0.3, 0.1) if name == "intensity" else (0.01, 0.01))
    assert (fusion.reversal, fusion.ramp, fusion.query) == (1.0, 0, "shared")


@torch.no_grad()
def test_a_file_goes_out_and_comes_back(name: str, tmp_path: Path) -> None:
    model, other = made(name, 1), made(name, 2)
    write(tmp_path / "emert.pth", model)
    content = torch.load(tmp_path / "emert.pth", weights_only=True)
    torch.save({f"module.{k}": v for k, v in content.items()}, tmp_path / "parallel.pth")  # as DataParallel saves it
    for file in ("emert.pth", "parallel.pth"):
        report = read(tmp_path / file, other)
        assert (report.loaded, set(report.unused)) == (COUNTS[name][0] - 4, set(DEAD))
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    checkpoint.save(tmp_path / "model.safetensors", other, {})
    shown = inputs()
    for task, logits in checkpoint.load(tmp_path / "model.safetensors")[0](shown).logits.items():
        torch.testing.assert_close(logits, model(shown).logits[task])


@torch.no_grad()
def test_the_command_turns_a_published_file_into_a_model_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, published_, ours, again = made("cls"), *(tmp_path / f for f in ("a.pth", "model.safetensors", "b.pth"))
    write(published_, model)
    assert mer("weights", "emert", published_, "--out", ours) == 2
    assert "Add --model cls, reg or intensity" in one_line(capsys.readouterr().err)
    assert mer("weights", "emert", published_, "--model", "reg", "--out", ours) == 2
    assert not ours.exists()
    assert mer("weights", "emert", published_, "--model", "cls", "--out", ours) == 0
    shown = inputs()
    torch.testing.assert_close(checkpoint.load(ours)[0](shown).logits, model(shown).logits)
    assert mer("weights", "emert", ours, "--out", again) == 0
    files = [torch.load(path, weights_only=True) for path in (published_, again)]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(value, files[1][key]) for key, value in files[0].items())
    capsys.readouterr()
    assert mer("weights", "emert", ours, "--out", again) == 2
    assert "exists" in one_line(capsys.readouterr().err)


def test_the_command_reads_what_was_converted_and_refuses_a_wrong_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made("intensity")
    theirs, ours, bare = (tmp_path / f for f in ("a.pth", "model.safetensors", "bare.safetensors"))
    write(theirs, model)
    checkpoint.save(ours, model, {})
    assert mer("weights", "convert", theirs, "--out", bare) == 0
    for file in (theirs, bare):
        assert (
            mer("weights", "emert", file, "--model", "intensity", "--out", tmp_path / f"{file.stem}2.safetensors") == 0
        )
    mistakes = [
        ((tmp_path / "none.safetensors", "--out", tmp_path / "x.pth"), "no such file"),
        ((tmp_path, "--out", tmp_path / "x.pth"), "no such file"),
        ((theirs, "--model", "intensity", "--out", tmp_path / "x.pth"), "is to be a model of mer"),
        ((ours, "--out", tmp_path / "x.safetensors"), "is to be a published file"),
        ((ours, "--model", "reg", "--out", tmp_path / "x.pth"), "says itself which it is"),
    ]
    capsys.readouterr()
    for arguments, message in mistakes:
        assert mer("weights", "emert", *arguments) == 2
        assert message in one_line(capsys.readouterr().err)
    assert not list(tmp_path.glob("x.*"))


def test_a_file_of_another_of_the_three_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "cls.pth", made("cls"))
    for name in ("reg", "intensity"):
        with pytest.raises(UserError, match=r"cls\.pth: "):
            read(tmp_path / "cls.pth", MODELS[name]())


@pytest.mark.parametrize("key", ["distriminator.0.bias", "transformer.pos_embedding_s", "subnet.e_lstm.bias_hh_l1"])
def test_what_a_file_lacks_is_named(key: str, tmp_path: Path) -> None:
    content = published(made("reg"))
    del content[key]
    torch.save(content, tmp_path / "less.pth")
    with pytest.raises(UserError, match=key):
        read(tmp_path / "less.pth", MODELS["reg"]())


@torch.no_grad()
def test_standardised_streams_come_out_as_streams_of_raw_values() -> None:
    model = made("reg")
    before = inputs()
    for m, encoder in model.encoders.items():
        if isinstance(encoder, EyeLSTM):
            encoder.mean.normal_()
            encoder.std.uniform_(0.5, 2.0)
            assert m in COLUMNS
    told = model(before).logits["valence"]
    torch.testing.assert_close(formulas(published(model), before, "reg").logits["valence"], told, atol=1e-5, rtol=1e-5)


class Answer:
    """What the formulas give: logits by task, z, and both losses of the modality classifier, unweighted."""

    def __init__(self, logits: dict[str, Tensor], z: Tensor, invariant: Tensor, specific: Tensor):
        self.logits, self.z, self.invariant, self.specific = logits, z, invariant, specific


def formulas(w: dict[str, Tensor], shown: dict[str, Sampled], name: str) -> Answer:
    """Sections 1.1 to 1.4 of the reference, one after the other, over the published keys; no dropout."""

    def linear(x: Tensor, key: str) -> Tensor:
        return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    def norm(x: Tensor, key: str) -> Tensor:
        y = x - x.mean(-1, keepdim=True)
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return y * w[f"{key}.weight"] + w[f"{key}.bias"]

    def batch_norm(x: Tensor, key: str) -> Tensor:
        key = f"subnet.f_extractor.{key}"
        mean, var, scale, shift = (
            w[f"{key}.{p}"].view(-1, 1, 1) for p in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def conv(x: Tensor, key: str, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, w[f"subnet.f_extractor.{key}.weight"], None, stride, padding)

    def resnet(x: Tensor) -> Tensor:
        x = F.max_pool2d(batch_norm(conv(x, "conv1", 2, 3), "bn1").relu(), 3, 2, 1)
        for stage in (1, 2, 3, 4):
            for block in (0, 1):
                at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = batch_norm(conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1").relu()
                y = batch_norm(conv(y, f"{at}.conv2", 1, 1), f"{at}.bn2")
                if stride == 2:
                    x = batch_norm(conv(x, f"{at}.downsample.0", 2, 0), f"{at}.downsample.1")
                x = (x + y).relu()
        return x.flatten(2).mean(2)

    def lstm(x: Tensor, key: str) -> Tensor:
        for layer in range(3):
            h = c = torch.zeros(len(x), 128)
            steps = []
            for t in range(x.shape[1]):
                gates = x[:, t] @ w[f"{key}.weight_ih_l{layer}"].T + w[f"{key}.bias_ih_l{layer}"]
                gates = gates + h @ w[f"{key}.weight_hh_l{layer}"].T + w[f"{key}.bias_hh_l{layer}"]
                i, f, g, o = gates.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                steps.append(h)
            x = torch.stack(steps, 1)
        return x

    def coder(x: Tensor, key: str) -> Tensor:
        x = linear(x, f"{key}.0")
        return linear(F.leaky_relu(x, 0.1), f"{key}.2") if name == "cls" else x

    frames = shown["face"].values.float() / 255
    face = linear(resnet(frames.flatten(0, 1)[:, [2, 1, 0]]).view(*frames.shape[:2], 512), "proj_v1")
    eye, gaze = (lstm(shown[m].values[..., :-1], f"subnet.{n}_lstm") for m, n in (("eye", "e"), ("gaze", "v")))
    own = [coder(x, f"specific_projection_{m}") for m, x in zip("val", (face, eye, gaze), strict=True)]
    common = [coder(x, "invariant_projection") for x in (face, eye, gaze)]
    losses = []
    for codes in (common, own):
        losses.append(
            sum(
                (
                    F.cross_entropy(linear(x.mean(1), "distriminator.0"), torch.full((len(x),), k))
                    for k, x in enumerate(codes)
                ),
                start=torch.zeros(()),
            )
        )
    s = torch.cat(own, 1) + w["transformer.pos_embedding_s"]
    x = torch.cat(common, 1) + w["transformer.pos_embedding_t"]
    for layer in (0, 1):
        at = f"transformer.CrossTransformerEncoder.layers.{layer}"
        q, k, v = (
            norm(y, f"{at}.0.norm_{n}") @ w[f"{at}.0.fn.to_{n}.weight"].T for n, y in (("q", x), ("k", s), ("v", s))
        )
        heads = []
        for h in range(8):
            part = slice(64 * h, 64 * (h + 1))
            weights = (q[..., part] @ k[..., part].transpose(1, 2) * 64**-0.5).softmax(2)
            heads.append(weights @ v[..., part])
        x = x + linear(torch.cat(heads, 2), f"{at}.0.fn.to_out.0")
        y = linear(norm(x, f"{at}.1.norm"), f"{at}.1.fn.net.0")
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + linear(y, f"{at}.1.fn.net.3")
    z = x.mean(1)
    logits = {}
    for task, head in HEADS[name].items():
        y = linear(z, f"{head}.0")
        if name.startswith("reg"):
            for layer in (2, 4, 6):
                y = linear(F.leaky_relu(y, 0.01), f"{head}.{layer}")
        logits[task] = y
    return Answer(logits, z, losses[0], losses[1])


@torch.no_grad()
def test_every_model_is_its_formulas(name: str) -> None:
    model, shown = made(name), inputs()
    answer, told = formulas(published(model), shown, name), model(shown)
    for task, logits in told.logits.items():
        torch.testing.assert_close(logits, answer.logits[task], atol=1e-5, rtol=1e-5)
    fusion = model.fusion
    torch.testing.assert_close(told.fused.pooled, answer.z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(told.fused.aux_losses["invariant"], fusion.invariant * answer.invariant)
    torch.testing.assert_close(told.fused.aux_losses["specific"], fusion.specific * answer.specific)


def test_every_gradient_is_that_of_the_formulas() -> None:
    """With intensity, where all losses meet. Of the reversed loss, what lies before the classifier gets the other sign."""
    model, shown = made("intensity"), inputs()
    emotion, intensity = torch.tensor([1, 4]), torch.tensor([[2.0], [0.5]])

    def task_loss(logits: dict[str, Tensor]) -> Tensor:
        wrong = SmoothL1()(logits["fer_intensity"], intensity)
        return F.cross_entropy(logits["fer7"], emotion) + wrong

    told = model(shown)
    (task_loss(told.logits) + sum(told.fused.aux_losses.values())).backward()
    # `published` under names of the model's parameters: fill the tensors with gradients, and let the converter rename them.
    carrier = emert_reference_intensity()
    carrier.load_state_dict(model.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), carrier.parameters(), strict=True):
            assert mine.grad is not None
            theirs.copy_(mine.grad)
    mine_by_key = published(carrier)
    weights = published(model)
    leaves = {k: v.clone().requires_grad_() for k, v in weights.items() if v.is_floating_point()}
    answer = formulas(weights | leaves, shown, "intensity")
    plain = task_loss(answer.logits) + 0.1 * answer.specific
    names = [k for k in leaves if k not in DEAD and "running_" not in k]
    tensors = [leaves[k] for k in names]
    first = torch.autograd.grad(plain, tensors, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(0.3 * answer.invariant, tensors, allow_unused=True)
    for key, a, b in zip(names, first, second, strict=True):
        a, b = (torch.zeros_like(leaves[key]) if g is None else g for g in (a, b))
        expected = a + b if key.startswith("distriminator") else a - b
        scale = max(1e-3, float(expected.abs().max()))
        assert float((mine_by_key[key] - expected).abs().max()) < 1e-4 * scale, key


def test_positions_are_those_of_the_release() -> None:
    assert POSITIONS == {"face": 8, "eye": 32, "gaze": 32}


def test_a_clip_without_gaze_or_shorter_than_its_places_is_answered() -> None:
    """The release has no such case: the streams that are there take the first of their places."""
    model = made("reg")
    shown = inputs(steps=20)
    gaze = shown["gaze"]
    shown["gaze"] = Sampled(gaze.values[:, :1], torch.zeros(2, 1, dtype=torch.bool), gaze.spans[:, :1])
    assert torch.isfinite(model(shown).logits["valence"]).all()


def test_another_model_has_no_published_layout() -> None:
    model = made("reg")
    del model.encoders["gaze"]
    with pytest.raises(UserError, match="no published layout"):
        published(model)


EYES = {"eye": FeatureEncoder(4, 5.0, dim=6), "gaze": FeatureEncoder(4, 5.0, dim=6)}


@pytest.mark.parametrize(
    ("options", "encoders", "heads", "problem"),
    [
        ({"missing": "learned"}, {}, {"er7": LinearHead}, "a model with missing"),
        ({"unimodal_heads": True}, {}, {"er7": LinearHead}, "a model with unimodal_heads"),
        ({"reads": {"fer7": "face"}}, {}, {"er7": LinearHead, "fer7": LinearHead}, "a model with reads"),
        ({}, {}, {"er7": MLPHead}, "a model with MLPHead"),
        ({}, EYES, {"er7": LinearHead}, "a model with FeatureEncoder"),
        ({}, {}, {"er7": LinearHead, "fer7": LinearHead}, "a model of the tasks er7, fer7"),
    ],
)
def test_what_the_release_has_not_is_not_written_as_published(
    options: dict[str, Any], encoders: dict[str, Encoder], heads: dict[str, type[torch.nn.Module]], problem: str
) -> None:
    given = {m: encoders.get(m, e) for m, e in emert_reference_cls().encoders.items()}
    tasks = {name: {"er7": ER7, "fer7": FER7}[name] for name in heads}
    model = EmotionModel(given, lambda dims: EMERT(dims, 32), tasks, heads, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"{problem} has no published layout"):
        published(model)


@pytest.mark.parametrize(
    ("config", "name"),
    [("er7", "cls"), ("fer7", "cls"), ("er_va", "reg"), ("fer_va", "reg"), ("fer_intensity", "intensity")],
)
def test_the_configs_of_emer_describe_the_same_model(config: str, name: str) -> None:
    """But for the names and outputs of the tasks, and that they standardise what the eye tracker gives."""
    content = yaml.safe_load((shipped("configs") / "emer" / f"{config}.yaml").read_text())["model"]
    reference = MODELS[name]()
    for m, encoder in reference.encoders.items():
        assert isinstance(encoder, Encoder)
        told = content["encoders"][m]
        assert told["class_path"] == f"mer.encoders.{type(encoder).__name__}"
        asked = dict(told["init_args"])
        assert asked.pop("standardise", m == "face")
        built = build({**told, "init_args": asked}, Encoder, ("mer.encoders",), (), config)
        assert built.describe() == encoder.describe()
    dims = {m: e.dim for m, e in reference.encoders.items()}
    assert (
        build(content["fusion"], Fusion, ("mer.fusion",), (), config, dims=dims).describe()
        == reference.fusion.describe()
    )
    assert {h["class_path"] for h in content["heads"].values()} == {
        f"mer.heads.{type(h).__name__}" for h in reference.heads.values()
    }
    assert len(content["heads"]) == len(reference.tasks)
    assert content["encoder_weights"] == {"face": "resnet18-5c106cde"}
