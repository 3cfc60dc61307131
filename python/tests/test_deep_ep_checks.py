"""The checks of DeepEP's own tests, with ranks as threads, and as processes joined by gloo."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
import torch

import crossdock
from deep_ep_intranode import check_intranode
from deep_ep_low_latency import check_low_latency
from group import Group, process_group, thread_group
from ranks import EACH_DEVICE, on_test_device, require_low_latency, run_threads

CHECKS = [check_intranode, check_low_latency]


@EACH_DEVICE
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_threads(num_ranks: int, check) -> None:  # type: ignore[no-untyped-def]
    if check is check_low_latency:
        require_low_latency()

    def body(bootstrap: crossdock.Bootstrap) -> None:
        check(thread_group(bootstrap))

    run_threads(num_ranks, body)


def run_process(rank: int, size: int, store: str, checks: list[Callable[[Group], None]]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    group = process_group(torch.distributed.new_group(list(range(size))))
    with on_test_device():
        for check in checks:
            check(group)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def spawn(num_ranks: int, folder: pathlib.Path, checks: list[Callable[[Group], None]]) -> None:
    torch.multiprocessing.spawn(run_process, args=(num_ranks, str(folder / "store"), checks), nprocs=num_ranks)


@pytest.mark.parametrize("num_ranks", [2, 4, 8])
def test_processes(num_ranks: int, tmp_path: pathlib.Path) -> None:
    spawn(num_ranks, tmp_path, CHECKS)


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_processes_on_one_device(check: Callable[[Group], None], tmp_path: pathlib.Path) -> None:
    if check is check_low_latency:
        require_low_latency()
    spawn(4, tmp_path, [check])
