"""A program for deep_ep that knows nothing of crossdock: exchange.py torchrun|spawn|mpi cpu|cuda [ranks].

Each rank sends its number to the next; prints a line for each rank.
"""

import sys

import deep_ep
import torch
import torch.distributed as dist
from deep_ep import Buffer, Config  # noqa: F401
from deep_ep.utils import EventHandle, EventOverlap
from deep_ep.utils.envs import init_dist
from deep_ep.utils.math import calc_diff


def exchange(buffer: Buffer) -> None:
    rank, size = buffer.rank, buffer.group_size
    assert torch.get_default_device().type == sys.argv[2]
    x = torch.full((1, 128), float(rank), dtype=torch.bfloat16)
    ids = torch.full((1, 1), (rank + 1) % size, dtype=deep_ep.topk_idx_t)
    weights = torch.ones(1, 1, dtype=torch.float32)
    per_rank, _, per_expert, in_rank, event = buffer.get_dispatch_layout(ids, size)
    assert event.event is None and EventOverlap(EventHandle()).event is not None
    received, _, _, counts, handle, _ = buffer.dispatch(
        x,
        num_tokens_per_rank=per_rank,
        is_token_in_rank=in_rank,
        num_tokens_per_expert=per_expert,
        topk_idx=ids,
        topk_weights=weights,
        previous_event=Buffer.capture(),
    )
    assert counts == [1] and received.tolist() == [[(rank - 1) % size] * 128]
    combined, _, _ = buffer.combine(received, handle)
    assert calc_diff(combined, x) < 1e-12
    buffer.destroy()
    print(f"rank {rank} of {size} passed", flush=True)


def run_spawned(local_rank: int, num_local_ranks: int) -> None:
    _, _, group = init_dist(local_rank, num_local_ranks)
    exchange(Buffer(group, int(1e6), 0, explicitly_destroy=True))
    dist.destroy_process_group()


def main() -> None:
    if sys.argv[1] == "torchrun":
        if sys.argv[2] == "cuda":
            torch.cuda.set_device(0)
            torch.set_default_device("cuda")
        dist.init_process_group("gloo")
        exchange(Buffer(dist.group.WORLD, int(1e6)))
        dist.destroy_process_group()
    elif sys.argv[1] == "mpi":
        from mpi4py import MPI

        exchange(Buffer(None, int(1e6), 0, comm=MPI.COMM_WORLD))
    else:
        torch.multiprocessing.spawn(run_spawned, args=(int(sys.argv[3]),), nprocs=int(sys.argv[3]))


if __name__ == "__main__":
    main()
