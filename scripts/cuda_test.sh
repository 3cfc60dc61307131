#!/usr/bin/env bash
# Runs all tests of the CUDA backend: ranks as threads, then ranks as processes under MPS. Ranks are spread over the devices
# that CUDA_VISIBLE_DEVICES leaves. With compute-sanitizer in the path also memcheck and racecheck on small worlds. Prints
# the devices and a line for each; ends with failure if any failed, or if there is no device.
#   cuda_test.sh [FOLDER]    where the test programs are, build/bin unless given
set -uo pipefail
cd "$(dirname "$0")/.."

programs=${1:-build/bin}
limit=180  # seconds for one program
failed=0
devices=

# run name command...
run() {
  local name=$1 begin=$SECONDS output status
  shift
  output=$(timeout -k 5 "$limit" "$@" 2>&1)
  status=$?
  if [ -z "$devices" ] && devices=$(grep -m 1 "^ranks are spread over" <<< "$output"); then echo "$devices"; fi
  if grep -q "SKIPPED" <<< "$output"; then status=skipped; fi
  if grep -q "ERROR SUMMARY: [1-9]" <<< "$output"; then status="compute-sanitizer found errors"; fi
  if [ "$status" = 0 ]; then
    printf '%-60s passed  %4d s\n' "$name" $((SECONDS - begin))
  else
    printf '%-60s FAILED  %4d s (%s)\n%s\n' "$name" $((SECONDS - begin)) "$status" "$(tail -n 40 <<< "$output")"
    failed=1
  fi
}

# Each rank's stream needs a connection of its own: ranks wait for each other on the device.
threads() { run "$1${2:+ $2}" env CUDA_DEVICE_MAX_CONNECTIONS=32 "$programs/$1" ${2:+"$2"}; }
processes() { run "$1${2:+ $2} (MPS)" scripts/cuda_mps.sh "$programs/$1" ${2:+"$2"}; }

threads cuda_world_test --worlds=200
threads cuda_failure_test
threads cuda_items_test
threads cuda_copy_test
threads cuda_ordered_send_test
threads cuda_logfmt_test
threads cuda_low_latency_test
threads cuda_low_latency_failure_test
threads cuda_mask_test
threads cuda_worst_case_loss_test
threads cuda_graph_test
threads cuda_soak_test
processes cuda_device_windows_test
processes cuda_world_process_test --worlds=60
processes cuda_low_latency_process_test
processes cuda_failure_process_test
processes cuda_peer_death_test
processes cuda_low_latency_death_test
if command -v compute-sanitizer > /dev/null; then
  # It runs the kernels of a process one after the other, so ranks that wait for each other are processes.
  sanitizer() {
    run "$1 $2 $3 (MPS)" scripts/cuda_mps.sh compute-sanitizer --target-processes all --tool "$1" --error-exitcode 9 \
      "$programs/$2" "$3"
  }
  for tool in memcheck racecheck; do
    sanitizer "$tool" cuda_world_process_test --seed=23  # through the host, with ids, and cached
    sanitizer "$tool" cuda_world_process_test --seed=94  # the same, expanded
    sanitizer "$tool" cuda_world_process_test --seed=71  # a worst case
    sanitizer "$tool" cuda_world_process_test --seed=68  # one that is expanded, and cached
    sanitizer "$tool" cuda_low_latency_process_test "--gtest_filter=*/2"
  done
fi
exit "$failed"
