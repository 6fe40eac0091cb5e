"""The timeline of a clip: its table, its truth file, its picture."""

from __future__ import annotations

import csv
import io
import struct
import zlib

import numpy as np
import pytest

from mer.errors import UserError
from mer.inference.timeline import Segment, Timeline, class_colours, clock, draw_timeline, read_segments
from mer.labels import SPACES, LabelSpace

RAVDESS = SPACES["ravdess8.v1"]
AFFECT = LabelSpace("va.v1", ("valence", "arousal"), "continuous")
SEVERAL = LabelSpace("m.v1", ("happy", "sad"), "multilabel")


def a_timeline(frames: int, space: LabelSpace = RAVDESS, weights: dict | None = None, **changed) -> Timeline:
    rng = np.random.default_rng(frames)
    values = rng.dirichlet(np.ones(len(space)), frames)
    given = {"times": np.arange(frames) / 30, "probabilities": values, "duration": frames / 30} | changed
    return Timeline("clip 1", "emotion", space, modality_weights=weights, **given)


def with_gaps(frames: int, gaps, space: LabelSpace = RAVDESS, weights: dict | None = None, **changed) -> Timeline:
    """Nothing to read in the frames `gaps` (whatever indexes rows)."""
    given = a_timeline(frames, space, **changed)
    values = given.probabilities.copy()
    values[gaps] = np.nan
    return Timeline("clip 1", "emotion", space, given.times, values, given.duration, weights)


def rows_of(timeline: Timeline, path) -> list[dict[str, str]]:
    timeline.write_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height, after every chunk has been checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunk = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(chunk)
        kinds.append(chunk[:4])
        at += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    return struct.unpack(">II", data[16:24])


def pixels(timeline: Timeline, **how) -> np.ndarray:
    from matplotlib.image import imread

    buffer = io.BytesIO()
    draw_timeline(timeline, buffer, **how)
    return imread(io.BytesIO(buffer.getvalue()))[..., :3]


def share_of(picture: np.ndarray, colour: str) -> float:
    return float((np.abs(picture - rgb(colour)).max(axis=-1) < 0.01).mean())


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


# The table


def test_csv_has_a_row_per_frame_with_probabilities_decision_and_weights(tmp_path):
    p = np.array([[0.75, 0.25], [0.125, 0.875]])
    timeline = Timeline(
        "c",
        "ambivalence",
        SPACES["synthetic_xor.v1"],
        times=[0.0, 1 / 30],
        probabilities=p,
        duration=0.1,
        modality_weights={"face": [0.5, 1.0], "voice": [0.5, 0.0]},
        frame_index=[7, 8],
    )
    rows = rows_of(timeline, tmp_path / "new" / "t.csv")
    assert list(rows[0]) == [
        *("frame", "time", "p_congruent", "p_ambivalent", "label", "confidence", "weight_face", "weight_voice")
    ]
    assert list(rows[0].values()) == ["7", "0.000000", "0.75", "0.25", "congruent", "0.75", "0.5", "0.5"]
    assert list(rows[1].values()) == ["8", "0.033333", "0.125", "0.875", "ambivalent", "0.875", "1", "0"]
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["t.csv"]


def test_csv_of_a_continuous_task_has_values_and_no_decision(tmp_path):
    rows = rows_of(a_timeline(2, AFFECT, probabilities=[[-0.5, 0.25], [1, -2]]), tmp_path / "t.csv")
    assert list(rows[0]) == ["frame", "time", "v_valence", "v_arousal"]
    assert rows[0]["v_valence"] == "-0.5"


def test_csv_of_several_labels_joins_those_that_apply(tmp_path):
    rows = rows_of(a_timeline(3, SEVERAL, probabilities=[[0.9, 0.5], [0.2, 0.1], [0.1, 0.6]]), tmp_path / "t.csv")
    assert [row["label"] for row in rows] == ["happy;sad", "-", "sad"]
    assert [float(row["confidence"]) for row in rows] == [0.5, 0.8, 0.6]


def test_wrong_shapes_are_a_programmers_mistake_and_bad_numbers_name_the_clip():
    with pytest.raises(ValueError):
        a_timeline(3, probabilities=np.ones((3, 2)))
    with pytest.raises(ValueError):
        a_timeline(0)
    with pytest.raises(ValueError):
        a_timeline(2, weights={"face": [1.0]})
    with pytest.raises(UserError, match=r"clip 1.*not finite"):
        a_timeline(1, probabilities=[[np.nan] + [0.125] * 7])
    with pytest.raises(UserError, match=r"clip 1.*not finite"):
        a_timeline(1, probabilities=np.full((1, 8), np.inf))
    with pytest.raises(UserError, match=r"clip 1.*weights.*not finite"):
        a_timeline(2, weights={"face": [1.0, np.nan]})
    with pytest.raises(UserError, match=r"clip 1.*weights.*not finite"):
        with_gaps(2, [1], weights={"face": [1.0, np.inf]})
    with pytest.raises(UserError, match=r"clip 1.*times.*not finite"):
        with_gaps(2, [1], times=[0.0, np.nan])
    with pytest.raises(UserError, match=r"clip 1.*fall"):
        a_timeline(2, times=[1.0, 0.5])


# Frames with nothing to read


@pytest.mark.parametrize("space", [RAVDESS, SEVERAL, AFFECT])
def test_a_frame_with_nothing_to_read_has_no_decision(space):
    timeline, whole = with_gaps(6, [0, 3], space), a_timeline(6, space)
    assert timeline.readable.tolist() == [False, True, True, False, True, True]
    assert timeline.labels == ["" if i in (0, 3) else label for i, label in enumerate(whole.labels)]
    assert np.isnan(timeline.confidence[[0, 3]]).all()
    np.testing.assert_array_equal(timeline.confidence[[1, 2, 4, 5]], whole.confidence[[1, 2, 4, 5]])
    np.testing.assert_allclose(timeline.mean, whole.probabilities[[1, 2, 4, 5]].mean(axis=0))


@pytest.mark.parametrize("gaps", [[0], [2, 3], [5], slice(None)])
def test_gaps_change_no_time(gaps):
    timeline, whole = with_gaps(6, gaps), a_timeline(6)
    assert (len(timeline), timeline.end, timeline.duration) == (len(whole), whole.end, whole.duration)
    np.testing.assert_array_equal(timeline.frame_index, whole.frame_index)


def test_weights_are_absent_where_nothing_was_read():
    timeline = with_gaps(3, [1], weights={"face": [0.5, 0.0, 1.0], "voice": [0.5, np.nan, 0.0]})
    np.testing.assert_array_equal(timeline.modality_weights["face"], [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(timeline.modality_weights["voice"], [0.5, np.nan, 0.0])


def test_csv_has_a_row_of_empty_cells_where_nothing_was_read(tmp_path):
    timeline = with_gaps(3, [1], SEVERAL, {"face": [1.0, np.nan, 1.0]}, frame_index=[4, 5, 6])
    rows = rows_of(timeline, tmp_path / "t.csv")
    assert len(rows) == 3
    assert list(rows[1].values()) == ["1", "0.033333", "", "", "", "", ""]
    assert all(all(rows[i].values()) for i in (0, 2))
    assert list(rows_of(with_gaps(1, [0], AFFECT), tmp_path / "v.csv")[0].values()) == ["0", "0.000000", "", ""]
    assert "nan" not in (tmp_path / "t.csv").read_text() + (tmp_path / "v.csv").read_text()


# The truth


def test_segments_are_read_in_order_of_time(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("\ufefflabel,start,end,who\nsad,2.5,4,x\n\nhappy,0,2.5,x\n", encoding="utf-8")
    assert read_segments(path) == [Segment(0, 2.5, "happy"), Segment(2.5, 4, "sad")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("start,end\n0,1\n", "line 1: no column 'label'"),
        ("start;end;label\n0;1;sad\n", "line 1: no column"),
        ("", "line 1: no column"),
        ("start,end,label\n0,1,sad\n1,0:02,sad\n", "line 3: end '0:02' is not a media time"),
        ("start,end,label\n0,nan,sad\n", "line 2: end 'nan'"),
        ("start,end,label\n-1,1,sad\n", "line 2: start '-1'"),
        ("start,end,label\n2,2,sad\n", "line 2: end 2 is not after start 2"),
        ("start,end,label\n0,1, \n", "line 2: label is empty"),
        ("start,end,label\n0\n", "line 2: end '' is not"),
        ("start,end,label\n0,1\n", "line 2: label is empty"),
    ],
)
def test_a_bad_truth_file_names_the_line(tmp_path, text, told):
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_segments(path)
    assert f"{path}, {told}" in str(error.value)


def test_a_missing_or_binary_truth_file_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_segments(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_segments(tmp_path / "b.csv")


# The colours


def test_an_emotion_has_one_colour_in_every_space():
    other = class_colours(LabelSpace("x", ("Anger", "happiness", "boredom", "sadness")))
    ravdess = class_colours(RAVDESS)
    assert other["Anger"] == ravdess["angry"]
    assert other["happiness"] == ravdess["happy"]
    assert other["sadness"] == ravdess["sad"]
    assert len(set(ravdess.values())) == 8


def test_two_names_of_one_emotion_in_a_space_get_two_colours():
    names = ("fear", "worried", "contempt", "bored", "angry", "disgust", "happy", "neutral", "sad", "surprise", "else")
    colours = class_colours(LabelSpace("x", names))
    assert list(colours) == list(names)
    assert len(set(colours.values())) == 11
    assert len(class_colours(LabelSpace("y", tuple(map(str, range(40)))))) == 40


# The picture


@pytest.mark.parametrize(
    ("timeline", "truth"),
    [
        (a_timeline(1), None),
        (a_timeline(1, times=[0.0], duration=0.0), [Segment(0, 1, "happy")]),
        (a_timeline(2, SEVERAL, times=[0.0, 0.0]), []),
        (a_timeline(10, LabelSpace("one", ("happy",), "multilabel")), None),
        (a_timeline(105, weights={"face": np.full(105, 0.7), "voice": np.zeros(105)}), [Segment(1, 99, "unheard of")]),
        (a_timeline(50, LabelSpace("e", tuple(f"class number {i} of a long list" for i in range(11)))), None),
        (a_timeline(100_000, weights={str(i): np.ones(100_000) for i in range(5)}), [Segment(0, 2000, "sad")]),
        (a_timeline(40, AFFECT, times=np.arange(40) * 100.0, duration=4000), [Segment(5, 70, "sad")]),
        (a_timeline(3, AFFECT, probabilities=np.zeros((3, 2))), None),
        (a_timeline(5, times=np.arange(5) * 1e-5, duration=5e-5), None),
        (a_timeline(5, times=np.arange(5) * 1e5, duration=5e5), None),
        (a_timeline(5, weights={"face": np.zeros(5)}), None),
    ],
)
def test_every_timeline_can_be_drawn(tmp_path, timeline, truth):
    path = tmp_path / "t.png"
    draw_timeline(timeline, path, truth)
    width, height = png_size(path.read_bytes())
    assert width == 1500
    assert 450 <= height <= 1100
    assert [f.name for f in tmp_path.iterdir()] == ["t.png"]


@pytest.mark.parametrize("space", [RAVDESS, SEVERAL, AFFECT])
@pytest.mark.parametrize(
    ("frames", "gaps"),
    [
        (1, slice(None)),
        (30, slice(0, -1)),
        (200, slice(1, None)),
        (200, slice(None, None, 2)),
        (200, slice(None)),
        (5000, slice(0, 4999)),
        (5000, slice(None)),
    ],
)
def test_every_timeline_with_gaps_can_be_drawn_without_a_warning(recwarn, space, frames, gaps):
    buffer = io.BytesIO()
    draw_timeline(with_gaps(frames, gaps, space, {"face": np.ones(frames), "voice": np.ones(frames)}), buffer, [])
    assert png_size(buffer.getvalue())[0] == 1500
    assert not list(recwarn)


@pytest.mark.parametrize("frames", [40, 400, 40_000])  # steps, a line, averages
def test_bands_ribbon_and_shares_have_a_gap_where_nothing_was_read(frames):
    values = np.tile(np.eye(2)[0], (frames, 1))
    half, space = slice(frames // 2, None), LabelSpace("two", ("happy", "sad"))
    how = {"times": np.linspace(0, 10, frames, endpoint=False), "duration": 10, "probabilities": values}
    weights = {"face": np.ones(frames)}
    whole, gap = (
        pixels(a_timeline(frames, space, weights, **how)),
        pixels(with_gaps(frames, half, space, weights, **how)),
    )
    band = whole[whole.shape[0] // 3, whole.shape[1] // 3]  # inside the upper band, which is full
    for colour in (band, rgb(class_colours(space)["happy"]), rgb("#5B6B7F")):  # the ribbon; the first modality
        before, after = ((np.abs(picture - colour).max(axis=-1) < 0.01).sum(axis=0) for picture in (whole, gap))
        filled = np.flatnonzero(before > 5)
        middle = len(filled) // 2
        assert len(filled) > 500
        assert (after[filled[: middle - 10]] > 5).all()
        assert not after[filled[middle + 10 :]].any()


def test_bins_average_the_frames_that_could_be_read():
    frames = 8000  # four to a bin; one of them can be read
    values = np.tile([0.2, 0.8], (frames, 1))
    gaps = np.arange(frames) % 4 != 0
    space = LabelSpace("two", ("happy", "sad"))
    how = {"times": np.arange(frames) / 30, "duration": frames / 30, "probabilities": values}
    weights = {"face": np.full(frames, 0.25), "voice": np.full(frames, 0.75)}
    whole, sparse = (
        pixels(t, subtitle="s")
        for t in (a_timeline(frames, space, weights, **how), with_gaps(frames, gaps, space, weights, **how))
    )
    np.testing.assert_array_equal(sparse, whole)


def test_a_single_frame_between_gaps_is_seen():
    one = np.arange(120) == 60
    picture = pixels(with_gaps(120, ~one, probabilities=np.tile(np.eye(8)[RAVDESS.index("happy", "")], (120, 1))))
    bands = picture[: 2 * len(picture) // 3]
    assert share_of(bands, class_colours(RAVDESS)["happy"]) > 0


def test_a_gap_is_named_where_there_is_room(monkeypatch):
    from matplotlib.axes import Axes

    written: list[str] = []
    write = Axes.text
    monkeypatch.setattr(Axes, "text", lambda self, x, y, s, *a, **k: written.append(s) or write(self, x, y, s, *a, **k))
    pixels(with_gaps(100, slice(40, 80)))
    assert written.count("no reading") == 1
    written.clear()
    pixels(with_gaps(100, slice(40, 42)))
    assert "no reading" not in written
    assert "There was nothing to read in this clip" not in written
    for space in (RAVDESS, SEVERAL, AFFECT):
        written.clear()
        pixels(with_gaps(100, slice(None), space))
        assert "There was nothing to read in this clip" in written


def test_titles_are_text_and_never_formulas(recwarn):
    hostile = "a $x_{$ \\frac \n <b> 情绪 " + "long " * 60
    buffer = io.BytesIO()
    draw_timeline(a_timeline(3, LabelSpace("x", ("$", "_{"))), buffer, [Segment(0, 1, "$^$")], hostile, hostile)
    png_size(buffer.getvalue())
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_drawing_leaves_the_global_state_of_matplotlib_alone():
    import matplotlib
    from matplotlib._pylab_helpers import Gcf

    before = dict(matplotlib.rcParams)
    pixels(a_timeline(3))
    assert dict(matplotlib.rcParams) == before
    assert not Gcf.figs


def test_the_ribbon_shows_the_likeliest_class_for_as_long_as_it_lasts():
    p = np.tile(np.eye(8)[RAVDESS.index("sad", "")], (4, 1))
    p[:1] = np.eye(8)[RAVDESS.index("angry", "")]
    picture, colours = pixels(a_timeline(4, times=np.arange(4.0), duration=4, probabilities=p)), class_colours(RAVDESS)
    line = next(row for row in picture[::-1] if share_of(row, colours["sad"]) > 0.3)  # from below: the ribbon
    assert share_of(line, colours["sad"]) / share_of(line, colours["angry"]) == pytest.approx(3, rel=0.05)


def test_truth_adds_a_ribbon_in_the_same_colours():
    timeline, happy = a_timeline(90), class_colours(RAVDESS)["happy"]
    without, given = pixels(timeline), pixels(timeline, truth=[Segment(0, 3, "happy")])
    assert share_of(given, happy) > share_of(without, happy) + 0.01


def test_a_picture_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        draw_timeline(a_timeline(1), tmp_path / "file" / "t.png")


def test_times_are_written_for_the_length_of_the_clip():
    assert clock(2.5, 3.5) == "2.5 s"
    assert clock(65, 120) == "1:05"
    assert clock(3727, 4000) == "1:02:07"
