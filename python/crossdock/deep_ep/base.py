"""What the parts of Buffer share."""

from __future__ import annotations

import contextlib
from typing import NoReturn

import crossdock


class BufferBase:
    """A buffer of crossdock, by DeepEP's name `runtime`."""

    runtime: crossdock.Buffer
    group_size: int

    def _refuse(self, message: str) -> NoReturn:
        """Raises crossdock.Error for bad arguments that only this module can see.

        Before that it calls an operation that is sure to be refused: the other ranks wait in it, and so hear of it.
        """
        with contextlib.suppress(crossdock.Error):
            self.runtime.dispatch(())  # type: ignore[arg-type]
        raise crossdock.Error(message, crossdock.ErrorCode.INVALID_ARGUMENT, self.runtime.rank)
