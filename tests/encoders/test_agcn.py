"""The adaptive graph networks equal the published ones, number by number, and padding changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mer
from encoders.golden import check, fill, source
from mer.encoders.agcn import AGCN, adjacency
from mer.skeletons import LAYOUTS, Layout, layout

SMALL = ((8, 1), (12, 2))
SUMS = (
    # layout, variant, attention, tensor: first values, sum, norm; measured with the authors' code, two people, 60 classes
    ("ntu25", "agcn", True, {
        "l1": ((0, 0, 0, 0.046039, 0, 0.198198), 23652.60067, 129.73167),
        "l10": ((149.297201, 142.014781, 112.623781, 92.676622, 165.246787, 138.390606), 5551364.49673, 23928.10401),
        "logits": ((56.87542, -91.780932, 54.313081, -56.741138, 21.396736, -5.740898), -114.44627, 395.56554),
    }),
    ("openpose18", "agcn", True, {
        "l1": ((0.816541, 1.757474, 0.272139, 1.088374, 0.158615, 0.386876), 48836.20978, 310.63486),
        "l10": ((212.112383, 203.827067, 234.768632, 221.600457, 185.922772, 237.24975), 4227909.41164, 21463.75486),
        "logits": ((61.613029, -93.166322, 57.788899, -53.757556, 21.834213, -0.367952), -89.82108, 404.72944),
    }),
    ("ntu25", "aagcn", True, {
        "logits": (
            (188562.60143, -572763.418205, 201473.265941, -244273.611922, 257472.251508, 171045.123225),
            -172640.60684, 2259819.77693,
        ),
    }),
    ("ntu25", "aagcn", False, {
        "logits": ((1.34545, -2.308311, 1.482925, -2.608374, 1.399245, -0.856428), -1.77506, 10.99354),
    }),
)  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("name", "variant", "attention", "expected"), SUMS)
def test_the_published_numbers(name: str, variant: Any, attention: bool, expected: dict[str, Any]) -> None:
    network = AGCN(layout(name), people=2, classes=60, variant=variant, attention=attention).eval()
    fill(network)
    network.double()
    found: dict[str, Tensor] = {}
    for unit in ("l1", "l10"):
        module = network.get_submodule(unit)
        module.register_forward_hook(lambda m, i, o, unit=unit: found.update({unit: o[0].permute(0, 3, 1, 2)}))
    found["logits"] = network(source((1, 3, 32, layout(name).size, 2)))
    assert found["l1"].shape == (2, 64, 32, layout(name).size)
    assert found["l10"].shape == (2, 256, 8, layout(name).size)
    for tensor, numbers in expected.items():
        check(found[tensor], *numbers)


@pytest.mark.parametrize(
    ("name", "people", "classes", "options", "parameters"),
    [
        ("ntu25", 2, 60, {}, 3_469_510),
        ("openpose18", 2, 400, {}, 3_547_776),
        ("imigue22", 1, 32, {}, 3_457_916),
        ("ntu25", 2, 60, {"variant": "aagcn"}, 3_781_668),
        ("ntu25", 2, 60, {"variant": "aagcn", "attention": False}, 3_469_520),
    ],
)
def test_the_published_sizes(name: str, people: int, classes: int, options: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        network = AGCN(layout(name), 3, people, classes, **options)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_state_has_the_published_keys() -> None:
    with torch.device("meta"):
        state = AGCN(layout("ntu25"), people=2, classes=60).state_dict()
    assert len(state) == 352
    shapes = {key.removeprefix("l5."): tuple(v.shape) for key, v in state.items() if key.startswith("l5.")}
    for key, shape in {
        "gcn1.PA": (3, 25, 25), "gcn1.conv_a.0.weight": (32, 64, 1, 1), "gcn1.conv_b.2.bias": (32,),
        "gcn1.conv_d.1.weight": (128, 64, 1, 1), "gcn1.down.0.weight": (128, 64, 1, 1), "gcn1.down.1.running_var": (128,),
        "gcn1.bn.weight": (128,), "tcn1.conv.weight": (128, 128, 9, 1), "tcn1.bn.num_batches_tracked": (),
        "residual.conv.weight": (128, 64, 1, 1), "residual.bn.bias": (128,),
    }.items():  # fmt: skip
        assert shapes[key] == shape
    down = {key.split(".")[0] for key in state if ".down." in key}
    residual = {key.split(".")[0] for key in state if ".residual." in key}
    assert (down, residual) == ({"l1", "l5", "l8"}, {"l5", "l8"})
    assert state["data_bn.weight"].shape == (150,)


def test_the_first_values() -> None:
    torch.manual_seed(0)
    network = AGCN(layout("ntu25"), classes=60)
    state = network.state_dict()
    assert (state["l3.gcn1.PA"] == 1e-6).all()
    assert (state["l3.gcn1.bn.weight"] == 1e-6).all()
    assert (state["l3.tcn1.bn.weight"] == 1).all()
    assert float(state["l9.gcn1.conv_d.0.weight"].std()) == pytest.approx((2 / (256 * 256 * 3)) ** 0.5, rel=0.02)
    learned = AGCN(layout("ntu25"), variant="aagcn").state_dict()
    assert torch.equal(learned["l3.gcn1.PA"], adjacency(layout("ntu25")))
    assert float(learned["l3.gcn1.alpha"]) == 0
    assert (AGCN(layout("ntu25"), gain=0.3).state_dict()["l1.gcn1.bn.weight"] == 0.3).all()


@pytest.mark.parametrize("it", LAYOUTS.values(), ids=list(LAYOUTS))
def test_the_graph_has_what_reaches_a_joint_in_its_column(it: Layout) -> None:
    graph = adjacency(it)
    assert torch.equal(graph[0], torch.eye(it.size))
    for subset in (1, 2):
        sums = graph[subset].sum(0)
        assert (torch.isclose(sums, torch.ones(())) | (sums == 0)).all()
    child, parent = it.edges[0]
    assert graph[1, parent, child] > 0 and graph[1, child, parent] == 0
    assert graph[2, child, parent] > 0
    assert int((graph[1] > 0).sum()) == int((graph[2] > 0).sum()) == len(it.edges)


# -- Against loops -----------------------------------------------------------------------------------------------------

FIVE = Layout("five", tuple("abcde"), ((1, 0), (2, 0), (3, 2), (4, 2)), (), 0, ())


def graph_convolution(x: np.ndarray, state: dict[str, np.ndarray], graph: np.ndarray) -> np.ndarray:
    """One sample (C, T, V) through the formula of the paper, a number at a time; for `agcn`."""
    _, frames, joints = x.shape

    def conv(name: str, values: np.ndarray) -> np.ndarray:
        weight, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
        out = np.zeros((len(weight), *values.shape[1:]))
        for o in range(len(weight)):
            for t in range(frames):
                for v in range(joints):
                    out[o, t, v] = bias[o] + sum(weight[o, c] * values[c, t, v] for c in range(len(values)))
        return out

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        out = np.zeros_like(values)
        for c in range(len(values)):
            scale = state[f"{name}.weight"][c] / np.sqrt(state[f"{name}.running_var"][c] + 1e-5)
            out[c] = (values[c] - state[f"{name}.running_mean"][c]) * scale + state[f"{name}.bias"][c]
        return out

    total: Any = 0
    for k in range(3):
        a, b = conv(f"conv_a.{k}", x), conv(f"conv_b.{k}", x)
        likeness = np.zeros((joints, joints))
        for i in range(joints):
            for j in range(joints):
                likeness[i, j] = sum(a[c, t, i] * b[c, t, j] for c in range(len(a)) for t in range(frames))
        likeness = np.exp(likeness / (len(a) * frames))
        for j in range(joints):
            likeness[:, j] /= likeness[:, j].sum()
        whole = graph[k] + state["PA"][k] + likeness
        mixed = np.zeros_like(x)
        for w in range(joints):
            for v in range(joints):
                mixed[..., w] += x[..., v] * whole[v, w]
        total = total + conv(f"conv_d.{k}", mixed)
    shortcut = norm("down.1", conv("down.0", x)) if "down.0.weight" in state else x
    return np.maximum(norm("bn", total) + shortcut, 0)


@torch.no_grad()
@pytest.mark.parametrize(("inside", "unit"), [(3, "l1"), (8, "l2")])
def test_a_graph_convolution_is_the_formula(inside: int, unit: str) -> None:
    network = AGCN(FIVE, blocks=((8, 1), (8, 1))).double().eval()
    fill(network)
    module = network.get_submodule(f"{unit}.gcn1")
    x = source((2, inside, 4, 5))
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    found = module(x.permute(0, 2, 3, 1), None).permute(0, 3, 1, 2)
    for sample in range(2):
        expected = graph_convolution(x[sample].numpy(), state, adjacency(FIVE).double().numpy())
        np.testing.assert_allclose(found[sample].numpy(), expected, rtol=1e-9, atol=1e-12)


# -- Padding and training ----------------------------------------------------------------------------------------------

variants = pytest.mark.parametrize("options", [{}, {"variant": "aagcn"}, {"variant": "aagcn", "attention": False}])


def filled(**options: Any) -> AGCN:
    network = AGCN(layout("coco17"), blocks=SMALL, classes=4, people=2, **options)
    fill(network)
    return network.double()


def batch(lengths: tuple[int, ...], garbage: float) -> tuple[Tensor, Tensor]:
    x = source((len(lengths), 3, max(lengths), 17, 2)).clone()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    for row, length in enumerate(lengths):
        x[row, :, length:] = garbage
    return x, mask


@variants
@torch.no_grad()
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    network = filled(**options).eval()
    x, mask = batch((9, 4, 1), 50.0)
    found, (maps, real) = network(x, mask), network.maps(x, mask)
    assert real is not None and real.sum(1).tolist() == [5, 2, 1]
    for row, length in enumerate((9, 4, 1)):
        torch.testing.assert_close(found[row], network(x[row : row + 1, :, :length])[0], rtol=1e-10, atol=1e-10)
        alone, _ = network.maps(x[row : row + 1, :, :length])
        torch.testing.assert_close(maps[row, :, real[row]], alone[0], rtol=1e-10, atol=1e-10)


@variants
def test_training_takes_its_statistics_from_real_frames(options: dict[str, Any]) -> None:
    """Two clips padded to different lengths leave the same network behind."""
    states = []
    for more in (0, 7):
        network = filled(**options).train()
        x, mask = batch((9, 4), 50.0)
        x = torch.cat([x, torch.full((2, 3, more, 17, 2), -3.0, dtype=torch.float64)], 2)
        mask = torch.cat([mask, torch.zeros((2, more), dtype=torch.bool)], 1)
        network(x, mask).square().sum().backward()
        grads = {f"grad of {n}": p.grad for n, p in network.named_parameters() if p.grad is not None}
        states.append({**network.state_dict(), **grads})
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-8, atol=1e-8, msg=key)


def test_a_mask_of_real_frames_alone_is_no_mask() -> None:
    results, gradients = [], []
    for mask in (None, torch.ones(2, 9, dtype=torch.bool)):
        network = filled().train()
        results.append(network(source((2, 3, 9, 17, 2)), mask))
        results[-1].square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    for one, other in zip(*gradients, strict=True):  # batch normalisation in another layout once had others
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_one_frame_is_enough_to_train() -> None:
    network = filled(variant="aagcn").train()
    loss = network(source((1, 3, 1, 17, 2))).square().sum()
    loss.backward()
    assert torch.isfinite(loss)


@torch.no_grad()
def test_half_precision_is_within_two_percent() -> None:
    torch.manual_seed(0)
    network = AGCN(layout("ntu25"), people=2, classes=60, gain=1.0).eval()
    x = torch.randn(1, 3, 20, 25, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(x).float()
    assert float((half - network(x)).norm() / network(x).norm()) < 0.02


def test_training_in_half_precision_ends_well() -> None:
    """In a process of its own: a strided 1x1 convolution once spoiled the memory of the whole process."""
    program = (
        "import torch; from mer.encoders.agcn import AGCN; from mer.skeletons import layout\n"
        "network = AGCN(layout('coco17'), blocks=((8, 1), (8, 2)), variant='aagcn').train()\n"
        "with torch.autocast('cpu', torch.bfloat16):\n"
        "    for _ in range(3): network.maps(torch.randn(4, 3, 6, 17, 1))[0].float().sum().backward()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mer.__file__).parent.parent), "MALLOC_PERTURB_": "85"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
