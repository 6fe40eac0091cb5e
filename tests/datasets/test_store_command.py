"""`mer store`: whatever is wrong in a store is found by name, and mended only where that can lose nothing."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from media_files import grey, write
from safetensors.torch import save_file

from mer.datasets.extract import Plan, extract
from mer.datasets.manifest import Manifest
from mer.datasets.store import Note, Shelf, Store
from mer.encoders import FrameCNN
from mer.errors import UserError

ENCODER = {
    "class_path": "mer.encoders.FrameCNN",
    "init_args": {"dim": 8, "rate": 4, "size": 16, "channels": [4, 4]},
}
LABELS = {"name": "synthetic4.v1", "names": ["joyful", "relieved", "alarmed", "sad"]}


def manifest(folder: Path, clips: tuple[str, ...]) -> Path:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["clip_id", "split", "emotion", "video", "end"])
        rows.writerows([name, "train", "", f"{name}.mp4", "3" if name == "cut" else ""] for name in clips)
    corpus = {"name": "made", "tasks": {"emotion": {"space": LABELS}}}
    (folder / "corpus.yaml").write_text(yaml.safe_dump(corpus), encoding="utf-8")
    return folder / "manifest.csv"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A store of four clips of three seconds, and their manifest."""
    torch.manual_seed(0)
    for number, name in enumerate("abcd"):
        write(tmp_path / f"{name}.mp4", grey(75 + number))
    table = manifest(tmp_path, tuple("abcd"))
    store = Store.create(tmp_path / "S")
    encoder = FrameCNN(8, rate=4, size=16, channels=(4, 4))
    assert extract({"video": encoder}, Manifest.read(table), store, Plan(dtype="float32"), torch.device("cpu")) == 0
    return tmp_path / "S", table


def only(store: Path) -> Shelf:
    [shelf] = Store(store).shelves()
    return shelf


def item(name: str) -> str:
    return Note(f"{name}.mp4", 0.0, None).id


def rewritten(store: Path, name: str, change: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
    """Change the tokens of an item behind the store's back."""
    shelf = only(store)
    stored, note = shelf.read(item(name)), shelf.note(item(name))
    values, spans = stored.values.clone(), stored.spans.clone()
    change(values, spans)
    about = shelf.path(item(name)).read_bytes()
    assert about
    import json

    metadata = {"mer": json.dumps({"key": shelf.key.digest, **note.to_dict()})}
    save_file({"values": values, "spans": spans}, shelf.path(item(name)), metadata=metadata)


def spoil(store: Path, fault: str) -> None:
    """Plant one fault."""
    shelf = only(store)
    path = shelf.path(item("b"))
    long_ago = (1e9, 1e9)
    if fault == "missing":
        shelf.remove([item("b")])
    elif fault == "failed":
        shelf.remove([item("b")])
        shelf.fail(Note("b.mp4", 0.0, None), UserError("it was broken", "Mend it"))
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:60])
    elif fault == "not finite":
        rewritten(store, "b", lambda values, spans: values[1].fill_(float("nan")))
    elif fault == "short":
        rewritten(store, "b", lambda values, spans: spans.mul_(0.3))
    elif fault == "stale":
        write(store.parent / "b.mp4", grey(50))
        os.utime(store.parent / "b.mp4", long_ago)
    elif fault == "foreign":
        (path.parent / "notes.txt").write_text("mine", encoding="utf-8")
    elif fault == "left over":
        part = path.with_name(f".{path.name}.123-abc.part")
        part.write_bytes(b"half")
        os.utime(part, long_ago)


def check(store: Path, table: Path, *more: object) -> int:
    return tiny.mer("store", "check", "--store", store, "--manifest", table, *more)


class TestCheck:
    @pytest.mark.parametrize("packed", [False, True])
    def test_nothing_is_found_where_nothing_is_wrong(self, made: tuple[Path, Path], packed: bool) -> None:
        if packed:
            assert tiny.mer("store", "pack", "--store", made[0]) == 0
        assert check(*made) == 0

    @pytest.mark.parametrize(
        "fault", ["missing", "failed", "damaged", "not finite", "short", "stale", "foreign", "left over"]
    )
    def test_a_fault_is_found_and_named(
        self, made: tuple[Path, Path], fault: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(made[0], fault)
        assert check(*made) == 1
        told = capsys.readouterr()
        counts = [line.split()[-2:] for line in told.out.splitlines() if line.startswith("video-")]
        assert counts == [[fault.split()[-1], "1"]]
        assert f"{fault}: " in told.out and "Traceback" not in told.err

    @pytest.mark.parametrize("fault", ["damaged", "not finite", "short", "stale", "foreign", "left over"])
    def test_what_is_broken_is_removed_and_made_again(
        self, made: tuple[Path, Path], fault: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, table = made
        spoil(store, fault)
        assert check(store, table, "--fix") == 1
        assert "1 removed" in capsys.readouterr().out
        torch.manual_seed(0)
        encoder = FrameCNN(8, rate=4, size=16, channels=(4, 4))
        arguments = (Manifest.read(table), Store(store), Plan(dtype="float32"), torch.device("cpu"))
        assert extract({"video": encoder}, *arguments) == 0
        assert check(store, table) == 0

    @pytest.mark.parametrize("fault", ["stale", "not finite"])
    def test_packed_items_are_mended_too(self, made: tuple[Path, Path], fault: str) -> None:
        store, table = made
        spoil(store, fault)
        assert only(store).pack() == (4, [])
        assert check(store, table, "--fix") == 1
        assert only(store).ids() == {item("a"), item("c"), item("d")}

    @pytest.mark.parametrize("fault", ["index", "data"])
    def test_a_damaged_shard_costs_its_items_and_no_more(
        self, made: tuple[Path, Path], fault: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, table = made
        shelf = only(store)
        shelf.pack(most=700)
        assert len(shelf.shard_files()) == 2
        index = shelf.shard_files()[0]
        (index if fault == "index" else index.with_suffix(".bin")).write_bytes(b"")
        assert check(store, table, "--fix") == 1
        assert f"shards/{index.name}" in capsys.readouterr().out
        assert check(store, table) == 1  # missing now, and nothing else
        out = capsys.readouterr().out
        assert "damaged" not in out and "missing" in out
        assert 0 < len(only(store).ids()) < 4

    def test_an_orphan_of_a_killed_pack_is_found(self, made: tuple[Path, Path]) -> None:
        store, table = made
        shelf = only(store)
        shelf.pack()
        orphan = shelf.folder / "shards" / "00007-00000000.bin"
        orphan.write_bytes(b"x")
        assert check(store, table) == 0  # perhaps somebody is at it
        os.utime(orphan, (1e9, 1e9))
        assert check(store, table, "--fix") == 1
        assert not orphan.exists()
        assert check(store, table) == 0

    def test_clips_that_the_manifest_lacks_are_named_and_stay(
        self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, table = made
        manifest(table.parent, ("a", "b"))
        assert check(store, table, "--fix") == 1
        assert "foreign: c.mp4: not in the manifest" in capsys.readouterr().out
        assert len(only(store).ids()) == 4

    def test_shelves_of_other_encoders_are_named(
        self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, table = made
        config = table.parent / "e.yaml"
        config.write_text(yaml.safe_dump({"encoders": {"video": ENCODER}}), encoding="utf-8")
        assert check(store, table, "--config", config) == 0
        other = {**ENCODER, "init_args": {**ENCODER["init_args"], "rate": 8}}  # type: ignore[dict-item]
        config.write_text(yaml.safe_dump({"encoders": {"video": other}}), encoding="utf-8")
        assert check(store, table, "--config", config) == 1
        out = capsys.readouterr().out
        assert "missing: the whole shelf" in out
        assert "foreign: the whole shelf: another key: encoder.rate 4 instead of 8" in out

    def test_a_damaged_key_and_a_stray_file_are_named(
        self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        store, table = made
        (store / "readme.txt").write_text("hello", encoding="utf-8")
        (only(store).folder / "key.json").write_text("{", encoding="utf-8")
        assert check(store, table) == 1
        out = capsys.readouterr().out
        assert "damaged: key.json" in out and "foreign: readme.txt" in out

    def test_a_damaged_failure_is_named(self, made: tuple[Path, Path]) -> None:
        store, table = made
        spoil(store, "failed")
        [path] = only(store).folder.glob("failed/*.json")
        path.write_text("{", encoding="utf-8")
        assert check(store, table, "--fix") == 1
        assert not path.exists()

    def test_absent_media_are_no_fault(self, made: tuple[Path, Path]) -> None:
        store, table = made
        for name in "abcd":
            (table.parent / f"{name}.mp4").unlink()
        assert check(store, table) == 0

    def test_no_store_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert tiny.mer("store", "check", "--store", tmp_path) == 2
        assert "not a feature store" in tiny.one_line(capsys.readouterr().err)


class TestInfo:
    def test_a_shelf_is_one_line(self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        only(made[0]).pack()
        Store(made[0]).shelves()[0].fail(Note("e.mp4", 0.0, None), UserError("broken", "Mend it"))
        assert tiny.mer("store", "info", "--store", made[0]) == 0
        header, line = capsys.readouterr().out.splitlines()
        about = dict(zip(header.split(), line.split(), strict=True))
        assert about["shelf"].startswith("video-")
        assert (about["encoder"], about["dtype"], about["dim"]) == ("FrameCNN", "float32", "8")
        assert (about["items"], about["loose"], about["packed"], about["failed"]) == ("4", "0", "4", "1")
        assert int(about["tokens"]) == sum(only(made[0]).tokens(item(n)) for n in "abcd")

    def test_an_empty_store_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Store.create(tmp_path / "S")
        assert tiny.mer("store", "info", "--store", tmp_path / "S") == 0
        assert "empty" in capsys.readouterr().out


class TestPack:
    def test_what_is_damaged_is_left_and_named(
        self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(made[0], "damaged")
        assert tiny.mer("store", "pack", "--store", made[0]) == 1
        out = capsys.readouterr().out
        assert "3 item(s) packed" in out and "left as it is" in out

    def test_shards_have_the_size_that_was_asked_for(self, made: tuple[Path, Path]) -> None:
        assert tiny.mer("store", "pack", "--store", made[0], "--shard_mb", "0") == 2
        assert tiny.mer("store", "pack", "--store", made[0], "--shard_mb", "1") == 0
        [index] = only(made[0]).shard_files()
        assert set(np.load(index)) == {"ids", "offset", "tokens", "notes", "note_end"}
