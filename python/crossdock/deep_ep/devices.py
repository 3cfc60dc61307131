"""Which device a buffer works on."""

from __future__ import annotations

import os

import torch

import crossdock

DEVICE_VARIABLE = "CROSSDOCK_DEVICE"


def choose_device(asked: torch.device | str | None) -> torch.device:
    """The caller's choice, else that of the environment, else CUDA's current device if this process uses CUDA.

    It does if CUDA was initialized, which torch.cuda.set_device and the first CUDA tensor do, or if CUDA is torch's
    default device. Programs for DeepEP always have done one of these before they make a buffer.
    """
    chosen = os.environ.get(DEVICE_VARIABLE) if asked is None else asked
    if chosen is None:
        chosen = "cuda" if _uses_cuda() else "cpu"
    device = torch.device(chosen)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device}, cpu or cuda is allowed")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def check_agreement(bootstrap: crossdock.Bootstrap, device: torch.device) -> None:
    """Raises crossdock.Error on all ranks if some work on CUDA and some on the CPU. Collective."""
    types = [name.decode() for name in bootstrap.all_gather(device.type.encode().ljust(8))]
    for rank, name in enumerate(types):
        if name != types[0]:
            raise crossdock.Error(
                f"rank 0's buffer is for {types[0].strip()}, rank {rank}'s for {name.strip()}: say device=... or set "
                f"{DEVICE_VARIABLE} on all ranks",
                crossdock.ErrorCode.MISMATCH,
                rank,
            )


def _uses_cuda() -> bool:
    if not torch.cuda.is_available():
        return False
    return torch.cuda.is_initialized() or torch.get_default_device().type == "cuda"
