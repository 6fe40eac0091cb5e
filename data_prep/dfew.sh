#!/usr/bin/env bash
# DFEW from the unpacked download to five trained, scored folds. Every step is skipped when its result is there, and a killed
# training goes on where it stopped: run the same line again.
#
#   bash data_prep/dfew.sh ROOT [WORK]
#
# ROOT    folder of the official download (see mer prepare dfew --help and data_prep/README.md)
# WORK    folder for sound, manifest and runs (default: the working directory)
# CONFIG  environment: config below configs/dfew (default: audio_faces)
# PREPARE environment: further options of mer prepare, e.g. "--labels-from 0"
set -euo pipefail
root=${1:?usage: bash data_prep/dfew.sh ROOT [WORK]}
work=${2:-.}
config=${CONFIG:-audio_faces}
here=$(cd "$(dirname "$0")/.." && pwd)

# Sound of the videos, once each; a file that is half written has another name. A video without sound gives none.
videos=raw
sounds=raw_wav
if [ -d "$root/$videos" ] && command -v ffmpeg > /dev/null; then
  mkdir -p "$root/$sounds"
  for video in "$root/$videos"/*.mp4; do
    sound=$root/$sounds/$(basename "$video" .mp4).wav
    [ -s "$sound" ] && continue
    if ffmpeg -nostdin -loglevel error -y -i "$video" -vn -ac 1 -f wav "$sound.part" 2> /dev/null; then
      mv "$sound.part" "$sound"
    else
      rm -f "$sound.part"
    fi
  done
fi

if [ ! -s "$work/data/dfew/manifest.csv" ]; then
  # shellcheck disable=SC2086  # several options
  # Clips of which nothing is there are listed, and no reason to stop.
  mer prepare dfew --root "$root" --out "$work/data/dfew" --skip-errors ${PREPARE:-} || [ -s "$work/data/dfew/manifest.csv" ]
fi
mer crossval --config "$here/configs/dfew/$config.yaml" --data.manifest "$work/data/dfew/manifest.csv" \
  --out "$work/runs/dfew_$config"
