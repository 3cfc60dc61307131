"""The device of a test's tensors: the CPU, unless the test is marked by EACH_DEVICE of ranks.py."""

from __future__ import annotations

import pytest

from ranks import DEVICE_VARIABLE


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = getattr(request, "param", "cpu")
    if name == "cuda" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    monkeypatch.setenv(DEVICE_VARIABLE, name)
    return name
