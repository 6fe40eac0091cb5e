#!/usr/bin/env bash
# ICT-MMMO from packaged features to a trained model of voice and face, scored where there is a test part.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/mmmo.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with mmmo_train.npz, mmmo_valid.npz and, who has it, mmmo_test.npz (features only; recordings: ask the authors)
# WORK     folder for the manifest and the run (default: data/mmmo and runs/mmmo in the working directory)
# OPTIONS  of mer fit, e.g. --trainer.max_epochs 5; the same ones each time
set -euo pipefail
root=${1:?usage: bash data_prep/mmmo.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/mmmo
run=$work/runs/mmmo

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare mmmo --root "$root" --out "$data"
fi
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/mmmo/audio_video.yaml" --data.manifest "$data/manifest.csv" --out "$run" "${@:3}"
fi
if [ -s "$root/mmmo_test.npz" ]; then
  [ -s "$run/test.json" ] || mer test --config "$run/config.yaml"
else
  mer validate --config "$run/config.yaml"
fi
