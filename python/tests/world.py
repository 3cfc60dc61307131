"""A random world of ranks and tokens, and what dispatch and combine must make of it, in plain numpy."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np

Array = np.ndarray


@dataclasses.dataclass
class World:
    """Tokens of all ranks. Rank r has x[r] [tokens, hidden], topk_idx[r] and topk_weights[r] [tokens, top-k]."""

    num_ranks: int
    num_experts: int
    x: list[Array]
    topk_idx: list[Array]
    topk_weights: list[Array]

    def owner(self, expert: int) -> int:
        """The rank of an expert: contiguous blocks, the first ranks have one more."""
        small, larger = divmod(self.num_experts, self.num_ranks)
        boundary = larger * (small + 1)
        return expert // (small + 1) if expert < boundary else larger + (expert - boundary) // small

    def first_expert(self, rank: int) -> int:
        small, larger = divmod(self.num_experts, self.num_ranks)
        return rank * small + min(rank, larger)

    def num_local_experts(self, rank: int) -> int:
        return self.first_expert(rank + 1) - self.first_expert(rank)

    def goes_to(self, source: int, token: int) -> set[int]:
        return {self.owner(int(e)) for e in self.topk_idx[source][token] if e >= 0}

    def received(self, rank: int) -> list[tuple[int, int]]:
        """(source rank, token) of each row that `rank` receives, in order."""
        return [
            (source, token)
            for source in range(self.num_ranks)
            for token in range(len(self.x[source]))
            if rank in self.goes_to(source, token)
        ]

    def local_ids(self, rank: int, source: int, token: int) -> Array:
        ids = self.topk_idx[source][token]
        is_local = np.array([e >= 0 and self.owner(int(e)) == rank for e in ids])
        return np.where(is_local, ids - self.first_expert(rank), -1)


def make_world(seed: int, num_ranks: int, num_experts: int, hidden: int, top_k: int, tokens: int) -> World:
    """Ranks have different numbers of tokens, the last none; one id in six is -1."""
    random = np.random.default_rng(seed)
    counts = [0 if num_ranks > 1 and rank == num_ranks - 1 else tokens + rank for rank in range(num_ranks)]
    x = [random.standard_normal((n, hidden)).astype(ml_dtypes.bfloat16) for n in counts]
    ids = [random.integers(0, num_experts, (n, top_k)) for n in counts]
    for array in ids:
        array[random.random(array.shape) < 1 / 6] = -1
    weights = [random.random((n, top_k), dtype=np.float32) for n in counts]
    return World(num_ranks, num_experts, x, ids, weights)


def same_bits(a: Array, b: Array) -> bool:
    """Equal shape, dtype and bytes."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
