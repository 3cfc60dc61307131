"""The arithmetic that tests of DeepEP share."""

from __future__ import annotations

from collections.abc import Iterable

import torch

CHANNELS_PER_SCALE = 128
FLOAT8_MAX = 448.0


def calc_diff(x: torch.Tensor, y: torch.Tensor) -> float:
    """1 - 2<a, b> / (<a, a> + <b, b>) for a = x + 1, b = y + 1 in float64: 0 for equal tensors."""
    if x.numel() == 0 and y.numel() == 0:
        return 0.0
    a, b = x.double() + 1, y.double() + 1
    return 1 - (2 * (a * b).sum() / (a.square() + b.square()).sum()).item()


def safe_div(a: float, b: float) -> float:
    """a / b, and 0 for 0 / 0."""
    return 0.0 if a == 0 and b == 0 else a / b


def ceil_div(x: int, y: int) -> int:
    return -(-x // y)


def align(x: int, y: int) -> int:
    """x rounded up to a multiple of y."""
    return ceil_div(x, y) * y


def per_token_cast_to_fp8(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [tokens, hidden] as (E4M3, float32 scales [tokens, ceil(hidden / 128)]), an amax of at least 1e-4 each."""
    tokens, hidden = x.shape
    groups = ceil_div(hidden, CHANNELS_PER_SCALE)
    padded = torch.nn.functional.pad(x.float(), (0, groups * CHANNELS_PER_SCALE - hidden))
    grouped = padded.view(tokens, groups, CHANNELS_PER_SCALE)
    amax = grouped.abs().amax(dim=2, keepdim=True).clamp(min=1e-4)
    rows = (grouped * (FLOAT8_MAX / amax)).to(torch.float8_e4m3fn).flatten(1)[:, :hidden].contiguous()
    return rows, (amax / FLOAT8_MAX).view(tokens, groups)


def per_token_cast_back(rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The bfloat16 of such a pair. int32 scales hold four exponent bytes each, the first group in the lowest byte."""
    if scales.dtype == torch.int32:
        row_major = scales.clone(memory_format=torch.contiguous_format)  # contiguous() keeps a stride of one column
        exponents = row_major.view(torch.uint8).to(torch.int32)
        scales = (exponents << 23).view(torch.float32)
    hidden = rows.size(1)
    groups = ceil_div(hidden, CHANNELS_PER_SCALE)
    wide = scales[:, :groups].repeat_interleave(CHANNELS_PER_SCALE, dim=1)[:, :hidden]
    return (rows.float() * wide).bfloat16()


def inplace_unique(x: torch.Tensor, num_slots: int) -> None:
    """Leaves in each row of x its different values in [0, num_slots), descending, and fills up with -1."""
    present = torch.zeros((x.size(0), num_slots + 1), dtype=torch.bool, device=x.device)
    present.scatter_(1, x.masked_fill(x < 0, num_slots).long(), True)
    values = torch.where(present[:, :num_slots], torch.arange(num_slots, device=x.device), -1)
    width = min(num_slots, x.size(1))
    x.fill_(-1)
    x[:, :width] = values.sort(dim=1, descending=True).values[:, :width].to(x.dtype)


def create_grouped_scores(scores: torch.Tensor, group_idx: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Scores [tokens, experts] with 0 for experts outside the groups that group_idx [tokens, n] names."""
    chosen = torch.zeros((scores.size(0), num_groups), dtype=torch.bool, device=scores.device).scatter_(
        1, group_idx, True
    )
    return scores * chosen.repeat_interleave(scores.size(1) // num_groups, dim=1)


def hash_tensor(tensor: torch.Tensor) -> int:
    """The sum of the bits as int32, or as bytes where they are no multiple of four."""
    flat = tensor.contiguous().view(-1).view(torch.uint8)
    return int((flat.view(torch.int32) if flat.numel() % 4 == 0 else flat).sum().item())


def hash_tensors(*tensors: object) -> int:
    """The exclusive or over tensors, also in tuples and lists; None counts nothing."""
    value = 0
    for tensor in _flatten(tensors):
        value ^= hash_tensor(tensor)
    return value


def count_bytes(*tensors: object) -> int:
    """Bytes of tensors, also in tuples and lists; None counts nothing."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _flatten(tensors))


def _flatten(tensors: Iterable[object]) -> Iterable[torch.Tensor]:
    for item in tensors:
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, tuple | list):
            yield from _flatten(item)
