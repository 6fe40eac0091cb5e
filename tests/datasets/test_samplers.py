"""What an epoch shows: every draw is one of (seed, epoch, clip id); balance by class and by person; DDP; resuming."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from witness import seen, write_config

from mer import preemption
from mer.datasets.manifest import Clip
from mer.datasets.samplers import ClassBalanced, EpochSampler, Shuffled, SubjectBalanced, TwoStage, clip_keys
from mer.errors import UserError
from mer.labels import LabelSpace, Task

MOOD = Task("mood", LabelSpace("mood.v1", ("sad", "glad", "calm")))
SIGNS = Task("signs", LabelSpace("signs.v1", ("a", "b"), "multilabel"))
LEVEL = Task("level", LabelSpace("level.v1", ("x",), "continuous"))
MOMENT = Task("moment", MOOD.space, "frame")
TASKS = {t.name: t for t in (MOOD, SIGNS, LEVEL, MOMENT)}
COUNTS = (600, 250, 50)
POLICIES = [Shuffled(), ClassBalanced("mood"), ClassBalanced("mood", 0.5), TwoStage("mood", 1), SubjectBalanced()]


def corpus(counts: tuple[int, ...] = COUNTS) -> list[Clip]:
    """As many clips of each mood; three people with 1/2, 1/3 and 1/6 of them."""
    moods = [mood for mood, count in enumerate(counts) for _ in range(count)]
    people = ("anna", "anna", "anna", "ben", "ben", "cleo")
    return [
        Clip(f"clip{n}", people[n % 6], labels={"mood": [float(mood)], "signs": [float(mood == 0), float(mood == 2)]})
        for n, mood in enumerate(moods)
    ]


def epoch(clips: list[Clip], policy: Shuffled | None = None, number: int = 0, **options: int) -> list[str]:
    sampler = EpochSampler(clips, TASKS, policy, **options)
    sampler.set_epoch(number)
    pairs = list(sampler)
    assert len(pairs) == len(sampler)
    assert {e for e, _ in pairs} <= {number}
    return [clips[index].clip_id for _, index in pairs]


def moods(clips: list[Clip], names: list[str]) -> list[int]:
    of = {c.clip_id: int(c.labels["mood"][0]) for c in clips if c.labels["mood"] is not None}  # type: ignore[index]
    found = Counter(of[name] for name in names if name in of)
    return [found[mood] for mood in range(len(MOOD.space))]


class TestOrder:
    @pytest.mark.parametrize("size", [0, 1, 17])
    def test_shuffled_shows_every_clip_once(self, size: int) -> None:
        clips = corpus((size, 0, 0))
        assert sorted(epoch(clips)) == sorted(c.clip_id for c in clips)

    @pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
    def test_an_epoch_is_a_function_of_seed_and_number(self, policy: Shuffled) -> None:
        clips = corpus()
        for number in (0, 1, 5):
            assert epoch(clips, policy, number) == epoch(clips, policy, number)
            assert len(epoch(clips, policy, number)) == len(clips), "the length never changes"
        assert epoch(clips, policy, 1) != epoch(clips, policy, 2)
        assert epoch(clips, policy, 1, seed=1) != epoch(clips, policy, 1)
        assert epoch(clips, policy, 1) != epoch(clips, policy, 0, seed=1)

    @pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
    def test_a_clip_more_or_less_leaves_the_others_in_their_order(self, policy: Shuffled) -> None:
        clips = corpus()
        fewer = [c for c in clips if c.clip_id != "clip7"]
        shuffled = fewer[::-1]  # neither does the order of the manifest's rows count
        all_of_them, without = epoch(clips, policy, 3), epoch(shuffled, policy, 3)
        copies, left = Counter(all_of_them), Counter(without)
        same = {name for name in left if copies[name] == left[name]}
        assert len(same) > 0.95 * len(left), "weights change a little, and with them a copy here and there"
        assert [n for n in all_of_them if n in same] == [n for n in without if n in same]

    def test_keys_are_the_same_in_every_version(self) -> None:
        assert clip_keys(["clip0", "Zoë"]).tolist() == [13945831936766495308, 11135694976992124792]

    def test_any_two_places_are_equally_likely(self) -> None:
        clips = corpus((8, 0, 0))
        place = np.zeros((8, 8))
        for number in range(400):
            for position, name in enumerate(epoch(clips, number=number)):
                place[int(name.removeprefix("clip")), position] += 1
        expected = 400 / 8
        assert ((place - expected) ** 2 / expected).sum() < 95, "chi-square of 49 degrees of freedom, p = 0.0001"

    def test_a_hundred_thousand_clips_take_no_time(self) -> None:
        clips = corpus((50_000, 40_000, 10_000))
        sampler = EpochSampler(clips, TASKS, ClassBalanced("mood"))
        began = time.process_time()
        order = sampler.order()
        assert time.process_time() - began < 2.0  # a tenth of that on a quiet machine
        assert len(order) == 100_000


class TestBalance:
    @pytest.mark.parametrize(("power", "share"), [(1.0, (1, 1, 1)), (0.5, np.sqrt(COUNTS)), (0.0, COUNTS)])
    def test_classes_are_shown_by_their_count_to_the_power(self, power: float, share: tuple[float, ...]) -> None:
        clips = corpus()
        shown = np.mean([moods(clips, epoch(clips, ClassBalanced("mood", power), n)) for n in range(20)], axis=0)
        np.testing.assert_allclose(shown, 900 * np.array(share) / np.sum(share), rtol=0.03)

    def test_within_a_class_all_are_shown_alike(self) -> None:
        clips = corpus()
        times = Counter(name for n in range(60) for name in epoch(clips, ClassBalanced("mood"), n))
        first = np.array([times[f"clip{n}"] for n in range(600)])
        last = np.array([times[f"clip{n}"] for n in range(850, 900)])
        assert first.mean() == pytest.approx(30, rel=0.02)  # half of the epochs each
        assert first.min() > 10
        assert first.max() < 50
        assert last.min() > 300, "six times an epoch"

    def test_two_stages(self) -> None:
        clips, policy = corpus(), TwoStage("mood", from_epoch=2)
        for number in (0, 1):
            assert epoch(clips, policy, number) == epoch(clips, None, number)
        for number in (2, 3):
            assert epoch(clips, policy, number) == epoch(clips, ClassBalanced("mood"), number)

    def test_people_are_shown_alike(self) -> None:
        clips = corpus()
        people = {c.clip_id: c.subject for c in clips}
        shown = Counter(people[name] for n in range(20) for name in epoch(clips, SubjectBalanced(), n))
        assert [shown[p] / 20 for p in ("anna", "ben", "cleo")] == pytest.approx([300] * 3, rel=0.03)

    def test_what_is_not_labelled_is_shown_once_and_takes_nothing_away(self) -> None:
        clips = corpus((90, 10, 0)) + [Clip(f"bare{n}", labels={"mood": None}) for n in range(100)]
        names = [name for n in range(20) for name in epoch(clips, ClassBalanced("mood"), n)]
        assert sum(name.startswith("bare") for name in names) / 20 == pytest.approx(100, rel=0.02)
        assert [count / 20 for count in moods(clips, names)] == pytest.approx([50, 50, 0], rel=0.05)
        nobody = corpus((60, 0, 0)) + [Clip(f"bare{n}") for n in range(60)]
        names = [name for n in range(20) for name in epoch(nobody, SubjectBalanced(), n)]
        assert sum(name.startswith("bare") for name in names) / 20 == pytest.approx(60, rel=0.02)

    def test_of_several_labels_the_rarest_counts_and_none_is_a_class(self) -> None:
        def clip(n: int, *signs: float) -> Clip:
            return Clip(f"clip{n}", labels={"signs": signs})

        clips = (
            [clip(n, 1, 0) for n in range(60)]
            + [clip(n, 1, 1) for n in range(60, 80)]
            + [clip(n, 0, 0) for n in range(80, 90)]
        )
        weights = ClassBalanced("signs").weights(clips, TASKS, 0)
        ratio = weights / weights[0]
        assert ratio[[0, 60, 80]].tolist() == pytest.approx([1, 80 / 20, 80 / 10])

    def test_a_class_that_is_all_but_alone_fills_the_epoch(self) -> None:
        clips = [*corpus((1, 0, 0)), *(Clip(f"other{n}", labels={"mood": [1.0]}) for n in range(9))]
        shown = [epoch(clips, ClassBalanced("mood"), n) for n in range(40)]
        assert all(len(names) == 10 for names in shown)
        assert np.mean([names.count("clip0") for names in shown]) == pytest.approx(5, rel=0.1)

    @pytest.mark.parametrize(
        ("policy", "message"),
        [
            (ClassBalanced("moood"), "no task 'moood'"),
            (ClassBalanced("level"), "continuous"),
            (ClassBalanced("moment"), "frame level"),
        ],
    )
    def test_what_has_no_classes_is_refused_at_once(self, policy: Shuffled, message: str) -> None:
        with pytest.raises(UserError, match=message):
            EpochSampler(corpus(), TASKS, policy)

    def test_nobody_to_balance_by(self) -> None:
        with pytest.raises(UserError, match="names its subject"):
            EpochSampler([Clip("a"), Clip("b")], TASKS, SubjectBalanced())

    def test_numbers_out_of_range(self) -> None:
        with pytest.raises(UserError, match="power"):
            ClassBalanced("mood", 2.0)
        with pytest.raises(UserError, match="from_epoch"):
            TwoStage("mood", -1)


class TestProcesses:
    @pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
    def test_they_share_an_epoch(self, policy: Shuffled) -> None:
        clips = corpus((12, 8, 4))
        parts = [epoch(clips, policy, 2, rank=r, world=4) for r in range(4)]
        assert [len(part) for part in parts] == [6] * 4
        assert Counter(name for part in parts for name in part) == Counter(epoch(clips, policy, 2))

    def test_each_clip_is_with_one_of_them(self) -> None:
        parts = [epoch(corpus((24, 0, 0)), rank=r, world=4) for r in range(4)]
        assert sorted(name for part in parts for name in part) == sorted(c.clip_id for c in corpus((24, 0, 0)))

    def test_they_get_equally_many_and_miss_none_where_it_does_not_divide(self) -> None:
        parts = [epoch(corpus((10, 0, 0)), rank=r, world=4) for r in range(4)]
        assert [len(part) for part in parts] == [3] * 4
        assert len({name for part in parts for name in part}) == 10
        assert all(len(set(part)) == 3 for part in parts)

    def test_going_on_leaves_out_what_was_seen(self) -> None:
        clips, policy = corpus((12, 8, 4)), TwoStage("mood", 1)
        for rank in range(2):
            sampler = EpochSampler(clips, TASKS, policy, rank=rank, world=2)
            sampler.go_on(1, 5)
            assert [clips[i].clip_id for _, i in sampler] == epoch(clips, policy, 1, rank=rank, world=2)[5:]
            sampler.set_epoch(2)
            assert [clips[i].clip_id for _, i in sampler] == epoch(clips, policy, 2, rank=rank, world=2)


STAGES = "mer.datasets.samplers.TwoStage"
YAML = ("--data.sampler", STAGES, "--data.sampler.task", "emotion", "--data.sampler.from_epoch", "1")


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A job that SIGUSR1 makes save and end, and a `scontrol` that always succeeds."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text("#!/bin/sh\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = signal.getsignal(signal.SIGUSR1)
    yield
    preemption.forget()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("in_job")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_cut_off_shows_what_it_would_have_shown(workers: int, tiny_corpus: Path, tmp_path: Path) -> None:
    whole = write_config(tmp_path / "whole.yaml", tiny_corpus, 3, workers)
    assert tiny.mer("fit", "--config", whole, "--out", tmp_path / "whole", *YAML) == 0
    cut = write_config(tmp_path / "cut.yaml", tiny_corpus, 3, workers, signal_at=[1, 4])
    assert tiny.mer("fit", "--config", cut, "--out", tmp_path / "cut", *YAML) == 0
    assert len(seen(tmp_path / "cut", 0)[1]) == 10
    assert tiny.mer("fit", "--config", cut, "--out", tmp_path / "cut", *YAML) == 0
    assert seen(tmp_path / "cut", 0) == seen(tmp_path / "whole", 0)
