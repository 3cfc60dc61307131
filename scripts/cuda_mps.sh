#!/usr/bin/env bash
# Runs a command with an MPS daemon of its own, as ranks that are processes need it to use one CUDA device at a time:
#   cuda_mps.sh COMMAND [ARGUMENT...]
set -euo pipefail

folder=$(mktemp -d)
export CUDA_MPS_PIPE_DIRECTORY="$folder/pipe" CUDA_MPS_LOG_DIRECTORY="$folder/log"
mkdir "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
finish() {
  echo quit | nvidia-cuda-mps-control > /dev/null
  rm -rf "$folder"
}
nvidia-cuda-mps-control -d
trap finish EXIT
"$@"
