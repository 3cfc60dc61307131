"""A small layer whose output is known: expert e multiplies by e + 1, and a token's experts are summed with weights."""

from __future__ import annotations

import dataclasses

import torch

from crossdock.deep_ep.utils.math import per_token_cast_back

HIDDEN, TOP_K, EXPERTS_PER_RANK, MOST_TOKENS = 256, 3, 4, 16


@dataclasses.dataclass
class Layer:
    """The tokens of a rank. Ids have -1, and an expert twice in a token; one rank of several may have no tokens."""

    rank: int
    num_ranks: int
    x: torch.Tensor
    topk_ids: torch.Tensor
    topk_weights: torch.Tensor

    @property
    def num_experts(self) -> int:
        return EXPERTS_PER_RANK * self.num_ranks

    @property
    def first_expert(self) -> int:
        return EXPERTS_PER_RANK * self.rank

    def expected(self) -> torch.Tensor:
        factors = torch.where(self.topk_ids >= 0, self.topk_weights.detach() * (self.topk_ids + 1), 0.0)
        return self.x.detach().float() * factors.sum(1, keepdim=True)

    def check(self, output: torch.Tensor, tolerance: float = 0.02) -> None:
        """bfloat16 rounds each partial sum, FP8 the rows."""
        expected = self.expected()
        assert output.shape == expected.shape and output.dtype == torch.bfloat16
        scale = max(1.0, float(expected.abs().amax())) if expected.numel() else 1.0
        assert bool(((output.float() - expected).abs() <= tolerance * scale).all())


def make_layer(rank: int, num_ranks: int, seed: int = 0) -> Layer:
    """On torch's default device, with the same values on each."""
    here = torch.get_default_device()
    tokens = 0 if num_ranks > 2 and rank == 1 else MOST_TOKENS - rank
    with torch.device("cpu"):
        generator = torch.Generator().manual_seed(1000 * seed + rank)
        ids = torch.randint(0, EXPERTS_PER_RANK * num_ranks, (tokens, TOP_K), generator=generator)
        ids[torch.rand(ids.shape, generator=generator) < 0.1] = -1
        x = torch.randn(tokens, HIDDEN, generator=generator).bfloat16()
        weights = torch.rand(tokens, TOP_K, generator=generator)
    return Layer(rank, num_ranks, x.to(here), ids.to(here), weights.to(here))


def run_experts(rows: object, local_ids: torch.Tensor, weights: torch.Tensor, first_expert: int) -> torch.Tensor:
    """What a rank answers in throughput mode: for each row the weighted sum over its own experts."""
    values = per_token_cast_back(*rows) if isinstance(rows, tuple) else rows
    assert isinstance(values, torch.Tensor)
    factors = torch.where(local_ids >= 0, weights * (local_ids + first_expert + 1), 0.0).sum(1, keepdim=True)
    return (values.float() * factors).bfloat16()


def run_packed_experts(rows: object, counts: torch.Tensor, first_expert: int) -> torch.Tensor:
    """What a rank answers in low-latency mode: rows of expert e times e + 1, up to its count; else NaN."""
    if isinstance(rows, tuple):
        packed, scales = rows
        values = per_token_cast_back(packed.view(-1, HIDDEN), scales.contiguous().view(-1, scales.size(2)))
        values = values.view(packed.shape)
    else:
        assert isinstance(rows, torch.Tensor)
        values = rows
    answer = torch.full(values.shape, torch.nan, dtype=torch.bfloat16)
    for e, count in enumerate(counts.tolist()):
        answer[e, :count] = values[e, :count] * (first_expert + e + 1)
    return answer
