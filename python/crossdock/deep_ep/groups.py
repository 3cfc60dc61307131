"""What callers have for a group of ranks."""

from __future__ import annotations

from typing import Any

import crossdock


def make_bootstrap(group: Any, comm: Any) -> crossdock.Bootstrap:
    """From a torch process group or a crossdock.Bootstrap as `group`, or an mpi4py communicator as `comm`."""
    if isinstance(group, crossdock.Bootstrap):
        return group
    if group is not None:
        return crossdock.make_bootstrap_from_torch(group)
    if comm is not None:
        return crossdock.make_bootstrap_from_mpi(comm)
    raise ValueError("neither group (a torch process group or a crossdock.Bootstrap) nor comm (of mpi4py) is given")
