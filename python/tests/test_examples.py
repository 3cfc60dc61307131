"""Examples and the measurement of the overhead run, and say what their documentation says."""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(*program: str) -> str:
    result = subprocess.run([sys.executable, *program], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_quickstart() -> None:
    lines = run("examples/python_quickstart/quickstart.py").splitlines()
    assert sorted(lines) == [
        "rank 0 received 2 rows; its tokens came back as 10 and 20",
        "rank 1 received 2 rows; its tokens came back as 20 and 40",
    ]


def test_moe_layer_equals_the_recording() -> None:
    lines = run("examples/python_moe_layer/moe_layer.py", "data/moe_layer.safetensors", "3").splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [f"rank {rank} passed" for rank in range(3)]


def test_python_adds_little_to_a_call() -> None:
    assert "low-latency combine" in run("python/benchmarks/overhead.py", "--limit", "30")
