"""Gradients through dispatch and combine, against a dense mixture of experts in float64."""

from __future__ import annotations

import pytest
import torch

import crossdock
from crossdock import autograd, deep_ep
from ranks import run_buffers, run_threads

EXPERTS, HIDDEN, INNER, TOP_K = 6, 16, 24, 3


def parameters(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    up = torch.randn(EXPERTS, HIDDEN, INNER, generator=generator, dtype=torch.float64) / HIDDEN**0.5
    down = torch.randn(EXPERTS, INNER, HIDDEN, generator=generator, dtype=torch.float64) / INNER**0.5
    return up.to(dtype).requires_grad_(), down.to(dtype).requires_grad_()


def inputs(rank: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, ids with -1 and an expert twice in a token, weights, and the gradient that comes from above."""
    generator = torch.Generator().manual_seed(100 + rank)
    tokens = 7 + rank
    x = torch.randn(tokens, HIDDEN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    ids = torch.randint(-1, EXPERTS, (tokens, TOP_K), generator=generator)
    weights = torch.rand(tokens, TOP_K, generator=generator, dtype=torch.float64)
    above = torch.randn(tokens, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    return x, ids, weights.to(torch.float64 if dtype is torch.float64 else torch.float32).requires_grad_(), above


def experts(
    x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Sum over k of weights[:, k] * expert ids[:, k] of x; an id of -1 adds nothing."""
    total = torch.zeros_like(x)
    for k in range(ids.size(1)):
        for expert in range(up.size(0)):
            chosen = (ids[:, k] == expert).to(x.dtype) * weights[:, k].to(x.dtype)
            total = total + chosen[:, None] * (torch.tanh(x @ up[expert]) @ down[expert])
    return total


def dense(
    num_ranks: int,
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Outputs and gradients of x and weights of each rank, and those of the parameters, in float64."""
    up, down = parameters(torch.float64)
    worlds = [inputs(rank, torch.float64) for rank in range(num_ranks)]
    outputs = [experts(x, ids, weights, up, down) for x, ids, weights, _ in worlds]
    torch.autograd.backward(outputs, [above for *_, above in worlds])
    x_grads, weight_grads = [x.grad for x, *_ in worlds], [w.grad for _, _, w, _ in worlds]
    return [o.detach() for o in outputs], x_grads, weight_grads, up.grad, down.grad  # type: ignore[return-value]


def sparse(buffer: crossdock.Buffer | deep_ep.Buffer, rank: int, first: int, count: int) -> tuple[torch.Tensor, ...]:
    """The same with the experts of this rank only, in float32."""
    up, down = parameters(torch.float32)
    x, ids, weights, above = inputs(rank, torch.float32)
    got = autograd.dispatch(buffer, x, ids, weights, EXPERTS)
    local = slice(first, first + count)
    y = experts(got.x, got.topk_idx, got.topk_weights, up[local], down[local])
    output = autograd.combine(buffer, y, got.handle)
    output.backward(above)
    assert x.grad is not None and weights.grad is not None and up.grad is not None and down.grad is not None
    return output.detach(), x.grad, weights.grad, up.grad[local], down.grad[local]


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_gradients_equal_those_of_a_dense_layer(num_ranks: int) -> None:
    outputs, x_grads, weight_grads, up_grad, down_grad = dense(num_ranks)

    def body(buffer: crossdock.Buffer) -> None:
        first, count = buffer.local_experts(EXPERTS)
        got = sparse(buffer, buffer.rank, first, count)
        local = slice(first, first + count)
        expected = [
            outputs[buffer.rank],
            x_grads[buffer.rank],
            weight_grads[buffer.rank],
            up_grad[local],
            down_grad[local],
        ]
        for value, right in zip(got, expected):
            torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=1e-5)

    run_buffers(num_ranks, body)


def test_with_the_buffer_of_deep_ep() -> None:
    outputs, *_ = dense(2)

    def body(bootstrap: crossdock.Bootstrap) -> None:
        buffer = deep_ep.Buffer(bootstrap)
        got = sparse(buffer, buffer.rank, *buffer.runtime.local_experts(EXPERTS))
        torch.testing.assert_close(got[0].double(), outputs[buffer.rank], rtol=1e-5, atol=1e-5)

    run_threads(2, body)


def test_bfloat16_gradient_is_bfloat16() -> None:
    def body(buffer: crossdock.Buffer) -> None:
        x = torch.ones(3, 8, dtype=torch.bfloat16, requires_grad=True)
        ids, weights = torch.tensor([[0], [1], [-1]]), torch.ones(3, 1)
        got = autograd.dispatch(buffer, x, ids, weights, 2)
        autograd.combine(buffer, got.x * 3, got.handle).sum().backward()
        assert x.grad is not None and x.grad.dtype == torch.bfloat16
        assert x.grad[:, 0].tolist() == [3, 3, 0]

    run_buffers(2, body)
