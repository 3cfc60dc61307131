#!/usr/bin/env bash
# The tables of docs/cuda.md: dispatch and combine, ranks as processes under MPS, on the devices in turn that
# CUDA_VISIBLE_DEVICES leaves. Prints a line for each shape and the number of devices; medians of the slowest rank, in milliseconds; those of low-latency mode in microseconds.
#   cuda_bench.sh [CROSSDOCK]    the command line, build/bin/crossdock unless given
# ROWS picks lines by their number (ROWS="1 2"), ITERATIONS is 20 unless set.
set -euo pipefail
cd "$(dirname "$0")/.."

crossdock=${1:-build/bin/crossdock}
iterations=${ITERATIONS:-20}
rows=${ROWS:-}
number=0

if [ -z "${CROSSDOCK_MPS_RUNS:-}" ]; then
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
  printf '%-4s%-44s%10s%10s%10s%10s  %s\n' "" "" dispatch min combine min ""
  CROSSDOCK_MPS_RUNS=1 exec scripts/cuda_mps.sh "$0" "$crossdock"
fi

# row name argument...: measures one shape.
row() {
  local name=$1
  shift
  number=$((number + 1))
  if [ -n "$rows" ] && ! grep -qw "$number" <<< "$rows"; then return; fi
  local result
  grep -q -e "--experts" <<< "$*" || set -- --experts 256 "$@"
  result=$("$crossdock" bench --backend cuda --hidden 7168 --topk 8 --iterations "$iterations" \
    --warmup 5 --json - "$@" 2>&1) || true
  python3 - "$number" "$name" << 'PYTHON' 3<<< "$result"
import json, os, sys
text = os.fdopen(3).read()
try:
    result = json.loads(text)
    d, c = result["phases"]["dispatch"], result["phases"]["combine"]
    figures = "".join(f"{v / 1000:10.3f}" for v in (d["p50_us"], d["min_us"], c["p50_us"], c["min_us"]))
    print(f"{sys.argv[1]:<4}{sys.argv[2]:<44}{figures}  {'verified' if result['verified'] else 'WRONG'}, {result['devices']} device(s)", flush=True)
    if os.environ.get("PARTS"):
        for name, phase in (("dispatch", d), ("combine", c)):
            print("      ", name, {k: round(v, 1) for k, v in phase["parts"].items()}, flush=True)
except (ValueError, KeyError):
    print(f"{sys.argv[1]:<4}{sys.argv[2]:<44} {text.strip()[-300:]}", flush=True)
PYTHON
}

# low_latency name argument...: the same of low-latency mode, where operations are launched in graphs.
low_latency() {
  local name=$1
  shift
  number=$((number + 1))
  if [ -n "$rows" ] && ! grep -qw "$number" <<< "$rows"; then return; fi
  local result
  result=$("$crossdock" bench --backend cuda --mode low-latency --hidden 7168 --topk 8 --experts 64 --iterations 100 \
    --warmup 20 --json - "$@" 2>&1) || true
  python3 - "$number" "$name" << 'PYTHON' 3<<< "$result"
import json, os, sys
text = os.fdopen(3).read()
try:
    result = json.loads(text)
    phases = (result["phases"][name] for name in ("dispatch", "combine", "round_trip"))
    figures = "".join(f"{phase['p50_us']:10.1f}{phase['min_us']:10.1f}" for phase in phases)
    print(f"{sys.argv[1]:<4}{sys.argv[2]:<44}{figures}  {'verified' if result['verified'] else 'WRONG'}, {result['devices']} device(s)", flush=True)
except (ValueError, KeyError):
    print(f"{sys.argv[1]:<4}{sys.argv[2]:<44} {text.strip()[-300:]}", flush=True)
PYTHON
}

row "8 ranks, bf16, 16 SMs" --ranks 8 --tokens 4096 --sms 16
row "8 ranks, bf16, 16 SMs, cached" --ranks 8 --tokens 4096 --sms 16 --cached
row "8 ranks, bf16, 16 SMs, worst case" --ranks 8 --tokens 4096 --sms 16 --worst-case
row "8 ranks, fp8, 16 SMs" --ranks 8 --tokens 4096 --sms 16 --dtype fp8
row "8 ranks, bf16, 16 SMs, x outside the arena" --ranks 8 --tokens 4096 --sms 16 --combine-input outside
row "8 ranks, bf16, 8 SMs" --ranks 8 --tokens 4096 --sms 8
row "8 ranks, bf16, 4 SMs" --ranks 8 --tokens 4096 --sms 4
row "2 ranks, bf16, 64 SMs" --ranks 2 --tokens 4096 --sms 64
row "2 ranks, bf16, 64 SMs, cached" --ranks 2 --tokens 4096 --sms 64 --cached
row "2 ranks, bf16, 64 SMs, worst case" --ranks 2 --tokens 4096 --sms 64 --worst-case
row "2 ranks, fp8, 64 SMs" --ranks 2 --tokens 4096 --sms 64 --dtype fp8
row "8 ranks, bf16, 16 SMs, a recorded router" --ranks 8 --tokens 4096 --sms 16 --routing trace_e256_k8.safetensors
row "the same with 64 experts, more skewed" --ranks 8 --tokens 4096 --sms 16 --experts 64 --routing trace_e64_k8.safetensors
row "8 ranks (threads), bf16, 16 SMs" --ranks 8 --tokens 4096 --sms 16 --threads
row "2 ranks (threads), bf16, 64 SMs" --ranks 2 --tokens 4096 --sms 64 --threads
row "8 ranks, bf16, 16 SMs, expanded by 128" --ranks 8 --tokens 4096 --sms 16 --expand 128
printf '%-4s%-44s%10s%10s%10s%10s%10s%10s\n' "" "low latency, microseconds" dispatch min combine min pair min
low_latency "8 ranks, 1 token, fp8" --ranks 8 --tokens 1 --dtype fp8
low_latency "8 ranks, 128 tokens, fp8" --ranks 8 --tokens 128 --dtype fp8
low_latency "8 ranks, 128 tokens, bf16" --ranks 8 --tokens 128
low_latency "8 ranks, 128 tokens, bf16, in place" --ranks 8 --tokens 128 --combine-input inplace
low_latency "8 ranks, 128 tokens, fp8, x outside" --ranks 8 --tokens 128 --dtype fp8 --combine-input outside
low_latency "8 ranks, 128 tokens, bf16, x outside" --ranks 8 --tokens 128 --combine-input outside
low_latency "8 ranks, 128 tokens, bf16, LogFMT" --ranks 8 --tokens 128 --logfmt
low_latency "2 ranks, 128 tokens, fp8" --ranks 2 --tokens 128 --dtype fp8
