"""Bootstraps over the groups that Python programs already have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._crossdock import Bootstrap, make_callback_bootstrap

if TYPE_CHECKING:
    import torch.distributed


def make_bootstrap_from_mpi(communicator: Any) -> Bootstrap:
    """The ranks of an mpi4py communicator."""
    return make_callback_bootstrap(communicator.Get_rank(), communicator.Get_size(), communicator.allgather)


def make_bootstrap_from_torch(group: torch.distributed.ProcessGroup) -> Bootstrap:
    """The ranks of a torch process group of any backend."""
    import torch.distributed as dist

    def all_gather(mine: bytes) -> list[bytes]:
        everyone: list[Any] = [None] * group.size()
        dist.all_gather_object(everyone, mine, group)
        return everyone

    return make_callback_bootstrap(group.rank(), group.size(), all_gather)
