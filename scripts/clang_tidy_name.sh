#!/usr/bin/env bash
# Prints which clang-tidy this system needs: 14 on Debian 12, as clang-format; 18 on Ubuntu 24.04, whose standard library
# version 14 cannot read.
set -euo pipefail

release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2> /dev/null || true)
case "$release" in
  noble) echo clang-tidy-18 ;;
  *) echo clang-tidy-14 ;;
esac
