"""deep_ep.utils."""

from ..events import EventHandle, EventOverlap
from . import envs, math, testing

__all__ = ["EventHandle", "EventOverlap", "check_nvlink_connections", "envs", "math", "testing"]


def check_nvlink_connections(group: object) -> None:
    """Passes: all ranks are on one host and share its memory."""
