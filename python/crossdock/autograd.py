"""Dispatch and combine as differentiable torch functions.

The gradient of dispatch is combine, and the reverse. Backward is as collective as forward: all ranks run it, in the
same order. Received rows stay in the arena for as long as the graph holds them, so that it must have room for the rows
of all layers whose backward is still to come.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import crossdock

from .deep_ep import Buffer as DeepEpBuffer
from .deep_ep.tensors import to_core, to_torch


@dataclasses.dataclass
class Dispatched:
    """M received rows, ordered by (source rank, source token)."""

    x: torch.Tensor
    """[M, hidden]"""
    topk_idx: torch.Tensor
    """[M, top-k]: number of the expert within this rank, -1 elsewhere"""
    topk_weights: torch.Tensor
    """float32 [M, top-k], 0 where the id is -1"""
    num_tokens_per_expert: list[int]
    """selections of each local expert"""
    handle: crossdock.DispatchHandle


def dispatch(
    buffer: crossdock.Buffer | DeepEpBuffer,
    x: torch.Tensor,
    topk_idx: torch.Tensor,
    topk_weights: torch.Tensor,
    num_experts: int,
    expert_alignment: int = 1,
) -> Dispatched:
    """Sends each token to the ranks that own its experts; differentiable in x and topk_weights. Collective.

    x: bfloat16 or float32 [tokens, hidden]. topk_idx: int64 or int32 [tokens, top-k], -1 selects nothing.
    topk_weights: float32 [tokens, top-k].
    """
    results = _Dispatch.apply(_core(buffer), x, topk_idx, topk_weights, num_experts, expert_alignment)
    return Dispatched(*results)


def combine(buffer: crossdock.Buffer | DeepEpBuffer, x: torch.Tensor, handle: crossdock.DispatchHandle) -> torch.Tensor:
    """Brings rows [M, hidden] back and sums them at their token's rank, unweighted; differentiable in x. Collective."""
    return _Combine.apply(_core(buffer), x, handle)


def _core(buffer: crossdock.Buffer | DeepEpBuffer) -> crossdock.Buffer:
    return buffer.runtime if isinstance(buffer, DeepEpBuffer) else buffer


def _options(buffer: crossdock.Buffer) -> crossdock.OperationOptions:
    """Operations start after what is queued on torch's current stream."""
    if buffer.device == "cpu":
        return crossdock.OperationOptions()
    return crossdock.OperationOptions(stream=torch.cuda.current_stream(torch.device(buffer.device)))


class _Dispatch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        buffer: crossdock.Buffer,
        x: torch.Tensor,
        topk_idx: torch.Tensor,
        topk_weights: torch.Tensor,
        num_experts: int,
        expert_alignment: int,
    ) -> tuple[Any, ...]:
        output = buffer.dispatch(
            to_core(x),
            to_core(topk_idx),
            to_core(topk_weights),
            num_experts=num_experts,
            expert_alignment=expert_alignment,
            options=_options(buffer),
        )
        ids = to_torch(output.recv_topk_idx)
        ctx.buffer = buffer
        ctx.handle = output.handle
        ctx.mark_non_differentiable(ids)
        ctx.save_for_backward(ids)
        weights = to_torch(output.recv_topk_weights)
        return output.recv_x.torch(), ids, weights, output.num_recv_tokens_per_expert, output.handle

    @staticmethod
    def backward(
        ctx: Any, grad_x: torch.Tensor, grad_ids: Any, grad_weights: torch.Tensor, *rest: Any
    ) -> tuple[Any, ...]:
        (ids,) = ctx.saved_tensors
        # A weight of -1 is the constant 0 here, whatever was computed with it.
        own_weights = grad_weights.masked_fill(ids < 0, 0).contiguous()
        output = ctx.buffer.combine(
            to_core(grad_x.contiguous()),
            ctx.handle,
            topk_weights=to_core(own_weights),
            options=_options(ctx.buffer),
        )
        return None, output.combined_x.torch(), None, to_torch(output.combined_topk_weights), None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: crossdock.Buffer, x: torch.Tensor, handle: crossdock.DispatchHandle) -> torch.Tensor:
        ctx.buffer = buffer
        ctx.handle = handle
        return buffer.combine(to_core(x), handle, options=_options(buffer)).combined_x.torch()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        output = ctx.buffer.dispatch_cached(to_core(grad.contiguous()), ctx.handle, options=_options(ctx.buffer))
        return None, output.recv_x.torch(), None
