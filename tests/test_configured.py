"""A module remembers how it was built, and is rebuilt only from rooms that are allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mer.configured import Configured, build
from mer.encoders import Encoder, FeatureEncoder
from mer.errors import UserError

ROOMS = ("mer.encoders",)


class Plain(Configured):
    def __init__(self, a: int, b: tuple[int, ...] = (1, 2), *, c: Any = None, **more: Any):
        self.a = a


class Child(Plain):
    def __init__(self, d: str):
        super().__init__(5)


class Same(Plain):
    pass


def test_arguments_are_remembered_with_their_defaults() -> None:
    assert Plain(3, c={"x": Plain(1)}, extra=[1.5, None]).describe() == {
        "class_path": f"{__name__}.Plain",
        "init_args": {
            "a": 3,
            "b": [1, 2],
            "c": {"x": {"class_path": f"{__name__}.Plain", "init_args": {"a": 1, "b": [1, 2], "c": None}}},
            "extra": [1.5, None],
        },
    }


def test_a_child_remembers_its_own_arguments_and_not_its_parents() -> None:
    assert Child("x").init_args == {"d": "x"}
    assert Same(4).describe()["class_path"].endswith("Same")
    assert Same(4).init_args["a"] == 4


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be stored"):
        Plain(1, c=object()).describe()


def test_a_description_builds_the_same_module() -> None:
    description = json.loads(json.dumps(FeatureEncoder(7, dim=16, layers=1).describe()))
    rebuilt = build(description, Encoder, ROOMS, (), "a.ckpt")
    assert isinstance(rebuilt, FeatureEncoder)
    assert rebuilt.describe() == description


def test_arguments_may_be_filled_in_by_the_caller() -> None:
    path = "mer.encoders.features.FeatureEncoder"
    assert build({"class_path": path}, FeatureEncoder, ROOMS, (), "a.ckpt", width=3).spec.width == 3


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "",
        "FeatureEncoder",
        "mer.encoders_evil.X",
        "torch.nn.Linear",
        ".x",
    ],
)
def test_a_foreign_class_is_not_even_imported(path: str) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt names the class .* not one of mer's.*--allow-module"):
        build({"class_path": path, "init_args": {}}, Encoder, ROOMS, (), "a.ckpt")


@pytest.mark.parametrize("description", [None, 3, "mer.encoders.FeatureEncoder", [], {}])
def test_what_is_no_description_is_refused(description: object) -> None:
    with pytest.raises(UserError, match=r"a\.ckpt"):
        build(description, Encoder, ROOMS, (), "a.ckpt")


@pytest.mark.parametrize("path", ["mer.encoders.features.Gone", "mer.encoders.gone.X"])
def test_a_missing_class_is_named(path: str) -> None:
    with pytest.raises(UserError, match="cannot be imported"):
        build({"class_path": path}, Encoder, ROOMS, (), "a.ckpt")


@pytest.mark.parametrize(
    "path", ["mer.encoders.base.column_statistics", "mer.encoders.base.torch", "mer.encoders.base.InputSpec"]
)
def test_a_class_of_another_kind_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="is not a Encoder"):
        build({"class_path": path}, Encoder, ROOMS, (), "a.ckpt")


@pytest.mark.parametrize("arguments", [{}, {"width": 3, "nose": 1}, {"width": "three"}, {"width": -3}, "width=3"])
def test_arguments_that_do_not_fit_are_a_users_error(arguments: Any) -> None:
    description = {"class_path": "mer.encoders.features.FeatureEncoder", "init_args": arguments}
    with pytest.raises(UserError, match=r"refuses its arguments|Use positive sizes"):
        build(description, Encoder, ROOMS, (), "a.ckpt")


def test_a_module_the_user_named_is_allowed() -> None:
    description = Plain(2).describe()
    with pytest.raises(UserError):
        build(description, Plain, ROOMS, (), "a.ckpt")
    assert build(description, Plain, ROOMS, (__name__,), "a.ckpt").a == 2
