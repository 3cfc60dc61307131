"""What DeepEP's own test of its low-latency operations checks."""

from __future__ import annotations

import itertools
import random
from typing import Any

import torch

from crossdock import deep_ep
from crossdock.deep_ep.utils.math import calc_diff, hash_tensors, per_token_cast_back
from group import Group

TOKENS, HIDDEN, TOP_K, EXPERTS_PER_RANK = 24, 512, 4, 6
RANK_OFFSET = 128
LOW_HALF = 2**32 - 1
BFLOAT16 = {"use_fp8": False}
FORMATS: list[dict[str, bool]] = [
    BFLOAT16,
    {"use_fp8": True},
    {"use_fp8": True, "round_scale": True},
    {"use_fp8": True, "round_scale": True, "use_ue8m0": True},
]


def make_ids(num_experts: int) -> torch.Tensor:
    ids = torch.rand(TOKENS, num_experts).topk(TOP_K, dim=-1)[1].to(deep_ep.topk_idx_t)
    for _ in range(10):
        ids[random.randrange(TOKENS), random.randrange(TOP_K)] = -1
    return ids


def rows_of(packed: Any) -> torch.Tensor:
    """The received rows as bfloat16, whatever their format."""
    if not isinstance(packed, tuple):
        return packed.clone()
    rows, scales = packed
    flat = per_token_cast_back(rows.view(-1, HIDDEN), scales.contiguous().view(-1, scales.size(2)))
    return flat.view(rows.shape)


def check_expert(
    expert: int,
    rows: torch.Tensor,
    count: int,
    source_tokens: torch.Tensor,
    ranges: torch.Tensor,
    all_ids: list[torch.Tensor],
    is_exact: bool,
) -> None:
    """Rows carry their source rank, and their source token in the last 128 channels."""
    assert count == int((ranges & LOW_HALF).sum()) == sum(int((ids == expert).sum()) for ids in all_ids)
    for source, ids in enumerate(all_ids):
        begin, of_source = int(ranges[source] >> 32), int(ranges[source] & LOW_HALF)
        assert of_source == int((ids == expert).sum())
        block = rows[begin : begin + of_source].float()
        tokens = source_tokens[begin : begin + of_source]
        assert tokens.tolist() == (ids == expert).any(1).nonzero().flatten().tolist()
        if is_exact:
            assert bool((block[:, :-128] == source - RANK_OFFSET).all())
            assert bool((block[:, -128:] == tokens[:, None]).all())


def check_combine(
    buffer: deep_ep.Buffer,
    x: torch.Tensor,
    rows: torch.Tensor,
    ids: torch.Tensor,
    weights: torch.Tensor,
    handle: tuple,
    hook: bool,
    is_fp8: bool,
    is_rounded: bool,
) -> int:
    expected = x.float() * weights.masked_fill(ids == -1, 0).sum(1, keepdim=True)
    results = []
    for zero_copy, use_logfmt in ((False, False), (True, False), (False, True)):
        if zero_copy:
            buffer.get_next_low_latency_combine_buffer(handle)[:, :, :] = rows
        out = torch.empty(TOKENS, HIDDEN, dtype=torch.bfloat16)
        combined, event, receive = buffer.low_latency_combine(
            rows,
            ids,
            weights,
            handle,
            use_logfmt=use_logfmt,
            async_finish=not hook,
            zero_copy=zero_copy,
            return_recv_hook=hook,
            out=out,
        )
        receive() if hook else event.current_stream_wait()
        assert combined.data_ptr() == out.data_ptr() and not bool(combined.isnan().any())
        if not is_rounded:
            assert calc_diff(expected, combined) < (9e-4 if is_fp8 else 1e-5)
        results.append(combined)
    assert torch.equal(*results[:2])
    if float(x.abs().amax()) < 1:  # only small rows travel in LogFMT, and it rounds them
        assert not torch.equal(results[0], results[2])
    return hash_tensors(combined)


def check_one(
    buffer: deep_ep.Buffer,
    group: Group,
    x: torch.Tensor,
    ids: torch.Tensor,
    all_ids: list[torch.Tensor],
    weights: torch.Tensor,
    row_format: dict[str, bool],
    hook: bool,
    is_exact: bool,
) -> int:
    num_experts = EXPERTS_PER_RANK * group.size
    stats = torch.zeros(EXPERTS_PER_RANK, dtype=torch.int32)
    packed, counts, handle, event, receive = buffer.low_latency_dispatch(
        x,
        ids,
        TOKENS,
        num_experts,
        cumulative_local_expert_recv_stats=stats,
        async_finish=not hook,
        return_recv_hook=hook,
        **row_format,
    )
    receive() if hook else event.current_stream_wait()
    assert (receive is not None) == hook and (event.event is None) == hook
    assert torch.equal(stats, counts) and handle[2:] == (TOKENS, HIDDEN, num_experts)
    rows = rows_of(packed)
    is_rounded = row_format.get("round_scale", False)
    for e in range(EXPERTS_PER_RANK):
        expert = group.rank * EXPERTS_PER_RANK + e
        check_expert(expert, rows[e], int(counts[e]), handle[0][e], handle[1][e], all_ids, is_exact and not is_rounded)
    is_fp8 = row_format["use_fp8"]
    used = [packed[0][e, :n].float() if is_fp8 else packed[e, :n] for e, n in enumerate(counts.tolist())]
    return hash_tensors(used) ^ check_combine(buffer, x, rows, ids, weights, handle, hook, is_fp8, is_rounded)


def check_low_latency(group: Group) -> None:
    """All row formats, with hooks and with events, zero copy both ways; the second round has the bits of the first."""
    num_experts = EXPERTS_PER_RANK * group.size
    size = deep_ep.Buffer.get_low_latency_rdma_size_hint(TOKENS, HIDDEN, group.size, num_experts)
    buffer = deep_ep.Buffer(
        group.handle,
        num_rdma_bytes=size,
        low_latency_mode=True,
        num_qps_per_rank=EXPERTS_PER_RANK,
        allow_nvlink_for_low_latency_mode=True,
        explicitly_destroy=True,
        allow_mnnvl=False,
    )
    hashes = []
    for _ in range(2):
        torch.manual_seed(1 + group.rank)
        random.seed(1 + group.rank)
        x = torch.full((TOKENS, HIDDEN), float(group.rank - RANK_OFFSET), dtype=torch.bfloat16)
        x[:, -128:] = torch.arange(TOKENS).view(-1, 1)
        noise = torch.randn(TOKENS, HIDDEN, dtype=torch.bfloat16) * 0.1
        ids, weights = make_ids(num_experts), torch.randn(TOKENS, TOP_K).abs()
        all_ids = group.gather(ids)
        value = 0
        for current, row_format, hook in itertools.product((x, noise), FORMATS, (False, True)):
            value ^= check_one(buffer, group, current, ids, all_ids, weights, row_format, hook, current is x)
        hashes.append(value)
        buffer.clean_low_latency_buffer(TOKENS, HIDDEN, num_experts)
    assert hashes[0] == hashes[1]
    buffer.destroy()
