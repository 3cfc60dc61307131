"""The low-latency pair against plain numpy, bit for bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import crossdock
from ranks import run_buffers
from world import World, make_world, same_bits

M = 8
WORLDS = [make_world(11, 1, 3, 128, 2, 5), make_world(12, 3, 7, 160, 3, 5)]
BFLOAT16 = crossdock.RowFormat.BFLOAT16


def rows_of_expert(world: World, expert: int) -> list[tuple[int, int]]:
    """(source rank, token) of each row of an expert, in order: a token that names it twice has two."""
    return [
        (source, token)
        for source in range(world.num_ranks)
        for token in range(len(world.x[source]))
        for e in world.topk_idx[source][token]
        if e == expert
    ]


def expected_sum(world: World, rank: int) -> np.ndarray:
    """Fused multiply-add in float32 by column of the ids; float64 holds the product of both exactly."""
    total = np.zeros(world.x[rank].shape, np.float32)
    for token, ids in enumerate(world.topk_idx[rank]):
        for k, expert in enumerate(ids):
            if expert >= 0:
                product = world.x[rank][token].astype(np.float64) * np.float64(world.topk_weights[rank][token, k])
                total[token] = (product + total[token]).astype(np.float32)
    return total.astype(ml_dtypes.bfloat16)


def dispatch(buffer: crossdock.Buffer, world: World, **arguments: object) -> crossdock.LowLatencyDispatchOutput:
    rank = buffer.rank
    return buffer.low_latency_dispatch(world.x[rank], world.topk_idx[rank], M, world.num_experts, **arguments)  # type: ignore[arg-type]


def check_received(world: World, buffer: crossdock.Buffer, out: crossdock.LowLatencyDispatchOutput) -> None:
    first, local = buffer.local_experts(world.num_experts)
    rows, counts = out.packed_recv_x.numpy(), out.packed_recv_count.numpy()
    assert rows.shape == (local, world.num_ranks * M, world.x[0].shape[1])
    ranges, tokens = out.handle.packed_recv_layout_range().numpy(), out.handle.packed_recv_src_info().numpy()
    for e in range(local):
        right = rows_of_expert(world, first + e)
        assert counts[e] == len(right)
        for i, (source, token) in enumerate(right):
            assert same_bits(rows[e, i], world.x[source][token]) and tokens[e, i] == token
        for source in range(world.num_ranks):
            begin, count = int(ranges[e, source]) >> 32, int(ranges[e, source]) & 0xFFFFFFFF
            assert [s for s, _ in right[begin : begin + count]] == [source] * count


@pytest.mark.parametrize("how", ["synchronous", "hook", "event"])
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{w.num_ranks}-ranks")
def test_pair(world: World, how: str) -> None:
    completion = {
        "synchronous": crossdock.Completion.SYNCHRONOUS,
        "hook": crossdock.Completion.HOOK,
        "event": crossdock.Completion.ASYNCHRONOUS,
    }[how]
    options = crossdock.OperationOptions(completion=completion)

    def finish(out: crossdock.LowLatencyDispatchOutput | crossdock.LowLatencyCombineOutput) -> None:
        assert (out.hook is not None) == (how == "hook")
        out.event.wait() if out.hook is None else out.hook()

    def body(buffer: crossdock.Buffer) -> None:
        rank = buffer.rank
        _, local = buffer.local_experts(world.num_experts)
        stats = np.ones(local, np.int32)
        out = dispatch(buffer, world, format=BFLOAT16, cumulative_local_expert_recv_stats=stats, options=options)
        finish(out)
        check_received(world, buffer, out)
        assert (stats == out.packed_recv_count.numpy() + 1).all()
        y = buffer.next_combine_buffer(out.handle)
        y.numpy()[:] = out.packed_recv_x.numpy()
        result = np.empty_like(world.x[rank])
        combined = buffer.low_latency_combine(
            y, world.topk_weights[rank], out.handle, out=result, zero_copy=True, options=options
        )
        finish(combined)
        assert same_bits(combined.combined_x.numpy(), expected_sum(world, rank)) and same_bits(
            result, expected_sum(world, rank)
        )

    run_buffers(world.num_ranks, body)


def test_fp8_formats() -> None:
    world = WORLDS[1]

    def body(buffer: crossdock.Buffer) -> None:
        plain = dispatch(buffer, world, format=BFLOAT16)
        exact = dispatch(buffer, world, format=crossdock.RowFormat.FLOAT8)
        rounded = dispatch(buffer, world, format=crossdock.RowFormat.FLOAT8_POWER_OF_TWO)
        packed = dispatch(buffer, world, format=crossdock.RowFormat.FLOAT8_UE8M0)
        assert exact.packed_recv_x_scales is not None and rounded.packed_recv_x_scales is not None
        assert packed.packed_recv_x_scales is not None and packed.packed_recv_x_scales.dtype == crossdock.DataType.int32
        rows = world.num_ranks * M
        assert exact.packed_recv_x_scales.strides == (2 * rows, 1, rows)
        for e, count in enumerate(plain.packed_recv_count.numpy()):
            value = exact.packed_recv_x.numpy()[e, :count].astype(np.float32)
            scale = exact.packed_recv_x_scales.numpy()[e, :count].repeat(128, axis=1)[:, : value.shape[1]]
            assert np.allclose(
                value * scale, plain.packed_recv_x.numpy()[e, :count].astype(np.float32), rtol=0.07, atol=0.02
            )
            powers = rounded.packed_recv_x_scales.numpy()[e, :count]
            assert (np.frexp(powers)[0] == 0.5).all()
            exponents = np.ascontiguousarray(packed.packed_recv_x_scales.numpy()[e, :count]).view(np.uint8)[:, :2]
            assert same_bits((exponents.astype(np.uint32) << 23).view(np.float32), np.ascontiguousarray(powers))

    run_buffers(3, body)


def test_hooks_of_two_batches_in_flight() -> None:
    world = WORLDS[1]

    def body(buffer: crossdock.Buffer) -> None:
        options = crossdock.OperationOptions(completion=crossdock.Completion.HOOK)
        outputs = [dispatch(buffer, world, format=BFLOAT16, options=options) for _ in range(2)]
        for out in outputs:
            assert out.hook is not None
            out.hook()
            check_received(world, buffer, out)
        hook = outputs[0].hook
        assert hook is not None
        with pytest.raises(crossdock.Error, match="was called before") as caught:
            hook()
        assert caught.value.code is crossdock.ErrorCode.STATE

    run_buffers(3, body)
