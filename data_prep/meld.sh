#!/usr/bin/env bash
# MELD from the unpacked download to a trained, scored model of words and sound (a GPU is needed in practice).
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/meld.sh ROOT [WORK]
#
# ROOT  folder with the unpacked MELD.Raw.tar.gz and the archives in it (https://affective-meld.github.io, some 10 GB; GPL-3.0):
#       train_splits, dev_splits_complete, output_repeated_splits_test and the three *_sent_emo.csv
# WORK  folder for the manifest and the run (default: data/meld and runs/meld in the working directory)
set -euo pipefail
root=${1:?usage: bash data_prep/meld.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/meld
run=$work/runs/meld

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare meld --root "$root" --out "$data"
fi
for name in roberta-base hubert-base-ls960; do
  mer weights fetch "$name"
done
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/meld/text_audio.yaml" --data.manifest "$data/manifest.csv" --out "$run"
fi
if ! compgen -G "$run/scores_*.csv" >/dev/null; then
  mer test --config "$run/config.yaml"
fi
