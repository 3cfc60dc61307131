"""Dispatch and combine against plain numpy, bit for bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import crossdock
from ranks import run_buffers
from world import World, make_world, same_bits

WORLDS = [make_world(1, 1, 4, 16, 2, 5), make_world(2, 2, 6, 8, 3, 7), make_world(3, 4, 9, 33, 4, 6)]


def expected_sum(world: World, rank: int, rows: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    """Float32 sums from +0: biases, then rows by ascending rank; rounded once."""
    total = np.zeros(world.x[rank].shape, np.float32)
    for bias in biases:
        total += bias.astype(np.float32)
    for destination in range(world.num_ranks):
        for row, (source, token) in enumerate(world.received(destination)):
            if source == rank:
                total[token] += rows[destination][row].astype(np.float32)
    return total.astype(ml_dtypes.bfloat16)


def check_received(world: World, buffer: crossdock.Buffer, out: crossdock.DispatchOutput) -> None:
    rank = buffer.rank
    rows = world.received(rank)
    count = len(rows)
    assert out.handle.num_recv_tokens == count and out.handle.num_tokens == len(world.x[rank])
    assert out.recv_topk_idx is not None and out.recv_topk_weights is not None
    for i, (source, token) in enumerate(rows):
        ids = world.local_ids(rank, source, token)
        assert same_bits(out.recv_x.numpy()[i], world.x[source][token])
        assert out.recv_topk_idx.numpy()[i].tolist() == ids.tolist()
        weights = np.where(ids >= 0, world.topk_weights[source][token], np.float32(0))
        assert same_bits(out.recv_topk_weights.numpy()[i], weights)
        assert out.handle.recv_src_idx().numpy()[i] == token


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: f"{w.num_ranks}-ranks")
def test_dispatch_and_combine(world: World) -> None:
    def body(buffer: crossdock.Buffer) -> None:
        rank = buffer.rank
        x, ids, weights = world.x[rank], world.topk_idx[rank], world.topk_weights[rank]
        out = buffer.dispatch(x, ids, weights, num_experts=world.num_experts, expert_alignment=4)
        check_received(world, buffer, out)
        all_ids = np.concatenate([i.ravel() for i in world.topk_idx])
        first, local = buffer.local_experts(world.num_experts)
        counts = [int((all_ids == first + e).sum()) for e in range(local)]
        assert out.num_recv_tokens_per_expert == [-(-c // 4) * 4 for c in counts]

        combined = buffer.combine(out.recv_x, out.handle, topk_weights=out.recv_topk_weights, bias_0=x, bias_1=x)
        rows = [np.array([world.x[s][t] for s, t in world.received(d)]) for d in range(world.num_ranks)]
        assert same_bits(combined.combined_x.numpy(), expected_sum(world, rank, rows, [x, x]))
        assert combined.combined_topk_weights is not None
        assert same_bits(combined.combined_topk_weights.numpy(), np.where(ids >= 0, weights, np.float32(0)))

    run_buffers(world.num_ranks, body)


def test_layout_worst_case_cached_scales_and_without_topk() -> None:
    world = WORLDS[1]

    def body(buffer: crossdock.Buffer) -> None:
        rank = buffer.rank
        x, ids, weights = world.x[rank], world.topk_idx[rank], world.topk_weights[rank]
        scales = np.asfortranarray(np.arange(len(x) * 3, dtype=np.float32).reshape(len(x), 3))
        layout = buffer.get_dispatch_layout(ids, world.num_experts)
        assert layout.num_tokens_per_node is None
        is_in_rank = [[d in world.goes_to(rank, t) for d in range(2)] for t in range(len(x))]
        assert layout.is_token_in_rank.numpy().tolist() == is_in_rank
        assert layout.num_tokens_per_rank.numpy().tolist() == np.array(is_in_rank, int).reshape(-1, 2).sum(0).tolist()

        worst = buffer.dispatch(x, ids, weights, layout=layout, x_scales=scales, num_worst_tokens=40)
        assert worst.recv_x.shape == (40, 8) and worst.handle.num_recv_rows == 40
        assert worst.num_recv_tokens_per_expert == []
        count = worst.handle.num_recv_tokens
        assert worst.recv_topk_idx is not None and (worst.recv_topk_idx.numpy()[count:] == -1).all()
        assert worst.recv_x_scales is not None and worst.recv_x_scales.strides == (3, 1)
        for i, (source, token) in enumerate(world.received(rank)):
            assert worst.recv_x_scales.numpy()[i].tolist() == [token * 3, token * 3 + 1, token * 3 + 2]
            assert same_bits(worst.recv_x.numpy()[i], world.x[source][token])

        plain = buffer.dispatch(x, layout=layout)
        assert plain.recv_topk_idx is None and plain.recv_topk_weights is None
        other = np.arange(len(x), dtype=np.int64).reshape(-1, 1)
        again = buffer.dispatch_cached(other, plain.handle)
        assert again.recv_x.numpy()[:, 0].tolist() == [token for _, token in world.received(rank)]

    run_buffers(2, body)


def test_asynchronous_with_previous_event_and_combine_input() -> None:
    world = WORLDS[2]

    def body(buffer: crossdock.Buffer) -> None:
        rank = buffer.rank
        options = crossdock.OperationOptions(
            completion=crossdock.Completion.ASYNCHRONOUS,
            allocation=crossdock.Allocation.COMMUNICATION_STREAM,
            previous_event=buffer.capture(),
        )
        out = buffer.dispatch(
            world.x[rank],
            world.topk_idx[rank],
            world.topk_weights[rank],
            num_experts=world.num_experts,
            options=options,
        )
        out.event.wait()
        check_received(world, buffer, out)
        y = buffer.combine_input(out.handle, 33)
        y.numpy()[:] = out.recv_x.numpy()
        result = np.empty_like(world.x[rank])
        combined = buffer.combine(
            y,
            out.handle,
            out=result,
            options=crossdock.OperationOptions(
                completion=crossdock.Completion.ASYNCHRONOUS, previous_event=out.event, timeout=10
            ),
        )
        combined.event.wait()
        assert combined.event.is_complete()
        rows = [np.array([world.x[s][t] for s, t in world.received(d)]) for d in range(world.num_ranks)]
        assert same_bits(result, expected_sum(world, rank, rows, []))
        assert combined.combined_x.data_ptr() == result.ctypes.data

    run_buffers(world.num_ranks, body)


def test_inputs_of_asynchronous_operations_are_kept() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        ids, weights = np.zeros((64, 1), int), np.ones((64, 1), np.float32)
        asynchronous = crossdock.OperationOptions(completion=crossdock.Completion.ASYNCHRONOUS)
        outputs = [
            buffer.dispatch(np.full((64, 32), i, np.float32), ids, weights, num_experts=1, options=asynchronous)
            for i in range(8)
        ]
        for i, out in enumerate(outputs):
            out.event.wait()
            assert (out.recv_x.numpy() == i).all()

    run_buffers(2, lambda buffer: body(buffer))


def test_parity_matrices() -> None:
    world = WORLDS[1]

    def body(buffer: crossdock.Buffer) -> None:
        rank = buffer.rank
        out = buffer.dispatch(world.x[rank], world.topk_idx[rank], world.topk_weights[rank], num_experts=6)
        matrices = out.handle.parity_matrices(2)
        sent = [[sum(d in world.goes_to(s, t) for t in range(len(world.x[s]))) for d in range(2)] for s in range(2)]
        assert matrices.rank_prefix_matrix.numpy().tolist() == np.cumsum(sent, axis=0).tolist()
        assert matrices.channel_prefix_matrix.numpy()[:, -1].tolist() == sent[rank]
        assert matrices.send_head.shape == (len(world.x[rank]), 2)
        assert out.handle.rank_prefix_matrix().numpy().tolist() == np.cumsum(sent, axis=0).tolist()

    run_buffers(2, body)
