"""Backbones of the recognizers of mmaction2, built from a config: a bridge to a package that is installed apart."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from mer.encoders import foreign
from mer.encoders.bridge import Bridge, in_time
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.spec import Face, InputSpec

_SINGLE_FRAMES = ("ResNet", "ResNetTSM", "ResNetTIN", "MobileNetV2", "MobileNetV2TSM", "MobileOneTSM", "TANet")
_SKELETONS = ("AAGCN", "STGCN")
_OTHER_INPUT = ("ResNetAudio", "OmniResNet", "RGBPoseConv3D")  # spectrograms; images besides; two streams at once
_PATHWAYS = ("resnet3d",)  # names that SlowFast knows by itself


class MMAction(Bridge):
    """Any backbone of mmaction2 1.2.0 that reads video or skeletons (MViT, SlowFast, X3D, Swin, TSM, AAGCN, STGCN ...).

    The package is imported when an encoder is built. It asks for builds of OpenCV that would replace the one `mer` uses, and
    installs beside it in two lines: the extra `mmaction2`, then `pip install --no-deps mmengine==0.10.7 mmcv-lite==2.1.0
    mmaction2==1.2.0`. Configs may come from checkpoints that others wrote: they name types of mmaction2's own registry, and
    load nothing.

    Args:
        config: of the backbone, e.g. `{type: MViT, arch: small}`; what stands under `model.backbone` in a config file of
            mmaction2, without `pretrained` and `init_cfg`.
        frames: elements of a window.
        tokens: `temporal`, the mean over space (over joints) at each time step of the last feature map; `cls`, the class
            token of MViT (one per window).
        rate: frames per second.
        size: height and width of a frame in pixels.
        layout: of AAGCN and STGCN: layout of the skeletons, see `mer.skeletons`. Their config has `num_person: 1`.
        mean, std: per channel, of pixels in [0, 1]; ImageNet's by default, as most configs of mmaction2 have them.
        window: seconds the predictor shows at once.
        crop, face: see `InputSpec`.

    Tokens: (B, T, dim), as many per window of `frames` as the last feature map has time steps.
    """

    def __init__(
        self,
        config: dict[str, Any],
        frames: int = 16,
        tokens: Literal["temporal", "cls"] = "temporal",
        rate: float = 7.5,
        size: int = 224,
        layout: str | None = None,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
        window: float | None = 2.0,
        crop: Literal["center", "none", "face"] = "center",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.kind = str(config.get("type"))
        if tokens not in ("temporal", "cls"):
            raise UserError(f"MMAction has no tokens {tokens!r}", "Use temporal or cls")
        if (layout is not None) != (self.kind in _SKELETONS):
            raise UserError(
                f"layout {layout!r} for the backbone {self.kind!r}", f"Give it to {' and '.join(_SKELETONS)} alone"
            )
        self.tokens = tokens
        self.network = backbone(config)
        if layout is None:
            spec = InputSpec(
                "video",
                rate=rate,
                size=(size, size),
                mean=tuple(mean),
                std=tuple(std),
                window=window,
                crop=crop,
                face=Face.from_dict(face or {}) if crop == "face" else None,
            )
        else:
            spec = InputSpec("pose", rate=rate, layout=layout, window=window)
        self.attach(spec, frames)

    def prepared(self, window: Tensor) -> Tensor:
        return self.normalised(window) if self.spec.kind == "video" else window

    def encode(self, window: Tensor) -> Tensor:
        if self.kind in _SKELETONS:  # (K, F, V, 3 or 4) as one person; three channels, of which 2-D has the confidence
            answer = self.network(window[:, None, ..., :3])  # (K, 1, C, T, V)
            return answer.mean((1, 4)).transpose(1, 2)
        if self.kind in _SINGLE_FRAMES:
            maps = self.network(window.flatten(0, 1))
            return (maps[-1] if isinstance(maps, tuple) else maps).mean((2, 3)).unflatten(0, window.shape[:2])
        answer = self.network(window.transpose(1, 2))
        if self.kind == "MViT":  # of each scale that was asked for: the patches, and the class token where it has one
            answer = answer[-1] if isinstance(answer[-1], (list, tuple)) else [answer[-1]]
            answer = answer[-1 if self.tokens == "cls" else 0]
        elif self.tokens == "cls" and not (isinstance(answer, Tensor) and answer.ndim == 2):
            raise ValueError(f"{self.kind} has no class token")
        return in_time(answer)

    def tables(self) -> Sequence[KeyTable]:
        rest = ((r"^(cls_head|neck|data_preprocessor)\.", "of the recognizer around it"),)
        return (KeyTable("mmaction2", ((r"^", "backbone."),), unused=rest), KeyTable("backbone alone"))


def backbone(config: Mapping[str, Any]) -> nn.Module:
    """A backbone of mmaction2 with random weights.

    Raises:
        UserError: mmaction2 is absent or broken, the config names something else than its models or a file to load, or
            the backbone refuses its arguments.
    """
    models = foreign.mmaction()
    kind = config.get("type")
    built = models.module_dict.get(kind) if isinstance(kind, str) else None
    if built is None or not built.__module__.startswith("mmaction.models.backbones.") or kind in _OTHER_INPUT:
        known = [
            name
            for name, cls in models.module_dict.items()
            if cls.__module__.startswith("mmaction.models.backbones.") and name not in _OTHER_INPUT
        ]
        raise UserError(
            f"mmaction2 has no backbone {kind!r} that reads video", f"Use one of {', '.join(sorted(known))}"
        )
    known_types = {*models.module_dict, *models.parent.module_dict, *_PATHWAYS}
    plain = _checked(config, known_types, "config")
    # What some of them load unless they are told not to.
    asked = inspect.signature(built.__init__).parameters
    nothing = {"pretrained": None, "pretrained2d": False, "clip_pretrained": False}
    plain |= {name: value for name, value in nothing.items() if name in asked}
    try:
        with _quiet(), foreign.mmaction_scope():
            network: Any = models.build(plain)
            if hasattr(network, "init_weights"):
                network.init_weights()
    except Exception as error:  # each backbone checks its arguments in its own way
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"mmaction2's {kind} refuses its config ({type(error).__name__}: {reason})", "Correct the config"
        ) from None
    assert isinstance(network, nn.Module)
    return network


def _checked(config: Any, known: set[str], where: str) -> Any:
    """The config as plain values, without anything that could load a file or import a module.

    mmengine resolves a type that no registry has as the name of any object in any module, and reads checkpoints from the
    internet.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            if not isinstance(key, str) or key.startswith("_") or key in ("init_cfg", "checkpoint", "custom_imports"):
                raise UserError(
                    f"{where} of MMAction has the key {key!r}", "Leave it out; weights come from encoder_weights"
                )
            if key.startswith("pretrained") or key.endswith("_pretrained"):
                if value:
                    raise UserError(
                        f"{where}.{key} of MMAction is {value!r}", "Leave it out; weights come from encoder_weights"
                    )
            elif key == "type" and (not isinstance(value, str) or value not in known):
                raise UserError(
                    f"{where}.type of MMAction is {value!r}, which no registry of mmaction2 has", "Correct the config"
                )
        return {key: _checked(value, known, f"{where}.{key}") for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_checked(value, known, where) for value in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise UserError(f"{where} of MMAction holds a {type(config).__name__}", "Use plain values")


@contextmanager
def _quiet() -> Iterator[None]:
    """mmengine reports each parameter that it initialises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
