"""What goes wrong is a crossdock.Error that says who did not do what, on every rank."""

from __future__ import annotations

import time

import numpy as np
import pytest

import crossdock
from crossdock import ErrorCode
from ranks import run_buffers, run_threads

X, IDS, WEIGHTS = np.zeros((2, 4), np.float32), np.zeros((2, 1), int), np.ones((2, 1), np.float32)


def test_bad_argument_is_heard_of_everywhere_and_the_buffer_goes_on() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        weights = np.ones((3, 1), np.float32) if buffer.rank == 1 else WEIGHTS
        with pytest.raises(crossdock.Error, match=r"rank 1: .*topk_weights is float32 \[3, 1\]") as caught:
            buffer.dispatch(X, IDS, weights, num_experts=1)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT and caught.value.rank == 1
        assert caught.value.wait is None and caught.value.system_error is None
        assert buffer.is_available
        buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)

    run_buffers(3, body)


@pytest.mark.parametrize(
    "operation", ["dispatch", "dispatch_cached", "combine", "low_latency_dispatch", "low_latency_combine"]
)
def test_what_only_python_can_refuse_is_heard_of_everywhere(operation: str) -> None:
    def call(buffer: crossdock.Buffer, x: object) -> None:
        out = buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)
        if operation == "dispatch":
            buffer.dispatch(x, IDS, WEIGHTS, num_experts=1)  # type: ignore[arg-type]
        elif operation == "dispatch_cached":
            buffer.dispatch_cached(x, out.handle)  # type: ignore[arg-type]
        elif operation == "combine":
            buffer.combine(x, out.handle)  # type: ignore[arg-type]
        elif operation == "low_latency_dispatch":
            buffer.low_latency_dispatch(x, IDS, 2, 1)  # type: ignore[arg-type]
        else:
            low = buffer.low_latency_dispatch(crossdock_zeros(), IDS, 2, 1)
            buffer.low_latency_combine(x, WEIGHTS, low.handle)  # type: ignore[arg-type]

    def body(buffer: crossdock.Buffer) -> None:
        start = time.monotonic()
        with pytest.raises(crossdock.Error, match=r"has the dtype float64|rank 0: ") as caught:
            call(buffer, np.zeros((2, 4)))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT and time.monotonic() - start < 5
        assert buffer.is_available

    def either(buffer: crossdock.Buffer) -> None:
        if buffer.rank == 0:
            body(buffer)
            return
        with pytest.raises(crossdock.Error, match="rank 0") as caught:
            call(buffer, good_rows(operation, buffer))
        assert caught.value.rank == 0

    run_buffers(2, either)


def crossdock_zeros() -> np.ndarray:
    import ml_dtypes

    return np.zeros((2, 128), ml_dtypes.bfloat16)


def good_rows(operation: str, buffer: crossdock.Buffer) -> object:
    """What a rank would rightly pass as x; rank 1 of two owns no expert of one."""
    import ml_dtypes

    if operation == "combine":
        return np.zeros((0, 4), np.float32)
    if operation == "low_latency_dispatch":
        return crossdock_zeros()
    return np.zeros((0, 4, 128), ml_dtypes.bfloat16) if operation == "low_latency_combine" else X


def test_deadline() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        if buffer.rank == 1:
            time.sleep(0.6)
            return
        with pytest.raises(crossdock.Error, match="rank 1") as caught:
            buffer.dispatch(X, IDS, WEIGHTS, num_experts=1, options=crossdock.OperationOptions(timeout=0.2))
        error = caught.value
        assert error.code is ErrorCode.TIMEOUT and error.rank == 1 and error.wait is not None
        assert (error.wait.operation, error.wait.phase, error.wait.rank, error.wait.epoch) == (
            "dispatch",
            "announce",
            1,
            1,
        )
        assert not buffer.is_available
        with pytest.raises(crossdock.Error) as later:
            buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)
        assert later.value.code is ErrorCode.STATE

    run_buffers(2, body)


def test_a_rank_that_leaves() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        if buffer.rank == 1:
            buffer.destroy()
            buffer.destroy()
            with pytest.raises(crossdock.Error) as caught:
                buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)
            assert caught.value.code is ErrorCode.STATE
        else:
            with pytest.raises(crossdock.Error) as caught:
                buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)
            assert caught.value.code is ErrorCode.PEER_LOST and caught.value.rank == 1

    run_buffers(2, body)


def test_capacity_says_how_much_would_do() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        with pytest.raises(crossdock.Error, match=r"arena_bytes of [0-9]+ there would do") as caught:
            buffer.dispatch(np.zeros((2, 1 << 18), np.float32), IDS, WEIGHTS, num_experts=1)
        assert caught.value.code is ErrorCode.CAPACITY

    run_buffers(1, body, arena_bytes=1 << 16)


def test_construction() -> None:
    bootstrap = crossdock.make_in_process_bootstraps(1)[0]
    with pytest.raises(crossdock.Error) as caught:
        crossdock.Buffer(bootstrap, 0)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(crossdock.Error, match='device is "tpu", allowed are "cpu", "cuda"'):
        crossdock.Buffer(bootstrap, 1 << 20, device="tpu")
    with pytest.raises(crossdock.Error, match="DeviceType::kHost") as caught:
        crossdock.Buffer(bootstrap, 1 << 20, device="cuda:77")
    assert caught.value.code is ErrorCode.UNSUPPORTED
    with pytest.raises(crossdock.Error, match="-1"):
        crossdock.Config(-1)
    with pytest.raises(TypeError):
        crossdock.Buffer(None, 1 << 20)  # type: ignore[arg-type]


def test_a_callback_that_raises() -> None:
    def broken(mine: bytes) -> list[bytes]:
        raise ZeroDivisionError("the engine's own")

    with pytest.raises(ZeroDivisionError, match="the engine's own"):
        crossdock.Buffer(crossdock.make_callback_bootstrap(0, 2, broken), 1 << 20)


def test_event_raises_what_the_operation_ended_with() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = crossdock.Buffer(bootstrap, 1 << 20, timeout=0.2)
        out = buffer.dispatch(X, IDS, WEIGHTS, num_experts=1)
        if buffer.rank == 0:
            options = crossdock.OperationOptions(completion=crossdock.Completion.ASYNCHRONOUS)
            combined = buffer.combine(out.recv_x, out.handle, options=options)
            with pytest.raises(crossdock.Error, match="rank 1"):
                combined.event.wait()
            assert combined.event.is_complete()
        else:
            time.sleep(0.6)

    run_threads(2, body)
