"""How large an arena becomes for callers that size DeepEP's buffers."""

from __future__ import annotations

import os

ARENA_BYTES_VARIABLE = "CROSSDOCK_ARENA_BYTES"
LEAST_ARENA_BYTES = 16 << 20


def arena_bytes(num_nvl_bytes: int, num_rdma_bytes: int) -> int:
    """As many bytes as the caller gives to both of DeepEP's buffers, or what the environment says.

    DeepEP's buffers are queues, and its results lie elsewhere; here results lie in the arena. By DeepEP's size hints it
    holds the results of several operations.
    """
    chosen = os.environ.get(ARENA_BYTES_VARIABLE)
    if chosen is None:
        return max(num_nvl_bytes + num_rdma_bytes, LEAST_ARENA_BYTES)
    if not chosen.isdecimal() or int(chosen) == 0:
        raise ValueError(f"{ARENA_BYTES_VARIABLE} is {chosen!r}, a positive number of bytes is allowed")
    return int(chosen)
