#!/usr/bin/env bash
# Checks the sources; `make lint` calls it, `make format` calls it with --fix.
#   lint.sh          everything; clang-tidy on what differs from the first parent of HEAD
#   lint.sh --all    the same; clang-tidy on all of src/ and tools/
#   lint.sh --fix    rewrites the sources in the project's format, and nothing else
# Needs a configured build folder with the tests: BUILD, or build/.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
format=clang-format-14
tidy=$(scripts/clang_tidy_name.sh)
max_lines=400
max_tracked_bytes=$((40 * 1000 * 1000))
failures=()

# Tracked or new files that match the patterns.
sources() {
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r file; do
    if [ -f "$file" ]; then echo "$file"; fi
  done
}

changed_sources() {
  local parent=HEAD
  if git rev-parse --quiet --verify HEAD^1 > /dev/null; then parent=HEAD^1; fi
  {
    git diff --name-only --diff-filter=d "$parent" -- '*.cpp' '*.hpp'
    git ls-files --others --exclude-standard -- '*.cpp' '*.hpp'
  } | sed 's/\.hpp$/.cpp/' | sort -u
}

# Of the files on standard input those that this build compiles, as clang-tidy knows only their flags.
compiled() {
  grep -xFf <(sed -n "s|^ *\"file\": \"$PWD/\(.*\)\",*$|\1|p" "$build/compile_commands.json") || true
}

check_format() {
  local unformatted
  unformatted=$(sources '*.cpp' '*.hpp' | xargs --no-run-if-empty "$format" --dry-run 2>&1 |
    sed -n 's/^\(.*\):[0-9]*:[0-9]*: warning: .*/\1/p' | sort -u) || return 1
  [ -z "$unformatted" ] || { echo "\`make format\` would change: "$unformatted; return 1; }
}

check_tidy() {
  local files
  if [ "$1" = all ]; then files=$(sources 'src/*.cpp' 'tools/*.cpp' | compiled); else files=$(changed_sources | compiled); fi
  echo "clang-tidy: $(grep -c . <<< "$files") files"
  # Options of GCC are unknown to it. Its count of suppressed warnings of other people's headers is left out.
  xargs --no-run-if-empty --max-procs="$(nproc)" --max-args=1 "$tidy" -p "$build" --quiet \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-include \
    --extra-arg="$PWD/scripts/source_location_for_clang_14.hpp" <<< "$files" 2> >(grep -v 'warnings\? generated\.$' >&2)
}

# The patterns have brackets so that they do not find themselves.
check_machine_paths() {
  ! git grep -nIE '(^|[^[:alnum:]_.~-])/(wor[k]|roo[t]|hom[e]|tmp/brie[f])/[[:alnum:]._-]' -- . ':!LICENSE'
}

check_tracked_size() {
  local bytes
  bytes=$(git ls-files -z --cached | xargs -0 stat --format=%s -- 2> /dev/null | awk '{sum += $1} END {print sum + 0}')
  echo "tracked files: $bytes bytes of at most $max_tracked_bytes"
  [ "$bytes" -le "$max_tracked_bytes" ]
}

warn_of_long_files() {
  local file lines
  for file in $(sources '*.cpp' '*.hpp' '*.py' '*.sh' '*.cmake' 'CMakeLists.txt'); do
    lines=$(wc -l < "$file")
    if [ "$lines" -gt "$max_lines" ]; then echo "warning: $file has $lines lines; $max_lines is the most a file should have"; fi
  done
}

# run name command...: runs the check, remembers its failure, goes on.
run() {
  local name=$1
  shift
  echo "--- $name"
  "$@" || failures+=("$name")
}

tidy_set=changed
case "${1:-}" in
  --fix)
    sources '*.cpp' '*.hpp' | xargs --no-run-if-empty "$format" -i
    exit 0
    ;;
  --all) tidy_set=all ;;
  "") ;;
  *)
    echo "lint: unknown argument '$1'; allowed: --all, --fix" >&2
    exit 2
    ;;
esac
if [ ! -f "$build/compile_commands.json" ]; then
  echo "lint: $build/compile_commands.json is missing; configure first, as \`make lint\` does" >&2
  exit 2
fi

run "format" check_format
run "include directions" python3 scripts/check_includes.py
run "machine paths" check_machine_paths
run "size of tracked files" check_tracked_size
run "length of files" warn_of_long_files
run "clang-tidy" check_tidy "$tidy_set"

if [ ${#failures[@]} -gt 0 ]; then
  echo "lint: FAILED: $(IFS=, && echo "${failures[*]}" | sed 's/,/, /g')" >&2
  exit 1
fi
echo "lint: passed"
