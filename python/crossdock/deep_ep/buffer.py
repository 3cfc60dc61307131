"""deep_ep.Buffer."""

from __future__ import annotations

import math
from typing import Any

import torch

import crossdock

from .devices import check_agreement, choose_device
from .events import EventHandle, EventOverlap
from .groups import make_bootstrap
from .low_latency import LowLatencyOperations
from .sizes import arena_bytes
from .tensors import to_torch
from .throughput import ThroughputOperations


class Buffer(ThroughputOperations, LowLatencyOperations):
    """One rank's end of a group that dispatches and combines, as DeepEP V1 has it.

    Attributes: rank, group_size, group, num_nvl_bytes, num_rdma_bytes, low_latency_mode, explicitly_destroy,
    enable_shrink, num_sms (of the class), device, and runtime, the crossdock.Buffer.
    """

    def __init__(
        self,
        group: Any = None,
        num_nvl_bytes: int = 0,
        num_rdma_bytes: int = 0,
        low_latency_mode: bool = False,
        num_qps_per_rank: int = 24,
        allow_nvlink_for_low_latency_mode: bool = True,
        allow_mnnvl: bool = False,
        use_fabric: bool = False,
        explicitly_destroy: bool = False,
        enable_shrink: bool = False,
        comm: Any = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Collective.

        group: a torch process group of any backend, or a crossdock.Bootstrap. comm: instead of it, an mpi4py
        communicator. num_nvl_bytes, num_rdma_bytes: added up, the bytes of the arena (docs/python.md). Both modes may
        be used whatever low_latency_mode says. enable_shrink: ranks that are lost are masked, instead of breaking the
        buffer. device: where all tensors are; not in DeepEP, see choose_device for what it is unless given. The others
        concern NVLink, RDMA and GPUs.
        """
        if num_nvl_bytes < 0 or num_rdma_bytes < 0:
            raise ValueError(
                f"num_nvl_bytes is {num_nvl_bytes} and num_rdma_bytes {num_rdma_bytes}, at least 0 is allowed"
            )
        bootstrap = make_bootstrap(group, comm)
        self.group = comm if group is None else group
        self.rank = bootstrap.rank
        self.group_size = bootstrap.size
        self.num_nvl_bytes = num_nvl_bytes
        self.num_rdma_bytes = num_rdma_bytes
        self.low_latency_mode = low_latency_mode
        self.explicitly_destroy = explicitly_destroy
        self.enable_shrink = enable_shrink
        self.device = choose_device(device)
        check_agreement(bootstrap, self.device)
        self.runtime = crossdock.Buffer(
            bootstrap,
            arena_bytes(num_nvl_bytes, num_rdma_bytes),
            mask_lost_ranks=enable_shrink,
            device=self.device,
        )

    def destroy(self) -> None:
        """Leaves the group. Local, and allowed more than once, whatever explicitly_destroy says. Results stay valid."""
        self.runtime.destroy()

    @staticmethod
    def is_sm90_compiled() -> bool:
        """Whether FP8 rows may be dispatched: always."""
        return True

    @staticmethod
    def capture() -> EventOverlap:
        """The point that the current stream has reached."""
        return EventOverlap(EventHandle())

    def get_comm_stream(self) -> torch.Stream | torch.cpu.Stream:
        """The stream that operations run on; torch has only one on a CPU.

        An operation's kernels are queued on it while it runs, not when it is called: what must come after the operation
        waits for its event.
        """
        if self.device.type == "cpu":
            return torch.cpu.current_stream()
        return torch.cuda.ExternalStream(self.runtime.communication_stream, self.device)

    def get_local_buffer_tensor(
        self, dtype: torch.dtype, size: torch.Size | None = None, offset: int = 0, use_rdma_buffer: bool = False
    ) -> torch.Tensor:
        """The memory of the arena from element `offset` on, of one dimension, or the first elements in shape `size`.

        Results lie in it, in places that mean nothing to others. DeepEP's two buffers are both this one here.
        """
        elements = to_torch(self.runtime.arena())
        elements = elements[: elements.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        count = elements.numel() - offset if size is None else math.prod(size)
        if offset < 0 or offset + count > elements.numel() or count < 0:
            raise ValueError(
                f"get_local_buffer_tensor: {count} elements from {offset} on, the buffer has {elements.numel()} "
                f"of {dtype}"
            )
        chosen = elements[offset : offset + count]
        return chosen if size is None else chosen.view(size)
