"""A learned token in the place of a modality that a sample lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mer.fusion.base import Fused
from mer.tokens import Tokens


class LearnedMissing(nn.Module):
    """One learned vector per modality; a sample that lacks the modality gets it as one token over the time of all it has.

    The idea is that of a mask token: a fusion that cannot tell an empty modality from a silent one is told so by a vector of
    its own. A stand-in is nobody's evidence: `hide` takes it out of whatever says what the answer rests on. A fusion that
    averages decisions (`Late`) gives it a vote, though, which is a constant that training sets, and losses of the
    fusion itself (those of `MISA`, `EMERT`) see it as any token.

    Args:
        dims: token width of each modality.
    """

    def __init__(self, dims: Mapping[str, int]):
        super().__init__()
        self.token = nn.ParameterDict({m: nn.Parameter(0.02 * torch.randn(dim)) for m, dim in dims.items()})

    def forward(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """The same streams, with stand-ins. All vectors are in the graph of every batch, as DDP wants it.

        Args:
            tokens: per modality (B, T, D); an absent one has an all-False mask.

        Returns:
            per modality (B, T, D). A sample without any modality stays without any.
        """
        span, some = _extent(tokens)
        return {m: _filled(t, self.token[m], span, some & ~t.present) for m, t in tokens.items()}


def hide(fused: Fused, seen: Mapping[str, Tensor]) -> Fused:
    """The answer of a fusion without what it says about stand-ins: their own vectors are 0, and so are their weights.

    Args:
        fused: of a batch of B.
        seen: per modality (B,) bool, False for a stand-in.

    Returns:
        the same answer; the weights that are left are made to sum to 1 again, equal ones where nothing was left.
    """
    unimodal = {m: torch.where(seen[m][:, None], v, torch.zeros_like(v)) for m, v in fused.unimodal.items()}
    if fused.modality_weights is None:
        return replace(fused, unimodal=unimodal)
    here = torch.stack([seen[m] for m in fused.modality_weights], 1)
    weights = torch.stack(list(fused.modality_weights.values()), 1) * here
    total = weights.sum(1, keepdim=True)
    equal = here / here.sum(1, keepdim=True).clamp(min=1)
    tiny = torch.finfo(weights.dtype).tiny
    weights = torch.where(total > tiny, weights / total.clamp(min=tiny), equal.to(weights.dtype))
    return replace(
        fused,
        unimodal=unimodal,
        modality_weights={m: weights[:, i] for i, m in enumerate(fused.modality_weights)},
    )


def _extent(tokens: Mapping[str, Tokens]) -> tuple[Tensor, Tensor]:
    """(B, 2) seconds from the first to the last real token of any modality, 0 where there is none; (B,) bool, there is one."""
    streams = list(tokens.values())
    some = torch.stack([t.present for t in streams]).any(0)
    begin = torch.stack([t.spans[..., 0].masked_fill(~t.mask, torch.inf).amin(1) for t in streams]).amin(0)
    end = torch.stack([t.spans[..., 1].masked_fill(~t.mask, -torch.inf).amax(1) for t in streams]).amax(0)
    return torch.stack([begin, end], 1).masked_fill(~some[:, None], 0.0), some


def _filled(tokens: Tokens, vector: Tensor, span: Tensor, rows: Tensor) -> Tokens:
    """The stream with `vector` (D,) over `span` (B, 2) as the only token of the samples `rows` (B,)."""
    first = torch.arange(tokens.mask.shape[1], device=rows.device) == 0
    place = rows[:, None] & first[None]
    values = torch.where(place[..., None], vector.to(tokens.values.dtype), tokens.values)
    return Tokens(values, tokens.mask | place, torch.where(place[..., None], span[:, None], tokens.spans))
