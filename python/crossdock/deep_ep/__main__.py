"""python -m crossdock.deep_ep script.py [argument...]: runs a script in which `import deep_ep` finds crossdock.

Also after `torchrun -m`. Processes that the script spawns with torch.multiprocessing find it too.
"""

from __future__ import annotations

import os
import runpy
import sys

from . import install


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    install()
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))  # as if Python had been given the script itself
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
