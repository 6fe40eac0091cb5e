"""`mer bench fusion`: what each fusion costs against the number of tokens and of modalities, and EMERT beside its formulas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer.configured import build
from mer.errors import UserError
from mer.experiments.compare_fusions import Entry, chosen
from mer.fusion.base import Fused, Fusion
from mer.fusion.emert import EMERT
from mer.labels import LabelSpace, Task
from mer.shipped import shipped
from mer.tokens import Tokens

TOKENS, MODALITIES = (64, 256, 1024, 4096), (2, 3, 4, 5, 6)
WIDTH = 64
_TASKS = {"emotion": Task("emotion", LabelSpace("bench", ("a", "b", "c")))}


def report(only: Sequence[str], repeats: int) -> Iterator[str]:
    """Lines of the table, one fusion at a time, then EMERT's ratio."""
    zoo = chosen(shipped("configs") / "compare" / "fusions.yaml", ["all"])
    picked = [entry for entry in zoo if not only or any(name in entry.name for name in only)]
    if not picked:
        raise UserError(f"--only {' '.join(only)} leaves nothing", f"The fusions are {', '.join(e.name for e in zoo)}")
    head = " ".join(f"{n:>8}" for n in TOKENS)
    more = " ".join(f"{m:>8}" for m in MODALITIES)
    yield f"milliseconds of a forward pass, one clip, width {WIDTH}; exponents of the growth from the second size on"
    yield f"{'':24}{head}  {'exponent':>8}  {more}  {'exponent':>8}"
    yield f"{'':24}{'tokens per modality, 3 modalities':<47}{'modalities, 256 tokens each'}"
    for entry in picked:
        by_tokens = [_milliseconds(entry, 3, n, repeats) for n in TOKENS]
        by_modalities = [_milliseconds(entry, m, 256, repeats) for m in MODALITIES]
        yield (
            f"{entry.name:<24}{_cells(by_tokens)}  {_exponent(TOKENS, by_tokens):>8}"
            f"  {_cells(by_modalities)}  {_exponent(MODALITIES, by_modalities):>8}"
        )
    if not only or any(name in "emert" for name in only):
        yield ""
        yield emert_line(repeats)


def emert_line(repeats: int) -> str:
    """EMERT at its published size, forward and backward, batch 16, beside a transcription of its formulas."""
    torch.manual_seed(0)
    counts = {"face": 8, "eye": 32, "gaze": 32}
    ours = EMERT(dict.fromkeys(counts, 128), dim=64, positions=counts)
    ours.sequence_wanted = False  # it has none in the release either
    theirs = Transcription()
    tokens = {m: stream(16, n, 128, k) for k, (m, n) in enumerate(counts.items())}

    def step(module: nn.Module) -> Callable[[], None]:
        def once() -> None:
            found = module(tokens)
            total = found.pooled.square().sum() + sum(found.aux_losses.values())
            module.zero_grad()
            total.backward()

        return once

    mine, other = _in_turns([step(ours), step(theirs)], 3 * repeats)
    return (
        f"emert, published size, forward and backward: {mine:.1f} ms; its formulas one by one: {other:.1f} ms;"
        f" {other / mine:.2f} x"
    )


def stream(batch: int, count: int, dim: int, seed: int) -> Tokens:
    """Random tokens that lie end to end over as many tenths of a second."""
    generator = torch.Generator().manual_seed(seed)
    begin = torch.arange(count) / 10
    spans = torch.stack([begin, begin + 0.1], 1).expand(batch, -1, -1)
    return Tokens(
        torch.randn(batch, count, dim, generator=generator), torch.ones(batch, count, dtype=torch.bool), spans
    )


@torch.no_grad()
def _milliseconds(entry: Entry, modalities: int, count: int, repeats: int) -> float | None:
    """The least of the repeats; None where the module does not take so many modalities."""
    torch.manual_seed(0)
    dims = {f"m{k}": WIDTH for k in range(modalities)}
    described = {"class_path": entry.class_path, "init_args": {"dim": WIDTH, **entry.init_args, "dims": dims}}
    try:
        fusion = build(described, Fusion, ("mer.fusion",), (), entry.name).eval()
    except UserError:
        return None
    fusion.for_tasks(_TASKS)
    tokens = {m: stream(1, count, WIDTH, k) for k, m in enumerate(dims)}
    return _in_turns([lambda: fusion(tokens)], repeats)[0]


def _in_turns(jobs: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """The least time of each job in milliseconds, the jobs in turns so that a busy moment meets all of them."""
    least = [float("inf")] * len(jobs)
    for job in jobs:
        job()
    for _ in range(repeats):
        for place, job in enumerate(jobs):
            begun = time.perf_counter()
            job()
            least[place] = min(least[place], 1e3 * (time.perf_counter() - begun))
    return least


def _exponent(sizes: Sequence[int], times: Sequence[float | None]) -> str:
    known = [(s, t) for s, t in zip(sizes, times, strict=True) if t is not None][1:]
    if len(known) < 2:
        return "n/a"
    x, y = np.log(np.array(known).T)
    return f"{np.polyfit(x, y, 1)[0]:.2f}"


def _cells(times: Sequence[float | None]) -> str:
    return " ".join("     n/a" if t is None else f"{t:8.2f}" for t in times)


class Transcription(nn.Module):
    """EMERT's formulas written down one after the other, for streams of 8, 32 and 32 tokens: what ours is timed against."""

    def __init__(self, dim: int = 64, hidden: int | None = None, layers: int = 2, heads: int = 8, head_width: int = 64):
        super().__init__()
        inner = heads * head_width

        def coder() -> nn.Sequential:
            if hidden is None:
                return nn.Sequential(nn.Linear(128, dim))
            return nn.Sequential(nn.Linear(128, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, dim))

        self.heads = heads
        self.specific = nn.ModuleList(coder() for _ in range(3))
        self.invariant = coder()
        self.discriminator = nn.Linear(dim, 3)
        self.place_s, self.place_t = (nn.Parameter(torch.randn(1, 72, dim)) for _ in range(2))
        self.norms = nn.ModuleList(nn.ModuleList(nn.LayerNorm(dim) for _ in range(4)) for _ in range(layers))
        self.q, self.k, self.v = (
            nn.ModuleList(nn.Linear(dim, inner, bias=False) for _ in range(layers)) for _ in range(3)
        )
        self.out = nn.ModuleList(nn.Linear(inner, dim) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(0.5), nn.Linear(dim, dim), nn.Dropout(0.5))
            for _ in range(layers)
        )

    def forward(self, tokens: dict[str, Tokens]) -> Fused:
        streams = [F.dropout(t.values, 0.5, self.training) for t in tokens.values()]
        own = [layer(x) for layer, x in zip(self.specific, streams, strict=True)]
        shared = [self.invariant(x) for x in streams]
        aux: dict[str, Tensor] = {}
        for name, codes in (("specific", own), ("invariant", shared)):
            total = torch.zeros(())
            for k, code in enumerate(codes):
                who, mean = torch.full((len(code),), k), code.mean(1)
                if name == "invariant":
                    mean = 2 * mean.detach() - mean  # the same number, the reversed gradient
                total = total + F.cross_entropy(self.discriminator(mean), who)
            aux[name] = 0.01 * total
        s = F.dropout(torch.cat(own, 1) + self.place_s, 0.1, self.training)
        x = F.dropout(torch.cat(shared, 1) + self.place_t, 0.1, self.training)
        for layer, norms in enumerate(self.norms):
            norm_q, norm_k, norm_v, norm = norms.children()
            q, k, v = (
                linear(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for linear, y in (
                    (self.q[layer], norm_q(x)),
                    (self.k[layer], norm_k(s)),
                    (self.v[layer], norm_v(s)),
                )
            )
            weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[3] ** -0.5, 3)  # (B, heads, 72, 72)
            told = (weights @ v).transpose(1, 2).flatten(2)
            x = x + F.dropout(self.out[layer](told), 0.5, self.training)
            x = x + self.mlp[layer](norm(x))
        return Fused(x.mean(1), aux_losses=aux)
