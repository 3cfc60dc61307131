"""Ranks as threads of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import crossdock

ARENA_BYTES = 1 << 22
TIMEOUT_SECONDS = 20.0


def run_threads(num_ranks: int, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls body(bootstrap, *arguments) for each rank in a thread of its own; the results in rank order.

    Raises what the first rank that failed raised.
    """
    results: list[Any] = [None] * num_ranks
    errors: list[BaseException | None] = [None] * num_ranks

    def run(bootstrap: crossdock.Bootstrap) -> None:
        try:
            results[bootstrap.rank] = body(bootstrap, *arguments)
        except BaseException as error:  # re-raised below, in the test's own thread
            errors[bootstrap.rank] = error

    threads = [threading.Thread(target=run, args=(b,)) for b in crossdock.make_in_process_bootstraps(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if error is not None:
            raise error
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
