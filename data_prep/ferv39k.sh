#!/usr/bin/env bash
# FERV39k from the unpacked download to a trained, scored model. Every step is skipped when its result is there, and a killed
# training goes on where it stopped: run the same line again.
#
#   bash data_prep/ferv39k.sh ROOT [WORK]
#
# ROOT  folder of the official download, with 2_ClipsforFaceCrop and the lists (see data_prep/README.md)
# WORK  folder for the manifest and the run (default: the working directory)
set -euo pipefail
root=${1:?usage: bash data_prep/ferv39k.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
run=$work/runs/ferv39k_faces

if [ ! -s "$work/data/ferv39k/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  # Clips of which nothing is there are listed, and no reason to stop.
  mer prepare ferv39k --root "$root" --out "$work/data/ferv39k" --skip-errors ${PREPARE:-} \
    || [ -s "$work/data/ferv39k/manifest.csv" ]
fi
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/ferv39k/faces.yaml" --data.manifest "$work/data/ferv39k/manifest.csv" --out "$run"
fi
mer test --config "$run/config.yaml"
