#!/usr/bin/env bash
# What a launch costs on CUDA device 0, and how fast rows can be copied there: the figures of docs/cuda.md that are not of
# whole operations. Builds the program unless it is given.
#   cuda_limits.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-build/bin/cuda_limits}
if [ $# -eq 0 ]; then
  cmake --preset release > /dev/null
  cmake --build build --target cuda_limits > /dev/null
fi
for shape in "2 64" "8 16" "8 8" "8 4"; do
  read -r ranks sms <<< "$shape"
  echo "$ranks ranks, $sms multiprocessors each"
  scripts/cuda_mps.sh "$program" --ranks "$ranks" --sms "$sms"
done
