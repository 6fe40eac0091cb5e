"""`mer doctor`: every fault that is planted in a twin is found and named by its line, and nothing is found in a healthy one."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sick_twin
from sick_twin import Twin
from tiny import mer, one_line

from mer.analysis.doctor import prints, ward
from mer.analysis.doctor.cells import columns
from mer.analysis.doctor.command import examine
from mer.analysis.doctor.exam import Exam
from mer.analysis.doctor.findings import Finding
from mer.analysis.doctor.summary import SCHEMA, Report
from mer.datasets.manifest import Corpus, Manifest, write_manifest
from mer.datasets.twins.studio import Scene, film, pictures, record
from mer.labels import LabelSpace, Task
from mer.media import audio

SEVEN = LabelSpace("seven.v1", tuple(f"c{k}" for k in range(7)))


def options(data: Path, out: Path, **changes: object) -> argparse.Namespace:
    known: dict[str, object] = {
        "data": data, "out": out, "jobs": 2, "quick": False, "faces": None, "frames": 8, "fps": None, "kind": [], "accept": [],
    }  # fmt: skip
    return argparse.Namespace(**(known | changes))


def seen(data: Path, out: Path, **changes: object) -> Report:
    return examine(options(data, out, **changes))[0]


def codes(report: Report) -> set[str]:
    return {f.code for f in report.findings}


def of(report: Report, code: str) -> Finding:
    return next(f for f in report.findings if f.code == code)


def listed(out: Path, rows: list[dict[str, object]], disjoint: str = "unknown", **tasks: Task) -> Path:
    """A manifest without media."""
    out.mkdir(parents=True, exist_ok=True)
    tasks = tasks or {"emotion": Task("emotion", SEVEN)}
    Corpus("lists", out, tasks, disjoint).write(out / "corpus.yaml")  # type: ignore[arg-type]
    write_manifest(out / "manifest.csv", list(rows[0]), rows)
    return out / "manifest.csv"


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    twin = sick_twin.healthy(tmp_path_factory.mktemp("healthy"))
    twin.write()
    return twin


@pytest.fixture(scope="session")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    twin = sick_twin.sick(tmp_path_factory.mktemp("sick"))
    twin.write()
    return twin


@pytest.fixture(scope="session")
def well(healthy: Twin, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return seen(healthy.root, tmp_path_factory.mktemp("well"))


@pytest.fixture(scope="session")
def ill(sick: Twin, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return seen(sick.root, tmp_path_factory.mktemp("ill"))


# -- the twins ----------------------------------------------------------------------------------------------------------


def test_a_healthy_corpus_has_no_finding_but_that_some_rows_lack_a_modality(well: Report) -> None:
    assert codes(well) == {"rows.without.faces"}
    assert [d.leaks for d in well.summaries[0].divisions] == [0]


PLANTED = [
    "media.missing", "media.unreadable", "media.truncated", "media.truncated.video", "media.no_sound", "media.silent",
    "media.constant", "media.clipping", "media.no_picture", "media.vfr", "media.gaps", "media.fps", "media.start_beyond",
    "media.end_beyond", "media.short", "media.blank", "media.still", "media.size", "features.nan", "features.width",
    "features.constant", "features.unreadable", "text.empty", "text.unreadable", "skeleton.lost", "skeleton.unreadable",
    "gaze.lost", "gaze.unreadable", "labels.frame_times", "labels.frame_unreadable", "labels.frame_empty", "labels.frame_none",
    "labels.unlabelled.emotion.train", "labels.conflict", "rows.no_file", "leak.subject", "leak.group", "leak.stretch",
    "leak.copy", "leak.copy.rows", "leak.alike", "leak.alike.video", "duplicate.stretch", "duplicate.copy", "duplicate.alike",
]  # fmt: skip


def test_every_planted_fault_has_its_test(sick: Twin) -> None:
    assert sorted(PLANTED) == sorted(sick.planted)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found_with_its_line(planted: str, sick: Twin, ill: Report) -> None:
    code = re.sub(r"\.(video|rows)$", "", planted)
    line = sick.line(sick.planted[planted])
    examples = of(ill, code).examples
    assert any(re.search(rf"\blines? (\d+ and )?{line}\b", e) for e in examples) or f"lines 8 and {line}" in str(
        examples
    )


def test_a_class_that_is_never_trained(ill: Report) -> None:
    assert any("cross" in example and "test" in example for example in of(ill, "labels.untaught").examples)


def test_a_file_that_no_row_names(ill: Report) -> None:
    assert "audio/nobody.wav" in of(ill, "files.no_row").examples


def test_severities(ill: Report) -> None:
    assert {f.code for f in ill.leaks} == {"leak.subject", "leak.group", "leak.stretch", "leak.copy", "leak.alike"}
    assert all(f.severity == "warning" for f in ill.findings if f.code.startswith("duplicate."))
    assert [f.severity for f in ill.findings] == sorted(
        (f.severity for f in ill.findings), key=["leak", "error", "warning", "note"].index
    )
    assert ill.summaries[0].divisions[0].leaks >= 6


# -- single questions ---------------------------------------------------------------------------------------------------


def test_nobody_in_the_picture(tmp_path: Path) -> None:
    film(tmp_path / "empty.mp4", np.random.default_rng(0).integers(0, 255, (25, 96, 96, 3), np.uint8))
    rows = [{"clip_id": "a", "emotion": "c1", "video": "empty.mp4"}]
    report = seen(listed(tmp_path, rows), tmp_path / "out", faces="haar")
    assert of(report, "media.no_face").examples == ("line 2, video: empty.mp4",)
    assert "media.no_face" not in codes(seen(tmp_path, tmp_path / "out"))


def test_faces_that_somebody_else_found(tmp_path: Path) -> None:
    (tmp_path / "boxes").mkdir()
    rows = []
    boxes = "\n".join(f"{k / 25},10,10,80,80" for k in range(25))
    for name, box in (("here", boxes), ("gone", "")):
        film(tmp_path / f"{name}.mp4", pictures(Scene(0, 3), 25))
        (tmp_path / f"boxes/{name}.csv").write_text(f"time,x0,y0,x1,y1\n{box}\n", encoding="utf-8")
        rows.append({"clip_id": name, "emotion": "c1", "video": f"{name}.mp4"})
    report = seen(listed(tmp_path, rows), tmp_path / "out", faces="boxes/{stem}.csv")
    assert [e.split()[-1] for e in of(report, "media.no_face").examples] == ["gone.mp4"]


def test_frames_per_second_that_the_user_declares(healthy: Twin, tmp_path: Path) -> None:
    assert of(seen(healthy.root, tmp_path, quick=True, fps=30.0), "media.fps").count == 36
    assert "media.fps" not in codes(seen(healthy.root, tmp_path, quick=True, fps=25.0)), "folders say their own"


def test_a_flac_and_an_mp4_that_break_off(tmp_path: Path) -> None:
    wave = sick_twin.spoken(Scene(0, 3), 3.0)
    record(tmp_path / "a.flac", wave)
    film(tmp_path / "b.mp4", pictures(Scene(0, 3), 75), wave)
    for name in ("a.flac", "b.mp4"):
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    rows = [{"clip_id": n, "emotion": "c0", "media": n} for n in ("a.flac", "b.mp4")]
    report = seen(listed(tmp_path, rows), tmp_path / "out", kind=["media=sound"])
    assert "a.flac" in of(report, "media.truncated").examples[0]
    assert "b.mp4" in of(report, "media.unreadable").examples[0], "its index stood at the end"


def test_a_file_that_kills_the_decoder_costs_that_file(
    healthy: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mer.media import guard

    usual = guard.Child.call

    def deadly(self: guard.Child, function: str, arguments: dict[str, object], names: str, patience: float) -> object:
        if names.endswith("p0_t1.mp4"):
            process = self._start().pid
            os.kill(process, signal.SIGSTOP)
            threading.Timer(0.2, os.kill, (process, signal.SIGKILL)).start()
        return usual(self, function, arguments, names, patience)

    monkeypatch.setattr(guard.Child, "call", deadly)
    rows = [{"clip_id": n, "emotion": "c0", "video": f"video/{n}.mp4"} for n in ("p0_t1", "p0_t2")]
    shutil.copytree(healthy.root / "video", tmp_path / "video")
    report = seen(listed(tmp_path, rows), tmp_path / "out", jobs=1)
    assert len(of(report, "media.unreadable").examples) == 1
    assert "the decoder died" in of(report, "media.unreadable").examples[0]


def test_quick_decodes_nothing(sick: Twin, tmp_path: Path) -> None:
    report = seen(sick.root, tmp_path, quick=True)
    assert {"media.missing", "media.unreadable", "media.no_sound", "media.start_beyond", "leak.copy"} <= codes(report)
    assert not {"media.silent", "media.still", "leak.alike"} & codes(report)
    assert any("--quick" in sentence for sentence in report.left)


def test_an_accepted_finding_is_a_note(sick: Twin, tmp_path: Path) -> None:
    report = seen(sick.root, tmp_path, quick=True, accept=["leak.subject"])
    assert of(report, "leak.subject").severity == "note"


@pytest.mark.parametrize(("declared", "severity"), [("true", "leak"), ("unknown", "leak"), ("false", "warning")])
def test_people_on_both_sides_by_what_the_corpus_declares(declared: str, severity: str, tmp_path: Path) -> None:
    rows = [
        {
            "clip_id": f"c{k}",
            "subject": f"s{k // 2}",
            "split": ("train", "test")[k % 2 if k < 2 else k // 4],
            "emotion": "c0",
        }
        for k in range(8)
    ]
    assert of(seen(listed(tmp_path, rows, declared), tmp_path / "out"), "leak.subject").severity == severity


def test_people_in_two_folds(tmp_path: Path) -> None:
    rows = [{"clip_id": f"c{k}", "subject": f"s{k // 2}", "fold": k // 3, "emotion": f"c{k % 2}"} for k in range(6)]
    report = seen(listed(tmp_path, rows), tmp_path / "out")
    assert of(report, "leak.subject").examples == ("subject s1: fold 0 and fold 1 (lines 4 and 5)",)
    assert [d.leaks for d in report.summaries[0].divisions] == [1, 1]


def test_stretches_that_touch_or_lie_in_one_part_are_no_leak(tmp_path: Path) -> None:
    def rows(*stretches: tuple[float, float, str]) -> list[dict[str, object]]:
        return [
            {"clip_id": f"c{k}", "start": a, "end": b, "split": s, "emotion": "c0", "video": "talk.mp4"}
            for k, (a, b, s) in enumerate(stretches)
        ]

    apart = rows((0, 2, "train"), (2, 4, "test"), (4, 6, "train"), (5, 7, "train"))
    assert not {"leak.stretch", "duplicate.stretch"} & codes(seen(listed(tmp_path / "a", apart), tmp_path / "out"))
    over = rows((0, 2, "train"), (1.5, 4, "test"))
    assert of(seen(listed(tmp_path / "b", over), tmp_path / "out"), "leak.stretch").count == 1


def test_one_class_and_few_test_clips(tmp_path: Path) -> None:
    rows = [{"clip_id": f"c{k}", "split": "train" if k < 6 else "test", "emotion": f"c{k % 2}"} for k in range(8)]
    rows += [{"clip_id": f"v{k}", "split": "val", "emotion": "c0"} for k in range(3)]
    report = seen(listed(tmp_path, rows), tmp_path / "out")
    assert of(report, "labels.single_class").examples == ("split, validation, task 'emotion': only c0",)
    assert of(report, "labels.few").count == 2


def test_frame_labels_counted_at_another_rate_run_out_of_the_clip(tmp_path: Path, healthy: Twin) -> None:
    shutil.copytree(healthy.root / "video", tmp_path / "video")
    sick_twin.levels(tmp_path / "frames/a.csv", np.arange(50) / 20)
    rows = [{"clip_id": "a", "frame_labels": "frames/a.csv", "video": "video/p0_t0.mp4"}]
    listed(tmp_path, rows, level=Task("level", sick_twin.LEVEL, "frame"))
    assert of(seen(tmp_path, tmp_path / "out"), "labels.frame_times").count == 1


def test_a_folder_of_pictures_is_a_video(healthy: Twin, tmp_path: Path) -> None:
    shutil.copytree(healthy.root / "faces", tmp_path / "faces")
    rows = [
        {"clip_id": f"c{k}", "split": s, "emotion": "c0", "faces": f"faces/p{k}_t0#12@1"}
        for k, s in enumerate(("train", "train", "test"))
    ]
    (tmp_path / "faces/p1_t0/5.jpg").write_bytes(b"broken")
    shutil.rmtree(tmp_path / "faces/p2_t0")
    shutil.copytree(tmp_path / "faces/p0_t0", tmp_path / "faces/p2_t0")
    report = seen(listed(tmp_path, rows), tmp_path / "out")
    assert "5.jpg" in of(report, "media.unreadable").examples[0]
    assert of(report, "leak.copy").count == 1
    assert report.summaries[0].columns[0].kind == "picture"


def test_a_code_that_many_share_is_no_copy(tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", question=np.eye(7, dtype=np.float32))
    rows = [
        {
            "clip_id": f"c{k}",
            "split": s,
            "emotion": "c0",
            "video_id": f"films/{k}.mp4",
            "question": "codes.npz#question[3]",
        }
        for k, s in enumerate(("train", "train", "test"))
    ]
    report = seen(listed(tmp_path, rows), tmp_path / "out")
    assert not report.leaks and "media.missing" not in codes(report)
    assert [c.name for c in report.summaries[0].columns] == ["question"], (
        "an id is no reference, though it looks like one"
    )


def test_columns_are_told_by_what_their_cells_look_like(healthy: Twin) -> None:
    manifest = Manifest.read(healthy.root / "manifest.csv")
    assert columns(manifest, {}) == {
        "video": "picture", "audio": "sound", "transcript": "text", "rows": "features", "skeleton": "skeleton", "gaze": "gaze",
        "faces": "picture",
    }  # fmt: skip
    assert columns(manifest, {"gaze": "other"})["gaze"] == "other"


# -- fingerprints -------------------------------------------------------------------------------------------------------


def test_cuts_and_codecs_do_not_hide_a_sound(tmp_path: Path) -> None:
    wave = sick_twin.spoken(Scene(0, 3, 4, 4), 2.0)
    record(tmp_path / "a.wav", np.concatenate([np.zeros(4000, np.float32), 0.3 * wave]))
    sick_twin.coded(tmp_path / "a.wav", tmp_path / "a.m4a")
    made = [
        _print(wave),
        _print(audio.load(tmp_path / "a.m4a", 16000)),
        _print(sick_twin.spoken(Scene(0, 3, 4, 5), 2.0)),
    ]
    assert prints.copies(made) == [(0, 1)]


def test_one_tune_under_two_pictures_is_no_copy() -> None:
    generator = np.random.default_rng(0)
    sound = _print(sick_twin.spoken(Scene(0, 3), 2.0))
    two = [replace(sound, thumbs=_thumbs(generator.integers(0, 255, (8, 16, 18)))) for _ in range(2)]
    assert prints.copies(two) == []
    assert prints.copies([sound, two[0]]) == [(0, 1)]


def test_one_picture_under_two_voices_is_no_copy() -> None:
    moving = _thumbs(np.random.default_rng(1).integers(0, 255, (8, 16, 18)))
    voices = [replace(_print(sick_twin.spoken(Scene(0, 3, k), 2.0)), thumbs=moving) for k in range(2)]
    assert prints.copies(voices) == []


def test_pictures_that_stand_still_prove_nothing_without_sound() -> None:
    room = np.random.default_rng(0).integers(0, 255, (1, 16, 18)).repeat(8, axis=0)
    assert prints.copies([prints.Print(1.0, _thumbs(room), "")] * 2) == []
    moving = room + np.random.default_rng(1).integers(-9, 9, (8, 16, 18))
    assert prints.copies([prints.Print(1.0, _thumbs(moving.clip(0, 255)), "")] * 2) == [(0, 1)]


def test_pairs_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prints, "STRIDE", 3)
    made = [_print(sick_twin.spoken(Scene(0, 3, k), 1.0)) for k in range(8)]
    made = [replace(p, seconds=1 + 0.01 * k) for k, p in enumerate(made)]
    twin = [*made, made[2], replace(made[0], seconds=2.0)]
    assert prints.copies(twin) == [(2, 8)], "and one that is twice as long is none"


def _print(wave: np.ndarray) -> prints.Print:
    import base64

    votes = prints.heard(wave)
    assert votes is not None
    return prints.Print(len(wave) / 16000, "", base64.b64encode(votes.tobytes()).decode())


def _thumbs(values: np.ndarray) -> str:
    import base64

    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


# -- lists --------------------------------------------------------------------------------------------------------------


def lists(root: Path, **files: list[tuple[str, int]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, clips in files.items():
        text = "".join(f"{clip},{label}\n" for clip, label in [("video_name", "label"), *clips])
        (root / f"{name}.csv").write_text(text, encoding="utf-8")
    return root


def test_lists_without_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = lists(tmp_path / "clean", set1_train=[("a", 1), ("b", 2)], set1_test=[("c", 1)], set2_train=[("c", 1)],
                  set2_test=[("a", 1), ("b", 2)])  # fmt: skip
    assert mer("doctor", clean, "--out", tmp_path / "out") == 0
    assert "2 clean divisions" in capsys.readouterr().out
    leaky = lists(tmp_path / "leaky", set1_train=[("a", 1), ("b", 2), ("b", 2)], set1_test=[("b", 3)])
    assert mer("doctor", leaky, "--out", tmp_path / "out") == 1
    report = seen(leaky, tmp_path / "out")
    assert of(report, "leak.list").examples == ("fold set1, b: set1_test.csv, line 2, and set1_train.csv, line 3",)
    assert {"list.repeated", "labels.conflict"} <= codes(report)


def test_lists_in_folders_and_packed(tmp_path: Path) -> None:
    for part, clip in (("train(single-labeled)", "a"), ("test(single-labeled)", "b")):
        (tmp_path / part).mkdir()
        with gzip.open(tmp_path / part / "set_1.csv.gz", "wt") as file:
            file.write(f"video_name,label\n{clip},1\n")
    report = seen(tmp_path, tmp_path / "out")
    assert [[p.clips for p in d.parts] for d in report.summaries[0].divisions] == [[1, 1]]


def dfew(root: Path, out: Path) -> Path:
    """The manifest of the packaged lists: every clip is tested in one fold."""
    rows = []
    for fold in range(1, 6):
        with (root / f"set{fold}_test.csv").open() as file:
            rows += [
                {"clip_id": r["clip"], "fold": fold, "emotion": f"c{r['label']}", "faces": f"faces/{r['clip']}#25"}
                for r in csv.DictReader(file)
            ]
    return listed(out, rows)


@pytest.mark.real
def test_dfew_has_five_clean_folds(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_data / "annotations" / "dfew"
    assert mer("doctor", folder, "--out", tmp_path / "lists") == 0
    shown = capsys.readouterr().out
    assert "5 clean divisions" in shown and shown.count(" clean\n") == 5
    assert mer("doctor", dfew(folder, tmp_path / "data"), "--out", tmp_path / "manifest") == 0
    shown = capsys.readouterr().out
    assert "5 clean divisions" in shown and shown.count(" clean\n") == 5
    assert shown.count("files of column 'faces' are not here") == 1 and "11,697 files" in shown


@pytest.mark.real
@pytest.mark.parametrize("corpus", ["ravdess", "emodb"])
def test_voices_that_say_the_same_are_not_taken_for_copies(corpus: str, real_data: Path) -> None:
    files = sorted((real_data / corpus / "audio16k").rglob("*.flac"))[:300]
    assert len(files) > 200
    assert prints.copies([_print(audio.load(f, 16000)) for f in files]) == []


# -- the command --------------------------------------------------------------------------------------------------------


def test_the_command_on_a_sick_corpus(sick: Twin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("doctor", sick.root, "--out", tmp_path, "--quick") == 1
    shown = capsys.readouterr().out
    assert "LEAK" in shown and "video/p0_t1.mp4" in shown and "line 3" in shown
    data = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert data["schema"] == SCHEMA and data["leaks"] >= 3
    assert {"code", "severity", "title", "count", "unit", "examples", "remedy"} == set(data["findings"][0])


def test_the_page_fetches_nothing_and_escapes_names(tmp_path: Path) -> None:
    rows = [{"clip_id": "<b>x</b>", "subject": "<i>", "split": s, "emotion": "c0"} for s in ("train", "test")]
    rows[1]["clip_id"] = "y"
    listed(tmp_path, rows)
    assert mer("doctor", tmp_path, "--out", tmp_path / "out") == 1
    page = (tmp_path / "out/doctor.html").read_text(encoding="utf-8")
    assert "<i>" not in page and "&lt;i&gt;" in page
    assert "<script" not in page and not re.search(r"(src|href)=|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page


def test_several_manifests_below_one_folder(tmp_path: Path) -> None:
    clean = [
        {"clip_id": f"c{k}", "subject": f"s{k}", "split": s, "emotion": "c0"} for k, s in enumerate(("train", "test"))
    ]
    listed(tmp_path / "data/personal/a", clean)
    listed(tmp_path / "data/personal/b", [row | {"subject": "one"} for row in clean])
    report = seen(tmp_path / "data/personal", tmp_path / "out")
    assert len(report.summaries) == 2
    assert of(report, "leak.subject").examples == ("b: subject one: train and test (lines 2 and 3)",)


def test_a_second_run_looks_into_nothing_again(
    healthy: Twin, well: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(healthy.root, root)
    seen(root, tmp_path / "out")
    looked: list[Path] = []
    usual = ward._one

    def noted(job: ward.Job, *rest: object) -> Exam:
        looked.append(job.path)
        return usual(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ward, "_one", noted)
    assert seen(root, tmp_path / "out").findings == well.findings
    assert looked == []
    record(root / "audio/p0_t0.wav", sick_twin.spoken(Scene(0, 3, 0, 77)))
    os.utime(root / "audio/p0_t0.wav", ns=(1, 1))
    with (tmp_path / "out" / ward.CACHE).open("a") as file:
        file.write('{"key": "half a li')
    seen(root, tmp_path / "out")
    assert looked == [root / "audio/p0_t0.wav"]


def test_an_interruption_keeps_what_is_done(healthy: Twin, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mer", "doctor", str(healthy.root), "--out", str(tmp_path / "out"), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cache, begun = tmp_path / "out" / ward.CACHE, time.monotonic()
    while not (cache.exists() and cache.read_text().count("\n") > 10) and time.monotonic() - begun < 60:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in complaints
    assert 5 < len(ward._known(cache)) < 36 * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file or folder"),
        (["."], "neither a manifest.csv nor official lists"),
        ([".", "--jobs", "0"], "--jobs"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mer("doctor", *arguments) == 2
    assert message in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("wish", ["voice=sound", "rows=music", "rows"])
def test_a_kind_that_makes_no_sense(wish: str, healthy: Twin, capsys: pytest.CaptureFixture[str]) -> None:
    assert mer("doctor", healthy.root, "--kind", wish) == 2
    assert "--kind" in one_line(capsys.readouterr().err)


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, mer.analysis.doctor.command; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
