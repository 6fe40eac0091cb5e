#!/usr/bin/env bash
# RAVDESS from the unpacked download to a trained, scored model (sound alone: action units are not part of the download).
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/ravdess.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with the unpacked Audio_Speech_Actors_01-24.zip and, for pictures, Video_Speech_Actor_*.zip
#          (https://zenodo.org/records/1188976, 24.8 GB in all, the speech audio alone 0.2 GB; CC BY-NC-SA 4.0)
# WORK     folder for the manifest and the run (default: data/ravdess and runs/ravdess_audio in the working directory)
# OPTIONS  of mer crossval, e.g. --trainer.max_epochs 5; the same ones each time
# PREPARE  environment: further options of mer prepare, e.g. "--skip-errors"
set -euo pipefail
root=${1:?usage: bash data_prep/ravdess.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -s "$work/data/ravdess/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  mer prepare ravdess --root "$root" --out "$work/data/ravdess" ${PREPARE:-} || [ -s "$work/data/ravdess/manifest.csv" ]
fi
mer crossval --config "$here/configs/ravdess/audio.yaml" --data.manifest "$work/data/ravdess/manifest.csv" \
  --out "$work/runs/ravdess_audio" "${@:3}"
