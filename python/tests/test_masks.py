"""Groups go on without a masked or a lost rank."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

import crossdock
from crossdock import deep_ep
from ranks import run_buffers, run_threads
from test_bootstraps import free_port


def dispatch(buffer: crossdock.Buffer, **options: float) -> list[list[int]]:
    """A row of each rank to each rank; what came."""
    size = buffer.num_ranks
    x, ids = np.full((1, 2), buffer.rank, np.int32), np.arange(size).reshape(1, size)
    out = buffer.dispatch(
        x, ids, np.ones((1, size), np.float32), num_experts=size, options=crossdock.OperationOptions(**options)
    )
    return out.recv_x.numpy().tolist()


def test_masked_and_let_in_again() -> None:
    masked, refused, cleared = (threading.Barrier(3) for _ in range(3))

    def body(buffer: crossdock.Buffer) -> None:
        assert dispatch(buffer) == [[0, 0], [1, 1], [2, 2]]
        if buffer.rank == 2:
            masked.wait(10)
            with pytest.raises(crossdock.Error) as caught:
                dispatch(buffer)
            assert caught.value.code is crossdock.ErrorCode.STATE
            refused.wait(10)
        else:
            buffer.mask_rank(2)
            assert buffer.masked_ranks() == [2]
            assert dispatch(buffer) == [[0, 0], [1, 1]]
            masked.wait(10)
            refused.wait(10)
            buffer.clear_masks()
            assert buffer.masked_ranks() == []
        cleared.wait(10)
        assert dispatch(buffer) == [[0, 0], [1, 1], [2, 2]]
        with pytest.raises(crossdock.Error):
            buffer.mask_rank(buffer.rank)

    run_buffers(3, body)


def test_a_lost_rank_is_masked_by_deep_ep() -> None:
    left = threading.Barrier(3)

    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap, low_latency_mode=True, enable_shrink=True)
        status = torch.zeros(3, dtype=torch.int32)
        if buffer.rank == 1:
            buffer.destroy()
            left.wait(10)
            return
        left.wait(10)
        x, ids = torch.ones(1, 128).bfloat16(), torch.tensor([[0, 1, 2]])
        for _ in range(2):  # the operation that loses the rank may fail, the next does not
            try:
                _, counts, _, _, _ = buffer.low_latency_dispatch(x, ids, 1, 3, use_fp8=False)
            except crossdock.Error as error:
                assert error.rank == 1 and error.code is crossdock.ErrorCode.PEER_LOST
        assert counts.tolist() == [2]
        buffer.low_latency_query_mask_buffer(status)
        assert status.tolist() == [0, 1, 0]
        buffer.low_latency_update_mask_buffer(1, True)
        buffer.low_latency_query_mask_buffer(status)
        assert status.tolist() == [0, 1, 0]
        buffer.low_latency_clean_mask_buffer()
        buffer.low_latency_query_mask_buffer(status)
        assert status.tolist() == [0, 0, 0]

    run_threads(3, body)


def run_until_killed(rank: int, port: int, results: Any) -> None:
    """Three ranks; rank 1 dies between its dispatch and its combine, and the others go on without it."""
    bootstrap = crossdock.make_tcp_bootstrap(address="127.0.0.1", port=port, rank=rank, size=3)
    buffer = deep_ep.Buffer(bootstrap, low_latency_mode=True, enable_shrink=True)
    x, ids, weights = torch.ones(1, 128).bfloat16(), torch.tensor([[0, 1, 2]]), torch.ones(1, 3)
    rows, _, handle, _, _ = buffer.low_latency_dispatch(x, ids, 1, 3, use_fp8=False)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    combined = [buffer.low_latency_combine(rows, ids, weights, handle)[0]]
    rows, counts, handle, _, _ = buffer.low_latency_dispatch(x, ids, 1, 3, use_fp8=False)
    combined.append(buffer.low_latency_combine(rows, ids, weights, handle)[0])
    status = torch.zeros(3, dtype=torch.int32)
    buffer.low_latency_query_mask_buffer(status)
    results.put((counts.tolist(), [float(c[0, 0]) for c in combined], status.tolist()))


def test_a_rank_is_killed() -> None:
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    port = free_port()
    ranks = [context.Process(target=run_until_killed, args=(rank, port, results)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, -signal.SIGKILL, 0]
    for _ in range(2):
        assert results.get(timeout=10) == ([2], [2.0, 2.0], [0, 1, 0])
