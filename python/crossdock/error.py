"""The one exception class of crossdock."""

from __future__ import annotations

from ._crossdock import ErrorCode, WaitFailure


class Error(RuntimeError):
    """A failure; the text says what was given, what is allowed, and which rank.

    code: what kind of failure it is. rank: the rank at fault, or None if no single rank is. system_error: errno of the
    failed call, or None. wait: what a wait that failed was waiting for, or None.
    """

    def __init__(
        self,
        message: str,
        code: ErrorCode,
        rank: int = -1,
        system_error: int = 0,
        wait: WaitFailure | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.rank = rank if rank >= 0 else None
        self.system_error = system_error or None
        self.wait = wait
