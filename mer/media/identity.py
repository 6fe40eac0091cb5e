"""What turned media into the arrays that an encoder saw: part of the key of every cached feature."""

from __future__ import annotations

import importlib
from typing import Any

from mer.spec import InputSpec

# Per derived kind the module whose `identity(spec)` names its backend, the version of it and its model files.
_DERIVED = {"flow": "mer.media.flow", "taylor": "mer.media.taylor", "pose": "mer.media.pose", "eye": "mer.media.eye"}


def identity(spec: InputSpec) -> str:
    """Names and versions of the backends that a spec uses, e.g. `av 18.1.0; haar opencv 4.13`.

    Feature rows, and skeletons that stand in files, pass through no backend: `rows`. Gaze files are resampled, text is
    cut into words.

    Raises:
        UserError: a backend that is not installed.
    """
    if spec.backend == "file" and spec.kind == "eye":
        return _ask("mer.media.gaze_files", spec)
    if spec.kind == "text":
        return "words-1"
    if spec.from_file:
        return "rows"
    import av

    from mer.media import video

    name = "pyav" if spec.kind == "audio" else video.named(None)
    # Other readers' pictures are scaled from RGB, which differs at the edges of colours.
    parts = [f"av {av.__version__}" if name == "pyav" else f"av {av.__version__}, frames by {name}"]
    if spec.face is not None:
        parts.append(_ask("mer.media.detectors", spec.face))
    if spec.kind in _DERIVED:
        parts.append(_ask(_DERIVED[spec.kind], spec))
    return "; ".join(part for part in parts if part)


def _ask(module: str, about: Any) -> str:
    """A backend's own answer; empty for one that has no versions to tell."""
    try:
        backend = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return ""
    answer = getattr(backend, "identity", None)
    return str(answer(about)) if answer is not None else ""
