#!/usr/bin/env bash
# Our networks against torchvision, timm, mmaction2 and librosa, and the bridges with the packages themselves. In an
# environment of its own: torchvision's wheel breaks others beside a CPU build of torch.
# MER_ORACLES names a folder to keep the environment in; without it a temporary one is made and removed (minutes).
set -euo pipefail
cd "$(dirname "$0")/../.."
place=${MER_ORACLES:-$(mktemp -d)}
[ -n "${MER_ORACLES:-}" ] || trap 'rm -rf "$place"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

if [ ! -e "$place/ready" ]; then
  python=$(command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
  "$python" -m venv "$place/venv"
  pip() { "$place/venv/bin/python" -m pip install --quiet "$@"; }
  pip -c constraints.txt -e '.[mmaction2,pytorchvideo]' 'pytest>=8' 'librosa>=0.11,<0.12'
  # Without their dependencies: these ask for other builds of OpenCV, which own the same folder as the headless one.
  pip --no-deps torchvision==0.28.0 timm==1.0.31 mmengine==0.10.7 mmcv-lite==2.1.0 mmaction2==1.2.0
  touch "$place/ready"
fi
PYTHONPATH=tests "$place/venv/bin/python" tests/oracles/oracles.py
"$place/venv/bin/python" -m pytest -q -W ignore tests/encoders/test_bridges.py
