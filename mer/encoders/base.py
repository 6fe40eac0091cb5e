"""The contract of an encoder: a declared input, a declared width and rate, `Sampled` in and `Tokens` out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mer.configured import Configured
from mer.encoders import weights
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens


class Encoder(Configured, nn.Module):
    """Base of all encoders.

    Attributes:
        spec: how its input is prepared; set in `__init__`.
        dim: width of its tokens.
        output_rate: tokens per second, or None where the input decides.
        batch_by_length: True where padding cannot be masked; clips of one batch must then have equal length.

    An encoder gives the same tokens for a clip alone and for the clip padded in a batch, 0 at padded positions, and
    spans of media time that say what each token stands for.
    """

    spec: InputSpec
    dim: int
    output_rate: float | None = None
    batch_by_length: bool = False
    network: nn.Module  # of an encoder that others published weights for: the part that their files fill

    def forward(self, inputs: Sampled) -> Tokens:
        """Encode a batch. Subclasses implement this."""
        raise TypeError(f"{type(self).__name__} does not implement forward")

    def calibrate(self, batches: Iterable[Sampled]) -> None:
        """Take statistics of the training inputs (say, mean per column) into buffers, once before training."""

    def tables(self) -> Sequence[weights.KeyTable]:
        """Layouts of published files that `network` takes; none by default."""
        return ()

    def strangers(self) -> Sequence[weights.Stranger]:
        """How files of related networks are known, that people may take for this one's."""
        return ()

    def whole(self) -> nn.Module | None:
        """Where `network` is only a part of what was published: all of it, on the meta device, to check files against."""
        return None

    def load_published(self, path: Path, part: str | None = None) -> weights.Report:
        """Fill `network` from a published file, strictly; see `mer.encoders.weights.load`.

        Args:
            path: file or folder.
            part: of an encoder of several networks with a file each (a stream, a tower), the name of the one to fill.

        Raises:
            UserError: no such file, another network's, no such part, or this encoder takes none.
        """
        if part is not None:
            raise UserError(f"{type(self).__name__} has no part {part!r}", "Name the encoder alone in encoder_weights")
        tables = self.tables()
        if not tables:
            raise UserError(
                f"{path}: {type(self).__name__} has no published weights", "Train it, or name a model.safetensors"
            )
        return weights.load(self.network, path, tables, self.strangers(), self.whole())

    def in_graph(self, values: Tensor) -> Tensor:
        """The values; in training every parameter is in their graph, though none had a part in them: DDP waits for all."""
        if not self.training:
            return values
        return values + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)

    def pixels(self, inputs: Sampled) -> Tensor:
        """uint8 frames (B, N, 3, H, W) as normalised float32, 0 at padded frames."""
        return self.normalised(inputs.values) * inputs.mask[:, :, None, None, None]

    def normalised(self, frames: Tensor) -> Tensor:
        """uint8 frames (..., 3, H, W) as float32, with the spec's mean and std per channel taken out."""
        mean = torch.tensor(self.spec.mean or (0.0,) * 3, device=frames.device).view(3, 1, 1)
        std = torch.tensor(self.spec.std or (1.0,) * 3, device=frames.device).view(3, 1, 1)
        return (frames.float() / 255.0 - mean) / std


class JointEncoder(Encoder):
    """Base of encoders that look at several modalities at once, whose networks exchange as they go.

    Attributes:
        specs: per column of the manifest how that input is prepared, in the place of `spec`.
    """

    specs: dict[str, InputSpec]

    def forward(self, inputs: Mapping[str, Sampled]) -> Tokens:  # type: ignore[override]
        """Encode a batch: one `Sampled` per column of `specs`; an absent modality has an all-False mask."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


def column_statistics(rows: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per column over many (n, width) blocks, in float64; a constant column gets 1."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for block in rows:
        wide = block.double()
        count, total, square = count + len(wide), total + wide.sum(0), square + wide.square().sum(0)
    mean = total / max(count, 1)
    std = (square / max(count, 1) - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float()


def column_ranges(rows: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Least value and range per column over many (n, width) blocks; a constant column gets range 1."""
    ends = [(block.amin(0), block.amax(0)) for block in rows if len(block)]
    low = torch.stack([a for a, _ in ends]).amin(0).float() if ends else torch.zeros(())
    span = torch.stack([b for _, b in ends]).amax(0).float() - low if ends else torch.zeros(())
    return low, torch.where(span > 1e-6, span, torch.ones_like(span))
