#!/usr/bin/env bash
# The eye recordings of the IER study from their csv files to five trained, scored folds of people. Every step is skipped when its
# result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/eye_ier.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder of the csv files, or of recordings.npz
# WORK     folder for the manifest and the run (default: the working directory)
# OPTIONS  of mer crossval, e.g. --trainer.max_epochs 5; the same ones each time
set -euo pipefail
root=${1:?usage: bash data_prep/eye_ier.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/eye_ier

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare eye_ier --root "$root" --out "$data" || [ -s "$data/manifest.csv" ]
fi
mer crossval --config "$here/configs/eye_ier/condition.yaml" --data.manifest "$data/manifest.csv" \
  --out "$work/runs/eye_ier" "${@:3}"
