#!/usr/bin/env bash
# Tests the Python package: test_python.sh [argument of pytest...]
# Makes a virtual environment in build/venv with torch and the other things that the tests need, once; builds the wheel,
# installs it there, and runs the tests against what was installed.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/venv
requirements=python/requirements-test.txt
stamp=$venv/requirements-test.txt
gigabytes_needed=10

fail() {
  echo "test_python: COULD NOT RUN THE PYTHON TESTS: $*" >&2
  exit 1
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || fail "python3 of version 3.10 or later is needed"

if ! cmp --silent "$requirements" "$stamp"; then
  mkdir -p build
  free=$(($(df --output=avail -k build | tail -n 1) / 1048576))
  [ "$free" -ge "$gigabytes_needed" ] || fail "$free GB of disk are free, $gigabytes_needed are needed for torch and what it needs"
  echo "Installing torch and others into $venv; about 3 GB are fetched, 5 GB of disk used, once"
  python3 -m venv "$venv" || fail "no virtual environment can be made (Debian: python3-venv)"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" || fail "pip could not install $requirements"
  cp "$requirements" "$stamp"
fi

"$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
  --config-settings=build-dir=build/python-wheel --config-settings=cmake.define.CROSSDOCK_WARNINGS_AS_ERRORS=ON \
  --config-settings=cmake.define.CROSSDOCK_CUDA=OFF . ||
  fail "the package does not build"

"$venv/bin/python" -m pytest --quiet "$@" || {
  status=$?
  echo "test_python: the Python tests FAILED" >&2
  exit "$status"
}
