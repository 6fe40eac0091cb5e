"""A recording that is read stretch by stretch, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mer.datasets.manifest import BESIDE
from mer.datasets.source import between
from mer.errors import UserError
from mer.media.pick import pick
from mer.media.prepare import prepare, prepare_all
from mer.media.probe import Examined
from mer.media.reading import SEEN
from mer.spec import InputSpec
from mer.tokens import Sampled

_MISSING = {
    "audio": "no sound in the file",
    "seen": "no picture in the file",
    "nothing": "nothing was found in the clip",
}
FACES = ".faces"  # behind a modality's name: its input is the file of faces for the detector `precomputed`


def _with_faces(spec: InputSpec, file: str | None) -> InputSpec:
    """A spec whose faces are read from this file; raises UserError where there is none."""
    if file is None or spec.face is None:
        return spec
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file of faces", "Check the path behind --input")
    return replace(spec, face=replace(spec.face, file=str(Path(file).resolve())))


def _beside_a_manifest(spec: InputSpec) -> bool:
    return spec.face is not None and (spec.face.file or "").startswith(BESIDE)


@dataclass(frozen=True)
class Stretch:
    """One decoded part of a recording.

    Attributes:
        begin, end: seconds.
        whole: what each modality has in it, as for a clip of that length; absent ones are left out.
        windows, parts: the same for each window.
    """

    begin: float
    end: float
    whole: dict[str, Sampled]
    windows: list[tuple[float, float]]
    parts: list[dict[str, Sampled]]


class Recording:
    """What a model can be given of one media file and of the cached features that belong to it.

    Args:
        media: video or sound file.
        file: what it holds.
        specs: of the model's encoders.
        start, end: seconds to look at; end None is the end of the file.
        inputs: references for modalities that are not in the file itself; `MODALITY.faces` for a file of its faces.

    Attributes:
        start, stop: seconds.
        absent: modalities that cannot be had, and why; known for all once the last stretch was read.

    Raises:
        UserError: a file of `inputs` is bad, or there is nothing that the model can read.
    """

    def __init__(
        self,
        media: Path,
        file: Examined,
        specs: Mapping[str, InputSpec],
        start: float,
        end: float | None,
        inputs: Mapping[str, str],
    ):
        found_elsewhere = {f"{m}{FACES}" for m, s in specs.items() if s.face is not None and s.face.file is not None}
        unknown = set(inputs) - set(specs) - found_elsewhere
        if unknown:
            raise UserError(f"the model has no modality {sorted(unknown)[0]!r}", f"It reads {', '.join(specs)}")
        self.media, self.start, self._end = media, start, end
        self.absent: dict[str, str] = {}
        self._specs = {m: _with_faces(spec, inputs.get(f"{m}{FACES}")) for m, spec in specs.items()}
        self._whole: dict[str, Sampled] = {}
        self._inside: dict[str, str] = {}
        self._unseen: dict[str, str] = {}
        info = file.info
        self.stop = file.length if end is None else end
        for modality, spec in specs.items():
            if modality in inputs and spec.from_file:
                # Cached rows without a rate divide the stretch, so its end must be known.
                known = self.stop if spec.rate is None else end
                given = prepare(Path(), inputs[modality], spec, start, known)
                if bool(given.mask.any()):
                    self._whole[modality] = given
                else:
                    self.absent[modality] = f"nothing was found in {inputs[modality]}"
            elif spec.from_file:
                what = "its words" if spec.kind == "text" else "cached features"
                self.absent[modality] = f"give {what} with --input {modality}=FILE"
            elif f"{modality}{FACES}" in found_elsewhere - set(inputs) and _beside_a_manifest(spec):
                self.absent[modality] = f"say where its faces are with --input {modality}{FACES}=FILE"
            elif modality in inputs:
                self._inside[modality] = str(Path(inputs[modality]).absolute())
            elif info.has_audio if spec.kind == "audio" else info.has_video and spec.kind in SEEN:
                self._inside[modality] = str(media.resolve())
            else:
                self.absent[modality] = _MISSING["audio" if spec.kind == "audio" else "seen"]
        self._unseen = dict.fromkeys(self._inside, _MISSING["nothing"])
        if end is None:
            self.stop = max([self.stop, *(float(s.spans[0, -1, 1]) for s in self._whole.values())])
        self._nothing_to_read()

    @property
    def used(self) -> list[str]:
        """Modalities of which something went in so far."""
        return [m for m in self._specs if m in self._whole or (m in self._inside and m not in self._unseen)]

    def read(self, begin: float, end: float, windows: list[tuple[float, float]]) -> Stretch:
        """Decode a stretch once.

        Args:
            begin, end: seconds.
            windows: parts of the stretch that will be asked for.

        A modality that has nothing there (sound shorter than picture, no face) is left out of the stretch.
        """
        until = self._end if end >= self.stop - 1e-6 else end  # what lies behind the container's end is read, too
        # Frames are chosen after decoding: so each is decoded once, however many windows show it.
        specs = {m: self._specs[m] for m in self._inside}
        asked = {m: s.dense() for m, s in specs.items() if s.chosen_later or not s.sampled_by_count}
        media = self._found(asked, begin, until)
        whole = {m: pick(s, self._specs[m]) for m, s in media.items()}
        parts = [{m: pick(c, self._specs[m]) for m, s in media.items() if (c := between(s, *w))} for w in windows]
        counted = {m: self._specs[m] for m in self._inside if m not in asked}
        if counted:  # skeletons are looked for in the chosen pictures alone
            whole |= self._found(counted, begin, until)
            for part, window in zip(parts, windows, strict=True):
                part |= self._found(counted, *window)
        for modality, sampled in self._whole.items():
            cut = between(sampled, begin, end)
            whole |= {} if cut is None else {modality: cut}
            for part, window in zip(parts, windows, strict=True):
                cut = between(sampled, *window)
                part |= {} if cut is None else {modality: cut}
        return Stretch(begin, end, whole, windows, parts)

    def finish(self) -> None:
        """After the last stretch: list what was not found anywhere.

        Raises:
            UserError: that is everything.
        """
        self.absent |= self._unseen
        self._nothing_to_read()

    def _found(self, specs: Mapping[str, InputSpec], begin: float, end: float | None) -> dict[str, Sampled]:
        found: dict[str, Sampled] = {}
        if not specs:
            return found
        for modality, result in prepare_all(Path(), self._inside, specs, begin, end).items():
            if isinstance(result, UserError):
                if modality in self._unseen:
                    self._unseen[modality] = str(result)
            elif bool(result.mask.any()):
                self._unseen.pop(modality, None)
                found[modality] = result
        return found

    def _nothing_to_read(self) -> None:
        if set(self.absent) >= set(self._specs):
            reasons = "; ".join(f"{m}: {why}" for m, why in self.absent.items())
            raise UserError(
                f"{self.media}: nothing the model can read ({reasons})", "Use another clip or another model"
            )
