#!/usr/bin/env bash
# Tests crossdock::torch and the Python package on a CUDA device:
#   cuda_doors.sh          builds both, then runs their tests on device 0
#   cuda_doors.sh build    only builds, into build/cuda-doors; needs a CUDA compiler, and no device
#   cuda_doors.sh run      only runs what was built, here or on another machine that the folder was copied to; needs
#                          neither compilers nor the packages that the build needs
# PYTHON (python3 unless set) has torch, pytest and pytest-timeout. TORCH is the folder of the torch to build against, if
# it is not that of PYTHON. CUDA_ARCHITECTURES is as CMake's, native unless set.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/cuda-doors
python=${PYTHON:-python3}

torch_folder() {
  echo "${TORCH:-$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent)')}"
}

build() {
  local architectures=${CUDA_ARCHITECTURES:-native}
  cmake -G Ninja -S . -B "$folder/cmake" -D CMAKE_BUILD_TYPE=Release -D CMAKE_PREFIX_PATH="$(torch_folder)/share/cmake" \
    -D CROSSDOCK_BUILD_TORCH_ADAPTER=ON -D CROSSDOCK_BUILD_TESTS=OFF -D CROSSDOCK_BUILD_TOOLS=OFF -D CROSSDOCK_CUDA=ON \
    -D CMAKE_CUDA_ARCHITECTURES="$architectures" > /dev/null
  cmake --build "$folder/cmake" --parallel "${JOBS:-$(nproc)}" --target torch_adapter_test
  rm -rf "$folder/carried"
  mkdir "$folder/carried"
  cp "$folder/cmake/bin/torch_adapter_test" "$folder/carried"
  # What the library needs and another machine may lack.
  ldd "$folder/cmake/lib/libcrossdock.so" | awk '$1 ~ /^lib(sodium|spdlog|hwy|fmt)/ {print $3}' |
    xargs -I '{}' cp --dereference '{}' "$folder/carried"
  cp --dereference "$folder"/cmake/lib/libcrossdock.so.?.? "$folder/carried"
  PYTHON="$python" WHEEL="$folder/carried/wheel" SKBUILD_CMAKE_DEFINE="CMAKE_CUDA_ARCHITECTURES=$architectures" \
    scripts/build_wheel.sh
}

run() {
  local libraries failed=0
  libraries="$PWD/$folder/carried:$(torch_folder)/lib"
  # Ranks that are threads wait for each other on the device: each needs a connection of its own, and loading a kernel
  # waits for those that run.
  local threads=(env CUDA_DEVICE_MAX_CONNECTIONS=32 CUDA_MODULE_LOADING=EAGER)
  LD_LIBRARY_PATH="$libraries" "${threads[@]}" timeout 300 "$folder/carried/torch_adapter_test" --device=cuda:0 || failed=1
  rm -rf "$folder/site"
  "$python" -m pip install --quiet --no-index --no-deps --target "$folder/site" "$folder"/carried/wheel/*.whl
  export PYTHONPATH="$folder/site"
  # Tests that are named after CUDA, and those of every device in their CUDA variant.
  "${threads[@]}" timeout 600 "$python" -m pytest --quiet -k "cuda and not processes and not program" "$@" || failed=1
  timeout 600 scripts/cuda_mps.sh "$python" -m pytest --quiet -k "cuda and (processes or program)" "$@" || failed=1
  return "$failed"
}

case "${1:-}" in
  "") build && run ;;
  build) build ;;
  run) shift && run "$@" ;;
  *)
    echo "cuda_doors: unknown argument '$1'; allowed: build, run" >&2
    exit 2
    ;;
esac
