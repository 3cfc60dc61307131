"""The calls of SGLang, rtp-llm and TensorRT-LLM: the same keywords in the same order, on a layer whose output is known.

The names of variables are the callers'. docs/python.md lists what each engine calls.
"""

from __future__ import annotations

from typing import Any

import crossdock
from callers import EACH_DEVICE, RANKS, low_latency_buffer, run_layers
from crossdock import deep_ep
from crossdock.deep_ep.utils import EventOverlap
from crossdock.deep_ep.utils.math import per_token_cast_to_fp8
from layer import EXPERTS_PER_RANK, HIDDEN, MOST_TOKENS, Layer, run_experts, run_packed_experts
from ranks import has_low_latency


@EACH_DEVICE
@RANKS
def test_sglang(num_ranks: int) -> None:
    """One buffer sized by hints for both modes; normal mode by events, then cleaned for low-latency mode."""
    with_low_latency = has_low_latency()

    def make_buffer(group: Any, layer: Layer) -> deep_ep.Buffer:
        num_nvl_bytes, num_rdma_bytes = 0, 0
        config = deep_ep.Config(num_sms=2, num_max_nvl_chunked_send_tokens=4, num_max_nvl_chunked_recv_tokens=32)
        for c in (config, deep_ep.Config(2, 4, 32)):
            num_nvl_bytes = max(c.get_nvl_buffer_size_hint(2 * HIDDEN, group.size), num_nvl_bytes)
            num_rdma_bytes = max(c.get_rdma_buffer_size_hint(2 * HIDDEN, group.size), num_rdma_bytes)
        num_rdma_bytes = max(
            deep_ep.Buffer.get_low_latency_rdma_size_hint(MOST_TOKENS, HIDDEN, group.size, layer.num_experts),
            num_rdma_bytes,
        )
        buffer = deep_ep.Buffer(
            group,
            num_nvl_bytes,
            num_rdma_bytes,
            low_latency_mode=True,
            num_qps_per_rank=EXPERTS_PER_RANK,
            allow_mnnvl=True,
        )
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
        if with_low_latency:
            low_latency(buffer, layer, return_recv_hook=False)
            low_latency(buffer, layer, return_recv_hook=True)
        normal(buffer, layer)

    run_layers(num_ranks, body)


@EACH_DEVICE
@RANKS
def test_rtp_llm(num_ranks: int) -> None:
    """Eight positional arguments; ids and layout by two; the low-latency pair synchronous and by keyword."""

    def normal(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(
            group=group,
            num_nvl_bytes=1 << 22,
            num_rdma_bytes=0,
            low_latency_mode=False,
            num_qps_per_rank=1,
            allow_mnnvl=False,
            use_fabric=False,
        )
        deep_ep.Buffer.set_num_sms(24)
        per_rank, per_rdma_rank, per_expert, is_token_in_rank, _ = buffer.get_dispatch_layout(
            layer.topk_ids, layer.num_experts
        )
        recv_x, recv_ids, recv_weights, counts, handle, _ = buffer.dispatch(
            per_token_cast_to_fp8(layer.x),
            None,
            per_rank,
            per_rdma_rank,
            is_token_in_rank,
            per_expert,
            layer.topk_ids,
            layer.topk_weights,
            expert_alignment=128,
        )
        assert all(count % 128 == 0 for count in counts)
        y = run_experts(recv_x, recv_ids, recv_weights, layer.first_expert)
        combined_x, combined_weights, event = buffer.combine(y, handle)
        assert combined_weights is None and event.event is None
        layer.check(combined_x, 0.08)

    def low_latency(group: Any, layer: Layer) -> None:
        buffer = low_latency_buffer(group, layer)
        buffer.clean_low_latency_buffer(MOST_TOKENS, HIDDEN, layer.num_experts)
        packed, counts, handle, event, hook = buffer.low_latency_dispatch(
            x=layer.x,
            topk_idx=layer.topk_ids,
            num_max_dispatch_tokens_per_rank=MOST_TOKENS,
            num_experts=layer.num_experts,
            use_fp8=True,
            async_finish=False,
            return_recv_hook=False,
        )
        assert event.event is None and hook is None
        y = run_packed_experts(packed, counts, layer.first_expert)
        combined_x, _, _ = buffer.low_latency_combine(
            x=y,
            topk_idx=layer.topk_ids,
            topk_weights=layer.topk_weights,
            handle=handle,
            async_finish=False,
            return_recv_hook=False,
        )
        layer.check(combined_x, 0.08)

    run_layers(num_ranks, normal)
    if has_low_latency():
        run_layers(num_ranks, low_latency)


@EACH_DEVICE
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
            layer.x,
            num_tokens_per_rank=layout[0],
            num_tokens_per_rdma_rank=layout[1],
            is_token_in_rank=layout[3],
            num_tokens_per_expert=layout[2],
            topk_idx=layer.topk_ids,
            topk_weights=layer.topk_weights,
            config=deep_ep.Buffer.get_dispatch_config(layer.num_ranks),
        )
        assert event.event is None
        combined_x, _, event = buffer.combine(run_experts(recv_x, recv_ids, recv_weights, layer.first_expert), handle)
        assert event.event is None
        layer.check(combined_x)

    run_layers(2, body)
