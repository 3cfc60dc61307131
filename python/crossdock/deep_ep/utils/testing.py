"""How tests of DeepEP measure."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def bench(
    function: Callable[[], object],
    num_warmups: int = 30,
    num_tests: int = 30,
    post_fn: Callable[[], object] | None = None,
    flush_l2: bool = True,
) -> tuple[float, float, float]:
    """Seconds of a call until its work on the device is done: (mean, least, most). flush_l2 has no effect."""
    for _ in range(num_warmups):
        function()
    times = []
    for _ in range(num_tests):
        _wait_for_device()
        start = time.perf_counter()
        function()
        _wait_for_device()
        times.append(time.perf_counter() - start)
        if post_fn is not None:
            post_fn()
    return sum(times) / len(times), min(times), max(times)


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
