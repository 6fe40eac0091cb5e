#!/usr/bin/env bash
# CREMA-D from the clone of its repository to a trained, scored model of sound and picture.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/crema_d.sh ROOT [WORK] [OPTIONS]
#
# ROOT     clone of https://github.com/CheyneyComputerScience/CREMA-D with its media ('git lfs pull'; ODbL 1.0): AudioWAV,
#          VideoFlash, processedResults/summaryTable.csv, VideoDemographics.csv
# WORK     folder for the manifest and the run (default: data/crema_d and runs/crema_d in the working directory)
# OPTIONS  of mer crossval, e.g. --trainer.max_epochs 5; the same ones each time
# PREPARE  environment: further options of mer prepare, e.g. "--label both"
set -euo pipefail
root=${1:?usage: bash data_prep/crema_d.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/crema_d

if [ ! -s "$data/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  mer prepare crema_d --root "$root" --out "$data" ${PREPARE:-} || [ -s "$data/manifest.csv" ]
fi
mer crossval --config "$here/configs/crema_d/audio_video.yaml" --data.manifest "$data/manifest.csv" \
  --data.frame_cache "$work/cache/crema_d" --out "$work/runs/crema_d" "${@:3}"
