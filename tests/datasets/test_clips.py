"""Clips become batches: prepared from specs alone, cropped by (seed, epoch, clip id), the unreadable set aside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from media_files import grey, tone, write
from torch.utils.data import DataLoader

from mer.datasets.clips import Batch, ClipDataset, Collate, Item, Skipped
from mer.datasets.manifest import Clip, Corpus, Manifest
from mer.datasets.source import between
from mer.errors import UserError
from mer.labels import LabelSpace, Task
from mer.media.prepare import prepare_all
from mer.spec import InputSpec
from mer.tokens import Sampled

EMOTION = Task("emotion", LabelSpace("mood.v1", ("sad", "glad")))
VALENCE = Task("valence", LabelSpace("va.v1", ("valence", "arousal"), "continuous"))
FRAMES = Task("moment", LabelSpace("mood.v1", ("sad", "glad")), "frame")
TASKS = {t.name: t for t in (EMOTION, VALENCE, FRAMES)}
SPECS = {
    "audio": InputSpec("audio", rate=8000),
    "video": InputSpec("video", rate=8, size=(16, 16)),
    "au": InputSpec("features", width=3),
}
LABELS: dict[str, object] = {"emotion": [1.0], "valence": [0.5, -0.5]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write(folder / "long.mp4", grey(75), tone(3.0))
    write(folder / "short.mp4", grey(25), tone(1.0))
    (folder / "broken.mp4").write_bytes(b"")
    np.savez(folder / "au.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3))
    moments = "".join(f"{t / 10 + 0.05:.2f},{'sad' if t < 15 else 'glad'}\n" for t in range(30))
    (folder / "moments.csv").write_text("time,moment\n" + moments, encoding="utf-8")
    return folder


def clip(name: str, file: str = "long.mp4", start: float = 0.0, end: float | None = None, **cells: str) -> Clip:
    media = {"audio": file, "video": file, "au": "au.npz#x[1]", **cells}
    return Clip(name, start=start, end=end, cells=media, labels=LABELS, frame_labels="moments.csv")  # type: ignore[arg-type]


def dataset(root: Path, *clips: Clip, **options: object) -> ClipDataset:
    specs = options.pop("specs", SPECS)
    manifest = Manifest(root / "m.csv", Corpus("tiny", root, TASKS), ("clip_id", "audio", "video", "au"), clips)
    return ClipDataset(manifest, clips, specs, **options)  # type: ignore[arg-type]


def item(data: ClipDataset, key: int | tuple[int, int] = 0) -> Item:
    found = data[key]
    assert isinstance(found, Item)
    return found


def stretch(found: Item, modality: str) -> tuple[float, float]:
    sampled = found.inputs[modality]
    assert sampled is not None
    return float(sampled.spans[0, 0, 0]), float(sampled.spans[0, -1, 1])


class TestWholeClips:
    def test_each_modality_is_prepared_from_its_spec(self, root: Path) -> None:
        found = item(dataset(root, clip("a", end=3.0)))
        shapes = {m: tuple(s.values.shape) for m, s in found.inputs.items() if s is not None}
        assert shapes == {"audio": (1, 24000), "video": (1, 24, 3, 16, 16), "au": (1, 1, 3)}
        assert stretch(found, "au") == (0.0, 3.0)

    def test_targets_are_tensors_of_their_kind(self, root: Path) -> None:
        targets = item(dataset(root, clip("a"))).targets
        assert (targets["emotion"].dtype, int(targets["emotion"])) == (torch.int64, 1)
        assert targets["valence"].tolist() == [0.5, -0.5]
        assert targets["moment"].tolist() == [0] * 15 + [1] * 15

    def test_missing_labels_are_marked_and_never_guessed(self, root: Path) -> None:
        bare = Clip("b", cells={"audio": "short.mp4"}, labels={"emotion": None, "valence": None})
        found = item(dataset(root, bare))
        assert int(found.targets["emotion"]) == -1
        assert found.targets["valence"].isnan().all()
        assert (found.targets["moment"].shape, found.frame_times.shape) == ((0,), (0,))

    def test_an_empty_cell_is_an_absent_modality(self, root: Path) -> None:
        found = item(dataset(root, clip("a", video="", au=" ")))
        assert found.inputs["video"] is None
        assert found.inputs["au"] is None
        assert found.inputs["audio"] is not None

    @pytest.mark.parametrize("reference", ["au.npz#x[1]", "au.npz#x"])
    def test_rows_without_a_rate_divide_a_clip_that_ends_with_its_media(self, root: Path, reference: str) -> None:
        for start in (0.0, 1.0):
            found = item(dataset(root, clip("a", start=start, au=reference)))
            assert stretch(found, "au") == pytest.approx((start, stretch(found, "audio")[1]), abs=1e-4)
        alone = item(dataset(root, clip("a", au=reference), specs={"au": SPECS["au"]}))
        assert stretch(alone, "au")[0] == 0.0

    def test_labelled_moments_outside_the_clip_are_left_out(self, root: Path) -> None:
        found = item(dataset(root, clip("a", start=1.0, end=2.0)))
        assert found.frame_times.tolist() == pytest.approx([1.05 + k / 10 for k in range(10)])
        assert found.targets["moment"].tolist() == [0] * 5 + [1] * 5

    def test_media_are_decoded_once_where_they_are_kept(self, root: Path) -> None:
        spec = {"audio": InputSpec("audio", rate=8001)}  # its own key in the memory that all datasets share
        with patch("mer.datasets.source.prepare_all", side_effect=prepare_all) as decoded:
            for _ in range(2):
                for data in (
                    dataset(root, clip("a"), specs=spec, keep=True),
                    dataset(root, clip("a"), specs=spec, keep=True),
                ):
                    item(data)
        assert decoded.call_count == 1


class TestUnreadableClips:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (clip("b", "broken.mp4"), "0 bytes"),
            (clip("b", "gone.mp4"), "no such file"),
            (clip("b", start=7.0, end=8.0), "between 7 s and 8 s"),
            (clip("b", audio="", video="", au=""), "no media in audio, video, au"),
            (clip("b", au="au.npz#x[9]"), "row 9 of 4"),
        ],
    )
    def test_a_clip_that_cannot_be_read_is_handed_on_with_its_reason(self, root: Path, bad: Clip, message: str) -> None:
        found = dataset(root, bad)[0]
        assert isinstance(found, Skipped)
        assert found.clip_id == "b"
        assert message in str(found.error)

    def test_preloading_lists_them_all(self, root: Path) -> None:
        data = dataset(root, clip("a", "short.mp4"), clip("b", "broken.mp4"), clip("c", "gone.mp4"), keep=True)
        assert set(data.preload("test")) == {"b", "c"}

    def test_wrong_frame_labels_are_a_reason_too(self, root: Path) -> None:
        (root / "wrong.csv").write_text("time,moment\n0.1,angry\n")
        bad = Clip("b", cells={"audio": "short.mp4"}, labels=LABELS, frame_labels="wrong.csv")  # type: ignore[arg-type]
        found = dataset(root, bad)[0]
        assert isinstance(found, Skipped)
        assert "wrong.csv, line 2" in str(found.error)


class TestCrops:
    def starts(self, data: ClipDataset, epochs: int = 6) -> list[float]:
        return [stretch(item(data, (e, 0)), "audio")[0] for e in range(epochs)]

    def test_a_crop_is_the_same_stretch_of_every_modality(self, root: Path) -> None:
        data = dataset(root, clip("a"), crop=1.0)
        for epoch in range(4):
            found = item(data, (epoch, 0))
            heard, seen = stretch(found, "audio"), stretch(found, "video")
            assert heard[1] - heard[0] == pytest.approx(1.0, abs=1e-3)
            assert heard == pytest.approx(seen, abs=0.07), "half a frame at 8 Hz"
            assert stretch(found, "au") == pytest.approx((0.0, 3.0), abs=0.1), "one row stands for the whole clip"

    def test_a_crop_depends_on_seed_epoch_and_clip_id_alone(self, root: Path) -> None:
        alone = dataset(root, clip("a"), crop=1.0, seed=3)
        among = dataset(root, clip("x"), clip("a"), crop=1.0, seed=3)
        assert self.starts(alone) == self.starts(alone)
        assert [stretch(item(among, (e, 1)), "audio")[0] for e in range(6)] == self.starts(alone)
        for other in (dataset(root, clip("a"), crop=1.0, seed=4), dataset(root, clip("b"), crop=1.0, seed=3)):
            assert self.starts(other) != self.starts(alone)
        assert len(set(self.starts(alone))) == 6

    def test_a_clip_no_longer_than_the_crop_stays_whole(self, root: Path) -> None:
        found = item(dataset(root, clip("a", end=1.5), crop=1.5))
        assert stretch(found, "audio") == pytest.approx((0.0, 1.5))

    def test_labelled_moments_outside_the_crop_are_left_out(self, root: Path) -> None:
        data = dataset(root, clip("a"), crop=1.0)
        for epoch in range(4):
            found = item(data, (epoch, 0))
            begin, end = stretch(found, "audio")
            times = found.frame_times
            assert 9 <= len(times) <= 11
            assert len(times) == len(found.targets["moment"])
            assert ((times >= begin - 1e-3) & (times < end + 1e-3)).all()
            assert (found.targets["moment"] == (times >= 1.5).long()).all()
            assert int(found.targets["emotion"]) == 1

    def test_single_rows_alone_are_not_cropped(self, root: Path) -> None:
        found = item(dataset(root, clip("a"), specs={"au": SPECS["au"]}, crop=0.1))
        assert found.inputs["au"] is not None


COUNTED = {"video": InputSpec("video", size=(8, 8), segments=4)}


class TestFixedNumbersOfFrames:
    """Whatever the way (decoder, memory, frame cache), the frames are the same."""

    def ways(self, root: Path, tmp_path: Path, **options: object) -> list[ClipDataset]:
        given = [{}, {"keep": True}, {"cache": str(tmp_path)}, {"cache": str(tmp_path)}]
        return [dataset(root, clip("a"), specs=COUNTED, **way, **options) for way in given]

    @pytest.mark.parametrize("crop", [None, 0.4])
    @pytest.mark.parametrize("draws", [False, True])
    def test_every_way_gives_the_same(self, crop: float | None, draws: bool, root: Path, tmp_path: Path) -> None:
        for epoch in (0, 1):
            found = [item(d, (epoch, 0)).inputs["video"] for d in self.ways(root, tmp_path, crop=crop, draws=draws)]
            assert all(f is not None and f.mask.shape == (1, 4) for f in found)
            for other in found[1:]:
                assert torch.equal(found[0].values, other.values)
                torch.testing.assert_close(found[0].spans, other.spans, atol=1e-5, rtol=0)

    def test_training_sees_other_frames_each_epoch_and_evaluation_the_same(self, root: Path) -> None:
        def times(draws: bool, epoch: int) -> list[int]:
            values = item(dataset(root, clip("a"), specs=COUNTED, draws=draws), (epoch, 0)).inputs["video"].values
            return values[0].float().mean((1, 2, 3)).int().tolist()

        assert times(False, 0) == times(False, 5)
        assert len({tuple(times(True, epoch)) for epoch in range(6)}) > 2
        assert times(True, 3) == times(True, 3)

    def test_a_cached_video_is_decoded_once(self, root: Path, tmp_path: Path) -> None:
        specs = {"video": InputSpec("video", size=(9, 9), segments=4)}  # its own key in the memory that datasets share
        with patch("mer.datasets.source.prepare_all", side_effect=prepare_all) as decoded:
            for epoch in range(3):
                for _ in range(2):
                    item(dataset(root, clip("a"), specs=specs, cache=str(tmp_path), crop=0.4), (epoch, 0))
        assert decoded.call_count == 1

    def test_what_cannot_be_cut_is_refused(self, root: Path) -> None:
        poses = {"video": InputSpec("pose", segments=4, backend="mediapipe", layout="mediapipe33")}
        with pytest.raises(UserError, match=r"data\.crop"):
            dataset(root, clip("a"), specs=poses, crop=0.4)


class TestCollate:
    def batch(self, root: Path, *clips: Clip, tasks: Mapping[str, Task] = TASKS) -> Batch:
        data = dataset(root, *clips)
        return Collate(SPECS, tasks)([data[i] for i in range(len(data))])

    def test_clips_are_padded_on_the_right_and_what_is_absent_is_masked(self, root: Path) -> None:
        batch = self.batch(root, clip("a", end=3.0), clip("b", "short.mp4", end=1.0, au=""), clip("c", video=""))
        assert batch.clip_ids == ["a", "b", "c"]
        assert batch.inputs["video"].lengths.tolist() == [24, 8, 0]
        assert batch.inputs["au"].present.tolist() == [True, False, True]
        assert batch.inputs["video"].values.dtype == torch.uint8

    def test_targets_of_frames_are_padded_as_unlabelled(self, root: Path) -> None:
        batch = self.batch(root, clip("a"), clip("b", start=1.0, end=2.0))
        assert batch.frame_times.shape == (2, 30)
        assert batch.targets["moment"][1].tolist() == [0] * 5 + [1] * 5 + [-1] * 20
        assert batch.targets["emotion"].tolist() == [1, 1]
        assert batch.targets["valence"].shape == (2, 2)

    def test_only_the_tasks_in_use_are_collated(self, root: Path) -> None:
        assert set(self.batch(root, clip("a"), tasks={"emotion": EMOTION}).targets) == {"emotion"}

    def test_skipped_clips_are_listed_beside_the_rest(self, root: Path) -> None:
        batch = self.batch(root, clip("bad", "broken.mp4"), clip("a"))
        assert (batch.clip_ids, set(batch.skipped)) == (["a"], {"bad"})

    def test_a_batch_of_nothing_but_skipped_clips_is_empty(self, root: Path) -> None:
        batch = self.batch(root, clip("bad", "broken.mp4"))
        assert len(batch) == 0
        assert all(len(s) == 0 for s in batch.inputs.values())
        assert all(len(t) == 0 for t in batch.targets.values())

    def test_a_loader_process_gives_the_same(self, root: Path) -> None:
        """There a batch is filled in shared memory."""
        data = dataset(root, clip("a", end=3.0), clip("b", "short.mp4", end=1.0, au=""), clip("c", video=""))
        batches = [
            next(iter(DataLoader(data, batch_size=3, num_workers=workers, collate_fn=Collate(SPECS, TASKS))))
            for workers in (0, 1)
        ]
        for modality, one in batches[0].inputs.items():
            two = batches[1].inputs[modality]
            assert one.values.dtype == two.values.dtype
            for name in ("values", "mask", "spans"):
                assert torch.equal(getattr(one, name), getattr(two, name)), (modality, name)

    def test_a_batch_moves_as_one(self, root: Path) -> None:
        batch = self.batch(root, clip("a"))
        moved = batch.to("cpu")
        assert moved.clip_ids == batch.clip_ids
        torch.testing.assert_close(moved.inputs["audio"].values, batch.inputs["audio"].values)


def test_what_is_longer_than_a_stretch_shows_where_it_covers_its_middle() -> None:
    spans = torch.tensor([[0.0, 6.0], [0.0, 6.0], [6.0, 8.0]])  # two words of a sentence, and another
    said = Sampled(torch.arange(3.0)[None], torch.ones(1, 3, dtype=torch.bool), spans[None])
    for stretch, shown in (((0.0, 2.0), [0, 1]), ((2.0, 4.0), [0, 1]), ((6.5, 7.5), [2])):
        cut = between(said, *stretch)
        assert cut is not None
        assert cut.values[0].tolist() == shown
    assert between(said, 8.0, 9.0) is None
