"""The checks of DeepEP's own tests, with ranks as threads, and as processes joined by gloo."""

from __future__ import annotations

import pathlib

import pytest
import torch

import crossdock
from deep_ep_intranode import check_intranode
from deep_ep_low_latency import check_low_latency
from group import process_group, thread_group
from ranks import run_threads

CHECKS = [check_intranode, check_low_latency]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_threads(num_ranks: int, check) -> None:  # type: ignore[no-untyped-def]
    def body(bootstrap: crossdock.Bootstrap) -> None:
        check(thread_group(bootstrap))

    run_threads(num_ranks, body)


def run_process(rank: int, size: int, store: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    group = process_group(torch.distributed.new_group(list(range(size))))
    for check in CHECKS:
        check(group)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("num_ranks", [2, 4, 8])
def test_processes(num_ranks: int, tmp_path: pathlib.Path) -> None:
    torch.multiprocessing.spawn(run_process, args=(num_ranks, str(tmp_path / "store")), nprocs=num_ranks)
