"""A feature store gives back what was put in, packed or not, and takes nothing on trust."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mer.datasets.store import Note, Shelf, Store
from mer.datasets.store_key import Key, item_id, sources, stale, weights_hash
from mer.encoders import FrameCNN, MelNet
from mer.errors import UserError
from mer.media.identity import identity
from mer.spec import Face, InputSpec

DIM = 8


def encoder(seed: int = 0, **options: object) -> FrameCNN:
    torch.manual_seed(seed)
    return FrameCNN(DIM, rate=4, size=16, channels=(4, 4), **options)  # type: ignore[arg-type]


KEY = Key.of(encoder())
DIM_INFINITE = json.dumps({"format": 1, "modality": "video", "dtype": "float32", "dim": float("inf"), **KEY.to_dict()})


def shelf(folder: Path, dtype: str = "float32") -> Shelf:
    return Store.create(folder / "S").shelf("video", KEY, dtype, DIM)


def tokens(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.arange(count + 1) / 4
    return torch.randn(count, DIM, generator=generator), torch.stack([edges[:-1], edges[1:]], 1)


def note(name: str) -> Note:
    return Note(f"{name}.mp4", 0.5, None)


def fill(kept: Shelf, counts: dict[str, int]) -> None:
    for seed, (name, count) in enumerate(counts.items()):
        kept.write(note(name), *tokens(count, seed))


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_values_come_back_in_the_shelfs_dtype_and_spans_as_they_were(
        self, tmp_path: Path, dtype: str, packed: bool
    ) -> None:
        kept = shelf(tmp_path, dtype)
        fill(kept, {"a": 5, "b": 1, "nothing": 0, "c": 33})
        if packed:
            assert kept.pack() == (4, [])
            assert not list(kept.folder.glob("items/*/*"))
        again = Store(tmp_path / "S").find("video", KEY)
        assert again is not None
        for seed, (name, count) in enumerate({"a": 5, "b": 1, "nothing": 0, "c": 33}.items()):
            values, spans = tokens(count, seed)
            stored = again.read(note(name).id)
            assert stored.values.dtype == getattr(torch, dtype)
            assert torch.equal(stored.values, values.to(stored.values.dtype))
            assert torch.equal(stored.spans, spans)
            assert again.note(note(name).id) == note(name)
            assert again.tokens(note(name).id) == count

    def test_packed_values_are_mapped_and_not_copied(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path, "bfloat16")
        fill(kept, {"a": 5})
        kept.pack()
        one, two = kept.read(note("a").id), kept.read(note("a").id)
        assert one.values.data_ptr() == two.values.data_ptr()

    def test_what_comes_later_is_packed_beside_the_first_shard(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 2})
        kept.pack()
        kept.write(note("b"), *tokens(3, 9))
        assert kept.pack() == (1, [])
        assert len(kept.shard_files()) == 2
        assert kept.ids() == {note("a").id, note("b").id}
        assert torch.equal(kept.read(note("b").id).values, tokens(3, 9)[0])

    def test_a_size_divides_shards(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {n: 4 for n in "abcdef"})
        kept.pack(most=300)
        assert len(kept.shard_files()) == 3
        assert len(kept.ids()) == 6

    def test_the_loose_item_is_the_newer_one(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 2})
        kept.pack()
        kept.write(note("a"), *tokens(7, 5))
        assert kept.tokens(note("a").id) == 7
        kept.pack()
        assert kept.tokens(note("a").id) == 7

    def test_a_reader_does_not_mind_that_somebody_packs(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 2})
        reader = Shelf.open(kept.folder)
        assert note("a").id in reader.loose
        kept.pack()
        assert torch.equal(reader.read(note("a").id).values, tokens(2)[0])

    def test_it_travels_to_loader_processes_without_its_data(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {n: 500 for n in "abc"})
        kept.pack()
        kept.read(note("a").id)
        sent = pickle.dumps(kept)
        assert len(sent) < 5000
        assert torch.equal(pickle.loads(sent).read(note("b").id).values, tokens(500, 1)[0])

    def test_a_removed_item_is_gone_from_its_shard_and_the_rest_stays(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 2, "b": 3, "c": 4})
        kept.pack()
        kept.remove([note("b").id])
        assert Shelf.open(kept.folder).ids() == {note("a").id, note("c").id}
        assert torch.equal(kept.read(note("c").id).values, tokens(4, 2)[0])

    def test_a_failure_is_remembered_until_the_item_is_there(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        kept.fail(note("a"), UserError("it is broken", "Mend it"))
        assert [f.problem for f in kept.failures().values()] == ["it is broken"]
        fill(kept, {"a": 2})
        assert kept.failures() == {}


class TestWhatIsRefused:
    def test_values_that_do_not_fit(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path, "float16")
        with pytest.raises(UserError, match="does not fit into float16"):
            kept.write(note("a"), torch.full((2, DIM), 1e6), torch.zeros(2, 2))
        with pytest.raises(UserError, match="not finite"):
            kept.write(note("a"), torch.full((2, DIM), float("nan")), torch.zeros(2, 2))
        assert kept.ids() == set()

    def test_another_dtype_on_the_same_shelf(self, tmp_path: Path) -> None:
        shelf(tmp_path, "float16")
        with pytest.raises(UserError, match="--dtype float16"):
            shelf(tmp_path, "float32")

    def test_a_folder_that_is_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="not a feature store"):
            Store(tmp_path)
        (tmp_path / "thesis.tex").write_text("", encoding="utf-8")
        with pytest.raises(UserError, match="other things"):
            Store.create(tmp_path)

    def test_a_store_of_another_format(self, tmp_path: Path) -> None:
        shelf(tmp_path)
        (tmp_path / "S" / "store.json").write_text('{"format": 99}', encoding="utf-8")
        with pytest.raises(UserError, match="format 99"):
            Store(tmp_path / "S")

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", "[" * 10000, DIM_INFINITE, '{"spec": {}, "encoder": {}, "weights": 3}']
    )
    def test_a_damaged_key(self, tmp_path: Path, text: str) -> None:
        kept = shelf(tmp_path)
        (kept.folder / "key.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"key\.json"):
            Shelf.open(kept.folder)

    def test_a_shelf_that_was_renamed(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        kept.folder.rename(kept.folder.with_name("video-0123456789ab"))
        with pytest.raises(UserError, match="does not belong"):
            Store(tmp_path / "S").shelves()

    @pytest.mark.parametrize("fault", ["cut", "text", "bare", "other clip", "other key", "other shape"])
    def test_a_damaged_item(self, tmp_path: Path, fault: str) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 4, "b": 4})
        path = kept.path(note("a").id)
        if fault == "cut":
            path.write_bytes(path.read_bytes()[:-20])
        elif fault == "text":
            path.write_text("hello", encoding="utf-8")
        elif fault == "bare":
            save_file({"values": torch.zeros(1, DIM)}, path)
        elif fault == "other clip":
            path.write_bytes(kept.path(note("b").id).read_bytes())
        else:
            about = {"key": KEY.digest if fault == "other shape" else "00", **note("a").to_dict()}
            wrong = {"values": torch.zeros(4, 3), "spans": torch.zeros(4, 2)}
            save_file(wrong, path, metadata={"mer": json.dumps(about)})
        with pytest.raises(UserError, match=path.name):
            kept.read(note("a").id)
        moved, complaints = kept.pack()
        assert (moved, len(complaints)) == (1, 1)

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize(
        "change",
        [
            {"sources": [["a.mp4", float("inf"), 0, "x"]]},
            {"sources": [["/dev/zero", 0, 0, "x"]]},  # only what the item is made from is ever opened
            {"sources": {"a.mp4": 1}},
            {"start": float("nan")},
            {"reference": "b.mp4"},
        ],
    )
    def test_a_note_that_somebody_else_wrote(self, tmp_path: Path, change: dict[str, Any], packed: bool) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 4})
        plain = {**note("a").to_dict(), **change}
        if packed:
            kept.pack()
            [index] = kept.shard_files()
            text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
            np.savez(index, **{**dict(np.load(index)), "notes": text, "note_end": np.array([len(text)])})
        else:
            about = {"mer": json.dumps({"key": KEY.digest, **plain})}
            save_file(dict(zip(("values", "spans"), tokens(4), strict=True)), kept.path(note("a").id), metadata=about)
        with pytest.raises(UserError, match="mer store check --store"):
            Shelf.open(kept.folder).note(note("a").id)

    def test_files_of_other_names_are_no_items(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 4})
        path = kept.path(note("a").id)
        for place in ("fo/foo", f"zz/{path.stem}"):
            (kept.folder / "items" / place).parent.mkdir()
            (kept.folder / "items" / f"{place}.safetensors").write_bytes(path.read_bytes())
        assert Shelf.open(kept.folder).ids() == {note("a").id}

    def test_what_unfolds_without_end_is_not_read(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 4})
        kept.pack()
        [index] = kept.shard_files()
        np.savez_compressed(index, **dict(np.load(index)))
        with pytest.raises(UserError, match="compressed"):
            _ = Shelf.open(kept.folder).packed
        kept.fail(note("b"), UserError("x", "y"))
        [failure] = kept.folder.glob("failed/*.json")
        failure.write_text("[" * 100_000, encoding="utf-8")
        index.unlink()
        assert Shelf.open(kept.folder).failures() == {}
        (tmp_path / "S" / "store.json").write_text("[" * 100_000, encoding="utf-8")
        with pytest.raises(UserError, match="not readable"):
            Store(tmp_path / "S")

    @pytest.mark.parametrize("fault", ["cut", "text", "pickle", "offset", "count", "gone"])
    def test_a_damaged_shard(self, tmp_path: Path, fault: str) -> None:
        kept = shelf(tmp_path)
        fill(kept, {"a": 40, "b": 40})
        kept.pack()
        [index] = kept.shard_files()
        data = index.with_suffix(".bin")
        arrays = dict(np.load(index))
        if fault == "cut":
            data.write_bytes(data.read_bytes()[:1000])
        elif fault == "text":
            index.write_text("hello", encoding="utf-8")
        elif fault == "pickle":
            np.savez(index, **{**arrays, "ids": np.array([{}], object)}, allow_pickle=True)
        elif fault == "offset":
            np.savez(index, **{**arrays, "offset": arrays["offset"] + 64 * 100})
        elif fault == "count":
            np.savez(index, **{**arrays, "tokens": np.array([2**61, 1])})
        else:
            data.unlink()
        with pytest.raises(UserError, match=index.stem):
            Shelf.open(kept.folder).read(note("a").id)


class TestKey:
    def test_it_is_the_same_for_the_same_encoder(self) -> None:
        assert Key.of(encoder()).digest == KEY.digest

    def test_it_tells_4_from_4_point_0_no_more_than_a_config_does(self) -> None:
        torch.manual_seed(0)
        assert Key.of(FrameCNN(DIM, rate=4.0, size=16, channels=(4, 4))).digest == KEY.digest

    @pytest.mark.parametrize(
        ("other", "names"),
        [
            (lambda: encoder(seed=1), ["weights"]),
            (lambda: encoder(augment=0.0), ["encoder.augment"]),
            (lambda: encoder(window=3.0), ["encoder.window", "spec.window"]),
        ],
    )
    def test_it_changes_with_weights_arguments_and_spec(self, other: object, names: list[str]) -> None:
        key = Key.of(other())  # type: ignore[operator]
        assert key.digest != KEY.digest
        assert [phrase.split()[0] for phrase in KEY.differences(key)] == names

    def test_it_changes_with_one_weight_one_buffer_and_one_shape(self) -> None:
        net = encoder()
        hashes = {weights_hash(net)}
        with torch.no_grad():
            net.out[1].bias[0] += 1e-6
        hashes.add(weights_hash(net))
        net.stem[1].running_mean[0] += 1
        hashes.add(weights_hash(net))
        hashes.add(weights_hash(net.to(torch.bfloat16)))
        assert len(hashes) == 4
        assert weights_hash(torch.nn.Linear(2, 3)) != weights_hash(torch.nn.Linear(3, 2))

    @pytest.mark.parametrize(
        ("spec", "named"),
        [
            (InputSpec("audio", rate=8000), "av "),
            (InputSpec("video", size=(8, 8), crop="face", face=Face()), "haar"),
            (InputSpec("flow", size=(8, 8), backend="dis"), "dis"),
            (InputSpec("pose", backend="mediapipe"), "mediapipe"),
            (InputSpec("pose", backend="file"), "rows"),
            (InputSpec("features", width=2), "rows"),
        ],
    )
    def test_media_are_known_by_their_backends(self, spec: InputSpec, named: str) -> None:
        assert named in identity(spec)

    def test_it_changes_with_the_decoder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import av

        monkeypatch.setattr(av, "__version__", "0.1")
        assert Key.of(encoder()).differences(KEY)[0].startswith("media 'av 0.1'")

    def test_a_backend_that_cannot_be_asked_here_is_not_held_against_a_shelf(self, tmp_path: Path) -> None:
        kept = shelf(tmp_path)
        unknown = Key(KEY.spec, KEY.encoder, KEY.weights, None)
        found = Store(tmp_path / "S").find("video", unknown)
        assert found is not None and found.folder == kept.folder

    def test_the_nearest_shelf_explains_why_none_fits(self, tmp_path: Path) -> None:
        shelf(tmp_path)
        store = Store(tmp_path / "S")
        assert "encoder.augment 1 instead of 0" in store.explain("video", Key.of(encoder(augment=0.0)))
        assert "it holds video" in store.explain("audio", Key.of(MelNet(8, bands=16, channels=(4, 4))))

    def test_an_item_is_named_by_reference_and_stretch(self) -> None:
        names = {
            item_id("a.mp4", 0, None),
            item_id("a.mp4", 0.0, 1),
            item_id("a.mp4", 0.5, 1.0),
            item_id("b.mp4", 0, 1),
        }
        assert len(names) == 4
        assert item_id("a.mp4", 0, 1) == item_id("a.mp4", 0.0, 1.0)


class TestSources:
    VIDEO = InputSpec("video", rate=4, size=(16, 16))

    def test_a_file_that_was_only_touched_is_still_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(b"one")
        then = sources(tmp_path, "a.mp4", self.VIDEO)
        (tmp_path / "a.mp4").write_bytes(b"one")
        assert stale(tmp_path, then) is None

    @pytest.mark.parametrize("content", [b"two", b"longer"])
    def test_another_content_is_found_out(self, tmp_path: Path, content: bytes) -> None:
        import os

        (tmp_path / "a.mp4").write_bytes(b"one")
        then = sources(tmp_path, "a.mp4", self.VIDEO)
        (tmp_path / "a.mp4").write_bytes(content)
        os.utime(tmp_path / "a.mp4", ns=(1, 1))
        assert stale(tmp_path, then) == "a.mp4"

    def test_absent_media_are_trusted(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(b"one")
        then = sources(tmp_path, "a.mp4", self.VIDEO)
        (tmp_path / "a.mp4").unlink()
        assert stale(tmp_path, then) is None

    def test_boxes_and_rows_count_as_media(self, tmp_path: Path) -> None:
        for name in ("a.mp4", "a.csv", "a.mp4.csv", "au.npz", "pose.npz"):
            (tmp_path / name).write_bytes(b"x")
        face = InputSpec("video", size=(16, 16), crop="face", face=Face("precomputed", file="{stem}.csv"))
        assert [s.name for s in sources(tmp_path, "a.mp4", face)] == ["a.mp4", "a.csv"]
        named = InputSpec("video", size=(16, 16), crop="face", face=Face("precomputed", file="{name}.csv"))
        assert [s.name for s in sources(tmp_path, "a.mp4", named)] == ["a.mp4", "a.mp4.csv"]
        assert [s.name for s in sources(tmp_path, "au.npz#x[1]", InputSpec("features", width=2))] == ["au.npz"]
        pose = InputSpec("pose", backend="file")
        assert [s.name for s in sources(tmp_path, "pose.npz#points[3]#coco", pose)] == ["pose.npz"]

    def test_a_folder_is_all_of_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "points").mkdir()
        (tmp_path / "points" / "1.json").write_text("{}", encoding="utf-8")
        pose = InputSpec("pose", backend="file")
        then = sources(tmp_path, "points", pose)
        (tmp_path / "points" / "2.json").write_text("{}", encoding="utf-8")
        assert stale(tmp_path, then) == "points"
