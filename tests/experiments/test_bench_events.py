"""`mer bench events`: who agrees with whom, on labels that are known and on those of human raters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.moving_eyes import clock, jump, noise

from mer.cli import main
from mer.errors import UserError
from mer.experiments.bench_events import Agreement, agreement, kappa, read

NAMES = ["unlabelled", "fixation", "saccade", "pso", "smooth_pursuit", "blink", "undefined"]
META = ["screen_w_m", "screen_h_m", "res_x", "res_y", "view_dist_m", "hz"]


def rated(path: Path, **changes: Any) -> Path:
    """Two recordings of 2 s on a screen where a pixel is 0.01 degrees: a saccade of 5 degrees at 1 s. A labels both, and
    B the first, with the saccade 20 ms late.
    """
    times = clock(2, 500)
    event = np.ones((2, 1000, 2), int)
    event[:, 490:508, 0] = event[:, 500:518, 1] = 2
    event[1, :, 1] = 0
    pixel = np.tan(np.radians(0.01))
    xy = np.stack([400 + 100 * jump(times, 0.998, 5.0), np.full(1000, 500.0)], 1) + noise((1000, 2), size=0.5)
    content = {
        "xy_px": np.concatenate([xy, xy]), "event": event.reshape(-1, 2), "event_names": NAMES, "raters": ["A", "B"],
        "offset": [0, 1000, 2000], "stimulus": ["img", "video"], "meta_columns": META,
        "meta": [[1000 * pixel, 1000 * pixel, 1000, 1000, 1.0, 500.0]] * 2,
    } | changes  # fmt: skip
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def found(rows: list[Agreement], rater: str, question: str, who: str) -> dict[str, float]:
    return next(r.kappa for r in rows if (r.rater, r.question, r.who) == (rater, question, who))


def test_kappa_is_1_for_the_same_0_for_chance_and_negative_for_the_opposite() -> None:
    a = np.array([True, True, False, False])
    assert kappa(a, a) == 1
    assert kappa(a, np.array([True, False, True, False])) == 0
    assert kappa(a, ~a) == -1
    assert np.isnan(kappa(a[:2], a[:2])) and np.isnan(kappa(a[:0], a[:0]))


def test_recordings_count_for_the_raters_who_labelled_them(tmp_path: Path) -> None:
    recordings = read(rated(tmp_path / "r.npz"))
    assert [sorted(r.raters) for r in recordings] == [["A", "B"], ["A"]]
    assert np.ptp(recordings[0].gaze[:, 0]) == pytest.approx(5.0, abs=0.1)
    rows = agreement(recordings)
    ours = found(rows, "A", "saccade", "mer")
    assert ours.keys() == {"img", "video", "all"}
    assert all(value > 0.75 for value in ours.values())
    late = found(rows, "B", "saccade", "rater A")
    assert (
        late["img"]
        == late["all"]
        == pytest.approx(kappa(np.arange(1000) // 18 == 1, (np.arange(1000) - 10) // 18 == 1))
    )
    assert np.isnan(late["video"])
    assert {r.who for r in rows if r.question == "saccade"} > {"I-VT, 30 deg/s", "I-DT, 1 deg", "Engbert-Kliegl"}


def test_the_table_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "events", str(rated(tmp_path / "r.npz"))]) == 0
    printed = capsys.readouterr().out
    assert "1 img, 1 video, 2 all recordings" in printed
    assert "fixation or pursuit, rater B" in printed


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        read(tmp_path / "nowhere.npz")
    with pytest.raises(UserError, match="no array 'meta'"):
        read(rated(tmp_path / "r.npz", meta=None))
    with pytest.raises(UserError, match="meta says nothing of 'hz'"):
        read(rated(tmp_path / "m.npz", meta_columns=[*META[:5], "rate"]))
    with pytest.raises(UserError, match="different lengths"):
        read(rated(tmp_path / "l.npz", event=np.ones((5, 2), int)))
    assert main(["bench", "events", str(rated(tmp_path / "z.npz", event=np.zeros((2000, 2), int)))]) == 2


@pytest.mark.real
def test_agreement_with_the_raters_of_andersson_2017(real_data: Path) -> None:
    """At one setting for pictures, videos and moving dots."""
    rows = agreement(read(real_data / "eye_andersson2017" / "labelled_gaze.npz"))
    assert found(rows, "MN", "saccade", "mer")["img"] >= 0.83
    assert found(rows, "MN", "saccade", "mer")["video"] >= 0.85
    assert found(rows, "MN", "saccade", "mer")["dots"] >= 0.72
    assert found(rows, "MN", "fixation or pursuit", "mer")["video"] >= 0.80
    assert found(rows, "MN", "fixation or pursuit", "mer")["img"] >= 0.83
    assert found(rows, "MN", "blink", "mer")["all"] >= 0.82
    for rater in ("MN", "RA"):
        assert found(rows, rater, "pursuit", "mer")["video"] >= 0.5
        for question in ("saccade", "fixation or pursuit"):
            ours = found(rows, rater, question, "mer")["all"]
            others = [
                r.kappa["all"] for r in rows if (r.rater, r.question) == (rater, question) and "rater" not in r.who
            ]
            assert ours == max(others)
    assert found(rows, "MN", "saccade", "rater RA") == found(rows, "RA", "saccade", "rater MN")
