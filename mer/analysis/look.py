"""`mer look`: one page per clip with what the toolkit sees in it: faces, tracks, crops, skeleton, motion, speech."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from mer.errors import UserError
from mer.files import draft_of
from mer.media import audio, video
from mer.media.folder import PICTURE, SOUND, VIDEO, media_files, result_names
from mer.media.frame import Frame
from mer.media.guard import examined, guarded
from mer.media.sampling import Ticks, choose
from mer.media.stream import Stream
from mer.skeletons import Layout, layout
from mer.spec import Face, InputSpec

SHOWN = 8  # pictures in a row
HEIGHT = 240  # pixels of a shown picture
CROP = (112, 112)
WIDTH = 13.0  # inches of the page
LEAST = 3  # columns, where there are fewer pictures: a photograph must not fill a metre
COLUMNS, CROPS = 20, 40  # of the contact sheet
HEARD = 16000
GONE = 0.5  # seconds without a face after which a track is drawn anew
COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#1f78b4")


@dataclass
class Shown:
    """One picture of the page; `scale` (x, y) is from the pixels of the video to those of the page."""

    time: float
    until: float
    picture: np.ndarray
    scale: np.ndarray
    faces: list[Any]
    motion: np.ndarray | None = None


@dataclass
class Seen:
    """What one pass over a clip found.

    Attributes:
        end: seconds.
        shown: a few moments.
        path: per track (time, centre x, centre y, height) in shares of the picture; of pictures where it was found.
        crops: per track (time, (h, w, 3) uint8).
        chosen: tracks of the target.
        motion: (time, mean pixels of movement per second since the picture before, of a picture 240 pixels high).
        skeleton: (N, V, 3) and its spans, or why there is none.
        speech: waveform and (n, 2) seconds, or why there is none.
    """

    end: float
    shown: list[Shown] = field(default_factory=list)
    path: dict[int, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    crops: dict[int, list[tuple[float, np.ndarray]]] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)
    motion: list[tuple[float, float]] = field(default_factory=list)
    skeleton: Stream | str = ""
    wave: np.ndarray | str = ""
    speech: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    trouble: str = ""


def look(
    path: Path,
    face: Face,
    rate: float = 10.0,
    skeleton: str | None = "mediapipe",
    speech: Literal["energy", "silero"] = "energy",
) -> Seen:
    """Look at a clip once.

    Args:
        path: video, picture or sound file.
        face: how faces are found.
        rate: pictures per second that are looked at.
        skeleton: backend of the skeleton, or None.
        speech: what finds speech, see `mer.media.speech.activity`.

    Raises:
        UserError: the file is missing or not media.
    """
    file = examined(path)
    info, seen = file.info, Seen(file.length)
    _rehearse(path)
    if info.has_video:
        _watch(path, face, rate, skeleton, seen)
    if info.has_audio:
        from mer.media.speech import activity

        try:
            seen.wave = audio.load(path, HEARD)
        except UserError as error:
            seen.wave = error.problem
        else:
            seen.speech = activity(seen.wave, HEARD, speech)
    else:
        seen.wave = "no sound in the file"
    return seen


def _rehearse(path: Path) -> None:
    """Decode the file once in the child process, as what kills or hangs a decoder there would do so here.

    Raises:
        UserError: it does.
    """
    specs = {"picture": InputSpec("video", rate=0.5, size=(8, 8)), "sound": InputSpec("audio", rate=HEARD)}
    for result in guarded(Path(), dict.fromkeys(specs, str(path.absolute())), specs).values():
        if isinstance(result, UserError) and "the decoder" in result.problem:
            raise result


def _watch(path: Path, face: Face, rate: float, skeleton: str | None, seen: Seen) -> None:
    from mer.media.face import FaceFollower, warp
    from mer.media.flow import flow

    times = video.presentation_times(path)
    if not times.size:
        seen.trouble = "no frame can be decoded"
        return
    moments = times[choose(times, seen.end, SHOWN)[0]].tolist()
    follower = FaceFollower(face, path, path.parent)
    bones = _skeleton(rate, skeleton, seen)
    before: tuple[float, np.ndarray] | None = None
    for frame in _looked_at(path, rate):
        # Of the pictures that are looked at, so that flow is over equal times, the first from each moment on.
        wanted = bool(moments) and frame.until > moments[0] + 1e-6
        moments = [t for t in moments if t >= frame.until - 1e-6]
        if bones is not None:
            try:
                bones.see(frame)
            except UserError as error:
                seen.skeleton, bones = error.problem, None
        height, width = frame.rgb().shape[:2]
        faces = follower.look(frame)
        for found in faces:
            if not found.seen:
                continue
            x0, y0, x1, y1 = found.box
            place = (frame.time, float(x0 + x1) / 2 / width, float(y0 + y1) / 2 / height, float(y1 - y0) / height)
            seen.path.setdefault(found.track, []).append(place)
            matrix = follower.matrix(found, CROP)
            if matrix is not None:
                seen.crops.setdefault(found.track, []).append((frame.time, warp(frame.rgb(), matrix, CROP)))
        small = frame.picture((HEIGHT, _width(height, width)), "none").transpose(1, 2, 0)
        scale = np.array([small.shape[1] / width, HEIGHT / height])
        gray = small.mean(axis=2).astype(np.uint8)
        field_ = None
        if before is not None:
            field_ = flow(before[1], gray)
            seen.motion.append((frame.time, float(np.hypot(*field_).mean()) / (frame.time - before[0])))
        if wanted:
            seen.shown.append(Shown(frame.time, frame.until, small, scale, faces, field_))
        before = frame.time, gray
    seen.chosen = follower.chosen()
    if bones is not None:
        try:
            seen.skeleton = bones.result()
        except UserError as error:
            seen.skeleton = error.problem


def _width(height: int, width: int) -> int:
    """Of a shown picture; strips are squeezed to what flow can be computed on and a page can hold."""
    return min(max(round(width * HEIGHT / height), 16), 4 * HEIGHT)


def _looked_at(path: Path, rate: float) -> Iterator[Frame]:
    """Frames at a rate; of a clip that is shorter than half a tick, and of a photograph, the only one."""
    ticks, last = Ticks(rate, 0.0, None), None
    for frame in video.frames(path):
        last = frame
        if ticks.take(frame):
            yield frame
    if last is not None and ticks.rest():
        yield last


def _skeleton(rate: float, backend: str | None, seen: Seen) -> Any:
    """The skeleton's view, or None with the reason noted."""
    if backend is None:
        seen.skeleton = "not asked for"
        return None
    from mer.media.pose import Skeletons

    try:
        return Skeletons(
            Ticks(rate, 0.0, None), InputSpec("pose", rate=rate, backend=backend, layout=_layout(backend).name)
        )
    except UserError as error:
        seen.skeleton = error.problem
        return None


def _layout(backend: str) -> Layout:
    return layout("mediapipe75" if backend == "mediapipe-hands" else "mediapipe33")


def draw(title: str, seen: Seen, file: Path, backend: str = "mediapipe") -> None:
    """Write the page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    pictures, text = bool(seen.shown), 0.3
    heights: dict[str, float] = {}  # inches
    if pictures:
        height, width = seen.shown[0].picture.shape[:2]
        row = 0.2 + WIDTH / max(len(seen.shown), LEAST) * height / width
        crops = min(sum(len(seen.crops.get(track, ())) for track in seen.chosen), CROPS)
        heights = {
            "pictures": row,
            "crops": 0.25 + WIDTH / COLUMNS * -(-crops // COLUMNS) if crops else text,
            "skeleton": row if isinstance(seen.skeleton, Stream) else text,
        } | ({"motion": row} if seen.motion else {})
    curves = {"tracks": 1.5, "moving": 0.9} if seen.motion else {}
    curves |= {"sound": 1.1} if isinstance(seen.wave, np.ndarray) else {}
    heights["time"] = 0.2 + sum(curves.values()) if curves else text
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    figure = plt.figure(figsize=(WIDTH + 0.4, 0.5 + sum(heights.values())), layout=tight)
    stacked = figure.subfigures(len(heights), 1, height_ratios=list(heights.values()), squeeze=False)[:, 0]
    parts = dict(zip(heights, stacked, strict=True))
    whole = "   ".join(part for part in (title, f"{seen.end:.1f} s", seen.trouble) if part)
    figure.suptitle(whole, x=0.01, ha="left", fontsize=11)
    if pictures:
        _pictures(parts["pictures"], seen)
        _crops(parts["crops"], seen)
        _bones(parts["skeleton"], seen, _layout(backend))
        if "motion" in parts:
            _motion(parts["motion"], seen)
    _over_time(parts["time"], curves, seen)
    with draft_of(file) as draft:
        figure.savefig(draft, dpi=100, format="png")
    plt.close(figure)


def _row(part: Any, seen: Seen, title: str) -> list[Any]:
    """Axes of equal size for the shown moments."""
    axes = list(part.subplots(1, max(len(seen.shown), LEAST), squeeze=False)[0])
    for ax in axes:
        ax.set_axis_off()
    axes = axes[: len(seen.shown)]
    for ax, shown in zip(axes, seen.shown, strict=True):
        ax.set_title(f"{shown.time:.2f} s", fontsize=7, pad=2)
    axes[0].text(-0.05, 0.5, title, transform=axes[0].transAxes, rotation=90, va="center", ha="right", fontsize=8)
    return axes


def _pictures(part: Any, seen: Seen) -> None:
    from matplotlib.patches import Rectangle

    for ax, shown in zip(_row(part, seen, "faces"), seen.shown, strict=True):
        ax.imshow(shown.picture)
        ax.set(xlim=(0, shown.picture.shape[1]), ylim=(shown.picture.shape[0], 0))
        for face in shown.faces:
            x0, y0, x1, y1 = face.box * np.tile(shown.scale, 2)
            colour, chosen = _colour(face.track), face.track in seen.chosen
            box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=2.0 if chosen else 1.0)
            box.set_linestyle("-" if face.seen else ":")
            ax.add_patch(box)
            ax.text(max(x0, 0), max(y0 - 2, 22), str(face.track), color="white", fontsize=7, va="bottom",
                    bbox={"fc": colour, "ec": "none", "pad": 1})  # fmt: skip
            if face.points is not None:
                ax.plot(*(face.points * shown.scale).T, ".", ms=2.5, color=colour)


def _crops(part: Any, seen: Seen) -> None:
    """A contact sheet of the chosen track's crops."""
    ax = part.subplots()
    ax.set_axis_off()
    crops = [(t, crop) for track in seen.chosen for t, crop in seen.crops.get(track, ())]
    if not crops:
        why = "no face" if not seen.path else "no face that is seen long enough, or none that can be aligned"
        ax.text(0.0, 0.5, f"crops: {why}", fontsize=9, transform=ax.transAxes)
        return
    columns, count = COLUMNS, min(CROPS, len(crops))
    picked = [crops[i][1] for i in np.linspace(0, len(crops) - 1, count).round().astype(int)]
    height, width = CROP
    sheet = np.full((-(-count // columns) * height, columns * width, 3), 255, np.uint8)
    for k, crop in enumerate(picked):
        y, x = k // columns * height, k % columns * width
        sheet[y : y + height, x : x + width] = crop
    ax.imshow(sheet)
    ax.set_title(
        f"{count} of {len(crops)} crops of track {', '.join(map(str, seen.chosen))}", fontsize=7, loc="left", pad=2
    )


def _bones(part: Any, seen: Seen, shape: Layout) -> None:
    if not isinstance(seen.skeleton, Stream):
        ax = part.subplots()
        ax.set_axis_off()
        ax.text(0.0, 0.5, f"skeleton: {seen.skeleton}", fontsize=9, transform=ax.transAxes)
        return
    spans = seen.skeleton.spans
    for ax, shown in zip(_row(part, seen, "skeleton"), seen.shown, strict=True):
        ax.imshow(shown.picture, alpha=0.55)
        shared = np.minimum(spans[:, 1], shown.until) - np.maximum(spans[:, 0], shown.time)
        if not (shared > 1e-3).any():
            continue
        points = seen.skeleton.values[int(shared.argmax())]
        xy, sure = points[:, :2] * shown.scale, points[:, 2] > 0.5
        for child, parent in shape.edges:
            if sure[child] and sure[parent]:
                ax.plot(*xy[[child, parent]].T, color="#d95f02", lw=1.2)
        ax.plot(*xy[sure].T, ".", color="#1b9e77", ms=3)
        height, width = shown.picture.shape[:2]
        ax.set(xlim=(0, width), ylim=(height, 0))


def _motion(part: Any, seen: Seen) -> None:
    """Direction as colour, length as strength."""
    from matplotlib.colors import hsv_to_rgb

    fields = [s.motion for s in seen.shown if s.motion is not None]
    # The median over the moments, so that a cut does not outshine everything.
    top = max(float(np.median([np.quantile(np.hypot(*f), 0.99) for f in fields])), 0.5) if fields else 0.5
    for ax, shown in zip(_row(part, seen, f"flow (full: {top:.1f} px)"), seen.shown, strict=True):
        if shown.motion is None:
            continue
        u, v = shown.motion
        hue, strength = (np.arctan2(v, u) / (2 * np.pi)) % 1.0, np.clip(np.hypot(u, v) / top, 0, 1)
        ax.imshow(hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)))


def _over_time(part: Any, curves: dict[str, float], seen: Seen) -> None:
    """Tracks, movement and sound on one clock."""
    if not curves:
        ax = part.subplots()
        ax.set_axis_off()
        ax.text(0.0, 0.5, f"sound: {seen.wave}", fontsize=9, transform=ax.transAxes)
        return
    rows = part.subplots(len(curves), 1, sharex=True, height_ratios=list(curves.values()), squeeze=False)[:, 0]
    draw = {"tracks": _tracks, "moving": _moving, "sound": _sound}
    for name, axes in zip(curves, rows, strict=True):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        draw[name](axes, seen)
    rows[-1].set_xlim(0, max(seen.end, 1e-3))
    note = "" if isinstance(seen.wave, np.ndarray) else f"; {seen.wave}"
    rows[-1].set_xlabel(f"seconds{note}", fontsize=8)
    part.align_ylabels(rows)


def _tracks(axes: Any, seen: Seen) -> None:
    axes.set_ylabel("faces: place\nacross, height", fontsize=8)
    for track, path in seen.path.items():
        time, x, _, size = _parted(np.array(path)).T
        chosen = track in seen.chosen
        alpha, name = (0.35, f"track {track} (target)") if chosen else (0.15, f"track {track}")
        axes.fill_between(time, x - size / 2, x + size / 2, color=_colour(track), alpha=alpha, lw=0, step="mid")
        axes.plot(time, x, ".", ms=2.5, color=_colour(track), label=name)
    axes.set_ylim(1, 0)
    if seen.path:
        axes.legend(fontsize=7, loc="upper right", ncols=6, frameon=False)


def _parted(path: np.ndarray) -> np.ndarray:
    """A track (N, 4) with a row of NaN wherever it was out of sight, so that nothing is drawn there."""
    gone = np.flatnonzero(np.diff(path[:, 0]) > GONE) + 1
    return np.insert(path, gone, np.nan, axis=0)


def _moving(axes: Any, seen: Seen) -> None:
    axes.set_ylabel("movement\n(pixels/s)", fontsize=8)
    if seen.motion:
        axes.fill_between(*np.array(seen.motion).T, color="#888888", lw=0)
        most = float(np.quantile([moved for _, moved in seen.motion], 0.97))  # a cut is no movement
        axes.set_ylim(0, 1.5 * max(most, 2.0))


def _sound(axes: Any, seen: Seen) -> None:
    """The waveform, with the speech in it shaded."""
    assert isinstance(seen.wave, np.ndarray)
    axes.set_ylabel("sound,\nspeech", fontsize=8)
    if not seen.wave.any():
        axes.text(0.5, 0.5, "the sound is silent", transform=axes.transAxes, ha="center", va="center", fontsize=9)
    step = max(1, len(seen.wave) // 2000)
    blocks = seen.wave[: len(seen.wave) // step * step].reshape(-1, step)
    time = (np.arange(len(blocks)) + 0.5) * step / HEARD
    axes.fill_between(time, blocks.min(1), blocks.max(1), color="#666666", lw=0)
    for begin, until in seen.speech:
        axes.axvspan(begin, until, color="#1b9e77", alpha=0.2, lw=0)


def _colour(track: int) -> str:
    return COLOURS[track % len(COLOURS)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit status 1 where some clips could not be read, 2 where none could."""
    parser = argparse.ArgumentParser(prog="mer look", description=__doc__)
    parser.add_argument("media", nargs="+", type=Path, help="video files, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("look"), help="folder of the pages (look)")
    parser.add_argument("--detector", choices=("haar", "mediapipe"), default="haar", help="finds the faces (haar)")
    parser.add_argument("--align", choices=("square", "arcface"), default="square", help="of the crops (square)")
    parser.add_argument(
        "--target", choices=("largest", "central", "all"), default="largest", help="whose face (largest)"
    )
    parser.add_argument("--skeleton", choices=("mediapipe", "mediapipe-hands", "none"), default="mediapipe")
    parser.add_argument("--speech", choices=("energy", "silero"), default="energy", help="finds the speech (energy)")
    parser.add_argument("--rate", type=float, default=10.0, help="pictures per second that are looked at (10)")
    given = parser.parse_args(argv)
    if not 0 < given.rate < 1000:
        raise UserError(f"--rate is {given.rate:g}", "Use pictures per second, above 0")
    face = Face(detector=given.detector, align=given.align, target=given.target)
    clips = media_files(given.media, VIDEO | SOUND | PICTURE)
    failed = 0
    for path, name in tqdm(
        list(zip(clips, result_names(clips), strict=True)), "look", disable=len(clips) < 2, leave=False
    ):
        try:
            backend = None if given.skeleton == "none" else given.skeleton
            page = given.out / f"{name}_look.png"
            title = f"{path.name}   {given.detector}, {given.align}"
            draw(title, look(path, face, given.rate, backend, given.speech), page, given.skeleton)
            tqdm.write(str(page))
        except UserError as error:
            failed += 1
            tqdm.write(f"mer look: {error}")
    return 0 if not failed else 1 if failed < len(clips) else 2
