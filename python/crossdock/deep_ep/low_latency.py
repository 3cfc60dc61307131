"""DeepEP's low-latency operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import crossdock

from .base import BufferBase
from .events import EventOverlap, make_options, make_overlap
from .handles import LowLatencyHandle, make_low_latency_handle
from .tensors import to_core, to_torch

Hook = Callable[[], None] | None


class LowLatencyOperations(BufferBase):
    """The pair for decoding. The shapes are those of the classes of crossdock."""

    def low_latency_dispatch(
        self,
        x: torch.Tensor,
        topk_idx: torch.Tensor,
        num_max_dispatch_tokens_per_rank: int,
        num_experts: int,
        cumulative_local_expert_recv_stats: torch.Tensor | None = None,
        dispatch_wait_recv_cost_stats: torch.Tensor | None = None,
        use_fp8: bool = True,
        round_scale: bool = False,
        use_ue8m0: bool = False,
        async_finish: bool = False,
        return_recv_hook: bool = False,
    ) -> tuple[torch.Tensor | tuple[torch.Tensor, torch.Tensor], torch.Tensor, LowLatencyHandle, EventOverlap, Hook]:
        """Sends a row for each token and expert, packed by local expert. Collective.

        x: bfloat16 [tokens, hidden]. use_fp8: cast rows, and return (rows, scales); round_scale: the scales are powers
        of two; use_ue8m0: given as exponent bytes. return_recv_hook: the call sends, the returned hook receives.
        dispatch_wait_recv_cost_stats: int64 [ranks], to which the nanoseconds are added that this rank waits for each.

        Returns (rows, count of each local expert, handle, event, hook or None).
        """
        self._check_completion("low_latency_dispatch", async_finish, return_recv_hook)
        output = self.runtime.low_latency_dispatch(
            to_core(x),
            to_core(topk_idx),
            num_max_dispatch_tokens_per_rank,
            num_experts,
            format=self._row_format(use_fp8, round_scale, use_ue8m0),
            cumulative_local_expert_recv_stats=to_core(cumulative_local_expert_recv_stats),
            options=self._options(async_finish, return_recv_hook, dispatch_wait_recv_cost_stats),
        )
        rows: Any = output.packed_recv_x.torch()
        if output.packed_recv_x_scales is not None:
            rows = (rows, output.packed_recv_x_scales.torch())
        handle = make_low_latency_handle(output.handle)
        event = make_overlap(output.event, async_finish, (x, topk_idx))
        return rows, output.packed_recv_count.torch(), handle, event, output.hook

    def low_latency_combine(
        self,
        x: torch.Tensor,
        topk_idx: torch.Tensor,
        topk_weights: torch.Tensor,
        handle: tuple,
        use_logfmt: bool = False,
        zero_copy: bool = False,
        async_finish: bool = False,
        return_recv_hook: bool = False,
        out: torch.Tensor | None = None,
        combine_wait_recv_cost_stats: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, EventOverlap, Hook]:
        """Brings the rows back and sums them, weighted by topk_weights [tokens, top-k]. Collective.

        x: bfloat16 [local experts, ranks * M, hidden]. topk_idx: as in the dispatch. use_logfmt: rows travel as
        LogFMT-10. combine_wait_recv_cost_stats: int64 [ranks], as in the dispatch. zero_copy: the rows are those in
        the tensor that get_next_low_latency_combine_buffer(handle) returned last; only the shape of x matters, and the
        tensor must not be written again.

        Returns (sums [tokens, hidden], event, hook or None).
        """
        self._check_completion("low_latency_combine", async_finish, return_recv_hook)
        handle = self._low_latency_handle(handle)
        output = self.runtime.low_latency_combine(
            self._zero_copy_rows(x, handle) if zero_copy else to_core(x),
            to_core(topk_weights),
            handle.core,
            topk_idx=to_core(topk_idx),
            out=to_core(out),
            zero_copy=zero_copy,
            use_logfmt=use_logfmt,
            options=self._options(async_finish, return_recv_hook, combine_wait_recv_cost_stats),
        )
        combined = output.combined_x.torch() if out is None else out
        return combined, make_overlap(output.event, async_finish, (x, topk_weights)), output.hook

    def get_next_low_latency_combine_buffer(self, handle: tuple) -> torch.Tensor:
        """A tensor bfloat16 [local experts, ranks * M, hidden] in the arena, for one combine with zero_copy."""
        known = self._low_latency_handle(handle)
        known.combine_buffer = self.runtime.next_combine_buffer(known.core)
        return to_torch(known.combine_buffer)

    def clean_low_latency_buffer(self, num_max_dispatch_tokens_per_rank: int, hidden: int, num_experts: int) -> None:
        """Does nothing: crossdock's signals count up and need no cleaning."""
        self.runtime.clean_low_latency_buffer(num_max_dispatch_tokens_per_rank, hidden, num_experts)

    def low_latency_update_mask_buffer(self, rank_to_mask: int, mask: bool = False) -> None:
        """Goes on without a rank from the next operation on, of both modes, or lets it in again."""
        self.runtime.mask_rank(rank_to_mask, mask)

    def low_latency_query_mask_buffer(self, mask_status: torch.Tensor) -> None:
        """Writes into mask_status [ranks] 1 for each rank that is masked, also because it was lost, and else 0."""
        masked = self.runtime.masked_ranks()
        mask_status.copy_(torch.tensor([rank in masked for rank in range(self.group_size)]))

    def low_latency_clean_mask_buffer(self) -> None:
        """Lets all ranks in again."""
        self.runtime.clear_masks()

    @staticmethod
    def get_low_latency_rdma_size_hint(
        num_max_dispatch_tokens_per_rank: int, hidden: int, num_ranks: int, num_experts: int
    ) -> int:
        """Bytes for two pairs in flight, as many as DeepEP has; about as many bytes as DeepEP asks for."""
        return 2 * crossdock.get_low_latency_rdma_size_hint(
            num_max_dispatch_tokens_per_rank, hidden, num_ranks, num_experts
        )

    def _options(
        self, async_finish: bool, return_recv_hook: bool, stats: torch.Tensor | None
    ) -> crossdock.OperationOptions:
        return make_options(
            self._stream(), None, async_finish, return_recv_hook=return_recv_hook, wait_recv_cost_stats=stats
        )

    def _check_completion(self, operation: str, async_finish: bool, return_recv_hook: bool) -> None:
        if async_finish and return_recv_hook:
            self._refuse(f"{operation}: async_finish and return_recv_hook exclude each other", low_latency=True)

    def _row_format(self, use_fp8: bool, round_scale: bool, use_ue8m0: bool) -> crossdock.RowFormat:
        if not use_fp8:
            return crossdock.RowFormat.BFLOAT16
        if use_ue8m0 and not round_scale:
            self._refuse("low_latency_dispatch: use_ue8m0 needs round_scale", low_latency=True)
        if use_ue8m0:
            return crossdock.RowFormat.FLOAT8_UE8M0
        return crossdock.RowFormat.FLOAT8_POWER_OF_TWO if round_scale else crossdock.RowFormat.FLOAT8

    def _low_latency_handle(self, handle: Any) -> LowLatencyHandle:
        if not isinstance(handle, LowLatencyHandle):
            self._refuse(f"handle is a {type(handle).__name__}, what low_latency_dispatch returned is allowed", low_latency=True)
        return handle

    def _zero_copy_rows(self, x: torch.Tensor, handle: LowLatencyHandle) -> crossdock.Tensor:
        rows, handle.combine_buffer = handle.combine_buffer, None
        if rows is None:
            self._refuse("low_latency_combine: zero_copy needs get_next_low_latency_combine_buffer(handle) before", low_latency=True)
        if tuple(x.shape) != rows.shape:
            self._refuse(f"low_latency_combine: x is {tuple(x.shape)}, but the combine buffer is {rows.shape}", low_latency=True)
        return rows
