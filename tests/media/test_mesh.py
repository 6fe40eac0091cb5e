"""MediaPipe's face mesh: exact landmarks where it is installed, a clear word where it is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mer.errors import UserError
from mer.media import detectors, mesh, video
from mer.media.frame import Frame
from mer.media.mesh import FaceMesh, extent
from mer.spec import Face

installed = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="mediapipe is not installed")


@pytest.mark.parametrize("version", [None, "0.10.35"])
def test_without_the_right_mediapipe_the_error_gives_both_commands(
    version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    with pytest.raises(
        UserError, match=r"pip install -e '\.\[mediapipe\]'.*pip install --no-deps mediapipe==0\.10\.21"
    ):
        detectors.detector(Face(detector="mediapipe"), Path("a.mp4"), Path())


def test_the_identity_needs_no_package_and_changes_with_the_thresholds() -> None:
    face = Face(detector="mediapipe")
    assert mesh.VERSION in detectors.identity(face)
    assert detectors.identity(face) != detectors.identity(Face(detector="mediapipe", confidence=0.6))


@pytest.fixture(scope="module")
def finder() -> FaceMesh:
    return FaceMesh()


@pytest.mark.mediapipe
@installed
def test_there_is_nobody_in_noise(finder: FaceMesh) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    assert finder.find(Frame(noise, 0, 0.0, 0.04)) == []


@pytest.mark.mediapipe
@installed
def test_it_shares_the_environment_and_says_nothing(tmp_path: Path) -> None:
    script = (
        "import torch, numpy as np, torch.utils.tensorboard\n"
        "from mer.media.frame import Frame\n"
        "from mer.media.mesh import FaceMesh\n"
        "print(len(FaceMesh().find(Frame(np.zeros((120, 160, 3), np.uint8), 0, 0.0, 0.04))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.mediapipe
@pytest.mark.real
@installed
def test_landmarks_lie_on_the_face(finder: FaceMesh, real_data: Path) -> None:
    file = real_data / "video_samples/pyfeat/single_face.jpg"
    if not file.is_file():
        pytest.skip("no video_samples")
    (frame,) = video.frames(file)
    (face,) = finder.find(frame)
    assert finder.find(frame)[0] is face, "found once per frame, for all who ask"
    x0, y0, x1, y1 = extent(face.points)
    left, right, nose, mouth_left, mouth_right = face.points[[468, 473, 4, 61, 291], :2]
    assert x0 < left[0] < nose[0] < right[0] < x1
    assert y0 < left[1] < nose[1] < mouth_left[1] < y1
    assert mouth_left[0] < mouth_right[0]
    # The same face, half as large and elsewhere in a larger picture, has the same landmarks.
    half = np.ascontiguousarray(frame.rgb()[::2, ::2])
    wide = np.zeros((half.shape[0] + 100, half.shape[1] + 300, 3), np.uint8)
    wide[60 : 60 + half.shape[0], 200 : 200 + half.shape[1]] = half
    (moved,) = finder.find(Frame(wide, 0, 0.0, 0.04))
    away = np.linalg.norm(moved.points[:, :2] - (face.points[:, :2] / 2 + [200, 60]), axis=1)
    assert np.median(away) < 0.03 * (x1 - x0) / 2
