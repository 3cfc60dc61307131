"""How tests of DeepEP measure."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from ..low_latency import LowLatencyOperations
from ..throughput import ThroughputOperations

OPERATIONS = {
    "dispatch": ThroughputOperations,
    "combine": ThroughputOperations,
    "low_latency_dispatch": LowLatencyOperations,
    "low_latency_combine": LowLatencyOperations,
}


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


def bench_kineto(
    function: Callable[[], object],
    kernel_names: str | tuple[str, ...],
    num_tests: int = 30,
    suppress_kineto_output: bool = False,
    trace_path: str | None = None,
    barrier_comm_profiling: bool = False,
    num_kernels_per_period: int = 1,
) -> Any:
    """Mean seconds of the operations of a buffer that `function` calls and whose names contain the given one:
    "dispatch" stands for dispatch and low_latency_dispatch. 0 if it calls none. For a tuple of names a tuple.

    With num_kernels_per_period=2 it is a list: of the call, which sends, and of its hook, which receives. DeepEP looks
    kernels up in a profile of torch; the arguments that concern that have no effect.
    """
    calls: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    hooks: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    with ExitStack() as patches:
        for name, owner in OPERATIONS.items():
            timed = _timed(getattr(owner, name), calls[name], hooks[name])
            patches.enter_context(mock.patch.object(owner, name, timed))
        for _ in range(num_tests):
            function()

    def seconds(part: str) -> Any:
        sent = [t for name in OPERATIONS if part in name for t in calls[name]]
        received = [t for name in OPERATIONS if part in name for t in hooks[name]]
        if num_kernels_per_period == 1:
            return sum(sent + received) / max(len(sent), 1)
        return [sum(sent) / max(len(sent), 1), sum(received) / max(len(received), 1)]

    return tuple(seconds(name) for name in kernel_names) if isinstance(kernel_names, tuple) else seconds(kernel_names)


def _timed(function: Callable[..., Any], calls: list[float], hooks: list[float]) -> Callable[..., Any]:
    """The same operation, which notes how long it takes, and how long its hook takes if it returns one."""

    @functools.wraps(function)
    def timed(*arguments: Any, **keywords: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **keywords)
        calls.append(time.perf_counter() - start)
        hook = result[-1]
        if not keywords.get("return_recv_hook") or hook is None:
            return result

        def timed_hook() -> None:
            start = time.perf_counter()
            hook()
            hooks.append(time.perf_counter() - start)

        return *result[:-1], timed_hook

    return timed


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
