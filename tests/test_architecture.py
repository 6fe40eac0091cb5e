"""The floors of the house: lower ones never import higher ones, and what is light stays light."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mer

PACKAGE = Path(mer.__file__).parent
# Rooms by floor; a module belongs to the longest name that it begins with. What is not listed may be imported by all.
FLOORS = {
    "mer.tokens": 0, "mer.labels": 0, "mer.label_maps": 0,
    "mer.media": 1, "mer.encoders": 1, "mer.fusion": 1, "mer.heads": 1, "mer.losses": 1, "mer.evaluation": 1,
    "mer.datasets": 2, "mer.missing": 2, "mer.model": 2, "mer.emert_reference": 2,
    "mer.self_labels": 3, "mer.task": 3, "mer.inference": 3, "mer.analysis": 3, "mer.challenges": 3,
    "mer.experiments": 4, "mer.runs": 4, "mer.weights_command": 4, "mer.cli": 4,
}  # fmt: skip
# On one floor these alone may import each other.
NEIGHBOURS = {
    ("mer.label_maps", "mer.labels"),
    ("mer.emert_reference", "mer.model"), ("mer.model", "mer.missing"), ("mer.task", "mer.self_labels"),
    ("mer.encoders", "mer.media"), ("mer.fusion", "mer.heads"), ("mer.fusion", "mer.losses"),
    ("mer.inference", "mer.challenges"), ("mer.analysis", "mer.inference"),
    ("mer.cli", "mer.experiments"), ("mer.experiments", "mer.runs"), ("mer.experiments", "mer.cli"),
}  # fmt: skip
# Names that any floor may use: they know nothing of the house.
COMMON = {
    "mer",
    "mer.errors",
    "mer.configured",
    "mer.device",
    "mer.files",
    "mer.attention",
    "mer.shipped",
    "mer.spec",
    "mer.skeletons",
    "mer.preemption",
    "mer.overlay",
    "mer.per_fold",
    "mer.runs",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mer", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether it is imported as soon as the file is (not in a function or for types only)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room they come from"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module), id(node) not in later


def room(module: str) -> str | None:
    inside = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return max(inside, key=len) if inside else None


def at_once(module: str, seen: set[str] | None = None) -> set[str]:
    """Every module of any package that importing this one imports."""
    seen = set() if seen is None else seen
    packages = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    for part in packages:
        if part in seen:
            continue
        seen.add(part)
        if part in MODULES:
            for name, soon in imports(MODULES[part]):
                if soon:
                    at_once(name, seen)
    return seen


def test_no_floor_imports_a_higher_one() -> None:
    wrong = []
    for module, path in MODULES.items():
        own = room(module)
        for target, _ in imports(path):
            other = room(target)
            if own is None or other is None or own == other or target in COMMON:
                continue
            if FLOORS[other] > FLOORS[own] or (FLOORS[other] == FLOORS[own] and (own, other) not in NEIGHBOURS):
                wrong.append(f"{module} (floor {FLOORS[own]}) imports {target} (floor {FLOORS[other]})")
    assert wrong == []


def test_what_every_floor_may_use_uses_no_floor() -> None:
    wrong = []
    for module in COMMON - {"mer"}:
        wrong += [f"{module} imports {t}" for t, _ in imports(MODULES[module]) if room(t) and t not in COMMON]
    assert wrong == []


def test_every_module_lives_somewhere() -> None:
    homeless = [
        m
        for m in MODULES
        if room(m) is None and m not in COMMON | {"mer.__main__", "mer.predictions", "mer.checkpoint", "mer.callbacks"}
    ]
    assert homeless == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("mer.media")])
def test_media_has_no_network_in_it(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    bases = [ast.unparse(b) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for b in node.bases]
    assert not [b for b in bases if b.endswith("Module")]
    assert not [n for n, _ in imports(MODULES[module]) if n == "torch.nn"]


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("mer.evaluation") or m == "mer.cli"])
def test_evaluation_and_the_command_need_no_torch(module: str) -> None:
    assert not {"torch", "pytorch_lightning"} & {name.split(".")[0] for name in at_once(module)}


@pytest.mark.parametrize(
    "module",
    [
        m
        for m in MODULES
        if not m.startswith(("mer.experiments", "mer.task", "mer.callbacks", "mer.datasets.datamodule"))
    ],
)
def test_lightning_is_needed_for_training_alone(module: str) -> None:
    assert not {name for name in at_once(module) if name.startswith(("pytorch_lightning", "lightning"))}


def test_nothing_is_a_pile_of_utilities() -> None:
    assert not [m for m in MODULES if m.rsplit(".", 1)[-1] in ("utils", "helpers", "common", "misc")]
