"""DeepEP's events over those of crossdock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import crossdock

from .tensors import to_core


class EventHandle:
    """A point in the work of a device. Made without arguments it is that which torch's current stream has reached: a
    CUDA event if this process uses CUDA, else a complete event, since on a CPU the calling thread is always at its end.
    """

    def __init__(self, event: crossdock.Event | None = None) -> None:
        self._stream_event: torch.cuda.Event | None = None
        if event is None and torch.cuda.is_initialized():
            stream = torch.cuda.current_stream()
            self._stream_event = stream.record_event()
            event = crossdock.capture_stream(f"cuda:{stream.device_index}", stream)
        self.core = crossdock.Event() if event is None else event

    def current_stream_wait(self) -> None:
        """Lets torch's current stream wait for a point of another stream. For the end of an operation it blocks the
        calling thread, and raises crossdock.Error if the operation failed."""
        if self._stream_event is not None:
            torch.cuda.current_stream().wait_event(self._stream_event)
        else:
            self.core.wait()


class EventOverlap:
    """An event that may be absent, and tensors that live as long as it.

    `event` is None for an operation that was complete when its call returned. As a context manager it waits at the end.
    """

    def __init__(self, event: EventHandle | None = None, extra_tensors: Sequence[torch.Tensor] | None = None) -> None:
        self.event = event
        self.extra_tensors = extra_tensors

    def current_stream_wait(self) -> None:
        """As that of the event."""
        if self.event is None:
            raise RuntimeError("there is no event to wait for: the operation was not called with async_finish")
        self.event.current_stream_wait()

    def __enter__(self) -> EventOverlap:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.event is not None:
            self.event.current_stream_wait()


_SYNCHRONOUS = crossdock.OperationOptions()


def make_options(
    stream: torch.cuda.Stream | None,
    previous_event: EventOverlap | None,
    async_finish: bool,
    allocate_on_comm_stream: bool = False,
    return_recv_hook: bool = False,
    wait_recv_cost_stats: torch.Tensor | None = None,
    may_be_queued: bool = True,
) -> crossdock.OperationOptions:
    """DeepEP's arguments on how an operation runs, and the caller's stream. crossdock checks which go together.

    On a device what the host need not wait for is queued on the stream; what goes wrong is then raised by a later call.
    """
    handle = None if previous_event is None else previous_event.event
    is_plain = not (async_finish or allocate_on_comm_stream or return_recv_hook)
    if stream is None and handle is None and wait_recv_cost_stats is None and is_plain:
        return _SYNCHRONOUS
    completion = crossdock.Completion.SYNCHRONOUS
    if may_be_queued and stream is not None:
        completion = crossdock.Completion.STREAM
    if return_recv_hook:
        completion = crossdock.Completion.HOOK
    elif async_finish:
        completion = crossdock.Completion.ASYNCHRONOUS
    allocation = crossdock.Allocation.CALLER_STREAM
    if allocate_on_comm_stream:
        allocation = crossdock.Allocation.COMMUNICATION_STREAM
    return crossdock.OperationOptions(
        completion=completion,
        allocation=allocation,
        previous_event=None if handle is None else handle.core,
        wait_recv_cost_stats=to_core(wait_recv_cost_stats),
        stream=stream,
    )


def make_overlap(
    event: crossdock.Event, async_finish: bool, tensors: Sequence[torch.Tensor] | None = None
) -> EventOverlap:
    """What an operation returns."""
    return EventOverlap(EventHandle(event), tensors) if async_finish else EventOverlap()
