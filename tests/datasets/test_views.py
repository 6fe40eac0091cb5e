"""Evaluation that looks at a clip several times: which views there are, what each shows, one averaged row per clip."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tiny
import torch
import yaml
from media_files import grey, tone, write

from mer import checkpoint
from mer.datasets.clips import ClipDataset, Collate, Item, Skipped
from mer.datasets.manifest import Clip, Corpus, Manifest
from mer.datasets.store import Note, Shelf, Store
from mer.datasets.store_key import Key
from mer.datasets.views import View, Views, Windows, mirrored
from mer.encoders import FeatureEncoder
from mer.errors import UserError
from mer.evaluation import Scores
from mer.labels import LabelSpace, Task
from mer.media.prepare import prepare_all
from mer.media.sampling import Place
from mer.predictions import Predictions
from mer.spec import Face, InputSpec
from mer.tokens import Sampled, at_times

MOOD = Task("mood", LabelSpace("mood.v1", ("sad", "glad")))
LEVEL = Task("level", LabelSpace("level.v1", ("x", "y"), "continuous"))
SIGNS = Task("signs", LabelSpace("signs.v1", ("a", "b"), "multilabel"))
MOMENT = Task("moment", MOOD.space, "frame")
SPECS = {
    "audio": InputSpec("audio", rate=8000),
    "video": InputSpec("video", rate=8, size=(16, 16)),
    "rows": InputSpec("features", rate=4, width=2),
    "au": InputSpec("features", width=3),
}
COUNTED = {"video": InputSpec("video", size=(8, 8), segments=1, duration=4, stride=2)}


class TestWindows:
    @pytest.mark.parametrize(
        ("windows", "stretch", "expected"),
        [
            (Windows(2.0), (0.0, 6.0), [(0, 2), (2, 4), (4, 6)]),
            (Windows(2.0, 1.0), (0.0, 4.0), [(0, 2), (1, 3), (2, 4)]),
            (Windows(2.0, 1.5), (10.0, 14.0), [(10, 12), (11.5, 13.5), (12, 14)]),
            (Windows(2.0, 1.0), (3.0, 5.0), [(3, 5)]),
            (Windows(2.0, 1.0), (3.0, 4.2), [(3, 4.2)]),
            (Windows(0.1, 0.1), (0.0, 0.3), [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),
        ],
    )
    def test_the_last_one_ends_with_the_clip(self, windows: Windows, stretch: Any, expected: Any) -> None:
        found = windows.over(*stretch)
        np.testing.assert_allclose(found, expected)
        assert found[-1][1] == stretch[1]

    @pytest.mark.parametrize("wrong", [(2.0, 3.0), (0.0, None), (-1.0, 1.0), (2.0, 0.0), (float("inf"), 1.0)])
    def test_gaps_are_refused(self, wrong: Any) -> None:
        with pytest.raises(UserError, match="leave gaps"):
            Windows(*wrong)


class TestWhichViews:
    def test_all_combinations_in_order_of_time(self) -> None:
        views = Views(Windows(2.0, 1.0), clips=2, crops=3, flip=True).of(0.0, 4.0)
        assert len(views) == len(set(views)) == 3 * 2 * 3 * 2
        assert [v.window for v in views[::12]] == [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]
        assert [v.last for v in views[::12]] == [False, False, True]
        assert {v.place for v in views} == {Place(0, 2), Place(1, 2)}
        assert {v.crop for v in views} == {"left", "center", "right"}

    def test_one_view_is_the_clip_as_it_is(self) -> None:
        assert Views().of(0.0, None) == [View()]
        assert {v.crop for v in Views(crops=2).of(0.0, None)} == {"left", "right"}

    @pytest.mark.parametrize(
        ("views", "specs", "message"),
        [
            (Views(clips=2), SPECS, "fixed number of frames"),
            (Views(crops=3), {"video": replace(COUNTED["video"], crop="face", face=Face())}, "at the centre"),
            (Views(flip=True), {"audio": SPECS["audio"]}, "looks at pictures"),
        ],
    )
    def test_views_that_would_be_the_same_are_refused(self, views: Views, specs: Any, message: str) -> None:
        with pytest.raises(UserError, match=message):
            views.check(specs)

    @pytest.mark.parametrize("wrong", [{"clips": 0}, {"crops": 4}, {"average": "median"}, {"places": "random"}])
    def test_numbers_and_names_out_of_range(self, wrong: Any) -> None:
        with pytest.raises(UserError, match=r"data\.views"):
            Views(**wrong)


class TestMirror:
    def sampled(self, values: torch.Tensor) -> Sampled:
        return Sampled(values, torch.ones(values.shape[:2], dtype=torch.bool), torch.zeros(*values.shape[:2], 2))

    def test_pictures(self) -> None:
        frames = self.sampled(torch.arange(24).reshape(1, 1, 3, 2, 4).to(torch.uint8))
        assert mirrored(frames, SPECS["video"]).values[0, 0, 0].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]

    def test_motion_to_the_right_becomes_motion_to_the_left(self) -> None:
        flow = self.sampled(torch.arange(1.0, 7.0).reshape(1, 1, 3, 1, 2))
        turned = mirrored(flow, InputSpec("flow", rate=8, size=(1, 2), backend="farneback")).values[0, 0, :, 0]
        assert turned.tolist() == [[-2, -1], [4, 3], [6, 5]]
        assert flow.values[0, 0, 0, 0].tolist() == [1, 2], "the original stays"

    def test_skeletons(self) -> None:
        spec = InputSpec("pose", rate=25, backend="file", layout="coco17")
        joints = torch.zeros(1, 1, 17, 3)
        joints[0, 0, 5] = torch.tensor([10.0, 3.0, 1.0])  # left shoulder
        joints[0, 0, 6] = torch.tensor([4.0, 2.0, 0.5])  # right shoulder
        turned = mirrored(self.sampled(joints), spec).values[0, 0]
        assert turned[5].tolist() == [10.0, 2.0, 0.5]
        assert turned[6].tolist() == [4.0, 3.0, 1.0]
        assert not turned[0].any(), "what was not seen stays at the origin"

    def test_sound_and_rows_are_left_alone(self) -> None:
        for name in ("audio", "au"):
            given = self.sampled(torch.rand(1, 5))
            assert mirrored(given, SPECS[name]) is given


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    write(folder / "long.mp4", grey(75), tone(3.0))
    write(folder / "short.mp4", grey(25), tone(1.0))
    wide = np.linspace(0, 240, 96)[None, None, :, None].repeat(25, 0).repeat(32, 1).repeat(3, 3).astype(np.uint8)
    write(folder / "wide.mp4", wide)
    (folder / "broken.mp4").write_bytes(b"")
    np.savez(folder / "au.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3))
    np.save(folder / "rows.npy", np.arange(24, dtype=np.float32).reshape(12, 2))
    moments = "".join(f"{t / 10 + 0.05:.2f},{'' if t == 4 else 'sad' if t < 15 else 'glad'}\n" for t in range(30))
    (folder / "moments.csv").write_text("time,moment\n" + moments, encoding="utf-8")
    return folder


def clip(name: str, file: str = "long.mp4", end: float | None = None, **cells: str) -> Clip:
    media = {"audio": file, "video": file, "rows": "rows.npy", "au": "au.npz#x", **cells}
    return Clip(name, end=end, cells=media, labels={"mood": [1.0]}, frame_labels="moments.csv")


def dataset(root: Path, views: Views, *clips: Clip, specs: Any = SPECS, **options: Any) -> ClipDataset:
    tasks = {"mood": MOOD, "moment": MOMENT}
    manifest = Manifest(root / "m.csv", Corpus("tiny", root, tasks), ("clip_id", *SPECS), clips)
    return ClipDataset(manifest, clips, specs, views=views, **options)


def items(data: ClipDataset) -> list[Item]:
    found = [data[index] for index in range(len(data))]
    assert all(isinstance(item, Item) for item in found), found
    return found  # type: ignore[return-value]


def reach(item: Item, modality: str) -> tuple[float, float]:
    sampled = item.inputs[modality]
    assert sampled is not None
    return float(sampled.spans[0, 0, 0]), float(sampled.spans[0, -1, 1])


class TestWhatAViewShows:
    def test_each_window_shows_its_stretch_of_every_modality(self, root: Path) -> None:
        found = items(dataset(root, Views(Windows(1.0, 0.5)), clip("a", end=3.0)))
        assert len(found) == 5
        for number, item in enumerate(found):
            window = (number * 0.5, number * 0.5 + 1.0)
            for modality in ("audio", "video", "rows"):
                assert reach(item, modality) == pytest.approx(window, abs=1e-3), modality
            assert reach(item, "au")[0] == pytest.approx(window[0], abs=0.75), "a row of 0.75 s"

    def test_a_window_is_decoded_by_itself(self, root: Path) -> None:
        data = dataset(root, Views(Windows(1.0)), clip("a", end=3.0), specs={"video": SPECS["video"]})
        with patch("mer.datasets.source.prepare_all", side_effect=prepare_all) as decoded:
            items(data)
        assert [call.args[3:5] for call in decoded.call_args_list] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]

    def test_rows_of_files_are_read_once_per_clip(self, root: Path) -> None:
        specs = {m: SPECS[m] for m in ("rows", "au")}
        with patch("mer.datasets.source.prepare_all", side_effect=prepare_all) as read:
            data = dataset(root, Views(Windows(0.5)), clip("a", end=3.0), specs=specs)
            found = items(data)
        assert len(found) == 6
        assert read.call_count == 1
        rows = torch.cat([item.inputs["rows"].values[0] for item in found])  # type: ignore[union-attr]
        assert rows.flatten().tolist() == list(range(24))

    @pytest.mark.parametrize("specs", [{"video": SPECS["video"]}, COUNTED], ids=["rate", "count"])
    def test_every_way_gives_the_same(self, specs: Any, root: Path, tmp_path: Path) -> None:
        views = Views(Windows(1.0, 0.5), clips=2, flip=True)
        ways: list[dict[str, Any]] = [{}, {"keep": True}, {"cache": str(tmp_path)}, {"cache": str(tmp_path)}]
        found = [items(dataset(root, views, clip("a", end=3.0), specs=specs, **way)) for way in ways]
        for other in found[1:]:
            for one, two in zip(found[0], other, strict=True):
                assert torch.equal(one.inputs["video"].values, two.inputs["video"].values)  # type: ignore[union-attr]
                assert reach(one, "video") == pytest.approx(reach(two, "video"), abs=1e-5)

    def test_evaluation_is_deterministic(self, root: Path) -> None:
        views = Views(Windows(1.0, 0.5), clips=2, flip=True)
        one, two = (items(dataset(root, views, clip("a", end=3.0), specs=COUNTED)) for _ in range(2))
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a.inputs["video"].values, b.inputs["video"].values)  # type: ignore[union-attr]

    def test_temporal_clips_begin_and_end_with_the_video(self, root: Path) -> None:
        one, two = items(dataset(root, Views(clips=2), clip("a", end=3.0), specs=COUNTED))
        assert reach(one, "video")[0] == 0.0
        assert reach(two, "video")[1] == pytest.approx(3.0)

    @pytest.mark.parametrize("keep", [False, True])
    def test_crops_and_mirror(self, keep: bool, root: Path) -> None:
        specs = {"video": InputSpec("video", rate=8, size=(32, 32))}
        data = dataset(root, Views(crops=3, flip=True), clip("a", "wide.mp4", end=1.0), specs=specs, keep=keep)
        assert data.preload("test") == {}
        left, turned, middle, _, right, _ = (item.inputs["video"] for item in items(data))
        assert left is not None and turned is not None and middle is not None and right is not None
        assert [float(s.values.float().mean()) for s in (left, middle, right)] == pytest.approx([40, 120, 200], abs=5)
        assert torch.equal(turned.values, left.values.flip(-1))

    @pytest.mark.parametrize("file", ["long.mp4", "short.mp4"])
    def test_a_clip_whose_row_does_not_say_its_end_is_measured(self, file: str, root: Path) -> None:
        length = {"long.mp4": 3.0, "short.mp4": 1.0}[file]
        specs = {m: SPECS[m] for m in ("audio", "video", "au")}
        found = items(dataset(root, Views(Windows(1.0)), clip("a", file), specs=specs))
        assert len(found) in (int(length), int(length) + 1)  # the sound has a few samples more
        assert reach(found[-1], "audio")[1] == pytest.approx(length, abs=0.06)
        assert reach(found[-1], "au")[1] == pytest.approx(length, abs=0.06), "rows without a rate divide the clip"

    def test_rows_alone_say_how_long_a_clip_is(self, root: Path) -> None:
        found = items(dataset(root, Views(Windows(1.0)), clip("a"), specs={"rows": SPECS["rows"]}))
        assert [reach(item, "rows") for item in found] == [(0, 1), (1, 2), (2, 3)]

    def test_a_clip_that_cannot_be_measured_is_handed_on_with_its_reason(self, root: Path) -> None:
        data = dataset(root, Views(Windows(1.0)), clip("b", "broken.mp4"), clip("a", end=3.0))
        assert set(data.left_out) == {"b"}
        found = [data[index] for index in range(len(data))]
        assert [isinstance(item, Skipped) for item in found] == [True, False, False, False]

    def test_a_window_after_the_pictures_has_none(self, root: Path) -> None:
        found = items(dataset(root, Views(Windows(1.0)), clip("a", video="short.mp4", end=3.0)))
        assert [item.inputs["video"] is not None for item in found] == [True, False, False]
        batch = Collate(SPECS, {"mood": MOOD})(found)
        assert batch.clip_ids == ["a", "a", "a"]
        assert batch.inputs["video"].present.tolist() == [True, False, False]

    def test_a_clip_that_is_one_window_and_shows_nothing_is_handed_on_with_its_reason(self, root: Path) -> None:
        late = replace(clip("a", "short.mp4", end=8.0), start=7.0)
        data = dataset(root, Views(Windows(2.0)), late, specs={"video": SPECS["video"]})
        found = data[0]
        assert len(data) == 1
        assert isinstance(found, Skipped)
        assert "between 7 s and 8 s" in str(found.error)

    def test_tokens_of_a_store_are_cut(self, root: Path, tmp_path: Path) -> None:
        encoder = FeatureEncoder(1, dim=4)
        shelf = Store.create(tmp_path / "S").shelf("video", Key.of(encoder), "float32", 4)
        edges = torch.arange(31) / 10
        spans = torch.stack([edges[:-1], edges[1:]], 1)
        shelf.write(Note("long.mp4", 0.0, None), torch.arange(30.0)[:, None].expand(-1, 4), spans)
        shelves: dict[str, Shelf] = {"video": shelf}
        found = items(dataset(root, Views(Windows(1.0)), clip("a"), specs={"video": SPECS["video"]}, shelves=shelves))
        assert [item.inputs["video"].values[0, :, 0].tolist() for item in found] == [  # type: ignore[union-attr]
            list(range(first, first + 10)) for first in (0, 10, 20)
        ]

    def test_a_window_has_the_moments_that_it_shows(self, root: Path) -> None:
        for end in (2.9, None):
            specs = {"rows": SPECS["rows"]}
            found = items(dataset(root, Views(Windows(1.0, 0.5)), clip("a", end=end), specs=specs))
            assert [len(item.frame_times) for item in found[:3]] == [10, 10, 10]
            assert found[1].frame_times[0] == pytest.approx(0.55)
            assert found[1].targets["moment"].tolist() == [0] * 10
            last = found[-1].frame_times[-1]
            assert last == pytest.approx(2.85 if end else 2.95), "labels up to the end of the clip"


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


class TestAverages:
    logits = np.array([[2.0, -1.0], [0.0, 3.0], [1.0, 1.5], [-2.0, 0.5], [4.0, 0.0]], np.float32)
    names = ("a", "b", "a", "a", "b")

    def rows(self, predictions: Predictions) -> Scores:
        clips = {name: Clip(name, start=1.0, end=9.0) for name in "abc"}
        return predictions.scores(clips, "", None, "test", 0, "m")

    def filled(self, task: Task, average: Any, shown: torch.Tensor | None = None) -> Scores:
        predictions = Predictions(task, average)
        target = torch.zeros(5, dtype=torch.int64) if task is MOOD else torch.zeros(5, 2)
        for part in (slice(0, 3), slice(3, 5)):  # the views of a clip come in several batches
            given = None if shown is None else shown[part]
            predictions.add_clips(self.names[part], torch.from_numpy(self.logits[part]), target[part], given)
        return self.rows(predictions)

    def test_of_probabilities(self) -> None:
        scores = self.filled(MOOD, "probabilities")
        assert scores.clip_id == ["a", "b"]
        assert (scores.start.tolist(), scores.end.tolist()) == ([1.0, 1.0], [9.0, 9.0])
        each = softmax(self.logits)
        np.testing.assert_allclose(scores.probabilities, [each[[0, 2, 3]].mean(0), each[[1, 4]].mean(0)], atol=1e-6)

    def test_of_logits(self) -> None:
        scores = self.filled(MOOD, "logits")
        means = np.stack([self.logits[[0, 2, 3]].mean(0), self.logits[[1, 4]].mean(0)])
        np.testing.assert_allclose(scores.probabilities, softmax(means), atol=1e-6)

    @pytest.mark.parametrize("average", ["probabilities", "logits"])
    def test_of_values_and_of_labels_of_which_any_number_applies(self, average: Any) -> None:
        np.testing.assert_allclose(self.filled(LEVEL, average).probabilities[1], [2.0, 1.5], atol=1e-6)
        sigmoid = 1 / (1 + np.exp(-self.logits[[1, 4]]))
        middle = 1 / (1 + np.exp(-self.logits[[1, 4]].mean(0)))
        expected = sigmoid.mean(0) if average == "probabilities" else middle
        np.testing.assert_allclose(self.filled(SIGNS, average).probabilities[1], expected, atol=1e-6)

    def test_a_view_that_shows_nothing_counts_only_where_none_does(self) -> None:
        shown = torch.tensor([True, False, False, True, False])
        scores = self.filled(MOOD, "probabilities", shown)
        each = softmax(self.logits)
        np.testing.assert_allclose(scores.probabilities, [each[[0, 3]].mean(0), each[[1, 4]].mean(0)], atol=1e-6)

    def test_metrics_count_clips_not_views(self) -> None:
        predictions = Predictions(MOOD)
        logits = torch.tensor([[9.0, 0.0]] * 9 + [[0.0, 9.0]])
        predictions.add_clips(["a"] * 9 + ["b"], logits, torch.tensor([1] * 9 + [1]))
        assert predictions.metrics()["war"] == 0.5

    def test_one_view_is_left_as_it_was_answered(self) -> None:
        predictions = Predictions(MOOD)
        predictions.add_clips(["b", "a"], torch.from_numpy(self.logits[:2]), torch.tensor([0, -1]))
        scores = self.rows(predictions)
        assert scores.clip_id == ["b", "a"]
        expected = torch.from_numpy(self.logits[:2]).softmax(1).numpy()
        assert (np.asarray(scores.probabilities, np.float32) == expected).all()

    def test_overlapping_windows_are_averaged_per_labelled_moment(self) -> None:
        """Clip a in windows with moments 0 1 2 and 1 2 3; moment 2 is unlabelled. Clip b has one window, padded."""
        predictions = Predictions(MOMENT)
        logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32))
        times = torch.tensor([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [0.5, 0.0, 0.0]])
        target = torch.tensor([[0, 1, -1], [1, -1, 0], [1, -1, -1]])
        predictions.add_frames(["a", "a", "b"], times, logits, target)
        predictions.add_frames(
            ["a"], torch.zeros(1, 2), torch.full((1, 2, 2), 9.0), torch.full((1, 2), -1)
        )  # no moments
        scores = self.rows(predictions)
        assert scores.clip_id == ["a", "a", "a", "b"]
        assert scores.start.tolist() == [0.0, 1.0, 3.0, 0.5]
        assert scores.end[:2].tolist() == [1.0, 2.0], "up to the next moment, labelled or not"
        assert np.isnan(scores.end[2:]).all()
        assert scores.target.tolist() == [0, 1, 0, 1]
        each = logits.softmax(-1).numpy()
        expected = [each[0, 0], (each[0, 1] + each[1, 0]) / 2, each[1, 2], each[2, 0]]
        np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)


VIEWS = {
    "class_path": "mer.datasets.views.Views",
    "init_args": {"windows": {"seconds": 0.5, "hop": 0.25}, "flip": True},
}


class TestOfARun:
    """`mer test` of an untrained model, with views in the config."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
        folder = tmp_path_factory.mktemp("viewed")
        config = tiny.config(folder / "config.yaml", tiny_corpus, **{"data.views": VIEWS, "data.keep_in_memory": False})
        tasks = Manifest.read(tiny_corpus / "manifest.csv").corpus.tasks
        plain = yaml.safe_load(config.read_text())
        plain["data"]["tasks_used"] = list(tasks)
        config.write_text(yaml.safe_dump(plain))
        checkpoint.save(folder / "model.safetensors", tiny.model(tasks), {"corpus": "another"})
        shared = ("--config", config, "--checkpoint", folder / "model.safetensors", "--data.fold", "0")
        for out, more in (("run", ()), ("again", ("--data.batch_size", "3", "--data.num_workers", "1"))):
            assert tiny.mer("test", *shared, "--out", folder / out, *more) == 0
        return folder

    def test_the_score_file_has_one_row_per_clip(self, run: Path, tiny_corpus: Path) -> None:
        scores = Scores.read(run / "run" / "scores_emotion.csv")
        with (tiny_corpus / "manifest.csv").open() as stream:
            expected = [row["clip_id"] for row in csv.DictReader(stream) if row["fold"] == "0"]
        assert scores.clip_id == expected

    def test_it_holds_the_mean_over_the_views(self, run: Path, tiny_corpus: Path) -> None:
        model, _ = checkpoint.load(run / "model.safetensors", [])
        model.eval()
        manifest = Manifest.read(tiny_corpus / "manifest.csv")
        views = Views(Windows(0.5, 0.25), flip=True)
        for task in manifest.corpus.tasks.values():
            scores = Scores.read(run / "run" / f"scores_{task.name}.csv")
            name = scores.clip_id[0]
            (wanted,) = (c for c in manifest.clips if c.clip_id == name)
            answers: dict[float, list[np.ndarray]] = {}
            data = ClipDataset(manifest, [wanted], model.specs, views=views)
            assert len(data) == 6
            for item in items(data):
                batch = Collate(model.specs, manifest.corpus.tasks)([item])
                with torch.no_grad():
                    prediction = model(batch.inputs)
                if task.level == "video":
                    answers.setdefault(0.0, []).append(prediction.logits[task.name].softmax(-1)[0].numpy())
                    continue
                shares = at_times(prediction.frames[task.name], batch.frame_times).softmax(-1)[0].numpy()
                for time, share in zip(batch.frame_times[0].tolist(), shares, strict=True):
                    answers.setdefault(time, []).append(share)
            rows = [row for row, clip_id in enumerate(scores.clip_id) if clip_id == name]
            expected = [np.mean(answers[time], axis=0) for time in sorted(answers)]
            assert {len(several) for several in answers.values()} in ({6}, {2, 4})
            np.testing.assert_allclose(scores.probabilities[rows], expected, atol=1e-5)

    def test_batches_and_workers_make_no_difference(self, run: Path) -> None:
        for path in sorted((run / "run").rglob("*.csv")):
            one, two = Scores.read(path), Scores.read(run / "again" / path.relative_to(run / "run"))
            assert one.clip_id == two.clip_id
            np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-5)

    @pytest.mark.parametrize(
        ("views", "message"),
        [
            ({"clips": 2}, "fixed number of frames"),
            ({"windows": {"seconds": 1.0, "hop": 2.0}}, "leave gaps"),
            ({"crops": 5}, "1, 2 or 3 crops"),
        ],
    )
    def test_a_mistake_is_one_line(self, views: Any, message: str, tiny_corpus: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
        given = {"class_path": "mer.datasets.views.Views", "init_args": views}
        config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **{"data.views": given})
        assert tiny.mer("fit", "--config", config, "--out", tmp_path / "run", "--data.fold", "0") == 2
        assert message in tiny.one_line(capsys.readouterr().err)

    def test_training_sees_clips_as_ever(self, tiny_corpus: Path, tmp_path: Path) -> None:
        """Views and keys of the sampler in YAML; the training itself has one row per clip."""
        sampler = {"class_path": "mer.datasets.samplers.ClassBalanced", "init_args": {"task": "emotion", "power": 0.5}}
        config = tiny.config(tmp_path / "c.yaml", tiny_corpus, **{"data.views": VIEWS, "data.sampler": sampler})
        assert tiny.mer("fit", "--config", config, "--out", tmp_path / "run", "--data.fold", "0") == 0
        resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert resolved["data"]["sampler"] == sampler
        assert resolved["data"]["views"]["init_args"]["windows"] == {"seconds": 0.5, "hop": 0.25}
        assert tiny.mer("test", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "run") == 0
