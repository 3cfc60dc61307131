"""The committed stub of the extension module is what nanobind makes of it; and the package is typed."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import crossdock

PACKAGE = pathlib.Path(crossdock.__file__).parent


def test_golden_stub(tmp_path: pathlib.Path) -> None:
    new = tmp_path / "_crossdock.pyi"
    subprocess.run(
        [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "crossdock._crossdock", "-o", new], check=True
    )
    committed = pathlib.Path(__file__).parents[1] / "crossdock" / "_crossdock.pyi"
    assert committed.read_text() == new.read_text(), (
        f"update it: python -m nanobind.stubgen -m crossdock._crossdock -o {committed}"
    )


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_crossdock.pyi").exists()


def test_everything_public_is_there() -> None:
    assert all(hasattr(crossdock, name) for name in crossdock.__all__)
    assert crossdock.__version__ == crossdock.version()


def test_torch_is_not_imported() -> None:
    subprocess.run([sys.executable, "-c", "import crossdock, sys; assert 'torch' not in sys.modules"], check=True)
