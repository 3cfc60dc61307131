"""Ranks as threads of the test's process."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import crossdock

ARENA_BYTES = 1 << 22
TIMEOUT_SECONDS = 20.0
DEVICE_VARIABLE = "CROSSDOCK_DEVICE"
EACH_DEVICE = pytest.mark.parametrize("device", ["cpu", "cuda"], indirect=True)


def test_device() -> str:
    """Where the tensors of the running test are."""
    return os.environ.get(DEVICE_VARIABLE, "cpu")


test_device.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test else


@contextlib.contextmanager
def on_test_device() -> Iterator[None]:
    """In this thread torch makes tensors there; on a CUDA device on a stream of the thread's own."""
    if test_device() == "cpu":
        yield
        return
    import torch

    with torch.device(test_device()), torch.cuda.stream(torch.cuda.Stream()):
        yield


def require_low_latency() -> None:
    """Skips the test if the device has no low-latency mode."""
    if why := why_no_low_latency():
        pytest.skip(why)


def has_low_latency() -> bool:
    return not why_no_low_latency()


def why_no_low_latency() -> str:
    if test_device() == "cpu":
        return ""
    import torch

    def probe(buffer: crossdock.Buffer) -> None:
        x, ids = torch.zeros(1, 128, dtype=torch.bfloat16), torch.zeros(1, 1, dtype=torch.int64)
        buffer.low_latency_dispatch(x, ids, 1, 1)

    try:
        run_buffers(1, probe)
    except crossdock.Error as error:
        if error.code is not crossdock.ErrorCode.UNSUPPORTED:
            raise
        return str(error)
    return ""


def run_threads(num_ranks: int, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls body(bootstrap, *arguments) for each rank in a thread of its own; the results in rank order.

    Raises what the first rank that failed raised; the others, which may wait for it, get a few seconds to notice.
    """
    results: list[Any] = [None] * num_ranks
    finished: queue.Queue[BaseException | None] = queue.Queue()

    def run(bootstrap: crossdock.Bootstrap) -> None:
        try:
            with on_test_device():
                results[bootstrap.rank] = body(bootstrap, *arguments)
            finished.put(None)
        except BaseException as error:  # re-raised below, in the test's own thread
            finished.put(error)

    bootstraps = crossdock.make_in_process_bootstraps(num_ranks)
    threads = [threading.Thread(target=run, args=(b,), daemon=True) for b in bootstraps]
    for thread in threads:
        thread.start()
    first_error = next((error for error in (finished.get() for _ in threads) if error is not None), None)
    for thread in threads:
        thread.join(None if first_error is None else 3)
    if first_error is not None:
        raise first_error
    return results


def run_buffers(num_ranks: int, body: Callable[..., Any], *arguments: Any, arena_bytes: int = ARENA_BYTES) -> list[Any]:
    """The same with a buffer for each rank: body(buffer, *arguments)."""

    def run(bootstrap: crossdock.Bootstrap) -> Any:
        buffer = crossdock.Buffer(bootstrap, arena_bytes, timeout=TIMEOUT_SECONDS, device=test_device())
        try:
            return body(buffer, *arguments)
        finally:
            buffer.destroy()

    return run_threads(num_ranks, run)
