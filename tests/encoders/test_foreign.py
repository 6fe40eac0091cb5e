"""Packages that do not import as they are installed are made to, or say in one line what is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mer.encoders import foreign
from mer.errors import UserError

ROOT = Path(__file__).parents[2]
TORCHVISION = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    raise NotImplementedError

@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold):
    raise NotImplementedError

__version__ = "0.28.0"
"""
TIMM = """
import torchvision.transforms as transforms
import torchvision.transforms.functional as F
from torchvision import transforms as again
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms.functional import InterpolationMode
try:
    from torchvision.models.feature_extraction import create_feature_extractor
    has_extractor = True
except ImportError:
    has_extractor = False

class Crop(transforms.RandomResizedCrop):
    pass

names = {InterpolationMode.NEAREST: "nearest", InterpolationMode.BICUBIC: "bicubic"}
frozen = isinstance(object(), FrozenBatchNorm2d)
"""


def write(folder: Path, **files: str) -> None:
    """A package per name; `a__b` is a module within."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__"))
        path.mkdir(parents=True, exist_ok=True)
        (path / "__init__.py").write_text(text)


def run(folder: Path, code: str) -> str:
    """What a process of its own prints, which sees these packages first."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_torchvision_without_its_operators_imports_all_the_same(tmp_path: Path) -> None:
    """The package below fails as the wheel of another torch does: it describes operators that nothing defined."""
    write(tmp_path, torchvision=TORCHVISION)
    code = """
try:
    import torchvision
except RuntimeError as error:
    print(error)
from mer.encoders import foreign
print(foreign.torchvision().__version__, foreign.torchvision() is foreign.torchvision())
import torchvision
"""
    assert run(tmp_path, code).splitlines() == ["operator torchvision::nms does not exist", "0.28.0 True"]


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_package_that_names_torchvision_imports_where_there_is_none_and_leaves_no_trace(tmp_path: Path) -> None:
    write(tmp_path, timm=TIMM)
    code = """
import sys
from mer.encoders import foreign
timm = foreign.timm()
print(timm.names, timm.frozen, timm.has_extractor, foreign.timm() is timm)
print([name for name in sys.modules if name.startswith("torchvision")])
"""
    names = "{'NEAREST': 'nearest', 'BICUBIC': 'bicubic'}"
    assert run(tmp_path, code).splitlines() == [f"{names} False False True", "[]"]


def test_mmaction2_imports_without_the_folder_that_its_wheel_lacks(tmp_path: Path) -> None:
    write(
        tmp_path,
        mmaction="",
        mmaction__utils="",
        mmaction__utils__dependency="from importlib_metadata import distribution\nWITH_MULTIMODAL = True",
        mmaction__registry="MODELS = {}",
        mmaction__engine="",
        mmaction__engine__model="",
        mmaction__models="""
from mmaction.models.localizers.drn.drn import DRN
from mmaction.registry import MODELS
from mmaction.utils.dependency import WITH_MULTIMODAL
import warnings
warnings.warn("no compiled operators")
if WITH_MULTIMODAL:
    raise ImportError("wants an older transformers")
MODELS["DRN"] = DRN
""",
        mmaction__models__localizers="",
        mmengine="",
        mmengine__registry="""
class DefaultScope:
    @staticmethod
    def overwrite_default_scope(name):
        import contextlib
        return contextlib.nullcontext()
""",
    )
    code = """
import sys, warnings
warnings.simplefilter("error")
from mer.encoders import foreign
print(list(foreign.mmaction()), foreign.mmaction() is foreign.mmaction())
print([name for name in sys.modules if name.endswith("drn")])
with foreign.mmaction_scope():
    pass
"""
    assert run(tmp_path, code).splitlines() == ["['DRN'] True", "[]"]


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("torchvision", "torchvision", "pip install torchvision"),
        ("timm", "timm", "pip install --no-deps 'timm>=1.0,<2'"),
        ("pytorchvideo", "pytorchvideo", "'.[pytorchvideo]'"),
        ("mmaction", "mmaction2", "'.[mmaction2]', then: pip install --no-deps mmengine==0.10.7"),
    ],
)
class TestUnusable:
    def test_what_is_absent_is_named_with_the_lines_that_install_it(
        self, name: str, package: str, line: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == name else found(n, *a))
        with pytest.raises(UserError) as raised:
            getattr(foreign, name)()
        assert f"the package '{package}', which is not installed" in str(raised.value)
        assert line in str(raised.value)

    @pytest.mark.parametrize(
        "broken", ["raise OSError('libcudart.so: not found\\nand more')", "import nothing_there", "1 / 0"]
    )
    def test_what_is_broken_is_one_line(
        self, name: str, package: str, line: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path, **{name: broken})
        monkeypatch.syspath_prepend(tmp_path)
        for module in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        with pytest.raises(UserError, match=f"'{package}' is installed but does not import") as raised:
            getattr(foreign, name)()
        assert "\n" not in str(raised.value)
        assert "and more" not in str(raised.value)


def test_nothing_is_mended_where_nothing_is_installed() -> None:
    if importlib.util.find_spec("torchvision") is None:
        foreign.mend()
        assert "torchvision" not in sys.modules


def test_importing_the_encoders_imports_none_of_these_packages() -> None:
    packages = "{'timm', 'mmaction', 'pytorchvideo', 'torchvision', 'transformers'}"
    assert run(ROOT, f"import sys, mer.encoders; print({packages} & {{*sys.modules}})") == "set()"
