"""Types for annotations."""

from __future__ import annotations

from typing import Any, Protocol


class SupportsDLPack(Protocol):
    """An array that any framework can take: numpy's, torch's, jax's, crossdock.Tensor."""

    def __dlpack__(self, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


# Numpy arrays of ml_dtypes' bfloat16 and FP8 are taken too, although numpy cannot export them through DLPack.
ArrayLike = SupportsDLPack
