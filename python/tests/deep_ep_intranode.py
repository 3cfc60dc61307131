"""What DeepEP's own test of its normal operations on one node checks, with values that are exact on any rank count."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from crossdock import deep_ep
from crossdock.deep_ep.utils.math import calc_diff, inplace_unique, per_token_cast_back, per_token_cast_to_fp8
from group import Group

TOKENS, HIDDEN, TOP_K, EXPERTS_PER_RANK = 64, 256, 4, 8

Payload = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


class Routing:
    """Ids of this rank's tokens, and the layout computed by torch alone."""

    def __init__(self, group: Group) -> None:
        torch.manual_seed(group.rank)
        self.num_experts = EXPERTS_PER_RANK * group.size
        scores = torch.rand(TOKENS, self.num_experts)
        self.topk_idx = scores.topk(TOP_K, dim=-1)[1].to(deep_ep.topk_idx_t)
        ranks = self.topk_idx // EXPERTS_PER_RANK
        inplace_unique(ranks, group.size)
        self.is_token_in_rank = torch.stack([(ranks == r).any(1) for r in range(group.size)], dim=1)
        self.num_tokens_per_rank = self.is_token_in_rank.sum(0, dtype=torch.int32)
        self.num_tokens_per_expert = torch.bincount(self.topk_idx.flatten(), minlength=self.num_experts).int()
        self.all_per_rank = group.sum(self.num_tokens_per_rank)
        self.all_per_expert = group.sum(self.num_tokens_per_expert)

    def layout(self) -> dict[str, torch.Tensor]:
        return {
            "num_tokens_per_rank": self.num_tokens_per_rank,
            "is_token_in_rank": self.is_token_in_rank,
            "num_tokens_per_expert": self.num_tokens_per_expert,
        }


def check_layout(buffer: deep_ep.Buffer, routing: Routing) -> None:
    per_rank, per_node, per_expert, in_rank, event = buffer.get_dispatch_layout(routing.topk_idx, routing.num_experts)
    assert torch.equal(per_rank, routing.num_tokens_per_rank) and per_node is None
    assert torch.equal(per_expert, routing.num_tokens_per_expert)
    assert torch.equal(in_rank, routing.is_token_in_rank) and event.event is None


def rows_of(payload: Payload) -> torch.Tensor:
    return per_token_cast_back(*payload) if isinstance(payload, tuple) else payload


def check_source_ranks(rows: torch.Tensor, rank_prefix_matrix: torch.Tensor, rank: int) -> None:
    """Each row holds its source rank in every channel, and ranks come in order."""
    assert torch.equal(rows.amin(1), rows.amax(1))
    start = 0
    for source in range(rank_prefix_matrix.size(0)):
        end = int(rank_prefix_matrix[source][rank])
        assert bool((rows[start:end] == source).all())
        start = end
    assert start == rows.size(0)


def check_topk(routing: Routing, group: Group, ids: torch.Tensor, counts: list[int]) -> None:
    assert bool(((ids >= -1) & (ids < EXPERTS_PER_RANK)).all())
    assert counts == [int((ids == e).sum()) for e in range(EXPERTS_PER_RANK)]
    assert counts == routing.all_per_expert.view(group.size, -1)[group.rank].tolist()


def check_worst_case(buffer: deep_ep.Buffer, group: Group, arguments: dict[str, Any], right: tuple[Any, ...]) -> None:
    """The result with as many rows as can ever come begins with the usual result, and ends with ids of -1."""
    worst = TOKENS * group.size
    payload, ids, weights, counts, handle, event = buffer.dispatch(**arguments, num_worst_tokens=worst)
    if arguments["async_finish"]:
        event.current_stream_wait()
    right_payload, right_ids, right_weights = right
    n = right_ids.size(0)
    assert counts == [] and ids.size(0) == worst and rows_of(payload).size(0) == worst
    assert torch.equal(rows_of(payload)[:n], rows_of(right_payload))
    assert torch.equal(ids[:n], right_ids) and bool((ids[n:] == -1).all())
    assert torch.equal(weights[:n], right_weights) and handle[3].size(0) == worst


def check_combine(
    buffer: deep_ep.Buffer,
    routing: Routing,
    rows: torch.Tensor,
    x: torch.Tensor,
    handle: tuple,
    how: dict[str, Any],
    recv_weights: torch.Tensor | None,
    weights: torch.Tensor | None,
) -> None:
    combined, combined_weights, event = buffer.combine(rows, handle, topk_weights=recv_weights, **how)
    if how["async_finish"]:
        event.current_stream_wait()
    copies = routing.is_token_in_rank.sum(1, keepdim=True)
    assert calc_diff(combined.float() / copies, x) < 5e-6
    if weights is not None:
        assert combined_weights is not None and calc_diff(combined_weights, weights) < 1e-9


def check_one(
    buffer: deep_ep.Buffer,
    routing: Routing,
    group: Group,
    payload: Payload,
    x: torch.Tensor,
    is_random: bool,
    with_topk: bool,
    with_previous: bool,
    async_finish: bool,
) -> None:
    def how() -> dict[str, Any]:
        previous = buffer.capture() if with_previous else None
        return {
            "config": deep_ep.Config(24, 8, 256),
            "async_finish": async_finish,
            "previous_event": previous,
            "allocate_on_comm_stream": with_previous and async_finish,
        }

    weights = torch.rand(TOKENS, TOP_K) if with_topk else None
    arguments: dict[str, Any] = {"x": payload, **routing.layout(), **how()}
    if with_topk:
        arguments.update(topk_idx=routing.topk_idx, topk_weights=weights)
    received, ids, recv_weights, counts, handle, event = buffer.dispatch(**arguments)
    assert (event.event is None) != async_finish
    if async_finish:
        event.current_stream_wait()
    rows = rows_of(received)
    assert isinstance(received, tuple) == isinstance(payload, tuple)
    assert rows.size(0) == int(routing.all_per_rank[group.rank])
    if not is_random:
        check_source_ranks(rows, handle[0], group.rank)
    if with_topk:
        check_topk(routing, group, ids, counts)
        check_worst_case(buffer, group, arguments, (received, ids, recv_weights))
    else:
        assert ids is None and recv_weights is None
        again, *nothing, event = buffer.dispatch(payload, handle=handle, **how())
        if async_finish:
            event.current_stream_wait()
        assert nothing == [None] * 4 and torch.equal(rows_of(again), rows)
    check_combine(buffer, routing, rows, x, handle, how(), recv_weights, weights)


def check_intranode(group: Group) -> None:
    """Every combination of previous event, async, rows (random, constant, FP8 with scales by columns) and top-k."""
    torch.manual_seed(group.rank)
    buffer = deep_ep.Buffer(group.handle, 32 << 20, 0, explicitly_destroy=True)
    routing = Routing(group)
    check_layout(buffer, routing)
    constant = torch.full((TOKENS, HIDDEN), float(group.rank), dtype=torch.bfloat16)
    random = torch.randn(TOKENS, HIDDEN, dtype=torch.bfloat16)
    fp8_rows, fp8_scales = per_token_cast_to_fp8(constant)
    fp8 = (fp8_rows, fp8_scales.T.contiguous().T)
    payloads = [(random, random, True), (constant, constant, False), (fp8, constant, False)]
    for (payload, x, is_random), *flags in itertools.product(payloads, *[(False, True)] * 3):
        check_one(buffer, routing, group, payload, x, is_random, *flags)
    buffer.destroy()
