#!/usr/bin/env bash
# Builds crossdock::torch against the torch of the virtual environment that scripts/test_python.sh makes, and runs its
# tests and its example.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=build/torch-adapter
torch=$(build/venv/bin/python -c 'import torch; print(torch.utils.cmake_prefix_path)')
cmake -G Ninja -S . -B "$build" -D CMAKE_BUILD_TYPE=Release -D CMAKE_PREFIX_PATH="$torch" \
  -D CROSSDOCK_BUILD_TORCH_ADAPTER=ON -D CROSSDOCK_BUILD_TESTS=OFF -D CROSSDOCK_CUDA=OFF > /dev/null
cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target torch_adapter_test torch_moe_layer
ctest --test-dir "$build/adapters/torch" --output-on-failure
