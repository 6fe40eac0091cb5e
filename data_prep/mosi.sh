#!/usr/bin/env bash
# CMU-MOSI from packaged features to a trained, scored model of words, voice and face, review by review.
# Every step is skipped when its result is there, and a killed training goes on where it stopped: run the same line again.
#
#   bash data_prep/mosi.sh ROOT [WORK] [OPTIONS]
#
# ROOT     folder with train.npz and test_dev.npz. From recordings (http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset, on
#          request) 'mer prepare mosi' makes a manifest of films, sounds and words, for which there is no config yet.
# WORK     folder for the manifest and the run (default: data/mosi and runs/mosi in the working directory)
# OPTIONS  of mer fit, e.g. --trainer.max_epochs 5; the same ones each time
set -euo pipefail
root=${1:?usage: bash data_prep/mosi.sh ROOT [WORK] [OPTIONS]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
data=$work/data/mosi
run=$work/runs/mosi

if [ ! -s "$data/manifest.csv" ]; then
  mer prepare mosi --root "$root" --out "$data" --form features --level review
fi
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/mosi/all.yaml" --data.manifest "$data/manifest.csv" --out "$run" "${@:3}"
fi
if [ ! -s "$run/test.json" ]; then
  mer test --config "$run/config.yaml"
fi
