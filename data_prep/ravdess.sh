#!/usr/bin/env bash
# RAVDESS from the unpacked download to a trained, scored model (sound alone: action units are not part of the download).
# Every step is skipped when its result is there, and a
# killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/ravdess.sh ROOT [WORK]
#
# ROOT  folder with the unpacked Audio_Speech_Actors_01-24.zip and, for pictures, Video_Speech_Actor_*.zip
#       (https://zenodo.org/records/1188976, 24.8 GB in all, the speech audio alone 0.2 GB; CC BY-NC-SA 4.0)
# WORK  folder for the manifest and the run (default: data/ravdess and runs/ravdess_audio in the working directory)
set -euo pipefail
root=${1:?usage: bash data_prep/ravdess.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -s "$work/data/ravdess/manifest.csv" ]; then
  mer prepare ravdess --root "$root" --out "$work/data/ravdess"
fi
mer crossval --config "$here/configs/ravdess/audio.yaml" --data.manifest "$work/data/ravdess/manifest.csv" \
  --out "$work/runs/ravdess_audio"
