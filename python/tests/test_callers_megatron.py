"""The calls of Megatron's fused all-to-all: the same keywords in the same order, on a layer whose output is known.

The names of variables are the callers'. docs/python.md lists what each engine calls.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from callers import RANKS, run_layers
from crossdock import deep_ep
from crossdock.deep_ep.utils import EventHandle, EventOverlap
from layer import EXPERTS_PER_RANK, Layer, run_experts


@RANKS
@pytest.mark.parametrize("async_finish", [False, True])
def test_megatron(num_ranks: int, async_finish: bool) -> None:
    """Its pair of autograd functions: backward of dispatch combines with the weights' gradient, that of combine
    dispatches by the handle."""

    def previous() -> EventOverlap | None:
        return EventOverlap(EventHandle()) if async_finish else None

    class FusedDispatch(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, x: Any, token_indices: Any, token_probs: Any, num_experts: int, buffer: deep_ep.Buffer
        ) -> Any:
            per_rank, per_rdma_rank, per_expert, is_token_in_rank, event = buffer.get_dispatch_layout(
                token_indices,
                num_experts,
                previous_event=previous(),
                async_finish=async_finish,
                allocate_on_comm_stream=async_finish,
            )
            recv_x, recv_ids, recv_probs, counts, handle, after_event = buffer.dispatch(
                x,
                topk_idx=token_indices,
                topk_weights=token_probs,
                num_tokens_per_rank=per_rank,
                num_tokens_per_rdma_rank=per_rdma_rank,
                is_token_in_rank=is_token_in_rank,
                num_tokens_per_expert=per_expert,
                previous_event=event,
                async_finish=async_finish,
                allocate_on_comm_stream=async_finish,
            )
            if async_finish:
                after_event.current_stream_wait()
            ctx.buffer, ctx.handle = buffer, handle
            ctx.mark_non_differentiable(recv_ids)
            return recv_x, recv_ids, recv_probs, torch.tensor(counts), handle

        @staticmethod
        def backward(
            ctx: Any, grad_output: Any, grad_ids: Any, grad_probs: Any, grad_counts: Any, grad_handle: Any
        ) -> Any:
            grad_x, grad_token_probs, after_event = ctx.buffer.combine(
                grad_output.contiguous(),
                ctx.handle,
                topk_weights=grad_probs.float(),
                previous_event=previous(),
                async_finish=async_finish,
                allocate_on_comm_stream=async_finish,
            )
            if async_finish:
                after_event.current_stream_wait()
            return grad_x, None, grad_token_probs, None, None

    class FusedCombine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, buffer: deep_ep.Buffer, handle: Any) -> Any:
            combined_x, _, after_event = buffer.combine(
                x,
                handle=handle,
                async_finish=async_finish,
                previous_event=previous(),
                allocate_on_comm_stream=async_finish,
            )
            if async_finish:
                after_event.current_stream_wait()
            ctx.buffer, ctx.handle = buffer, handle
            return combined_x

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            grad_x, _, _, _, _, after_event = ctx.buffer.dispatch(
                grad_output.contiguous(),
                handle=ctx.handle,
                previous_event=previous(),
                async_finish=async_finish,
                allocate_on_comm_stream=async_finish,
            )
            if async_finish:
                after_event.current_stream_wait()
            return grad_x, None, None

    def body(group: Any, layer: Layer) -> None:
        buffer = deep_ep.Buffer(group, 1 << 22, 0)
        assert buffer.group is group and buffer.num_nvl_bytes == 1 << 22 and buffer.num_rdma_bytes == 0
        x, probs = layer.x.requires_grad_(), layer.topk_weights.requires_grad_()
        recv_x, recv_ids, recv_probs, counts, handle = FusedDispatch.apply(
            x, layer.topk_ids, probs, layer.num_experts, buffer
        )
        assert counts.tolist() == [int((recv_ids == e).sum()) for e in range(EXPERTS_PER_RANK)]
        combined = FusedCombine.apply(run_experts(recv_x, recv_ids, recv_probs, layer.first_expert), buffer, handle)
        combined.sum().backward()
        layer.check(combined.detach())
        factors = torch.where(layer.topk_ids >= 0, probs.detach() * (layer.topk_ids + 1), 0.0).sum(1, keepdim=True)
        assert x.grad is not None and probs.grad is not None
        torch.testing.assert_close(x.grad.float(), factors.expand_as(x), rtol=0.02, atol=0.02)
        of_weight = torch.where(
            layer.topk_ids >= 0, layer.x.detach().float().sum(1, keepdim=True) * (layer.topk_ids + 1), 0.0
        )
        torch.testing.assert_close(probs.grad, of_weight, rtol=0.02, atol=0.5)

    run_layers(num_ranks, body)
