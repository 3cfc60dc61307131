"""The calls that engines make of deep_ep: the same keywords in the same order, on a layer whose output is known.

The names of variables are the callers'. A list of what each engine calls is in docs/python.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import crossdock
from crossdock import deep_ep
from crossdock.deep_ep.utils import EventHandle, EventOverlap
from crossdock.deep_ep.utils.math import per_token_cast_to_fp8
from layer import EXPERTS_PER_RANK, HIDDEN, MOST_TOKENS, Layer, make_layer, run_experts, run_packed_experts
from ranks import run_threads

RANKS = pytest.mark.parametrize("num_ranks", [2, 4])


def run_layers(num_ranks: int, body: Any) -> None:
    """body(group, layer) on each rank."""
    run_threads(num_ranks, lambda bootstrap: body(bootstrap, make_layer(bootstrap.rank, num_ranks)))


def low_latency_buffer(group: Any, layer: Layer) -> deep_ep.Buffer:
    """As vLLM makes it: every argument by keyword, those of the size hint too."""
    num_rdma_bytes = deep_ep.Buffer.get_low_latency_rdma_size_hint(
        num_max_dispatch_tokens_per_rank=MOST_TOKENS,
        hidden=HIDDEN,
        num_ranks=layer.num_ranks,
        num_experts=layer.num_experts,
    )
    return deep_ep.Buffer(
        group=group,
        num_nvl_bytes=0,
        num_rdma_bytes=num_rdma_bytes,
        low_latency_mode=True,
        num_qps_per_rank=EXPERTS_PER_RANK,
        allow_nvlink_for_low_latency_mode=True,
        allow_mnnvl=False,
        explicitly_destroy=True,
    )


@RANKS
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_vllm_high_throughput(num_ranks: int, is_fp8: bool, is_async: bool) -> None:
    """Two micro-batches, each with a handle of its own; the second is dispatched before the first is combined."""

    def prepare(buffer: deep_ep.Buffer, layer: Layer) -> tuple[Any, ...]:
        previous_event = buffer.capture() if is_async else None
        per_rank, per_rdma_rank, per_expert, is_token_in_rank, event = buffer.get_dispatch_layout(
            topk_idx=layer.topk_ids,
            num_experts=layer.num_experts,
            previous_event=previous_event,
            async_finish=False,
            allocate_on_comm_stream=False,
        )
        return buffer.dispatch(
            x=per_token_cast_to_fp8(layer.x) if is_fp8 else layer.x,
            handle=None,
            num_tokens_per_rank=per_rank,
            num_tokens_per_rdma_rank=per_rdma_rank,
            is_token_in_rank=is_token_in_rank,
            num_tokens_per_expert=per_expert,
            topk_idx=layer.topk_ids,
            topk_weights=layer.topk_weights,
            expert_alignment=1,
            config=deep_ep.Buffer.get_dispatch_config(layer.num_ranks),
            previous_event=previous_event,
            async_finish=is_async,
            allocate_on_comm_stream=False,
        )

    def receive(layer: Layer, result: tuple[Any, ...]) -> torch.Tensor:
        token_data, expert_topk_ids, expert_topk_weights, per_expert_list, _, event = result
        if event.event is not None:
            event.current_stream_wait()
        assert sum(per_expert_list) == int((expert_topk_ids >= 0).sum())
        # Ids of other ranks' experts become one that is sure not to be here.
        elsewhere = layer.num_experts - 1 if layer.rank == 0 else 0
        ids = torch.where(expert_topk_ids == -1, elsewhere, expert_topk_ids + layer.first_expert)
        is_here = (ids >= layer.first_expert) & (ids < layer.first_expert + EXPERTS_PER_RANK)
        local_ids = torch.where(is_here, ids - layer.first_expert, -1)
        return run_experts(token_data, local_ids, expert_topk_weights, layer.first_expert)

    def finalize(buffer: deep_ep.Buffer, layer: Layer, y: torch.Tensor, handle: Any, output: torch.Tensor) -> None:
        combined_x, _, event = buffer.combine(
            x=y,
            handle=handle,
            topk_weights=None,
            config=deep_ep.Buffer.get_combine_config(layer.num_ranks),
            previous_event=buffer.capture() if is_async else None,
            async_finish=is_async,
            allocate_on_comm_stream=False,
        )
        if event.event is not None:
            event.current_stream_wait()
        output.copy_(combined_x)

    def body(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(
            group=group, num_nvl_bytes=1 << 22, num_rdma_bytes=0, low_latency_mode=False, num_qps_per_rank=1,
            explicitly_destroy=True)
        deep_ep.Buffer.set_num_sms(20)
        layers = [layer, make_layer(layer.rank, num_ranks, seed=1)]
        results = [prepare(buffer, batch) for batch in layers]
        for batch, result in zip(layers, results):
            output = torch.empty_like(batch.x)
            finalize(buffer, batch, receive(batch, result), result[4], output)
            batch.check(output, 0.08 if is_fp8 else 0.02)
        buffer.destroy()

    run_layers(num_ranks, body)


@RANKS
@pytest.mark.parametrize("quantization", [{"use_fp8": False}, {"use_fp8": True}, {"use_fp8": True, "round_scale": True}])
def test_vllm_low_latency(num_ranks: int, quantization: dict[str, bool]) -> None:
    """Hooks always; `out` given; two micro-batches with both dispatches sent before the first is received."""

    def body(group: Any, layer: Layer) -> None:
        buffer = low_latency_buffer(group, layer)
        layers = [layer, make_layer(layer.rank, num_ranks, seed=1)]
        sent = [
            buffer.low_latency_dispatch(
                batch.x, batch.topk_ids, MOST_TOKENS, batch.num_experts, async_finish=False, return_recv_hook=True,
                **quantization)
            for batch in layers
        ]
        for batch, (expert_x, expert_num_tokens, handle, _, hook) in zip(layers, sent):
            assert hook is not None
            hook()
            y = run_packed_experts(expert_x, expert_num_tokens, batch.first_expert)
            output = torch.full_like(batch.x, torch.nan)
            _, _, recv_hook = buffer.low_latency_combine(
                y, batch.topk_ids, batch.topk_weights, handle, async_finish=False, zero_copy=False,
                return_recv_hook=True, out=output)
            assert recv_hook is not None
            recv_hook()
            batch.check(output, 0.08 if quantization["use_fp8"] else 0.02)
        buffer.destroy()

    run_layers(num_ranks, body)


@RANKS
def test_sglang(num_ranks: int) -> None:
    """One buffer sized by hints for both modes; normal mode by events, then cleaned for low-latency mode."""

    def make_buffer(group: Any, layer: Layer) -> deep_ep.Buffer:
        num_nvl_bytes, num_rdma_bytes = 0, 0
        config = deep_ep.Config(num_sms=2, num_max_nvl_chunked_send_tokens=4, num_max_nvl_chunked_recv_tokens=32)
        for c in (config, deep_ep.Config(2, 4, 32)):
            num_nvl_bytes = max(c.get_nvl_buffer_size_hint(2 * HIDDEN, group.size), num_nvl_bytes)
            num_rdma_bytes = max(c.get_rdma_buffer_size_hint(2 * HIDDEN, group.size), num_rdma_bytes)
        num_rdma_bytes = max(
            deep_ep.Buffer.get_low_latency_rdma_size_hint(MOST_TOKENS, HIDDEN, group.size, layer.num_experts), num_rdma_bytes
        )
        buffer = deep_ep.Buffer(
            group, num_nvl_bytes, num_rdma_bytes, low_latency_mode=True, num_qps_per_rank=EXPERTS_PER_RANK, allow_mnnvl=True)
        assert buffer.group_size == group.size and buffer.low_latency_mode and deep_ep.Buffer.num_sms % 2 == 0
        return buffer

    def normal(buffer: deep_ep.Buffer, layer: Layer) -> None:
        previous_event: EventOverlap = deep_ep.Buffer.capture()
        per_rank, per_rdma_rank, per_expert, is_token_in_rank, previous_event = buffer.get_dispatch_layout(
            layer.topk_ids,
            layer.num_experts,
            previous_event=previous_event,
            async_finish=True,
            allocate_on_comm_stream=previous_event is not None,
        )
        recv_x, recv_ids, recv_weights, counts, handle, event = buffer.dispatch(
            layer.x,
            topk_idx=layer.topk_ids,
            topk_weights=layer.topk_weights,
            num_tokens_per_rank=per_rank,
            num_tokens_per_rdma_rank=per_rdma_rank,
            is_token_in_rank=is_token_in_rank,
            num_tokens_per_expert=per_expert,
            previous_event=previous_event,
            async_finish=True,
            allocate_on_comm_stream=previous_event is not None,
            expert_alignment=128,
            config=deep_ep.Config(2, 4, 32),
        )
        event.current_stream_wait()
        assert all(count % 128 == 0 for count in counts) and len(counts) == EXPERTS_PER_RANK
        y = run_experts(recv_x, recv_ids, recv_weights, layer.first_expert)
        previous_event = deep_ep.Buffer.capture()
        combined_x, _, event = buffer.combine(
            y,
            handle,
            async_finish=True,
            previous_event=previous_event,
            allocate_on_comm_stream=previous_event is not None,
            config=deep_ep.Config(2, 4, 32),
        )
        event.current_stream_wait()
        layer.check(combined_x)

    def low_latency(buffer: deep_ep.Buffer, layer: Layer, return_recv_hook: bool) -> None:
        packed, masked_m, handle, event, hook = buffer.low_latency_dispatch(
            layer.x,
            layer.topk_ids,
            MOST_TOKENS,
            layer.num_experts,
            use_fp8=True,
            round_scale=True,
            use_ue8m0=False,
            async_finish=not return_recv_hook,
            return_recv_hook=return_recv_hook,
        )
        hook() if return_recv_hook else event.current_stream_wait()
        y = run_packed_experts(packed, masked_m, layer.first_expert)
        combined_x, event, hook = buffer.low_latency_combine(
            x=y,
            topk_idx=layer.topk_ids,
            topk_weights=layer.topk_weights,
            handle=handle,
            async_finish=not return_recv_hook,
            return_recv_hook=return_recv_hook,
        )
        hook() if return_recv_hook else event.current_stream_wait()
        layer.check(combined_x, 0.08)

    def body(group: Any, layer: Layer) -> None:
        buffer = make_buffer(group, layer)
        normal(buffer, layer)
        buffer.clean_low_latency_buffer(MOST_TOKENS, HIDDEN, layer.num_experts)
        low_latency(buffer, layer, return_recv_hook=False)
        low_latency(buffer, layer, return_recv_hook=True)
        normal(buffer, layer)

    run_layers(num_ranks, body)


@RANKS
def test_rtp_llm(num_ranks: int) -> None:
    """Eight positional arguments; ids and layout by two; the low-latency pair synchronous and by keyword."""

    def normal(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(
            group=group, num_nvl_bytes=1 << 22, num_rdma_bytes=0, low_latency_mode=False, num_qps_per_rank=1,
            allow_mnnvl=False, use_fabric=False)
        deep_ep.Buffer.set_num_sms(24)
        per_rank, per_rdma_rank, per_expert, is_token_in_rank, _ = buffer.get_dispatch_layout(
            layer.topk_ids, layer.num_experts)
        recv_x, recv_ids, recv_weights, counts, handle, _ = buffer.dispatch(
            per_token_cast_to_fp8(layer.x), None, per_rank, per_rdma_rank, is_token_in_rank, per_expert, layer.topk_ids,
            layer.topk_weights, expert_alignment=128)
        assert all(count % 128 == 0 for count in counts)
        y = run_experts(recv_x, recv_ids, recv_weights, layer.first_expert)
        combined_x, combined_weights, event = buffer.combine(y, handle)
        assert combined_weights is None and event.event is None
        layer.check(combined_x, 0.08)

    def low_latency(group: Any, layer: Layer) -> None:
        buffer = low_latency_buffer(group, layer)
        buffer.clean_low_latency_buffer(MOST_TOKENS, HIDDEN, layer.num_experts)
        packed, counts, handle, event, hook = buffer.low_latency_dispatch(
            x=layer.x, topk_idx=layer.topk_ids, num_max_dispatch_tokens_per_rank=MOST_TOKENS,
            num_experts=layer.num_experts, use_fp8=True, async_finish=False, return_recv_hook=False)
        assert event.event is None and hook is None
        y = run_packed_experts(packed, counts, layer.first_expert)
        combined_x, _, _ = buffer.low_latency_combine(
            x=y, topk_idx=layer.topk_ids, topk_weights=layer.topk_weights, handle=handle, async_finish=False,
            return_recv_hook=False)
        layer.check(combined_x, 0.08)

    run_layers(num_ranks, normal)
    run_layers(num_ranks, low_latency)


def test_tensorrt_llm() -> None:
    """An mpi4py communicator instead of a group; the event is looked at."""

    class Communicator:
        def __init__(self, bootstrap: crossdock.Bootstrap) -> None:
            self.Get_rank = lambda: bootstrap.rank
            self.Get_size = lambda: bootstrap.size
            self.allgather = bootstrap.all_gather

    def body(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(None, num_nvl_bytes=1 << 22, num_rdma_bytes=0, comm=Communicator(group))
        layout = buffer.get_dispatch_layout(layer.topk_ids, layer.num_experts)
        assert layout[4].event is None
        recv_x, recv_ids, recv_weights, _, handle, event = buffer.dispatch(
            layer.x, num_tokens_per_rank=layout[0], num_tokens_per_rdma_rank=layout[1], is_token_in_rank=layout[3],
            num_tokens_per_expert=layout[2], topk_idx=layer.topk_ids, topk_weights=layer.topk_weights,
            config=deep_ep.Buffer.get_dispatch_config(layer.num_ranks))
        assert event.event is None
        combined_x, _, event = buffer.combine(run_experts(recv_x, recv_ids, recv_weights, layer.first_expert), handle)
        assert event.event is None
        layer.check(combined_x)

    run_layers(2, body)


@RANKS
@pytest.mark.parametrize("async_finish", [False, True])
def test_megatron(num_ranks: int, async_finish: bool) -> None:
    """Its pair of autograd functions: backward of dispatch combines with the weights' gradient, that of combine
    dispatches by the handle."""

    def previous() -> EventOverlap | None:
        return EventOverlap(EventHandle()) if async_finish else None

    class FusedDispatch(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, token_indices: Any, token_probs: Any, num_experts: int, buffer: deep_ep.Buffer) -> Any:
            per_rank, per_rdma_rank, per_expert, is_token_in_rank, event = buffer.get_dispatch_layout(
                token_indices, num_experts, previous_event=previous(), async_finish=async_finish,
                allocate_on_comm_stream=async_finish)
            recv_x, recv_ids, recv_probs, counts, handle, after_event = buffer.dispatch(
                x, topk_idx=token_indices, topk_weights=token_probs, num_tokens_per_rank=per_rank,
                num_tokens_per_rdma_rank=per_rdma_rank, is_token_in_rank=is_token_in_rank,
                num_tokens_per_expert=per_expert, previous_event=event, async_finish=async_finish,
                allocate_on_comm_stream=async_finish)
            if async_finish:
                after_event.current_stream_wait()
            ctx.buffer, ctx.handle = buffer, handle
            ctx.mark_non_differentiable(recv_ids)
            return recv_x, recv_ids, recv_probs, torch.tensor(counts), handle

        @staticmethod
        def backward(ctx: Any, grad_output: Any, grad_ids: Any, grad_probs: Any, grad_counts: Any, grad_handle: Any) -> Any:
            grad_x, grad_token_probs, after_event = ctx.buffer.combine(
                grad_output.contiguous(), ctx.handle, topk_weights=grad_probs.float(), previous_event=previous(),
                async_finish=async_finish, allocate_on_comm_stream=async_finish)
            if async_finish:
                after_event.current_stream_wait()
            return grad_x, None, grad_token_probs, None, None

    class FusedCombine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, buffer: deep_ep.Buffer, handle: Any) -> Any:
            combined_x, _, after_event = buffer.combine(
                x, handle=handle, async_finish=async_finish, previous_event=previous(),
                allocate_on_comm_stream=async_finish)
            if async_finish:
                after_event.current_stream_wait()
            ctx.buffer, ctx.handle = buffer, handle
            return combined_x

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            grad_x, _, _, _, _, after_event = ctx.buffer.dispatch(
                grad_output.contiguous(), handle=ctx.handle, previous_event=previous(), async_finish=async_finish,
                allocate_on_comm_stream=async_finish)
            if async_finish:
                after_event.current_stream_wait()
            return grad_x, None, None

    def body(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(group, 1 << 22, 0)
        assert buffer.group is group and buffer.num_nvl_bytes == 1 << 22 and buffer.num_rdma_bytes == 0
        x, probs = layer.x.requires_grad_(), layer.topk_weights.requires_grad_()
        recv_x, recv_ids, recv_probs, counts, handle = FusedDispatch.apply(
            x, layer.topk_ids, probs, layer.num_experts, buffer)
        assert counts.tolist() == [int((recv_ids == e).sum()) for e in range(EXPERTS_PER_RANK)]
        combined = FusedCombine.apply(run_experts(recv_x, recv_ids, recv_probs, layer.first_expert), buffer, handle)
        combined.sum().backward()
        layer.check(combined.detach())
        factors = torch.where(layer.topk_ids >= 0, probs.detach() * (layer.topk_ids + 1), 0.0).sum(1, keepdim=True)
        assert x.grad is not None and probs.grad is not None
        torch.testing.assert_close(x.grad.float(), factors.expand_as(x), rtol=0.02, atol=0.02)
        of_weight = torch.where(layer.topk_ids >= 0, layer.x.detach().float().sum(1, keepdim=True) * (layer.topk_ids + 1), 0.0)
        torch.testing.assert_close(probs.grad, of_weight, rtol=0.02, atol=0.5)

    run_layers(num_ranks, body)
