#!/usr/bin/env bash
# Installs the Debian packages that a task needs and that are missing: install_dependencies.sh build|test|emulator|bench|lint|cross|python...
# For Debian 12 and Ubuntu 24.04, as root or through sudo. Does nothing, quickly, when nothing is missing.
set -euo pipefail

build_packages=(make g++ cmake ninja-build pkg-config libfmt-dev libspdlog-dev libhwy-dev libcli11-dev nlohmann-json3-dev
  libsodium-dev libhwloc-dev)
test_packages=(libgtest-dev libgmock-dev binutils python3)
emulator_packages=(libboost-context-dev)
bench_packages=(libopenmpi-dev openmpi-bin libmpich-dev mpich python3)
python_packages=(python3 python3-dev python3-pip python3-venv openmpi-bin)
cross_packages=(g++-aarch64-linux-gnu)
lint_packages=(clang-format-14 "$("$(dirname "$0")/clang_tidy_name.sh")" git python3)

fail() {
  echo "install_dependencies: $*" >&2
  exit 1
}

wanted=()
for name in "$@"; do
  case "$name" in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${build_packages[@]}" "${test_packages[@]}") ;;
    emulator) wanted+=("${build_packages[@]}" "${test_packages[@]}" "${emulator_packages[@]}") ;;
    bench) wanted+=("${build_packages[@]}" "${bench_packages[@]}") ;;
    lint) wanted+=("${build_packages[@]}" "${test_packages[@]}" "${lint_packages[@]}") ;;
    cross) wanted+=("${build_packages[@]}" "${cross_packages[@]}") ;;
    python) wanted+=("${python_packages[@]}") ;;
    *) fail "unknown set '$name'; allowed: build, test, emulator, bench, lint, cross, python" ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || fail "name at least one of: build, test, emulator, bench, lint, cross, python"

if ! command -v dpkg-query > /dev/null; then
  echo "install_dependencies: no dpkg here, so nothing is checked or installed; needed: ${wanted[*]}" >&2
  exit 0
fi

# One query for all; it exits with 1 if it does not know some package, which then has no line.
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${wanted[@]}" 2> /dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  if [[ $'\n'"$installed"$'\n' != *$'\n'"$package installed"$'\n'* && " ${missing[*]} " != *" $package "* ]]; then
    missing+=("$package")
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || fail "missing packages, and neither root nor sudo to install them: ${missing[*]}"
  as_root=(sudo)
fi

echo "Installing: ${missing[*]}"
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -o DPkg::Lock::Timeout=300 -qq "$@" < /dev/null
}
apt update || fail "apt-get update failed"
apt install --yes --no-install-recommends "${missing[@]}" > /dev/null || fail "could not install: ${missing[*]}"
