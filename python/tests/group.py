"""What the checks need of a group of ranks, for threads and for processes alike."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import torch

import crossdock


@dataclasses.dataclass
class Group:
    """A rank's end of a group; `handle` is what deep_ep.Buffer takes."""

    rank: int
    size: int
    handle: Any

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Every rank's tensor, in rank order. Shapes may differ."""
        if not isinstance(self.handle, crossdock.Bootstrap):
            everyone: list[Any] = [None] * self.size
            torch.distributed.all_gather_object(everyone, tensor, self.handle)
            return everyone
        stream = io.BytesIO()
        torch.save(tensor, stream)
        return [torch.load(io.BytesIO(b)) for b in self.handle.all_gather(stream.getvalue())]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.gather(tensor)).sum(0)


def thread_group(bootstrap: crossdock.Bootstrap) -> Group:
    return Group(bootstrap.rank, bootstrap.size, bootstrap)


def process_group(group: torch.distributed.ProcessGroup) -> Group:
    return Group(group.rank(), group.size(), group)
