"""How tests of DeepEP start their ranks."""

from __future__ import annotations

import os
import random

import torch
import torch.distributed as dist

from ..devices import DEVICE_VARIABLE


def init_dist(local_rank: int, num_local_ranks: int, seed: int = 0) -> tuple[int, int, dist.ProcessGroup]:
    """Joins a group and makes bfloat16 the default; returns (rank, size, group of all).

    Where there are CUDA devices, and CROSSDOCK_DEVICE is not cpu, one of them becomes current and the default; ranks
    share them if there are fewer than ranks. The group is of NCCL if each rank has a device, else of gloo, since NCCL
    takes one rank a device. Reads MASTER_ADDR and MASTER_PORT, WORLD_SIZE as the number of nodes, and RANK as this
    node's number.
    """
    address = os.getenv("MASTER_ADDR", "127.0.0.1")
    port = os.getenv("MASTER_PORT", "8361")
    size = int(os.getenv("WORLD_SIZE", "1")) * num_local_ranks
    rank = int(os.getenv("RANK", "0")) * num_local_ranks + local_rank
    num_devices = 0 if os.getenv(DEVICE_VARIABLE) == "cpu" else torch.cuda.device_count()
    if num_devices > 0:
        torch.cuda.set_device(local_rank % num_devices)
    backend = "nccl" if num_devices >= num_local_ranks else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://{address}:{port}", world_size=size, rank=rank)
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("cuda" if num_devices > 0 else "cpu")
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
