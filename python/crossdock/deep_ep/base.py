"""What the parts of Buffer share."""

from __future__ import annotations

import contextlib
from typing import NoReturn

import torch

import crossdock


class BufferBase:
    """A buffer of crossdock, by DeepEP's name `runtime`, and the device of its tensors."""

    runtime: crossdock.Buffer
    group_size: int
    device: torch.device

    def _stream(self) -> torch.cuda.Stream | None:
        """The caller's stream."""
        return torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

    def _refuse(self, message: str, *, low_latency: bool = False, worst_case: bool = False) -> NoReturn:
        """Raises crossdock.Error for bad arguments that only this module can see, on the other ranks too."""
        message = f"rank {self.runtime.rank}: {message}"
        with contextlib.suppress(crossdock.Error):  # nobody can be told if the buffer is broken
            self.runtime.refuse(message, low_latency, worst_case)
        raise crossdock.Error(message, crossdock.ErrorCode.INVALID_ARGUMENT, self.runtime.rank)
