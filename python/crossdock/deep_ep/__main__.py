"""python -m crossdock.deep_ep script.py [argument...], or -m module [argument...]: runs a program in which
`import deep_ep` finds crossdock.

Also after `torchrun -m`. Processes that the program spawns with torch.multiprocessing find it too.
"""

from __future__ import annotations

import os
import runpy
import sys

from . import install


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments == ["-m"]:
        sys.exit(__doc__)
    install()
    # sys.path[0] becomes what it is when Python itself is given the program.
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
