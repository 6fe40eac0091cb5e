"""The contract every fusion module holds, over the subsets of modalities it takes. A new module joins with one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import pytest
import torch
from torch import Tensor

import mer.fusion
from mer.configured import build
from mer.errors import UserError
from mer.fusion import (
    ALMT,
    CAN,
    CMTF,
    EMERT,
    JMT,
    LFAN,
    LMF,
    MISA,
    TFN,
    AttentionPool,
    Bottleneck,
    Concat,
    CrossAttention,
    DetailEnhanced,
    Divergence,
    Fused,
    Fusion,
    Gated,
    InterFusion,
    Late,
    MulT,
    TokenConcat,
    TokenExchange,
)
from mer.fusion.cmtf import VARIANTS
from mer.labels import LabelSpace, Task
from mer.tokens import Tokens

FUSIONS: dict[str, Callable[[Mapping[str, int]], Fusion]] = {
    "concat": lambda dims: Concat(dims, dim=16),
    "attention_pool": lambda dims: AttentionPool(dims, dim=16, temperature=0.7),
    "gated": lambda dims: Gated(dims, dim=16),
    "tfn": lambda dims: TFN(dims, dim=16, width=3),
    "lmf": lambda dims: LMF(dims, dim=16, rank=3),
    "divergence": lambda dims: Divergence(dims, dim=16),
    "divergence_both": lambda dims: Divergence(dims, dim=16, parts="both"),
    "bottleneck": lambda dims: Bottleneck(dims, dim=16, bottlenecks=3),
    "cross_attention": lambda dims: CrossAttention(dims, dim=16),
    "mult": lambda dims: MulT(dims, dim=16, layers=2, memory=1),
    "late": lambda dims: Late(dims, dim=16),
    "misa": lambda dims: MISA(dims, dim=16),
    "lfan": lambda dims: LFAN(dims, dim=16, width=4),
    "lfan_tcn": lambda dims: LFAN(dims, dim=16, width=4, channels=[12], kernel=3),
    "can": lambda dims: CAN(dims, dim=16),
    "jmt": lambda dims: JMT(dims, dim=16, channels=[8], kernel=3),
    "emert": lambda dims: EMERT(dims, dim=16, width=12, heads=2, head_width=16),
    "emert_private": lambda dims: EMERT(dims, dim=16, width=7, hidden=9, heads=2, head_width=8, query="private"),
    "token_concat": lambda dims: TokenConcat(dims, dim=16),
    "token_exchange": lambda dims: TokenExchange(dims, dim=16, threshold=0.75),
    "interfusion": lambda dims: InterFusion(dims, dim=16),
    "interfusion_two_token": lambda dims: InterFusion(dims, dim=16, variant="two_token"),
    "detail_enhanced": lambda dims: DetailEnhanced(dims, dim=16, kernel=3),
    "detail_enriched": lambda dims: DetailEnhanced(
        dims, dim=16, kernel=3, enrich={"words": "video"} if {"words", "video"} <= set(dims) else {}
    ),
    **{
        f"cmtf_{variant}": (
            lambda dims, v=variant: CMTF(
                dims, dim=16, variant=v, options={"threshold": 0.75} if v == "exchange" else None
            )
        )
        for variant in VARIANTS
    },
    "almt": lambda dims: ALMT(dims, dim=16, tokens=3, layers=2),
}
TASKS = {
    "mood": Task("mood", LabelSpace("mood", ("a", "b", "c"))),
    "va": Task("va", LabelSpace("va", ("v", "a"), "continuous")),
    "marks": Task("marks", LabelSpace("marks", ("x", "y"), "multilabel")),
    "moment": Task("moment", LabelSpace("moment", ("a", "b", "c")), level="frame"),
}
DIMS = {"audio": 6, "video": 10, "words": 7, "skeleton": 5, "gaze": 4, "flow": 9}
RATES = {"audio": 10.0, "video": 8.0, "words": 2.5, "skeleton": 6.0, "gaze": 12.0, "flow": 4.0}
THREE = ("audio", "video", "words")
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(THREE, size)]
OF_SIX = [subset for size in range(1, 7) for subset in combinations(DIMS, size)]
NAN = float("nan")


def takes(make: Callable[[Mapping[str, int]], Fusion], subset: tuple[str, ...]) -> bool:
    try:
        make({m: DIMS[m] for m in subset})
    except UserError:
        return False
    return True


CASES = [(name, subset) for name, make in FUSIONS.items() for subset in SUBSETS if takes(make, subset)]
LARGEST = [max((c for c in CASES if c[0] == name), key=lambda c: len(c[1])) for name in FUSIONS]
LARGEST += [(name, tuple(DIMS)) for name, make in FUSIONS.items() if takes(make, tuple(DIMS))]
IDS, LARGEST_IDS = ([f"{name}-{'+'.join(subset)}" for name, subset in some] for some in (CASES, LARGEST))


def test_every_shipped_module_is_held_to_it() -> None:
    shipped = {c for c in vars(mer.fusion).values() if isinstance(c, type) and issubclass(c, Fusion)} - {Fusion}
    assert {type(FUSIONS[name]({m: DIMS[m] for m in subset})) for name, subset in LARGEST} == shipped


@torch.no_grad()
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_where_nobody_wants_the_sequence_all_else_stays_the_same(case: tuple[str, tuple[str, ...]]) -> None:
    fusion = made(*case)
    tokens = batch(fusion, [6, 3, 8])
    wanted = fusion(tokens)
    fusion.sequence_wanted = False
    spared = fusion(tokens)
    spared.sequence, spared.frames = wanted.sequence, wanted.frames
    same(spared, wanted)
    for name, value in spared.aux_losses.items():
        torch.testing.assert_close(value, wanted.aux_losses[name])


@pytest.mark.parametrize("case", LARGEST, ids=LARGEST_IDS)
def test_where_nobody_wants_the_sequence_no_parameter_is_outside_the_graph(case: tuple[str, tuple[str, ...]]) -> None:
    fusion = made(*case, {name: task for name, task in TASKS.items() if task.level == "video"})
    fusion.sequence_wanted = False
    fused = fusion(batch(fusion, [5, 0]))
    fused.sequence = None
    sum((weighted(v) for v in outputs(fused).values()), start=sum(fused.aux_losses.values())).backward()
    assert [n for n, p in fusion.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.fixture(params=CASES, ids=IDS)
def fusion(request: pytest.FixtureRequest) -> Fusion:
    return made(*request.param)


@pytest.fixture(params=LARGEST, ids=LARGEST_IDS)
def largest(request: pytest.FixtureRequest) -> Fusion:
    """The module over as many of three modalities as it takes, and over all six where it takes them."""
    return made(*request.param)


def made(name: str, subset: tuple[str, ...], tasks: dict[str, Task] = TASKS) -> Fusion:
    """In float64, so that what is compared differs by more than rounding, or not at all."""
    torch.manual_seed(0)
    fusion = FUSIONS[name]({m: DIMS[m] for m in subset})
    fusion.for_tasks(tasks)
    with torch.no_grad():  # gates that start at 0 would hide what lies behind them
        for p in fusion.parameters():
            p += 0.2 * torch.randn(p.shape)
    return fusion.double().eval()


def stream(m: str, lengths: list[int], seed: int = 0, more: int = 0, garbage: float = 0.0) -> Tokens:
    """Random tokens; a sample's content depends on its place in the batch alone, never on the padding."""
    size = max(1, *lengths) + more
    values = torch.full((len(lengths), size, DIMS[m]), garbage, dtype=torch.float64)
    spans = torch.full((len(lengths), size, 2), garbage)
    mask = torch.zeros(len(lengths), size, dtype=torch.bool)
    for row, count in enumerate(lengths):
        generator = torch.Generator().manual_seed(1000 * seed + 10 * row + list(DIMS).index(m))
        begin = 2.0 + 0.3 * list(DIMS).index(m) + torch.arange(count) / RATES[m]
        values[row, :count] = torch.randn(count, DIMS[m], generator=generator)
        spans[row, :count] = torch.stack([begin, begin + 1 / RATES[m]], dim=1)
        mask[row, :count] = True
    return Tokens(values, mask, spans)


def batch(fusion: Fusion, lengths: list[int], **options: float) -> dict[str, Tokens]:
    return {m: stream(m, lengths, **options) for m in fusion.modalities}  # type: ignore[arg-type]


def presences(fusion: Fusion) -> Iterator[dict[str, bool]]:
    """Every way in which at least one of the modalities is there."""
    names = fusion.modalities
    for size in range(1, len(names) + 1):
        for chosen in combinations(names, size):
            yield {m: m in chosen for m in names}


def with_every_subset(fusion: Fusion, lengths: list[int]) -> tuple[dict[str, Tokens], Tensor]:
    """A batch in which every way occurs, once per length; and (B, M) which modality a row has."""
    ways = [(way, length) for way in presences(fusion) for length in lengths]
    tokens = {m: stream(m, [length if way[m] else 0 for way, length in ways]) for m in fusion.modalities}
    return tokens, torch.tensor([[way[m] for m in fusion.modalities] for way, _ in ways])


def outputs(fused: Fused) -> dict[str, Tensor]:
    """Everything that a head may read, with 0 where the sequence is padded."""
    found = {"pooled": fused.pooled, **{f"unimodal {m}": v for m, v in fused.unimodal.items()}}
    if fused.sequence is not None:
        found["sequence"] = fused.sequence.zeroed()
    found |= {f"frames {t}": v.zeroed() for t, v in fused.frames.items()}
    return found | {f"logits {t}": v for t, v in fused.logits.items()}


def check(fused: Fused, fusion: Fusion, size: int) -> Fused:
    """What holds for every answer."""
    assert fused.pooled.shape == (size, fusion.dim)
    for name, value in outputs(fused).items():
        assert len(value) == size, name
        assert torch.isfinite(value).all(), name
    assert set(fused.unimodal) <= set(fusion.modalities)
    assert all(v.shape == (size, fusion.dim) for v in fused.unimodal.values())
    assert all(v.ndim == 0 and torch.isfinite(v) for v in fused.aux_losses.values())
    assert fused.sequence is None or fused.sequence.dim == fusion.dim
    for clocked in clocks(fused):
        assert torch.isfinite(clocked.spans).all()
        assert (clocked.values[~clocked.mask] == 0).all()
    return fused


def clocks(fused: Fused) -> list[Tokens]:
    """What lies on a clock: the sequence, and frame-level scores."""
    return [t for t in (fused.sequence, *fused.frames.values()) if t is not None]


def weighted(value: Tensor) -> Tensor:
    """A scalar that every number enters with its own weight; a plain sum is constant behind a layer norm."""
    return (value * torch.randn(value.shape, generator=torch.Generator().manual_seed(5))).sum()


def same(a: Fused, b: Fused, rows: list[int] | None = None) -> None:
    """Equal answers for `rows` of b (all by default); the sequence compared on its real ticks."""
    pick = list(range(len(a.pooled))) if rows is None else rows
    torch.testing.assert_close(a.pooled, b.pooled[pick], atol=1e-5, rtol=1e-5)
    for m, value in a.unimodal.items():
        torch.testing.assert_close(value, b.unimodal[m][pick], atol=1e-5, rtol=1e-5)
    for t, value in a.logits.items():
        torch.testing.assert_close(value, b.logits[t][pick], atol=1e-5, rtol=1e-5)
    for m, value in (a.modality_weights or {}).items():
        torch.testing.assert_close(value, (b.modality_weights or {})[m][pick], atol=1e-5, rtol=1e-5)
    assert len(clocks(a)) == len(clocks(b))
    for mine, other in zip(clocks(a), clocks(b), strict=True):
        for i, j in enumerate(pick):
            here, there = mine.mask[i], other.mask[j]
            assert here.sum() == there.sum()
            torch.testing.assert_close(mine.values[i][here], other.values[j][there], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(mine.spans[i][here], other.spans[j][there], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [[7], [1], [1, 1, 1], [9, 1, 4]], ids=str)
def test_any_batch_and_any_length_will_do(fusion: Fusion, lengths: list[int]) -> None:
    check(fusion(batch(fusion, lengths)), fusion, len(lengths))


@torch.no_grad()
@pytest.mark.parametrize("garbage", [0.0, 1e20, float("inf"), NAN])
def test_a_padded_tail_changes_nothing_whatever_it_holds(fusion: Fusion, garbage: float) -> None:
    tight = check(fusion(batch(fusion, [6, 3, 8])), fusion, 3)
    loose = check(fusion(batch(fusion, [6, 3, 8], more=5, garbage=garbage)), fusion, 3)
    same(tight, loose)


@torch.no_grad()
def test_a_sample_gets_the_answer_it_gets_alone(fusion: Fusion) -> None:
    tokens = batch(fusion, [6, 3, 8])
    together = fusion(tokens)
    for row in range(3):
        alone = {m: Tokens(t.values[row, None], t.mask[row, None], t.spans[row, None]) for m, t in tokens.items()}
        same(fusion(alone), together, [row])


@torch.no_grad()
def test_permuting_the_batch_permutes_the_answer(fusion: Fusion) -> None:
    tokens = batch(fusion, [6, 3, 8, 1])
    order = [2, 0, 3, 1]
    permuted = {m: Tokens(t.values[order], t.mask[order], t.spans[order]) for m, t in tokens.items()}
    same(fusion(permuted), fusion(tokens), order)


def test_no_gradient_crosses_samples(fusion: Fusion) -> None:
    tokens = batch(fusion, [6, 3, 8])
    leaves = [t.values.requires_grad_() for t in tokens.values()]
    for name, value in outputs(fusion(tokens)).items():
        for row in range(3):
            found = torch.autograd.grad(weighted(value[row]), leaves, retain_graph=True, allow_unused=True)
            for gradient in found:
                if gradient is not None:
                    assert not gradient[[i for i in range(3) if i != row]].any(), f"{name} of sample {row}"


@pytest.mark.parametrize("training", [False, True])
def test_over_all_subsets_and_both_levels_every_parameter_receives_gradient(largest: Fusion, training: bool) -> None:
    torch.manual_seed(0)
    largest.train(training)
    fused = largest(with_every_subset(largest, [5, 3])[0])
    sum((weighted(v) for v in outputs(fused).values()), start=sum(fused.aux_losses.values())).backward()
    silent = [n for n, p in largest.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in largest.parameters() if p.grad is not None)


def test_no_parameter_is_outside_the_graph_of_both_levels(fusion: Fusion) -> None:
    """DistributedDataParallel waits for the gradient of every parameter, absent modalities included."""
    fused = fusion(batch(fusion, [0, 0]))
    sum((weighted(v) for v in outputs(fused).values()), start=sum(fused.aux_losses.values())).backward()
    assert [n for n, p in fusion.named_parameters() if p.requires_grad and p.grad is None] == []


def test_an_absent_modality_gets_no_gradient_and_no_weight(largest: Fusion) -> None:
    _, here = with_every_subset(largest, [1])
    tokens = {m: stream(m, [5] * len(here)) for m in largest.modalities}
    some = {m: Tokens(t.values, t.mask & here[:, i, None], t.spans) for i, (m, t) in enumerate(tokens.items())}
    for t in some.values():
        t.values.requires_grad_()
    fused = check(largest(some), largest, len(here))
    sum(weighted(v) for v in outputs(fused).values()).backward()  # type: ignore[union-attr]
    for i, m in enumerate(largest.modalities):
        gradient = some[m].values.grad
        assert gradient is not None
        assert torch.equal(gradient.flatten(1).any(1), here[:, i]), m
        assert m not in fused.unimodal or not fused.unimodal[m][~here[:, i]].any()
        assert fused.modality_weights is None or not fused.modality_weights[m][~here[:, i]].any()


@torch.no_grad()
@pytest.mark.parametrize("absent", THREE)
def test_it_is_the_same_whether_a_batch_lacks_a_modality_or_a_sample_does(absent: str, largest: Fusion) -> None:
    tokens = {m: stream(m, [5, 0 if m == absent else 3]) for m in largest.modalities}
    alone = {m: Tokens(t.values[1:, :3], t.mask[1:, :3], t.spans[1:, :3]) for m, t in tokens.items()}
    same(largest(alone), largest(tokens), [1])


@torch.no_grad()
def test_a_sample_without_any_modality_gets_a_finite_answer_and_no_tick(fusion: Fusion) -> None:
    fused = check(fusion(batch(fusion, [5, 0, 3], garbage=NAN)), fusion, 3)
    assert all(clocked.present.tolist() == [True, False, True] for clocked in clocks(fused))
    if fused.modality_weights is not None:
        assert all(w[1] == 0 for w in fused.modality_weights.values())
    check(fusion(batch(fusion, [0, 0])), fusion, 2)


@torch.no_grad()
def test_weights_sum_to_one_over_the_present(largest: Fusion) -> None:
    tokens, here = with_every_subset(largest, [5, 3])
    fused = largest(tokens)
    if fused.modality_weights is None:
        pytest.skip("has no notion of weights")
    weights = torch.stack([fused.modality_weights[m] for m in largest.modalities])
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(len(here), dtype=weights.dtype))


@pytest.mark.parametrize("name", FUSIONS)
def test_of_six_modalities_every_subset_will_do(name: str) -> None:
    for subset in (subset for subset in OF_SIX if takes(FUSIONS[name], subset)):
        fusion = made(name, subset)
        tokens, loose = batch(fusion, [6, 3, 8]), batch(fusion, [6, 3, 8], more=3, garbage=NAN)
        turned = {m: Tokens(t.values[[2, 0]], t.mask[[2, 0]], t.spans[[2, 0]]) for m, t in loose.items()}
        found = check(fusion(tokens), fusion, 3)
        with torch.no_grad():
            same(check(fusion(turned), fusion, 2), found, [2, 0])
        sum((weighted(v) for v in outputs(found).values()), start=sum(found.aux_losses.values())).backward()
        assert [n for n, p in fusion.named_parameters() if p.requires_grad and p.grad is None] == [], subset


@torch.no_grad()
def test_the_sequence_lies_on_one_monotone_clock_over_the_media(fusion: Fusion) -> None:
    tokens = batch(fusion, [6, 3, 8])
    sequence, *more = clocks(fusion(tokens))  # every module has one
    assert all(torch.equal(other.spans, sequence.spans) for other in more)
    assert (sequence.spans[..., 1] >= sequence.spans[..., 0]).all()
    for row in range(3):
        spans = sequence.spans[row][sequence.mask[row]]
        assert (spans[1:, 0] > spans[:-1, 0]).all()
        begin = min(float(t.spans[row, 0, 0]) for t in tokens.values())
        end = max(float(t.spans[row, t.lengths[row] - 1, 1]) for t in tokens.values())
        assert float(spans[0, 0]) == pytest.approx(begin, abs=1e-3)
        assert float(spans[-1, 1]) == pytest.approx(end, abs=1e-3)


@torch.no_grad()
def test_the_sequence_changes_where_a_token_changes(fusion: Fusion) -> None:
    before = clocks(fusion(batch(fusion, [40])))[0]
    m = fusion.modalities[0]
    # A module that brings one stream onto the clock of another spreads a token over the other's, longer ones.
    reach = 0.1 + max((1 / RATES[name] for name in fusion.modalities if name != m), default=0.0)
    found = []
    for place in range(4, 37, 4):  # attention carries every change everywhere; most of it stays where it is
        tokens = batch(fusion, [40])
        moment = float(tokens[m].times[0, place])
        tokens[m].values[0, place] += 3.0
        change = (clocks(fusion(tokens))[0].values - before.values)[0].norm(dim=1)
        near = (before.spans[0, :, 0] - reach <= moment) & (moment <= before.spans[0, :, 1] + reach)
        found.append(bool(change[near].max() > 1.5 * change[~near].median()))
    assert sum(found) >= 6


def test_bfloat16_stays_close_and_trains(fusion: Fusion) -> None:
    fusion.float()  # autocast leaves float64 alone
    tokens = {m: t.to(torch.float32) for m, t in batch(fusion, [6, 3]).items()}
    exact = fusion(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = check(fusion(tokens), fusion, 2)
    torch.testing.assert_close(half.pooled.float(), exact.pooled, atol=0.15, rtol=0.1)
    assert all(clocked.spans.dtype == torch.float32 for clocked in clocks(half))
    sum(weighted(v.float()) for v in outputs(half).values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters() if p.grad is not None)


@torch.no_grad()
def test_bfloat16_tokens_are_taken_as_they_are(fusion: Fusion) -> None:
    fusion.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(fusion({m: t.to(torch.bfloat16) for m, t in batch(fusion, [6, 3]).items()}), fusion, 2)


@torch.no_grad()
def test_state_and_description_make_another_copy_equal(fusion: Fusion) -> None:
    description = json.loads(json.dumps(fusion.describe()))
    copy = build(description, Fusion, ("mer.fusion",), (), "test")
    copy.for_tasks(TASKS)
    copy.double().eval()
    assert copy.describe() == description
    copy.load_state_dict(fusion.state_dict())
    tokens = batch(fusion, [6, 3])
    same(copy(tokens), fusion(tokens))


@torch.no_grad()
def test_training_is_deterministic_under_a_seed(fusion: Fusion) -> None:
    fusion.train()
    answers = []
    for _ in range(2):
        torch.manual_seed(3)
        answers.append(fusion(batch(fusion, [6, 3])))
    same(*answers)


@pytest.mark.parametrize("name", FUSIONS)
def test_too_few_or_too_many_modalities_are_refused(name: str) -> None:
    cls = type(made(*next(c for c in CASES if c[0] == name)))
    with pytest.raises(UserError, match=f"{cls.__name__} takes"):
        FUSIONS[name]({})
    if cls.max_modalities is not None:
        with pytest.raises(UserError, match=f"{cls.__name__} takes"):
            FUSIONS[name]({f"m{i}": 4 for i in range(cls.max_modalities + 1)})


def test_the_bounds_are_checked_at_construction() -> None:
    class Pair(Fusion):
        min_modalities, max_modalities = 2, 2

        def __init__(self, dims: Mapping[str, int]):
            super().__init__(dims, 4)

    assert Pair({"a": 1, "b": 2}).modalities == ["a", "b"]
    for names in ("a", "abc"):
        with pytest.raises(UserError, match=f"Pair takes 2 to 2 modalities, not {len(names)}"):
            Pair(dict.fromkeys(names, 1))
    with pytest.raises(TypeError, match="Pair does not implement forward"):
        Pair({"a": 1, "b": 2})({})


@torch.no_grad()
@pytest.mark.parametrize("names", [("moment",), ("moment", "mood")])
def test_late_shows_the_weights_that_it_learnt_of_frames_where_there_are_no_others(names: tuple[str, ...]) -> None:
    fusion = Late({"audio": 6, "video": 10}, dim=16).eval()
    fusion.for_tasks({name: TASKS[name] for name in names})
    fusion.weights["moment"].copy_(torch.tensor([3.0, 1.0]).log())
    shown = fusion(
        {m: stream(m, [5, 3 if m == "video" else 0]).to(torch.float32) for m in fusion.modalities}
    ).modality_weights
    first = 0.5 if "mood" in names else 0.75
    assert shown is not None
    torch.testing.assert_close(
        torch.stack([shown["audio"], shown["video"]]), torch.tensor([[first, 0], [1 - first, 1]])
    )


def test_a_clock_among_the_options_of_cmtf_counts_as_it_did() -> None:
    dims = {"audio": 6, "video": 10}
    assert CMTF(dims, dim=16, options={"clock_rate": 2.0}).inner.clock_rate == 2.0
    assert CMTF(dims, dim=16, clock_rate=3.0).inner.clock_rate == 3.0
