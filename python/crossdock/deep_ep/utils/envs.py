"""How tests of DeepEP start their ranks."""

from __future__ import annotations

import os
import random

import torch
import torch.distributed as dist


def init_dist(local_rank: int, num_local_ranks: int, seed: int = 0) -> tuple[int, int, dist.ProcessGroup]:
    """Joins a gloo group and makes bfloat16 on the CPU the default; returns (rank, size, group of all).

    Reads MASTER_ADDR and MASTER_PORT, WORLD_SIZE as the number of nodes, and RANK as this node's number.
    """
    address = os.getenv("MASTER_ADDR", "127.0.0.1")
    port = os.getenv("MASTER_PORT", "8361")
    size = int(os.getenv("WORLD_SIZE", "1")) * num_local_ranks
    rank = int(os.getenv("RANK", "0")) * num_local_ranks + local_rank
    dist.init_process_group("gloo", init_method=f"tcp://{address}:{port}", world_size=size, rank=rank)
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("cpu")
    init_seed(seed)
    group = dist.new_group(list(range(size)))
    assert isinstance(group, dist.ProcessGroup)  # it is another thing only on ranks outside of it
    return rank, size, group


def init_seed(global_seed: int) -> None:
    """Seeds torch and random with the seed plus this rank."""
    torch.manual_seed(global_seed + dist.get_rank())
    random.seed(global_seed + dist.get_rank())


def get_local_seed() -> int:
    return torch.initial_seed()


def get_global_seed() -> int:
    return torch.initial_seed() - dist.get_rank()


def dist_print(text: str = "", once_in_node: bool = False) -> None:
    """Prints on all ranks, or on rank 0; returns when all have."""
    if not once_in_node or dist.get_rank() == 0:
        print(text, flush=True)
    dist.barrier()
