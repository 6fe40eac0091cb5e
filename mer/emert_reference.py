"""The published models of EMERT, whole, and the way to and from their files.

    model = emert_reference_cls()
    print(read(Path("er_EMERT_set1.pth"), model))
    checkpoint.save(Path("model.safetensors"), model, facts={})

EMERT (Liu et al., IEEE Transactions on Multimedia, accepted 2025; arXiv 2411.05879 and 2512.16485), after its released code:
three models that differ in the width of the codes, the heads and the weights of the classifier losses. The files that the
release lists are empty, so that the layout is held against its code's keys and counts, not against trained numbers.
`configs/emer/*.yaml` train the same models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mer.encoders import weights
from mer.encoders.base import Encoder
from mer.encoders.eye_lstm import EyeLSTM
from mer.encoders.resnet import ResNet
from mer.errors import UserError
from mer.files import draft_of
from mer.fusion.emert import EMERT
from mer.heads import LinearHead, TaperingHead
from mer.labels import SPACES, LabelSpace, Task
from mer.model import EmotionModel, HeadFactory

ER7, FER7 = (Task(name, SPACES["emer7.v1"]) for name in ("er7", "fer7"))
# The release trains one model for valence and another one for arousal.
VALENCE = Task("valence", LabelSpace("valence.v1", ("valence",), "continuous"))
FER_INTENSITY = Task("fer_intensity", SPACES["emer_intensity.v1"])
POSITIONS = {"face": 8, "eye": 32, "gaze": 32}
COLUMNS = {"eye": 39, "gaze": 2}
_SUFFIX = {"face": "v", "eye": "a", "gaze": "l"}  # vision, audio and language: the code it grew from
_LAYER, _THEIRS = r"^fusion\.layers\.(\d+)\.", r"transformer.CrossTransformerEncoder.layers.\1."
_PAIRS = (
    (r"^encoders\.face\.network\.", "subnet.f_extractor."),
    (r"^encoders\.eye\.network\.", "subnet.e_lstm."),
    (r"^encoders\.gaze\.network\.", "subnet.v_lstm."),
    (r"^fusion\.project\.face\.", "proj_v1."),
    *((rf"^fusion\.private\.{m}\.", f"specific_projection_{letter}.") for m, letter in _SUFFIX.items()),
    (r"^fusion\.shared\.", "invariant_projection."),
    (r"^fusion\.discriminator\.", "distriminator.0."),
    (r"^fusion\.position_private$", "transformer.pos_embedding_s"),
    (r"^fusion\.position_shared$", "transformer.pos_embedding_t"),
    (rf"{_LAYER}(norm_[qkv])\.", rf"{_THEIRS}0.\2."),
    (rf"{_LAYER}(to_[qkv])\.", rf"{_THEIRS}0.fn.\2."),
    (rf"{_LAYER}out\.0\.", rf"{_THEIRS}0.fn.to_out.0."),
    (rf"{_LAYER}norm\.", rf"{_THEIRS}1.norm."),
    (rf"{_LAYER}mlp\.", rf"{_THEIRS}1.fn.net."),
)
_PARTS = (ResNet, EyeLSTM, LinearHead, TaperingHead)
_REMEDY = "Build it with mer.emert_reference"
_STANDARDS = r"^encoders\.(eye|gaze)\.(mean|std)$"
# In the files, but never used: shapes by key.
DEAD: dict[str, tuple[int, ...]] = {
    "subnet.classifier.weight": (7, 768),
    "subnet.classifier.bias": (7,),
    "subnet.f_extractor.fc.weight": (1000, 512),
    "subnet.f_extractor.fc.bias": (1000,),
}


def emert_reference_cls(task: Task = ER7) -> EmotionModel:
    """The model of the classes (`model_D.py`): codes of 32 by two layers, a linear head; 206 keys.

    Args:
        task: what to predict; seven classes in the release.
    """
    return _model({task.name: (task, LinearHead)}, 32, 64, 0.01, 0.01)


def emert_reference_reg(task: Task = VALENCE) -> EmotionModel:
    """The model of valence, and of arousal (`model.py`): codes of 64, a head of 64, 32, 16, 8 and the outputs; 204 keys.

    Args:
        task: what to predict, one number in the release.
    """
    return _model({task.name: (task, TaperingHead)}, 64, None, 0.01, 0.01)


def emert_reference_intensity(emotion: Task = FER7, intensity: Task = FER_INTENSITY) -> EmotionModel:
    """The model of classes and intensity at once (`in_model.py`): codes of 64, two linear heads; 200 keys."""
    return _model({task.name: (task, LinearHead) for task in (emotion, intensity)}, 64, None, 0.3, 0.1)


def read(path: Path, model: EmotionModel) -> weights.Report:
    """Fill one of the three models from a published file, strictly; what the file holds and nobody uses is left out.

    Raises:
        UserError: missing, damaged, or of another of the three; a key is missing, extra or of another shape.
    """
    report = weights.load(model, path, (_table(model),))
    for encoder in (model.encoders["eye"], model.encoders["gaze"]):
        assert isinstance(encoder, EyeLSTM)
        encoder.mean.zero_()
        encoder.std.fill_(1.0)  # the file's streams take raw values
    return report


def published(model: EmotionModel) -> dict[str, Tensor]:
    """The weights of one of the three models under the published keys, 0 for what nobody uses.

    Streams that were standardised come out as streams that take raw values and give the same tokens.
    """
    table = _table(model)
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    for stream in COLUMNS:
        mean, std = (state.pop(f"encoders.{stream}.{name}").double() for name in ("mean", "std"))
        key = f"encoders.{stream}.network."
        taken = state[f"{key}weight_ih_l0"].double() / std
        state[f"{key}bias_ih_l0"] = (state[f"{key}bias_ih_l0"].double() - taken @ mean).float()
        state[f"{key}weight_ih_l0"] = taken.float()
    return weights.renamed(state, table) | {key: torch.zeros(shape) for key, shape in DEAD.items()}


def write(path: Path, model: EmotionModel) -> None:
    """Write one of the three models as the release would (a `.pth` of tensors)."""
    content = {key: value.contiguous() for key, value in published(model).items()}
    with draft_of(path) as draft:
        torch.save(content, draft)


def _model(
    tasks: Mapping[str, tuple[Task, HeadFactory]], dim: int, hidden: int | None, invariant: float, specific: float
) -> EmotionModel:
    face = ResNet(segments=8, size=112, bgr=True, normalise=False, augment=0.0, window=None)
    encoders: dict[str, Encoder] = {"face": face}
    encoders["eye"] = EyeLSTM("tobii", stream="eye", steps=POSITIONS["eye"])
    encoders["gaze"] = EyeLSTM(("gaze_x", "gaze_y"), stream="gaze", steps=POSITIONS["gaze"])
    return EmotionModel(
        encoders,
        lambda dims: EMERT(dims, dim, hidden=hidden, invariant=invariant, specific=specific, positions=dict(POSITIONS)),
        {name: task for name, (task, _) in tasks.items()},
        {name: head for name, (_, head) in tasks.items()},
    )


def _table(model: EmotionModel) -> weights.KeyTable:
    """The published layout of one of the three models."""
    if not isinstance(model.fusion, EMERT) or list(model.encoders) != list(POSITIONS):
        raise UserError(
            f"a model of {', '.join(model.encoders)} and {type(model.fusion).__name__} has no published layout", _REMEDY
        )
    parts = [*model.encoders.values(), *model.heads.values()]
    more = [name for name in ("unimodal_heads", "missing", "reads") if getattr(model, name)]
    more += sorted({type(part).__name__ for part in parts if not isinstance(part, _PARTS)})
    if more:
        raise UserError(f"a model with {', '.join(more)} has no published layout", _REMEDY)
    kinds = sorted(task.space.kind == "classes" for task in model.tasks.values())
    if len(kinds) > 1 and kinds != [False, True]:
        raise UserError(f"a model of the tasks {', '.join(model.tasks)} has no published layout", _REMEDY)
    heads = []
    for name, task in model.tasks.items():
        theirs = "cls_head"
        if len(model.tasks) > 1:
            theirs += "_e" if task.space.kind == "classes" else "_in"
        ours = rf"^heads\.{re.escape(name)}"
        heads += [(rf"{ours}\.layer\.", f"{theirs}.0."), (rf"{ours}\.layers\.", f"{theirs}.")]
    return weights.KeyTable(
        "EMERT",
        (*_PAIRS, *heads),
        unused=tuple((f"^{re.escape(key)}$", "nothing reads it") for key in DEAD),
        absent=((_STANDARDS, "the streams take raw values"),),
    )
