#!/usr/bin/env bash
# EMO-DB from the unpacked download to a model scored on each speaker in turn: four classes, sound alone.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/emodb.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with the unpacked download.zip (http://emodb.bilderbar.info, 40 MB; free): wav/03a01Fa.wav ...
# WORK     folder for the manifest and the run (default: data/emodb and runs/emodb in the working directory)
# OPTIONS  of mer crossval, e.g. --trainer.max_epochs 5; the same ones each time
# PREPARE  environment: further options of mer prepare, e.g. "--skip-errors"
set -euo pipefail
root=${1:?usage: bash data_prep/emodb.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/emodb

if [ ! -s "$data/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  mer prepare emodb --root "$root" --out "$data" --classes 4 ${PREPARE:-} || [ -s "$data/manifest.csv" ]
fi
mer crossval --config "$here/configs/emodb/audio.yaml" --data.manifest "$data/manifest.csv" \
  --out "$work/runs/emodb" "${@:3}"
