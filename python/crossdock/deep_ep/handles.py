"""DeepEP's tuples of tensors, made only if somebody looks at them, with crossdock's handle inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

import crossdock

from .tensors import to_torch


class LazyTuple(tuple):
    """A tuple whose items are computed when the first of them is read."""

    _make: Callable[[], tuple[Any, ...]]
    _items: tuple[Any, ...] | None

    def __new__(cls, length: int, make: Callable[[], tuple[Any, ...]]) -> LazyTuple:
        self = super().__new__(cls, (None,) * length)
        self._make = make
        self._items = None
        return self

    def _computed(self) -> tuple[Any, ...]:
        if self._items is None:
            self._items = self._make()
        return self._items

    def __getitem__(self, index: Any) -> Any:
        return self._computed()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._computed())

    def __repr__(self) -> str:
        return repr(self._computed())


class DispatchHandle(LazyTuple):
    """(rank_prefix_matrix, channel_prefix_matrix, recv_channel_prefix_matrix, recv_src_idx, is_token_in_rank,
    send_head), for num_sms / 2 channels."""

    core: crossdock.DispatchHandle


def make_dispatch_handle(core: crossdock.DispatchHandle, num_sms: int, device: torch.device) -> DispatchHandle:
    def make() -> tuple[torch.Tensor, ...]:
        matrices = core.parity_matrices(max(num_sms // 2, 1))  # the host computes some of them
        return (
            to_torch(matrices.rank_prefix_matrix).to(device),
            to_torch(matrices.channel_prefix_matrix).to(device),
            to_torch(matrices.recv_channel_prefix_matrix).to(device),
            to_torch(matrices.recv_src_idx),
            to_torch(matrices.is_token_in_rank),
            to_torch(matrices.send_head).to(device),
        )

    handle = DispatchHandle(6, make)
    handle.core = core
    return handle


class LowLatencyHandle(LazyTuple):
    """(packed_recv_src_info, packed_recv_layout_range, num_max_dispatch_tokens_per_rank, hidden, num_experts)."""

    core: crossdock.LowLatencyHandle
    combine_buffer: crossdock.Tensor | None
    """What get_next_low_latency_combine_buffer returned last, for a combine with zero_copy."""


def make_low_latency_handle(core: crossdock.LowLatencyHandle) -> LowLatencyHandle:
    def make() -> tuple[Any, ...]:
        return (
            to_torch(core.packed_recv_src_info()),
            to_torch(core.packed_recv_layout_range()),
            core.num_max_dispatch_tokens_per_rank,
            core.hidden,
            core.num_experts,
        )

    handle = LowLatencyHandle(5, make)
    handle.core = core
    handle.combine_buffer = None
    return handle
