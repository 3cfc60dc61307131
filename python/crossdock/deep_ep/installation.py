"""`import deep_ep` finds crossdock.deep_ep."""

from __future__ import annotations

import importlib
import pathlib
import pkgutil
import sys

PACKAGE = "crossdock.deep_ep"
NAME = "deep_ep"


def install() -> None:
    """Makes `import deep_ep` in this process, and in those that it spawns, find this package.

    Raises RuntimeError if another deep_ep has been imported already.
    """
    package = importlib.import_module(PACKAGE)
    present = sys.modules.get(NAME)
    if present is not None and present is not package and getattr(present, "__file__", None) != _stand_in_file():
        raise RuntimeError(f"another {NAME} has been imported already, from {getattr(present, '__file__', None)}")
    sys.modules[NAME] = package
    for module in pkgutil.walk_packages(package.__path__, PACKAGE + "."):
        if not module.name.endswith("__main__"):
            sys.modules[NAME + module.name.removeprefix(PACKAGE)] = importlib.import_module(module.name)
    # A spawned process starts with a copy of this list.
    folder = str(pathlib.Path(_stand_in_file()).parents[1])
    if folder not in sys.path:
        sys.path.append(folder)


def _stand_in_file() -> str:
    """The module that a new process imports by the name deep_ep; it calls install()."""
    return str(pathlib.Path(__file__).parent / "path" / NAME / "__init__.py")
