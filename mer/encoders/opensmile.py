"""openSMILE's acoustic features (eGeMAPS, ComParE ...), computed as the sound comes in; needs the extra `opensmile`."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from mer.encoders.base import Encoder
from mer.encoders.features import FeatureEncoder
from mer.encoders.sound import RATE, tiled
from mer.errors import UserError, need_extra
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

# Columns of functionals and of low-level descriptors.
WIDTHS = {
    "eGeMAPSv02": (88, 25),
    "GeMAPSv01b": (62, 18),
    "ComParE_2016": (6373, 65),
    "emobase": (988, 26),
    "IS09": (384, 16),
}
STEP = 160  # samples between low-level descriptors
LEAST = 960  # samples; of less the engine makes no row, as pitch wants 60 ms
_KEPT = 256 << 20  # bytes of rows that are kept, as training comes back to each clip in each epoch


class OpenSmile(Encoder):
    """Features of the openSMILE toolkit (Eyben, Wöllmer, Schuller, ACM Multimedia 2010), then an MLP.

    eGeMAPS is Eyben et al., IEEE Transactions on Affective Computing 2016. The engine runs on the CPU, about 0.2 s for 10 s of
    sound; its answers are kept in memory, so that only the first epoch waits. Its licence allows research only.

    Args:
        feature_set: one of `WIDTHS`.
        level: `functionals`, one vector per clip; `lld`, low-level descriptors, 100 rows a second.
        dim, hidden, layers, dropout, noise: of the MLP, see `FeatureEncoder`; columns are standardised with statistics of
            the training clips.
        window: seconds the predictor shows at once.

    Tokens: functionals (B, 1, dim), spanning the clip; lld (B, T, dim) at 100 Hz, each centred on the 20 ms that it was
    computed from. A clip shorter than 60 ms is filled up with zeros.

    Raises:
        UserError: an unknown set or level; in `forward`, the package is not installed.
    """

    def __init__(
        self,
        feature_set: str = "eGeMAPSv02",
        level: Literal["functionals", "lld"] = "functionals",
        dim: int = 128,
        hidden: int = 256,
        layers: int = 0,
        dropout: float = 0.2,
        noise: float = 0.0,
        window: float | None = 4.0,
    ):
        super().__init__()
        if feature_set not in WIDTHS or level not in ("functionals", "lld"):
            raise UserError(
                f"openSMILE features {feature_set!r}, {level!r}", f"Use one of {', '.join(WIDTHS)}; functionals or lld"
            )
        self.feature_set, self.level = feature_set, level
        self.width = WIDTHS[feature_set][level == "lld"]
        self.spec = InputSpec("audio", rate=RATE, window=window)
        self.dim, self.output_rate = dim, RATE / STEP if level == "lld" else None
        self.rows = FeatureEncoder(
            self.width, self.output_rate, dim, hidden, layers=layers, dropout=dropout, noise=noise
        )

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        self.rows.calibrate(self.features(batch) for batch in batches)

    def forward(self, inputs: Sampled) -> Tokens:
        tokens: Tokens = self.rows(self.features(inputs))
        return tokens

    @torch.no_grad()
    def features(self, inputs: Sampled) -> Sampled:
        """The raw features of a batch, (B, T, width), with spans; no gradient goes through the engine."""
        waves = [wave[mask].float().cpu().numpy() for wave, mask in zip(inputs.values, inputs.mask, strict=True)]
        found = [_computed(wave, self.feature_set, self.level) if len(wave) else None for wave in waves]
        counts = torch.tensor([0 if rows is None else len(rows) for rows in found], device=inputs.mask.device)
        size = max(int(counts.max()), 1)
        values = torch.zeros(len(waves), size, self.width)
        for row, rows in enumerate(found):
            if rows is not None:
                values[row, : len(rows)] = torch.from_numpy(rows)
        begins = torch.arange(size, device=counts.device) * STEP
        spans, mask = tiled(inputs, begins + (begins > 0) * (STEP // 2), counts)
        return Sampled(values.to(inputs.mask.device), mask, spans)


_kept: OrderedDict[tuple[bytes, str, str], np.ndarray] = OrderedDict()


def _computed(wave: np.ndarray, feature_set: str, level: str) -> np.ndarray:
    """(T, width) float32 of a waveform at 16 kHz, from memory where it was asked for before."""
    key = (hashlib.blake2b(wave.tobytes(), digest_size=20).digest(), feature_set, level)
    if key not in _kept:
        engine = _engine(feature_set, level)
        padded = np.pad(wave, (0, max(0, LEAST - len(wave))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = engine(padded, int(RATE))[0].T.astype(np.float32)
        # Rows of sound that was only filled up have nothing to tell, except for the first.
        rows = rows[: max(1, -(-len(wave) // STEP))]
        _kept[key] = np.ascontiguousarray(np.nan_to_num(rows))
        while len(_kept) > 1 and sum(kept.nbytes for kept in _kept.values()) > _KEPT:
            _kept.popitem(last=False)
    return _kept[key]


@lru_cache(maxsize=8)
def _engine(feature_set: str, level: str) -> Any:
    try:
        opensmile = importlib.import_module("opensmile")
    except ModuleNotFoundError:
        raise need_extra("opensmile", "opensmile") from None
    levels = opensmile.FeatureLevel
    chosen = levels.LowLevelDescriptors if level == "lld" else levels.Functionals
    return opensmile.Smile(feature_set=opensmile.FeatureSet[feature_set], feature_level=chosen)
