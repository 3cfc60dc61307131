#!/usr/bin/env bash
# Builds with a sanitizer and runs the tests: sanitize.sh asan|tsan [argument of ctest...]
# Suites with the labels soak and slow are left out; under ThreadSanitizer also processes, which it cannot see across.
# Nor, under ThreadSanitizer, the tests of lost ranks: a rank that was given up reads records that others write anew, and
# checks only then whether they still count on it (Signals::check_records).
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:?asan or tsan}
shift
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "${JOBS:-$(nproc)}"

# ThreadSanitizer of GCC 12 stops with "unexpected memory mapping" where the kernel randomizes addresses widely.
without_randomization=()
if [ "$preset" = tsan ] && setarch "$(uname -m)" --addr-no-randomize true 2> /dev/null; then
  without_randomization=(setarch "$(uname -m)" --addr-no-randomize)
fi
exec "${without_randomization[@]}" ctest --preset "$preset" "$@"
