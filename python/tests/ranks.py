"""Ranks as threads of the test's process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import crossdock

ARENA_BYTES = 1 << 22
TIMEOUT_SECONDS = 20.0


def run_threads(num_ranks: int, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls body(bootstrap, *arguments) for each rank in a thread of its own; the results in rank order.

    Raises what the first rank that failed raised; the others, which may wait for it, get a few seconds to notice.
    """
    results: list[Any] = [None] * num_ranks
    finished: queue.Queue[BaseException | None] = queue.Queue()

    def run(bootstrap: crossdock.Bootstrap) -> None:
        try:
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
        buffer = crossdock.Buffer(bootstrap, arena_bytes, timeout=TIMEOUT_SECONDS)
        try:
            return body(buffer, *arguments)
        finally:
            buffer.destroy()

    return run_threads(num_ranks, run)
