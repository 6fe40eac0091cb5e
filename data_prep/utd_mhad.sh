#!/usr/bin/env bash
# UTD-MHAD from the unpacked download to a trained, scored model of skeletons.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/utd_mhad.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with the unpacked Skeleton.zip (https://personal.utdallas.edu/~kehtar/UTD-MHAD.html; free for research)
# WORK     folder for the manifest and the run (default: data/utd_mhad and runs/utd_mhad in the working directory)
# OPTIONS  of mer fit, e.g. --trainer.max_epochs 5; the same ones each time
# PREPARE  environment: further options of mer prepare, e.g. "--skip-errors"
set -euo pipefail
root=${1:?usage: bash data_prep/utd_mhad.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/utd_mhad
run=$work/runs/utd_mhad

if [ ! -s "$data/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  mer prepare utd_mhad --root "$root" --out "$data" ${PREPARE:-} || [ -s "$data/manifest.csv" ]
fi
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/utd_mhad/compact.yaml" --data.manifest "$data/manifest.csv" --out "$run" \
    "${@:3}"
fi
if [ ! -s "$run/test.json" ]; then
  mer test --config "$run/config.yaml"
fi
