"""Torch tensors in and out, without a copy.

Torch's own DLPack export costs more than this way by its address, and refuses tensors that require a gradient.
"""

from __future__ import annotations

from typing import Any

import torch

import crossdock

topk_idx_t = torch.int64
"""The dtype of expert ids. int32 is taken too."""

_DTYPES = {
    torch.bool: crossdock.DataType.bool,
    torch.uint8: crossdock.DataType.uint8,
    torch.int8: crossdock.DataType.int8,
    torch.int32: crossdock.DataType.int32,
    torch.int64: crossdock.DataType.int64,
    torch.float8_e4m3fn: crossdock.DataType.float8_e4m3fn,
    torch.float16: crossdock.DataType.float16,
    torch.bfloat16: crossdock.DataType.bfloat16,
    torch.float32: crossdock.DataType.float32,
}
_borrow = crossdock.Tensor.borrow


def to_core(tensor: Any) -> Any:
    """A view of the tensor for crossdock, which keeps it alive; None stays None.

    What is no tensor, or of an unknown dtype, is passed on: the operation refuses it, and other ranks hear of it.
    """
    if not isinstance(tensor, torch.Tensor):
        return tensor
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        return tensor
    device = -1 if tensor.is_cpu else tensor.device.index
    return _borrow(tensor.data_ptr(), dtype, tensor.shape, tensor.stride(), tensor, device)


def to_torch(tensor: crossdock.Tensor | None) -> Any:
    """A torch tensor of the same memory; None stays None."""
    return None if tensor is None else tensor.torch()
