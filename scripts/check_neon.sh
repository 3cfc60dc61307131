#!/usr/bin/env bash
# The SIMD loops compile for 64-bit Arm: compiles them with a cross compiler and looks for the NEON versions. Runs nothing.
# Needs g++-aarch64-linux-gnu (install_dependencies.sh cross). The headers of Highway and fmt are the same on every machine.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/include"
ln -s /usr/include/hwy /usr/include/fmt "$scratch/include/"

for name in kernels low_latency_kernels; do
  aarch64-linux-gnu-g++ -std=c++20 -O2 -Wall -Wextra -Werror -Iinclude -Isrc -isystem "$scratch/include" \
    -c "src/backend/host/$name.cpp" -o "$scratch/$name.o"
  count=$(aarch64-linux-gnu-nm -C "$scratch/$name.o" | grep -c 'N_NEON' || true)
  if [ "$count" -eq 0 ]; then
    echo "check_neon: src/backend/host/$name.cpp has no NEON version" >&2
    exit 1
  fi
  echo "check_neon: $name.cpp compiles for NEON ($count symbols)"
done
