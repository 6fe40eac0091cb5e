#!/usr/bin/env bash
# CREMA-D from the clone of its repository to a trained, scored model of sound and picture.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/crema_d.sh ROOT [WORK]
#
# ROOT  clone of https://github.com/CheyneyComputerScience/CREMA-D with its media ('git lfs pull'; ODbL 1.0): AudioWAV,
#       VideoFlash, processedResults/summaryTable.csv, VideoDemographics.csv
# WORK  folder for the manifest and the run (default: data/crema_d and runs/crema_d in the working directory)
set -euo pipefail
root=${1:?usage: bash data_prep/crema_d.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/crema_d

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare crema_d --root "$root" --out "$data"
fi
mer crossval --config "$here/configs/crema_d/audio_video.yaml" --data.manifest "$data/manifest.csv" \
  --data.frame_cache "$work/cache/crema_d" --out "$work/runs/crema_d"
