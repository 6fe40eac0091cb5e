"""STSTNet: a very small network over the flow from onset to apex of a micro-expression (Liong et al., FG 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.encoders import weights
from mer.encoders.base import Encoder
from mer.encoders.flow import motion
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, Tokens


class STSTNet(Encoder):
    """Three shallow streams over one flow field from the first frame to the one that moved most.

    The field's scale (`mer.encoders.flow.motion`) is ours: published were u, v and strain as 8-bit pictures, which know no
    sign. What the published network ends with, a layer for three classes, is kept for its files and does not train.

    Args:
        backend: what computes the flow; the literature takes `tvl1`.
        crop, face: see `InputSpec`.

    Tokens: (B, T, 400), one per field; a clip has one, from onset to apex.
    """

    network: STSTNetwork

    def __init__(
        self,
        backend: Literal["dis", "farneback", "tvl1"] = "dis",
        crop: Literal["center", "none", "face"] = "face",
        face: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.spec = InputSpec(
            "flow",
            size=(28, 28),
            backend=backend,
            pairs="onset_apex",
            crop=crop,
            face=Face.from_dict(face or {}) if crop == "face" else None,
        )
        self.dim = 400
        self.network = STSTNetwork()
        self.network.fc.requires_grad_(False)

    def tables(self) -> Sequence[weights.KeyTable]:
        return (weights.KeyTable("ststnet"),)

    def forward(self, inputs: Sampled) -> Tokens:
        values = torch.zeros(*inputs.mask.shape, self.dim, device=inputs.values.device)
        if bool(inputs.mask.any()):
            encoded = self.network.features(motion(inputs)[inputs.mask])
            values = values.to(encoded.dtype).index_put((inputs.mask,), encoded)
        else:
            values = self.in_graph(values)
        return Tokens(values, inputs.mask, inputs.spans)

    def logits(self, inputs: Sampled) -> Tensor:
        """(B, N, 3): what the published last layer says of each field, classes as in its file; 0 where padded."""
        return self.network.fc(self(inputs).values) * inputs.mask[..., None]


class STSTNetwork(nn.Module):
    """The published network, under its keys; (n, 3, 28, 28) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(3, filters, 3, padding=2) for filters in (3, 5, 8))
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(filters) for filters in (3, 5, 8))
        self.fc = nn.Linear(400, 3)

    def features(self, fields: Tensor) -> Tensor:
        """(n, 3, 28, 28) to (n, 400): 16 channels of 5 x 5 places."""
        streams = (self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)
        found = [F.max_pool2d(norm(F.relu(conv(fields))), 3, stride=3, padding=1) for conv, norm in streams]
        return F.avg_pool2d(F.dropout(torch.cat(found, dim=1), 0.5, self.training), 2).flatten(1)

    def forward(self, fields: Tensor) -> Tensor:
        return self.fc(self.features(fields))
