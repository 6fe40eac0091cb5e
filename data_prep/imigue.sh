#!/usr/bin/env bash
# iMiGUE from the unpacked download to trained, scored models of gestures and of the emotion. Every step is skipped when its result
# is there, and a killed step goes on where it stopped: run the same line again.
#
#   bash data_prep/imigue.sh ROOT [WORK]
#
# ROOT  folder with the unpacked data set (Label, mg_skeleton_only, iMiGUE_RGB_Phase1 and 2), handed out on a signed agreement by
#       the University of Oulu (https://github.com/linuxsino/iMiGUE), or with the unpacked archives of a MiGA challenge (imigue_data_*,
#       imigue_rgb_*, and of the emotion track its label files); research only
# WORK  folder for everything that is made (default: the working directory). Skeletons take 5 GB and some hours of one core (all
#       cores are used), frames 40 GB as JPEG, features of the interviews 0.4 GB.
#
# Weights: `mer weights fetch mvit_v2_s-kinetics400` fetches one; `mer weights show swinface` says where the other is to be had.
set -euo pipefail
root=${1:?usage: bash data_prep/imigue.sh ROOT [WORK]}
work=${2:-.}
here=$(cd "$(dirname "$0")/.." && pwd)
gestures=$work/data/imigue
emotion=$work/data/imigue_emotion

# 1. Manifests; pose files are converted once, for both.
if [ ! -s "$gestures/manifest.csv" ]; then
  mer prepare imigue --root "$root" --out "$gestures"
fi
if [ ! -s "$emotion/manifest.csv" ]; then
  mkdir -p "$emotion"
  for made in skeletons faces; do
    if [ -d "$gestures/$made" ]; then ln -sfn "$(cd "$gestures" && pwd)/$made" "$emotion/$made"; fi
  done
  mer prepare imigue --root "$root" --out "$emotion" --task emotion
fi

# 2. Gestures: skeletons alone, validated by folds without a common person; then skeletons and picture, each frame decoded once.
mer crossval --config "$here/configs/imigue/gesture_skeleton.yaml" --data.manifest "$gestures/manifest.csv" \
  --out "$work/runs/imigue_skeleton_folds"
run=$work/runs/imigue_gesture
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$here/configs/imigue/gesture.yaml" --data.manifest "$gestures/manifest.csv" --out "$run" \
    --data.frame_cache "$work/data/imigue_frames" --data.frame_form jpeg
fi
if [ ! -s "$run/scores_gesture.csv" ]; then mer test --config "$run/config.yaml"; fi

# 3. Emotion: tokens of the frozen encoders, then the fusion.
config=$here/configs/imigue/emotion.yaml
told=(--data.manifest "$emotion/manifest.csv" --data.store "$work/features/imigue")
mer extract --config "$config" --manifest "$emotion/manifest.csv" --store "$work/features/imigue"
mer crossval --config "$config" "${told[@]}" --out "$work/runs/imigue_emotion_folds"
run=$work/runs/imigue_emotion
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$config" "${told[@]}" --out "$run"
fi
if [ ! -s "$run/scores_emotion.csv" ]; then mer test --config "$run/config.yaml"; fi
