#!/usr/bin/env python3
"""What Python adds to a call, in microseconds: overhead.py [--limit MICROSECONDS].

One token, one rank, so that nothing is waited for. Each operation of crossdock.deep_ep is measured as its caller sees
it, and what the library says that it took of that is subtracted; medians, since other programs may run meanwhile. With
--limit the exit status is 1 if any operation adds more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

import crossdock
from crossdock import deep_ep

TOKENS, HIDDEN, TOP_K, EXPERTS = 1, 7168, 8, 64
CALLS = 3000


def library_us(buffer: deep_ep.Buffer) -> float:
    """What the last operation took inside the library."""
    times = buffer.runtime.last_phase_times
    return times.layout_us + times.announce_us + times.place_us + times.copy_us + times.wait_us


def measure(buffer: deep_ep.Buffer, function: Callable[[], object]) -> tuple[float, float]:
    """Medians of (microseconds of a call, of those in the library)."""
    totals, inside = [], []
    for _ in range(CALLS):
        start = time.perf_counter()
        function()
        totals.append((time.perf_counter() - start) * 1e6)
        inside.append(library_us(buffer))
    return statistics.median(totals), statistics.median(inside)


def operations(buffer: deep_ep.Buffer) -> dict[str, Callable[[], object]]:
    x = torch.randn(TOKENS, HIDDEN, dtype=torch.bfloat16)
    ids, weights = torch.arange(TOP_K).view(1, TOP_K), torch.rand(TOKENS, TOP_K)
    per_rank, _, per_expert, in_rank, _ = buffer.get_dispatch_layout(ids, EXPERTS)
    layout = {"num_tokens_per_rank": per_rank, "num_tokens_per_expert": per_expert, "is_token_in_rank": in_rank}
    received, _, recv_weights, _, handle, _ = buffer.dispatch(x, **layout, topk_idx=ids, topk_weights=weights)
    packed, _, low_latency_handle, _, _ = buffer.low_latency_dispatch(x, ids, TOKENS, EXPERTS, use_fp8=False)
    return {
        "dispatch": lambda: buffer.dispatch(x, **layout, topk_idx=ids, topk_weights=weights),
        "cached dispatch": lambda: buffer.dispatch(x, handle),
        "combine": lambda: buffer.combine(received, handle, recv_weights),
        "low-latency dispatch": lambda: buffer.low_latency_dispatch(x, ids, TOKENS, EXPERTS),
        "low-latency combine": lambda: buffer.low_latency_combine(packed, ids, weights, low_latency_handle),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, help="microseconds that Python may add")
    limit = parser.parse_args().limit
    buffer = deep_ep.Buffer(crossdock.make_in_process_bootstraps(1)[0], 64 << 20)
    print(f"{'operation':24}{'call':>8}{'library':>10}{'added':>8}  (us)")
    worst = 0.0
    for name, function in operations(buffer).items():
        total, inside = measure(buffer, function)
        worst = max(worst, total - inside)
        print(f"{name:24}{total:8.1f}{inside:10.1f}{total - inside:8.1f}")
    if limit is not None and worst > limit:
        print(f"at most {limit} us are allowed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
