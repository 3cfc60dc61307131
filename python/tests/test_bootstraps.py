"""Ranks find each other in every way, and a buffer works over each."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

import crossdock
from ranks import run_threads


def exchange(bootstrap: crossdock.Bootstrap) -> None:
    """Each rank sends its number to the next."""
    buffer = crossdock.Buffer(bootstrap, 1 << 20)
    rank, size = buffer.rank, buffer.num_ranks
    x = np.full((1, 4), rank, np.int32)
    out = buffer.dispatch(x, np.array([[(rank + 1) % size]]), np.ones((1, 1), np.float32), num_experts=size)
    assert out.recv_x.numpy().tolist() == [[(rank - 1) % size] * 4]
    buffer.destroy()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_in_process(num_ranks: int) -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        assert bootstrap.size == num_ranks
        assert bootstrap.all_gather(b"x" * bootstrap.rank) == [b"x" * r for r in range(num_ranks)]
        bootstrap.barrier(5)
        exchange(bootstrap)

    run_threads(num_ranks, body)


def test_tcp_with_a_secret() -> None:
    port = free_port()

    def body(thread: crossdock.Bootstrap) -> None:
        exchange(crossdock.make_tcp_bootstrap(address="127.0.0.1", port=port, rank=thread.rank, size=2, secret="s"))

    run_threads(2, body)


def test_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert crossdock.make_bootstrap_from_environment().size == 1
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    exchange(crossdock.make_bootstrap_from_environment(timeout=10))


def test_callback() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        exchange(crossdock.make_callback_bootstrap(bootstrap.rank, bootstrap.size, bootstrap.all_gather))

    run_threads(2, body)


def test_mpi_communicator_by_its_methods() -> None:
    class Communicator:
        def __init__(self, bootstrap: crossdock.Bootstrap) -> None:
            self._bootstrap = bootstrap

        def Get_rank(self) -> int:
            return self._bootstrap.rank

        def Get_size(self) -> int:
            return self._bootstrap.size

        def allgather(self, item: bytes) -> list[bytes]:
            return self._bootstrap.all_gather(item)

    run_threads(2, lambda b: exchange(crossdock.make_bootstrap_from_mpi(Communicator(b))))


def test_the_gil_is_free_while_a_call_waits() -> None:
    """Rank 1 comes only when rank 0 waits already, and Python runs meanwhile."""
    waiting = threading.Event()

    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = crossdock.Buffer(bootstrap, 1 << 20, timeout=10)
        arguments = (np.zeros((1, 4), np.float32), np.zeros((1, 1), int), np.ones((1, 1), np.float32))
        if buffer.rank == 1:
            assert waiting.wait(10)
        else:
            threading.Timer(0.05, waiting.set).start()
        buffer.dispatch(*arguments, num_experts=1)

    run_threads(2, body)


def test_threads_may_share_a_buffer() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = crossdock.Buffer(bootstrap, 1 << 20, timeout=10)

        def work() -> None:
            for _ in range(50):
                buffer.dispatch(
                    np.zeros((1, 4), np.float32), np.zeros((1, 1), int), np.ones((1, 1), np.float32), num_experts=1
                )

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert buffer.is_available and buffer.arena_bytes_free == buffer.arena_bytes_total

    run_threads(1, body)
