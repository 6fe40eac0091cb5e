"""Video files that readers get wrong, written and read again by the ffmpeg program, which is the reference."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from media_files import with_matrix


def words(arguments: str) -> list[str]:
    """A command line as the program gets it."""
    return arguments.split()


H264 = words("-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 50")
OPEN_GOP = [*H264, "-x264-params", "open-gop=1:bframes=3:b-adapt=0:scenecut=0"]


@cache
def programs() -> tuple[str, ...]:
    """ffmpeg of the system and of the wheel, as far as they are there."""
    found = [shutil.which("ffmpeg")]
    try:
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        pass
    return tuple(path for path in found if path)


def ffmpeg(*arguments: str | Path) -> None:
    """Run the first program; its complaint is the error."""
    command = [programs()[0], "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def moving(
    seconds: float, size: str = "160x120", fps: int = 25, sound: bool = True, kind: str = "testsrc2="
) -> list[str]:
    """Input arguments: a picture in which no two neighbouring frames are equal, and a tone."""
    picture = ["-f", "lavfi", "-i", f"{kind}size={size}:rate={fps}:duration={seconds}"]
    return picture + (["-f", "lavfi", "-i", f"sine=440:duration={seconds}"] if sound else [])


def cut(path: Path, whole: Path, share: float = 0.55) -> Path:
    """The first part of a file's bytes."""
    raw = whole.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


def turned(path: Path, whole: Path) -> Path:
    """The same MP4 with a display matrix that turns the picture by a quarter."""
    path.write_bytes(whole.read_bytes())
    return with_matrix(path, (0, 1, -1, 0))


def nine(folder: Path) -> dict[str, Path]:
    """The nine kinds that every backend is held against, some hundred frames each."""
    made = {name: folder / name for name in NINE}
    aac = ["-c:a", "aac"]
    ffmpeg(*moving(8), *H264, *aac, made["closed.mp4"])
    ffmpeg(*moving(8), *OPEN_GOP, *aac, made["open.mp4"])
    ffmpeg("-ss", "1.33", "-i", made["open.mp4"], "-c", "copy", made["edit.mp4"])
    uneven = ["-vf", "select='not(mod(floor(n*n/7),3))'", "-fps_mode", "vfr"]
    ffmpeg(*moving(14), *uneven, *H264, *aac, made["vfr.mp4"])
    ffmpeg(*moving(8), *words("-c:v mpeg4 -vtag xvid -bf 2 -g 50 -q:v 4 -c:a mp2"), made["xvid.avi"])
    ffmpeg(
        *moving(6, sound=False), *words("-c:v libvpx -b:v 300k -g 50 -deadline realtime -cpu-used 16"), made["vp8.webm"]
    )
    turned(made["turned.mp4"], made["closed.mp4"])
    ffmpeg("-i", made["closed.mp4"], "-c", "copy", made["broadcast.ts"])
    ffmpeg("-i", made["closed.mp4"], "-c", "copy", "-movflags", "+faststart", folder / "front.mp4")
    cut(made["cut.mp4"], folder / "front.mp4")
    return made


NINE = (
    *("closed.mp4", "open.mp4", "edit.mp4", "vfr.mp4", "xvid.avi", "vp8.webm", "turned.mp4", "broadcast.ts", "cut.mp4"),
)


def more(folder: Path) -> dict[str, Path]:
    """Odd sizes, alpha, deep colours, other containers and codecs, and files without proper times."""
    made = {name: folder / name for name in MORE}
    short, vpx = moving(2, sound=False), words("-deadline realtime -cpu-used 8 -b:v 300k")
    ffmpeg(*moving(2, "65x49", sound=False), "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", *vpx, made["odd.webm"])
    ffmpeg(*moving(2, "65x49", sound=False), *H264, "-pix_fmt", "yuv444p", made["odd.mkv"])
    ffmpeg(*short, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", *vpx, made["alpha.webm"])
    ffmpeg(*short, *words("-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le"), made["alpha.mov"])
    ffmpeg(*short, "-c:v", "png", "-pix_fmt", "rgba", made["png.mov"])
    # Smooth colours: where chroma is stretched, conversions of deep colours differ by the filter.
    ffmpeg(*moving(2, sound=False, kind="gradients=speed=0.2:"), *H264, "-pix_fmt", "yuv420p10", made["ten.mp4"])
    ffmpeg(*short, *H264, "-colorspace", "bt709", "-color_range", "pc", "-pix_fmt", "yuvj420p", made["full.mp4"])
    ffmpeg(*moving(2, fps=10, sound=False), made["moving.gif"])
    ffmpeg(*short, *H264, "-frames:v", "1", made["single.mp4"])
    ffmpeg(*short, *words("-c:v libx265 -preset ultrafast -g 20 -x265-params log-level=none"), made["hevc.mp4"])
    hidden = words("-c:v libvpx -b:v 200k -g 25 -auto-alt-ref 1 -lag-in-frames 16 -deadline good -cpu-used 5")
    passes = ["-passlogfile", folder / "passes"]
    ffmpeg(*moving(4, sound=False), *hidden, "-pass", "1", *passes, "-f", "null", "-")
    ffmpeg(*moving(4, sound=False), *hidden, "-pass", "2", *passes, made["hidden.webm"])
    ffmpeg(*short, *H264, "-bf", "0", made["bare.h264"])  # a stream without a single time
    ffmpeg(*short, *words("-c:v mpeg4 -bf 2 -g 25"), made["part2.mp4"])
    ffmpeg(*moving(4, sound=False), *H264, folder / "whole.mkv")
    cut(made["cut.mkv"], folder / "whole.mkv")
    ffmpeg("-i", folder / "whole.mkv", *words("-c copy -movflags +frag_keyframe+empty_moov"), made["pieces.mp4"])
    cut(made["cut_pieces.mp4"], made["pieces.mp4"])
    # A bad stretch in the middle: pictures go wrong or missing there, and all is well behind the next key picture.
    raw = bytearray((folder / "whole.mkv").read_bytes())
    middle = len(raw) * 3 // 10
    raw[middle : middle + 400] = bytes(np.random.default_rng(0).integers(0, 256, 400, np.uint8))
    made["scratched.mkv"].write_bytes(raw)
    return made


MORE = (
    *("odd.webm", "odd.mkv", "alpha.webm", "alpha.mov", "png.mov", "ten.mp4", "full.mp4", "moving.gif", "single.mp4"),
    *("hevc.mp4", "hidden.webm", "bare.h264", "part2.mp4", "cut.mkv", "pieces.mp4", "cut_pieces.mp4", "scratched.mkv"),
)


@dataclass(frozen=True)
class Reference:
    """What the ffmpeg program shows: frames (F, H, W, 3) uint8 and their times (F,) in seconds."""

    frames: np.ndarray
    times: np.ndarray


def reference(program: str, path: Path) -> Reference:
    """Every frame of a file, upright, as the program gives it."""
    command = [program, "-hide_banner", "-nostats", "-copyts", "-i", str(path), "-map", "0:v:0", "-vf", "showinfo"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    said = done.stderr.decode(errors="replace")
    times = [float(seconds) for seconds in re.findall(r"Parsed_showinfo.* pts_time:(-?[\d.]+)", said)]
    began = re.search(r"Duration: .*, start: (-?[\d.]+)", said)  # where the container's clock begins, sound included
    width, height = re.findall(r"Video: rawvideo.*?, (\d+)x(\d+)", said)[-1]
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3)
    return Reference(frames, np.array(times) - float(began[1] if began else 0))
