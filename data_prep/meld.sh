#!/usr/bin/env bash
# MELD from the unpacked download to a trained, scored model of words and sound (a GPU is needed in practice).
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/meld.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with the unpacked MELD.Raw.tar.gz and the archives in it (https://affective-meld.github.io, some 10 GB; GPL-3.0):
#          train_splits, dev_splits_complete, output_repeated_splits_test and the three *_sent_emo.csv
# WORK     folder for the manifest and the run (default: data/meld and runs/meld in the working directory)
# OPTIONS  of mer fit, e.g. --trainer.max_epochs 5; the same ones each time
# PREPARE  environment: further options of mer prepare, e.g. "--skip-errors"
set -euo pipefail
root=${1:?usage: bash data_prep/meld.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/meld
run=$work/runs/meld

if [ ! -s "$data/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  mer prepare meld --root "$root" --out "$data" ${PREPARE:-} || [ -s "$data/manifest.csv" ]
fi
if [ -z "${MER_OVERLAY:-}" ]; then # an overlay makes other encoders, which take no weights
  mer weights fetch roberta-base
  mer weights fetch hubert-base-ls960
fi
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/meld/text_audio.yaml" --data.manifest "$data/manifest.csv" --out "$run" \
    "${@:3}"
fi
if [ ! -s "$run/test.json" ]; then
  mer test --config "$run/config.yaml"
fi
