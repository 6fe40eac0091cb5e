#!/usr/bin/env bash
# EMO-DB from the unpacked download to a model scored on each speaker in turn: four classes, sound alone.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/emodb.sh ROOT [WORK]
#
# ROOT  folder with the unpacked download.zip (http://emodb.bilderbar.info, 40 MB; free): wav/03a01Fa.wav ...
# WORK  folder for the manifest and the run (default: data/emodb and runs/emodb in the working directory)
set -euo pipefail
root=${1:?usage: bash data_prep/emodb.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/emodb

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare emodb --root "$root" --out "$data" --classes 4
fi
mer crossval --config "$here/configs/emodb/audio.yaml" --data.manifest "$data/manifest.csv" --out "$work/runs/emodb"
