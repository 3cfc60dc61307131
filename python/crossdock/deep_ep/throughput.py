"""DeepEP's normal operations."""

from __future__ import annotations

from typing import Any

import torch

import crossdock

from .base import BufferBase
from .config import Config
from .events import EventOverlap, make_options, make_overlap
from .handles import DispatchHandle, make_dispatch_handle
from .tensors import to_core, to_torch

Bias = torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None


class ThroughputOperations(BufferBase):
    """get_dispatch_layout, dispatch and combine. The shapes are those of the classes of crossdock."""

    num_sms: int = 20

    def get_dispatch_layout(
        self,
        topk_idx: torch.Tensor,
        num_experts: int,
        previous_event: EventOverlap | None = None,
        async_finish: bool = False,
        allocate_on_comm_stream: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor, EventOverlap]:
        """(tokens per rank, tokens per node or None with one node, tokens per expert, is_token_in_rank, event)."""
        options = make_options(
            self._stream(), previous_event, async_finish, allocate_on_comm_stream, may_be_queued=False
        )
        layout = self.runtime.get_dispatch_layout(to_core(topk_idx), num_experts, options=options)
        return (
            layout.num_tokens_per_rank.torch(),
            to_torch(layout.num_tokens_per_node),
            layout.num_tokens_per_expert.torch(),
            layout.is_token_in_rank.torch(),
            make_overlap(crossdock.Event(), async_finish),  # it is local, and done
        )

    def dispatch(
        self,
        x: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        handle: tuple | None = None,
        num_tokens_per_rank: torch.Tensor | None = None,
        num_tokens_per_rdma_rank: torch.Tensor | None = None,
        is_token_in_rank: torch.Tensor | None = None,
        num_tokens_per_expert: torch.Tensor | None = None,
        topk_idx: torch.Tensor | None = None,
        topk_weights: torch.Tensor | None = None,
        expert_alignment: int = 1,
        num_worst_tokens: int = 0,
        config: crossdock.Config | None = None,
        previous_event: EventOverlap | None = None,
        async_finish: bool = False,
        allocate_on_comm_stream: bool = False,
    ) -> tuple[
        torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        torch.Tensor | None,
        torch.Tensor | None,
        list[int] | None,
        DispatchHandle | None,
        EventOverlap,
    ]:
        """Sends each token to the ranks that own its experts. Collective.

        x: [tokens, hidden], or that and its scales [tokens, scales]. With `handle`, of an earlier dispatch, the routing
        is repeated, and everything else about routing must be absent. Without, the layout must be given.
        num_worst_tokens: rows of the result, 0 for as many as are received.

        Returns (rows like x, ids, weights, tokens per local expert, handle, event); of a cached dispatch all but rows
        and event are None.
        """
        rows, scales = x if isinstance(x, tuple) else (x, None)
        options = make_options(self._stream(), previous_event, async_finish, allocate_on_comm_stream)
        if handle is not None:
            if topk_idx is not None or topk_weights is not None:
                worst_case = self._core_of(handle).has_worst_case
                self._refuse("dispatch: with a handle, topk_idx and topk_weights must be None", worst_case=worst_case)
            cached = self.runtime.dispatch_cached(
                to_core(rows), self._core_of(handle), x_scales=to_core(scales), config=config, options=options
            )
            return _received(cached), None, None, None, None, make_overlap(cached.event, async_finish)
        output = self.runtime.dispatch(
            to_core(rows),
            to_core(topk_idx),
            to_core(topk_weights),
            x_scales=to_core(scales),
            layout=self._layout(num_tokens_per_rank, num_tokens_per_expert, is_token_in_rank, num_worst_tokens > 0),
            expert_alignment=expert_alignment,
            num_worst_tokens=num_worst_tokens or None,
            config=config,
            options=options,
        )
        return (
            _received(output),
            to_torch(output.recv_topk_idx),
            to_torch(output.recv_topk_weights),
            output.num_recv_tokens_per_expert,
            make_dispatch_handle(output.handle, self.num_sms if config is None else config.num_sms, self.device),
            make_overlap(output.event, async_finish),
        )

    def combine(
        self,
        x: torch.Tensor,
        handle: tuple,
        topk_weights: torch.Tensor | None = None,
        bias: Bias = None,
        config: crossdock.Config | None = None,
        previous_event: EventOverlap | None = None,
        async_finish: bool = False,
        allocate_on_comm_stream: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None, EventOverlap]:
        """Brings the rows back and sums them, unweighted, with up to two biases [tokens, hidden]. Collective.

        x: bfloat16 or float32 [received rows, hidden]. topk_weights: float32 [received rows, top-k], summed likewise.
        Returns (sums, sums of weights or None, event).
        """
        bias_0, bias_1 = bias if isinstance(bias, tuple) else (bias, None)
        output = self.runtime.combine(
            to_core(x),
            self._core_of(handle),
            topk_weights=to_core(topk_weights),
            bias_0=to_core(bias_0),
            bias_1=to_core(bias_1),
            config=config,
            options=make_options(self._stream(), previous_event, async_finish, allocate_on_comm_stream),
        )
        return (
            output.combined_x.torch(),
            to_torch(output.combined_topk_weights),
            make_overlap(output.event, async_finish),
        )

    @classmethod
    def set_num_sms(cls, new_num_sms: int) -> None:
        """The num_sms of recommended configurations; even. A CPU has no use for it."""
        if new_num_sms < 0 or new_num_sms % 2 != 0:
            raise ValueError(f"num_sms is {new_num_sms}, an even number of at least 0 is allowed")
        cls.num_sms = new_num_sms

    @classmethod
    def get_dispatch_config(cls, num_ranks: int) -> Config:
        """The recommended configuration, for any number of ranks."""
        return _deep_ep_config(crossdock.get_dispatch_config(num_ranks, cls.num_sms))

    @classmethod
    def get_combine_config(cls, num_ranks: int) -> Config:
        """The recommended configuration, for any number of ranks."""
        return _deep_ep_config(crossdock.get_combine_config(num_ranks, cls.num_sms))

    def _core_of(self, handle: Any) -> crossdock.DispatchHandle:
        if not isinstance(handle, DispatchHandle):
            self._refuse(f"handle is a {type(handle).__name__}, what dispatch returned is allowed")
        return handle.core

    def _layout(self, per_rank: Any, per_expert: Any, in_rank: Any, worst_case: bool) -> crossdock.DispatchLayout:
        if per_rank is None or per_expert is None or in_rank is None:
            self._refuse(
                "dispatch: num_tokens_per_rank, num_tokens_per_expert and is_token_in_rank must be given, "
                "as get_dispatch_layout returns them, or a handle",
                worst_case=worst_case,
            )
        return crossdock.DispatchLayout(to_core(per_rank), to_core(per_expert), to_core(in_rank))


def _received(output: crossdock.DispatchOutput) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    rows = output.recv_x.torch()
    return rows if output.recv_x_scales is None else (rows, output.recv_x_scales.torch())


def _deep_ep_config(config: crossdock.Config) -> Config:
    return Config(
        config.num_sms,
        config.num_max_nvl_chunked_send_tokens,
        config.num_max_nvl_chunked_recv_tokens,
        config.num_max_rdma_chunked_send_tokens,
        config.num_max_rdma_chunked_recv_tokens,
    )
