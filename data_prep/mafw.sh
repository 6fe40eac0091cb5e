#!/usr/bin/env bash
# MAFW from the unpacked download to five trained, scored folds. Every step is skipped when its result is there, and a killed
# training goes on where it stopped: run the same line again.
#
#   bash data_prep/mafw.sh ROOT [WORK]
#
# ROOT    folder of the official download (see mer prepare mafw --help and data_prep/README.md)
# WORK    folder for sound, manifest and runs (default: the working directory)
# CONFIG  environment: config below configs/mafw (default: mma_dfer)
# PREPARE environment: further options of mer prepare, e.g. "--faces data/clips_faces"
set -euo pipefail
root=${1:?usage: bash data_prep/mafw.sh ROOT [WORK]}
work=${2:-.}
config=${CONFIG:-mma_dfer}
here=$(cd "$(dirname "$0")/.." && pwd)

# Sound of the videos, once each; a file that is half written has another name. A video without sound gives none.
videos=data/clips
sounds=data/audio_16k
if [ -d "$root/$videos" ] && command -v ffmpeg > /dev/null; then
  mkdir -p "$root/$sounds"
  for video in "$root/$videos"/*.mp4; do
    sound=$root/$sounds/$(basename "$video" .mp4).wav
    [ -s "$sound" ] && continue
    if ffmpeg -nostdin -loglevel error -y -i "$video" -vn -ac 1 -ar 16000 -f wav "$sound.part" 2> /dev/null; then
      mv "$sound.part" "$sound"
    else
      rm -f "$sound.part"
    fi
  done
fi

if [ ! -s "$work/data/mafw/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  # Clips of which nothing is there are listed, and no reason to stop.
  mer prepare mafw --root "$root" --out "$work/data/mafw" --skip-errors ${PREPARE:-} || [ -s "$work/data/mafw/manifest.csv" ]
fi
mer crossval --config "$here/configs/mafw/$config.yaml" --data.manifest "$work/data/mafw/manifest.csv" \
  --out "$work/runs/mafw_$config"
