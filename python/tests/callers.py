"""What the tests of engines' calls share."""

from __future__ import annotations

from typing import Any

import pytest

from crossdock import deep_ep
from layer import EXPERTS_PER_RANK, HIDDEN, MOST_TOKENS, Layer, make_layer
from ranks import EACH_DEVICE, run_threads

__all__ = ["EACH_DEVICE", "RANKS", "low_latency_buffer", "run_layers"]

RANKS = pytest.mark.parametrize("num_ranks", [2, 4])


def run_layers(num_ranks: int, body: Any) -> None:
    """body(group, layer) on each rank."""
    run_threads(num_ranks, lambda bootstrap: body(bootstrap, make_layer(bootstrap.rank, num_ranks)))


def low_latency_buffer(group: Any, layer: Layer) -> deep_ep.Buffer:
    """As vLLM makes it: every argument by keyword, those of the size hint too."""
    num_rdma_bytes = deep_ep.Buffer.get_low_latency_rdma_size_hint(
        num_max_dispatch_tokens_per_rank=MOST_TOKENS,
        hidden=HIDDEN,
        num_ranks=layer.num_ranks,
        num_experts=layer.num_experts,
    )
    return deep_ep.Buffer(
        group=group,
        num_nvl_bytes=0,
        num_rdma_bytes=num_rdma_bytes,
        low_latency_mode=True,
        num_qps_per_rank=EXPERTS_PER_RANK,
        allow_nvlink_for_low_latency_mode=True,
        allow_mnnvl=False,
        explicitly_destroy=True,
    )
