#!/usr/bin/env bash
# EMER from the unpacked download to a trained, scored model. Every step is skipped when its result is there, eye workbooks that
# were read are not read again, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/emer.sh ROOT [WORK] [PROTOCOL] [OPTIONS of mer prepare emer ...]
#
# ROOT      folder with 'eye_movement data', 'face video', 'face_light_align image', EMER_label.xlsx and emer_set.txt, or with
#           smead_cross of the released code. The corpus is given to permanent academics who sign its licence:
#           https://github.com/qyqyqyi/EMER
# WORK      folder for the manifest and the run (default: the working directory)
# PROTOCOL  er7, er3, er_va, fer7, fer3, fer_va or fer_intensity (default: er7)
# OPTIONS   what the tables do not say by themselves, e.g. --labels fer --emotion-order happiness,sadness,... --validity one
set -euo pipefail
root=${1:?usage: bash data_prep/emer.sh ROOT [WORK] [PROTOCOL] [OPTIONS]}
work=${2:-.}
protocol=${3:-er7}
here=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -s "$work/data/emer/manifest.csv" ]; then
  mer prepare emer --root "$root" --out "$work/data/emer" "${@:4}"
fi
mer crossval --config "$here/configs/emer/$protocol.yaml" --data.manifest "$work/data/emer/manifest.csv" \
  --out "$work/runs/emer_$protocol"
