"""`mer extract`: each clip once, whoever does it, however often it is killed; what cannot be read is listed and passed over."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from media_files import grey, tone, write

import mer
from mer.datasets import extract as extraction
from mer.datasets.extract import Ahead, Plan, configured, default_shard, encode, extract
from mer.datasets.manifest import Manifest
from mer.datasets.store import Shelf, Store
from mer.datasets.store_key import Key
from mer.encoders import Encoder, FeatureEncoder, FrameCNN
from mer.errors import UserError
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

CPU = torch.device("cpu")


def run(corpus: Path, store: Path, *more: object, config: Path | None = None) -> int:
    """`mer extract` of the tiny encoders."""
    path = config or store.parent / "encoders.yaml"
    if config is None and not path.exists():
        path.write_text(yaml.safe_dump({"encoders": tiny.ENCODERS}, sort_keys=False), encoding="utf-8")
    shared = ("--manifest", corpus / "manifest.csv", "--store", store, "--dtype", "float32")
    return tiny.mer("extract", "--config", path, *shared, *more)


def items(store: Path) -> dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    """Everything in a store, by shelf and item."""
    found = {}
    for shelf in Store(store).shelves():
        for item in shelf.ids():
            stored = shelf.read(item)
            found[shelf.folder.name, item] = (stored.values, stored.spans)
    return found


def same(one: Path, two: Path) -> bool:
    first, second = items(one), items(two)
    return first.keys() == second.keys() and all(
        torch.equal(a, b) for key in first for a, b in zip(first[key], second[key], strict=True)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A store of the tiny corpus, made in one go. Tests only read it."""
    store = tmp_path_factory.mktemp("whole") / "S"
    assert run(tiny_corpus, store) == 0
    return store


def made_corpus(folder: Path, clips: dict[str, float], broken: tuple[str, ...] = ()) -> Path:
    """A corpus of grey clips of so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seconds in clips.items():
        write(folder / f"{name}.mp4", grey(round(25 * seconds)), tone(seconds))
    for name in broken:
        (folder / f"{name}.mp4").write_bytes(b"not a film")
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["clip_id", "split", "emotion", "video", "audio"])
        writer.writeheader()
        for name in (*clips, *broken):
            media = f"{name}.mp4"
            writer.writerow({"clip_id": name, "split": "train", "emotion": "", "video": media, "audio": media})
    labels = {"name": "synthetic4.v1", "names": ["joyful", "relieved", "alarmed", "sad"]}
    corpus = {"name": "made", "tasks": {"emotion": {"space": labels}}}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(corpus), encoding="utf-8")
    return folder


class TestExtracting:
    def test_every_clip_has_tokens_of_every_encoder(self, whole: Path, tiny_corpus: Path) -> None:
        manifest = Manifest.read(tiny_corpus / "manifest.csv")
        for shelf in Store(whole).shelves():
            assert len(shelf.ids()) == len(manifest.clips) == 24
            spans = shelf.read(next(iter(shelf.ids()))).spans
            assert float(spans[0, 0]) >= 0 and float(spans[-1, 1]) == pytest.approx(1.0, abs=0.2)

    def test_tokens_are_what_the_encoder_gives_for_the_clip_alone(self, whole: Path, tiny_corpus: Path) -> None:
        from mer.media.prepare import prepare

        encoders = configured(whole.parent / "encoders.yaml", warn=False)
        for modality, encoder in encoders.items():
            shelf = Store(whole).find(modality, Key.of(encoder))
            assert shelf is not None
            for item in sorted(shelf.ids())[:4]:
                note = shelf.note(item)
                with torch.no_grad():
                    alone = encoder.eval()(prepare(tiny_corpus, note.reference, encoder.spec, note.start, note.end))
                torch.testing.assert_close(shelf.read(item).values, alone.values[0], atol=1e-5, rtol=1e-5)
                assert torch.equal(shelf.read(item).spans, alone.spans[0])

    def test_the_second_time_nothing_is_left_to_do(
        self, whole: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")}
        assert run(tiny_corpus, whole) == 0
        assert "0 item(s) written, 48 done earlier, 0 failed" in capsys.readouterr().out
        assert {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")} == before

    @pytest.mark.parametrize("workers", [1, 2])
    def test_three_shards_write_the_bits_of_one(
        self, whole: Path, tiny_corpus: Path, tmp_path: Path, workers: int
    ) -> None:
        counts = []
        for part in range(3):
            assert run(tiny_corpus, tmp_path / "S", "--shard", f"{part}/3", "--workers", workers) == 0
            counts.append(len(items(tmp_path / "S")))
        assert counts == [16, 32, 48]
        assert same(whole, tmp_path / "S")

    def test_packed_items_are_done_too(self, tiny_corpus: Path, tmp_path: Path) -> None:
        assert run(tiny_corpus, tmp_path / "S", "--shard", "0/2") == 0
        assert tiny.mer("store", "pack", "--store", tmp_path / "S") == 0
        assert run(tiny_corpus, tmp_path / "S") == 0
        loose = [len(s.loose) for s in Store(tmp_path / "S").shelves()]
        assert loose == [8, 8]

    def test_changed_media_are_read_again(self, tmp_path: Path) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0, "b": 1.0})
        assert run(corpus, tmp_path / "S") == 0
        before = items(tmp_path / "S")
        write(corpus / "a.mp4", grey(50), tone(2.0))
        assert run(corpus, tmp_path / "S") == 0
        after = items(tmp_path / "S")
        assert sorted(len(after[k][0]) - len(before[k][0]) > 0 for k in before) == [False, False, True, True]

    def test_rows_that_share_a_stretch_share_an_item(self, tmp_path: Path) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0})
        table = corpus / "manifest.csv"
        table.write_text(table.read_text(encoding="utf-8") + "again,train,,a.mp4,\n", encoding="utf-8")
        assert run(corpus, tmp_path / "S") == 0
        assert len(items(tmp_path / "S")) == 2

    def test_a_modality_can_be_chosen(self, tiny_corpus: Path, tmp_path: Path) -> None:
        assert run(tiny_corpus, tmp_path / "S", "--modality", "audio", "--shard", "0/8") == 0
        assert [s.modality for s in Store(tmp_path / "S").shelves()] == ["audio"]

    def test_of_a_fit_config_the_frozen_encoders_are_run(self, tiny_corpus: Path, tmp_path: Path) -> None:
        config = tiny.config(tmp_path / "fit.yaml", tiny_corpus, **{"model.freeze": {"encoders.video": -1}})
        assert run(tiny_corpus, tmp_path / "S", "--shard", "0/8", config=config) == 0
        assert [s.modality for s in Store(tmp_path / "S").shelves()] == ["video"]

    def test_where_nothing_is_found_the_item_is_done_and_empty(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0})
        nothing = Sampled(torch.zeros(1, 1), torch.zeros((1, 1), dtype=torch.bool), torch.zeros(1, 1, 2))
        monkeypatch.setattr(extraction, "prepare_all", lambda *a, **k: {"audio": nothing})
        assert run(corpus, tmp_path / "S", "--modality", "audio") == 0
        assert "1 of them hold no token" in capsys.readouterr().out
        [(values, spans)] = items(tmp_path / "S").values()
        assert (tuple(values.shape), tuple(spans.shape)) == ((0, 8), (0, 2))


class TestLongClips:
    def test_pieces_give_the_tokens_of_the_whole(self, tmp_path: Path) -> None:
        corpus = made_corpus(tmp_path / "c", {"long": 5.0, "short": 1.0})
        assert run(corpus, tmp_path / "whole", "--modality", "video") == 0
        assert run(corpus, tmp_path / "pieces", "--modality", "video", "--stretch", 2) == 0
        whole, pieces = items(tmp_path / "whole"), items(tmp_path / "pieces")
        assert max(len(v) for v, _ in pieces.values()) == 20
        for key, (values, spans) in whole.items():
            torch.testing.assert_close(pieces[key][0], values, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(pieces[key][1], spans)

    def test_sound_that_ends_before_the_picture_fails_no_piece(self, tmp_path: Path) -> None:
        """Read whole, such a clip has the sound that is there; so it has read in pieces."""
        corpus = made_corpus(tmp_path / "c", {"long": 8.0})
        write(corpus / "long.mp4", grey(200), tone(2.5))
        for name, more in (("whole", []), ("pieces", ["--stretch", 2])):
            assert run(corpus, tmp_path / name, *more, "--modality", "audio") == 0
        [(whole, _)], [(pieces, spans)] = items(tmp_path / "whole").values(), items(tmp_path / "pieces").values()
        assert abs(len(pieces) - len(whole)) <= 3, "pieces keep the silence at the ends"
        assert float(spans[-1, 1]) == pytest.approx(2.5, abs=0.2)

    def test_the_pieces_are_noted_and_others_are_made_anew(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = made_corpus(tmp_path / "c", {"long": 5.0, "short": 1.0})
        assert run(corpus, tmp_path / "S", "--stretch", 2) == 0
        shelf = Store(tmp_path / "S").shelves()[0]
        assert sorted((shelf.note(i).stretch for i in shelf.ids()), key=bool) == [None, 2.0]
        assert run(corpus, tmp_path / "S", "--stretch", 2) == 0
        assert run(corpus, tmp_path / "S") == 0
        out = capsys.readouterr().out
        assert "0 item(s) written, 4 done earlier" in out and "2 item(s) written, 2 done earlier" in out

    def test_a_batch_holds_no_more_than_a_stretch(self, tmp_path: Path) -> None:
        corpus = made_corpus(tmp_path / "c", {f"c{n}": 1.0 + n / 10 for n in range(5)})
        specs = {"video": InputSpec("video", rate=4, size=(16, 16))}
        made = extraction.groups(Manifest.read(corpus / "manifest.csv"), specs, Plan(stretch=3.0))
        assert [[w.clip.clip_id for w in group] for group in made] == [["c4", "c3"], ["c2", "c1"], ["c0"]]


class TestFailures:
    def test_they_are_listed_at_the_end_and_the_rest_is_done(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0, "b": 1.0}, broken=("x",))
        assert run(corpus, tmp_path / "S") == 1
        told = capsys.readouterr()
        assert "4 item(s) written, 0 done earlier, 2 failed" in told.out
        assert told.err.count("not readable as video or audio") == 2 and "Traceback" not in told.err
        assert run(corpus, tmp_path / "S") == 1
        told = capsys.readouterr()
        assert "0 item(s) written, 4 done earlier, 2 failed" in told.out and "--retry-failed" in told.err

    def test_they_are_tried_again_when_asked_or_when_the_file_is_another(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0}, broken=("x",))
        assert run(corpus, tmp_path / "S") == 1
        assert run(corpus, tmp_path / "S", "--retry-failed") == 1
        assert capsys.readouterr().err.count("not readable as video or audio") == 4
        write(corpus / "x.mp4", grey(25), tone(1.0))
        assert run(corpus, tmp_path / "S") == 0
        assert len(items(tmp_path / "S")) == 4

    def test_an_encoder_that_fails_on_one_clip_costs_that_clip(self, tmp_path: Path) -> None:
        class Picky(FrameCNN):
            def forward(self, inputs: Sampled) -> Tokens:
                if inputs.mask.shape[1] > 4:
                    raise RuntimeError("too long for me")
                return super().forward(inputs)

        corpus = made_corpus(tmp_path / "c", {"a": 1.0, "b": 2.0, "d": 1.0})
        store = Store.create(tmp_path / "S")
        picky = Picky(8, rate=4, size=16, channels=(4, 4))
        assert extract({"video": picky}, Manifest.read(corpus / "manifest.csv"), store, Plan(), CPU) == 1
        [shelf] = store.shelves()
        assert len(shelf.ids()) == 2
        assert [f.note.reference for f in shelf.failures().values()] == ["b.mp4"]
        assert "too long for me" in next(iter(shelf.failures().values())).problem

    def test_a_full_disk_ends_it_and_blames_no_clip(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0, "b": 1.0})

        def full(*_: Any, **__: Any) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("mer.datasets.store.save", full)
            assert run(corpus, tmp_path / "S", "--modality", "video") == 2
        assert "No space left on device" in capsys.readouterr().err
        assert not list(tmp_path.glob("S/*/failed/*"))
        assert run(corpus, tmp_path / "S", "--modality", "video") == 0

    def test_lengths_are_read_in_a_child_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def dies(path: Path) -> Any:
            raise AssertionError(f"{path} was opened in this process")

        corpus = made_corpus(tmp_path / "c", {"a": 1.0, "b": 2.0}, broken=("x",))
        monkeypatch.setattr("mer.media.reading.probe", dies)
        monkeypatch.setattr("mer.media.probe.opened", dies)
        specs = {"video": InputSpec("video", rate=4, size=(16, 16))}
        made = extraction.groups(Manifest.read(corpus / "manifest.csv"), specs, Plan())
        assert [w.clip.clip_id for group in made for w in group] == ["b", "a", "x"]

    def test_a_package_that_is_missing_stops_it_before_anything_is_blamed_on_a_clip(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from mer.errors import need_extra

        corpus = made_corpus(tmp_path / "c", {"a": 1.0})
        monkeypatch.setattr(extraction, "prepare_all", lambda *a, **k: {"video": need_extra("mediapipe", "face")})
        assert run(corpus, tmp_path / "S", "--modality", "video") == 2
        assert "mediapipe" in capsys.readouterr().err
        assert not list(tmp_path.glob("S/*/failed/*"))

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--modality", "smell"], "'smell'"),
            (["--batch_size", "0"], "--batch_size is 0"),
            (["--stretch", "nan"], "--stretch is nan"),
            (["--device", "abacus"], "'abacus'"),
            (["--config", "nowhere.yaml"], "nowhere.yaml"),
        ],
    )
    def test_a_mistake_in_the_call_is_one_line(
        self, tiny_corpus: Path, tmp_path: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tiny_corpus, tmp_path / "S", *arguments) == 2
        err = capsys.readouterr().err
        line = tiny.one_line("\n".join(x for x in err.splitlines() if "untrained" not in x))
        assert named in line

    def test_a_column_that_is_missing_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        corpus = made_corpus(tmp_path / "c", {"a": 1.0})
        config = tmp_path / "e.yaml"
        encoder = {"class_path": "mer.encoders.FeatureEncoder", "init_args": {"width": 3}}
        config.write_text(yaml.safe_dump({"encoders": {"au": encoder}}), encoding="utf-8")
        assert run(corpus, tmp_path / "S", config=config) == 2
        assert "no column 'au'" in capsys.readouterr().err


SLOW = """
import time
from mer.encoders import FrameCNN

class Slow(FrameCNN):
    def forward(self, inputs):
        time.sleep(0.05)
        return super().forward(inputs)
"""


class TestKilled:
    def test_a_killed_writer_leaves_whole_items_and_the_next_run_completes_them(
        self, whole: Path, tiny_corpus: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "slow_encoder.py").write_text(SLOW, encoding="utf-8")
        described = {"video": {**tiny.ENCODERS["video"], "class_path": "slow_encoder.Slow"}}
        (tmp_path / "e.yaml").write_text(yaml.safe_dump({"encoders": described}), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(Path(mer.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

        shared = ["--manifest", str(tiny_corpus / "manifest.csv"), "--store", "S", "--batch_size", "3"]
        command = [sys.executable, "-m", "mer", "extract", "--config", "e.yaml", *shared]
        killed = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("S/*/items/*/*.safetensors"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert 4 <= len(items(tmp_path / "S")) < 24
        assert tiny.mer("store", "check", "--store", tmp_path / "S") == 0

        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        resumed = {item: tokens for (_, item), tokens in items(tmp_path / "S").items()}
        uninterrupted = {item: t for (shelf, item), t in items(whole).items() if shelf.startswith("video")}
        assert resumed.keys() == uninterrupted.keys() and len(resumed) == 24
        for item, (values, spans) in resumed.items():
            torch.testing.assert_close(values.float(), uninterrupted[item][0], atol=2e-3, rtol=2e-3)  # float16
            assert torch.equal(spans, uninterrupted[item][1])
        manifest = tiny_corpus / "manifest.csv"
        assert tiny.mer("store", "check", "--store", tmp_path / "S", "--manifest", manifest) == 0


class TestWeights:
    def test_a_config_gives_the_weights_that_fit_begins_with(self, tiny_corpus: Path, tmp_path: Path) -> None:
        from mer.experiments.training import parse

        config = tiny.config(tmp_path / "fit.yaml", tiny_corpus)
        config.write_text("seed_everything: 7\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
        fitted = parse(["--config", str(config), "--data.fold", "0", "--out", str(tmp_path / "r")], "fit")
        for name, encoder in configured(config, warn=False).items():
            theirs = fitted.task.model.encoders[name]
            assert isinstance(theirs, Encoder)
            assert Key.of(encoder).digest == Key.of(theirs).digest

    def test_untrained_encoders_are_called_so(
        self, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tiny_corpus, tmp_path / "S", "--shard", "0/24") == 0
        assert capsys.readouterr().err.count("is untrained (seed 0)") == 2

    def test_an_encoder_without_weights_is_not(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "plain_encoder.py").write_text(
            "from mer.encoders import Encoder\nfrom mer.spec import InputSpec\n"
            "class Plain(Encoder):\n    def __init__(self):\n        super().__init__()\n"
            "        self.spec, self.dim = InputSpec('features', width=3), 3\n",
            encoding="utf-8",
        )
        (tmp_path / "e.yaml").write_text("encoders: {au: {class_path: plain_encoder.Plain}}", encoding="utf-8")
        sys.path.insert(0, str(tmp_path))
        try:
            configured(tmp_path / "e.yaml")
        finally:
            sys.path.remove(str(tmp_path))
        assert capsys.readouterr().err == ""

    def test_a_checkpoint_brings_its_encoders(
        self, tiny_corpus: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shared = ("--manifest", tiny_corpus / "manifest.csv", "--store", tmp_path / "S", "--shard", "0/24")
        assert tiny.mer("extract", "--checkpoint", tiny_checkpoint, *shared) == 0
        assert "untrained" not in capsys.readouterr().err
        config = tmp_path / "e.yaml"
        plain: dict[str, Any] = {"encoders": tiny.ENCODERS}
        plain["encoder_weights"] = {name: str(tiny_checkpoint) for name in tiny.ENCODERS}
        config.write_text(yaml.safe_dump(plain), encoding="utf-8")
        for name, encoder in configured(config).items():
            assert Store(tmp_path / "S").find(name, Key.of(encoder)) is not None
        assert "untrained" not in capsys.readouterr().err


class TestShards:
    @pytest.mark.parametrize(
        ("environment", "expected", "words"),
        [
            ({}, (0, 1), ""),
            ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, (2, 4), "array"),
            (
                {"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3",
                 "SLURM_ARRAY_TASK_STEP": "10"}, (2, 3), "array",
            ),
            ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "4"}, (1, 5), "array"),
            ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2), "step"),
            ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 1), ""),  # a batch script, without srun
            ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "RANK": "2", "WORLD_SIZE": "3"}, (2, 3), "RANK"),
            ({"RANK": "2", "WORLD_SIZE": "3"}, (2, 3), "RANK"),
            (
                {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"},
                (5, 6), "array and SLURM step",
            ),
        ],
    )  # fmt: skip
    def test_the_scheduler_says_which_part_is_ours(
        self, environment: dict[str, str], expected: tuple[int, int], words: str
    ) -> None:
        shard, whence = default_shard(environment)
        assert shard == expected
        assert words in whence

    @pytest.mark.parametrize(
        "environment",
        [
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"},
            {"RANK": "3", "WORLD_SIZE": "3"},
            {"RANK": "x", "WORLD_SIZE": "3"},
        ],
    )
    def test_numbers_that_do_not_fit_are_an_error(self, environment: dict[str, str]) -> None:
        with pytest.raises(UserError, match="--shard"):
            default_shard(environment)

    def test_the_part_is_printed(
        self, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
        assert run(tiny_corpus, tmp_path / "S") == 0
        assert "shard 2/3 (from SLURM array)" in capsys.readouterr().out
        assert len(items(tmp_path / "S")) == 16

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "1/0"])
    def test_a_part_that_does_not_exist_is_refused(self, tiny_corpus: Path, tmp_path: Path, text: str) -> None:
        assert run(tiny_corpus, tmp_path / "S", f"--shard={text}") == 2


class _ByLength(Encoder):
    batch_by_length = True

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.dim, self.seen = InputSpec("features", width=2), 2, []  # type: ignore[var-annotated]

    def forward(self, inputs: Sampled) -> Tokens:
        self.seen.append(tuple(inputs.mask.shape))
        return Tokens(inputs.values, inputs.mask, inputs.spans)


class TestEncoding:
    @staticmethod
    def sample(count: int) -> Sampled:
        return Sampled(torch.rand(1, count, 2), torch.ones((1, count), dtype=torch.bool), torch.zeros(1, count, 2))

    def test_what_cannot_mask_padding_runs_alone(self) -> None:
        encoder = _ByLength()
        error = UserError("unreadable", "Mend it")
        made = encode(encoder, [self.sample(3), error, self.sample(5)], CPU)
        assert encoder.seen == [(1, 3), (1, 5)]
        assert made[1] is error
        assert [len(m[0]) for m in made if not isinstance(m, UserError)] == [3, 5]

    def test_feature_rows_are_encoded_in_one_batch(self) -> None:
        encoder = FeatureEncoder(2, dim=4).eval()
        made = encode(encoder, [self.sample(3), self.sample(1)], CPU)
        assert [tuple(m[0].shape) for m in made if not isinstance(m, UserError)] == [(3, 4), (1, 4)]

    def test_readings_come_in_order_and_no_more_than_needed_are_in_hand(self) -> None:
        running: list[int] = []

        def job(number: int) -> Any:
            running.append(number)
            time.sleep(0.001 * (number % 3))
            return number

        ahead = Ahead([lambda n=n: job(n) for n in range(40)], [1.0] * 40, Plan(workers=3, batch_size=4))  # type: ignore[misc]
        most = 0
        for taken, number in enumerate(ahead):
            assert number == taken  # type: ignore[comparison-overlap]
            most = max(most, len(running) - taken)
        ahead.close()
        assert len(running) == 40 and most <= 4 + 3 + 1

    def test_a_fault_in_a_thread_is_not_lost(self) -> None:
        def fails() -> Any:
            raise ZeroDivisionError

        ahead = Ahead([fails], [1.0], Plan())
        with pytest.raises(ZeroDivisionError):
            next(ahead)
        ahead.close()


def test_two_writers_at_once_do_no_harm(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"encoders": tiny.ENCODERS}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(mer.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    shared = ["--manifest", str(tiny_corpus / "manifest.csv"), "--store", "S", "--config", "e.yaml"]
    writers = [
        subprocess.Popen([sys.executable, "-m", "mer", "extract", *shared], cwd=tmp_path, env=environment,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    for writer in writers:
        _, complaints = writer.communicate(timeout=120)
        assert writer.returncode == 0, complaints.decode()
    assert len(items(tmp_path / "S")) == 48
    assert not list(tmp_path.rglob("*.part"))


def test_a_shelf_of_features_holds_them_by_row(tmp_path: Path) -> None:
    corpus = made_corpus(tmp_path / "c", {"a": 1.0})
    np.savez(corpus / "au.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3))
    table = (corpus / "manifest.csv").read_text(encoding="utf-8").splitlines()
    (corpus / "manifest.csv").write_text(f"{table[0]},au\n{table[1]},au.npz#x[1]\n", encoding="utf-8")
    store = Store.create(tmp_path / "S")
    encoder = FeatureEncoder(3, dim=4)
    manifest = Manifest.read(corpus / "manifest.csv")
    assert extract({"au": encoder}, manifest, store, Plan(dtype="float32"), CPU) == 0
    [shelf] = store.shelves()
    [item] = shelf.ids()
    assert shelf.note(item).sources[0].name == "au.npz"
    assert isinstance(shelf, Shelf) and shelf.tokens(item) == 1
    shutil.rmtree(corpus)
    assert shelf.tokens(item) == 1


def test_interrupted_it_says_so_in_one_line_and_goes_on_later(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "slow_encoder.py").write_text(SLOW, encoding="utf-8")
    described = {"video": {**tiny.ENCODERS["video"], "class_path": "slow_encoder.Slow"}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"encoders": described}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(mer.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    shared = [
        "--manifest",
        str(tiny_corpus / "manifest.csv"),
        "--store",
        "S",
        "--config",
        "e.yaml",
        "--batch_size",
        "1",
    ]
    command = [sys.executable, "-m", "mer", "extract", *shared]
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("S/*/items/*/*.safetensors"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    _, complaints = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "interrupted; the same command goes on" in complaints and "Traceback" not in complaints
    assert not list(tmp_path.rglob("*.part"))
    assert 2 <= len(items(tmp_path / "S")) < 24
