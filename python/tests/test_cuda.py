"""What only CUDA tensors have: streams, events, DLPack between devices, and programs that say nothing of a device.

Ranks share device 0. Backward of several ranks needs processes: torch runs that of all threads in one thread a device.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import pytest
import torch

import crossdock
from crossdock import autograd, deep_ep
from crossdock.deep_ep.utils.math import calc_diff
from ranks import DEVICE_VARIABLE, on_test_device, run_buffers, run_threads
from test_bootstraps import free_port
from test_launchers import RUN_AS_DEEP_EP, run, torchrun
from world import World, make_world, same_bits

ON_CUDA = pytest.mark.parametrize("device", ["cuda"], indirect=True)
TOKENS, HIDDEN = 512, 1024
SLEEP_CYCLES = 50_000_000  # some 30 ms


def options(**others: Any) -> crossdock.OperationOptions:
    return crossdock.OperationOptions(stream=torch.cuda.current_stream(), **others)


def late(value: float) -> torch.Tensor:
    """Rows that the current stream will have filled only after it has slept."""
    x = torch.zeros(TOKENS, HIDDEN, dtype=torch.bfloat16)
    torch.cuda._sleep(SLEEP_CYCLES)
    return x.fill_(value)


def to_next(buffer: crossdock.Buffer) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and weights by which each token goes to the next rank's expert."""
    ids = torch.full((TOKENS, 1), (buffer.rank + 1) % buffer.num_ranks)
    return ids, torch.ones(TOKENS, 1, dtype=torch.float32)


def run_world(world: World, device: str, kind: str) -> list[Any]:
    """Every rank's received and combined tensors, as numpy arrays."""

    def body(buffer: crossdock.Buffer) -> list[np.ndarray]:
        r = buffer.rank

        def here(array: np.ndarray) -> torch.Tensor:
            is_half = array.dtype.name == "bfloat16"
            tensor = torch.from_numpy(array.view(np.int16) if is_half else array).to(device)
            return tensor.view(torch.bfloat16) if is_half else tensor

        def back(tensor: crossdock.Tensor) -> np.ndarray:
            value = torch.from_dlpack(tensor) if kind == "dlpack" else tensor.torch()
            assert value.device.type == device.split(":")[0]
            assert value.numel() == 0 or value.data_ptr() == tensor.data_ptr()
            return (value.view(torch.int16) if value.dtype is torch.bfloat16 else value).cpu().numpy()

        how = options() if device != "cpu" else crossdock.OperationOptions()
        x, ids, weights = here(world.x[r]), here(world.topk_idx[r]), here(world.topk_weights[r])
        out = buffer.dispatch(x, ids, weights, num_experts=world.num_experts, options=how)
        again = buffer.dispatch_cached(x, out.handle, options=how)
        sums = buffer.combine(out.recv_x, out.handle, topk_weights=out.recv_topk_weights, options=how)
        tensors = [out.recv_x, out.recv_topk_idx, out.recv_topk_weights, again.recv_x, sums.combined_x]
        return [back(t) for t in [*tensors, sums.combined_topk_weights, out.handle.recv_src_idx()]]

    return run_buffers(world.num_ranks, body)


@ON_CUDA
@pytest.mark.parametrize("kind", ["torch", "dlpack"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_the_same_bits_as_on_the_cpu(num_ranks: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(7, num_ranks, num_experts=5, hidden=72, top_k=3, tokens=20)
    on_cuda = run_world(world, "cuda:0", kind)
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    for ours, right in zip(on_cuda, run_world(world, "cpu", kind)):
        assert all(same_bits(a, b) for a, b in zip(ours, right))


@ON_CUDA
def test_an_operation_starts_after_the_stream_that_it_is_given() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        ids, weights = to_next(buffer)
        out = buffer.dispatch(late(buffer.rank + 1), ids, weights, num_experts=buffer.num_ranks, options=options())
        expected = (buffer.rank - 1) % buffer.num_ranks + 1
        assert bool((out.recv_x.torch() == expected).all())

    run_buffers(2, body)


@ON_CUDA
def test_dlpack_orders_the_producer_s_stream_before_the_given_one() -> None:
    """x is made on one stream, the operation is called for another."""

    def body(buffer: crossdock.Buffer) -> None:
        ids, weights = to_next(buffer)
        torch.cuda.current_stream().synchronize()
        how = crossdock.OperationOptions(stream=torch.cuda.Stream())
        x = late(3)  # of the current stream
        out = buffer.dispatch(x, ids, weights, num_experts=buffer.num_ranks, options=how)
        assert bool((out.recv_x.torch() == 3).all())

    run_buffers(2, body)


@ON_CUDA
def test_previous_events_of_another_stream() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        assert buffer.device == torch.device("cuda:0")
        ids, weights = to_next(buffer.runtime)
        layout = buffer.get_dispatch_layout(ids, buffer.group_size)
        for capture in (buffer.capture, lambda: deep_ep.EventOverlap(deep_ep.EventHandle())):
            with torch.cuda.stream(torch.cuda.Stream()):
                x = late(5)
                previous = capture()
                assert previous.event is not None and not previous.event.core.is_complete()
            rows, _, _, _, handle, event = buffer.dispatch(
                x,
                num_tokens_per_rank=layout[0],
                num_tokens_per_expert=layout[2],
                is_token_in_rank=layout[3],
                topk_idx=ids,
                topk_weights=weights,
                previous_event=previous,
                async_finish=True,
                allocate_on_comm_stream=True,
            )
            event.current_stream_wait()
            assert isinstance(rows, torch.Tensor) and bool((rows == 5).all())
            combined, _, event = buffer.combine(rows, handle, async_finish=True)
            event.current_stream_wait()
            assert calc_diff(combined, x) < 1e-9

    run_threads(2, body)


@ON_CUDA
def test_a_captured_event_holds_up_the_stream_and_not_the_caller() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            x = late(2)
            event = deep_ep.Buffer.capture()
        event.current_stream_wait()
        assert not event.event.core.is_complete(), "the caller has waited"
        assert float(x.sum(dtype=torch.float32)) == 2 * TOKENS * HIDDEN

    run_threads(1, body)


@ON_CUDA
def test_communication_stream_and_local_buffer() -> None:
    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        stream = buffer.get_comm_stream()
        assert isinstance(stream, torch.cuda.Stream) and stream.cuda_stream == buffer.runtime.communication_stream
        with torch.cuda.stream(stream):
            assert float(torch.ones(8).sum()) == 8
        assert buffer.get_local_buffer_tensor(torch.uint8).device == buffer.device

    run_threads(1, body)


@ON_CUDA
def test_tensors_of_the_wrong_device_are_refused() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        ids, weights = to_next(buffer)
        x = torch.zeros(TOKENS, HIDDEN, device="cpu" if buffer.rank == 1 else None)
        with pytest.raises(crossdock.Error, match=r"rank 1: .*x lies on the host, but .* CUDA device 0"):
            buffer.dispatch(x, ids, weights, num_experts=2, options=options())
        received = buffer.dispatch(x.to("cuda"), ids, weights, num_experts=2, options=options()).recv_x
        with pytest.raises(crossdock.Error, match=r"numpy\(\) of a tensor on cuda:0"):
            received.numpy()

    run_buffers(2, body)


def run_backward(rank: int, size: int, store: str) -> None:
    """Each token goes to the next rank, which multiplies it by 3."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    with on_test_device():
        buffer = deep_ep.Buffer(torch.distributed.group.WORLD)
        x = late(rank + 1).requires_grad_()
        ids, weights = to_next(buffer.runtime)
        got = autograd.dispatch(buffer, x, ids, weights.requires_grad_(), size)
        output = autograd.combine(buffer, got.x * 3, got.handle)
        output.sum().backward()
        assert bool((output == 3 * (rank + 1)).all())
        assert x.grad is not None and x.grad.is_cuda and bool((x.grad == 3).all())
        buffer.destroy()
    torch.distributed.destroy_process_group()


@ON_CUDA
def test_backward_between_processes(tmp_path: pathlib.Path) -> None:
    torch.multiprocessing.spawn(run_backward, args=(2, str(tmp_path / "store")), nprocs=2)


@ON_CUDA
@pytest.mark.parametrize("start", ["torchrun", "spawn"])
def test_a_program_for_deep_ep_on_one_device(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts its ranks on device 0 and joins them by gloo, and says nothing of crossdock."""
    monkeypatch.delenv(DEVICE_VARIABLE)
    if start == "torchrun":
        run(torchrun(*RUN_AS_DEEP_EP, start, "cuda"), 2, OMP_NUM_THREADS="1")
    else:
        run([sys.executable, *RUN_AS_DEEP_EP, start, "cuda", "2"], 2, MASTER_PORT=str(free_port()))
