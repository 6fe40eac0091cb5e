#!/usr/bin/env bash
# BAH from the unpacked download to a trained, scored model. Every step is skipped when its result is there, and a killed step
# goes on where it stopped: run the same line again.
#
#   bash data_prep/bah.sh ROOT [WORK] [LEVEL]
#
# ROOT   folder with Videos/, cropped-aligned-faces/, transcription/, split/ and video_annotation_transcript.yaml. A full-time
#        member of a faculty asks for it with a form and the signed EULA (see the authors' repository, sbelharbi/bah-dataset);
#        the zip has about 9.6 GB, research only. The released version may not be used for challenges.
# WORK   folder for the manifest, the cached tokens and the run (default: the working directory)
# LEVEL  video (default) or frame
#
# Weights: `mer weights list` names them; video needs videomae-base, hubert-large-ll60k and roberta-base; frame needs mae-face
# (by hand), wav2vec2-base and bert-base-uncased. A GPU is needed for `video`, and saves days of `extract` for `frame`.
set -euo pipefail
root=${1:?usage: bash data_prep/bah.sh ROOT [WORK] [video|frame]}
work=${2:-.}
level=${3:-video}
case "$level" in video | frame) ;; *)
  echo "LEVEL is video or frame, not $level" >&2
  exit 2
  ;;
esac
here=$(cd "$(dirname "$0")/.." && pwd)
data="$work/data/bah_$level"
run="$work/runs/bah_$level"
config="$here/configs/bah/$level.yaml"

# 1. manifest, repaired transcripts, labels of frames
if [ ! -s "$data/manifest.csv" ]; then
  mer prepare bah --root "$root" --out "$data" --level "$level"
fi
# 2. how much the number of the question tells by itself
if [ ! -s "$work/runs/bah_question/model.safetensors" ]; then
  mer fit --config "$here/configs/bah/question.yaml" --data.manifest "$data/manifest.csv" --out "$work/runs/bah_question"
fi
# 3. tokens of encoders that do not train, once
store=()
if [ "$level" = frame ]; then
  mer extract --config "$config" --manifest "$data/manifest.csv" --store "$work/data/bah_store"
  store=(--data.store "$work/data/bah_store")
fi
# 4. training, and the test
if [ ! -s "$run/model.safetensors" ]; then
  mer fit --config "$config" --data.manifest "$data/manifest.csv" --out "$run" ${store[@]+"${store[@]}"}
fi
if [ ! -s "$work/runs/bah_question/test.json" ]; then
  mer test --config "$work/runs/bah_question/config.yaml"
fi
if [ ! -s "$run/test.json" ]; then
  mer test --config "$run/config.yaml"
fi
