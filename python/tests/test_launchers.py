"""Ranks started by torchrun, torch.multiprocessing and mpirun; programs for deep_ep run unmodified."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from test_bootstraps import free_port

SCRIPTS = pathlib.Path(__file__).parent / "scripts"
RUN_AS_DEEP_EP = ["-m", "crossdock.deep_ep", str(SCRIPTS / "exchange.py")]
MPIRUN = ["mpirun", "-n", "2"]


def run(command: list[str], num_ranks: int, **environment: str) -> None:
    """Runs a program whose ranks each print that they passed."""
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(re.findall(r"rank \d+ of \d+ passed", result.stdout)) == [
        f"rank {rank} of {num_ranks} passed" for rank in range(num_ranks)
    ], result.stdout + result.stderr


def mpirun() -> list[str]:
    """mpirun for two ranks here, also as root and with fewer cores. Skips the test where there is none."""
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun")
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in version and "OpenRTE" not in version:
        return MPIRUN
    return [
        *MPIRUN,
        "--allow-run-as-root",
        "--oversubscribe",
        "--bind-to",
        "none",
        "-x",
        "MASTER_ADDR",
        "-x",
        "MASTER_PORT",
    ]


def torchrun(*program: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]


def test_torchrun() -> None:
    run(torchrun(*RUN_AS_DEEP_EP, "torchrun", "cpu"), 2, OMP_NUM_THREADS="1")


def test_torchrun_without_torch_in_the_program() -> None:
    run(torchrun(str(SCRIPTS / "from_environment.py")), 2, OMP_NUM_THREADS="1")


def test_torch_multiprocessing() -> None:
    run([sys.executable, *RUN_AS_DEEP_EP, "spawn", "cpu", "2"], 2, MASTER_PORT=str(free_port()))


def test_mpirun_with_mpi4py() -> None:
    probe = subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"mpi4py finds no MPI library: {probe.stderr.splitlines()[-1:]}")
    run([*mpirun(), sys.executable, *RUN_AS_DEEP_EP, "mpi", "cpu"], 2, MASTER_ADDR="unused", MASTER_PORT="0")


def test_mpirun_without_mpi4py() -> None:
    command = [*mpirun(), sys.executable, str(SCRIPTS / "from_environment.py")]
    run(command, 2, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))


def test_a_module(tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text("import sys, deep_ep; print(sys.argv[1:], deep_ep.Buffer.__module__)")
    command = [sys.executable, "-m", "crossdock.deep_ep", "-m", "program", "-x"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "['-x'] crossdock.deep_ep.buffer\n"


def test_another_deep_ep_is_not_replaced() -> None:
    program = (
        "import sys, types; sys.modules['deep_ep'] = types.ModuleType('deep_ep'); "
        "import crossdock.deep_ep as d; d.install()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode != 0 and "another deep_ep has been imported already" in result.stderr


def test_install_twice_and_aliases() -> None:
    program = (
        "import crossdock.deep_ep as d; d.install(); d.install(); import deep_ep, deep_ep.utils.math, deep_ep.buffer; "
        "assert deep_ep is d and deep_ep.buffer.Buffer is d.Buffer; "
        "from deep_ep.utils import EventHandle; assert EventHandle is d.EventHandle"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
