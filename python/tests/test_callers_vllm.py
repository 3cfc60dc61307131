"""The calls of vLLM's two classes: the same keywords in the same order, on a layer whose output is known.

The names of variables are the callers'. docs/python.md lists what each engine calls.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from callers import EACH_DEVICE, RANKS, low_latency_buffer, run_layers
from crossdock import deep_ep
from crossdock.deep_ep.utils.math import per_token_cast_to_fp8
from layer import EXPERTS_PER_RANK, MOST_TOKENS, Layer, make_layer, run_experts, run_packed_experts
from ranks import require_low_latency


@EACH_DEVICE
@RANKS
@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_vllm_high_throughput(num_ranks: int, is_fp8: bool, is_async: bool) -> None:
    """Two micro-batches, each with a handle of its own; the second is dispatched before the first is combined."""

    def prepare(buffer: deep_ep.Buffer, layer: Layer) -> tuple[Any, ...]:
        previous_event = buffer.capture() if is_async else None
        per_rank, per_rdma_rank, per_expert, is_token_in_rank, _ = buffer.get_dispatch_layout(
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
            group=group,
            num_nvl_bytes=1 << 22,
            num_rdma_bytes=0,
            low_latency_mode=False,
            num_qps_per_rank=1,
            explicitly_destroy=True,
        )
        deep_ep.Buffer.set_num_sms(20)
        layers = [layer, make_layer(layer.rank, num_ranks, seed=1)]
        results = [prepare(buffer, batch) for batch in layers]
        for batch, result in zip(layers, results):
            output = torch.empty_like(batch.x)
            finalize(buffer, batch, receive(batch, result), result[4], output)
            batch.check(output, 0.08 if is_fp8 else 0.02)
        buffer.destroy()

    run_layers(num_ranks, body)


@EACH_DEVICE
@RANKS
@pytest.mark.parametrize(
    "quantization", [{"use_fp8": False}, {"use_fp8": True}, {"use_fp8": True, "round_scale": True}]
)
def test_vllm_low_latency(num_ranks: int, quantization: dict[str, bool]) -> None:
    """Hooks always; `out` given; two micro-batches with both dispatches sent before the first is received."""
    require_low_latency()

    def body(group: Any, layer: Layer) -> None:
        buffer = low_latency_buffer(group, layer)
        layers = [layer, make_layer(layer.rank, num_ranks, seed=1)]
        sent = [
            buffer.low_latency_dispatch(
                batch.x,
                batch.topk_ids,
                MOST_TOKENS,
                batch.num_experts,
                async_finish=False,
                return_recv_hook=True,
                **quantization,
            )
            for batch in layers
        ]
        for batch, (expert_x, expert_num_tokens, handle, _, hook) in zip(layers, sent):
            assert hook is not None
            hook()
            y = run_packed_experts(expert_x, expert_num_tokens, batch.first_expert)
            output = torch.full_like(batch.x, torch.nan)
            _, _, recv_hook = buffer.low_latency_combine(
                y,
                batch.topk_ids,
                batch.topk_weights,
                handle,
                async_finish=False,
                zero_copy=False,
                return_recv_hook=True,
                out=output,
            )
            assert recv_hook is not None
            recv_hook()
            batch.check(output, 0.08 if quantization["use_fp8"] else 0.02)
        buffer.destroy()

    run_layers(num_ranks, body)
