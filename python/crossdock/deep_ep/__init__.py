"""The module deep_ep as its callers use it, on crossdock: DeepEP V1's `Buffer` and what belongs to it, on CPU tensors.

`install()` makes `import deep_ep` find this module, and `python -m crossdock.deep_ep script.py` runs a script that way.
docs/python.md lists what differs from the original.
"""

from . import utils
from .buffer import Buffer
from .config import Config
from .events import EventHandle, EventOverlap
from .installation import install
from .tensors import topk_idx_t

__all__ = ["Buffer", "Config", "EventHandle", "EventOverlap", "install", "topk_idx_t", "utils"]
