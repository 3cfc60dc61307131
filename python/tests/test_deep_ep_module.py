"""The parts of crossdock.deep_ep that no engine's calls reach: what is refused, and how things are wrapped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import crossdock
from crossdock import deep_ep
from crossdock.deep_ep import devices, sizes
from crossdock.deep_ep.tensors import to_core, to_torch
from crossdock.deep_ep.utils import math, testing
from ranks import run_threads

X, IDS, WEIGHTS = torch.ones(2, 128).bfloat16(), torch.tensor([[0], [1]]), torch.ones(2, 1)


def dispatch(buffer: deep_ep.Buffer, **changes: Any) -> tuple[Any, ...]:
    per_rank, _, per_expert, in_rank, _ = buffer.get_dispatch_layout(IDS, 2)
    arguments = dict(
        x=X,
        num_tokens_per_rank=per_rank,
        is_token_in_rank=in_rank,
        num_tokens_per_expert=per_expert,
        topk_idx=IDS,
        topk_weights=WEIGHTS,
    )
    return buffer.dispatch(**{**arguments, **changes})


def low_latency_dispatch(buffer: deep_ep.Buffer, **changes: Any) -> tuple[Any, ...]:
    return buffer.low_latency_dispatch(X, IDS, 2, 2, **{"use_fp8": False, **changes})


def low_latency_combine(buffer: deep_ep.Buffer, **changes: Any) -> tuple[Any, ...]:
    rows, _, handle, _, _ = low_latency_dispatch(buffer)
    arguments = dict(x=rows, topk_idx=IDS, topk_weights=WEIGHTS, handle=handle)
    return buffer.low_latency_combine(**{**arguments, **changes})


REFUSALS: list[tuple[str, Callable[[deep_ep.Buffer], Any]]] = [
    ("topk_idx and topk_weights must be None", lambda b: dispatch(b, handle=dispatch(b)[4])),
    ("num_tokens_per_rank, .* must be given", lambda b: dispatch(b, is_token_in_rank=None)),
    ("handle is a tuple", lambda b: b.combine(X, tuple(dispatch(b)[4]))),
    ("handle is a list", lambda b: low_latency_combine(b, handle=[])),
    ("x has the dtype", lambda b: dispatch(b, x=X.double())),
    ("x is a list", lambda b: dispatch(b, x=[1.0])),
    ("topk_weights is bfloat16", lambda b: dispatch(b, topk_weights=WEIGHTS.bfloat16())),
    ("needs kAsynchronous and a previous_event", lambda b: dispatch(b, allocate_on_comm_stream=True)),
    ("exclude each other", lambda b: low_latency_dispatch(b, async_finish=True, return_recv_hook=True)),
    ("use_ue8m0 needs round_scale", lambda b: low_latency_dispatch(b, use_fp8=True, use_ue8m0=True)),
    ("topk_idx", lambda b: low_latency_combine(b, topk_idx=IDS - 1)),
    ("zero_copy", lambda b: low_latency_combine(b, use_logfmt=True, zero_copy=True)),
    ("zero_copy needs", lambda b: low_latency_combine(b, zero_copy=True)),
]


@pytest.mark.parametrize(("message", "call"), REFUSALS, ids=[m for m, _ in REFUSALS])
def test_refusals_are_heard_of_everywhere_and_the_buffer_goes_on(message: str, call: Callable[..., Any]) -> None:
    """Rank 1 makes the mistake; rank 0 calls rightly what rank 1 calls wrongly, and hears of it."""

    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        start = time.monotonic()
        with pytest.raises(crossdock.Error, match=f"rank 1: .*{message}") as caught:
            if buffer.rank == 1:
                call(buffer)
            others = low_latency_combine if "low_latency_combine" in call.__code__.co_names else dispatch
            for _ in range(3):
                others(buffer)
        assert caught.value.rank in (1, None) and time.monotonic() - start < 10
        buffer.runtime.destroy()

    run_threads(2, body)


def test_a_combine_buffer_serves_once() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        rows, _, handle, _, _ = low_latency_dispatch(buffer)
        buffer.get_next_low_latency_combine_buffer(handle)[:] = rows
        combined, _, _ = buffer.low_latency_combine(rows, IDS, WEIGHTS, handle, zero_copy=True)
        assert torch.equal(combined, X)
        with pytest.raises(crossdock.Error, match="zero_copy needs"):
            buffer.low_latency_combine(rows, IDS, WEIGHTS, handle, zero_copy=True)

    run_threads(1, body)


def test_statistics_of_waiting() -> None:
    """Rank 0 waits for rank 1, which comes late."""

    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        of_dispatch, of_combine = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
        time.sleep(0.05 * buffer.rank)
        rows, _, handle, _, _ = low_latency_dispatch(buffer, dispatch_wait_recv_cost_stats=of_dispatch)
        time.sleep(0.05 * buffer.rank)
        buffer.low_latency_combine(rows, IDS, WEIGHTS, handle, combine_wait_recv_cost_stats=of_combine)
        if buffer.rank == 0:
            for stats in (of_dispatch, of_combine):
                assert 20e6 < int(stats[1]) < 5e9 and int(stats[0]) < 20e6

    run_threads(2, body)


def test_tensors_are_wrapped_without_a_copy() -> None:
    x = torch.arange(12, dtype=torch.float32).view(3, 4).T.requires_grad_()
    core = to_core(x)
    assert core.data_ptr() == x.data_ptr() and core.shape == (4, 3) and core.strides == (1, 4)
    back = to_torch(core)
    assert back.data_ptr() == x.data_ptr() and torch.equal(back, x.detach())
    assert to_core(None) is None and to_torch(None) is None
    assert to_core(x.double()).dtype is torch.float64, "passed on, to be refused where other ranks hear of it"


def test_handles_are_tuples_made_when_looked_at() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        handle = dispatch(buffer, config=deep_ep.Config(6))[4]
        assert isinstance(handle, tuple) and len(handle) == 6 and handle._items is None
        rank_prefix, channel_prefix, recv_channel_prefix, src_idx, in_rank, send_head = handle
        assert rank_prefix.tolist() == [[2]] and src_idx.tolist() == [0, 1] and in_rank.tolist() == [[True], [True]]
        assert channel_prefix.shape == recv_channel_prefix.shape == (1, 3) and send_head.shape == (2, 1)
        assert handle[0] is rank_prefix and list(handle)[5] is send_head
        low = low_latency_dispatch(buffer)[2]
        assert isinstance(low, tuple) and len(low) == 5 and low[2:] == (2, 128, 2)
        assert low[0].shape == (2, 2) and low[1].tolist() == [[1], [1]]

    run_threads(1, body)


def test_events() -> None:
    with pytest.raises(RuntimeError, match="no event"):
        deep_ep.EventOverlap().current_stream_wait()
    with deep_ep.EventOverlap() as nothing, deep_ep.Buffer.capture() as something:
        assert nothing.event is None and something.event is not None
    deep_ep.EventHandle().current_stream_wait()


def test_configurations() -> None:
    assert deep_ep.Config() == crossdock.Config(20, 6, 256, 6, 256)
    with pytest.raises(crossdock.Error, match="num_sms is 3"):
        deep_ep.Config(3)
    with pytest.raises(ValueError, match="num_sms is 5"):
        deep_ep.Buffer.set_num_sms(5)
    before = deep_ep.Buffer.num_sms
    deep_ep.Buffer.set_num_sms(24)
    assert deep_ep.Buffer.get_dispatch_config(8) == crossdock.get_dispatch_config(8, 24)
    assert isinstance(deep_ep.Buffer.get_combine_config(3), deep_ep.Config)
    deep_ep.Buffer.set_num_sms(before)
    # DeepEP's formulas: 8 ranks, 7168 channels of bfloat16, 20 SMs; see docs/semantics.md.
    assert deep_ep.Config(20, 6, 256, 6, 128).get_nvl_buffer_size_hint(14336, 8) == pytest.approx(335.7e6, rel=1e-3)
    assert deep_ep.Config(20, 6, 256, 6, 128).get_rdma_buffer_size_hint(14336, 8) == 0
    hint = deep_ep.Buffer.get_low_latency_rdma_size_hint(128, 7168, 8, 256)
    assert hint == 2 * crossdock.get_low_latency_rdma_size_hint(128, 7168, 8, 256)


def test_size_of_the_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sizes.ARENA_BYTES_VARIABLE, raising=False)
    assert sizes.arena_bytes(0, 0) == sizes.LEAST_ARENA_BYTES
    assert sizes.arena_bytes(1 << 30, 1 << 29) == (1 << 30) + (1 << 29)
    monkeypatch.setenv(sizes.ARENA_BYTES_VARIABLE, "4194304")
    buffer = deep_ep.Buffer(crossdock.make_in_process_bootstraps(1)[0], 1 << 40)
    assert buffer.runtime.arena_bytes_total == 4194304 and buffer.num_nvl_bytes == 1 << 40
    monkeypatch.setenv(sizes.ARENA_BYTES_VARIABLE, "4M")
    with pytest.raises(ValueError, match="'4M'"):
        sizes.arena_bytes(0, 0)


def test_what_a_buffer_needs() -> None:
    with pytest.raises(ValueError, match="neither group"):
        deep_ep.Buffer(None)
    with pytest.raises(ValueError, match="num_nvl_bytes is -1"):
        deep_ep.Buffer(None, -1)
    buffer = deep_ep.Buffer(crossdock.make_in_process_bootstraps(1)[0])
    assert deep_ep.Buffer.is_sm90_compiled() and buffer.get_comm_stream() is not None
    buffer.destroy()
    buffer.destroy()


def test_local_buffer_tensor() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        received = dispatch(buffer)[0]
        whole = buffer.get_local_buffer_tensor(torch.uint8)
        assert whole.shape == (buffer.runtime.arena_bytes_total,)
        begin = (received.data_ptr() - whole.data_ptr()) // 2
        rows = buffer.get_local_buffer_tensor(torch.bfloat16, received.shape, begin, use_rdma_buffer=True)
        assert rows.data_ptr() == received.data_ptr() and torch.equal(rows, received)
        elements = whole.numel() // 4
        assert buffer.get_local_buffer_tensor(torch.int32, offset=3).shape == (elements - 3,)
        with pytest.raises(ValueError, match=f"2 elements from {elements - 1} on, the buffer has {elements}"):
            buffer.get_local_buffer_tensor(torch.int32, torch.Size([2]), elements - 1)
        buffer.destroy()
        assert torch.equal(rows, X), "the memory outlives the buffer"

    run_threads(1, body)


def test_choice_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.DEVICE_VARIABLE, raising=False)
    cpu = torch.device("cpu")
    assert devices.choose_device("cpu") == cpu
    if not torch.cuda.is_available():
        assert devices.choose_device(None) == cpu
    with pytest.raises(ValueError, match="device is meta"):
        devices.choose_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert devices.choose_device(None) == cpu
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_default_device", lambda: torch.device("cuda:3"))
        assert devices.choose_device(None) == torch.device("cuda:3")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert devices.choose_device(None) == torch.device("cuda:3")
    assert devices.choose_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv(devices.DEVICE_VARIABLE, "cpu")
    assert devices.choose_device(None) == cpu
    monkeypatch.setenv(devices.DEVICE_VARIABLE, "cuda:2")
    assert devices.choose_device(None) == torch.device("cuda:2")


def test_ranks_that_disagree_on_the_device_all_hear_of_it() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        with pytest.raises(crossdock.Error, match="rank 0's buffer is for cpu, rank 1's for cuda") as caught:
            deep_ep.Buffer(bootstrap, device="cuda:0" if bootstrap.rank == 1 else "cpu")
        assert caught.value.code is crossdock.ErrorCode.MISMATCH and caught.value.rank == 1

    run_threads(2, body)


def test_bench_of_utils() -> None:
    calls = []
    mean, least, most = testing.bench(lambda: calls.append(time.sleep(0.002)), num_warmups=2, num_tests=3)
    assert len(calls) == 5 and 0.002 <= least <= mean <= most < 1


def test_bench_kineto_of_utils() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)

        def pair(hook: bool) -> None:
            rows, _, handle, _, receive = low_latency_dispatch(buffer, return_recv_hook=hook)
            if hook:
                time.sleep(0.05)  # is no part of either half
                receive()
            buffer.low_latency_combine(rows, IDS, WEIGHTS, handle)

        sent, summed, other = testing.bench_kineto(lambda: pair(False), ("dispatch", "combine", "notify"), num_tests=5)
        assert 0 < sent < 1 and 0 < summed < 1 and other == 0
        halves = testing.bench_kineto(lambda: pair(True), "dispatch", num_tests=5, num_kernels_per_period=2)
        assert len(halves) == 2 and all(0 < half < 0.05 for half in halves)
        assert testing.bench_kineto(lambda: dispatch(buffer), "dispatch", num_tests=2) > 0

    run_threads(1, body)


def test_arithmetic_of_utils() -> None:
    x = torch.randn(5, 200)
    rows, scales = math.per_token_cast_to_fp8(x)
    assert rows.shape == (5, 200) and scales.shape == (5, 2)
    assert math.calc_diff(math.per_token_cast_back(rows, scales), x) < 1e-3
    exponents = torch.tensor([[127 | 128 << 8]], dtype=torch.int32)
    back = math.per_token_cast_back(torch.ones(1, 256).to(torch.float8_e4m3fn), exponents)
    assert back[0, :128].unique().tolist() == [1.0] and back[0, 128:].unique().tolist() == [2.0]
    ids = torch.tensor([[3, 3, -1, 1], [0, 0, 0, 0]])
    math.inplace_unique(ids, 4)
    assert ids.tolist() == [[3, 1, -1, -1], [0, -1, -1, -1]]
    grouped = math.create_grouped_scores(torch.ones(1, 6), torch.tensor([[0, 2]]), 3)
    assert grouped.tolist() == [[1, 1, 0, 0, 1, 1]]
    assert math.hash_tensors(ids, None, (ids,)) == 0 and math.count_bytes([ids], None) == 64
    assert (math.ceil_div(7, 2), math.align(7, 4), math.safe_div(0, 0)) == (4, 8, 0)
